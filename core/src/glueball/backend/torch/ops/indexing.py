"""Sorting, picking, sequences, products."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from glueball.backend.torch.ops.arguments import torch_dtype
from glueball.backend.torch.ops.registry import operator
from glueball.errors import OptionError


@operator("sort")
def sort(data: Tensor, axis: int | None = -1, is_ascend: bool = True) -> Tensor:
    """Sorted along an axis, or flat if it is None."""
    if axis is None:
        data, axis = data.reshape(-1), 0
    return data.sort(dim=axis, descending=not is_ascend, stable=True).values


@operator("argsort")
def argsort(data: Tensor, axis: int | None = -1, is_ascend: bool = True, dtype: Any = "float32") -> Tensor:
    """Indices that sort along an axis, or the flat array if it is None; equal elements keep their order."""
    if axis is None:
        data, axis = data.reshape(-1), 0
    return data.sort(dim=axis, descending=not is_ascend, stable=True).indices.to(torch_dtype(dtype))


@operator("topk")
def topk(
    data: Tensor,
    axis: int | None = -1,
    k: int = 1,
    ret_typ: str = "indices",
    is_ascend: bool = False,
    dtype: Any = "float32",
) -> Any:
    """The k largest (``is_ascend``: smallest) elements along an axis, all for k=0.

    ``ret_typ``: "indices", "value", "both" (value, indices) or "mask" (1 at their places, of data's shape).
    """
    shape = data.shape
    if axis is None:
        data, axis = data.reshape(-1), 0
    # A stable sort, because torch.topk leaves the order of equal elements open and MXNet's is that of their places.
    ordered = data.sort(dim=axis, descending=not is_ascend, stable=True)
    count = k if k > 0 else data.shape[axis]
    values, indices = ordered.values.narrow(axis, 0, count), ordered.indices.narrow(axis, 0, count)
    if ret_typ == "indices":
        return indices.to(torch_dtype(dtype))
    if ret_typ == "value":
        return values
    if ret_typ == "both":
        return [values, indices.to(torch_dtype(dtype))]
    if ret_typ == "mask":
        return torch.zeros_like(data).scatter(axis, indices, 1).reshape(shape)
    raise OptionError(f"topk: expected ret_typ indices, value, both or mask; received {ret_typ!r}.")


def _into_range(indices: Tensor, size: int, mode: str) -> Tensor:
    positions = indices.long()
    if mode == "clip":
        return positions.clamp(0, size - 1)
    if mode == "wrap":
        return positions.remainder(size)
    if mode == "raise":
        return positions
    raise OptionError(f"Expected mode clip, wrap or raise; received {mode!r}.")


@operator("pick")
def pick(data: Tensor, index: Tensor, axis: int | None = -1, keepdims: bool = False, mode: str = "clip") -> Tensor:
    """One element of each line along an axis. index: the shape of data without that axis (or with size 1 there)."""
    if axis is None:
        data, axis = data.reshape(-1), 0
    positions = _into_range(index, data.shape[axis], mode)
    if positions.dim() < data.dim():
        positions = positions.unsqueeze(axis)
    shape = list(data.shape)
    shape[axis] = 1
    result = data.gather(axis, positions.expand(shape))
    if keepdims:
        return result
    result = result.squeeze(axis)
    return result if result.dim() else result.reshape(1)


@operator("take")
def take(a: Tensor, indices: Tensor, axis: int = 0, mode: str = "clip") -> Tensor:
    """Slices of a along an axis. Shape: a's, with that axis replaced by the shape of indices."""
    axis %= a.dim()
    positions = _into_range(indices, a.shape[axis], mode)
    taken = a.index_select(axis, positions.reshape(-1))
    return taken.reshape(a.shape[:axis] + positions.shape + a.shape[axis + 1 :])


@operator("batch_take")
def batch_take(a: Tensor, indices: Tensor) -> Tensor:
    """a[i, indices[i]] for each row i."""
    return a.gather(1, _into_range(indices, a.shape[1], "clip").unsqueeze(1)).squeeze(1)


@operator("one_hot")
def one_hot(
    indices: Tensor, depth: int | None = None, on_value: float = 1.0, off_value: float = 0.0, dtype: Any = "float32"
) -> Tensor:
    """A new last axis of size ``depth`` with ``on_value`` at the index; nowhere for an index outside."""
    if depth is None:
        raise OptionError("one_hot needs depth.")
    places = torch.arange(depth, device=indices.device)
    chosen = indices.long().unsqueeze(-1) == places
    kind = torch_dtype(dtype)
    on = torch.tensor(on_value, dtype=kind, device=indices.device)
    off = torch.tensor(off_value, dtype=kind, device=indices.device)
    return torch.where(chosen, on, off)


@operator("gather_nd")
def gather_nd(data: Tensor, indices: Tensor) -> Tensor:
    """data[indices[0], indices[1], ...]; indices: (indexed axes, ...). Negative ones count from the end."""
    return data[tuple(indices.long())]


@operator("scatter_nd")
def scatter_nd(data: Tensor, indices: Tensor, shape: Any = None) -> Tensor:
    """Zeros of ``shape`` with data put at [indices[0], indices[1], ...]."""
    if shape is None:
        raise OptionError("scatter_nd needs shape.")
    return data.new_zeros(tuple(shape)).index_put(tuple(indices.long()), data)


def _positions(data: Tensor, axis: int) -> Tensor:
    """0, 1, 2, ... along the time axis (0 or 1), shaped to broadcast against (time, batch) in data's order."""
    if axis not in (0, 1):
        raise OptionError(f"Expected the time axis to be 0 or 1; received {axis}.")
    steps = torch.arange(data.shape[axis], device=data.device)
    return steps.unsqueeze(1 - axis)


@operator("SequenceMask")
def sequence_mask(
    data: Tensor,
    sequence_length: Tensor | None = None,
    use_sequence_length: bool = False,
    value: float = 0.0,
    axis: int = 0,
) -> Tensor:
    """Replaces what lies beyond each sample's length. data: (time, batch, ...), or (batch, time, ...) with axis=1."""
    if not use_sequence_length or sequence_length is None:
        return data
    outside = _positions(data, axis) >= sequence_length.unsqueeze(axis)
    return data.masked_fill(outside.reshape(outside.shape + (1,) * (data.dim() - 2)), value)


@operator("SequenceReverse")
def sequence_reverse(
    data: Tensor, sequence_length: Tensor | None = None, use_sequence_length: bool = False, axis: int = 0
) -> Tensor:
    """Reverses time within each sample's length and leaves the rest. data: (time, batch, ...)."""
    if not use_sequence_length or sequence_length is None:
        return data.flip(0)
    steps = torch.arange(data.shape[0], device=data.device).unsqueeze(1)
    length = sequence_length.long().unsqueeze(0)
    source = torch.where(steps < length, length - 1 - steps, steps)
    return data.gather(0, source.reshape(source.shape + (1,) * (data.dim() - 2)).expand(data.shape))


@operator("SequenceLast")
def sequence_last(
    data: Tensor, sequence_length: Tensor | None = None, use_sequence_length: bool = False, axis: int = 0
) -> Tensor:
    """The last element of each sample. data: (time, batch, ...), or (batch, time, ...) with axis=1."""
    moved = data if axis == 0 else data.transpose(0, 1)
    if not use_sequence_length or sequence_length is None:
        return moved[-1]
    return moved[sequence_length.long() - 1, torch.arange(moved.shape[1], device=data.device)]


@operator("dot")
def dot(
    lhs: Tensor, rhs: Tensor, transpose_a: bool = False, transpose_b: bool = False, forward_stype: str | None = None
) -> Tensor:
    """Sums over the last axis of lhs and the first of rhs; transposed, over their other ends."""
    # MXNet takes the first axis of lhs (the last of rhs) for the sum when transposed, the others keep their order.
    left = lhs.movedim(0, -1) if transpose_a and lhs.dim() > 1 else lhs
    right = rhs.movedim(-1, 0) if transpose_b and rhs.dim() > 1 else rhs
    result = torch.tensordot(left, right, dims=1)
    return result if result.dim() else result.reshape(1)


@operator("batch_dot")
def batch_dot(
    lhs: Tensor, rhs: Tensor, transpose_a: bool = False, transpose_b: bool = False, forward_stype: str | None = None
) -> Tensor:
    """Matrix products over leading batch axes: (..., n, k) and (..., k, m) -> (..., n, m)."""
    left = lhs.transpose(-1, -2) if transpose_a else lhs
    right = rhs.transpose(-1, -2) if transpose_b else rhs
    return torch.matmul(left, right)

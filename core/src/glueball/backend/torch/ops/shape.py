"""Functions that change shapes, cut and join."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from glueball.backend.torch.ops.arguments import as_axes
from glueball.backend.torch.ops.registry import operator
from glueball.errors import OptionError


@operator("Flatten", "flatten")
def flatten(data: Tensor) -> Tensor:
    """(batch, ...) -> (batch, product of the rest)."""
    # Not reshape(batch, -1): of a batch without samples it could not tell how many features there are.
    return torch.flatten(data, 1) if data.dim() != 1 else data.unsqueeze(1)


def resolve_reshape(source: Sequence[int], codes: Sequence[int], reverse: bool = False) -> list[int]:
    """The shape that MXNet's codes stand for, with at most one -1 left to infer.

    0 copies the next axis, -1 is inferred, -2 copies all that remain, -3 merges the next two, -4 splits the next one
    into the two numbers that follow (one of which may be -1). ``reverse`` reads both shapes from the right.

    Raises:
        OptionError: a code asks for axes that are not there.
    """
    sizes, wanted = list(source), list(codes)
    if reverse:
        sizes.reverse()
        wanted = _reverse_codes(wanted)
    result: list[int] = []
    position = 0
    index = 0

    def take() -> int:
        nonlocal position
        if position >= len(sizes):
            raise OptionError(f"reshape: the codes {tuple(codes)} need more axes than the shape {tuple(source)} has.")
        position += 1
        return sizes[position - 1]

    while index < len(wanted):
        code = wanted[index]
        index += 1
        if code > 0 or code == -1:
            result.append(code)
            position += 1
        elif code == 0:
            result.append(take())
        elif code == -2:
            result.extend(sizes[position:])
            position = len(sizes)
        elif code == -3:
            result.append(take() * take())
        elif code == -4:
            if index + 2 > len(wanted):
                raise OptionError(f"reshape: -4 must be followed by two sizes; received {tuple(codes)}.")
            size = take()
            first, second = wanted[index], wanted[index + 1]
            index += 2
            if first == -1:
                first = size // second
            elif second == -1:
                second = size // first
            if first * second != size:
                raise OptionError(f"reshape: -4 cannot split an axis of {size} into {first} times {second}.")
            result.extend((first, second))
        else:
            raise OptionError(f"reshape: unknown code {code} in {tuple(codes)}; expected -4 to -1, 0 or a size.")
    if reverse:
        result.reverse()
    return result


def _reverse_codes(codes: list[int]) -> list[int]:
    """The codes from right to left, each -4 with its two sizes kept together."""
    groups: list[list[int]] = []
    index = 0
    while index < len(codes):
        if codes[index] == -4:
            first, second = codes[index + 1 : index + 3]
            groups.append([-4, second, first])
            index += 3
        else:
            groups.append([codes[index]])
            index += 1
    return [code for group in reversed(groups) for code in group]


def _inferred(source: Sequence[int], wanted: list[int]) -> list[int]:
    """``wanted`` without -1 where an empty axis leaves it open: what the axes that are not empty have room for."""
    if -1 not in wanted or 0 not in wanted or 0 not in source:
        return wanted
    known = math.prod(size for size in wanted if size > 0)
    return [math.prod(size for size in source if size) // known if size == -1 else size for size in wanted]


@operator("reshape", "Reshape")
def reshape(
    data: Tensor, shape: Any = (), reverse: bool = False, target_shape: Any = (), keep_highest: bool = False
) -> Tensor:
    """Another shape with the same elements in the same order; see ``resolve_reshape`` for the codes.

    ``target_shape`` and ``keep_highest`` are MXNet's older form: 0 is inferred, and the first axis is kept if asked.
    """
    if isinstance(shape, int):
        shape = (shape,)
    if not shape and target_shape:
        wanted = [-1 if size == 0 else size for size in target_shape]
        if keep_highest:
            wanted[0] = data.shape[0]
        return data.reshape(wanted)
    return data.reshape(_inferred(data.shape, resolve_reshape(data.shape, shape, reverse)))


@operator("reshape_like")
def reshape_like(
    lhs: Tensor,
    rhs: Tensor,
    lhs_begin: int | None = None,
    lhs_end: int | None = None,
    rhs_begin: int | None = None,
    rhs_end: int | None = None,
) -> Tensor:
    """lhs with its axes [lhs_begin, lhs_end) replaced by the axes [rhs_begin, rhs_end) of rhs."""
    if lhs_begin is None and lhs_end is None and rhs_begin is None and rhs_end is None:
        return lhs.reshape(rhs.shape)

    def bounds(begin: int | None, end: int | None, ndim: int) -> tuple[int, int]:
        first = 0 if begin is None else begin + ndim if begin < 0 else begin
        last = ndim if end is None else end + ndim if end < 0 else end
        return first, last

    left_first, left_last = bounds(lhs_begin, lhs_end, lhs.dim())
    right_first, right_last = bounds(rhs_begin, rhs_end, rhs.dim())
    return lhs.reshape([*lhs.shape[:left_first], *rhs.shape[right_first:right_last], *lhs.shape[left_last:]])


@operator("transpose")
def transpose(data: Tensor, axes: Any = ()) -> Tensor:
    """Permutes the axes; reverses them when none are given."""
    return data.permute(tuple(axes)) if axes else data.permute(tuple(reversed(range(data.dim()))))


@operator("expand_dims")
def expand_dims(data: Tensor, axis: int | None = None) -> Tensor:
    """Inserts an axis of size 1."""
    if axis is None:
        raise OptionError("expand_dims needs axis, where the new axis goes.")
    return data.unsqueeze(axis)


@operator("squeeze")
def squeeze(data: Tensor, axis: Any = None) -> Tensor:
    """Removes axes of size 1: the given ones or all; at least one axis stays."""
    if axis is None:
        result = data.squeeze()
    else:
        listed = as_axes(axis, data.dim())
        for one in listed:
            if data.shape[one] != 1:
                raise OptionError(f"squeeze: axis {one} of shape {tuple(data.shape)} has not size 1.")
        result = data.squeeze(listed)
    return result if result.dim() else result.reshape(1)


@operator("swapaxes", "SwapAxis")
def swapaxes(data: Tensor, dim1: int = 0, dim2: int = 0) -> Tensor:
    """Exchanges two axes."""
    return data.transpose(dim1, dim2)


@operator("shape_array")
def shape_array(data: Tensor) -> Tensor:
    """The shape as an int64 array."""
    return torch.tensor(tuple(data.shape), dtype=torch.int64, device=data.device)


@operator("size_array")
def size_array(data: Tensor) -> Tensor:
    """The number of elements as an int64 array of shape (1,)."""
    return torch.tensor((data.numel(),), dtype=torch.int64, device=data.device)


@operator("depth_to_space")
def depth_to_space(data: Tensor, block_size: int | None = None) -> Tensor:
    """(batch, block² · channels, height, width) -> (batch, channels, block · height, block · width), block first."""
    if block_size is None:
        raise OptionError("depth_to_space needs block_size.")
    batch, channels, height, width = data.shape
    blocks = data.reshape(batch, block_size, block_size, channels // block_size**2, height, width)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(batch, -1, height * block_size, width * block_size)


@operator("space_to_depth")
def space_to_depth(data: Tensor, block_size: int | None = None) -> Tensor:
    """The inverse of ``depth_to_space``."""
    if block_size is None:
        raise OptionError("space_to_depth needs block_size.")
    batch, channels, height, width = data.shape
    blocks = data.reshape(batch, channels, height // block_size, block_size, width // block_size, block_size)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(batch, -1, height // block_size, width // block_size)


@operator("slice")
def slice(data: Tensor, begin: Any = None, end: Any = None, step: Any = ()) -> Tensor:
    """data[begin:end:step] on the leading axes; None stands for the end of an axis, steps may be negative."""
    if begin is None or end is None:
        raise OptionError("slice needs begin and end.")
    begin = (begin,) if isinstance(begin, int) else tuple(begin)
    end = (end,) if isinstance(end, int) else tuple(end)
    steps = (step,) if isinstance(step, int) else tuple(step or ())
    steps += (None,) * (len(begin) - len(steps))
    for axis, (first, last, stride) in enumerate(zip(begin, end, steps, strict=True)):
        if stride is None or stride > 0:
            if first is None and last is None and stride in (None, 1):
                continue
            data = data[(builtins.slice(None),) * axis + (builtins.slice(first, last, stride),)]
        else:
            # torch has no negative steps: flip, then count from the other end.
            size = data.shape[axis]
            chosen = range(size)[first:last:stride]
            data = data.index_select(axis, torch.tensor(list(chosen), dtype=torch.int64, device=data.device))
    return data


@operator("slice_axis")
def slice_axis(data: Tensor, axis: int | None = None, begin: int | None = None, end: int | None = None) -> Tensor:
    """data[begin:end] on one axis; ``end`` None reaches the end."""
    if axis is None or begin is None:
        raise OptionError("slice_axis needs axis and begin.")
    return data[(builtins.slice(None),) * (axis % data.dim()) + (builtins.slice(begin, end),)]


@operator("slice_like")
def slice_like(data: Tensor, shape_like: Tensor, axes: Any = ()) -> Tensor:
    """The leading part of data that has the sizes of ``shape_like`` on the given axes (none given: on all)."""
    for axis in as_axes(axes, data.dim()):
        data = data.narrow(axis, 0, shape_like.shape[axis])
    return data


@operator("split", "SliceChannel")
def split(data: Tensor, num_outputs: int | None = None, axis: int = 1, squeeze_axis: bool = False) -> Any:
    """``num_outputs`` equal parts along an axis: a list, or the array itself for one part."""
    if num_outputs is None or data.shape[axis] % num_outputs:
        raise OptionError(
            f"split: expected num_outputs that divides axis {axis} of {tuple(data.shape)}; received {num_outputs}."
        )
    parts = list(data.split(data.shape[axis] // num_outputs, axis))
    if squeeze_axis:
        parts = [part.squeeze(axis) for part in parts]
    return parts[0] if num_outputs == 1 else parts


@operator("concat", "Concat")
def concat(*data: Tensor, dim: int = 1) -> Tensor:
    """Joins arrays along an existing axis."""
    return torch.cat(data, dim)


@operator("stack")
def stack(*data: Tensor, axis: int = 0) -> Tensor:
    """Joins arrays along a new axis."""
    return torch.stack(data, axis)


@operator("tile")
def tile(data: Tensor, reps: Any = None) -> Tensor:
    """Repeats the whole array ``reps`` times on each axis, as numpy.tile."""
    if reps is None:
        raise OptionError("tile needs reps.")
    return data.tile((reps,) if isinstance(reps, int) else tuple(reps))


@operator("repeat")
def repeat(data: Tensor, repeats: int | None = None, axis: int | None = None) -> Tensor:
    """Repeats each element ``repeats`` times, as numpy.repeat."""
    if repeats is None:
        raise OptionError("repeat needs repeats.")
    return data.repeat_interleave(repeats, axis)


@operator("pad", "Pad")
def pad(data: Tensor, mode: str | None = None, pad_width: Any = None, constant_value: float = 0.0) -> Tensor:
    """Pads each axis: ``pad_width`` = (before, after) for the first axis, then the second, and so on."""
    if mode not in ("constant", "edge", "reflect") or pad_width is None:
        raise OptionError(
            f"pad: expected mode constant, edge or reflect and pad_width; received {mode!r}, {pad_width}."
        )
    pairs = [tuple(pad_width[index : index + 2]) for index in range(0, len(pad_width), 2)]
    if mode == "constant":
        return functional.pad(data, [width for pair in reversed(pairs) for width in pair], value=constant_value)
    if any(pairs[0]) or any(pairs[1]):
        raise OptionError(f"pad: mode {mode!r} pads spatial axes only; received pad_width {tuple(pad_width)}.")
    widths = [width for pair in reversed(pairs[2:]) for width in pair]
    return functional.pad(data, widths, mode="replicate" if mode == "edge" else "reflect")


@operator("reverse", "flip")
def flip(data: Tensor, axis: Any = None) -> Tensor:
    """Reverses the order of elements along the given axes."""
    if axis is None:
        raise OptionError("flip needs axis.")
    return data.flip((axis,) if isinstance(axis, int) else tuple(axis))


@operator("broadcast_like")
def broadcast_like(lhs: Tensor, rhs: Tensor, lhs_axes: Any = None, rhs_axes: Any = None) -> Tensor:
    """lhs broadcast to the shape of rhs, or on ``lhs_axes`` to the sizes that rhs has on ``rhs_axes``."""
    if lhs_axes is None:
        return lhs.expand(rhs.shape)
    shape = list(lhs.shape)
    for left, right in zip(as_axes(lhs_axes, lhs.dim()), as_axes(rhs_axes, rhs.dim()), strict=True):
        shape[left] = rhs.shape[right]
    return lhs.expand(shape)


@operator("broadcast_axis", "broadcast_axes")
def broadcast_axis(data: Tensor, axis: Any = (), size: Any = ()) -> Tensor:
    """Broadcasts axes of size 1 to the given sizes."""
    listed = (axis,) if isinstance(axis, int) else tuple(axis)
    sizes = (size,) if isinstance(size, int) else tuple(size)
    shape = list(data.shape)
    for one, wanted in zip(listed, sizes, strict=True):
        shape[one] = wanted
    return data.expand(shape)


@operator("broadcast_to")
def broadcast_to(data: Tensor, shape: Any = ()) -> Tensor:
    """Broadcasts to ``shape``; a 0 in it keeps the axis as it is."""
    return data.expand([old if new == 0 else new for old, new in zip(data.shape, shape, strict=True)])

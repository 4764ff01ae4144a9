"""Pooling with MXNet's conventions for windows that reach beyond the end."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from glueball.backend.torch.ops.arguments import spatial
from glueball.backend.torch.ops.layers import is_channels_last
from glueball.backend.torch.ops.registry import operator
from glueball.errors import OptionError

_MAX = {1: functional.max_pool1d, 2: functional.max_pool2d, 3: functional.max_pool3d}
_ADAPTIVE_MAX = {
    1: functional.adaptive_max_pool1d,
    2: functional.adaptive_max_pool2d,
    3: functional.adaptive_max_pool3d,
}
_AVERAGE = {1: functional.avg_pool1d, 2: functional.avg_pool2d, 3: functional.avg_pool3d}


def _output_size(size: int, kernel: int, stride: int, pad: int, convention: str) -> int:
    if convention == "valid":
        return (size + 2 * pad - kernel) // stride + 1
    if convention == "full":
        return -((size + 2 * pad - kernel) // -stride) + 1
    return -((size + 2 * pad) // -stride)


def _pool(
    data: Tensor,
    pool_type: str,
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    pad: tuple[int, ...],
    extra: tuple[int, ...],
    count_include_pad: bool,
) -> Tensor:
    """Pools with ``extra`` more elements of padding at the end of each axis than at its start."""
    ndim = len(kernel)
    # torch pads at most half a kernel by itself, and the same on both sides.
    native_padding = all(2 * one <= size for one, size in zip(pad, kernel, strict=True))
    if not any(extra) and native_padding and pool_type == "max":
        return _MAX[ndim](data, kernel, stride, pad)
    if not any(extra) and native_padding and pool_type == "avg":
        return _AVERAGE[ndim](data, kernel, stride, pad, False, count_include_pad)
    widths = [
        width for before, more in reversed(list(zip(pad, extra, strict=True))) for width in (before, before + more)
    ]
    if pool_type == "max":
        # MXNet's windows that lie in the padding alone give the lowest finite number.
        return _MAX[ndim](functional.pad(data, widths, value=torch.finfo(data.dtype).min), kernel, stride)
    window = 1
    for size in kernel:
        window *= size
    total = _AVERAGE[ndim](functional.pad(data, widths), kernel, stride) * window
    if pool_type == "sum":
        return total
    # What the mean divides by: the elements of the window inside the input, or inside input and regular padding.
    inside = data.new_ones((1, 1, *data.shape[2:]))
    if count_include_pad:
        inside = functional.pad(inside, [width for one in reversed(pad) for width in (one, one)], value=1.0)
        widths = [width for more in reversed(extra) for width in (0, more)]
    count = _AVERAGE[ndim](functional.pad(inside, widths), kernel, stride) * window
    return total / count.round().clamp(min=1.0)


@operator("Pooling")
def pooling(
    data: Tensor,
    kernel: Any = (),
    pool_type: str = "max",
    global_pool: bool = False,
    cudnn_off: bool = False,
    pooling_convention: str = "valid",
    stride: Any = (),
    pad: Any = (),
    p_value: int | None = None,
    count_include_pad: bool | None = None,
    layout: str | None = None,
) -> Tensor:
    """Pools windows of data: (batch, channels, *space).

    ``pooling_convention``: "valid" drops an incomplete last window; "full" keeps it (also one that starts in the
    padding, which PyTorch's ceil_mode drops); "same", for one spatial axis, gives ceil(size / stride). ``pool_type``
    "lp" is the ``p_value``-th root of the sum of powers.
    """
    if pool_type not in ("max", "avg", "sum", "lp"):
        raise OptionError(f"Pooling: expected pool_type max, avg, sum or lp; received {pool_type!r}.")
    if pooling_convention not in ("valid", "full", "same"):
        raise OptionError(f"Pooling: expected pooling_convention valid, full or same; received {pooling_convention!r}.")
    if pooling_convention == "same" and data.dim() != 3:
        raise OptionError(
            "Pooling: pooling_convention 'same' is for one spatial axis, as in MXNet: data (batch, channels, width). "
            f"Received data of shape {tuple(data.shape)}. Pad by F.pad and use 'valid'."
        )
    if is_channels_last(layout):
        data = data.movedim(-1, 1)
    if pool_type == "lp":
        if p_value not in (1, 2, 3):
            raise OptionError(f"Pooling: pool_type 'lp' needs p_value 1, 2 or 3; received {p_value!r}.")
        data = data**p_value
    kind = "sum" if pool_type == "lp" else pool_type
    if global_pool:
        dims = tuple(range(2, data.dim()))
        if kind == "max":
            # Not amax, which shares the gradient among equal elements: after a relu many are equal, and MXNet's first
            # one gets it all.
            result = _ADAPTIVE_MAX[len(dims)](data, 1)
        elif kind == "avg":
            result = data.mean(dims, keepdim=True)
        else:
            result = data.sum(dims, keepdim=True)
    else:
        ndim = data.dim() - 2
        window = spatial(kernel, ndim, 1)
        strides, padding = spatial(stride, ndim, 1), spatial(pad, ndim, 0)
        extra = []
        for size, one_kernel, one_stride, one_pad in zip(data.shape[2:], window, strides, padding, strict=True):
            count = _output_size(size, one_kernel, one_stride, one_pad, pooling_convention)
            extra.append(max(0, (count - 1) * one_stride + one_kernel - size - 2 * one_pad))
        include = True if count_include_pad is None else count_include_pad
        result = _pool(data, kind, window, strides, padding, tuple(extra), include)
    if pool_type == "lp" and p_value == 2:
        result = result.sqrt()
    elif pool_type == "lp" and p_value == 3:
        # The root keeps the sign, as MXNet's cbrt does.
        result = result.sign() * result.abs() ** (1.0 / 3.0)
    return result.movedim(1, -1) if is_channels_last(layout) else result

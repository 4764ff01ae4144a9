"""The namespace ``contrib``: resizing and adaptive pooling, and arrays that follow an input."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from glueball.backend.torch.ops.registry import operator
from glueball.errors import OptionError


def _odd_scale(size: int, scale: float) -> int:
    return int(size * scale) if size % 2 == 0 else int((size - 1) * scale) + 1


_RESIZE_TO = {
    "to_even_down": lambda size: size - size % 2,
    "to_even_up": lambda size: size + size % 2,
    "to_odd_down": lambda size: size - 1 + size % 2,
    "to_odd_up": lambda size: size + 1 - size % 2,
}


@operator("contrib.BilinearResize2D")
def bilinear_resize(
    data: Tensor,
    like: Tensor | None = None,
    height: int = 1,
    width: int = 1,
    scale_height: float | None = None,
    scale_width: float | None = None,
    mode: str = "size",
    align_corners: bool = True,
) -> Tensor:
    """Resizes data: (batch, channels, height, width) bilinearly; corner pixels stay corners unless told otherwise."""
    old_height, old_width = data.shape[2:]
    if mode == "like":
        if like is None:
            raise OptionError("BilinearResize2D: mode 'like' needs the second input.")
        size = (like.shape[2], like.shape[3])
    elif mode == "odd_scale":
        if scale_height is None or scale_width is None:
            raise OptionError("BilinearResize2D: mode 'odd_scale' needs scale_height and scale_width.")
        size = (_odd_scale(old_height, scale_height), _odd_scale(old_width, scale_width))
    elif mode in _RESIZE_TO:
        size = (_RESIZE_TO[mode](old_height), _RESIZE_TO[mode](old_width))
    elif mode == "size":
        size = (
            height if scale_height is None else int(scale_height * old_height),
            width if scale_width is None else int(scale_width * old_width),
        )
    else:
        raise OptionError(f"BilinearResize2D: unknown mode {mode!r}; expected size, like, odd_scale, to_even_down, ...")
    return functional.interpolate(data, size=size, mode="bilinear", align_corners=align_corners)


@operator("contrib.AdaptiveAvgPooling2D")
def adaptive_average_pooling(data: Tensor, output_size: Any = ()) -> Tensor:
    """Mean over a grid of ``output_size`` = height or (height, width) windows; (1, 1) if not given."""
    size = (1, 1) if output_size == () or output_size is None else output_size
    if not isinstance(size, int) and len(size) == 1:
        size = size[0]
    return functional.adaptive_avg_pool2d(data, size)


@operator("contrib.arange_like")
def arange_like(
    data: Tensor, start: float = 0.0, step: float = 1.0, repeat: int = 1, ctx: str = "", axis: int | None = None
) -> Tensor:
    """start, start + step, ..., each ``repeat`` times: as many as ``axis`` has, or in the shape of the whole array."""
    count = data.numel() if axis is None else data.shape[axis]
    positions = torch.arange(count, device=data.device)
    if repeat != 1:
        positions = positions // repeat
    values = (positions * step + start).to(data.dtype)
    return values.reshape(data.shape) if axis is None else values


@operator("contrib.div_sqrt_dim")
def div_sqrt_dim(data: Tensor) -> Tensor:
    """data / sqrt(size of its last axis), as attention scores want it (arXiv:1706.03762)."""
    return data / math.sqrt(data.shape[-1])

"""New arrays. Those without an input live on torch's default device."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from glueball.backend.torch.ops.arguments import torch_dtype
from glueball.backend.torch.ops.registry import operator


def _dtype(dtype: Any) -> torch.dtype:
    return torch.float32 if dtype is None else torch_dtype(dtype)


@operator("zeros_like")
def zeros_like(data: Tensor) -> Tensor:
    return torch.zeros_like(data)


@operator("ones_like")
def ones_like(data: Tensor) -> Tensor:
    return torch.ones_like(data)


@operator("zeros")
def zeros(shape: Any, *, dtype: Any = None) -> Tensor:
    return torch.zeros(shape, dtype=_dtype(dtype))


@operator("ones")
def ones(shape: Any, *, dtype: Any = None) -> Tensor:
    return torch.ones(shape, dtype=_dtype(dtype))


@operator("full")
def full(shape: Any, val: float, *, dtype: Any = None) -> Tensor:
    return torch.full((shape,) if isinstance(shape, int) else tuple(shape), val, dtype=_dtype(dtype))


@operator("arange")
def arange(
    start: float, stop: float | None = None, step: float = 1.0, repeat: int = 1, *, dtype: Any = "float32"
) -> Tensor:
    """start, start + step, ... below stop, each ``repeat`` times; with start alone it is the stop."""
    first, last = (0, start) if stop is None else (start, stop)
    values = torch.arange(first, last, step, dtype=_dtype(dtype))
    return values if repeat == 1 else values.repeat_interleave(repeat)


@operator("linspace")
def linspace(start: float, stop: float, num: int, endpoint: bool = True, *, dtype: Any = "float32") -> Tensor:
    """``num`` numbers from start to stop, evenly spaced; without ``endpoint`` stop itself is left out."""
    if endpoint:
        return torch.linspace(start, stop, num, dtype=_dtype(dtype))
    return torch.linspace(start, stop, num + 1, dtype=_dtype(dtype))[:-1]

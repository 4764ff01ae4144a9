"""Random arrays from torch's generator, which ``glueball.seed`` seeds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from glueball.backend.torch.ops.arguments import torch_dtype
from glueball.backend.torch.ops.registry import operator


def _shape(shape: Any) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


@operator("random.uniform")
def uniform(low: float = 0, high: float = 1, shape: Any = (1,), dtype: Any = "float32") -> Tensor:
    """Uniform in [low, high)."""
    return torch.rand(_shape(shape), dtype=torch_dtype(dtype or "float32")) * (high - low) + low


@operator("random.normal")
def normal(loc: float = 0, scale: float = 1, shape: Any = (1,), dtype: Any = "float32") -> Tensor:
    """Normal with mean ``loc`` and standard deviation ``scale``."""
    return torch.randn(_shape(shape), dtype=torch_dtype(dtype or "float32")) * scale + loc


@operator("random.uniform_like")
def uniform_like(data: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Uniform in [low, high), with the shape, data type and device of data."""
    return torch.rand_like(data) * (high - low) + low


@operator("random.normal_like")
def normal_like(data: Tensor, loc: float = 0.0, scale: float = 1.0) -> Tensor:
    """Normal, with the shape, data type and device of data."""
    return torch.randn_like(data) * scale + loc

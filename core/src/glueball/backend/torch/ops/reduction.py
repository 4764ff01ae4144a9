"""Reductions. A reduction over all axes gives an array of shape (1,), as in MXNet, never a scalar."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from glueball.backend.torch.ops.arguments import as_axes, torch_dtype
from glueball.backend.torch.ops.registry import operator
from glueball.errors import OptionError


def _at_least_one_axis(result: Tensor) -> Tensor:
    return result if result.dim() else result.reshape(1)


@operator("sum")
def sum(data: Tensor, axis: Any = None, keepdims: bool = False, exclude: bool = False) -> Tensor:
    """Sum over axes; ``exclude`` over all others. Integers stay in their data type."""
    dims = as_axes(axis, data.dim(), exclude)
    if not dims:
        return data
    return _at_least_one_axis(data.sum(dims, keepdim=keepdims, dtype=data.dtype))


@operator("mean")
def mean(data: Tensor, axis: Any = None, keepdims: bool = False, exclude: bool = False) -> Tensor:
    """Mean over axes; ``exclude`` over all others. The mean of integers is an integer, cut towards zero."""
    dims = as_axes(axis, data.dim(), exclude)
    if not dims:
        return data
    if not data.dtype.is_floating_point:
        count = 1
        for one in dims:
            count *= data.shape[one]
        total = data.sum(dims, keepdim=keepdims, dtype=data.dtype)
        return _at_least_one_axis(torch.div(total, count, rounding_mode="trunc"))
    return _at_least_one_axis(data.mean(dims, keepdim=keepdims))


@operator("max")
def max(data: Tensor, axis: Any = None, keepdims: bool = False, exclude: bool = False) -> Tensor:
    """Largest element. Each of several equal ones gets the whole gradient, as in MXNet."""
    return _extreme(data, axis, keepdims, exclude, Tensor.amax)


@operator("min")
def min(data: Tensor, axis: Any = None, keepdims: bool = False, exclude: bool = False) -> Tensor:
    """Smallest element. Each of several equal ones gets the whole gradient, as in MXNet."""
    return _extreme(data, axis, keepdims, exclude, Tensor.amin)


def _extreme(data: Tensor, axis: Any, keepdims: bool, exclude: bool, function: Any) -> Tensor:
    dims = as_axes(axis, data.dim(), exclude)
    if not dims:
        return data
    if torch.is_grad_enabled() and data.requires_grad:
        # amax shares the gradient among equals. value = max, gradient = that of the sum over the places of the maximum.
        with torch.no_grad():
            value = function(data, dims, keepdim=True)
            chosen = (data == value).to(data.dtype)
        passing = (data * chosen).sum(dims, keepdim=True)
        result = passing + (value - passing).detach()
        if not keepdims:
            result = result.squeeze(dims)
        return _at_least_one_axis(result)
    return _at_least_one_axis(function(data, dims, keepdim=keepdims))


@operator("prod")
def prod(data: Tensor, axis: Any = None, keepdims: bool = False, exclude: bool = False) -> Tensor:
    """Product over axes."""
    dims = as_axes(axis, data.dim(), exclude)
    for one in sorted(dims, reverse=True):
        data = data.prod(one, keepdim=keepdims, dtype=data.dtype)
    return _at_least_one_axis(data)


@operator("norm")
def norm(data: Tensor, ord: int = 2, axis: Any = None, out_dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Sum of absolute values (ord 1) or root of the sum of squares (ord 2)."""
    if ord not in (1, 2):
        raise OptionError(f"norm: expected ord 1 or 2; received {ord!r}.")
    dims = as_axes(axis, data.dim())
    result = torch.linalg.vector_norm(data, ord, dims, keepdim=keepdims)
    return _at_least_one_axis(result if out_dtype is None else result.to(torch_dtype(out_dtype)))


@operator("argmax")
def argmax(data: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the first largest element along an axis, of the flat array if none is given; float32."""
    return _first_index(data, axis, keepdims, Tensor.argmax)


@operator("argmin")
def argmin(data: Tensor, axis: int | None = None, keepdims: bool = False) -> Tensor:
    """Index of the first smallest element along an axis, of the flat array if none is given; float32."""
    return _first_index(data, axis, keepdims, Tensor.argmin)


def _first_index(data: Tensor, axis: int | None, keepdims: bool, function: Any) -> Tensor:
    if axis is None:
        shape = (1,) * data.dim() if keepdims else (1,)
        return function(data.reshape(-1)).to(torch.float32).reshape(shape)
    return _at_least_one_axis(function(data, axis, keepdim=keepdims).to(torch.float32))

"""Reading the arguments that MXNet's functions take: shapes, axes, data types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from glueball.errors import OptionError

_DTYPES: dict[str, torch.dtype] = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float32": torch.float32,
    "float64": torch.float64,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "int32": torch.int32,
    "int64": torch.int64,
    "bool": torch.bool,
}


def torch_dtype(dtype: Any) -> torch.dtype:
    """A torch data type from its name, a NumPy type or itself.

    Raises:
        OptionError: no such data type in the dialect.
    """
    if isinstance(dtype, torch.dtype):
        return dtype
    name = dtype if isinstance(dtype, str) else np.dtype(dtype).name
    found = _DTYPES.get(name)
    if found is None:
        raise OptionError(f"Unknown data type {dtype!r}; expected one of {', '.join(_DTYPES)}.")
    return found


def shareable(values: np.ndarray) -> np.ndarray:
    """``values`` as torch can share their memory: native byte order, contiguous, writable, of a type that it computes.

    A copy where they are not so: torch warns of read-only memory and refuses foreign byte orders.
    """
    if values.dtype in (np.uint16, np.uint32, np.uint64):
        return values.astype(np.int64)  # torch offers next to no operations on them
    if values.dtype.isnative and values.flags.c_contiguous and values.flags.writeable:
        return values
    return np.array(values, values.dtype.newbyteorder("="), copy=True, order="C")


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a torch data type, as NumPy says it: ``float32``."""
    return str(dtype).removeprefix("torch.")


def spatial(value: int | Sequence[int] | None, ndim: int, default: int) -> tuple[int, ...]:
    """One number for each of ``ndim`` axes; nothing given stands for ``default``."""
    if value is None or (not isinstance(value, int) and len(value) == 0):
        return (default,) * ndim
    if isinstance(value, int):
        return (value,) * ndim
    if len(value) != ndim:
        raise OptionError(f"Expected {ndim} numbers, one for each spatial axis; received {tuple(value)}.")
    return tuple(value)


def as_axes(axis: int | Sequence[int] | None, ndim: int, exclude: bool = False) -> tuple[int, ...]:
    """The axes of a reduction, counted from the front; none given stands for all."""
    if axis is None or (not isinstance(axis, int) and len(axis) == 0):
        return tuple(range(ndim)) if not exclude else ()
    listed = (axis,) if isinstance(axis, int) else tuple(axis)
    listed = tuple(one % ndim for one in listed)
    if exclude:
        return tuple(one for one in range(ndim) if one not in listed)
    return listed

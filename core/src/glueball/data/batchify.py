"""How a list of samples becomes a batch: small functions that are put together in the shape of a sample.

``Tuple(Pad(axis=0, pad_value=0), Stack())`` batches samples (sequence, label). Without any,
``default_batchify`` stacks what has a shape, element by element.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import Any

import numpy as np

from glueball.data.samplers import as_count
from glueball.errors import DataError, OptionError

_local = threading.local()


def allocate(shape: Sequence[int], dtype: Any) -> np.ndarray:
    """Memory for a batch; in a worker process it is shared with the parent, so that a batch is never copied again."""
    allocator = getattr(_local, "allocator", None)
    if allocator is not None:
        array = allocator(tuple(shape), np.dtype(dtype))
        if array is not None:
            return array
    return np.empty(tuple(shape), dtype)


@contextlib.contextmanager
def allocating(allocator: Callable[[tuple[int, ...], np.dtype], np.ndarray | None]) -> Iterator[None]:
    """Within it, ``allocate`` on this thread asks ``allocator`` first, which gives None when it has no room."""
    _local.allocator = allocator
    try:
        yield
    finally:
        _local.allocator = None


def _arrays(samples: Sequence[Any], dtype: Any) -> list[np.ndarray]:
    if not samples:
        raise DataError("A batch of no samples cannot be made.")
    arrays = [np.asarray(sample) for sample in samples]
    for position, array in enumerate(arrays):
        if array.dtype == object:
            raise DataError(
                f"Element {position} of the batch is no array of numbers but {type(samples[position]).__name__}; use "
                "List() to keep such elements as they are."
            )
    # An empty list has no type, though NumPy calls it float64: an empty sequence must not make floats of token ids.
    typed = [array.dtype for array, sample in zip(arrays, samples, strict=True) if array.size or _is_from_numpy(sample)]
    if dtype is not None:
        result_dtype = np.dtype(dtype)
    else:
        result_dtype = np.result_type(*set(typed or [array.dtype for array in arrays]))
    # Python's floats are float64 for want of another type, not for precision that a network could use. All samples are
    # asked, since the batches of one dataset must have one type, wherever a shuffle puts its integers.
    if dtype is None and result_dtype == np.float64 and not any(_is_from_numpy(sample) for sample in samples):
        result_dtype = np.dtype(np.float32)
    return [array if array.dtype == result_dtype else array.astype(result_dtype) for array in arrays]


def _is_from_numpy(sample: Any) -> bool:
    """Whether somebody chose a data type for it: NumPy values, and all else that knows its own type."""
    if isinstance(sample, (list, tuple)):
        return any(_is_from_numpy(one) for one in sample)
    return hasattr(sample, "dtype")


class Stack:
    """Puts arrays (or numbers) of one shape together along a new first axis: result (batch, ...).

    Args:
        dtype: of the result; default: what the samples have (Python floats become float32).

    Raises:
        DataError: the shapes differ.
    """

    def __init__(self, dtype: Any = None) -> None:
        self._dtype = dtype

    def __call__(self, samples: Sequence[Any]) -> np.ndarray:
        arrays = _arrays(samples, self._dtype)
        shape = arrays[0].shape
        for position, array in enumerate(arrays):
            if array.shape != shape:
                raise DataError(
                    f"Stack expects arrays of one shape. Received: {shape} at 0 and {array.shape} at {position} of the "
                    "batch. Pad() makes them equal; for pictures, resize or crop first."
                )
        out = allocate((len(arrays), *shape), arrays[0].dtype)
        for position, array in enumerate(arrays):
            out[position] = array
        return out


class Pad:
    """Puts arrays that differ in length together, the shorter ones filled up: result (batch, ...).

    Args:
        axis: the axis of a sample that differs, or several; negative ones count from the end.
        pad_value: what fills up; default: 0. Token ids want the index of their vocabulary's padding token.
        return_length: also give the lengths: int32, (batch,), or (batch, number of axes) for several axes.
        dtype: of the result; default: what the samples have.
        round_to: make the padded length a multiple of this, so that fewer shapes occur and compiled code is reused.
        pad_val, ret_length: GluonNLP's names of ``pad_value`` and ``return_length``; the order is GluonNLP's too.

    Raises:
        OptionError: an argument cannot be used.
        DataError: the samples differ in rank, or along an axis that is not padded, or their type has no such padding
            value (half a token, -1 among unsigned integers).
    """

    def __init__(
        self,
        axis: int | Sequence[int] = 0,
        pad_value: float | None = None,
        return_length: bool | None = None,
        dtype: Any = None,
        round_to: int | None = None,
        *,
        pad_val: float | None = None,
        ret_length: bool | None = None,
    ) -> None:
        self._axes = (axis,) if isinstance(axis, (int, np.integer)) else tuple(axis)
        if not self._axes:
            raise OptionError("Pad expects at least one axis.")
        if return_length is not None and not isinstance(return_length, (bool, np.bool_)):
            raise OptionError(f"return_length is True or False. Received: {return_length!r}.")
        self._pad_value = _either("pad_value", pad_value, "pad_val", pad_val, 0)
        self._return_length = _either("return_length", return_length, "ret_length", ret_length, False)
        self._dtype = dtype
        self._round_to = None if round_to is None else as_count("round_to", round_to, at_least=1)

    def __call__(self, samples: Sequence[Any]) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        arrays = _arrays(samples, self._dtype)
        ndim = arrays[0].ndim
        if any(array.ndim != ndim for array in arrays):
            raise DataError(f"Pad expects arrays of one rank. Received ranks: {sorted({a.ndim for a in arrays})}.")
        if any(not -ndim <= axis < ndim for axis in self._axes):
            raise OptionError(f"Pad has axis {self._axes}, but the samples have {ndim} axes.")
        axes = [axis % ndim for axis in self._axes]
        shapes = np.array([array.shape for array in arrays], np.int64).reshape(len(arrays), ndim)
        target = shapes.max(axis=0)
        for axis in range(ndim):
            if axis not in axes and (shapes[:, axis] != target[axis]).any():
                raise DataError(
                    f"Pad pads axis {self._axes}; along axis {axis} the samples must agree. Received sizes: "
                    f"{sorted(set(shapes[:, axis].tolist()))}."
                )
            if axis in axes and self._round_to:
                target[axis] = -(-target[axis] // self._round_to) * self._round_to
        if not _can_hold(arrays[0].dtype, self._pad_value):
            raise DataError(
                f"Pad has pad_value {self._pad_value}, which the samples' type {arrays[0].dtype} does not hold. Use "
                "another value, or give a dtype."
            )
        out = allocate((len(arrays), *target.tolist()), arrays[0].dtype)
        out[...] = self._pad_value
        for position, array in enumerate(arrays):
            place = out[position]
            place[tuple(slice(0, size) for size in array.shape)] = array
        if not self._return_length:
            return out
        lengths = shapes[:, axes].astype(np.int32)
        return out, lengths[:, 0] if len(axes) == 1 else lengths


def _either(name: str, value: Any, other_name: str, other: Any, default: Any) -> Any:
    if value is not None and other is not None:
        raise OptionError(f"{name} and {other_name} are two names of one option; give one of them.")
    return next((given for given in (value, other) if given is not None), default)


def _can_hold(dtype: np.dtype, value: float) -> bool:
    """Whether integers of this type can be ``value``; other types round it, and that is what one expects of them."""
    if dtype.kind not in "iu":
        return True
    limits = np.iinfo(dtype)
    return bool(np.isfinite(value)) and value == int(value) and limits.min <= value <= limits.max


class List:
    """Keeps the elements as they are, in a list: texts, names, boxes of different number."""

    def __call__(self, samples: Sequence[Any]) -> list[Any]:
        return list(samples)


class Tuple:
    """One function for each element of a sample: result a tuple.

    Raises:
        DataError: a sample has another number of elements than there are functions.
    """

    def __init__(self, *functions: Callable[[Sequence[Any]], Any] | Sequence[Callable[[Sequence[Any]], Any]]) -> None:
        if len(functions) == 1 and isinstance(functions[0], (list, tuple)):
            functions = tuple(functions[0])
        self._functions: tuple[Any, ...] = functions
        if not functions or not all(callable(function) for function in functions):
            raise OptionError(
                "Tuple expects functions, one for each element of a sample, such as Tuple(Pad(), Stack())."
            )

    def __call__(self, samples: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
        for position, sample in enumerate(samples):
            if not isinstance(sample, Sized):
                raise DataError(
                    f"Tuple expects samples of {len(self._functions)} elements. Received: {type(sample).__name__} at "
                    f"{position} of the batch."
                )
            if len(sample) != len(self._functions):
                raise DataError(
                    f"Tuple has {len(self._functions)} functions, but sample {position} of the batch has {len(sample)} "
                    "elements."
                )
        return tuple(function([sample[place] for sample in samples]) for place, function in enumerate(self._functions))


class Dict:
    """One function for each key of a sample that is a mapping: result a dict of those keys.

    Raises:
        OptionError: no function, or something that is none.
        DataError: a sample is no mapping, or lacks a key.
    """

    def __init__(self, functions: Mapping[str, Callable[[Sequence[Any]], Any]]) -> None:
        if not isinstance(functions, Mapping) or not functions:
            raise OptionError(f"Dict expects a mapping with a function for at least one key. Received: {functions!r}.")
        odd = [key for key, function in functions.items() if not callable(function)]
        if odd:
            raise OptionError(f"Dict expects a function for each key. Received: {functions[odd[0]]!r} for {odd[0]!r}.")
        self._functions = dict(functions)

    def __call__(self, samples: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        for position, sample in enumerate(samples):
            if not isinstance(sample, Mapping):
                raise DataError(
                    f"Dict expects samples that are mappings. Received: {type(sample).__name__} at {position} of the "
                    "batch."
                )
            missing = [key for key in self._functions if key not in sample]
            if missing:
                raise DataError(f"Sample {position} of the batch lacks {missing}; it has {list(sample)}.")
        return {key: function([sample[key] for sample in samples]) for key, function in self._functions.items()}


class NamedTuple:
    """One function for each field of a named tuple: result a tuple of the same type.

    Args:
        container: the named tuple's type.
        functions: by field name, or in the order of the fields.

    Raises:
        OptionError: the functions do not fit the fields.
        DataError: a sample is not of that type, so that its elements might mean something else.
    """

    def __init__(
        self, container: type, functions: Mapping[str, Callable[..., Any]] | Sequence[Callable[..., Any]]
    ) -> None:
        fields = getattr(container, "_fields", None)
        if fields is None:
            raise OptionError(f"NamedTuple expects the type of a named tuple. Received: {container!r}.")
        if isinstance(functions, Mapping):
            if set(functions) != set(fields):
                raise OptionError(f"NamedTuple needs functions for {list(fields)}. Received: {list(functions)}.")
            functions = [functions[field] for field in fields]
        if len(functions) != len(fields):
            raise OptionError(
                f"NamedTuple needs {len(fields)} functions for {list(fields)}. Received: {len(functions)}."
            )
        self._container = container
        self._tuple = Tuple(*functions)

    def __call__(self, samples: Sequence[Sequence[Any]]) -> Any:
        for position, sample in enumerate(samples):
            if not isinstance(sample, self._container):
                raise DataError(
                    f"NamedTuple expects samples of type {self._container.__name__}. Received: "
                    f"{type(sample).__name__} at {position} of the batch."
                )
        return self._container(*self._tuple(samples))


def default_batchify(samples: Sequence[Any]) -> Any:
    """The default: tuples and mappings element by element, numbers and arrays by ``Stack``, all else by ``List``."""
    if not samples:
        raise DataError("A batch of no samples cannot be made.")
    first = samples[0]
    if isinstance(first, tuple):
        parts = Tuple(*([default_batchify] * len(first)))(samples) if first else ()
        return type(first)(*parts) if hasattr(first, "_fields") else parts
    if isinstance(first, Mapping):
        return Dict(dict.fromkeys(first, default_batchify))(samples)
    if isinstance(first, (np.ndarray, np.generic, int, float)):
        return Stack()(samples)
    return List()(samples)

"""The lengths of samples, as the samplers for sequences of different length take them.

A length is an integer, or a tuple of integers where a sample holds several sequences (source and target of a
translation). They are read once, into one array, so that everything after is NumPy's work.
"""

from __future__ import annotations

import numbers
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from glueball.errors import DataError

Length = int | tuple[int, ...]


def read_lengths(lengths: Any) -> np.ndarray:
    """Lengths as int64: shape (samples,), or (samples, sequences) for tuples.

    Args:
        lengths: any iterable of integers or of tuples of integers, a dataset with a lazy transform included.

    Raises:
        DataError: there are none, one is no integer or less than 1, or the tuples differ in size; it names the index.
    """
    values: Any = lengths if isinstance(lengths, np.ndarray) and lengths.ndim else as_list("lengths", lengths)
    if len(values) == 0:
        raise DataError("A sampler needs the length of at least one sample. Received: none.")
    try:
        array = np.asarray(values)
    except ValueError:
        array = np.empty(0, object)  # NumPy's word for rows of different size
    if array.dtype.kind not in "iu" or array.ndim not in (1, 2) or 0 in array.shape:
        index = _first_odd(values)
        if index is not None:
            raise DataError(
                "Lengths are integers, or tuples of integers that all have the same size. Received: "
                f"{values[index]!r} for sample {index}."
            )
        # Integers of several widths, for which NumPy knows no common type but float.
        array = np.array(values, np.int64)
    if array.dtype.kind == "u" and array.max() > np.iinfo(np.int64).max:
        raise DataError(f"A length of {array.max()} is no length of a sequence.")
    array = array.astype(np.int64)
    too_short = np.flatnonzero((array < 1).reshape(len(array), -1).any(axis=1))
    if len(too_short):
        raise DataError(
            f"Sequences have at least one element. Received: length {as_key(array[too_short[0]])} for sample "
            f"{too_short[0]}{_and_others(len(too_short) - 1)}. Leave empty sequences out (dataset.filter), or put a "
            "padding token into them."
        )
    return array


def as_key(length: np.ndarray) -> Length:
    """A row of ``read_lengths`` as a Python integer or tuple."""
    return tuple(length.tolist()) if length.ndim else int(length)


def sample_indices(members: np.ndarray, offsets: Iterable[tuple[int, int]]) -> Iterable[list[int]]:
    """The parts ``members[start:end]`` as lists of Python integers."""
    return (members[start:end].tolist() for start, end in offsets)


def padding_share(lengths: Any, batches: Iterable[Sequence[int]]) -> float:
    """Which part of all elements of padded batches is padding, from 0 (none) to 1.

    Args:
        lengths: of all samples; for tuples, each sequence is padded to the longest of its kind in the batch.
        batches: lists of sample indices, such as a batch sampler gives.

    Raises:
        DataError: lengths that cannot be used, or no batch.
    """
    array = read_lengths(lengths)
    rows = array.reshape(len(array), -1)
    real = padded = 0
    for batch in batches:
        part = rows[np.asarray(batch, np.int64)]
        real += int(part.sum())
        padded += len(part) * int(part.max(axis=0).sum())
    if padded == 0:
        raise DataError("The padding of no batches cannot be told.")
    return 1 - real / padded


def as_list(name: str, values: Any) -> list[Any]:
    """The entries of any iterable.

    Raises:
        DataError: it cannot be iterated, or a dataset's transform takes other arguments.
    """
    try:
        return list(values)
    except TypeError as error:
        raise DataError(
            f"The {name} could not be read: {error}. They are a sequence with one entry for each sample. "
            "dataset.transform(function) gives a function as many arguments as a sample that is a tuple has elements, "
            "or the whole sample: lambda tokens, label: len(tokens), or lambda sample: len(sample[0])."
        ) from error


def _first_odd(values: Sequence[Any]) -> int | None:
    """The index of the first entry that is not as it should be, if there is one."""
    expected = _size(values[0])
    for index, value in enumerate(values):
        size = _size(value)
        parts = [value] if size is None else value
        if size != expected or size == 0 or not all(_is_integer(part) for part in parts):
            return index
    return None


def _size(value: Any) -> int | None:
    """How many parts a length has; None for a number (or what should be one)."""
    has_parts = isinstance(value, (tuple, list)) or (isinstance(value, np.ndarray) and value.ndim > 0)
    return len(value) if has_parts else None


def _is_integer(value: Any) -> bool:
    return isinstance(value, numbers.Integral) and not isinstance(value, bool) and value <= np.iinfo(np.int64).max


def _and_others(count: int) -> str:
    return f" and for {count} more" if count else ""

"""Map-style datasets: a length and samples by index, and views of them that cost nothing until a sample is asked for.

A sample is anything; most are tuples such as (picture, label). A random transform takes the sample's own generator
(``glueball.data.streams``), which the DataLoader hands to ``fetch``; ``dataset[index]`` draws fresh randomness instead,
so that looking at a dataset by hand shows its variety.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import numpy as np

from glueball.data import streams
from glueball.errors import DataError, OptionError


def takes_random(function: object) -> bool:
    """Whether a transform draws random numbers: it says so by its attribute ``is_random = True``."""
    return bool(getattr(function, "is_random", False))


class Dataset:
    """The base of all datasets: a subclass defines ``__getitem__`` and ``__len__``.

    Example:
        >>> squares = SimpleDataset(range(10)).transform(lambda number: number**2)
        >>> squares[3], len(squares.filter(lambda number: number % 2 == 0))
        (9, 5)
    """

    is_random: bool = False
    """Whether ``fetch`` makes use of its generator."""

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} defines no __getitem__.")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} defines no __len__.")

    def __iter__(self) -> Iterator[Any]:
        for index in range(len(self)):
            yield self[index]

    def fetch(self, index: int, random: np.random.Generator | None = None) -> Any:
        """The sample, with all its random decisions drawn from ``random``."""
        return self[index]

    def describe(self, index: int) -> str:
        """Where the sample comes from (a path), for messages; empty where that says nothing more than the index."""
        return ""

    def labels(self) -> np.ndarray | None:
        """The class of every sample, shape (length,), where that is known without making the samples; else None."""
        return None

    def transform(self, function: Callable[..., Any], lazy: bool = True) -> Dataset:
        """A dataset of ``function(*sample)`` for tuples and ``function(sample)`` for all else.

        A function of one argument gets a tuple as a whole: ``lambda sample: len(sample[0])`` is for any sample, where
        Gluon takes it for lists only. A callable object gets the elements, however many it takes.

        A function whose attribute ``is_random`` is True is called with the keyword ``random``, a numpy Generator.
        ``lazy=False`` computes all samples now and keeps them; randomness is then drawn once and for all.
        """
        transformed = _Transformed(self, function, first=False)
        return transformed if lazy else SimpleDataset(list(transformed))

    def transform_first(self, function: Callable[..., Any], lazy: bool = True) -> Dataset:
        """As ``transform``, but for the first element of each sample; the others (labels) stay as they are."""
        transformed = _Transformed(self, function, first=True)
        return transformed if lazy else SimpleDataset(list(transformed))

    def filter(self, predicate: Callable[[Any], bool]) -> Dataset:
        """The samples of which ``predicate(sample)`` is true; decided at the first use, by one pass over the data."""
        return _Filtered(self, predicate)

    def subset(self, indices: Iterable[int]) -> Dataset:
        """The samples at ``indices``, in that order; an index may occur more than once.

        Raises:
            OptionError: an index is not in the dataset.
        """
        return _Subset(self, indices)

    def sample(self, sampler: Iterable[int]) -> Dataset:
        """``subset`` of one pass of a sampler."""
        return _Subset(self, sampler)

    def take(self, count: int) -> Dataset:
        """The first ``count`` samples, or all if there are fewer.

        Raises:
            OptionError: ``count`` is negative.
        """
        if count < 0:
            raise OptionError(f"take expects a count of at least 0. Received: {count}.")
        return _Subset(self, range(min(count, len(self))))

    def shard(self, num_shards: int, index: int) -> Dataset:
        """One of ``num_shards`` contiguous parts, the first of which are longer by one where the length demands it.

        Raises:
            OptionError: there is no shard of that index.
        """
        if num_shards < 1 or not 0 <= index < num_shards:
            raise OptionError(
                f"shard expects 0 <= index < num_shards. Received: index={index}, num_shards={num_shards}."
            )
        size, longer = divmod(len(self), num_shards)
        start = size * index + min(index, longer)
        return _Subset(self, range(start, start + size + (index < longer)))

    def split(
        self, fraction: float, seed: int = 0, stratify: bool | Sequence[Any] | np.ndarray = False
    ) -> tuple[Dataset, Dataset]:
        """Two datasets that share no sample: the first has ``fraction`` of them, the second the rest.

        Args:
            fraction: between 0 and 1; which samples it takes is drawn by ``seed``. Both parts hold at least one sample.
            seed: the same seed gives the same parts on every machine.
            stratify: the class of each sample (or True to ask ``labels``), so that each class is divided by the same
                fraction; a class with two samples or more is found in both parts.

        Raises:
            OptionError: the fraction is not between 0 and 1, or the classes are unknown or not as many as the samples.
            DataError: there are fewer than two samples.
        """
        length = len(self)
        if not 0 < fraction < 1:
            raise OptionError(f"split expects a fraction between 0 and 1. Received: {fraction}.")
        if length < 2:
            raise DataError(f"A dataset of {length} samples cannot be split in two.")
        labels = self._labels_for(stratify)
        chosen: list[np.ndarray] = []
        for number, members in enumerate(_groups(labels)):
            count = round(fraction * len(members))
            if len(members) > 1:
                count = min(max(count, 1), len(members) - 1)
            order = streams.stream(seed, streams.ORDER, index=number).permutation(len(members))
            chosen.append(members[order[:count]])
        first = np.zeros(length, bool)
        first[np.concatenate(chosen)] = True
        if first.all() or not first.any():
            # Only classes of one sample each, which all rounded the same way.
            first[:] = False
            count = min(max(round(fraction * length), 1), length - 1)
            first[streams.stream(seed, streams.ORDER).permutation(length)[:count]] = True
        return _Subset(self, np.flatnonzero(first)), _Subset(self, np.flatnonzero(~first))

    def _labels_for(self, stratify: bool | Sequence[Any] | np.ndarray) -> np.ndarray:
        if stratify is False:
            return np.zeros(len(self), np.int64)
        labels = self.labels() if stratify is True else np.asarray(stratify)
        if labels is None:
            raise OptionError(
                f"{type(self).__name__} does not know its classes; pass them: "
                "split(..., stratify=[class of each sample])."
            )
        if labels.shape != (len(self),):
            raise OptionError(f"stratify expects one class for each of {len(self)} samples. Received: {labels.shape}.")
        return labels


def _groups(labels: np.ndarray) -> list[np.ndarray]:
    """The positions of each class, classes in sorted order."""
    _, inverse = np.unique(labels, return_inverse=True)
    order = np.argsort(inverse, kind="stable")
    return [group for group in np.split(order, np.cumsum(np.bincount(inverse))[:-1]) if len(group)]


class SimpleDataset(Dataset):
    """A sequence (list, array, range, ...) as a dataset."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __getitem__(self, index: int) -> Any:
        return self._data[index]

    def __len__(self) -> int:
        return len(self._data)


class ArrayDataset(Dataset):
    """Several sequences of one length, side by side: sample i is the tuple of their i-th elements.

    One sequence alone gives its elements, not tuples. Where the last of several is a vector of integers, it is taken
    for the labels.

    Raises:
        OptionError: no sequence, or sequences of different lengths.
    """

    def __init__(self, *arrays: Any) -> None:
        if not arrays:
            raise OptionError("ArrayDataset expects at least one array.")
        lengths = [len(array) for array in arrays]
        if len(set(lengths)) > 1:
            raise OptionError(f"ArrayDataset expects arrays of one length. Received lengths: {lengths}.")
        self._arrays = arrays

    def __getitem__(self, index: int) -> Any:
        if len(self._arrays) == 1:
            return self._arrays[0][index]
        return tuple(array[index] for array in self._arrays)

    def __len__(self) -> int:
        return len(self._arrays[0])

    def labels(self) -> np.ndarray | None:
        if len(self._arrays) == 1:
            return None
        last = np.asarray(self._arrays[-1])
        return last if last.ndim == 1 and last.dtype.kind in "iu" else None


def _takes_one_for(function: Callable[..., Any], count: int, keywords: dict[str, Any]) -> bool:
    """Whether a function that was written down takes one argument and cannot take ``count``."""
    # What an object or a built-in function (len) makes of a tuple is too often something, and wrong.
    if not isinstance(function, (FunctionType, MethodType, partial)):
        return False
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return False

    def takes(number: int) -> bool:
        try:
            signature.bind(*range(number), **keywords)
        except TypeError:
            return False
        return True

    return takes(1) and not takes(count)


class _Transformed(Dataset):
    def __init__(self, data: Dataset, function: Callable[..., Any], first: bool) -> None:
        self._data = data
        self._function = function
        self._first = first
        self._function_is_random = takes_random(function)
        self.is_random = self._function_is_random or data.is_random
        # Elements of a tuple -> whether the function takes the tuple instead.
        self._whole: dict[int, bool] = {1: False}

    def _apply(self, sample: Any, random: np.random.Generator | None) -> Any:
        keywords = {"random": random} if self._function_is_random else {}
        if not isinstance(sample, tuple):
            return self._function(sample, **keywords)
        if self._first:
            changed = (self._function(sample[0], **keywords), *sample[1:])
            # A named tuple keeps its names.
            return type(sample)(*changed) if hasattr(sample, "_fields") else changed
        count = len(sample)
        if count not in self._whole:
            self._whole[count] = _takes_one_for(self._function, count, keywords)
        return self._function(sample, **keywords) if self._whole[count] else self._function(*sample, **keywords)

    def __getitem__(self, index: int) -> Any:
        return self._apply(self._data[index], None)

    def __len__(self) -> int:
        return len(self._data)

    def fetch(self, index: int, random: np.random.Generator | None = None) -> Any:
        return self._apply(self._data.fetch(index, random), random)

    def describe(self, index: int) -> str:
        return self._data.describe(index)

    def labels(self) -> np.ndarray | None:
        return self._data.labels() if self._first else None


class _Subset(Dataset):
    def __init__(self, data: Dataset, indices: Iterable[int]) -> None:
        self._data = data
        self._indices: range | np.ndarray
        if isinstance(indices, range):
            self._indices = indices
        else:
            array = np.asarray(list(indices) if not isinstance(indices, np.ndarray) else indices)
            if array.size and array.dtype.kind not in "iu":
                raise OptionError(f"subset expects integer indices. Received: {array.dtype}.")
            self._indices = array.astype(np.int64)
        length = len(data)
        if len(self._indices):
            low, high = int(np.min(self._indices)), int(np.max(self._indices))
            if low < 0 or high >= length:
                raise OptionError(f"subset expects indices from 0 to {length - 1}. Received: {low} to {high}.")
        self.is_random = data.is_random

    def __getitem__(self, index: int) -> Any:
        return self._data[int(self._indices[index])]

    def __len__(self) -> int:
        return len(self._indices)

    def fetch(self, index: int, random: np.random.Generator | None = None) -> Any:
        return self._data.fetch(int(self._indices[index]), random)

    def describe(self, index: int) -> str:
        return self._data.describe(int(self._indices[index]))

    def labels(self) -> np.ndarray | None:
        labels = self._data.labels()
        return None if labels is None else labels[np.asarray(self._indices, np.int64)]


class _Filtered(Dataset):
    def __init__(self, data: Dataset, predicate: Callable[[Any], bool]) -> None:
        self._data = data
        self._predicate: Callable[[Any], bool] | None = predicate
        self._subset: _Subset | None = None
        self.is_random = data.is_random

    def _kept(self) -> _Subset:
        if self._subset is None:
            predicate = self._predicate
            assert predicate is not None
            # Fixed streams: which samples remain must not change from run to run.
            self._subset = _Subset(
                self._data,
                [
                    index
                    for index in range(len(self._data))
                    if predicate(self._data.fetch(index, streams.stream(0, streams.SAMPLE, index=index)))
                ],
            )
        return self._subset

    def __getstate__(self) -> dict[str, Any]:
        # A worker process needs the outcome, not the predicate, which may be a lambda.
        return {"_data": self._data, "_subset": self._kept(), "_predicate": None, "is_random": self.is_random}

    def __getitem__(self, index: int) -> Any:
        return self._kept()[index]

    def __len__(self) -> int:
        return len(self._kept())

    def fetch(self, index: int, random: np.random.Generator | None = None) -> Any:
        return self._kept().fetch(index, random)

    def describe(self, index: int) -> str:
        return self._kept().describe(index)

    def labels(self) -> np.ndarray | None:
        return self._kept().labels()

"""Batches of sequences of similar length, made by sorting.

Sorting everything leaves least padding but shows a network the same batches for ever; sorting within large random
chunks leaves nearly as little, and new batches each epoch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from glueball.data import streams
from glueball.data.lengths import as_list, sample_indices
from glueball.data.samplers import Sampler, as_count
from glueball.errors import DataError, OptionError


class SortedSampler(Sampler):
    """All samples, one by one, in the order of their keys; samples of equal keys in their own order.

    Args:
        sort_keys: the key of each sample: numbers, tuples, or whatever can be compared.
        reverse: largest first.

    Raises:
        DataError: no keys, or keys that have no order.
    """

    def __init__(self, sort_keys: Any, reverse: bool = True) -> None:
        ranks = _ranks(sort_keys)
        self._order = np.argsort(-ranks if reverse else ranks, kind="stable")

    def __iter__(self) -> Iterator[int]:
        return iter(self._order.tolist())

    def __len__(self) -> int:
        return len(self._order)


class SortedBucketSampler(Sampler):
    """Batches from chunks of ``mult * batch_size`` samples, each of them sorted and cut into batches.

    The order is a function of (seed, epoch). ``glueball.data.DataLoader`` names each epoch; whoever iterates by hand
    calls ``set_epoch(epoch)``, or sees the same order again.

    Args:
        sort_keys: the key of each sample, most often its length: numbers, tuples, or whatever can be compared.
        batch_size: samples in a batch.
        mult: the size of a chunk in batches, at least 1. Larger: less padding, and batches that vary less.
        reverse: largest first within a chunk.
        shuffle: each epoch, other samples in a chunk, and its batches in a random order. False: the samples' own order
            is cut into chunks.
        seed: of the shuffled order.

    Raises:
        DataError: no keys, or keys that have no order.
        OptionError: another argument cannot be used.
    """

    def __init__(
        self,
        sort_keys: Any,
        batch_size: int,
        mult: float = 100,
        reverse: bool = True,
        shuffle: bool = False,
        *,
        seed: int = 0,
    ) -> None:
        batch_size = as_count("batch_size", batch_size, at_least=1)
        if isinstance(mult, bool) or not isinstance(mult, (int, float, np.number)) or not 1 <= mult < math.inf:
            raise OptionError(f"mult is a finite number of at least 1. Received: {mult!r}.")
        self.seed = as_count("seed", seed, at_least=0)
        self._shuffle = shuffle
        ranks = _ranks(sort_keys)
        self._ranks = -ranks if reverse else ranks
        self._chunk_size = int(mult * batch_size)
        count = len(ranks)
        # Where mult is no integer, a chunk ends with a smaller batch.
        self._batches = [
            (start, min(start + batch_size, end))
            for begin in range(0, count, self._chunk_size)
            for end in (min(begin + self._chunk_size, count),)
            for start in range(begin, end, batch_size)
        ]

    # No generator: the order must be that of the epoch in which iter() was called.
    def __iter__(self) -> Iterator[list[int]]:
        samples = np.arange(len(self._ranks))
        chunks = samples // self._chunk_size
        batches = self._batches
        if self._shuffle:
            random = streams.stream(self.seed, streams.ORDER, self.epoch)
            samples = random.permutation(samples)
            chunk_of_batch = np.array([start // self._chunk_size for start, _ in batches])
            order = np.lexsort((random.random(len(batches)), chunk_of_batch))
            batches = [batches[number] for number in order.tolist()]
        samples = samples[np.lexsort((self._ranks[samples], chunks))]
        return iter(sample_indices(samples, batches))

    def __len__(self) -> int:
        return len(self._batches)


def _ranks(sort_keys: Any) -> np.ndarray:
    """The place of each key among all different keys, so that any keys are sorted as integers: int64, (samples,)."""
    keys = sort_keys if isinstance(sort_keys, np.ndarray) and sort_keys.ndim else as_list("sort keys", sort_keys)
    if len(keys) == 0:
        raise DataError("A sampler needs the key of at least one sample. Received: none.")
    try:
        array = np.asarray(keys)
    except ValueError:
        array = np.empty(0, object)  # NumPy's word for rows of different size
    if array.dtype.kind in "biuf" and array.ndim in (1, 2) and 0 not in array.shape:
        columns = array.reshape(len(array), -1)
        unordered = np.flatnonzero(np.isnan(columns).any(axis=1))
        if len(unordered):
            raise DataError(f"The key of sample {unordered[0]} is not a number, and has no place in an order.")
        order = np.lexsort(columns.T[::-1])
        sorted_columns = columns[order]
        is_new = (sorted_columns[1:] != sorted_columns[:-1]).any(axis=1)
    else:
        keys = list(keys)
        try:
            order = np.array(sorted(range(len(keys)), key=keys.__getitem__), np.int64)
        except (TypeError, ValueError) as error:
            raise DataError(f"The sort keys have no order: {error}. Use numbers, or tuples of numbers.") from error
        is_new = np.array([bool(keys[a] != keys[b]) for a, b in zip(order[1:], order[:-1], strict=True)], bool)
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.concatenate([[0], np.cumsum(is_new)])
    return ranks

"""In which order samples are visited, and which of them share a batch.

A sampler's order is a function of (seed, epoch) alone. ``set_epoch`` names the epoch (the DataLoader calls it), so a
resumed run needs two integers to continue an order, and every process of a distributed run computes the same one.
"""

from __future__ import annotations

import numbers
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from itertools import chain
from typing import Any

import numpy as np

from glueball.data import streams
from glueball.errors import CheckpointError, OptionError

LAST_BATCH = ("keep", "discard", "rollover")


def as_count(name: str, value: Any, *, at_least: int) -> int:
    """``value`` as a Python integer.

    Raises:
        OptionError: it is no integer (a truth value is none, nor is 2.0), or too small.
    """
    # Counts often come from NumPy, whose integers are no int.
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < at_least:
        raise OptionError(f"{name} is an integer of at least {at_least}. Received: {value!r}.")
    return int(value)


def _length(data: int | Sized) -> int:
    length = data if isinstance(data, (int, np.integer)) else len(data)
    if length < 0:
        raise OptionError(f"A sampler expects a length of at least 0. Received: {length}.")
    return int(length)


class Sampler:
    """The base of all samplers: iterating gives the indices of one epoch."""

    seed: int = 0
    epoch: int = 0

    def set_epoch(self, epoch: int) -> None:
        """Names the epoch whose order the next iteration gives."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} defines no __iter__.")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} defines no __len__.")

    def state_dict(self) -> dict[str, int]:
        """What, besides the sampler's arguments, decides its order."""
        return {"seed": self.seed, "epoch": self.epoch}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Continues with the epoch of ``state``.

        Raises:
            CheckpointError: the state was taken with another seed, so that the orders differ.
        """
        if state.get("seed") != self.seed:
            raise CheckpointError(
                f"The order was drawn with seed {state.get('seed')}, this sampler has seed {self.seed}."
            )
        self.set_epoch(int(state["epoch"]))


class SequentialSampler(Sampler):
    """``start``, ``start + 1``, ... for as many samples as there are."""

    def __init__(self, length: int | Sized, start: int = 0) -> None:
        self._count = _length(length)
        self._start = start

    def __iter__(self) -> Iterator[int]:
        return iter(range(self._start, self._start + self._count))

    def __len__(self) -> int:
        return self._count


class RandomSampler(Sampler):
    """All samples in a new order each epoch; with ``replacement``, ``num_samples`` independent draws."""

    def __init__(
        self, length: int | Sized, seed: int = 0, *, replacement: bool = False, num_samples: int | None = None
    ) -> None:
        self._count = _length(length)
        if num_samples is not None and not replacement:
            raise OptionError("num_samples goes with replacement=True; without it each sample is drawn exactly once.")
        if replacement and self._count == 0:
            raise OptionError("Nothing can be drawn from an empty dataset.")
        self._replacement = replacement
        self._num_samples = self._count if num_samples is None else as_count("num_samples", num_samples, at_least=0)
        self.seed = as_count("seed", seed, at_least=0)

    def __iter__(self) -> Iterator[int]:
        random = streams.stream(self.seed, streams.ORDER, self.epoch)
        if self._replacement:
            return iter(random.integers(self._count, size=self._num_samples).tolist())
        return iter(random.permutation(self._count).tolist())

    def __len__(self) -> int:
        return self._num_samples


class FilterSampler(Sampler):
    """In order, the samples of which ``predicate(sample)`` is true; decided once, by one pass over the dataset."""

    def __init__(self, predicate: Callable[[Any], bool], dataset: Any) -> None:
        self._indices = [index for index in range(len(dataset)) if predicate(dataset[index])]

    def __iter__(self) -> Iterator[int]:
        return iter(self._indices)

    def __len__(self) -> int:
        return len(self._indices)


class IntervalSampler(Sampler):
    """Every ``interval``-th sample; with ``rollover``, then again from 1, from 2, ... until each was visited."""

    def __init__(self, length: int | Sized, interval: int, rollover: bool = True) -> None:
        self._count = _length(length)
        if not 1 <= interval <= max(self._count, 1):
            raise OptionError(f"interval is from 1 to the length, {self._count}. Received: {interval}.")
        self._interval = interval
        self._rollover = rollover

    def __iter__(self) -> Iterator[int]:
        starts = range(self._interval if self._rollover else 1)
        return chain.from_iterable(range(start, self._count, self._interval) for start in starts)

    def __len__(self) -> int:
        return self._count if self._rollover else len(range(0, self._count, self._interval))


class SplitSampler(Sampler):
    """One process's share of an epoch in distributed training.

    All processes compute the same order of the whole epoch and each takes every ``num_parts``-th sample of it. Step s
    of k processes with batches of b therefore sees exactly the samples that one process with batches of k * b sees.

    Args:
        length: how many samples there are, or the dataset.
        num_parts, part_index: how many processes, and which one this is.
        shuffle: a new order each epoch; False keeps the samples' own order.
        even: parts of equal length, the shorter ones filled up with samples from the epoch's start: processes that
            exchange gradients must make the same number of steps. False visits every sample exactly once. Default:
            True.
        repeat: how many times an epoch goes through the samples, each time in an order of its own.
        seed: must be the same in all processes.
        even_size: GluonNLP's name of ``even`` (and False by default there).

    Raises:
        OptionError: there is no part of that index, or another argument cannot be used.
    """

    def __init__(
        self,
        length: int | Sized,
        num_parts: int = 1,
        part_index: int = 0,
        *,
        shuffle: bool = True,
        even: bool | None = None,
        repeat: int = 1,
        seed: int = 0,
        even_size: bool | None = None,
    ) -> None:
        self._count = _length(length)
        if num_parts < 1 or not 0 <= part_index < num_parts:
            raise OptionError(
                f"SplitSampler expects 0 <= part_index < num_parts. Received: part_index={part_index}, "
                f"num_parts={num_parts}."
            )
        if even is not None and even_size is not None:
            raise OptionError("even and even_size are two names of one option; give one of them.")
        self._num_parts = num_parts
        self._part_index = part_index
        self._shuffle = shuffle
        self._even = next((given for given in (even, even_size) if given is not None), True)
        self._repeat = as_count("repeat", repeat, at_least=1)
        self.seed = as_count("seed", seed, at_least=0)

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable([self._part(self.epoch, repetition) for repetition in range(self._repeat)])

    def _part(self, epoch: int, repetition: int) -> list[int]:
        if self._shuffle:
            order = streams.stream(self.seed, streams.ORDER, epoch, repetition).permutation(self._count)
        else:
            order = np.arange(self._count)
        if self._even and self._count:
            order = np.resize(order, -(-self._count // self._num_parts) * self._num_parts)
        return order[self._part_index :: self._num_parts].tolist()

    def __len__(self) -> int:
        if self._even:
            return self._repeat * -(-self._count // self._num_parts)
        return self._repeat * len(range(self._part_index, self._count, self._num_parts))


class BatchSampler(Sampler):
    """Groups the indices of a sampler into lists of ``batch_size``.

    Args:
        sampler: what gives the indices.
        batch_size: samples in a batch.
        last_batch: what becomes of the rest at the end of an epoch: "keep" gives a smaller batch, "discard" drops it,
            "rollover" puts it in front of the next epoch. What is carried into epoch e is computed from the orders of
            the epochs before it, so that a run that resumes at e needs no other state.

    Raises:
        OptionError: the batch size is not positive or ``last_batch`` is unknown.
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, last_batch: str = "keep") -> None:
        batch_size = as_count("batch_size", batch_size, at_least=1)
        if last_batch not in LAST_BATCH:
            raise OptionError(f"last_batch is one of {', '.join(LAST_BATCH)}. Received: {last_batch!r}.")
        self._sampler = sampler
        self._batch_size = batch_size
        self._last_batch = last_batch
        self.seed = int(getattr(sampler, "seed", 0))

    @property
    def batch_size(self) -> int:
        return self._batch_size

    def set_epoch(self, epoch: int) -> None:
        super().set_epoch(epoch)
        _set_epoch(self._sampler, epoch)

    def _num_samples(self) -> int:
        return len(self._sampler) if isinstance(self._sampler, Sized) else sum(1 for _ in self._sampler)

    def _carried(self) -> list[int]:
        """What the epochs before this one left over."""
        count = self._num_samples()
        missing = self.epoch * count % self._batch_size
        carried: list[int] = []
        epoch = self.epoch
        while missing > len(carried):
            epoch -= 1
            _set_epoch(self._sampler, epoch)
            carried = list(self._sampler) + carried
        _set_epoch(self._sampler, self.epoch)
        return carried[len(carried) - missing :]

    # No generator: the order must be that of the epoch in which iter() was called.
    def __iter__(self) -> Iterator[list[int]]:
        carried = self._carried() if self._last_batch == "rollover" else []
        return self._group(carried, iter(self._sampler))

    def _group(self, batch: list[int], indices: Iterator[int]) -> Iterator[list[int]]:
        for index in indices:
            batch.append(index)
            if len(batch) == self._batch_size:
                yield batch
                batch = []
        if batch and self._last_batch == "keep":
            yield batch

    def __len__(self) -> int:
        count = self._num_samples()
        if self._last_batch == "keep":
            return -(-count // self._batch_size)
        if self._last_batch == "discard":
            return count // self._batch_size
        return (self.epoch * count % self._batch_size + count) // self._batch_size


def _set_epoch(sampler: object, epoch: int) -> None:
    # Any iterable of indices may serve as a sampler; a list has the same order in every epoch.
    set_epoch = getattr(sampler, "set_epoch", None)
    if set_epoch is not None:
        set_epoch(epoch)


def as_indices(batch: Sequence[Any]) -> list[int]:
    """The indices of a batch as Python integers.

    Raises:
        OptionError: it is no list of integers.
    """
    try:
        return [operator.index(index) for index in batch]
    except TypeError as error:
        raise OptionError(
            f"A batch sampler gives lists of integers. Received: {batch!r}. Where it gives a list of lists, one for "
            "each process, each process takes its own with sampler.shard(rank)."
        ) from error

"""Batches of sequences of similar length, drawn from buckets whose bounds are fixed beforehand.

A bucket has a key, the length that all of its samples fit into. The samples of a batch come from one bucket, so that
little of it is padding, and padding up to the key instead of the longest sample gives as few shapes as buckets. Names,
arguments and results are those of GluonNLP; only the shuffled order comes from the streams of ``glueball.data``.
"""

from __future__ import annotations

import logging
import math
import numbers
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from glueball.data import streams
from glueball.data.lengths import Length, as_key, read_lengths, sample_indices
from glueball.data.samplers import Sampler, as_count
from glueball.errors import DataError, OptionError

_logger = logging.getLogger("glueball.data")


class BucketScheme:
    """How bucket keys are chosen from the longest and the shortest length.

    A subclass defines ``keys``; for samples of several sequences it is asked once for each of them. Any callable
    ``(max_lengths, min_lengths, num_buckets) -> keys`` may stand in its place.
    """

    def __call__(self, max_lengths: Any, min_lengths: Any, num_buckets: int) -> list[Length]:
        """Keys in no certain order, some of them possibly equal; integers, or tuples as the lengths are.

        Args:
            max_lengths, min_lengths: the largest and smallest length: an integer, or one for each sequence of a sample.
            num_buckets: how many keys.
        """
        if isinstance(max_lengths, (int, np.integer)):
            return list(self.keys(int(max_lengths), int(min_lengths), num_buckets))
        columns = [
            self.keys(int(longest), int(shortest), num_buckets)
            for longest, shortest in zip(max_lengths, min_lengths, strict=True)
        ]
        return list(zip(*columns, strict=True))

    def keys(self, longest: int, shortest: int, num_buckets: int) -> list[int]:
        """``num_buckets`` keys for one sequence of a sample; the largest is at least ``longest``."""
        raise NotImplementedError(f"{type(self).__name__} defines no keys().")


class ConstWidthBucket(BucketScheme):
    """All buckets are equally wide."""

    def keys(self, longest: int, shortest: int, num_buckets: int) -> list[int]:
        width = max((1 + longest - shortest) // num_buckets, 1)
        return [max(longest - width * number, shortest) for number in range(num_buckets)]


class LinearWidthBucket(BucketScheme):
    """Each bucket is wider than the one before by the same amount: long sequences are rarer."""

    def keys(self, longest: int, shortest: int, num_buckets: int) -> list[int]:
        slope = 2 * float(longest - shortest - num_buckets) / (num_buckets * (num_buckets + 1))
        keys = [
            # The sum of the first widths, added up in GluonNLP's order: rounding decides where a half goes.
            round(shortest + slope * (((number + 1) * (number + 2)) / 2) + number + 1)
            for number in range(num_buckets)
        ]
        keys[-1] = max(keys[-1], longest)
        return keys


class ExpWidthBucket(BucketScheme):
    """Each bucket is wider than the one before by the same factor.

    Args:
        bucket_len_step: that factor; positive, and not 1, which is ``ConstWidthBucket``.

    Raises:
        OptionError: the factor cannot be used, or its power ``num_buckets`` is no finite number.
    """

    def __init__(self, bucket_len_step: float = 1.1) -> None:
        if not _is_number(bucket_len_step) or not 0 < bucket_len_step < math.inf or bucket_len_step == 1:
            raise OptionError(
                f"bucket_len_step is a positive number other than 1. Received: {bucket_len_step!r}. Buckets of one "
                "width are ConstWidthBucket()."
            )
        self.bucket_len_step = bucket_len_step

    def keys(self, longest: int, shortest: int, num_buckets: int) -> list[int]:
        step = self.bucket_len_step
        try:
            first = (longest - shortest) * (step - 1) / (math.pow(step, num_buckets) - 1)
        except OverflowError as error:
            raise OptionError(
                f"{num_buckets} buckets that grow by {step} each reach no finite width; use fewer or a smaller factor."
            ) from error
        keys = [
            # The sum of the first widths, a geometric series.
            round(shortest + first * (math.pow(step, number) - 1) / (step - 1))
            for number in range(1, num_buckets + 1)
        ]
        keys[-1] = max(keys[-1], longest)
        return keys


_CONST_WIDTH = ConstWidthBucket()


class FixedBucketSampler(Sampler):
    """Batches of samples from one bucket each; a bucket holds the samples that fit its key and no smaller one.

    The order is a function of (seed, epoch). ``glueball.data.DataLoader`` names each epoch; whoever iterates by hand
    calls ``set_epoch(epoch)``, or sees the same order again.

    Args:
        lengths: the length of each sample: an integer, or a tuple of one size for samples of several sequences; any
            sequence, such as ``dataset.transform(lambda tokens, label: len(tokens))``.
        batch_size: samples in a batch; with ``use_average_length``, about how many elements.
        num_buckets: how many keys ``bucket_scheme`` chooses. Not used with ``bucket_keys``.
        bucket_keys: the keys themselves. A sample goes into the bucket, of those whose key is in no place below its
            length, where it leaves least padding.
        ratio: with ratio r, a bucket of key k has batches of max(batch_size, r * batch_size * K / k), K the largest
            key (of tuples: their sums): short sequences come in larger batches. Ignored with ``use_average_length``.
        shuffle: each epoch, a new order of the batches and of the samples within a bucket. False: longest bucket first.
        use_average_length: the batches of a bucket have max(1, batch_size / (mean + standard deviation of its lengths))
            samples.
        num_shards: with k > 0, give k batches at a time, as a list of k lists; the last group goes back as far as it
            must to be full, so that up to k - 1 batches are seen twice. One process of k takes ``shard(rank)``.
        bucket_scheme: ``ConstWidthBucket``, ``LinearWidthBucket``, ``ExpWidthBucket``, or any callable as they are.
        seed: of the shuffled order.

    Buckets that stay empty are removed.

    Raises:
        DataError: lengths that cannot be used, or a sample that fits into none of the buckets; it names the index.
        OptionError: another argument cannot be used, or there are fewer batches than shards.
    """

    def __init__(
        self,
        lengths: Any,
        batch_size: int,
        num_buckets: int | None = 10,
        bucket_keys: Sequence[Length] | None = None,
        ratio: float = 0,
        shuffle: bool = False,
        use_average_length: bool = False,
        num_shards: int = 0,
        bucket_scheme: Callable[[Any, Any, int], Sequence[Length]] = _CONST_WIDTH,
        *,
        seed: int = 0,
    ) -> None:
        batch_size = as_count("batch_size", batch_size, at_least=1)
        if not _is_number(ratio) or not 0 <= ratio < math.inf:
            raise OptionError(f"ratio is a finite number of at least 0. Received: {ratio!r}.")
        self._num_shards = as_count("num_shards", num_shards, at_least=0)
        self.seed = as_count("seed", seed, at_least=0)
        self._shuffle = shuffle
        array = read_lengths(lengths)
        if bucket_keys is None:
            num_buckets = as_count("num_buckets", num_buckets, at_least=1)
            chosen = bucket_scheme(as_key(array.max(axis=0)), as_key(array.min(axis=0)), num_buckets)
        else:
            chosen = bucket_keys
        keys = _sorted_keys(chosen, array)
        bucket_of = _assign(keys, array)
        counts = np.bincount(bucket_of, minlength=len(keys))
        unused = [as_key(key) for key in keys[counts == 0]]
        if unused:
            level = logging.INFO if bucket_keys is None else logging.WARNING
            _logger.log(level, "No sample needs the buckets with keys %s; they are removed.", unused)
        # Stable, so that without shuffling the samples of a bucket keep their own order.
        self._members = np.argsort(bucket_of, kind="stable")
        keys, counts = keys[counts > 0], counts[counts > 0]
        self._bounds = np.concatenate([[0], np.cumsum(counts)]).tolist()
        self._bucket_keys = [as_key(key) for key in keys]
        if use_average_length:
            if ratio > 0:
                _logger.warning("ratio=%g is not used with use_average_length=True.", ratio)
            self._batch_sizes = [
                max(int(batch_size / (np.mean(part) + np.std(part))), 1)
                for part in (array[self._members[start:end]] for start, end in self._buckets())
            ]
        else:
            # Products in GluonNLP's order: rounding decides the last sample of a batch.
            totals = [sum(key) if isinstance(key, tuple) else key for key in self._bucket_keys]
            self._batch_sizes = [max(int(max(totals) / total * ratio * batch_size), batch_size) for total in totals]
        # Part of self._members that each batch takes: longest bucket first.
        self._batches = [
            (start, min(start + size, end))
            for (begin, end), size in zip(reversed(self._buckets()), reversed(self._batch_sizes), strict=True)
            for start in range(begin, end, size)
        ]
        if len(self._batches) < self._num_shards:
            raise OptionError(
                f"{len(self._batches)} batches cannot be dealt out to {num_shards} shards. Use a smaller batch_size or "
                "fewer shards."
            )

    @property
    def bucket_keys(self) -> list[Length]:
        """The keys of the buckets that hold samples, smallest first."""
        return list(self._bucket_keys)

    @property
    def bucket_counts(self) -> list[int]:
        """How many samples each bucket holds, in the order of the keys."""
        return [end - start for start, end in self._buckets()]

    @property
    def bucket_batch_sizes(self) -> list[int]:
        """Samples in a batch of each bucket, in the order of the keys."""
        return list(self._batch_sizes)

    @property
    def num_shards(self) -> int:
        """How many batches are given at a time, as a list of lists; 0: one, as a list of indices."""
        return self._num_shards

    def stats(self) -> str:
        """Numbers of samples and batches, and key, samples and batch size of each bucket, in words."""
        return (
            f"{type(self).__name__}:\n"
            f"  sample_num={len(self._members)}, batch_num={len(self._batches)}\n"
            f"  key={self._bucket_keys}\n"
            f"  cnt={self.bucket_counts}\n"
            f"  batch_size={self._batch_sizes}"
        )

    def shard(self, index: int) -> Sampler:
        """The batches of one shard, as lists of indices: what one of ``num_shards`` processes trains on.

        All shards have the same number of batches. Every process makes the same sampler and takes its own shard.

        Raises:
            OptionError: there is no shard of that index.
        """
        if not isinstance(index, (int, np.integer)) or not 0 <= index < self._num_shards:
            raise OptionError(
                f"shard expects 0 <= index < num_shards. Received: index={index!r}, num_shards={self._num_shards}."
            )
        return _Shard(self, int(index))

    def _buckets(self) -> list[tuple[int, int]]:
        return list(zip(self._bounds[:-1], self._bounds[1:], strict=True))

    def _epoch_order(self, epoch: int) -> tuple[np.ndarray, list[tuple[int, int]]]:
        """All samples, and the part of them that each batch takes."""
        if not self._shuffle:
            return self._members, self._batches
        random = streams.stream(self.seed, streams.ORDER, epoch)
        order = random.permutation(len(self._batches)).tolist()
        members = self._members.copy()
        for start, end in self._buckets():
            random.shuffle(members[start:end])
        return members, [self._batches[number] for number in order]

    def _groups(self, epoch: int) -> tuple[np.ndarray, list[list[tuple[int, int]]]]:
        members, batches = self._epoch_order(epoch)
        last = len(batches) - self._num_shards
        starts = (min(start, last) for start in range(0, len(batches), self._num_shards))
        return members, [batches[start : start + self._num_shards] for start in starts]

    # No generator: the order must be that of the epoch in which iter() was called.
    def __iter__(self) -> Iterator[Any]:
        if self._num_shards == 0:
            return iter(sample_indices(*self._epoch_order(self.epoch)))
        members, groups = self._groups(self.epoch)
        return (list(sample_indices(members, group)) for group in groups)

    def __len__(self) -> int:
        return -(-len(self._batches) // max(self._num_shards, 1))


class _Shard(Sampler):
    def __init__(self, whole: FixedBucketSampler, index: int) -> None:
        self._whole = whole
        self._index = index
        self.seed = whole.seed

    def __iter__(self) -> Iterator[list[int]]:
        members, groups = self._whole._groups(self.epoch)
        return iter(sample_indices(members, [group[self._index] for group in groups]))

    def __len__(self) -> int:
        return len(self._whole)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def _sorted_keys(keys: Any, lengths: np.ndarray) -> np.ndarray:
    """Different keys in ascending order, in the shape of the lengths."""
    try:
        array = read_lengths(keys)
    except DataError as error:
        raise OptionError(
            f"Bucket keys are integers of at least 1, or tuples of them; at least one key. Received: {keys!r}."
        ) from error
    if array.shape[1:] != lengths.shape[1:]:
        raise OptionError(
            f"A bucket key looks like a length. Received: keys such as {as_key(array[0])}, lengths such as "
            f"{as_key(lengths[0])}."
        )
    return np.unique(array, axis=0)


def _assign(keys: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The bucket of each sample: of those it fits into, the one that leaves least padding; of equals, the first.

    Args:
        keys: (buckets,) or (buckets, sequences), ascending.
        lengths: (samples,) or (samples, sequences).

    Raises:
        DataError: a sample fits into no bucket.
    """
    if keys.ndim == 1:
        bucket_of = np.searchsorted(keys, lengths)
    else:
        bucket_of = np.full(len(lengths), len(keys))
        # The padding is the key's sum less the length's: from large sums to small ones, what fits is better and better.
        for number in np.argsort(keys.sum(axis=1), kind="stable")[::-1].tolist():
            bucket_of[(lengths <= keys[number]).all(axis=1)] = number
    homeless = np.flatnonzero(bucket_of == len(keys))
    if len(homeless):
        others = f", like {len(homeless) - 1} others" if len(homeless) > 1 else ""
        raise DataError(
            f"Sample {homeless[0]} has length {as_key(lengths[homeless[0]])} and fits into none of the buckets{others}."
            f" Keys: {[as_key(key) for key in keys]}. Give a key that is large enough, or clip the sequences."
        )
    return bucket_of

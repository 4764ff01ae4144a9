"""Batches that hold about the same number of tokens, whatever the length of the sequences.

Memory and time of a step follow the size of the padded arrays, not the number of samples: a budget of tokens keeps
both even, with many short sequences in one batch and few long ones in another (as fairseq's ``--max-tokens`` does).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from glueball.data import streams
from glueball.data.lengths import as_key, read_lengths, sample_indices
from glueball.data.samplers import Sampler, as_count
from glueball.errors import DataError, OptionError

TOO_LONG = ("raise", "alone")


class TokenBudgetSampler(Sampler):
    """Batches of similar length of which none has more than ``max_tokens`` elements after padding.

    Samples are sorted, longest first, and each batch takes as many as fit. Samples of equal length take each other's
    places from epoch to epoch; how many batches there are and how long they are stays the same, so that the length of
    a training run is known. The order is a function of (seed, epoch). ``glueball.data.DataLoader`` names each epoch;
    whoever iterates by hand calls ``set_epoch(epoch)``, or sees the same order again.

    Args:
        lengths: the length of each sample: an integer, or a tuple of one size for samples of several sequences; any
            sequence, such as ``dataset.transform(lambda tokens, label: len(tokens))``.
        max_tokens: samples times the longest length of a batch is at most this. For tuples it is samples times the sum
            of the longest lengths: all padded arrays of a batch together.
        max_samples: at most this many samples in a batch; default: any number.
        shuffle: each epoch, a new order of the batches and of samples of equal length. False: longest first.
        too_long: what becomes of a sample that is longer than the budget: "raise" says which one it is, "alone" makes
            it a batch of its own, the only kind that exceeds the budget.
        round_to: the ``round_to`` that ``batchify.Pad`` has, so that the budget counts the padded lengths as they will
            be. Samples count as equally long when their rounded lengths are equal.
        seed: of the shuffled order.

    Raises:
        DataError: lengths that cannot be used, or a sample longer than the budget; it names the index.
        OptionError: another argument cannot be used.
    """

    def __init__(
        self,
        lengths: Any,
        max_tokens: int,
        max_samples: int | None = None,
        shuffle: bool = False,
        *,
        too_long: str = "raise",
        round_to: int | None = None,
        seed: int = 0,
    ) -> None:
        self._max_tokens = as_count("max_tokens", max_tokens, at_least=1)
        if max_samples is not None:
            max_samples = as_count("max_samples", max_samples, at_least=1)
        if too_long not in TOO_LONG:
            raise OptionError(f"too_long is one of {', '.join(TOO_LONG)}. Received: {too_long!r}.")
        self.seed = as_count("seed", seed, at_least=0)
        self._shuffle = shuffle
        array = read_lengths(lengths)
        padded = array.reshape(len(array), -1)
        if round_to is not None:
            round_to = as_count("round_to", round_to, at_least=1)
            padded = -(-padded // round_to) * round_to
        costs = padded.sum(axis=1)
        over = np.flatnonzero(costs > max_tokens)
        if len(over) and too_long == "raise":
            worst = over[np.argmax(costs[over])]
            raise DataError(
                f"Sample {over[0]} has length {as_key(array[over[0]])}, more than max_tokens={max_tokens}; "
                f"{len(over)} of {len(array)} samples are too long, the longest is sample {worst} with length "
                f'{as_key(array[worst])}. Raise max_tokens, clip the sequences, or give too_long="alone".'
            )
        self._samples = np.lexsort(-padded.T[::-1])
        ordered = padded[self._samples]
        # Samples of equal length lie side by side, and have one number.
        self._length_numbers = np.concatenate([[0], np.cumsum((ordered[1:] != ordered[:-1]).any(axis=1))])
        self._batches = _pack(ordered, self._max_tokens, max_samples or len(array))

    # No generator: the order must be that of the epoch in which iter() was called.
    def __iter__(self) -> Iterator[list[int]]:
        samples, batches = self._samples, self._batches
        if self._shuffle:
            random = streams.stream(self.seed, streams.ORDER, self.epoch)
            order = random.permutation(len(batches)).tolist()
            batches = [batches[number] for number in order]
            samples = samples[np.lexsort((random.random(len(samples)), self._length_numbers))]
        return iter(sample_indices(samples, batches))

    def __len__(self) -> int:
        return len(self._batches)


def _pack(lengths: np.ndarray, max_tokens: int, max_samples: int) -> list[tuple[int, int]]:
    """Start and end of each batch; one that starts with a sample beyond the budget ends with it.

    Args:
        lengths: (samples, sequences), descending.
    """
    batches = []
    start, count = 0, len(lengths)
    while start < count:
        # No batch with this sample can hold more.
        most = min(max(max_tokens // int(lengths[start].sum()), 1), max_samples, count - start)
        size = most
        if lengths.shape[1] > 1 and most > 1:
            # The second sequences of a batch are not sorted: see how its padded size grows.
            longest = np.maximum.accumulate(lengths[start : start + most], axis=0)
            tokens = longest.sum(axis=1) * np.arange(1, most + 1)
            size = max(int(np.searchsorted(tokens, max_tokens, side="right")), 1)
        batches.append((start, start + size))
        start += size
    return batches

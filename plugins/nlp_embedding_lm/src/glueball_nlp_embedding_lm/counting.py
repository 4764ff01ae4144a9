"""From text to counts and parts: what happens to tokens before they have a vocabulary.

Names and results are those of GluonNLP, except that a split into training and validation data is reproducible.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import attrs
import numpy as np

from glueball.data import Dataset, SimpleDataset
from glueball.errors import DataError, OptionError

_T = TypeVar("_T")


class Counter(collections.Counter[str]):
    """A ``collections.Counter`` of tokens.

    Example:
        >>> Counter(["a", "a", "b"]).discard(2, "<unk>")
        Counter({'a': 2, '<unk>': 1})
    """

    def discard(self, min_freq: float, unknown_token: str) -> Counter:
        """A new counter in which the tokens seen less than ``min_freq`` times are counted as ``unknown_token``."""
        kept = Counter()
        rare = 0
        for token, count in self.items():
            if count < min_freq:
                rare += count
            else:
                kept[token] = count
        kept[unknown_token] = kept.get(unknown_token, 0) + rare
        return kept


def count_tokens(tokens: Iterable[str], to_lower: bool = False, counter: Counter | None = None) -> Counter:
    """Counts tokens.

    Args:
        tokens: of one text or of many. A string is refused, since its tokens would be its letters.
        to_lower: count them in lower case.
        counter: one to go on with, which is changed; default: a new one.

    Returns:
        The counter.

    Raises:
        DataError: ``tokens`` is a string, or holds something that is no string. A given counter is then as before.
    """
    if isinstance(tokens, (str, bytes)):
        raise DataError(
            f"count_tokens expects a list of tokens. Received a text: {tokens[:40]!r}. Call a tokeniser first."
        )
    counts: collections.Counter[str] = collections.Counter()
    try:
        counts.update(map(str.lower, tokens) if to_lower else tokens)
    except TypeError as error:
        raise DataError(f"count_tokens expects strings, not lists of them or anything else: {error}.") from error
    for token in counts:
        if not isinstance(token, str):
            raise DataError(f"count_tokens expects strings. Received: {token!r} ({type(token).__name__}).")
    if counter is None:
        return Counter(counts)
    counter.update(counts)
    return counter


def concat_sequence(sequences: Iterable[Iterable[_T]]) -> list[_T]:
    """All elements of all sequences, in one list."""
    return list(itertools.chain.from_iterable(sequences))


def slice_sequence(
    sequence: Sequence[Any], length: int, pad_last: bool = False, pad_val: Any = "<pad>", overlap: int = 0
) -> list[Any]:
    """Cuts a sequence into slices of ``length``.

    Args:
        sequence: a list, tuple or array.
        length: of each slice.
        pad_last: fill the last slice up with ``pad_val``; without it, a last slice that is too short is dropped.
        pad_val: what fills up.
        overlap: how many elements a slice shares with the one before it.

    Returns:
        A list of slices, each of the type of ``sequence`` (one that is filled up is a list).

    Raises:
        OptionError: ``length`` is not positive, or ``overlap`` is not within 0 and ``length`` - 1.
    """
    if length < 1:
        raise OptionError(f"slice_sequence expects a length of at least 1. Received: {length}.")
    if not 0 <= overlap < length:
        raise OptionError(
            f"slice_sequence expects an overlap from 0 to length - 1 = {length - 1}, or it would not move on. "
            f"Received: {overlap}."
        )
    step = length - overlap
    count = len(sequence)
    whole = max(0, (count - overlap) // step)
    slices = [sequence[step * position : step * position + length] for position in range(whole)]
    covered = step * whole + overlap if whole else 0
    if pad_last and covered < count:
        rest = list(sequence[step * whole :])
        slices.append(rest + [pad_val] * (length - len(rest)))
    return slices


def train_valid_split(
    dataset: Any,
    valid_ratio: float = 0.05,
    stratify: bool | Sequence[Any] | np.ndarray | None = None,
    seed: int = 0,
) -> tuple[Dataset, Dataset]:
    """Divides a dataset into one to train on and one to validate with.

    Args:
        dataset: a ``glueball.data.Dataset``, or any sequence of samples.
        valid_ratio: the share of the samples to validate with, above 0 and below 1.
        stratify: the class of each sample (or True to ask the dataset), so that every class is divided by that share.
        seed: the same seed gives the same parts on every machine.

    Returns:
        Training data and validation data; they share no sample and together are all of them.

    Raises:
        OptionError: the ratio is not between 0 and 1, or the classes are not as many as the samples.
        DataError: there are fewer than two samples.
    """
    data = dataset if isinstance(dataset, Dataset) else SimpleDataset(dataset)
    valid, train = data.split(valid_ratio, seed=seed, stratify=False if stratify is None else stratify)
    return train, valid


@attrs.frozen
class Splitter:
    """Cuts a text at each ``separator``; None cuts at runs of white space and gives no empty parts.

    Raises:
        OptionError: the separator is empty or no string.
    """

    separator: str | None = None

    def __attrs_post_init__(self) -> None:
        if self.separator is not None and (not isinstance(self.separator, str) or not self.separator):
            raise OptionError(
                f"Splitter expects a separator of at least one character, or None. Received: {self.separator!r}."
            )

    def __call__(self, text: str) -> list[str]:
        return text.split(self.separator)


def line_splitter(text: str) -> list[str]:
    """The lines of a text, without their ends; an empty line is an empty string."""
    return text.splitlines()


def whitespace_splitter(text: str) -> list[str]:
    """What stands between runs of white space."""
    return text.split()

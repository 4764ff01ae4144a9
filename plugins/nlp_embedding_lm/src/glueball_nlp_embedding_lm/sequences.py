"""Sequences of tokens or numbers cut, filled up and put together: what comes between a tokeniser and a batch.

Lists stay lists and arrays stay arrays of their type; what comes in is never changed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import attrs
import numpy as np

from glueball.errors import DataError, OptionError


def _check_length(instance: Any, attribute: Any, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
        raise OptionError(
            f"{type(instance).__name__}: expected {attribute.name} as a whole number of at least 1. "
            f"Received: {value!r}."
        )


def _checked(sequence: Any, expecting: object) -> Any:
    if isinstance(sequence, tuple):
        return list(sequence)
    if isinstance(sequence, list) or (isinstance(sequence, np.ndarray) and sequence.ndim):
        return sequence
    raise DataError(
        f"{type(expecting).__name__} expects a list, a tuple or an array. Received: {sequence!r:.80} "
        f"({type(sequence).__name__})."
    )


@attrs.frozen
class ClipSequence:
    """Cuts what is longer than ``length`` off the end; arrays are cut along their first axis.

    Args:
        length: the largest length that remains, at least 1.
    """

    length: int = attrs.field(validator=_check_length)

    def __call__(self, sequence: Any) -> Any:
        """The first ``length`` elements, or all where there are fewer: a list, or an array (length, ...)."""
        return _checked(sequence, self)[: self.length]


@attrs.frozen
class PadSequence:
    """Makes sequences ``length`` long; arrays are filled up along their first axis.

    Args:
        length: of the result, at least 1.
        pad_val: what fills up at the end.
        clip: cut what is longer; False leaves it as long as it is.
    """

    length: int = attrs.field(validator=_check_length)
    pad_val: Any = 0
    clip: bool = True

    def __call__(self, sequence: Any) -> Any:
        """A list of ``length`` elements, or an array (length, ...) of the type that came in.

        Raises:
            DataError: the array's type cannot hold ``pad_val``, so that another value would stand there.
        """
        sequence = _checked(sequence, self)
        missing = self.length - len(sequence)
        if missing <= 0:
            return sequence[: self.length] if self.clip else sequence[:]
        if isinstance(sequence, list):
            return sequence + [self.pad_val] * missing
        padded = np.empty((self.length, *sequence.shape[1:]), sequence.dtype)
        padded[: len(sequence)] = sequence
        padded[len(sequence) :] = self._as(sequence.dtype)
        return padded

    def _as(self, dtype: np.dtype) -> np.ndarray:
        """What fills up in that type."""
        value = np.asarray(self.pad_val)
        try:
            with np.errstate(all="ignore"):
                converted = value.astype(dtype)
            # A float is rounded to the array's precision; anything else must be the very value.
            fits = (dtype.kind in "fc" and value.dtype.kind in "biufc") or bool(np.all(converted == value))
        except (TypeError, ValueError, OverflowError):
            fits = False
        if not fits:
            raise DataError(
                f"PadSequence fills up with {self.pad_val!r}, which an array of {dtype} cannot hold. "
                "Convert the array first, or give another pad_val."
            )
        return converted


def truncate_equal(sequences: Sequence[Sequence[Any]], max_length: int) -> list[Sequence[Any]]:
    """Cuts ends off until the sequences together are no longer than ``max_length``.

    The longest gives way, element by element, and among equals the last of them: what is shorter than its share stays
    whole. This is how pairs of sentences are made to fit (Devlin et al., arXiv:1810.04805).

    Args:
        sequences: one or more, such as a question and a paragraph.
        max_length: of all together, at least 0; special tokens that are added later need room of their own.

    Returns:
        The sequences, in their order, each cut where it had to be.

    Raises:
        OptionError: ``max_length`` is negative.
    """
    if max_length < 0:
        raise OptionError(f"truncate_equal expects a max_length of at least 0. Received: {max_length}.")
    lengths = [len(sequence) for sequence in sequences]
    # The length that the longest are cut down to: what the shorter ones leave is shared by those that are longer.
    level, left = max(lengths, default=0), max_length
    for done, length in enumerate(sorted(lengths)):
        share = left // (len(lengths) - done)
        if length > share:
            level = share
            break
        left -= length
    spare = max_length - sum(min(length, level) for length in lengths)
    cut = []
    for sequence, length in zip(sequences, lengths, strict=True):
        # What cannot be shared out evenly goes to the first of the longest.
        extra = length > level and spare > 0
        spare -= extra
        cut.append(sequence[: level + extra])
    return cut


class Concatenated(NamedTuple):
    """What ``concat_with_separators`` gives; the three are of one length."""

    tokens: list[Any]
    """All elements, separators among them."""
    segment_ids: list[int]
    """Which of the sequences each belongs to, from 0; a separator belongs to the sequence before it."""
    is_special: list[int]
    """1 for separators and what was put in front, 0 for elements of the sequences."""


def concat_with_separators(
    sequences: Sequence[Sequence[Any]], separators: Sequence[Sequence[Any]] | None = None, first: Sequence[Any] = ()
) -> Concatenated:
    """Puts sequences one after the other, each followed by its separator.

    Args:
        sequences: of tokens or of indices.
        separators: what comes after each of them, as a list of elements, which may be empty; None for nothing.
        first: what comes before all, in the first segment.

    Raises:
        OptionError: there are not as many separators as sequences, or one is no list.

    Example:
        >>> concat_with_separators([["how", "?"], ["so"]], [["[SEP]"], ["[SEP]"]], ["[CLS]"])
        Concatenated(tokens=['[CLS]', 'how', '?', '[SEP]', 'so', '[SEP]'], segment_ids=[0, 0, 0, 0, 1, 1], \
is_special=[1, 0, 0, 1, 0, 1])
    """
    after = [()] * len(sequences) if separators is None else list(separators)
    if len(after) != len(sequences):
        raise OptionError(
            f"concat_with_separators expects a separator for each of {len(sequences)} sequences. "
            f"Received: {len(after)}. A sequence without one has an empty list."
        )
    for separator in (*after, first):
        if isinstance(separator, (str, bytes)) or not isinstance(separator, Sequence):
            raise OptionError(
                f"concat_with_separators expects lists of elements, such as ['[SEP]']. Received: {separator!r}."
            )
    tokens, segment_ids, is_special = list(first), [0] * len(first), [1] * len(first)
    for segment, (sequence, separator) in enumerate(zip(sequences, after, strict=True)):
        tokens += [*sequence, *separator]
        segment_ids += [segment] * (len(sequence) + len(separator))
        is_special += [0] * len(sequence) + [1] * len(separator)
    return Concatenated(tokens, segment_ids, is_special)

"""Parts of words as indices: bytes, and the hashed n-grams of fastText.

Both kinds of hashes are those of Facebook's fastText, bit for bit, so that its rows can be used: FNV-1a over the bytes
of UTF-8, of which each is taken for a signed number, as fastText's C++ does on the machines that it was written for
(Bojanowski et al., arXiv:1607.04606; Joulin et al., arXiv:1607.01759).

All characters of all words are hashed at once, in NumPy.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import numpy as np

from glueball.errors import DataError, OptionError

_OFFSET = np.uint32(2166136261)
_PRIME = np.uint32(16777619)
# Up to so many n-grams a loop in Python is faster than NumPy.
_LOOPED = 200
_WORD_FACTOR = 116049371

# Bytes above 127 are negative as signed numbers, and wider they have 24 more ones in front.
_BYTES = np.arange(256, dtype=np.uint8).view(np.int8).astype(np.int32).view(np.uint32)


def _encoded(words: Sequence[str]) -> list[bytes]:
    if isinstance(words, (str, bytes)):
        raise DataError(f"Expected a list of words. Received a text: {words[:40]!r}. Split it first.")
    try:
        return [word.encode("utf-8") for word in words]
    except UnicodeEncodeError as error:
        raise DataError(f"A word cannot be written in UTF-8: {error.object!r:.80} ({error.reason}).") from error
    except AttributeError as error:
        raise DataError(f"Words are strings. Received: {words!r:.80}.") from error


def hash_words(words: Sequence[str]) -> np.ndarray:
    """fastText's 32-bit hash of each word: uint32, (number of words,).

    Raises:
        DataError: a word is no string, or holds half a surrogate pair.
    """
    encoded = _encoded(words)
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    numbers = _BYTES[np.frombuffer(b"".join(encoded), np.uint8)]
    starts = np.cumsum(lengths) - lengths
    hashes = np.full(len(encoded), _OFFSET, np.uint32)
    # From the longest, so that those that still have a byte are always a prefix.
    order = np.argsort(-lengths, kind="stable")
    starts, lengths = starts[order], lengths[order]
    ordered = hashes[order]
    remaining = np.searchsorted(-lengths, -np.arange(1, int(lengths[0]) + 1 if len(lengths) else 1), side="right")
    for at, count in enumerate(remaining.tolist()):
        ordered[:count] = (ordered[:count] ^ numbers[starts[:count] + at]) * _PRIME
    hashes[order] = ordered
    return hashes


def _whole(lowest: int) -> Any:
    def check(instance: Any, attribute: Any, value: Any) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < lowest:
            raise OptionError(
                f"{type(instance).__name__}: expected {attribute.name} as a whole number of at least {lowest}. "
                f"Received: {value!r}."
            )

    return check


class ByteSubwords:
    """The bytes of a word in UTF-8 as its parts: 256 of them are enough for all words of all languages."""

    def __len__(self) -> int:
        """How many different parts there are."""
        return 256

    def __call__(self, words: Sequence[str]) -> list[np.ndarray]:
        """The bytes of each word: uint8, (number of bytes,).

        Raises:
            DataError: a word is no string, or holds half a surrogate pair.
        """
        return [np.frombuffer(word, np.uint8) for word in _encoded(words)]

    def indices_to_subwords(self, indices: Iterable[int]) -> list[int]:
        """The parts themselves, which are their indices."""
        return list(indices)

    def subwords_to_indices(self, subwords: Iterable[int]) -> list[int]:
        """The indices of parts, which are the parts themselves."""
        return list(subwords)


def _sizes(ngrams: Iterable[int]) -> tuple[int, ...]:
    sizes = tuple(ngrams)
    if not sizes or not all(isinstance(n, (int, np.integer)) and not isinstance(n, bool) and n > 0 for n in sizes):
        raise OptionError(f"ngrams are whole numbers of at least 1, such as (3, 4, 5, 6). Received: {sizes!r}.")
    return tuple(sorted({int(n) for n in sizes}))


def _as_set(tokens: Iterable[str] | None) -> frozenset[str]:
    if isinstance(tokens, str):
        raise OptionError(f"special_tokens is a list of tokens. Received a text: {tokens!r}.")
    return frozenset(tokens or ())


@attrs.frozen
class NGramHashes:
    """The character n-grams of ``<word>`` as its parts, each hashed into one of ``num_subwords`` buckets.

    Single characters (n = 1) are those of the word only, not the signs that mark its ends. The order is that of
    fastText: by first character, then by length.

    Args:
        num_subwords: how many buckets; fastText's published vectors have 2,000,000.
        ngrams: the lengths, in characters.
        special_tokens: tokens that have no parts, such as ``<unk>``.

    Raises:
        OptionError: an argument cannot be used.

    Example:
        >>> NGramHashes(2_000_000, ngrams=(3,))(["to"])[0].tolist()
        [818294, 1798126]
    """

    num_subwords: int = attrs.field(validator=_whole(1))
    ngrams: tuple[int, ...] = attrs.field(default=(3, 4, 5, 6), converter=_sizes)
    special_tokens: frozenset[str] = attrs.field(default=frozenset(), converter=_as_set)

    def __len__(self) -> int:
        """How many different parts there are."""
        return int(self.num_subwords)

    def __call__(self, words: Sequence[str]) -> list[np.ndarray]:
        """The buckets of each word's n-grams: int64, (number of its n-grams,), which may be none.

        Raises:
            DataError: a word is no string, or holds half a surrogate pair.
        """
        indices, counts = self.flat(words)
        return np.split(indices, np.cumsum(counts)[:-1]) if len(counts) else []

    def flat(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """As a call, in one piece: the buckets of all words (int64), and how many each word has (int64, (words,)).

        Raises:
            DataError: a word is no string, or holds half a surrogate pair.
        """
        encoded = _encoded(words)
        marked = [
            b"" if word in self.special_tokens else b"<%b>" % parts for word, parts in zip(words, encoded, strict=True)
        ]
        data = np.frombuffer(b"".join(marked), np.uint8)
        # A byte 10xxxxxx goes on with the character before it.
        starts = np.flatnonzero((data & 0xC0) != 0x80)
        widths = np.diff(starts, append=len(data))
        word_ends = np.cumsum(np.fromiter(map(len, marked), np.int64, len(marked)))
        word_of = np.searchsorted(word_ends, starts, side="right")
        # In characters: where each word ends, and where each character stands in its word.
        ends = np.searchsorted(starts, word_ends, side="left")
        places = np.arange(len(starts))
        left = ends[word_of] - places if len(starts) else places
        is_first = np.ones(len(starts), bool)
        is_first[1:] = word_of[1:] != word_of[:-1]

        numbers = np.append(_BYTES[data], np.zeros(4, np.uint32))
        longest = self.ngrams[-1]
        hashes = np.zeros((len(starts), len(self.ngrams)), np.uint32)
        exists = np.zeros(hashes.shape, bool)
        running = np.full(len(starts), _OFFSET, np.uint32)
        for length in range(1, longest + 1):
            alive = left >= length
            if not alive.any():
                break
            # The character that makes the n-grams longer by one; those that have reached the end stay as they are.
            character = np.minimum(places + length - 1, len(starts) - 1)
            for byte in range(int(widths.max())):
                active = np.flatnonzero(alive & (widths[character] > byte))
                running[active] = (running[active] ^ numbers[starts[character[active]] + byte]) * _PRIME
            if length in self.ngrams:
                column = self.ngrams.index(length)
                hashes[:, column] = running
                exists[:, column] = alive & ~is_first & (left > 1) if length == 1 else alive
        counts = np.bincount(word_of, weights=exists.sum(axis=1), minlength=len(marked)).astype(np.int64)
        return (hashes[exists] % np.uint32(self.num_subwords)).astype(np.int64), counts

    def indices_to_subwords(self, indices: Iterable[int]) -> list[str]:
        """Not possible.

        Raises:
            OptionError: always: many n-grams share a bucket.
        """
        raise OptionError("The n-gram of a bucket cannot be told: a hash has no inverse, and n-grams share buckets.")

    def subwords_to_indices(self, subwords: Sequence[str]) -> list[int]:
        """The buckets of n-grams, given with their ``<`` and ``>``."""
        return [int(value) for value in hash_words(subwords) % np.uint32(self.num_subwords)]


@attrs.frozen
class WordNGrams:
    """The n-grams of words that fastText's classifier adds to the words of a text, hashed into ``num_buckets``.

    Args:
        num_buckets: how many; fastText's command has 2,000,000.
        n: the most words of an n-gram; 1 gives none.

    Raises:
        OptionError: an argument cannot be used.

    fastText ends each line with a word ``</s>``, which takes part; append it to the tokens to have its very n-grams.
    """

    num_buckets: int = attrs.field(validator=_whole(1))
    n: int = attrs.field(default=2, validator=_whole(1))

    def __len__(self) -> int:
        """How many buckets there are."""
        return int(self.num_buckets)

    def __call__(self, tokens: Sequence[str]) -> np.ndarray:
        """The buckets of a text's n-grams of 2 to ``n`` words, by first word, then by length: int64, (n-grams,).

        Raises:
            DataError: a token is no string, or holds half a surrogate pair.
        """
        if isinstance(tokens, (str, bytes)):
            raise DataError(f"Expected a list of tokens. Received a text: {tokens[:40]!r}. Call a tokeniser first.")
        count, buckets = len(tokens), int(self.num_buckets)
        if min(self.n - 1, count) * count > _LOOPED:
            return self.flat([tokens])[0]
        # For a sentence, calling NumPy a dozen times takes longer than the arithmetic.
        try:
            hashes = [_signed_hash(token) for token in tokens]
        except TypeError as error:
            raise DataError(f"Tokens are strings. Received: {tokens!r:.80}.") from error
        found = []
        for first in range(count - 1):
            running = hashes[first]
            for other in hashes[first + 1 : first + self.n]:
                running = (running * _WORD_FACTOR + other) & 0xFFFFFFFFFFFFFFFF
                found.append(running % buckets)
        return np.array(found, np.int64)

    def flat(self, texts: Sequence[Sequence[str]]) -> tuple[np.ndarray, np.ndarray]:
        """As a call for each text, in one piece: the buckets of all (int64), and how many each has (int64, (texts,)).

        Raises:
            DataError: a token is no string, or holds half a surrogate pair.
        """
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        hashes = hash_words(list(itertools.chain.from_iterable(texts)))
        # How many words there are from each word to the end of its text, itself included.
        left = np.repeat(np.cumsum(lengths), lengths) - np.arange(len(hashes))
        longest = min(self.n, int(lengths.max(initial=1)))
        # fastText keeps hashes as signed numbers, which become wider with their sign.
        wide = hashes.view(np.int32).astype(np.int64).view(np.uint64)
        table = np.zeros((len(wide), longest - 1), np.uint64)
        running = wide
        for length in range(2, longest + 1):
            running = running[: len(wide) - length + 1] * np.uint64(_WORD_FACTOR) + wide[length - 1 :]
            table[: len(running), length - 2] = running
        exists = np.arange(2, longest + 1) <= left[:, None]
        ends = np.concatenate([[0], np.cumsum(exists.sum(axis=1))])
        counts = np.diff(ends[np.concatenate([[0], np.cumsum(lengths)])])
        return (table[exists] % np.uint64(self.num_buckets)).astype(np.int64), counts


@functools.lru_cache(1 << 17)
def _signed_hash(word: str) -> int:
    return int(hash_words((word,)).view(np.int32)[0])

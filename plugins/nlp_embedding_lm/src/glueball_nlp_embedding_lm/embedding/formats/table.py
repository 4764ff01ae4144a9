"""Tokens and vectors while they come from a file: the first of each token is kept, what is broken is counted."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import attrs
import numpy as np

from glueball.errors import DataError

# What a line or record can be skipped for; the words complete "2 lines ...".
OTHER_LENGTH = "with another number of values"
NO_NUMBERS = "whose values are not finite numbers"
NO_TOKEN = "without a token"
NO_TEXT = "whose token is not in the encoding"
DUPLICATE = "whose token came before"


class TokenIndex(dict[str, int]):
    """Token -> index; with an unknown token, ``index[token]`` of a token that is not there is the unknown one's."""

    def __init__(self, unknown_index: int | None = None) -> None:
        super().__init__()
        self.unknown_index = unknown_index

    def __missing__(self, token: str) -> int:
        if self.unknown_index is None:
            raise KeyError(token)
        return self.unknown_index

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.unknown_index, list(self))


def _rebuild(unknown_index: int | None, tokens: list[str]) -> TokenIndex:
    index = TokenIndex(unknown_index)
    index.update(zip(tokens, range(len(tokens)), strict=True))
    return index


@attrs.define(eq=False)
class Contents:
    """What a file of vectors holds."""

    tokens: list[str]
    index: TokenIndex
    vectors: np.ndarray
    """float32, (number of tokens, dimension)."""
    unknown_token: str | None = None
    has_unknown_vector: bool = False
    """Whether the file has a vector for the unknown token; otherwise its row is zeros, to be initialised."""
    lookup: object | None = None
    """Vectors for tokens that are not in the table (fastText's n-grams)."""


class Table:
    """A growing table. With an unknown token, row 0 is its own, wherever in the file its vector comes.

    Args:
        name: what messages call the file.
        unit: what messages call a place in it: "line" or "record".
        dimension: length of every vector.
        capacity: a guess of the number of rows; memory that is not written to costs nothing.
    """

    def __init__(self, name: str, unit: str, dimension: int, unknown_token: str | None, capacity: int) -> None:
        self.name = name
        self.unit = unit
        self.dimension = dimension
        self.unknown_token = unknown_token
        self.tokens: list[str] = [] if unknown_token is None else [unknown_token]
        self.index = TokenIndex(None if unknown_token is None else 0)
        self.index.update((token, 0) for token in self.tokens)
        self.has_unknown_vector = False
        self.seen = 0
        self._vectors = np.empty((max(capacity, 2), dimension), np.float32)
        self._vectors[: len(self.tokens)] = 0
        self._skipped: dict[str, tuple[int, str]] = {}

    def add(self, tokens: list[str], vectors: np.ndarray, places: Sequence[int]) -> None:
        """Adds many rows at once; ``places`` are their numbers in the file."""
        self.seen += len(tokens)
        start = len(self.tokens)
        if len(set(tokens)) == len(tokens) and self.index.keys().isdisjoint(tokens):
            self._reserve(start + len(tokens))
            self._vectors[start : start + len(tokens)] = vectors
            self.index.update(zip(tokens, range(start, start + len(tokens)), strict=True))
            self.tokens += tokens
            return
        kept = []
        for position, token in enumerate(tokens):
            if token == self.unknown_token and not self.has_unknown_vector:
                self._vectors[0] = vectors[position]
                self.has_unknown_vector = True
            elif token in self.index:
                self._count(DUPLICATE, places[position], token)
            else:
                self.index[token] = len(self.tokens)
                self.tokens.append(token)
                kept.append(position)
        self._reserve(len(self.tokens))
        self._vectors[start : start + len(kept)] = vectors[kept]

    def skip(self, reason: str, place: int, detail: str = "") -> None:
        """Counts a line or record that cannot be used."""
        self.seen += 1
        self._count(reason, place, detail)

    def _count(self, reason: str, place: int, detail: str) -> None:
        count, first = self._skipped.get(reason, (0, ""))
        if not count:
            first = f"{self.unit} {place}" + (f", {detail[:40]!r}" if detail else "")
        self._skipped[reason] = (count + 1, first)

    def _reserve(self, rows: int) -> None:
        if rows > len(self._vectors):
            self._resize(max(rows, len(self._vectors) * 3 // 2))

    def _resize(self, rows: int) -> None:
        # In place: a copy would need the memory of both for a moment.
        self._vectors.resize((rows, self.dimension), refcheck=False)

    def finish(self, announced: int | None = None) -> Contents:
        """The table; one warning names what was skipped, how often, and where first.

        Raises:
            DataError: no vector is left, or more was skipped than kept.
        """
        skipped = sum(count for count, _ in self._skipped.values())
        kept = self.seen - skipped
        said = "; ".join(f"{count} {reason} (the first: {first})" for reason, (count, first) in self._skipped.items())
        if kept == 0 or skipped > kept:
            raise DataError(
                f"{self.name}: of {self.seen} {self.unit}s, {kept} can be read as a token and {self.dimension} "
                f"numbers. {'Skipped: ' + said + '. ' if said else ''}"
                "Name the delimiter (elem_delim), the encoding or the format of the file, or get it again."
            )
        if said:
            message = f"{self.name}: {skipped} of {self.seen} {self.unit}s were skipped: {said}."
            warnings.warn(message, UserWarning, stacklevel=5)
        if announced is not None and announced != self.seen:
            message = f"{self.name}: the header announces {announced} vectors, the file has {self.seen}."
            warnings.warn(message, UserWarning, stacklevel=5)
        self._resize(len(self.tokens))
        return Contents(
            tokens=self.tokens,
            index=self.index,
            vectors=self._vectors,
            unknown_token=self.unknown_token,
            has_unknown_vector=self.has_unknown_vector,
        )

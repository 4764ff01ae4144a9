"""Vectors in text: a token and its numbers on each line, as GloVe, fastText (.vec) and word2vec write them.

A line is cut where its first delimiter is; the numbers of many thousand lines are then read in one call. NumPy reads
integers ten times as fast as decimals, so decimals are read as integers (their digits without the point) and divided by
a power of ten. Below 2**53 and 10**22 both are exact in double precision and the quotient is the nearest double, which
is what reading the decimal gives. A block with anything unusual in it is read line by line, where every line is judged.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator

import numpy as np

from glueball.errors import DataError
from glueball_nlp_embedding_lm.embedding.formats.opening import Source
from glueball_nlp_embedding_lm.embedding.formats.table import (
    NO_NUMBERS,
    NO_TEXT,
    NO_TOKEN,
    OTHER_LENGTH,
    Contents,
    Table,
)

_BLOCK = 4 << 20
_LONGEST_LINE = 64 << 20
_LARGEST_DIMENSION = 1 << 16
_USUAL_DIMENSION = 4096
_EXACT = 1 << 53
_POWERS = 10.0 ** np.arange(23)
_ODD_SPACE = (b"\t", b"\r", b"\n", b"\v", b"\f")


def read_text(source: Source, delimiter: str, encoding: str, unknown_token: str | None) -> Contents:
    """Reads a text file of vectors; see ``TokenEmbedding.from_file`` for what is skipped.

    Raises:
        DataError: the file is empty, has no usable line or fewer of them than others, or is no text.
    """
    blocks = _blocks(source)
    first = next(blocks, [])
    delim = delimiter.encode(encoding)
    dimension, announced = _shape(first, delim)
    # No number and its delimiter are shorter than two bytes: no memory for a dimension that a header made up.
    made_up = 2 * dimension > max(map(len, first), default=0) and dimension > _USUAL_DIMENSION
    if not 1 <= dimension <= _LARGEST_DIMENSION or made_up:
        received = repr(first[0][:60]) if any(first) else "nothing"
        raise DataError(
            f"{source.name}: expected lines of a token and numbers with {delimiter!r} between them. "
            f"Received: {received}. Name the delimiter (elem_delim) or the format of the file."
        )
    capacity = _guess(source, first, dimension)
    reader = _Reader(delim, encoding, Table(source.name, "line", dimension, unknown_token, capacity))
    start = 1
    if announced is not None:
        first = first[1:]
        start = 2
    reader.read(first, start)
    start += len(first)
    for block in blocks:
        reader.read(block, start)
        start += len(block)
    return reader.table.finish(announced)


def _blocks(source: Source) -> Iterator[list[bytes]]:
    """The lines of the file, some megabytes of them at a time."""
    rest = b""
    while content := source.read(_BLOCK):
        end = content.rfind(b"\n")
        if end < 0:
            rest += content
            if len(rest) > _LONGEST_LINE:
                raise DataError(
                    f"{source.name}: no line ends within {_LONGEST_LINE >> 20} MiB, so this is no text file of "
                    "vectors. Expected text, word2vec's or fastText's binary files, or .npz."
                )
            continue
        yield (rest + content[:end]).split(b"\n")
        rest = content[end + 1 :]
    if rest:
        yield [rest]


def _shape(lines: list[bytes], delim: bytes) -> tuple[int, int | None]:
    """(dimension, announced number of lines): from the header, or what most of the first lines have."""
    sample = [line.rstrip() for line in lines[:200]]
    header = sample[0].split() if sample else []
    counts = Counter(line.count(delim) for line in sample[1:] if line)
    usual = counts.most_common(1)[0][0] if counts else 0
    if len(header) == 2 and all(part.isdigit() and len(part) <= 18 for part in header):
        announced, dimension = int(header[0]), int(header[1])
        # "7 3" is a header, unless all lines are a token and one number.
        if usual != 1 or dimension == 1:
            return dimension, announced
    counts.update([sample[0].count(delim)] if sample else [])
    return (counts.most_common(1)[0][0] if counts else 0), None


def _guess(source: Source, lines: list[bytes], dimension: int) -> int:
    """How many lines the file may have, a little too many rather than too few."""
    if source.size is None:
        return len(lines)
    # No number and its delimiter are shorter than two bytes, whatever dimension a header announces.
    length = max(sum(map(len, lines)) / max(len(lines), 1) + 1, 2 * dimension)
    return int(source.size / length * 1.1) + 2


class _Reader:
    def __init__(self, delim: bytes, encoding: str, table: Table) -> None:
        self.delim = delim
        self.encoding = encoding
        self.table = table

    def read(self, lines: list[bytes], start: int) -> None:
        """Adds lines, of which the first has the number ``start``."""
        if not self._read_at_once(lines, start):
            self._read_each(lines, start)

    def _read_at_once(self, lines: list[bytes], start: int) -> bool:
        if not lines:
            return True
        if any(line.endswith((b" ", b"\r", b"\t")) for line in (lines[0], lines[-1])):
            lines = [line.rstrip() for line in lines]
        delim, dimension = self.delim, self.table.dimension
        pairs = [line.split(delim, 1) for line in lines]
        if min(map(len, pairs)) < 2:
            return False
        numbers = [pair[1] for pair in pairs]
        text = delim.join(numbers)
        if delim != b" ":
            if b" " in text:
                return False
            lengths = np.fromiter((len(row.replace(delim, b" ")) for row in numbers), np.int64, len(numbers))
            text = text.replace(delim, b" ")
        else:
            lengths = np.fromiter(map(len, numbers), np.int64, len(numbers))
        if b"  " in text or text[:1] == b" " or text[-1:] == b" " or any(space in text for space in _ODD_SPACE):
            return False
        # Where each number ends. Each line must end where its last number does, so that no line lends to the next.
        ends = np.append(np.flatnonzero(np.frombuffer(text, np.uint8) == ord(" ")), len(text))
        if (
            len(ends) != len(lines) * dimension
            or (ends[dimension - 1 :: dimension] != np.cumsum(lengths + 1) - 1).any()
        ):
            return False
        values = _decimals(text, ends)
        if values is None or not np.isfinite(values).all():
            return False
        try:
            tokens = b"\n".join([pair[0] for pair in pairs]).decode(self.encoding).split("\n")
        except UnicodeDecodeError:
            return False
        if len(tokens) != len(lines) or not all(tokens):
            return False
        self.table.add(tokens, values.reshape(len(lines), -1), range(start, start + len(lines)))
        return True

    def _read_each(self, lines: list[bytes], start: int) -> None:
        tokens, rows, places = [], [], []
        for place, line in enumerate(lines, start):
            line = line.rstrip()
            if not line:
                continue
            read = self._read_line(line)
            if isinstance(read, str):
                self.table.skip(read, place, line.split(self.delim, 1)[0].decode(self.encoding, "replace"))
                continue
            tokens.append(read[0])
            rows.append(read[1])
            places.append(place)
        if tokens:
            self.table.add(tokens, np.stack(rows), places)

    def _read_line(self, line: bytes) -> tuple[str, np.ndarray] | str:
        """The token and its vector, or why the line cannot be used."""
        dimension = self.table.dimension
        parts = line.split(self.delim)
        if len(parts) <= dimension:
            return OTHER_LENGTH if parts[0] else NO_TOKEN
        # A token may hold the delimiter (". . ." in GloVe's 840B): then what is left of the numbers is no number.
        if any(_number(part) is not None for part in parts[1:-dimension]):
            return OTHER_LENGTH
        values = [_number(part) for part in parts[-dimension:]]
        with np.errstate(over="ignore"):
            vector = np.array([np.nan if value is None else value for value in values]).astype(np.float32)
        if not np.isfinite(vector).all():
            return NO_NUMBERS
        token = self.delim.join(parts[:-dimension])
        if not token:
            return NO_TOKEN
        try:
            return token.decode(self.encoding), vector
        except UnicodeDecodeError:
            return NO_TEXT


def _number(text: bytes) -> float | None:
    try:
        return None if b"_" in text else float(text)
    except ValueError:
        return None


def _decimals(text: bytes, ends: np.ndarray) -> np.ndarray | None:
    """The numbers that end at ``ends``, with one space between them; None if there is anything else."""
    values = _plain_decimals(text, ends)
    return _numbers(text, np.float32, len(ends)) if values is None else values


def _plain_decimals(text: bytes, ends: np.ndarray) -> np.ndarray | None:
    """As ``_decimals``, if each number has a point, no exponent, and a sign in front at most."""
    if text.count(b"-") != text.count(b" -") + text.startswith(b"-") or b"+" in text:
        return None
    points = np.flatnonzero(np.frombuffer(text, np.uint8) == ord("."))
    if len(points) != len(ends) or not ((points < ends).all() and (points[1:] > ends[:-1]).all()):
        return None
    decimals = ends - points - 1
    digits = _numbers(text.replace(b".", b""), np.int64, len(ends))
    # What is too long for 64 bits is read as the nearest of them, of which the lowest has no opposite.
    if digits is None or decimals.max() >= len(_POWERS) or digits.max() >= _EXACT or digits.min() <= -_EXACT:
        return None
    with np.errstate(over="ignore"):
        return (digits / _POWERS[decimals]).astype(np.float32)


def _numbers(text: bytes, dtype: type, count: int) -> np.ndarray | None:
    with warnings.catch_warnings():
        # What cannot be read to its end is a warning in NumPy up to 2, announced to become a ValueError.
        warnings.simplefilter("error", DeprecationWarning)
        try:
            values: np.ndarray = np.fromstring(text, dtype, sep=" ")
        except (ValueError, DeprecationWarning):
            return None
    return values if len(values) == count else None

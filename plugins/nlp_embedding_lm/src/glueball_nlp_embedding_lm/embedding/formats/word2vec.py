"""Vectors in word2vec's binary form: "tokens dimension" and a line end, then a token, a space and float32 values, again
and again. The original program writes a line end after each vector, others do not; both are read."""

from __future__ import annotations

import re
import warnings

import numpy as np

from glueball.errors import DataError
from glueball_nlp_embedding_lm.embedding.formats.opening import Source
from glueball_nlp_embedding_lm.embedding.formats.table import NO_NUMBERS, NO_TEXT, NO_TOKEN, Contents, Table

_BLOCK = 4 << 20
_LONGEST_TOKEN = 1 << 16
_LARGEST_DIMENSION = 1 << 16
_HEADER = re.compile(rb"(\d{1,18})[ \t]+(\d{1,18})[ \t]*\r?\n")


def is_word2vec(start: bytes, delim: bytes) -> bool:
    """Whether a file with this beginning is binary, not text with a header: its lines are no lines of numbers."""
    header = _HEADER.match(start)
    if header is None:
        return False
    rest = start[header.end() :]
    for line in rest.split(b"\n")[:5]:
        parts = line.replace(delim, b" ").split()
        # Two numbers are enough: the beginning may end within the first line.
        if len(parts) > 1 and all(map(_is_number, parts[1:3])):
            return False
    space = rest.find(b" ")
    return 0 < space <= _LONGEST_TOKEN and len(rest) > space + 4


def _is_number(text: bytes) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_word2vec(source: Source, encoding: str, unknown_token: str | None) -> Contents:
    """Reads a binary file of vectors; see ``TokenEmbedding.from_file`` for what is skipped.

    Raises:
        DataError: the file is cut short, its header is no header or announces more than the file can hold, or it has no
            usable vector.
    """
    name = source.name
    line = source.file.readline(64)
    header = _HEADER.fullmatch(line)
    if header is None:
        raise DataError(
            f"{name}: expected a first line 'tokens dimension' of word2vec's binary form. Received: {line!r}."
        )
    count, dimension = int(header[1]), int(header[2])
    width = 4 * dimension
    if not 1 <= dimension <= _LARGEST_DIMENSION or (source.size is not None and count * (width + 2) > source.size):
        raise DataError(
            f"{name}: the header announces {count:,} vectors of {dimension:,} values, the file has "
            f"{'no such' if source.size is None else f'{source.size:,}'} bytes. Get the file again if it is cut short."
        )
    # What is in a pipe of compressed data is not known: the table grows as vectors come.
    table = Table(name, "record", dimension, unknown_token, count + 1 if source.size is not None else 2)
    rest, done = b"", 0
    while done < count:
        block = source.read(_BLOCK)
        if not block:
            raise DataError(
                f"{name} is cut short: the header announces {count:,} vectors, {done:,} are there. Get the file again."
            )
        buffer = rest + block
        position = 0
        tokens: list[bytes] = []
        parts: list[bytes] = []
        while done + len(tokens) < count:
            space = buffer.find(b" ", position, position + _LONGEST_TOKEN)
            if space < 0 and len(buffer) - position > _LONGEST_TOKEN:
                raise DataError(
                    f"{name}: record {done + len(tokens) + 1} has no token. Expected word2vec's binary form."
                )
            if space < 0 or space + 1 + width > len(buffer):
                break
            tokens.append(buffer[position:space])
            parts.append(buffer[space + 1 : space + 1 + width])
            position = space + 1 + width
        rest = buffer[position:]
        if tokens:
            _add(table, tokens, np.frombuffer(b"".join(parts), "<f4").reshape(-1, dimension), done + 1, encoding)
            done += len(tokens)
    if (rest + source.read(16)).strip():
        message = f"{name}: the header announces {count} vectors; what follows them was not read."
        warnings.warn(message, UserWarning, stacklevel=4)
    return table.finish()


def _add(table: Table, raw: list[bytes], vectors: np.ndarray, start: int, encoding: str) -> None:
    raw = [token.lstrip(b"\n") for token in raw]
    is_finite = np.isfinite(vectors).all(axis=1)
    if is_finite.all() and all(raw):
        try:
            tokens = b"\n".join(raw).decode(encoding).split("\n")
        except UnicodeDecodeError:
            tokens = []
        if len(tokens) == len(raw):
            table.add(tokens, vectors, range(start, start + len(tokens)))
            return
    kept: list[int] = []
    tokens = []
    for position, token in enumerate(raw):
        if not is_finite[position] or not token:
            reason = NO_NUMBERS if token else NO_TOKEN
            table.skip(reason, start + position, token.decode(encoding, "replace"))
            continue
        try:
            tokens.append(token.decode(encoding))
        except UnicodeDecodeError:
            table.skip(NO_TEXT, start + position, token.decode(encoding, "replace"))
            continue
        kept.append(position)
    if kept:
        table.add(tokens, vectors[kept], [start + position for position in kept])

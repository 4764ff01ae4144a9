"""fastText's model files (.bin): words, and vectors for all others from their character n-grams.

A word's vector is the mean of its own row and of the rows of its n-grams; n-grams share rows by a hash (Bojanowski et
al., arXiv:1607.04606, section 3.2). A word that the model does not know has its n-grams alone. The matrix stays in the
file, mapped into memory, for models are larger than what is used of them.

The layout is that of the program's versions 11 and 12, and of the one before them, which had no magic number.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Sequence
from typing import Any, overload

import attrs
import numpy as np
from tqdm import tqdm

from glueball.errors import DataError
from glueball_nlp_embedding_lm.embedding.formats.opening import Source, opened
from glueball_nlp_embedding_lm.embedding.formats.table import NO_NUMBERS, NO_TEXT, NO_TOKEN, Contents, Table

MAGIC = 793712314
_NEWEST_VERSION = 12
_END_OF_SENTENCE = b"</s>"
_SUPERVISED = 3
_LARGEST_DIMENSION = 1 << 16
_WORDS_AT_ONCE = 4096
_GATHERED_BYTES = 64 << 20


@attrs.frozen
class _Arguments:
    """What the program was called with, as far as vectors depend on it; the order is the file's."""

    dim: int
    ws: int
    epoch: int
    min_count: int
    neg: int
    word_ngrams: int
    loss: int
    model: int
    bucket: int
    minn: int
    maxn: int
    lr_update_rate: int
    t: float

    def is_sane(self) -> bool:
        return (
            1 <= self.dim <= _LARGEST_DIMENSION
            and 1 <= self.loss <= 4
            and 1 <= self.model <= 3
            and self.bucket >= 0
            and 0 <= self.minn <= 1 << 10
            and 0 <= self.maxn <= 1 << 10
        )


_ARGUMENTS = struct.Struct("<12id")


def is_fasttext(start: bytes) -> bool:
    """Whether a file with this beginning is a fastText model: by its magic number, or by an old model's arguments."""
    if len(start) < _ARGUMENTS.size:
        return False
    if start[:4] == MAGIC.to_bytes(4, "little"):
        return True
    return _Arguments(*_ARGUMENTS.unpack_from(start)).is_sane()


class FastTextVectors:
    """Vectors of any token out of a fastText model: ``vectors[token]``, ``vectors[tokens]``, as fastText gives them.

    ``token in vectors`` says whether the model has anything for the token: a row of its own, or an n-gram. A token for
    which it has nothing gets zeros, as from fastText.
    """

    def __init__(
        self,
        words: dict[bytes, int],
        rows: np.ndarray,
        *,
        minn: int,
        maxn: int,
        bucket: int,
        pruned: dict[int, int] | None,
        whole_words: frozenset[bytes],
        encoding: str,
        path: str | None,
    ) -> None:
        self._words = words
        # (rows, 4 * dimension) bytes: the file does not align its numbers, and bytes need no alignment.
        self._rows = rows
        self.minn = minn
        self.maxn = maxn
        self.bucket = bucket
        self._pruned = pruned
        # Words without n-grams.
        self._whole_words = whole_words
        self._encoding = encoding
        self._path = path

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._rows.shape[1] // 4

    def __reduce__(self) -> str | tuple[Any, ...]:
        # A copy for another process maps the file again.
        if self._path is not None:
            return read_model, (self._path, self._encoding)
        return super().__reduce__()

    def __repr__(self) -> str:
        return (
            f"FastTextVectors({len(self._words)} words, n-grams of {self.minn} to {self.maxn} characters in "
            f"{self.bucket} rows, dimension {self.dimension})"
        )

    def __contains__(self, token: object) -> bool:
        if not isinstance(token, str):
            return False
        try:
            word = token.encode(self._encoding)
        except UnicodeEncodeError:
            return False
        if word in self._words:
            return True
        if self.maxn == 0 or self.bucket == 0 or word in self._whole_words:
            return False
        if self._pruned is not None:
            return len(self.subwords([word])[0]) > 0
        # Every n-gram has a row, so that it is enough to know that there is one; one character alone is none if it is a
        # bracket.
        characters = 2 + sum((byte & 0xC0) != 0x80 for byte in word)
        return max(self.minn, 2) <= min(self.maxn, characters) or (self.minn <= 1 and characters > 2)

    @overload
    def __getitem__(self, tokens: str) -> np.ndarray: ...
    @overload
    def __getitem__(self, tokens: Sequence[str]) -> np.ndarray: ...
    def __getitem__(self, tokens: str | Sequence[str]) -> np.ndarray:
        """float32, (dimension,) for a token and (number of tokens, dimension) for tokens.

        Raises:
            DataError: a vector has values that are not finite: the model is damaged.
        """
        asked = [tokens] if isinstance(tokens, str) else tokens
        vectors = self.means([token.encode(self._encoding, "replace") for token in asked])
        if not np.isfinite(vectors).all():
            place = int(np.flatnonzero(~np.isfinite(vectors).all(axis=1))[0])
            raise DataError(
                f"The fastText model gives {asked[place]!r} values that are not finite. Get the file again."
            )
        return vectors[0] if isinstance(tokens, str) else vectors

    def means(self, words: Sequence[bytes]) -> np.ndarray:
        """Vectors of words as the model spells them, float32, (number of words, dimension)."""
        ids, counts = self.subwords(words)
        vectors = np.zeros((len(words), self.dimension), np.float32)
        ends = np.cumsum(counts)
        row_bytes = self._rows.shape[1]
        start = 0
        while start < len(words):
            # As many words as keep the gathered rows small; a word with more than that is taken alone.
            first = int(ends[start] - counts[start])
            stop = max(int(np.searchsorted(ends, first + _GATHERED_BYTES // row_bytes, "right")), start + 1)
            some = np.flatnonzero(counts[start:stop]) + start
            if len(some):
                rows = self._rows[ids[first : ends[stop - 1]]].view("<f4")
                # What is not finite then is told or skipped by whoever asked.
                with np.errstate(over="ignore", invalid="ignore"):
                    sums = np.add.reduceat(rows, ends[some] - counts[some] - first, axis=0)
                    vectors[some] = sums * (1.0 / counts[some]).astype(np.float32)[:, None]
            start = stop
        return vectors

    def subwords(self, words: Sequence[bytes]) -> tuple[np.ndarray, np.ndarray]:
        """(rows of all words one after the other, how many each word has): its own row first, then its n-grams'.

        N-grams are of characters in UTF-8, of the word between "<" and ">", without these two alone. All words are
        walked through at once: step n makes the n-grams of n characters out of those of n - 1.
        """
        own = np.array([self._words.get(word, -1) for word in words], np.int64)
        numbers = np.arange(len(words))
        known = numbers[own >= 0]
        # Sorted at the end by: word, where the n-gram starts, its length.
        word_of, start_of, length_of = [known], [np.full(len(known), -1)], [np.zeros(len(known), np.int64)]
        ids = [own[known]]
        if self.maxn > 0 and self.bucket > 0:
            for word, start, length, hashes in self._ngrams(words):
                rows = (hashes % np.uint32(self.bucket)).astype(np.int64)
                if self._pruned is not None:
                    rows = np.array([self._pruned.get(int(row), -1) for row in rows], np.int64)
                    word, start, length, rows = (part[rows >= 0] for part in (word, start, length, rows))
                word_of.append(word)
                start_of.append(start)
                length_of.append(length)
                ids.append(rows + len(self._words))
        words_of = np.concatenate(word_of)
        order = np.lexsort((np.concatenate(length_of), np.concatenate(start_of), words_of))
        return np.concatenate(ids)[order], np.bincount(words_of, minlength=len(words))

    def _ngrams(self, words: Sequence[bytes]) -> Any:
        """For each length: (word, start, lengths, 32-bit FNV-1a hash) of every n-gram."""
        spelt = [b"" if word in self._whole_words else b"<" + word + b">" for word in words]
        lengths = np.fromiter(map(len, spelt), np.int64, len(spelt))
        text = np.frombuffer(b"".join(spelt), np.uint8)
        ends = np.cumsum(lengths)
        word = np.repeat(np.arange(len(spelt)), lengths)
        continues = (text & 0xC0) == 0x80
        # The program takes bytes as signed numbers, so that those of non-ASCII characters fill the upper bits.
        signed = text.view(np.int8).astype(np.int32).view(np.uint32)
        start = np.flatnonzero(~continues)
        word = word[start]
        first, end = (ends - lengths)[word], ends[word]
        position = start.copy()
        hashes = np.full(len(start), 2166136261, np.uint32)
        prime = np.uint32(16777619)
        for length in range(1, self.maxn + 1):
            taking = np.arange(len(start))
            while len(taking):
                at = position[taking]
                hashes[taking] = (hashes[taking] ^ signed[at]) * prime
                position[taking] = at + 1
                taking = taking[at + 1 < end[taking]]
                taking = taking[continues[position[taking]]]
            if length >= self.minn:
                wanted = np.full(len(start), True)
                if length == 1:
                    wanted = (start != first) & (position != end)
                chosen = np.flatnonzero(wanted)
                yield word[chosen], start[chosen], np.full(len(chosen), length), hashes[chosen]
            going = np.flatnonzero(position < end)
            word, start, first, end = word[going], start[going], first[going], end[going]
            position, hashes = position[going], hashes[going]


def read_model(path: str | os.PathLike[str], encoding: str = "utf-8") -> FastTextVectors:
    """The vectors of a fastText model file; nothing is computed before a vector is asked for.

    Raises:
        DataError: the file cannot be read, is no such model, is cut short, or is a compressed one (``.ftz``).
    """
    with opened(path, None) as source:
        return _parse(source, encoding)[0]


def read_fasttext(source: Source, encoding: str, unknown_token: str | None) -> Contents:
    """Reads a model and computes the vectors of its words; see ``TokenEmbedding.from_file`` for what is skipped.

    Raises:
        DataError: as ``read_model``, or no word is usable.
    """
    model, words = _parse(source, encoding)
    table = Table(source.name, "word", model.dimension, unknown_token, len(words) + 1)
    with tqdm(total=len(words), desc="vectors of words", disable=None, leave=False) as bar:
        for start in range(0, len(words), _WORDS_AT_ONCE):
            some = words[start : start + _WORDS_AT_ONCE]
            vectors = model.means(some)
            is_finite = np.isfinite(vectors).all(axis=1)
            tokens, kept = [], []
            for position, word in enumerate(some):
                try:
                    token = word.decode(encoding)
                except UnicodeDecodeError:
                    table.skip(NO_TEXT, start + position + 1, word.decode(encoding, "replace"))
                    continue
                if not token or not is_finite[position]:
                    table.skip(NO_NUMBERS if token else NO_TOKEN, start + position + 1, token)
                    continue
                tokens.append(token)
                kept.append(position)
            table.add(tokens, vectors[kept], [start + position + 1 for position in kept])
            bar.update(len(some))
    contents = table.finish()
    contents.lookup = model
    return contents


class _Reader:
    """Reads numbers one after the other."""

    def __init__(self, content: bytes | mmap.mmap, name: str) -> None:
        self.content = content
        self.name = name
        self.position = 0

    def take(self, layout: struct.Struct) -> tuple[Any, ...]:
        if self.position + layout.size > len(self.content):
            raise self.short()
        values = layout.unpack_from(self.content, self.position)
        self.position += layout.size
        return values

    def short(self) -> DataError:
        return DataError(f"{self.name} is cut short: it ends at byte {len(self.content):,}. Get the file again.")


_INT32 = struct.Struct("<i")
_INT64 = struct.Struct("<q")
_TWO_INT32 = struct.Struct("<2i")
_TWO_INT64 = struct.Struct("<2q")
_SIZES = struct.Struct("<3iq")
_BYTE = struct.Struct("<b")


def _parse(source: Source, encoding: str) -> tuple[FastTextVectors, list[bytes]]:
    name = source.name
    content: bytes | mmap.mmap
    if source.path is not None and source.size:
        content = mmap.mmap(source.file.fileno(), 0, access=mmap.ACCESS_READ)
    else:
        content = source.file.read()
    reader = _Reader(content, name)
    is_new = reader.take(_INT32)[0] == MAGIC
    version = 0
    if is_new:
        version = reader.take(_INT32)[0]
        if not 1 <= version <= _NEWEST_VERSION:
            raise DataError(f"{name} is a fastText model of version {version}, expected at most {_NEWEST_VERSION}.")
    else:
        reader.position = 0
    arguments = _Arguments(*reader.take(_ARGUMENTS))
    if not arguments.is_sane():
        raise DataError(
            f"{name} is no fastText model: its arguments make no sense ({arguments}). Expected a .bin file "
            "that fastText wrote."
        )
    # Classifiers of version 11 say that they have n-grams, and have none.
    maxn = 0 if version == 11 and arguments.model == _SUPERVISED else arguments.maxn
    size, word_count, label_count, _ = reader.take(_SIZES)
    pruned_count = reader.take(_INT64)[0] if is_new else -1
    if size < 0 or word_count < 0 or label_count < 0 or size != word_count + label_count:
        raise DataError(
            f"{name}: the dictionary announces {size} entries, {word_count} words and {label_count} labels, which "
            "does not fit."
        )
    words = _read_words(reader, size, word_count)
    pruned: dict[int, int] | None = None
    if pruned_count >= 0:
        pruned = {}
        for _ in range(pruned_count):
            row, place = reader.take(_TWO_INT32)
            pruned[row] = place
    if is_new and reader.take(_BYTE)[0]:
        raise DataError(
            f"{name} is a compressed fastText model (.ftz), which has no vectors as numbers. Expected the .bin file "
            "that it was made from."
        )
    row_count, dimension = reader.take(_TWO_INT64)
    bucket = arguments.bucket if maxn > 0 else 0
    ngram_rows = len(pruned) if pruned is not None else bucket
    if dimension != arguments.dim or row_count < word_count + ngram_rows:
        raise DataError(
            f"{name}: expected a matrix of {word_count + ngram_rows:,} rows ({word_count:,} words, {ngram_rows:,} for "
            f"n-grams) and {arguments.dim} columns. Received: {row_count:,} rows and {dimension} columns."
        )
    if pruned is not None and any(not 0 <= place < ngram_rows for place in pruned.values()):
        raise DataError(f"{name}: an n-gram has a row that is not in the matrix.")
    if reader.position + row_count * dimension * 4 > len(content):
        raise reader.short()
    rows = np.frombuffer(content, np.uint8, row_count * dimension * 4, reader.position).reshape(
        row_count, dimension * 4
    )
    index = dict(zip(words, range(len(words)), strict=True))
    if len(index) != len(words):
        raise DataError(f"{name}: a word is in the dictionary more than once.")
    model = FastTextVectors(
        index,
        rows,
        minn=arguments.minn,
        maxn=maxn,
        bucket=bucket,
        pruned=pruned,
        # The end of a sentence has no n-grams, except in the oldest models, whose .vec files show that it had.
        whole_words=frozenset([_END_OF_SENTENCE] if is_new else []),
        encoding=encoding,
        path=source.path,
    )
    return model, words


def _read_words(reader: _Reader, size: int, word_count: int) -> list[bytes]:
    """The words of the dictionary. Labels (of classifiers, by mistake also in wiki.fr) follow and are passed over."""
    content, position = reader.content, reader.position
    # Each entry is at least a zero byte, a count and a kind.
    if position + 10 * size > len(content):
        raise reader.short()
    words: list[bytes] = []
    for number in range(size):
        end = content.find(b"\0", position)
        if end < 0 or end + 10 > len(content):
            raise reader.short()
        if content[end + 9] == 0:
            if len(words) != number:
                raise DataError(f"{reader.name}: a word follows a label in the dictionary, expected words first.")
            words.append(content[position:end])
        position = end + 10
    if len(words) != word_count:
        raise DataError(f"{reader.name}: the dictionary announces {word_count} words, {len(words)} are there.")
    reader.position = position
    return words

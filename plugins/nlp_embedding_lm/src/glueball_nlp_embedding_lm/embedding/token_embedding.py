"""Vectors for tokens: a table from token to vector, and what a token gets that is not in it.

The table is a NumPy array whatever the backend: a network copies it into its embedding layer once. Its rows are in the
order of the file; the unknown token's is the first unless the file says otherwise, as in GluonNLP.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike

from glueball.errors import DataError, OptionError
from glueball_nlp_embedding_lm.embedding.formats import read
from glueball_nlp_embedding_lm.embedding.formats.fasttext import FastTextVectors
from glueball_nlp_embedding_lm.embedding.formats.npz import read_npz, write_npz
from glueball_nlp_embedding_lm.embedding.formats.table import Contents, TokenIndex

UNKNOWN_TOKEN = "<unk>"

InitVector = Callable[[tuple[int, int]], ArrayLike]
"""Makes rows from a shape: ``numpy.zeros``, or ``lambda shape: generator.normal(size=shape)``."""

_Self = TypeVar("_Self", bound="TokenEmbedding")


class UnknownTokenError(DataError, KeyError):
    """A token has no vector, and there is no unknown token to stand for it."""

    # KeyError prints its argument as repr; ours is a sentence.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class Lookup(Protocol):
    """Where vectors of tokens come from that are not in the table: fastText's n-grams, a dict, any mapping."""

    def __contains__(self, token: object, /) -> bool: ...

    def __getitem__(self, token: str, /) -> Any: ...


class TokenEmbedding:
    """Token -> vector.

    ``embedding["word"]`` is a vector of shape (dimension,), ``embedding[["two", "words"]]`` an array of shape
    (2, dimension), both float32 and copies. A token that is not in the table gets, in this order: its vector from
    ``unknown_lookup``, if that has one; the unknown token's; an UnknownTokenError.

    Args:
        unknown_token: stands for every token that is not in the table; None: there is no such token.
        init_unknown_vec: makes the unknown token's vector from a shape (1, dimension), if none is given with
            ``idx_to_vec``. The unknown token is then put in front: its index is 0 and the others move by one.
        allow_extend: whether ``embedding[tokens] = vectors`` may add tokens.
        unknown_lookup: has vectors for more tokens: asked ``token in lookup``, then ``lookup[token]``.
        idx_to_token: the tokens, each once. With None, the table is empty and has no dimension yet.
        idx_to_vec: their vectors, (number of tokens, dimension). A float32 array that needs no row for the unknown
            token is used as it is, not copied.

    Raises:
        OptionError: only one of ``idx_to_token`` and ``idx_to_vec`` is given, or a token is no text.
        DataError: their lengths differ, a token is there twice, a vector has a value that is not finite, or the unknown
            token has no vector and ``init_unknown_vec`` is None.

    Example:
        >>> embedding = TokenEmbedding(idx_to_token=["a", "b"], idx_to_vec=np.eye(2, dtype="float32"))
        >>> embedding[["b", "c"]].tolist()
        [[0.0, 1.0], [0.0, 0.0]]
        >>> embedding.idx_to_token
        ['<unk>', 'a', 'b']
    """

    def __init__(
        self,
        unknown_token: str | None = UNKNOWN_TOKEN,
        init_unknown_vec: InitVector | None = np.zeros,
        allow_extend: bool = False,
        unknown_lookup: Lookup | None = None,
        idx_to_token: Sequence[str] | None = None,
        idx_to_vec: ArrayLike | None = None,
    ) -> None:
        _check_unknown_token(unknown_token)
        if (idx_to_token is None) != (idx_to_vec is None):
            raise OptionError(
                "idx_to_token and idx_to_vec belong together. Received one of them. Give both, or none for an empty "
                "embedding."
            )
        tokens = _check_tokens(idx_to_token or [])
        vectors: np.ndarray | None = None
        if idx_to_vec is not None:
            vectors = _as_vectors(idx_to_vec, len(tokens))
        index = TokenIndex()
        index.update(zip(tokens, range(len(tokens)), strict=True))
        if len(index) != len(tokens):
            twice = next(token for position, token in enumerate(tokens) if index[token] != position)
            raise DataError(f"Expected each token once. Received: {twice!r} more than once.")
        if unknown_token is not None and unknown_token not in index:
            tokens.insert(0, unknown_token)
            if vectors is not None:
                row = _unknown_vector(init_unknown_vec, vectors.shape[1], unknown_token)
                vectors = np.concatenate([row, vectors])
            index = TokenIndex()
            index.update(zip(tokens, range(len(tokens)), strict=True))
        self._set(tokens, index, vectors, unknown_token, init_unknown_vec, allow_extend, unknown_lookup)

    def _set(
        self,
        tokens: list[str],
        index: TokenIndex,
        vectors: np.ndarray | None,
        unknown_token: str | None,
        init_unknown_vec: InitVector | None,
        allow_extend: bool,
        unknown_lookup: Lookup | None,
    ) -> None:
        self._tokens = tokens
        self._index = index
        # Has room for more rows than there are tokens once tokens were added.
        self._rows = vectors
        self._unknown_token = unknown_token
        self._index.unknown_index = None if unknown_token is None else index[unknown_token]
        self._init_unknown_vec = init_unknown_vec
        self.allow_extend = allow_extend
        self.unknown_lookup = unknown_lookup

    # Files.

    @classmethod
    def from_file(
        cls: type[_Self],
        path: str | os.PathLike[str],
        elem_delim: str = " ",
        encoding: str = "utf-8",
        *,
        format: str | None = None,
        member: str | None = None,
        unknown_token: str | None = UNKNOWN_TOKEN,
        init_unknown_vec: InitVector | None = np.zeros,
        allow_extend: bool = False,
        unknown_lookup: Lookup | None = None,
    ) -> _Self:
        """Reads vectors from a file in any of the usual forms. Which one it is, its bytes tell.

        * Text, a token and its numbers on each line: GloVe's; with a first line "tokens dimension", fastText's
          (``.vec``) and word2vec's.
        * word2vec's binary form.
        * fastText's model (``.bin``), old and new. Every token's vector is the mean of its own and its n-grams' rows,
          as fastText's ``print-word-vectors`` prints it; ``unknown_lookup`` gets vectors of other tokens from their
          n-grams, out of the file, which must stay where it is.
        * GluonNLP's ``.npz``.

        All of them may be in gzip or in a zip archive (an ``.npz`` is one).

        If the file has a vector for ``unknown_token``, the unknown token has that; otherwise ``init_unknown_vec``'s.
        The unknown token's index is 0, in an ``.npz`` that names its unknown token, the index there.

        What is broken is skipped, and one UserWarning says how many lines, for what reasons, and which was the first:
        lines with another number of values than the header says (without one: than most of the first 200 lines), with
        values that are no finite numbers, without a token, with a token that is not in ``encoding``, and tokens that
        came before (the first counts). A token may hold the delimiter if what is left of the numbers is no number
        (". . ." in GloVe's 840B). A header that announces another number of lines is a warning too. Empty lines are
        passed over. Text without a line end at its end is read as complete.

        Args:
            path: the file.
            elem_delim: what is between token and numbers in text.
            encoding: of the tokens, in text and in word2vec's binary form.
            format: "text", "word2vec", "fasttext" or "npz", to not go by the bytes.
            member: which file of a zip archive that holds several.
            unknown_token: see the class, as the others.

        Raises:
            DataError: the file cannot be read; no vector is left, or more lines are skipped than kept; a binary file or
                an archive is cut short or damaged (nothing of it is used); a fastText model is compressed (``.ftz``);
                an ``.npz`` holds pickled objects other than strings, a token twice, or values that are not finite.
            OptionError: an option has a value that cannot be used.
        """
        _check_unknown_token(unknown_token)
        contents = read(path, elem_delim, encoding, format, member, unknown_token)
        if contents.unknown_token != unknown_token or unknown_token is None:
            contents = _with_unknown_token(contents, unknown_token)
        if unknown_token is not None and not contents.has_unknown_vector:
            row = _unknown_vector(init_unknown_vec, contents.vectors.shape[1], unknown_token)
            contents.vectors[contents.index[unknown_token]] = row[0]
        self = cls.__new__(cls)
        lookup = unknown_lookup if unknown_lookup is not None else cast("Lookup | None", contents.lookup)
        self._set(
            contents.tokens, contents.index, contents.vectors, unknown_token, init_unknown_vec, allow_extend, lookup
        )
        return self

    def serialize(self, path: str | os.PathLike[str], compress: bool = True) -> None:
        """Writes GluonNLP's ``.npz``, which ``deserialize`` and ``from_file`` read, and GluonNLP too.

        ``.npz`` is added to the name if it is not there. ``unknown_lookup`` is not saved; a UserWarning says so.

        Raises:
            DataError: there are no vectors yet, or a token ends with a zero character.
            OSError: the file cannot be written; one that was there before is unchanged.
        """
        vectors = self.idx_to_vec
        if vectors is None:
            raise DataError(
                "An embedding without vectors cannot be saved. Add some first: embedding[tokens] = vectors."
            )
        if self.unknown_lookup is not None:
            warnings.warn(
                "unknown_lookup is not saved. Keep its file and pass it again: deserialize(path, unknown_lookup=...).",
                UserWarning,
                stacklevel=2,
            )
        target = os.fspath(path)
        if not target.endswith(".npz"):
            target += ".npz"
        write_npz(target, self._tokens, vectors, self._unknown_token, compress)

    @classmethod
    def deserialize(
        cls: type[_Self],
        path: str | os.PathLike[str],
        *,
        allow_extend: bool = False,
        unknown_lookup: Lookup | None = None,
    ) -> _Self:
        """Reads what ``serialize`` (or GluonNLP's) wrote, with the tokens, indices and unknown token that are in it.

        Raises:
            DataError: see ``from_file``.
        """
        contents = read_npz(path)
        self = cls.__new__(cls)
        self._set(
            contents.tokens, contents.index, contents.vectors, contents.unknown_token, np.zeros, allow_extend,
            unknown_lookup,
        )  # fmt: skip
        return self

    # What is in the table.

    @property
    def idx_to_token(self) -> list[str]:
        """The tokens in the order of their indices."""
        return self._tokens

    @property
    def token_to_idx(self) -> dict[str, int]:
        """Token -> index; ``token_to_idx[token]`` of a token that is not there is the unknown token's index."""
        return self._index

    @property
    def idx_to_vec(self) -> np.ndarray | None:
        """The vectors, float32, (number of tokens, dimension); None if the embedding is empty. Not a copy."""
        return None if self._rows is None else self._rows[: len(self._tokens)]

    @property
    def unknown_token(self) -> str | None:
        """The token that stands for those that are not in the table."""
        return self._unknown_token

    @property
    def dimension(self) -> int | None:
        """Length of a vector; None if the embedding is empty."""
        return None if self._rows is None else int(self._rows.shape[1])

    def __len__(self) -> int:
        return len(self._tokens)

    def __contains__(self, token: object) -> bool:
        """Whether the token is in the table; what ``unknown_lookup`` can make is not."""
        return token in self._index

    def __eq__(self, other: object) -> bool:
        """Whether unknown token, tokens, their order and all vectors are the same."""
        if not isinstance(other, TokenEmbedding):
            return NotImplemented
        if self._unknown_token != other._unknown_token or self._tokens != other._tokens:
            return False
        mine, others = self.idx_to_vec, other.idx_to_vec
        if mine is None or others is None:
            return mine is others
        return np.array_equal(mine, others)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"{type(self).__name__}({len(self)} tokens, dimension {self.dimension}, "
            f"unknown_token={self._unknown_token!r})"
        )

    # Looking up and setting.

    def __getitem__(self, tokens: str | Iterable[str]) -> np.ndarray:
        """Vectors of a token (dimension,) or of tokens (number of tokens, dimension), as a copy.

        Raises:
            UnknownTokenError: a token is not in the table, and neither ``unknown_lookup`` nor an unknown token helps.
            DataError: the embedding is empty, or ``unknown_lookup`` gives vectors of another length.
        """
        if isinstance(tokens, str):
            return self._look_up([tokens])[0]
        return self._look_up(list(tokens))

    def _look_up(self, tokens: list[str]) -> np.ndarray:
        lookup = self.unknown_lookup
        if self._rows is None:
            return self._look_up_elsewhere(tokens)
        index = self._index
        try:
            if lookup is None:
                return self._rows[np.fromiter(map(index.__getitem__, tokens), np.intp, len(tokens))]
            others = [position for position, token in enumerate(tokens) if token not in index and token in lookup]
            if not others:
                return self._rows[np.fromiter(map(index.__getitem__, tokens), np.intp, len(tokens))]
            elsewhere = set(others)
            places = [0 if position in elsewhere else index[token] for position, token in enumerate(tokens)]
        except KeyError as error:
            raise self._unknown(error.args[0]) from None
        vectors = self._rows[np.array(places, np.intp)]
        if isinstance(lookup, FastTextVectors) and lookup.dimension == vectors.shape[1]:
            vectors[others] = lookup[[tokens[position] for position in others]]
            return vectors
        for position in others:
            vectors[position] = self._from_lookup(lookup, tokens[position], vectors.shape[1])
        return vectors

    def _look_up_elsewhere(self, tokens: list[str]) -> np.ndarray:
        """Vectors of an embedding that has none itself."""
        lookup = self.unknown_lookup
        if lookup is None:
            raise DataError("The embedding is empty. Add vectors first: embedding[tokens] = vectors.")
        for token in tokens:
            if token not in lookup:
                raise self._unknown(token)
        if not tokens:
            raise DataError("The embedding is empty, so the dimension of its vectors is not known.")
        return np.stack([self._from_lookup(lookup, token, None) for token in tokens])

    def _from_lookup(self, lookup: Lookup, token: str, dimension: int | None) -> np.ndarray:
        vector = np.asarray(lookup[token], np.float32)
        if vector.ndim != 1 or (dimension is not None and len(vector) != dimension):
            raise DataError(
                f"unknown_lookup[{token!r}] has the shape {vector.shape}, expected ({dimension or 'dimension'},)."
            )
        return vector

    def _unknown(self, token: object) -> UnknownTokenError:
        return UnknownTokenError(
            f"The token {token!r} has no vector, and the embedding has no unknown token. Expected one of its "
            f"{len(self)} tokens. Ask `token in embedding` first, or make the embedding with an unknown_token."
        )

    def __setitem__(self, tokens: str | Sequence[str], vectors: ArrayLike) -> None:
        """Sets vectors: (dimension,) or (1, dimension) for a token, (number of tokens, dimension) for tokens.

        With ``allow_extend``, tokens that are not in the table are added at its end. Of a token that is named more than
        once, the last vector counts. Either all is set or, with an error, nothing.

        Raises:
            UnknownTokenError: a token is not in the table and ``allow_extend`` is False. The unknown token's vector is
                set by its own name only.
            DataError: the shape is not right, or a value is not finite.
            OptionError: a token is no text.
        """
        names = [tokens] if isinstance(tokens, str) else _check_tokens(tokens)
        values = _numbers(vectors)
        if values.ndim == 1 and len(names) == 1:
            values = values[None]
        dimension = self.dimension
        if dimension is None:
            dimension = values.shape[-1] if values.ndim else 0
        if values.shape != (len(names), dimension):
            raise DataError(
                f"Expected vectors of shape ({len(names)}, {dimension}) for {len(names)} tokens. "
                f"Received: {values.shape}."
            )
        fresh = list(dict.fromkeys(name for name in names if name not in self._index))
        if fresh and not self.allow_extend:
            raise UnknownTokenError(
                f"The token {fresh[0]!r} is not in the embedding, so its vector cannot be set. Add tokens with "
                "allow_extend=True" + (f", or name {self._unknown_token!r} itself." if self._unknown_token else ".")
            )
        if not names:
            return
        rows = self._rows
        if rows is None:
            rows = np.zeros((len(self._tokens), values.shape[1]), np.float32)
            if self._unknown_token is not None:
                rows[:] = _unknown_vector(self._init_unknown_vec, values.shape[1], self._unknown_token)
        needed = len(self._tokens) + len(fresh)
        if needed > len(rows):
            # Half as much again, so that adding tokens one by one copies each row a few times, not each time.
            grown = np.empty((max(needed, len(self._tokens) * 3 // 2), rows.shape[1]), np.float32)
            grown[: len(self._tokens)] = rows[: len(self._tokens)]
            rows = grown
        elif not rows.flags.writeable:
            rows = rows.copy()
        self._rows = rows
        start = len(self._tokens)
        self._tokens += fresh
        self._index.update(zip(fresh, range(start, start + len(fresh)), strict=True))
        # From the last to the first, so that of a token's vectors the last is written: NumPy promises no order.
        last = {name: position for position, name in enumerate(names)}
        rows[[self._index[name] for name in last]] = values[list(last.values())]


def _check_unknown_token(unknown_token: object) -> None:
    if unknown_token is not None and (not isinstance(unknown_token, str) or not unknown_token):
        raise OptionError(f"unknown_token is a text or None. Received: {unknown_token!r}.")


def _check_tokens(tokens: Iterable[str]) -> list[str]:
    if isinstance(tokens, str):
        raise OptionError(f"Expected a list of tokens. Received the text {tokens[:40]!r}. Split it first.")
    checked = list(tokens)
    for token in checked:
        if not isinstance(token, str):
            raise OptionError(f"Tokens are texts. Received: {token!r}.")
    return checked


def _numbers(values: ArrayLike) -> np.ndarray:
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(values, np.float32)
    except (TypeError, ValueError) as error:
        raise DataError(f"Vectors are arrays of real numbers: {error}.") from error
    if not np.isfinite(array).all():
        raise DataError("A vector holds a value that is not finite in float32.")
    return array


def _as_vectors(values: ArrayLike, count: int) -> np.ndarray:
    array = _numbers(values)
    if array.ndim != 2 or len(array) != count:
        raise DataError(
            f"Expected idx_to_vec of shape ({count}, dimension), a row for each token. Received: {array.shape}."
        )
    return array


def _unknown_vector(init: InitVector | None, dimension: int, token: str) -> np.ndarray:
    if init is None:
        raise DataError(
            f"The unknown token {token!r} has no vector and init_unknown_vec is None. Give one of the two, or set "
            "unknown_token=None."
        )
    row = _numbers(init((1, dimension)))
    if row.shape != (1, dimension):
        raise DataError(f"init_unknown_vec((1, {dimension})) has the shape {row.shape}, expected (1, {dimension}).")
    return row


def _with_unknown_token(contents: Contents, unknown_token: str | None) -> Contents:
    """What an .npz holds, with the unknown token that was asked for rather than the file's."""
    tokens, vectors, stored = contents.tokens, contents.vectors, contents.unknown_token
    has_vector = True
    if stored is not None:
        row = contents.index[stored]
        if unknown_token is None:
            del tokens[row]
            vectors = np.delete(vectors, row, axis=0)
        elif unknown_token in contents.index:
            raise DataError(
                f"The file's unknown token is {stored!r}, and {unknown_token!r} is another of its tokens. "
                f"Read it with unknown_token={stored!r}."
            )
        else:
            tokens[row] = unknown_token
    elif unknown_token is not None:
        row = contents.index.get(unknown_token, -1)
        has_vector = row >= 0
        if row < 0:
            tokens.insert(0, unknown_token)
            vectors = np.concatenate([np.zeros((1, vectors.shape[1]), np.float32), vectors])
        elif row > 0:
            tokens[0], tokens[row] = tokens[row], tokens[0]
            vectors[[0, row]] = vectors[[row, 0]]
    index = TokenIndex()
    index.update(zip(tokens, range(len(tokens)), strict=True))
    return Contents(tokens, index, vectors, unknown_token, has_vector, contents.lookup)

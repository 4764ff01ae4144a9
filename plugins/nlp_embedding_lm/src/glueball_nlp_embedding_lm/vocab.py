"""A vocabulary: tokens to indices and back.

Indices, special tokens and the JSON form are those of GluonNLP 0.10, whose published vocabulary files are read and
whose readers read ours. What differs is how errors are met: GluonNLP builds a broken index from some arguments and
from most damaged files; here they are errors that say what is wrong.

A look-up of many tokens is one ``map`` over a dict, so that a million of them take a few hundredths of a second.
"""

from __future__ import annotations

import collections
import json
import math
import numbers
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, overload

import numpy as np

from glueball.errors import DataError, OptionError
from glueball.files import write_text

UNKNOWN_TOKEN = "<unk>"
PADDING_TOKEN = "<pad>"
BOS_TOKEN = "<bos>"
EOS_TOKEN = "<eos>"

# Files from before GluonNLP 0.7 hold these beside the index; the last three only those of its BERT vocabularies.
_OLD_KEYS = ("padding_token", "bos_token", "eos_token", "mask_token", "sep_token", "cls_token")
_STANDARD_IDENTIFIERS = ("padding_token", "bos_token", "eos_token")
_MOST_SHOWN = 5


class UnknownTokenError(DataError, KeyError):
    """A token is not in a vocabulary that has no unknown token to stand for it."""

    # KeyError prints its argument as repr; ours are sentences.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class _Index(dict[str, int]):
    """Token to index; a token that is not there has the index of the unknown token, or is an error."""

    unknown_token: str | None = None

    def __missing__(self, token: object) -> int:
        # Whatever is no string is found to be missing, so that the look-up of known tokens needs no check.
        if not isinstance(token, str):
            raise DataError(f"A vocabulary looks up strings. Received: {token!r} ({type(token).__name__}).")
        if self.unknown_token is None:
            raise UnknownTokenError(
                f"{_shown(token)} is not in the vocabulary, and the vocabulary has no unknown token. Build it with "
                "unknown_token='<unk>', or leave such tokens out."
            )
        return self[self.unknown_token]


class Vocab:
    """An index of tokens.

    Indices are given in this order: the unknown token, further special tokens (keywords ``*_token``), the padding,
    begin and end tokens, the reserved tokens, then the tokens of ``counter`` by falling count and, where counts are
    equal, by code points.

    Args:
        counter: how often each token was seen, such as ``count_tokens`` gives; None for special tokens only.
        max_size: at most so many tokens of ``counter`` are taken, special ones not counted; None for all.
        min_freq: tokens seen less often are left out.
        unknown_token: stands for every token that is not in the vocabulary; None makes looking one up an error.
        padding_token: fills sequences up to a common length. None for none, as with all special tokens below.
        bos_token: begins a sequence.
        eos_token: ends a sequence.
        reserved_tokens: tokens that are in the vocabulary whatever ``counter`` says.
        token_to_idx: wanted indices of some of the tokens. Each such token changes places with the one that is there.
        special_tokens: further special tokens by name, such as ``mask_token="<mask>"``. Each is an attribute of the
            vocabulary, as ``padding_token`` is. Two roles may share a token.

    Raises:
        OptionError: an argument cannot be used, two of them contradict each other, or a count or token is of the
            wrong type.

    Example:
        >>> from glueball_nlp_embedding_lm.counting import count_tokens
        >>> vocab = Vocab(count_tokens("a b b c".split()), mask_token="<mask>")
        >>> vocab.idx_to_token
        ['<unk>', '<mask>', '<pad>', '<bos>', '<eos>', 'b', 'a', 'c']
        >>> vocab["b", "x"], vocab.mask_token
        ([5, 0], '<mask>')
    """

    def __init__(
        self,
        counter: Mapping[str, float] | None = None,
        max_size: int | None = None,
        min_freq: float = 1,
        unknown_token: str | None = UNKNOWN_TOKEN,
        padding_token: str | None = PADDING_TOKEN,
        bos_token: str | None = BOS_TOKEN,
        eos_token: str | None = EOS_TOKEN,
        reserved_tokens: Iterable[str] | None = None,
        token_to_idx: Mapping[str, int] | None = None,
        **special_tokens: str | None,
    ) -> None:
        if max_size is not None and (not _is_index(max_size) or max_size < 1):
            raise OptionError(
                f"max_size is a whole number of at least 1, or None for no limit. Received: {max_size!r}."
            )
        if not isinstance(min_freq, numbers.Real) or not min_freq > 0:
            raise OptionError(f"min_freq is a number above 0. Received: {min_freq!r}.")
        for name in special_tokens:
            problem = _identifier_problem(name)
            if problem:
                raise OptionError(f"Vocab has no argument {name!r}, and it {problem}.")
        identifiers = {
            **special_tokens,
            "padding_token": padding_token,
            "bos_token": bos_token,
            "eos_token": eos_token,
        }
        for name, token in {"unknown_token": unknown_token, **identifiers}.items():
            if token is not None and (not isinstance(token, str) or not token):
                raise OptionError(f"{name} is a string of at least one character, or None. Received: {token!r}.")
            if token is not None and token == unknown_token and name != "unknown_token":
                raise OptionError(
                    f"{name} and unknown_token are both {token!r}, so that one could not be told from the other. "
                    f"Give {name} a token of its own, or None."
                )
        special = list(dict.fromkeys(token for token in identifiers.values() if token is not None))
        special.extend(_checked_reserved(reserved_tokens, unknown_token, identifiers))
        idx_to_token = ([] if unknown_token is None else [unknown_token]) + special
        if counter is not None:
            idx_to_token.extend(_most_frequent(counter, frozenset(idx_to_token), max_size, min_freq))
        if token_to_idx is not None:
            _rearrange(idx_to_token, token_to_idx)
        self._fill(
            idx_to_token,
            {token: place for place, token in enumerate(idx_to_token)},
            unknown_token,
            identifiers,
            special,
        )

    def _fill(
        self,
        idx_to_token: list[str],
        token_to_idx: Mapping[str, int],
        unknown_token: str | None,
        identifiers: dict[str, str | None],
        reserved_tokens: list[str],
    ) -> None:
        self._idx_to_token = idx_to_token
        self._token_to_idx = _Index(token_to_idx)
        self._token_to_idx.unknown_token = unknown_token
        self._identifiers_to_tokens = identifiers
        self._reserved_tokens = reserved_tokens
        self._embedding: Any = None

    # ------------------------------------------------------------------------------------------------------------------
    # Looking up

    # A string is itself an iterable of strings; the first signature that fits holds.
    @overload
    def __getitem__(self, tokens: str) -> int: ...  # type: ignore[overload-overlap]
    @overload
    def __getitem__(self, tokens: Iterable[str]) -> list[int]: ...
    def __getitem__(self, tokens: str | Iterable[str]) -> int | list[int]:
        """The index of a token, or the list of indices of several tokens.

        Raises:
            UnknownTokenError: a token is not in the vocabulary and there is no unknown token.
            DataError: something is no string.
        """
        if isinstance(tokens, str):
            return self._token_to_idx[tokens]
        try:
            return list(map(self._token_to_idx.__getitem__, tokens))
        except TypeError as error:
            raise DataError(
                f"A vocabulary looks up a token or a list of tokens. Received: {_shown(tokens)} ({error})."
            ) from error

    @overload
    def __call__(self, tokens: str) -> int: ...  # type: ignore[overload-overlap]
    @overload
    def __call__(self, tokens: Iterable[str]) -> list[int]: ...
    def __call__(self, tokens: str | Iterable[str]) -> int | list[int]:
        """As ``vocab[tokens]``."""
        return self[tokens]

    @overload
    def to_indices(self, tokens: str) -> int: ...  # type: ignore[overload-overlap]
    @overload
    def to_indices(self, tokens: Iterable[str]) -> list[int]: ...
    def to_indices(self, tokens: str | Iterable[str]) -> int | list[int]:
        """As ``vocab[tokens]``."""
        return self[tokens]

    @overload
    def to_tokens(self, indices: int) -> str: ...
    @overload
    def to_tokens(self, indices: Sequence[int] | np.ndarray) -> list[str]: ...
    def to_tokens(self, indices: int | Sequence[int] | np.ndarray) -> str | list[str]:
        """The token of an index, or the list of tokens of several indices (a vector of integers will do).

        Raises:
            DataError: an index is no integer, negative, or not below the size of the vocabulary.
        """
        several = np.ndim(indices) > 0
        wanted: list[Any] = list(indices) if several else [indices]  # type: ignore[arg-type]
        tokens = []
        for index in wanted:
            if not _is_index(index) or not 0 <= index < len(self._idx_to_token):
                raise DataError(
                    f"A vocabulary of {len(self)} tokens expects integers from 0 to {len(self) - 1}. "
                    f"Received: {index!r}."
                )
            tokens.append(self._idx_to_token[index])
        return tokens if several else tokens[0]

    def __contains__(self, token: object) -> bool:
        return isinstance(token, str) and token in self._token_to_idx

    def __len__(self) -> int:
        """How many indices there are: the number of rows that a matrix of embeddings needs."""
        return len(self._idx_to_token)

    def __iter__(self) -> Iterator[str]:
        return iter(self._idx_to_token)

    def __eq__(self, other: object) -> bool:
        """Whether tokens, indices and special tokens are the same; embeddings are not compared."""
        return isinstance(other, Vocab) and self._state() == other._state()

    # Attached embeddings change it, so that a hash would be of little use.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return (
            f"Vocab(size={len(self)}, unknown_token={self.unknown_token!r}, reserved_tokens={self.reserved_tokens!r})"
        )

    def __getattr__(self, name: str) -> Any:
        # Asked for only what is no attribute; while a vocabulary is being unpickled it has none at all.
        identifiers = self.__dict__.get("_identifiers_to_tokens", {})
        if name in identifiers:
            return identifiers[name]
        raise AttributeError(
            f"'Vocab' object has no attribute '{name}'. Its special tokens are unknown_token, {', '.join(identifiers)}."
        )

    # ------------------------------------------------------------------------------------------------------------------
    # What it holds

    @property
    def idx_to_token(self) -> Sequence[str]:
        """The token of each index. To be read only: it is the vocabulary's own list."""
        return self._idx_to_token

    @property
    def token_to_idx(self) -> Mapping[str, int]:
        """The index of each token, read-only; a token that is not there has the index of the unknown token."""
        return MappingProxyType(self._token_to_idx)

    @property
    def unknown_token(self) -> str | None:
        """What stands for tokens that are not in the vocabulary."""
        return self._token_to_idx.unknown_token

    @property
    def padding_token(self) -> str | None:
        """What fills sequences up."""
        return self._identifiers_to_tokens.get("padding_token")

    @property
    def bos_token(self) -> str | None:
        """What begins a sequence."""
        return self._identifiers_to_tokens.get("bos_token")

    @property
    def eos_token(self) -> str | None:
        """What ends a sequence."""
        return self._identifiers_to_tokens.get("eos_token")

    @property
    def reserved_tokens(self) -> list[str]:
        """The special tokens without the unknown token, then those that were reserved."""
        return list(self._reserved_tokens)

    # ------------------------------------------------------------------------------------------------------------------
    # Files

    def _state(self) -> dict[str, Any]:
        return {
            "idx_to_token": self._idx_to_token,
            "token_to_idx": dict(self._token_to_idx),
            # As GluonNLP writes it.
            "reserved_tokens": self._reserved_tokens or None,
            "unknown_token": self.unknown_token,
            "identifiers_to_tokens": self._identifiers_to_tokens,
        }

    def to_json(self) -> str:
        """The vocabulary in GluonNLP's JSON form, without embeddings."""
        return json.dumps(self._state())

    @classmethod
    def from_json(cls, text: str | bytes) -> Vocab:
        """The vocabulary that ``to_json`` wrote, here or in any version of GluonNLP.

        Files from before GluonNLP 0.7 keep special tokens beside the index, and where one token had two roles, their
        index is damaged: the token has several rows and one index. Such a vocabulary keeps its size, so that it still
        fits the weights that came with it; a warning says so.

        Raises:
            DataError: the text is not JSON, or not a vocabulary; the message says at which place.
        """
        return _from_json(cls, text)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes ``to_json`` to a file, all of it or nothing.

        Raises:
            OSError: the file cannot be written; what was there before is untouched.
        """
        write_text(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Vocab:
        """The vocabulary in a file that ``save`` or GluonNLP wrote.

        Raises:
            DataError: it is no vocabulary; the message says at which place.
            OSError: the file cannot be read.
        """
        try:
            return cls.from_json(Path(path).read_bytes())
        except DataError as error:
            raise DataError(f"{os.fspath(path)}: {error}") from error

    # ------------------------------------------------------------------------------------------------------------------
    # Embeddings

    @property
    def embedding(self) -> Any:
        """The ``TokenEmbedding`` whose row i belongs to index i, or None; see ``set_embedding``."""
        return self._embedding

    def set_embedding(self, *embeddings: Any) -> None:
        """Attaches vectors to the tokens: those of several embeddings side by side, or none with ``None``.

        A token that an embedding does not hold has that embedding's vector for unknown tokens; the vocabulary's own
        unknown token always has it. Where an embedding has no such vector, special and reserved tokens have zeros.

        Args:
            embeddings: each of them has ``idx_to_vec`` (number of tokens, dimension) and gives float32 vectors
                (n, dimension) for a list of n tokens.

        Raises:
            OptionError: nothing was given, or None beside embeddings, or something that is no embedding.
            DataError: a token that is neither special nor reserved is not in an embedding that has no vector for
                unknown tokens.
        """
        if len(embeddings) == 1 and embeddings[0] is None:
            self._embedding = None
            return
        if not embeddings:
            raise OptionError("set_embedding expects at least one embedding, or None to take the present one away.")
        for embedding in embeddings:
            if getattr(embedding, "idx_to_vec", None) is None:
                raise OptionError(
                    "set_embedding expects embeddings with vectors, such as TokenEmbedding.from_file(path). "
                    f"Received: {embedding!r}."
                )
        if len(self._token_to_idx) < len(self):
            raise DataError(
                "Embeddings need one row for each token, and this vocabulary, read from a damaged file, has several "
                "rows for some. Build a new one from its tokens to attach embeddings."
            )
        # Late: the embeddings' readers are of no use to those who only look tokens up.
        from glueball_nlp_embedding_lm.embedding import TokenEmbedding

        vectors = np.concatenate([self._vectors_of(embedding) for embedding in embeddings], axis=1)
        self._embedding = TokenEmbedding(
            unknown_token=self.unknown_token, idx_to_token=list(self._idx_to_token), idx_to_vec=vectors
        )

    def _vectors_of(self, embedding: Any) -> np.ndarray:
        """One embedding's vectors for all tokens: float32, (len(self), dimension)."""
        unknown_token = embedding.unknown_token
        if unknown_token is not None:
            # Names for the unknown token differ ("<unk>", "[UNK]"), what it means does not.
            names = [unknown_token if token == self.unknown_token else token for token in self._idx_to_token]
            return np.asarray(embedding[names], np.float32)
        lookup = getattr(embedding, "unknown_lookup", None)
        vectors = np.zeros((len(self), embedding.idx_to_vec.shape[1]), np.float32)
        not_words = {*self._reserved_tokens, self.unknown_token}
        places, lacking = [], []
        for place, token in enumerate(self._idx_to_token):
            if token in embedding or (lookup is not None and token in lookup):
                places.append(place)
            elif token not in not_words:
                lacking.append(token)
        if lacking:
            raise DataError(
                f"The embedding lacks {_some(lacking)} and has no vector for unknown tokens. Give it one "
                "(unknown_token='<unk>' when it is read), or leave these tokens out of the vocabulary."
            )
        if places:
            vectors[places] = embedding[[self._idx_to_token[place] for place in places]]
        return vectors


# ----------------------------------------------------------------------------------------------------------------------
# Building


def _is_index(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def _shown(value: object) -> str:
    """A value for a message, not longer than a line."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _some(values: Sequence[object]) -> str:
    """The first few of many, and how many there are."""
    shown = ", ".join(_shown(value) for value in values[:_MOST_SHOWN])
    return shown if len(values) <= _MOST_SHOWN else f"{shown} and {len(values) - _MOST_SHOWN} more"


def _identifier_problem(name: str) -> str:
    """Why a special token cannot have this name, or nothing."""
    if not name.endswith("_token"):
        return "does not end in '_token', as the name of a special token does"
    if not name.isidentifier() or name.startswith("_"):
        return "cannot be the name of an attribute"
    if name == "unknown_token" or (name not in _STANDARD_IDENTIFIERS and hasattr(Vocab, name)):
        return "is the name of something else"
    return ""


def _checked_reserved(
    reserved_tokens: Iterable[str] | None, unknown_token: str | None, identifiers: Mapping[str, str | None]
) -> list[str]:
    if reserved_tokens is None:
        return []
    if isinstance(reserved_tokens, (str, bytes)):
        raise OptionError(f"reserved_tokens is a list of tokens. Received a text: {_shown(reserved_tokens)}.")
    reserved = list(reserved_tokens)
    roles = {token: name for name, token in identifiers.items() if token is not None}
    if unknown_token is not None:
        roles[unknown_token] = "unknown_token"
    for token in reserved:
        if not isinstance(token, str) or not token:
            raise OptionError(f"reserved_tokens are strings of at least one character. Received: {token!r}.")
        if token in roles:
            raise OptionError(
                f"{_shown(token)} is in reserved_tokens and is the {roles[token]}, which needs no reservation. "
                "Take it out of reserved_tokens."
            )
    repeated = [token for token, count in collections.Counter(reserved).items() if count > 1]
    if repeated:
        raise OptionError(f"reserved_tokens holds each token once. Received several times: {_some(repeated)}.")
    return reserved


def _most_frequent(
    counter: Mapping[str, float], special: frozenset[str], max_size: int | None, min_freq: float
) -> list[str]:
    if not isinstance(counter, Mapping):
        raise OptionError(
            f"Vocab expects a counter, such as count_tokens(tokens) gives. Received: {type(counter).__name__}."
        )
    for token, count in counter.items():
        if not isinstance(token, str):
            raise OptionError(f"A counter of tokens holds strings. Received: {_shown(token)} ({type(token).__name__}).")
        if not isinstance(count, numbers.Real) or not math.isfinite(count):
            raise OptionError(f"A counter holds a number for each token. Received for {_shown(token)}: {count!r}.")
    taken = [token for token, count in counter.items() if count >= min_freq and token not in special]
    taken.sort()
    # Sorting is stable, also when reversed: equal counts stay in the order of code points.
    taken.sort(key=counter.__getitem__, reverse=True)
    return taken[:max_size]


def _rearrange(idx_to_token: list[str], wanted: Mapping[str, int]) -> None:
    """Brings tokens to their wanted indices, in the order in which they are named; as GluonNLP, by exchanges."""
    places = {token: place for place, token in enumerate(idx_to_token)}
    strangers = [token for token in wanted if token not in places]
    if strangers:
        raise OptionError(
            f"token_to_idx names {_some(strangers)}, which would not be in the vocabulary. Count them or reserve them, "
            "or raise max_size."
        )
    for token, place in wanted.items():
        if not _is_index(place) or not 0 <= place < len(idx_to_token):
            raise OptionError(
                f"token_to_idx gives integers from 0 to {len(idx_to_token) - 1} for a vocabulary of "
                f"{len(idx_to_token)} tokens. Received: {place!r} for {_shown(token)}."
            )
    shared = [place for place, count in collections.Counter(wanted.values()).items() if count > 1]
    if shared:
        raise OptionError(f"token_to_idx gives each index once. Given to several tokens: {_some(sorted(shared))}.")
    for token, place in wanted.items():
        former = places[token]
        ousted = idx_to_token[place]
        idx_to_token[former], idx_to_token[place] = ousted, token
        places[ousted], places[token] = former, int(place)


# ----------------------------------------------------------------------------------------------------------------------
# Reading


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        repeated = [name for name, count in collections.Counter(name for name, _ in pairs).items() if count > 1]
        raise DataError(f"A vocabulary's JSON names each member once. Named several times: {_some(repeated)}.")
    return members


def _parse(text: str | bytes) -> dict[str, Any]:
    try:
        data = json.loads(
            text.decode("utf-8-sig") if isinstance(text, bytes) else text, object_pairs_hook=_without_repetition
        )
    except DataError:
        raise
    # Besides what is no JSON: bytes that are no UTF-8, integers of thousands of digits, nesting without end.
    except (ValueError, RecursionError) as error:
        raise DataError(f"A vocabulary is expected as JSON, and this is none: {error}.") from error
    except TypeError as error:
        raise DataError(f"A vocabulary is read from a text. Received: {type(text).__name__}.") from error
    if not isinstance(data, dict):
        raise DataError(f"A vocabulary's JSON is an object. Received: {_shown(data)}.")
    return data


def _member(data: Mapping[str, Any], name: str, kind: type) -> Any:
    if name not in data:
        raise DataError(f"A vocabulary's JSON has a member {name!r}. This one has: {_some(list(data)) or 'none'}.")
    if not isinstance(data[name], kind):
        raise DataError(f"{name} of a vocabulary is a JSON {_JSON_NAMES[kind]}. Received: {_shown(data[name])}.")
    return data[name]


_JSON_NAMES: dict[type, str] = {list: "array", dict: "object"}


def _from_json(cls: type[Vocab], text: str | bytes) -> Vocab:
    data = _parse(text)
    idx_to_token: list[str] = _member(data, "idx_to_token", list)
    token_to_idx: dict[str, int] = _member(data, "token_to_idx", dict)
    _check_index(idx_to_token, token_to_idx)

    def token(name: str, value: Any) -> str | None:
        # GluonNLP takes an empty unknown token for none.
        if value is None or value == "":
            return None
        if not isinstance(value, str):
            raise DataError(f"{name} of a vocabulary is a string or null. Received: {_shown(value)}.")
        if value not in token_to_idx:
            raise DataError(f"{name} of the vocabulary is {_shown(value)}, which is not among its tokens.")
        return value

    if "unknown_token" not in data:
        raise DataError("A vocabulary's JSON has a member 'unknown_token', which may be null. This one has none.")
    unknown_token = token("unknown_token", data["unknown_token"])
    identifiers: dict[str, str | None] = {}
    if data.get("identifiers_to_tokens") is not None:
        for name, value in _member(data, "identifiers_to_tokens", dict).items():
            problem = _identifier_problem(name)
            if problem:
                raise DataError(f"identifiers_to_tokens of the vocabulary has {_shown(name)}, which {problem}.")
            identifiers[name] = token(name, value)
    for name in _OLD_KEYS:
        if name in data:
            value = token(name, data[name])
            if identifiers.setdefault(name, value) != value:
                raise DataError(
                    f"The vocabulary's JSON says twice what {name} is: {_shown(value)}, and {identifiers[name]!r} in "
                    "identifiers_to_tokens."
                )
    # The order of the constructor.
    for name in _STANDARD_IDENTIFIERS:
        identifiers[name] = identifiers.pop(name, None)
    special = list(dict.fromkeys(value for value in identifiers.values() if value is not None))
    reserved = _read_reserved(data, {*special, unknown_token}, token_to_idx)
    vocab = cls.__new__(cls)
    vocab._fill(idx_to_token, token_to_idx, unknown_token, identifiers, special + reserved)
    return vocab


def _check_index(idx_to_token: list[Any], token_to_idx: dict[str, Any]) -> None:
    """Demands that the two say the same, but for the known damage of old files, which is only warned of."""
    for place, token in enumerate(idx_to_token):
        if not isinstance(token, str):
            raise DataError(f"idx_to_token holds strings. Received at {place}: {_shown(token)}.")
    for token, place in token_to_idx.items():
        if not _is_index(place) or not 0 <= place < len(idx_to_token):
            raise DataError(
                f"token_to_idx holds integers from 0 to {len(idx_to_token) - 1} for {len(idx_to_token)} tokens. "
                f"Received for {_shown(token)}: {_shown(place)}."
            )
        if idx_to_token[place] != token:
            raise DataError(
                f"token_to_idx gives {_shown(token)} the index {place}, where idx_to_token has "
                f"{_shown(idx_to_token[place])}."
            )
    lacking = [token for token in idx_to_token if token not in token_to_idx]
    if lacking:
        raise DataError(f"idx_to_token holds {_some(lacking)}, which token_to_idx lacks.")
    if len(idx_to_token) > len(token_to_idx):
        repeated = [token for token, count in collections.Counter(idx_to_token).items() if count > 1]
        warnings.warn(
            f"The vocabulary was written by a version of GluonNLP that gave a token several rows where it had several "
            f"roles: {_some(repeated)}. The rows are kept, so that it fits its weights, and the token has the index "
            "that the file gives it.",
            UserWarning,
            stacklevel=4,
        )


def _read_reserved(data: Mapping[str, Any], special: set[str | None], token_to_idx: Mapping[str, int]) -> list[str]:
    """Those of ``reserved_tokens`` that have no role of their own."""
    if data.get("reserved_tokens") is None:
        return []
    reserved: list[str] = []
    seen: set[str] = set()
    for token in _member(data, "reserved_tokens", list):
        if not isinstance(token, str) or token not in token_to_idx:
            raise DataError(f"reserved_tokens of the vocabulary has {_shown(token)}, which is not among its tokens.")
        if token in special:
            continue
        if token in seen:
            raise DataError(f"reserved_tokens of the vocabulary has {_shown(token)} several times.")
        seen.add(token)
        reserved.append(token)
    return reserved

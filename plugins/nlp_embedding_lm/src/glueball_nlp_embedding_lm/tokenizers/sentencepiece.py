"""Pieces of words by a trained SentencePiece model (Kudo and Richardson, arXiv:1808.06226).

The library cuts texts. Drawing one of several ways to cut (Kudo, arXiv:1804.10959; for byte pairs Provilkov et al.,
arXiv:1910.13267) is done here instead, from the model's own pieces and scores: the library draws from generators of its
own, one for each thread, so that a sample would depend on what the thread had drawn before. Here it depends on the
generator that is passed in and on nothing else. The probabilities are those of the library.
"""

from __future__ import annotations

import base64
import binascii
import functools
import heapq
import math
import os
import struct
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np

from glueball.errors import DataError, OptionError
from glueball.files import atomic_write
from glueball_nlp_embedding_lm.tokenizers.base import Detokenizer, Tokenizer, check_text, check_tokens, flag

# Of a model's file, a protocol buffer: what is read here of its fields, and what their values mean.
_PIECES, _TRAINER = 1, 2
_PIECE, _SCORE, _KIND = 1, 2, 3
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_MODEL_TYPE = 3
_UNIGRAM, _BPE = 1, 2

# What an unknown character costs more than the least likely piece, by which it is a last resort.
_UNKNOWN_PENALTY = 10.0

# The library lists so many ways in a fraction of a second; time and memory grow with their number.
_MOST_WAYS = 10_000


def _number(value: Any) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


@attrs.frozen(init=False)
class SentencePieceTokenizer(Tokenizer):
    """The pieces of a trained model.

    With ``num_best`` other than 0 or 1 each call draws one of the ways to cut the text, which makes a network robust
    against rare words; the call then takes the generator to draw from, as random transforms do.

    Args:
        path: the model's file, ``*.model`` or GluonNLP's ``*.spiece``.
        num_best: 0 or 1: the best way. More: one of so many best, drawn by probability**alpha. -1: one of all.
            Byte-pair models skip each merge with probability ``alpha`` instead, for any ``num_best`` but 0 and 1.
        alpha: how much the better ways are preferred (for byte pairs: how many merges are skipped, from 0 to 1).
        lower: put texts in lower case first.
        model: the file's content, instead of ``path``.

    Raises:
        OptionError: an option cannot be used, or the model cannot draw.
        DataError: the file is no model, or a damaged one.
        OSError: the file cannot be read.
    """

    name: ClassVar[str] = "sentencepiece"
    model: bytes = attrs.field(repr=lambda model: f"<{len(model)} bytes>")
    num_best: int
    alpha: float
    lower: bool
    _trained: _Model = attrs.field(init=False, eq=False, repr=False)

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        num_best: int = 0,
        alpha: float = 1.0,
        lower: bool = False,
        *,
        model: bytes | None = None,
    ) -> None:
        if (path is None) == (model is None):
            raise OptionError(
                "The tokeniser 'sentencepiece' expects the path of a model's file, or its content as model."
            )
        is_whole = isinstance(num_best, (int, np.integer)) and not isinstance(num_best, bool)
        if not is_whole or not -1 <= num_best <= _MOST_WAYS:
            raise OptionError(
                "The tokeniser 'sentencepiece' expects num_best as 0 (the best), a number of best ways to choose from "
                f"(at most {_MOST_WAYS:,}), or -1 (all). Received: {num_best!r:.80}."
            )
        if not _number(alpha) or not math.isfinite(alpha) or alpha < 0:
            raise OptionError(
                f"The tokeniser 'sentencepiece' expects alpha as a number of at least 0. Received: {alpha!r}."
            )
        if path is not None and not isinstance(path, (str, os.PathLike)):
            raise OptionError(
                f"The tokeniser 'sentencepiece' expects path as a text or a path. Received: {path!r:.80}."
            )
        content = Path(path).read_bytes() if path is not None else model
        if not isinstance(content, bytes):
            raise OptionError(
                f"The tokeniser 'sentencepiece' expects model as bytes. Received: {type(content).__name__}."
            )
        try:
            trained = _model(content)
        except DataError as error:
            raise error if path is None else DataError(f"{os.fspath(path)}: {error}") from error
        self.__attrs_init__(content, int(num_best), float(alpha), lower)  # type: ignore[attr-defined]
        flag(self, attrs.fields(type(self)).lower, lower)
        object.__setattr__(self, "_trained", trained)
        if self.is_random:
            if trained.model_type not in (_UNIGRAM, _BPE):
                raise OptionError(
                    "This SentencePiece model is of words or characters, which can be cut in one way only. "
                    f"Expected num_best 0. Received: {self.num_best}."
                )
            if trained.model_type == _BPE and alpha > 1:
                raise OptionError(
                    f"With a byte-pair model, alpha is the share of merges to skip, from 0 to 1. Received: {alpha!r}."
                )

    @property
    def is_random(self) -> bool:
        """Whether a call draws random numbers."""
        return self.num_best not in (0, 1)

    def __call__(self, text: str, random: np.random.Generator | None = None) -> list[str]:
        """The pieces of a text; ``\\u2581`` in a piece is where a space was, or the text began.

        Args:
            text: is normalised as the model wants it (white space, Unicode form).
            random: what to draw from; without one, fresh entropy, for trying things out.
        """
        text = _encodable(check_text(text).lower() if self.lower else check_text(text))
        if not self.is_random:
            return self._trained.pieces_of(text)
        generator = np.random.default_rng() if random is None else random
        return self._trained.sample(text, self.num_best, self.alpha, generator)

    def detokenizer(self) -> SentencePieceDetokenizer:
        """What makes text of pieces again."""
        return SentencePieceDetokenizer(model=self.model)

    def save_model(self, path: str | os.PathLike[str]) -> None:
        """Writes the model's file, all of it or nothing.

        Raises:
            OSError: it cannot be written; what was there before is untouched.
        """
        with atomic_write(path) as file:
            file.write(self.model)

    @property
    def vocabulary(self) -> list[str]:
        """All pieces, in the order of the model's own indices."""
        return list(self._trained.pieces)

    def describe(self) -> dict[str, Any]:
        """Options in plain values, for JSON; the model's file is among them, in base64."""
        return {
            "name": self.name,
            "model": base64.b64encode(self.model).decode("ascii"),
            "num_best": self.num_best,
            "alpha": self.alpha,
            "lower": self.lower,
        }

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> SentencePieceTokenizer:
        """See ``Tokenizer.from_options``."""
        options = dict(options)
        if "path" in options:
            # A description comes from a run, which somebody may have shared: it must not choose what is read here.
            raise DataError("The description of a SentencePiece tokeniser holds a path, expected the model itself.")
        if "model" in options:
            try:
                options["model"] = base64.b64decode(options["model"], validate=True)
            except (TypeError, ValueError, binascii.Error) as error:
                raise DataError(f"The SentencePiece model in the description is no base64: {error}.") from error
        return cls(**options)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (
            type(self),
            {"model": self.model, **{k: getattr(self, k) for k in ("num_best", "alpha", "lower")}},
        )


@attrs.frozen(init=False)
class SentencePieceDetokenizer(Detokenizer):
    """Text of the pieces of a trained model; the model's own unknown piece becomes what it prints for it.

    Args:
        path: the model's file.
        model: the file's content, instead of ``path``.

    Raises:
        OptionError: neither or both are given.
        DataError: the file is no model, or a damaged one.
        OSError: the file cannot be read.
    """

    model: bytes = attrs.field(repr=lambda model: f"<{len(model)} bytes>")
    _trained: _Model = attrs.field(init=False, eq=False, repr=False)

    def __init__(self, path: str | os.PathLike[str] | None = None, *, model: bytes | None = None) -> None:
        tokenizer = SentencePieceTokenizer(path, model=model)
        self.__attrs_init__(tokenizer.model)  # type: ignore[attr-defined]
        object.__setattr__(self, "_trained", tokenizer._trained)

    def __call__(self, tokens: list[str]) -> str:
        return self._trained.text_of([_encodable(token) for token in check_tokens(tokens)])

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), {"model": self.model})


def _rebuilt(kind: type, options: dict[str, Any]) -> Any:
    return kind(**options)


def _encodable(text: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"SentencePiece reads UTF-8, which cannot write this text: {text!r:.80} ({error.reason})."
        ) from error
    return text


# ----------------------------------------------------------------------------------------------------------------------
# The model


@functools.lru_cache(8)
def _model(content: bytes) -> _Model:
    """Tokenisers of one model share what was made of it."""
    return _Model(content)


class _Model:
    """A model's pieces, and the library's processor."""

    def __init__(self, content: bytes) -> None:
        from sentencepiece import SentencePieceProcessor

        self.pieces: list[str] = []
        self._scores: dict[str, float] = {}
        self._fixed: set[str] = set()
        self._unused: set[str] = set()
        self._bytes: dict[str, int] = {}
        self.model_type = _UNIGRAM
        lowest, highest = math.inf, -math.inf
        for piece, score, kind in self._read(content):
            self.pieces.append(piece)
            if kind == _NORMAL:
                lowest, highest = min(lowest, score), max(highest, score)
            if kind in (_NORMAL, _USER_DEFINED, _UNUSED):
                self._scores[piece] = score
            if kind == _USER_DEFINED:
                self._fixed.add(piece)
            if kind == _UNUSED:
                self._unused.add(piece)
            if kind == _BYTE:
                self._bytes[piece] = len(self._bytes)
        if not self.pieces:
            raise DataError("This is no SentencePiece model: it has no pieces.")
        if lowest > highest:
            lowest = highest = 0.0
        self._unknown_score = lowest - _UNKNOWN_PENALTY
        for piece in self._fixed:
            # So that it is always preferred to what it could be cut into.
            self._scores[piece] = len(piece.encode()) * highest - 0.1
        # By its first character, how long a piece can be.
        self._longest: dict[str, int] = {}
        for piece in self._scores.keys() - self._unused:
            self._longest[piece[:1]] = max(len(piece), self._longest.get(piece[:1], 0))
        self._longest_fixed = max(map(len, self._fixed), default=0)
        try:
            self.processor = SentencePieceProcessor(model_proto=content)
            size = self.processor.get_piece_size()
        except (RuntimeError, ValueError, TypeError, OSError) as error:
            raise DataError(f"This is no SentencePiece model that can be used: {error}.") from error
        if size != len(self.pieces):
            raise DataError(
                f"This SentencePiece model is damaged: {len(self.pieces)} pieces, of which {size} can be read."
            )

    def _read(self, content: bytes) -> Iterator[tuple[str, float, int]]:
        """Text, score and kind of each piece; notes the type of the model."""
        for field, value in _fields(content):
            if field == _TRAINER and isinstance(value, bytes):
                for inner, number in _fields(value):
                    if inner == _MODEL_TYPE and isinstance(number, int):
                        self.model_type = number
            if field != _PIECES or not isinstance(value, bytes):
                continue
            piece, score, kind = b"", 0.0, _NORMAL
            for inner, content_of in _fields(value):
                if inner == _PIECE and isinstance(content_of, bytes):
                    piece = content_of
                elif inner == _SCORE and isinstance(content_of, float):
                    score = content_of
                elif inner == _KIND and isinstance(content_of, int):
                    kind = content_of
            if not math.isfinite(score):
                raise DataError(f"This SentencePiece model is damaged: piece {len(self.pieces)} has the score {score}.")
            try:
                yield piece.decode("utf-8"), score, kind
            except UnicodeDecodeError as error:
                raise DataError(
                    f"This SentencePiece model is damaged: piece {len(self.pieces)} is no UTF-8 ({error})."
                ) from error

    def pieces_of(self, text: str) -> list[str]:
        """The best way to cut."""
        pieces: list[str] = self._ask(self.processor.encode_as_pieces, text)
        return pieces

    def text_of(self, pieces: list[str]) -> str:
        """The text of pieces."""
        text: str = self._ask(self.processor.decode_pieces, pieces)
        return text

    def _ask(self, method: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return method(*arguments)
        except (RuntimeError, ValueError) as error:
            # Damaged rules of normalisation are noticed when they make of a text what is no text.
            raise DataError(f"This SentencePiece model cannot be used with this text: {error}.") from error

    def _normalized(self, text: str) -> str:
        normalized: str = self._ask(self.processor.normalize, text)
        return normalized

    # ------------------------------------------------------------------------------------------------------------------
    # Drawing

    def sample(self, text: str, num_best: int, alpha: float, random: np.random.Generator) -> list[str]:
        """One of the ways to cut."""
        if self.model_type == _BPE:
            return self._joined(self._with_skipped_merges(self._normalized(text), alpha, random))
        if num_best > 1:
            ways: list[list[str]] = self._ask(self.processor.nbest_encode_as_pieces, text, num_best)
            return ways[_draw([alpha * self._score_of(way) for way in ways], random)] if ways else []
        return self._joined(self._drawn_from_all(self._normalized(text), alpha, random))

    def _score_of(self, way: list[str]) -> float:
        """The logarithm of a way's probability, up to a constant."""
        total = 0.0
        for piece in way:
            if piece in self._scores:
                total += self._scores[piece]
            elif piece in self._bytes:
                # One unknown character is several of these, of which one begins it.
                total += self._unknown_score if int(piece[3:5], 16) & 0xC0 != 0x80 else 0.0
            else:
                total += self._unknown_score * len(piece)
        return total

    def _joined(self, pieces: list[str]) -> list[str]:
        """As the library gives them: unknown characters side by side are one piece, or one piece for each byte."""
        result: list[str] = []
        was_unknown = False
        for piece in pieces:
            is_unknown = piece not in self._scores
            if is_unknown and self._bytes:
                result.extend(f"<0x{byte:02X}>" for byte in piece.encode("utf-8"))
            elif is_unknown and was_unknown:
                result[-1] += piece
            else:
                result.append(piece)
            was_unknown = is_unknown
        return result

    def _drawn_from_all(self, text: str, alpha: float, random: np.random.Generator) -> list[str]:
        """Forwards, the sum over all ways to each place; backwards, one piece after the other by its share of that."""
        scores, length = self._scores, len(text)
        sums = [0.0] + [-math.inf] * length
        incoming: list[list[tuple[float, int]]] = [[] for _ in range(length + 1)]
        for begin in range(length):
            # All ways to this place are known now.
            if begin:
                sums[begin] = _log_sum_exp([weight for weight, _ in incoming[begin]])
            character = text[begin]
            for end in range(begin + 1, min(begin + self._longest.get(character, 0), length) + 1):
                piece = text[begin:end]
                if piece in scores and piece not in self._unused:
                    incoming[end].append((sums[begin] + alpha * scores[piece], begin))
            if character not in scores or character in self._unused:
                incoming[begin + 1].append((sums[begin] + alpha * self._unknown_score, begin))
        pieces = []
        end = length
        while end:
            begin = incoming[end][_draw([weight for weight, _ in incoming[end]], random)][1]
            pieces.append(text[begin:end])
            end = begin
        pieces.reverse()
        return pieces

    def _with_skipped_merges(self, text: str, alpha: float, random: np.random.Generator) -> list[str]:
        """Byte pairs merged from the best to the worst, some skipped."""
        symbols, fixed = self._characters(text)
        before = list(range(-1, len(symbols) - 1))
        after = [*range(1, len(symbols)), -1]
        if not symbols:
            return []
        origin: dict[str, tuple[str, str]] = {}
        heap: list[tuple[float, int, int, str]] = []

        def consider(left: int, right: int) -> None:
            if left < 0 or right < 0 or fixed[left] or fixed[right]:
                return
            merged = symbols[left] + symbols[right]
            score = self._scores.get(merged)
            if score is not None:
                heapq.heappush(heap, (-score, left, right, merged))
                if merged in self._unused:
                    origin[merged] = (symbols[left], symbols[right])

        for right in range(1, len(symbols)):
            consider(right - 1, right)
        while heap:
            _, left, right, merged = heapq.heappop(heap)
            # One of the two may be part of something longer by now.
            if not symbols[left] or not symbols[right] or len(symbols[left]) + len(symbols[right]) != len(merged):
                continue
            if random.random() < alpha:
                continue
            symbols[left], symbols[right] = merged, ""
            after[left] = after[right]
            if after[right] >= 0:
                before[after[right]] = left
            consider(before[left], left)
            consider(left, after[left])
        pieces: list[str] = []
        for symbol in symbols:
            waiting = [symbol] if symbol else []
            while waiting:
                piece = waiting.pop()
                if piece in self._unused and piece in origin:
                    waiting.extend(reversed(origin[piece]))
                else:
                    pieces.append(piece)
        return pieces

    def _characters(self, text: str) -> tuple[list[str], list[bool]]:
        """What merging begins with: characters, and whole symbols that the model's user defined."""
        symbols, fixed = [], []
        at = 0
        while at < len(text):
            length = next(
                (size for size in range(self._longest_fixed, 0, -1) if text[at : at + size] in self._fixed), 0
            )
            symbols.append(text[at : at + max(length, 1)])
            fixed.append(length > 0)
            at += len(symbols[-1])
        return symbols, fixed


def _log_sum_exp(values: list[float]) -> float:
    if len(values) == 1:
        return values[0]
    highest = max(values)
    return highest + math.log(math.fsum(math.exp(value - highest) for value in values))


def _draw(weights: list[float], random: np.random.Generator) -> int:
    """One index, by the exponentials of the weights."""
    if len(weights) == 1:
        return 0
    highest = max(weights)
    shares = [math.exp(weight - highest) for weight in weights]
    left = random.random() * math.fsum(shares)
    for index, share in enumerate(shares):
        left -= share
        if left < 0:
            return index
    return max(range(len(shares)), key=shares.__getitem__)


# ----------------------------------------------------------------------------------------------------------------------
# Protocol buffers, as far as they are needed


def _fields(data: bytes) -> Iterator[tuple[int, int | float | bytes]]:
    """Number and value of each field of a message: integers, 32-bit floats, and bytes for all that has a length.

    Raises:
        DataError: it is no message.
    """
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        value: int | float | bytes
        if kind == 0:
            value, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
            value = struct.unpack("<d" if kind == 1 else "<f", _part(data, at, size))[0]
            at += size
        elif kind == 2:
            size, at = _varint(data, at)
            value = _part(data, at, size)
            at += size
        else:
            raise DataError(f"This is no SentencePiece model, or a damaged one: an unknown field at byte {at}.")
        if number == 0:
            raise DataError(
                f"This is no SentencePiece model, or a damaged one: a field without a number before byte {at}."
            )
        yield number, value


def _part(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise DataError(
            f"This is no SentencePiece model, or a damaged one: {size} bytes are announced at {at}, and "
            f"{len(data) - at} are there."
        )
    return data[at : at + size]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise DataError(f"This is no SentencePiece model, or a damaged one: a number does not end at byte {at}.")

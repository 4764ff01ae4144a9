"""From a text to the ids that a network sees: tokeniser, vocabulary, n-grams; and from many to padded batches.

What happened to the training texts must happen to every text afterwards. So all of it is one frozen object that a run
carries along (``describe`` / ``from_description``), with a hash, because a vocabulary in another order would give
answers that look like answers.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from glueball.data import Dataset
from glueball.data.batchify import allocate
from glueball.errors import DataError, OptionError

from .counting import Counter, count_tokens
from .subwords import WordNGrams
from .tokenizers import Tokenizer, from_description, get_tokenizer
from .vocab import Vocab

# Texts longer than the longest bucket are padded to a multiple of this, so that they share compiled code as well.
_ROUND_TO = 32


def build_tokenizer(tokenizer: str | Mapping[str, Any], lower: bool) -> tuple[Tokenizer, bool]:
    """The tokeniser, and whether its tokens are still to be put in lower case.

    Args:
        tokenizer: a name, or a mapping of the name and options, such as ``{"name": "kim", "lower": False}``.
        lower: whether tokens should be in lower case; an option ``lower`` of the tokeniser has the last word.

    Raises:
        UnknownNameError, OptionError: as ``get_tokenizer``.
    """
    given = {"name": tokenizer} if isinstance(tokenizer, str) else dict(tokenizer)
    if not isinstance(given.get("name"), str):
        raise OptionError(
            f"A tokeniser is a name such as 'basic', or a mapping with a name and options. Received: {tokenizer!r}."
        )
    name = given.pop("name")
    if "lower" in given:
        return get_tokenizer(name, **given), False
    built = get_tokenizer(name, **given)
    if "lower" in built.describe():
        # Some know better than str.lower what to do with capitals before they are gone.
        return get_tokenizer(name, lower=lower, **given), False
    return built, lower


@attrs.frozen(kw_only=True, eq=False)
class TextPipeline:
    """What turns a text into token ids.

    Ids from ``len(vocab)`` on are n-grams of up to ``ngrams`` words, hashed into ``buckets`` as fastText does.
    """

    tokenizer: Tokenizer
    vocab: Vocab
    lower: bool = False
    """Whether tokens are put in lower case after cutting."""
    max_length: int | None = None
    """At most so many tokens of a text are kept: the first ones."""
    ngrams: int = 1
    buckets: int = 0

    def tokens(self, text: str) -> list[str]:
        """The tokens of a text that count.

        Raises:
            DataError: it is no text.
        """
        return cut(self.tokenizer, text, self.lower, self.max_length)

    def __call__(self, text: str) -> np.ndarray:
        """Ids of the tokens, then of the n-grams: int32, (number of ids,); none for a text without tokens.

        Raises:
            DataError: it is no text.
        """
        tokens = self.tokens(text)
        ids = np.array(self.vocab[tokens], np.int32)
        if self.ngrams == 1 or len(tokens) < 2:
            return ids
        further = WordNGrams(self.buckets, self.ngrams)(tokens) + len(self.vocab)
        return np.concatenate([ids, further.astype(np.int32)])

    @property
    def padding_id(self) -> int:
        """What fills rows up; networks do not look at it."""
        token = self.vocab.padding_token
        return 0 if token is None else self.vocab[token]

    def describe(self) -> dict[str, Any]:
        """All of it in terms that JSON knows, with the hash of the vocabulary."""
        tokens = list(self.vocab.idx_to_token)
        return {
            "tokenizer": self.tokenizer.describe(),
            "lower": self.lower,
            "max_length": self.max_length,
            "ngrams": self.ngrams,
            "buckets": self.buckets,
            "vocabulary": {
                "sha256": _fingerprint(tokens),
                "unknown_token": self.vocab.unknown_token,
                "padding_token": self.vocab.padding_token,
                "tokens": tokens,
            },
        }

    @classmethod
    def from_description(cls, description: Mapping[str, Any]) -> TextPipeline:
        """The inverse of ``describe``.

        Raises:
            DataError: the description is damaged: a key is missing, the vocabulary does not have its hash, or the
                tokeniser is unknown.
            OptionError: a library that the tokeniser needs is missing.
        """
        try:
            kept = description["vocabulary"]
            tokens, unknown, padding = kept["tokens"], kept["unknown_token"], kept["padding_token"]
            expected = kept["sha256"]
            tokenizer = from_description(description["tokenizer"])
            options = {key: description[key] for key in ("lower", "max_length", "ngrams", "buckets")}
        except (KeyError, TypeError) as error:
            raise DataError(f"The description of how texts are read is damaged: it lacks {error}.") from error
        _check_description(tokens, options)
        received = _fingerprint(tokens)
        if received != expected:
            raise DataError(
                f"The vocabulary of the run is not the one that it was trained with: the hash of its {len(tokens)} "
                f"tokens is {received}, expected {expected}. Restore run.json."
            )
        index = {token: place for place, token in enumerate(tokens)}
        vocab = Vocab.from_json(
            json.dumps(
                {
                    "idx_to_token": tokens,
                    "token_to_idx": index,
                    "reserved_tokens": [] if padding is None else [padding],
                    "unknown_token": unknown,
                    "identifiers_to_tokens": {} if padding is None else {"padding_token": padding},
                }
            )
        )
        return cls(tokenizer=tokenizer, vocab=vocab, **options)


def _check_description(tokens: Any, options: Mapping[str, Any]) -> None:
    """Values of other types would be taken for what they are not: a text is true, and its length a number.

    Raises:
        DataError: a value is not what ``describe`` writes.
    """
    if not isinstance(tokens, list) or not all(isinstance(token, str) for token in tokens):
        problem = f"the tokens of the vocabulary must be a list of texts, received {_shown(tokens)}"
    elif len(set(tokens)) < len(tokens):
        twice = next(token for place, token in enumerate(tokens) if token in tokens[:place])
        problem = f"each token of the vocabulary must be there once, received {twice!r} twice"
    elif not isinstance(options["lower"], bool):
        problem = f"'lower' must be true or false, received {_shown(options['lower'])}"
    elif options["max_length"] is not None and not is_whole(options["max_length"], 1):
        problem = f"'max_length' must be null or a whole number from 1, received {_shown(options['max_length'])}"
    elif not is_whole(options["ngrams"], 1):
        problem = f"'ngrams' must be a whole number from 1, received {_shown(options['ngrams'])}"
    elif not is_whole(options["buckets"], 1 if options["ngrams"] > 1 else 0):
        problem = f"'buckets' must be a whole number, from 1 with n-grams, received {_shown(options['buckets'])}"
    elif len(tokens) + options["buckets"] > np.iinfo(np.int32).max:
        problem = f"'buckets' must leave ids below 2**31, received {_shown(options['buckets'])}"
    else:
        return
    raise DataError(f"The description of how texts are read is damaged: {problem}. Restore run.json.")


def is_whole(value: Any, least: int) -> bool:
    """Whether it is a whole number of at least ``least``, as JSON knows them."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def cut(tokenizer: Tokenizer, text: str, lower: bool, max_length: int | None) -> list[str]:
    """The tokens of a text, in lower case where asked, at most ``max_length``.

    Raises:
        DataError: it is no text.
    """
    tokens = tokenizer(text)[:max_length]
    return [token.lower() for token in tokens] if lower else tokens


def _fingerprint(tokens: Sequence[str]) -> str:
    return hashlib.sha256(json.dumps(list(tokens)).encode()).hexdigest()


def count_texts(texts: Iterable[str], tokenizer: Tokenizer, lower: bool, max_length: int | None) -> Counter:
    """How often each token occurs in the texts."""
    counter = Counter()
    for text in _progress(texts, "counting words"):
        count_tokens(cut(tokenizer, text, lower, max_length), counter=counter)
    return counter


class EncodedTexts(Dataset):
    """A data set of texts as samples (ids, label): int32 (number of ids,) and an int. All ids are in one array.

    Raises:
        DataError: a sample is not a text and a label; the message names it.
    """

    def __init__(self, source: Any, pipeline: TextPipeline) -> None:
        self.source = source
        arrays, labels = [], []
        for index in _progress(range(len(source)), "reading texts"):
            try:
                text, label = source[index]
                arrays.append(pipeline(text))
                labels.append(int(label))
            except (TypeError, ValueError) as error:
                place = source.describe(index) if hasattr(source, "describe") else ""
                raise DataError(
                    f"Sample {index}{f' ({place})' if place else ''} is not a text and a label: {error}"
                ) from error
        self._labels = np.array(labels, np.int64)
        self.lengths = np.fromiter(map(len, arrays), np.int64, len(arrays))
        """Ids of each text, (length,)."""
        self._ids = np.concatenate(arrays) if arrays else np.zeros(0, np.int32)
        self._bounds = np.concatenate([[0], np.cumsum(self.lengths)]).tolist()

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        return self._ids[self._bounds[index] : self._bounds[index + 1]], int(self._labels[index])

    def labels(self) -> np.ndarray:
        return self._labels

    def describe(self, index: int) -> str:
        return str(self.source.describe(index)) if hasattr(self.source, "describe") else ""


@attrs.frozen
class PadTexts:
    """Makes a batch of samples (ids, label): token_ids (batch, length) int32, valid_length (batch,) float32, labels.

    ``length`` is the smallest of ``keys`` that all texts fit into, so that few shapes occur.
    """

    padding_id: int
    keys: tuple[int, ...] = ()

    def __call__(self, samples: Sequence[tuple[np.ndarray, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        token_ids, valid_length = self.pad([ids for ids, _ in samples])
        return token_ids, valid_length, np.array([label for _, label in samples], np.int64)

    def pad(self, texts: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """(token_ids, valid_length) of texts that are ids."""
        lengths = np.fromiter(map(len, texts), np.int64, len(texts))
        token_ids = allocate((len(texts), self.length(int(lengths.max()))), np.int32)
        token_ids[...] = self.padding_id
        # One assignment for all rows: a row's first places are filled in the order of the concatenated texts.
        token_ids[np.arange(token_ids.shape[1]) < lengths[:, None]] = np.concatenate(texts)
        return token_ids, lengths.astype(np.float32)

    def length(self, longest: int) -> int:
        """The padded length of texts of which the longest has so many ids; at least 1."""
        longest = max(1, longest)
        for key in self.keys:
            if longest <= key:
                return key
        return longest if not self.keys else -(-longest // _ROUND_TO) * _ROUND_TO


def _progress(items: Any, title: str) -> Any:
    from tqdm import tqdm

    # None: on a terminal only. Most data sets are read before anybody would wait.
    return tqdm(items, desc=title, unit="text", leave=False, disable=None, delay=2.0)

"""Tokenisers by name: ``get_tokenizer("basic")("It isn't.")`` gives ``["It", "is", "n't", "."]``.

A tokeniser is found again from what ``describe`` said of it (``from_description``), so that a trained network keeps
the very one that it was trained with. Libraries are imported when a tokeniser needs them, not before.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from glueball.catalog.suggestions import did_you_mean
from glueball.errors import DataError, OptionError, UnknownNameError
from glueball_nlp_embedding_lm.tokenizers.base import Detokenizer, Tokenizer
from glueball_nlp_embedding_lm.tokenizers.basic import BasicTokenizer
from glueball_nlp_embedding_lm.tokenizers.jieba import JiebaTokenizer
from glueball_nlp_embedding_lm.tokenizers.kim import KimTokenizer
from glueball_nlp_embedding_lm.tokenizers.moses import MosesDetokenizer, MosesTokenizer
from glueball_nlp_embedding_lm.tokenizers.sentencepiece import SentencePieceDetokenizer, SentencePieceTokenizer
from glueball_nlp_embedding_lm.tokenizers.whitespace import WhitespaceTokenizer

__all__ = [
    "BasicTokenizer",
    "Detokenizer",
    "JiebaTokenizer",
    "KimTokenizer",
    "MosesDetokenizer",
    "MosesTokenizer",
    "SentencePieceDetokenizer",
    "SentencePieceTokenizer",
    "Tokenizer",
    "WhitespaceTokenizer",
    "from_description",
    "get_tokenizer",
    "list_tokenizers",
]

_TOKENIZERS: dict[str, type[Tokenizer]] = {
    kind.name: kind
    for kind in (
        WhitespaceTokenizer,
        BasicTokenizer,
        KimTokenizer,
        MosesTokenizer,
        SentencePieceTokenizer,
        JiebaTokenizer,
    )
}


def list_tokenizers() -> list[str]:
    """The names that ``get_tokenizer`` knows."""
    return list(_TOKENIZERS)


def _class_of(name: object) -> type[Tokenizer]:
    if not isinstance(name, str) or name not in _TOKENIZERS:
        raise UnknownNameError(
            f"There is no tokeniser {name!r}.{did_you_mean(str(name), list(_TOKENIZERS))} "
            f"There are: {', '.join(_TOKENIZERS)}."
        )
    return _TOKENIZERS[name]


def _check_options(kind: type[Tokenizer], options: Mapping[str, Any]) -> None:
    name, known = kind.name, list(inspect.signature(kind).parameters)
    for option in options:
        if option not in known:
            takes = f"It takes: {', '.join(known)}." if known else "It takes no options."
            raise OptionError(
                f"The tokeniser '{name}' has no option {option!r}.{did_you_mean(str(option), known)} {takes}"
            )


def get_tokenizer(name: str, **options: Any) -> Tokenizer:
    """Builds a tokeniser: a callable from a text to the list of its tokens.

    Args:
        name: one of ``list_tokenizers()``.
        options: those of the tokeniser's class.

    Raises:
        UnknownNameError: there is no tokeniser of that name.
        OptionError: it has no such option, or an option has a value that cannot be used.
        PluginError: a library that the tokeniser needs is not installed; the message says how to get it.
        DataError: a file that it reads is damaged.
    """
    kind = _class_of(name)
    _check_options(kind, options)
    return kind(**options)


def from_description(description: Mapping[str, Any]) -> Tokenizer:
    """The tokeniser that ``describe`` described, also after a way through JSON.

    Raises:
        DataError: it is no description of a tokeniser.
        PluginError: a library that the tokeniser needs is not installed; the message says how to get it.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("name"), str):
        raise DataError(
            f"The description of a tokeniser is a mapping with a name, such as {{'name': 'basic'}}. "
            f"Received: {description!r:.80}."
        )
    options = {key: value for key, value in description.items() if key != "name"}
    name = description["name"]
    try:
        kind = _class_of(name)
        _check_options(kind, options)
        return kind.from_options(options)
    except (OptionError, UnknownNameError) as error:
        raise DataError(f"The description of a tokeniser cannot be used: {error}") from error

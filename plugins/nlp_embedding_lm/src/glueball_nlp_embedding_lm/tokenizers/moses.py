"""The tokeniser of Moses, which machine translation is measured by, as sacremoses does it in Python."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType
from typing import Any, ClassVar

import attrs

from glueball.errors import OptionError, PluginError
from glueball_nlp_embedding_lm.tokenizers.base import Detokenizer, Tokenizer, check_text, check_tokens, flag


@functools.cache
def _sacremoses() -> ModuleType:
    try:
        return importlib.import_module("sacremoses")
    except ImportError as error:
        raise PluginError(
            "The tokeniser 'moses' needs sacremoses, which is not installed here: "
            "pip install 'glueball-nlp-embedding-lm[moses]'."
        ) from error


# What they were made of never changes, so that threads may share them.
@functools.cache
def _tokenizer(lang: str) -> Any:
    return _sacremoses().MosesTokenizer(lang=lang)


@functools.cache
def _detokenizer(lang: str) -> Any:
    return _sacremoses().MosesDetokenizer(lang=lang)


def _language(instance: Any, attribute: Any, value: object) -> None:
    if not isinstance(value, str) or not value.isascii() or not value.isalpha():
        raise OptionError(f"Moses expects lang as a language's code, such as 'en' or 'de'. Received: {value!r}.")


@attrs.frozen
class MosesTokenizer(Tokenizer):
    """The rules of Moses' tokenizer.perl.

    Args:
        lang: the language, as a code of two letters; one that Moses has no rules for is treated as its default.
        escape: write ``& < > ' " | [ ]`` as Moses' files do (``&apos;``), as GluonNLP does. Embeddings know them
            unescaped: False.
        aggressive_dash_splits: also cut ``well-known`` into ``well @-@ known``.
        lower: give tokens in lower case.

    Raises:
        OptionError: an option cannot be used.
        PluginError: sacremoses is not installed; the message says how to get it. Raised here, not at the first text.
    """

    name: ClassVar[str] = "moses"
    lang: str = attrs.field(default="en", validator=_language)
    escape: bool = attrs.field(default=True, validator=flag)
    aggressive_dash_splits: bool = attrs.field(default=False, validator=flag)
    lower: bool = attrs.field(default=False, validator=flag)

    def __attrs_post_init__(self) -> None:
        _tokenizer(self.lang)

    def __call__(self, text: str) -> list[str]:
        tokens: list[str] = _tokenizer(self.lang).tokenize(
            check_text(text), aggressive_dash_splits=self.aggressive_dash_splits, return_str=False, escape=self.escape
        )
        return [token.lower() for token in tokens] if self.lower else tokens

    def detokenizer(self) -> MosesDetokenizer:
        """What makes text of tokens again, as far as Moses can tell where spaces were."""
        return MosesDetokenizer(self.lang, self.escape)


@attrs.frozen
class MosesDetokenizer(Detokenizer):
    """The rules of Moses' detokenizer.perl.

    Args:
        lang: the language, as a code of two letters.
        unescape: ``&apos;`` and its like become what they stand for.

    Raises:
        OptionError: an option cannot be used.
        PluginError: sacremoses is not installed; the message says how to get it.
    """

    name: ClassVar[str] = "moses"
    lang: str = attrs.field(default="en", validator=_language)
    unescape: bool = attrs.field(default=True, validator=flag)

    def __attrs_post_init__(self) -> None:
        _detokenizer(self.lang)

    def __call__(self, tokens: list[str]) -> str:
        text: str = _detokenizer(self.lang).detokenize(check_tokens(tokens), return_str=True, unescape=self.unescape)
        return text

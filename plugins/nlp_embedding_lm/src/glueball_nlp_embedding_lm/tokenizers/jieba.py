"""Chinese words, as jieba finds them with its dictionary."""

from __future__ import annotations

import functools
import importlib
import logging
import warnings
from types import ModuleType
from typing import Any, ClassVar

import attrs

from glueball.errors import PluginError
from glueball_nlp_embedding_lm.tokenizers.base import Tokenizer, check_text, flag


@functools.cache
def _jieba() -> ModuleType:
    try:
        with warnings.catch_warnings():
            # Its regular expressions were written for older versions of Python.
            warnings.simplefilter("ignore")
            return importlib.import_module("jieba")
    except ImportError as error:
        raise PluginError(
            "The tokeniser 'jieba' needs jieba, which is not installed here: "
            "pip install 'glueball-nlp-embedding-lm[jieba]'."
        ) from error


@functools.lru_cache(1)
def _tokenizer() -> Any:
    """jieba with its own dictionary, read here.

    jieba would keep what it reads in a file in the folder for temporary files, whose content it trusts at the next
    start, whoever wrote it.
    """
    jieba = _jieba()
    jieba.setLogLevel(logging.WARNING)
    tokenizer = jieba.Tokenizer()
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    return tokenizer


@attrs.frozen
class JiebaTokenizer(Tokenizer):
    """Words of Chinese text; what stands between them in other scripts stays whole, white space is dropped.

    Args:
        cut_all: give all words of the dictionary that are found, overlapping ones too.
        hmm: guess words that are not in the dictionary.
        lower: give tokens in lower case.

    Raises:
        OptionError: an option cannot be used.
        PluginError: jieba is not installed; the message says how to get it. Raised here, not at the first text.
    """

    name: ClassVar[str] = "jieba"
    cut_all: bool = attrs.field(default=False, validator=flag)
    hmm: bool = attrs.field(default=True, validator=flag)
    lower: bool = attrs.field(default=False, validator=flag)

    def __attrs_post_init__(self) -> None:
        _jieba()

    def __call__(self, text: str) -> list[str]:
        words = _tokenizer().cut(check_text(text), cut_all=self.cut_all, HMM=self.hmm)
        tokens = [word for word in words if word and not word.isspace()]
        return [token.lower() for token in tokens] if self.lower else tokens

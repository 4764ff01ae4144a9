"""Tokens are what white space separates."""

from __future__ import annotations

from typing import ClassVar

import attrs

from glueball_nlp_embedding_lm.tokenizers.base import Tokenizer, check_text, flag


@attrs.frozen
class WhitespaceTokenizer(Tokenizer):
    """Cuts at runs of Unicode white space: for texts that are tokenised already, one space between two tokens.

    Args:
        lower: give tokens in lower case.
    """

    name: ClassVar[str] = "whitespace"
    lower: bool = attrs.field(default=False, validator=flag)

    def __call__(self, text: str) -> list[str]:
        text = check_text(text)
        return (text.lower() if self.lower else text).split()

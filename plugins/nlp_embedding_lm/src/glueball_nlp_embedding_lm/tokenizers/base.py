"""What a tokeniser is: a frozen description that cuts one text into tokens.

A tokeniser holds options only, so that it can be compared, printed, sent to a worker process, and kept beside the
weights of a trained network (``describe`` / ``from_description``). What it needs for its work (compiled expressions,
dictionaries) is made at first use and never changes afterwards, so that threads may share it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import attrs

from glueball.errors import DataError, OptionError


class Tokenizer:
    """The base of all tokenisers; subclasses are frozen attrs classes whose fields are their options."""

    name: ClassVar[str] = ""
    """What ``get_tokenizer`` calls it."""

    def __call__(self, text: str) -> list[str]:
        """The tokens of a text; none for a text of white space alone.

        Raises:
            DataError: it is no text.
        """
        raise NotImplementedError

    def describe(self) -> dict[str, Any]:
        """Name and options in plain values, for JSON."""
        fields = attrs.fields(type(self))  # type: ignore[arg-type]
        return {"name": self.name, **{field.alias: getattr(self, field.name) for field in fields if field.init}}

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Tokenizer:
        """The tokeniser of the options that ``describe`` gave, without the name.

        Raises:
            DataError: an option has the form of no description.
            OptionError: an option has a value that cannot be used.
        """
        return cls(**options)


class Detokenizer:
    """The base of what puts tokens together again; built by ``tokenizer.detokenizer()``."""

    def __call__(self, tokens: list[str]) -> str:
        """The text of the tokens.

        Raises:
            DataError: they are no list of strings.
        """
        raise NotImplementedError


def check_text(text: object) -> str:
    """The text itself.

    Raises:
        DataError: it is no string.
    """
    if not isinstance(text, str):
        raise DataError(f"A tokeniser expects a text. Received: {text!r:.80} ({type(text).__name__}).")
    return text


def check_tokens(tokens: object) -> list[str]:
    """The tokens as a list.

    Raises:
        DataError: they are not a list or tuple of strings.
    """
    if not isinstance(tokens, (list, tuple)) or not all(isinstance(token, str) for token in tokens):
        raise DataError(f"A detokeniser expects a list of tokens. Received: {tokens!r:.80} ({type(tokens).__name__}).")
    return list(tokens)


def flag(instance: Any, attribute: Any, value: object) -> None:
    """A validator: True or False."""
    if not isinstance(value, bool):
        raise OptionError(
            f"The tokeniser '{instance.name}' expects True or False for {attribute.name}. Received: {value!r}."
        )

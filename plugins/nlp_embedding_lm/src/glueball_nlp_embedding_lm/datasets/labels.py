"""Labels of any spelling, and the classes that they name."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Any

from glueball.errors import DataError, OptionError

from .tables import TextTable

_NUMBER = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d+)?")
_TRUTH = ("false", "true")


def is_missing(value: Any) -> bool:
    """Whether a label is none: null, empty, or "nan", which is how pandas writes that there is nothing."""
    return value is None or (isinstance(value, str) and value.strip().lower() in ("", "nan"))


def spelling(value: str | float) -> str:
    """A label as text: JSON's numbers and truths become what they look like."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()


def _plain_number(text: str) -> str:
    """ "1.0" and "+1" are 1; anything that is no plain number stays as it is."""
    if not _NUMBER.fullmatch(text):
        return text
    whole, _, decimals = text.removeprefix("+").partition(".")
    decimals = decimals.rstrip("0")
    number = f"{whole}.{decimals}" if decimals else whole
    return "0" if number == "-0" else number


def loose(text: str) -> str:
    """The same for two spellings of one number or truth."""
    return text.lower() if text.lower() in _TRUTH else _plain_number(text)


def class_names(spelled: Sequence[str], place: str) -> dict[str, str]:
    """Spelling -> class name, in the order of the classes.

    Raises:
        DataError: there is a single class, or two differ in nothing but capitals or the encoding of an accent.
    """
    spellings = set(spelled)
    if all(_NUMBER.fullmatch(one) for one in spellings):
        names = {one: _plain_number(one) for one in spellings}
        ordered = sorted(spellings, key=lambda one: (float(names[one]), one))
    else:
        truths = all(one.lower() in _TRUTH for one in spellings)
        names = {one: one.lower() if truths else one for one in spellings}
        ordered = sorted(spellings, key=lambda one: (_natural(one), one))
    if len(set(names.values())) < 2:
        raise DataError(
            f"{place} holds a single class: {', '.join(names.values())}. Expected at least two. To evaluate a model on "
            "it, give the classes that the model knows (classes=)."
        )
    alike: dict[str, str] = {}
    for name in names.values():
        other = alike.setdefault(unicodedata.normalize("NFKC", name).casefold(), name)
        if other != name:
            raise DataError(
                f"{place} holds the classes {other!r} and {name!r}, which look the same but for capitals. Spell them "
                "alike, or give all class names (classes=) if they are two."
            )
    return {one: names[one] for one in ordered}


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sorts 2 before 10 inside texts."""
    # Python refuses to make numbers of thousands of digits; so many are a name.
    parts = re.split(r"([0-9]{1,100})", text.casefold())
    return [(0, int(part), "") if part.isdecimal() and part.isascii() else (1, 0, part) for part in parts if part]


def checked_classes(classes: Sequence[str]) -> tuple[str, ...]:
    if isinstance(classes, str):
        raise OptionError(f"Expected a list of class names. Received: classes={classes!r}.")
    names = tuple(spelling(name) for name in classes)
    if len(names) < 2 or len(set(names)) != len(names) or not all(names):
        raise OptionError(f"Expected two class names or more, all different. Received: classes={list(names)[:10]}.")
    return names


def known_names(
    spelled: Sequence[str], classes: tuple[str, ...], lines: Sequence[int], table: TextTable
) -> dict[str, str]:
    """Spelling -> one of ``classes``: the same text, or the same number or truth.

    Raises:
        DataError: a label is none of them.
    """

    same = Counter(loose(name) for name in classes)
    known = {name: name for name in classes}
    loosely = {loose(name): name for name in classes if same[loose(name)] == 1}
    names: dict[str, str] = {}
    unknown: dict[str, list[int]] = {}
    for value, line in zip(spelled, lines, strict=True):
        name = known.get(value) or loosely.get(loose(value))
        if name is None:
            unknown.setdefault(value, []).append(line)
        else:
            names[value] = name
    if unknown:
        listed = ", ".join(
            f"{value!r} ({table.unit} {found[0]}{f' and {len(found) - 1} more' if len(found) > 1 else ''})"
            for value, found in list(unknown.items())[:5]
        )
        raise DataError(
            f"{table.place} has labels that are not known: {listed}"
            f"{f' and {len(unknown) - 5} others' if len(unknown) > 5 else ''}. Expected some of: "
            f"{', '.join(classes[:20])}{', ...' if len(classes) > 20 else ''}. Correct them, or remove these texts."
        )
    return names

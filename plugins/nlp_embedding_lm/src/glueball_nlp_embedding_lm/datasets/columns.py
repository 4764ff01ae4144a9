"""Which column of a table is the text and which the label."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import attrs

from glueball.errors import DataError, OptionError

from .labels import is_missing, loose, spelling
from .tables import Record, TextTable

Key = int | str
"""A column by its position, or by its key in JSON objects."""

# Names that leave no doubt come first; the others count only where none of those is there.
# fmt: off
TEXT_NAMES: tuple[frozenset[str], frozenset[str]] = (
    frozenset((
        "text", "texts", "sentence", "sentences", "review", "reviews", "review_text", "reviewtext", "content",
        "comment", "comments", "comment_text", "body", "document", "question", "message", "tweet", "utterance", "query",
        "phrase", "input",
    )),
    frozenset(("title", "description", "summary", "headline", "subject", "post", "abstract")),
)
LABEL_NAMES: tuple[frozenset[str], frozenset[str]] = (
    frozenset((
        "label", "labels", "class", "classes", "category", "sentiment", "target", "polarity", "intent", "tag", "topic",
        "y",
    )),
    frozenset(("rating", "ratings", "stars", "score", "overall", "type", "emotion", "output")),
)
# fmt: on

_SHOWN = 40


@attrs.frozen
class Columns:
    """The columns that make a sample."""

    text: tuple[Key, ...]
    """More than one are joined by a space."""
    label: Key
    header: bool
    """Whether the first row holds names."""
    names: tuple[str, ...] | None = None

    def describe(self) -> str:
        """Both, in words."""
        return f"text from {' and '.join(self._named(key) for key in self.text)}, label from {self._named(self.label)}"

    def _named(self, key: Key) -> str:
        if isinstance(key, int):
            return f"column {key}" if self.names is None else f"column {self.names[key]!r}"
        return f"{key!r}"


def find_columns(
    table: TextTable,
    sample: Sequence[Record],
    text_column: Key | Sequence[Key] | None,
    label_column: Key | None,
    header: bool | None,
    classes: Sequence[str] = (),
) -> Columns:
    """The columns, from the options, the names in the header or the JSON keys, and what the columns hold.

    A column that holds nothing but names of ``classes`` is the label.

    Raises:
        OptionError: there is no column of that name or number.
        DataError: the columns cannot be told for certain; the message shows them and says how to name them.
    """
    asked = _as_keys(text_column)
    first = sample[0][1]
    if isinstance(first, dict):
        if header:
            raise OptionError(f"{table.place} holds JSON objects, which need no header. Received: header=True.")
        names: tuple[str, ...] | None = tuple(first)
        keys: list[Key] = list(first)
        has_header = False
        rows: Sequence[Record] = sample
    else:
        has_header = _has_header(table, sample, [*asked, label_column], header)
        names = tuple(cell.strip() for cell in first) if has_header else None
        keys = list(range(len(first)))
        rows = sample[1:] if has_header else sample
        if not rows:
            raise DataError(f"{table.place} holds a header and nothing below it. Expected a text and a label a line.")
    if len(keys) < 2:
        raise DataError(f"{table.place} has one column. Expected a text and a label on each line.")
    values = {key: [_cell(cells, key) for _, cells in rows] for key in keys}
    text = tuple(_resolve(table, key, keys, names, "text_column") for key in asked)
    label = None if label_column is None else _resolve(table, label_column, keys, names, "label_column")
    if label in text:
        raise OptionError(f"text_column and label_column are both {label!r}. Expected two columns.")
    free = [key for key in keys if key not in text and key != label]

    def undecided() -> DataError:
        return _undecided(table, keys, names, values)

    if names is not None:
        if not text:
            text = _by_name(free, keys, names, TEXT_NAMES, undecided)
            if (
                text
                and _normal(names[keys.index(text[0])]) in TEXT_NAMES[1]
                and any(_has_words(values[key]) for key in free if key not in text)
            ):
                # A title beside another text is rarely what is to be classified.
                raise undecided()
        free = [key for key in free if key not in text]
        if label is None:
            label = next(iter(_by_name(free, keys, names, LABEL_NAMES, undecided)), None)
        free = [key for key in free if key != label]
    if not text or label is None:
        if len(free) == 1 and (text or label is not None):
            text, label = text or (free[0],), free[0] if label is None else label
        else:
            text, label = _by_content(free, values, text, label, classes, undecided)
            if not _is_label_like(values[label]) and label_column is None and len(free) > 2:
                raise undecided()
    assert label is not None
    return Columns(text, label, has_header, names)


def _as_keys(text_column: Key | Sequence[Key] | None) -> tuple[Key, ...]:
    if text_column is None:
        return ()
    return (text_column,) if isinstance(text_column, (int, str)) else tuple(text_column)


def _cell(cells: Any, key: Key) -> Any:
    if isinstance(cells, dict):
        return cells.get(key)  # type: ignore[arg-type]
    return cells[key] if isinstance(cells, list) and isinstance(key, int) and key < len(cells) else None


def _normal(name: str) -> str:
    return re.sub(r"[\s\-]+", "_", name.strip().lower())


def _is_position(key: Key | None) -> bool:
    return isinstance(key, int) or (isinstance(key, str) and key.isdecimal())


def _resolve(table: TextTable, key: Key, keys: Sequence[Key], names: tuple[str, ...] | None, option: str) -> Key:
    if isinstance(key, str) and names is not None and names.count(key) == 1:
        return keys[names.index(key)]
    if _is_position(key) and not isinstance(key, bool) and 0 <= int(key) < len(keys) and isinstance(keys[0], int):
        return int(key)
    shown = ", ".join(names) if names is not None else f"0 to {len(keys) - 1}"
    problem = "occurs twice" if names is not None and key in names else "is not there"
    raise OptionError(
        f"The column {key!r} {problem} in {table.place}. Expected one of: {shown}. Received: {option}={key!r}."
    )


def _has_header(table: TextTable, sample: Sequence[Record], asked: Sequence[Key | None], header: bool | None) -> bool:
    """Whether the first row names the columns.

    Raises:
        DataError: it may or may not.
    """
    first = sample[0][1]
    if not all(isinstance(cell, str) for cell in first) or table.format in ("jsonl", "json", "fasttext"):
        if header:
            raise OptionError(f"{table.place} is a file without a header. Received: header=True.")
        return False
    if header is not None:
        return header
    if any(isinstance(key, str) and (key in first or not key.isdecimal()) for key in asked):
        # A column was asked for by its name.
        return True
    known = [
        position
        for position, cell in enumerate(first)
        if any(_normal(cell) in names for names in (*TEXT_NAMES, *LABEL_NAMES))
    ]
    rest = sample[1:]
    again = next((number for number, cells in rest if cells == first), None)
    if known and again is not None and len(known) > 1:
        raise DataError(
            f"{table.place}, line {again}: the names of the columns once more. Remove the line, or say that the first "
            "line is no header (header=False)."
        )
    # "question" may be a class, and "review" a text: then they, or their class, come again.
    repeats = any(_normal(cells[at]) == _normal(first[at]) for _, cells in rest for at in known)
    for at in range(len(first)):
        below = [cells[at] for _, cells in rest]
        repeats = repeats or (first[at] in below and _is_label_like(below))
    if known and not repeats:
        return True
    for at in range(len(first)):
        below = [cells[at] for _, cells in rest]
        if len(below) >= 4 and _is_label_like(below) and first[at] not in below and min(Counter(below).values()) > 1:
            raise DataError(
                f"The first line of {table.place} may be a header or a sample: {_shown(first)}. Say which: header=True "
                "or header=False."
            )
    return False


def _by_name(
    free: Sequence[Key], keys: Sequence[Key], names: tuple[str, ...], known: Sequence[frozenset[str]], undecided: Any
) -> tuple[Key, ...]:
    for words in known:
        found = [key for key in free if _normal(names[keys.index(key)]) in words]
        if len(found) > 1:
            raise undecided()
        if found:
            return (found[0],)
    return ()


def _by_content(
    free: Sequence[Key],
    values: dict[Any, list[Any]],
    text: tuple[Key, ...],
    label: Key | None,
    classes: Sequence[str],
    undecided: Any,
) -> tuple[tuple[Key, ...], Key]:
    """The column with few distinct values is the label; the other, or the only one of several words, the text."""
    wordy = [key for key in free if all(isinstance(value, str) for value in values[key])]
    labels = [label] if label is not None else [key for key in free if _is_label_like(values[key])]
    labels = labels or [key for key in free if _is_label_like(values[key], few=True)]
    if label is None and len(free) == 2 and len(wordy) == 1 and not text:
        # A number is no text.
        labels = [key for key in free if key not in wordy]
    if len(labels) > 1 and classes:
        known = {loose(name) for name in classes}
        named = [key for key in labels if {loose(spelling(value)) for value in values[key]} <= known]
        labels = named if len(named) == 1 else labels
    if label is None and len(labels) == 2 and len(free) == 2 and not text:
        # Texts may repeat as well; they are still many more than the classes.
        few, many = sorted(labels, key=lambda key: _distinct(values[key]))
        short = [key for key in labels if not _has_words(values[key])]
        if len(short) == 1:
            labels = short
        elif short and _distinct(values[few]) * 2 <= _distinct(values[many]):
            labels = [few]
    if len(labels) != 1:
        raise undecided()
    if text:
        return text, labels[0]
    rest = [key for key in wordy if key != labels[0]]
    texts = rest if len(rest) == 1 else [key for key in rest if _has_words(values[key])]
    if len(texts) != 1:
        raise undecided()
    return (texts[0],), labels[0]


def _distinct(values: Sequence[Any]) -> int:
    return len({value if isinstance(value, Hashable) else repr(value) for value in values})


def _is_label_like(values: Sequence[Any], few: bool = False) -> bool:
    """Few distinct short values; ``few``: of a short file at least one value must repeat."""
    values = [value for value in values if not is_missing(value)]
    if not values or not all(isinstance(value, (str, int, float)) and len(str(value)) <= 60 for value in values):
        return False
    distinct, count = _distinct(values), len(values)
    return distinct <= max(2, count // 2) or (few and count < 20 and distinct < count)


def _has_words(values: Sequence[Any]) -> bool:
    """Whether most values are of more than one word (or long, in a script without spaces)."""
    several = sum(isinstance(value, str) and (len(value.split()) > 2 or len(value) > 20) for value in values)
    return 2 * several > len(values)


def _undecided(
    table: TextTable, keys: Sequence[Key], names: tuple[str, ...] | None, values: dict[Any, list[Any]]
) -> DataError:
    lines = [f"Which column of {table.place} is the text and which the label cannot be told. Its columns:"]
    for at, key in enumerate(keys):
        named = f"{key}" if names is None else f"{names[at]!r}"
        lines.append(f"  {named}: {_distinct(values[key])} distinct values, such as {_shown(values[key][:3])}")
    example = (keys[0], keys[1]) if names is None else (names[0], names[1])
    lines.append(f"Name them: text_column={example[0]!r}, label_column={example[1]!r}, for example.")
    return DataError("\n".join(lines))


def _shown(values: Sequence[Any]) -> str:
    return ", ".join(repr(value)[:_SHOWN] + ("..." if len(repr(value)) > _SHOWN else "") for value in values)

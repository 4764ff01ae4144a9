"""Everybody's own texts: a file with a text and a label on each line."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glueball.errors import DataError, OptionError

from .columns import Columns, Key, find_columns
from .common import (
    ALL,
    DEFAULT_FOLDS,
    TEST,
    TRAIN,
    VALIDATION,
    Division,
    Samples,
    TextClassificationDataset,
    canonical_split,
    divide,
)
from .decoding import checked_encoding
from .labels import checked_classes, class_names, is_missing, known_names, spelling
from .tables import TextTable, find_table

# Records that are enough to tell the columns apart.
_SAMPLE = 10_000


class TextFile(TextClassificationDataset):
    """Texts and labels from a TSV, CSV, JSON lines or JSON file, or one in fastText's form; also compressed (.gz).

    ============  ==============================================================================================
    .tsv, .tab    columns divided by tabs; quotes are characters of the text unless ``quoted=True``
    .csv          columns divided by commas, semicolons or tabs; quoted fields may hold delimiters and newlines
    .jsonl        one object or pair a line (.ndjson as well)
    .json         one array of objects or pairs, or as .jsonl
    .txt, others  lines that begin with ``__label__<class>`` (fastText), columns divided by tabs, or objects
    ============  ==============================================================================================

    The columns are found by their names (text, sentence, review, ...; label, class, category, ...) in a header or in
    the JSON keys, and by what they hold: the column with few distinct values is the label, the other the text. Where
    that is not certain, an error shows the columns and says how to name them.

    Labels may be texts or numbers: "1" and 1.0 are one class, as are "True" and "true" where there is nothing else.
    Classes are sorted as people would (2 before 10). Texts are taken as they are; empty ones are kept and counted in
    ``summary``. Only blank lines are skipped.

    Args:
        path: the file.
        classes: class names in the order of the labels, as a trained model has them; default: those of the file. A
            label that is not among them is an error; a class that does not occur is not.
        text_column: a column by its name or its number from 0; several are joined by a space.
        label_column: likewise.
        split: None, "all" or "train" without a division is the whole file. With ``fold`` or ``holdout``: "train",
            "validation" or, with ``fold``, "test".
        fold, folds, fold_seed, holdout: as for ``PublishedDataset``.
        header: whether the first row holds names; default: found out.
        encoding: any that keeps ASCII; a byte order mark is dropped.
        format: "tsv", "csv", "jsonl", "json" or "fasttext"; default: by the suffix and the content.
        delimiter: one character; default: found out.
        quoted: whether quotes around a field are removed; default: in CSV only.

    Raises:
        DataError: the file is missing, damaged or empty; a line is ragged, has no label, an unknown one, a NUL, or
            bytes that are not of ``encoding`` (the message has its number); there is a single class; the columns
            cannot be told.
        OptionError: an option cannot be, or a split needs a division that was not given.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        classes: Sequence[str] | None = None,
        text_column: Key | Sequence[Key] | None = None,
        label_column: Key | None = None,
        split: str | None = None,
        *,
        fold: int | None = None,
        folds: int = DEFAULT_FOLDS,
        fold_seed: int = 0,
        holdout: float | None = None,
        header: bool | None = None,
        encoding: str = "utf-8",
        format: str | None = None,
        delimiter: str | None = None,
        quoted: bool | None = None,
    ) -> None:
        division = Division(fold, folds, fold_seed, holdout)
        self.split_name = _checked_split(split, division)
        self.root = Path(path).expanduser()
        table = find_table(self.root, checked_encoding(encoding), format, delimiter, quoted)
        texts, values, lines, self.columns = _read(table, text_column, label_column, header, classes or ())
        spelled = [spelling(value) for value in values]
        if classes is None:
            if label_column is None:
                _check_distinct(table, spelled, self.columns)
            names = class_names(spelled, table.place)
            self.classes = tuple(dict.fromkeys(names.values()))
        else:
            self.classes = checked_classes(classes)
            names = known_names(spelled, self.classes, lines, table)
        index = {name: label for label, name in enumerate(self.classes)}
        labels = np.fromiter((index[names[value]] for value in spelled), np.int64, len(spelled))
        samples = Samples(texts, labels, table.place, np.array(lines, np.int64))
        self._unit = table.unit
        self._fill(samples, None if self.split_name == ALL else divide(labels, self.split_name, division))
        self.summary = self._describe_all(samples, division)

    def describe(self, index: int) -> str:
        """The file, and the line on which the sample begins."""
        assert self._lines is not None
        return f"{self._place}, {self._unit} {self._lines[index]}"

    def _describe_all(self, samples: Samples, division: Division) -> str:
        counts = np.bincount(self._labels, minlength=len(self.classes))
        shares = ", ".join(f"{name} {count}" for name, count in list(zip(self.classes, counts, strict=True))[:10])
        if len(self.classes) > 10:
            shares += f" and {len(self.classes) - 10} more"
        words = f"{samples.place}: {len(self)} texts ({shares})"
        if self.split_name != ALL:
            words += f" of {len(samples.texts)}, {self.split_name} split, {division.describe(self.split_name)}"
        if empty := sum(not text.strip() for text in self.texts):
            words += f"; {empty} of them empty"
        return f"{words}; {self.columns.describe()}"


def _checked_split(split: str | None, division: Division) -> str:
    name = ALL if split is None else canonical_split(split)
    if not division.active:
        if name in (ALL, TRAIN):
            return ALL
        raise OptionError(
            f'A file has no split "{name}" by itself. Give holdout=0.1 or fold=0, folds=10 to make one of it, or '
            "split=None for the whole of a file that is one."
        )
    if name in (TRAIN, VALIDATION) or (name == TEST and division.fold is not None):
        return name
    raise OptionError(
        f'Expected split="train" or "validation"{"" if division.fold is None else " or test"} of a file that is '
        f"divided. Received: split={split!r}."
    )


def _read(
    table: TextTable,
    text_column: Key | Sequence[Key] | None,
    label_column: Key | None,
    header: bool | None,
    classes: Sequence[str],
) -> tuple[list[str], list[Any], list[int], Columns]:
    """Texts, labels as they are written, and the line of each."""
    texts: list[str] = []
    values: list[Any] = []
    lines: list[int] = []
    with contextlib.closing(table.records()) as records:
        sample = list(itertools.islice(records, _SAMPLE))
        if not sample:
            raise DataError(f"{table.place} is empty. Expected a text and a label on each line.")
        if table.format == "fasttext":
            columns = Columns((1,), 0, False)
        else:
            columns = find_columns(table, sample, text_column, label_column, header, classes)
        for number, cells in itertools.chain(sample[columns.header :], records):
            parts = [_cell(table, number, cells, key) for key in columns.text]
            label = _cell(table, number, cells, columns.label)
            for key, part in zip(columns.text, parts, strict=True):
                if not isinstance(part, str):
                    raise DataError(
                        f"{table.place}, {table.unit} {number}: expected a text in {key!r}. Received: {part!r:.60}."
                    )
            if is_missing(label):
                raise DataError(
                    f"{table.place}, {table.unit} {number}: no label. Expected one for each text. Remove the "
                    f"{table.unit}, or give it its class."
                )
            if not isinstance(label, (str, int, float)):
                raise DataError(
                    f"{table.place}, {table.unit} {number}: expected a text or a number as the label. Received: "
                    f"{label!r:.60}."
                )
            texts.append(parts[0] if len(parts) == 1 else " ".join(parts))
            values.append(label)
            lines.append(number)
    return texts, values, lines, columns


def _cell(table: TextTable, number: int, cells: Any, key: Key) -> Any:
    try:
        return cells[key]
    except (KeyError, IndexError, TypeError):
        raise DataError(
            f"{table.place}, {table.unit} {number}: nothing under {key!r}. Expected it as on the first "
            f"{table.unit}. Received: {str(cells)[:60]}."
        ) from None


def _check_distinct(table: TextTable, spelled: Sequence[str], columns: Columns) -> None:
    """A column of names or numbers that hardly repeat is no label, whatever it is called."""
    distinct = len(set(spelled))
    if len(spelled) >= 20 and 2 * distinct > len(spelled):
        raise DataError(
            f"{table.place} has {distinct} different labels on {len(spelled)} lines ({columns.describe()}). Expected "
            "classes that repeat. Name the right columns (text_column=, label_column=)."
        )

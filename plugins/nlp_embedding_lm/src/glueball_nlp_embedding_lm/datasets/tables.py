"""Users' files of labelled texts as records: TSV, CSV, JSON lines, JSON, and fastText's lines.

A record is ``(line, cells)``: the line it begins on (in a JSON array its number), and a list of cells or, from JSON
objects, a dict. Nothing is guessed that would change a text: quotes mean something in CSV only, blank lines are the
only ones skipped, and a row that is longer or shorter than the first is an error.
"""

from __future__ import annotations

import contextlib
import csv
import itertools
import json
import os
from collections.abc import Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import attrs
from tqdm import tqdm

from glueball.archives import open_compressed
from glueball.errors import DataError, OptionError

from .decoding import decoded_lines

Record = tuple[int, Any]

TSV, CSV, JSON_LINES, JSON, FASTTEXT = "tsv", "csv", "jsonl", "json", "fasttext"
FORMATS = (TSV, CSV, JSON_LINES, JSON, FASTTEXT)
LABEL_PREFIX = "__label__"

_SUFFIXES = {".tsv": TSV, ".tab": TSV, ".csv": CSV, ".jsonl": JSON_LINES, ".ndjson": JSON_LINES, ".json": JSON}
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}
# Rows that are enough to see how a file is divided into columns.
_SAMPLE = 1000
_LARGEST_FIELD = 2**31 - 1


@attrs.frozen
class TextTable:
    """A file and how it is to be read."""

    path: Path
    encoding: str
    format: str
    delimiter: str = "\t"
    quoted: bool = False

    @property
    def place(self) -> str:
        """For messages."""
        return os.fspath(self.path)

    @property
    def unit(self) -> str:
        """What the number of a record counts."""
        return "element" if self.format == JSON else "line"

    def records(self) -> Generator[Record, None, None]:
        """The records, read as they are asked for.

        Raises:
            DataError: the file cannot be read, or a record is not what the format says; the message names its line.
        """
        if self.format == JSON:
            yield from _json_array(self)
            return
        with _opened(self.path) as file:
            lines = decoded_lines(_with_progress(file, self.path), self.encoding, self.place)
            if self.format == JSON_LINES:
                yield from _json_lines(lines, self.place)
            elif self.format == FASTTEXT:
                yield from _fasttext_lines(lines, self.place)
            else:
                yield from _same_width(self._rows(lines), self)

    def _rows(self, lines: Iterable[str]) -> Iterator[Record]:
        if self.quoted:
            return quoted_rows(lines, self.delimiter, self.place)
        return _plain_rows(lines, self.delimiter)


def find_table(path: Path, encoding: str, format: str | None, delimiter: str | None, quoted: bool | None) -> TextTable:
    """How to read ``path``: by its suffix (before .gz), its first lines, and what the options say.

    Raises:
        OptionError: an option has a value that cannot be.
        DataError: there is no such file, or its form cannot be told.
    """
    if format is not None and format not in FORMATS:
        raise OptionError(f"Unknown format. Expected one of: {', '.join(FORMATS)}. Received: format={format!r}.")
    if delimiter is not None and (len(delimiter) != 1 or delimiter in '\r\n"'):
        raise OptionError(f'A delimiter is one character, such as "," or ";". Received: delimiter={delimiter!r}.')
    if path.is_dir():
        raise DataError(f"{path} is a folder. Expected a file of texts and labels (.tsv, .csv, .jsonl).")
    if not path.is_file():
        raise DataError(f"{path} does not exist. Expected a file of texts and labels (.tsv, .csv, .jsonl).")
    name = path.name.lower().removesuffix(".gz")
    suffix = os.path.splitext(name)[1]
    chosen = format or _SUFFIXES.get(suffix)
    if chosen is None:
        chosen = CSV if delimiter is not None else _format_by_content(path, encoding)
    if chosen == TSV and delimiter is None:
        delimiter = "\t"
    if chosen == JSON and not _is_array(path, encoding):
        chosen = JSON_LINES
    table = TextTable(path, encoding, chosen, delimiter or ",", (chosen == CSV) if quoted is None else quoted)
    if chosen == CSV and delimiter is None:
        table = attrs.evolve(table, delimiter=_find_delimiter(table))
    return table


def _format_by_content(path: Path, encoding: str) -> str:
    first = _first_line(path, encoding)
    if first.startswith(LABEL_PREFIX):
        return FASTTEXT
    if first.startswith("{"):
        return JSON_LINES
    if "\t" in first:
        return TSV
    raise DataError(
        f"The form of {path} cannot be told from its name or its first line {first.rstrip()[:60]!r}. Expected .tsv, "
        f".csv, .jsonl, .json, or lines that begin with {LABEL_PREFIX}. Say what it is: format= one of "
        f"{', '.join(FORMATS)}."
    )


def _first_line(path: Path, encoding: str) -> str:
    """The first line with something on it.

    Raises:
        DataError: there is none.
    """
    with _opened(path) as file:
        for line in decoded_lines(file, encoding, os.fspath(path)):
            if line.strip():
                return line
    raise DataError(f"{path} is empty. Expected a text and a label on each line.")


def _is_array(path: Path, encoding: str) -> bool:
    """Whether a .json file is one array, not a line of JSON for each sample."""
    first = _first_line(path, encoding).strip()
    if not first.startswith("["):
        return False
    try:
        value = json.loads(first)
    except (ValueError, RecursionError):
        return True
    # One line for all, or the first of many pairs.
    return not isinstance(value, list) or not value or isinstance(value[0], (list, dict))


def _find_delimiter(table: TextTable) -> str:
    """The delimiter that gives the same number of columns, two or more, on every line of the beginning.

    Raises:
        DataError: none does, or several do.
    """
    fitting = []
    failures: dict[str, str] = {}
    for delimiter in _DELIMITERS:
        candidate = attrs.evolve(table, delimiter=delimiter)
        try:
            with contextlib.closing(candidate.records()) as records:
                widths = {len(cells) for _, cells in itertools.islice(records, _SAMPLE)}
        except DataError as error:
            failures[delimiter] = str(error)
            continue
        if widths and min(widths) >= 2:
            fitting.append(delimiter)
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        words = " and ".join(_DELIMITERS[one] for one in fitting)
        raise DataError(
            f"{table.place} can be divided by {words} alike. Say which it is: delimiter={fitting[0]!r}, for example."
        )
    if "," in failures:
        # What is wrong with it as the file that it says it is.
        raise DataError(failures[","])
    raise DataError(
        f"{table.place} has one column. Expected a text and a label, divided by one of: "
        f"{', '.join(_DELIMITERS.values())}. Say what divides them: delimiter="
    )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    with contextlib.ExitStack() as stack:
        try:
            file: BinaryIO = stack.enter_context(open(path, "rb"))
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}.") from error
        if path.name.lower().endswith(".gz"):
            unpacked = open_compressed(file, os.fspath(path))
            if unpacked is None:
                raise DataError(
                    f"{path} is not compressed as its name says, or damaged. Take .gz off its name, or get the file "
                    "again."
                )
            with unpacked:
                yield unpacked
        else:
            yield file


def _with_progress(file: BinaryIO, path: Path) -> Iterator[bytes]:
    total = None if path.name.lower().endswith(".gz") else path.stat().st_size
    # disable=None: a bar on terminals only, never in logs; short files need none.
    with tqdm(total=total, unit="B", unit_scale=True, desc=path.name, delay=2.0, disable=None, leave=False) as bar:
        try:
            for line in file:
                bar.update(len(line))
                yield line
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error}.") from error


def _plain_rows(lines: Iterable[str], delimiter: str) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        row = line.removesuffix("\n").removesuffix("\r")
        if row:
            yield number, row.split(delimiter)


def quoted_rows(lines: Iterable[str], delimiter: str, place: str) -> Iterator[Record]:
    # The limit belongs to the process and is only ever raised; long reviews go beyond the usual 128 KiB.
    if csv.field_size_limit() < _LARGEST_FIELD:
        csv.field_size_limit(_LARGEST_FIELD)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    begin = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise DataError(
                f"{place}, line {begin}{f' to {reader.line_num}' if reader.line_num > begin else ''}: {error}. "
                'Expected a field with quotes, delimiters or newlines in it as "...", its quotes doubled. Correct the '
                "line, or read quotes as characters of the text (quoted=False)."
            ) from error
        start, begin = begin, reader.line_num + 1
        if cells:
            yield start, cells


def _same_width(rows: Iterator[Record], table: TextTable) -> Iterator[Record]:
    width = None
    for number, cells in rows:
        if width is None:
            width, first = len(cells), number
        elif len(cells) != width:
            if table.quoted:
                cure = 'A text with a delimiter in it needs quotes around it ("...").'
            else:
                cure = (
                    "A text must not hold the delimiter or a newline, unless quotes are around it and the file is read "
                    "with quoted=True."
                )
            raise DataError(
                f"{table.place}, line {number}: expected {width} columns as on line {first}. Received: {len(cells)}. "
                f"{cure}"
            )
        yield number, cells


def _fasttext_lines(lines: Iterable[str], place: str) -> Iterator[Record]:
    """Cells (label, text) of "__label__name text"."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        label, *rest = line.strip().split(maxsplit=1)
        text = rest[0] if rest else ""
        if not label.startswith(LABEL_PREFIX) or label == LABEL_PREFIX:
            raise DataError(
                f"{place}, line {number}: no label. Expected {LABEL_PREFIX}<class> and a text. Received: {line[:60]!r}."
            )
        if LABEL_PREFIX in text and any(token.startswith(LABEL_PREFIX) for token in text.split()):
            raise DataError(
                f"{place}, line {number}: more than one label. Expected one class for each text. Received: "
                f"{line[:60]!r}."
            )
        yield number, [label.removeprefix(LABEL_PREFIX), text]


def _json_lines(lines: Iterable[str], place: str) -> Iterator[Record]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield number, _checked_value(_loads(line, f"{place}, line {number}"), f"{place}, line {number}")


def _json_array(table: TextTable) -> Iterator[Record]:
    with _opened(table.path) as file:
        content = "".join(decoded_lines(_with_progress(file, table.path), table.encoding, table.place))
    values = _loads(content, table.place)
    if not isinstance(values, list):
        raise DataError(f"{table.place} holds no array. Received: {type(values).__name__}.")
    for number, value in enumerate(values, 1):
        yield number, _checked_value(value, f"{table.place}, element {number}")


def _checked_value(value: Any, place: str) -> Any:
    if not isinstance(value, dict) and not (isinstance(value, list) and len(value) >= 2):
        raise DataError(
            f'{place}: expected an object such as {{"text": "...", "label": "..."}} or a pair. Received: '
            f"{str(value)[:60]!r}."
        )
    return value


def _loads(text: str, place: str) -> Any:
    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is no JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            raise ValueError("a key occurs twice in one object")
        return value

    try:
        value = json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
        # Half of a surrogate pair ("\\ud83d") passes json and fails whatever encodes the text later.
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place} is no valid JSON: {error}.") from error

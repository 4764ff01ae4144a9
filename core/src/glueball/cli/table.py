"""Tables and notes on a terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def print_table(headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints columns as wide as they need to be; on a terminal the last one is cut at the edge."""
    cells = [[str(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(headings, *cells, strict=True)]
    edge = _terminal_width()
    for line in ([heading.upper() for heading in headings], *cells):
        text = "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        print(text if edge is None or len(text) <= edge else text[: edge - 1] + "…")


def _terminal_width() -> int | None:
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns if sys.stdout.isatty() else None
    except (OSError, ValueError):
        return None


def print_json(value: object) -> None:
    """Prints what a program reads; mappings and tuples of the catalogue become plain ones."""
    import json  # imported late: only --json needs it
    from collections.abc import Mapping

    def plain(item: object) -> object:
        if isinstance(item, Mapping):
            return dict(item)
        if hasattr(item, "__attrs_attrs__"):
            import attrs

            return attrs.asdict(item, recurse=False)  # type: ignore[arg-type]
        return str(item)

    print(_encodable(json, value, indent=2, default=plain))


def json_line(value: object) -> str:
    """JSON in one line."""
    import json

    return _encodable(json, value)


def _encodable(json: Any, value: object, **options: Any) -> str:
    """JSON that standard output can carry: what its encoding lacks is escaped, and is read back as it was."""
    text: str = json.dumps(value, ensure_ascii=False, **options)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(value, ensure_ascii=True, **options)
    return text


def counted(number: int, noun: str) -> str:
    """``1 sample``, ``2 samples``."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def note(text: str) -> None:
    """Prints a sentence for the user beside the output."""
    print(f"glueball: {text}", file=sys.stderr)


def note_unusable_plugins() -> None:
    """Says which plugins are missing from what was printed, and where to read why."""
    from glueball import catalog

    current = catalog.current()
    for problem in current.problems():
        note(problem)
    unusable = sorted({info.name for info in current.plugins() if info.state not in ("active", "blocked")})
    if unusable:
        note(f"not listed, because it could not be used: {', '.join(unusable)} ('glueball plugins list' says why)")

"""What a classifier made of held-out texts, as a page: the confusion matrix, then the texts, mistakes first.

A page, because texts are to be read and searched; it needs nothing but a browser, and writing it no picture library.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np

from glueball.files import write_text

from .predictor import softmax

MOST_WRONG = 200
MOST_RIGHT = 50
_MOST_CLASSES = 60
_MOST_CHARACTERS = 600

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; color: #24292f; margin: 2rem auto; max-width: 70rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: 1rem 0 2rem; }
th, td { border: 1px solid #e4e7eb; padding: .25rem .6rem; vertical-align: top; text-align: left; }
th { color: #57606a; font-weight: 600; }
.matrix td { text-align: right; font-variant-numeric: tabular-nums; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.wrong { color: #c4425b; font-weight: 600; }
"""


@attrs.frozen(kw_only=True, eq=False)
class Row:
    """One text, what it is, and what the network said."""

    text: str
    label: int
    logits: np.ndarray


def write(rows: Sequence[Row], classes: Sequence[str], path: Path, title: str) -> None:
    """Writes the page, all of it or nothing.

    Raises:
        OSError: the file cannot be written.
    """
    probabilities = softmax(np.stack([row.logits for row in rows]))
    predicted = probabilities.argmax(axis=1)
    labels = np.array([row.label for row in rows])
    certainty = probabilities.max(axis=1)
    wrong = np.flatnonzero(predicted != labels)
    right = np.flatnonzero(predicted == labels)
    # Mistakes that the network is sure of tell most: a wrong label, or something that it cannot see.
    shown_wrong = wrong[np.argsort(-certainty[wrong], kind="stable")][:MOST_WRONG]
    # Of what is right, the least certain.
    shown_right = right[np.argsort(certainty[right], kind="stable")][:MOST_RIGHT]
    matrix = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(matrix, (labels, predicted), 1)

    def entry(index: int) -> str:
        is_wrong = predicted[index] != labels[index]
        text = rows[index].text
        if len(text) > _MOST_CHARACTERS:
            text = text[:_MOST_CHARACTERS] + " ..."
        answer = html.escape(classes[predicted[index]])
        return (
            f'<tr><td class="number">{certainty[index]:.1%}</td>'
            f"<td{' class=wrong' if is_wrong else ''}>{answer}</td><td>{html.escape(classes[labels[index]])}</td>"
            f"<td>{html.escape(text) or '<i>no text</i>'}</td></tr>"
        )

    heading = "<tr><th>probability</th><th>predicted</th><th>expected</th><th>text</th></tr>"
    parts = [
        "<!DOCTYPE html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>',
        f"<style>{_STYLE}</style></head>",
        f"<body><h1>{html.escape(title)}: {len(right) / len(rows):.1%} of {len(rows)} held-out texts right</h1>",
        "<h2>What was taken for what</h2>",
        _confusion(matrix, classes),
        f"<h2>{_of(len(shown_wrong), len(wrong))} mistakes, the most certain first</h2>",
        f"<table>{heading}{''.join(map(entry, shown_wrong))}</table>",
        f"<h2>{_of(len(shown_right), len(right))} right answers, the least certain first</h2>",
        f"<table>{heading}{''.join(map(entry, shown_right))}</table>",
        "</body></html>",
    ]
    write_text(path, "\n".join(parts) + "\n")


def _of(shown: int, count: int) -> str:
    return str(count) if shown == count else f"{shown} of {count}"


def _confusion(matrix: np.ndarray, classes: Sequence[str]) -> str:
    """A row for each class, a column for each answer; the shade is the share of the row."""
    if len(classes) > _MOST_CLASSES:
        return f"<p>{len(classes)} classes are too many for a table.</p>"
    columns = "".join(f"<th>{html.escape(name)}</th>" for name in classes)
    lines = [f"<tr><th>expected \\ predicted</th>{columns}</tr>"]
    for number, (name, counts) in enumerate(zip(classes, matrix, strict=True)):
        total = max(1, int(counts.sum()))
        cells = "".join(
            f'<td style="background: rgba({"58, 157, 93" if number == column else "196, 66, 91"}, '
            f'{0.75 * count / total:.2f})">{count or ""}</td>'
            for column, count in enumerate(counts.tolist())
        )
        lines.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    return f'<table class="matrix">{"".join(lines)}</table>'

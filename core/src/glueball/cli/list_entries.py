"""``glueball list``: what the active plugins offer.

Answers from what plugins registered; neither a backend nor NumPy nor any target is imported.
"""

from __future__ import annotations

import argparse
from typing import Any

from glueball import catalog
from glueball.catalog.entries import KINDS, PLURALS, Entry
from glueball.catalog.listing import select, usable_name
from glueball.catalog.suggestions import did_you_mean
from glueball.cli.table import note, note_unusable_plugins, print_json, print_table
from glueball.errors import OptionError


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "list",
        help="list models, datasets, transforms, losses, metrics, recipes or tasks",
        description="Lists what the installed plugins offer. Without arguments: how much of what.",
    )
    parser.add_argument(
        "what", nargs="?", metavar="WHAT", choices=list(PLURALS.values()), help=", ".join(PLURALS.values())
    )
    parser.add_argument(
        "pattern",
        nargs="?",
        help="'resnet*_v1b' (as in a shell), 'resnet' (part of the name) or '^resnet(18|34)' (a regular expression)",
    )
    parser.add_argument("--task", help="only models or recipes for this task, such as image_classification")
    parser.add_argument("--plugin", help="only what this plugin offers")
    parser.add_argument("--pretrained", nargs="?", const=True, metavar="TAG", help="only models with published weights")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Prints the list; an empty one is no failure."""
    current = catalog.current()
    if arguments.what is None:
        counts = {PLURALS[kind]: len(current.entries(kind)) for kind in KINDS}
        if arguments.json:
            print_json(counts)
        else:
            print_table(("what", "number"), counts.items())
            note_unusable_plugins()
        return 0
    kind = next(kind for kind, plural in PLURALS.items() if plural == arguments.what)
    if arguments.pretrained is not None and kind != "model":
        raise OptionError(f"--pretrained is for models only. Received: glueball list {arguments.what}")
    entries = select(
        current,
        kind,
        arguments.pattern,
        task=arguments.task,
        plugin=arguments.plugin,
        pretrained=arguments.pretrained,
    )
    if arguments.json:
        print_json([described(entry) for entry in entries])
        return 0
    if entries:
        print_table(*_columns(kind, entries))
    else:
        known = [entry.name for entry in current.entries(kind)]
        note(f"no {arguments.what} fit.{did_you_mean(arguments.pattern or '', known)} There are {len(known)} in all.")
    note_unusable_plugins()
    return 0


def described(entry: Entry) -> dict[str, Any]:
    """Everything about an entry, for programs."""
    return {
        "kind": entry.kind,
        "name": entry.name,
        "plugin": entry.plugin,
        "distribution": entry.distribution,
        "ambiguous": catalog.current().is_ambiguous(entry),
        "target": entry.target,
        **{key: value for key, value in entry.metadata.items() if key not in ("kind", "name", "plugin", "target")},
    }


def _columns(kind: str, entries: list[Entry]) -> tuple[list[str], list[list[str]]]:
    current = catalog.current()
    several_plugins = len({entry.plugin for entry in entries}) > 1
    headings = ["name"]
    if kind in ("model", "recipe"):
        headings.append("task")
    if kind == "model":
        headings += ["classes", "pretrained"]
    headings += ["plugin", "summary"] if several_plugins else ["summary"]
    rows = []
    for entry in entries:
        values = {
            "name": usable_name(current, entry),
            "task": entry.task or "-",
            "classes": str(entry.metadata.get("classes", "-")),
            "pretrained": ", ".join(entry.weights) or "-",
            "plugin": entry.plugin,
            "summary": entry.summary,
        }
        rows.append([values[heading] for heading in headings])
    return headings, rows

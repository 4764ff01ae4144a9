"""``glueball info NAME``: everything that a plugin says about a name, without importing what it names."""

from __future__ import annotations

import argparse
from typing import Any

from glueball import catalog
from glueball.catalog.entries import KINDS, Entry
from glueball.catalog.resolution import unknown
from glueball.cli.list_entries import described
from glueball.cli.table import print_json, print_table
from glueball.errors import GlueballError


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "info",
        help="describe one model, dataset, recipe, ...",
        description="Describes what is registered under a name, of whatever kind and by whatever plugin.",
    )
    parser.add_argument("name", metavar="NAME", help="a name, or plugin/name")
    parser.add_argument("--kind", choices=KINDS, help="where several kinds have the name: only this one")
    parser.add_argument("--options", action="store_true", help="import it and list the options that it takes")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Prints one block for each entry that has the name."""
    entries = _entries(arguments.name, arguments.kind)
    if arguments.json:
        blocks = [described(entry) for entry in entries]
        if arguments.options:
            for entry, block in zip(entries, blocks, strict=True):
                block["options"] = _options(entry)
        print_json(blocks)
        return 0
    for position, entry in enumerate(entries):
        if position:
            print()
        _print_entry(entry, options=arguments.options)
    return 0


def _entries(name: str, kind: str | None) -> list[Entry]:
    current = catalog.current()
    kinds = KINDS if kind is None else (kind,)
    every = [entry for each in kinds for entry in current.entries(each)]
    asked = name.casefold()
    found = [entry for entry in every if asked in (entry.name.casefold(), entry.qualified_name.casefold())]
    if not found:
        raise unknown(kind, name, every, current.plugins())
    return found


def _options(entry: Entry) -> dict[str, str]:
    """Option -> its annotation and default, as written."""
    import inspect

    parameters = inspect.signature(catalog.current().resolve(entry)).parameters.values()
    return {
        # *args and **kwargs keep their stars: they say that there are more options.
        str(parameter).partition(":")[0].partition("=")[0].strip(): str(parameter)
        for parameter in parameters
    }


def _print_entry(entry: Entry, *, options: bool) -> None:
    current = catalog.current()
    heading = f"{entry.kind} {entry.name}"
    print(f"{heading}\n{'-' * len(heading)}")
    if entry.summary:
        print(entry.summary)
    facts: dict[str, object] = {"plugin": f"{entry.plugin} ({entry.distribution})", "target": entry.target}
    if current.is_ambiguous(entry):
        facts["ask for it as"] = f"{entry.qualified_name} (another plugin has the name too)"
    for key, value in entry.metadata.items():
        if key not in ("summary", "weights"):
            facts[key.replace("_", " ")] = " ".join(map(str, value)) if isinstance(value, (tuple, list)) else value
    width = max(map(len, facts))
    for key, value in facts.items():
        print(f"{key.ljust(width)}  {value}")
    if entry.weights:
        print("\nWeights (the first is what pretrained=True means):")
        rows = [
            (
                tag,
                weights.file,
                weights.classes or "-",
                ", ".join(f"{name} {value:g}" for name, value in weights.metrics.items()) or "-",
                weights.source or "-",
            )
            for tag, weights in entry.weights.items()
        ]
        print_table(("tag", "file", "classes", "results", "source"), rows)
    if options:
        try:
            found = _options(entry)
        except GlueballError as error:
            print(f"\nOptions cannot be shown here: {error}")
            return
        print("\nOptions:")
        for text in found.values():
            print(f"  {text}")

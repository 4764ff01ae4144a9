"""``glueball plugins list|info|check``: which plugins are installed, and what became of them."""

from __future__ import annotations

import argparse
from typing import Any

from glueball import catalog
from glueball.catalog.discovery import CORE
from glueball.catalog.entries import KINDS, PLURALS, PluginInfo
from glueball.cli.table import note, print_json, print_table


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "plugins",
        help="list, describe and check plugins",
        description="Shows installed plugins. GLUEBALL_PLUGINS=a,b uses only these, GLUEBALL_BLOCK_PLUGINS=a leaves "
        "some out, GLUEBALL_STRICT_PLUGINS=1 makes a plugin that cannot be used an error.",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="all installed plugins and their states")
    listing.add_argument("--json", action="store_true", help="print JSON")
    info = actions.add_parser("info", help="one plugin: what it registers, or why it cannot be used")
    info.add_argument("name", metavar="PLUGIN", help="name of a plugin, or of its distribution")
    info.add_argument("--json", action="store_true", help="print JSON")
    check = actions.add_parser(
        "check", help="check that plugins keep their promises; the exit status is 1 where one does not"
    )
    check.add_argument("names", nargs="*", metavar="PLUGIN", help="which to check; all by default")
    check.add_argument(
        "--build",
        action="store_true",
        help="also build, run, save and load everything at a tiny size (takes minutes; downloads nothing)",
    )
    check.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Runs the action; only ``check`` judges."""
    if arguments.action == "list":
        return _list(arguments.json)
    if arguments.action == "info":
        return _info(arguments.name, arguments.json)
    return _check(arguments.names, arguments.build, arguments.json)


def _described(info: PluginInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "state": info.state,
        "reason": info.reason,
        "distribution": info.distribution,
        "version": info.version,
        "module": info.module,
        "location": info.location,
        "registers": {PLURALS[kind]: number for kind, number in info.counts.items()},
    }


def _registers(info: PluginInfo) -> str:
    return (
        ", ".join(f"{number} {kind if number == 1 else PLURALS[kind]}" for kind, number in info.counts.items()) or "-"
    )


def _list(as_json: bool) -> int:
    current = catalog.current()
    plugins = current.plugins()
    if as_json:
        print_json([_described(info) for info in plugins])
        for problem in current.problems():
            note(problem)
        return 0
    if plugins:
        print_table(
            ("plugin", "state", "distribution", "version", "registers"),
            [(info.name, info.state, info.distribution, info.version, _registers(info)) for info in plugins],
        )
    if all(info.name == CORE for info in plugins):
        note("no plugin is installed. Begin with: pip install glueball-cv-classification")
    for info in plugins:
        if info.reason:
            print(f"\n{info.name} of {info.distribution} is {info.state}: {info.reason}")
    for problem in current.problems():
        note(problem)
    return 0


def _info(name: str, as_json: bool) -> int:
    current = catalog.current()
    chosen = current.plugin(name)
    # Two distributions may claim one name, and then the name means both.
    plugins = [
        info for info in current.plugins() if info.name == chosen.name and name in (info.name, info.distribution)
    ]
    if as_json:
        blocks = []
        for info in plugins:
            entries = {
                PLURALS[kind]: [entry.name for entry in current.entries(kind) if entry.plugin == info.name]
                for kind in info.counts
            }
            blocks.append({**_described(info), "details": info.details, "entries": entries})
        print_json(blocks)
        return 0
    for position, info in enumerate(plugins):
        if position:
            print()
        facts = {
            "plugin": info.name,
            "state": info.state,
            "distribution": f"{info.distribution} {info.version}".strip(),
            "module": info.module,
            "location": info.location or "-",
            "registers": _registers(info),
        }
        for key, value in facts.items():
            print(f"{key.ljust(12)}  {value}")
        if info.reason:
            print(f"\n{info.reason}")
        if info.details:
            print(f"\n{info.details.rstrip()}")
        for kind in KINDS:
            names = [entry.name for entry in current.entries(kind) if entry.plugin == info.name]
            if names and info.state == "active":
                print(f"\n{PLURALS[kind]}: {', '.join(names)}")
    return 0


def _check(names: list[str], build: bool, as_json: bool) -> int:
    from glueball.testing.checks import examine_plugin

    current = catalog.current()
    chosen = list({current.plugin(name).name: None for name in names}) if names else None
    everything = [info for info in current.plugins() if chosen is None or info.name in chosen]
    # A plugin that the user left out is only judged when it is named.
    asked = [info for info in everything if chosen is not None or info.state != "blocked"]
    reports = []
    for info in asked:
        report = examine_plugin(info, build=build)
        reports.append(
            {
                "plugin": info.name,
                "distribution": info.distribution,
                "state": info.state,
                "checked": report.checked,
                "problems": report.problems,
                "skipped": report.skipped,
            }
        )
        if not as_json:
            print(f"{info.name}: {'ok' if not report.problems else 'not ok'}, {report.checked} checked")
            for problem in report.problems:
                print(f"  problem: {problem}")
            for skipped in report.skipped:
                print(f"  skipped: {skipped}")
    selection = current.problems()
    if as_json:
        print_json({"plugins": reports, "selection": selection})
    else:
        for problem in selection:
            note(problem)
        if not asked:
            note("no plugin to check")
    return 1 if selection or any(report["problems"] for report in reports) else 0

"""``glueball doctor``: what works on this machine, and what to do about what does not."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from glueball.catalog.discovery import CORE
from glueball.cli.table import print_json, print_table

OPTIONAL_PACKAGES = {
    "PIL": ("pillow", "reads and draws pictures"),
    "cv2": ("opencv-python-headless", "decodes and resizes pictures faster"),
    "simplejpeg": ("simplejpeg", "decodes JPEG faster"),
    "matplotlib": ("matplotlib", "draws learning curves (without it: Pillow)"),
    "sklearn": ("scikit-learn", "carries the digits of the quickstart"),
    "tqdm": ("tqdm", "shows progress"),
}
"""Module -> (distribution, what Glueball uses it for)."""


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "doctor",
        help="say what works on this machine, and what to do about the rest",
        description="Tries every backend in a process of its own and looks at devices, plugins, the cache and optional "
        "packages. The exit status is 1 when no backend works.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(arguments: argparse.Namespace) -> int:
    """Examines the machine; the backends decide the exit status, because nothing trains without one."""
    report = examine()
    if arguments.json:
        print_json(report)
    else:
        _print(report)
    return 0 if any(found["works"] for found in report["backends"]) else 1


def examine() -> dict[str, Any]:
    """All findings, as ``--json`` prints them."""
    from glueball import __version__

    return {
        "glueball": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "processors": _processors(),
        "backends": _backends(),
        "plugins": _plugins(),
        "cache": _cache(),
        "packages": _packages(),
    }


def _processors() -> int:
    # The process may be held to some of the machine's cores (containers, taskset), and these are what count.
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


def _backends() -> list[dict[str, Any]]:
    from glueball import backend

    chosen = os.environ.get(backend.ENVIRONMENT_VARIABLE) or next(iter(backend.installed()), None)
    return [
        {
            "name": found.name,
            "selected": found.name == chosen,
            "installed": found.installed,
            "works": found.installed and found.error is None,
            "distribution": found.distribution,
            "version": found.version,
            "devices": list(found.devices),
            "error": found.error,
        }
        for found in map(backend.probe, backend.BACKENDS)
    ]


def _plugins() -> dict[str, Any]:
    from glueball import catalog
    from glueball.errors import GlueballError

    try:
        plugins = catalog.current().plugins()
        problems = catalog.current().problems()
    except GlueballError as error:  # GLUEBALL_STRICT_PLUGINS raises what is a finding here
        return {"installed": [], "problems": [str(error)]}
    return {
        "installed": [
            {
                "name": info.name,
                "distribution": info.distribution,
                "version": info.version,
                "state": info.state,
                "reason": info.reason,
            }
            for info in plugins
        ],
        "problems": problems,
    }


def _cache() -> dict[str, Any]:
    from glueball.weights.store import home

    folder = Path(home())
    existing = folder
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    # Asked of the nearest folder that exists: looking should not create anything.
    return {"folder": str(folder), "writable": existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)}


def _packages() -> list[dict[str, Any]]:
    from importlib.util import find_spec

    import importlib_metadata

    found = []
    for module, (distribution, purpose) in OPTIONAL_PACKAGES.items():
        version = None
        installed = find_spec(module) is not None
        if installed:
            owners = (distribution, "opencv-python", "opencv-contrib-python") if module == "cv2" else (distribution,)
            for owner in owners:
                try:
                    version = importlib_metadata.version(owner)
                    break
                except importlib_metadata.PackageNotFoundError:
                    continue
        found.append({"package": distribution, "installed": installed, "version": version, "purpose": purpose})
    return found


def _print(report: dict[str, Any]) -> None:
    print(f"Glueball {report['glueball']} on Python {report['python']} ({report['executable']})")
    print(f"{report['platform']}, {report['processors']} processor(s)\n")

    rows = []
    cures = []
    for found in report["backends"]:
        state = "works" if found["works"] else "broken" if found["installed"] else "not installed"
        # One line in the table; the whole message follows below.
        version = found["version"] or "-"
        mark = "selected" if found["selected"] else ""
        rows.append((found["name"], state, version, "; ".join(found["devices"]) or "-", mark))
        if found["installed"] and not found["works"]:
            cures.append(f"Backend {found['name']} does not work: {found['error']}")
    print_table(("backend", "state", "version", "devices", ""), rows)
    if not any(found["works"] for found in report["backends"]):
        if not any(found["installed"] for found in report["backends"]):
            cures.append(str(report["backends"][0]["error"]))
        else:
            cures.append("No backend works, so nothing can be trained. Cure one of the above, or install the other.")
    elif not any(found["works"] and found["selected"] for found in report["backends"]):
        working = next(found["name"] for found in report["backends"] if found["works"])
        cures.append(f"The selected backend cannot be used, but {working} can: set GLUEBALL_BACKEND={working}")
    print()

    plugins = report["plugins"]["installed"]
    if plugins:
        print_table(
            ("plugin", "state", "distribution", "version"),
            [(info["name"], info["state"], info["distribution"], info["version"]) for info in plugins],
        )
    if (
        all(info["name"] == CORE for info in plugins) and not report["plugins"]["problems"]
    ):  # else the problem is the reason, and it is told below
        cures.append("No plugin can be used. Begin with: pip install glueball-cv-classification")
    cures += [
        f"Plugin {info['name']} of {info['distribution']} is {info['state']}: {info['reason']}"
        for info in plugins
        if info["state"] != "active"
    ]
    cures += report["plugins"]["problems"]
    print()

    cache = report["cache"]
    print(f"Cache: {cache['folder']} ({'writable' if cache['writable'] else 'NOT writable'})\n")
    if not cache["writable"]:
        cures.append(f"Weights cannot be kept in {cache['folder']}: set GLUEBALL_HOME to a folder that you may write.")

    print_table(
        ("package", "version", "purpose"),
        [
            (found["package"], found["version"] or ("?" if found["installed"] else "-"), found["purpose"])
            for found in report["packages"]
        ],
    )
    print("\nWhat to do:" if cures else "\nEverything that is installed works.")
    for cure in cures:
        print("- " + cure.replace("\n", "\n  "))

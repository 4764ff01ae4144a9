"""What the catalogue costs: ``import glueball``, ``glueball list models``, and discovery among many distributions.

Goals: ``import glueball`` < 30 ms over bare Python; ``glueball list models`` < 300 ms; discovery of 200 plugins among
600 distributions < 300 ms. Every figure is a process of its own, because that is what a user waits for. The peers in
the same run are bare Python, importlib-metadata's ``entry_points``, and pluggy's own loader of entry points, which find
and import the same 200 plugins.

    python benchmarks/catalog.py [--runs 15] [--output benchmarks/results/catalog.json]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report

PLUGINS = 200
DISTRIBUTIONS = 600

# What the installed script runs.
COMMAND = [sys.executable, "-c", "import sys; from glueball.cli import main; sys.exit(main())"]

PLUGIN = """\
from glueball.plugin import hookimpl


@hookimpl
def register_models(register):
    for size in (18, 50):
        register(f"synthetic{number}_net{{size}}", "synthetic{number}.models:net", task="image_classification")
"""

# Each prints its own seconds; the process's wall time is taken outside.
DISCOVERY = {
    "glueball": """
        import glueball
        start = perf_counter()
        found = len(glueball.list_models("synthetic*"))
    """,
    "importlib-metadata entry_points + import": """
        start = perf_counter()
        import importlib_metadata
        found = 2 * len([point.load() for point in importlib_metadata.entry_points(group="glueball.plugins")
                         if point.name.startswith("synthetic")])
    """,
    "pluggy load_setuptools_entrypoints": """
        start = perf_counter()
        import pluggy
        manager = pluggy.PluginManager("glueball")
        manager.load_setuptools_entrypoints("glueball.plugins")
        found = 2 * len([name for name, _ in manager.list_name_plugin() if name.startswith("synthetic")])
    """,
}


def make_distributions(folder: Path) -> None:
    """600 distributions, 200 of which are plugins; the others have console scripts or no entry points at all."""
    for number in range(DISTRIBUTIONS):
        name = f"synthetic{number}"
        info = folder / f"{name}-1.{number}.dist-info"
        info.mkdir()
        requirements = "".join(f"Requires-Dist: requirement{index}>=1.{index}\n" for index in range(12))
        core = "Requires-Dist: glueball-core>=0.1,<9\n" if number < PLUGINS else ""
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.{number}\n{requirements}{core}\n" + "Description. " * 400
        )
        if number < PLUGINS:
            (info / "entry_points.txt").write_text(f"[glueball.plugins]\n{name} = {name}_plugin\n")
            (folder / f"{name}_plugin.py").write_text(PLUGIN.format(number=number))
        elif number % 2:
            (info / "entry_points.txt").write_text(f"[console_scripts]\n{name} = {name}.cli:main\n")


def run(arguments: list[str], environment: dict[str, str]) -> tuple[float, str]:
    """Wall time of one process in ms, and what it printed."""
    start = time.perf_counter()
    process = subprocess.run(arguments, env=environment, capture_output=True, text=True, check=True)
    return 1e3 * (time.perf_counter() - start), process.stdout


def program(body: str) -> str:
    """A discovery as a program that prints its own ms and what it found."""
    lines = [line.strip() for line in body.strip().splitlines()]
    joined = "\n".join(lines).replace("\nif ", " if ")
    return f"from time import perf_counter\n{joined}\nprint(1e3 * (perf_counter() - start), found)"


def measure(runs: int) -> dict[str, list[float]]:
    """All timings in ms, interleaved so that a busy machine hurts all alike; a first round warms the disk's cache."""
    environment = {**os.environ, "PYTHONPATH": ""}
    # As users run it: with compiled modules kept, and all plugins.
    for variable in ("PYTHONDONTWRITEBYTECODE", "GLUEBALL_PLUGINS", "GLUEBALL_BLOCK_PLUGINS"):
        environment.pop(variable, None)
    timings: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_distributions(folder)
        crowded = {**environment, "PYTHONPATH": str(folder)}
        for turn in range(runs + 1):
            figures = {
                "python -c pass": run([sys.executable, "-c", "pass"], environment)[0],
                "import glueball": run([sys.executable, "-c", "import glueball"], environment)[0],
                "glueball --version": run([*COMMAND, "--version"], environment)[0],
                "glueball list models": run([*COMMAND, "list", "models"], environment)[0],
                "glueball list models, 600 distributions": run([*COMMAND, "list", "models"], crowded)[0],
            }
            for peer, body in DISCOVERY.items():
                milliseconds, found = run([sys.executable, "-c", program(body)], crowded)[1].split()
                if int(found) != 2 * PLUGINS:
                    raise SystemExit(f"{peer} found {found} models instead of {2 * PLUGINS}")
                figures[f"discovery: {peer}"] = float(milliseconds)
            if turn:
                for key, value in figures.items():
                    timings.setdefault(key, []).append(value)
    return timings


def main() -> None:
    """Prints the table; with --output, writes JSON and a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    timings = measure(arguments.runs)
    medians = {name: statistics.median(values) for name, values in timings.items()}
    bare = medians["python -c pass"]
    ours = medians["discovery: glueball"]
    rows = []
    for name, values in timings.items():
        inside = name.startswith("discovery")
        over = "" if inside else f"{medians[name] - bare:.1f}"
        ratio = f"{medians[name] / ours:.2f}" if inside else ""
        rows.append((name, f"{medians[name]:.1f}", f"{min(values):.1f}", over, ratio))
    report.finish(
        arguments.output,
        title="What the catalogue costs",
        script="benchmarks/catalog.py",
        where=report.machine(("glueball-core", "pluggy", "importlib-metadata", "attrs")),
        document={"milliseconds": timings, "medians": medians},
        lines=report.table(("", "median ms", "best ms", "over bare Python", "peer / ours"), rows),
        goals=[
            report.Goal("import glueball over bare Python, ms", medians["import glueball"] - bare, 30, False),
            report.Goal("glueball list models, ms", medians["glueball list models"], 300, False),
            report.Goal("discovery of 200 plugins among 600 distributions, ms", ours, 300, False),
        ],
    )


if __name__ == "__main__":
    main()

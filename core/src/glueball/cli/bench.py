"""``glueball bench``: how fast the installed models are on this machine, and how much memory they take."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glueball import catalog
from glueball.catalog.listing import select, usable_name
from glueball.catalog.suggestions import did_you_mean
from glueball.cli.table import note, note_unusable_plugins, print_json, print_table
from glueball.errors import OptionError

if TYPE_CHECKING:
    from glueball.catalog.entries import Entry

_EPILOG = """examples:
  glueball bench "resnet*_v1b"
  glueball bench --plugin cv_classification --modes inference --plot models.png
  glueball bench textcnn --batch-size 50 --json

Every model is measured in a process of its own, with random weights, on random data that lie on the device already:
the median of the turns counts. On an otherwise idle machine, that is.
"""

_MODES = ("inference", "training")
_FORMATS = (".png", ".svg", ".pdf")
_MIB = 1 << 20


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "bench",
        help="measure speed and memory of models on this machine",
        description="Measures samples a second in inference and training, memory and size of the installed models.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "patterns",
        nargs="*",
        metavar="MODEL",
        help="'resnet*_v1b' (as in a shell), 'resnet' (part of the name) or '^resnet(18|34)' (default: all models)",
    )
    parser.add_argument("--task", help="only models for this task, such as image_classification")
    parser.add_argument("--plugin", help="only what this plugin offers")
    parser.add_argument("--modes", nargs="+", choices=_MODES, default=list(_MODES), help="default: both")
    parser.add_argument("--batch-size", metavar="N", type=_count, default=16, help="samples in a batch (default: 16)")
    parser.add_argument("--device", help="cpu, cuda:0, ... (default: the best one)")
    parser.add_argument(
        "--precision",
        default="auto",
        choices=("auto", "float32", "bfloat16", "float16"),
        help="default: auto, the fastest that the device gains by",
    )
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="run eagerly")
    parser.add_argument(
        "--seconds", type=_seconds, default=3.0, metavar="S", help="how long each is measured (default: 3)"
    )
    parser.add_argument(
        "--warm-up",
        type=_seconds,
        default=0.0,
        metavar="S",
        help="how long each runs before, at least three batches (default: 0); on a GPU, 30 seconds leave time to try "
        "whether compiling gains",
    )
    parser.add_argument(
        "--plot",
        metavar="FILE",
        help="draw speed against published accuracy, circles as large as the memory (.png, .svg or .pdf)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _count(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"a positive whole number is expected. Received: {text!r}")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0.0 <= number < float("inf"):
        raise argparse.ArgumentTypeError(f"a number of seconds, at least 0, is expected. Received: {text!r}")
    return number


def run(arguments: argparse.Namespace) -> int:
    """Measures, prints and draws; the exit status is 1 where a model could not be measured."""
    plot = _plot_file(arguments.plot)
    entries = _entries(arguments)
    if not entries:
        return 0
    current = catalog.current()
    rows: list[dict[str, Any]] = []
    for entry, mode in _with_progress(entries, arguments.modes):
        name = usable_name(current, entry)
        request = {
            "name": name,
            "mode": mode,
            **{
                option: getattr(arguments, option)
                for option in ("batch_size", "device", "precision", "compile", "seconds", "warm_up")
            },
        }
        rows.append({"model": name, "mode": mode, "task": entry.task, **measured(request), **_published(entry)})
    if arguments.json:
        print_json(rows)
    else:
        _print(rows)
        note_unusable_plugins()
    if plot is not None:
        _draw(rows, plot)
    return 1 if any("error" in row for row in rows) else 0


def _entries(arguments: argparse.Namespace) -> list[Entry]:
    current = catalog.current()
    chosen: dict[str, Entry] = {}
    known = [entry.name for entry in current.entries("model")]
    for pattern in arguments.patterns or [None]:
        found = select(current, "model", pattern, task=arguments.task, plugin=arguments.plugin)
        if not found and pattern is not None:
            raise OptionError(
                f"No model fits {pattern!r}.{did_you_mean(pattern, known)} `glueball list models` shows all."
            )
        # A name in full is this model, not all those that have it as a part.
        exact = [entry for entry in found if pattern is not None and entry.name.casefold() == pattern.casefold()]
        chosen.update({entry.qualified_name: entry for entry in exact or found})
    if not chosen:
        note("there are no models to measure; plugins bring them, such as glueball-cv-classification.")
        note_unusable_plugins()
    return list(chosen.values())


def _with_progress(entries: Sequence[Entry], modes: Sequence[str]) -> Iterator[tuple[Entry, str]]:
    from tqdm import tqdm

    pairs = [(entry, mode) for entry in entries for mode in dict.fromkeys(modes)]
    with tqdm(pairs, unit="model", leave=False, disable=None) as bar:
        for entry, mode in bar:
            bar.set_description(f"{entry.name}, {mode}")
            yield entry, mode


def measured(request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer of a process that measures one model: fields of ``glueball.engine.model_speed.Speed``, or an error."""
    environment = dict(os.environ)
    # What this process finds, the other one must find: editable installations, and paths that a test has added.
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    process = subprocess.Popen(
        [sys.executable, "-m", "glueball.engine.model_speed"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        env=environment,
    )
    try:
        out, complaints = process.communicate(json.dumps(dict(request)))
    finally:
        if process.poll() is None:  # Ctrl-C here
            process.kill()
            process.wait()
    with contextlib.suppress(ValueError):
        found = json.loads(out)
        if isinstance(found, dict):
            return found
    if process.returncode < 0:
        return {
            "error": f"its process was ended by signal {-process.returncode}. Where that is 9, the memory was full: "
            "try a smaller --batch-size"
        }
    lines = complaints.strip().splitlines() or ["no message"]
    return {"error": f"its process ended with status {process.returncode}: {lines[-1]}"}


def _published(entry: Entry) -> dict[str, Any]:
    """The first published result of the model's weights, and on what it was measured."""
    for tag, weights in entry.weights.items():
        for name, value in weights.metrics.items():
            return {"published": {"weights": tag, "metric": name, "value": value}}
    return {"published": None}


def _print(rows: Sequence[Mapping[str, Any]]) -> None:
    good = [row for row in rows if "error" not in row]
    if good:
        print_table(
            ("model", "mode", "samples/s", "slowest - fastest", "memory, MiB", "parameters", "published"),
            [
                (
                    row["model"],
                    row["mode"],
                    _figure(row["samples_per_second"]),
                    f"{_figure(row['slowest'])} - {_figure(row['fastest'])}",
                    "-" if row["memory"] is None else f"{row['memory'] / _MIB:.0f}",
                    f"{row['parameters']:,}",
                    _published_text(row["published"]),
                )
                for row in good
            ],
        )
        first = good[0]
        precisions = ", ".join(dict.fromkeys(str(row["precision"]) for row in good))
        print(
            f"\nOn {first['backend']}, {first['device']}, in {precisions}, with batches of {first['batch_size']} that "
            f"lie on the device. {_memory_words(first)}"
        )
    for row in rows:
        if "error" in row:
            note(f"{row['model']} in {row['mode']} was not measured: {row['error']}")


def _memory_words(row: Mapping[str, Any]) -> str:
    if row["device"] == "cpu":
        return "Memory is what the process grew by at most."
    return "Memory is the most that was in use on the device."


def _figure(rate: float) -> str:
    return f"{rate:.0f}" if rate >= 100 else f"{rate:.3g}"


def _published_text(published: Mapping[str, Any] | None) -> str:
    return "-" if published is None else f"{published['metric']} {published['value']:g}, {published['weights']}"


# ----------------------------------------------------------------------------------------------------------------------
# The figure
# ----------------------------------------------------------------------------------------------------------------------


def _plot_file(name: str | None) -> Path | None:
    """The file to draw into; whatever can be refused is refused before minutes of measuring."""
    if name is None:
        return None
    path = Path(name)
    if path.suffix.lower() not in _FORMATS:
        raise OptionError(f"--plot takes a file that ends in {', '.join(_FORMATS)}. Received: {name!r}.")
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise OptionError(f"--plot needs a file in a folder that exists. Received: {name!r}.")
    if importlib.util.find_spec("matplotlib") is None:
        raise OptionError(
            'The figure is drawn by matplotlib, which is not installed here: pip install "glueball-core[plots]". '
            "Without --plot the table is printed all the same."
        )
    return path


def _draw(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    from glueball.cli.bench_chart import Circle, draw

    current = catalog.current()
    families = {usable_name(current, entry): family(entry) for entry in current.entries("model")}
    good = [row for row in rows if "error" not in row]
    shown = [row for row in good if row["published"] is not None and row["memory"]]
    if not shown:
        note(f"{path} was not drawn: no model that was measured has both a published result and a known memory.")
        return
    mode = "inference" if any(row["mode"] == "inference" for row in shown) else "training"
    circles = [
        Circle(
            panel=f"{row['published']['weights']}: published {row['published']['metric']}, %",
            label=row["model"],
            family=families[row["model"]],
            x=row["samples_per_second"],
            y=row["published"]["value"],
            memory=row["memory"] / _MIB,
        )
        for row in shown
        if row["mode"] == mode
    ]
    first = shown[0]
    where = f"{mode} on {first['backend']}, {first['device']}, {first['precision']}, batches of {first['batch_size']}"
    draw(circles, path, x_label=f"samples a second ({where})")
    missing = sorted({row["model"] for row in good} - {circle.label for circle in circles})
    note(f"the figure is in {path}.")
    if missing:
        note(f"not in the figure, because no accuracy is published with their weights: {', '.join(missing)}.")


def family(entry: Entry) -> str:
    """The module that the model is written in, which holds one architecture."""
    return entry.target.partition(":")[0].rpartition(".")[2]

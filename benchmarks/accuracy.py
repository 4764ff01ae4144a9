"""Trains recipes on both backends and records what they reach: logs, curves and one table.

    python benchmarks/accuracy.py cifar10 fashion-mnist digits --mxnet-python PATH --torch-python PATH

Each backend lives in an environment of its own, so each run is a process of that environment's Python. The accuracy is
that of the last epoch, never of the best one: choosing an epoch by its test accuracy would flatter. With --parallel the
backends of a recipe train side by side, each on its share of the cores. --measure-again trains nothing: it measures the
last weights of the runs in --work with the evaluation that the recipe has now, and with a single view for comparison.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from glueball import get_recipe
from glueball.engine import chart

RESULTS = Path(__file__).parent / "results" / "accuracy"
BACKENDS = ("mxnet", "torch")
VIEWS = ("mirror", "shift")
"""Options of an evaluation transform that add views of a picture."""
GOALS = {"digits": 0.98, "cifar10": 0.86, "fashion-mnist": 0.925}


def epochs_of(folder: Path) -> list[dict[str, Any]]:
    """The rows that ``log.jsonl`` holds of each epoch."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, lines) if row["event"] == "epoch"]


def start(
    recipe: str, backend: str, python: str, work: Path, threads: int, extra: list[str]
) -> subprocess.Popen[bytes]:
    """Begins one training run."""
    out = work / f"{recipe}-{backend}"
    environment = {**os.environ, "GLUEBALL_BACKEND": backend, "OMP_NUM_THREADS": str(threads)}
    command = [python, "-m", "glueball", "train", recipe, "--out", str(out), "--overwrite", *extra]
    return subprocess.Popen(command, env=environment)


def record(recipe: str, backend: str, work: Path, threads: int) -> dict[str, Any]:
    """Copies what a run left into the results, and returns its row of the table."""
    source, target = work / f"{recipe}-{backend}", RESULTS / f"{recipe}-{backend}"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("curves.png", "predictions.png"):
        if (source / name).exists():
            shutil.copyfile(source / name, target / name)
    # Remarks tell in which folder of this machine the data lie: of no use to anybody else.
    lines = (source / "log.jsonl").read_text().splitlines(keepends=True)
    (target / "log.jsonl").write_text("".join(line for line in lines if json.loads(line)["event"] != "remark"))
    epochs = epochs_of(source)
    first = json.loads((source / "log.jsonl").read_text().splitlines()[0])
    environment = json.loads((source / "environment.json").read_text())
    return {
        "recipe": recipe,
        "backend": backend,
        "library": environment["backend"]["version"],
        "model": first["model"],
        "precision": first["precision"],
        "epochs": len(epochs),
        "accuracy": epochs[-1]["validation_accuracy"],
        "logged": epochs[-1]["validation_accuracy"],
        "seconds": epochs[-1]["seconds"],
        "threads": threads,
        "date": time.strftime("%Y-%m-%d"),
        "processor": environment["processor"],
        "python": environment["python"],
    }


def measure_again(recipe: str, backend: str, python: str, work: Path, threads: int) -> dict[str, float]:
    """Accuracy of a finished run's last weights, by the recipe's evaluation of today and by a single view."""
    today = get_recipe(recipe).to_dict()["transforms"]["evaluation"]
    single = [{**step, "options": {k: v for k, v in step["options"].items() if k not in VIEWS}} for step in today]
    environment = {**os.environ, "GLUEBALL_BACKEND": backend, "OMP_NUM_THREADS": str(threads)}
    found = {}
    for name, steps in (("accuracy", today), ("single_view", single)):
        copy = work / f"{recipe}-{backend}-{name}"
        shutil.copytree(work / f"{recipe}-{backend}", copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("check*"))
        stored = json.loads((copy / "recipe.json").read_text())
        stored["transforms"]["evaluation"] = steps
        (copy / "recipe.json").write_text(json.dumps(stored))
        command = [python, "-m", "glueball", "evaluate", str(copy), "--weights", "last", "--json"]
        answer = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
        found[name] = json.loads(answer.splitlines()[-1])["metrics"]["accuracy"]
        shutil.rmtree(copy)
    return found


def draw(recipe: str) -> None:
    """The curves of every backend that has results, in one picture."""
    backends = [backend for backend in BACKENDS if (RESULTS / f"{recipe}-{backend}").exists()]
    panels = []
    for quantity, title in (("validation_accuracy", "test accuracy"), ("train_loss", "training loss")):
        series = []
        for backend in backends:
            rows = epochs_of(RESULTS / f"{recipe}-{backend}")
            x, y = [row["epoch"] for row in rows], [row[quantity] for row in rows]
            series.append(chart.Series(label=backend, x=x, y=y, markers=True))
        panels.append(chart.Panel(title=title, series=series))
    chart.draw(panels, RESULTS / f"{recipe}.png")


def write_table(rows: list[dict[str, Any]]) -> None:
    """``accuracy.json`` and ``accuracy.md``; rows of recipes that were not run again stay."""
    path = RESULTS / "accuracy.json"
    old = json.loads(path.read_text()) if path.exists() else []
    new = {(row["recipe"], row["backend"]) for row in rows}
    merged = sorted(
        [row for row in old if (row["recipe"], row["backend"]) not in new] + rows,
        key=lambda row: (row["recipe"], row["backend"]),
    )
    path.write_text(json.dumps(merged, indent=1) + "\n")
    lines = [
        "# Accuracy of the recipes",
        "",
        "Made by `benchmarks/accuracy.py`. Test accuracy after the last epoch, not the best one.",
        "",
        "| recipe | backend | model | epochs | test accuracy | goal | training time | threads | date |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in merged:
        goal = GOALS.get(row["recipe"])
        lines.append(
            f"| {row['recipe']} | {row['backend']} | {row['model']} | {row['epochs']} | {row['accuracy']:.2%} "
            f"| {'' if goal is None else f'{goal:.1%}'} | {row['seconds']:.0f} s | {row['threads']} | {row['date']} |"
        )
    for row in merged:
        if "single_view" in row:
            lines += [
                "",
                f"{row['recipe']} on {row['backend']}: {row['accuracy']:.2%} is the mean answer to several views of a "
                f"picture, measured after training; a single view gives {row['single_view']:.2%}, the log's evaluation "
                f"of that day {row['logged']:.2%}.",
            ]
    lines += ["", f"Machine: {merged[-1]['processor']}.", ""]
    (RESULTS / "accuracy.md").write_text("\n".join(lines))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--mxnet-python", help="Python of an environment with glueball-core[mxnet]")
    parser.add_argument("--torch-python", help="Python of an environment with glueball-core[torch]")
    parser.add_argument("--work", type=Path, default=Path("runs/accuracy"), help="where the runs go")
    parser.add_argument("--parallel", action="store_true", help="both backends at once, sharing the cores")
    parser.add_argument("--set", action="append", default=[], help="passed on to glueball train")
    parser.add_argument("--measure-again", action="store_true", help="measure finished runs, train nothing")
    parser.add_argument("--threads", type=int, help="threads of each run (default: the cores, shared if --parallel)")
    arguments = parser.parse_args()
    pythons = {"mxnet": arguments.mxnet_python, "torch": arguments.torch_python}
    pythons = {backend: python for backend, python in pythons.items() if python}
    if not pythons:
        parser.error("give --mxnet-python, --torch-python or both")
    extra = [part for assignment in arguments.set for part in ("--set", assignment)]
    share = (os.cpu_count() or 1) // (len(pythons) if arguments.parallel else 1)
    threads = arguments.threads or max(1, share)
    rows = []
    for recipe in arguments.recipes:
        running = []
        for backend, python in pythons.items() if not arguments.measure_again else ():
            running.append((backend, start(recipe, backend, python, arguments.work, threads, extra)))
            if not arguments.parallel:
                running[-1][1].wait()
        for backend, process in running:
            if process.wait() != 0:
                sys.exit(f"{recipe} on {backend} ended with status {process.returncode}")
        for backend, python in pythons.items():
            row = record(recipe, backend, arguments.work, threads)
            if arguments.measure_again:
                row.update(measure_again(recipe, backend, python, arguments.work, threads))
            rows.append(row)
        write_table(rows)
        draw(recipe)
    print((RESULTS / "accuracy.md").read_text())


if __name__ == "__main__":
    main()

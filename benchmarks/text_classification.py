"""What TextCNN reaches on TREC and MR with given word vectors: several seeds, ten folds, on each backend.

    python benchmarks/text_classification.py --vectors glove=glove.6B.50d.txt --vectors spacy=vectors.txt \
        --mxnet-python PATH --torch-python PATH --data FOLDER

How the setting of TREC is chosen: each of the given vectors is tried in each mode on five folds of the training
questions, each measured after its last epoch. With the best setting all training questions are trained on, once for
each seed and backend, and the last weights answer the test questions, which no choice has looked at. MR has no test
part: ten folds, each measured after its last epoch, with the setting that TREC chose.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import report
from tqdm import tqdm

MODES = ("static", "non-static", "multichannel")
GOALS = {"trec": 0.928, "mr": 0.76}


class Glueball:
    """The command of one environment."""

    def __init__(self, python: str, backend: str, threads: int, reuse: bool) -> None:
        self.python, self.backend, self.reuse = python, backend, reuse
        self.environment = {**os.environ, "GLUEBALL_BACKEND": backend, "OMP_NUM_THREADS": str(threads)}

    def __call__(self, *words: str) -> dict[str, Any]:
        """Runs ``glueball`` with --json and returns what it answers."""
        command = [self.python, "-m", "glueball", *words, "--json"]
        finished = subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, text=True, check=False)
        if finished.returncode:
            raise SystemExit(f"{' '.join(command)} ended with status {finished.returncode}")
        answer: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
        return answer


def train(run: Glueball, recipe: str, out: Path, vectors: str, mode: str, *words: str) -> dict[str, Any]:
    """What one training run, or one for each fold, answers. With --reuse a finished one in ``out`` is not repeated."""
    if run.reuse:
        folds = out / "cross_validation.json"
        stored: dict[str, Any] = json.loads(folds.read_text()) if folds.exists() else {}
        if stored and stored["complete"] and stored["folds"] == int(words[words.index("--folds") + 1]):
            return {**stored, "folds": stored["results"]}
        if (out / "run.json").exists() and json.loads((out / "run.json").read_text()).get("ended") == "done":
            return {}
    options = ("--embedding", vectors, "--mode", mode, "--out", str(out), "--overwrite", "--quiet")
    return run("train", recipe, *options, *words)


def choose(run: Glueball, vectors: dict[str, str], work: Path, data: tuple[str, ...]) -> list[dict[str, Any]]:
    """Accuracy of every setting over five folds of the training questions, best first; no test question is read."""
    rows = []
    settings = [(name, mode) for name in vectors for mode in MODES]
    for name, mode in tqdm(settings, desc="settings", file=sys.stderr):
        result = train(run, "textcnn-trec", work / f"choose-{name}-{mode}", vectors[name], mode, "--folds", "5", *data)
        rows.append({"vectors": name, "mode": mode, "held_out": result["mean"]["accuracy"]})
    return sorted(rows, key=lambda row: -row["held_out"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", action="append", required=True, metavar="NAME=FILE")
    parser.add_argument("--data", help="folder with the data sets (default: where Glueball looks for them)")
    parser.add_argument("--mxnet-python", help="Python of an environment with glueball-core[mxnet]")
    parser.add_argument("--torch-python", help="Python of an environment with glueball-core[torch]")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--reuse", action="store_true", help="finished runs in --work are measured, not repeated")
    parser.add_argument("--work", type=Path, default=Path("runs/text_classification"), help="where the runs go")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/text_classification.json"))
    arguments = parser.parse_args()
    vectors = dict(item.split("=", 1) for item in arguments.vectors)
    pythons = {"torch": arguments.torch_python, "mxnet": arguments.mxnet_python}
    runs = [
        Glueball(python, backend, arguments.threads, arguments.reuse) for backend, python in pythons.items() if python
    ]
    if not runs:
        parser.error("give --mxnet-python, --torch-python or both")
    data = () if arguments.data is None else ("--data", arguments.data)

    tried = choose(runs[0], vectors, arguments.work, data)
    best = tried[0]
    file, mode = vectors[best["vectors"]], best["mode"]
    results = []
    for run in runs:
        accuracies = []
        for seed in tqdm(range(arguments.seeds), desc=f"trec, {run.backend}", file=sys.stderr):
            out = arguments.work / f"trec-{run.backend}-{seed}"
            train(run, "textcnn-trec", out, file, mode, "--holdout", "0", "--seed", str(seed), *data)
            accuracies.append(run("evaluate", str(out), "--split", "test", "--weights", "last")["metrics"]["accuracy"])
        results.append(_row("trec", run.backend, accuracies))
        folds = train(
            run, "textcnn-mr", arguments.work / f"mr-{run.backend}", file, mode, "--folds", str(arguments.folds), *data
        )
        accuracies = [fold["metrics"]["accuracy"] for fold in folds["folds"]]
        results.append(_row("mr", run.backend, accuracies))

    lines = report.table(
        ["data", "backend", "runs", "accuracy", "deviation"],
        [
            [
                "TREC, 6 classes, 500 test questions" if row["data"] == "trec" else "MR, ten folds",
                row["backend"],
                str(len(row["accuracies"])),
                f"{row['mean']:.2%}",
                f"{row['deviation']:.2%}",
            ]
            for row in results
        ],
    )
    lines += ["", "Settings tried on five folds of TREC's training questions:", ""]
    lines += report.table(
        ["vectors, mode", "held-out accuracy"],
        [[f"{row['vectors']}, {row['mode']}", f"{row['held_out']:.2%}"] for row in tried],
    )
    goals = [
        report.Goal(
            f"{row['data']} on {row['backend']}, mean accuracy in %", 100 * row["mean"], 100 * GOALS[row["data"]]
        )
        for row in results
    ]
    report.finish(
        arguments.output,
        title="TextCNN on TREC and MR",
        script="benchmarks/text_classification.py",
        where={**report.machine(["glueball-core", "numpy"]), "threads": arguments.threads},
        document={"chosen": best, "tried": tried, "results": results},
        lines=lines,
        goals=goals,
    )


def _row(data: str, backend: str, accuracies: list[float]) -> dict[str, Any]:
    return {
        "data": data,
        "backend": backend,
        "accuracies": accuracies,
        "mean": statistics.mean(accuracies),
        "deviation": statistics.stdev(accuracies),
    }


if __name__ == "__main__":
    main()

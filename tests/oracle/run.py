"""Compares every registered classification model with GluonCV's on each backend; see the README in this folder."""

from __future__ import annotations

import argparse
import datetime
import fnmatch
import json
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from workers import Worker

from glueball import catalog

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parents[1] / "benchmarks" / "results"

PLUGIN = "cv_classification"
BATCH = 2
TRAIN_SIZE = 64
# Where GluonCV ends in a pooling of fixed size or in dense layers, pictures that it takes (VGG: any, as its first dense
# layer follows the first picture).
TRAIN_SIZES = {"alexnet": 224, "vgg": 32, "squeezenet": 224, "densenet": 224}
HAS_DROPOUT = ("alexnet", "vgg", "squeezenet")

# What may differ, and why it may: two libraries add up the same numbers in other orders.
BOUNDS = {
    # float32 carries 6e-8; a hundred layers of sums of thousands of terms lose three digits.
    "output_error": 1e-4,
    # The exact test of training is in float64. MXNet keeps some constants (a momentum, an epsilon) in float32 there.
    "float64_loss_error": 1e-6,
    "float64_gradient_error": 1e-6,
    "float64_worst_gradient_error": 1e-5,
    "float64_statistics_error": 1e-6,
    # In float32 a rounding error moves some of the millions of activations that are nearly zero to the other side of
    # their ReLU, each of which changes the gradient by a finite amount, and batch norms over eight values multiply it
    # from layer to layer: these bounds only tell a wrong formula from that.
    "float32_loss_error": 1e-2,
    "float32_gradient_error": 0.5,
    "float32_statistics_error": 1e-2,
}


def _job(entry: catalog.Entry, folder: Path) -> dict[str, Any]:
    channels, height, width = entry.metadata["input_shape"]
    family = re.match("[a-z]+", entry.name)
    name = family[0] if family else ""
    size = TRAIN_SIZES.get(name, min(height, TRAIN_SIZE))
    # Running statistics of just these pictures would take away what they have in common and multiply rounding errors;
    # those of smaller pictures do not, where a network takes them.
    calibration = height if name in TRAIN_SIZES else size
    return {
        "model": entry.name,
        "inference_size": (channels, height, width),
        "calibration_size": (channels, calibration, calibration),
        "train_size": (channels, size, size),
        "batch": BATCH,
        "has_dropout": entry.name.startswith(HAS_DROPOUT),
        "folder": str(folder),
    }


def _deviations(row: dict[str, Any]) -> list[str]:
    """What is out of bounds; a value that is no number counts as out."""
    found = [] if row["keys_equal"] else ["keys"]
    return found + [name for name, bound in BOUNDS.items() if not row[name] <= bound]


def _table(rows: list[dict[str, Any]], versions: dict[str, str]) -> str:
    lines = [
        f"# Classification models against GluonCV: {versions['backend']}",
        "",
        f"GluonCV {versions['gluoncv']} on MXNet {versions['mxnet']} wrote the weights; {versions['date']}.",
        f"Batch {BATCH}. Errors of output, loss and statistics: largest difference / largest value; of gradients: "
        "norm of the difference / norm, of all gradients as one vector, and of the worst tensor.",
        "Bounds: " + ", ".join(f"{name.replace('_', ' ')} {bound:g}" for name, bound in BOUNDS.items()) + ".",
        "",
        "| model | tensors | keys | inference | output | training | loss | gradient | worst tensor | statistics "
        "| loss (float32) | gradient (float32) | statistics (float32) | |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    errors = (
        "float64_loss_error",
        "float64_gradient_error",
        "float64_worst_gradient_error",
        "float64_statistics_error",
        "float32_loss_error",
        "float32_gradient_error",
        "float32_statistics_error",
    )
    for row in rows:
        deviations = _deviations(row)
        lines.append(
            f"| {row['model']} | {row['tensors']} | {'equal' if row['keys_equal'] else 'DIFFER'} "
            f"| {row['inference_size'][1]} px | {row['output_error']:.1e} | {row['train_size'][1]} px | "
            + " | ".join(f"{row[name]:.1e}" for name in errors)
            + f" | {'ok' if not deviations else 'DEVIATES: ' + ', '.join(deviations)} |"
        )
    passed = sum(not _deviations(row) for row in rows)
    return "\n".join([*lines, "", f"{passed} of {len(rows)} models agree."]) + "\n"


def _record(stem: Path, row: dict[str, Any], versions: dict[str, str]) -> None:
    """Puts one model's row into the tables, in place of an earlier one; rows of models that are gone are dropped."""
    path = stem.with_suffix(".json")
    rows = {row["model"]: row}
    if path.exists():
        earlier = json.loads(path.read_text(encoding="utf-8"))
        if earlier["bounds"] == BOUNDS:
            rows = {known["model"]: known for known in earlier["models"]} | rows
    registered = sorted(entry.name for entry in catalog.current().entries("model") if entry.plugin == PLUGIN)
    kept = [rows[name] for name in registered if name in rows]
    document = {**versions, "bounds": BOUNDS, "models": kept}
    path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    stem.with_suffix(".md").write_text(_table(kept, versions), encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--oracle-python", default=sys.executable, help="interpreter that has mxnet and gluoncv")
    parser.add_argument(
        "--backend",
        action="append",
        required=True,
        metavar="NAME=PYTHON",
        help="a backend and an interpreter that has it; may be given several times",
    )
    parser.add_argument("--models", default="*", help="shell pattern of the models to compare")
    parser.add_argument("--work", type=Path, help="folder for temporary files (default: a new one in the system's)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="where the tables go")
    arguments = parser.parse_args()

    entries = [
        entry
        for entry in catalog.current().entries("model")
        if entry.plugin == PLUGIN and fnmatch.fnmatch(entry.name, arguments.models)
    ]
    if not entries:
        parser.error(f"no registered model matches {arguments.models!r}")
    oracle = Worker(arguments.oracle_python, str(HERE / "oracle_gluoncv.py"), {})
    workers = {}
    for backend in arguments.backend:
        name, _, python = backend.partition("=")
        workers[name] = Worker(python, str(HERE / "compare_gluoncv.py"), {"GLUEBALL_BACKEND": name})
    arguments.output.mkdir(parents=True, exist_ok=True)
    failed = False
    for entry in entries:
        folder = Path(tempfile.mkdtemp(prefix="oracle-", dir=arguments.work))
        try:
            job = _job(entry, folder)
            started = time.perf_counter()
            made = oracle.ask(job)
            print(f"{entry.name}: GluonCV {time.perf_counter() - started:.1f} s", end="")
            for name, worker in workers.items():
                started = time.perf_counter()
                row = {**job, **worker.ask(job)}
                del row["folder"], row["has_dropout"]
                deviations = _deviations(row)
                failed = failed or bool(deviations)
                versions = {**made, "backend": row["backend"], "date": datetime.date.today().isoformat()}
                _record(arguments.output / f"oracle_classification_{name}", row, versions)
                print(
                    f"; {name} {time.perf_counter() - started:.1f} s, output {row['output_error']:.1e}, gradient "
                    f"{row['float64_gradient_error']:.1e} ({row['float32_gradient_error']:.1e} in float32), worst "
                    f"{row['float64_worst_gradient_error']:.1e} {row['float64_worst_gradient']}"
                    f"{' DEVIATES ' + str(deviations) if deviations else ''}",
                    end="",
                )
            print(flush=True)
        finally:
            shutil.rmtree(folder)
    for worker in [oracle, *workers.values()]:
        worker.close()

    return int(failed)


if __name__ == "__main__":
    sys.exit(main())

"""Speed against published accuracy, circles as large as the memory: Figure 1 of the GluonCV paper, measured here.

    python benchmarks/figure.py --mxnet-python PYTHON --torch-python PYTHON [--models PATTERN ...] [--modes MODE ...]
        [--batch-size N] [--seconds S] [--threads N] [--output FILE]

The paper (arXiv:1907.04433) shows this of its models on a GPU. Here `glueball bench` measures the installed models on
this machine, on both backends, each model in a process of its own; the accuracies are the published ones of the
official weights, which glueball.get_model(name, pretrained=True) loads. The picture goes beside the table.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import report

from glueball import catalog
from glueball.cli import bench
from glueball.cli.bench_chart import Circle, draw

MODELS = (
    *("alexnet", "squeezenet1.0", "squeezenet1.1", "vgg11", "vgg16", "vgg16_bn", "densenet121", "densenet161"),
    *("mobilenet0.25", "mobilenet0.5", "mobilenet0.75", "mobilenet1.0"),
    *("mobilenetv2_0.25", "mobilenetv2_0.5", "mobilenetv2_0.75", "mobilenetv2_1.0"),
    *("resnet18_v1b", "resnet34_v1b", "resnet50_v1b", "resnet101_v1b", "resnet152_v1b"),
    *("resnet50_v1d", "resnet101_v1d", "resnet152_v1d", "resnet50_v2"),
)
_MIB = 1 << 20


def measure(python: str, backend: str, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """What ``glueball bench --json`` says on one backend."""
    environment = {**os.environ, "GLUEBALL_BACKEND": backend}
    if arguments.threads:
        environment["OMP_NUM_THREADS"] = str(arguments.threads)
    words = ["--json", "--modes", *arguments.modes, "--batch-size", str(arguments.batch_size)]
    words += ["--seconds", str(arguments.seconds), "--precision", arguments.precision]
    done = subprocess.run(
        [python, "-m", "glueball", "bench", *words, "--", *arguments.models],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode not in (0, 1):  # 1: a model could not be measured, which its row says
        raise SystemExit(f"glueball bench ended with status {done.returncode} on {backend}.")
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def main() -> None:
    """Prints the table; with --output, writes JSON, a table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mxnet-python", help="interpreter with Glueball, its plugins and mxnet")
    parser.add_argument("--torch-python", help="interpreter with Glueball, its plugins and torch")
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--modes", nargs="+", default=["inference"], choices=("inference", "training"))
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--threads", type=int, default=0, help="computing threads (default: the library's)")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    pythons = {"mxnet": arguments.mxnet_python, "torch": arguments.torch_python}
    if not any(pythons.values()):
        parser.error("--mxnet-python or --torch-python is needed")
    found: dict[str, list[dict[str, Any]]] = {}
    load = [os.getloadavg()[0]]
    for backend, python in pythons.items():
        if python:
            found[backend] = measure(python, backend, arguments)
            load.append(os.getloadavg()[0])
    write(arguments, found, load, pythons)


def write(
    arguments: argparse.Namespace, found: dict[str, list[dict[str, Any]]], load: list[float], pythons: dict[str, str]
) -> None:
    """The table, and the figure beside it."""
    rows, failed = [], []
    circles: dict[str, list[Circle]] = {}
    for backend, measured in found.items():
        for row in measured:
            if "error" in row:
                failed.append(f"* {row['model']} in {row['mode']} on {backend} was not measured: {row['error']}")
                continue
            published = row["published"]
            memory = "-" if row["memory"] is None else f"{row['memory'] / _MIB:.0f}"
            accuracy = f"{published['value']:g}" if published else "-"
            rows.append(
                (
                    row["model"],
                    f"{backend} {row['mode']}",
                    f"{row['samples_per_second']:.1f}",
                    f"{row['slowest']:.1f} to {row['fastest']:.1f}",
                    memory,
                    f"{row['parameters'] / 1e6:.2f}",
                    accuracy,
                )
            )
            if published and row["memory"] and row["mode"] == arguments.modes[0]:
                circles.setdefault(backend, []).append(
                    Circle(
                        panel=f"{backend}: published {published['metric']} of {published['weights']}, %",
                        label=row["model"],
                        family=bench.family(catalog.current().find("model", row["model"])),
                        x=row["samples_per_second"],
                        y=published["value"],
                        memory=row["memory"] / _MIB,
                    )
                )
    header = ("model", "backend and mode", "samples/s", "slowest to fastest", "memory, MiB", "parameters, M", "top1, %")
    threads = f"{arguments.threads} computing thread(s)" if arguments.threads else "threads as the libraries choose"
    versions: dict[str, str] = {}
    for python in filter(None, pythons.values()):
        program = "import report, json; print(json.dumps(report.versions(['glueball-core', 'mxnet', 'torch'])))"
        told = subprocess.run(
            [python, "-c", program], stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parent
        )
        versions.update(json.loads(told.stdout))
    report.finish(
        arguments.output,
        title="Speed, accuracy and memory of models",
        script="benchmarks/figure.py",
        where={**report.machine(), "versions": versions},
        document={"rows": found, "load": load, "threads": arguments.threads},
        lines=[
            *report.table(header, rows),
            *failed,
            "",
            f"Batches of {arguments.batch_size} on the device, {arguments.precision}, {threads}, cpu. Memory is what "
            "the process grew by at most while the model was built and run. The accuracy is that of the official "
            f"weights, as published. Load of the system: {min(load):.1f} to {max(load):.1f}, {os.cpu_count()} cores.",
        ],
    )
    if arguments.output is not None and circles:
        every = [circle for found_circles in circles.values() for circle in found_circles]
        label = (
            f"samples a second ({arguments.modes[0]}, cpu, {arguments.precision}, batches of {arguments.batch_size})"
        )
        draw(every, arguments.output.with_suffix(".png"), x_label=label)
        print(f"\nThe figure is {arguments.output.with_suffix('.png')}.", file=sys.stderr)


if __name__ == "__main__":
    main()

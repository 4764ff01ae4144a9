"""What a second process gains: the engine with one process and with two, on the same global batch.

    python benchmarks/scaling.py [--processes 1 2] [--rounds N] [--steps N] [--output FILE]

ResNet-18 (pictures of 112 x 112, batch 32, with statistics of batch normalisation over all processes and without) and
TextCNN (batch 50), float32, one thread for each process, data in memory. A turn is a run of the engine, of which the
first part is not measured; contestants take turns, and the median counts. Efficiency is the speed of n processes over n
times that of one.

A process that waits for a core has more seconds of the clock than of its CPU. So CPU seconds of all processes are told,
too: what n processes take for one sample, less what one takes, is the cost of exchanging and of smaller batches, and
stays what it is on a machine that does other work meanwhile. GLUEBALL_BACKEND chooses the backend.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import attrs
import report
import synthetic

from glueball.engine import Component, DataSpec, Recipe

HERE = Path(__file__).parent
WORKLOADS = ("pictures", "pictures, own statistics", "texts")


def recipe_of(workload: str, steps: int, texts: Path) -> Recipe:
    """Three epochs of ``steps`` batches, or of all texts."""
    if workload == "texts":
        recipe = synthetic.text_recipe(texts, "float32")
        return attrs.evolve(recipe, epochs=3, data=DataSpec(train=recipe.data.train))
    recipe = synthetic.picture_recipe("float32")
    options = {"count": steps * recipe.batch_size, "size": 112}
    return attrs.evolve(
        recipe,
        epochs=3,
        data=DataSpec(train=Component(name="bench_pictures", options=options)),
        sync_batch_norm=workload == "pictures",
    )


def run(workload: str, steps: int, texts: Path, folder: Path) -> None:
    """One of the processes of a turn: trains, and writes samples, seconds and CPU seconds of the last two epochs."""
    from glueball.engine import Trainer
    from glueball.testing import isolated_catalog

    marks: list[tuple[float, float, int]] = []
    close_epoch = Trainer._close_epoch

    def noted(self: Any, row: Any) -> None:
        marks.append((time.perf_counter(), time.process_time(), self._progress.samples))
        close_epoch(self, row)
        # What saving took is no part of a step.
        marks.append((time.perf_counter(), time.process_time(), self._progress.samples))

    Trainer._close_epoch = noted  # type: ignore[method-assign]
    Trainer._draw_curves = lambda self: None  # type: ignore[method-assign]
    with isolated_catalog({"bench": synthetic.Plugin()}, installed=True):
        trainer = Trainer(recipe_of(workload, steps, texts), folder / "run", device="cpu", quiet=True)
        trainer.fit()
    # marks: end of epoch 1, saved, end of 2, saved, end of 3, saved.
    parts = [(marks[1], marks[2]), (marks[3], marks[4])]
    numbers = {
        "seconds": sum(end[0] - begin[0] for begin, end in parts),
        "cpu": sum(end[1] - begin[1] for begin, end in parts),
        "samples": sum(end[2] - begin[2] for begin, end in parts),
    }
    (folder / f"rank-{trainer.rank}.json").write_text(json.dumps(numbers))


def turn(workload: str, count: int, steps: int, texts: Path) -> dict[str, float]:
    """One run by ``count`` processes."""
    from glueball import backend

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environments = backend.current().local_processes(count) if count > 1 else [{}]
        words = [sys.executable, __file__, "--run", workload, "--steps", str(steps)]
        processes = [
            subprocess.Popen(
                [*words, "--texts", str(texts), "--folder", str(folder)],
                env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
                cwd=HERE,
            )
            for environment in environments
        ]
        try:
            statuses = [process.wait() for process in processes[:count]]
        finally:
            for process in processes:
                process.kill()
                process.wait()
        if any(statuses):
            raise SystemExit(f"{workload} with {count} processes: exit statuses {statuses}")
        ranks = [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(count)]
    samples = ranks[0]["samples"]
    return {
        "samples_per_second": samples / max(rank["seconds"] for rank in ranks),
        "cpu_ms_per_sample": 1000 * sum(rank["cpu"] for rank in ranks) / samples,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=10, help="steps of pictures in an epoch, of which three are run")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--run", choices=WORKLOADS, help=argparse.SUPPRESS)
    parser.add_argument("--texts", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run(arguments.run, arguments.steps, arguments.texts, arguments.folder)
        return
    from glueball import backend

    name = backend.current().name
    turns: dict[str, dict[int, list[dict[str, float]]]] = {}
    loads = []
    with tempfile.TemporaryDirectory() as folder:
        texts = Path(folder) / "texts.tsv"
        synthetic.write_texts(texts, 5000)
        for _ in range(arguments.rounds):
            for workload in WORKLOADS:
                for count in arguments.processes:
                    loads.append(os.getloadavg()[0])
                    found = turn(workload, count, arguments.steps, texts)
                    turns.setdefault(workload, {}).setdefault(count, []).append(found)
                    print(f"{workload}, {count}: {found}", file=sys.stderr, flush=True)
    rows, medians = [], {}
    for workload, by_count in turns.items():
        middle = {
            count: {key: statistics.median(item[key] for item in items) for key in items[0]}
            for count, items in by_count.items()
        }
        medians[workload] = middle
        one = middle.get(1)
        for count, values in middle.items():
            efficiency = more = "-"
            if one is not None:
                efficiency = f"{100 * values['samples_per_second'] / (count * one['samples_per_second']):.0f} %"
                more = f"{100 * (values['cpu_ms_per_sample'] / one['cpu_ms_per_sample'] - 1):+.0f} %"
            speed, cpu = values["samples_per_second"], values["cpu_ms_per_sample"]
            rows.append((workload, str(count), f"{speed:.1f}", efficiency, f"{cpu:.2f}", more))
    lines = report.table(
        ("workload", "processes", "samples/s", "efficiency", "CPU ms/sample", "beside one process"), rows
    )
    cores = os.cpu_count() or 1
    lines += [
        "",
        f"One thread for each process. This machine has {cores} cores, and other work took part of them: the load was "
        f"{min(loads):.1f} to {max(loads):.1f} before the turns. Two processes then wait for cores, and get a larger "
        "share of them than one does, so that the efficiency says little here. The CPU time says more: what it grows "
        "by goes into exchanging gradients and into smaller parts of a batch.",
        "",
        f"Beyond {cores} processes nothing was measured: more of them than cores only take turns. Over more machines "
        "the time of a step is the computing of its part of the batch, plus what exchanging takes longer than the "
        "backward pass beside it. A ring sends each gradient about twice whatever the number of processes (90 MB a "
        "step for ResNet-18), so that a slow network is felt from the second machine on and hardly more with each "
        "further one; two small messages for each layer of batch normalisation come on top, which "
        "sync_batch_norm=false spares.",
    ]
    report.finish(
        arguments.output,
        title=f"Scaling over processes on {name}",
        script="benchmarks/scaling.py",
        where=report.machine(("torch", "mxnet", "numpy")),
        document={"backend": name, "turns": turns, "medians": medians, "loads": loads},
        lines=lines,
    )


if __name__ == "__main__":
    main()

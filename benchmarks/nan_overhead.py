"""What it costs to look for NaN and infinity: the same run with the check and without it, in turns. Both backends.

    python benchmarks/nan_overhead.py --mxnet-python PYTHON --torch-python PYTHON [--rounds N] [--output FILE]

The engine looks at every loss when it is read anyway (at log points), and at every weight before a checkpoint is
written. Two runs are measured, both on scikit-learn's digits, from the first step of an epoch to the end of its
checkpoint, one epoch each time: the recipe ``digits`` (a small ResNet, so that steps are short and the check weighs
most), and the same with ResNet-18 (11 million weights) on batches of 32.

Two figures are given. The share of the run's CPU seconds that is spent in the check itself is timed within a run of its
own: it is exact. The difference between runs with and without the check is what a user would see; their order changes
within a round (with, without, without, with), CPU seconds of neighbours are compared, and the interval is that of 2,000
bootstrap samples of these pairs (95 %). On a machine that does other work it is many times wider than the share.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import report

CASES: dict[str, dict[str, str]] = {
    "digits": {},
    "digits, ResNet-18": {"model.name": "resnet18_v1b", "batch_size": "32", "learning_rate": "0.01"},
}
EPOCHS = 1
GOAL = 0.5
ORDER = (True, False, False, True)
BOOTSTRAP = 2000


class Clock:
    """Adds up CPU seconds, of the calling thread and of all."""

    def __init__(self) -> None:
        self.thread = self.cpu = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        thread, cpu = time.thread_time(), time.process_time()
        try:
            yield
        finally:
            self.thread += time.thread_time() - thread
            self.cpu += time.process_time() - cpu


class Checks:
    """The two functions that the engine checks numbers with, which can be left out or timed."""

    def __init__(self) -> None:
        from glueball.engine import measures, trainer

        self._measures, self._trainer = measures, trainer
        self._are_finite = trainer.are_finite
        self.clock = Clock()
        self.calls = 0

    @contextmanager
    def replaced(self, is_finite: Callable[[float], bool], are_finite: Callable[[Any], bool]) -> Iterator[None]:
        # Instead of the module math, of which measures uses two names.
        self._measures.math = type("Math", (), {"isfinite": staticmethod(is_finite), "nan": math.nan})  # type: ignore[assignment]
        self._trainer.are_finite = are_finite  # type: ignore[assignment]
        try:
            yield
        finally:
            self._measures.math = math
            self._trainer.are_finite = self._are_finite

    def left_out(self) -> Any:
        return self.replaced(lambda loss: True, lambda arrays: True)

    def kept(self) -> Any:
        """As it is, through the same indirection as ``left_out``."""
        return self.replaced(math.isfinite, self._are_finite)

    def timed(self) -> Any:
        return self.replaced(self._timed(math.isfinite), self._timed(self._are_finite))

    def _timed(self, function: Callable[..., bool]) -> Callable[..., bool]:
        def timed(value: Any) -> bool:
            self.calls += 1
            with self.clock.running():
                return function(value)

        return timed


def train(changes: dict[str, str]) -> Clock:
    """Trains once; the time of the epochs, with their checkpoints and without what comes before and after."""
    import glueball
    from glueball.engine import Trainer

    clock = Clock()

    class Timed(Trainer):
        def _run(self) -> None:
            with clock.running():
                super()._run()

        def _finish(self) -> None:
            self._load_best_weights()

    recipe = glueball.get_recipe("digits").override({"epochs": str(EPOCHS), **changes})
    with tempfile.TemporaryDirectory() as folder:
        trainer = Timed(recipe, folder, device="cpu", overwrite=True, quiet=True)
        trainer._draw_curves = lambda: None  # type: ignore[method-assign]
        trainer.fit()
    return clock


def measure(rounds: int) -> dict[str, Any]:
    """The figures of the backend at hand."""
    result = {}
    for name, changes in CASES.items():
        checks = Checks()
        train(changes)  # libraries choose algorithms and allocate
        pairs = []
        for _ in range(rounds):
            seconds = []
            for with_check in ORDER:
                with checks.kept() if with_check else checks.left_out():
                    seconds.append(train(changes).cpu)
            pairs += [[seconds[0], seconds[1]], [seconds[3], seconds[2]]]
        with checks.timed():
            whole = train(changes)
        result[name] = {
            "pairs": pairs,
            "check_seconds": checks.clock.thread,
            "run_seconds": whole.cpu,
            "calls": checks.calls,
        }
    return result


def interval(pairs: list[list[float]]) -> tuple[float, float, float]:
    """The median over the pairs of what the check adds, in percent, and the ends of its interval."""
    added = np.array([100 * (one / other - 1) for one, other in pairs])
    generator = np.random.default_rng(0)
    samples = np.median(generator.choice(added, (BOOTSTRAP, len(added))), axis=1)
    low, high = np.percentile(samples, [2.5, 97.5])
    return statistics.median(added.tolist()), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mxnet-python", metavar="PYTHON")
    parser.add_argument("--torch-python", metavar="PYTHON")
    parser.add_argument(
        "--rounds", type=int, default=5, help="0: the share alone; differences stay as they are in FILE"
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.rounds)))
        return
    figures: dict[str, Any] = {}
    rows, goals = [], []
    before = {}
    if arguments.rounds == 0 and arguments.output is not None and arguments.output.exists():
        before = json.loads(arguments.output.read_text())
    for backend in ("mxnet", "torch"):
        python = getattr(arguments, f"{backend}_python")
        if python is None:
            continue
        done = subprocess.run(
            [python, __file__, "--measure", "--rounds", str(arguments.rounds)],
            env={**os.environ, "GLUEBALL_BACKEND": backend},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        figures[backend] = json.loads(done.stdout.strip().splitlines()[-1])
        for case, measured in figures[backend].items():
            share = 100 * measured["check_seconds"] / measured["run_seconds"]
            measured["pairs"] = measured["pairs"] or before.get("figures", {}).get(backend, {})[case]["pairs"]
            middle, low, high = interval(measured["pairs"])
            measured["share_percent"], measured["added_percent"] = share, [middle, low, high]
            rows.append((f"{case}, {backend}", f"{share:.3f} %", f"{middle:+.2f} % ({low:+.2f} to {high:+.2f})"))
            goals.append(report.Goal(f"percent of the run spent in the check, {case}, {backend}", share, GOAL, False))
    if not figures:
        sys.exit("Name at least one of --mxnet-python and --torch-python.")
    rounds = arguments.rounds or before.get("rounds", 0)
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    report.finish(
        arguments.output,
        title="What the check for NaN and infinity costs",
        script="benchmarks/nan_overhead.py",
        where=report.machine(("glueball-core", "numpy", "torch", "mxnet")),
        document={"rounds": rounds, "load_average": load, "figures": figures},
        lines=[
            *report.table(("run", "spent in the check", "run with the check against without (95 %)"), rows),
            "",
            f"One thread, {2 * rounds} pairs of runs. The system's load was {load} at the end; above 1, "
            "other work shared the cores, and the differences are noise.",
        ],
        goals=goals,
    )


if __name__ == "__main__":
    main()

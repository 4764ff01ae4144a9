"""A residual network on real pictures, mixed and flipped, by one process and by two from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from glueball import backend

# So small that the network hardly moves: at a usual rate this one makes 2 % of a rounding error within four steps, by
# one process with two threads as well as by two processes (docs/processes.md).
WORDS = [
    "train",
    "digits",
    *("--epochs", "1", "--batch-size", "57", "--precision", "float32", "--no-compile", "--quiet", "--json"),
    *("--set", "learning_rate=1e-5", "--set", "mixup=0.4", "--set", "label_smoothing=0.1"),
    # 1438 = 25 · 57 + 13: the last batch is small, and of odd size.
    *("--set", "last_batch=keep", "--set", "log_every=1"),
]


def train(out: Path, *options: str) -> dict[str, float]:
    if not hasattr(backend.current(), "local_processes"):
        pytest.skip("this backend starts no processes yet")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLUEBALL_BACKEND": backend.current().name}
    words = [sys.executable, "-m", "glueball", *WORDS, "--out", str(out), *options]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    # One answer, from one process.
    metrics: dict[str, float] = json.loads(done.stdout)["metrics"]
    return metrics


def test_two_processes_train_a_residual_network_as_one(tmp_path: Path) -> None:
    metrics = [train(tmp_path / "one"), train(tmp_path / "two", "--processes", "2")]
    losses = []
    for name in ("one", "two"):
        lines = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        losses.append([line["step_loss"] for line in lines if line["event"] == "step"])
        assert [line.get("processes") for line in lines if line["event"] == "start"] == [2 if name == "two" else None]
    assert len(losses[0]) == len(losses[1]) == 26
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-5)
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-3)

"""A text classifier on a file of texts, by one process and by two from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import own_texts
import pytest

from glueball import backend


def train(out: Path, files: list[Path], *options: str) -> dict[str, float]:
    if not hasattr(backend.current(), "local_processes"):
        pytest.skip("this backend starts no processes yet")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLUEBALL_BACKEND": backend.current().name}
    words = [
        *(sys.executable, "-m", "glueball", "train", "text-classification", "--data", str(files[0])),
        *("--val", str(files[1]), "--epochs", "3", "--batch-size", "16", "--precision", "float32"),
        # Dropout draws other numbers in another process.
        *("--set", "log_every=1", "--set", "model.options.dropout=0"),
        *("--no-compile", "--quiet", "--json", "--out", str(out), *options),
    ]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    metrics: dict[str, float] = json.loads(done.stdout)["metrics"]
    return metrics


def test_two_processes_train_a_text_classifier_as_one(tmp_path: Path) -> None:
    files = [own_texts.write(tmp_path / "train.tsv", 300, 0), own_texts.write(tmp_path / "val.tsv", 41, 1)]
    metrics = [train(tmp_path / "one", files), train(tmp_path / "two", files, "--processes", "2")]
    losses = []
    for name in ("one", "two"):
        lines = [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        losses.append([line["step_loss"] for line in lines if line["event"] == "step"])
    assert len(losses[0]) == len(losses[1]) >= 50
    np.testing.assert_allclose(losses[1][:50], losses[0][:50], rtol=1e-5)
    # Accuracy and macro-F1, over parts of a set of odd size.
    assert metrics[1] == pytest.approx(metrics[0], rel=1e-4)

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glueball.engine import checkpoint as module
from glueball.engine.checkpoint import Checkpoint, CheckpointFolder, load_checkpoint
from glueball.errors import CheckpointError


def make(value: float, size: int = 1000) -> Checkpoint:
    return Checkpoint(
        state={"value": value, "history": [{"epoch": 1, "loss": 0.1 + 0.2}]},
        weights={"0.weight": np.full(size, value, np.float32)},
        optimizer={"momentum/0.weight": np.full(size, -value, np.float32), "updates": np.array(7, np.int64)},
        random={"backend.state": np.arange(5, dtype=np.int64)},
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    path = folder.save(make(2.0), epoch=1, step=20)
    loaded = folder.load_last()
    assert loaded is not None
    assert loaded.path == path
    assert loaded.state == make(2.0).state
    np.testing.assert_array_equal(loaded.weights["0.weight"], np.full(1000, 2.0, np.float32))
    assert loaded.optimizer["updates"].dtype == np.int64
    assert loaded.optimizer["updates"].shape == ()


def test_an_empty_folder_has_no_checkpoint(tmp_path: Path) -> None:
    assert CheckpointFolder(tmp_path / "none").load_last() is None


def test_the_newest_and_the_best_are_kept(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path, keep=2)
    for step in range(6):
        folder.save(make(step), epoch=step, step=step, is_best=step == 1)
    assert [load_checkpoint(path).state["value"] for path in folder.paths()] == [1, 4, 5]
    best = folder.best()
    assert best is not None
    assert load_checkpoint(best).state["value"] == 1


@pytest.mark.parametrize("file", ["weights.safetensors", "optimizer.safetensors", "random.safetensors", "state.json"])
@pytest.mark.parametrize("damage", ["cut", "flip", "remove"])
def test_a_damaged_checkpoint_is_refused_and_the_one_before_is_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, file: str, damage: str
) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(make(1.0), epoch=1, step=1)
    path = folder.save(make(2.0), epoch=2, step=2)
    content = bytearray((path / file).read_bytes())
    if damage == "remove":
        (path / file).unlink()
    else:
        content[len(content) // 2] ^= 0x01
        (path / file).write_bytes(content if damage == "flip" else content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=file):
        load_checkpoint(path)
    with caplog.at_level(logging.WARNING, "glueball.engine"):
        loaded = folder.load_last()
    assert loaded is not None
    assert loaded.state["value"] == 1.0
    assert "Using the one before" in caplog.text


def test_if_all_are_damaged_each_is_named(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    paths = [folder.save(make(step), epoch=step, step=step) for step in range(2)]
    for path in paths:
        (path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError) as error:
        folder.load_last()
    assert all(path.name in str(error.value) for path in paths)


def test_a_format_of_the_future_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FORMAT", 99)
    path = CheckpointFolder(tmp_path).save(make(1.0), epoch=1, step=1)
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format 99"):
        load_checkpoint(path)


@pytest.mark.parametrize("failing_call", range(1, 6))
def test_a_full_disk_leaves_the_last_good_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing_call: int
) -> None:
    folder = CheckpointFolder(tmp_path)
    good = folder.save(make(1.0), epoch=1, step=1)
    calls = 0
    real = os.fsync

    def full(descriptor: int) -> None:
        nonlocal calls
        calls += 1
        if calls == failing_call:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(module.os, "fsync", full)
    # The fifth sync is that of the folder after all is written; systems may refuse it, and nothing is lost then.
    if failing_call < 5:
        with pytest.raises(CheckpointError, match="No space left on device") as error:
            folder.save(make(2.0), epoch=2, step=2)
        assert str(good) in str(error.value)
        assert "--resume" in str(error.value)
        assert folder.paths() == [good]
        assert [path.name for path in tmp_path.iterdir()] == [good.name]
    else:
        folder.save(make(2.0), epoch=2, step=2)
    monkeypatch.undo()
    loaded = folder.load_last()
    assert loaded is not None


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_the_array_writer_reports_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def to_full_device(arrays: Any, path: Path) -> None:
        with open("/dev/full", "wb", buffering=0) as file:
            file.write(b"x")

    monkeypatch.setattr(module, "save_file", to_full_device)
    with pytest.raises(CheckpointError, match="Free some space"):
        CheckpointFolder(tmp_path).save(make(1.0), epoch=1, step=1)


_WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_engine_checkpoint import CheckpointFolder, make
folder = CheckpointFolder(Path(sys.argv[1]))
folder.clean()
start = len(folder.paths()) and int(folder.paths()[-1].name.split("-")[-1])
for step in range(start + 1, start + 10_000):
    folder.save(make(step, size=100_000), epoch=0, step=step)
    print(step, flush=True)
"""


def test_a_kill_at_any_moment_of_saving_leaves_a_loadable_checkpoint(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    command = [sys.executable, "-c", _WRITER, str(tmp_path), str(Path(__file__).parent)]
    for _ in range(6):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        reported = int(process.stdout.readline())
        time.sleep(generator.uniform(0, 0.08))
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        reported = max([reported, *map(int, rest.split())])
        folder = CheckpointFolder(tmp_path)
        for path in folder.paths():
            load_checkpoint(path)  # what is visible is whole
        loaded = folder.load_last()
        assert loaded is not None
        # Everything that was reported as saved is there; at most one more may have been completed.
        assert loaded.state["value"] in (reported, reported + 1)


def test_leftovers_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    folder = CheckpointFolder(tmp_path)
    folder.save(make(1.0), epoch=1, step=1)
    (tmp_path / ".writing-abc").mkdir()
    (tmp_path / ".writing-abc" / "weights.safetensors").write_bytes(b"half")
    folder.clean()
    assert len(list(tmp_path.iterdir())) == 1


def test_state_is_readable_by_people(tmp_path: Path) -> None:
    path = CheckpointFolder(tmp_path).save(make(1.0), epoch=1, step=1)
    content = json.loads((path / "state.json").read_text())
    assert content["files"]["weights.safetensors"]["bytes"] == (path / "weights.safetensors").stat().st_size

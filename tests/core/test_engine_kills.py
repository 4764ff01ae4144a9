"""Kill -9 at named moments, then resumed: a small share of ``tests/resume``, which draws a thousand more at random."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "resume"))

import resume_traces
from resume_server import Server

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="worker processes of a killed run are followed by prctl"
)

# Two checkpoints an epoch besides the last, in the middle of an accumulation; eight batches, of which one is half full.
CHANGES: dict[str, Any] = {"batch_size": 6, "checkpoint_every": 3, "last_batch": "keep", "log_every": 2}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(["points"]) as started:
        yield started


@pytest.fixture(scope="module")
def straight(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that was never stopped."""
    folder = tmp_path_factory.mktemp("runs")
    run(server, folder / "straight")
    return folder / "straight"


def run(
    server: Server,
    out: Path,
    changes: dict[str, Any] | None = None,
    *,
    overwrite: bool = False,
    compile: bool = False,
    **job: Any,
) -> dict[str, Any]:
    """Trains, or goes on; returns what the server says of it."""
    options = {"compile": compile, "resume": out.exists() and not overwrite, "overwrite": overwrite}
    made = {**CHANGES, **(changes or {})}
    reply = server.run(family="points", folder=str(out.parent), out=str(out), changes=made, options=options, **job)
    assert "error" not in reply, reply["traceback"]
    assert reply["orphans"] is not None, "a worker process outlived the run"
    return reply


@pytest.mark.parametrize(
    "moments",
    [
        [("start-up", "after the first line", 1), ("first step", "after the results are noted", 1)],
        [("step", "after the batch is complete", 6), ("waiting for data", "after a batch comes", 2)],
        [("step", "half of a line", 5), ("validation", "a batch is measured", 2), ("logging", "half of an event", 3)],
        [("saving weights", "before replace", 1), ("logging", "after an event", 4)],
        [("saving a checkpoint", "half of a file of arrays", 2), ("saving a checkpoint", "before rename", 1)],
        [("saving a checkpoint", "after rename", 2), ("last step", "after the step", 1)],
        [("saving a checkpoint", "before unlink", 2), ("finishing", "after replace", 1)],
    ],
    ids=lambda moments: ", ".join(phase for phase, _, _ in moments),
)
def test_killed_and_resumed_is_as_never_stopped(
    server: Server, straight: Path, tmp_path: Path, moments: list[tuple[str, str, int]]
) -> None:
    out = tmp_path / "run"
    for moment in moments:
        reply = run(server, out, plan=moment)
        assert reply["killed"], f"{moment} did not come: {reply['counts']}"
        assert reply["phase"] == moment[0]
    assert run(server, out)["result"]["ended"] == "done"
    assert resume_traces.differences(straight, out) == []
    assert resume_traces.not_once(out) == []


def test_workers_may_change_at_each_kill(server: Server, straight: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for loading, moment in (
        ({"workers": 2, "worker_type": "process"}, ("step", "after the step", 5)),
        ({"workers": 4, "worker_type": "thread"}, ("waiting for data", "before a batch comes", 6)),
        ({"workers": 0}, ("step", "before the step", 4)),
    ):
        assert run(server, out, loading, plan=moment)["killed"]
    run(server, out, {"workers": 2})
    assert resume_traces.differences(straight, out) == []
    assert resume_traces.not_once(out) == []


def test_cross_validation_goes_on_from_a_kill(server: Server, tmp_path: Path) -> None:
    run(server, tmp_path / "straight", folds=2)
    for moment in (("around folds", "before the results", 2), ("step", "after the step", 3)):
        assert run(server, tmp_path / "run", folds=2, plan=moment)["killed"]
    run(server, tmp_path / "run", folds=2)
    assert resume_traces.differences(tmp_path / "straight", tmp_path / "run", folds=2) == []


def test_a_compiled_network_without_dropout_counts_no_random_numbers(server: Server, tmp_path: Path) -> None:
    # MXNet finds out at the first step of a process whether a graph draws any.
    changes = {"model": {"options": {"dropout": 0.0}}}
    run(server, tmp_path / "straight", changes, compile=True)
    assert run(server, tmp_path / "run", changes, compile=True, plan=("step", "after the step", 6))["killed"]
    run(server, tmp_path / "run", changes, compile=True)
    assert resume_traces.differences(tmp_path / "straight", tmp_path / "run") == []


@pytest.mark.parametrize(
    "moment",
    [
        ("start-up", "after rename", 1),  # the checkpoints are on their way out
        ("start-up", "after rmdir", 1),
        ("start-up", "after rename", 2),
        ("start-up", "after unlink", 12),
        ("start-up", "before the first line", 1),
    ],
)
def test_killed_while_it_overwrites_no_old_run_goes_on(
    server: Server, straight: Path, tmp_path: Path, moment: tuple[str, str, int]
) -> None:
    out = tmp_path / "run"
    run(server, out, {"seed": 1})
    reply = run(server, out, overwrite=True, plan=moment)
    assert reply["killed"], reply["counts"]
    # The recipe of the old run may still be there; then another one cannot be resumed by mistake.
    old = json.loads((out / "recipe.json").read_text())["seed"] == 1 if (out / "recipe.json").exists() else False
    run(server, out, overwrite=old)
    assert resume_traces.differences(straight, out) == []


def test_the_comparison_sees_a_difference(server: Server, straight: Path, tmp_path: Path) -> None:
    run(server, tmp_path / "run", {"seed": 1})
    found = {line.split(":")[0] for line in resume_traces.differences(straight, tmp_path / "run")}
    assert {"log", "events", "state", "recipe", "weights/last.safetensors", "checkpoint/optimizer.safetensors"} <= found
    log = tmp_path / "run" / "log.jsonl"
    lines = log.read_text().splitlines()
    log.write_text("\n".join([*lines, next(line for line in lines if '"seen"' in line)]) + "\n")
    assert any("twice" in problem for problem in resume_traces.not_once(tmp_path / "run"))
    (tmp_path / "run" / "weights" / ".best.safetensors.abc.tmp").touch()
    assert any(line.startswith("left behind") for line in resume_traces.differences(straight, tmp_path / "run"))


def test_kills_during_saving_leave_a_whole_checkpoint(tmp_path: Path) -> None:
    # In a process of its own: what forks must have no threads.
    code = (
        "import json, sys; sys.path[:0] = json.loads(sys.argv[1]); import attrs, pathlib, resume_saving; "
        "print(json.dumps(attrs.asdict(resume_saving.kill_while_saving(pathlib.Path(sys.argv[2]), 12, 0))))"
    )
    command = [sys.executable, "-c", code, json.dumps(sys.path), str(tmp_path)]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}  # NumPy's would start threads when it is imported
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert finished.returncode == 0, finished.stderr
    totals = json.loads(finished.stdout)
    assert totals["kills"] == 12
    assert totals["unloadable"] == totals["wrong"] == 0, totals["problems"]

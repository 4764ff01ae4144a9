"""A run that is stopped and resumed ends exactly as one that was never stopped: weights, metrics and log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import engine_toy
import numpy as np
import pytest

from glueball import weights
from glueball.engine import Trainer
from glueball.engine.checkpoint import CheckpointFolder
from glueball.engine.signals import SignalGuard, StopRequest
from glueball.errors import CheckpointError, OptionError, TrainingError
from glueball.testing import isolated_catalog


def log_of(out: Path) -> list[dict[str, Any]]:
    """The log without what the clock decides."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key not in ("time", "seconds")} for line in lines]


def assert_same_run(first: Path, second: Path) -> None:
    assert log_of(first) == log_of(second)
    for name in ("best", "last"):
        one, two = (weights.load(out / "weights" / f"{name}.safetensors") for out in (first, second))
        assert one.keys() == two.keys()
        for key in one:
            np.testing.assert_array_equal(one[key], two[key], err_msg=f"{name} {key}")
    states = [CheckpointFolder(out / "checkpoints").load_last() for out in (first, second)]
    assert states[0] is not None
    assert states[1] is not None
    for part in ("weights", "optimizer"):
        for key, value in getattr(states[0], part).items():
            np.testing.assert_array_equal(value, getattr(states[1], part)[key], err_msg=f"{part} {key}")


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that was never stopped."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    engine_toy.run(out, {})
    return out


def stop_after(monkeypatch: pytest.MonkeyPatch, count: int, method: str) -> None:
    """Makes the trainer receive SIGTERM when ``method`` is called for the ``count``-th time."""
    real, calls = getattr(Trainer, method), 0

    def counted(self: Trainer, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            self._signals.received = signal.SIGTERM
        return real(self, *arguments, **options)

    monkeypatch.setattr(Trainer, method, counted)


# Batch 5 is in the middle of an accumulation, 12 the last of an epoch, 13 the first of the next, 36 the last of all.
@pytest.mark.parametrize(
    ("method", "count"),
    [
        *(("_train_batch", count) for count in (1, 5, 12, 13, 36)),
        *(("_evaluate", count) for count in (1, 3)),
        ("_save", 2),
    ],
)
def test_stopped_and_resumed_is_as_never_stopped(
    tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch, method: str, count: int
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, count, method)
        with pytest.raises(SystemExit) as stopped:
            engine_toy.run(tmp_path / "run", {})
    assert stopped.value.code == 143
    _, result = engine_toy.run(tmp_path / "run", {}, resume=True)
    assert result.ended == "done"
    assert_same_run(straight, tmp_path / "run")


def test_stopped_many_times(tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stops = 0
    while True:
        with monkeypatch.context() as patch:
            stop_after(patch, 7, "_train_batch")
            try:
                engine_toy.run(tmp_path / "run", {}, resume=True)
            except SystemExit:
                stops += 1
                continue
        break
    assert stops >= 4
    assert_same_run(straight, tmp_path / "run")


def test_random_validation_data_are_the_same_after_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The toy shakes its points whenever they are fetched. Accuracy alone would hardly show another shake.
    seen: list[np.ndarray] = []
    real = engine_toy.ToyTask.update_metrics

    def spy(self: Any, metrics: Any, batch: Any, outputs: Any) -> None:
        seen.append(np.array(batch[0]))
        real(self, metrics, batch, outputs)

    def validated(out: Path, **options: Any) -> list[np.ndarray]:
        seen.clear()
        with monkeypatch.context() as patch:
            patch.setattr(engine_toy.ToyTask, "update_metrics", spy)
            engine_toy.run(out, {"epochs": 2}, compile=False, **options)
        return list(seen)

    straight = validated(tmp_path / "straight")
    with monkeypatch.context() as patch:
        stop_after(patch, 20, "_train_batch")
        with pytest.raises(SystemExit):
            engine_toy.run(tmp_path / "run", {"epochs": 2}, compile=False)
    resumed = validated(tmp_path / "run", resume=True)
    # Four batches of 30 points are the last validation.
    for one, two in zip(straight[-4:], resumed[-4:], strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("changes", [{"workers": 2}, {"checkpoint_every": 3, "log_every": 5}])
def test_workers_and_checkpoints_change_nothing(tmp_path: Path, straight: Path, changes: dict[str, Any]) -> None:
    engine_toy.run(tmp_path / "run", changes)
    assert_same_run(straight, tmp_path / "run")


def start(out: Path, changes: dict[str, Any], **options: Any) -> subprocess.Popen[str]:
    here = Path(engine_toy.__file__)
    command = [sys.executable, str(here), str(out), json.dumps(changes), json.dumps(options)]
    # The environment is this process's: sums come out the same to the last bit only with the same number of threads.
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=here.parent)


def wait_for_log(out: Path, event: str, process: subprocess.Popen[str], lines: int = 1) -> None:
    # Only a child that hangs takes so long, however busy the machine is.
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        log = out / "log.jsonl"
        if log.exists() and log.read_text().count(f'"event": "{event}"') >= lines:
            return
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"no event {event!r}: {process.communicate()[1]}")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_save_and_end(tmp_path: Path, straight: Path, number: int, status: int) -> None:
    out = tmp_path / "run"
    process = start(out, {"pause": 0.004})
    wait_for_log(out, "step", process, 2)
    process.send_signal(number)
    _, errors = process.communicate(timeout=600)
    # Python itself turns an uncaught KeyboardInterrupt into death by SIGINT, which shells report as 130.
    assert process.returncode in (status, -number if number == signal.SIGINT else status), errors
    saved = CheckpointFolder(out / "checkpoints").load_last()
    assert saved is not None
    assert 0 < saved.state["progress"]["epoch"] * 12 + saved.state["progress"]["batch"] < 36
    engine_toy.run(out, {"pause": 0.0}, resume=True, allow_changes=True)
    assert_same_run(straight, out)


def test_killed_without_warning_it_goes_on_from_the_last_checkpoint(tmp_path: Path, straight: Path) -> None:
    out = tmp_path / "run"
    process = start(out, {"pause": 0.004, "checkpoint_every": 2})
    wait_for_log(out, "epoch", process)
    time.sleep(0.1)
    process.kill()
    process.communicate()
    engine_toy.run(out, {"checkpoint_every": 2}, resume=True, allow_changes=True)
    assert_same_run(straight, out)


def test_a_finished_run_resumes_to_the_same_end(tmp_path: Path, straight: Path) -> None:
    engine_toy.run(tmp_path / "run", {})
    engine_toy.run(tmp_path / "run", {}, resume=True)
    assert_same_run(straight, tmp_path / "run")


def test_resume_without_a_run_begins_one(tmp_path: Path, straight: Path) -> None:
    engine_toy.run(tmp_path / "run", {}, resume=True)
    assert_same_run(straight, tmp_path / "run")


def test_a_damaged_last_checkpoint_falls_back(tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 20, "_train_batch")
        with pytest.raises(SystemExit):
            engine_toy.run(tmp_path / "run", {})
    last = CheckpointFolder(tmp_path / "run" / "checkpoints").paths()[-1]
    (last / "weights.safetensors").write_bytes(b"damaged")
    engine_toy.run(tmp_path / "run", {}, resume=True)
    assert_same_run(straight, tmp_path / "run")


def test_a_used_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("irreplaceable")
    with pytest.raises(OptionError, match="not empty"):
        engine_toy.run(tmp_path, {"epochs": 1})
    engine_toy.run(tmp_path, {"epochs": 1}, overwrite=True)
    assert (tmp_path / "thesis.txt").read_text() == "irreplaceable"
    with pytest.raises(OptionError, match="--resume goes on with it"):
        engine_toy.run(tmp_path, {"epochs": 1})
    engine_toy.run(tmp_path, {"epochs": 1}, overwrite=True)
    assert [line["event"] for line in log_of(tmp_path)].count("start") == 1


def test_a_changed_recipe_is_shown_and_refused(tmp_path: Path) -> None:
    engine_toy.run(tmp_path / "run", {"epochs": 1})
    with pytest.raises(OptionError, match=r"(?s)epochs: 1 -> 2.*--allow-changes"):
        engine_toy.run(tmp_path / "run", {"epochs": 2}, resume=True)
    _, result = engine_toy.run(tmp_path / "run", {"epochs": 2}, resume=True, allow_changes=True)
    assert result.epochs == 2
    engine_toy.run(tmp_path / "run", {"epochs": 2, "workers": 1, "log_every": 7}, resume=True)


def test_a_folder_serves_one_process_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = start(out, {"pause": 0.01})
    try:
        wait_for_log(out, "step", process)
        with pytest.raises(TrainingError, match=rf"process {process.pid}\) trains in"):
            engine_toy.run(out, {}, resume=True)
    finally:
        process.kill()
        process.communicate()


def test_the_other_backends_checkpoint_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine_toy.run(tmp_path / "run", {"epochs": 1})
    with isolated_catalog({"toy": engine_toy.ToyPlugin()}):
        trainer = Trainer(engine_toy.recipe(epochs=1), tmp_path / "run", resume=True, quiet=True)

        class Renamed:
            name = "other"

            def __getattr__(self, name: str) -> Any:
                return getattr(backend, name)

        backend, trainer.backend = trainer.backend, Renamed()  # type: ignore[assignment]
        with pytest.raises(CheckpointError, match="cannot go on on other"):
            trainer.fit()


def test_a_stop_request_is_no_ordinary_exception() -> None:
    # Code that catches Exception around a batch must not swallow it.
    assert not issubclass(StopRequest, Exception)


def test_a_second_ctrl_c_ends_at_once_but_an_echo_of_the_first_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 100.0
    monkeypatch.setattr("glueball.engine.signals.time.monotonic", lambda: clock)
    guard = SignalGuard()
    with guard:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert guard.received == signal.SIGINT
        with pytest.raises(StopRequest):
            guard.check()
        clock += 5
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

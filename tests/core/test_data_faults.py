"""Samples that cannot be made and workers that fail, seen from the run that trains on them: an error, never a hang."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import faulty
import numpy as np
import pytest
from data_samples import Troubled
from test_engine_resume import assert_same_run, log_of

from glueball.cli.train import _print
from glueball.data import DataLoader
from glueball.engine import Trainer
from glueball.engine.checkpoint import CheckpointFolder
from glueball.engine.measures import BadNumbers
from glueball.engine.prefetch import Prefetcher
from glueball.engine.signals import StopRequest
from glueball.errors import CheckpointError, DataError, TrainingError
from glueball.testing import isolated_catalog

TESTS = Path(__file__).parent
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
WORKERS = [
    {"workers": 0},
    {"workers": 2},
    {"workers": 2, "worker_type": "process"},
]


def run(out: Path, changes: dict[str, Any], **options: Any) -> Any:
    """Trains the faulty toy; returns the trainer and its result."""
    with isolated_catalog({"faulty": faulty.FaultyPlugin()}):
        trainer = Trainer(faulty.recipe(**changes), out, quiet=True, **options)
        trainer._draw_curves = lambda: None  # type: ignore[method-assign] # matplotlib takes longer than the training
        return trainer, trainer.fit()


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run without trouble."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    run(out, {"epochs": 2})
    return out


def trouble(tmp_path: Path, kind: str, **changes: Any) -> dict[str, Any]:
    """A recipe whose sample 17 fails once, in this or in another process."""
    return {"epochs": 2, "trouble": kind, "file": str(tmp_path / "happened"), **changes}


def without_trouble(changes: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in changes.items() if name not in ("trouble", "file", "at")}


# ----------------------------------------------------------------------------------------------------------------------
# A run whose data fail
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", WORKERS, ids=str)
@pytest.mark.parametrize(
    ("kind", "error", "message"),
    [
        ("raise", DataError, r"Sample 17 \(pictures/17\.jpg\) could not be made: the picture is cut short\. .*skip"),
        ("mistake", DataError, r"Sample 17 \(pictures/17\.jpg\) could not be made: TypeError: a mistake\."),
        (
            "memory",
            TrainingError,
            r"Memory ran out while data were loaded\. Sample 17 \(pictures/17\.jpg\) could not be made: MemoryError: "
            r"Unable to allocate 3\.00 TiB\. .*--set workers=\d --set batch_size=4 --set accumulate=4",
        ),
        (
            "hang",
            TrainingError,
            r"\d+ seconds; it hangs at sample 17 \(pictures/17\.jpg\)\. .*--set loader_timeout=\d0",
        ),
        ("die", TrainingError, r"ended with exit code 9 while it made sample 17 \(pictures/17\.jpg\)"),
    ],
)
def test_the_sample_is_named_and_the_run_goes_on_from_there(
    tmp_path: Path,
    straight: Path,
    monkeypatch: pytest.MonkeyPatch,
    workers: dict[str, Any],
    kind: str,
    error: type[Exception],
    message: str,
) -> None:
    if kind == "die" and workers.get("worker_type") != "process":
        pytest.skip("whoever ends the trainer's own process ends the trainer")
    release = threading.Event()
    if workers.get("worker_type") != "process":
        # A thread cannot be ended from outside: this one has to go away when the test is over.
        monkeypatch.setattr(faulty.time, "sleep", lambda seconds: release.wait(60))
    # A process must have started within that time, too.
    patience = 60.0 if kind != "hang" else 20.0 if "worker_type" in workers else 2.0
    changes = trouble(tmp_path, kind, loader_timeout=patience, **workers)
    start = time.monotonic()
    with pytest.raises(error, match=message) as caught:
        run(tmp_path / "run", changes)
    release.set()
    assert time.monotonic() - start < 60
    last = CheckpointFolder(tmp_path / "run" / "checkpoints").load_last()
    # Sample 17 is in one of the first batches, or in the very first: then nothing was there to save.
    if last is not None:
        assert f"Everything before is saved in {last.path}; --resume goes on there." in str(caught.value)
    run(tmp_path / "run", without_trouble(changes), resume=True, allow_changes=True)
    assert_same_run(straight, tmp_path / "run")


def test_most_of_an_epoch_is_saved_when_a_sample_fails(tmp_path: Path, straight: Path) -> None:
    order = list(DataLoader(np.arange(96), 8, shuffle=True, seed=0))
    changes = trouble(tmp_path, "raise", at=int(order[9][3]))
    with pytest.raises(DataError, match=r"Everything before is saved in .*000001-epoch-0000-step-00000000[34]; "):
        run(tmp_path / "run", changes)
    last = CheckpointFolder(tmp_path / "run" / "checkpoints").load_last()
    assert last is not None
    assert last.state["progress"]["batch"] == 9
    run(tmp_path / "run", without_trouble(changes), resume=True, allow_changes=True)
    assert_same_run(straight, tmp_path / "run")


def test_a_hanging_sample_of_the_validation_data_is_named(
    tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    real = faulty.FaultyPoints.fetch

    def fetch(self: Any, index: int, random: Any = None) -> Any:
        if self.place == "validation" and index == 12 and not release.is_set():
            release.wait(60)
        return real(self, index, random)

    monkeypatch.setattr(faulty.FaultyPoints, "fetch", fetch)
    message = (
        r"gave no batch for 1 seconds; it hangs at sample 12 \(pictures/12\.jpg\)\. .*"
        r"Everything before is saved in .*epoch-0000-step-000000006; --resume goes on there\."
    )
    with pytest.raises(TrainingError, match=message):
        run(tmp_path / "run", {"epochs": 2, "loader_timeout": 1.0})
    release.set()
    run(tmp_path / "run", {"epochs": 2}, resume=True)
    assert_same_run(straight, tmp_path / "run")


@POSIX
def test_a_worker_that_is_killed_is_an_error_of_the_run(tmp_path: Path, straight: Path) -> None:
    real, calls = Trainer._train_batch, 0

    def killing(self: Trainer, loaded: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            for seat in self._loader._pool.seats:
                if seat.process is not None:
                    os.kill(seat.process._process.pid, signal.SIGKILL)
        real(self, loaded)

    changes = {"epochs": 2, "workers": 2, "worker_type": "process"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_train_batch", killing)
        with pytest.raises(
            TrainingError, match=r"ended by signal SIGKILL .*sample.*memory runs out.*Everything before"
        ):
            run(tmp_path / "run", changes)
    run(tmp_path / "run", changes, resume=True)
    assert_same_run(straight, tmp_path / "run")


# ----------------------------------------------------------------------------------------------------------------------
# Samples that are left out
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", WORKERS, ids=str)
def test_samples_that_are_left_out_are_counted(
    tmp_path: Path, workers: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"epochs": 2, "trouble": "raise", "at": [17, 18, 50], "on_bad_sample": "skip", **workers}
    _, result = run(tmp_path, changes)
    assert result.skipped == 6
    log = log_of(tmp_path)
    counts = [line for line in log if line["event"] == "skipped_samples"]
    assert counts == [
        {"event": "skipped_samples", "epoch": epoch, "data": "training", "samples": 3} for epoch in (1, 2)
    ]
    assert [line["skipped_samples"] for line in log if line["event"] == "end"] == [6]
    with isolated_catalog({"faulty": faulty.FaultyPlugin()}):
        _print(result, "faulty")
    assert "6 damaged samples were left out of the training, each counted in every epoch" in capsys.readouterr().out


def test_without_damage_nothing_is_said_of_it(straight: Path) -> None:
    log = log_of(straight)
    assert not any(line["event"] == "skipped_samples" for line in log)
    assert not any("skipped_samples" in line for line in log)


@pytest.mark.parametrize("stop_at", [4, 12, 13])
def test_the_count_survives_a_resume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int) -> None:
    changes = {"epochs": 2, "trouble": "raise", "at": [17, 18, 50], "on_bad_sample": "skip"}
    run(tmp_path / "straight", changes)
    with monkeypatch.context() as patch:
        real, calls = Trainer._train_batch, 0

        def stopping(self: Trainer, loaded: Any) -> None:
            nonlocal calls
            calls += 1
            real(self, loaded)
            if calls == stop_at:
                self._signals.received = signal.SIGTERM

        patch.setattr(Trainer, "_train_batch", stopping)
        with pytest.raises(SystemExit):
            run(tmp_path / "run", changes)
    _, result = run(tmp_path / "run", changes, resume=True)
    assert result.skipped == 6
    assert_same_run(tmp_path / "straight", tmp_path / "run")


# ----------------------------------------------------------------------------------------------------------------------
# The loader and the prefetcher
# ----------------------------------------------------------------------------------------------------------------------


@POSIX
@pytest.mark.parametrize("busy", [True, False])
def test_a_killed_worker_is_not_blamed_on_the_sample_before(busy: bool) -> None:
    with DataLoader(Troubled(40, "hang" if busy else None), 4, workers=1, worker_type="process", prefetch=1) as loader:
        iterator = iter(loader)
        next(iterator)
        if busy:
            deadline = time.monotonic() + 60
            while not any("sample 5 " in place for place in loader.working_on()):
                assert time.monotonic() < deadline
                time.sleep(0.01)
        else:
            idle = 0
            while idle < 10:  # the batch that is made ahead
                time.sleep(0.02)
                is_idle = loader._pool._jobs.empty() and not loader.working_on()  # type: ignore[union-attr]
                idle = idle + 1 if is_idle else 0
        process = loader._pool.seats[0].process  # type: ignore[union-attr]
        os.kill(process._process.pid, signal.SIGKILL)  # type: ignore[union-attr]
        where = r"sample 5 \(folder/5\.jpg\)" if busy else r"one of samples \[8, 9, 10, 11\]"
        with pytest.raises(TrainingError, match=f"by signal SIGKILL while it made {where}"):
            list(iterator)


def test_another_batch_size_within_an_epoch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loader = DataLoader(np.arange(96), 8, shuffle=True)
    iterator = iter(loader)
    next(iterator)
    state = loader.state_dict()
    with pytest.raises(CheckpointError, match=r"1 batches of 8 samples into an epoch, this loader has batches of 4"):
        DataLoader(np.arange(96), 4, shuffle=True).load_state_dict(state)
    # States of earlier versions do not say.
    DataLoader(np.arange(96), 4, shuffle=True).load_state_dict({**state, "batch_size": 4})
    list(iterator)
    DataLoader(np.arange(96), 4, shuffle=True).load_state_dict(loader.state_dict())

    changes = {"epochs": 2, "batch_size": 4, "accumulate": 4}
    with monkeypatch.context() as patch:
        real = Trainer._train_batch

        def stopping(self: Trainer, loaded: Any) -> None:
            real(self, loaded)
            self._signals.received = signal.SIGTERM

        patch.setattr(Trainer, "_train_batch", stopping)
        with pytest.raises(SystemExit):
            run(tmp_path, {"epochs": 2})
    with pytest.raises(CheckpointError, match=r"Finish the epoch with the batch size that it began with"):
        run(tmp_path, changes, resume=True, allow_changes=True)
    run(tmp_path, {"epochs": 1}, resume=True, allow_changes=True)
    _, result = run(tmp_path, changes, resume=True, allow_changes=True)
    assert result.epochs == 2


@POSIX
def test_workers_leave_it_to_the_run_to_answer_a_signal() -> None:
    with DataLoader(Troubled(40), 4, workers=2, worker_type="process") as loader:
        iterator = iter(loader)
        next(iterator)
        for seat in loader._pool.seats:  # type: ignore[union-attr]
            if seat.process is not None:
                for number in (signal.SIGTERM, signal.SIGINT):
                    os.kill(seat.process._process.pid, number)  # type: ignore[union-attr]
        assert len(list(iterator)) == 9


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ends a process with its parent")
def test_a_hanging_worker_ends_with_a_run_that_is_killed(tmp_path: Path) -> None:
    script = textwrap.dedent("""
        import sys
        sys.path.insert(0, sys.argv[1])
        from data_samples import Troubled
        from glueball.data import DataLoader

        if __name__ == "__main__":
            loader = DataLoader(Troubled(40, "hang"), 4, workers=1, worker_type="process")
            iterator = iter(loader)
            next(iterator)
            while not any("sample 5 " in place for place in loader.working_on()):
                pass
            print(loader._pool.seats[0].process._process.pid, flush=True)
            next(iterator)
    """)
    (tmp_path / "script.py").write_text(script)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "script.py"), str(TESTS)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    worker = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 30
    while _runs(worker):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _runs(process: int) -> bool:
    try:
        # A zombie waits for a parent to take note of its end, and runs no more.
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_what_is_worked_on_is_known_without_workers() -> None:
    seen: list[tuple[str, ...]] = []

    class Watched(Troubled):
        def __getitem__(self, index: int) -> Any:
            if index == 6:
                seen.append(loader.working_on())
            return super().__getitem__(index)

    loader = DataLoader(Watched(8), 4)
    assert loader.working_on() == ()
    list(loader)
    assert seen == [("sample 6 (folder/6.jpg)",)]
    assert loader.working_on() == ()


def test_leaving_does_not_wait_for_a_sample() -> None:
    release = threading.Event()

    def batches() -> Any:
        yield (np.zeros(1),)
        release.wait(60)

    def check() -> None:
        if prefetcher._queue.empty():
            raise StopRequest(signal.SIGTERM)

    prefetcher = Prefetcher(batches(), lambda array: array, check=check)
    start = time.monotonic()
    with pytest.raises(StopRequest), prefetcher:
        list(prefetcher)
    assert 1 < time.monotonic() - start < 20
    release.set()
    prefetcher._thread.join(10)
    assert not prefetcher._thread.is_alive()


@pytest.mark.parametrize(("error", "waits"), [(BadNumbers("the loss is nan", 3), True), (OSError(28, "full"), False)])
def test_only_a_run_that_goes_on_waits_for_its_loader(error: Exception, waits: bool) -> None:
    release = threading.Event()

    def batches() -> Any:
        yield (np.zeros(1),)
        release.wait(60)

    prefetcher = Prefetcher(batches(), lambda array: array)
    threading.Timer(4.0, release.set).start()
    with pytest.raises(type(error)), prefetcher:
        raise error
    assert prefetcher._thread.is_alive() is not waits
    prefetcher._thread.join(20)


def test_a_batch_that_does_not_come_is_an_error() -> None:
    release = threading.Event()

    def batches() -> Any:
        yield (np.zeros(1),)
        release.wait(60)

    prefetcher = Prefetcher(batches(), lambda array: array, timeout=0.5)
    iterator = iter(prefetcher)
    next(iterator)
    with pytest.raises(TrainingError, match=r"no batch for 0\.5 seconds"):
        next(iterator)
    release.set()
    prefetcher.close()


def test_a_signal_comes_before_what_it_broke() -> None:
    def batches() -> Any:
        raise TrainingError("a worker ended by SIGTERM")
        yield

    received: list[int] = []

    def check() -> None:
        if received:
            raise StopRequest(received[0])

    def to_device(array: Any) -> Any:
        return array

    prefetcher = Prefetcher(batches(), to_device, check=check)
    prefetcher._thread.join(10)
    real = prefetcher._next

    def next_item() -> Any:
        item = real()
        received.append(signal.SIGTERM)
        return item

    prefetcher._next = next_item  # type: ignore[method-assign]
    with pytest.raises(StopRequest):
        next(iter(prefetcher))

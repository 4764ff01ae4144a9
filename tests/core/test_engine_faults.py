"""Faults that hit a run from outside: signals at any moment, too little memory, folders that go away, other users."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import engine_toy
import faulty
import numpy as np
import pytest
from synthetic_distributions import install
from test_engine_resume import assert_same_run, log_of

from glueball import backend, seeding, weights
from glueball.backend import out_of_memory
from glueball.engine import ModelSpec, Trainer, cross_validate, memory
from glueball.engine.checkpoint import CheckpointFolder
from glueball.engine.load import evaluate_run
from glueball.engine.run_folder import RunFolder
from glueball.engine.signals import SignalGuard, StopRequest
from glueball.errors import BackendError, GlueballError, OptionError, TrainingError
from glueball.plugin import hookimpl
from glueball.testing import isolated_catalog

TESTS = Path(__file__).parent
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")


def run(out: Path, changes: dict[str, Any] | None = None, **options: Any) -> Any:
    """Trains the faulty toy in this process; returns the trainer and its result."""
    with isolated_catalog({"faulty": faulty.FaultyPlugin()}):
        trainer = Trainer(faulty.recipe(**(changes or {})), out, quiet=True, **options)
        trainer._draw_curves = lambda: None  # type: ignore[method-assign] # matplotlib takes longer than the training
        return trainer, trainer.fit()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the faulty toy is installed as a plugin."""
    folder = tmp_path_factory.mktemp("site")
    install(folder, "glueball-faulty", plugin="faulty", code=faulty.PLUGIN, module="faulty_plugin")
    return folder


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run that nothing happened to."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    run(out)
    return out


def default_signals() -> None:
    # A test may itself run in the background, where shells make processes ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def glueball(installed: Path, *words: str, **environment: str) -> subprocess.Popen[str]:
    """The command, in a session of its own and with the faulty plugin alone."""
    path = os.pathsep.join([str(installed), str(TESTS), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(
        [sys.executable, "-m", "glueball", *words],
        env={
            **os.environ,
            "PYTHONPATH": path.rstrip(os.pathsep),
            "GLUEBALL_PLUGINS": "faulty",
            "GLUEBALL_BACKEND": backend.current().name,
            **environment,
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=default_signals,
    )


def wait_for(file: Path, process: subprocess.Popen[str], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if file.exists():
            return
        if process.poll() is not None:
            break
        time.sleep(0.01)
    process.kill()
    raise AssertionError(f"{file.name} did not appear: {process.communicate()}")


# ----------------------------------------------------------------------------------------------------------------------
# SIGTERM and SIGINT
# ----------------------------------------------------------------------------------------------------------------------

# Where, how long the process would stay there, options, and whether there is anything to save.
PLACES = [
    ("imports", 60, (), False),
    ("data", 60, (), False),
    ("compile", 1, (), True),
    ("waiting", 60, (), True),
    ("waiting", 60, ("--workers", "2"), True),
    ("waiting", 60, ("--workers", "2", "--set", "worker_type=process"), True),
    ("step", 1, (), True),
    ("validation", 60, (), True),
    ("saving", 1, (), True),
    ("finishing", 1, (), True),
]
SIGNALS = [
    *((*place, signal.SIGTERM) for place in PLACES),
    *((*place, signal.SIGINT) for place in PLACES if not place[2] and place[0] != "compile"),
]


@POSIX
@pytest.mark.parametrize(("place", "seconds", "options", "is_saved", "number"), SIGNALS)
def test_a_signal_at_any_moment_saves_what_there_is_and_ends_with_its_status(
    tmp_path: Path,
    installed: Path,
    straight: Path,
    place: str,
    seconds: int,
    options: tuple[str, ...],
    is_saved: bool,
    number: int,
) -> None:
    out, reached = tmp_path / "run", tmp_path / "reached"
    process = glueball(
        installed,
        *("train", "faulty", "--out", str(out), "--set", "epochs=3", *options),
        FAULTY_AT=place,
        FAULTY_FILE=str(reached),
        FAULTY_SECONDS=str(seconds),
    )
    wait_for(reached, process)
    start = time.monotonic()
    process.send_signal(number)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number, errors
    # Whoever sends SIGTERM sends SIGKILL some time later, often after 30 seconds.
    assert time.monotonic() - start < 25
    assert "Traceback" not in errors
    assert output == ""
    last = CheckpointFolder(out / "checkpoints").load_last()
    if not is_saved:
        assert last is None
        assert not out.exists()
        return
    assert last is not None
    assert "--resume goes on" in errors
    _, result = run(out, resume=True)
    assert result.ended == "done"
    assert_same_run(straight, out)


@POSIX
def test_a_signal_while_a_resumed_run_starts_changes_nothing(tmp_path: Path, installed: Path, straight: Path) -> None:
    out, reached = tmp_path / "run", tmp_path / "reached"
    run(out, {"epochs": 1})
    before = contents(out)
    process = glueball(
        installed,
        *("train", "faulty", "--resume", "--allow-changes", "--out", str(out)),
        FAULTY_AT="data",
        FAULTY_FILE=str(reached),
        FAULTY_SECONDS="60",
    )
    wait_for(reached, process)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    assert "before the first step" in errors
    assert contents(out) == before


@POSIX
def test_a_signal_to_all_processes_of_a_run_is_one_request(tmp_path: Path, installed: Path, straight: Path) -> None:
    # Schedulers and Ctrl-C reach the workers, too: they must not fail the run that is about to save.
    out, reached = tmp_path / "run", tmp_path / "reached"
    process = glueball(
        installed,
        *("train", "faulty", "--out", str(out), "--workers", "2", "--set", "worker_type=process"),
        FAULTY_AT="step",
        FAULTY_FILE=str(reached),
    )
    wait_for(reached, process)
    os.killpg(process.pid, signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 143, errors
    run(out, {"workers": 0}, resume=True)
    assert_same_run(straight, out)


@POSIX
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_an_evaluation(tmp_path: Path, installed: Path, straight: Path, number: int) -> None:
    reached = tmp_path / "reached"
    process = glueball(
        installed,
        *("evaluate", str(straight)),
        FAULTY_AT="validation",
        FAULTY_FILE=str(reached),
        FAULTY_SECONDS="60",
    )
    wait_for(reached, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + number, errors
    assert "Traceback" not in errors


@POSIX
@pytest.mark.parametrize("workers", ["0", "2"])
def test_the_command_ends_although_a_sample_hangs(tmp_path: Path, installed: Path, workers: str) -> None:
    trouble = ("data.train.options.trouble=hang", "data.train.options.at=40", "loader_timeout=2")
    words = [word for assignment in trouble for word in ("--set", assignment)]
    out = tmp_path / "run"
    process = glueball(installed, "train", "faulty", "--out", str(out), "--workers", workers, *words)
    _, errors = process.communicate(timeout=240)
    assert process.returncode == 2, errors
    assert "Traceback" not in errors
    assert "it hangs at sample 40 (pictures/40.jpg)" in errors
    assert "--set loader_timeout=20" in errors


def test_within_one_another_guards_hand_on_what_nobody_answered() -> None:
    with SignalGuard() as outer:
        with SignalGuard():
            signal.raise_signal(signal.SIGTERM)
        assert outer.received == signal.SIGTERM
        with pytest.raises(StopRequest):
            outer.check()
    with SignalGuard() as outer:
        with SignalGuard():
            pass
        outer.check()


def test_before_there_is_anything_to_save_a_signal_raises_at_once() -> None:
    guard = SignalGuard()
    with guard:
        with pytest.raises(StopRequest), guard.at_once():
            signal.raise_signal(signal.SIGTERM)
        assert guard.received == signal.SIGTERM
        guard.received = None
        signal.raise_signal(signal.SIGTERM)  # noted again, from here on
        assert guard.received == signal.SIGTERM
        with pytest.raises(StopRequest), guard.at_once():
            raise AssertionError("it had come before")


def test_a_fold_that_ends_as_the_signal_comes_is_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = Trainer._draw_predictions, 0

    def draw(self: Trainer) -> None:
        nonlocal calls
        calls += 1
        real(self)
        if calls == 1:
            signal.raise_signal(signal.SIGTERM)

    straight = engine_toy.run_folds(tmp_path / "straight", {"epochs": 1}, folds=2)
    monkeypatch.setattr(Trainer, "_draw_predictions", draw)
    with pytest.raises(SystemExit) as stopped:
        engine_toy.run_folds(tmp_path / "run", {"epochs": 1}, folds=2)
    assert stopped.value.code == 143
    assert calls == 1
    again = engine_toy.run_folds(tmp_path / "run", {"epochs": 1}, folds=2, resume=True)
    assert again.mean == straight.mean


# ----------------------------------------------------------------------------------------------------------------------
# Memory
# ----------------------------------------------------------------------------------------------------------------------


def out_of_memory_error() -> Exception:
    """As the backend at hand says it."""
    if backend.current().name == "torch":
        import torch

        return torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ...")
    import mxnet

    return mxnet.MXNetError(
        "Traceback (most recent call last):\n  File storage.cc, line 97\ncudaMalloc retry failed: out of memory"
    )


class Limit:
    """How many samples fit at once; counts the attempts that did not."""

    rows = 10**9
    failures = 0
    error: Callable[[], Exception] = staticmethod(out_of_memory_error)


@pytest.fixture
def limit() -> Iterator[type[Limit]]:
    Limit.rows, Limit.failures, Limit.error = 10**9, 0, staticmethod(out_of_memory_error)
    yield Limit
    Limit.rows = 10**9


def narrow(classes: int = 3, dropout: float = 0.0, normalise: bool = False) -> Any:
    """The tiny network on a small device, which fails after statistics and random numbers were used."""
    from glueball import autograd, nn

    class Narrow(nn.HybridBlock):
        def hybrid_forward(self, F: Any, x: Any) -> Any:
            if autograd.is_training() and x.shape[0] > Limit.rows:
                Limit.failures += 1
                raise Limit.error()
            return x

    network = nn.HybridSequential()
    network.add(nn.Dense(16))
    if normalise:
        network.add(nn.BatchNorm())
    network.add(nn.Activation("relu"), nn.Dropout(dropout), Narrow(), nn.Dense(classes))
    return network


class NarrowPlugin(faulty.FaultyPlugin):
    @hookimpl
    def register_models(self, register: Any) -> None:
        register("tiny", "engine_toy:tiny", task="toy", input_shape=(2,), classes=3)
        register("narrow", "test_engine_faults:narrow", task="toy", input_shape=(2,), classes=3)


def train_narrow(out: Path, changes: dict[str, Any], network: dict[str, Any] | None = None, **options: Any) -> Any:
    # Eagerly, so that every step goes through the network's Python.
    settings = {"model": ModelSpec(name="narrow", options=network or {}), "epochs": 2, "on_out_of_memory": "halve"}
    with isolated_catalog({"faulty": NarrowPlugin()}):
        trainer = Trainer(faulty.recipe(**{**settings, **changes}), out, quiet=True, compile=False, **options)
        trainer._draw_curves = lambda: None  # type: ignore[method-assign]
        return trainer, trainer.fit()


def last_weights(out: Path) -> dict[str, np.ndarray]:
    return weights.load(out / "weights" / "last.safetensors")


def assert_close_run(first: Path, second: Path) -> None:
    """The same numbers up to the order in which sums are taken."""
    one, two = last_weights(first), last_weights(second)
    assert one.keys() == two.keys()
    for name in one:
        np.testing.assert_allclose(one[name], two[name], rtol=1e-4, atol=1e-6, err_msg=name)
    rows = [[line for line in log_of(out) if line["event"] in ("step", "epoch")] for out in (first, second)]
    assert len(rows[0]) == len(rows[1])
    for a, b in zip(*rows, strict=True):
        assert a.keys() == b.keys()
        for name in a:
            expected = pytest.approx(b[name], rel=1e-4, abs=1e-6) if isinstance(b[name], float) else b[name]
            assert a[name] == expected, name


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"accumulate": 1, "last_batch": "keep", "batch_size": 10},
        {"optimizer": engine_toy.OptimizerSpec(name="adam"), "learning_rate": 0.01},
    ],
)
def test_halving_keeps_the_numbers_of_the_whole_batch(
    tmp_path: Path, limit: type[Limit], changes: dict[str, Any]
) -> None:
    train_narrow(tmp_path / "straight", changes)
    assert limit.failures == 0
    limit.rows = 2
    _, result = train_narrow(tmp_path / "run", changes)
    assert result.ended == "done"
    assert limit.failures == (3 if changes.get("batch_size") == 10 else 2)
    assert_close_run(tmp_path / "straight", tmp_path / "run")
    events = [line for line in log_of(tmp_path / "run") if line["event"] == "out_of_memory"]
    assert [event["micro_batches"] for event in events] == [2, 4, 8][: limit.failures]
    assert all(event["epoch"] == 1 and event["batch"] == 0 for event in events)
    assert "out of memory" in events[0]["reason"]


def test_a_stand_in_counts_for_nothing(limit: type[Limit]) -> None:
    """Three parts and a stand-in: gradients and running statistics are those of the three."""
    from glueball import loss, nn
    from glueball.backend.base import StepOptions

    library = backend.current()
    points, labels = np.random.default_rng(0).standard_normal((6, 2)).astype(np.float32), np.array([0, 1, 2, 1, 0, 2])

    def train(batches: list[tuple[slice, float]]) -> dict[str, np.ndarray]:
        seeding.seed(3)
        network = narrow(normalise=True)
        network.initialize()
        network(library.array(points, "cpu"))

        class Graph(nn.HybridBlock):
            def __init__(self) -> None:
                super().__init__(prefix="")
                with self.name_scope():
                    self.network, self.criterion = network, loss.SoftmaxCrossEntropyLoss()

            def hybrid_forward(self, F: Any, points: Any, labels: Any) -> Any:
                logits = self.network(points)
                return self.criterion(logits, labels), logits

        options = StepOptions(accumulate=len(batches), compile=False)
        step: Any = library.training_step(network, Graph(), options, "cpu")
        for part, weight in batches:
            output = step((points[part], labels[part]), 0.1, weight=weight)
        assert output.updated
        return library.get_arrays(network)

    pairs = [(slice(start, start + 2), 4 / 3) for start in (0, 2, 4)]
    without = train([(part, 1.0) for part, _ in pairs])
    for name, value in train([*pairs, (slice(0, 2), 0.0)]).items():
        np.testing.assert_allclose(value, without[name], rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("batch", [0, 5, 6, 17])
def test_nothing_of_a_failed_step_remains(tmp_path: Path, limit: type[Limit], batch: int) -> None:
    """With statistics and dropout in the network: a run that fails and is redone is one that was halved at once."""
    network = {"dropout": 0.2, "normalise": True}
    real = Trainer._run_step

    def train(out: Path, fail: bool) -> None:
        calls = 0

        def step(self: Trainer, arrays: Any) -> Any:
            nonlocal calls
            if calls == batch:
                if fail:
                    limit.rows = 4
                else:
                    # Halved beforehand, so that nothing fails.
                    state = self._step.state_dict() if self._progress.samples else None
                    self._progress.micro_batches = 2
                    self._step = self._new_step()
                    if state is not None:
                        self._step.load_state_dict(state)
            calls += 1
            return real(self, arrays)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Trainer, "_run_step", step)
            train_narrow(out, {}, network)

    train(tmp_path / "halved", fail=False)
    assert limit.failures == 0
    train(tmp_path / "failed", fail=True)
    assert limit.failures == 1
    one, two = (CheckpointFolder(tmp_path / name / "checkpoints").load_last() for name in ("halved", "failed"))
    assert one is not None
    assert two is not None
    for part in ("weights", "optimizer", "random"):
        for key, value in getattr(one, part).items():
            np.testing.assert_array_equal(value, getattr(two, part)[key], err_msg=f"{part} {key}")
    logs = [
        [line for line in log_of(tmp_path / name) if line["event"] != "out_of_memory"] for name in ("halved", "failed")
    ]
    assert logs[0] == logs[1]


def test_a_resumed_run_goes_on_with_the_halved_size(
    tmp_path: Path, limit: type[Limit], monkeypatch: pytest.MonkeyPatch
) -> None:
    network = {"dropout": 0.2, "normalise": True}
    limit.rows = 4
    train_narrow(tmp_path / "straight", {}, network)
    with monkeypatch.context() as patch:
        real, calls = Trainer._train_batch, 0

        def stopping(self: Trainer, loaded: Any) -> None:
            nonlocal calls
            calls += 1
            real(self, loaded)
            if calls == 5:  # in the middle of an accumulation
                self._signals.received = signal.SIGTERM

        patch.setattr(Trainer, "_train_batch", stopping)
        with pytest.raises(SystemExit):
            train_narrow(tmp_path / "run", {}, network)
    limit.rows, limit.failures = 10**9, 0
    trainer, _ = train_narrow(tmp_path / "run", {}, network, resume=True)
    assert trainer._progress.micro_batches == 2
    assert_same_run(tmp_path / "straight", tmp_path / "run")


def test_the_policy_can_change_with_a_resume(tmp_path: Path, limit: type[Limit]) -> None:
    limit.rows = 4
    with pytest.raises(TrainingError):
        train_narrow(tmp_path, {"on_out_of_memory": "raise"})
    _, result = train_narrow(tmp_path, {}, resume=True)
    assert result.ended == "done"


def test_out_of_memory_is_explained(tmp_path: Path, limit: type[Limit]) -> None:
    limit.rows = 4
    with pytest.raises(TrainingError) as error:
        train_narrow(tmp_path, {"on_out_of_memory": "raise"})
    message = str(error.value)
    total = memory.host_memory()
    assert total is not None
    assert message.startswith(f"Memory ran out on cpu ({total / 2**30:.1f} GiB) in epoch 1 after 0 batches, with ")
    assert "with batches of 8. The library says: " in message
    assert "out of memory" in message
    assert "--set batch_size=4 --set accumulate=4; --set on_out_of_memory=halve" in message
    assert "Last good checkpoint" not in message
    limit.error = MemoryError
    with pytest.raises(TrainingError, match=r"The library says: MemoryError\. .*--set batch_size=4"):
        train_narrow(tmp_path, {"on_out_of_memory": "raise"}, resume=True)
    limit.error = lambda: RuntimeError("something else")
    with pytest.raises(RuntimeError, match="something else"):
        train_narrow(tmp_path, {"on_out_of_memory": "halve"}, resume=True)


def test_when_not_even_one_sample_fits(tmp_path: Path, limit: type[Limit]) -> None:
    limit.rows = 0
    with pytest.raises(TrainingError, match=r"batches of 8 computed 1 at a time.*Not even one sample at a time fits"):
        train_narrow(tmp_path, {})
    assert limit.failures == 4


@pytest.mark.parametrize("batch", [3, 9])
def test_within_an_update_the_run_goes_back_to_its_last_checkpoint(
    tmp_path: Path, limit: type[Limit], monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    train_narrow(tmp_path / "straight", {"checkpoint_every": 5})
    calls = 0
    real = Trainer._new_step

    def new_step(self: Trainer) -> Any:
        step = real(self)
        inner = getattr(step, "_step", step)
        update = inner._optimizer_update = inner._update

        def failing(rate: float) -> Any:
            nonlocal calls
            calls += 1
            if calls == batch:
                inner._is_updating = True
                raise out_of_memory_error()
            return update(rate)

        inner._update = failing
        return step

    monkeypatch.setattr(Trainer, "_new_step", new_step)
    trainer, result = train_narrow(tmp_path / "run", {"checkpoint_every": 5})
    assert result.ended == "done"
    assert trainer._progress.micro_batches == 2
    assert_close_run(tmp_path / "straight", tmp_path / "run")
    events = [line for line in log_of(tmp_path / "run") if line["event"] == "out_of_memory"]
    assert [event["reason"] for event in events] == ["within an update"]


def test_measuring_in_parts_gives_the_same_numbers(tmp_path: Path, limit: type[Limit]) -> None:
    trainer, _ = train_narrow(tmp_path, {"epochs": 1})
    calls: list[int] = []

    def predict(points: Any) -> Any:
        calls.append(int(points.shape[0]))
        if points.shape[0] > 3:
            raise out_of_memory_error()
        return trainer._predict(points)

    points = np.random.default_rng(0).standard_normal((7, 2)).astype(np.float32)
    array = backend.current().array(points, "cpu")
    parts = memory.PredictInParts(predict, backend.current(), "cpu")
    whole = trainer.predict(points)
    for _ in range(2):
        np.testing.assert_allclose(backend.current().numpy(parts(array)), whole, rtol=1e-5, atol=1e-6)
    assert parts.parts == 4
    assert calls[:3] == [7, 4, 2]
    never = memory.PredictInParts(lambda points: predict(np.zeros((9, 2))), backend.current(), "cpu")
    with pytest.raises(RuntimeError, match="out of memory"):
        never(array)
    assert never.parts == 4


@pytest.mark.parametrize("policy", ["raise", "halve"])
def test_evaluating_without_enough_memory(
    tmp_path: Path, limit: type[Limit], monkeypatch: pytest.MonkeyPatch, policy: str
) -> None:
    train_narrow(tmp_path, {"epochs": 1, "on_out_of_memory": policy})
    kind = type(backend.current())
    real = kind.predictor

    def predictor(self: Any, *arguments: Any, **options: Any) -> Any:
        predict = real(self, *arguments, **options)

        def small(points: Any) -> Any:
            if points.shape[0] > 4:
                raise out_of_memory_error()
            return predict(points)

        return small

    with isolated_catalog({"faulty": NarrowPlugin()}):
        expected = evaluate_run(tmp_path)
        monkeypatch.setattr(kind, "predictor", predictor)
        if policy == "halve":
            assert evaluate_run(tmp_path).metrics == pytest.approx(expected.metrics)
        else:
            with pytest.raises(BackendError, match=r"Memory ran out on .* batches of 8 samples .*--batch-size 4\."):
                evaluate_run(tmp_path)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes"),
            True,
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("Failed to allocate CPU Memory"), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("shape mismatch"), False),
        (ValueError("out of memory"), False),
        (TrainingError("Memory ran out: out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_what_means_that_memory_ran_out(error: BaseException, expected: bool) -> None:
    assert out_of_memory.says_so(error) is expected
    assert backend.current().is_out_of_memory(error) is expected


ALLOCATES = """
import resource
import numpy as np
from pathlib import Path
from glueball import backend

library = backend.current()
array = library.array(np.zeros((1, 1), np.float32), "cpu")
library.numpy(array + 1)
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + (256 << 20)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    library.numpy(library.ops.broadcast_to(array, shape=(1 << 10, 1 << 20)) + 1)
except Exception as error:
    print(type(error).__name__, library.is_out_of_memory(error))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a limit on memory")
def test_the_librarys_own_allocator_is_understood() -> None:
    """A real failure of the real allocator, in a process that may have 256 MiB more and asks for 4 GiB."""
    environment = {**os.environ, "GLUEBALL_BACKEND": backend.current().name}
    done = subprocess.run(
        [sys.executable, "-c", ALLOCATES], capture_output=True, text=True, env=environment, timeout=240
    )
    assert done.stdout.split()[-1:] == ["True"], (done.stdout, done.stderr)


def test_batches_are_divided_evenly() -> None:
    batch = (np.arange(7), np.arange(14).reshape(7, 2))
    parts = list(memory.divided(batch, 7, 4))
    assert [count for _, count in parts] == [2, 2, 2, 1]
    assert np.concatenate([part[0] for part, _ in parts]).tolist() == list(range(7))
    assert [count for _, count in memory.divided(batch, 7, 8)] == [1] * 7 + [0]
    assert [len(part[0]) for part, _ in memory.divided((np.arange(2),), 2, 4)] == [1, 1, 1, 1]


def test_batches_that_cannot_be_divided_are_refused() -> None:
    step = memory.MicroBatches(None, 2, backend.current())  # type: ignore[arg-type]
    with pytest.raises(OptionError, match=r"one row for each sample \(their shapes are \(4, 2\), \(3,\)\)"):
        step((np.zeros((4, 2)), np.zeros(3)), 0.1)


# ----------------------------------------------------------------------------------------------------------------------
# Folders that cannot be written, or are gone
# ----------------------------------------------------------------------------------------------------------------------


def lose(monkeypatch: pytest.MonkeyPatch, out: Path, method: str, count: int, lost: Callable[[], None]) -> None:
    """Calls ``lost`` when a method of the trainer is called for the ``count``-th time."""
    real, calls = getattr(Trainer, method), 0

    def losing(self: Trainer, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == count:
            lost()
        return real(self, *arguments, **options)

    monkeypatch.setattr(Trainer, method, losing)


# A batch in the middle of an epoch, a validation, a checkpoint, and the last weights.
@pytest.mark.parametrize(("method", "count"), [("_train_batch", 16), ("_evaluate", 2), ("_save", 2), ("_finish", 1)])
@pytest.mark.parametrize("how", ["removed", "moved"])
def test_a_folder_that_vanishes_is_said_and_the_training_is_saved_beside_it(
    tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch, method: str, count: int, how: str
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        if how == "removed":
            lose(patch, out, method, count, lambda: shutil.rmtree(out))
        else:
            lose(patch, out, method, count, lambda: os.rename(out, tmp_path / "elsewhere"))
        with pytest.raises(TrainingError) as error:
            run(out)
    message = str(error.value)
    assert f"The run folder {out} is gone: it was removed, moved or unmounted while the run went on." in message
    rescued = tmp_path / "run.rescued"
    assert message.endswith(f"go on with --resume --out {rescued}.")
    # Nothing of the old folder came back.
    assert not out.exists()
    assert sorted(path.name for path in rescued.iterdir()) == ["checkpoints", "recipe.json"]
    _, result = run(rescued, resume=True)
    assert (result.ended, result.epochs) == ("done", 3)
    ours, theirs = (weights.load(folder / "weights" / "last.safetensors") for folder in (rescued, straight))
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_another_folder_of_that_name_is_not_taken_for_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "run"

    def replace() -> None:
        shutil.rmtree(out)
        out.mkdir()
        (out / "thesis.txt").write_text("mine")

    (tmp_path / "run.rescued").mkdir()
    lose(monkeypatch, out, "_save", 1, replace)
    with pytest.raises(TrainingError, match=r"is gone: .*--out .*run\.rescued-2\."):
        run(out)
    assert [path.name for path in out.iterdir()] == ["thesis.txt"]
    assert list((tmp_path / "run.rescued").iterdir()) == []


def test_a_lock_that_somebody_removes_is_no_loss(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lose(monkeypatch, tmp_path, "_save", 1, (tmp_path / ".lock").unlink)
    _, result = run(tmp_path, {"epochs": 1})
    assert result.ended == "done"


def test_a_disk_that_is_unmounted_gets_no_folder_below_its_mount(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "disk" / "run"
    lose(monkeypatch, out, "_save", 1, lambda: os.rename(tmp_path / "disk", tmp_path / "unmounted"))
    with pytest.raises(TrainingError, match=r"is gone: .* could not be saved beside it either: .*No such file"):
        run(out, {"epochs": 1})
    assert not (tmp_path / "disk").exists()


@POSIX
def test_the_command_says_that_the_folder_is_gone(tmp_path: Path, installed: Path) -> None:
    out, reached = tmp_path / "run", tmp_path / "reached"
    process = glueball(
        installed,
        *("train", "faulty", "--out", str(out)),
        FAULTY_AT="step",
        FAULTY_FILE=str(reached),
    )
    wait_for(reached, process)
    shutil.rmtree(out)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "Traceback" not in errors
    assert f"glueball: The run folder {out} is gone" in errors
    assert not out.exists()


@POSIX
def test_a_place_where_nothing_can_be_written_is_said(installed: Path) -> None:
    # Where even the superuser can write nothing.
    process = glueball(installed, "train", "faulty", "--out", "/proc/runs/faulty")
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2
    assert "Traceback" not in errors
    assert errors.startswith("glueball: The run folder /proc/runs/faulty cannot be written: ")
    assert "--out" in errors


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EIO])
@pytest.mark.parametrize(
    ("where", "file"),
    [
        ("glueball.engine.run_folder.write_text", "run.json"),
        ("glueball.weights.save", "best.safetensors"),
        ("glueball.engine.checkpoint.save_file", "weights.safetensors"),
    ],
)
def test_a_disk_that_becomes_read_only_is_said(
    tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch, number: int, where: str, file: str
) -> None:
    module, _, name = where.rpartition(".")
    real = getattr(sys.modules[module], name)
    calls = 0

    def refused(first: Any, second: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        # ``save_file`` takes the arrays first.
        path = Path(second if name == "save_file" else first)
        calls += path.name == file
        if path.name == file and calls > 1:
            raise OSError(number, os.strerror(number))
        return real(first, second, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(where, refused)
        with pytest.raises(GlueballError) as error:
            run(tmp_path / "run")
    message = str(error.value)
    assert "could not be written" in message
    assert os.strerror(number) in message
    assert message.endswith("Make the folder writable, then go on with --resume.")
    assert "The last good" in message
    run(tmp_path / "run", resume=True)
    assert_same_run(straight, tmp_path / "run")


# ----------------------------------------------------------------------------------------------------------------------
# A real disk that is full
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_log_on_a_device_that_is_full(tmp_path: Path) -> None:
    file = "log.jsonl"
    with isolated_catalog({"faulty": faulty.FaultyPlugin()}):
        trainer = Trainer(faulty.recipe(), tmp_path, resume=True, quiet=True)
        (tmp_path / file).symlink_to("/dev/full")
        with pytest.raises(TrainingError, match=rf"{file} could not be written: No space left on device\. .*Free some"):
            trainer.fit()
    (tmp_path / file).unlink()
    _, result = run(tmp_path, {"epochs": 1}, resume=True, allow_changes=True)
    assert result.ended == "done"


# ----------------------------------------------------------------------------------------------------------------------
# Several users of one folder
# ----------------------------------------------------------------------------------------------------------------------


@POSIX
def test_while_a_process_trains_others_may_read_and_not_write(tmp_path: Path, installed: Path) -> None:
    out, reached = tmp_path / "run", tmp_path / "reached"
    run(out, {"epochs": 1})
    process = glueball(
        installed,
        *("train", "faulty", "--resume", "--allow-changes", "--out", str(out)),
        FAULTY_AT="step",
        FAULTY_FILE=str(reached),
        FAULTY_SECONDS="60",
    )
    try:
        wait_for(reached, process)
        before = contents(out)
        with isolated_catalog({"faulty": faulty.FaultyPlugin()}):
            for options in ({"resume": True}, {"overwrite": True}):
                with pytest.raises(TrainingError, match=rf"Another process \(process {process.pid}\) trains in {out}"):
                    Trainer(faulty.recipe(), out, quiet=True, **options).fit()
            with pytest.raises(OptionError, match="is not empty"):
                Trainer(faulty.recipe(), out, quiet=True).fit()
            for options in ({"resume": True}, {"overwrite": True}):
                with pytest.raises(TrainingError, match=r"Another process .* trains in"):
                    cross_validate(engine_toy.recipe(), 3, out, quiet=True, **options)
            evaluation = evaluate_run(out)
            assert evaluation.samples == 30
        assert contents(out) == before
    finally:
        process.kill()
        process.communicate()


def test_a_cross_validation_in_use_is_not_touched(tmp_path: Path) -> None:
    """The folder above, whose owner is between two folds, and a fold that somebody trains alone."""
    changes = {"epochs": 1}
    engine_toy.run_folds(tmp_path, changes, folds=2)
    before = contents(tmp_path)
    for held in (RunFolder(tmp_path), RunFolder(tmp_path).fold(2)):
        held.open(resume=True, overwrite=False)
        try:
            with pytest.raises(TrainingError, match=r"Another process .* trains in"):
                engine_toy.run_folds(tmp_path, changes, folds=2, overwrite=True)
            if held.path == tmp_path:
                with pytest.raises(TrainingError, match=r"Another process .* trains in"):
                    engine_toy.run_folds(tmp_path, changes, folds=2, resume=True)
        finally:
            held.close()
        assert contents(tmp_path) == before

"""How the torch backend decides between eager and compiled steps, with a clock and a compiler of its own."""

from __future__ import annotations

from typing import Any

import pytest

from glueball import backend as backends

pytestmark = pytest.mark.skipif(backends.current().name != "torch", reason="about the torch backend")


class Clock:
    """Time that passes only where a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Any:
    import torch

    from glueball.backend.torch import step

    clock, calls = Clock(), []

    def eager(value: Any) -> Any:
        calls.append("eager")
        clock.now += 1.0
        return value + 1

    def make(compiled_seconds: float, error: Exception | None = None) -> Any:
        def compiled(value: Any) -> Any:
            if error is not None:
                raise error
            calls.append("compiled")
            clock.now += compiled_seconds
            return value + 1

        monkeypatch.setattr(torch, "compile", lambda function, dynamic: compiled)
        return step.CompileChoice(eager, True, torch.device("cpu"))

    monkeypatch.setattr(step, "time", clock)
    return make, calls, torch


def run(choice: Any, torch: Any, count: int, size: int = 2) -> None:
    for _ in range(count):
        assert torch.equal(choice((torch.zeros(size),)), torch.ones(size))


def test_the_faster_way_is_kept(setting: Any) -> None:
    make, calls, torch = setting
    choice = make(0.5)
    run(choice, torch, 100)
    assert choice.choice == choice.COMPILED
    first = choice.FIRST_TRIAL - 1 + choice.MEASURED
    assert calls[:first] == ["eager"] * first
    assert set(calls[first:]) == {"compiled"}


@pytest.mark.parametrize("seconds", [1.5, 0.99])
def test_eager_stays_where_compiling_gains_too_little(setting: Any, seconds: float) -> None:
    make, calls, torch = setting
    choice = make(seconds)
    run(choice, torch, 100)
    assert choice.choice == choice.EAGER
    assert calls.count("compiled") == choice.WARMUP + choice.MEASURED
    assert calls[-1] == "eager"


def test_short_runs_are_not_tried(setting: Any) -> None:
    make, calls, torch = setting
    choice = make(0.1)
    run(choice, torch, choice.FIRST_TRIAL - 1)
    assert choice.choice == choice.UNDECIDED
    assert set(calls) == {"eager"}


def test_other_shapes_run_eagerly(setting: Any) -> None:
    make, calls, torch = setting
    choice = make(0.5)
    run(choice, torch, 100)
    calls.clear()
    run(choice, torch, 2, size=1)
    run(choice, torch, 1)
    assert calls == ["eager", "eager", "compiled"]


def test_a_compiler_that_fails_is_reported_once(setting: Any) -> None:
    make, calls, torch = setting
    choice = make(0.5, RuntimeError("no C++ compiler\nlong trace"))
    with pytest.warns(RuntimeWarning, match=r"without torch\.compile: RuntimeError: no C\+\+ compiler$") as caught:
        run(choice, torch, 100)
    assert len(caught) == 1
    assert choice.choice == choice.EAGER
    assert set(calls) == {"eager"}


def test_cpus_stay_eager() -> None:
    from glueball.backend.base import StepOptions

    backend = backends.current()
    network = backend.nn.Dense(2, in_units=2)
    network.initialize()
    step: Any = backend.training_step(network, network, StepOptions(compile=True), "cpu")
    assert int(step.state_dict()["compiled"]) == 0


def test_predictors_of_gpus_choose_likewise() -> None:
    import numpy as np

    from glueball.backend.torch.step import CompileChoice

    backend = backends.current()
    network = backend.nn.Dense(2, in_units=3)
    network.initialize()
    predict: Any = backend.predictor(network, device="cpu")
    predict._compile = True
    values = np.ones((4, 3), np.float32)
    expected = backend.numpy(network(values))
    for _ in range(2):
        np.testing.assert_allclose(backend.numpy(predict(values)), expected, rtol=1e-6)
    assert isinstance(predict._graphs[1][0], CompileChoice)

"""The profile of steps: its arithmetic by a clock that the test turns, and that a profiled run computes the same."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from engine_toy import ToyPlugin, recipe

from glueball import cli
from glueball.backend import base
from glueball.engine import Trainer
from glueball.engine.recipe import Recipe
from glueball.engine.step_profile import BACKGROUND_PARTS, STEP_PARTS, StepProfile
from glueball.testing import isolated_catalog


class Clock:
    """Stands still until it is told to move; waiting for the device takes a tenth of a second."""

    def __init__(self) -> None:
        self.now = 0.0
        self.waits = 0

    def __call__(self) -> float:
        return self.now

    def synchronize(self) -> None:
        self.waits += 1
        self.now += 0.1


@pytest.fixture(autouse=True)
def toy() -> Iterator[None]:
    with isolated_catalog({"toy": ToyPlugin()}):
        yield


def profiled_steps(*steps: dict[str, float], warm_up: int = 0) -> StepProfile:
    """A profile of steps whose parts take so many seconds besides the wait for the device."""
    clock = Clock()
    profile = StepProfile(clock.synchronize, warm_up=warm_up, clock=clock)
    profile.begin()
    for step in steps:
        for part, seconds in step.items():
            clock.now += seconds
            profile.mark(part)
        profile.end_step()
    return profile


def test_parts_hold_the_wait_for_the_device_and_add_up() -> None:
    summary = profiled_steps({"data": 0.4, "forward": 0.9}, {"data": 0.0, "forward": 0.9}).summary()
    assert summary["steps"] == 2
    assert summary["parts"]["data"]["mean"] == pytest.approx(300)
    assert summary["parts"]["forward"] == pytest.approx({"mean": 1000, "median": 1000, "share": 2.0 / 2.6})
    assert summary["step"]["mean"] == pytest.approx(1300)
    assert sum(part["share"] for part in summary["parts"].values()) == pytest.approx(1.0)


def test_first_steps_do_not_count() -> None:
    summary = profiled_steps({"forward": 99.9}, {"forward": 0.9}, warm_up=1).summary()
    assert (summary["steps"], summary["step"]["mean"]) == (1, pytest.approx(1000))


def test_a_part_that_is_marked_twice_in_a_step_adds_up() -> None:
    clock = Clock()
    profile = StepProfile(clock.synchronize, warm_up=0, clock=clock)
    profile.begin()
    profile.mark("data")  # a batch that is left out
    profile.mark("data")
    profile.end_step()
    assert profile.summary()["parts"]["data"]["mean"] == pytest.approx(200)


def test_without_steps_there_are_no_figures() -> None:
    profile = profiled_steps({"forward": 1.0}, warm_up=1)
    assert profile.rows() == []
    assert profile.summary()["step"] == {"mean": None, "median": None}
    assert profile.summary()["parts"]["forward"] == {"mean": None, "median": None, "share": None}


def test_background_gives_the_same_batches_and_times_both_parts() -> None:
    clock = Clock()
    profile = StepProfile(clock.synchronize, clock=clock)
    closed = []

    def batches() -> Iterator[tuple[np.ndarray, ...]]:
        try:
            for number in range(4):
                clock.now += 2.0
                yield np.full(3, number), np.full(1, number)
        finally:
            closed.append(True)

    def to_device(values: np.ndarray) -> np.ndarray:
        clock.now += 0.5
        return values + 10

    loaded, copy = profile.background(batches(), to_device)
    received = [[copy(values) for values in batch] for batch in loaded]
    np.testing.assert_array_equal([values[0] for values, _ in received], [10, 11, 12, 13])
    background = profile.summary()["background"]
    assert background["loading"] == {"mean": pytest.approx(2000), "median": pytest.approx(2000)}
    assert background["to_device"] == {"mean": pytest.approx(1000), "median": pytest.approx(1000)}

    profile.end_epoch(to_device)
    # Both arrays of the last batch, and the wait for the device.
    assert profile.summary()["to_device_alone"] == pytest.approx(1100)

    given_up, _ = profile.background(batches(), to_device)
    next(given_up)
    given_up.close()
    assert closed == [True, True]


def test_profile_of_no_batch_measures_no_copies() -> None:
    clock = Clock()
    profile = StepProfile(clock.synchronize, clock=clock)
    profile.end_epoch(lambda values: values)
    assert profile.summary()["to_device_alone"] is None


def small(**changes: object) -> Recipe:
    return recipe(epochs=2, checkpoint_every=5, **changes)


def test_a_profiled_run_computes_the_same(tmp_path: Path) -> None:
    plain = Trainer(small(), tmp_path / "plain", quiet=True, device="cpu")
    plain.fit()
    profiled = Trainer(small(), tmp_path / "profiled", quiet=True, device="cpu", profile=True)
    profiled.fit()
    assert plain.profile is None
    assert profiled.profile is not None
    assert not (tmp_path / "plain" / "profile.json").exists()
    for name in ("best", "last"):
        one, other = (tmp_path / run / "weights" / f"{name}.safetensors" for run in ("plain", "profiled"))
        assert one.read_bytes() == other.read_bytes()

    written = json.loads((tmp_path / "profiled" / "profile.json").read_text())
    assert written.items() >= profiled.profile.summary().items()
    assert (written["device"], written["precision"]) == ("cpu", profiled.precision)
    assert written["steps"] == profiled.profile.steps == 2 * 12 - 3
    assert set(written["parts"]) == set(STEP_PARTS)
    assert all(written["parts"][part]["mean"] > 0 for part in STEP_PARTS)
    assert all(written["background"][part]["mean"] > 0 for part in BACKGROUND_PARTS)


def test_an_unprofiled_step_marks_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = Trainer(small(), tmp_path / "run", quiet=True, device="cpu")
    waits = []
    monkeypatch.setattr(type(trainer.backend), "synchronize", lambda self, device=None: waits.append(device))
    trainer.fit()
    assert trainer._step.mark is base.unmarked
    # Once, after the sample that settles the network's shapes.
    assert len(waits) == 1


def test_steps_that_replace_others_are_profiled_too(tmp_path: Path) -> None:
    from glueball.engine import Component, DataSpec

    poisoned = DataSpec(train=Component(name="points", options={"poison": 40}))
    trainer = Trainer(small(data=poisoned, nan_policy="skip"), tmp_path / "run", quiet=True, device="cpu", profile=True)
    first = trainer._new_step
    made = []

    def new_step() -> object:
        made.append(first())
        return made[-1]

    trainer._new_step = new_step  # type: ignore[method-assign]
    trainer.fit()
    assert len(made) > 1
    assert trainer.profile is not None
    assert all(step.mark == trainer.profile.mark for step in made)


def test_overwrite_removes_the_profile_of_the_run_before(tmp_path: Path) -> None:
    Trainer(small(), tmp_path, quiet=True, device="cpu", profile=True).fit()
    assert (tmp_path / "profile.json").exists()
    Trainer(small(), tmp_path, quiet=True, device="cpu", overwrite=True).fit()
    assert not (tmp_path / "profile.json").exists()


def test_curves_are_drawn_the_more_seldom_the_longer_it_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from glueball.engine import trainer as trainer_module

    now, drawn = [1000.0], []

    def draw(*arguments: object) -> None:
        drawn.append(now[0])
        now[0] += 1.5

    monkeypatch.setattr(trainer_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(trainer_module.curves, "draw", draw)
    trainer = Trainer(recipe(epochs=14), tmp_path / "run", quiet=True, device="cpu")
    train_epoch = trainer._train_epoch

    def slowly() -> None:
        train_epoch()
        now[0] += 25.0

    trainer._train_epoch = slowly  # type: ignore[method-assign]
    trainer.fit()
    # After the first epoch, then when a hundred times as long has passed, and at the end.
    assert drawn == pytest.approx([1025.0, 1025.0 + 1.5 + 6 * 25.0, 1025.0 + 3.0 + 12 * 25.0, 1025.0 + 4.5 + 13 * 25.0])


def test_command_line_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["train", "toy", "--epochs", "2", "--device", "cpu", "--profile", "--out", str(tmp_path)])
    out = capsys.readouterr().out
    assert status == 0
    table = out.partition("Where the time of a step went")[2]
    for words in ("waiting for the next batch", "forward pass and loss", "whole step", "beside it: making a batch"):
        assert words in table


def test_command_line_says_when_there_was_nothing_to_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--epochs", "1", "--batch-size", "60", "--device", "cpu", "--profile", "--out", str(tmp_path)]
    assert cli.main(["train", "toy", *words]) == 0
    assert "No step was timed" in capsys.readouterr().out


def test_profile_of_folds_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status = cli.main(["train", "toy", "--folds", "2", "--profile", "--out", str(tmp_path / "run")])
    assert status == 2
    assert "--profile times the steps of one run" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()

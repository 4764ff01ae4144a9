"""What goes wrong around a run: it is said in one sentence with a cure, and costs no good run anything."""

from __future__ import annotations

import builtins
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import engine_toy
import numpy as np
import pytest
from test_engine_resume import assert_same_run, log_of, stop_after

import glueball
from glueball import backend
from glueball.backend.base import OptimizerSpec
from glueball.data import DataLoader
from glueball.engine import Component, DataSpec, ModelSpec, Trainer
from glueball.engine.checkpoint import CheckpointFolder
from glueball.engine.evaluation import evaluate
from glueball.engine.load import evaluate_run
from glueball.errors import (
    CheckpointError,
    DataError,
    GlueballError,
    OptionError,
    TrainingError,
    UnknownNameError,
    WeightsError,
)
from glueball.testing import isolated_catalog

FULL = OSError(28, "No space left on device")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ----------------------------------------------------------------------------------------------------------------------
# Refusals
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": ModelSpec(name="tiny", classes=4)},
            r"another network .*'tiny'; 2 arrays differ:\n  4\.(weight|bias): ",
        ),
        ({"optimizer": OptimizerSpec(name="adam")}, "training step does not fit"),
        ({"seed": 5}, "has seed 0, this loader has 5"),
        ({"metrics": (Component(name="toy_accuracy"),) * 2}, "holds 1 metrics, the recipe has 2"),
    ],
)
def test_a_refused_resume_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], message: str
) -> None:
    with monkeypatch.context() as patch:
        stop_after(patch, 5, "_train_batch")
        with pytest.raises(SystemExit):
            engine_toy.run(tmp_path, {"epochs": 1})
    before = contents(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        engine_toy.run(tmp_path, {"epochs": 1, **changes}, resume=True, allow_changes=True)
    assert contents(tmp_path) == before
    _, result = engine_toy.run(tmp_path, {"epochs": 1}, resume=True)
    assert result.ended == "done"


def test_another_backend_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine_toy.run(tmp_path, {"epochs": 1})
    before = contents(tmp_path)
    monkeypatch.setattr(backend.current(), "name", "other")
    with pytest.raises(CheckpointError, match="cannot go on on other"):
        engine_toy.run(tmp_path, {"epochs": 1}, resume=True, allow_changes=True)
    assert contents(tmp_path) == before


BAD_BEGINNINGS = [
    ({"model": ModelSpec(name="tinny")}, UnknownNameError),
    ({"model": ModelSpec(name="tiny", pretrained="missing.safetensors")}, WeightsError),
    ({"data": DataSpec(train=Component(name="points", options={"counts": 3}))}, OptionError),
    ({"data": DataSpec(train=Component(name="points"), validation=Component(name="point"))}, UnknownNameError),
    ({"model": ModelSpec(name="picky")}, OptionError),
]


@pytest.mark.parametrize(("changes", "error"), BAD_BEGINNINGS)
def test_a_failed_beginning_leaves_no_trace(
    tmp_path: Path, changes: dict[str, Any], error: type[GlueballError]
) -> None:
    with pytest.raises(error):
        engine_toy.run(tmp_path / "runs" / "first", {"epochs": 1, **changes})
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(error):
        engine_toy.run(tmp_path, {"epochs": 1, **changes})
    assert list(tmp_path.iterdir()) == []
    engine_toy.run(tmp_path, {"epochs": 1})


@pytest.mark.parametrize(("changes", "error"), BAD_BEGINNINGS)
def test_overwriting_costs_nothing_before_the_new_run_can_begin(
    tmp_path: Path, changes: dict[str, Any], error: type[GlueballError]
) -> None:
    engine_toy.run(tmp_path, {"epochs": 1})
    before = contents(tmp_path)
    with pytest.raises(error):
        engine_toy.run(tmp_path, {"epochs": 1, **changes}, overwrite=True)
    assert contents(tmp_path) == before


def test_a_model_that_cannot_take_the_data_says_so(tmp_path: Path) -> None:
    with pytest.raises(OptionError) as error:
        engine_toy.run(tmp_path, {"model": ModelSpec(name="picky")})
    assert "The model 'picky' fails on the first sample of the data: " in str(error.value)
    assert "Received: one sample of shape (2,). It is registered for (5,)." in str(error.value)
    assert "--model" in str(error.value)
    assert "Traceback" not in str(error.value)


# ----------------------------------------------------------------------------------------------------------------------
# Going on
# ----------------------------------------------------------------------------------------------------------------------


def test_resuming_needs_no_pretrained_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine_toy.run(tmp_path / "first", {"epochs": 1})
    file = tmp_path / "weights.safetensors"
    file.write_bytes((tmp_path / "first" / "weights" / "last.safetensors").read_bytes())
    changes = {"epochs": 2, "model": ModelSpec(name="tiny", pretrained=str(file))}
    engine_toy.run(tmp_path / "straight", changes)
    for name, again in (("same", changes), ("without", {"epochs": 2})):
        with monkeypatch.context() as patch:
            stop_after(patch, 5, "_train_batch")
            with pytest.raises(SystemExit):
                engine_toy.run(tmp_path / name, changes)
        moved = file.rename(tmp_path / "elsewhere")
        engine_toy.run(tmp_path / name, again, resume=True)
        moved.rename(file)
        assert_same_run(tmp_path / "straight", tmp_path / name)
        assert json.loads((tmp_path / name / "recipe.json").read_text())["model"]["pretrained"] == str(file)


def without_bfloat16(self: Any, precision: str, device: str) -> str | None:
    return "no such instructions" if precision == "bfloat16" else None


def test_a_run_goes_on_in_the_precision_that_it_began_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = type(backend.current())
    monkeypatch.setattr(kind, "supports_precision", without_bfloat16)
    trainer, _ = engine_toy.run(tmp_path, {"epochs": 1, "precision": "auto"})
    assert trainer.precision == "float32"
    monkeypatch.setattr(kind, "supports_precision", lambda self, precision, device: None)
    options = {"resume": True, "allow_changes": True}
    trainer, _ = engine_toy.run(tmp_path, {"epochs": 2, "precision": "auto"}, **options)
    assert trainer.precision == "float32"

    checkpoints = CheckpointFolder(tmp_path / "checkpoints")
    last = checkpoints.load_last()
    assert last is not None
    checkpoints.save(attrs.evolve(last, state={**last.state, "precision": "bfloat16"}), epoch=2, step=12)
    before = contents(tmp_path)
    monkeypatch.setattr(kind, "supports_precision", without_bfloat16)
    with pytest.raises(
        OptionError, match=r"began in bfloat16.*no such instructions.*go on in float32.*--allow-changes"
    ):
        engine_toy.run(tmp_path, {"epochs": 2, "precision": "auto"}, resume=True)
    assert contents(tmp_path) == before
    trainer, _ = engine_toy.run(tmp_path, {"epochs": 3, "precision": "auto"}, **options)
    assert trainer.precision == "float32"


def test_more_patience_goes_on_after_no_gain(tmp_path: Path) -> None:
    changes = {"epochs": 9, "learning_rate": 1e-9, "ema_decay": None, "patience": 1}
    _, first = engine_toy.run(tmp_path, changes)
    assert first.ended == "no gain"
    _, same = engine_toy.run(tmp_path, {**changes, "epochs": 12}, resume=True, allow_changes=True)
    assert (same.ended, same.epochs) == ("no gain", first.epochs)
    _, more = engine_toy.run(tmp_path, {**changes, "patience": 3}, resume=True, allow_changes=True)
    assert more.epochs > first.epochs
    _, rest = engine_toy.run(tmp_path, {**changes, "patience": None}, resume=True, allow_changes=True)
    assert (rest.ended, rest.epochs) == ("done", 9)
    assert [line["reason"] for line in log_of(tmp_path) if line["event"] == "end"] == ["done"]


# ----------------------------------------------------------------------------------------------------------------------
# Full disks
# ----------------------------------------------------------------------------------------------------------------------


class FullFile:
    """A file on a disk that is full after some writes."""

    def __init__(self, file: Any, writes: int) -> None:
        self._file, self._left = file, writes

    def write(self, data: bytes) -> int:
        self._left -= 1
        if self._left < 0:
            raise OSError(*FULL.args)
        return int(self._file.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


def full_on_call(real: Callable[..., Any], number: int, name: str) -> Callable[..., Any]:
    """``real``, which finds no space when it is called for the ``number``-th time with a path of this name."""
    calls = 0

    def limited(path: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += Path(path).name == name
        if calls == number and Path(path).name == name:
            raise OSError(*FULL.args)
        return real(path, *arguments, **options)

    return limited


@pytest.mark.parametrize(
    ("where", "file", "number", "has_checkpoint"),
    [
        ("write_text", "recipe.json", 1, False),
        ("write_text", "environment.json", 1, False),
        ("write_text", "run.json", 2, True),
        ("save", "best.safetensors", 2, True),
        ("save", "last.safetensors", 1, True),
        ("logs", "log.jsonl", 7, True),
        ("tensorboard", "events.out.tfevents", 5, True),
        ("tensorboard", "events.out.tfevents", 0, False),
    ],
)
def test_a_full_disk_is_explained_and_the_run_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, file: str, number: int, has_checkpoint: bool
) -> None:
    from glueball.engine import run_folder

    changes = {"epochs": 2}
    with monkeypatch.context() as patch:
        if where == "write_text":
            patch.setattr(run_folder, "write_text", full_on_call(run_folder.write_text, number, file))
        elif where == "save":
            patch.setattr("glueball.weights.save", full_on_call(glueball.weights.save, number, file))
        else:
            patch.setattr(
                f"glueball.engine.{where}.open",
                lambda *arguments: FullFile(builtins.open(*arguments), number),  # noqa: SIM115 - the log closes it
                raising=False,
            )
        with pytest.raises(TrainingError) as error:
            engine_toy.run(tmp_path / "run", changes)
    message = str(error.value)
    assert f"{file}" in message
    assert "could not be written: No space left on device." in message
    assert ("The last good checkpoint is " if has_checkpoint else "There is no checkpoint yet") in message
    assert message.endswith("Free some space, then go on with --resume.")
    assert (CheckpointFolder(tmp_path / "run" / "checkpoints").load_last() is not None) == has_checkpoint
    engine_toy.run(tmp_path / "run", changes, resume=True)
    engine_toy.run(tmp_path / "straight", changes)
    assert_same_run(tmp_path / "straight", tmp_path / "run")


@pytest.mark.skipif(sys.platform == "win32", reason="needs limits on the size of files")
def test_the_system_itself_refuses_to_write(tmp_path: Path) -> None:
    script = (
        "import resource, sys, json, engine_toy\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (14_000, 14_000))\n"
        "from pathlib import Path\n"
        "engine_toy.run(Path(sys.argv[1]), {'epochs': 10, 'log_every': 1})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "run")],
        capture_output=True,
        text=True,
        cwd=Path(engine_toy.__file__).parent,
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(("glueball.errors.TrainingError", "glueball.errors.CheckpointError")), done.stderr
    assert "The last good checkpoint is" in last or "The last good one is" in last
    assert last.endswith("Free some space, then go on with --resume.")
    _, result = engine_toy.run(tmp_path / "run", {"epochs": 10, "log_every": 1}, resume=True)
    assert (result.ended, result.epochs) == ("done", 10)


def test_an_error_of_the_system_elsewhere_stays_what_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_file(self: Any, epoch: int) -> None:
        raise FileNotFoundError(2, "No such file or directory", "/somewhere/else")

    monkeypatch.setattr(engine_toy.ToyTask, "set_epoch", no_such_file)
    with pytest.raises(FileNotFoundError):
        engine_toy.run(tmp_path, {"epochs": 1})


def test_a_picture_that_cannot_be_written_only_warns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(*FULL.args)

    monkeypatch.setattr("glueball.engine.curves.draw", full)
    monkeypatch.setattr(engine_toy.ToyTask, "draw_predictions", full)
    with caplog.at_level(logging.WARNING, "glueball.engine"):
        _, result = engine_toy.run(tmp_path, {"epochs": 1}, draw=True)
    assert result.ended == "done"
    for name in ("curves.png", "predictions.png"):
        assert f"{tmp_path / name} could not be drawn: No space left on device" in caplog.text
    events = [line["event"] for line in log_of(tmp_path)]
    assert "no_curves" in events
    assert "no_predictions" in events


# ----------------------------------------------------------------------------------------------------------------------
# Data
# ----------------------------------------------------------------------------------------------------------------------


def damage(monkeypatch: pytest.MonkeyPatch, *damaged: int) -> None:
    real = engine_toy.Points.fetch

    def fetch(self: Any, index: int, random: Any = None) -> Any:
        if index in damaged:
            raise DataError("picture.jpg: the picture is damaged or cut short.")
        return real(self, index, random)

    monkeypatch.setattr(engine_toy.Points, "fetch", fetch)


@pytest.mark.parametrize("index", [0, 29])
def test_a_damaged_sample_stops_the_run_with_the_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    damage(monkeypatch, index)
    cure = rf"Sample {index}.*picture\.jpg.*delete or repair it.*--set on_bad_sample=skip"
    with pytest.raises(DataError, match=cure):
        engine_toy.run(tmp_path / "run", {"epochs": 1})
    with (
        isolated_catalog({"toy": engine_toy.ToyPlugin()}),
        pytest.raises(DataError, match=r"sample|on_bad_sample=skip"),
    ):
        Trainer(engine_toy.recipe(), tmp_path / "other", quiet=True).evaluate("validation")


def test_damaged_samples_are_left_out_even_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(monkeypatch, 0, 7)
    _, result = engine_toy.run(tmp_path, {"epochs": 1, "on_bad_sample": "skip"})
    assert result.ended == "done"


def test_the_split_that_is_really_used_has_a_name() -> None:
    task = engine_toy.ToyTask(engine_toy.recipe())
    assert [task.resolved_split(split) for split in ("train", "validation", "test")] == [
        "train",
        "validation",
        "validation",
    ]
    tested = attrs.evolve(task.recipe.data, test=Component(name="points"))
    assert engine_toy.ToyTask(engine_toy.recipe(data=tested)).resolved_split("test") == "test"
    with pytest.raises(OptionError, match=r"A split is one of train, validation, test\. Received: 'dev'"):
        task.resolved_split("dev")


def test_batches_are_filled_up_no_further_than_the_data_reach() -> None:
    with isolated_catalog({"toy": engine_toy.ToyPlugin()}):
        for batch_size, rows in ((5000, {30}), (8, {8})):
            task = engine_toy.ToyTask(engine_toy.recipe(batch_size=batch_size))
            seen = set()

            def predict(points: Any, seen: set[int] = seen) -> Any:
                seen.add(len(points))
                return backend.current().array(np.zeros((len(points), 3), np.float32), "cpu")

            loader = task.loader("validation", training=False)
            evaluate(task, predict, loader, backend.current(), "cpu")
            assert seen == rows


def first_mixing(batch: Any, generator: Any) -> Any:
    return batch


def last_mixing(batch: Any, generator: Any) -> Any:
    return batch


def test_the_loader_that_mixing_leaves_behind_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[Any] = []
    used: list[Any] = []
    real_close, real_train = DataLoader.close, Trainer._train_batches

    def close(self: DataLoader) -> None:
        closed.append(self)
        real_close(self)

    def train(self: Trainer) -> None:
        if used and self._loader is not used[-1]:
            assert used[-1] in closed
        used.append(self._loader)
        real_train(self)

    monkeypatch.setattr(DataLoader, "close", close)
    monkeypatch.setattr(Trainer, "_train_batches", train)
    monkeypatch.setattr(engine_toy.ToyTask, "set_epoch", lambda self, epoch: setattr(self, "epoch", epoch))
    monkeypatch.setattr(
        engine_toy.ToyTask,
        "batch_transform",
        lambda self: last_mixing if getattr(self, "epoch", 0) else first_mixing,
    )
    engine_toy.run(tmp_path, {"epochs": 3, "workers": 1})
    assert used[0] is not used[1]
    assert used[1] is used[2]


# ----------------------------------------------------------------------------------------------------------------------
# Reading a run
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ([], "holds no JSON object but list"),
        ({"format": 1}, "'task' must be a name, received None"),
        ({"format": 1, "task": 3}, "'task' must be a name, received 3"),
        ({"format": 1, "task": "toy", "model": []}, r"'model' must be an object, received \[\]"),
        ({"format": 1, "task": "toy"}, "lacks 'model'"),
        ({"format": 1, "task": "toy", "model": {"name": "tiny"}}, "lacks 'classes'"),
    ],
)
def test_a_damaged_description_is_named(tmp_path: Path, content: Any, what: str) -> None:
    engine_toy.run(tmp_path, {"epochs": 1})
    (tmp_path / "run.json").write_text(json.dumps(content))
    with isolated_catalog({"toy": engine_toy.ToyPlugin()}):
        for use in (glueball.load, evaluate_run):
            with pytest.raises(DataError, match=rf"run\.json is not what a run writes: .*{what}.*--resume"):
                use(tmp_path)  # type: ignore[operator]


def test_a_description_of_another_version_is_refused(tmp_path: Path) -> None:
    engine_toy.run(tmp_path, {"epochs": 1})
    (tmp_path / "run.json").write_text('{"format": 99}')
    for use in (glueball.load, evaluate_run):
        with pytest.raises(OptionError, match=r"format 99.*reads 1"):
            use(tmp_path)  # type: ignore[operator]

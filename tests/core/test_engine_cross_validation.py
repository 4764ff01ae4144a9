"""A recipe over the folds of its data: every fold an ordinary run, stopped and resumed as one, and honest numbers."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import statistics
from pathlib import Path
from typing import Any

import attrs
import engine_toy
import numpy as np
import pytest
from test_engine_resume import assert_same_run, log_of, start, stop_after, wait_for_log

import glueball
from glueball.cli import main
from glueball.engine import Task, Trainer, cross_validate, cross_validation
from glueball.engine.checkpoint import CheckpointFolder
from glueball.engine.load import evaluate_run
from glueball.engine.run_folder import RunFolder
from glueball.errors import DataError, OptionError, TrainingError
from glueball.testing import isolated_catalog

SHORT = {"epochs": 2}


def summary(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "cross_validation.json").read_text())
    return content


def without_clock(content: dict[str, Any]) -> dict[str, Any]:
    results = [{key: value for key, value in item.items() if key != "seconds"} for item in content["results"]]
    return {**content, "results": results}


def assert_same_folds(first: Path, second: Path, folds: int = 3) -> None:
    assert without_clock(summary(first)) == without_clock(summary(second))
    for number in range(1, folds + 1):
        assert_same_run(RunFolder(first).fold(number).path, RunFolder(second).fold(number).path)


def snapshot(folder: Path) -> dict[str, int]:
    """Every file with the time of its last change, in nanoseconds."""
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cross-validation that was never stopped."""
    out = tmp_path_factory.mktemp("runs") / "straight"
    engine_toy.run_folds(out, dict(SHORT))
    return out


# ----------------------------------------------------------------------------------------------------------------------
# What it computes
# ----------------------------------------------------------------------------------------------------------------------


def test_every_fold_is_the_run_that_one_would_train_alone(tmp_path: Path, straight: Path) -> None:
    for index in range(3):
        recipe = engine_toy.ToyTask.fold(engine_toy.recipe(**SHORT), index, 3)
        out = tmp_path / f"fold-{index}"
        engine_toy.run(out, {**SHORT, "data": recipe.data}, compile=False)
        assert_same_run(out, straight / f"fold-0{index + 1}")


def test_every_sample_is_held_out_once(straight: Path) -> None:
    parts = []
    for number in (1, 2, 3):
        data = json.loads((straight / f"fold-0{number}" / "recipe.json").read_text())["data"]
        train, held_out = (engine_toy.Points(**data[part]["options"]) for part in ("train", "validation"))
        assert len(train) + len(held_out) == 96
        parts.append(held_out._points)
    together = np.concatenate(parts)
    whole = engine_toy.Points()._points
    assert np.array_equal(np.unique(together, axis=0), np.unique(whole, axis=0))


def test_the_last_epoch_is_reported_and_not_the_best(tmp_path: Path) -> None:
    # At this rate the accuracy jumps about, so that the last epoch is not the best in every fold.
    result = engine_toy.run_folds(tmp_path / "run", {"epochs": 6, "learning_rate": 1.5, "clip_norm": None})
    differs = False
    for item in result.folds:
        rows = [line for line in log_of(item.out) if line["event"] == "epoch"]
        assert item.metrics == {"accuracy": rows[-1]["validation_accuracy"]}
        assert item.epochs == len(rows) == 6
        differs |= max(row["validation_accuracy"] for row in rows) > rows[-1]["validation_accuracy"]
    assert differs, "a recipe whose last epoch is always the best shows nothing"
    values = [item.metrics["accuracy"] for item in result.folds]
    assert result.mean["accuracy"] == pytest.approx(statistics.mean(values))
    assert result.standard_deviation["accuracy"] == pytest.approx(statistics.stdev(values))
    content = summary(tmp_path / "run")
    assert content["complete"] is True
    assert (content["n"], content["folds"]) == (3, 3)
    assert content["measured"].startswith("the last epoch of each fold")
    assert content["mean"] == dict(result.mean)
    assert [item["metrics"] for item in content["results"]] == [dict(item.metrics) for item in result.folds]


def test_a_fold_can_be_evaluated_and_the_whole_says_where_its_runs_are(straight: Path) -> None:
    with isolated_catalog({"toy": engine_toy.ToyPlugin()}):
        measured = evaluate_run(straight / "fold-02", weights="last").metrics
        assert measured == pytest.approx(summary(straight)["results"][1]["metrics"])
        for use in (evaluate_run, glueball.load):
            with pytest.raises(OptionError, match=r"holds a cross-validation.*fold-01"):
                use(straight)  # type: ignore[operator]


def test_means_and_deviations() -> None:
    assert math.isnan(cross_validation.mean([]))
    assert math.isnan(cross_validation.standard_deviation([1.0]))
    assert cross_validation.standard_deviation([1.0, 2.0, 4.0]) == pytest.approx(statistics.stdev([1, 2, 4]))
    assert math.isnan(cross_validation.mean([1.0, math.nan]))
    assert math.isnan(cross_validation.standard_deviation([1.0, math.nan, 2.0]))
    assert cross_validation.finite({"a": math.nan, "b": math.inf, "c": 0.5}) == {"a": None, "b": None, "c": 0.5}


def test_a_fold_that_ends_in_bad_numbers_does_not_count(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    # Point 1 is held out of the second fold, whose training it therefore cannot harm.
    result = engine_toy.run_folds(tmp_path / "run", {**SHORT, "poison": 1, "nan_policy": "stop"})
    assert [item.ended for item in result.folds] == ["bad numbers", "done", "bad numbers"]
    assert result.n == 1
    assert result.mean == result.folds[1].metrics
    assert math.isnan(result.standard_deviation["accuracy"])
    content = summary(tmp_path / "run")
    assert content["standard_deviation"] == {"accuracy": None}
    assert engine_toy.run_folds(
        tmp_path / "run", {**SHORT, "poison": 1, "nan_policy": "stop"}, resume=True
    ).folds == tuple(attrs.evolve(item, seconds=round(item.seconds, 2)) for item in result.folds)


# ----------------------------------------------------------------------------------------------------------------------
# Stopping and going on
# ----------------------------------------------------------------------------------------------------------------------


# Twenty-four updates a fold: the first, one in the middle of fold 2, and the first of fold 3.
@pytest.mark.parametrize(("method", "count"), [("_train_batch", 1), ("_train_batch", 25), ("_evaluate", 5)])
def test_stopped_and_resumed_is_as_never_stopped(
    tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch, method: str, count: int
) -> None:
    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_after(patch, count, method)
        with pytest.raises(SystemExit) as stopped:
            engine_toy.run_folds(out, dict(SHORT))
    assert stopped.value.code == 143
    finished = [item["folder"] for item in summary(out)["results"]]
    before = {name: snapshot(out / name) for name in finished}
    assert summary(out)["complete"] is False
    result = engine_toy.run_folds(out, dict(SHORT), resume=True)
    assert result.n == 3
    assert_same_folds(straight, out)
    # What was finished was not touched, let alone repeated.
    assert {name: snapshot(out / name) for name in finished} == before


def test_stopped_many_times(tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stops = 0
    while True:
        with monkeypatch.context() as patch:
            stop_after(patch, 9, "_train_batch")
            try:
                engine_toy.run_folds(tmp_path / "run", dict(SHORT), resume=True)
            except SystemExit:
                stops += 1
                continue
        break
    assert stops >= 4
    assert_same_folds(straight, tmp_path / "run")


def test_killed_without_warning_it_goes_on(tmp_path: Path, straight: Path) -> None:
    out = tmp_path / "run"
    process = start(out, {**SHORT, "pause": 0.004, "checkpoint_every": 2}, folds=3)
    wait_for_log(out / "fold-02", "epoch", process)
    process.kill()
    process.communicate()
    assert [item["fold"] for item in summary(out)["results"]] == [1]
    before = snapshot(out / "fold-01")
    # The pause changes no number, but it is a change: finished folds are looked at once more, and stay as they are.
    engine_toy.run_folds(out, {**SHORT, "checkpoint_every": 2}, resume=True, allow_changes=True)
    assert summary(out)["changes"] == [
        {
            "folds_finished_before": [1],
            "changes": ["data.train.options.pause: 0.004 -> null", "data.train.options.poison: -1 -> null"],
        }
    ]
    assert before.keys() <= snapshot(out / "fold-01").keys()
    for number in (1, 2, 3):
        assert_same_run(straight / f"fold-0{number}", out / f"fold-0{number}")


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_save_and_end(tmp_path: Path, straight: Path, number: int, status: int) -> None:
    out = tmp_path / "run"
    process = start(out, {**SHORT, "pause": 0.004}, folds=3)
    wait_for_log(out / "fold-02", "step", process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=600)
    # Python itself turns an uncaught KeyboardInterrupt into death by SIGINT, which shells report as 130.
    assert process.returncode in (status, -number if number == signal.SIGINT else status), errors
    saved = CheckpointFolder(out / "fold-02" / "checkpoints").load_last()
    assert saved is not None
    engine_toy.run_folds(out, {**SHORT, "pause": 0.0}, resume=True, allow_changes=True)
    for fold in (1, 2, 3):
        assert_same_run(straight / f"fold-0{fold}", out / f"fold-0{fold}")


def test_a_signal_between_two_folds_ends_it_too(
    tmp_path: Path, straight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, writes = cross_validation._CrossValidation._write, 0

    def write(self: Any) -> None:
        nonlocal writes
        real(self)
        writes += 1
        if writes == 2:  # after the first fold
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(cross_validation._CrossValidation, "_write", write)
        with pytest.raises(SystemExit) as stopped:
            engine_toy.run_folds(tmp_path / "run", dict(SHORT))
    assert stopped.value.code == 143
    assert [item["fold"] for item in summary(tmp_path / "run")["results"]] == [1]
    assert not (tmp_path / "run" / "fold-02").exists()
    engine_toy.run_folds(tmp_path / "run", dict(SHORT), resume=True)
    assert_same_folds(straight, tmp_path / "run")


def test_a_finished_one_resumes_to_the_same_numbers_and_writes_nothing(tmp_path: Path, straight: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(straight, out)
    before = snapshot(out)
    result = engine_toy.run_folds(out, dict(SHORT), resume=True)
    assert snapshot(out) == before
    assert result.n == 3
    assert dict(result.mean) == summary(straight)["mean"]


def test_resume_with_a_lost_summary_finds_what_the_folds_left(tmp_path: Path, straight: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(straight, out)
    (out / "cross_validation.json").unlink()
    result = engine_toy.run_folds(out, dict(SHORT), resume=True)
    assert result.n == 3
    assert_same_folds(straight, out)


def test_a_changed_recipe_is_refused_or_noted(tmp_path: Path, straight: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(straight, out)
    before = snapshot(out)
    with pytest.raises(OptionError, match=r"(?s)cross-validation.*began with:\s+epochs: 2 -> 3.*--allow-changes"):
        engine_toy.run_folds(out, {"epochs": 3}, resume=True)
    assert snapshot(out) == before
    engine_toy.run_folds(out, {**SHORT, "workers": 1}, resume=True)  # changes no number
    result = engine_toy.run_folds(out, {"epochs": 3}, resume=True, allow_changes=True)
    assert [item.epochs for item in result.folds] == [3, 3, 3]
    assert summary(out)["changes"] == [{"folds_finished_before": [1, 2, 3], "changes": ["epochs: 2 -> 3"]}]


def test_another_number_of_folds_is_another_cross_validation(tmp_path: Path, straight: Path) -> None:
    before = snapshot(straight)
    for folds in (2, 4):
        with pytest.raises(OptionError, match=rf"has 3 folds\. Received: {folds}"):
            engine_toy.run_folds(straight, dict(SHORT), folds, resume=True, allow_changes=True)
    assert snapshot(straight) == before


# ----------------------------------------------------------------------------------------------------------------------
# The folder
# ----------------------------------------------------------------------------------------------------------------------


def test_a_used_folder_is_refused_and_overwriting_removes_only_runs(tmp_path: Path, straight: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(straight, out)
    (out / "thesis.txt").write_text("irreplaceable")
    (out / "fold-03" / "notes.txt").write_text("mine")
    (out / "fold-07").mkdir()
    (out / "fold-07" / "paper.txt").write_text("folded")
    with pytest.raises(OptionError, match="not empty"):
        engine_toy.run_folds(out, {"epochs": 1})
    engine_toy.run_folds(out, {"epochs": 1}, 2, overwrite=True)
    assert summary(out)["folds"] == 2
    assert [path.name for path in sorted((out / "fold-03").iterdir())] == ["notes.txt"]
    assert (out / "thesis.txt").read_text() == "irreplaceable"
    assert (out / "fold-07" / "paper.txt").read_text() == "folded"
    assert log_of(out / "fold-02")[0]["event"] == "start"
    assert not list(out.rglob(".lock"))


def test_a_run_overwrites_a_cross_validation_and_the_other_way_round(tmp_path: Path, straight: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(straight, out)
    engine_toy.run(out, {"epochs": 1}, overwrite=True, compile=False)
    assert not [path for path in out.iterdir() if path.name.startswith(("fold", "cross"))]
    engine_toy.run_folds(out, {"epochs": 1}, overwrite=True)
    assert not (out / "weights").exists()
    assert not (out / "run.json").exists()
    assert sorted(path.name for path in out.iterdir()) == [
        "cross_validation.json",
        "fold-01",
        "fold-02",
        "fold-03",
        "recipe.json",
    ]


def test_a_single_run_with_folders_called_fold_keeps_them(tmp_path: Path, straight: Path) -> None:
    # Folds are ours only beside the file that says so: this is how somebody might order runs by hand.
    shutil.copytree(straight / "fold-01", tmp_path / "run" / "fold-01")
    engine_toy.run(tmp_path / "run", {"epochs": 1}, overwrite=True, compile=False)
    assert (tmp_path / "run" / "fold-01" / "weights" / "last.safetensors").exists()


def test_what_can_be_refused_is_refused_before_anything_is_touched(tmp_path: Path, straight: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(straight, out)
    before = snapshot(out)
    model = attrs.evolve(engine_toy.recipe().model, name="picky")  # takes other data
    with pytest.raises(OptionError, match="'picky' fails on the first sample"):
        engine_toy.run_folds(out, {**SHORT, "model": model}, overwrite=True)
    assert snapshot(out) == before
    with pytest.raises(OptionError, match="'picky' fails on the first sample"):
        engine_toy.run_folds(tmp_path / "new" / "run", {**SHORT, "model": model})
    assert not (tmp_path / "new").exists()


def test_a_fold_in_use_is_not_removed(tmp_path: Path, straight: Path) -> None:
    out = tmp_path / "run"
    shutil.copytree(straight, out)
    other = RunFolder(out).fold(2)
    other.open(resume=True, overwrite=False)
    before = snapshot(out)
    try:
        with pytest.raises(TrainingError, match=r"fold-02"):
            engine_toy.run_folds(out, {"epochs": 1}, overwrite=True)
    finally:
        assert snapshot(out) == before
        other.close()


def test_runs_and_cross_validations_do_not_resume_each_other(tmp_path: Path, straight: Path) -> None:
    with pytest.raises(OptionError, match=r"holds a cross-validation, not a single run.*fold-01"):
        engine_toy.run(straight, dict(SHORT), resume=True)
    engine_toy.run(tmp_path, dict(SHORT), compile=False)
    with pytest.raises(OptionError, match="holds a single run and no cross-validation"):
        engine_toy.run_folds(tmp_path, dict(SHORT), resume=True)


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        ({"results": 3}, DataError, "is not what a cross-validation writes.*remove it: --resume"),
        ({"results": [{"fold": 1}]}, DataError, "lacks 'metrics'"),
        ({"folds": "three"}, DataError, "is not what"),
        ({"folds": 2}, DataError, r"the folds \[1, 2, 3\] are not some of 2"),
        ({"format": 99}, OptionError, "format 99.*reads 1"),
    ],
)
def test_a_damaged_summary_is_named(
    tmp_path: Path, straight: Path, damage: dict[str, Any], error: type[Exception], message: str
) -> None:
    out = tmp_path / "run"
    shutil.copytree(straight, out)
    (out / "cross_validation.json").write_text(json.dumps({**summary(straight), **damage}))
    with pytest.raises(error, match=message):
        engine_toy.run_folds(out, dict(SHORT), resume=True)


@pytest.mark.parametrize("folds", [1, 0, -3, 2.0, True, "3"])
def test_fewer_than_two_folds_are_refused(folds: Any) -> None:
    with pytest.raises(OptionError, match=r"at least 2 folds\. Received"):
        cross_validate(engine_toy.recipe(), folds)


def test_a_task_without_folds_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_toy.ToyTask, "fold", classmethod(Task.fold.__func__))  # type: ignore[attr-defined]
    with pytest.raises(OptionError, match=r"task 'toy' have no folds.*Leave --folds out"):
        engine_toy.run_folds(tmp_path / "run", dict(SHORT))
    assert not (tmp_path / "run").exists()


def test_a_fold_without_held_out_data_is_the_plugins_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        engine_toy.ToyTask,
        "fold",
        classmethod(
            lambda cls, recipe, index, folds: attrs.evolve(recipe, data=attrs.evolve(recipe.data, validation=None))
        ),
    )
    with pytest.raises(OptionError, match="holds no data out of fold 1"):
        engine_toy.run_folds(tmp_path / "run", dict(SHORT))


# ----------------------------------------------------------------------------------------------------------------------
# The command
# ----------------------------------------------------------------------------------------------------------------------


def train(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with isolated_catalog({"toy": engine_toy.ToyPlugin()}):
        status = main(["train", *map(str, words)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_the_command_prints_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "_draw_curves", lambda self: None)
    out = tmp_path / "run"
    status, printed, said = train(capsys, "toy", "--folds", 2, "--epochs", 1, "--out", out, "--no-compile")
    assert status == 0
    lines = printed.splitlines()
    assert lines[0].split() == ["FOLD", "EPOCHS", "ACCURACY", "ENDED"]
    assert [line.split()[0] for line in lines[1:4]] == ["1", "2", "mean"]
    mean = summary(out)["mean"]["accuracy"]
    assert lines[3].split()[-1] == f"{mean:.4f}"
    assert "after its last epoch" in printed
    assert "the best epoch is not chosen" in printed
    assert "Fold 2 of 2" in said
    status, printed, _ = train(capsys, "--resume", "--out", out, "--json")
    assert status == 0
    answer = json.loads(printed)
    assert (answer["n"], answer["mean"], len(answer["folds"])) == (2, {"accuracy": mean}, 2)


def test_the_command_says_what_is_wrong(tmp_path: Path, straight: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, _, errors = train(capsys, "toy", "--folds", 1, "--out", tmp_path / "run")
    assert (status, "at least 2 folds. Received: 1" in errors) == (2, True)
    status, _, errors = train(capsys, "toy", "--epochs", 2, "--folds", 5, "--resume", "--out", straight)
    assert (status, "has 3 folds. Received: 5" in errors) == (2, True)


def test_patience_is_allowed_with_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "_draw_curves", lambda self: None)
    words = ["toy", "--folds", 2, "--epochs", 9, "--set", "patience=1", "--set", "learning_rate=1e-9", "--no-compile"]
    status, printed, said = train(capsys, *words, "--out", tmp_path / "run")
    assert status == 0
    assert "no gain" in printed
    assert "somewhat too good" in said

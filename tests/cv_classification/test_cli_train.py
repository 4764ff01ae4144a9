"""train, evaluate and predict as people type them, on pictures that the test paints."""

from __future__ import annotations

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import glueball
from glueball import backend
from glueball.cli import main
from glueball.engine import evaluation
from glueball.engine.trainer import Trainer, TrainingResult

COLORS = {"brick": (190, 70, 50), "grass": (60, 180, 60), "sky": (60, 120, 220)}
# A small network and small pictures: what is tested is the way, not the result.
SMALL = ["--model", "cifar_resnet20_v1", "--size", "16", "--batch-size", "8", "--workers", "0", "--quiet"]


def paint(root: Path, count: int = 8, classes: dict[str, tuple[int, int, int]] = COLORS) -> Path:
    random = np.random.default_rng(0)
    for name, color in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            shape = (int(random.integers(20, 40)), int(random.integers(20, 40)), 3)
            values = np.clip(np.array(color) + random.normal(0, 30, shape), 0, 255).astype(np.uint8)
            Image.fromarray(values).save(root / name / f"{index}.jpg")
    return root


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("data") / "pictures")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A run that was trained for two epochs."""
    out = tmp_path_factory.mktemp("runs") / "colors"
    assert main(["train", "image-folder", "--data", str(pictures), "--out", str(out), "--epochs", "2", *SMALL]) == 0
    return out


def failing(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    return capsys.readouterr().err


def test_train_leaves_everything(run: Path) -> None:
    for name in (
        "weights/best.safetensors",
        "weights/last.safetensors",
        "curves.png",
        "predictions.png",
        "recipe.json",
    ):
        assert (run / name).stat().st_size > 0
    description = json.loads((run / "run.json").read_text())
    assert description["classes"] == ["brick", "grass", "sky"]
    assert description["model"]["classes"] == 3
    remarks = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines() if '"remark"' in line]
    assert "18 pictures of 3 classes (brick, grass, sky)" in remarks[0]["text"]
    assert "20% of every class held out" in remarks[0]["text"]


def test_evaluate_on_the_runs_own_and_on_other_data(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["evaluate", str(run), "--json"]) == 0
    own = json.loads(capsys.readouterr().out)
    assert own["samples"] == 6
    assert own["measured"] == "the validation data"
    best = json.loads((run / "run.json").read_text())["best"]
    assert own["metrics"]["accuracy"] == pytest.approx(best["validation_accuracy"])
    # One class alone: labels still follow the run's classes.
    other = paint(tmp_path / "other", count=3, classes={"sky": COLORS["sky"]})
    assert main(["evaluate", str(run), "--data", str(other), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 3
    (other / "sky").rename(other / "sea")
    assert "sea" in failing(capsys, "evaluate", run, "--data", other)


def test_the_precision_is_what_is_asked_for(
    run: Path, pictures: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    selected = backend.current()
    used, make = [], type(selected).predictor
    monkeypatch.setattr(
        type(selected),
        "predictor",
        lambda *args, **options: used.append(options["precision"]) or make(*args, **options),
    )
    picture = pictures / "sky" / "0.jpg"
    for command in (["evaluate", run], ["predict", run, picture]):
        used.clear()
        assert main([*map(str, command), "--device", "cpu", "--precision", "float32"]) == 0
        assert used == ["float32"]
        for precision in ("bfloat16", "float16"):
            words = [*map(str, command), "--device", "cpu", "--precision", precision]
            reason = selected.supports_precision(precision, "cpu")
            if reason is None:
                assert main(words) == 0
                assert used[-1] == precision
            else:
                assert reason in failing(capsys, *words)


@pytest.fixture(scope="module")
def three_parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("parts") / "data"
    for part, count in (("train", 3), ("val", 2), ("test", 1)):
        paint(root / part, count)
    return root


def test_a_test_part_is_kept_for_evaluation(
    three_parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    assert main(["train", "image-folder", "--data", str(three_parts), "--out", out, "--epochs", "1", *SMALL]) == 0
    capsys.readouterr()
    for split, samples in ((None, "3 samples of the test"), ("validation", "6 samples of the validation")):
        assert main(["evaluate", out, *(["--split", split] if split else [])]) == 0
        assert capsys.readouterr().out.startswith(f"{samples} data:\n")


@pytest.mark.parametrize(
    ("parts", "split", "samples", "measured"),
    [
        (["val"], None, 6, "every picture of {data}/val"),
        (["test"], None, 3, "every picture of {data}/test"),
        (["train"], None, 9, "every picture of {data}/train"),
        (["val", "test"], None, 3, "the folder test of {data}"),
        (["train", "val"], None, 6, "the folder val of {data}"),
        (["train", "val", "test"], None, 3, "the folder test of {data}"),
        (["train", "val", "test"], "train", 9, "the folder train of {data}"),
        (["train", "val", "test"], "validation", 6, "the folder val of {data}"),
    ],
)
def test_evaluate_says_which_of_other_data_it_measured(
    run: Path,
    three_parts: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    parts: list[str],
    split: str | None,
    samples: int,
    measured: str,
) -> None:
    # Which pictures are measured shows without measuring them, and networks take long to compile.
    seen: list[int] = []
    monkeypatch.setattr(
        evaluation, "evaluate", lambda task, predict, loader, *rest, **options: seen.append(len(loader)) or {}
    )
    for part in parts:
        shutil.copytree(three_parts / part, tmp_path / "data" / part)
    words = ["evaluate", str(run), "--data", str(tmp_path / "data"), *(["--split", split] if split else [])]
    assert main([*words, "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["samples"], answer["measured"]) == (samples, measured.format(data=tmp_path / "data"))
    with tarfile.open(tmp_path / "data.tar", "w") as archive:
        archive.add(tmp_path / "data", arcname="data")
    words[words.index("--data") + 1] = str(tmp_path / "data.tar")
    assert main([*words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == samples
    assert seen == [-(-samples // 8)] * 2


def test_a_part_that_is_not_there_is_an_error(
    run: Path, three_parts: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(three_parts / "val", tmp_path / "data" / "val")
    message = failing(capsys, "evaluate", run, "--data", tmp_path / "data", "--split", "train")
    assert "has no part to train on" in message


def test_a_run_is_found_again_from_another_folder(
    run: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    shutil.copy(run / "weights" / "best.safetensors", tmp_path / "start.safetensors")
    shutil.copytree(pictures, tmp_path / "pictures")
    monkeypatch.chdir(tmp_path)
    words = ["--data", "pictures", "--pretrained", "start.safetensors", "--epochs", "1"]
    assert main(["train", "image-folder", *words, "--out", "run", *SMALL]) == 0
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["data"]["train"]["options"]["root"] == str(tmp_path / "pictures")
    assert recipe["model"]["pretrained"] == str(tmp_path / "start.safetensors")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["evaluate", str(out)]) == 0
    assert main(["train", "--resume", "--out", str(out), "--epochs", "2", "--allow-changes", "--quiet"]) == 0


def test_predict_on_files(run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [str(pictures / "sky" / "0.jpg"), str(pictures / "grass" / "1.jpg")]
    assert main(["predict", str(run), *files, "--top", "2", "--draw", str(tmp_path / "out.png"), "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["file"] for answer in answers] == files
    assert all(len(answer["predictions"]) == 2 for answer in answers)
    with Image.open(tmp_path / "out.png") as picture:
        assert picture.size[0] > 300
    assert main(["predict", str(run), files[0]]) == 0
    assert "sky" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("place", "message"),
    [
        (".", "a folder"),
        ("", "a folder"),
        ("folder", "a folder"),
        ("file/below/out.png", "file is a file"),
        ("out.gif", "another suffix"),
        ("out", "no suffix"),
        ("closed/out.png", "closed cannot be written"),
    ],
)
def test_places_for_drawings_are_checked_before_predicting(
    run: Path,
    pictures: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    place: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    (tmp_path / "closed").mkdir()
    # The superuser may write everywhere, so that modes of folders would not do here.
    access = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: "closed" not in str(path) and access(path, mode))
    words = ["predict", str(run), str(pictures / "sky" / "0.jpg"), "--draw", place]
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert message in captured.err


def test_drawings_follow_their_suffix(run: Path, pictures: Path, tmp_path: Path) -> None:
    assert (
        main(["predict", str(run), str(pictures / "sky" / "0.jpg"), "--draw", str(tmp_path / "new" / "out.jpg")]) == 0
    )
    with Image.open(tmp_path / "new" / "out.jpg") as picture:
        assert picture.format == "JPEG"


def test_class_names_in_any_alphabet_reach_any_terminal(
    run: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    named = tmp_path / "run"
    shutil.copytree(run, named)
    description = json.loads((named / "run.json").read_text())
    description["classes"] = ["кирпич", "трава", "небо"]
    (named / "run.json").write_text(json.dumps(description))
    content = io.BytesIO()
    # What PYTHONUTF8=0 PYTHONIOENCODING=ascii gives.
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(content, encoding="ascii"))
    assert main(["predict", str(named), str(pictures / "sky" / "0.jpg")]) == 0
    assert "небо".encode("ascii", "backslashreplace") in content.getvalue()


def test_predict_goes_on_after_a_damaged_file(
    run: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "cut.jpg").write_bytes((pictures / "sky" / "0.jpg").read_bytes()[:300])
    assert main(["predict", str(run), str(tmp_path / "cut.jpg"), str(pictures / "sky" / "1.jpg"), "--json"]) == 2
    captured = capsys.readouterr()
    assert "cut.jpg" in captured.err
    assert len(captured.out.splitlines()) == 1


def test_load_needs_nothing_but_the_folder(run: Path, pictures: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    shutil.copytree(run, moved)
    for name in ("recipe.json", "log.jsonl", "checkpoints"):
        path = moved / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with Image.open(pictures / "brick" / "0.jpg") as picture:
        image = np.asarray(picture)
    here, there = glueball.load(run), glueball.load(moved)
    assert here(image) == there(image)
    assert here.classes == ("brick", "grass", "sky")


def test_resume_needs_no_recipe(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    words = ["--data", str(pictures), "--out", str(out), *SMALL]
    assert main(["train", "image-folder", *words, "--epochs", "1"]) == 0
    assert "epochs: 1 -> 2" in failing(capsys, "train", "image-folder", *words, "--epochs", "2", "--resume")
    capsys.readouterr()
    assert main(["train", "--out", str(out), "--resume", "--epochs", "2", "--allow-changes", "--quiet", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["epochs"] == 2


def test_ready_made_parts_and_trained_weights(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = tmp_path / "data"
    paint(data / "train", 6, {**COLORS, "snow": (240, 240, 250)})
    paint(data / "val", 2, {**COLORS, "snow": (240, 240, 250)})
    out = tmp_path / "run"
    weights = run / "weights" / "best.safetensors"
    words = ["--data", str(data), "--out", str(out), "--epochs", "1", *SMALL, "--pretrained", str(weights)]
    assert main(["train", "image-folder", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ended"] == "done"
    recipe = json.loads((out / "recipe.json").read_text())
    assert recipe["learning_rate"] == 0.01
    # The weights have three classes, the data four: the head was replaced.
    assert json.loads((out / "run.json").read_text())["model"]["classes"] == 4
    assert main(["evaluate", str(out), "--data", str(data), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 8


# ----------------------------------------------------------------------------------------------------------------------
# What goes wrong
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["digit"], "digits"),
        ([], "Which recipe?"),
        (["image-folder"], "needs --data"),
        (["digits", "--model", "resnet18_v1c"], "resnet18_v1b"),
        (["digits", "--set", "learning_rte=1"], "Did you mean learning_rate"),
        (["digits", "--set", "epochs"], "key=value"),
        (["digits", "--epochs", "many"], "epochs must be a whole number"),
        (["digits", "--device", "tpu"], "Available: "),
        (["digits", "--precision", "float8"], "float8"),
        (["digits", "--set", "model.options.depth=3"], "depth"),
        (["digits", "--set", "model.classes=5"], "The model has 5 classes, the training data have 10"),
        (["digits", "--set", "data.train.name=digitz"], "digits"),
        (["digits", "--pretrained", "nowhere.params"], "nowhere.params"),
    ],
)
def test_mistakes_in_the_command_are_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    assert message in failing(capsys, "train", *words, "--out", tmp_path / "run", "--quiet")


def test_unknown_flags_are_refused_and_help_shows_the_recipes_own(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["train", "digits", "--data", "x"])
    assert error.value.code == 2
    assert "--data" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "image-folder", "--help"])
    shown = capsys.readouterr().out
    assert "options of the recipe image-folder" in shown
    assert "--holdout" in shown


def test_mistyped_options_of_recipes_are_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["train", "image-folder", "--dta", "x"])
    errors = capsys.readouterr().err
    assert errors.startswith("usage: glueball train")
    assert "Did you mean --data?" in errors


def test_an_empty_name_of_the_run_folder_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--out names the folder" in failing(capsys, "train", "digits", "--out", "")


@pytest.mark.parametrize(("ended", "status"), [("done", 0), ("no gain", 0), ("bad numbers", 1)])
def test_the_status_tells_whether_training_ended_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], ended: str, status: int
) -> None:
    result = TrainingResult(metrics={}, best_epoch=None, epochs=1, seconds=1.0, out=tmp_path, ended=ended)
    monkeypatch.setattr(Trainer, "fit", lambda self: result)
    assert main(["train", "digits", "--out", str(tmp_path / "run")]) == status
    assert "Trained 1 epoch:" in capsys.readouterr().out


def test_data_that_cannot_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "image-folder", "--out", tmp_path / "run", "--overwrite", *SMALL]
    assert "does not exist" in failing(capsys, *words, "--data", tmp_path / "missing")
    (tmp_path / "none").mkdir()
    assert "no pictures" in failing(capsys, *words, "--data", tmp_path / "none")
    data = paint(tmp_path / "data", 2)
    (data / "void").mkdir()
    assert "void" in failing(capsys, *words, "--data", data)


@pytest.mark.parametrize("content", [b"", b"not a picture", None], ids=["empty", "text", "cut"])
def test_a_damaged_picture_is_named_or_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    data = paint(tmp_path / "data", 6)
    whole = (data / "sky" / "0.jpg").read_bytes()
    for split in ("train", "val"):
        shutil.copytree(data, tmp_path / "parts" / split)
    bad = tmp_path / "parts" / "train" / "sky" / "3.jpg"
    bad.write_bytes(whole[: len(whole) // 3] if content is None else content)
    words = ["train", "image-folder", "--out", tmp_path / "run", "--overwrite", *SMALL, "--epochs", "1"]
    words += ["--data", tmp_path / "parts"]
    assert "sky/3.jpg" in failing(capsys, *words)
    assert main([str(word) for word in [*words, "--set", "on_bad_sample=skip"]]) == 0


def test_folders_that_are_no_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is not the folder of a run" in failing(capsys, "predict", tmp_path, "x.jpg")
    assert "is not the folder of a run" in failing(capsys, "evaluate", tmp_path)
    (tmp_path / "run.json").write_text("{")
    assert "cannot be read" in failing(capsys, "predict", tmp_path, "x.jpg")
    (tmp_path / "run.json").write_text('{"format": 99}')
    assert "format 99" in failing(capsys, "predict", tmp_path, "x.jpg")


def test_ctrl_c_saves_and_resume_goes_on(tmp_path: Path, pictures: Path) -> None:
    out = tmp_path / "run"
    words = ["train", "image-folder", "--data", str(pictures), "--out", str(out), *SMALL[:-1], "--epochs", "40"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "glueball", *words], env=environment, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 100
    while not (out / "weights").is_dir() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert "--resume goes on" in errors
    saved = json.loads(sorted((out / "checkpoints").glob("0*/state.json"))[-1].read_text())["state"]["progress"]
    epochs = str(saved["epoch"] + 1)
    assert main(["train", "--out", str(out), "--resume", "--allow-changes", "--quiet", "--epochs", epochs]) == 0

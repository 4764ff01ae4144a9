"""train, evaluate and predict as people type them, on texts of their own."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import own_texts
import pytest

import glueball
from glueball import backend
from glueball.cli import main
from glueball.errors import OptionError

# A small network: what is tested is the way, not the result.
SMALL = [
    *("--epochs", "12", "--batch-size", "8", "--precision", "float32", "--device", "cpu"),
    *("--set", "model.options.num_filters=6", "--set", "learning_rate=0.03"),
]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    own_texts.write(folder / "train.tsv", 90, 0)
    own_texts.write(folder / "val.tsv", 20, 1)
    own_texts.write(folder / "test.tsv", 25, 2)
    words = ["cat", "horse", "owl", "red", "green", "two", "nine", "the", "of"]
    own_texts.write_vectors(folder / "vectors.txt", words)
    return folder


@pytest.fixture(scope="module")
def run(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one command."""
    out = tmp_path_factory.mktemp("runs") / "own"
    words = ["train", "text-classification", "--data", str(files / "train.tsv"), "--val", str(files / "val.tsv")]
    words += ["--model", "textcnn", "--embedding", str(files / "vectors.txt"), "--out", str(out), "--quiet"]
    assert main([*words, *SMALL]) == 0
    return out


def failing(capsys: pytest.CaptureFixture[str], *words: Any) -> str:
    capsys.readouterr()
    assert main([str(word) for word in words]) == 2
    return capsys.readouterr().err


def test_one_command_trains_on_own_texts(run: Path) -> None:
    assert {"weights", "run.json", "recipe.json", "predictions.html", "log.jsonl"} <= {
        item.name for item in run.iterdir()
    }
    description = json.loads((run / "run.json").read_text())
    assert description["classes"] == ["animal", "colour", "number"]
    assert description["text"]["tokenizer"]["name"] == "basic"
    assert description["model"]["options"]["mode"] == "non-static"
    assert description["model"]["options"]["embed_size"] == 8


def test_without_held_out_texts_some_are_held_out(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "train",
        "text-classification",
        "--data",
        files / "train.tsv",
        "--out",
        tmp_path / "run",
        "--holdout",
        "0.2",
    ]
    capsys.readouterr()
    assert main([str(word) for word in [*words, *SMALL, "--epochs", "1"]]) == 0
    said = capsys.readouterr().out
    remarks = [json.loads(line).get("text", "") for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert any("validation data: 18 texts" in text for text in remarks)
    assert "predictions.html" in said
    assert "glueball predict" in said
    assert '"some text"' in said


def test_evaluate_measures_a_file(run: Path, files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["evaluate", str(run), "--data", str(files / "test.tsv"), "--device", "cpu", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["samples"] == 25
    assert result["metrics"]["accuracy"] > 0.8
    assert "test.tsv" in result["measured"]
    assert main(["evaluate", str(run), "--device", "cpu"]) == 0
    assert "20 samples" in capsys.readouterr().out
    assert "missing.tsv" in failing(capsys, "evaluate", run, "--data", files / "missing.tsv", "--device", "cpu")


def test_predict_takes_texts_and_lines(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    capsys.readouterr()
    assert main(["predict", str(run), "a very old owl", "", "--top", "1", "--device", "cpu", "--json"]) == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert first["predictions"][0]["label"] == "animal"
    assert 0 < second["predictions"][0]["probability"] <= 1
    lines = io.TextIOWrapper(io.BytesIO(b"nine of the old\na red one\n"), encoding="utf-8")
    monkeypatch.setattr("sys.stdin", lines)
    assert main(["predict", str(run), "-", "--top", "1", "--device", "cpu", "--json"]) == 0
    labels = [json.loads(line)["predictions"][0]["label"] for line in capsys.readouterr().out.splitlines()]
    assert labels == ["number", "colour"]


@pytest.mark.parametrize("precision", ["auto", "float32", "bfloat16", "float16"])
def test_the_precision_is_what_is_asked_for(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    selected = backend.current()
    used, make = [], type(selected).predictor
    monkeypatch.setattr(
        type(selected),
        "predictor",
        lambda *args, **options: used.append(options["precision"]) or make(*args, **options),
    )
    commands = (["evaluate", run, "--json"], ["predict", run, "nine of the old", "--json", "--top", 1])
    chosen = [*("--device", "cpu"), "--precision", precision]
    reason = None if precision == "auto" else selected.supports_precision(precision, "cpu")
    if reason is not None:
        for command in commands:
            assert reason in failing(capsys, *command, *chosen)
        assert not used
        return
    capsys.readouterr()
    for command in commands:
        assert main([str(word) for word in (*command, *chosen)]) == 0
    fastest = "bfloat16" if selected.supports_precision("bfloat16", "cpu") is None else "float32"
    assert used == [fastest if precision == "auto" else precision] * 2
    measured, predicted = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert measured["metrics"]["accuracy"] > 0.7
    assert predicted["predictions"][0]["label"] == "number"


def test_the_precision_is_that_of_the_run_and_the_fastest_by_default(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    selected = backend.current()
    used, make = [], type(selected).predictor
    monkeypatch.setattr(
        type(selected),
        "predictor",
        lambda *args, **options: used.append(options["precision"]) or make(*args, **options),
    )
    assert main(["evaluate", str(run), "--device", "cpu"]) == 0
    assert main(["predict", str(run), "a cat", "--device", "cpu"]) == 0
    fastest = "bfloat16" if selected.supports_precision("bfloat16", "cpu") is None else "float32"
    assert used == ["float32", fastest]
    with pytest.raises(OptionError, match=r"one of auto, float32, bfloat16, float16\. Received: 'half'"):
        glueball.load(run, precision="half", device="cpu")


def test_folds(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "text-classification", "--data", str(files / "train.tsv"), "--folds", "2", "--json", "--quiet"]
    capsys.readouterr()
    assert main([*words, "--out", str(tmp_path / "folds"), *SMALL, "--epochs", "1"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["n"] == 2
    assert set(result["mean"]) == {"accuracy", "f1_macro", "loss"}


def test_what_is_wrong_is_said(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["train", "text-classification", "--out", tmp_path / "run"]
    assert "--data" in failing(capsys, *words)
    assert "nowhere.tsv" in failing(capsys, *words, "--data", files / "nowhere.tsv")
    said = failing(capsys, *words, "--data", files / "train.tsv", "--embedding", files / "nowhere.txt")
    assert "nowhere.txt" in said
    (tmp_path / "one.tsv").write_text("a text\tsame\nanother text\tsame\n")
    assert "a single class" in failing(capsys, *words, "--data", tmp_path / "one.tsv")
    assert "No option" in failing(capsys, *words, "--data", files / "train.tsv", "--set", "options.tokens=kim")
    assert not (tmp_path / "run").exists()

"""What people get wrong, through the command line: one sentence, status 2, and no run folder left behind."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import own_texts
import pytest

import glueball
from glueball.cli import _warning, main
from glueball.testing import isolated_catalog

WORDS = ["cat", "horse", "owl", "red", "green", "two", "nine", "the", "of"]
QUICK = [*("--epochs", "1", "--batch-size", "16", "--precision", "float32", "--device", "cpu", "--quiet")]
QUICK += ["--set", "model.options.num_filters=3"]


@pytest.fixture(scope="module", autouse=True)
def _without_curves() -> Any:
    """matplotlib takes longer than all of these trainings."""
    from glueball.engine.trainer import Trainer

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_draw_curves", lambda self: None)
        yield


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    own_texts.write(folder / "train.tsv", 48, 0)
    own_texts.write(folder / "val.tsv", 12, 1)
    own_texts.write_vectors(folder / "vectors.txt", WORDS)
    return folder


@pytest.fixture(scope="module")
def run(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "own"
    assert main(train(files, out, "--embedding", files / "vectors.txt")) == 0
    return out


def train(files: Path, out: Path, *more: Any, data: Path | None = None) -> list[str]:
    """The words of a training; more of them may replace any."""
    words: list[Any] = ["train", "text-classification", "--data", data or files / "train.tsv", "--out", out]
    if "--holdout" not in more and "--val" not in more:
        words += ["--val", files / "val.tsv"]
    filters = QUICK if "--model" not in more else QUICK[:-2]
    return [str(word) for word in (*words, *filters, *more)]


def refused(capsys: pytest.CaptureFixture[str], words: list[str], *said: str) -> str:
    """The sentence of a command that could not be done."""
    capsys.readouterr()
    assert main(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("glueball: ")
    assert "Traceback" not in error
    for part in said:
        assert part in error
    return error


# ----------------------------------------------------------------------------------------------------------------------
# Word vectors
# ----------------------------------------------------------------------------------------------------------------------

GOOD = "".join(
    f"{word} {' '.join(str(0.1 * (place + value)) for value in range(4))}\n" for place, word in enumerate(WORDS)
)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "Received: nothing"),
        (b"\n\n", "Received: nothing"),
        (b"9 5\n" + GOOD.encode(), "0 can be read as a token and 5 numbers"),
        (b"uno 1 2 3 4\ndos 1 2 3 4\n", "a vector for none of the"),
        (b"PK\x03\x04 no archive", "cut short or damaged"),
    ],
    ids=["empty", "blank lines", "wrong dimension in the header", "another language", "damaged archive"],
)
def test_vectors_that_cannot_be_used(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, said: str
) -> None:
    (tmp_path / "vectors.txt").write_bytes(content)
    refused(capsys, train(files, tmp_path / "run", "--embedding", tmp_path / "vectors.txt"), said)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["nowhere.txt", "."])
def test_vectors_that_are_no_file(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    refused(capsys, train(files, tmp_path / "run", "--embedding", tmp_path / name), "cannot be read", str(tmp_path))
    assert not (tmp_path / "run").exists()


@pytest.mark.filterwarnings("always::UserWarning")
@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"short 1 2\n", "another number of values (the first: line 10, 'short')"),
        (b"long 1 2 3 4 5\n", "another number of values (the first: line 10, 'long')"),
        (b"cat 9 9 9 9\n", "whose token came before (the first: line 10, 'cat')"),
        (b"\xff\xfe 1 2 3 4\n", "whose token is not in the encoding (the first: line 10"),
        (b"word 1 nan 2 3\n", "not finite numbers (the first: line 10, 'word')"),
    ],
    ids=["short line", "long line", "duplicate", "no UTF-8", "not finite"],
)
def test_lines_of_vectors_that_are_skipped_are_told_in_a_sentence(
    files: Path, tmp_path: Path, line: bytes, said: str, recwarn: pytest.WarningsRecorder
) -> None:
    (tmp_path / "vectors.txt").write_bytes(GOOD.encode() + line)
    words = train(files, tmp_path / "run", "--embedding", tmp_path / "vectors.txt")
    shown = warnings.formatwarning
    assert main(words) == 0
    assert warnings.formatwarning is shown
    found = [item for item in recwarn if "were skipped" in str(item.message)]
    assert len(found) == 1
    text = _warning(found[0].message, found[0].category, found[0].filename, found[0].lineno)
    assert text.startswith(f"glueball: warning: {tmp_path / 'vectors.txt'}: 1 of 10 lines were skipped: 1 ")
    assert said in text


# ----------------------------------------------------------------------------------------------------------------------
# Texts and labels
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"text\tlabel\n", "holds a header and nothing below it"),
        (b"text\tlabel\na b\tx\nc d\tx\n", "a single class: x"),
        (b"a b c\nd e f\n", "has one column"),
        (b"text\tlabel\na \xff\tx\nb\ty\n", "line 2: the byte 0xff"),
        (b"text\tlabel\na\0b\tx\nb\ty\n", "line 2: a NUL byte"),
        (b"text\tlabel\na b\tx\nc d\n", "line 3: expected 2 columns"),
        (b"text\tlabel\na b\tx\nc d\t\n", "line 3: no label"),
        (b"text\tlabel\n\tx\n\ty\n", "hold no words"),
        (b"text\tlabel\na b\tx\nc d\tX\n", "look the same but for capitals"),
    ],
)
def test_texts_that_cannot_be_trained_on(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, said: str
) -> None:
    data = tmp_path / "own.tsv"
    data.write_bytes(content)
    (tmp_path / "val.tsv").write_text("text\tlabel\na\tx\nb\ty\n")
    words = train(files, tmp_path / "run", "--val", tmp_path / "val.tsv", data=data)
    refused(capsys, words, said, str(data))
    assert not (tmp_path / "run").exists()


def test_labels_of_the_other_parts(files: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "other.tsv"
    other.write_text("text\tlabel\na cat\tanimal\na fern\tplant\n")
    refused(capsys, train(files, tmp_path / "run", "--val", other), "'plant' (line 3)", "animal, colour, number")
    assert not (tmp_path / "run").exists()
    refused(capsys, ["evaluate", str(run), "--data", str(other), "--device", "cpu"], "'plant' (line 3)")
    # A class that a file lacks is no fault: labels mean what they mean in the training texts.
    other.write_text("text\tlabel\na red\tcolour\n")
    capsys.readouterr()
    assert main(["evaluate", str(run), "--data", str(other), "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 1


def test_a_class_with_one_text_and_a_very_long_text_are_trained_on(files: Path, tmp_path: Path) -> None:
    data = tmp_path / "own.tsv"
    data.write_text(f"text\tlabel\n{'w ' * 300_000}\tx\n{'w' * 300_000}\ty\n" + "a b\tx\nc d\ty\n" * 5 + "e\tz\n")
    assert main(train(files, tmp_path / "run", "--holdout", "0.2", data=data)) == 0
    assert json.loads((tmp_path / "run" / "run.json").read_text())["classes"] == ["x", "y", "z"]


# ----------------------------------------------------------------------------------------------------------------------
# Options
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--tokenizer", "kimm"], "Did you mean 'kim'"),
        (["--tokenizer", "sentencepiece"], "--tokenizer-model FILE.model"),
        (["--tokenizer-model", "x.model"], "--tokenizer sentencepiece"),
        (["--tokenizer", "sentencepiece", "--tokenizer-model", "nowhere.model"], "nowhere.model cannot be used"),
        (["--set", "options.tokenizer.name=kim"], "options.tokenizer holds a single value"),
        (["--model", "textcn"], "Did you mean 'textcnn'"),
        (["--model", "fasttext_classifier", "--mode", "static"], "--mode belongs to textcnn"),
        (["--mode", "static"], "there are none"),
        (["--mode", "still"], "rand, static, non-static, multichannel"),
        (["--pretrained"], "no official weights for textcnn"),
        (["--holdout", "0.1", "--val", "val.tsv"], "--val and --holdout exclude each other"),
        (["--holdout", "2"], "above 0 and below 1"),
        (["--set", "model.options.vocab_size=7"], "Leave it out"),
        (["--set", "model.classes=2"], "the training data have 3"),
        (["--text-column", "body"], "'body' is not there"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_options_that_cannot_be(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    refused(capsys, train(files, tmp_path / "run", *words), said)
    assert not (tmp_path / "run").exists()


def test_a_model_of_pictures_is_named_as_one(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("glueball_cv_classification")
    words = train(files, tmp_path / "run", "--model", "resnet18_v1b")
    refused(capsys, words, "'resnet18_v1b' is made for image_classification", "textcnn")
    assert not (tmp_path / "run").exists()


def test_sentencepiece_from_the_command_line(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    stream = io.BytesIO()
    sentences = iter([text for text, _ in own_texts.lines(200, 5)])
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=sentences, model_writer=stream, vocab_size=50, hard_vocab_limit=False, minloglevel=2
    )
    model = tmp_path / "own.model"
    model.write_bytes(stream.getvalue())
    monkeypatch.chdir(tmp_path)
    words = train(files, tmp_path / "run", "--tokenizer", "sentencepiece", "--tokenizer-model", "own.model")
    assert main(words) == 0
    # The run carries the model.
    model.unlink()
    capsys.readouterr()
    assert main(["predict", str(tmp_path / "run"), "a cat", "--device", "cpu", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["predictions"]) == 3
    model.write_bytes(b"no model")
    refused(capsys, train(files, tmp_path / "next", *words[-4:]), "own.model", "no SentencePiece model")
    assert not (tmp_path / "next").exists()


# ----------------------------------------------------------------------------------------------------------------------
# A run that has been changed
# ----------------------------------------------------------------------------------------------------------------------


def _add_token(run: dict[str, Any]) -> None:
    run["text"]["vocabulary"]["tokens"].append("another")


def _add_token_everywhere(run: dict[str, Any]) -> None:
    _add_token(run)
    _hash(run)
    run["model"]["options"]["vocab_size"] += 1


def _swap_tokens(run: dict[str, Any]) -> None:
    tokens = run["text"]["vocabulary"]["tokens"]
    tokens[3], tokens[4] = tokens[4], tokens[3]


def _repeat_token(run: dict[str, Any]) -> None:
    tokens = run["text"]["vocabulary"]["tokens"]
    tokens[3] = tokens[4]
    _hash(run)


def _hash(run: dict[str, Any]) -> None:
    kept = run["text"]["vocabulary"]
    kept["sha256"] = hashlib.sha256(json.dumps(kept["tokens"]).encode()).hexdigest()


def _set(*path: str, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(run: dict[str, Any]) -> None:
        for name in path[:-1]:
            run = run[name]
        run[path[-1]] = to

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_add_token, "The vocabulary of the run"),
        (_swap_tokens, "is not the one that it was trained with"),
        (_repeat_token, "twice"),
        (_set("text", "vocabulary", "tokens", to=5), "must be a list of texts"),
        (_set("text", "max_length", to="long"), "'max_length' must be null or a whole number"),
        (_set("text", "lower", to="yes"), "'lower' must be true or false"),
        (_set("text", "ngrams", to=3), "'buckets' must be"),
        (_set("text", "ngrams", to=True), "'ngrams' must be"),
        (_set("text", "tokenizer", to={"name": "nosuch"}), "no tokeniser 'nosuch'"),
        (_set("length_keys", to="x"), "'length_keys' must be"),
        (_set("length_keys", to=[-3]), "'length_keys' must be"),
        (_set("classes", to="abc"), "'classes' must be"),
        (_set("classes", to=["a", "a", "b"]), "must be different"),
        (_set("classes", to=["a", "b", "c", "d"]), "it names 4 classes (a, b, c, d), and its network has 3"),
        (_set("text", to={}), "it lacks"),
    ],
)
def test_a_changed_run_is_refused(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: Callable[[dict[str, Any]], None], said: str
) -> None:
    damaged = changed(run, tmp_path, change)
    for command in (["predict", str(damaged), "a cat"], ["evaluate", str(damaged)]):
        refused(capsys, [*command, "--device", "cpu"], said)


def test_a_vocabulary_that_does_not_fit_the_weights_is_not_taken_for_classes(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = changed(run, tmp_path, _add_token_everywhere)
    error = refused(capsys, ["predict", str(damaged), "a cat", "--device", "cpu"], "embedding.weight", "Cure:")
    assert "classes" not in error


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ("cross_stitch", "is of the task 'cross_stitch', as its run.json says. No plugin offers a task named"),
        ("text_classificatoin", "Did you mean 'text_classification'"),
        ("image_classification", "'preprocessing'"),
    ],
)
def test_a_run_of_another_task_is_refused(
    run: Path, files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], task: str, said: str
) -> None:
    damaged = changed(run, tmp_path, _set("task", to=task))
    if task == "image_classification" and task not in glueball.list_tasks():
        said = "No plugin offers a task named"
    commands = [
        ["predict", damaged, "a cat"],
        ["evaluate", damaged],
        ["evaluate", damaged, "--data", files / "val.tsv"],
    ]
    for words in commands:
        refused(capsys, [*map(str, words), "--device", "cpu"], said, task)
    # The same where the recipe agrees.
    recipe = json.loads((damaged / "recipe.json").read_text())
    (damaged / "recipe.json").write_text(json.dumps({**recipe, "task": task}))
    for words in commands:
        error = refused(capsys, [*map(str, words), "--device", "cpu"], said, task)
    if "preprocessing" in said:
        assert "Its model 'textcnn' is made for text_classification" in error


def test_a_recipe_of_another_task_is_refused(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = changed(run, tmp_path, lambda description: None)
    recipe = json.loads((damaged / "recipe.json").read_text())
    (damaged / "recipe.json").write_text(json.dumps({**recipe, "task": "image_classification"}))
    refused(capsys, ["evaluate", str(damaged)], "one was changed", "'text_classification' and 'image_classification'")


def test_a_run_of_a_plugin_that_is_left_out_is_refused(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with isolated_catalog():
        for words in (["predict", str(run), "a cat"], ["evaluate", str(run)]):
            refused(capsys, words, "No plugin offers a task named 'text_classification'", "Install the plugin")


def changed(run: Path, folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the run with another run.json."""
    copy = folder / "changed"
    shutil.copytree(run, copy)
    description = json.loads((copy / "run.json").read_text())
    change(description)
    (copy / "run.json").write_text(json.dumps(description))
    return copy


# ----------------------------------------------------------------------------------------------------------------------
# Texts to predict on
# ----------------------------------------------------------------------------------------------------------------------


def test_texts_of_nothing_known_get_the_answer_of_nothing_known(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = b"\n  \nzzz qqq\na cat \xff\na red one " + b"old " * 50_000
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(lines), encoding="utf-8"))
    capsys.readouterr()
    assert main(["predict", str(run), "--device", "cpu", "--json", "--top", "9"]) == 2
    captured = capsys.readouterr()
    answers = [json.loads(line) for line in captured.out.splitlines()]
    assert "line 4 of standard input" in captured.err
    assert [("error" in answer) for answer in answers] == [False, False, False, True, False]
    assert answers[0]["predictions"] == answers[1]["predictions"]
    for answer in (answers[0], answers[2], answers[4]):
        assert sum(item["probability"] for item in answer["predictions"]) == pytest.approx(1)

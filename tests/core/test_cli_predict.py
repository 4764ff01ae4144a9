"""``glueball predict`` on texts: from the command line and from standard input, whole or in drips, good or damaged."""

from __future__ import annotations

import importlib
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import engine_toy
import pytest

from glueball.cli import main
from glueball.testing import isolated_catalog


@pytest.fixture(scope="module")
def reading(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that predicts on texts."""
    out = tmp_path_factory.mktemp("runs") / "reading"
    engine_toy.run(out, {"epochs": 1, "task": "toy_reading"}, compile=False)
    return out


@pytest.fixture(scope="module")
def pointing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that predicts on files, as tasks do that say nothing."""
    out = tmp_path_factory.mktemp("runs") / "pointing"
    engine_toy.run(out, {"epochs": 1}, compile=False)
    return out


@pytest.fixture(autouse=True)
def toys() -> Iterator[None]:
    engine_toy.Reader.batches.clear()
    with isolated_catalog({"toy": engine_toy.ToyPlugin()}):
        yield


class Drip(io.RawIOBase):
    """A stream whose every read gives the next of some pieces, as a pipe does; it notes when they were asked for."""

    def __init__(self, pieces: list[bytes], asked: Any = None) -> None:
        self._pieces, self._asked = list(pieces), asked

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._asked is not None:
            self._asked()
        piece = self._pieces.pop(0) if self._pieces else b""
        buffer[: len(piece)] = piece
        return len(piece)


def feed(monkeypatch: pytest.MonkeyPatch, *pieces: bytes, asked: Any = None) -> None:
    stream = io.TextIOWrapper(io.BufferedReader(Drip(list(pieces), asked)), encoding="ascii")
    monkeypatch.setattr(sys, "stdin", stream)


def predict(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    capsys.readouterr()
    status = main(["predict", *map(str, words)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def texts(printed: str) -> list[Any]:
    # Not splitlines: JSON may hold what else ends a line.
    return [json.loads(line)["text"] for line in printed.split("\n")[:-1]]


# ----------------------------------------------------------------------------------------------------------------------
# On the command line
# ----------------------------------------------------------------------------------------------------------------------


def test_texts_of_the_command_line(reading: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, printed, _ = predict(capsys, reading, "a fine film", "schön")
    assert status == 0
    assert printed == "a fine film\n  letters   11\n  words     3\nschön\n  letters   5\n  words     1\n"
    assert engine_toy.Reader.batches == [2]
    status, printed, _ = predict(capsys, reading, "a fine film", "--top", 1, "--json")
    assert json.loads(printed) == {"text": "a fine film", "predictions": [{"label": "letters", "number": 11}]}


def test_an_empty_text_is_a_text(reading: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, printed, _ = predict(capsys, reading, "", "--json")
    assert status == 0
    assert json.loads(printed)["predictions"][0] == {"label": "letters", "number": 0}


def test_one_refused_text_does_not_hide_the_others(reading: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, printed, errors = predict(capsys, reading, "good", "bad!", "fine", "--json")
    assert status == 2
    assert texts(printed) == ["good", "fine"]
    assert errors == "glueball: text 2 of the command line: a text must not shout.\n"


def test_bytes_of_another_encoding_are_named(reading: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, printed, errors = predict(capsys, reading, "good", os.fsdecode(b"sch\xf6n"), "--json")
    assert status == 2
    assert texts(printed) == ["good"]
    assert "text 2 of the command line: it is not in this system's encoding" in errors


def test_a_file_name_is_a_text_and_says_so(reading: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "reviews.txt").write_text("one\ntwo\n")
    status, printed, errors = predict(capsys, reading, tmp_path / "reviews.txt", "--json")
    assert status == 0
    assert texts(printed) == [str(tmp_path / "reviews.txt")]
    assert (
        f"is taken as a text, though a file has that name. To predict on its lines: glueball predict {reading} - <"
        in (errors)
    )


# ----------------------------------------------------------------------------------------------------------------------
# From standard input
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["-"]])
def test_lines_of_standard_input(
    words: list[str], reading: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    feed(monkeypatch, "a fine film\nschön\n".encode())
    status, printed, errors = predict(capsys, reading, *words)
    assert (status, errors) == (0, "")
    # One line each, for programs that pair them by their numbers.
    assert printed == "letters 11\twords 3\nletters 5\twords 1\n"


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"", []),
        (b"\n", [""]),
        (b"one", ["one"]),
        (b"one\n", ["one"]),
        (b"one\ntwo", ["one", "two"]),
        (b"one\r\n\r\ntwo\r\n", ["one", "", "two"]),
        (b"\xef\xbb\xbfone\ntwo\n", ["one", "two"]),
        (b"a\n\xef\xbb\xbfone\n", ["a", "\ufeffone"]),
        ("a\u2028b\x0bc\x85d\n".encode(), ["a\u2028b\x0bc\x85d"]),
        ("日本語\n".encode(), ["日本語"]),
    ],
)
def test_what_a_line_is_however_it_is_cut_into_pieces(
    content: bytes,
    lines: list[str],
    reading: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for pieces in ([content], [content[at : at + 1] for at in range(len(content))]):
        feed(monkeypatch, *pieces)
        status, printed, _ = predict(capsys, reading, "--json")
        assert status == 0
        assert texts(printed) == lines


def test_what_was_read_is_answered_before_more_is_waited_for(
    reading: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    printed: list[str] = []
    feed(monkeypatch, b"one\ntw", b"o\nthree\n", asked=lambda: printed.append(capsys.readouterr().out))
    assert main(["predict", str(reading), "-", "--top", "1"]) == 0
    assert printed[1:] == ["letters 3\n", "letters 3\nletters 5\n"]


def test_many_lines_go_in_batches(
    reading: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"line {number}" for number in range(150)]
    feed(monkeypatch, "\n".join(lines).encode())
    status, printed, _ = predict(capsys, reading, "--json")
    assert status == 0
    assert texts(printed) == lines
    assert engine_toy.Reader.batches == [64, 64, 21, 1]  # the last line has no end, and might have gone on


def test_damaged_and_refused_lines_are_named_and_keep_their_place(
    reading: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    content = b"good\nsch\xf6n\nbad!\nfine\n"
    feed(monkeypatch, content)
    status, printed, errors = predict(capsys, reading, "--top", 1)
    assert status == 2
    assert printed == "letters 4\n\n\nletters 4\n"
    assert errors.splitlines() == [
        "glueball: line 2 of standard input: it is not UTF-8 (byte 0xf6 at position 4). Convert the input first, for "
        "instance with iconv -f latin1 -t utf-8.",
        "glueball: line 3 of standard input: a text must not shout.",
    ]
    feed(monkeypatch, content)
    status, printed, _ = predict(capsys, reading, "--top", 1, "--json")
    answers = [json.loads(line) for line in printed.splitlines()]
    assert status == 2
    assert [answer["text"] for answer in answers] == ["good", None, "bad!", "fine"]
    assert [sorted(answer) for answer in answers] == [
        ["predictions", "text"],
        *2 * [["error", "text"]],
        sorted(answers[0]),
    ]
    assert answers[2]["error"] == "line 3 of standard input: a text must not shout."


# ----------------------------------------------------------------------------------------------------------------------
# What cannot be
# ----------------------------------------------------------------------------------------------------------------------


def test_mistakes_are_said_before_anything_is_loaded(
    reading: Path,
    pointing: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    # The module: the package has a function of its name.
    monkeypatch.setattr(importlib.import_module("glueball.engine.load"), "load", lambda *_, **__: pytest.fail("loaded"))
    for words, message in (
        ([reading, "text", "--draw", tmp_path / "a.png"], "--draw draws pictures, and the run"),
        ([reading, "one", "-"], "stands alone. Received: 2 inputs"),
        ([reading, "text", "--top", 0], "--top takes a number of at least 1"),
        ([pointing], "predicts on files. Received: none"),
        ([pointing, "a.jpg", "--draw", tmp_path / "a.txt"], "--draw takes the name of a file"),
        ([tmp_path, "text"], "is not the folder of a run"),
    ):
        status, printed, errors = predict(capsys, *words)
        assert (status, printed) == (2, "")
        assert message in errors
    monkeypatch.setattr(sys, "stdin", None)
    assert "There is no standard input" in predict(capsys, reading)[2]
    monkeypatch.setattr(engine_toy.ReadingTask, "input_kind", "sound")
    assert "predicts on 'sound'. Use it from Python" in predict(capsys, reading, "text")[2]


def test_files_are_predicted_on_as_ever(
    pointing: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        engine_toy.ToyTask, "predictor", classmethod(lambda cls, *_, **__: engine_toy.Reader()), raising=False
    )
    status, printed, errors = predict(capsys, pointing, "a.jpg", "b!.jpg", "c", "--json", "--top", 1)
    assert status == 2
    assert [json.loads(line) for line in printed.splitlines()] == [
        {"file": "a.jpg", "predictions": [{"label": "letters", "number": 5}]},
        {"file": "c", "predictions": [{"label": "letters", "number": 1}]},
    ]
    assert errors == "glueball: a text must not shout.\n"
    assert predict(capsys, pointing, "a.jpg", "--top", 1)[1] == "a.jpg\n  letters   5\n"


def test_training_says_how_its_run_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for task, example in (("toy_reading", '"some text"'), ("toy", "FILE ...")):
        out = tmp_path / task
        words = ["train", "toy", "--set", f"task={task}", "--epochs", "1", "--no-compile", "--out", str(out)]
        assert main(words) == 0
        assert f"Use it: glueball predict {out} {example}   glueball" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------------------------------------
# As a process
# ----------------------------------------------------------------------------------------------------------------------

_PROGRAM = """
import sys
import engine_toy
from glueball.cli import main
from glueball.testing import isolated_catalog
with isolated_catalog({"toy": engine_toy.ToyPlugin()}):
    status = main(sys.argv[1:])
sys.exit(status)
"""


def begin(*words: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, "predict", *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=Path(__file__).parent,
    )


def test_a_pipe_is_answered_while_it_is_open(reading: Path) -> None:
    process = begin(reading, "-", "--top", 1)
    assert process.stdin is not None
    assert process.stdout is not None
    # Only a child that hangs takes so long, however busy the machine is.
    timer = threading.Timer(600, process.kill)
    timer.start()
    try:
        for text, answer in ((b"one\n", b"letters 3\n"), (b"three\n", b"letters 5\n")):
            process.stdin.write(text)
            process.stdin.flush()
            assert process.stdout.readline() == answer
        _, errors = process.communicate()
    finally:
        timer.cancel()
    assert (process.returncode, errors) == (0, b"")


def test_a_reader_that_has_seen_enough_is_no_error(reading: Path) -> None:
    process = begin(reading, "-", "--json")
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.close()
    # More than a pipe holds, so that writing must fail; the child stops reading then.
    _, errors = process.communicate(b"a line\n" * 20_000, timeout=600)
    assert process.returncode == 0
    assert errors == b""

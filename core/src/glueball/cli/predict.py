"""``glueball predict RUN INPUT ...``: what a trained run says about files, or about texts.

Which of the two is the task's to say (``Task.input_kind``): nothing is loaded before that is settled. Texts
come from the command line or, line by line, from standard input, and are predicted on as they come: what has been read
is answered before more is waited for.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import attrs

from glueball.backend.base import PRECISIONS
from glueball.cli.table import json_line, note

DRAWING_SUFFIXES = (".png", ".jpg", ".jpeg")

FILE, TEXT = "file", "text"
"""The kinds of input that a task may have."""

_BATCH = 64
"""Texts that are predicted on together; also the most that wait for an answer while more are there to read."""
_BLOCK = 1 << 16
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "predict",
        help="predict on files or texts with a trained run",
        description="Predicts with the best weights of a run; nothing but its folder is needed. Runs on pictures take "
        "files; runs on text take texts or, with - or without any, the lines of standard input.",
    )
    parser.add_argument("run", metavar="RUN", help="the folder that `glueball train` wrote")
    parser.add_argument("inputs", nargs="*", metavar="INPUT", help='files, or texts such as "a fine film"')
    parser.add_argument("--top", type=int, default=5, metavar="N", help="answers to show for each input (default: 5)")
    parser.add_argument("--draw", metavar="PICTURE", help="draw the files with their predictions into a .png or .jpg")
    parser.add_argument("--weights", choices=("best", "last"), help="default: the best ones, if there are any")
    parser.add_argument("--device", help="cpu, cuda:0, ... (default: the best one)")
    parser.add_argument(
        "--precision",
        choices=("auto", *PRECISIONS),
        default="auto",
        help="what to compute in (default: auto, the fastest that the device supports well)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object for each input")


def run(arguments: argparse.Namespace) -> int:
    """Prints the predictions, and draws them where asked; the exit status is 2 where an input could not be used."""
    from glueball.engine.load import described, load
    from glueball.engine.run_folder import RunFolder

    _, task = described(RunFolder(arguments.run))
    kind = task.input_kind
    _check_arguments(arguments, kind)
    predictor = load(arguments.run, weights=arguments.weights, device=arguments.device, precision=arguments.precision)
    if kind == FILE:
        return _predict_files(predictor, arguments)
    if arguments.inputs and arguments.inputs != ["-"]:
        return _predict_texts(predictor, arguments)
    return _predict_lines(predictor, arguments)


def _check_arguments(arguments: argparse.Namespace, kind: str) -> None:
    """Whatever is wrong with the command line is said before seconds are spent on loading a network.

    Raises:
        OptionError: an option does not fit, or the inputs are not of the task's kind.
    """
    from glueball.errors import OptionError

    if arguments.top < 1:
        raise OptionError(f"--top takes a number of at least 1. Received: {arguments.top}.")
    if kind not in (FILE, TEXT):
        raise OptionError(
            f"The command line knows runs that predict on files and on texts. Received: {arguments.run}, which "
            f"predicts on {kind!r}. Use it from Python: glueball.load({arguments.run!r})."
        )
    if kind == TEXT and arguments.draw is not None:
        raise OptionError(
            f"--draw draws pictures, and the run {arguments.run} predicts on text. Leave --draw out; --json gives the "
            "predictions to programs that draw."
        )
    if kind == TEXT and "-" in arguments.inputs and len(arguments.inputs) > 1:
        raise OptionError(
            f"- stands for the lines of standard input, and stands alone. Received: {len(arguments.inputs)} inputs."
        )
    if kind == TEXT and arguments.inputs in ([], ["-"]) and getattr(sys.stdin, "buffer", None) is None:
        raise OptionError("There is no standard input to read texts from. Name texts after the run.")
    if kind == FILE and not arguments.inputs:
        raise OptionError(f"The run {arguments.run} predicts on files. Received: none. Name at least one after it.")
    if arguments.draw is not None:
        _check_drawing(arguments.draw)


# ----------------------------------------------------------------------------------------------------------------------
# Files
# ----------------------------------------------------------------------------------------------------------------------


def _predict_files(predictor: Any, arguments: argparse.Namespace) -> int:
    from glueball.errors import DataError

    good, status = [], 0
    for file in arguments.inputs:
        try:
            answers = predictor(file, top=arguments.top)
        except DataError as error:
            # One damaged file among many must not hide the answers for the others.
            note(str(error))
            status = 2
            continue
        good.append((file, answers))
        if arguments.json:
            print(json_line({"file": file, "predictions": predictor.plain(answers)}))
        else:
            print(f"{file}\n{predictor.text(answers)}")
    if arguments.draw is not None and good:
        predictor.draw(good, arguments.draw)
        print(f"Drawn into {arguments.draw}", file=sys.stderr)
    return status


def _check_drawing(name: str) -> None:
    """Looks at the place of the drawing before minutes of predictions are spent.

    Raises:
        OptionError: nothing can be written there, or in no known format.
    """
    from glueball.errors import OptionError

    path = Path(name)
    if path.is_dir():
        reason = "a folder"
    elif path.suffix.lower() not in DRAWING_SUFFIXES:
        reason = "another suffix" if path.suffix else "no suffix"
    else:
        # Folders that are missing will be made, below the innermost that exists.
        existing = next(folder for folder in path.absolute().parents if folder.exists() or folder.is_symlink())
        if not existing.is_dir():
            reason = f"{existing} is a file"
        elif not os.access(existing, os.W_OK | os.X_OK):
            reason = f"{existing} cannot be written"
        else:
            return
    raise OptionError(
        f"--draw takes the name of a file to write, such as predictions.png ({', '.join(DRAWING_SUFFIXES)}). "
        f"Received: {name!r} ({reason}). Choose another name."
    )


# ----------------------------------------------------------------------------------------------------------------------
# Texts
# ----------------------------------------------------------------------------------------------------------------------


@attrs.frozen
class _Text:
    """A text to predict on, or the reason why there is none."""

    place: str
    """Where it is from, for messages."""
    text: str | None
    problem: str = ""

    def refused(self, problem: str) -> _Text:
        """The same, with the reason why it could not be predicted on."""
        return attrs.evolve(self, problem=f"{self.place}: {problem}")


def _predict_texts(predictor: Any, arguments: argparse.Namespace) -> int:
    texts = []
    for number, word in enumerate(arguments.inputs, 1):
        place = f"text {number} of the command line"
        try:
            word.encode("utf-8")
        except UnicodeEncodeError:
            # Bytes that the system's encoding does not know reach Python as lone surrogates.
            texts.append(_Text(place, None).refused("it is not in this system's encoding."))
            continue
        if os.path.isfile(word):
            note(
                f"{word!r} is taken as a text, though a file has that name. To predict on its lines: "
                f"glueball predict {arguments.run} - < {word}"
            )
        texts.append(_Text(place, word))
    status = 0
    for start in range(0, len(texts), _BATCH):
        for item, answers in _answered(predictor, texts[start : start + _BATCH], arguments.top):
            if item.problem:
                note(item.problem)
                status = 2
            elif arguments.json:
                print(json_line({"text": item.text, "predictions": predictor.plain(answers)}))
            else:
                print(f"{item.text}\n{predictor.text(answers)}")
    return status


def _predict_lines(predictor: Any, arguments: argparse.Namespace) -> int:
    """One line of output for each line of input, whatever is wrong with it: programs pair them by their numbers."""
    from tqdm import tqdm

    if sys.stdin.isatty():
        note("reading texts from the terminal, one a line; Ctrl-D ends")
    status = 0
    # Beside answers that scroll by, a bar is only in the way.
    disable = True if sys.stdout.isatty() or sys.stdin.isatty() else None
    with tqdm(unit=" lines", desc="predicted", leave=False, disable=disable) as bar:
        for texts in _batches(sys.stdin.buffer):
            for item, answers in _answered(predictor, texts, arguments.top):
                if item.problem:
                    note(item.problem)
                    status = 2
                if arguments.json:
                    given = {"text": item.text}
                    found = {"error": item.problem} if item.problem else {"predictions": predictor.plain(answers)}
                    print(json_line({**given, **found}))
                else:
                    print("" if item.problem else _one_line(predictor.text(answers)))
            sys.stdout.flush()
            bar.update(len(texts))
    return status


def _one_line(answers: str) -> str:
    """What the predictor shows on several lines, separated by tabs."""
    return "\t".join(" ".join(line.split()) for line in answers.splitlines())


def _answered(predictor: Any, texts: Sequence[_Text], top: int) -> Iterator[tuple[_Text, Any]]:
    """Every text with its answers, in order; one that the predictor refuses comes with the reason."""
    from glueball.errors import DataError

    good = [item.text for item in texts if not item.problem]
    try:
        answers: Iterator[Any] | None = iter(predictor(good, top=top)) if good else iter(())
    except DataError:
        answers = None  # one of them is the reason: each by itself shows which
    for item in texts:
        if item.problem:
            yield item, None
        elif answers is not None:
            yield item, next(answers)
        else:
            try:
                found = predictor([item.text], top=top)[0]
            except DataError as error:
                yield item.refused(str(error)), None
            else:
                yield item, found


def _batches(stream: Any) -> Iterator[list[_Text]]:
    """The lines of a stream of bytes, as many together as have come: nothing that was read waits for what was not."""
    number, rest = 0, b""
    while True:
        # At most one read of the system: it waits only where nothing is there.
        block = stream.read1(_BLOCK)
        lines = (rest + block).split(b"\n")
        # A last line without its end is a line too.
        rest = lines.pop() if block else b""
        if not block and not lines[-1]:
            lines.pop()
        for start in range(0, len(lines), _BATCH):
            batch = lines[start : start + _BATCH]
            yield [_decoded(line, number + place) for place, line in enumerate(batch, 1)]
            number += len(batch)
        if not block:
            return


def _decoded(line: bytes, number: int) -> _Text:
    place = f"line {number} of standard input"
    if number == 1:
        line = line.removeprefix(_BYTE_ORDER_MARK)
    try:
        return _Text(place, line.removesuffix(b"\r").decode("utf-8"))
    except UnicodeDecodeError as error:
        return _Text(place, None).refused(
            f"it is not UTF-8 (byte 0x{line[error.start]:02x} at position {error.start + 1}). Convert the input first, "
            "for instance with iconv -f latin1 -t utf-8."
        )

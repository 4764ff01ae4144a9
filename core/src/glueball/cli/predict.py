"""``glueball predict RUN FILE ...``: what a trained run says about files."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from glueball.cli.table import json_line

DRAWING_SUFFIXES = (".png", ".jpg", ".jpeg")


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "predict",
        help="predict on files with a trained run",
        description="Predicts on files with the best weights of a run; nothing but its folder is needed.",
    )
    parser.add_argument("run", metavar="RUN", help="the folder that `glueball train` wrote")
    parser.add_argument("files", nargs="+", metavar="FILE")
    parser.add_argument("--top", type=int, default=5, metavar="N", help="answers to show for each file (default: 5)")
    parser.add_argument("--draw", metavar="PICTURE", help="draw the files with their predictions into a .png or .jpg")
    parser.add_argument("--weights", choices=("best", "last"), help="default: the best ones, if there are any")
    parser.add_argument("--device", help="cpu, cuda:0, ... (default: the best one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each file")


def run(arguments: argparse.Namespace) -> int:
    """Prints the predictions, and draws them where asked."""
    from glueball.engine.load import load
    from glueball.errors import DataError, OptionError

    if arguments.top < 1:
        raise OptionError(f"--top takes a number of at least 1. Received: {arguments.top}.")
    if arguments.draw is not None:
        _check_drawing(arguments.draw)
    predictor = load(arguments.run, weights=arguments.weights, device=arguments.device)
    good, status = [], 0
    for file in arguments.files:
        try:
            answers = predictor(file, top=arguments.top)
        except DataError as error:
            # One damaged file among many must not hide the answers for the others.
            print(f"glueball: {error}", file=sys.stderr)
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

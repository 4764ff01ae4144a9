"""``glueball predict RUN FILE ...``: what a trained run says about files."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any


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
    parser.add_argument("--draw", metavar="PNG", help="draw the files with their predictions")
    parser.add_argument("--weights", choices=("best", "last"), help="default: the best ones, if there are any")
    parser.add_argument("--device", help="cpu, cuda:0, ... (default: the best one)")
    parser.add_argument("--json", action="store_true", help="print one JSON object for each file")


def run(arguments: argparse.Namespace) -> int:
    """Prints the predictions, and draws them where asked."""
    from glueball.engine.load import load
    from glueball.errors import DataError, OptionError

    if arguments.top < 1:
        raise OptionError(f"--top takes a number of at least 1. Received: {arguments.top}.")
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
            print(json.dumps({"file": file, "predictions": predictor.plain(answers)}, ensure_ascii=False))
        else:
            print(f"{file}\n{predictor.text(answers)}")
    if arguments.draw and good:
        predictor.draw(good, arguments.draw)
        print(f"Drawn into {arguments.draw}", file=sys.stderr)
    return status

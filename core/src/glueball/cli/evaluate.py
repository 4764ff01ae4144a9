"""``glueball evaluate RUN``: measures a trained run, on its own held-out data or on other data."""

from __future__ import annotations

import argparse
import json
from typing import Any


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a trained run on a data set",
        description="Measures the best weights of a run on its test data, or on the data that --data names.",
    )
    parser.add_argument("run", metavar="RUN", help="the folder that `glueball train` wrote")
    parser.add_argument("--data", metavar="DIR", help="other data of the same kind, such as a folder of class folders")
    parser.add_argument("--split", choices=("train", "validation", "test"), default="test")
    parser.add_argument("--weights", choices=("best", "last"), help="default: the best ones, if there are any")
    parser.add_argument("--device", help="cpu, cuda:0, ... (default: the best one)")
    parser.add_argument("--batch-size", metavar="N", type=int)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Measures the run and prints its metrics."""
    from glueball.engine.load import evaluate_run

    metrics, samples = evaluate_run(
        arguments.run,
        data=arguments.data,
        split=arguments.split,
        weights=arguments.weights,
        device=arguments.device,
        batch_size=arguments.batch_size,
        quiet=arguments.json,
    )
    if arguments.json:
        print(json.dumps({"metrics": metrics, "samples": samples}))
    else:
        print(f"{samples} samples of {arguments.data or f'the {arguments.split} data'}:")
        for name, value in metrics.items():
            print(f"  {name:<16} {value:.4f}")
    return 0

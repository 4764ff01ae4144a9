"""``glueball evaluate RUN``: measures a trained run, on its own held-out data or on other data."""

from __future__ import annotations

import argparse
from typing import Any

from glueball.backend.base import PRECISIONS
from glueball.cli.table import counted, json_line


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "evaluate",
        help="measure a trained run on a data set",
        description="Measures the best weights of a run on its test data, or on the data that --data names.",
    )
    parser.add_argument("run", metavar="RUN", help="the folder that `glueball train` wrote")
    parser.add_argument("--data", metavar="DIR", help="other data of the same kind, such as a folder of class folders")
    parser.add_argument(
        "--split",
        choices=("train", "validation", "test"),
        default="test",
        help="which part of the data (default: test; where there is none, validation)",
    )
    parser.add_argument("--weights", choices=("best", "last"), help="default: the best ones, if there are any")
    parser.add_argument("--device", help="cpu, cuda:0, ... (default: the best one)")
    parser.add_argument(
        "--precision", choices=("auto", *PRECISIONS), help="what to compute in (default: what the run was trained with)"
    )
    parser.add_argument("--batch-size", metavar="N", type=int)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Measures the run and prints its metrics."""
    from glueball.engine.load import evaluate_run

    result = evaluate_run(
        arguments.run,
        data=arguments.data,
        split=arguments.split,
        weights=arguments.weights,
        device=arguments.device,
        precision=arguments.precision,
        batch_size=arguments.batch_size,
        quiet=arguments.json,
    )
    if arguments.json:
        print(json_line({"metrics": result.metrics, "samples": result.samples, "measured": result.measured}))
    else:
        print(f"{counted(result.samples, 'sample')} of {result.measured}:")
        for name, value in result.metrics.items():
            print(f"  {name:<16} {value:.4f}")
    return 0

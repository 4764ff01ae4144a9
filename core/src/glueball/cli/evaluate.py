"""``glueball evaluate RUN``: measures a trained run, on its own held-out data or on other data."""

from __future__ import annotations

import argparse
import os
from typing import Any

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
        help="which part of the run's own data (default: test; where there is none, validation)",
    )
    parser.add_argument("--weights", choices=("best", "last"), help="default: the best ones, if there are any")
    parser.add_argument("--device", help="cpu, cuda:0, ... (default: the best one)")
    parser.add_argument("--batch-size", metavar="N", type=int)
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Measures the run and prints its metrics."""
    from glueball.engine.load import evaluate_run
    from glueball.errors import OptionError

    if arguments.data is not None and arguments.split != "test":
        raise OptionError(
            f"--split chooses among the run's own data. Received: --split {arguments.split} with --data. Name the "
            f"folder of the part itself, such as --data {os.path.join(arguments.data, 'train')}."
        )
    metrics, samples = evaluate_run(
        arguments.run,
        data=arguments.data,
        split=arguments.split,
        weights=arguments.weights,
        device=arguments.device,
        batch_size=arguments.batch_size,
        quiet=arguments.json,
    )
    measured = _measured(arguments.run, arguments.data, arguments.split)
    if arguments.json:
        print(json_line({"metrics": metrics, "samples": samples, "measured": measured}))
    else:
        print(f"{counted(samples, 'sample')} of {measured}:")
        for name, value in metrics.items():
            print(f"  {name:<16} {value:.4f}")
    return 0


def _measured(run: str, data: str | None, split: str) -> str:
    """What was really measured, which need not be what was asked for: a run without test data has validation data."""
    from glueball.engine.load import task_class
    from glueball.engine.recipe import Recipe
    from glueball.engine.run_folder import RunFolder

    folder = RunFolder(run)
    description = folder.read_json(folder.description)
    recipe = Recipe.from_dict(folder.read_json(folder.recipe))
    cls = task_class(description["task"])
    if data is not None:
        recipe = cls.retarget(recipe, description, os.fspath(data))
    task = cls(recipe)
    if data is None:
        return f"the {task.resolved_split(split)} data"
    return getattr(task.source(split), "summary", "") or data

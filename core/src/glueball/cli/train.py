"""``glueball train RECIPE``: trains, on the recipe's data or on the user's own."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from glueball.cli.table import counted, json_line, print_table

if TYPE_CHECKING:
    from glueball.engine import CrossValidationResult, Recipe
    from glueball.engine.trainer import Trainer, TrainingResult

_EPILOG = """examples:
  glueball train digits
  glueball train digits --epochs 20 --set learning_rate=0.2 --set optimizer.momentum=0.8
  glueball train image-folder --data pictures/ --model resnet18_v1b --out runs/mine
  glueball train --resume --out runs/mine
  glueball train digits --processes 2
  glueball train image-folder --data pictures/ --folds 10 --out runs/folds
  glueball train image-folder --help      (with the options of that recipe)
"""

# Options of the command -> the field of every recipe that each one sets.
_FIELDS = {
    "model": "model.name",
    "epochs": "epochs",
    "batch_size": "batch_size",
    "precision": "precision",
    "seed": "seed",
    "workers": "workers",
}


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "train",
        help="train a recipe, on its own data or on yours",
        description="Trains a recipe and leaves a folder with weights, curves, logs and checkpoints.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("recipe", nargs="?", help="one of `glueball list recipes`; may be left out with --resume")
    run = parser.add_argument_group("run")
    run.add_argument("--out", metavar="RUN", help="run folder (default: runs/RECIPE)")
    run.add_argument("--resume", action="store_true", help="go on with the run in the folder")
    run.add_argument("--overwrite", action="store_true", help="remove the run in the folder and begin anew")
    run.add_argument("--allow-changes", action="store_true", help="resume although the recipe has changed")
    run.add_argument(
        "--folds",
        metavar="N",
        type=int,
        help="cross-validate: train once for each of N folds of the data, held out in turn",
    )
    run.add_argument("--device", help="cpu, cuda:0, ... (default: the best one)")
    run.add_argument(
        "--processes",
        metavar="N",
        type=int,
        help="train in N processes of this machine, with the numbers of one (a GPU for each, if there are any)",
    )
    run.add_argument("--no-compile", dest="compile", action="store_false", help="run the training step eagerly")
    run.add_argument(
        "--profile", action="store_true", help="time the parts of each step (slower, with the same numbers)"
    )
    run.add_argument("--quiet", action="store_true", help="say nothing but errors")
    run.add_argument("--json", action="store_true", help="print the result as JSON")
    fields = parser.add_argument_group("what to change in the recipe")
    fields.add_argument("--model", metavar="NAME", help="one of `glueball list models`")
    fields.add_argument("--pretrained", nargs="?", const=True, metavar="TAG|FILE", help="begin with trained weights")
    fields.add_argument("--epochs", metavar="N")
    fields.add_argument("--batch-size", metavar="N")
    fields.add_argument("--precision", metavar="P", help="auto, float32, bfloat16 or float16")
    fields.add_argument("--seed", metavar="N")
    fields.add_argument("--workers", metavar="N", help="workers that load data")
    fields.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="assignments",
        help="set any field of the recipe",
    )
    _take_recipe_options(parser)


def _take_recipe_options(parser: argparse.ArgumentParser) -> None:
    """Makes the parser look for the recipe in the words before it parses them, so that it knows its options."""
    parse_known = parser.parse_known_args

    def parse(args: Sequence[str] | None = None, namespace: Any = None) -> Any:
        from glueball.cli import recipe_options

        words = sys.argv[1:] if args is None else list(args)
        found = recipe_options.find_recipe(words)
        if found is not None:
            taken = {flag for action in parser._actions for flag in action.option_strings}
            recipe_options.add_options(parser, *found, taken)
        return parse_known(words, namespace)

    parser.parse_known_args = parse  # type: ignore[method-assign, assignment]


def build_recipe(arguments: argparse.Namespace) -> Recipe:
    """The recipe that the command line describes.

    Raises:
        OptionError: no recipe is named, an option is unknown, missing or has a value that does not fit.
        UnknownNameError: no plugin offers the recipe.
    """
    from glueball import catalog
    from glueball.cli import recipe_options
    from glueball.engine.recipe import Recipe, parse_assignment
    from glueball.engine.run_folder import RunFolder
    from glueball.errors import OptionError
    from glueball.named import get_recipe

    if isinstance(arguments.pretrained, str) and os.path.isfile(os.path.expanduser(arguments.pretrained)):
        # The recipe is kept, and a run may be resumed from another folder.
        arguments.pretrained = os.path.abspath(os.path.expanduser(arguments.pretrained))
    if arguments.recipe is None:
        if not (arguments.resume and arguments.out):
            raise OptionError(
                "Which recipe? `glueball list recipes` shows them; `glueball train digits` is a good first one. "
                "Only --resume --out RUN needs none."
            )
        folder = RunFolder(arguments.out)
        recipe = Recipe.from_dict(folder.read_json(folder.recipe))
    else:
        current = catalog.current()
        function = current.resolve(current.find("recipe", arguments.recipe))
        accepted = recipe_options.parameters(function)
        options = recipe_options.given(arguments)
        # An option that the command has too goes to the recipe's function where it asks for it.
        options.update(
            {
                name: getattr(arguments, name)
                for name in ("model", "pretrained")
                if name in accepted and getattr(arguments, name) is not None
            }
        )
        absent = recipe_options.missing(function, options)
        if absent:
            raise OptionError(f"The recipe {arguments.recipe!r} needs {', '.join(absent)}.")
        recipe = get_recipe(arguments.recipe, **options)
    values = {
        field: str(getattr(arguments, name)) for name, field in _FIELDS.items() if getattr(arguments, name) is not None
    }
    if arguments.pretrained is not None:
        values["model.pretrained"] = "true" if arguments.pretrained is True else arguments.pretrained
    return recipe.override({**values, **dict(parse_assignment(text) for text in arguments.assignments)})


def run(arguments: argparse.Namespace) -> int:
    """Trains, or resumes, and says where the results are; the exit status is 1 where bad numbers ended the run."""
    from glueball.cli import processes
    from glueball.engine.trainer import Trainer
    from glueball.errors import OptionError

    if arguments.out is not None and not arguments.out.strip():
        raise OptionError(
            "--out names the folder of the run. Received: an empty text. Name a folder, or leave --out out."
        )
    recipe = build_recipe(arguments)
    if processes.are_to_be_started(arguments.processes):
        return processes.start(arguments.processes, arguments.command_line)
    settings = {
        name: getattr(arguments, name)
        for name in ("out", "device", "resume", "overwrite", "allow_changes", "quiet", "compile")
    }
    folds = _folds(arguments)
    if folds is not None:
        if arguments.profile:
            raise OptionError(
                "--profile times the steps of one run, and --folds trains several. Leave one of them out."
            )
        return _cross_validate(recipe, folds, settings, arguments)
    trainer = Trainer(recipe, profile=arguments.profile, **settings)
    result = trainer.fit()
    if trainer.rank > 0:
        return 1 if result.ended == "bad numbers" else 0
    if arguments.json:
        print(json_line(_plain(result)))
    elif not arguments.quiet:
        _print(result, recipe.task)
        _print_profile(trainer)
    # Under the policy "stop" such a run keeps its good weights, but it did not do what was asked.
    return 1 if result.ended == "bad numbers" else 0


def _folds(arguments: argparse.Namespace) -> int | None:
    """How many folds are asked for; a cross-validation that is resumed knows by itself."""
    from glueball.engine.cross_validation import stored_folds

    if arguments.folds is None and arguments.resume and arguments.out:
        return stored_folds(arguments.out)
    return arguments.folds  # type: ignore[no-any-return]


def _cross_validate(recipe: Recipe, folds: int, settings: Mapping[str, Any], arguments: argparse.Namespace) -> int:
    from glueball.engine.cross_validation import cross_validate, finite, plain

    result = cross_validate(recipe, folds, **settings)
    if result.rank > 0:
        return 0 if result.n == len(result.folds) else 1
    if arguments.json:
        described = {
            "folds": [plain(item) for item in result.folds],
            "mean": finite(result.mean),
            "standard_deviation": finite(result.standard_deviation),
            "n": result.n,
            "seconds": round(result.seconds, 2),
            "out": str(result.out),
        }
        print(json_line(described))
    elif not arguments.quiet:
        _print_folds(result)
    return 0 if result.n == len(result.folds) else 1


def _print_folds(result: CrossValidationResult) -> None:
    names = list(dict.fromkeys(name for item in result.folds for name in item.metrics))
    rows: list[Sequence[object]] = [
        (item.fold, item.epochs, *(_number(item.metrics.get(name)) for name in names), item.ended)
        for item in result.folds
    ]
    for label, values in (("mean", result.mean), ("std. dev.", result.standard_deviation)):
        rows.append((label, "", *(_number(values.get(name)) for name in names), ""))
    print_table(("fold", "epochs", *names, "ended"), rows)
    print(
        f"\nEach fold was measured after its last epoch, on the data held out of it; the best epoch is not chosen by "
        f"them. Mean and sample standard deviation are over {counted(result.n, 'fold')}."
    )
    if result.n < len(result.folds):
        print(f"{counted(len(result.folds) - result.n, 'fold')} ended early by bad numbers and did not count.")
    print(
        f"{counted(len(result.folds), 'run')} and cross_validation.json are in {result.out}  ({result.seconds:.0f} s)"
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _plain(result: TrainingResult) -> dict[str, Any]:
    return {
        "metrics": dict(result.metrics),
        "best_epoch": result.best_epoch,
        "epochs": result.epochs,
        "seconds": round(result.seconds, 2),
        "ended": result.ended,
        "skipped": result.skipped,
        "out": str(result.out),
    }


def _print_profile(trainer: Trainer) -> None:
    profile = trainer.profile
    if profile is None:
        return
    if not profile.steps:
        print("\nNo step was timed: the first ones do not count, and there were no others. Train longer for --profile.")
        return
    print(
        f"\nWhere the time of a step went ({counted(profile.steps, 'step')} on {trainer.device}, without the first "
        "ones; also in profile.json):"
    )
    print_table(("part", "mean, ms", "median, ms", "share"), profile.rows())


_PARTS = (
    ("weights/best.safetensors", "the best weights"),
    ("weights/last.safetensors", "the last weights"),
    ("curves.png", "loss and metrics over the epochs"),
    ("predictions.png", "some held-out predictions"),
    ("predictions.html", "held-out predictions, mistakes first"),
    ("log.jsonl", "every number of the run"),
    ("checkpoints", "what --resume needs"),
)


def _print(result: TrainingResult, task: str) -> None:
    from glueball.engine.load import task_class

    values = ", ".join(f"{name} {value:.4f}" for name, value in result.metrics.items())
    if result.best_epoch is not None:
        print(f"Best epoch {result.best_epoch} of {result.epochs} on held-out data: {values}  ({result.seconds:.0f} s)")
    else:
        print(f"Trained {counted(result.epochs, 'epoch')}: {values}  ({result.seconds:.0f} s)")
    if result.skipped:
        print(
            f"{counted(result.skipped, 'damaged sample')} {'was' if result.skipped == 1 else 'were'} left out of the "
            "training, each counted in every epoch; warnings name them."
        )
    print(f"Everything is in {result.out}:")
    for name, meaning in _PARTS:
        if (result.out / name).exists():
            print(f"  {name:<26} {meaning}")
    example = '"some text"' if task_class(task).input_kind == "text" else "FILE ..."
    print(f"Use it: glueball predict {result.out} {example}   glueball evaluate {result.out}")

"""``glueball.load(RUN)``: from the folder of a run to something that predicts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import attrs

from glueball.engine.run_folder import RunFolder
from glueball.errors import DataError, GlueballError, OptionError, UnknownNameError

WEIGHTS = ("best", "last")


def load(
    run: str | os.PathLike[str], *, weights: str | None = None, device: str | None = None, precision: str = "auto"
) -> Any:
    """The predictor of a trained run; it needs nothing but the folder.

    Args:
        run: the folder that ``glueball train`` wrote.
        weights: "best" or "last"; by default the best ones if the run had validation data.
        device: "cpu", "cuda:0", ...; the backend's best one by default.
        precision: what to compute in; "auto" is the fastest one that the device supports well.

    Returns:
        A callable whose arguments depend on the task; for image classification
        ``predictor(pictures, top=5)`` takes paths and arrays.

    Raises:
        OptionError: the folder is no run, it has no such weights yet, or the device does not compute in this precision.
        DataError: its run.json is damaged.
        UnknownNameError: the plugin that the run was trained with is not installed.
        WeightsError: the weight file is damaged.
    """
    from glueball import backend
    from glueball.engine.trainer import checked_device
    from glueball.weights import load_into

    folder = RunFolder(run)
    description, task = described(folder)
    chosen = _weights_file(folder, weights)
    selected = backend.current()
    device = checked_device(selected, device)
    precision = _checked_precision(selected, precision, device)
    with _complete(folder):
        network = task.restore_network(description)
    load_into(network, chosen)
    network = selected.to_device(network, device)
    with _complete(folder):
        return task.predictor(description, network, device=device, precision=precision)


def read_description(folder: RunFolder) -> dict[str, Any]:
    """What ``run.json`` says; every reader gets it here, checked.

    Raises:
        OptionError: the folder is no run, or another version of Glueball wrote it.
        DataError: the file is not what a run writes.
    """
    from glueball.engine.trainer import RUN_FORMAT

    path = folder.description
    content = folder.read_json(path)
    if not isinstance(content, dict):
        raise _damaged(path, f"it holds no JSON object but {type(content).__name__}")
    if content.get("format") != RUN_FORMAT:
        raise OptionError(
            f"{path} has format {content.get('format')!r}; this version of Glueball reads {RUN_FORMAT}. "
            f"Use the version that wrote it."
        )
    if not isinstance(content.get("task"), str):
        raise _damaged(path, f"its 'task' must be a name, received {content.get('task')!r}")
    if not isinstance(content.get("model", {}), Mapping):
        raise _damaged(path, f"its 'model' must be an object, received {content['model']!r}")
    return content


def described(folder: RunFolder) -> tuple[dict[str, Any], Any]:
    """What ``run.json`` says, and the class of the task that it names.

    Raises:
        OptionError: the folder is no run, or another version of Glueball wrote it.
        DataError: the file is not what a run of this task writes.
        UnknownNameError: no plugin that is installed knows the task.
    """
    description = read_description(folder)
    name = description["task"]
    try:
        cls = task_class(name)
    except UnknownNameError as error:
        raise UnknownNameError(
            f"The run in {folder.path} is of the task {name!r}, as its {folder.description.name} says. {error} Install "
            "the plugin that it was trained with, or restore the file if it was changed."
        ) from error
    missing = [key for key in cls.description_keys if key not in description]
    if missing:
        lacking = " and ".join(map(repr, missing))
        raise _damaged(
            folder.description, f"it lacks {lacking}, which runs of the task {name!r} have{_made_for(description)}"
        )
    return description, cls


def _made_for(description: Mapping[str, Any]) -> str:
    """A hint at what was changed: a model that belongs to another task."""
    from glueball import catalog

    try:
        entry = catalog.current().find("model", str(description["model"]["name"]))
    except (GlueballError, KeyError, TypeError):
        return ""
    if entry.task in (None, description["task"]):
        return ""
    return f". Its model {entry.name!r} is made for {entry.task}, so that 'task' may have been changed"


@contextmanager
def _complete(folder: RunFolder) -> Iterator[None]:
    """Only a task knows which keys its description needs; one that is missing shows when the task looks for it."""
    try:
        yield
    except KeyError as error:
        raise _damaged(folder.description, f"it lacks {error}") from error


def _damaged(path: Any, what: str) -> DataError:
    return DataError(
        f"{path} is not what a run writes: {what}. Restore the file, or let the run write it again: "
        f"glueball train --resume --out {path.parent}."
    )


def task_class(name: str) -> Any:
    """The class that a plugin registered for a task."""
    from glueball import catalog

    current = catalog.current()
    return current.resolve(current.find("task", name))


def _checked_precision(selected: Any, precision: str, device: str) -> str:
    from glueball.backend.base import PRECISIONS
    from glueball.engine.trainer import choose_precision

    if precision not in ("auto", *PRECISIONS):
        raise OptionError(f"A precision is one of auto, {', '.join(PRECISIONS)}. Received: {precision!r}.")
    return choose_precision(selected, precision, device)


def _weights_file(folder: RunFolder, weights: str | None) -> Any:
    if weights is not None and weights not in WEIGHTS:
        raise OptionError(f"weights must be one of {', '.join(WEIGHTS)}. Received: {weights!r}.")
    for name in WEIGHTS if weights is None else (weights,):
        path = folder.weights / f"{name}.safetensors"
        if path.exists():
            return path
    raise OptionError(
        f"{folder.path} has no {weights or 'trained'} weights yet: train at least one epoch "
        f"(glueball train ... --out {folder.path} --resume)."
    )


@attrs.frozen(kw_only=True)
class Evaluation:
    """What ``evaluate_run`` returns."""

    metrics: dict[str, float]
    samples: int
    """Those that were measured: damaged ones may have been left out."""
    measured: str
    """Which data were really measured, in words."""


def evaluate_run(
    run: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    split: str = "test",
    weights: str | None = None,
    device: str | None = None,
    precision: str | None = None,
    batch_size: int | None = None,
    quiet: bool = True,
) -> Evaluation:
    """Metrics of a trained run on a split of its own data, or on ``data``.

    ``precision`` is what to compute in, by default what the recipe says; the other arguments are those of ``load``.

    Raises:
        OptionError: the folder is no run, it has no such data, its task cannot take other data, or the device does not
            compute in this precision.
        DataError: the data do not fit the run, for instance have classes that it does not know; or run.json is damaged.
        UnknownNameError: the plugin that the run was trained with is not installed.
        BackendError: memory ran out.
    """
    from glueball import backend
    from glueball.engine import memory
    from glueball.engine.evaluation import evaluate
    from glueball.engine.recipe import Recipe
    from glueball.engine.trainer import checked_device
    from glueball.weights import load_into

    folder = RunFolder(run)
    description, cls = described(folder)
    recipe = Recipe.from_dict(folder.read_json(folder.recipe))
    if recipe.task != description["task"]:
        raise DataError(
            f"{folder.description} and {folder.recipe.name} beside it are of different runs, or one was changed. "
            f"Expected: one task. Received: {description['task']!r} and {recipe.task!r}. Restore the wrong one."
        )
    if batch_size is not None:
        recipe = recipe.override({"batch_size": str(batch_size)})
    selected = backend.current()
    device = checked_device(selected, device)
    if data is not None:
        with _complete(folder):
            recipe = cls.retarget(recipe, description, os.fspath(data))
    task = cls(recipe)
    with _complete(folder):
        task.adopt(description)
    loader = task.loader(split, training=False)
    if loader is None:
        raise OptionError(f"The run in {folder.path} has no {split} data. Name some with --data.")
    with _complete(folder):
        network = cls.restore_network(description)
    load_into(network, _weights_file(folder, weights))
    network = selected.to_device(network, device)
    precision = _checked_precision(selected, recipe.precision if precision is None else precision, device)
    predict = selected.predictor(network, device=device, precision=precision)
    if recipe.on_out_of_memory == "halve":
        predict = memory.PredictInParts(predict, selected, device)
    doing = f"while batches of {recipe.batch_size} samples were measured"
    cure = f"Smaller ones need less: --batch-size {max(1, recipe.batch_size // 2)}."
    from tqdm import tqdm

    with (
        memory.explained(selected, device, doing, cure),
        tqdm(
            total=len(loader),
            desc=task.resolved_split(split),
            unit="batch",
            leave=False,
            disable=True if quiet else None,
        ) as bar,
    ):
        metrics = evaluate(task, predict, loader, selected, device, tick=bar.update)
    # A run without test data has validation data, and other data can be a part of what was named.
    measured = f"the {task.resolved_split(split)} data" if data is None else os.fspath(data)
    if data is not None:
        measured = getattr(task.source(split), "summary", "") or measured
    samples = len(task.dataset(split, training=False)) - int(getattr(loader, "skipped", 0))
    return Evaluation(metrics=metrics, samples=samples, measured=measured)

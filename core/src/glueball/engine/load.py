"""``glueball.load(RUN)``: from the folder of a run to something that predicts."""

from __future__ import annotations

import os
from typing import Any

from glueball.engine.run_folder import RunFolder
from glueball.errors import OptionError

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
        OptionError: the folder is no run, or it has no such weights yet.
        UnknownNameError: the plugin that the run was trained with is not installed.
        WeightsError: the weight file is damaged.
    """
    from glueball import backend
    from glueball.engine.trainer import RUN_FORMAT, checked_device, choose_precision
    from glueball.weights import load_into

    folder = RunFolder(run)
    description = folder.read_json(folder.description)
    if description.get("format") != RUN_FORMAT:
        raise OptionError(
            f"{folder.description} has format {description.get('format')!r}; this version of Glueball reads "
            f"{RUN_FORMAT}. Use the version that wrote it."
        )
    chosen = _weights_file(folder, weights)
    selected = backend.current()
    device = checked_device(selected, device)
    task = task_class(description["task"])
    network = task.restore_network(description)
    load_into(network, chosen)
    network = selected.to_device(network, device)
    precision = choose_precision(selected, precision, device)
    return task.predictor(description, network, device=device, precision=precision)


def task_class(name: str) -> Any:
    """The class that a plugin registered for a task."""
    from glueball import catalog

    current = catalog.current()
    return current.resolve(current.find("task", name))


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


def evaluate_run(
    run: str | os.PathLike[str],
    *,
    data: str | os.PathLike[str] | None = None,
    split: str = "test",
    weights: str | None = None,
    device: str | None = None,
    batch_size: int | None = None,
    quiet: bool = True,
) -> tuple[dict[str, float], int]:
    """Metrics of a trained run on a split of its own data, or on ``data``.

    Returns:
        The metrics by name, and the number of samples that they were measured on.

    Raises:
        OptionError: the folder is no run, it has no such data, or its task cannot take other data.
        DataError: the data do not fit the run, for instance have classes that it does not know.
    """
    from glueball import backend
    from glueball.engine.evaluation import evaluate
    from glueball.engine.recipe import Recipe
    from glueball.engine.trainer import checked_device, choose_precision
    from glueball.weights import load_into

    folder = RunFolder(run)
    description = folder.read_json(folder.description)
    recipe = Recipe.from_dict(folder.read_json(folder.recipe))
    if batch_size is not None:
        recipe = recipe.override({"batch_size": str(batch_size)})
    selected = backend.current()
    device = checked_device(selected, device)
    cls = task_class(description["task"])
    if data is not None:
        recipe, split = cls.retarget(recipe, description, os.fspath(data)), "test"
    task = cls(recipe)
    loader = task.loader(split, training=False)
    if loader is None:
        raise OptionError(f"The run in {folder.path} has no {split} data. Name some with --data.")
    network = cls.restore_network(description)
    load_into(network, _weights_file(folder, weights))
    network = selected.to_device(network, device)
    precision = choose_precision(selected, recipe.precision, device)
    predict = selected.predictor(network, device=device, precision=precision)
    from tqdm import tqdm

    with tqdm(total=len(loader), desc=split, unit="batch", leave=False, disable=True if quiet else None) as bar:
        metrics = evaluate(task, predict, loader, selected, device, tick=bar.update)
    return metrics, len(task.dataset(split, training=False))

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

"""Measuring a network on a data set."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from glueball.data.sharing import SharedBatch
from glueball.engine import bad_samples
from glueball.engine.measures import Metric
from glueball.engine.prefetch import Prefetcher
from glueball.engine.ranks import Ranks
from glueball.engine.shared_metrics import at
from glueball.engine.task import Task
from glueball.errors import DataError

_RUN_AHEAD = 2
"""Batches computed before the first one's results are read: the device never waits for the host."""


def evaluate(
    task: Task,
    predict: Callable[..., Any],
    loader: Any,
    backend: Any,
    device: str,
    *,
    check: Callable[[], None] | None = None,
    tick: Callable[[], None] | None = None,
    ranks: Ranks | None = None,
) -> dict[str, float]:
    """The metrics of the task over all batches of ``loader``.

    Args:
        predict: ``backend.predictor(...)``.
        loader: a ``glueball.data.DataLoader``.
        check: called before each batch; may raise to end the evaluation.
        tick: called after each batch, for a progress bar; may raise, too.
        ranks: the processes that measure together, each its share of the loader's batches; None measures alone.

    Raises:
        DataError: there is not a single sample, or one cannot be made.
    """
    ranks = ranks or Ranks()
    metrics: Sequence[Metric] = ranks.metrics(task.build_metrics(training=False))
    # A set that is smaller than a batch needs no more rows than it has.
    rows = -(-min(task.recipe.batch_size, len(loader.dataset)) // ranks.size)
    running: deque[tuple[int, tuple[np.ndarray, ...], int, tuple[Any, ...]]] = deque()
    samples = 0

    def finish(number: int, batch: tuple[np.ndarray, ...], count: int, outputs: tuple[Any, ...]) -> None:
        if isinstance(batch, SharedBatch):
            if batch.is_stand_in:
                return
            at(metrics, (number, batch.positions))
        task.update_metrics(metrics, batch, tuple(backend.numpy(output)[:count] for output in outputs))

    def to_device(array: np.ndarray) -> Any:
        return backend.array(array, device)

    def inputs_only() -> Any:
        for batch in bad_samples.with_cure(loader, task.recipe):
            batch = batch if isinstance(batch, tuple) else tuple(batch)
            inputs = task.inputs(batch)
            # A sample can be several rows: the crops of a picture.
            count, views = len(inputs[0]), len(inputs[0]) // len(batch[0])
            hosts.append((batch, count))
            yield tuple(pad(array, rows * views) for array in inputs)

    hosts: deque[tuple[tuple[np.ndarray, ...], int]] = deque()
    prefetcher = Prefetcher(
        inputs_only(),
        to_device,
        check=check,
        timeout=bad_samples.patience(task.recipe),
        hanging=bad_samples.hanging(loader),
    )
    with prefetcher as batches:
        for number, batch in enumerate(batches):
            host, count = hosts.popleft()
            outputs = predict(*batch.device)
            running.append((number, host, count, tuple(outputs) if isinstance(outputs, (list, tuple)) else (outputs,)))
            samples += len(host.positions) if isinstance(host, SharedBatch) else len(host[0])
            if len(running) > _RUN_AHEAD:
                finish(*running.popleft())
            if tick is not None:
                tick()
    while running:
        finish(*running.popleft())
    if not ranks.total(samples):
        raise DataError("There is nothing to evaluate on: the data set gave no samples.")
    return ranks.metric_values(metrics)


def pad(array: np.ndarray, count: int) -> np.ndarray:
    """``array`` with its last row repeated up to ``count`` rows: compiled networks want one shape only."""
    missing = count - len(array)
    if missing <= 0 or not len(array):
        return array
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)])

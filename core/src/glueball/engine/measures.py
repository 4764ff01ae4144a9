"""Losses and metrics of a run: kept on the device while steps run, read together at log points.

Reading a value makes the host wait for the device. Between two log points nothing is read; at a log point everything
that waits is read in the order of the steps, so sums and metrics come out the same however the log points lie.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import attrs
import numpy as np

from glueball.errors import CheckpointError

MAX_WAITING_BYTES = 512 << 20
"""Batches that wait are read early beyond this, so that a host far ahead of the device cannot fill the memory."""


class Metric(Protocol):
    """What ``glueball.get_metric`` returns."""

    def reset(self) -> None: ...

    def update(self, labels: Any, predictions: Any) -> None: ...

    def get(self) -> Any:
        """(name, value), or (names, values)."""


def values(metrics: Iterable[Metric]) -> dict[str, float]:
    """Name -> value of all metrics."""
    result: dict[str, float] = {}
    for metric in metrics:
        names, numbers = metric.get()
        if isinstance(names, str):
            names, numbers = [names], [numbers]
        result.update({str(name): float(number) for name, number in zip(names, numbers, strict=True)})
    return result


def metric_states(metrics: Sequence[Metric]) -> list[Any]:
    """What a checkpoint keeps of metrics in the middle of an epoch, in terms that JSON knows."""
    return [_plain(metric.state_dict() if hasattr(metric, "state_dict") else _numbers(metric)) for metric in metrics]


def load_metric_states(metrics: Sequence[Metric], states: Sequence[Any]) -> None:
    """The inverse of ``metric_states``.

    Raises:
        CheckpointError: the checkpoint was written with another list of metrics.
    """
    if len(metrics) != len(states):
        raise CheckpointError(f"The checkpoint holds {len(states)} metrics, the recipe has {len(metrics)}.")
    for metric, state in zip(metrics, states, strict=True):
        content = _restored(state)
        if hasattr(metric, "load_state_dict"):
            metric.load_state_dict(content)
        else:
            vars(metric).update(content)


def _numbers(metric: Metric) -> dict[str, Any]:
    # A metric without state_dict keeps its sums in plain attributes; everything else is how it was configured.
    return {
        name: value
        for name, value in vars(metric).items()
        if isinstance(value, (bool, int, float, np.ndarray, np.generic, list))
    }


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.str, "shape": list(value.shape), "values": [_plain(item) for item in value.flat]}
    if isinstance(value, np.generic):
        return _plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return {"float": repr(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _restored(value: Any) -> Any:
    if isinstance(value, dict):
        if value.keys() == {"dtype", "shape", "values"}:
            items = [_restored(item) for item in value["values"]]
            return np.array(items, dtype=np.dtype(value["dtype"])).reshape(value["shape"])
        if value.keys() == {"float"}:
            return float(value["float"])
        return {key: _restored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_restored(item) for item in value]
    return value


@attrs.define
class Mean:
    """A weighted mean that can be kept in a checkpoint."""

    total: float = 0.0
    weight: float = 0.0

    def add(self, value: float, weight: float) -> None:
        self.total += value * weight
        self.weight += weight

    @property
    def value(self) -> float:
        return self.total / self.weight if self.weight else math.nan


@attrs.frozen
class Waiting:
    """One step whose results are still on the device."""

    batch_index: int
    host: tuple[np.ndarray, ...]
    loss: Any
    outputs: tuple[Any, ...]


class BadNumbers(Exception):  # noqa: N818 - a signal between two parts of the trainer, not an error that users see
    """A loss or a weight is NaN or infinite."""

    goes_on = True
    """For ``Prefetcher``: the loader will be used again."""

    def __init__(self, what: str, batch_index: int, steps: Sequence[Waiting] = ()) -> None:
        super().__init__(what)
        self.what = what
        """What is not finite: "the loss is nan"."""
        self.batch_index = batch_index
        self.steps = steps
        """The step where it showed, and the one before it: activations such as ReLU hide NaN from the loss, so the
        damage may have been done a step earlier."""


def are_finite(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether every floating-point array is free of NaN and infinity."""
    return all(np.isfinite(array).all() for array in arrays.values() if array.dtype.kind == "f")


class Measurements:
    """The training loss and metrics of the current epoch."""

    def __init__(
        self,
        metrics: Sequence[Metric],
        to_numpy: Callable[[Any], np.ndarray],
        update: Callable[[Sequence[Metric], tuple[np.ndarray, ...], tuple[np.ndarray, ...]], None],
    ) -> None:
        self.metrics = metrics
        self.epoch_loss = Mean()
        self.interval_loss = Mean()
        self._to_numpy = to_numpy
        self._update = update
        self._waiting: list[Waiting] = []
        self._bytes = 0
        self.reading = 0
        """The number of the batch that ``update`` is given."""

    def add(self, step: Waiting) -> None:
        """Notes the results of a step; reads nothing unless too much waits.

        Raises:
            BadNumbers: as ``read`` does.
        """
        self._waiting.append(step)
        self._bytes += sum(array.nbytes for array in step.host)
        if self._bytes > MAX_WAITING_BYTES:
            self.read()

    def last(self) -> list[Waiting]:
        """The latest step, while it waits."""
        return self._waiting[-1:]

    def read(self) -> None:
        """Waits for the device and takes everything in.

        Raises:
            BadNumbers: a loss is not finite; what came before it is taken in, what came after it is dropped.
        """
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        for index, step in enumerate(waiting):
            loss = float(self._to_numpy(step.loss).item())
            if not math.isfinite(loss):
                raise BadNumbers(f"the loss is {loss}", step.batch_index, waiting[max(0, index - 1) : index + 1])
            count = len(step.host[0])
            self.epoch_loss.add(loss, count)
            self.interval_loss.add(loss, count)
            if self.metrics:
                self.reading = step.batch_index
                self._update(self.metrics, step.host, tuple(self._to_numpy(output) for output in step.outputs))

    def end_interval(self) -> float:
        """Mean loss since the last log point."""
        loss = self.interval_loss.value
        self.interval_loss = Mean()
        return loss

    def reset(self) -> None:
        """Begins an epoch."""
        self._waiting, self._bytes = [], 0
        self.epoch_loss, self.interval_loss = Mean(), Mean()
        for metric in self.metrics:
            metric.reset()

    def values(self) -> dict[str, float]:
        """Loss and metrics of the epoch so far."""
        return {"loss": self.epoch_loss.value, **values(self.metrics)}

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps; everything must have been read."""
        return {
            "epoch_loss": [self.epoch_loss.total, self.epoch_loss.weight],
            "interval_loss": [self.interval_loss.total, self.interval_loss.weight],
            "metrics": metric_states(self.metrics),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        self._waiting, self._bytes = [], 0
        self.epoch_loss = Mean(*state["epoch_loss"])
        self.interval_loss = Mean(*state["interval_loss"])
        load_metric_states(self.metrics, state["metrics"])

"""The base of metrics, lists of them, and what several need."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from glueball.errors import CheckpointError, DataError, OptionError


class Metric:
    """The base of metrics: a subclass names its sums in ``zeros`` and adds to them in ``update``.

    Example:
        >>> class MeanLabel(Metric):
        ...     def zeros(self):
        ...         return {"total": np.zeros(()), "count": np.zeros((), np.int64)}
        ...
        ...     def update(self, labels, predictions):
        ...         self.add(total=np.sum(labels), count=len(labels))
        ...
        ...     def compute(self):
        ...         return {self.name: ratio(self.sums["total"], self.sums["count"])}
        >>> metric = MeanLabel("mean_label")
        >>> metric.update(np.array([1, 2, 3]), None)
        >>> metric.get()
        ('mean_label', 2.0)
    """

    higher_is_better: bool = True
    """Which way is up, for choosing the best checkpoint."""

    def __init__(self, name: str) -> None:
        if not name:
            raise OptionError("A metric needs a name. Received an empty one.")
        self.name = name
        self.sums: dict[str, np.ndarray] = {}
        self.reset()

    # What subclasses define.

    def zeros(self) -> dict[str, np.ndarray]:
        """The sums before the first sample: name -> array of zeros."""
        raise NotImplementedError(f"{type(self).__name__} defines no zeros.")

    def update(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        """Takes in a batch.

        Raises:
            DataError: the arrays do not fit each other or this metric.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no update.")

    def compute(self) -> dict[str, float]:
        """Name -> value; NaN where nothing has been taken in that it could be computed from."""
        raise NotImplementedError(f"{type(self).__name__} defines no compute.")

    # What all have.

    def add(self, **amounts: Any) -> None:
        """Adds to the sums by name."""
        for name, amount in amounts.items():
            total = self.sums[name]
            self.sums[name] = total + np.asarray(amount).astype(total.dtype)

    def reset(self) -> None:
        """Forgets all batches."""
        self.sums = self.zeros()

    def get(self) -> tuple[Any, Any]:
        """(name, value), or (names, values) of a metric that has several."""
        values = self.compute()
        if len(values) == 1:
            return next(iter(values.items()))
        return list(values), list(values.values())

    def merge(self, other: Metric) -> None:
        """Adds the batches of a metric of the same kind: another process's share.

        Raises:
            OptionError: the other one is of another kind, or set up in another way.
        """
        if type(other) is not type(self) or other._shapes() != self._shapes():
            raise OptionError(f"{self!r} merges with its own kind and setting only. Received: {other!r}.")
        self.add(**other.sums)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The sums, for a checkpoint."""
        return {name: np.array(total) for name, total in self.sums.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from ``state_dict``.

        Raises:
            CheckpointError: the sums are those of another metric or setting.
        """
        expected = {name: total.shape for name, total in self.zeros().items()}
        received = {name: np.shape(total) for name, total in state.items()}
        if expected != received:
            raise CheckpointError(
                f"The state does not belong to the metric {self.name!r}. Expected sums {expected}. "
                f"Received: {received}."
            )
        zeros = self.zeros()
        self.sums = {name: np.array(total, zeros[name].dtype) for name, total in state.items()}

    def copy(self) -> Metric:
        """A metric of the same kind and setting that has seen nothing."""
        fresh = copy.copy(self)
        fresh.reset()
        return fresh

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        return {name: total.shape for name, total in self.sums.items()}

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value:.6g}" for name, value in self.compute().items())
        return f"{type(self).__name__}({values})"


class MetricList(Metric):
    """Several metrics that are fed together.

    Raises:
        OptionError: two of them have the same name, so that one value would hide the other.
    """

    def __init__(self, metrics: Iterable[Metric], name: str = "metrics") -> None:
        self.metrics = list(metrics)
        names = [metric.name for metric in self.metrics]
        if len(set(names)) != len(names):
            raise OptionError(f"Metrics of one list need different names. Received: {names}.")
        super().__init__(name)

    def __iter__(self) -> Iterator[Metric]:
        return iter(self.metrics)

    def __len__(self) -> int:
        return len(self.metrics)

    def zeros(self) -> dict[str, np.ndarray]:
        return {f"{metric.name}.{name}": total for metric in self.metrics for name, total in metric.zeros().items()}

    def update(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        for metric in self.metrics:
            metric.update(labels, predictions)

    def compute(self) -> dict[str, float]:
        return {name: value for metric in self.metrics for name, value in metric.compute().items()}

    def get(self) -> tuple[list[str], list[float]]:
        """(names, values), also of a list of one."""
        values = self.compute()
        return list(values), list(values.values())

    def reset(self) -> None:
        for metric in self.metrics:
            metric.reset()

    def merge(self, other: Metric) -> None:
        if not isinstance(other, MetricList) or len(other) != len(self):
            raise OptionError(f"{self!r} merges with a list of the same metrics. Received: {other!r}.")
        for mine, theirs in zip(self.metrics, other.metrics, strict=True):
            mine.merge(theirs)

    def state_dict(self) -> dict[str, np.ndarray]:
        return {
            f"{metric.name}.{name}": total for metric in self.metrics for name, total in metric.state_dict().items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        expected = self.zeros().keys()
        if expected != state.keys():
            raise CheckpointError(
                f"The state belongs to other metrics. Expected: {sorted(expected)}. Received: {sorted(state)}."
            )
        for metric in self.metrics:
            metric.load_state_dict({name: state[f"{metric.name}.{name}"] for name in metric.zeros()})

    def copy(self) -> MetricList:
        return MetricList([metric.copy() for metric in self.metrics], self.name)


def ratio(numerator: Any, denominator: Any) -> float:
    """The quotient, NaN where there is nothing to divide by."""
    return float(numerator) / float(denominator) if float(denominator) else float("nan")


def class_labels(labels: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels (batch,) as int64 and scores (batch, classes) of a classifier, checked against each other.

    Soft labels (batch, classes), as mixup makes them, count as their most probable class.

    Raises:
        DataError: the shapes do not fit, or a label is no class.
    """
    labels, predictions = np.asarray(labels), np.asarray(predictions)
    if predictions.ndim != 2:
        raise DataError(f"Expected scores of shape (batch, classes). Received: {predictions.shape}.")
    if labels.shape == predictions.shape:
        labels = labels.argmax(axis=1)
    if labels.shape != (len(predictions),):
        raise DataError(
            f"Expected a label for each of {len(predictions)} predictions, or soft labels of shape "
            f"{predictions.shape}. Received: {labels.shape}."
        )
    labels = labels.astype(np.int64)
    if labels.size and not 0 <= labels.min() <= labels.max() < predictions.shape[1]:
        raise DataError(
            f"Expected labels from 0 to {predictions.shape[1] - 1}, the classes that are predicted. "
            f"Received: {labels.min()} to {labels.max()}."
        )
    return labels, predictions

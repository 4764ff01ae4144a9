"""Metrics of classifiers. Labels are (batch,), or soft (batch, classes); predictions are scores (batch, classes)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glueball.errors import DataError, OptionError
from glueball.metrics.metric import Metric, class_labels, ratio

__all__ = [
    "F1",
    "RMSE",
    "Accuracy",
    "ConfusionMatrix",
    "CrossEntropy",
    "TopKAccuracy",
]


class Accuracy(Metric):
    """The share of samples whose highest score is that of their class."""

    def __init__(self, name: str = "accuracy", ignore_labels: Sequence[int] = ()) -> None:
        """``ignore_labels``: samples with these labels do not count."""
        self.ignore_labels = tuple(ignore_labels)
        super().__init__(name)

    def zeros(self) -> dict[str, np.ndarray]:
        return {"correct": np.zeros((), np.int64), "count": np.zeros((), np.int64)}

    def update(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        predictions = np.asarray(predictions)
        if self.ignore_labels and np.ndim(labels) == 1:
            # Before the labels are checked: those that are ignored (-1) need not be classes.
            kept = ~np.isin(labels, self.ignore_labels)
            labels, predictions = np.asarray(labels)[kept], predictions[kept]
        labels, predictions = class_labels(labels, predictions)
        self.add(correct=np.count_nonzero(predictions.argmax(axis=1) == labels), count=len(labels))

    def compute(self) -> dict[str, float]:
        return {self.name: ratio(self.sums["correct"], self.sums["count"])}


class TopKAccuracy(Metric):
    """The share of samples whose class is among the ``k`` highest scores.

    Among equal scores the lower class comes first, so that the value does not depend on a sorting algorithm; a row with
    NaN is wrong.

    Raises:
        OptionError: ``k`` is below 1.
    """

    def __init__(self, k: int = 5, name: str | None = None) -> None:
        if k < 1:
            raise OptionError(f"Expected k of at least 1. Received: {k}.")
        self.k = k
        super().__init__(name or f"top{k}_accuracy")

    def zeros(self) -> dict[str, np.ndarray]:
        return {"correct": np.zeros((), np.int64), "count": np.zeros((), np.int64)}

    def update(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        labels, predictions = class_labels(labels, predictions)
        own = predictions[np.arange(len(labels)), labels][:, None]
        # A class's rank is counted, which takes one pass; sorting every row would take many.
        before = np.arange(predictions.shape[1]) < labels[:, None]
        ahead = np.count_nonzero((predictions > own) | ((predictions == own) & before), axis=1)
        valid = ~np.isnan(predictions).any(axis=1)
        self.add(correct=np.count_nonzero((ahead < self.k) & valid), count=len(labels))

    def compute(self) -> dict[str, float]:
        return {self.name: ratio(self.sums["correct"], self.sums["count"])}


class CrossEntropy(Metric):
    """The mean cross entropy of the softmax of the scores, in nats; soft labels count as they are."""

    higher_is_better = False

    def __init__(self, name: str = "cross_entropy", from_probabilities: bool = False) -> None:
        """``from_probabilities``: predictions are probabilities already."""
        self.from_probabilities = from_probabilities
        super().__init__(name)

    def zeros(self) -> dict[str, np.ndarray]:
        return {"total": np.zeros(()), "count": np.zeros((), np.int64)}

    def update(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        soft = np.asarray(labels)
        hard, predictions = class_labels(labels, predictions)
        scores = predictions.astype(np.float64)
        if self.from_probabilities:
            # The smallest positive double keeps a wrong certainty finite.
            log_probabilities = np.log(np.maximum(scores, np.finfo(np.float64).tiny))
        else:
            scores = scores - scores.max(axis=1, keepdims=True)
            log_probabilities = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
        if soft.shape == predictions.shape:
            total = -(soft * log_probabilities).sum()
        else:
            total = -log_probabilities[np.arange(len(hard)), hard].sum()
        self.add(total=total, count=len(hard))

    def compute(self) -> dict[str, float]:
        return {self.name: ratio(self.sums["total"], self.sums["count"])}


class RMSE(Metric):
    """The root of the mean squared difference: of probabilities and soft labels while mixup trains, or of any arrays of
    one shape.

    Labels (batch,) beside scores (batch, classes) count as one-hot. GluonCV averages the roots of batches; this is the
    root of the average over all samples, which does not depend on the batch size.
    """

    higher_is_better = False

    def __init__(self, name: str = "rmse", softmax: bool = False) -> None:
        """``softmax``: predictions are scores, whose softmax is compared."""
        self.softmax = softmax
        super().__init__(name)

    def zeros(self) -> dict[str, np.ndarray]:
        return {"total": np.zeros(()), "count": np.zeros((), np.int64)}

    def update(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        targets, values = np.asarray(labels), np.asarray(predictions).astype(np.float64)
        if targets.ndim == 1 and values.ndim == 2:
            hard, _ = class_labels(targets, values)
            targets = np.eye(values.shape[1])[hard]
        if targets.shape != values.shape:
            raise DataError(f"RMSE compares arrays of one shape. Received: {targets.shape} and {values.shape}.")
        if self.softmax:
            values = np.exp(values - values.max(axis=-1, keepdims=True))
            values /= values.sum(axis=-1, keepdims=True)
        self.add(total=np.square(values - targets).sum(), count=values.size)

    def compute(self) -> dict[str, float]:
        return {self.name: float(np.sqrt(ratio(self.sums["total"], self.sums["count"])))}


class ConfusionMatrix(Metric):
    """How often each class was taken for each other: ``matrix[label, predicted]``.

    Its value is the mean of the classes' recalls (balanced accuracy), over the classes that have samples.

    Raises:
        OptionError: fewer than two classes.
    """

    def __init__(self, classes: int, name: str = "mean_class_accuracy") -> None:
        if classes < 2:
            raise OptionError(f"A confusion matrix needs at least 2 classes. Received: {classes}.")
        self.classes = classes
        super().__init__(name)

    @property
    def matrix(self) -> np.ndarray:
        """(classes, classes) int64: rows are labels, columns predictions."""
        return self.sums["matrix"]

    def zeros(self) -> dict[str, np.ndarray]:
        return {"matrix": np.zeros((self.classes, self.classes), np.int64)}

    def update(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        labels, predictions = class_labels(labels, predictions)
        if predictions.shape[1] != self.classes:
            raise DataError(f"Expected scores for {self.classes} classes. Received: {predictions.shape[1]}.")
        cells = labels * self.classes + predictions.argmax(axis=1)
        self.add(matrix=np.bincount(cells, minlength=self.classes**2).reshape(self.classes, self.classes))

    def recall(self) -> np.ndarray:
        """The share of each class's samples that was found, (classes,); NaN for a class without samples."""
        return _shares(np.diag(self.matrix), self.matrix.sum(axis=1))

    def precision(self) -> np.ndarray:
        """The share of right ones among what was taken for each class, (classes,); NaN for a class never predicted."""
        return _shares(np.diag(self.matrix), self.matrix.sum(axis=0))

    def compute(self) -> dict[str, float]:
        recall = self.recall()
        known = recall[~np.isnan(recall)]
        return {self.name: ratio(known.sum(), len(known))}


class F1(ConfusionMatrix):
    """The harmonic mean of precision and recall.

    Args:
        classes: how many there are.
        average: "macro", the mean over the classes that occur in labels or predictions; "micro", over all samples
            together (which equals accuracy where every sample has one class); "binary", of the class 1 of two.

    Raises:
        OptionError: the average is unknown, or "binary" with more than two classes.
    """

    def __init__(self, classes: int = 2, average: str = "macro", name: str | None = None) -> None:
        if average not in ("macro", "micro", "binary"):
            raise OptionError(f'Expected average to be "macro", "micro" or "binary". Received: {average!r}.')
        if average == "binary" and classes != 2:
            raise OptionError(f'average="binary" is for 2 classes. Received: {classes}. Take "macro".')
        self.average = average
        super().__init__(classes, name or ("f1" if average == "binary" else f"f1_{average}"))

    def per_class(self) -> np.ndarray:
        """F1 of each class, (classes,); NaN for a class that is neither in the labels nor in the predictions."""
        hits = np.diag(self.matrix)
        return _shares(2 * hits, self.matrix.sum(axis=0) + self.matrix.sum(axis=1))

    def compute(self) -> dict[str, float]:
        if self.average == "micro":
            return {self.name: ratio(np.trace(self.matrix), self.matrix.sum())}
        scores = self.per_class()
        if self.average == "binary":
            return {self.name: float(scores[1])}
        known = scores[~np.isnan(scores)]
        return {self.name: ratio(known.sum(), len(known))}


def _shares(parts: np.ndarray, totals: np.ndarray) -> np.ndarray:
    return np.divide(parts, totals, out=np.full(len(parts), np.nan), where=totals > 0)

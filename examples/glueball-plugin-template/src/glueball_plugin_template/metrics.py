"""A metric: it sees labels and predictions as NumPy arrays, batch by batch."""

from __future__ import annotations

import numpy as np


class MeanClassAccuracy:
    """The share of samples that are right within each class, averaged over the classes seen.

    Unlike the plain accuracy it does not reward a network that always names the most frequent class.
    """

    name = "mean_class_accuracy"

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Forgets all batches."""
        self._right: dict[int, int] = {}
        self._seen: dict[int, int] = {}

    def update(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        """Adds a batch: labels (batch,), scores (batch, classes)."""
        truth = np.asarray(labels).astype(np.int64)
        right = np.asarray(predictions).argmax(axis=-1) == truth
        for label in np.unique(truth):
            members = truth == label
            self._seen[int(label)] = self._seen.get(int(label), 0) + int(members.sum())
            self._right[int(label)] = self._right.get(int(label), 0) + int(right[members].sum())

    def get(self) -> tuple[str, float]:
        """The name and the value from 0 to 1; not a number before the first batch."""
        if not self._seen:
            return self.name, float("nan")
        return self.name, float(np.mean([self._right[label] / seen for label, seen in self._seen.items()]))

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
        # Plain arrays, which the engine's checkpoints keep without being told.
        self._seen = np.zeros(0, np.int64)
        self._right = np.zeros(0, np.int64)

    def update(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        """Adds a batch: labels (batch,), scores (batch, classes)."""
        scores = np.asarray(predictions)
        truth = np.asarray(labels).astype(np.int64)
        right = truth[scores.argmax(axis=-1) == truth]
        missing = max(0, scores.shape[-1] - len(self._seen))
        self._seen = np.pad(self._seen, (0, missing)) + np.bincount(truth, minlength=scores.shape[-1])
        self._right = np.pad(self._right, (0, missing)) + np.bincount(right, minlength=scores.shape[-1])

    def get(self) -> tuple[str, float]:
        """The name and the value from 0 to 1; not a number before the first batch."""
        seen = self._seen > 0
        return self.name, float(np.mean(self._right[seen] / self._seen[seen])) if seen.any() else float("nan")

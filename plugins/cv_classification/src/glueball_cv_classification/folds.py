"""Folds of a data set: every sample is held out of exactly one, and every class is divided alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glueball.data import Dataset
from glueball.errors import DataError, OptionError


def fold_numbers(labels: np.ndarray, folds: int, seed: int = 0) -> np.ndarray:
    """The fold that each sample is held out of: int64 of shape (samples,), from 0.

    Folds differ by one sample at most, and so do the samples of a class in them. Which samples these are is drawn by
    ``seed``; the same labels give the same folds on every machine.

    Raises:
        DataError: there are fewer samples than folds.
    """
    labels = np.asarray(labels)
    if len(labels) < folds:
        raise DataError(
            f"{folds} folds need at least as many pictures. Received: {len(labels)}. Choose fewer folds, or add "
            "pictures."
        )
    random = np.random.Generator(np.random.Philox(seed))
    # A key for each sample and a stable sort: how a permutation is drawn may change with NumPy, this does not.
    keys = random.integers(0, 1 << 62, len(labels))
    order = np.lexsort((np.arange(len(labels)), keys, labels))
    numbers = np.empty(len(labels), np.int64)
    # One round for all classes: where each began at the first fold, small classes would all lack the last ones.
    numbers[order] = np.arange(len(labels)) % folds
    return numbers


class FoldPart(Dataset):
    """The part of a data set that one fold trains on, or holds out.

    Args:
        data: one with ``classes`` and ``labels()``, as all of this distribution are.
        index: of the fold, from 0.
        folds: how many there are.
        held_out: the part held out; otherwise the rest, which the fold trains on.

    Raises:
        DataError: there are fewer samples than folds.
        OptionError: there is no such fold, or the data do not know their labels without decoding every picture.
    """

    def __init__(self, data: Any, index: int, folds: int, *, held_out: bool) -> None:
        if folds < 2 or not 0 <= index < folds:
            raise OptionError(f"Expected a fold from 0 to {folds - 1}, of at least 2. Received: {index} of {folds}.")
        labels = data.labels()
        if labels is None:
            raise OptionError(
                f"{type(data).__name__} does not know its labels beforehand, so that it cannot be divided class by "
                "class. Leave --folds out, or give it labels()."
            )
        chosen = np.flatnonzero((fold_numbers(labels, folds) == index) == held_out)
        self._part = data.subset(chosen)
        self.is_random = data.is_random
        self.classes: Sequence[str] = data.classes
        part = "held out" if held_out else "trained on"
        beside = f"; {data.summary}" if getattr(data, "summary", "") else ""
        self.summary = f"fold {index + 1} of {folds}, {part}, every class divided alike{beside}"

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, index: int) -> Any:
        return self._part[index]

    def fetch(self, index: int, random: np.random.Generator | None = None) -> Any:
        return self._part.fetch(index, random)

    def describe(self, index: int) -> str:
        return str(self._part.describe(index))

    def labels(self) -> Any:
        return self._part.labels()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} images, {len(self.classes)} classes: {self.summary})"

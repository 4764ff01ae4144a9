"""Pictures in record files, as MXNet's im2rec packs them: one large file instead of a million small ones."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glueball.data.recordfile import ImageRecordDataset
from glueball.errors import DataError

from .common import ImageClassificationDataset, checked_labels

_USUAL_CLASSES = 1 << 16
"""So many classes are believed whatever the number of pictures."""


class ImageRecord(ImageClassificationDataset):
    """Labelled pictures of a .rec file, found through its .idx file (or by one scan where there is none).

    Args:
        path: the .rec file.
        index_path: its .idx file; default: next to it.
        classes: class names in the order of the labels; default: "0", "1", ... up to the highest label, since record
            files hold numbers only.

    Raises:
        DataError: a file is missing or damaged, or a record's label is no class.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        index_path: str | os.PathLike[str] | None = None,
        *,
        classes: Sequence[str] | None = None,
    ) -> None:
        place = Path(path).expanduser()
        self._records = ImageRecordDataset(place, index_path)
        labels = self._records.labels()
        if labels is None:
            raise DataError(
                f"{place} holds several labels for each picture. Expected one, the class. Read such files with "
                "glueball.data.recordfile.ImageRecordDataset."
            )
        count = int(labels.max()) + 1 if len(labels) else 0
        if classes is None and count > max(_USUAL_CLASSES, 10 * len(labels)):
            raise DataError(
                f"{place} holds the label {count - 1:,}, and {len(labels):,} pictures. Expected labels of classes, "
                "counted from 0. Name the classes (classes=) if there are so many."
            )
        self.classes = tuple(str(label) for label in range(count)) if classes is None else tuple(classes)
        self._labels = checked_labels(np.asarray(labels), len(self._records), len(self.classes))
        self.summary = f"{place}"

    def image(self, index: int) -> np.ndarray:
        return self._records[index][0]

    def describe(self, index: int) -> str:
        return self._records.describe(index)

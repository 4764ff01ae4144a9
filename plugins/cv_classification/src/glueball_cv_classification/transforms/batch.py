"""Transforms of whole batches: mixup and cutmix.

They turn labels into soft labels, float32 of shape (batch, classes), which every loss here takes. A sample's partner is
its mirror image in the batch (the batch is mixed with itself reversed, GluonCV's way): batches are shuffled already, so
no second permutation is drawn.
"""

from __future__ import annotations

from typing import Any, ClassVar

import attrs
import numpy as np

from glueball.data.sharing import MIRROR
from glueball.errors import DataError

from .base import generator, within

Batch = tuple[np.ndarray, ...]


def soft_labels(labels: np.ndarray, classes: int, smoothing: float = 0.0) -> np.ndarray:
    """Labels (batch,) as probabilities, float32 (batch, classes).

    With smoothing s the class has ``1 - s + s / classes`` and every other ``s / classes`` (arXiv:1512.00567, section
    7). Labels that are soft already stay as they are.

    Raises:
        DataError: a label is no class.
    """
    if labels.ndim == 2:
        if labels.shape[1] != classes:
            raise DataError(f"Expected soft labels of shape (batch, {classes}). Received: {labels.shape}.")
        return labels.astype(np.float32, copy=False)
    if labels.size and not 0 <= labels.min() <= labels.max() < classes:
        raise DataError(
            f"Expected labels from 0 to {classes - 1}. Received labels from {labels.min()} to {labels.max()}."
        )
    soft = np.full((len(labels), classes), smoothing / classes, np.float32)
    soft[np.arange(len(labels)), labels.astype(np.int64)] += np.float32(1.0 - smoothing)
    return soft


class BatchTransform:
    """``transform((images, labels), random) -> (images, soft labels)``; what follows in a batch stays as it is."""

    is_random: ClassVar[bool] = True

    def __call__(self, batch: Batch, random: np.random.Generator | None = None) -> Batch:
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Name and parameters in plain values."""
        return {"transform": type(self).__name__, **attrs.asdict(self)}  # type: ignore[arg-type]


@attrs.frozen
class SoftLabels(BatchTransform):
    """Labels only: one-hot with smoothing, for validation beside mixup or for distillation."""

    is_random: ClassVar[bool] = False
    classes: int = attrs.field(validator=within(1, 2**31))
    smoothing: float = attrs.field(default=0.0, validator=within(0.0, 1.0))

    def __call__(self, batch: Batch, random: np.random.Generator | None = None) -> Batch:
        images, labels, *rest = batch
        return (images, soft_labels(labels, self.classes, self.smoothing), *rest)


@attrs.frozen
class MixUp(BatchTransform):
    """``x = l x + (1 - l) x[::-1]``, labels likewise, with one ``l ~ Beta(alpha, alpha)`` for the batch
    (arXiv:1710.09412)."""

    partner: ClassVar[str] = MIRROR
    classes: int = attrs.field(validator=within(1, 2**31))
    alpha: float = attrs.field(default=0.2, validator=within(0.0, 100.0))
    """0 mixes nothing."""
    smoothing: float = attrs.field(default=0.0, validator=within(0.0, 1.0))

    def __call__(self, batch: Batch, random: np.random.Generator | None = None) -> Batch:
        images, labels, *rest = batch
        soft = soft_labels(labels, self.classes, self.smoothing)
        share = generator(random).beta(self.alpha, self.alpha) if self.alpha > 0 else 1.0
        return (_mixed(images, share), _mixed(soft, share), *rest)


def _mixed(values: np.ndarray, share: float) -> np.ndarray:
    if share == 1.0:
        return values
    if values.dtype != np.float32:
        values = values.astype(np.float32)
    mixed = values * np.float32(share)
    mixed += values[::-1] * np.float32(1.0 - share)
    return mixed


@attrs.frozen
class CutMix(BatchTransform):
    """Pastes a rectangle of the partner; labels are shared by area (arXiv:1905.04899)."""

    partner: ClassVar[str] = MIRROR
    classes: int = attrs.field(validator=within(1, 2**31))
    alpha: float = attrs.field(default=1.0, validator=within(0.0, 100.0))
    """Of the area's Beta distribution; 0 mixes nothing."""
    smoothing: float = attrs.field(default=0.0, validator=within(0.0, 1.0))

    def __call__(self, batch: Batch, random: np.random.Generator | None = None) -> Batch:
        images, labels, *rest = batch
        soft = soft_labels(labels, self.classes, self.smoothing)
        if self.alpha <= 0:
            return (images, soft, *rest)
        random = generator(random)
        side = np.sqrt(1.0 - random.beta(self.alpha, self.alpha))
        height, width = images.shape[2:]
        half_height, half_width = int(height * side) // 2, int(width * side) // 2
        center_y, center_x = int(random.integers(0, height)), int(random.integers(0, width))
        rows = slice(max(center_y - half_height, 0), min(center_y + half_height, height))
        columns = slice(max(center_x - half_width, 0), min(center_x + half_width, width))
        pasted = images.copy()
        pasted[:, :, rows, columns] = images[::-1, :, rows, columns]
        # What was pasted in fact, after the border clipped it.
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        return (pasted, _mixed(soft, 1.0 - area / (height * width)), *rest)


@attrs.frozen
class MixUpOrCutMix(BatchTransform):
    """Either of the two for each batch, as recipes of vision transformers mix them."""

    partner: ClassVar[str] = MIRROR
    classes: int = attrs.field(validator=within(1, 2**31))
    mixup_alpha: float = attrs.field(default=0.8, validator=within(0.0, 100.0))
    cutmix_alpha: float = attrs.field(default=1.0, validator=within(0.0, 100.0))
    cutmix_probability: float = attrs.field(default=0.5, validator=within(0.0, 1.0))
    smoothing: float = attrs.field(default=0.0, validator=within(0.0, 1.0))

    def __call__(self, batch: Batch, random: np.random.Generator | None = None) -> Batch:
        random = generator(random)
        chosen: BatchTransform
        if random.random() < self.cutmix_probability:
            chosen = CutMix(self.classes, self.cutmix_alpha, self.smoothing)
        else:
            chosen = MixUp(self.classes, self.mixup_alpha, self.smoothing)
        return chosen(batch, random)

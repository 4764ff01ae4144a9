"""Transforms that take something away from a picture."""

from __future__ import annotations

import math
from typing import ClassVar

import attrs
import numpy as np

from .base import Transform, generator, numbers, within


def _colour(fill: tuple[float, ...], image: np.ndarray) -> np.ndarray:
    values = np.array(fill if len(fill) > 1 else fill * image.shape[2])
    return (np.rint(values) if image.dtype == np.uint8 else values).astype(image.dtype)


@attrs.frozen
class RandomErasing(Transform):
    """Paints a random rectangle over the picture with a probability (arXiv:1708.04896).

    Area (as a share of the picture) and aspect ratio are uniform; a rectangle that does not fit is not painted, which
    is GluonCV's way (the paper draws again).
    """

    is_random: ClassVar[bool] = True
    probability: float = attrs.field(default=0.5, validator=within(0.0, 1.0))
    smallest: float = attrs.field(default=0.02, validator=within(0.0, 1.0))
    largest: float = attrs.field(default=0.4, validator=within(0.0, 1.0))
    ratio: float = attrs.field(default=0.3, validator=within(1e-3, 1.0))
    """Aspect ratios lie between this and its inverse."""
    fill: tuple[float, ...] = attrs.field(default=(125.31, 122.96, 113.86), converter=numbers)

    def box(self, height: int, width: int, random: np.random.Generator) -> tuple[int, int, int, int] | None:
        """(top, left, bottom, right), or None where nothing is painted."""
        if random.random() >= self.probability:
            return None
        area = random.uniform(self.smallest, self.largest) * height * width
        ratio = random.uniform(self.ratio, 1.0 / self.ratio)
        box_height, box_width = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if box_height >= height or box_width >= width:
            return None
        top = int(random.integers(0, height - box_height, endpoint=True))
        left = int(random.integers(0, width - box_width, endpoint=True))
        return top, left, top + box_height, left + box_width

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        box = self.box(image.shape[0], image.shape[1], generator(random))
        if box is None:
            return image
        top, left, bottom, right = box
        image = image.copy()
        image[top:bottom, left:right] = _colour(self.fill, image)
        return image


@attrs.frozen
class Cutout(Transform):
    """Paints a square whose centre is anywhere in the picture, clipped at the border (arXiv:1708.04552)."""

    is_random: ClassVar[bool] = True
    length: int = attrs.field(default=16, validator=within(1, 65536))
    """Side of the square in pixels."""
    fill: tuple[float, ...] = attrs.field(default=(0.0,), converter=numbers)

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        random = generator(random)
        height, width = image.shape[:2]
        top = int(random.integers(0, height)) - self.length // 2
        left = int(random.integers(0, width)) - self.length // 2
        image = image.copy()
        image[max(top, 0) : top + self.length, max(left, 0) : left + self.length] = _colour(self.fill, image)
        return image

"""Transforms that move pixels: resizing, cropping, flipping.

Sampling follows MXNet and GluonCV, with which the official weights were trained: which crops are likely is part of a
recipe.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import attrs
import numpy as np

from glueball.data.images import INTERPOLATIONS, crop_resize, resize
from glueball.errors import OptionError

from .base import Size, Transform, generator, numbers, ordered_range, pair, size_or_pair, within


def _check_interpolation(instance: Any, attribute: Any, value: str) -> None:
    if value not in INTERPOLATIONS:
        raise OptionError(
            f"{type(instance).__name__}: expected {attribute.name} to be one of {', '.join(INTERPOLATIONS)}. "
            f"Received: {value!r}."
        )


def interpolation_field(default: str = "bilinear") -> Any:
    """The parameter that says how pixels between pixels are found."""
    return attrs.field(default=default, validator=_check_interpolation)


def fit_inside(height: int, width: int, size: tuple[int, int]) -> tuple[int, int]:
    """The largest (height, width) of the shape of ``size``, no larger than it, that fits into a picture."""
    wanted_height, wanted_width = float(size[0]), float(size[1])
    if height < wanted_height:
        wanted_height, wanted_width = height, wanted_width * height / wanted_height
    if width < wanted_width:
        wanted_height, wanted_width = wanted_height * width / wanted_width, width
    # At least one pixel, even of a picture that is a single row.
    return max(int(wanted_height), 1), max(int(wanted_width), 1)


@attrs.frozen
class Resize(Transform):
    """Resizes the short side to ``size`` and keeps the aspect ratio; or, with two numbers or ``keep_ratio`` off, both.

    The long side is rounded down, as MXNet does.
    """

    size: Size = attrs.field(converter=size_or_pair)
    keep_ratio: bool = True
    interpolation: str = interpolation_field()
    antialias: bool = False
    """Widen the filter when the picture shrinks (Pillow's way); off is OpenCV's and so MXNet's way."""

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        height, width = image.shape[:2]
        if not isinstance(self.size, int):
            target = self.size
        elif not self.keep_ratio:
            target = (self.size, self.size)
        elif height > width:
            target = (self.size * height // width, self.size)
        else:
            target = (self.size, self.size * width // height)
        return resize(image, target, self.interpolation, antialias=self.antialias)


@attrs.frozen
class CenterCrop(Transform):
    """The centre of the picture; where the picture is too small, the largest centre of that shape, enlarged."""

    size: Size = attrs.field(converter=pair)
    interpolation: str = interpolation_field()

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        size = pair(self.size)
        height, width = image.shape[:2]
        crop_height, crop_width = fit_inside(height, width, size)
        left, top = (width - crop_width) // 2, (height - crop_height) // 2
        return crop_resize(image, (left, top, left + crop_width, top + crop_height), size, self.interpolation)


@attrs.frozen
class RandomResizedCrop(Transform):
    """A random part of the picture, of random area and aspect ratio, resized to ``size`` (arXiv:1409.4842).

    The area is uniform in ``scale`` (as a share of the picture), the logarithm of the aspect ratio uniform. After 10
    draws that do not fit the centre is taken.
    """

    is_random: ClassVar[bool] = True
    size: Size = attrs.field(converter=pair)
    scale: tuple[float, ...] = attrs.field(default=(0.08, 1.0), converter=numbers, validator=ordered_range(0.0, 1.0))
    ratio: tuple[float, ...] = attrs.field(default=(3 / 4, 4 / 3), converter=numbers, validator=ordered_range(0.0))
    """Width over height."""
    interpolation: str = interpolation_field()
    antialias: bool = False

    def box(self, height: int, width: int, random: np.random.Generator) -> tuple[int, int, int, int] | None:
        """(left, top, right, bottom), or None when no draw fits."""
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            area = random.uniform(self.scale[0], self.scale[1]) * (height * width)
            ratio = math.exp(random.uniform(low, high))
            crop_width, crop_height = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < crop_width <= width and 0 < crop_height <= height:
                left = int(random.integers(0, width - crop_width, endpoint=True))
                top = int(random.integers(0, height - crop_height, endpoint=True))
                return left, top, left + crop_width, top + crop_height
        return None

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        box = self.box(image.shape[0], image.shape[1], generator(random))
        if box is None:
            return CenterCrop(self.size, self.interpolation)(image)
        return crop_resize(image, box, pair(self.size), self.interpolation, antialias=self.antialias)


@attrs.frozen
class RandomCrop(Transform):
    """A random part of ``size`` of the picture with a border of ``pad`` pixels: the augmentation of CIFAR recipes.

    A picture that is too small even with its border gives its largest part of that shape, enlarged.
    """

    is_random: ClassVar[bool] = True
    size: Size = attrs.field(converter=pair)
    pad: int = attrs.field(default=0, validator=within(0, 4096))
    fill: tuple[float, ...] = attrs.field(default=(0.0,), converter=numbers)
    """Colour of the border, one number or one for each channel."""
    interpolation: str = interpolation_field()

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        random = generator(random)
        image = np.asarray(image)
        size = pair(self.size)
        height, width, channels = image.shape
        padded_height, padded_width = height + 2 * self.pad, width + 2 * self.pad
        crop_height, crop_width = fit_inside(padded_height, padded_width, size)
        left = int(random.integers(0, padded_width - crop_width, endpoint=True)) - self.pad
        top = int(random.integers(0, padded_height - crop_height, endpoint=True)) - self.pad
        right, bottom = left + crop_width, top + crop_height
        if left >= 0 and top >= 0 and right <= width and bottom <= height:
            part = image[top:bottom, left:right]
        else:
            # The border is never built as a whole: only what the crop holds of it.
            part = np.empty((crop_height, crop_width, channels), image.dtype)
            part[:] = np.array(self.fill if len(self.fill) > 1 else self.fill * channels).astype(image.dtype)
            inner = image[max(top, 0) : bottom, max(left, 0) : right]
            start_y, start_x = max(-top, 0), max(-left, 0)
            part[start_y : start_y + inner.shape[0], start_x : start_x + inner.shape[1]] = inner
        return resize(part, size, self.interpolation)


@attrs.frozen
class RandomFlipLeftRight(Transform):
    """Mirrors the picture about its vertical axis with a probability."""

    is_random: ClassVar[bool] = True
    probability: float = attrs.field(default=0.5, validator=within(0.0, 1.0))

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        return image[:, ::-1] if generator(random).random() < self.probability else image


@attrs.frozen
class RandomFlipTopBottom(Transform):
    """Mirrors the picture about its horizontal axis with a probability."""

    is_random: ClassVar[bool] = True
    probability: float = attrs.field(default=0.5, validator=within(0.0, 1.0))

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        return image[::-1] if generator(random).random() < self.probability else image


def _five_boxes(height: int, width: int, size: tuple[int, int], name: str) -> list[tuple[slice, slice]]:
    crop_height, crop_width = size
    if height < crop_height or width < crop_width:
        raise OptionError(
            f"{name} takes crops of {crop_height}x{crop_width} (height x width) from a picture that is no smaller. "
            f"Received: a picture of {height}x{width}. Resize it first."
        )
    bottom, right = height - crop_height, width - crop_width
    corners = [(bottom // 2, right // 2), (0, 0), (bottom, 0), (0, right), (bottom, right)]
    return [(slice(top, top + crop_height), slice(left, left + crop_width)) for top, left in corners]


@attrs.frozen
class FiveCrop(Transform):
    """Centre and corners: (5, height, width, channels), in the order centre, top left, bottom left, top right,
    bottom right.

    Raises:
        OptionError: the picture is smaller than the crop.
    """

    size: Size = attrs.field(converter=pair)

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        image = np.asarray(image)
        boxes = _five_boxes(image.shape[0], image.shape[1], pair(self.size), type(self).__name__)
        return np.stack([image[rows, columns] for rows, columns in boxes])


@attrs.frozen
class TenCrop(Transform):
    """``FiveCrop`` and its mirror images: (10, height, width, channels) (AlexNet's evaluation).

    Raises:
        OptionError: the picture is smaller than the crop.
    """

    size: Size = attrs.field(converter=pair)

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        image = np.asarray(image)
        boxes = _five_boxes(image.shape[0], image.shape[1], pair(self.size), type(self).__name__)
        crops = [image[rows, columns] for rows, columns in boxes]
        return np.stack(crops + [crop[:, ::-1] for crop in crops])


@attrs.frozen
class SmallViews(Transform):
    """A picture as it would have looked a little different: (views, height, width, channels).

    A network that was trained on shifted and mirrored pictures answers for all of them, and the mean of several answers
    is better than one (arXiv:2404.00498, section 3.5).
    """

    mirror: bool = True
    """Each view is followed by its mirror image."""
    shift: int = attrs.field(default=1, validator=within(0, 64))
    """Pixels by which two further views are moved, to the upper left and the lower right; borders are reflected. 0 adds
    none."""

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        image = np.asarray(image)
        height, width = image.shape[:2]
        views = [image]
        if self.shift:
            border = self.shift
            # "symmetric" repeats the last pixel, so that it works for the smallest pictures too.
            wide = np.pad(image, ((border, border), (border, border), (0, 0)), mode="symmetric")
            views += [wide[start : start + height, start : start + width] for start in (2 * border, 0)]
        if self.mirror:
            views = [view for one in views for view in (one, one[:, ::-1])]
        return np.stack(views)


@attrs.frozen
class EfficientNetCenterCrop(Transform):
    """The centre square of ``size / (size + 32)`` of the short side, resized to ``size`` (arXiv:1905.11946)."""

    size: int = attrs.field(validator=within(1, 65536))
    interpolation: str = interpolation_field("bicubic")
    antialias: bool = True

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom)."""
        side = self.size / (self.size + 32) * min(height, width)
        top, left = round((height - side) / 2), round((width - side) / 2)
        # Whole pixels: round, but never past the border.
        side = max(round(side), 1)
        top, left = min(top, height - side), min(left, width - side)
        return left, top, left + side, top + side

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        box = self.box(image.shape[0], image.shape[1])
        return crop_resize(image, box, (self.size, self.size), self.interpolation, antialias=self.antialias)


@attrs.frozen
class EfficientNetRandomCrop(Transform):
    """EfficientNet's random crop, resized to ``size``: TensorFlow's distorted bounding box without a box.

    The aspect ratio is uniform, then the height between those of the smallest and the largest allowed area; after 10
    draws that do not fit, the centre is taken.
    """

    is_random: ClassVar[bool] = True
    size: int = attrs.field(validator=within(1, 65536))
    area: tuple[float, ...] = attrs.field(default=(0.1, 1.0), converter=numbers, validator=ordered_range(0.0, 1.0))
    ratio: tuple[float, ...] = attrs.field(default=(3 / 4, 4 / 3), converter=numbers, validator=ordered_range(0.0))
    """Width over height."""
    interpolation: str = interpolation_field("bicubic")
    antialias: bool = True

    def box(self, height: int, width: int, random: np.random.Generator) -> tuple[int, int, int, int] | None:
        """(left, top, right, bottom), or None for the centre."""
        smallest, largest = self.area[0] * height * width, self.area[1] * height * width
        for _ in range(10):
            ratio = random.uniform(self.ratio[0], self.ratio[1])
            lowest, highest = round(math.sqrt(smallest / ratio)), round(math.sqrt(largest / ratio))
            if highest * ratio > width:
                highest = int((width + 0.5 - 1e-7) / ratio)
                if highest * ratio > width:
                    highest -= 1
            highest = min(highest, height)
            lowest = min(lowest, highest)
            crop_height = round(random.uniform(lowest, highest))
            crop_width = round(crop_height * ratio)
            if not smallest <= crop_width * crop_height <= largest or crop_width > width or crop_height > height:
                continue
            if (crop_width, crop_height) == (width, height):
                return None
            left = int(random.integers(0, width - crop_width, endpoint=True))
            top = int(random.integers(0, height - crop_height, endpoint=True))
            return left, top, left + crop_width, top + crop_height
        return None

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        box = self.box(image.shape[0], image.shape[1], generator(random))
        if box is None:
            return EfficientNetCenterCrop(self.size, self.interpolation, self.antialias)(image)
        return crop_resize(image, box, (self.size, self.size), self.interpolation, antialias=self.antialias)

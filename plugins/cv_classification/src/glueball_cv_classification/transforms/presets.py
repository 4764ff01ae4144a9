"""Whole pipelines, in a few numbers that a run folder can keep.

``ClassificationTrain`` and ``ClassificationEval`` say everything that a recipe decides about its pictures; the
functions below them give the numbers of well-known recipes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, ClassVar

import attrs
import numpy as np

from glueball.errors import OptionError

from .base import Compose, Transform, numbers, ordered_range, within
from .color import RandomColorJitter, RandomLighting
from .erasing import Cutout, RandomErasing
from .geometry import (
    CenterCrop,
    RandomCrop,
    RandomFlipLeftRight,
    RandomResizedCrop,
    Resize,
    SmallViews,
    TenCrop,
    interpolation_field,
)
from .policy import POLICIES, AutoAugment, RandAugment
from .tensor import CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD, ToNormalizedTensor

TRAIN_CROPS = ("resized", "padded")
EVAL_CROPS = ("center", "ten", "whole")
AUTO_AUGMENTATIONS = ("none", "randaugment", *POLICIES)


def _choice(values: tuple[str, ...]) -> Any:
    def check(instance: Any, attribute: Any, value: str) -> None:
        if value not in values:
            raise OptionError(
                f"{type(instance).__name__}: expected {attribute.name} to be one of {', '.join(values)}. "
                f"Received: {value!r}."
            )

    return check


class Preset(Transform):
    """A pipeline made from its own parameters."""

    def steps(self) -> Iterator[Transform]:
        """The steps in order."""
        raise NotImplementedError

    def compose(self) -> Compose:
        """The pipeline."""
        return Compose(tuple(self.steps()))


@attrs.frozen(kw_only=True, slots=False)
class ClassificationTrain(Preset):
    """Training pictures of a classifier: float32 (channels, size, size), normalised."""

    is_random: ClassVar[bool] = True

    # What becomes of the shape
    size: int = attrs.field(default=224, validator=within(1, 16384))
    crop: str = attrs.field(default="resized", validator=_choice(TRAIN_CROPS))
    """"resized": random area and aspect ratio (ImageNet). "padded": resized to ``size`` if it is not that already, then
    shifted by up to ``pad`` pixels (CIFAR)."""
    scale: tuple[float, ...] = attrs.field(default=(0.08, 1.0), converter=numbers, validator=ordered_range(0.0, 1.0))
    ratio: tuple[float, ...] = attrs.field(default=(3 / 4, 4 / 3), converter=numbers, validator=ordered_range(0.0))
    pad: int = attrs.field(default=4, validator=within(0, 4096))
    flip: float = attrs.field(default=0.5, validator=within(0.0, 1.0))
    """Probability of mirroring; 0 where left and right matter, as in digits."""
    interpolation: str = interpolation_field()

    # What becomes of the colours
    brightness: float = attrs.field(default=0.0, validator=within(0.0, 1.0))
    contrast: float = attrs.field(default=0.0, validator=within(0.0, 1.0))
    saturation: float = attrs.field(default=0.0, validator=within(0.0, 1.0))
    hue: float = attrs.field(default=0.0, validator=within(0.0, 1.0))
    lighting: float = attrs.field(default=0.0, validator=within(0.0, 10.0))
    """Standard deviation of the PCA noise."""

    # Policies and erasing
    auto_augment: str = attrs.field(default="none", validator=_choice(AUTO_AUGMENTATIONS))
    operations: int = attrs.field(default=2, validator=within(0, 32))
    magnitude: float = attrs.field(default=9.0, validator=within(0.0, 30.0))
    """With ``operations``, of RandAugment."""
    erasing: float = attrs.field(default=0.0, validator=within(0.0, 1.0))
    """Probability of random erasing."""
    cutout: int = attrs.field(default=0, validator=within(0, 16384))
    """Side of the square that is cut out."""

    # What the network sees
    mean: tuple[float, ...] = attrs.field(default=IMAGENET_MEAN, converter=numbers)
    std: tuple[float, ...] = attrs.field(default=IMAGENET_STD, converter=numbers)

    def steps(self) -> Iterator[Transform]:
        if self.crop == "resized":
            yield RandomResizedCrop(self.size, self.scale, self.ratio, self.interpolation)
        else:
            yield Resize((self.size, self.size), interpolation=self.interpolation)
            if self.pad:
                yield RandomCrop(self.size, self.pad)
        if self.flip:
            yield RandomFlipLeftRight(self.flip)
        if self.auto_augment == "randaugment":
            yield RandAugment(self.operations, self.magnitude)
        elif self.auto_augment != "none":
            yield AutoAugment(self.auto_augment)
        if self.brightness or self.contrast or self.saturation or self.hue:
            yield RandomColorJitter(self.brightness, self.contrast, self.saturation, self.hue)
        if self.lighting:
            yield RandomLighting(self.lighting)
        fill = tuple(255.0 * value for value in self.mean)
        if self.erasing:
            yield RandomErasing(self.erasing, fill=fill)
        if self.cutout:
            yield Cutout(self.cutout, fill=fill)
        yield ToNormalizedTensor(self.mean, self.std)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "_pipeline", self.compose())

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        return self._pipeline(image, random)  # type: ignore[attr-defined]


@attrs.frozen(kw_only=True, slots=False)
class ClassificationEval(Preset):
    """Pictures to evaluate or predict on: float32 (channels, size, size).

    Several views of a picture are (views, channels, size, size); the network's answers to them are averaged.

    Raises:
        OptionError: further views of ten crops are asked for, which are views already.
    """

    size: int = attrs.field(default=224, validator=within(1, 16384))
    crop: str = attrs.field(default="center", validator=_choice(EVAL_CROPS))
    """"center", "ten" (centre, corners and their mirror images), or "whole": the picture squeezed into the square."""
    mirror: bool = False
    """The crop and its mirror image: two views for one."""
    shift: int = attrs.field(default=0, validator=within(0, 64))
    """The crop, and the crop moved by so many pixels to two corners: three views for one."""
    crop_ratio: float = attrs.field(default=0.875, validator=within(0.01, 1.0))
    """The short side is resized to ``ceil(size / crop_ratio)`` first."""
    interpolation: str = interpolation_field()
    mean: tuple[float, ...] = attrs.field(default=IMAGENET_MEAN, converter=numbers)
    std: tuple[float, ...] = attrs.field(default=IMAGENET_STD, converter=numbers)

    def steps(self) -> Iterator[Transform]:
        if self.crop == "whole":
            yield Resize((self.size, self.size), interpolation=self.interpolation)
        else:
            # Rounded first: 224 / 0.875 must not become 257 through the last bit of a quotient.
            yield Resize(math.ceil(round(self.size / self.crop_ratio, 6)), interpolation=self.interpolation)
            yield TenCrop(self.size) if self.crop == "ten" else CenterCrop(self.size, self.interpolation)
        if self.mirror or self.shift:
            yield SmallViews(self.mirror, self.shift)
        yield ToNormalizedTensor(self.mean, self.std)

    def __attrs_post_init__(self) -> None:
        if (self.mirror or self.shift) and self.crop == "ten":
            raise OptionError(
                'mirror and shift go with crop="center" or "whole"; ten crops are views already. '
                f'Received: mirror={self.mirror}, shift={self.shift}, crop="ten". Leave mirror and shift out.'
            )
        object.__setattr__(self, "_pipeline", self.compose())

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        return self._pipeline(image, random)  # type: ignore[attr-defined]


# ----------------------------------------------------------------------------------------------------------------------
# The numbers of well-known recipes


def imagenet_train(size: int = 224, **options: Any) -> ClassificationTrain:
    """GluonCV's ImageNet recipe: random resized crop, flip, colour jitter 0.4, PCA noise 0.1.

    ``options`` replace single numbers.
    """
    values = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "lighting": 0.1}
    return ClassificationTrain(**{"size": size, **values, **options})


def imagenet_eval(size: int = 224, **options: Any) -> ClassificationEval:
    """Short side to size / 0.875, centre crop, ImageNet's mean and deviation."""
    return ClassificationEval(**{"size": size, **options})


def cifar_train(size: int = 32, **options: Any) -> ClassificationTrain:
    """GluonCV's CIFAR recipe: 4 pixels of border, random crop, flip."""
    return ClassificationTrain(
        **{"size": size, "crop": "padded", "pad": max(size // 8, 1), "mean": CIFAR_MEAN, "std": CIFAR_STD, **options}
    )


def cifar_eval(size: int = 32, **options: Any) -> ClassificationEval:
    """The whole picture, CIFAR's mean and deviation."""
    return ClassificationEval(**{"size": size, "crop": "whole", "mean": CIFAR_MEAN, "std": CIFAR_STD, **options})


def digits_train(size: int = 8, **options: Any) -> ClassificationTrain:
    """Digits are shifted by up to an eighth of their side, never mirrored."""
    values = {"crop": "padded", "pad": max(size // 8, 1), "flip": 0.0, "mean": (0.5,), "std": (0.5,)}
    return ClassificationTrain(**{"size": size, **values, **options})


def digits_eval(size: int = 8, **options: Any) -> ClassificationEval:
    """The whole digit, values from -1 to 1."""
    return ClassificationEval(**{"size": size, "crop": "whole", "mean": (0.5,), "std": (0.5,), **options})

"""Augmentation policies: RandAugment and AutoAugment, over one set of operations.

An operation has a strength from 0 (none) to 1 (the largest that AutoAugment's search allowed). Operations that go both
ways draw their sign. Posterising and solarising, whose tables in the AutoAugment paper run from strong to weak, run
from weak to strong here like all others; "strength 0" is the unchanged picture throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, TypeAlias

import attrs
import numpy as np
from PIL import Image, ImageEnhance, ImageOps

from glueball.errors import OptionError

from .base import Transform, generator, within

LARGEST_SHEAR = 0.3
LARGEST_TURN = 30.0
# 150 of the 331 pixels that the paper's pictures had.
LARGEST_SHIFT = 150 / 331
LARGEST_ENHANCEMENT = 0.9

Fill = tuple[int, ...]
GREY: Fill = (128, 128, 128)

Picture: TypeAlias = Image.Image
Operation = Callable[[Picture, float, Fill], Picture]


def _affine(picture: Picture, coefficients: tuple[float, ...], fill: Fill) -> Picture:
    return picture.transform(
        picture.size, Image.Transform.AFFINE, coefficients, Image.Resampling.NEAREST, fillcolor=fill
    )


def _shear_x(picture: Picture, strength: float, fill: Fill) -> Picture:
    return _affine(picture, (1, LARGEST_SHEAR * strength, 0, 0, 1, 0), fill)


def _shear_y(picture: Picture, strength: float, fill: Fill) -> Picture:
    return _affine(picture, (1, 0, 0, LARGEST_SHEAR * strength, 1, 0), fill)


def _translate_x(picture: Picture, strength: float, fill: Fill) -> Picture:
    return _affine(picture, (1, 0, round(LARGEST_SHIFT * strength * picture.width), 0, 1, 0), fill)


def _translate_y(picture: Picture, strength: float, fill: Fill) -> Picture:
    return _affine(picture, (1, 0, 0, 0, 1, round(LARGEST_SHIFT * strength * picture.height)), fill)


def _rotate(picture: Picture, strength: float, fill: Fill) -> Picture:
    return picture.rotate(LARGEST_TURN * strength, Image.Resampling.NEAREST, fillcolor=fill)


def _enhance(kind: Any) -> Operation:
    def operation(picture: Picture, strength: float, fill: Fill) -> Picture:
        return kind(picture).enhance(max(1.0 + LARGEST_ENHANCEMENT * strength, 0.0))

    return operation


def _posterize(picture: Picture, strength: float, fill: Fill) -> Picture:
    return ImageOps.posterize(picture, max(8 - round(4 * strength), 1))


def _solarize(picture: Picture, strength: float, fill: Fill) -> Picture:
    return ImageOps.solarize(picture, max(round(256 * (1.0 - strength)), 0))


def _auto_contrast(picture: Picture, strength: float, fill: Fill) -> Picture:
    return ImageOps.autocontrast(picture)


def _equalize(picture: Picture, strength: float, fill: Fill) -> Picture:
    return ImageOps.equalize(picture)


def _invert(picture: Picture, strength: float, fill: Fill) -> Picture:
    return ImageOps.invert(picture)


def _identity(picture: Picture, strength: float, fill: Fill) -> Picture:
    return picture


OPERATIONS: dict[str, Operation] = {
    "identity": _identity,
    "auto_contrast": _auto_contrast,
    "equalize": _equalize,
    "invert": _invert,
    "rotate": _rotate,
    "solarize": _solarize,
    "posterize": _posterize,
    "color": _enhance(ImageEnhance.Color),
    "contrast": _enhance(ImageEnhance.Contrast),
    "brightness": _enhance(ImageEnhance.Brightness),
    "sharpness": _enhance(ImageEnhance.Sharpness),
    "shear_x": _shear_x,
    "shear_y": _shear_y,
    "translate_x": _translate_x,
    "translate_y": _translate_y,
}
SIGNED = frozenset(
    ("rotate", "color", "contrast", "brightness", "sharpness", "shear_x", "shear_y", "translate_x", "translate_y")
)
RANDAUGMENT_OPERATIONS = tuple(name for name in OPERATIONS if name != "invert")
"""The 14 operations of arXiv:1909.13719, figure 2."""


def apply_operation(
    image: np.ndarray, name: str, strength: float, random: np.random.Generator, fill: Fill = GREY
) -> np.ndarray:
    """One operation on an RGB picture (height, width, 3) of uint8; the sign of those that go both ways is drawn."""
    return np.array(_operate(_picture(image), name, strength, random, fill))


def _operate(picture: Picture, name: str, strength: float, random: np.random.Generator, fill: Fill) -> Picture:
    if name in SIGNED and random.random() < 0.5:
        strength = -strength
    return OPERATIONS[name](picture, strength, fill)


def _picture(image: np.ndarray) -> Picture:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise OptionError(
            "Augmentation policies work on RGB pictures, uint8 of shape (height, width, 3), before ToTensor. "
            f"Received: {image.dtype} of shape {image.shape}."
        )
    return Image.fromarray(np.ascontiguousarray(image))


def _fill(value: Any) -> Fill:
    return tuple(int(channel) for channel in value)


@attrs.frozen
class RandAugment(Transform):
    """``count`` operations drawn from 14, each with the same strength (arXiv:1909.13719).

    ``magnitude`` 10 is the largest strength of AutoAugment, as in the paper; larger ones, which the paper uses for
    large networks, go on in proportion as far as an operation can.
    """

    is_random: ClassVar[bool] = True
    count: int = attrs.field(default=2, validator=within(0, 32))
    magnitude: float = attrs.field(default=9.0, validator=within(0.0, 30.0))
    fill: Fill = attrs.field(default=GREY, converter=_fill)

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        random = generator(random)
        picture = _picture(image)
        for at in random.integers(0, len(RANDAUGMENT_OPERATIONS), self.count):
            picture = _operate(picture, RANDAUGMENT_OPERATIONS[at], self.magnitude / 10.0, random, self.fill)
        return np.array(picture)


def _check_policy(instance: Any, attribute: Any, value: str) -> None:
    if value not in POLICIES:
        raise OptionError(f"Unknown policy of AutoAugment. Expected one of {', '.join(POLICIES)}. Received: {value!r}.")


@attrs.frozen
class AutoAugment(Transform):
    """One of 25 learned pairs of operations, each done with its own probability and strength (arXiv:1805.09501)."""

    is_random: ClassVar[bool] = True
    policy: str = attrs.field(default="imagenet", validator=_check_policy)
    """imagenet, cifar10 or svhn: the tables 9, 7 and 8 of the paper."""
    fill: Fill = attrs.field(default=GREY, converter=_fill)

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        random = generator(random)
        picture = _picture(image)
        table = POLICIES[self.policy]
        for name, probability, magnitude in table[int(random.integers(0, len(table)))]:
            if random.random() < probability:
                picture = _operate(picture, name, magnitude / 9.0, random, self.fill)
        return np.array(picture)


def _pairs(table: str) -> tuple[tuple[tuple[str, float, int], ...], ...]:
    """Rows "operation probability magnitude, operation probability magnitude"."""
    rows = []
    for row in table.strip().splitlines():
        steps = [step.split() for step in row.split(",")]
        rows.append(tuple((name, float(probability), int(magnitude)) for name, probability, magnitude in steps))
    return tuple(rows)


POLICIES = {
    "imagenet": _pairs("""
        posterize 0.4 8, rotate 0.6 9
        solarize 0.6 5, auto_contrast 0.6 5
        equalize 0.8 8, equalize 0.6 3
        posterize 0.6 7, posterize 0.6 6
        equalize 0.4 7, solarize 0.2 4
        equalize 0.4 4, rotate 0.8 8
        solarize 0.6 3, equalize 0.6 7
        posterize 0.8 5, equalize 1.0 2
        rotate 0.2 3, solarize 0.6 8
        equalize 0.6 8, posterize 0.4 6
        rotate 0.8 8, color 0.4 0
        rotate 0.4 9, equalize 0.6 2
        equalize 0.0 7, equalize 0.8 8
        invert 0.6 4, equalize 1.0 8
        color 0.6 4, contrast 1.0 8
        rotate 0.8 8, color 1.0 2
        color 0.8 8, solarize 0.8 7
        sharpness 0.4 7, invert 0.6 8
        shear_x 0.6 5, equalize 1.0 9
        color 0.4 0, equalize 0.6 3
        equalize 0.4 7, solarize 0.2 4
        solarize 0.6 5, auto_contrast 0.6 5
        invert 0.6 4, equalize 1.0 8
        color 0.6 4, contrast 1.0 8
        equalize 0.8 8, equalize 0.6 3
    """),
    "cifar10": _pairs("""
        invert 0.1 7, contrast 0.2 6
        rotate 0.7 2, translate_x 0.3 9
        sharpness 0.8 1, sharpness 0.9 3
        shear_y 0.5 8, translate_y 0.7 9
        auto_contrast 0.5 8, equalize 0.9 2
        shear_y 0.2 7, posterize 0.3 7
        color 0.4 3, brightness 0.6 7
        sharpness 0.3 9, brightness 0.7 9
        equalize 0.6 5, equalize 0.5 1
        contrast 0.6 7, sharpness 0.6 5
        color 0.7 7, translate_x 0.5 8
        equalize 0.3 7, auto_contrast 0.4 8
        translate_y 0.4 3, sharpness 0.2 6
        brightness 0.9 6, color 0.2 8
        solarize 0.5 2, invert 0.0 3
        equalize 0.2 0, auto_contrast 0.6 0
        equalize 0.2 8, equalize 0.6 4
        color 0.9 9, equalize 0.6 6
        auto_contrast 0.8 4, solarize 0.2 8
        brightness 0.1 3, color 0.7 0
        solarize 0.4 5, auto_contrast 0.9 3
        translate_y 0.9 9, translate_y 0.7 9
        auto_contrast 0.9 2, solarize 0.8 3
        equalize 0.8 8, invert 0.1 3
        translate_y 0.7 9, auto_contrast 0.9 1
    """),
    "svhn": _pairs("""
        shear_x 0.9 4, invert 0.2 3
        shear_y 0.9 8, invert 0.7 5
        equalize 0.6 5, solarize 0.6 6
        invert 0.9 3, equalize 0.6 3
        equalize 0.6 1, rotate 0.9 3
        shear_x 0.9 4, auto_contrast 0.8 3
        shear_y 0.9 8, invert 0.4 5
        shear_y 0.9 5, solarize 0.2 6
        invert 0.9 6, auto_contrast 0.8 1
        equalize 0.6 3, rotate 0.9 3
        shear_x 0.9 4, solarize 0.3 3
        shear_y 0.8 8, invert 0.7 4
        equalize 0.9 5, translate_y 0.6 6
        invert 0.9 4, equalize 0.6 7
        contrast 0.3 3, rotate 0.8 4
        invert 0.8 5, translate_y 0.0 2
        shear_y 0.7 6, solarize 0.4 8
        invert 0.6 4, rotate 0.8 4
        shear_y 0.3 7, translate_x 0.9 3
        shear_x 0.1 6, invert 0.6 5
        solarize 0.7 2, translate_y 0.6 7
        shear_y 0.8 4, invert 0.8 8
        shear_x 0.7 9, translate_y 0.8 3
        shear_y 0.8 5, auto_contrast 0.7 3
        shear_x 0.7 2, invert 0.1 5
    """),
}

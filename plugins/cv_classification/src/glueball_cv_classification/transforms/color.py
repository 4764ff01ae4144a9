"""Transforms of colours.

Brightness, contrast, saturation, hue and PCA lighting are all affine maps of a pixel's RGB. So any run of them is one
affine map, applied in one pass with one rounding, instead of one pass each. Without the rounding and clipping between
the steps, results are those of MXNet's float pipeline; its uint8 pipeline also clips in between.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
from PIL import Image

from glueball.errors import OptionError

from .base import Fusable, Transform, generator, within

# ITU-R BT.601 luma.
GREY = np.array([0.299, 0.587, 0.114])
RGB_TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.321], [0.211, -0.523, 0.311]])
YIQ_TO_RGB = np.array([[1.0, 0.956, 0.621], [1.0, -0.272, -0.647], [1.0, -1.107, 1.705]])

# Principal components of ImageNet's RGB values (Krizhevsky et al., "ImageNet Classification with Deep Convolutional
# Neural Networks", 2012, section 4.1), for values from 0 to 255.
EIGENVALUES = np.array([55.46, 4.794, 1.148])
EIGENVECTORS = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])


@functools.cache
def _opencv() -> Any:
    try:
        return importlib.import_module("cv2")
    except ImportError:
        return None


def mean_color(image: np.ndarray) -> np.ndarray:
    """The mean of each channel of a picture (height, width, 3): float64, (3,)."""
    height, width = image.shape[:2]
    # Whole rows first: adding them up is vectorised, adding up every third byte is not. A column of 2**24 bytes fits.
    rows = image.reshape(height, width * 3)
    total = np.uint32 if image.dtype == np.uint8 and height < 2**24 else np.float64
    columns = np.add.reduce(rows, axis=0, dtype=total)
    return columns.reshape(width, 3).sum(axis=0, dtype=np.float64) / (height * width)


@attrs.frozen(eq=False)
class ColorMap:
    """An affine map of colours: ``matrix @ rgb + offset``."""

    matrix: np.ndarray = attrs.field(factory=lambda: np.eye(3))
    offset: np.ndarray = attrs.field(factory=lambda: np.zeros(3))

    def then(self, matrix: np.ndarray, offset: np.ndarray | float = 0.0) -> ColorMap:
        """This map, followed by another."""
        return ColorMap(matrix @ self.matrix, matrix @ self.offset + offset)

    def brightness(self, factor: float) -> ColorMap:
        """Scales all channels."""
        return self.then(factor * np.eye(3))

    def contrast(self, factor: float, mean: np.ndarray) -> ColorMap:
        """Moves away from the mean grey of the whole picture; ``mean`` is its mean colour before this map."""
        grey = GREY @ (self.matrix @ mean + self.offset)
        return self.then(factor * np.eye(3), (1.0 - factor) * grey)

    def saturation(self, factor: float) -> ColorMap:
        """Moves away from the grey of each pixel."""
        return self.then(factor * np.eye(3) + (1.0 - factor) * np.tile(GREY, (3, 1)))

    def hue(self, turn: float) -> ColorMap:
        """Rotates the colour plane of YIQ by ``turn`` half turns (an approximation of a hue that MXNet uses)."""
        cosine, sine = np.cos(turn * np.pi), np.sin(turn * np.pi)
        rotation = np.array([[1.0, 0.0, 0.0], [0.0, cosine, -sine], [0.0, sine, cosine]])
        return self.then(YIQ_TO_RGB @ rotation @ RGB_TO_YIQ)

    def lighting(self, alphas: np.ndarray) -> ColorMap:
        """Shifts along the principal components of ImageNet's colours."""
        return ColorMap(self.matrix, self.offset + EIGENVECTORS @ (alphas * EIGENVALUES))

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The mapped picture; uint8 is rounded and clipped once."""
        if image.dtype == np.uint8:
            # On bytes, OpenCV is 25 times and Pillow 3 times as fast as NumPy through floats. OpenCV's factors have 10
            # bits, which makes a difference of one grey level at most.
            matrix = np.concatenate([self.matrix, self.offset[:, None]], axis=1)
            image = np.ascontiguousarray(image)
            if (cv2 := _opencv()) is not None:
                return cv2.transform(image, matrix)
            return np.array(Image.fromarray(image).convert("RGB", tuple(matrix.ravel().tolist())))
        return image @ self.matrix.T.astype(image.dtype) + self.offset.astype(image.dtype)


class ColorTransform(Fusable):
    """A transform that is an affine map of colours."""

    is_random: ClassVar[bool] = True

    needs_mean: ClassVar[bool] = False

    def extend(self, color_map: ColorMap, mean: np.ndarray | None, random: np.random.Generator) -> ColorMap:
        """``color_map`` followed by this transform; ``mean`` is the mean colour of the picture, where needed."""
        raise NotImplementedError

    def fuse(self, run: Sequence[Transform]) -> Transform | None:
        if all(isinstance(step, ColorTransform) for step in run):
            return _ColorRun(tuple(run))  # type: ignore[arg-type]
        return None

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        return _ColorRun((self,))(image, random)


@attrs.frozen
class _ColorRun(Transform):
    """Several affine maps of colours as one."""

    steps: tuple[ColorTransform, ...]
    is_random: ClassVar[bool] = True

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        if image.shape[-1] != 3:
            raise OptionError(f"Colours change in RGB pictures. Received: a picture of shape {image.shape}.")
        random = generator(random)
        if image.strides[1] < 0:
            # A mirrored view. Colours do not care, and mapping the picture in memory order saves a slow copy.
            return self(image[:, ::-1], random)[:, ::-1]
        mean = None
        if any(step.needs_mean for step in self.steps):
            mean = mean_color(image)
        color_map = ColorMap()
        for step in self.steps:
            color_map = step.extend(color_map, mean, random)
        return color_map.apply(image)


@attrs.frozen
class RandomColorJitter(ColorTransform):
    """Changes brightness, contrast and saturation by factors from ``1 - x`` to ``1 + x``, in random order, and the hue
    by up to ``hue`` half turns.

    Formulas and the order of the draws follow MXNet: grey is BT.601's, contrast moves away from the mean grey of the
    picture, the hue turns in YIQ.
    """

    is_random: ClassVar[bool] = True
    needs_mean: ClassVar[bool] = True
    brightness: float = attrs.field(default=0.0, validator=within(0.0, 1.0))
    contrast: float = attrs.field(default=0.0, validator=within(0.0, 1.0))
    saturation: float = attrs.field(default=0.0, validator=within(0.0, 1.0))
    hue: float = attrs.field(default=0.0, validator=within(0.0, 1.0))

    def extend(self, color_map: ColorMap, mean: np.ndarray | None, random: np.random.Generator) -> ColorMap:
        assert mean is not None
        kinds = [kind for kind in ("brightness", "contrast", "saturation", "hue") if getattr(self, kind) > 0]
        for at in random.permutation(len(kinds)):
            kind = kinds[at]
            reach = getattr(self, kind)
            draw = random.uniform(-reach, reach)
            if kind == "contrast":
                color_map = color_map.contrast(1.0 + draw, mean)
            elif kind == "hue":
                color_map = color_map.hue(draw)
            else:
                color_map = getattr(color_map, kind)(1.0 + draw)
        return color_map


@attrs.frozen
class RandomLighting(ColorTransform):
    """Shifts the picture along the principal components of ImageNet's colours (AlexNet's "fancy PCA")."""

    is_random: ClassVar[bool] = True
    alpha_std: float = attrs.field(default=0.1, validator=within(0.0, 10.0))
    """Standard deviation of the three normal draws."""

    def extend(self, color_map: ColorMap, mean: np.ndarray | None, random: np.random.Generator) -> ColorMap:
        return color_map.lighting(random.normal(0.0, self.alpha_std, 3))


@attrs.frozen
class RandomGray(Transform):
    """Turns the picture grey (three equal channels, BT.601) with a probability."""

    is_random: ClassVar[bool] = True
    probability: float = attrs.field(default=0.1, validator=within(0.0, 1.0))

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        if generator(random).random() >= self.probability:
            return image
        return ColorMap().saturation(0.0).apply(image)

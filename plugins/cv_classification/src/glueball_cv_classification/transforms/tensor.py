"""The step from a picture to what a network takes: float32, channels first."""

from __future__ import annotations

from collections.abc import Sequence

import attrs
import numpy as np

from glueball.data.images import normalize_to_chw, to_chw
from glueball.errors import OptionError

from .base import Fusable, Transform, numbers

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CIFAR_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR_STD = (0.2023, 0.1994, 0.2010)


@attrs.frozen
class ToTensor(Fusable):
    """(height, width, channels) of 0 to 255 as float32 (channels, height, width) of 0 to 1; crops (n, ...) as well."""

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        if image.ndim == 4:
            return np.stack([to_chw(crop) for crop in image])
        return to_chw(image)

    def fuse(self, run: Sequence[Transform]) -> Transform | None:
        if len(run) == 2 and isinstance(run[1], Normalize):
            return ToNormalizedTensor(run[1].mean, run[1].std)
        return None


def _check_std(instance: Normalize | ToNormalizedTensor, attribute: attrs.Attribute, value: tuple[float, ...]) -> None:
    if not value or min(value) <= 0 or not instance.mean:
        raise OptionError(
            f"{type(instance).__name__}: expected a mean and a positive std, one number each or one for each channel. "
            f"Received: mean={instance.mean}, std={value}."
        )


@attrs.frozen
class Normalize(Fusable):
    """``(x - mean) / std`` of a tensor (channels, height, width), or several (n, channels, height, width)."""

    mean: tuple[float, ...] = attrs.field(default=IMAGENET_MEAN, converter=numbers)
    std: tuple[float, ...] = attrs.field(default=IMAGENET_STD, converter=numbers, validator=_check_std)

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        mean = np.array(self.mean, np.float32).reshape(-1, 1, 1)
        std = np.array(self.std, np.float32).reshape(-1, 1, 1)
        channels = image.shape[-3] if image.ndim >= 3 else 0
        if image.dtype == np.uint8 or mean.size not in (1, channels) or std.size not in (1, channels):
            raise OptionError(
                f"Normalize takes float tensors (channels, height, width) with {max(mean.size, std.size)} channels: "
                f"ToTensor comes before it. Received: {image.dtype} of shape {image.shape}."
            )
        return ((image - mean) / std).astype(np.float32, copy=False)

    def fuse(self, run: Sequence[Transform]) -> Transform | None:
        return None


@attrs.frozen
class ToNormalizedTensor(Transform):
    """``ToTensor`` and ``Normalize`` in one pass."""

    mean: tuple[float, ...] = attrs.field(default=IMAGENET_MEAN, converter=numbers)
    std: tuple[float, ...] = attrs.field(default=IMAGENET_STD, converter=numbers, validator=_check_std)

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        if image.ndim == 4:
            return np.stack([normalize_to_chw(crop, self.mean, self.std) for crop in image])
        return normalize_to_chw(image, self.mean, self.std)

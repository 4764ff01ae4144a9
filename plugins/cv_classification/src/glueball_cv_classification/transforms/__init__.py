"""Transforms for image classification.

Pictures go in as (height, width, channels) uint8 RGB and come out as float32 tensors (channels, height, width). Random
transforms draw from the ``numpy.random.Generator`` of the call. ``to_dict`` writes a transform as plain values,
``from_dict`` reads it back, so that a trained model keeps its preprocessing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glueball.errors import OptionError

from .base import Compose, Transform
from .batch import BatchTransform, CutMix, MixUp, MixUpOrCutMix, SoftLabels, soft_labels
from .color import ColorMap, RandomColorJitter, RandomGray, RandomLighting
from .erasing import Cutout, RandomErasing
from .geometry import (
    CenterCrop,
    EfficientNetCenterCrop,
    EfficientNetRandomCrop,
    FiveCrop,
    RandomCrop,
    RandomFlipLeftRight,
    RandomFlipTopBottom,
    RandomResizedCrop,
    Resize,
    SmallViews,
    TenCrop,
)
from .policy import AutoAugment, RandAugment
from .presets import (
    ClassificationEval,
    ClassificationTrain,
    Preset,
    cifar_eval,
    cifar_train,
    digits_eval,
    digits_train,
    imagenet_eval,
    imagenet_train,
)
from .tensor import CIFAR_MEAN, CIFAR_STD, IMAGENET_MEAN, IMAGENET_STD, Normalize, ToNormalizedTensor, ToTensor

_BY_NAME: dict[str, type] = {
    kind.__name__: kind
    for kind in (
        AutoAugment,
        CenterCrop,
        ClassificationEval,
        ClassificationTrain,
        CutMix,
        Cutout,
        EfficientNetCenterCrop,
        EfficientNetRandomCrop,
        FiveCrop,
        MixUp,
        MixUpOrCutMix,
        Normalize,
        RandAugment,
        RandomColorJitter,
        RandomCrop,
        RandomErasing,
        RandomFlipLeftRight,
        RandomFlipTopBottom,
        RandomGray,
        RandomLighting,
        RandomResizedCrop,
        Resize,
        SoftLabels,
        TenCrop,
        SmallViews,
        ToNormalizedTensor,
        ToTensor,
    )
}


def from_dict(values: Mapping[str, Any]) -> Any:
    """The transform that ``to_dict`` described.

    Raises:
        OptionError: no transform of this package has that name, or it does not take these parameters.
    """
    parameters = dict(values)
    name = parameters.pop("transform", None)
    if name == Compose.__name__:
        return Compose(tuple(from_dict(step) for step in parameters.get("steps", ())))
    kind = _BY_NAME.get(name) if isinstance(name, str) else None
    if kind is None:
        raise OptionError(f"Unknown transform. Expected one of {', '.join(sorted(_BY_NAME))}. Received: {name!r}.")
    try:
        return kind(**{key: tuple(value) if isinstance(value, list) else value for key, value in parameters.items()})
    except TypeError as error:
        raise OptionError(f"{name} does not take these parameters: {error}. Received: {parameters}.") from error


__all__ = [
    "CIFAR_MEAN",
    "CIFAR_STD",
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "AutoAugment",
    "BatchTransform",
    "CenterCrop",
    "ClassificationEval",
    "ClassificationTrain",
    "ColorMap",
    "Compose",
    "CutMix",
    "Cutout",
    "EfficientNetCenterCrop",
    "EfficientNetRandomCrop",
    "FiveCrop",
    "MixUp",
    "MixUpOrCutMix",
    "Normalize",
    "Preset",
    "RandAugment",
    "RandomColorJitter",
    "RandomCrop",
    "RandomErasing",
    "RandomFlipLeftRight",
    "RandomFlipTopBottom",
    "RandomGray",
    "RandomLighting",
    "RandomResizedCrop",
    "Resize",
    "SmallViews",
    "SoftLabels",
    "TenCrop",
    "ToNormalizedTensor",
    "ToTensor",
    "Transform",
    "cifar_eval",
    "cifar_train",
    "digits_eval",
    "digits_train",
    "from_dict",
    "imagenet_eval",
    "imagenet_train",
    "soft_labels",
]

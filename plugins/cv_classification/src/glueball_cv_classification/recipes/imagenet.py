"""ImageNet, in the ways that GluonCV's published weights were trained (arXiv:1812.01187).

The learning rates are for the batch sizes given here; with another batch size scale them likewise (arXiv:1706.02677).
"""

from __future__ import annotations

from glueball.backend.base import OptimizerSpec
from glueball.engine import (
    Component,
    DataSpec,
    DistillationSpec,
    ModelSpec,
    Recipe,
    ScheduleSpec,
    TransformSpec,
)

from .paths import absolute


def _data(data: str | None, records: bool) -> DataSpec:
    if records:
        folder = absolute("." if data is None else data)
        return DataSpec(
            train=Component(name="image_record", options={"path": f"{folder}/train.rec"}),
            validation=Component(name="image_record", options={"path": f"{folder}/val.rec"}),
        )
    root = {} if data is None else {"root": absolute(data)}
    return DataSpec(
        train=Component(name="imagenet", options={"split": "train", **root}),
        validation=Component(name="imagenet", options={"split": "val", **root}),
    )


def _transforms(size: int) -> TransformSpec:
    return TransformSpec(
        train=(Component(name="imagenet_train", options={"size": size}),),
        evaluation=(Component(name="imagenet_eval", options={"size": size}),),
    )


def imagenet(data: str | None = None, size: int = 224, records: bool = False) -> Recipe:
    """ResNet-50 v1b in 120 epochs: cosine after 5 of warm-up. ``records``: ``data`` holds train.rec and val.rec."""
    return Recipe(
        name="imagenet",
        task="image_classification",
        model=ModelSpec(name="resnet50_v1b", classes=1000),
        data=_data(data, records),
        transforms=_transforms(size),
        optimizer=OptimizerSpec(name="nag", momentum=0.9, weight_decay=1e-4),
        learning_rate=0.4,
        schedule=ScheduleSpec(name="cosine", warmup=5.0),
        epochs=120,
        batch_size=128,
        accumulate=8,
        workers=16,
        checkpoint_every=2000,
    )


def imagenet_tricks(
    data: str | None = None, size: int = 224, records: bool = False, teacher: str | None = None
) -> Recipe:
    """ResNet-50 v1d in 200 epochs with all of arXiv:1812.01187: label smoothing, mixup, no decay of biases and scales.

    ``teacher``: the name of a pretrained model whose answers are learned too.
    """
    return Recipe(
        name="imagenet-tricks",
        task="image_classification",
        model=ModelSpec(name="resnet50_v1d", classes=1000, options={"last_gamma": True}),
        data=_data(data, records),
        transforms=_transforms(size),
        optimizer=OptimizerSpec(name="nag", momentum=0.9, weight_decay=1e-4),
        learning_rate=0.4,
        schedule=ScheduleSpec(name="cosine", warmup=5.0),
        epochs=200,
        batch_size=128,
        accumulate=8,
        no_decay=True,
        label_smoothing=0.1,
        mixup=0.2,
        mixing_stops_before=20,
        distillation=None if teacher is None else DistillationSpec(teacher=teacher),
        workers=16,
        checkpoint_every=2000,
    )


def imagenet_mobilenet(data: str | None = None, size: int = 224, records: bool = False) -> Recipe:
    """MobileNet v2 in 150 epochs: small networks want little decay and little augmentation (arXiv:1801.04381)."""
    return Recipe(
        name="imagenet-mobilenet",
        task="image_classification",
        model=ModelSpec(name="mobilenetv2_1.0", classes=1000),
        data=_data(data, records),
        transforms=_transforms(size),
        optimizer=OptimizerSpec(name="nag", momentum=0.9, weight_decay=4e-5),
        learning_rate=0.2,
        schedule=ScheduleSpec(name="cosine", warmup=5.0),
        epochs=150,
        batch_size=256,
        accumulate=2,
        no_decay=True,
        workers=16,
        checkpoint_every=2000,
    )

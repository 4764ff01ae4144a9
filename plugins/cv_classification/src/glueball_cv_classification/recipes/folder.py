"""Everybody's own data: any folder of class folders."""

from __future__ import annotations

from glueball.backend.base import OptimizerSpec
from glueball.engine import Component, DataSpec, ModelSpec, Recipe, ScheduleSpec, TransformSpec

from ..datasets.folder import has_test_part
from .paths import absolute


def image_folder(
    data: str, model: str = "resnet18_v1b", pretrained: str | bool = False, size: int = 224, holdout: float = 0.2
) -> Recipe:
    """Trains any classifier on ``data/<class>/<picture>``, or on ``data/train`` and ``data/val`` of such.

    Without a held-out folder the share ``holdout`` of every class is held out, by file name: the same files every time.
    A folder ``data/test`` beside ``data/val`` is kept for ``glueball evaluate``.
    The rates differ: trained weights are adapted gently, fresh ones need larger steps.
    """
    root = absolute(data)
    options = {"root": root, "val_fraction": holdout}
    adapting = bool(pretrained)
    return Recipe(
        name="image-folder",
        task="image_classification",
        model=ModelSpec(name=model, pretrained=pretrained),
        data=DataSpec(
            train=Component(name="image_folder", options={**options, "split": "train"}),
            validation=Component(name="image_folder", options={**options, "split": "val"}),
            test=Component(name="image_folder", options={**options, "split": "test"}) if has_test_part(root) else None,
        ),
        transforms=TransformSpec(
            train=(Component(name="imagenet_train", options={"size": size, "scale": [0.25, 1.0], "lighting": 0.0}),),
            evaluation=(Component(name="imagenet_eval", options={"size": size}),),
        ),
        optimizer=OptimizerSpec(name="nag", momentum=0.9, weight_decay=1e-4),
        learning_rate=0.01 if adapting else 0.05,
        schedule=ScheduleSpec(name="cosine", warmup=1.0),
        epochs=10 if adapting else 30,
        batch_size=32,
        clip_norm=5.0,
        no_decay=True,
        label_smoothing=0.1,
        workers=2,
        log_every=10,
    )

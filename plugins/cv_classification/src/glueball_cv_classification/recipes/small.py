"""Recipes that a laptop finishes over a coffee: handwritten digits and clothes."""

from __future__ import annotations

from glueball.backend.base import OptimizerSpec
from glueball.engine import Component, DataSpec, ModelSpec, Recipe, ScheduleSpec, TransformSpec

from .paths import absolute


def digits() -> Recipe:
    """A small ResNet on 1,438 digits that come with scikit-learn, enlarged to 16x16; 359 others are held out."""
    return Recipe(
        name="digits",
        task="image_classification",
        model=ModelSpec(name="cifar_resnet20_v1"),
        data=DataSpec(
            train=Component(name="digits", options={"split": "train"}),
            validation=Component(name="digits", options={"split": "test"}),
        ),
        transforms=TransformSpec(
            train=(Component(name="digits_train", options={"size": 16, "pad": 1}),),
            evaluation=(Component(name="digits_eval", options={"size": 16}),),
        ),
        optimizer=OptimizerSpec(name="nag", momentum=0.9, weight_decay=5e-4),
        learning_rate=0.1,
        schedule=ScheduleSpec(name="cosine", warmup=1.0),
        epochs=12,
        batch_size=64,
        no_decay=True,
        log_every=10,
    )


def mnist(data: str | None = None) -> Recipe:
    """A small ResNet on MNIST, shifted by up to 2 pixels. ``data``: a folder with the four IDX files."""
    return _idx("mnist", "mnist", data, flip=0.0, epochs=4)


def fashion_mnist(data: str | None = None) -> Recipe:
    """A small ResNet on FashionMNIST, shifted and mirrored. ``data``: a folder with the four IDX files."""
    return _idx("fashion-mnist", "fashion_mnist", data, flip=0.5, epochs=10)


def _idx(name: str, dataset: str, data: str | None, *, flip: float, epochs: int) -> Recipe:
    root = {} if data is None else {"root": absolute(data)}
    return Recipe(
        name=name,
        task="image_classification",
        model=ModelSpec(name="cifar_resnet20_v1"),
        data=DataSpec(
            train=Component(name=dataset, options={"split": "train", **root}),
            validation=Component(name=dataset, options={"split": "test", **root}),
        ),
        transforms=TransformSpec(
            train=(Component(name="digits_train", options={"size": 28, "pad": 2, "flip": flip}),),
            evaluation=(Component(name="digits_eval", options={"size": 28}),),
        ),
        optimizer=OptimizerSpec(name="nag", momentum=0.9, weight_decay=5e-4),
        learning_rate=0.2,
        schedule=ScheduleSpec(name="cosine", warmup=1.0),
        epochs=epochs,
        batch_size=128,
        no_decay=True,
    )

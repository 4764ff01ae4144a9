"""Data that cost nothing to have: pictures in memory, a file of texts, and recipes that train on them.

A module of its own, because worker processes of a data loader import what they are sent by name.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from glueball.backend.base import OptimizerSpec
from glueball.data import Dataset
from glueball.engine import Component, DataSpec, ModelSpec, Recipe, ScheduleSpec, TransformSpec
from glueball.plugin import hookimpl

POOL = 64
"""Different pictures; the others are the same again."""

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.001, 0.9, 1e-4
TEXT_LEARNING_RATE, TEXT_CLIP_NORM = 1e-3, 3.0


class Pictures(Dataset):
    """Pictures of noise with a label each: float32 of shape (3, size, size), or uint8 (size, size, 3) if ``raw``."""

    def __init__(self, count: int = 1 << 20, size: int = 224, num_classes: int = 1000, raw: bool = False) -> None:
        random = np.random.default_rng(0)
        if raw:
            self._pictures: Any = random.integers(0, 256, (POOL, size, size, 3), dtype=np.uint8)
        else:
            self._pictures = random.standard_normal((POOL, 3, size, size)).astype(np.float32)
        self._count = count
        self.classes = tuple(f"class{number}" for number in range(num_classes))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        return self._pictures[index % POOL], index % len(self.classes)


class Plugin:
    """What the recipes below name."""

    @hookimpl
    def register_datasets(self, register: Any) -> None:
        register("bench_pictures", "synthetic:Pictures")

    @hookimpl
    def register_models(self, register: Any) -> None:
        register("bench_nothing", "synthetic:nothing", task="image_classification", input_shape=(3, 224, 224))


def nothing(classes: int = 1000) -> Any:
    """A network that looks at every 256th pixel: what a step takes with it is what the engine takes."""
    from glueball import nn

    network = nn.HybridSequential()
    network.add(nn.Conv2D(4, 1, strides=16), nn.BatchNorm(), nn.GlobalAvgPool2D(), nn.Dense(classes))
    return network


def picture_recipe(precision: str, model: str = "resnet18_v1b") -> Recipe:
    """A network on pictures that are ready for it, batch 32: all the time goes into the step."""
    return Recipe(
        name="bench-pictures",
        task="image_classification",
        model=ModelSpec(name=model),
        data=DataSpec(train=Component(name="bench_pictures")),
        optimizer=OptimizerSpec(name="sgd", momentum=MOMENTUM, weight_decay=WEIGHT_DECAY),
        learning_rate=LEARNING_RATE,
        schedule=ScheduleSpec(name="constant"),
        epochs=1,
        batch_size=32,
        precision=precision,
    )


def small_recipe(steps_per_epoch: int, workers: int, worker_type: str) -> Recipe:
    """A ResNet-20 on pictures of 16 x 16 with augmentation: many steps in little time."""
    batch, size = 8, 16
    options = {"size": size, "num_classes": 10, "raw": True}

    def transform(name: str, **options: Any) -> Component:
        return Component(name=name, options=options)

    normalise = (transform("to_tensor"), transform("normalize", mean=[0.5] * 3, std=[0.25] * 3))
    return Recipe(
        name="bench-small",
        task="image_classification",
        model=ModelSpec(name="cifar_resnet20_v1"),
        data=DataSpec(
            train=Component(name="bench_pictures", options={"count": steps_per_epoch * batch, **options}),
            validation=Component(name="bench_pictures", options={"count": 10 * batch, **options}),
        ),
        transforms=TransformSpec(train=(transform("random_flip_left_right"), *normalise), evaluation=normalise),
        optimizer=OptimizerSpec(name="sgd", momentum=MOMENTUM, weight_decay=WEIGHT_DECAY),
        learning_rate=LEARNING_RATE,
        schedule=ScheduleSpec(name="constant"),
        epochs=1000,
        batch_size=batch,
        precision="float32",
        workers=workers,
        worker_type=worker_type,
    )


def write_texts(path: Path, count: int) -> None:
    """Labelled lines of 5 to 40 words, the words as frequent as words are (Zipf)."""
    random = np.random.default_rng(0)
    lines = []
    for number in range(count):
        words = np.minimum(random.zipf(1.3, random.integers(5, 41)), 20000)
        lines.append(f"{'good' if number % 2 else 'bad'}\t{' '.join(f'word{word}' for word in words)}")
    path.write_text("label\ttext\n" + "\n".join(lines) + "\n", encoding="utf-8")


_WORD = re.compile(r"\w+|[^\w\s]")


def cut(text: str) -> list[str]:
    """The words of a text in lower case."""
    return _WORD.findall(text.lower())


class Words:
    """What a text classifier does with a text: (label, text) -> (token ids as int32, how many they are, label)."""

    def __init__(self, vocabulary: dict[str, int]) -> None:
        self._vocabulary = vocabulary

    def __call__(self, label: int, text: str) -> tuple[np.ndarray, int, int]:
        ids = [self._vocabulary.get(word, 0) for word in cut(text)]
        return np.array(ids, np.int32), len(ids), label


def text_recipe(path: Path, precision: str) -> Recipe:
    """TextCNN on such a file: Adam, gradients clipped, batches of 50 in buckets of length."""
    import glueball

    recipe: Recipe = glueball.get_recipe("text-classification", data=str(path), holdout=0.01)
    changes = {
        "precision": precision,
        "learning_rate": str(TEXT_LEARNING_RATE),
        "clip_norm": str(TEXT_CLIP_NORM),
        "schedule.name": "constant",
    }
    return recipe.override(changes)

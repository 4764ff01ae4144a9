"""A tiny family for tests of the engine: points on a plane in three classes, and a network with everything stateful.

Run as a program it trains in a process of its own, which tests then interrupt or kill.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import attrs
import numpy as np

from glueball.backend.base import OptimizerSpec
from glueball.data import Dataset
from glueball.engine import Component, DataSpec, ModelSpec, Recipe, ScheduleSpec, Task, Trainer, cross_validate
from glueball.errors import DataError
from glueball.metrics import Metric, ratio
from glueball.plugin import hookimpl
from glueball.testing import isolated_catalog


class Points(Dataset):
    """Three clouds of points; each access shakes the point a little, as augmentation does.

    ``fold=[index, folds]`` leaves every ``folds``-th point out, or with ``held_out`` leaves these alone.
    """

    classes = ("a", "b", "c")
    is_random = True

    def __init__(
        self,
        count: int = 96,
        seed: int = 0,
        poison: int = -1,
        pause: float = 0.0,
        fold: Any = None,
        held_out: bool = False,
    ) -> None:
        generator = np.random.default_rng(seed)
        self._labels = generator.integers(0, 3, count)
        angle = 2 * np.pi * self._labels / 3
        centers = np.stack([np.cos(angle), np.sin(angle)], axis=1)
        self._points = (centers + 0.3 * generator.standard_normal((count, 2))).astype(np.float32)
        if poison >= 0:
            self._points[poison] = np.inf
        self._pause = pause
        if fold is not None:
            chosen = (np.arange(count) % fold[1] == fold[0]) == held_out
            self._points, self._labels = self._points[chosen], self._labels[chosen]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Any:
        return self.fetch(index)

    def fetch(self, index: int, random: np.random.Generator | None = None) -> Any:
        if self._pause:
            time.sleep(self._pause)
        shake = np.zeros(2) if random is None else 0.05 * random.standard_normal(2)
        return (self._points[index] + shake).astype(np.float32), int(self._labels[index])


class Accuracy(Metric):
    def __init__(self) -> None:
        super().__init__("accuracy")

    def zeros(self) -> dict[str, np.ndarray]:
        return {"right": np.zeros((), np.int64), "count": np.zeros((), np.int64)}

    def update(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        self.add(right=np.count_nonzero(predictions.argmax(1) == labels), count=len(labels))

    def compute(self) -> dict[str, float]:
        return {self.name: ratio(self.sums["right"], self.sums["count"])}


def tiny(classes: int = 3, dropout: float = 0.2) -> Any:
    """Batch normalisation and dropout: running statistics and random numbers must survive a resume."""
    from glueball import nn

    network = nn.HybridSequential()
    network.add(nn.Dense(16), nn.BatchNorm(), nn.Activation("relu"), nn.Dropout(dropout), nn.Dense(classes))
    return network


def picky() -> Any:
    """A network that takes points of five coordinates only, as a convolutional one takes pictures of some size."""
    from glueball import nn

    network = nn.HybridSequential()
    network.add(nn.Dense(3, in_units=5))
    return network


class ToyTask(Task):
    default_metrics = (Component(name="toy_accuracy"),)

    def training_graph(self, network: Any) -> Any:
        from glueball import loss, nn

        class Graph(nn.HybridBlock):
            def __init__(self) -> None:
                super().__init__(prefix="")
                with self.name_scope():
                    self.network = network
                    self.criterion = loss.SoftmaxCrossEntropyLoss()

            def hybrid_forward(self, F: Any, points: Any, labels: Any) -> Any:
                logits = self.network(points)
                return self.criterion(logits, labels), logits

        return Graph()

    @classmethod
    def fold(cls, recipe: Recipe, index: int, folds: int) -> Recipe:
        train = recipe.data.train

        def part(held_out: bool) -> Component:
            return Component(name=train.name, options={**train.options, "fold": [index, folds], "held_out": held_out})

        return attrs.evolve(recipe, data=DataSpec(train=part(False), validation=part(True)))


class Reader:
    """A text predictor that has no doubts: how many letters and words a text has. It refuses texts with a "!"."""

    batches: ClassVar[list[int]] = []
    """How many texts came together, call by call."""

    def __call__(self, texts: Any, top: int = 5) -> Any:
        several = [texts] if isinstance(texts, str) else list(texts)
        self.batches.append(len(several))
        if any("!" in text for text in several):
            raise DataError("a text must not shout.")
        answers = [[("letters", len(text)), ("words", len(text.split()))][:top] for text in several]
        return answers[0] if isinstance(texts, str) else answers

    def plain(self, answers: Any) -> Any:
        return [{"label": label, "number": number} for label, number in answers]

    def text(self, answers: Any) -> str:
        return "\n".join(f"  {label:<8}  {number}" for label, number in answers)


class ReadingTask(ToyTask):
    """Trains on points, and then reads texts: the command line does not care how the two fit."""

    input_kind = "text"

    @classmethod
    def predictor(cls, description: Any, network: Any, *, device: str, precision: str) -> Any:
        return Reader()


class ToyPlugin:
    @hookimpl
    def register_models(self, register: Any) -> None:
        register("tiny", "engine_toy:tiny", task="toy", input_shape=(2,), classes=3)
        register("picky", "engine_toy:picky", task="toy", input_shape=(5,))

    @hookimpl
    def register_datasets(self, register: Any) -> None:
        register("points", "engine_toy:Points")

    @hookimpl
    def register_metrics(self, register: Any) -> None:
        register("toy_accuracy", "engine_toy:Accuracy")

    @hookimpl
    def register_tasks(self, register: Any) -> None:
        register("toy", "engine_toy:ToyTask")
        register("toy_reading", "engine_toy:ReadingTask")

    @hookimpl
    def register_recipes(self, register: Any) -> None:
        register("toy", "engine_toy:recipe", task="toy")


def recipe(**changes: Any) -> Recipe:
    """A recipe that uses every part of the engine that keeps state."""
    values: dict[str, Any] = {
        "name": "toy",
        "task": "toy",
        "model": ModelSpec(name="tiny"),
        "data": DataSpec(
            train=Component(name="points"), validation=Component(name="points", options={"count": 30, "seed": 1})
        ),
        "optimizer": OptimizerSpec(name="sgd", momentum=0.9, weight_decay=1e-4),
        "learning_rate": 0.05,
        "schedule": ScheduleSpec(name="cosine", warmup=0.5),
        "epochs": 3,
        "batch_size": 8,
        "accumulate": 2,
        "clip_norm": 1.0,
        "ema_decay": 0.9,
        "no_decay": True,
        "log_every": 5,
        "precision": "float32",
    }
    return Recipe(**{**values, **changes})


def changed(changes: dict[str, Any]) -> Recipe:
    """The recipe with changes, two of which are options of the training data."""
    pause = changes.pop("pause", 0.0)
    poison = changes.pop("poison", -1)
    made = recipe(**changes)
    if pause or poison >= 0:
        made = made.override({"data.train.options.pause": str(pause), "data.train.options.poison": str(poison)})
    return made


def run_folds(out: Path, changes: dict[str, Any], folds: int = 3, **options: Any) -> Any:
    """Cross-validates the toy in its own catalogue; draws and compiles nothing, which take longer than the training."""
    draw, Trainer._draw_curves = Trainer._draw_curves, lambda self: None  # type: ignore[method-assign]
    try:
        with isolated_catalog({"toy": ToyPlugin()}):
            return cross_validate(changed(changes), folds, out, quiet=True, compile=False, **options)
    finally:
        Trainer._draw_curves = draw  # type: ignore[method-assign]


def run(out: Path, changes: dict[str, Any], draw: bool = False, **options: Any) -> Any:
    """Trains the toy in its own catalogue; returns the trainer and its result."""
    with isolated_catalog({"toy": ToyPlugin()}):
        made = changed(changes)
        trainer = Trainer(made, out, quiet=True, **options)
        if not draw:  # matplotlib takes longer than the training
            trainer._draw_curves = lambda: None  # type: ignore[method-assign]
        return trainer, trainer.fit()


def main() -> None:
    """``engine_toy.py OUT '{"epochs": 5}' '{"resume": true}'``; with the option "folds" it cross-validates."""
    # Importable under the name that the registrations give.
    sys.modules["engine_toy"] = sys.modules["__main__"]
    out, changes, options = Path(sys.argv[1]), json.loads(sys.argv[2]), json.loads(sys.argv[3])
    if "folds" in options:
        print(json.dumps({"n": run_folds(out, changes, **options).n}))
        return
    _, result = run(out, changes, **options)
    print(json.dumps({"ended": result.ended, "epochs": result.epochs, "process": os.getpid()}))


if __name__ == "__main__":
    main()

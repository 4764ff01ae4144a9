"""Runs for tests of several processes: a picture network, a text classifier, and metrics that cannot be merged.

As a program it makes the runs of a JSON file one after the other, as one process of those that train together.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from engine_toy import Points, ToyPlugin, ToyTask
from engine_toy import recipe as toy_recipe

from glueball.backend.base import OptimizerSpec
from glueball.data import DataLoader, Dataset, FixedBucketSampler, batchify
from glueball.engine import Component, DataSpec, ModelSpec, Recipe, Trainer
from glueball.errors import DataError
from glueball.metrics import Metric
from glueball.plugin import hookimpl
from glueball.testing import isolated_catalog


class Pictures(Dataset):
    """Noise whose mean says the class; all means are large beside it, which statistics of parts get wrong first."""

    classes = ("a", "b", "c")

    def __init__(self, count: int = 100, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self._labels = generator.integers(0, 3, count)
        noise = generator.standard_normal((count, 3, 6, 6)) + 3.0
        self._pictures = (noise + 0.5 * self._labels[:, None, None, None]).astype(np.float32)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Any:
        return self._pictures[index], int(self._labels[index])


class Texts(Dataset):
    """Sequences of ids of different lengths; the class is told by which ids there are most of."""

    classes = ("a", "b", "c")

    def __init__(self, count: int = 100, seed: int = 0) -> None:
        generator = np.random.default_rng(seed)
        self._labels = generator.integers(0, 3, count)
        self.lengths = generator.integers(2, 9, count)
        self._texts = [
            np.where(generator.random(length) < 0.5, 1 + label, generator.integers(1, 12, length)).astype(np.int32)
            for label, length in zip(self._labels, self.lengths, strict=True)
        ]

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Any:
        return self._texts[index], int(self._labels[index])


class FailingPoints(Points):
    """Points of which one cannot be made, or ends the process that makes it."""

    def __init__(self, at: int = -1, dies: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._at, self._dies = at, dies

    def fetch(self, index: int, random: np.random.Generator | None = None) -> Any:
        if index == self._at:
            if self._dies:
                os.kill(os.getpid(), signal.SIGKILL)
            raise DataError("this point is damaged")
        return super().fetch(index, random)


def convolutions(classes: int = 3) -> Any:
    from glueball import nn

    network = nn.HybridSequential()
    network.add(
        nn.Conv2D(6, 3, padding=1, use_bias=False),
        nn.BatchNorm(),
        nn.Activation("relu"),
        nn.Conv2D(8, 3, strides=2),
        nn.BatchNorm(scale=False),
        nn.Activation("relu"),
        nn.GlobalAvgPool2D(),
        nn.Flatten(),
        nn.Dense(classes),
    )
    return network


def words(classes: int = 3) -> Any:
    from glueball import nn

    class Words(nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__(prefix="")
            with self.name_scope():
                self.embedding = nn.Embedding(12, 8)
                self.output = nn.Dense(classes, in_units=8)
                # Belongs to the network and not to the graph, like the head of another task.
                self.spare = nn.Dense(2, in_units=3)

        def hybrid_forward(self, F: Any, tokens: Any) -> Any:
            return self.output(F.max(self.embedding(tokens), axis=1))

    return Words()


class TextTask(ToyTask):
    def batchify(self) -> Any:
        # To one length: what padding changes, it changes in a part of a batch as in the whole.
        return batchify.Tuple(batchify.Pad(round_to=8), batchify.Stack("int32"))

    def loader(self, split: str, *, training: bool) -> Any:
        dataset = self.dataset(split, training=training)
        if dataset is None:
            return None
        sampler = FixedBucketSampler(
            dataset.lengths, self.recipe.batch_size, bucket_keys=[4, 6, 8], shuffle=training, seed=self.recipe.seed
        )
        return DataLoader(dataset, batch_sampler=sampler, batchify=self.batchify(), seed=self.recipe.seed)


class MeanOfBatches:
    """What others write: no sums, no merge, and a value that depends on how the samples were cut into batches."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.values: list[float] = []

    def update(self, labels: Any, predictions: Any) -> None:
        # The order within the batch counts, too.
        weights = np.arange(1.0, 1.0 + len(labels))
        self.values.append(float(np.average(np.asarray(predictions)[:, 0], weights=weights)))

    def get(self) -> Any:
        return "mean_of_batches", float(np.mean(self.values)) if self.values else float("nan")


class Forgetful(Metric):
    """Made of ours, but it keeps more than its sums, and so cannot be merged by adding them."""

    def __init__(self) -> None:
        self.seen: list[float] = []
        super().__init__("median")

    def zeros(self) -> dict[str, np.ndarray]:
        return {"count": np.zeros((), np.int64)}

    def reset(self) -> None:
        super().reset()
        self.seen = []

    def update(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        self.seen += np.asarray(predictions)[:, 0].tolist()
        self.add(count=len(labels))

    def compute(self) -> dict[str, float]:
        return {self.name: float(np.median(self.seen)) if self.seen else float("nan")}


class ProcessesPlugin(ToyPlugin):
    @hookimpl
    def register_models(self, register: Any) -> None:
        register("tiny", "engine_toy:tiny", task="toy", input_shape=(2,), classes=3)
        register("convolutions", "processes_jobs:convolutions", task="toy")
        register("words", "processes_jobs:words", task="toy")

    @hookimpl
    def register_datasets(self, register: Any) -> None:
        register("points", "engine_toy:Points")
        register("failing_points", "processes_jobs:FailingPoints")
        register("pictures", "processes_jobs:Pictures")
        register("texts", "processes_jobs:Texts")

    @hookimpl
    def register_metrics(self, register: Any) -> None:
        register("toy_accuracy", "engine_toy:Accuracy")
        register("mean_of_batches", "processes_jobs:MeanOfBatches")
        register("median", "processes_jobs:Forgetful")

    @hookimpl
    def register_tasks(self, register: Any) -> None:
        register("toy", "engine_toy:ToyTask")
        register("toy_texts", "processes_jobs:TextTask")


def _data(name: str, train: dict[str, Any], validation: dict[str, Any]) -> DataSpec:
    return DataSpec(
        train=Component(name=name, options=train),
        validation=Component(name=name, options={"seed": 1, **validation}),
    )


def recipe(kind: str, **changes: Any) -> Recipe:
    """ "pictures", "texts" or "points"; every loss is logged. Dropout would make two processes another run than one."""
    made = toy_recipe(log_every=1, schedule=toy_recipe().schedule, model=ModelSpec(name="tiny", options={"dropout": 0}))
    if kind == "pictures":
        # 97 = 6 · 16 + 1: the last batch has one sample, so that one process of two has none.
        made = attrs.evolve(
            made,
            model=ModelSpec(name="convolutions"),
            data=_data("pictures", {"count": 97}, {"count": 33}),
            batch_size=16,
            accumulate=1,
            last_batch="keep",
            # At 0.05 rounding has grown to 2e-5 after 50 steps.
            learning_rate=0.02,
        )
    elif kind == "texts":
        made = attrs.evolve(
            made,
            task="toy_texts",
            model=ModelSpec(name="words"),
            data=_data("texts", {"count": 103}, {"count": 41}),
            accumulate=1,
            clip_norm=None,
            optimizer=OptimizerSpec(name="adam", weight_decay=1e-3),
            learning_rate=0.01,
        )
    points = {key: changes.pop(key) for key in ("at", "dies", "poison", "pause", "count") if key in changes}
    if points:
        made = attrs.evolve(made, data=_data("failing_points", points, {"count": 30}))
    if "metrics" in changes:
        changes["metrics"] = tuple(Component(name=name) for name in changes["metrics"])
    return attrs.evolve(made, **changes)


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Makes one run: {"kind", "out", "changes", "options", "stop_after", "signal"} -> what came of it."""
    real, drawing = Trainer._train_batch, Trainer._draw_curves
    calls = 0

    def counted(self: Trainer, *arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == job.get("stop_after") and job.get("rank", self.rank) == self.rank:
            self._signals.received = signal.SIGTERM
        return real(self, *arguments)

    Trainer._draw_curves = lambda self: None  # type: ignore[method-assign]
    Trainer._train_batch = counted  # type: ignore[method-assign]
    try:
        with isolated_catalog({"processes": ProcessesPlugin()}):
            made = recipe(job["kind"], **dict(job.get("changes", {})))
            options = {"quiet": True, "compile": False, **job.get("options", {})}
            try:
                result = Trainer(made, job["out"], **options).fit()
            except SystemExit as stop:
                return {"stopped": stop.code}
            return {"metrics": dict(result.metrics), "epochs": result.epochs, "ended": result.ended}
    finally:
        Trainer._train_batch = real  # type: ignore[method-assign]
        Trainer._draw_curves = drawing  # type: ignore[method-assign]


def main() -> None:
    """``processes_jobs.py JOBS.json RESULTS``: RESULTS-RANK.json holds what came of each run in this process."""
    from glueball.engine.ranks import Ranks

    sys.modules["processes_jobs"] = sys.modules["__main__"]
    jobs = json.loads(Path(sys.argv[1]).read_text())
    from glueball import backend

    ranks = Ranks.join(backend.current())
    results = [run(job) for job in jobs]
    Path(f"{sys.argv[2]}-{ranks.rank}.json").write_text(json.dumps(results))


if __name__ == "__main__":
    main()

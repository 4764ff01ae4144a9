"""A family for tests of faults: the toy of ``engine_toy``, whose parts say that they are reached, and wait or fail.

As a plugin of its own it is used by ``glueball train`` in a process of its own. What happens there is told by the
environment:

FAULTY_AT      the place to stop at: imports, data, compile, waiting, step, validation, saving or finishing
FAULTY_FILE    a file that is written when it is reached
FAULTY_SECONDS how long to stay there
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import engine_toy
import numpy as np

from glueball.engine import Component, DataSpec, Recipe, checkpoint
from glueball.errors import DataError
from glueball.plugin import hookimpl


def stay(place: str) -> None:
    """Says that ``place`` is reached, if it is the one to stop at, and stays there for a while. Once."""
    file = os.environ.get("FAULTY_FILE")
    if os.environ.get("FAULTY_AT") != place or file is None or os.path.exists(file):
        return
    Path(file).write_text(str(os.getpid()))
    end = time.monotonic() + float(os.environ.get("FAULTY_SECONDS", "1"))
    while time.monotonic() < end:
        time.sleep(0.01)


class FaultyPoints(engine_toy.Points):
    """Points with trouble at some index: "hang", "die", "raise", "mistake", "corrupt" or "memory".

    ``at`` is the index, or several. With ``file`` the trouble comes once: it is over when the file is there.
    """

    def __init__(
        self, count: int = 96, seed: int = 0, place: str = "waiting", trouble: str = "", at: Any = 17, file: str = ""
    ) -> None:
        super().__init__(count=count, seed=seed)
        self.place, self.trouble, self.file = place, trouble, file
        self.at = (at,) if isinstance(at, int) else tuple(at)
        if seed == 0:
            stay("data")

    def describe(self, index: int) -> str:
        return f"pictures/{index}.jpg"

    def fetch(self, index: int, random: np.random.Generator | None = None) -> Any:
        # With a shuffled order one index stands for the middle of an epoch.
        if index == 40 or self.place == "validation":
            stay(self.place)
        if index in self.at and self.trouble:
            self._fail()
        return super().fetch(index, random)

    def _fail(self) -> None:
        if self.file:
            if os.path.exists(self.file):
                return  # trouble that passes
            Path(self.file).write_text(str(os.getpid()))
        if self.trouble == "hang":
            time.sleep(600)
        if self.trouble == "die":
            os._exit(9)
        if self.trouble == "raise":
            raise DataError("the picture is cut short.")
        if self.trouble == "mistake":
            raise TypeError("a mistake")
        if self.trouble == "memory":
            raise MemoryError("Unable to allocate 3.00 TiB")


class FaultyTask(engine_toy.ToyTask):
    """The toy task, which may stay in any part of the training."""

    steps = 0

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        real = checkpoint.save_file

        def slow_save(*arguments: Any, **options: Any) -> None:
            real(*arguments, **options)
            stay("saving")

        if os.environ.get("FAULTY_AT") == "saving":
            checkpoint.save_file = slow_save

    def training_graph(self, network: Any) -> Any:
        graph = super().training_graph(network)
        real = graph.hybrid_forward

        def forward(*arguments: Any, **options: Any) -> Any:
            stay("compile")
            return real(*arguments, **options)

        graph.hybrid_forward = forward
        return graph

    def complete_batch(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        self.steps += 1
        if self.steps == 5:
            stay("step")
        return batch

    def draw_predictions(self, predict: Any, path: Path) -> str | None:
        stay("finishing")
        return super().draw_predictions(predict, path)


def recipe(**changes: Any) -> Recipe:
    """The toy's recipe on points with trouble; options of the training data may be among the changes."""
    names = ("trouble", "at", "file")
    options = {name: changes.pop(name) for name in names if name in changes}
    data = DataSpec(
        train=Component(name="faulty_points", options=options),
        validation=Component(name="faulty_points", options={"count": 30, "seed": 1, "place": "validation"}),
    )
    return engine_toy.recipe(**{"name": "faulty", "task": "faulty", "data": data, **changes})


def plain_recipe() -> Recipe:
    """What ``glueball train faulty`` trains."""
    return recipe()


class FaultyPlugin(engine_toy.ToyPlugin):
    @hookimpl
    def register_datasets(self, register: Any) -> None:
        register("points", "engine_toy:Points")
        register("faulty_points", "faulty:FaultyPoints")

    @hookimpl
    def register_tasks(self, register: Any) -> None:
        register("toy", "engine_toy:ToyTask")
        register("faulty", "faulty:FaultyTask")

    @hookimpl
    def register_recipes(self, register: Any) -> None:
        register("faulty", "faulty:plain_recipe", task="faulty")


PLUGIN = """
from glueball.plugin import hookimpl

@hookimpl
def register_models(register):
    register("tiny", "engine_toy:tiny", task="toy", input_shape=(2,), classes=3)

@hookimpl
def register_datasets(register):
    register("faulty_points", "faulty:FaultyPoints")

@hookimpl
def register_metrics(register):
    register("toy_accuracy", "engine_toy:Accuracy")

@hookimpl
def register_tasks(register):
    register("faulty", "faulty:FaultyTask")

@hookimpl
def register_recipes(register):
    register("faulty", "faulty:plain_recipe", task="faulty")
"""
"""The same as the module of a plugin, for a distribution that is installed."""

stay("imports")

"""What ties a family of models to the engine: its batches, its training graph, its metrics, its predictions.

The trainer knows none of these; a family subclasses ``Task`` and overrides what differs. Everything takes and gives
NumPy, except what its docstring says to be on the device.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from glueball.engine import bad_samples
from glueball.engine.measures import Metric, values
from glueball.engine.recipe import Component, Recipe
from glueball.errors import DataError, OptionError

logger = logging.getLogger("glueball.engine")

SPLITS = ("train", "validation", "test")


class Task:
    """The base of all tasks. One object serves one run (or one evaluation) and builds things when first asked."""

    default_metrics: tuple[Component, ...] = ()
    """What is measured when a recipe names no metrics; the first one decides which weights are best."""

    input_kind: str = "file"
    """What its runs predict on, as ``glueball predict`` takes it from the command line: "file" or "text"."""

    description_keys: tuple[str, ...] = ("model",)
    """Keys of ``describe()`` that its runs cannot be used without: a ``run.json`` without them is another task's."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._datasets: dict[str, Any] = {}

    def adopt(self, description: Mapping[str, Any]) -> None:
        """Takes over what a run has found out from its training data (a vocabulary), as its ``run.json`` says.

        Called before anything is asked of the task when a run is resumed or measured: the network goes with what it was
        trained with, and those data may have changed, or be gone. Tasks that find nothing out do nothing here.

        Raises:
            DataError: the description is damaged.
        """

    # ------------------------------------------------------------------------------------------------------------------
    # Data
    # ------------------------------------------------------------------------------------------------------------------

    def component(self, split: str) -> Component | None:
        """What the recipe names for a split: "test" falls back to "validation".

        Raises:
            OptionError: there is no such split.
        """
        component: Component | None = getattr(self.recipe.data, self.resolved_split(split))
        return component

    def resolved_split(self, split: str) -> str:
        """The split whose data are really used: "validation" for "test" where the recipe names no test data.

        Whoever reports numbers says this name, so that nobody takes validation for a test.

        Raises:
            OptionError: there is no such split.
        """
        if split not in SPLITS:
            raise OptionError(f"A split is one of {', '.join(SPLITS)}. Received: {split!r}.")
        return "validation" if split == "test" and self.recipe.data.test is None else split

    def source(self, split: str) -> Any:
        """The data set as its plugin gives it, without transforms; None if the recipe has none for this split."""
        split = self.resolved_split(split)
        if split not in self._datasets:
            from glueball.named import get_dataset

            component = self.component(split)
            self._datasets[split] = None if component is None else get_dataset(component.name, **component.options)
        return self._datasets[split]

    def dataset(self, split: str, *, training: bool) -> Any:
        """The data set ready for batches; ``training`` turns random transforms on. None where there is no data."""
        return self.source(split)

    def batchify(self) -> Callable[[Sequence[Any]], Any] | None:
        """What makes a batch of samples; None stacks them."""
        return None

    def batch_transform(self) -> Callable[[Any, np.random.Generator], Any] | None:
        """What happens to a training batch as a whole (mixup and the like), before it goes to the device."""
        return None

    def loader(self, split: str, *, training: bool) -> Any:
        """A ``glueball.data.DataLoader`` over a split; None where there is no data."""
        from glueball.data import DataLoader

        dataset = self.dataset(split, training=training)
        if dataset is None:
            return None
        recipe = self.recipe
        # A last, smaller batch would be compiled a second time and is noisier; but a tiny data set has no other.
        discard = training and recipe.last_batch == "discard" and len(dataset) >= recipe.batch_size
        return DataLoader(
            dataset,
            recipe.batch_size,
            shuffle=training,
            last_batch="discard" if discard else "keep",
            batchify=self.batchify(),
            workers=recipe.workers,
            worker_type=recipe.worker_type,
            seed=recipe.seed,
            batch_transform=self.batch_transform() if training else None,
            on_error=recipe.on_bad_sample,
            timeout=recipe.loader_timeout,
        )

    # ------------------------------------------------------------------------------------------------------------------
    # Network
    # ------------------------------------------------------------------------------------------------------------------

    def build_network(self) -> Any:
        """The network to train, with its first weights."""
        from glueball.models import get_model

        spec = self.recipe.model
        return get_model(spec.name, pretrained=spec.pretrained, classes=spec.classes, **spec.options)

    def build_fresh_network(self) -> Any:
        """``build_network`` without pretrained weights: a checkpoint replaces them, and their file may be gone."""
        recipe = self.recipe
        self.recipe = attrs.evolve(recipe, model=attrs.evolve(recipe.model, pretrained=False))
        try:
            return self.build_network()
        finally:
            self.recipe = recipe

    def training_graph(self, network: Any) -> Any:
        """A HybridBlock that holds ``network``: ``graph(*batch)`` returns ``(loss, *outputs)``, all on the device."""
        raise NotImplementedError(f"{type(self).__name__} must implement training_graph().")

    def example_inputs(self) -> tuple[np.ndarray, ...]:
        """A batch of one, as the network sees it at inference: it settles the shapes of deferred parameters.

        Raises:
            DataError: there is no sample to take, or it cannot be made.
        """
        from glueball.data import DataLoader

        dataset = self.dataset("train", training=False)
        if dataset is None or not len(dataset):
            raise DataError("The training data hold no samples.")
        # A loader, because it names a sample that cannot be made, and leaves it out where the recipe says so.
        loader = DataLoader(dataset, 1, batchify=self.batchify(), on_error=self.recipe.on_bad_sample)
        return self.inputs(tuple(next(bad_samples.with_cure(loader, self.recipe))))

    def remarks(self) -> list[str]:
        """What the user should know before training starts: how data were split, which head was replaced."""
        return []

    def set_epoch(self, epoch: int) -> None:
        """Called before each epoch, counted from 0."""

    def set_device(self, device: str) -> None:
        """Where training happens, for tasks that compute something besides the graph (a teacher's answers)."""

    def complete_batch(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        """Adds to a batch on the device what must be computed there; waits for nothing."""
        return batch

    # ------------------------------------------------------------------------------------------------------------------
    # Measuring
    # ------------------------------------------------------------------------------------------------------------------

    def build_metrics(self, *, training: bool) -> list[Metric]:
        """The metrics of the recipe, or the task's own."""
        from glueball.named import get_metric

        return [get_metric(item.name, **item.options) for item in self.recipe.metrics or self.default_metrics]

    def lower_is_better(self) -> frozenset[str]:
        """Names of the validation metrics of which less is better."""
        found = [item for item in self.build_metrics(training=False) if not getattr(item, "higher_is_better", True)]
        return frozenset(values(found))

    def update_metrics(
        self, metrics: Sequence[Metric], batch: tuple[np.ndarray, ...], outputs: tuple[np.ndarray, ...]
    ) -> None:
        """Shows a batch and what the network said about it to the metrics."""
        for metric in metrics:
            metric.update(batch[1], outputs[0])

    def inputs(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        """The part of a batch that the network sees at inference; a sample may become several rows, in order."""
        return batch[:1]

    # ------------------------------------------------------------------------------------------------------------------
    # After training
    # ------------------------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        """What prediction needs besides weights, in terms that JSON knows; becomes part of ``run.json``."""
        spec = self.recipe.model
        return {"model": {"name": spec.name, "options": dict(spec.options), "classes": spec.classes}}

    def weights_metadata(self) -> Mapping[str, str]:
        """What the header of the run's weight files says, for whoever finds one outside of its run; free text.

        A task whose weights mean nothing without something else (a vocabulary) says here what that was.
        """
        return {}

    @classmethod
    def restore_network(cls, description: Mapping[str, Any]) -> Any:
        """The network of a description, without its weights."""
        from glueball.models import get_model

        model = description["model"]
        return get_model(model["name"], classes=model["classes"], **model["options"])

    @classmethod
    def predictor(cls, description: Mapping[str, Any], network: Any, *, device: str, precision: str) -> Any:
        """What ``glueball.load`` returns: a callable on files, pictures, sentences, whatever the family predicts on."""
        raise NotImplementedError(f"{cls.__name__} has no predictor.")

    def draw_predictions(self, predict: Callable[..., Any], path: Path) -> str | None:
        """Draws some predictions on held-out data. Returns None, or why nothing was drawn.

        ``predict`` maps arrays of inputs (NumPy) to outputs (NumPy). ``path`` ends in .png; a task whose predictions
        are for reading writes a page beside it (``path.with_suffix(".html")``).
        """
        return "this task draws no predictions"

    @classmethod
    def fold(cls, recipe: Recipe, index: int, folds: int) -> Recipe:
        """The recipe that trains without one fold of the data and is validated on it: ``glueball train --folds``.

        Every sample is held out of exactly one fold, and the same samples whenever it is asked. What the recipe names
        as validation and test data has no part in it, unless the task says so.

        Args:
            index: which fold is held out, counted from 0.
            folds: how many there are.

        Raises:
            OptionError: this task, or these data, cannot be divided into folds.
            DataError: there are too few samples for so many folds.
        """
        raise OptionError(
            f"Runs of the task {recipe.task!r} have no folds: it does not say how its data are divided. Leave --folds "
            "out; the recipe's own validation data are measured after each epoch."
        )

    @classmethod
    def retarget(cls, recipe: Recipe, description: Mapping[str, Any], data: str) -> Recipe:
        """The recipe with ``data`` (a folder or file) as its test data: ``glueball evaluate RUN --data``.

        Raises:
            OptionError: this task cannot evaluate on other data.
        """
        raise OptionError(f"Runs of the task {recipe.task!r} cannot be evaluated on other data.")

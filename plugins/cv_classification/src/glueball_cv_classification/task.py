"""Image classification on the engine: pictures and labels in, cross-entropy and accuracy, class names out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from glueball.engine import Component, DataSpec, Recipe, Task
from glueball.errors import DataError, OptionError
from glueball.metrics import CrossEntropy

from .folds import FoldPart
from .predictor import ImageClassifier, class_names, output_names, read_picture, softmax
from .transforms import Compose, CutMix, MixUp, MixUpOrCutMix, SoftLabels

_FOLD = "fold"
"""The option of the task that holds [index, folds] in the recipe of a fold."""
_SHEET_PICTURES = 32
_SHEET_WRONG = 12
"""At most this many pictures of the sheet are chosen because the answer is wrong; the rest show the usual case."""


class ImageClassification(Task):
    """Trains any model that maps pictures to one logit for each class."""

    default_metrics = (Component(name="accuracy"), Component(name="top_k_accuracy", options={"k": 5}))
    description_keys = ("model", "classes", "preprocessing")

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._epoch = 0
        self._device = "cpu"
        self._teacher: Any = None
        self._parts: dict[str, FoldPart] = {}

    # ------------------------------------------------------------------------------------------------------------------
    # Data
    # ------------------------------------------------------------------------------------------------------------------

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the labels."""
        # Who names the classes need not have training data: a run is measured on data that hold a test part only.
        given = self.recipe.data.train.options.get("classes")
        names = tuple(str(name) for name in given or self.source("train").classes)
        wanted = self.recipe.model.classes
        if wanted is not None and wanted < len(names):
            raise OptionError(
                f"The model has {wanted} classes, the training data have {len(names)}: "
                f"{', '.join(names[:10])}{', ...' if len(names) > 10 else ''}. Leave model.classes out, or set it to "
                f"{len(names)} or more."
            )
        return names

    @property
    def num_classes(self) -> int:
        """Logits of the network."""
        return self.recipe.model.classes or len(self.classes)

    def source(self, split: str) -> Any:
        chosen = self.recipe.options.get(_FOLD)
        split = self.resolved_split(split)
        if chosen is None or split == "test":
            return super().source(split)
        if split not in self._parts:
            index, folds = chosen
            # Both are parts of one and the same data set, which is opened once.
            self._parts[split] = FoldPart(super().source("train"), index, folds, held_out=split == "validation")
        return self._parts[split]

    def dataset(self, split: str, *, training: bool) -> Any:
        source = self.source(split)
        if source is None:
            return None
        if not len(source):
            raise DataError(
                f"The {split} data hold no pictures: {source!r}. Expected at least one. Add pictures, or name other "
                "data."
            )
        if split != "train" and tuple(map(str, source.classes)) != self.classes:
            raise DataError(
                f"The {split} data have other classes than the training data. "
                f"Expected: {_some(self.classes)}. Received: {_some(source.classes)}."
            )
        steps = self.recipe.transforms.train if training else self.recipe.transforms.evaluation
        return source.transform_first(build_transform(steps))

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def batch_transform(self) -> Callable[[Any, np.random.Generator], Any] | None:
        recipe, classes = self.recipe, self.num_classes
        smoothing = recipe.label_smoothing
        if not self._soft_labels:
            return None
        if self._epoch >= recipe.epochs - recipe.mixing_stops_before:
            return SoftLabels(classes, smoothing)
        if recipe.mixup and recipe.cutmix:
            return MixUpOrCutMix(classes, recipe.mixup, recipe.cutmix, smoothing=smoothing)
        if recipe.mixup:
            return MixUp(classes, recipe.mixup, smoothing)
        if recipe.cutmix:
            return CutMix(classes, recipe.cutmix, smoothing)
        return SoftLabels(classes, smoothing)

    @property
    def _soft_labels(self) -> bool:
        """Whether labels reach the loss as probabilities; they do so for the whole run, so that one graph serves it."""
        recipe = self.recipe
        return bool(recipe.label_smoothing or recipe.mixup or recipe.cutmix)

    def remarks(self) -> list[str]:
        notes = []
        for split in ("train", "validation", "test"):
            if self.resolved_split(split) != split or self.source(split) is None:
                continue
            source = self.source(split)
            # Whoever sees the names notices when they are no classes but, say, the parts of a data set.
            parts = [f"{len(source)} picture{'' if len(source) == 1 else 's'}"]
            if split == "train":
                parts[0] += f" of {len(self.classes)} classes ({_some(self.classes)})"
                if self.num_classes > len(self.classes):
                    parts.append(f"{self.num_classes - len(self.classes)} more outputs of the network have no pictures")
            if summary := getattr(source, "summary", ""):
                parts.append(summary)
            notes.append(f"{split} data: {', '.join(parts)}")
        return notes

    # ------------------------------------------------------------------------------------------------------------------
    # Network
    # ------------------------------------------------------------------------------------------------------------------

    def build_network(self) -> Any:
        from glueball.models import get_model

        spec = self.recipe.model
        return get_model(spec.name, pretrained=spec.pretrained, classes=self.num_classes, **spec.options)

    def training_graph(self, network: Any) -> Any:
        from . import graph

        return graph.build(network, self.recipe, soft_labels=self._soft_labels)

    def set_device(self, device: str) -> None:
        self._device = device

    def complete_batch(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        if self.recipe.distillation is None:
            return batch
        if self._teacher is None:
            self._teacher = self._build_teacher()
        return (*batch, self._teacher(batch[0]))

    def _build_teacher(self) -> Callable[..., Any]:
        from glueball import backend
        from glueball.models import get_model

        spec = self.recipe.distillation
        assert spec is not None
        selected = backend.current()
        network = get_model(spec.teacher, pretrained=spec.pretrained, classes=self.num_classes, **spec.options)
        network = selected.to_device(network, self._device)
        return selected.predictor(network, device=self._device)

    # ------------------------------------------------------------------------------------------------------------------
    # Measuring
    # ------------------------------------------------------------------------------------------------------------------

    def build_metrics(self, *, training: bool) -> list[Any]:
        from glueball.named import get_metric

        # Half of each picture is another one: accuracy on mixed batches says nothing.
        if training and (self.recipe.mixup or self.recipe.cutmix):
            return []
        chosen = list(self.recipe.metrics or self.default_metrics)
        if not self.recipe.metrics and self.num_classes <= 10:
            chosen = chosen[:1]  # five guesses out of ten are no feat
        metrics = [get_metric(item.name, **item.options) for item in chosen]
        # Against the true labels and without smoothing: overfitting shows here first.
        return metrics if training else [*metrics, CrossEntropy(name="loss")]

    def inputs(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        images = batch[0]
        return (images.reshape(-1, *images.shape[-3:]),)  # the crops of a picture one after another

    def update_metrics(
        self, metrics: Sequence[Any], batch: tuple[np.ndarray, ...], outputs: tuple[np.ndarray, ...]
    ) -> None:
        labels = batch[1]
        if labels.ndim == 2:  # smoothed
            labels = labels.argmax(axis=1)
        logits = outputs[0]
        if len(logits) != len(labels):  # several crops of each picture
            logits = np.log(softmax(logits).reshape(len(labels), -1, logits.shape[-1]).mean(axis=1))
        for metric in metrics:
            metric.update(labels, logits)

    # ------------------------------------------------------------------------------------------------------------------
    # After training
    # ------------------------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        spec = self.recipe.model
        return {
            "model": {"name": spec.name, "options": dict(spec.options), "classes": self.num_classes},
            "classes": output_names(self.classes, self.num_classes),
            "preprocessing": [attrs.asdict(step) for step in self.recipe.transforms.evaluation],
        }

    @classmethod
    def predictor(cls, description: Mapping[str, Any], network: Any, *, device: str, precision: str) -> ImageClassifier:
        from glueball import backend

        selected = backend.current()
        steps = [Component(**step) for step in description["preprocessing"]]
        return ImageClassifier(
            selected.predictor(network, device=device, precision=precision),
            lambda array: selected.array(array, device),
            selected.numpy,
            build_transform(steps),
            class_names(description),
        )

    def draw_predictions(self, predict: Callable[..., Any], path: Path) -> str | None:
        from . import sheet

        source = self.source("test")
        if source is None:
            return "there are no held-out data"
        transform = build_transform(self.recipe.transforms.evaluation)
        names = output_names(self.classes, self.num_classes)
        tiles = []
        # Spread over the whole set, because data sets are often sorted by class.
        chosen = np.unique(np.linspace(0, len(source) - 1, min(len(source), 8 * _SHEET_PICTURES)).astype(int))
        for start in range(0, len(chosen), self.recipe.batch_size):
            samples = []
            for index in chosen[start : start + self.recipe.batch_size]:
                try:
                    samples.append(source[int(index)])
                except DataError:
                    continue  # damaged pictures were reported where they matter
            if not samples:
                continue
            images = [read_picture(image) for image, _ in samples]
            logits = _crops_averaged(predict, np.stack([transform(image) for image, _ in samples]))
            probabilities = softmax(logits)
            for image, (_, label), row in zip(images, samples, probabilities, strict=True):
                best = int(row.argmax())
                tiles.append(
                    sheet.Tile(
                        image=image,
                        predicted=names[best],
                        probability=float(row[best]),
                        expected=names[int(label)],
                    )
                )
        wrong = [tile for tile in tiles if tile.is_wrong][:_SHEET_WRONG]
        right = [tile for tile in tiles if not tile.is_wrong]
        step = max(1, len(right) // max(1, _SHEET_PICTURES - len(wrong)))
        shown = [*wrong, *right[::step]][:_SHEET_PICTURES]
        accuracy = sum(not tile.is_wrong for tile in tiles) / max(1, len(tiles))
        sheet.draw(shown, path, f"{self.recipe.name}: {accuracy:.1%} of {len(tiles)} pictures right, mistakes first")
        return None

    @classmethod
    def fold(cls, recipe: Recipe, index: int, folds: int) -> Recipe:
        """The training data are divided, class by class; the recipe's validation data are left out, its test data kept.

        Of a folder that is not divided all pictures are, those too that the recipe itself would have held out.
        """
        train = recipe.data.train
        if "val_fraction" in train.options:
            train = attrs.evolve(train, options={**train.options, "val_fraction": None})
        data = DataSpec(train=train, validation=train, test=recipe.data.test)
        return attrs.evolve(recipe, data=data, options={**recipe.options, _FOLD: [index, folds]})

    @classmethod
    def retarget(cls, recipe: Recipe, description: Mapping[str, Any], data: str) -> Recipe:
        # The run's own classes decide what a label means, whatever folders the other data have.
        # Nothing is trained on, so nothing needs to be held out of what the folder does not divide itself.
        options = {"root": os.path.abspath(data), "classes": class_names(description), "val_fraction": None}

        def part(split: str) -> Component:
            return Component(name="image_folder", options={**options, "split": split})

        others = {name: value for name, value in recipe.options.items() if name != _FOLD}
        data_spec = DataSpec(train=part("train"), validation=part("val"), test=part("test"))
        return attrs.evolve(recipe, data=data_spec, options=others)


def build_transform(steps: Sequence[Component]) -> Any:
    """The steps as one transform."""
    from glueball.named import get_transform

    built = [get_transform(step.name, **step.options) for step in steps]
    return built[0] if len(built) == 1 else Compose(built)


def _crops_averaged(predict: Callable[..., Any], batch: np.ndarray) -> np.ndarray:
    if batch.ndim == 4:
        return np.asarray(predict(batch))
    logits = np.asarray(predict(batch.reshape(-1, *batch.shape[2:])))
    return np.log(softmax(logits).reshape(len(batch), batch.shape[1], -1).mean(axis=1))


def _some(names: Sequence[Any]) -> str:
    shown = ", ".join(str(name) for name in names[:8])
    return f"{shown}, ... ({len(names)})" if len(names) > 8 else shown

"""What the killed runs train: points, pictures and texts, each so small that a whole run takes a fraction of a second.

Every sample carries its index through loader, workers and mixing to the very step, where it is written down
(``resume_moments``) and taken off before the network sees the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import engine_toy
import numpy as np

from glueball.data import Dataset
from glueball.data.batchify import default_batchify
from glueball.engine import Component, DataSpec, ModelSpec, Recipe, Task, TransformSpec
from glueball.errors import DataError
from glueball.plugin import hookimpl

# ----------------------------------------------------------------------------------------------------------------------
# Samples that know their index
# ----------------------------------------------------------------------------------------------------------------------


class Indexed(Dataset):
    """A data set whose samples end with their index: (..., index)."""

    def __init__(self, data: Any) -> None:
        self._data = data
        self.is_random = data.is_random
        if hasattr(data, "lengths"):
            self.lengths = data.lengths

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Any:
        return (*self._data[index], np.int64(index))

    def fetch(self, index: int, random: np.random.Generator | None = None) -> Any:
        return (*self._data.fetch(index, random), np.int64(index))

    def describe(self, index: int) -> str:
        return str(self._data.describe(index))

    def labels(self) -> Any:
        return self._data.labels()


@attrs.frozen
class WithIndices:
    """Makes a batch of samples with an index: the family's own batch, and the indices behind it."""

    batchify: Callable[[Sequence[Any]], Any]

    def __call__(self, samples: Sequence[Any]) -> tuple[Any, ...]:
        indices = np.array([sample[-1] for sample in samples], np.int64)
        return (*self.batchify([sample[:-1] for sample in samples]), indices)

    def length(self, longest: int) -> int:
        return int(self.batchify.length(longest))  # type: ignore[attr-defined] # of texts


class Recorded(Task):
    """Mixed into a task, before it."""

    def dataset(self, split: str, *, training: bool) -> Any:
        # The same object whenever asked, as the task's own is.
        kept: dict[Any, Indexed] = self.__dict__.setdefault("_indexed", {})
        data = super().dataset(split, training=training)
        if data is None or isinstance(data, Indexed):
            return data
        found = kept.get((split, training))
        if found is None or found._data is not data:
            found = kept[split, training] = Indexed(data)
        return found

    def batchify(self) -> WithIndices:
        return WithIndices(super().batchify() or default_batchify)

    def complete_batch(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        return super().complete_batch(batch[:-1])

    def draw_predictions(self, predict: Any, path: Path) -> str | None:
        return "pictures are no part of the proof"


class RecordedPoints(Recorded, engine_toy.ToyTask):
    """Points on a plane."""


@cache
def recorded_pictures() -> type[Task]:
    from glueball_cv_classification.task import ImageClassification

    class RecordedPictures(Recorded, ImageClassification):
        """Pictures with one label each."""

    return RecordedPictures


@cache
def recorded_texts() -> type[Task]:
    from glueball_nlp_embedding_lm.task import TextClassification

    class RecordedTexts(Recorded, TextClassification):  # type: ignore[misc] # its batchify has a length too
        """Texts with one label each."""

    return RecordedTexts


def __getattr__(name: str) -> Any:
    # The catalogue finds the tasks of the families by name, where the families are installed.
    if name == "RecordedPictures":
        return recorded_pictures()
    if name == "RecordedTexts":
        return recorded_texts()
    raise AttributeError(name)


# ----------------------------------------------------------------------------------------------------------------------
# Data and networks
# ----------------------------------------------------------------------------------------------------------------------


class Points(engine_toy.Points):
    """As the toy's, with samples that cannot be made (``bad``)."""

    def __init__(self, bad: Sequence[int] = (), **options: Any) -> None:
        super().__init__(**options)
        self._bad = frozenset(bad)

    def fetch(self, index: int, random: np.random.Generator | None = None) -> Any:
        if index in self._bad:
            raise DataError("a point that nobody can read")
        return super().fetch(index, random)


class Pictures(Dataset):
    """Stripes in three directions under noise: uint8 (12, 12, 3) and a label; ``bad`` ones cannot be read."""

    classes = ("across", "down", "aslant")

    def __init__(self, count: int = 45, seed: int = 0, bad: Sequence[int] = ()) -> None:
        random = np.random.default_rng(seed)
        self._labels = np.arange(count) % 3
        row, column = np.mgrid[:12, :12]
        waves = np.stack([np.sin(row), np.sin(column), np.sin(row + column)])[self._labels]
        pictures = 128 + 60 * waves[..., None] + 40 * random.standard_normal((count, 12, 12, 3))
        self._pictures = pictures.clip(0, 255).astype(np.uint8)
        self._bad = frozenset(bad)

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> Any:
        if index in self._bad:
            raise DataError("a picture that nobody can read")
        return self._pictures[index], int(self._labels[index])

    def labels(self) -> np.ndarray:
        return self._labels


def convnet(classes: int = 3, dropout: float = 0.2) -> Any:
    """A small picture network with running statistics and dropout: (batch, 3, 8, 8) to (batch, classes)."""
    from glueball import nn

    network = nn.HybridSequential()
    network.add(
        nn.Conv2D(6, kernel_size=3, padding=1, use_bias=False),
        nn.BatchNorm(),
        nn.Activation("relu"),
        nn.MaxPool2D(2, 2),
        nn.Conv2D(8, kernel_size=3, padding=1),
        nn.Activation("relu"),
        nn.GlobalAvgPool2D(),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Dense(classes),
    )
    return network


class Families:
    """The plugin that names all of it."""

    @hookimpl
    def register_models(self, register: Any) -> None:
        register("resume_convnet", "resume_families:convnet", task="image_classification", input_shape=(3, 8, 8))

    @hookimpl
    def register_datasets(self, register: Any) -> None:
        register("resume_points", "resume_families:Points")
        register("resume_pictures", "resume_families:Pictures")

    @hookimpl
    def register_tasks(self, register: Any) -> None:
        register("resume_points", "resume_families:RecordedPoints")
        register("resume_pictures", "resume_families:RecordedPictures")
        register("resume_texts", "resume_families:RecordedTexts")


_SIGNS = {"animal": ("cat", "horse", "owl"), "colour": ("red", "green", "mauve"), "number": ("two", "nine", "forty")}
_FILLERS = ("the", "a", "this", "that", "of", "near", "very", "some", "old", "new", "and", "or", "with", "from")


def write_files(folder: Path) -> None:
    """What the family of texts trains on."""
    _write_texts(folder / "train.tsv", 45, 0)
    _write_texts(folder / "validation.tsv", 20, 1)


def _write_texts(path: Path, count: int, seed: int) -> None:
    """A TSV file of texts of 1 to 12 words, one of which tells the class."""
    random = np.random.default_rng(seed)
    lines = ["text\tlabel"]
    for number in range(count):
        name = tuple(_SIGNS)[number % 3]
        words = [*random.choice(_FILLERS, int(random.integers(0, 12))), random.choice(_SIGNS[name])]
        random.shuffle(words)
        lines.append(f"{' '.join(map(str, words))}\t{name}")
    path.write_text("\n".join(lines) + "\n")


# ----------------------------------------------------------------------------------------------------------------------
# Recipes
# ----------------------------------------------------------------------------------------------------------------------


def recipe(family: str, folder: Path, changes: Mapping[str, Any]) -> Recipe:
    """The family's recipe with ``changes``, which are plain fields of a recipe; texts lie in ``folder``."""
    bases = {"points": _points, "pictures": _pictures, "texts": _texts}
    base = bases[family](folder).to_dict()
    merged = {name: {**base[name], **value} if name in _MERGED else value for name, value in changes.items()}
    return Recipe.from_dict({**base, **merged})


_MERGED = ("model", "data", "optimizer", "schedule")


def _data(name: str, train: Mapping[str, Any], validation: Mapping[str, Any]) -> DataSpec:
    return DataSpec(train=Component(name=name, options=train), validation=Component(name=name, options=validation))


def _points(folder: Path) -> Recipe:
    data = _data("resume_points", {"count": 50}, {"count": 22, "seed": 1})
    return engine_toy.recipe(name="points", task="resume_points", data=data, epochs=2)


def _pictures(folder: Path) -> Recipe:
    data = _data("resume_pictures", {"count": 45}, {"count": 20, "seed": 1})
    steps = TransformSpec(
        train=(
            Component(name="random_crop", options={"size": 8, "pad": 2}),
            Component(name="random_flip_left_right"),
            Component(name="random_color_jitter", options={"brightness": 0.3, "contrast": 0.3}),
            Component(name="to_tensor"),
        ),
        evaluation=(Component(name="center_crop", options={"size": 8}), Component(name="to_tensor")),
    )
    model = ModelSpec(name="resume_convnet")
    return engine_toy.recipe(
        name="pictures", task="resume_pictures", model=model, data=data, transforms=steps, epochs=2
    )


def _texts(folder: Path) -> Recipe:
    data = _data("text_file", {"path": str(folder / "train.tsv")}, {"path": str(folder / "validation.tsv")})
    model = ModelSpec(name="textcnn", options={"mode": "rand", "num_filters": 6, "embed_size": 8, "dropout": 0.2})
    return engine_toy.recipe(
        name="texts", task="resume_texts", model=model, data=data, epochs=2, options={"length_buckets": 3}
    )

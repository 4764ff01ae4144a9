"""Small files of texts that tests train on: what the class is, one word of each text tells."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from glueball.engine import Component, DataSpec, ModelSpec, Recipe

SIGNS = {"animal": ("cat", "horse", "owl"), "colour": ("red", "green", "mauve"), "number": ("two", "nine", "forty")}
FILLERS = ["the", "a", "this", "that", "of", "near", "very", "some", "old", "new", "and", "or", "with", "from"]


def lines(count: int, seed: int, first: str = "") -> list[tuple[str, str]]:
    """``count`` pairs of a text of 1 to 12 words and its class; ``first`` is a word that begins each text."""
    random = np.random.default_rng(seed)
    pairs = []
    for _ in range(count):
        name = str(random.choice(list(SIGNS)))
        words = [*random.choice(FILLERS, int(random.integers(0, 12))).tolist(), str(random.choice(SIGNS[name]))]
        random.shuffle(words)
        pairs.append((" ".join([first, *words]).strip(), name))
    return pairs


def write(path: Path, count: int = 90, seed: int = 0, first: str = "") -> Path:
    """A TSV file of such pairs."""
    path.write_text("text\tlabel\n" + "".join(f"{text}\t{name}\n" for text, name in lines(count, seed, first)))
    return path


def write_vectors(path: Path, words: list[str], dimension: int = 8, seed: int = 1) -> Path:
    """A file of random word vectors in GloVe's form."""
    random = np.random.default_rng(seed)
    rows = (f"{word} {' '.join(f'{value:.5f}' for value in random.normal(0, 0.4, dimension))}" for word in words)
    path.write_text("\n".join(rows) + "\n")
    return path


def recipe(train: Path, validation: Path | None = None, **changes: Any) -> Recipe:
    """A small network on such files."""
    values: dict[str, Any] = {
        "name": "own",
        "task": "text_classification",
        "model": ModelSpec(name="textcnn", options={"mode": "rand", "num_filters": 6, "embed_size": 8, "dropout": 0.2}),
        "data": DataSpec(
            train=Component(name="text_file", options={"path": str(train)}),
            validation=None if validation is None else Component(name="text_file", options={"path": str(validation)}),
        ),
        "learning_rate": 0.01,
        "epochs": 2,
        "batch_size": 8,
        "precision": "float32",
        "options": {"length_buckets": 3},
    }
    values["optimizer"] = changes.pop("optimizer", adam())
    return Recipe(**{**values, **changes})


def adam() -> Any:
    from glueball.backend.base import OptimizerSpec

    return OptimizerSpec(name="adam")

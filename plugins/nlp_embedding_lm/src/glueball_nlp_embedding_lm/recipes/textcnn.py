"""Kim's convolutional networks on the data sets of his paper (arXiv:1408.5882), cleaned by his rules.

Kim trained with Adadelta; Adam takes its place, with a larger rate where there are word vectors to begin with: those
of 50 numbers learned too slowly with 0.001. That rate, and that TREC gains by more than 12 epochs, was found on five
folds of its training questions, never on test data; the epochs of MR and CR were not searched for.
"""

from __future__ import annotations

from typing import Any

from glueball.backend.base import OptimizerSpec
from glueball.engine import Component, DataSpec, ModelSpec, Recipe, ScheduleSpec

from .paths import absolute


def textcnn_trec(
    data: str | None = None, embedding: str | None = None, mode: str | None = None, holdout: float = 0.1
) -> Recipe:
    """Questions by what they ask for, 6 classes: 5,452 for training, 500 for testing.

    ``holdout``: the share of the training questions that is measured after each epoch and chooses the best one; with 0
    all are trained on, and the last weights count. ``glueball evaluate`` measures on the test questions.

    Args:
        data: a folder with TREC in any of its forms.
        embedding: a file of word vectors.
        mode: rand, static, non-static or multichannel; by default non-static with an embedding, rand without.
    """
    root = {} if data is None else {"root": absolute(data)}
    held = {"holdout": holdout} if holdout else {}
    return _recipe(
        "textcnn-trec",
        DataSpec(
            train=Component(name="trec", options={"split": "train", **root, **held}),
            validation=Component(name="trec", options={"split": "validation", **root, **held}) if held else None,
            test=Component(name="trec", options={"split": "test", **root}),
        ),
        embedding,
        mode,
        epochs=20,
    )


def textcnn_mr(
    data: str | None = None, embedding: str | None = None, mode: str | None = None, holdout: float = 0.1
) -> Recipe:
    """10,662 sentences of film reviews, positive or negative; ``--folds 10`` is how they are measured in papers.

    Without folds, ``holdout`` of each class is held out. The other options are those of ``textcnn_trec``.
    """
    return _undivided("mr", data, embedding, mode, holdout)


def textcnn_cr(
    data: str | None = None, embedding: str | None = None, mode: str | None = None, holdout: float = 0.1
) -> Recipe:
    """Sentences of customers' reviews, positive or negative; as ``textcnn_mr``."""
    return _undivided("cr", data, embedding, mode, holdout)


def _undivided(name: str, data: str | None, embedding: str | None, mode: str | None, holdout: float) -> Recipe:
    options: dict[str, Any] = {"holdout": holdout, **({} if data is None else {"root": absolute(data)})}
    return _recipe(
        f"textcnn-{name}",
        DataSpec(
            train=Component(name=name, options={**options, "split": "train"}),
            validation=Component(name=name, options={**options, "split": "validation"}),
        ),
        embedding,
        mode,
        epochs=8,  # longer sentences, and less to be gained from any of them
    )


def _recipe(name: str, data: DataSpec, embedding: str | None, mode: str | None, epochs: int) -> Recipe:
    options: dict[str, Any] = {"tokenizer": "kim"}
    if embedding is not None:
        options["embedding"] = absolute(embedding)
    return Recipe(
        name=name,
        task="text_classification",
        model=ModelSpec(name="textcnn", options={"mode": mode or ("rand" if embedding is None else "non-static")}),
        data=data,
        optimizer=OptimizerSpec(name="adam"),
        learning_rate=1e-3 if embedding is None else 3e-3,
        schedule=ScheduleSpec(name="cosine"),
        epochs=epochs,
        batch_size=50,
        clip_norm=3.0,
        options=options,
    )

"""Everybody's own texts, and the quickest baseline on any text data set."""

from __future__ import annotations

from typing import Any

from glueball.backend.base import OptimizerSpec
from glueball.engine import Component, DataSpec, ModelSpec, Recipe, ScheduleSpec
from glueball.errors import OptionError

from .paths import absolute


def text_classification(
    data: str,
    val: str | None = None,
    test: str | None = None,
    model: str = "textcnn",
    embedding: str | None = None,
    mode: str | None = None,
    tokenizer: str = "basic",
    tokenizer_model: str | None = None,
    holdout: float | None = None,
    text_column: str | None = None,
    label_column: str | None = None,
    vocabulary: str | None = None,
) -> Recipe:
    """Trains any text classifier on a file of texts and labels: TSV, CSV, JSON lines or fastText's lines.

    Without ``val`` the share ``holdout`` of every class (a tenth where it is not given) is held out: the same texts
    every time.

    Args:
        data: the training texts.
        val: texts that are measured after each epoch.
        test: texts that are kept for ``glueball evaluate``.
        model: one of ``glueball list models --task text_classification``.
        embedding: a file of word vectors (GloVe, fastText, word2vec).
        mode: of textcnn: rand, static, non-static or multichannel; by default non-static with an embedding, rand
            without.
        tokenizer: basic, whitespace, kim, moses, jieba, sentencepiece.
        tokenizer_model: the .model file of sentencepiece.
        holdout: the share that is held out where there is no ``val``.
        text_column, label_column: where they are not found: names or numbers from 0.
        vocabulary: a run whose vocabulary and tokeniser are taken, which its weights (``--pretrained``) need.

    Raises:
        OptionError: ``mode`` is given for another model than textcnn, ``holdout`` along with ``val``, or neither; or
            the tokeniser and its file do not fit.
    """
    if val is not None and holdout is not None:
        raise OptionError(
            f"--val and --holdout exclude each other. Received: both, --holdout {holdout}. Leave one out."
        )
    if holdout is None:
        holdout = 0.1
    if val is None and not holdout:
        raise OptionError("Nothing to measure on: name other texts with --val, or hold some out (--holdout 0.1).")
    reading = {"text_column": text_column, "label_column": label_column}
    reading = {name: value for name, value in reading.items() if value is not None}

    def file(path: str, **options: Any) -> Component:
        return Component(name="text_file", options={"path": absolute(path), **reading, **options})

    if val is None:
        train = file(data, split="train", holdout=holdout)
        validation = file(data, split="validation", holdout=holdout)
    else:
        train, validation = file(data), file(val)
    options: dict[str, Any] = {"tokenizer": _tokenizer(tokenizer, tokenizer_model), "max_length": 400}
    if embedding is not None:
        options["embedding"] = absolute(embedding)
    if vocabulary is not None:
        options["vocabulary"] = absolute(vocabulary)
    model_options: dict[str, Any] = {}
    if model.rpartition("/")[2].lower() == "textcnn":
        model_options["mode"] = mode or ("rand" if embedding is None else "non-static")
    elif mode is not None:
        raise OptionError(f"--mode belongs to textcnn. Received: --model {model} --mode {mode}. Leave --mode out.")
    return Recipe(
        name="text-classification",
        task="text_classification",
        model=ModelSpec(name=model, options=model_options),
        data=DataSpec(train=train, validation=validation, test=None if test is None else file(test)),
        optimizer=OptimizerSpec(name="adam"),
        learning_rate=1e-3,
        schedule=ScheduleSpec(name="cosine"),
        epochs=12,
        batch_size=50,
        clip_norm=3.0,
        log_every=20,
        options=options,
    )


def fasttext(
    dataset: str = "trec",
    data: str | None = None,
    ngrams: int = 2,
    tokenizer: str = "kim",
    tokenizer_model: str | None = None,
    holdout: float = 0.1,
) -> Recipe:
    """fastText's classifier (arXiv:1607.01759) on any data set of texts: a bag of words and hashed n-grams, in seconds.

    Args:
        dataset: one of ``glueball list datasets --plugin nlp_embedding_lm``, or text_file.
        data: the folder (or the file) of that data set.
        ngrams: up to how many neighbouring words count together.
        tokenizer, tokenizer_model: as for text-classification.
        holdout: the share of every class that is held out of the training texts, where the data set has no validation
            part of its own.
    """
    from glueball import catalog

    current = catalog.current()
    parts = getattr(current.resolve(current.find("dataset", dataset)), "parts", ())
    options: dict[str, Any] = {} if "validation" in parts else {"holdout": holdout}
    if data is not None:
        options["path" if dataset == "text_file" else "root"] = absolute(data)
    place = {name: value for name, value in options.items() if name != "holdout"}
    return Recipe(
        name="fasttext",
        task="text_classification",
        model=ModelSpec(name="fasttext_classifier"),
        data=DataSpec(
            train=Component(name=dataset, options={**options, "split": "train"}),
            validation=Component(name=dataset, options={**options, "split": "validation"}),
            test=Component(name=dataset, options={**place, "split": "test"}) if "test" in parts else None,
        ),
        optimizer=OptimizerSpec(name="adam"),
        learning_rate=5e-3,
        schedule=ScheduleSpec(name="linear"),
        epochs=10,
        batch_size=64,
        options={"tokenizer": _tokenizer(tokenizer, tokenizer_model), "ngrams": ngrams},
    )


def _tokenizer(name: str, model: str | None) -> str | dict[str, Any]:
    """What the task's option ``tokenizer`` takes.

    Raises:
        OptionError: sentencepiece comes without a file, or a file with another tokeniser.
    """
    if model is not None and name != "sentencepiece":
        raise OptionError(
            f"--tokenizer-model belongs to the tokeniser sentencepiece. Received: --tokenizer {name}. Add --tokenizer "
            "sentencepiece, or leave --tokenizer-model out."
        )
    if name != "sentencepiece":
        return name
    if model is None:
        raise OptionError("The tokeniser sentencepiece needs the file of its model: --tokenizer-model FILE.model.")
    return {"name": name, "path": absolute(model)}

"""Text classification on the engine: texts and labels in, cross-entropy, accuracy and macro-F1, class names out.

The vocabulary is built from the training texts alone. A run carries it along with the tokeniser and the class names, so
that nothing else is needed to use the run, and so that a run which is resumed or measured reads texts as it was trained
to, whatever has become of the files since.
"""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from attrs.validators import ge, optional

from glueball.data import DataLoader
from glueball.data.buckets import FixedBucketSampler
from glueball.engine import Component, DataSpec, Recipe, Task, specification
from glueball.errors import DataError, OptionError, WeightsError
from glueball.metrics import CrossEntropy

from . import weights_vocabulary
from .embedding import TokenEmbedding
from .pipeline import EncodedTexts, PadTexts, TextPipeline, build_tokenizer, count_texts, is_whole
from .predictor import TextClassifier
from .vocab import Vocab

_EVALUATION_TEXTS = 2000
"""Predictions are shown of at most so many held-out texts."""

# Options of a file that say how it is read: other data in place of it are read in the same way.
_READING = ("text_column", "label_column", "header", "encoding", "format", "delimiter", "quoted")


@attrs.frozen(kw_only=True)
class TextOptions:
    """The options of a recipe (``--set options.max_length=200``) that say how texts are read."""

    tokenizer: str | Mapping[str, Any] = "basic"
    """A name of ``list_tokenizers()``, or a mapping of the name and options."""
    lower: bool = True
    """Whether words are put in lower case."""
    min_freq: int = attrs.field(default=1, validator=ge(1))
    """Words that the training texts hold less often are unknown words."""
    max_size: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """At most so many words, the most frequent ones."""
    max_length: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """At most so many words of a text are read."""
    embedding: str | None = None
    """A file of word vectors, in any form that ``TokenEmbedding.from_file`` reads."""
    embedding_words: int = attrs.field(default=0, validator=ge(0))
    """The first so many words of that file are known too, where the training texts do not hold them."""
    ngrams: int = attrs.field(default=1, validator=ge(1))
    """Up to how many neighbouring words count together, for models that take ``buckets``."""
    buckets: int = attrs.field(default=1 << 17, validator=ge(1))
    """How many ids such n-grams are hashed into; without n-grams there are none."""
    vocabulary: str | None = None
    """A run, or one of its weight files, whose vocabulary is taken in place of that of the training texts, along with
    its tokeniser and n-grams: its weights can then be the first ones (``model.pretrained``)."""
    length_buckets: int = attrs.field(default=8, validator=ge(1))
    """Into how many groups of similar length the texts are put, so that little of a batch is padding."""


class TextClassification(Task):
    """Trains any model that maps (token_ids, valid_length) to one logit for each class."""

    default_metrics = (Component(name="accuracy"), Component(name="f1", options={"average": "macro"}))
    input_kind = "text"
    description_keys = ("model", "classes", "length_keys", "text")

    def __init__(self, recipe: Recipe) -> None:
        super().__init__(recipe)
        self._encoded: dict[str, EncodedTexts] = {}
        self._known: Mapping[str, Any] | None = None

    def adopt(self, description: Mapping[str, Any]) -> None:
        """Takes vocabulary, tokeniser, classes and the model's options from the run, not from the training data.

        Raises:
            DataError: the description is damaged.
        """
        # Now, so that a damaged one is found before anything is computed with it.
        pipeline, keys, classes = read_back(description)
        self._known = description
        self.__dict__.update(pipeline=pipeline, length_keys=keys, classes=classes)

    # ------------------------------------------------------------------------------------------------------------------
    # Data
    # ------------------------------------------------------------------------------------------------------------------

    @cached_property
    def options(self) -> TextOptions:
        """The recipe's options, checked.

        Raises:
            OptionError: an option is unknown or has a value that does not fit, or the recipe asks for what only
                pictures have.
        """
        recipe = self.recipe
        for name in ("mixup", "cutmix"):
            if getattr(recipe, name, 0.0):
                raise OptionError(f"Texts cannot be mixed as pictures are. Received: {name}={getattr(recipe, name)}.")
        if recipe.distillation is not None:
            raise OptionError("Text classification has no distillation. Leave distillation out of the recipe.")
        return specification.from_plain(TextOptions, dict(recipe.options), "options")

    @cached_property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the labels."""
        names = tuple(str(name) for name in self.source("train").classes)
        wanted = self.recipe.model.classes
        if wanted is not None and wanted < len(names):
            raise OptionError(
                f"The model has {wanted} classes, the training data have {len(names)}: {_some(names)}. Leave "
                f"model.classes out, or set it to {len(names)} or more."
            )
        return names

    @property
    def num_classes(self) -> int:
        """Logits of the network."""
        return self.recipe.model.classes or len(self.classes)

    def source(self, split: str) -> Any:
        split = self.resolved_split(split)
        component = self.component(split)
        if split not in self._datasets and split != "train" and component is not None:
            from glueball.named import get_dataset

            options = dict(component.options)
            if "classes" in _parameters("dataset", component.name) and "classes" not in options:
                # A file of its own may lack a class; a label means what it means in the training data all the same.
                options["classes"] = list(self.classes)
            self._datasets[split] = get_dataset(component.name, **options)
        return super().source(split)

    def dataset(self, split: str, *, training: bool) -> EncodedTexts | None:
        split = self.resolved_split(split)
        if split not in self._encoded:
            source = self.source(split)
            if source is None:
                return None
            if not len(source):
                raise DataError(f"The {split} data hold no texts: {source!r}. Expected at least one. Name other data.")
            if tuple(map(str, source.classes)) != self.classes:
                raise DataError(
                    f"The {split} data have other classes than the training data. "
                    f"Expected: {_some(self.classes)}. Received: {_some(source.classes)}."
                )
            self._encoded[split] = EncodedTexts(source, self.pipeline)
        return self._encoded[split]

    @cached_property
    def pipeline(self) -> TextPipeline:
        """What turns texts into ids, made from the training texts.

        Raises:
            OptionError: an option cannot be used.
            DataError: the training texts hold no word, or the embedding cannot be read.
        """
        options = self.options
        if options.vocabulary is not None:
            return self._pipeline_of_another_run(options.vocabulary)
        tokenizer, lower = build_tokenizer(options.tokenizer, options.lower)
        source = self.source("train")
        texts = getattr(source, "texts", None) or (source[index][0] for index in range(len(source)))
        counter = count_texts(texts, tokenizer, lower, options.max_length)
        if not counter:
            raise DataError(f"The training texts hold no words: {source!r}. Name other data, or another tokeniser.")
        words = Vocab(counter, max_size=options.max_size, min_freq=options.min_freq, bos_token=None, eos_token=None)
        if options.embedding_words:
            words = self._with_words_of_embedding(words, options.embedding_words)
        return TextPipeline(
            tokenizer=tokenizer,
            vocab=words,
            lower=lower,
            max_length=options.max_length,
            ngrams=options.ngrams,
            buckets=options.buckets if options.ngrams > 1 else 0,
        )

    def _pipeline_of_another_run(self, source: str) -> TextPipeline:
        chosen = {name: getattr(self.options, name) for name in ("min_freq", "max_size", "embedding_words")}
        defaults = TextOptions()
        given = [f"{name}={value}" for name, value in chosen.items() if value != getattr(defaults, name)]
        if given:
            raise OptionError(
                f"options.vocabulary takes all words of {source}, and other options choose words. Received: "
                f"{', '.join(given)}. Leave them out, or leave options.vocabulary out."
            )
        return attrs.evolve(weights_vocabulary.pipeline_of(source), max_length=self.options.max_length)

    def _with_words_of_embedding(self, words: Vocab, count: int) -> Vocab:
        if self.embedding is None:
            raise OptionError(
                f"embedding_words={count} takes words from an embedding, and the recipe has none. Name one with "
                "options.embedding, or leave embedding_words out."
            )
        special = {self.embedding.unknown_token}
        first = [token for token in self.embedding.idx_to_token[: count + len(special)] if token not in special]
        # Behind those of the training texts, in the order of the file.
        known = list(words.idx_to_token)
        further = [token for token in first[:count] if token not in words]
        order = {token: position for position, token in enumerate((*known, *further))}
        return Vocab(dict.fromkeys((*known, *further), 1), bos_token=None, eos_token=None, token_to_idx=order)

    @cached_property
    def embedding(self) -> TokenEmbedding | None:
        """The word vectors that the recipe names."""
        path = self.options.embedding
        return None if path is None else TokenEmbedding.from_file(path)

    @cached_property
    def length_keys(self) -> tuple[int, ...]:
        """The lengths that batches are padded to."""
        dataset = self.dataset("train", training=False)
        assert dataset is not None
        lengths = np.maximum(dataset.lengths, 1)
        keys = FixedBucketSampler(lengths, 1, self.options.length_buckets).bucket_keys
        return tuple(key for key in keys if isinstance(key, int))

    def batchify(self) -> PadTexts:
        return PadTexts(self.pipeline.padding_id, self.length_keys)

    def loader(self, split: str, *, training: bool) -> DataLoader | None:
        dataset = self.dataset(split, training=training)
        if dataset is None:
            return None
        recipe, pad = self.recipe, self.batchify()
        # A sampler knows no empty sequences; they are padded to one token.
        lengths = np.maximum(dataset.lengths, 1)
        keys = {pad.length(int(length)) for length in np.unique(lengths)}
        sampler = FixedBucketSampler(
            lengths, recipe.batch_size, bucket_keys=sorted(keys), shuffle=training, seed=recipe.seed
        )
        return DataLoader(
            dataset,
            batch_sampler=sampler,
            batchify=pad,
            workers=recipe.workers,
            worker_type=recipe.worker_type,
            seed=recipe.seed,
            on_error=recipe.on_bad_sample,
            timeout=recipe.loader_timeout,
        )

    def remarks(self) -> list[str]:
        notes = []
        for split in ("train", "validation", "test"):
            if self.resolved_split(split) != split or self.source(split) is None:
                continue
            source = self.source(split)
            parts = [f"{len(source)} text{'' if len(source) == 1 else 's'}"]
            if split == "train":
                parts[0] += f" of {len(self.classes)} classes ({_some(self.classes)})"
            if summary := getattr(source, "summary", ""):
                parts.append(summary)
            notes.append(f"{split} data: {', '.join(parts)}")
        vocab = self.pipeline.vocab
        words = f"vocabulary: {len(vocab)} tokens"
        if self._known is None and self.options.vocabulary is not None:
            words += f" of {self.options.vocabulary}, cut by its tokeniser {self.pipeline.tokenizer.name!r}"
        if self.embedding is not None:
            with_vector = sum(token in self.embedding for token in vocab.idx_to_token)
            words += f", of which {with_vector} have a vector of {self.embedding.dimension} in {self.options.embedding}"
        return [*notes, words]

    # ------------------------------------------------------------------------------------------------------------------
    # Network
    # ------------------------------------------------------------------------------------------------------------------

    @property
    def model_options(self) -> dict[str, Any]:
        """The options of the recipe's model, with those that follow from the data."""
        if self._known is not None:
            return dict(self._known["model"]["options"])
        given = dict(self.recipe.model.options)
        derived: dict[str, Any] = {"vocab_size": len(self.pipeline.vocab)}
        if self.pipeline.ngrams > 1:
            derived["buckets"] = self.pipeline.buckets
        if self.embedding is not None:
            derived["embed_size"] = self.embedding.dimension
        for name, value in derived.items():
            if given.get(name, value) != value:
                raise OptionError(
                    f"model.options.{name}={given[name]!r} does not fit: the "
                    f"{'embedding' if name == 'embed_size' else 'training data'} say {value}. Leave it out."
                )
        return {**given, **derived}

    def build_network(self) -> Any:
        return self._build(self.recipe.model.pretrained, with_vectors=True)

    def build_fresh_network(self) -> Any:
        # A checkpoint replaces all weights, and the file of vectors may be gone.
        return self._build(False, with_vectors=False)

    def _build(self, pretrained: bool | str, *, with_vectors: bool) -> Any:
        from glueball import catalog
        from glueball.models import get_model, list_models

        spec = self.recipe.model
        mode = spec.options.get("mode")
        entry = catalog.current().find("model", spec.name)
        made_for = entry.task
        if made_for not in (None, "text_classification"):
            raise OptionError(
                f"The model {spec.name!r} is made for {made_for}. Expected a model of texts, such as "
                f"{', '.join(list_models(task='text_classification'))}."
            )
        if self._known is None and with_vectors:
            self._check_mode(mode)
        if isinstance(pretrained, str) and pretrained not in entry.weights:
            path = Path(pretrained).expanduser()
            if path.is_file():
                weights_vocabulary.check(path, self.pipeline)
        network = get_model(spec.name, pretrained=pretrained, classes=self.num_classes, **self.model_options)
        if with_vectors and not pretrained:
            self._set_vectors(network)
        return network

    def _check_mode(self, mode: str | None) -> None:
        has_vectors = self.options.embedding is not None or bool(self.recipe.model.pretrained)
        if mode in ("static", "multichannel") and not has_vectors:
            raise OptionError(
                f"The mode {mode!r} leaves word vectors as they are, and there are none. Name a file with "
                "options.embedding (--embedding), or set model.options.mode=rand."
            )
        if mode == "rand" and self.options.embedding is not None:
            raise OptionError(
                f"The mode 'rand' begins with random vectors, and options.embedding={self.options.embedding!r} names "
                "others. Leave the embedding out, or set model.options.mode to static, non-static or multichannel."
            )

    def _set_vectors(self, network: Any) -> None:
        """First vectors: those of the embedding; words without one get Kim's random ones; the unknown word zeros.

        Kim (arXiv:1408.5882, section 4.4) draws them from [-a, a] with the variance of the vectors that are there. The
        unknown word is zeros because no training text may hold it, and then nothing would ever move what it is.
        """
        from glueball import backend

        selected = backend.current()
        names = [
            name
            for name in selected.parameters(network)
            if name in ("embedding.weight", "embedding_extend.weight", "embedding.0.weight")
        ]
        if self.embedding is not None and not names:
            raise OptionError(
                f"The model {self.recipe.model.name!r} has no embedding.weight that word vectors could be put into. "
                "Leave options.embedding out, or take another model."
            )
        vocab = self.pipeline.vocab
        arrays = {name: array.copy() for name, array in selected.get_arrays(network).items() if name in names}
        for array in arrays.values():
            if self.embedding is not None:
                array[: len(vocab)] = first_vectors(vocab, self.embedding, self.recipe.seed)
            if vocab.unknown_token is not None:
                array[vocab[vocab.unknown_token]] = 0.0
        selected.set_arrays(network, arrays)

    def weights_metadata(self) -> dict[str, str]:
        return weights_vocabulary.metadata(self.pipeline)

    def training_graph(self, network: Any) -> Any:
        from . import graph

        return graph.build(network, self.recipe)

    # ------------------------------------------------------------------------------------------------------------------
    # Measuring
    # ------------------------------------------------------------------------------------------------------------------

    def build_metrics(self, *, training: bool) -> list[Any]:
        from glueball.named import get_metric

        metrics = []
        for item in self.recipe.metrics or self.default_metrics:
            counted = {"classes": self.num_classes} if "classes" in _parameters("metric", item.name) else {}
            metrics.append(get_metric(item.name, **{**counted, **item.options}))
        # Against the true labels and without smoothing: overfitting shows here first.
        return metrics if training else [*metrics, CrossEntropy(name="loss")]

    def inputs(self, batch: tuple[Any, ...]) -> tuple[Any, ...]:
        return batch[:2]

    def update_metrics(
        self, metrics: Sequence[Any], batch: tuple[np.ndarray, ...], outputs: tuple[np.ndarray, ...]
    ) -> None:
        for metric in metrics:
            metric.update(batch[2], outputs[0])

    # ------------------------------------------------------------------------------------------------------------------
    # After training
    # ------------------------------------------------------------------------------------------------------------------

    def describe(self) -> dict[str, Any]:
        return {
            "model": {"name": self.recipe.model.name, "options": self.model_options, "classes": self.num_classes},
            "classes": list(self.classes),
            "length_keys": list(self.length_keys),
            "text": self.pipeline.describe(),
        }

    @classmethod
    def restore_network(cls, description: Mapping[str, Any]) -> Any:
        tokens = description["text"]["vocabulary"]["tokens"]
        size = description["model"]["options"]["vocab_size"]
        # Before its hash, because this is what the difference means.
        if isinstance(tokens, list) and len(tokens) != size:
            raise WeightsError(
                f"The vocabulary of the run has {len(tokens)} tokens, and its network was trained with {size}: "
                "run.json has been changed. Restore it."
            )
        read_back(description)
        return super().restore_network(description)

    @classmethod
    def predictor(cls, description: Mapping[str, Any], network: Any, *, device: str, precision: str) -> TextClassifier:
        from glueball import backend

        selected = backend.current()
        pipeline, keys, classes = read_back(description)
        return TextClassifier(
            selected.predictor(network, device=device, precision=precision),
            lambda array: selected.array(array, device),
            selected.numpy,
            pipeline,
            PadTexts(pipeline.padding_id, keys),
            output_names(classes, description["model"]["classes"]),
        )

    def draw_predictions(self, predict: Callable[..., Any], path: Path) -> str | None:
        from . import report

        # Whoever reads mistakes learns from them what to change: test data stay unseen where there are others.
        split = "test" if self.source("validation") is None else "validation"
        source, encoded = self.source(split), self.dataset(split, training=False)
        if source is None or encoded is None:
            return "there are no held-out data"
        # Spread over the whole set, because data sets are often sorted by class.
        chosen = np.unique(np.linspace(0, len(source) - 1, min(len(source), _EVALUATION_TEXTS)).astype(int))
        chosen = chosen[np.argsort(encoded.lengths[chosen], kind="stable")]
        pad, rows = self.batchify(), []
        for start in range(0, len(chosen), self.recipe.batch_size):
            part = chosen[start : start + self.recipe.batch_size]
            token_ids, valid_length, labels = pad([encoded[int(index)] for index in part])
            outputs = predict(token_ids, valid_length)
            logits = outputs[0] if isinstance(outputs, tuple) else outputs
            rows += [
                report.Row(text=str(source[int(index)][0]), label=int(label), logits=np.asarray(row, np.float64))
                for index, label, row in zip(part, labels, logits, strict=True)
            ]
        names = output_names(self.classes, self.num_classes)
        report.write(rows, names, path.with_suffix(".html"), self.recipe.name)
        return None

    @classmethod
    def fold(cls, recipe: Recipe, index: int, folds: int) -> Recipe:
        train = recipe.data.train
        if not {"fold", "folds", "split"} <= set(_parameters("dataset", train.name)):
            raise OptionError(
                f"The data set {train.name!r} cannot be divided into folds: it has no options fold and folds. Leave "
                "--folds out, or write the texts into a file (text_file)."
            )
        kept = {name: value for name, value in train.options.items() if name not in ("holdout", "split")}
        options = {**kept, "fold": index, "folds": folds}
        part = {
            split: Component(name=train.name, options={**options, "split": split}) for split in ("train", "validation")
        }
        if index == 0:
            from glueball.named import get_dataset

            get_dataset(train.name, **part["validation"].options)  # too few samples for so many folds show here
        return attrs.evolve(recipe, data=DataSpec(train=part["train"], validation=part["validation"]))

    @classmethod
    def retarget(cls, recipe: Recipe, description: Mapping[str, Any], data: str) -> Recipe:
        train = recipe.data.train
        reading = {name: train.options[name] for name in _READING if name in train.options}
        component = Component(
            name="text_file",
            options={
                **(reading if train.name == "text_file" else {}),
                "path": os.path.abspath(data),
                # The run's own classes decide what a label means, whatever other classes the file has.
                "classes": list(description["classes"]),
            },
        )
        return attrs.evolve(recipe, data=DataSpec(train=component, validation=component, test=component))


def first_vectors(vocab: Vocab, embedding: TokenEmbedding, seed: int) -> np.ndarray:
    """A vector for each token of ``vocab``: float32, (len(vocab), dimension).

    Tokens without one in the table, nor in a fastText model's n-grams, get random ones of the same variance.

    Raises:
        DataError: the embedding holds none of the words, so that it is of another language or spelling.
    """
    dimension = embedding.dimension
    assert dimension is not None
    tokens = list(vocab.idx_to_token)
    special = {vocab.unknown_token, *vocab.reserved_tokens}
    lookup = embedding.unknown_lookup
    known = [
        place
        for place, token in enumerate(tokens)
        if token not in special and (token in embedding or (lookup is not None and token in lookup))
    ]
    if not known:
        raise DataError(
            f"The embedding has a vector for none of the {len(tokens)} words of the training texts, such as "
            f"{', '.join(tokens[len(special) : len(special) + 5])}. It holds words such as "
            f"{', '.join(embedding.idx_to_token[1:6])}. Name another file, or another tokeniser."
        )
    found = embedding[[tokens[place] for place in known]]
    # Uniform numbers of [-a, a] have the variance a^2 / 3.
    bound = math.sqrt(3.0 * float(found.var(dtype=np.float64)))
    random = np.random.Generator(np.random.Philox(seed))
    vectors = random.uniform(-bound, bound, (len(tokens), dimension)).astype(np.float32)
    vectors[known] = found
    return vectors


def read_back(description: Mapping[str, Any]) -> tuple[TextPipeline, tuple[int, ...], tuple[str, ...]]:
    """What turns texts into ids, the lengths that batches are padded to and the class names, from a run's description.

    Raises:
        DataError: the description is damaged.
        KeyError: it lacks something.
    """
    pipeline = TextPipeline.from_description(description["text"])
    keys, classes, outputs = description["length_keys"], description["classes"], description["model"]["classes"]
    if not isinstance(keys, list) or not all(is_whole(key, 1) for key in keys):
        problem = f"'length_keys' must be a list of whole numbers from 1, received {keys!r}"
    elif not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        problem = f"'classes' must be a list of names, received {classes!r}"
    elif len(set(classes)) < len(classes):
        problem = f"the names of its classes must be different, received {_some(classes)}"
    elif not is_whole(outputs, len(classes)):
        problem = f"it names {len(classes)} classes ({_some(classes)}), and its network has {outputs!r}"
    else:
        return pipeline, tuple(sorted(keys)), tuple(classes)
    raise DataError(f"The description of the run is damaged: {problem}. Restore run.json.")


def output_names(classes: Sequence[str], outputs: int) -> list[str]:
    """The class names, and numbered ones for outputs that no class of the training data stands for."""
    names = [str(name) for name in classes]
    return [*names, *(f"class {index}" for index in range(len(names), outputs))]


def _parameters(kind: str, name: str) -> tuple[str, ...]:
    """The names of the options of something in the catalogue."""
    from glueball import catalog

    current = catalog.current()
    return tuple(inspect.signature(current.resolve(current.find(kind, name))).parameters)


def _some(names: Sequence[Any]) -> str:
    shown = ", ".join(str(name) for name in names[:8])
    return f"{shown}, ... ({len(names)})" if len(names) > 8 else shown

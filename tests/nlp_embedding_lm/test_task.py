"""Text classification on the engine: vocabularies, batches, first vectors, runs that are resumed, measured and used."""

from __future__ import annotations

import hashlib
import json
import math
import signal
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import own_texts
import pytest

import glueball
from glueball import backend
from glueball.engine import Component, DataSpec, ModelSpec, Recipe, Trainer, cross_validate
from glueball.engine.load import evaluate_run
from glueball.errors import DataError, OptionError, WeightsError
from glueball_nlp_embedding_lm import report
from glueball_nlp_embedding_lm.pipeline import EncodedTexts, PadTexts, TextPipeline, build_tokenizer
from glueball_nlp_embedding_lm.task import TextClassification, first_vectors
from glueball_nlp_embedding_lm.tokenizers import get_tokenizer
from glueball_nlp_embedding_lm.vocab import Vocab


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("texts")
    return {
        "train": own_texts.write(folder / "train.tsv", 90, 0),
        # Each of its texts begins with a word that no training text holds.
        "val": own_texts.write(folder / "val.tsv", 30, 1, first="zeppelin"),
        "vectors": own_texts.write_vectors(folder / "vectors.txt", ["cat", "red", "two", "the", "zeppelin", "quark"]),
    }


@pytest.fixture(scope="module")
def run(files: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has learned its task."""
    out = tmp_path_factory.mktemp("runs") / "own"
    train(own_texts.recipe(files["train"], files["val"], epochs=12, learning_rate=0.03), out)
    return out


def train(recipe: Recipe, out: Path, **options: Any) -> Any:
    trainer = Trainer(recipe, out, device="cpu", quiet=True, **options)
    trainer._draw_curves = lambda: None  # type: ignore[method-assign] # matplotlib takes longer than the training
    return trainer.fit()


def weights(out: Path, name: str = "last") -> dict[str, np.ndarray]:
    return glueball.weights.load(out / "weights" / f"{name}.safetensors")


def task_of(recipe: Recipe) -> TextClassification:
    return TextClassification(recipe)


def options(recipe: Recipe, **changes: Any) -> Recipe:
    return attrs.evolve(recipe, options={**recipe.options, **changes})


# ----------------------------------------------------------------------------------------------------------------------
# Texts to ids
# ----------------------------------------------------------------------------------------------------------------------


def test_the_vocabulary_is_that_of_the_training_texts(files: dict[str, Path]) -> None:
    vocab = task_of(own_texts.recipe(files["train"], files["val"])).pipeline.vocab
    assert "mauve" in vocab
    assert "zeppelin" not in vocab
    assert vocab.idx_to_token[:2] == ["<unk>", "<pad>"]
    assert vocab.bos_token is None


def test_rare_words_are_unknown(files: dict[str, Path]) -> None:
    recipe = own_texts.recipe(files["train"])
    full = task_of(recipe).pipeline
    texts = [text for text, _ in own_texts.lines(90, 0)]
    counts = {word: sum(text.split().count(word) for text in texts) for word in full.vocab.idx_to_token[2:]}
    bound = sorted(counts.values())[3]
    kept = task_of(options(recipe, min_freq=bound)).pipeline.vocab
    assert set(kept.idx_to_token[2:]) == {word for word, count in counts.items() if count >= bound}
    assert len(task_of(options(recipe, max_size=4)).pipeline.vocab) == 6


def test_words_of_the_embedding_can_be_known_too(files: dict[str, Path]) -> None:
    recipe = options(own_texts.recipe(files["train"]), embedding=str(files["vectors"]))
    plain = list(task_of(recipe).pipeline.vocab.idx_to_token)
    with_five = list(task_of(options(recipe, embedding_words=5)).pipeline.vocab.idx_to_token)
    assert with_five == [*plain, "zeppelin"]
    assert list(task_of(options(recipe, embedding_words=50)).pipeline.vocab.idx_to_token) == [
        *plain,
        "zeppelin",
        "quark",
    ]
    with pytest.raises(OptionError, match="embedding_words=5 takes words from an embedding"):
        _ = task_of(options(own_texts.recipe(files["train"]), embedding_words=5)).pipeline


def test_tokenisers_and_capitals(files: dict[str, Path]) -> None:
    for given, lower, expected in (
        ("basic", True, ["a", "cat"]),
        ("basic", False, ["A", "Cat"]),
        ("kim", False, ["A", "Cat"]),
        ({"name": "kim", "lower": False}, True, ["A", "Cat"]),
        ({"name": "whitespace"}, True, ["a", "cat"]),
    ):
        tokenizer, still = build_tokenizer(given, lower)
        pipeline = TextPipeline(tokenizer=tokenizer, vocab=Vocab(), lower=still)
        assert pipeline.tokens("A Cat") == expected, given
    with pytest.raises(OptionError, match="a mapping with a name"):
        build_tokenizer({"lower": True}, True)


def pipeline_of(words: str, **changes: Any) -> TextPipeline:
    vocab = Vocab(dict.fromkeys(words.split(), 1), bos_token=None, eos_token=None)
    return TextPipeline(tokenizer=get_tokenizer("whitespace"), vocab=vocab, **changes)


def test_ngrams_are_ids_behind_the_vocabulary() -> None:
    plain = pipeline_of("a b c")
    pipeline = pipeline_of("a b c", ngrams=3, buckets=1000)
    ids = pipeline("a b c x")
    np.testing.assert_array_equal(ids[:4], plain("a b c x"))
    assert len(ids) == 4 + 3 + 2
    assert ids.dtype == np.int32
    assert ids[4:].min() >= len(pipeline.vocab)
    assert ids[4:].max() < len(pipeline.vocab) + 1000
    # The same two words give the same n-gram wherever they are, in another order another one; unknown ones count too.
    assert set(pipeline("a b")[2:]) < set(ids)
    assert not set(pipeline("b a")[2:]) & set(ids)
    assert pipeline("c x")[2] != pipeline("c y")[2]
    np.testing.assert_array_equal(pipeline("a"), plain("a"))
    assert len(pipeline("")) == 0


def test_long_texts_are_cut() -> None:
    pipeline = pipeline_of("a b c", max_length=2)
    np.testing.assert_array_equal(pipeline("a b c"), pipeline("a b"))


def test_a_description_gives_the_same_ids() -> None:
    pipeline = pipeline_of("b a \u00e9t\u00e9", max_length=9, ngrams=2, buckets=50, lower=True)
    again = TextPipeline.from_description(json.loads(json.dumps(pipeline.describe())))
    assert again.describe() == pipeline.describe()
    for text in ("A b \u00c9T\u00c9 x", "", "b " * 20):
        np.testing.assert_array_equal(again(text), pipeline(text))
    assert again.padding_id == pipeline.padding_id


def test_a_changed_vocabulary_is_noticed() -> None:
    description = pipeline_of("a b c").describe()
    tokens = description["vocabulary"]["tokens"]
    tokens[2], tokens[3] = tokens[3], tokens[2]
    with pytest.raises(DataError, match=r"not the one that it was trained with.*Restore run.json"):
        TextPipeline.from_description(description)
    del description["lower"]
    with pytest.raises(DataError, match="lacks 'lower'"):
        TextPipeline.from_description(description)


def test_batches_are_padded_to_keys() -> None:
    pad = PadTexts(7, (3, 6))
    samples = [(np.array(ids, np.int32), label) for ids, label in (([1, 2], 0), ([], 2), ([3, 4, 5, 6], 1))]
    token_ids, valid_length, labels = pad(samples)
    np.testing.assert_array_equal(token_ids, [[1, 2, 7, 7, 7, 7], [7] * 6, [3, 4, 5, 6, 7, 7]])
    assert (token_ids.dtype, valid_length.dtype, labels.dtype) == (np.int32, np.float32, np.int64)
    np.testing.assert_array_equal(valid_length, [2, 0, 4])
    np.testing.assert_array_equal(labels, [0, 2, 1])
    assert [pad.length(longest) for longest in (0, 3, 4, 7, 32, 33)] == [3, 3, 6, 32, 32, 64]
    assert pad(samples[1:2])[0].shape == (1, 3)
    assert PadTexts(0)(samples)[0].shape == (3, 4)


def test_an_epoch_is_every_text_once_in_few_shapes(files: dict[str, Path]) -> None:
    task = task_of(own_texts.recipe(files["train"]))
    loader = task.loader("train", training=True)
    assert loader is not None
    epochs = [[tuple(batch) for batch in loader] for _ in range(2)]
    assert len(epochs[0]) == len(loader)
    dataset = task.dataset("train", training=True)
    assert isinstance(dataset, EncodedTexts)
    wanted = sorted((ids.tolist(), label) for ids, label in dataset)
    for batches in epochs:
        found = [
            (row[: int(length)].tolist(), int(label))
            for token_ids, lengths, labels in batches
            for row, length, label in zip(token_ids, lengths, labels, strict=True)
        ]
        assert sorted(found) == wanted
        assert {batch[0].shape[1] for batch in batches} <= set(task.length_keys)
    assert len(task.length_keys) <= 3
    assert [batch[2].tolist() for batch in epochs[0]] != [batch[2].tolist() for batch in epochs[1]]
    again = task_of(own_texts.recipe(files["train"])).loader("train", training=True)
    assert again is not None
    for one, other in zip(again, epochs[0], strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)


def test_held_out_texts_may_be_longer_than_all_training_texts(files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "long.tsv").write_text("text\tlabel\n" + f"{'the ' * 50}cat\tanimal\n\tcolour\n")
    task = task_of(own_texts.recipe(files["train"], tmp_path / "long.tsv"))
    loader = task.loader("validation", training=False)
    assert loader is not None
    assert sorted(batch[0].shape[1] for batch in loader)[-1] == 64
    # A class that the file lacks is still a class: labels mean what they mean in training.
    assert sorted(label for batch in loader for label in batch[2]) == [0, 1]
    assert task.source("validation").classes == ("animal", "colour", "number")


def test_a_sample_that_is_no_text_is_named() -> None:
    with pytest.raises(DataError, match=r"Sample 1 is not a text and a label.*5"):
        EncodedTexts([("a", 0), (5, 1)], pipeline_of("a"))


# ----------------------------------------------------------------------------------------------------------------------
# First weights
# ----------------------------------------------------------------------------------------------------------------------


def test_vectors_come_from_the_embedding_and_kims_formula(files: dict[str, Path]) -> None:
    recipe = options(own_texts.recipe(files["train"]), embedding=str(files["vectors"]))
    model = attrs.evolve(recipe.model, options={"mode": "multichannel", "num_filters": 3})
    task = task_of(attrs.evolve(recipe, model=model))
    arrays = backend.current().get_arrays(task.build_network())
    vocab, embedding = task.pipeline.vocab, task.embedding
    assert embedding is not None
    known = [word for word in vocab.idx_to_token if word in embedding and word != "<unk>"]
    assert sorted(known) == ["cat", "red", "the", "two"]
    for name in ("embedding.weight", "embedding_extend.weight"):
        table = arrays[name]
        assert table.shape == (len(vocab), 8)
        np.testing.assert_array_equal(table[vocab[known]], embedding[known])
        np.testing.assert_array_equal(table[vocab["<unk>"]], np.zeros(8))
        others = table[[index for index, word in enumerate(vocab.idx_to_token) if word not in (*known, "<unk>")]]
        bound = math.sqrt(3 * embedding[known].var())
        assert np.abs(others).max() <= bound
        assert others.std() == pytest.approx(embedding[known].std(), rel=0.2)


def test_an_embedding_of_another_language_is_an_error(files: dict[str, Path], tmp_path: Path) -> None:
    path = own_texts.write_vectors(tmp_path / "vectors.txt", ["chat", "rouge", "deux"])
    task = task_of(options(own_texts.recipe(files["train"]), embedding=str(path)))
    assert task.embedding is not None
    with pytest.raises(DataError, match=r"a vector for none of the.*It holds words such as chat, rouge"):
        first_vectors(task.pipeline.vocab, task.embedding, 0)


def test_which_vectors_training_moves(files: dict[str, Path], tmp_path: Path) -> None:
    base = options(own_texts.recipe(files["train"], epochs=1), embedding=str(files["vectors"]))
    for mode, moved in (
        ("static", {"embedding.weight": False}),
        ("non-static", {"embedding.weight": True}),
        ("multichannel", {"embedding.weight": False, "embedding_extend.weight": True}),
    ):
        model = ModelSpec(name="textcnn", options={"mode": mode, "num_filters": 3})
        recipe = attrs.evolve(base, model=model)
        first = first_vectors(task_of(recipe).pipeline.vocab, task_of(recipe).embedding, 0)  # type: ignore[arg-type]
        first[0] = 0.0
        train(recipe, tmp_path / mode)
        after = weights(tmp_path / mode)
        assert {
            name: not np.array_equal(values, first) for name, values in after.items() if name.startswith("embedding")
        } == moved


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.options.mode": "static"}, "leaves word vectors as they are, and there are none"),
        ({"model.options.vocab_size": "5"}, "model.options.vocab_size=5 does not fit: the training data say"),
        ({"options.tokeniser": "kim"}, "No option 'options.tokeniser'. Did you mean tokenizer"),
        ({"options.min_freq": "0"}, "min_freq"),
        ({"options.min_freq": "many"}, "options.min_freq must be a whole number"),
        ({"model.classes": "2"}, "The model has 2 classes, the training data have 3"),
        ({"mixup": "0.2"}, "Texts cannot be mixed"),
        ({"distillation.teacher": "textcnn"}, "no distillation"),
        ({"options.ngrams": "2"}, "no option 'buckets'"),
    ],
)
def test_options_that_cannot_be(files: dict[str, Path], tmp_path: Path, changes: Any, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        train(own_texts.recipe(files["train"]).override(changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_embedding_and_random_vectors_exclude_each_other(files: dict[str, Path]) -> None:
    recipe = options(own_texts.recipe(files["train"]), embedding=str(files["vectors"]))
    model = attrs.evolve(recipe.model, options={"mode": "rand"})
    with pytest.raises(OptionError, match="'rand' begins with random vectors"):
        task_of(attrs.evolve(recipe, model=model)).build_network()
    wide = attrs.evolve(recipe.model, options={"mode": "static", "embed_size": 9})
    with pytest.raises(OptionError, match="embed_size=9 does not fit: the embedding say"):
        task_of(attrs.evolve(recipe, model=wide)).build_network()


def test_label_smoothing_is_that_of_the_paper(files: dict[str, Path]) -> None:
    recipe = own_texts.recipe(files["train"], label_smoothing=0.3)
    task, selected = task_of(recipe), backend.current()
    network = task.build_network()
    loader = task.loader("train", training=True)
    assert loader is not None
    batch = next(iter(loader))
    arrays = [selected.array(array) for array in batch]
    losses, logits = (selected.numpy(array) for array in task.training_graph(network)(*arrays))
    log_probabilities = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = np.eye(3)[batch[2]] * 0.7 + 0.3 / 3
    np.testing.assert_allclose(losses, -(targets * log_probabilities).sum(axis=1), rtol=1e-4)
    with pytest.raises(OptionError, match=r"label_smoothing=0.3 is for the usual loss"):
        task_of(attrs.evolve(recipe, loss=Component(name="focal"))).training_graph(network)


# ----------------------------------------------------------------------------------------------------------------------
# Runs
# ----------------------------------------------------------------------------------------------------------------------


def test_a_run_learns_and_says_what_it_measures(run: Path) -> None:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    last = [row for row in rows if row.get("event") == "epoch" or "validation_accuracy" in row][-1]
    assert {"validation_accuracy", "validation_f1_macro", "validation_loss", "train_accuracy"} <= last.keys()
    assert last["validation_accuracy"] > 0.9
    remarks = [row["text"] for row in rows if row.get("text")]
    assert any("90 texts of 3 classes (animal, colour, number)" in text for text in remarks)
    assert any(text.startswith("vocabulary: ") for text in remarks)


def test_texts_get_answers_whatever_they_are(run: Path) -> None:
    classifier = glueball.load(run, device="cpu")
    assert classifier.classes == ("animal", "colour", "number")
    best = classifier("that old OWL", top=1)
    assert [answer.label for answer in best] == ["animal"]
    texts = ["two", "", "   ", "qwerty uiop", "\U0001f600", "mauve " * 500, "a green"]
    together = classifier(texts, top=3)
    assert [answers[0].label for answers in (together[0], together[6])] == ["number", "colour"]
    for text, answers in zip(texts, together, strict=True):
        assert sum(answer.probability for answer in answers) == pytest.approx(1.0)
        assert all(math.isfinite(answer.probability) for answer in answers)
        alone = classifier(text, top=3)
        assert [answer.label for answer in alone] == [answer.label for answer in answers]
        assert [answer.probability for answer in alone] == pytest.approx(
            [answer.probability for answer in answers], abs=1e-5
        )
    assert together[1] == together[2]  # nothing is nothing
    assert classifier([]) == []
    assert classifier.probabilities([]).shape == (0, 3)
    assert json.loads(json.dumps(classifier.plain(best)))[0]["label"] == "animal"
    assert "animal" in classifier.text(best)
    with pytest.raises(OptionError, match="top is at least 1"):
        classifier("a", top=0)
    with pytest.raises(DataError, match="text"):
        classifier([b"bytes"])
    with pytest.raises(DataError, match="a list of texts"):
        classifier.probabilities("a text")


def test_a_run_needs_nothing_but_its_folder(files: dict[str, Path], run: Path, tmp_path: Path) -> None:
    """Measured on another file while the training data are gone; labels mean what they meant."""
    train_file = own_texts.write(tmp_path / "train.tsv", 60, 3)
    train(own_texts.recipe(train_file, files["val"], epochs=4), tmp_path / "run")
    before = evaluate_run(tmp_path / "run", split="validation", device="cpu")
    train_file.unlink()
    after = evaluate_run(tmp_path / "run", data=files["val"], device="cpu")
    assert after.metrics == pytest.approx(before.metrics)
    assert after.samples == 30
    # A file without one of the classes.
    pairs = [(text, name) for text, name in own_texts.lines(40, 9) if name != "animal"]
    (tmp_path / "two.tsv").write_text("".join(f"{text}\t{name}\n" for text, name in pairs))
    part = evaluate_run(run, data=tmp_path / "two.tsv", device="cpu")
    assert part.samples == len(pairs)
    assert part.metrics["accuracy"] > 0.9
    (tmp_path / "other.tsv").write_text("a cat\tanimal\na ship\tvehicle\n")
    with pytest.raises(DataError, match="vehicle"):
        evaluate_run(run, data=tmp_path / "other.tsv", device="cpu")


def stop_after(patch: pytest.MonkeyPatch, count: int) -> None:
    calls = 0
    real = Trainer._train_batch

    def counted(self: Any, loaded: Any) -> None:
        nonlocal calls
        real(self, loaded)
        calls += 1
        if calls == count:
            self._signals.received = signal.SIGTERM

    patch.setattr(Trainer, "_train_batch", counted)


def test_stopped_and_resumed_is_as_never_stopped(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if training file and vectors have changed or are gone: the vocabulary is that of the run."""
    train_file = tmp_path / "train.tsv"
    train_file.write_bytes(files["train"].read_bytes())
    vectors = tmp_path / "vectors.txt"
    vectors.write_bytes(files["vectors"].read_bytes())
    recipe = options(own_texts.recipe(train_file, files["val"]), embedding=str(vectors))
    recipe = attrs.evolve(recipe, model=ModelSpec(name="textcnn", options={"num_filters": 4}))
    train(recipe, tmp_path / "straight")
    with monkeypatch.context() as patch:
        stop_after(patch, 5)
        with pytest.raises(SystemExit):
            train(recipe, tmp_path / "stopped")
    vectors.unlink()
    train(recipe, tmp_path / "stopped", resume=True)
    straight, stopped = weights(tmp_path / "straight"), weights(tmp_path / "stopped")
    assert list(straight) == list(stopped)
    for name, values in straight.items():
        np.testing.assert_array_equal(stopped[name], values, err_msg=name)
    one, other = (json.loads((tmp_path / name / "run.json").read_text()) for name in ("straight", "stopped"))
    assert one["text"] == other["text"]


def test_a_changed_run_json_is_refused(run: Path, tmp_path: Path) -> None:
    description = json.loads((run / "run.json").read_text())
    network = TextClassification.restore_network(description)
    assert (
        backend.current().get_arrays(network)["embedding.weight"].shape[0]
        == description["model"]["options"]["vocab_size"]
    )
    del description["text"]["vocabulary"]["tokens"][-1]
    with pytest.raises(WeightsError, match=r"The vocabulary of the run has .* tokens, and its network"):
        TextClassification.restore_network(description)
    damaged = tmp_path / "run"
    damaged.mkdir()
    (damaged / "weights").symlink_to(run / "weights")
    # A vocabulary, its hash and a model that agree with each other, and not with the weights.
    kept = description["text"]["vocabulary"]
    kept["sha256"] = hashlib.sha256(json.dumps(kept["tokens"]).encode()).hexdigest()
    description["model"]["options"]["vocab_size"] -= 1
    (damaged / "run.json").write_text(json.dumps(description))
    with pytest.raises(WeightsError, match=r"embedding\.weight"):
        glueball.load(damaged, device="cpu")


def test_folds_hold_every_text_out_once(files: dict[str, Path], tmp_path: Path) -> None:
    recipe = own_texts.recipe(files["train"], files["val"], epochs=1)
    texts: list[str] = []
    for index in range(3):
        made = TextClassification.fold(recipe, index, 3)
        assert made.data.test is None
        task = task_of(made)
        held_out, kept = task.source("validation").texts, task.source("train").texts
        assert len(held_out) + len(kept) == 90
        texts += held_out
    assert sorted(texts) == sorted(text for text, _ in own_texts.lines(90, 0))
    result = cross_validate(recipe, 2, tmp_path / "folds", device="cpu", quiet=True)
    assert result.n == 2
    assert set(result.mean) == {"accuracy", "f1_macro", "loss"}
    held = recipe.override({"data.train.options.holdout": "0.2"})
    assert "holdout" not in TextClassification.fold(held, 0, 3).data.train.options
    with pytest.raises(DataError, match="cannot be divided into 1000 parts"):
        TextClassification.fold(recipe, 0, 1000)
    undivided = attrs.evolve(recipe, data=DataSpec(train=Component(name="core/nothing")))
    with pytest.raises(LookupError):
        TextClassification.fold(undivided, 0, 3)


def test_predictions_are_a_page(run: Path) -> None:
    page = (run / "predictions.html").read_text()
    assert "of 30 held-out texts right" in page
    assert "What was taken for what" in page
    assert "animal" in page


def test_the_page_shows_mistakes_first_and_texts_as_they_are(tmp_path: Path) -> None:
    rows = [
        report.Row(text="<b>right</b>", label=0, logits=np.array([2.0, 0.0])),
        report.Row(text="a wrong one", label=0, logits=np.array([0.0, 1.0])),
        report.Row(text="a very wrong one", label=0, logits=np.array([0.0, 9.0])),
        report.Row(text="", label=1, logits=np.array([0.0, 9.0])),
        report.Row(text="x" * 5000, label=1, logits=np.array([0.0, 9.0])),
    ]
    report.write(rows, ["good", "<bad>"], tmp_path / "page.html", "a & b")
    page = (tmp_path / "page.html").read_text()
    assert "60.0% of 5 held-out texts right" in page
    places = [page.index(text) for text in ("a very wrong one", "a wrong one", "&lt;b&gt;right&lt;/b&gt;", "no text")]
    assert places[0] < places[1] < min(places[2:])
    assert "<b>right" not in page
    assert "&lt;bad&gt;" in page
    assert "a &amp; b" in page
    assert len(page) < 10_000


def test_fasttext_learns_what_only_the_order_of_words_tells(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = []
    for _ in range(120):
        words = ["not", "good"] if random.random() < 0.5 else ["good", "not"]
        fillers = random.choice(own_texts.FILLERS, 3).tolist()
        rows.append(f"{' '.join([*fillers[:1], *words, *fillers[1:]])}\t{'bad' if words[0] == 'not' else 'fine'}\n")
    (tmp_path / "order.tsv").write_text("".join(rows))
    accuracies = {}
    for ngrams in (1, 2):
        recipe = own_texts.recipe(
            tmp_path / "order.tsv",
            tmp_path / "order.tsv",
            model=ModelSpec(name="fasttext_classifier", options={"embed_size": 8}),
            options={"ngrams": ngrams, "buckets": 500},
            learning_rate=0.05,
            epochs=6,
        )
        accuracies[ngrams] = train(recipe, tmp_path / f"run{ngrams}").metrics["accuracy"]
    assert accuracies[2] > 0.95
    assert accuracies[1] < 0.8
    description = json.loads((tmp_path / "run2" / "run.json").read_text())
    assert description["model"]["options"]["buckets"] == 500
    answers = glueball.load(tmp_path / "run2", device="cpu")(["not good", "good not"], top=1)
    assert [answer[0].label for answer in answers] == ["bad", "fine"]

"""The recipes of text classification: what they name exists, and their options do what they say."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

import glueball
from glueball import catalog
from glueball.engine import Recipe, Trainer
from glueball.errors import OptionError
from glueball_nlp_embedding_lm.task import TextClassification, TextOptions

RECIPES = glueball.list_recipes(plugin="nlp_embedding_lm", task="text_classification")
SENTENCES = ["a good, moving film .", "dull and far too long", "i liked it", "it isn't worth your time !"] * 10


def build(name: str) -> Recipe:
    current = catalog.current()
    function = current.resolve(current.find("recipe", name))
    required = [item.name for item in inspect.signature(function).parameters.values() if item.default is item.empty]
    recipe: Recipe = glueball.get_recipe(name, **dict.fromkeys(required, "somewhere"))
    return recipe


def small(recipe: Recipe) -> Recipe:
    """The recipe with a network that a test has time for."""
    changes = {"epochs": "1", "batch_size": "8", "precision": "float32"}
    changes.update({"model.options.embed_size": "6"} if "embedding" not in recipe.options else {})
    if recipe.model.name == "textcnn":
        changes["model.options.num_filters"] = "3"
    return recipe.override(changes)


def train(recipe: Recipe, out: Path) -> Trainer:
    trainer = Trainer(recipe, out, device="cpu", quiet=True)
    trainer._draw_curves = lambda: None  # type: ignore[method-assign] # matplotlib takes longer than the training
    trainer.fit()
    return trainer


@pytest.fixture
def reviews(tmp_path: Path) -> Path:
    """MR's files, with 40 sentences of each class."""
    for suffix in ("neg", "pos"):
        (tmp_path / f"rt-polarity.{suffix}").write_text("\n".join(SENTENCES) + "\n")
    return tmp_path


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    """TREC's files, with 60 and 12 questions."""
    kinds = ("DESC:def", "ENTY:food", "ABBR:abb", "HUM:ind", "LOC:city", "NUM:date")
    for name, count in (("train_5500.label", 60), ("TREC_10.label", 12)):
        lines = (f"{kinds[index % 6]} What is the {'big ' * (index % 5)}gluon of {index} ?" for index in range(count))
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    return tmp_path


def test_there_are_recipes() -> None:
    assert {"textcnn-trec", "textcnn-mr", "textcnn-cr", "fasttext", "text-classification"} <= set(RECIPES)


@pytest.mark.parametrize("name", RECIPES)
def test_everything_that_a_recipe_names_is_registered(name: str) -> None:
    recipe, current = build(name), catalog.current()
    assert recipe.name == name
    model = current.find("model", recipe.model.name)
    assert current.resolve(current.find("task", recipe.task)) is TextClassification
    assert model.task == "text_classification"
    for component in (recipe.data.train, recipe.data.validation, recipe.data.test):
        if component is not None:
            target = current.resolve(current.find("dataset", component.name))
            inspect.signature(target).bind(**component.options)
    assert isinstance(TextClassification(recipe).options, TextOptions)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_data(name: str) -> None:
    recipe = build(name)
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_trec_holds_questions_out_of_the_training_part_only(questions: Path, tmp_path: Path) -> None:
    recipe = small(glueball.get_recipe("textcnn-trec", data=str(questions)))
    task = TextClassification(recipe)
    sizes = [len(task.source(split)) for split in ("train", "validation", "test")]
    assert sizes == [54, 6, 12]
    assert not set(task.source("train").texts) & set(task.source("validation").texts)
    trainer = train(recipe, tmp_path / "run")
    assert trainer.evaluate("test").keys() == {"accuracy", "f1_macro", "loss"}
    everything = TextClassification(glueball.get_recipe("textcnn-trec", data=str(questions), holdout=0))
    assert len(everything.source("train")) == 60
    assert everything.source("validation") is None
    assert len(everything.source("test")) == 12


def test_trec_in_folds_leaves_the_test_questions_alone(questions: Path) -> None:
    recipe = TextClassification.fold(glueball.get_recipe("textcnn-trec", data=str(questions)), 1, 5)
    task = TextClassification(recipe)
    assert [len(task.source(split)) for split in ("train", "validation")] == [48, 12]
    assert recipe.data.test is None


def test_reviews_train_with_both_models(reviews: Path, tmp_path: Path) -> None:
    for name, options in (("textcnn-mr", {}), ("fasttext", {"dataset": "mr"})):
        recipe = small(glueball.get_recipe(name, data=str(reviews), holdout=0.25, **options))
        trainer = train(recipe, tmp_path / name)
        assert len(trainer.task.source("train")) == 60
        assert len(trainer.task.source("validation")) == 20
        assert len(TextClassification(TextClassification.fold(recipe, 9, 10)).source("validation")) == 8
        assert [answer.label for answer in glueball.load(tmp_path / name, device="cpu")("dull")]


def test_modes_follow_the_embedding() -> None:
    modes = {
        options.get("embedding"): glueball.get_recipe("textcnn-mr", **options).model.options["mode"]
        for options in ({}, {"embedding": "vectors.txt"})
    }
    assert modes == {None: "rand", "vectors.txt": "non-static"}
    recipe = glueball.get_recipe("textcnn-trec", embedding="vectors.txt", mode="static")
    assert recipe.model.options["mode"] == "static"
    assert Path(recipe.options["embedding"]).is_absolute()


def test_own_texts_take_any_model_and_refuse_what_it_does_not_have() -> None:
    recipe = glueball.get_recipe("text-classification", data="a.tsv", model="fasttext_classifier")
    assert recipe.model.options == {}
    assert recipe.data.train.options["holdout"] == 0.1
    divided = glueball.get_recipe("text-classification", data="a.tsv", val="b.tsv", test="c.tsv", text_column="review")
    assert divided.data.validation is not None
    assert divided.data.test is not None
    assert [
        Path(part.options["path"]).name for part in (divided.data.train, divided.data.validation, divided.data.test)
    ] == ["a.tsv", "b.tsv", "c.tsv"]
    assert divided.data.test.options["text_column"] == "review"
    with pytest.raises(OptionError, match="--mode belongs to textcnn"):
        glueball.get_recipe("text-classification", data="a.tsv", model="fasttext_classifier", mode="static")
    with pytest.raises(OptionError, match="Nothing to measure on"):
        glueball.get_recipe("text-classification", data="a.tsv", holdout=0)


def test_fasttext_takes_the_parts_that_a_data_set_has() -> None:
    found = {}
    for name in ("trec", "mr", "sst2", "text_file"):
        data = glueball.get_recipe("fasttext", dataset=name, data="somewhere").data
        assert data.validation is not None
        found[name] = ("holdout" in data.train.options, data.test is not None)
    assert found == {"trec": (True, True), "mr": (True, False), "sst2": (False, True), "text_file": (True, False)}

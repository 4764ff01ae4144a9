"""Pictures in folds: held out once each, divided class by class, and trained and measured as any run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_cli_train import COLORS, SMALL, failing, paint

from glueball.cli import main
from glueball.engine import Component, DataSpec, ModelSpec, Recipe
from glueball.errors import DataError, OptionError
from glueball_cv_classification.datasets import ArrayImageDataset
from glueball_cv_classification.folds import FoldPart, fold_numbers
from glueball_cv_classification.task import ImageClassification


@given(labels=st.lists(st.integers(0, 4), min_size=10, max_size=200), folds=st.integers(2, 10))
def test_folds_and_classes_in_them_are_even(labels: list[int], folds: int) -> None:
    numbers = fold_numbers(np.array(labels), folds)
    for chosen in (np.ones(len(labels), bool), *(np.array(labels) == label for label in range(5))):
        sizes = np.bincount(numbers[chosen], minlength=folds)
        assert len(sizes) == folds
        assert sizes.max() - sizes.min() <= 1


def test_folds_are_the_same_on_every_machine() -> None:
    expected = [0, 1, 3, 2, 3, 1, 3, 0, 0, 1, 2, 2]
    labels = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2])
    assert fold_numbers(labels, 4).tolist() == expected
    assert fold_numbers(labels, 4, seed=1).tolist() != expected
    with pytest.raises(DataError, match=r"13 folds need at least as many pictures\. Received: 12"):
        fold_numbers(labels, 13)


def pictures_in_memory() -> ArrayImageDataset:
    labels = np.arange(23) % 3
    images = np.arange(23, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 3), np.uint8)
    return ArrayImageDataset(images, labels, ("a", "b", "c"), "painted")


def test_both_parts_are_views_of_one_data_set() -> None:
    data = pictures_in_memory()
    seen = []
    for index in range(4):
        train, held_out = (FoldPart(data, index, 4, held_out=part) for part in (False, True))
        assert len(train) + len(held_out) == len(data)
        names = [{int(image[0, 0, 0]) for image, _ in part} for part in (train, held_out)]
        assert not names[0] & names[1]
        seen += sorted(names[1])
        assert held_out.labels().tolist() == [label for _, label in held_out]
        assert train.classes == ("a", "b", "c")
        assert held_out.summary == f"fold {index + 1} of 4, held out, every class divided alike; painted"
    assert sorted(seen) == list(range(23))


def test_impossible_folds_are_refused() -> None:
    data = pictures_in_memory()
    for index, folds in ((4, 4), (-1, 4), (0, 1)):
        with pytest.raises(OptionError, match="Expected a fold from 0"):
            FoldPart(data, index, folds, held_out=True)

    class Unlabelled:
        def labels(self) -> None:
            return None

    with pytest.raises(OptionError, match="Unlabelled does not know its labels"):
        FoldPart(Unlabelled(), 0, 2, held_out=True)


def folder_recipe(root: Path, test: Component | None = None) -> Recipe:
    options = {"root": str(root), "val_fraction": 0.2}
    return Recipe(
        name="folds",
        task="image_classification",
        model=ModelSpec(name="cifar_resnet20_v1"),
        data=DataSpec(
            train=Component(name="image_folder", options={**options, "split": "train"}),
            validation=Component(name="image_folder", options={**options, "split": "val"}),
            test=test,
        ),
    )


def test_every_picture_of_a_folder_that_is_not_divided_is_held_out_once(tmp_path: Path) -> None:
    paint(tmp_path, count=5)
    recipe = folder_recipe(tmp_path)
    held_out: list[str] = []
    for index in range(3):
        task = ImageClassification(ImageClassification.fold(recipe, index, 3))
        parts = {split: task.source(split) for split in ("train", "validation", "test")}
        assert parts["test"] is parts["validation"]
        assert len(parts["train"]) + len(parts["validation"]) == 15
        held_out += [parts["validation"].describe(at) for at in range(len(parts["validation"]))]
        assert task.classes == ("brick", "grass", "sky")
        assert any(f"fold {index + 1} of 3, held out" in remark for remark in task.remarks())
    assert len(set(held_out)) == len(held_out) == 15


def test_test_data_stay_whole(tmp_path: Path) -> None:
    for part, count in (("train", 4), ("val", 3), ("test", 2)):
        paint(tmp_path / part, count)
    test = Component(name="image_folder", options={"root": str(tmp_path), "split": "test"})
    task = ImageClassification(ImageClassification.fold(folder_recipe(tmp_path, test), 1, 2))
    assert [len(task.source(split)) for split in ("train", "validation", "test")] == [6, 6, 6]
    assert not isinstance(task.source("test"), FoldPart)
    assert {task.source("validation").describe(at).split("/")[-3] for at in range(6)} == {"train"}


def test_a_fold_of_your_own_pictures_is_trained_and_measured(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = paint(tmp_path / "pictures", count=6), tmp_path / "run"
    words: list[Any] = ["train", "image-folder", "--data", data, "--out", out, "--folds", "2", "--epochs", "1", *SMALL]
    assert main([str(word) for word in [*words, "--no-compile", "--json"]]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["n"] == 2
    assert main(["evaluate", str(out / "fold-02"), "--weights", "last", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert (measured["samples"], measured["measured"]) == (9, "the validation data")
    assert measured["metrics"]["accuracy"] == pytest.approx(answer["folds"][1]["metrics"]["accuracy"])
    # Other data are measured whole, and not in folds.
    other = paint(tmp_path / "other", count=3, classes={"sky": COLORS["sky"]})
    assert main(["evaluate", str(out / "fold-02"), "--data", str(other), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["samples"] == 3
    assert "99 folds need at least as many pictures" in failing(
        capsys, "train", "image-folder", "--data", data, "--out", tmp_path / "many", "--folds", "99", *SMALL
    )
    assert not (tmp_path / "many").exists()

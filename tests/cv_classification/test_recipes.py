"""The recipes and the task behind them: what they name exists, and each of their options does what it says."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from PIL import Image

import glueball
from glueball import backend, catalog
from glueball.engine import Component, DataSpec, DistillationSpec, ModelSpec, Recipe, Trainer, TransformSpec
from glueball.engine.load import evaluate_run
from glueball.errors import DataError, OptionError
from glueball_cv_classification import graph, sheet
from glueball_cv_classification.predictor import ImageClassifier, read_picture, softmax
from glueball_cv_classification.task import ImageClassification
from glueball_cv_classification.transforms import CutMix, MixUp, MixUpOrCutMix, SoftLabels

PLUGIN = "cv_classification"
RECIPES = glueball.list_recipes(plugin=PLUGIN)


def build(name: str) -> Recipe:
    current = catalog.current()
    function = current.resolve(current.find("recipe", name))
    required = [item.name for item in inspect.signature(function).parameters.values() if item.default is item.empty]
    recipe: Recipe = glueball.get_recipe(name, **dict.fromkeys(required, "somewhere"))
    return recipe


def small_digits(**changes: Any) -> Recipe:
    """The recipe digits on a twentieth of its training data."""
    recipe = build("digits").override({"data.train.options.test_fraction": "0.95", "batch_size": "16", "epochs": "1"})
    return attrs.evolve(recipe, **changes)


@pytest.mark.parametrize("name", RECIPES)
def test_everything_that_a_recipe_names_is_registered(name: str) -> None:
    recipe, current = build(name), catalog.current()
    current.find("model", recipe.model.name)
    current.find("task", recipe.task)
    for component in (recipe.data.train, recipe.data.validation, recipe.data.test):
        if component is not None:
            target = current.resolve(current.find("dataset", component.name))
            inspect.signature(target).bind(**component.options)
    for step in (*recipe.transforms.train, *recipe.transforms.evaluation):
        glueball.get_transform(step.name, **step.options)
    for metric in recipe.metrics:
        current.find("metric", metric.name)


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_survive_json_and_are_named_as_registered(name: str) -> None:
    recipe = build(name)
    assert recipe.name == name
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def test_digits_learns_from_a_few_pictures(tmp_path: Path) -> None:
    recipe = small_digits(epochs=8, validate_every=8)
    result = Trainer(recipe, tmp_path / "run", quiet=True).fit()
    # Ninety pictures in eight epochs: chance is 10 %, this reaches about 80 %.
    assert result.metrics["accuracy"] > 0.4
    with Image.open(tmp_path / "run" / "predictions.png") as picture:
        assert picture.size[0] > 1000
    description = json.loads((tmp_path / "run" / "run.json").read_text())
    assert description["classes"] == [str(digit) for digit in range(10)]
    assert description["model"] == {"name": "cifar_resnet20_v1", "options": {}, "classes": 10}


@pytest.mark.parametrize(
    "options", [{"crop": "ten", "crop_ratio": 0.8}, {"mirror": True, "shift": 1}], ids=["ten crops", "small views"]
)
def test_views_are_opinions_on_one_picture(tmp_path: Path, options: dict[str, Any]) -> None:
    """Validation, evaluation and prediction average the same views."""
    views = TransformSpec(
        train=small_digits().transforms.train,
        evaluation=(Component(name="digits_eval", options={"size": 16, **options}),),
    )
    recipe = small_digits(epochs=2, transforms=views, batch_size=32)
    result = Trainer(recipe, tmp_path / "run", quiet=True).fit()
    measured = evaluate_run(tmp_path / "run", batch_size=7)
    assert measured.metrics == pytest.approx(dict(result.metrics), abs=1e-2)

    source = ImageClassification(recipe).source("validation")
    pictures, labels = zip(*(source[index] for index in range(len(source))), strict=True)
    probabilities = glueball.load(tmp_path / "run").probabilities(pictures)
    assert probabilities.shape == (measured.samples, 10)
    assert measured.metrics["accuracy"] == pytest.approx(np.mean(probabilities.argmax(axis=1) == labels), abs=1e-2)


# ----------------------------------------------------------------------------------------------------------------------
# Options of the task
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"label_smoothing": 0.1}, SoftLabels(10, 0.1)),
        ({"mixup": 0.2}, MixUp(10, 0.2)),
        ({"cutmix": 1.0, "label_smoothing": 0.1}, CutMix(10, 1.0, 0.1)),
        ({"mixup": 0.8, "cutmix": 1.0}, MixUpOrCutMix(10, 0.8, 1.0)),
    ],
)
def test_batch_transforms(changes: dict[str, float], expected: Any) -> None:
    assert ImageClassification(small_digits(**changes)).batch_transform() == expected


def test_mixing_stops_before_the_end_and_labels_stay_soft() -> None:
    task = ImageClassification(small_digits(mixup=0.2, epochs=10, mixing_stops_before=3))
    task.set_epoch(6)
    assert isinstance(task.batch_transform(), MixUp)
    task.set_epoch(7)
    assert task.batch_transform() == SoftLabels(10, 0.0)


@pytest.mark.parametrize(
    "changes",
    [
        {"mixup": 0.5, "epochs": 2, "mixing_stops_before": 1},
        {"label_smoothing": 0.1},
        {"loss": Component(name="softmax_cross_entropy")},
        {"loss": Component(name="softmax_cross_entropy"), "label_smoothing": 0.1},
        {"loss": Component(name="softmax_cross_entropy"), "mixup": 0.5},
        {"distillation": DistillationSpec(teacher="cifar_resnet20_v2", pretrained=False)},
        {"ema_decay": 0.99, "accumulate": 2, "clip_norm": 1.0},
        {
            "transforms": TransformSpec(
                train=(
                    Component(name="resize", options={"size": [16, 16]}),
                    Component(name="to_tensor"),
                    Component(name="normalize", options={"mean": [0.5], "std": [0.5]}),
                ),
                evaluation=(Component(name="digits_eval", options={"size": 16}),),
            )
        },
    ],
    ids=[
        "mixup",
        "smoothing",
        "named loss",
        "smoothed named loss",
        "mixed named loss",
        "distillation",
        "average",
        "steps",
    ],
)
def test_each_option_trains(tmp_path: Path, changes: dict[str, Any]) -> None:
    recipe = small_digits(**changes)
    recipe = recipe.override({"data.validation.options.test_fraction": "0.05"})
    result = Trainer(recipe, tmp_path / "run", quiet=True).fit()
    assert 0 <= result.metrics["accuracy"] <= 1
    assert np.isfinite(result.metrics["loss"])
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    epochs = [row for row in rows if row["event"] == "epoch"]
    # Accuracy on mixed pictures would mean nothing.
    assert all(("train_accuracy" in row) == ("mixup" not in changes) for row in epochs)


def test_the_loss_of_the_graph_is_cross_entropy() -> None:
    from glueball import nn

    glueball.seed(3)
    network = nn.Dense(4, in_units=6)
    network.initialize()
    random = np.random.default_rng(0)
    images = random.standard_normal((5, 6)).astype(np.float32)
    labels = np.array([0, 3, 1, 2, 2])
    logits = backend.current().numpy(network(images)).astype(np.float64)
    expected = -np.log(softmax(logits)[np.arange(5), labels])
    soft = np.eye(4, dtype=np.float32)[labels] * 0.8 + 0.05
    expected_soft = -(soft * np.log(softmax(logits))).sum(axis=1)
    for soft_labels, target, values in ((False, labels, expected), (True, soft, expected_soft)):
        loss, outputs = graph.build(network, build("digits"), soft_labels=soft_labels)(images, target)
        np.testing.assert_allclose(backend.current().numpy(loss), values, rtol=1e-5)
        np.testing.assert_allclose(backend.current().numpy(outputs), logits, rtol=1e-5)


def test_the_loss_of_distillation_is_its_formula() -> None:
    from glueball import nn

    glueball.seed(3)
    network = nn.Dense(4, in_units=6)
    network.initialize()
    random = np.random.default_rng(0)
    images = random.standard_normal((5, 6)).astype(np.float32)
    teacher = random.standard_normal((5, 4)).astype(np.float32)
    labels = np.array([0, 3, 1, 2, 2])
    spec = DistillationSpec(teacher="any", temperature=4.0, hard_weight=0.3)
    recipe = attrs.evolve(build("digits"), distillation=spec)
    loss, _ = graph.build(network, recipe, soft_labels=False)(images, labels, teacher)
    logits = backend.current().numpy(network(images)).astype(np.float64)
    hard = -np.log(softmax(logits)[np.arange(5), labels])
    soft = -(softmax(teacher / 4.0) * np.log(softmax(logits / 4.0))).sum(axis=1)
    np.testing.assert_allclose(backend.current().numpy(loss), 0.3 * hard + 0.7 * 16.0 * soft, rtol=1e-5)


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (["loss=distillation"], r"takes scores, labels, teacher_probabilities.*set distillation\.teacher=NAME"),
        (
            ["loss=garden", "label_smoothing=.1"],
            r"label_smoothing=0\.1 turn.*'garden'.*Set label_smoothing=0, or choose",
        ),
        (["loss=garden", "mixup=.1", "cutmix=1"], r"mixup=0\.1 and cutmix=1 turn.*Set mixup=0, cutmix=0"),
        (
            ["loss=softmax_cross_entropy", "loss.options.sparse_label=true", "mixup=.1"],
            r"leave loss\.options\.sparse_label out",
        ),
        (["loss=softmax_cross_entropy", "loss.options.sparse_label=false"], r"Leave that option out"),
    ],
)
def test_losses_that_do_not_fit_the_labels_are_refused(
    monkeypatch: pytest.MonkeyPatch, assignments: list[str], message: str
) -> None:
    from glueball import nn

    class HardLabelsOnly(nn.HybridBlock):
        def hybrid_forward(self, F: Any, scores: Any, labels: Any) -> Any:
            return F.pick(scores, labels)

    recipe = build("digits").override(dict(text.split("=") for text in assignments))
    current = catalog.current()
    if recipe.loss is not None and recipe.loss.name == "garden":
        entry = current.find("loss", "softmax_cross_entropy")
        monkeypatch.setattr(current, "find", lambda kind, name: entry)
        monkeypatch.setattr(current, "resolve", lambda entry: HardLabelsOnly)
    task = ImageClassification(recipe)
    with pytest.raises(OptionError, match=message):
        task.training_graph(nn.Dense(10))


def test_outputs_without_a_class_have_numbers(tmp_path: Path) -> None:
    recipe = small_digits(model=ModelSpec(name="cifar_resnet20_v1", classes=12))
    out = tmp_path / "run"
    Trainer(recipe, out, quiet=True).fit()
    description = json.loads((out / "run.json").read_text())
    assert description["classes"][9:] == ["9", "class 10", "class 11"]
    assert "2 more outputs" in (out / "log.jsonl").read_text()
    assert len(glueball.load(out)(np.zeros((8, 8, 3), np.uint8), top=12)) == 12
    # Runs of earlier versions name the classes of the data only.
    (out / "run.json").write_text(json.dumps({**description, "classes": description["classes"][:10]}))
    answers = glueball.load(out)(np.zeros((8, 8, 3), np.uint8), top=12)
    assert {answer.label for answer in answers} == set(description["classes"])


def test_remarks_name_the_classes_and_every_split(tmp_path: Path) -> None:
    names = [f"kind{number:02d}" for number in range(12)]
    for part, count in (("train", 2), ("val", 1), ("test", 1)):
        for name in names:
            (tmp_path / part / name).mkdir(parents=True)
            for number in range(count):
                Image.new("RGB", (8, 8)).save(tmp_path / part / name / f"{number}.png")
    task = ImageClassification(glueball.get_recipe("image-folder", data=str(tmp_path)))
    train, validation, test = task.remarks()
    assert train.startswith("train data: 24 pictures of 12 classes (kind00, kind01, ")
    assert "kind07, ... (12)), the folder train of" in train
    assert validation.startswith("validation data: 12 pictures, the folder val of")
    assert test.startswith("test data: 12 pictures, the folder test of")


def test_data_are_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in glueball.list_recipes(plugin=PLUGIN):
        function = catalog.current().resolve(catalog.current().find("recipe", name))
        options = inspect.signature(function).parameters
        if "data" not in options:
            continue
        for records in (False, True) if "records" in options else (False,):
            recipe = glueball.get_recipe(name, data="pictures", **({"records": True} if records else {}))
            for component in (recipe.data.train, recipe.data.validation):
                root = component.options.get("root") or component.options["path"]
                assert root.startswith(str(tmp_path / "pictures"))


def test_a_model_with_too_few_classes_is_refused(tmp_path: Path) -> None:
    recipe = small_digits(model=ModelSpec(name="cifar_resnet20_v1", classes=7))
    with pytest.raises(OptionError, match="The model has 7 classes, the training data have 10"):
        Trainer(recipe, tmp_path / "run", quiet=True).fit()


def test_validation_data_with_other_classes_are_refused(tmp_path: Path) -> None:
    for split, classes in (("train", "ab"), ("val", "ac")):
        for name in classes:
            folder = tmp_path / split / name
            folder.mkdir(parents=True)
            Image.new("RGB", (8, 8)).save(folder / "1.png")
    data = DataSpec(
        train=Component(name="image_folder", options={"root": str(tmp_path / "train"), "split": "all"}),
        validation=Component(name="image_folder", options={"root": str(tmp_path / "val"), "split": "all"}),
    )
    with pytest.raises(DataError, match=r"other classes than the training data\. Expected: a, b\. Received: a, c"):
        Trainer(small_digits(data=data), tmp_path / "run", quiet=True).fit()


# ----------------------------------------------------------------------------------------------------------------------
# Predictions
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def classifier() -> ImageClassifier:
    """Says which of red, green and blue a picture has most of."""
    return ImageClassifier(
        lambda batch: batch.mean(axis=(2, 3)) * 10,
        np.asarray,
        np.asarray,
        lambda image: np.moveaxis(image[:4, :4], 2, 0).astype(np.float32) / 255,
        ["red", "green", "blue"],
    )


def test_pictures_come_in_many_forms(tmp_path: Path, classifier: ImageClassifier) -> None:
    picture = Image.new("RGBA", (6, 5), (0, 0, 255, 255))
    picture.save(tmp_path / "blue.png")
    array = read_picture(picture)
    for form in (tmp_path / "blue.png", str(tmp_path / "blue.png"), array, picture):
        (best, second) = classifier(form, top=2)
        assert best.label == "blue"
        assert best.index == 2
        assert best.probability > second.probability
    several = classifier([array, str(tmp_path / "blue.png"), np.full((5, 5), 9, np.uint8)])
    assert [len(answers) for answers in several] == [3, 3, 3]
    assert sum(answer.probability for answer in several[0]) == pytest.approx(1.0)
    assert len(classifier(np.stack([array] * 40), top=1)) == 40
    assert classifier([]) == []


def test_pictures_that_cannot_be_read_are_named(tmp_path: Path, classifier: ImageClassifier) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"not a picture")
    for path in (tmp_path / "broken.jpg", tmp_path / "missing.jpg", tmp_path):
        with pytest.raises(DataError, match=path.name):
            classifier(path)
    with pytest.raises(DataError, match="uint8 array"):
        classifier(np.zeros((4, 4, 3), np.float32))
    with pytest.raises(OptionError, match="top"):
        classifier(np.zeros((4, 4, 3), np.uint8), top=0)


def test_the_sheet_marks_what_is_wrong(tmp_path: Path) -> None:
    white = np.full((8, 8, 3), 255, np.uint8)

    def colors(expected: str | None) -> set[tuple[int, int, int]]:
        tile = sheet.Tile(image=white, predicted="cat", probability=0.9, expected=expected)
        sheet.draw([tile], tmp_path / "sheet.png", "a title" * 40)
        with Image.open(tmp_path / "sheet.png") as picture:
            return {color for _, color in picture.convert("RGB").getcolors(1 << 20)}

    red = (0xC5, 0x30, 0x30)
    assert red in colors("dog")
    assert red not in colors("cat")
    assert red not in colors(None)


@pytest.mark.parametrize(("name", "format"), [("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.jpeg", "JPEG"), ("a.gif", None)])
def test_the_suffix_of_the_sheet_decides_its_format(tmp_path: Path, name: str, format: str | None) -> None:
    tile = sheet.Tile(image=np.zeros((8, 8, 3), np.uint8), predicted="cat", probability=0.9)
    if format is None:
        with pytest.raises(OptionError, match=r"\.png, \.jpg"):
            sheet.draw([tile], tmp_path / name, "a title")
        return
    sheet.draw([tile], tmp_path / name, "a title")
    with Image.open(tmp_path / name) as picture:
        assert picture.format == format

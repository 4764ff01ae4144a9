from __future__ import annotations

import json
import shlex
from pathlib import Path

import engine_toy
import pytest

from glueball.backend.base import ParameterRule
from glueball.engine import DistillationSpec, Recipe
from glueball.engine.recipe import parse_assignment
from glueball.engine.specification import differences
from glueball.errors import OptionError


def test_a_recipe_survives_json() -> None:
    recipe = engine_toy.recipe(
        rules=(ParameterRule(pattern="0.weight", lr_mult=0.1),), distillation=DistillationSpec(teacher="tiny")
    )
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("learning_rate", "0.2", 0.2),
        ("optimizer.lr", "0.3", 0.3),
        ("epochs", "7", 7),
        ("no_decay", "false", False),
        ("clip_norm", "none", None),
        ("clip_norm", "2", 2.0),
        ("model.pretrained", "true", True),
        ("model.pretrained", "weights.params", "weights.params"),
        ("model.classes", "12", 12),
        ("schedule.milestones", "30,60.5", (30.0, 60.5)),
        ("schedule.milestones", "[1, 2]", (1.0, 2.0)),
        ("optimizer.name", "adamw", "adamw"),
        ("data.train.options.count", "48", 48),
        ("data.train.options.note", "text", "text"),
        ("data.train", "points", engine_toy.Component(name="points")),
        ("distillation.teacher", "tiny", "tiny"),
    ],
)
def test_overrides_convert_to_the_type_of_the_field(path: str, text: str, expected: object) -> None:
    changed = engine_toy.recipe().override({path: text})
    value: object = changed
    for name in {"optimizer.lr": "learning_rate"}.get(path, path).split("."):
        value = value[name] if isinstance(value, dict) else getattr(value, name)
    assert value == expected
    assert type(value) is type(expected)


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("learning_rte", "1", "Did you mean learning_rate"),
        ("optimizer.momentun", "1", "Did you mean momentum"),
        ("epochs", "many", "epochs must be a whole number. Received: 'many'"),
        ("epochs", "0", "epochs cannot be 0"),
        ("no_decay", "perhaps", "must be true or false"),
        ("optimizer.name", "sdg", "sgd"),
        ("epochs.more", "1", "epochs holds a single value"),
        ("optimizer", "5", "optimizer"),
        ("precision", "float8", "float8"),
        ("distillation.temperature", "3", "set distillation.teacher first"),
    ],
)
def test_overrides_that_do_not_fit_are_explained(path: str, text: str, message: str) -> None:
    with pytest.raises(OptionError) as error:
        engine_toy.recipe().override({path: text})
    assert message in str(error.value)


def test_the_original_recipe_does_not_change() -> None:
    recipe = engine_toy.recipe()
    recipe.override({"data.train.options.count": "48"})
    assert recipe == engine_toy.recipe()


def test_a_recipe_file_with_an_unknown_field_is_refused() -> None:
    data = engine_toy.recipe().to_dict()
    data["optimizer"]["momentom"] = 0.9
    with pytest.raises(OptionError, match=r"No option 'optimizer\.momentom'\. Did you mean momentum"):
        Recipe.from_dict(data)


def test_assignments_need_an_equals_sign() -> None:
    assert parse_assignment("a.b=c=d") == ("a.b", "c=d")
    with pytest.raises(OptionError, match="key=value"):
        parse_assignment("epochs 3")


def test_objects_without_a_json_form_are_refused() -> None:
    with pytest.raises(OptionError, match="numbers, texts, lists"):
        engine_toy.recipe(options={"transform": object()}).to_dict()


def test_differences_name_the_path() -> None:
    old, new = engine_toy.recipe().to_dict(), engine_toy.recipe(epochs=9).to_dict()
    assert differences(old, new) == ["epochs: 3 -> 9"]


def test_no_decay_is_a_rule_on_names() -> None:
    import re

    (rule,) = engine_toy.recipe(no_decay=True).parameter_rules()
    assert rule.wd_mult == 0
    for name, hit in {
        "0.bias": True,
        "1.gamma": True,
        "1.beta": True,
        "0.weight": False,
        "1.running_mean": False,
    }.items():
        assert bool(re.search(rule.pattern, name)) is hit


def test_every_setting_in_the_guide_is_one_that_recipes_take() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
    # Between fences every second part is code; that without a language is for the shell.
    code = "".join(part for part in guide.split("```")[1::2] if part.startswith("\n"))
    words = shlex.split(code.replace("\\\n", " "))
    settings = [words[index + 1] for index, word in enumerate(words) if word == "--set"]
    assert len(settings) > 12
    # All on one recipe: the teacher's name must come before what else is said about the teacher.
    engine_toy.recipe().override(dict(parse_assignment(text) for text in settings))

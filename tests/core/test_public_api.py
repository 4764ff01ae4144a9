"""Every public name exists, is documented, and every hook shows how it is used."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import types
from pathlib import Path

import pytest

import glueball
from glueball import hookspecs
from glueball.catalog import HOOKS
from glueball.catalog.discovery import Source
from glueball.catalog.loading import load, new_manager

HOOK_FUNCTIONS = {name: function for name, function in vars(hookspecs).items() if inspect.isfunction(function)}


@pytest.mark.parametrize("name", glueball.__all__)
def test_public_name_is_there_and_documented(name: str) -> None:
    value = getattr(glueball, name)
    assert name in dir(glueball)
    if name == "__version__":
        return
    assert inspect.getdoc(value), f"glueball.{name} has no docstring"
    if inspect.isfunction(value):
        missing = [
            parameter.name
            for parameter in inspect.signature(value).parameters.values()
            if parameter.annotation is parameter.empty
        ]
        assert not missing, f"glueball.{name} does not annotate {missing}"
        assert inspect.signature(value).return_annotation is not inspect.Signature.empty


def test_names_that_are_handed_on_are_all_announced() -> None:
    assert set(glueball._PUBLIC) | {"__version__"} == set(glueball.__all__)
    assert len(glueball.__all__) == len(set(glueball.__all__))


def test_type_checkers_see_the_same_names_as_programs() -> None:
    tree = ast.parse(Path(glueball.__file__).read_text(encoding="utf-8"))
    guarded = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.asname or alias.name for node in guarded.body for alias in getattr(node, "names", [])}
    assert seen - {"Any"} == set(glueball._PUBLIC)


def test_unknown_attribute_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'glueball' has no attribute 'get_modle'"):
        glueball.get_modle  # noqa: B018


def test_version_is_that_of_the_distribution() -> None:
    project = Path(__file__).resolve().parents[2] / "core" / "pyproject.toml"
    text = project.read_text(encoding="utf-8")
    stated = re.search(r'^version = "(.+)"$', text, re.MULTILINE)
    if stated is None:
        assert re.search(r'^dynamic = .*"version"', text, re.MULTILINE)
    else:
        assert stated.group(1) == glueball.__version__


def test_hooks_and_kinds_agree() -> None:
    assert list(HOOK_FUNCTIONS) == list(HOOKS.values())


@pytest.mark.parametrize("hook", HOOK_FUNCTIONS)
def test_hook_shows_a_complete_plugin_that_works(hook: str) -> None:
    documentation = inspect.getdoc(HOOK_FUNCTIONS[hook]) or ""
    assert "A complete plugin::" in documentation
    example = textwrap.dedent(documentation.partition("A complete plugin::")[2])
    module = types.ModuleType("documented_plugin")
    exec(compile(example, f"<example of {hook}>", "exec"), vars(module))
    registered = load(Source("documented", "documented_plugin", "documentation", loaded=module), new_manager())
    assert [HOOKS[entry.kind] for entry in registered] == [hook]


def test_hookspecs_hold_signatures_and_prose_only() -> None:
    tree = ast.parse(Path(hookspecs.__file__).read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            assert len(node.body) == 1, f"{node.name} has code"
            assert isinstance(node.body[0], ast.Expr)
            assert ast.unparse(node.args) == "register: Register"


MODULES = sorted(
    path for part in ("catalog", "testing", "cli") for path in (Path(glueball.__file__).parent / part).glob("*.py")
) + [
    Path(glueball.__file__).parent / name
    for name in ("plugin.py", "hookspecs.py", "models.py", "named.py", "seeding.py")
]


@pytest.mark.parametrize("path", MODULES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_every_public_definition_has_a_docstring(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), f"{path} has no docstring"
    definitions = [
        node
        for parent in [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
        for node in parent.body
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_")
    ]
    private_classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.startswith("_")]
    private = {node for owner in private_classes for node in owner.body}
    missing = [node.name for node in definitions if node not in private and not ast.get_docstring(node)]
    assert not missing

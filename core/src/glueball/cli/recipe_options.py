"""The options of a recipe on the command line: the keyword arguments of its function, by name and annotation.

``def image_folder(data: str, validation_fraction: float = 0.2)`` gives ``--data`` and ``--validation-fraction``. The
core knows no recipe's options; it reads them off the function.
"""

from __future__ import annotations

import argparse
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Union

PREFIX = "recipe_option_"
"""Where the values are kept in the parsed arguments, apart from the command's own."""


def find_recipe(words: Sequence[str]) -> tuple[str, Callable[..., Any]] | None:
    """The first word that names a recipe, and the function behind it; None where there is none.

    Names that no plugin offers are no error here: the command says so when it looks the recipe up.
    """
    from glueball import catalog
    from glueball.errors import GlueballError

    current = catalog.current()
    for word in words:
        if word.startswith("-"):
            continue
        try:
            return word, current.resolve(current.find("recipe", word))
        except GlueballError:
            continue
    return None


def parameters(recipe: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The named parameters of a recipe's function."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {item.name: item for item in inspect.signature(recipe).parameters.values() if item.kind in kinds}


def add_options(parser: argparse.ArgumentParser, name: str, recipe: Callable[..., Any], taken: set[str]) -> None:
    """Adds an option for each parameter of ``recipe``, except those in ``taken`` that the command has anyway."""
    hints = typing.get_type_hints(recipe)
    group = parser.add_argument_group(f"options of the recipe {name}")
    for parameter in parameters(recipe).values():
        flag = f"--{parameter.name.replace('_', '-')}"
        if flag in taken:
            continue
        kind = _single_type(hints.get(parameter.name, str))
        required = parameter.default is inspect.Parameter.empty
        shown = "required" if required else f"default: {parameter.default}"
        options: dict[str, Any] = {"dest": PREFIX + parameter.name, "default": argparse.SUPPRESS, "help": shown}
        if kind is bool:
            group.add_argument(flag, action=argparse.BooleanOptionalAction, **options)
        else:
            metavar = parameter.name.upper()
            group.add_argument(flag, type=kind, metavar=metavar, **options)


def given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The recipe's options that were on the command line."""
    return {name[len(PREFIX) :]: value for name, value in vars(arguments).items() if name.startswith(PREFIX)}


def _single_type(annotation: Any) -> Callable[[str], Any]:
    if typing.get_origin(annotation) in (Union, types.UnionType):
        choices = [item for item in typing.get_args(annotation) if item is not type(None)]
        # "bool | str" takes any text: a file name, a tag.
        annotation = choices[0] if len(choices) == 1 else str
    return annotation if annotation in (int, float, bool, str) else str


def missing(recipe: Callable[..., Any], options: Mapping[str, Any]) -> list[str]:
    """Flags of required parameters that were not given."""
    return [
        f"--{name.replace('_', '-')}"
        for name, parameter in parameters(recipe).items()
        if parameter.default is inspect.Parameter.empty and name not in options
    ]

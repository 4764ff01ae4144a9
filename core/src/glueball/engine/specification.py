"""Recipes as data: to JSON and back, and changed by ``--set path=value``, with every value checked against its type.

The annotations of the attrs classes are the only description; there is no second schema that could drift from them.
"""

from __future__ import annotations

import difflib
import functools
import json
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar, Union

import attrs

from glueball.errors import OptionError

Specification = TypeVar("Specification")

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_NONE = frozenset({"none", "null", ""})


@functools.cache
def _annotations(cls: type) -> Mapping[str, Any]:
    return typing.get_type_hints(cls)


def to_plain(value: Any) -> Any:
    """The value in terms that JSON knows: attrs objects become objects, tuples become lists.

    Raises:
        OptionError: something in it has no JSON form, so a run could not be repeated from its ``recipe.json``.
    """
    if attrs.has(type(value)):
        return {field.name: to_plain(getattr(value, field.name)) for field in attrs.fields(type(value))}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if hasattr(value, "__fspath__"):
        return str(value)
    raise OptionError(
        f"A recipe can hold numbers, texts, lists and mappings of them. Received: {value!r} of type "
        f"{type(value).__name__}. Name the object by its catalogue name and give its options instead."
    )


def from_plain(cls: type[Specification], data: Any, path: str = "") -> Specification:
    """The inverse of ``to_plain``: an object of ``cls``, every field checked.

    Raises:
        OptionError: a field is unknown or its value does not fit its type; the message names the path to it.
    """
    return typing.cast(Specification, _convert(data, cls, path, from_text=False))


def override(specification: Specification, path: str, text: str) -> Specification:
    """A copy of ``specification`` in which the field at the dotted ``path`` has the value that ``text`` spells.

    ``override(recipe, "optimizer.momentum", "0.8")``; a mapping takes new keys (``model.options.thumbnail=true``), a
    tuple is written as JSON or with commas (``schedule.milestones=30,60``), ``none`` clears an optional field.

    Raises:
        OptionError: there is no such field, or the text cannot be read as its type.
    """
    return typing.cast(Specification, _override(specification, path.split("."), text, done=()))


def _override(value: Any, remaining: Sequence[str], text: str, done: tuple[str, ...]) -> Any:
    name, rest = remaining[0], remaining[1:]
    here = ".".join((*done, name))
    if isinstance(value, Mapping):
        if rest:
            current = value.get(name, {})
            if not isinstance(current, Mapping) and not attrs.has(type(current)):
                raise OptionError(f"{here} holds a single value; {'.'.join((here, *rest))} does not exist.")
            return {**value, name: _override(current, rest, text, (*done, name))}
        return {**value, name: _free_value(text)}
    names = [field.name for field in attrs.fields(type(value))]
    if name not in names:
        raise OptionError(_unknown_field(here, name, names, ".".join(done)))
    annotation = _annotations(type(value))[name]  # type: ignore[arg-type] # classes are hashable
    if rest:
        current = getattr(value, name)
        if current is None:
            options = [item for item in typing.get_args(annotation) if isinstance(item, type) and attrs.has(item)]
            if not options:
                raise OptionError(f"{here} holds a single value; {'.'.join((here, *rest))} does not exist.")
            current = _build_partial(options[0], rest, text, here)
            return attrs.evolve(value, **{name: current})
        if not isinstance(current, Mapping) and not attrs.has(type(current)):
            raise OptionError(f"{here} holds a single value; {'.'.join((here, *rest))} does not exist.")
        return attrs.evolve(value, **{name: _override(current, rest, text, (*done, name))})
    return _evolve(value, name, _convert(text, annotation, here, from_text=True), here)


def _build_partial(cls: type, rest: Sequence[str], text: str, here: str) -> Any:
    """An optional part that a recipe left out springs into being when its first field is set."""
    try:
        empty = cls()
    except TypeError:
        required = [field.name for field in attrs.fields(cls) if field.default is attrs.NOTHING]
        if list(rest) == required:
            annotation = _annotations(cls)[rest[0]]
            return cls(**{rest[0]: _convert(text, annotation, f"{here}.{rest[0]}", from_text=True)})
        raise OptionError(f"{here} is not set in this recipe; set {here}.{required[0]} first.") from None
    return _override(empty, rest, text, (here,))


def _evolve(value: Any, name: str, item: Any, here: str) -> Any:
    try:
        return attrs.evolve(value, **{name: item})
    except OptionError:
        raise
    except (TypeError, ValueError) as error:
        raise OptionError(f"{here} cannot be {item!r}: {_first_argument(error)}") from error


def _first_argument(error: Exception) -> str:
    # attrs validators raise with (message, attribute, ...); only the sentence is meant for people.
    return str(error.args[0]) if error.args else str(error)


def _unknown_field(here: str, name: str, names: Sequence[str], owner: str) -> str:
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    place = f"{owner} has" if owner else "A recipe has"
    return f"No option {here!r}.{hint} {place}: {', '.join(names)}."


def _free_value(text: str) -> Any:
    """Values without a declared type: JSON where it parses, text otherwise."""
    try:
        return json.loads(text)
    except ValueError:
        lowered = text.strip().lower()
        return True if lowered == "true" else False if lowered == "false" else None if lowered == "none" else text


def _convert(data: Any, annotation: Any, path: str, *, from_text: bool) -> Any:
    origin = typing.get_origin(annotation)
    if annotation is Any:
        return _free_value(data) if from_text else data
    if origin in (Union, types.UnionType):
        return _convert_union(data, typing.get_args(annotation), path, from_text=from_text)
    if origin in (Mapping, dict) or (isinstance(origin, type) and issubclass(origin, Mapping)):
        value = _free_value(data) if from_text else data
        if not isinstance(value, Mapping):
            raise _mismatch(path, 'a mapping such as {"key": 1}', data)
        return dict(value)
    if origin is tuple:
        return _convert_tuple(data, typing.get_args(annotation), path, from_text=from_text)
    if isinstance(annotation, type) and attrs.has(annotation):
        return _convert_object(data, annotation, path, from_text=from_text)
    return _convert_scalar(data, annotation, path, from_text=from_text)


def _convert_union(data: Any, options: tuple[Any, ...], path: str, *, from_text: bool) -> Any:
    if type(None) in options and (data is None or (from_text and data.strip().lower() in _NONE)):
        return None
    # Text last: every text would fit it, and ``--set model.pretrained=true`` means the truth value.
    candidates = sorted((item for item in options if item is not type(None)), key=lambda item: item is str)
    problems = []
    for option in candidates:
        if option is bool and from_text and data.strip() in ("0", "1") and len(candidates) > 1:
            continue
        try:
            return _convert(data, option, path, from_text=from_text)
        except OptionError as error:
            problems.append(error)
    raise problems[0]


def _convert_tuple(data: Any, arguments: tuple[Any, ...], path: str, *, from_text: bool) -> tuple[Any, ...]:
    if from_text:
        stripped = data.strip()
        if stripped.startswith("["):
            try:
                data = json.loads(stripped)
            except ValueError as error:
                raise _mismatch(path, "a list such as [1, 2]", data) from error
            from_text = False
        else:
            data = [item for item in stripped.split(",") if item.strip()]
    if isinstance(data, (str, bytes)) or not isinstance(data, Sequence):
        raise _mismatch(path, "a list such as [1, 2]", data)
    kinds = [arguments[0]] * len(data) if len(arguments) == 2 and arguments[1] is Ellipsis else list(arguments)
    if len(kinds) != len(data):
        raise _mismatch(path, f"{len(kinds)} values", data)
    return tuple(
        _convert(item, kind, f"{path}[{index}]", from_text=from_text)
        for index, (item, kind) in enumerate(zip(data, kinds, strict=True))
    )


def _convert_object(data: Any, cls: type, path: str, *, from_text: bool) -> Any:
    if isinstance(data, cls):
        return data
    if from_text:
        # A part that is mainly a name is written by it: --set data.train=digits.
        required = [field.name for field in attrs.fields(cls) if field.default is attrs.NOTHING]
        text = data.strip()
        if not text.startswith("{"):
            if required not in ([], ["name"]) or "name" not in {field.name for field in attrs.fields(cls)}:
                raise _mismatch(path, f"a field of it, such as {path}.{attrs.fields(cls)[0].name}=...", data)
            data = {"name": text}
        else:
            data = _free_value(text)
    if not isinstance(data, Mapping):
        raise _mismatch(path, f"the fields of {cls.__name__}", data)
    names = [field.name for field in attrs.fields(cls)]
    annotations = _annotations(cls)
    prefix = f"{path}." if path else ""
    values = {}
    for name, item in data.items():
        if name not in names:
            raise OptionError(_unknown_field(f"{prefix}{name}", name, names, path))
        values[name] = _convert(item, annotations[name], f"{prefix}{name}", from_text=False)
    try:
        return cls(**values)
    except OptionError:
        raise
    except (TypeError, ValueError) as error:
        raise OptionError(f"{path or cls.__name__} cannot be built: {_first_argument(error)}") from error


def _convert_scalar(data: Any, annotation: Any, path: str, *, from_text: bool) -> Any:
    if annotation is bool:
        if isinstance(data, bool):
            return data
        if from_text and data.strip().lower() in _TRUE | _FALSE:
            return data.strip().lower() in _TRUE
        raise _mismatch(path, "true or false", data)
    if annotation is int:
        if from_text:
            try:
                return int(data)
            except ValueError:
                raise _mismatch(path, "a whole number", data) from None
        if isinstance(data, bool) or not isinstance(data, int):
            raise _mismatch(path, "a whole number", data)
        return data
    if annotation is float:
        if from_text or isinstance(data, str):
            try:
                return float(data)
            except ValueError:
                raise _mismatch(path, "a number", data) from None
        if isinstance(data, bool) or not isinstance(data, (int, float)):
            raise _mismatch(path, "a number", data)
        return float(data)
    if annotation is str:
        if not isinstance(data, str):
            raise _mismatch(path, "a text", data)
        return data
    raise TypeError(f"{path}: recipes do not support the annotation {annotation!r}")


def _mismatch(path: str, expected: str, received: Any) -> OptionError:
    return OptionError(f"{path or 'The value'} must be {expected}. Received: {received!r}.")


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Where two plain values differ, one line each: ``epochs: 10 -> 20``."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines = []
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{path}.{key}" if path else str(key)
            lines += differences(old.get(key), new.get(key), inner)
        return lines
    return [] if old == new else [f"{path}: {json.dumps(old)} -> {json.dumps(new)}"]

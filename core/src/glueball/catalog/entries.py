"""What the catalogue holds: entries, the plugins they come from, and which values an entry may have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import attrs

from glueball.errors import PluginError
from glueball.plugin import Weights

Kind = Literal["model", "dataset", "transform", "loss", "metric", "task", "recipe"]
State = Literal["active", "blocked", "failed", "incompatible", "conflict"]

HOOKS: dict[str, str] = {
    "model": "register_models",
    "dataset": "register_datasets",
    "transform": "register_transforms",
    "loss": "register_losses",
    "metric": "register_metrics",
    "task": "register_tasks",
    "recipe": "register_recipes",
}
"""Kind of entry -> the hook that registers it."""

KINDS: tuple[str, ...] = tuple(HOOKS)

PLURALS: dict[str, str] = {kind: hook.removeprefix("register_") for kind, hook in HOOKS.items()}
"""Kind of entry -> how listings call many of them."""

TEST_INPUTS = ("array", "tokens", "length")
"""What a model can be called with when it is checked; ``glueball.plugin.Register`` says what each one is."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_IDENTIFIER = r"[^\W\d]\w*"
_TARGET = re.compile(rf"{_IDENTIFIER}(\.{_IDENTIFIER})*:{_IDENTIFIER}(\.{_IDENTIFIER})*")


def _frozen_mapping(values: Mapping[str, Any]) -> Mapping[str, Any]:
    return MappingProxyType(dict(values))


@attrs.frozen
class Entry:
    """One name of one plugin, described without importing what it names."""

    kind: str
    name: str
    target: str
    """``"package.module:attribute"``."""
    plugin: str
    distribution: str
    metadata: Mapping[str, Any] = attrs.field(factory=dict, converter=_frozen_mapping, eq=False, repr=False)

    @property
    def qualified_name(self) -> str:
        """``plugin/name``, which is never ambiguous."""
        return f"{self.plugin}/{self.name}"

    @property
    def summary(self) -> str:
        """The line that listings show; may be empty."""
        return str(self.metadata.get("summary", ""))

    @property
    def task(self) -> str | None:
        """The task that the entry belongs to, where it names one."""
        return self.metadata.get("task")

    @property
    def weights(self) -> Mapping[str, Weights]:
        """Tag -> published weights; empty where there are none."""
        return self.metadata.get("weights") or {}


@attrs.frozen
class PluginInfo:
    """One entry point of the group ``glueball.plugins``, and what became of it."""

    name: str
    distribution: str
    version: str
    module: str
    """What the entry point names."""
    state: State
    reason: str = ""
    """Why the plugin is not active, and what to do about it; empty for an active one."""
    details: str = attrs.field(default="", repr=False)
    """The traceback of a failure in the plugin's code."""
    counts: Mapping[str, int] = attrs.field(factory=dict, converter=_frozen_mapping, eq=False)
    """Kind of entry -> how many the plugin registered."""
    location: str = ""
    """The folder that the distribution is installed in."""


# ----------------------------------------------------------------------------------------------------------------------
# Checks of what a plugin registers. They raise PluginError, which fails the whole plugin: a half-registered plugin
# would be found out later and far from the mistake.
# ----------------------------------------------------------------------------------------------------------------------


def check_name(kind: str, name: Any) -> None:
    """Demands a name that can be typed in a shell and told apart from ``plugin/name``."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise PluginError(
            f"The name of a {kind} must be letters, digits and '_', '.', '+', '-', starting with a letter or a digit. "
            f"Received: {name!r}"
        )


def check_target(kind: str, name: str, target: Any) -> None:
    """Demands ``module:attribute``; whether it exists is only known when it is resolved."""
    if not isinstance(target, str) or not _TARGET.fullmatch(target):
        raise PluginError(
            f"The target of {kind} '{name}' must be a string like 'package.module:attribute', so that listing imports "
            f"nothing. Received: {target!r}"
        )


def _is_shape(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and all(type(size) is int and size > 0 for size in value) and bool(value)


def _is_weights(value: Any) -> bool:
    return isinstance(value, Mapping) and all(
        isinstance(tag, str) and _NAME.fullmatch(tag) and isinstance(weights, Weights) for tag, weights in value.items()
    )


def _is_options(value: Any) -> bool:
    return isinstance(value, Mapping) and all(isinstance(name, str) for name in value)


def _is_names(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and bool(value) and all(isinstance(name, str) and name for name in value)


_METADATA_CHECKS = {
    "summary": (lambda value: isinstance(value, str) and "\n" not in value, "one line of text"),
    "paper": (lambda value: isinstance(value, str), "text such as 'arXiv:1512.03385'"),
    "task": (
        lambda value: isinstance(value, str) and bool(re.fullmatch("[a-z][a-z0-9_]*", value)),
        "the name of a task such as 'image_classification'",
    ),
    "initializer": (
        lambda value: isinstance(value, str) and bool(value),
        "the name of an initialiser such as 'xavier'",
    ),
    "backends": (_is_names, "a tuple with at least one name of a backend, such as ('torch',)"),
    "input_shape": (_is_shape, "a tuple of positive integers such as (3, 224, 224)"),
    "test_input_shape": (_is_shape, "a tuple of positive integers such as (3, 32, 32)"),
    "test_inputs": (
        lambda value: _is_names(value) and set(value) <= set(TEST_INPUTS),
        f"a tuple of some of {', '.join(TEST_INPUTS)}",
    ),
    "test_options": (_is_options, "a mapping from names of options to values"),
    "bench_input_shape": (_is_shape, "a tuple of positive integers such as (3, 224, 224)"),
    "bench_options": (_is_options, "a mapping from names of options to values"),
    "classes": (lambda value: type(value) is int and value > 0, "a positive integer"),
    "weights": (_is_weights, "a mapping from tags to glueball.plugin.Weights"),
}


def check_metadata(kind: str, name: str, metadata: Mapping[str, Any]) -> None:
    """Demands the documented type of every key that has a meaning."""
    for key, value in metadata.items():
        valid, expected = _METADATA_CHECKS.get(key, (None, ""))
        if valid is not None and not valid(value):
            raise PluginError(f"{key} of {kind} '{name}' must be {expected}. Received: {value!r}")
    if kind == "model" and "task" not in metadata:
        raise PluginError(
            f"Model '{name}' does not say which task it solves. Add task=, such as task='image_classification'."
        )

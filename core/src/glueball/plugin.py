"""What the module behind a plugin's entry point imports, and all that it may import besides the standard library.

Listing what is installed imports this module and those light modules, nothing else; therefore nothing here may import
NumPy, a backend, or any other part of Glueball.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import attrs
import pluggy

PLUGIN_API = 1
"""Version of the contract between core and plugins: the hooks and what ``register`` takes.

It grows when a plugin could not work as before. A plugin's compatibility is stated where installers read it too, in
its requirement on glueball-core; a plugin that supports several contracts may branch on this number.
"""

PROJECT = "glueball"
"""The name that pluggy's markers of hooks carry."""

hookimpl = pluggy.HookimplMarker(PROJECT)
"""Marks a function of a plugin as an implementation of the hook with the same name (``glueball.hookspecs``)."""


def _frozen_mapping(values: Mapping[str, Any]) -> Mapping[str, Any]:
    from types import MappingProxyType

    return MappingProxyType(dict(values))


def _texts(values: Iterable[str]) -> tuple[str, ...]:
    # Not plain tuple: type checkers cannot tell what that would make of its argument.
    return tuple(values)


def _check_sha1(instance: Any, attribute: Any, value: str) -> None:
    if not re.fullmatch("[0-9a-f]{40}", value):
        raise ValueError(f"sha1 must be the full hash, 40 lower-case hexadecimal digits. Received: {value!r}")


def _check_file(instance: Any, attribute: Any, value: str) -> None:
    # The name becomes a path in the cache: it must stay inside it.
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._+-]*", value):
        raise ValueError(f"file must be a plain file name such as 'resnet18_v1b-2d9d980c.params'. Received: {value!r}")


@attrs.frozen(kw_only=True)
class Weights:
    """One published weight file of a model."""

    # What the file is
    file: str = attrs.field(validator=_check_file)
    """File name in the cache, by convention ``<model>-<first 8 digits of sha1>.params``."""
    sha1: str = attrs.field(validator=_check_sha1)
    """SHA-1 of the whole file: what is downloaded or found in the cache must have it."""

    # Where it comes from
    url: tuple[str, ...] = attrs.field(default=(), converter=_texts)
    """Addresses to try in turn; ``{file}`` stands for the file name."""
    source: str = ""
    """Who trained it, on what, by which recipe."""

    # What it holds
    classes: int | None = None
    """Width of the classifier in the file; None where the model has none."""
    metrics: Mapping[str, float] = attrs.field(factory=dict, converter=_frozen_mapping, hash=False)
    """Published results on the validation set, in per cent: ``{"top1": 77.67, "top5": 93.82}``."""


class Register(Protocol):
    """What every hook receives: adds one entry to the catalogue, on behalf of this plugin alone."""

    def __call__(self, name: str, target: str, *, summary: str = "", **metadata: Any) -> None:
        """Registers ``name``; ``target`` is ``"package.module:attribute"``, imported when somebody asks for the name.

        ``name`` holds letters, digits, ``_ . + -`` and is found whatever its case. ``metadata`` describes the entry
        without importing it; the keys below have a meaning (and a type that is checked), others are kept as they are.

        Every kind:
            summary: one line for listings.
            paper: "arXiv:1512.03385" or the like.
            backends: names of the backends it runs on, such as ``("torch",)``; absent: all.

        Models:
            task: the task that the model solves, such as "image_classification"; required.
            input_shape: (channels, height, width) or whatever one sample has, without the batch.
            test_input_shape: a smaller shape that the model accepts too, for ``glueball.testing.check_plugin``.
            test_inputs: what the model is called with, for the same: some of "array" (float32 of that shape), "tokens"
                (int32 of that shape, from 0 to 7) and "length" (float32, how many of them count); absent: an array.
            test_options: options to build it with, for the same, where it has some without a default.
            bench_input_shape, bench_options: the same for ``glueball bench``, at the size that the model is used with;
                absent: input_shape and test_options.
            classes: how many classes the model has unless ``get_model(classes=...)`` says otherwise.
            initializer: name of the default initialiser ("xavier", "msraprelu", ...); absent: Gluon's default.
            weights: tag -> Weights; the first tag is what ``pretrained=True`` means.

        Raises:
            PluginError: a name, target or metadata that cannot be right, or a name that this plugin has already
                registered: the mistake is in the plugin, and none of its entries would be kept.
        """

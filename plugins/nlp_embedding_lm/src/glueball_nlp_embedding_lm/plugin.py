"""What this distribution adds to Glueball, by name. Light: nothing here imports a backend, NumPy or sentencepiece."""

from __future__ import annotations

from glueball.plugin import Register, hookimpl

_PACKAGE = "glueball_nlp_embedding_lm"


@hookimpl
def register_models(register: Register) -> None:
    """The models of ``models/``."""


@hookimpl
def register_datasets(register: Register) -> None:
    """The data sets of ``datasets/``."""


@hookimpl
def register_tasks(register: Register) -> None:
    """What the engine needs to know about text with one label each."""


@hookimpl
def register_recipes(register: Register) -> None:
    """The recipes of ``recipes/``."""

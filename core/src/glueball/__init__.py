"""Glueball: one core, many model families, two backends.

Everything public is reached from here and imported when it is first used (PEP 562): ``import glueball`` loads neither
NumPy nor a backend nor a plugin, so that command lines and light programs pay for what they use only.
"""

from __future__ import annotations

import importlib

# Type checkers take this name for true. Importing it from typing would double the time of ``import glueball``.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from glueball import (
        autograd,
        backend,
        catalog,
        data,
        engine,
        errors,
        init,
        loss,
        metrics,
        nn,
        ops,
        plugin,
        rnn,
        weights,
    )
    from glueball.engine.load import load
    from glueball.models import get_model, list_models
    from glueball.named import (
        get_dataset,
        get_loss,
        get_metric,
        get_recipe,
        get_task,
        get_transform,
        list_datasets,
        list_losses,
        list_metrics,
        list_recipes,
        list_tasks,
        list_transforms,
    )
    from glueball.seeding import seed

__version__ = "0.1.0"

# Public name -> "module:attribute", or the module itself.
_PUBLIC = {
    "autograd": "glueball.autograd",
    "backend": "glueball.backend",
    "catalog": "glueball.catalog",
    "data": "glueball.data",
    "engine": "glueball.engine",
    "errors": "glueball.errors",
    "get_dataset": "glueball.named:get_dataset",
    "get_loss": "glueball.named:get_loss",
    "get_metric": "glueball.named:get_metric",
    "get_model": "glueball.models:get_model",
    "get_recipe": "glueball.named:get_recipe",
    "get_task": "glueball.named:get_task",
    "get_transform": "glueball.named:get_transform",
    "init": "glueball.init",
    "list_datasets": "glueball.named:list_datasets",
    "list_losses": "glueball.named:list_losses",
    "list_metrics": "glueball.named:list_metrics",
    "list_models": "glueball.models:list_models",
    "list_recipes": "glueball.named:list_recipes",
    "list_tasks": "glueball.named:list_tasks",
    "list_transforms": "glueball.named:list_transforms",
    "load": "glueball.engine:load",
    "loss": "glueball.loss",
    "metrics": "glueball.metrics",
    "nn": "glueball.nn",
    "ops": "glueball.ops",
    "plugin": "glueball.plugin",
    "rnn": "glueball.rnn",
    "seed": "glueball.seeding:seed",
    "weights": "glueball.weights",
}

__all__ = [  # noqa: RUF022 - grouped by what one does with them
    # Finding things by name
    "get_model",
    "get_dataset",
    "get_transform",
    "get_loss",
    "get_metric",
    "get_task",
    "get_recipe",
    "list_models",
    "list_datasets",
    "list_transforms",
    "list_losses",
    "list_metrics",
    "list_tasks",
    "list_recipes",
    # Running them
    "load",
    "seed",
    # Building one's own
    "autograd",
    "backend",
    "catalog",
    "data",
    "engine",
    "errors",
    "init",
    "loss",
    "metrics",
    "nn",
    "ops",
    "plugin",
    "rnn",
    "weights",
    "__version__",
]


def __getattr__(name: str) -> Any:
    address = _PUBLIC.get(name)
    if address is None:
        raise AttributeError(f"module 'glueball' has no attribute {name!r}")
    module, _, attribute = address.partition(":")
    value = importlib.import_module(module)
    if attribute:
        value = getattr(value, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_PUBLIC})

"""Where the functions of the dialect are collected, so that a family adds one by writing it under ``@operator``.

Functions that behave differently in training (Dropout, BatchNorm) are registered with ``modal=True``. They take
``_training`` as a last keyword argument, which stays hidden: ``build`` makes a namespace that follows the scopes of
autograd (``glueball.ops``) and one for each mode, of which a block passes the right one as ``F`` to its
``hybrid_forward``. So a model's functions obey ``net.train()`` too, and a traced graph sees no global state.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import ModuleType
from typing import Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Any])

OPERATORS: dict[str, Callable[..., Any]] = {}
_MODAL: set[str] = set()


def operator(*names: str, modal: bool = False) -> Callable[[Function], Function]:
    """Registers a function under each of the dialect's names; dots mean a namespace (``contrib.arange_like``)."""

    def register(function: Function) -> Function:
        for name in names:
            if name in OPERATORS:
                raise ValueError(f"the operator {name!r} is defined twice")
            OPERATORS[name] = function
            if modal:
                _MODAL.add(name)
        return function

    return register


def _visible_signature(function: Callable[..., Any]) -> inspect.Signature:
    signature = inspect.signature(function, eval_str=False)
    return signature.replace(
        parameters=[parameter for parameter in signature.parameters.values() if parameter.name != "_training"]
    )


def _in_mode(function: Callable[..., Any], training: bool) -> Callable[..., Any]:
    # partial is C: BatchNorm runs through here some hundred times a step.
    in_mode = functools.update_wrapper(functools.partial(function, _training=training), function)
    in_mode.__signature__ = _visible_signature(function)  # type: ignore[attr-defined]
    return in_mode


def _in_scope(function: Callable[..., Any]) -> Callable[..., Any]:
    from glueball.backend.torch.autograd import scope_training

    @functools.wraps(function)
    def in_scope(*arguments: Any, **keywords: Any) -> Any:
        return function(*arguments, **keywords, _training=bool(scope_training()))

    in_scope.__signature__ = _visible_signature(function)  # type: ignore[attr-defined]
    return in_scope


def build(module: ModuleType, training: bool | None) -> ModuleType:
    """Puts every registered function into ``module``; ``training`` None follows the scopes of autograd."""
    for name, function in OPERATORS.items():
        if name in _MODAL:
            function = _in_scope(function) if training is None else _in_mode(function, training)
        namespace: Any = module
        *path, last = name.split(".")
        for part in path:
            if not hasattr(namespace, part):
                setattr(namespace, part, ModuleType(f"{namespace.__name__}.{part}"))
            namespace = getattr(namespace, part)
        setattr(namespace, last, function)
    return module

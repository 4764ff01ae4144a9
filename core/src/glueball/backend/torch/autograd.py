"""Gluon's autograd scopes over torch's: which mode the blocks run in, and whether a graph is recorded.

Inside ``record``, ``pause``, ``train_mode`` and ``predict_mode`` the scope decides whether BatchNorm and Dropout train;
outside of every scope each module's own ``training`` flag does, so that plain PyTorch loops (``net.train()``,
``loss.backward()``) work on our blocks as they do on any module.

The state is per thread, as in MXNet. torch.compile cannot guard on thread-local state, so a mirror of it in a module
global is what traced code reads: a compiled network follows the scope that was entered last in the process.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import torch

from glueball.errors import OptionError


class _State(threading.local):
    training: bool | None = None
    recording: bool | None = None


_state = _State()
_traced_training: bool | None = None


def scope_training() -> bool | None:
    """Whether the innermost scope trains; None outside of every scope."""
    if torch.compiler.is_compiling():
        return _traced_training
    return _state.training


def _set_scope_training(value: bool | None) -> None:
    global _traced_training
    _state.training = value
    _traced_training = value


class _Scope:
    """Sets recording and training on entry and puts the former values back on exit; None leaves one as it is."""

    def __init__(self, recording: bool | None, training: bool | None) -> None:
        self._recording = recording
        self._training = training
        self._saved: list[tuple[bool | None, bool | None, bool]] = []

    def __enter__(self) -> None:
        self._saved.append((_state.recording, _state.training, torch.is_grad_enabled()))
        if self._recording is not None:
            _state.recording = self._recording
            torch.set_grad_enabled(self._recording)
        if self._training is not None:
            _set_scope_training(self._training)

    def __exit__(self, *exception: object) -> None:
        recording, training, grad_enabled = self._saved.pop()
        _state.recording = recording
        _set_scope_training(training)
        if self._recording is not None:
            torch.set_grad_enabled(grad_enabled)


def record(train_mode: bool = True) -> _Scope:
    """Records a graph for ``backward``; blocks train unless ``train_mode`` is False."""
    return _Scope(True, train_mode)


def pause(train_mode: bool = False) -> _Scope:
    """Records no graph within; blocks predict unless ``train_mode`` is True."""
    return _Scope(False, train_mode)


def train_mode() -> _Scope:
    """Blocks train within; recording is as it was."""
    return _Scope(None, True)


def predict_mode() -> _Scope:
    """Blocks predict within; recording is as it was."""
    return _Scope(None, False)


def is_recording() -> bool:
    """Whether the innermost scope records; False outside of every scope."""
    return bool(_state.recording)


def is_training() -> bool:
    """Whether the innermost scope trains; False outside of every scope."""
    return bool(scope_training())


def set_recording(is_recording: bool) -> bool:
    """Sets recording until the enclosing scope ends; returns what it was."""
    previous = bool(_state.recording)
    _state.recording = is_recording
    torch.set_grad_enabled(is_recording)
    return previous


def set_training(train_mode: bool) -> bool:
    """Sets the mode until the enclosing scope ends; returns what it was."""
    previous = bool(_state.training)
    _set_scope_training(train_mode)
    return previous


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _head_gradients(heads: list[torch.Tensor], head_grads: Any) -> list[torch.Tensor]:
    given = [None] * len(heads) if head_grads is None else _as_list(head_grads)
    if len(given) != len(heads):
        raise OptionError(f"Expected one head gradient for each of {len(heads)} heads; received {len(given)}.")
    return [
        torch.ones_like(head) if gradient is None else gradient for head, gradient in zip(heads, given, strict=True)
    ]


def _leaves(heads: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """The leaf tensors that a backward pass from ``heads`` would reach."""
    waiting = [head.grad_fn for head in heads if head.grad_fn is not None]
    seen = set(waiting)
    found = []
    while waiting:
        node = waiting.pop()
        variable = getattr(node, "variable", None)
        if variable is not None:
            found.append(variable)
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)
    return found


def backward(heads: Any, head_grads: Any = None, retain_graph: bool = False, train_mode: bool = True) -> None:
    """Writes the gradients of ``heads`` (a tensor or a list) into the parameters that took part.

    As in Gluon a gradient is overwritten unless its parameter has ``grad_req="add"``; ``tensor.backward()`` always
    adds, as PyTorch does. Missing head gradients are ones, also for arrays. ``train_mode`` is taken for MXNet's sake:
    here the mode of the forward pass decides.
    """
    tensors = _as_list(heads)
    for leaf in _leaves(tensors):
        if getattr(leaf, "gluon_grad_req", "write") != "add":
            leaf.grad = None
    torch.autograd.backward(tensors, _head_gradients(tensors, head_grads), retain_graph=retain_graph)


def grad(
    heads: Any,
    variables: Any,
    head_grads: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    train_mode: bool = True,
) -> Any:
    """The gradients of ``heads`` with respect to ``variables`` (a tensor or a list), returned instead of stored."""
    tensors, leaves = _as_list(heads), _as_list(variables)
    gradients = torch.autograd.grad(
        tensors,
        leaves,
        _head_gradients(tensors, head_grads),
        retain_graph=retain_graph,
        create_graph=create_graph,
        allow_unused=True,
    )
    found = [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(leaves, gradients, strict=True)
    ]
    return found if isinstance(variables, (list, tuple)) else found[0]

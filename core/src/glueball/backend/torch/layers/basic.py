"""Dense, Embedding, Flatten, Dropout, functions as blocks, and blocks side by side."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from glueball.backend.torch import ops
from glueball.backend.torch.block import Block, HybridBlock, HybridSequential, Sequential
from glueball.backend.torch.layers.activations import Activation
from glueball.errors import OptionError


class Dense(HybridBlock):
    """activation(data · weightᵀ + bias). weight: (units, in_units).

    ``flatten`` joins all axes but the first: (batch, ...) -> (batch, units); otherwise (..., in_units) -> (..., units).
    """

    def __init__(
        self,
        units: int,
        activation: str | None = None,
        use_bias: bool = True,
        flatten: bool = True,
        dtype: Any = "float32",
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        in_units: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._flatten = flatten
        self._units = units
        self._in_units = in_units
        with self.name_scope():
            self.weight = self.params.get(
                "weight", shape=(units, in_units), init=weight_initializer, dtype=dtype, allow_deferred_init=True
            )
            self.bias = (
                self.params.get("bias", shape=(units,), init=bias_initializer, dtype=dtype, allow_deferred_init=True)
                if use_bias
                else None
            )
            self.act = None if activation is None else Activation(activation, prefix=activation + "_")

    def infer_shape(self, x: Tensor, *others: Any) -> None:
        features = math.prod(x.shape[1:]) if self._flatten else x.shape[-1]
        self.weight.shape = (self._units, features)

    def hybrid_forward(self, F: Any, x: Any, weight: Any, bias: Any = None) -> Any:
        if self._flatten and x.dim() != 2:
            x = F.Flatten(x)
        x = torch.nn.functional.linear(x, weight, bias)
        return x if self.act is None else self.act(x)

    def extra_repr(self) -> str:
        shape = tuple(self.weight.shape or ())
        return f"{shape[1] or None} -> {shape[0]}"


class Embedding(HybridBlock):
    """Vectors by index: (...) -> (..., output_dim). weight: (input_dim, output_dim)."""

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        dtype: Any = "float32",
        weight_initializer: Any = None,
        sparse_grad: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._sparse_grad = sparse_grad
        self.weight = self.params.get(
            "weight", shape=(input_dim, output_dim), init=weight_initializer, dtype=dtype, allow_deferred_init=True
        )

    def hybrid_forward(self, F: Any, x: Any, weight: Any) -> Any:
        return F.Embedding(x, weight, sparse_grad=self._sparse_grad)

    def extra_repr(self) -> str:
        shape = tuple(self.weight.shape or ())
        return f"{shape[0]} -> {shape[1]}"


class Flatten(HybridBlock):
    """(batch, ...) -> (batch, product of the rest)."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.Flatten(x)


class Dropout(HybridBlock):
    """In training zeroes elements with probability ``rate`` and scales the rest; ``axes`` share their decisions."""

    def __init__(self, rate: float, axes: Any = (), **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._rate = rate
        self._axes = axes

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.Dropout(x, p=self._rate, axes=self._axes) if self._rate > 0 else x

    def extra_repr(self) -> str:
        return f"p = {self._rate}, axes={self._axes}"


class Lambda(Block):
    """A function, or the name of one of the dialect's functions, as a block."""

    def __init__(self, function: str | Callable[..., Any], prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        self._function = _find_function(function) if isinstance(function, str) else function

    def forward(self, *arguments: Any) -> Any:
        return self._function(*arguments)


class HybridLambda(HybridBlock):
    """A function ``function(F, *inputs)``, or the name of one of the dialect's functions, as a block."""

    def __init__(self, function: str | Callable[..., Any], prefix: str | None = None) -> None:
        super().__init__(prefix=prefix)
        self._function = function
        if isinstance(function, str):
            _find_function(function)

    def hybrid_forward(self, F: Any, x: Any, *arguments: Any) -> Any:
        if isinstance(self._function, str):
            for part in self._function.split("."):
                F = getattr(F, part)
            return F(x, *arguments)
        return self._function(F, x, *arguments)


def _find_function(name: str) -> Callable[..., Any]:
    found = ops.OPERATORS.get(name)
    if found is None:
        raise OptionError(f"Unknown function {name!r}; expected a function of the dialect such as 'relu'.")
    return found


class Identity(HybridBlock):
    """Gives back its input."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return x


class Concurrent(Sequential):
    """Gives its input to every child and joins their outputs along ``axis``."""

    def __init__(self, axis: int = -1, prefix: str | None = None, params: Any = None) -> None:
        super().__init__(prefix=prefix, params=params)
        self.axis = axis

    def forward(self, x: Any, *arguments: Any) -> Any:
        return torch.cat([block(x) for block in self._modules.values()], self.axis)


class HybridConcurrent(HybridSequential):
    """``Concurrent`` that can be compiled and be part of a HybridBlock."""

    def __init__(self, axis: int = -1, prefix: str | None = None, params: Any = None) -> None:
        super().__init__(prefix=prefix, params=params)
        self.axis = axis

    def forward(self, x: Any, *arguments: Any) -> Any:
        return torch.cat([block(x) for block in self._modules.values()], self.axis)

"""Activations as blocks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from glueball import init
from glueball.backend.torch.block import HybridBlock

_QUARTER = init.Constant(0.25)


class Activation(HybridBlock):
    """relu, sigmoid, tanh, softrelu or softsign, by name."""

    def __init__(self, activation: str, **kwargs: Any) -> None:
        # The name is part of the prefix, which the base class makes.
        self.__dict__["_act_type"] = activation
        super().__init__(**kwargs)
        self._act_type = activation

    def _alias(self) -> str:
        return self._act_type

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.Activation(x, act_type=self._act_type)

    def can_overwrite(self) -> bool:
        """Whether ``overwrite`` is there for this function: its gradient needs the output alone."""
        return self._act_type == "relu" and self._compiled_call_impl is None

    def overwrite(self, x: Tensor) -> Tensor:
        """As a call, but x: any shape becomes the output. Nobody else may need x, nor the gradient of what made it."""
        return torch.relu_(x)

    def extra_repr(self) -> str:
        return self._act_type


class LeakyReLU(HybridBlock):
    """x where positive, else alpha · x."""

    def __init__(self, alpha: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._alpha = alpha

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.LeakyReLU(x, act_type="leaky", slope=self._alpha)

    def extra_repr(self) -> str:
        return str(self._alpha)


class PReLU(HybridBlock):
    """LeakyReLU with learned slopes, ``in_channels`` of them or one (arXiv:1502.01852)."""

    def __init__(self, alpha_initializer: Any = _QUARTER, in_channels: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.alpha = self.params.get("alpha", shape=(in_channels,), init=alpha_initializer)

    def hybrid_forward(self, F: Any, x: Any, alpha: Any) -> Any:
        return F.LeakyReLU(x, gamma=alpha, act_type="prelu")


class ELU(HybridBlock):
    """x where positive, else alpha · (exp(x) - 1) (arXiv:1511.07289)."""

    def __init__(self, alpha: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._alpha = alpha

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.LeakyReLU(x, act_type="elu", slope=self._alpha)


class SELU(HybridBlock):
    """Scaled exponential linear unit (arXiv:1706.02515)."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.LeakyReLU(x, act_type="selu")


class GELU(HybridBlock):
    """x · Φ(x) with the exact normal distribution (arXiv:1606.08415)."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.LeakyReLU(x, act_type="gelu")


class Swish(HybridBlock):
    """x · sigmoid(beta · x) (arXiv:1710.05941)."""

    def __init__(self, beta: float = 1.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._beta = beta

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        if self._beta == 1.0:
            return torch.nn.functional.silu(x)
        return x * torch.sigmoid(self._beta * x)


class SiLU(HybridBlock):
    """x · sigmoid(x): Swish with beta 1."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return torch.nn.functional.silu(x)

"""Element by element: arithmetic, comparison, mathematics. A comparison gives 0 and 1 in its input's data type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from glueball.backend.torch.ops.arguments import torch_dtype
from glueball.backend.torch.ops.registry import operator
from glueball.errors import OptionError


@operator("broadcast_add", "broadcast_plus")
def broadcast_add(lhs: Tensor, rhs: Tensor) -> Tensor:
    return lhs + rhs


@operator("broadcast_sub", "broadcast_minus")
def broadcast_sub(lhs: Tensor, rhs: Tensor) -> Tensor:
    return lhs - rhs


@operator("broadcast_mul")
def broadcast_mul(lhs: Tensor, rhs: Tensor) -> Tensor:
    return lhs * rhs


@operator("broadcast_div")
def broadcast_div(lhs: Tensor, rhs: Tensor) -> Tensor:
    """Division; of integers it is C's, towards zero."""
    if lhs.dtype.is_floating_point or rhs.dtype.is_floating_point:
        return lhs / rhs
    return torch.div(lhs, rhs, rounding_mode="trunc")


@operator("broadcast_mod")
def broadcast_mod(lhs: Tensor, rhs: Tensor) -> Tensor:
    """Remainder with the sign of rhs, as Python's; 0 where rhs is 0."""
    zero = rhs == 0
    return torch.remainder(lhs, torch.where(zero, torch.ones_like(rhs), rhs)).masked_fill(zero, 0)


@operator("broadcast_power")
def broadcast_power(lhs: Tensor, rhs: Tensor) -> Tensor:
    return lhs**rhs


@operator("broadcast_maximum")
def broadcast_maximum(lhs: Tensor, rhs: Tensor) -> Tensor:
    """The larger one; where both are equal the gradient goes to lhs, as in MXNet."""
    return torch.where(lhs >= rhs, lhs, rhs)


@operator("broadcast_minimum")
def broadcast_minimum(lhs: Tensor, rhs: Tensor) -> Tensor:
    """The smaller one; where both are equal the gradient goes to lhs, as in MXNet."""
    return torch.where(lhs <= rhs, lhs, rhs)


@operator("broadcast_hypot")
def broadcast_hypot(lhs: Tensor, rhs: Tensor) -> Tensor:
    return torch.hypot(lhs, rhs)


@operator("broadcast_equal")
def broadcast_equal(lhs: Tensor, rhs: Tensor) -> Tensor:
    return (lhs == rhs).to(lhs.dtype)


@operator("broadcast_not_equal")
def broadcast_not_equal(lhs: Tensor, rhs: Tensor) -> Tensor:
    return (lhs != rhs).to(lhs.dtype)


@operator("broadcast_greater")
def broadcast_greater(lhs: Tensor, rhs: Tensor) -> Tensor:
    return (lhs > rhs).to(lhs.dtype)


@operator("broadcast_greater_equal")
def broadcast_greater_equal(lhs: Tensor, rhs: Tensor) -> Tensor:
    return (lhs >= rhs).to(lhs.dtype)


@operator("broadcast_lesser")
def broadcast_lesser(lhs: Tensor, rhs: Tensor) -> Tensor:
    return (lhs < rhs).to(lhs.dtype)


@operator("broadcast_lesser_equal")
def broadcast_lesser_equal(lhs: Tensor, rhs: Tensor) -> Tensor:
    return (lhs <= rhs).to(lhs.dtype)


@operator("broadcast_logical_and")
def broadcast_logical_and(lhs: Tensor, rhs: Tensor) -> Tensor:
    return torch.logical_and(lhs, rhs).to(lhs.dtype)


@operator("broadcast_logical_or")
def broadcast_logical_or(lhs: Tensor, rhs: Tensor) -> Tensor:
    return torch.logical_or(lhs, rhs).to(lhs.dtype)


@operator("broadcast_logical_xor")
def broadcast_logical_xor(lhs: Tensor, rhs: Tensor) -> Tensor:
    return torch.logical_xor(lhs, rhs).to(lhs.dtype)


def _check_equal_shapes(name: str, lhs: Tensor, rhs: Tensor) -> None:
    if lhs.shape != rhs.shape:
        raise OptionError(
            f"{name}: expected arrays of one shape; received {tuple(lhs.shape)} and {tuple(rhs.shape)}. "
            f"Use {name.replace('elemwise', 'broadcast')} to broadcast."
        )


@operator("elemwise_add")
def elemwise_add(lhs: Tensor, rhs: Tensor) -> Tensor:
    _check_equal_shapes("elemwise_add", lhs, rhs)
    return lhs + rhs


@operator("elemwise_sub")
def elemwise_sub(lhs: Tensor, rhs: Tensor) -> Tensor:
    _check_equal_shapes("elemwise_sub", lhs, rhs)
    return lhs - rhs


@operator("elemwise_mul")
def elemwise_mul(lhs: Tensor, rhs: Tensor) -> Tensor:
    _check_equal_shapes("elemwise_mul", lhs, rhs)
    return lhs * rhs


@operator("elemwise_div")
def elemwise_div(lhs: Tensor, rhs: Tensor) -> Tensor:
    _check_equal_shapes("elemwise_div", lhs, rhs)
    return broadcast_div(lhs, rhs)


@operator("add_n", "ElementWiseSum")
def add_n(*args: Tensor) -> Tensor:
    """Sum of arrays of one shape."""
    total = args[0]
    for one in args[1:]:
        total = total + one
    return total


@operator("where")
def where(condition: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """x where the condition is not zero, else y. A condition of shape (batch,) chooses whole samples."""
    chosen = condition != 0
    if chosen.dim() == 1 and x.dim() > 1:
        chosen = chosen.reshape((-1,) + (1,) * (x.dim() - 1))
    return torch.where(chosen, x, y)


def _is_number(value: Any) -> bool:
    return not isinstance(value, Tensor)


@operator("maximum")
def maximum(lhs: Any, rhs: Any, /) -> Any:
    """The larger one of two arrays or of an array and a number."""
    if _is_number(lhs) and _is_number(rhs):
        return max(lhs, rhs)
    if _is_number(lhs):
        lhs, rhs = rhs, lhs
    if _is_number(rhs):
        # Where equal the gradient passes, as in MXNet (lhs >= rhs).
        return torch.where(lhs >= rhs, lhs, torch.full_like(lhs, rhs))
    return broadcast_maximum(lhs, rhs)


@operator("minimum")
def minimum(lhs: Any, rhs: Any, /) -> Any:
    """The smaller one of two arrays or of an array and a number."""
    if _is_number(lhs) and _is_number(rhs):
        return min(lhs, rhs)
    if _is_number(lhs):
        lhs, rhs = rhs, lhs
    if _is_number(rhs):
        return torch.where(lhs <= rhs, lhs, torch.full_like(lhs, rhs))
    return broadcast_minimum(lhs, rhs)


@operator("power")
def power(base: Any, exp: Any, /) -> Any:
    """base to the power of exp; one of them may be a number."""
    return base**exp


@operator("relu")
def relu(data: Tensor) -> Tensor:
    return functional.relu(data)


@operator("hard_sigmoid")
def hard_sigmoid(data: Tensor, alpha: float = 0.2, beta: float = 0.5) -> Tensor:
    """alpha · data + beta, cut to [0, 1]."""
    return (alpha * data + beta).clamp(0.0, 1.0)


@operator("softsign")
def softsign(data: Tensor) -> Tensor:
    """data / (1 + |data|)."""
    return functional.softsign(data)


def _unary(name: str, function: Callable[[Tensor], Tensor]) -> None:
    """Registers ``function(data)`` under its dialect name and a signature that says ``data``."""

    @operator(name)
    def apply(data: Tensor) -> Tensor:
        return function(data)

    apply.__name__ = apply.__qualname__ = name


def _half_away_from_zero(data: Tensor) -> Tensor:
    # torch rounds halves to even, MXNet's round as C's: away from zero.
    return torch.sign(data) * torch.floor(torch.abs(data) + 0.5)


def _cube_root(data: Tensor) -> Tensor:
    return torch.sign(data) * torch.abs(data).pow(1.0 / 3.0)


for _name, _function in {
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "abs": torch.abs,
    "sign": torch.sign,
    "negative": torch.neg,
    "reciprocal": torch.reciprocal,
    "floor": torch.floor,
    "ceil": torch.ceil,
    "round": _half_away_from_zero,
    # Halves go down in MXNet's rint.
    "rint": lambda data: torch.ceil(data - 0.5),
    "trunc": torch.trunc,
    "fix": torch.trunc,
    "exp": torch.exp,
    "expm1": torch.expm1,
    "log": torch.log,
    "log2": torch.log2,
    "log10": torch.log10,
    "log1p": torch.log1p,
    "sqrt": torch.sqrt,
    "rsqrt": torch.rsqrt,
    "cbrt": _cube_root,
    "square": torch.square,
    "erf": torch.erf,
    "sin": torch.sin,
    "cos": torch.cos,
    "tan": torch.tan,
    "arctan": torch.arctan,
    "logical_not": lambda data: torch.logical_not(data).to(data.dtype),
}.items():
    _unary(_name, _function)


@operator("clip")
def clip(data: Tensor, a_min: float | None = None, a_max: float | None = None) -> Tensor:
    """Cuts to [a_min, a_max]."""
    if a_min is None or a_max is None:
        raise OptionError("clip needs a_min and a_max.")
    return data.clamp(a_min, a_max)


@operator("cast", "Cast")
def cast(data: Tensor, dtype: Any = None) -> Tensor:
    """Another data type, by name."""
    if dtype is None:
        raise OptionError("cast needs dtype.")
    return data.to(torch_dtype(dtype))

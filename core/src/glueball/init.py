"""Initialisers in NumPy, one implementation for both backends, with MXNet's formulas.

Each parameter is drawn from a Philox stream of its own, keyed by the seed, the parameter's structural name and how
often that name was drawn since the seed was set. So two backends start from bit-identical weights after the same
``glueball.seed(n)``, whatever the order in which deferred parameters get their shapes, and two networks that are built
one after the other still differ.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from glueball.errors import OptionError

__all__ = [
    "Bilinear",
    "Constant",
    "Initializer",
    "MSRAPrelu",
    "Mixed",
    "Normal",
    "One",
    "Orthogonal",
    "Uniform",
    "Xavier",
    "Zero",
    "create",
    "initial_value",
    "set_seed",
]

_lock = threading.Lock()
_seed = 0
_draws: dict[str, int] = {}


def set_seed(seed: int) -> None:
    """Starts the streams of all initialisers anew; ``glueball.seed`` calls this."""
    global _seed
    with _lock:
        _seed = int(seed)
        _draws.clear()


def stream(name: str) -> np.random.Generator:
    """The generator for the next drawing of the parameter ``name``."""
    with _lock:
        drawn = _draws.get(name, 0)
        _draws[name] = drawn + 1
        text = f"{_seed}\0{name}\0{drawn}"
    key = np.frombuffer(hashlib.blake2b(text.encode(), digest_size=16).digest(), dtype="<u8")
    return np.random.Generator(np.random.Philox(key=key))


class Initializer:
    """How a parameter gets its first values.

    Subclasses write ``weight``. ``sample`` is for a network's default initialiser, which looks at the kind of parameter
    first: gamma and running variance become one, beta, bias and running mean zero, and only weights are drawn.
    """

    def weight(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """Values of ``shape`` for the weight ``name``, float32."""
        raise NotImplementedError(f"{type(self).__name__} must define weight(name, shape)")

    def sample(self, name: str, shape: Sequence[int], dtype: Any = "float32") -> np.ndarray:
        """Values for the parameter with the structural name ``name``, chosen by the suffix of the name as in MXNet.

        Raises:
            OptionError: the suffix says nothing (no weight, bias, gamma, ...) and the parameter brings no initialiser
                of its own, or this initialiser cannot fill such a shape.
        """
        shape = tuple(int(size) for size in shape)
        if name.endswith("weight"):
            values = self.weight(name, shape)
        elif name.endswith(("bias", "beta", "running_mean", "moving_mean")):
            values = np.zeros(shape, dtype=np.float32)
        elif name.endswith(("gamma", "running_var", "moving_var")):
            values = np.ones(shape, dtype=np.float32)
        else:
            raise OptionError(
                f"Cannot tell how to initialise the parameter {name!r}: expected a name that ends in weight, bias, "
                "gamma, beta, running_mean or running_var. Give the parameter an initialiser of its own: "
                "params.get(name, init=...)."
            )
        return values.astype(dtype, copy=False)

    def sample_own(self, name: str, shape: Sequence[int], dtype: Any = "float32") -> np.ndarray:
        """Values for a parameter that was given this initialiser itself: the name's suffix plays no part."""
        return self.weight(name, tuple(int(size) for size in shape)).astype(dtype, copy=False)

    def dumps(self) -> str:
        """Class and arguments as JSON text: MXNet writes it next to the variable when it builds a graph."""
        return json.dumps([type(self).__name__.lower(), vars(self)], default=repr)

    def __repr__(self) -> str:
        values = ", ".join(f"{key}={value!r}" for key, value in vars(self).items())
        return f"{type(self).__name__}({values})"

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return repr(self) == repr(other)

    def __hash__(self) -> int:
        return hash(repr(self))


class Zero(Initializer):
    """All zeros."""

    def __init__(self) -> None: ...

    def weight(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape, dtype=np.float32)


class One(Initializer):
    """All ones."""

    def __init__(self) -> None: ...

    def weight(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        return np.ones(shape, dtype=np.float32)


class Constant(Initializer):
    """One number everywhere, or a given array of the parameter's shape."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def weight(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        value = np.asarray(self.value, dtype=np.float32)
        if value.ndim and value.shape != shape:
            raise OptionError(
                f"Constant cannot initialise {name!r}: expected a number or an array of shape {shape}; "
                f"received an array of shape {value.shape}."
            )
        return np.broadcast_to(value, shape).copy()


class Uniform(Initializer):
    """Uniform in [-scale, scale]. Gluon's default for weights."""

    def __init__(self, scale: float = 0.07) -> None:
        self.scale = scale

    def weight(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        return stream(name).uniform(-self.scale, self.scale, shape).astype(np.float32)


class Normal(Initializer):
    """Normal with mean 0 and standard deviation sigma."""

    def __init__(self, sigma: float = 0.01) -> None:
        self.sigma = sigma

    def weight(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        return (stream(name).standard_normal(shape) * self.sigma).astype(np.float32)


class Orthogonal(Initializer):
    """Orthogonal rows or columns times ``scale`` (arXiv:1312.6120).

    The singular vectors come from LAPACK: machines may differ in the last bits.
    """

    def __init__(self, scale: float = 1.414, rand_type: str = "uniform") -> None:
        if rand_type not in ("uniform", "normal"):
            raise OptionError(f"Orthogonal: expected rand_type 'uniform' or 'normal'; received {rand_type!r}.")
        self.scale = scale
        self.rand_type = rand_type

    def weight(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) < 2:
            raise OptionError(f"Orthogonal needs two axes or more; the parameter {name!r} has shape {shape}.")
        flat = (shape[0], int(np.prod(shape[1:])))
        generator = stream(name)
        drawn = generator.uniform(-1.0, 1.0, flat) if self.rand_type == "uniform" else generator.standard_normal(flat)
        left, _, right = np.linalg.svd(drawn, full_matrices=False)
        vectors = left if left.shape == flat else right
        return (self.scale * vectors.reshape(shape)).astype(np.float32)


class Xavier(Initializer):
    """Glorot and Bengio's scale sqrt(magnitude / fan), fan being the fan-in, fan-out or their mean.

    ``rnd_type`` "uniform" draws in [-scale, scale], "gaussian" with that standard deviation. With gaussian, in,
    magnitude 2 it is He's initialisation (arXiv:1502.01852).
    """

    def __init__(self, rnd_type: str = "uniform", factor_type: str = "avg", magnitude: float = 3) -> None:
        if rnd_type not in ("uniform", "gaussian"):
            raise OptionError(f"Xavier: expected rnd_type 'uniform' or 'gaussian'; received {rnd_type!r}.")
        if factor_type not in ("avg", "in", "out"):
            raise OptionError(f"Xavier: expected factor_type 'avg', 'in' or 'out'; received {factor_type!r}.")
        self.rnd_type = rnd_type
        self.factor_type = factor_type
        self.magnitude = float(magnitude)

    def weight(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) < 2:
            raise OptionError(
                f"{type(self).__name__} needs two axes or more, since it divides by fan-in and fan-out; the parameter "
                f"{name!r} has shape {shape}. Give it an initialiser of its own or use Mixed."
            )
        window = float(np.prod(shape[2:])) if len(shape) > 2 else 1.0
        fan_in, fan_out = shape[1] * window, shape[0] * window
        factor = {"avg": (fan_in + fan_out) / 2.0, "in": fan_in, "out": fan_out}[self.factor_type]
        scale = np.sqrt(self.magnitude / factor)
        generator = stream(name)
        if self.rnd_type == "uniform":
            return generator.uniform(-scale, scale, shape).astype(np.float32)
        return (generator.standard_normal(shape) * scale).astype(np.float32)


class MSRAPrelu(Xavier):
    """He's initialisation for PReLU with negative slope ``slope`` (arXiv:1502.01852)."""

    def __init__(self, factor_type: str = "avg", slope: float = 0.25) -> None:
        super().__init__("gaussian", factor_type, 2.0 / (1 + slope**2))
        self.slope = slope


class Bilinear(Initializer):
    """Weights of a transposed convolution that interpolates bilinearly. Shape: (in, out, height, width)."""

    def __init__(self) -> None: ...

    def weight(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        if len(shape) != 4:
            raise OptionError(f"Bilinear needs a weight of four axes; the parameter {name!r} has shape {shape}.")
        # As in MXNet both axes use the width's factor, so only square kernels interpolate exactly.
        half = np.ceil(shape[3] / 2.0)
        center = (2 * half - 1 - half % 2) / (2.0 * half)
        column = 1 - np.abs(np.arange(shape[3]) / half - center)
        row = 1 - np.abs(np.arange(shape[2]) / half - center)
        return np.broadcast_to(row[:, None] * column[None, :], shape).astype(np.float32)


class Mixed(Initializer):
    """The first initialiser whose pattern matches the start of the parameter's name (``re.match``)."""

    def __init__(self, patterns: Sequence[str], initializers: Sequence[Any]) -> None:
        if len(patterns) != len(initializers):
            raise OptionError(
                f"Mixed: expected as many initialisers as patterns; received {len(patterns)} patterns and "
                f"{len(initializers)} initialisers."
            )
        self.patterns = tuple(patterns)
        self.initializers = tuple(create(initializer) for initializer in initializers)

    def _find(self, name: str) -> Initializer:
        for pattern, initializer in zip(self.patterns, self.initializers, strict=True):
            if re.match(pattern, name):
                return initializer
        raise OptionError(
            f"Mixed: no pattern matches the parameter {name!r}; patterns: {', '.join(self.patterns)}. "
            "Add '.*' as the last pattern with a default initialiser."
        )

    def weight(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        return self._find(name).weight(name, shape)

    def sample(self, name: str, shape: Sequence[int], dtype: Any = "float32") -> np.ndarray:
        return self._find(name).sample(name, shape, dtype)


_ALIASES: dict[str, type[Initializer]] = {
    "zeros": Zero,
    "zero": Zero,
    "ones": One,
    "one": One,
    "uniform": Uniform,
    "normal": Normal,
    "gaussian": Normal,
    "orthogonal": Orthogonal,
    "xavier": Xavier,
    "msraprelu": MSRAPrelu,
    "bilinear": Bilinear,
}


NAMES = frozenset(_ALIASES)
"""What ``create`` takes as text."""


def create(init: Any) -> Initializer:
    """An initialiser from itself, its name ("xavier"), its class, or a number (Constant).

    Raises:
        OptionError: the name is unknown or the object is no initialiser.
    """
    if isinstance(init, Initializer):
        return init
    if isinstance(init, type) and issubclass(init, Initializer):
        return init()
    if isinstance(init, str):
        found = _ALIASES.get(init.lower())
        if found is not None:
            return found()
        raise OptionError(f"Unknown initialiser {init!r}; expected one of {', '.join(sorted(_ALIASES))}.")
    if isinstance(init, (int, float)) and not isinstance(init, bool):
        return Constant(init)
    raise OptionError(f"Expected an initialiser of glueball.init or its name; received {init!r}.")


def initial_value(
    name: str, shape: Sequence[int], dtype: Any = "float32", *, own: Any = None, default: Any = None
) -> np.ndarray:
    """First values of a parameter: by its ``own`` initialiser if it has one, otherwise by the network's ``default``."""
    if own is not None:
        return create(own).sample_own(name, shape, dtype)
    return create(Uniform() if default is None else default).sample(name, shape, dtype)

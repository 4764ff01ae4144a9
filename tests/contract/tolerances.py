"""How far apart two computations may be, and why: the one table that all contract tests read.

A comparison passes where |found - expected| <= absolute + relative * |expected|. References are float64, backends
float32 (24 bits: 6e-8), so the bounds say how many roundings a result has gone through.
"""

from __future__ import annotations

from typing import NamedTuple


class Tolerance(NamedTuple):
    """Bounds of one kind of comparison."""

    relative: float
    absolute: float


EXACT = Tolerance(0.0, 0.0)
"""Moving, selecting, comparing and counting round nothing."""

ELEMENTWISE = Tolerance(2e-6, 2e-6)
"""A few roundings and a transcendental function of 2 to 4 units in the last place (vectorised exp, erf, pow)."""

ACCUMULATED = Tolerance(2e-5, 2e-5)
"""Sums of some hundred terms in another order: convolution, normalisation, products, pooling."""

GRADIENT = Tolerance(1e-4, 1e-4)
"""Backward passes: two or three accumulations, compared with central differences that are good to about 1e-7."""

BACKENDS = Tolerance(2e-4, 2e-5)
"""A small network of several layers on two libraries, whose kernels sum in different orders and block sizes."""

BACKENDS_GRADIENT = Tolerance(1e-3, 1e-4)
"""Its gradients: errors of the forward pass go in, and normalisation divides by small deviations."""

STATISTICS = Tolerance(2e-6, 1e-6)
"""Running mean and variance after a few steps: weighted means of sums over one batch."""

# Functions by the amount of rounding in them; what is not listed moves or compares values and must be exact.
FUNCTIONS: dict[str, Tolerance] = {
    **dict.fromkeys(
        [
            "Activation",
            "LeakyReLU",
            "sigmoid",
            "hard_sigmoid",
            "tanh",
            "softsign",
            "softmax",
            "log_softmax",
            "softmin",
            "smooth_l1",
            "exp",
            "expm1",
            "log",
            "log2",
            "log10",
            "log1p",
            "sqrt",
            "rsqrt",
            "cbrt",
            "square",
            "erf",
            "sin",
            "cos",
            "tan",
            "arctan",
            "reciprocal",
            "broadcast_add",
            "broadcast_plus",
            "broadcast_sub",
            "broadcast_minus",
            "broadcast_mul",
            "broadcast_div",
            "broadcast_mod",
            "broadcast_power",
            "broadcast_hypot",
            "elemwise_add",
            "elemwise_sub",
            "elemwise_mul",
            "elemwise_div",
            "add_n",
            "ElementWiseSum",
            "power",
            "SoftmaxOutput",
            "softmax_cross_entropy",
            "linspace",
            "contrib.div_sqrt_dim",
        ],
        ELEMENTWISE,
    ),
    **dict.fromkeys(
        [
            "Convolution",
            "Deconvolution",
            "FullyConnected",
            "Pooling",
            "BatchNorm",
            "LayerNorm",
            "GroupNorm",
            "InstanceNorm",
            "L2Normalization",
            "LRN",
            "sum",
            "mean",
            "prod",
            "norm",
            "dot",
            "batch_dot",
            "contrib.BilinearResize2D",
            "contrib.AdaptiveAvgPooling2D",
            "UpSampling",
        ],
        ACCUMULATED,
    ),
}


def of_function(name: str) -> Tolerance:
    """The bounds for the outputs of a function of the dialect."""
    return FUNCTIONS.get(name, EXACT)

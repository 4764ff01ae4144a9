"""Every optimiser on the selected backend against the NumPy reference, and the rules that decide what is trained.

The reference runs in float64 in every environment, so two backends that agree with it agree with each other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from glueball import backend as backends
from glueball.backend.base import OPTIMIZERS, OptimizerSpec, ParameterRule, StepOptions
from glueball.backend.optimizers import NumpyOptimizer, Treatment, ema_decay, resolve
from glueball.errors import OptionError

SHAPES = {"kernel_weight": (4, 2, 3, 3), "dense_weight": (5, 7), "bias": (6,), "frozen_weight": (3, 2)}

# Fifty float32 updates against float64 ones. Each rounds by up to 6e-8 of the largest weight; the factor of a decoupled
# decay, 1 − lr·wd, rounds the same way each time, which adds up to half of 50 · 6e-8.
TOLERANCE = 2e-6


@pytest.fixture
def backend() -> Any:
    return backends.current()


def make_network(backend: Any, shapes: dict[str, tuple[int, ...]] | None = None) -> Any:
    """A network whose loss is the product of its weights with its inputs, so that the inputs are the gradients."""
    shapes = shapes or SHAPES

    class Linear(backend.nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            for name, shape in shapes.items():
                setattr(self, name, self.params.get(name, shape=shape, init="zeros"))

        def hybrid_forward(self, F: Any, *gradients: Any, **weights: Any) -> Any:
            products = [F.sum(weights[name] * gradient) for name, gradient in zip(shapes, gradients, strict=True)]
            return F.add_n(*products)

    network = Linear()
    network.initialize()
    return network


def random_arrays(random: np.random.Generator, scale: float = 1.0) -> dict[str, np.ndarray]:
    return {name: (scale * random.normal(size=shape)).astype(np.float32) for name, shape in SHAPES.items()}


def schedule(name: str, step: int) -> float:
    """A learning rate of the size that each family is used with."""
    return _shape(step) * (0.1 if name in ("adam", "adamw", "rmsprop", "lamb") else 1.0)


def _shape(step: int) -> float:
    """Warm-up from zero, a jump, a drop and a zero in the middle: all that a momentum can stumble over."""
    if step < 10:
        return 0.02 * step
    if step == 30:
        return 0.0
    return 0.1 if step < 25 else 0.003


RULES = (
    ParameterRule(pattern="bias", wd_mult=0.0),
    ParameterRule(pattern="dense", lr_mult=0.5),
    ParameterRule(pattern="^frozen", trainable=False),
)
TREATMENTS = {
    "kernel_weight": Treatment(),
    "dense_weight": Treatment(lr_mult=0.5),
    "bias": Treatment(wd_mult=0.0),
    "frozen_weight": Treatment(trainable=False),
}


@pytest.mark.parametrize("momentum", [0.9, 0.0])
@pytest.mark.parametrize("clip_norm", [None, 5.0])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_fifty_updates_follow_the_formulas(backend: Any, name: str, clip_norm: float | None, momentum: float) -> None:
    random = np.random.default_rng(7)
    spec = OptimizerSpec(name=name, momentum=momentum, weight_decay=0.01, epsilon=1e-6, trust_coefficient=0.05)
    weights = random_arrays(random)
    network = make_network(backend)
    backend.set_arrays(network, weights)
    options = StepOptions(optimizer=spec, rules=RULES, clip_norm=clip_norm)
    step = backend.training_step(network, network, options, "cpu")
    reference = NumpyOptimizer(spec, dict(weights), TREATMENTS)
    for index in range(50):
        gradients = random_arrays(random, scale=0.3 + 0.1 * (index % 5))
        step([backend.array(gradients[weight]) for weight in SHAPES], schedule(name, index))
        reference.update(gradients, schedule(name, index), clip_norm)
    received = backend.get_arrays(network)
    for weight, expected in reference.weights.items():
        error = np.abs(received[weight] - expected).max() / np.abs(expected).max()
        assert error < TOLERANCE, f"{weight}: off by {error:.1e}"
    assert np.array_equal(received["frozen_weight"], weights["frozen_weight"])
    assert not np.array_equal(received["bias"], weights["bias"])


def test_reference_first_adam_step_is_the_learning_rate() -> None:
    # By hand: with zero moments both corrections cancel, and the step is lr·g/(|g| + ε).
    weights = {"weight": np.array([1.0, -2.0])}
    optimizer = NumpyOptimizer(OptimizerSpec(name="adam", epsilon=0.0), weights)
    optimizer.update({"weight": np.array([3.0, -0.1])}, 0.01)
    np.testing.assert_allclose(optimizer.weights["weight"], [0.99, -1.99], rtol=1e-12)


def test_reference_sgd_by_hand() -> None:
    optimizer = NumpyOptimizer(OptimizerSpec(name="sgd", momentum=0.5, weight_decay=0.1), {"weight": np.array([1.0])})
    optimizer.update({"weight": np.array([2.0])}, 0.1)  # g = 2.1, b = 2.1, w = 1 - 0.21
    np.testing.assert_allclose(optimizer.weights["weight"], [0.79])
    optimizer.update({"weight": np.array([0.0])}, 1.0)  # g = 0.079, b = 1.05 + 0.079, w = 0.79 - 1.129
    np.testing.assert_allclose(optimizer.weights["weight"], [-0.339])


def test_reference_lars_scales_by_the_norms() -> None:
    spec = OptimizerSpec(name="lars", momentum=0.0, trust_coefficient=0.1)
    optimizer = NumpyOptimizer(spec, {"weight": np.full((2, 2), 3.0), "bias": np.full(4, 3.0)})
    optimizer.update({"weight": np.full((2, 2), 5.0), "bias": np.full(4, 5.0)}, 1.0)
    np.testing.assert_allclose(optimizer.weights["weight"], 3.0 - 0.1 * 6 / 10 * 5)
    np.testing.assert_allclose(optimizer.weights["bias"], 3.0 - 5.0)


def test_rules_multiply_and_respect_the_parameters_own_multipliers(backend: Any) -> None:
    network = make_network(backend)
    parameters = backend.parameters(network)
    parameters["bias"].lr_mult = 3.0
    parameters["dense_weight"].grad_req = "null"
    rules = (
        ParameterRule(pattern="weight|bias", lr_mult=2.0, wd_mult=0.5),
        ParameterRule(pattern="bias$", lr_mult=0.1, wd_mult=0.0),
    )
    treatments = resolve(parameters, rules)
    assert treatments["bias"].lr_mult == pytest.approx(0.6)
    assert treatments["bias"].wd_mult == 0.0
    assert treatments["kernel_weight"] == Treatment(lr_mult=2.0, wd_mult=0.5)
    assert not treatments["dense_weight"].trainable


def test_a_freezing_rule_that_matches_nothing_is_an_error(backend: Any) -> None:
    parameters = backend.parameters(make_network(backend))
    with pytest.raises(OptionError, match=r"'featuers'.*matches none.*kernel_weight"):
        resolve(parameters, (ParameterRule(pattern="featuers", trainable=False),))


def test_a_broken_pattern_is_named(backend: Any) -> None:
    parameters = backend.parameters(make_network(backend))
    with pytest.raises(OptionError, match=r"no regular expression: '\(bias'"):
        resolve(parameters, (ParameterRule(pattern="(bias", wd_mult=0.0),))


def test_freezing_everything_is_an_error(backend: Any) -> None:
    parameters = backend.parameters(make_network(backend))
    with pytest.raises(OptionError, match="Nothing is left to train"):
        resolve(parameters, (ParameterRule(pattern="", trainable=False),))


def test_a_second_phase_thaws_what_the_first_froze(backend: Any) -> None:
    network = make_network(backend)
    first = StepOptions(rules=(ParameterRule(pattern="dense", trainable=False),))
    backend.training_step(network, network, first, "cpu")
    treatments = resolve(backend.parameters(network), ())
    assert all(treatment.trainable for treatment in treatments.values())


def test_what_the_user_froze_stays_frozen(backend: Any) -> None:
    network = make_network(backend)
    backend.parameters(network)["dense_weight"].grad_req = "null"
    for _ in range(2):
        backend.training_step(network, network, StepOptions(), "cpu")
    assert not resolve(backend.parameters(network), ())["dense_weight"].trainable


def test_average_warms_up() -> None:
    assert ema_decay(0.9999, 1) == pytest.approx(2 / 11)
    assert ema_decay(0.9, 1000) == 0.9

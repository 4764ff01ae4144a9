r"""What one update does to the weights: the formulas, held by both backends and by the NumPy reference below.

Notation: ``w`` a weight, ``g`` its gradient (mean over the micro-batches of an accumulation, loss scale divided out,
clipped by the global norm), ``lr`` the learning rate of the step times the weight's multiplier, ``wd`` the weight decay
times the weight's multiplier, ``t`` the number of this update, from 1. All moments start at zero.

sgd (arXiv:1706.02677, remark 3: the learning rate is not part of the momentum, so a changed one acts at once)
    g ← g + wd·w;  b ← momentum·b + g;  w ← w − lr·b

nag (Nesterov's momentum in the form of Sutskever et al., ICML 2013)
    g ← g + wd·w;  b ← momentum·b + g;  w ← w − lr·(g + momentum·b)

adam (arXiv:1412.6980; epsilon is added after the bias correction, as in algorithm 1 of the paper)
    g ← g + wd·w;  m ← β1·m + (1−β1)·g;  v ← β2·v + (1−β2)·g²
    w ← w − lr · (m/(1−β1ᵗ)) / (√(v/(1−β2ᵗ)) + ε)

adamw (arXiv:1711.05101; decay decoupled from the gradient and proportional to the learning rate)
    m, v as in adam with the plain g;  w ← w·(1 − lr·wd) − lr · (m/(1−β1ᵗ)) / (√(v/(1−β2ᵗ)) + ε)

rmsprop (Tieleman and Hinton, 2012; no momentum)
    g ← g + wd·w;  v ← ρ·v + (1−ρ)·g²;  w ← w − lr·g / (√v + ε)

lamb (arXiv:1904.00962, φ the identity; decoupled decay inside the trust ratio)
    m, v as in adam with the plain g;  u = (m/(1−β1ᵗ)) / (√(v/(1−β2ᵗ)) + ε) + wd·w
    r = ‖w‖/‖u‖, or 1 where either norm is 0;  w ← w − lr·r·u

lars (arXiv:1708.03888, with the momentum of sgd above)
    r = trust·‖w‖ / (‖g‖ + wd·‖w‖), or 1 where ‖w‖ or ‖g‖ is 0 and for weights of fewer than two axes (biases and the
    parameters of normalisation, whose norms say nothing about a layer's scale)
    b ← momentum·b + r·(g + wd·w);  w ← w − lr·b

The average of the weights after update t, for ``ema_decay`` = d: e ← dₜ·e + (1−dₜ)·w with dₜ = min(d, (1+t)/(10+t)),
so that the first values, far from where training ends, are soon forgotten. Running statistics are averaged likewise.

A parameter that is frozen, or that the graph does not use, is neither updated nor decayed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs
import numpy as np

from glueball.backend.base import OptimizerSpec, ParameterRule
from glueball.errors import CheckpointError, OptionError

STATE_NAMES: Mapping[str, tuple[str, ...]] = {
    "sgd": ("momentum",),
    "nag": ("momentum",),
    "adam": ("mean", "variance"),
    "adamw": ("mean", "variance"),
    "rmsprop": ("variance",),
    "lamb": ("mean", "variance"),
    "lars": ("momentum",),
}
"""The moments that each optimiser keeps for a weight, under the names that checkpoints use."""


def moments(spec: OptimizerSpec) -> tuple[str, ...]:
    """The moments that this optimiser needs; plain gradient descent needs none."""
    names = STATE_NAMES[spec.name]
    return () if names == ("momentum",) and spec.momentum == 0 else names


@attrs.frozen(kw_only=True)
class Treatment:
    """How one parameter is trained, all rules applied."""

    lr_mult: float = 1.0
    wd_mult: float = 1.0
    trainable: bool = True


def resolve(parameters: Mapping[str, Any], rules: Iterable[ParameterRule]) -> dict[str, Treatment]:
    """Structural name -> treatment, from the rules and each parameter's own ``lr_mult``, ``wd_mult``, ``grad_req``.

    A parameter that has two names (shared weights) is listed under its first; a rule that matches any of them applies.

    Raises:
        OptionError: a pattern is no regular expression; a freezing rule matches nothing, so what should be frozen
            would be trained; or no parameter is left to train.
    """
    names: dict[int, list[str]] = {}
    for name, parameter in parameters.items():
        names.setdefault(id(_identity(parameter)), []).append(name)
    compiled = []
    for rule in rules:
        try:
            expression = re.compile(rule.pattern)
        except re.error as error:
            raise OptionError(
                f"The pattern of a parameter rule is no regular expression: {rule.pattern!r}: {error}."
            ) from error
        if not rule.trainable and not any(expression.search(name) for name in parameters):
            examples = ", ".join(list(parameters)[:3])
            raise OptionError(
                f"The rule that freezes {rule.pattern!r} matches none of the {len(parameters)} parameters. Patterns "
                f"are searched in structural names such as {examples}."
            )
        compiled.append((rule, expression))
    treatments: dict[str, Treatment] = {}
    for aliases in names.values():
        parameter = parameters[aliases[0]]
        lr_mult = float(getattr(parameter, "lr_mult", 1.0))
        wd_mult = float(getattr(parameter, "wd_mult", 1.0))
        trainable = _user_grad_req(parameter) != "null"
        for rule, expression in compiled:
            if any(expression.search(name) for name in aliases):
                lr_mult *= rule.lr_mult
                wd_mult *= rule.wd_mult
                trainable = trainable and rule.trainable
        treatments[aliases[0]] = Treatment(lr_mult=lr_mult, wd_mult=wd_mult, trainable=trainable)
    if not any(treatment.trainable for treatment in treatments.values()):
        raise OptionError(
            f"Nothing is left to train: all {len(treatments)} parameters are frozen, by the rules "
            f"{[rule.pattern for rule in rules if not rule.trainable]} or by their grad_req."
        )
    return treatments


def assign_grad_req(parameter: Any, grad_req: str) -> None:
    """Sets a parameter's ``grad_req`` for a training step, remembering what the user had set.

    A later step starts again from the user's word, so that a second phase of training can thaw what the first froze.
    """
    original = _user_grad_req(parameter)
    if parameter.grad_req != grad_req:
        parameter.grad_req = grad_req
    _identity(parameter).glueball_grad_req = (original, str(parameter.grad_req))


def _user_grad_req(parameter: Any) -> str:
    original, assigned = getattr(_identity(parameter), "glueball_grad_req", (None, None))
    if original is not None and parameter.grad_req == assigned:
        return str(original)
    return str(parameter.grad_req)


def _identity(parameter: Any) -> Any:
    """What two names of one parameter share: its tensor where the parameter is a handle on one, else itself."""
    return getattr(parameter, "tensor", parameter)


def ema_decay(decay: float, update: int) -> float:
    """The decay of the average at update ``update`` (from 1)."""
    return min(decay, (1 + update) / (10 + update))


def check_state(expected: Mapping[str, tuple[int, ...]], state: Mapping[str, np.ndarray]) -> None:
    """Compares a state with the shapes that a step expects.

    Raises:
        CheckpointError: an entry is missing, unknown or of another shape; all are named.
    """
    missing = [name for name in expected if name not in state]
    unknown = [name for name in state if name not in expected]
    misshapen = [
        f"{name}: expected {tuple(shape)}, received {tuple(np.shape(state[name]))}"
        for name, shape in expected.items()
        if name in state and tuple(np.shape(state[name])) != tuple(shape)
    ]
    problems = [
        f"{title} ({len(entries)}): {', '.join(entries)}"
        for title, entries in (("missing", missing), ("unknown", unknown), ("of another shape", misshapen))
        if entries
    ]
    if problems:
        raise CheckpointError(
            "The state of the training step does not fit this network and these options. "
            + "; ".join(problems)
            + ". Resume with the model, optimiser and options that the checkpoint was written with."
        )


class NumpyOptimizer:
    """The formulas above in float64: the reference that both backends are tested against.

    ``weights`` is changed in place by ``update``; the keys of ``treatments`` say what is trained.
    """

    def __init__(
        self, spec: OptimizerSpec, weights: dict[str, np.ndarray], treatments: Mapping[str, Treatment] | None = None
    ) -> None:
        self.spec = spec
        self.weights = weights
        self.treatments = treatments or {name: Treatment() for name in weights}
        self.state = {
            name: {moment: np.zeros(np.shape(weights[name])) for moment in STATE_NAMES[spec.name]}
            for name, treatment in self.treatments.items()
            if treatment.trainable
        }
        self.updates = 0

    def update(self, gradients: Mapping[str, np.ndarray], learning_rate: float, clip_norm: float | None = None) -> None:
        """One update of every trainable weight."""
        self.updates += 1
        scale = 1.0
        if clip_norm is not None:
            squares = (float(np.sum(np.square(gradients[name], dtype=np.float64))) for name in self.state)
            norm = math.sqrt(sum(squares))
            scale = min(1.0, clip_norm / norm) if norm > 0 else 1.0
        for name in self.state:
            treatment = self.treatments[name]
            self.weights[name] = self._updated(
                self.weights[name].astype(np.float64),
                gradients[name].astype(np.float64) * scale,
                self.state[name],
                learning_rate * treatment.lr_mult,
                self.spec.weight_decay * treatment.wd_mult,
            )

    def _updated(self, w: np.ndarray, g: np.ndarray, state: dict[str, np.ndarray], lr: float, wd: float) -> np.ndarray:
        spec, t = self.spec, self.updates
        if spec.name in ("sgd", "nag"):
            g = g + wd * w
            state["momentum"] = b = spec.momentum * state["momentum"] + g
            return w - lr * (g + spec.momentum * b if spec.name == "nag" else b)
        if spec.name == "lars":
            weight_norm, gradient_norm = float(np.linalg.norm(w)), float(np.linalg.norm(g))
            ratio = 1.0
            if w.ndim > 1 and weight_norm > 0 and gradient_norm > 0:
                ratio = spec.trust_coefficient * weight_norm / (gradient_norm + wd * weight_norm)
            state["momentum"] = spec.momentum * state["momentum"] + ratio * (g + wd * w)
            return w - lr * state["momentum"]
        if spec.name == "rmsprop":
            g = g + wd * w
            state["variance"] = spec.rho * state["variance"] + (1 - spec.rho) * g**2
            return w - lr * g / (np.sqrt(state["variance"]) + spec.epsilon)
        if spec.name == "adam":
            g = g + wd * w
        state["mean"] = spec.beta1 * state["mean"] + (1 - spec.beta1) * g
        state["variance"] = spec.beta2 * state["variance"] + (1 - spec.beta2) * g**2
        mean = state["mean"] / (1 - spec.beta1**t)
        variance = state["variance"] / (1 - spec.beta2**t)
        direction = mean / (np.sqrt(variance) + spec.epsilon)
        if spec.name == "adam":
            return w - lr * direction
        if spec.name == "adamw":
            return w * (1 - lr * wd) - lr * direction
        direction = direction + wd * w
        weight_norm, direction_norm = float(np.linalg.norm(w)), float(np.linalg.norm(direction))
        ratio = weight_norm / direction_norm if weight_norm > 0 and direction_norm > 0 else 1.0
        return w - lr * ratio * direction

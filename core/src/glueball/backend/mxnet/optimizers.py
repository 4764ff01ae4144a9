"""The formulas of ``glueball.backend.optimizers`` on MXNet's fused kernels.

Where a kernel's formula differs from ours, its coefficients are chosen so that both agree:

- ``multi_sgd_mom_update`` keeps ``−lr·b`` in place of ``b``. With the momentum times ``lrₜ/lrₜ₋₁`` it follows a
  changing learning rate exactly. At ``lr = 0`` that would lose ``b``: the kernel then runs with the last rate and the
  weights are put back.
- ``adam_update`` adds epsilon before the bias correction; epsilon times ``√(1−β₂ᵗ)`` makes up for it.
- ``nag_mom_update`` decays the momentum with the weight that it has just written; the decay is added to the gradient
  before.
- ``rmsprop_update`` has epsilon under the root; ``adam_update`` with ``β₁ = 0`` is the formula with epsilon outside.

Moments lie in one flat array for each kind, which scales, saves and loads in one operation; kernels get views of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mxnet as mx
import numpy as np

from glueball.backend.base import OptimizerSpec
from glueball.backend.optimizers import Treatment, moments

# The multi-tensor kernels take up to 60 arrays of a kind.
_CHUNK = 45

# Views begin at multiples of this many elements: 64 bytes, a cache line and what vectorised kernels want.
_ALIGNMENT = 16


class FlatState:
    """Float32 arrays of the weights' shapes that share one buffer."""

    def __init__(self, shapes: Sequence[tuple[int, ...]], context: Any) -> None:
        offsets, total = [], 0
        for shape in shapes:
            offsets.append(total)
            size = math.prod(shape)
            total += -(-size // _ALIGNMENT) * _ALIGNMENT
        self.buffer = mx.nd.zeros((max(total, 1),), ctx=context, dtype="float32")
        self.views = [
            self.buffer[offset : offset + math.prod(shape)].reshape(shape)
            for offset, shape in zip(offsets, shapes, strict=True)
        ]


class MXNetOptimizer:
    """Updates one list of weights in place; ``names``, ``weights`` and ``gradients`` run in parallel."""

    def __init__(
        self,
        spec: OptimizerSpec,
        names: Sequence[str],
        weights: Sequence[Any],
        gradients: Sequence[Any],
        treatments: Mapping[str, Treatment],
    ) -> None:
        self.spec = spec
        self.names = list(names)
        self._weights = list(weights)
        self._gradients = list(gradients)
        self._context = weights[0].ctx
        self._lr_mults = [treatments[name].lr_mult for name in names]
        self._decays = [spec.weight_decay * treatments[name].wd_mult for name in names]
        shapes = [tuple(weight.shape) for weight in weights]
        self.state = {moment: FlatState(shapes, self._context) for moment in moments(spec)}
        # What the momentum buffer is multiplied by: minus the learning rate of the last update that had one.
        self.momentum_scale = 1.0
        self._scratch = FlatState(shapes, self._context) if spec.name == "rmsprop" else None
        if spec.name == "lars":
            self._decay_array = mx.nd.array(self._decays, ctx=self._context)
            self._adapted = mx.nd.array([float(len(shape) > 1) for shape in shapes], ctx=self._context)

    def update(self, indices: Sequence[int], learning_rate: float, factor: float, count: int) -> None:
        """Update number ``count`` (from 1) of the weights ``indices``; gradients are multiplied by ``factor`` first."""
        if not indices:
            return
        name = self.spec.name
        if name in ("sgd", "nag", "lars"):
            # Below this a rate is zero for float32 weights, and dividing by it would overflow.
            if learning_rate < 1e-20 and self.state:
                kept = [self._weights[index].copy() for index in indices]
                self._momentum_update(indices, self.momentum_scale, factor)
                for index, weight in zip(indices, kept, strict=True):
                    weight.copyto(self._weights[index])
            else:
                self._momentum_update(indices, learning_rate, factor)
        elif name == "lamb":
            self._lamb(indices, learning_rate, factor, count)
        elif name == "adamw":
            self._adamw(indices, learning_rate, factor, count)
        else:
            self._adam(indices, learning_rate, factor, count)

    def _momentum_update(self, indices: Sequence[int], learning_rate: float, factor: float) -> None:
        spec = self.spec
        if not self.state:
            if spec.name == "lars":
                self._lars(indices, learning_rate, factor, 0.0)
            else:
                # Without momentum nag is sgd.
                for chunk in _chunks(indices):
                    self._sgd_kernel(mx.nd.multi_sgd_update, chunk, (), learning_rate, factor)
            return
        change = learning_rate / self.momentum_scale
        self.momentum_scale = learning_rate
        if spec.name == "sgd":
            views = self.state["momentum"].views
            for chunk in _chunks(indices):
                momentum = spec.momentum * change
                self._sgd_kernel(mx.nd.multi_sgd_mom_update, chunk, (views,), learning_rate, factor, momentum=momentum)
        elif spec.name == "nag":
            # The kernel uses the momentum twice, and the look-ahead must not be corrected: scale the buffer instead.
            momentum_state = self.state["momentum"]
            if change != 1.0:
                momentum_state.buffer *= change
            self._decay_gradients(indices, factor)
            for index in indices:
                mx.nd.nag_mom_update(
                    self._weights[index],
                    self._gradients[index],
                    momentum_state.views[index],
                    lr=learning_rate * self._lr_mults[index],
                    momentum=spec.momentum,
                    wd=0.0,
                    rescale_grad=factor,
                    out=self._weights[index],
                )
        else:
            self._lars(indices, learning_rate, factor, spec.momentum * change)

    def _decay_gradients(self, indices: Sequence[int], factor: float) -> None:
        """g ← g + (wd/factor)·w, as g − lr·w with lr = −wd/factor in the kernel of plain gradient descent."""
        decayed = [index for index in indices if self._decays[index]]
        for chunk in _chunks(decayed):
            gradients = [self._gradients[index] for index in chunk]
            mx.nd.multi_sgd_update(
                *(array for index in chunk for array in (self._gradients[index], self._weights[index])),
                lrs=tuple(-self._decays[index] / factor for index in chunk),
                wds=(0.0,) * len(chunk),
                num_weights=len(chunk),
                out=gradients,
            )

    def _sgd_kernel(
        self,
        kernel: Any,
        chunk: Sequence[int],
        states: Sequence[Sequence[Any]],
        learning_rate: float,
        factor: float,
        **attributes: float,
    ) -> None:
        kernel(
            *(array for index in chunk for array in self._arrays(index, states)),
            lrs=tuple(learning_rate * self._lr_mults[index] for index in chunk),
            wds=tuple(self._decays[index] for index in chunk),
            rescale_grad=factor,
            num_weights=len(chunk),
            out=[self._weights[index] for index in chunk],
            **attributes,
        )

    def _arrays(self, index: int, states: Sequence[Sequence[Any]]) -> tuple[Any, ...]:
        return (self._weights[index], self._gradients[index], *(state[index] for state in states))

    def _lars(self, indices: Sequence[int], learning_rate: float, factor: float, momentum: float) -> None:
        weights = [self._weights[index] for index in indices]
        gradients = [self._gradients[index] for index in indices]
        selected = mx.nd.array(list(indices), ctx=self._context, dtype="int32")
        plain = mx.nd.array([learning_rate * self._lr_mults[index] for index in indices], ctx=self._context)
        decays = mx.nd.take(self._decay_array, selected)
        adapted = mx.nd.multi_lars(
            plain,
            mx.nd.multi_sum_sq(*weights, num_arrays=len(weights)),
            mx.nd.multi_sum_sq(*gradients, num_arrays=len(gradients)),
            decays,
            eta=self.spec.trust_coefficient,
            eps=0.0,
            rescale_grad=factor,
        )
        rates = mx.nd.where(mx.nd.take(self._adapted, selected), adapted, plain)
        kernel = mx.nd.preloaded_multi_sgd_mom_update if self.state else mx.nd.preloaded_multi_sgd_update
        states = (self.state["momentum"].views,) if self.state else ()
        attributes = {"momentum": momentum} if self.state else {}
        for start in range(0, len(indices), _CHUNK):
            chunk = indices[start : start + _CHUNK]
            kernel(
                *(array for index in chunk for array in self._arrays(index, states)),
                rates[start : start + len(chunk)],
                decays[start : start + len(chunk)],
                rescale_grad=factor,
                num_weights=len(chunk),
                out=[self._weights[index] for index in chunk],
                **attributes,
            )

    def _adam(self, indices: Sequence[int], learning_rate: float, factor: float, count: int) -> None:
        spec = self.spec
        if spec.name == "rmsprop":
            assert self._scratch is not None
            beta1, beta2, step, epsilon = 0.0, spec.rho, 1.0, spec.epsilon
            means = self._scratch.views
        else:
            beta1, beta2 = spec.beta1, spec.beta2
            step, epsilon = self._bias_correction(count)
            means = self.state["mean"].views
        variances = self.state["variance"].views
        for index in indices:
            mx.nd.adam_update(
                self._weights[index],
                self._gradients[index],
                means[index],
                variances[index],
                lr=learning_rate * self._lr_mults[index] * step,
                beta1=beta1,
                beta2=beta2,
                epsilon=epsilon,
                wd=self._decays[index],
                rescale_grad=factor,
                lazy_update=False,
                out=self._weights[index],
            )

    def _adamw(self, indices: Sequence[int], learning_rate: float, factor: float, count: int) -> None:
        spec = self.spec
        step, epsilon = self._bias_correction(count)
        means, variances = self.state["mean"].views, self.state["variance"].views
        # One call for each weight: multi_adamw_update forms β·(v − g²) + g², which cancels digits while v is small.
        rescale = mx.nd.array([factor], ctx=self._context)
        for index in indices:
            mx.nd.contrib.adamw_update(
                self._weights[index],
                self._gradients[index],
                means[index],
                variances[index],
                rescale,
                lr=step,
                eta=learning_rate * self._lr_mults[index],
                wd=self._decays[index],
                beta1=spec.beta1,
                beta2=spec.beta2,
                epsilon=epsilon,
                out=self._weights[index],
            )

    def _bias_correction(self, count: int) -> tuple[float, float]:
        """(factor of the step, epsilon) for kernels that know no bias correction."""
        # The kernels hold the betas in float32, so their corrections must come from the same numbers.
        first = 1.0 - float(np.float32(self.spec.beta1)) ** count
        second = 1.0 - float(np.float32(self.spec.beta2)) ** count
        return math.sqrt(second) / first, self.spec.epsilon * math.sqrt(second)

    def _lamb(self, indices: Sequence[int], learning_rate: float, factor: float, count: int) -> None:
        spec = self.spec
        means, variances = self.state["mean"].views, self.state["variance"].views
        for index in indices:
            weight = self._weights[index]
            direction = mx.nd.lamb_update_phase1(
                weight,
                self._gradients[index],
                means[index],
                variances[index],
                beta1=spec.beta1,
                beta2=spec.beta2,
                epsilon=spec.epsilon,
                t=count,
                bias_correction=True,
                wd=self._decays[index],
                rescale_grad=factor,
            )
            mx.nd.lamb_update_phase2(
                weight,
                direction,
                mx.nd.norm(weight),
                mx.nd.norm(direction),
                lr=learning_rate * self._lr_mults[index],
                out=weight,
            )


def average_into(averages: Sequence[Any], weights: Sequence[Any], decay: float, token: Any) -> None:
    """averages ← decay·averages + (1−decay)·weights, in fused kernels that begin when ``token`` is known.

    ``multi_sgd_update`` computes a − lr·(g + wd·a): with g the weights, wd = −1 and lr = decay − 1 that is the average.
    """
    for start in range(0, len(averages), _CHUNK):
        chunk = [*averages[start : start + _CHUNK], mx.nd.zeros_like(token)]
        pairs = zip(chunk, [*weights[start : start + _CHUNK], token], strict=True)
        mx.nd.multi_sgd_update(
            *(array for pair in pairs for array in pair),
            lrs=(decay - 1.0,) * len(chunk),
            wds=(-1.0,) * len(chunk),
            num_weights=len(chunk),
            out=chunk,
        )


def _chunks(indices: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(indices), _CHUNK):
        yield indices[start : start + _CHUNK]

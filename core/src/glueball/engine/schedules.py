"""The learning rate at any step, as a function of the step number alone: a resumed run needs no state for it.

Steps are updates of the weights, counted from 0. During warm-up the rate rises in a line and is never 0: a first step
with rate 0 would be wasted, and optimisers that divide by the rate would fail (arXiv:1706.02677, section 2.2).
"""

from __future__ import annotations

import math

import attrs
from attrs.validators import ge, gt, in_, le

SCHEDULES = ("constant", "linear", "cosine", "poly", "step")


@attrs.frozen(kw_only=True)
class ScheduleSpec:
    """How the learning rate changes. Times are in epochs, fractions allowed; rates are shares of the recipe's rate."""

    name: str = attrs.field(default="cosine", validator=in_(SCHEDULES))
    warmup: float = attrs.field(default=0.0, validator=ge(0.0))
    """Epochs of linear warm-up before the schedule begins."""
    warmup_start: float = attrs.field(default=0.0, validator=[ge(0.0), le(1.0)])
    final: float = attrs.field(default=0.0, validator=[ge(0.0), le(1.0)])
    """Where linear, cosine and poly end (reached one step after the last)."""
    power: float = attrs.field(default=2.0, validator=gt(0.0))
    """Exponent of poly."""
    milestones: tuple[float, ...] = ()
    """Epochs after which "step" multiplies the rate by ``factor``."""
    factor: float = attrs.field(default=0.1, validator=gt(0.0))


@attrs.frozen
class Schedule:
    """``schedule(step)`` is the learning rate of that update."""

    spec: ScheduleSpec
    learning_rate: float
    total_steps: int
    steps_per_epoch: int

    def __call__(self, step: int) -> float:
        """The learning rate of update number ``step``; steps beyond the last keep the final rate."""
        warmup_steps = round(self.spec.warmup * self.steps_per_epoch)
        if step < warmup_steps:
            start = self.spec.warmup_start
            return self.learning_rate * (start + (1.0 - start) * (step + 1) / warmup_steps)
        if self.spec.name == "step":
            passed = sum(step >= round(milestone * self.steps_per_epoch) for milestone in self.spec.milestones)
            return self.learning_rate * self.spec.factor**passed
        progress = min(1.0, (step - warmup_steps) / max(1, self.total_steps - warmup_steps))
        return self.learning_rate * (self.spec.final + (1.0 - self.spec.final) * self._shape(progress))

    def _shape(self, progress: float) -> float:
        """From 1 at the beginning to 0 at the end."""
        if self.spec.name == "constant":
            return 1.0
        if self.spec.name == "linear":
            return 1.0 - progress
        if self.spec.name == "cosine":  # arXiv:1608.03983 without restarts
            return 0.5 * (1.0 + math.cos(math.pi * progress))
        return float((1.0 - progress) ** self.spec.power)

"""What a training run is: one frozen object that names every choice.

A recipe is plain Python, a function that returns a ``Recipe``; there is no inheritance between recipes and no config
language. Everything in it has a JSON form, so a run writes it down as ``recipe.json`` and can be repeated from it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
from attrs.validators import ge, gt, in_, instance_of, le, optional

from glueball.backend.base import PRECISIONS, OptimizerSpec, ParameterRule
from glueball.engine import specification
from glueball.engine.schedules import ScheduleSpec
from glueball.errors import OptionError

NO_DECAY_PATTERN = r"(^|[._])(bias|gamma|beta)$"
"""Biases, and the scales and shifts of normalisation, which gain nothing from decay (arXiv:1812.01187, section 3.1)."""

ALIASES: Mapping[str, str] = {
    "optimizer.lr": "learning_rate",
    "optimizer.learning_rate": "learning_rate",
    "lr": "learning_rate",
}
"""Other spellings that ``Recipe.override`` takes: people look for the learning rate in the optimiser."""


@attrs.frozen(kw_only=True)
class Component:
    """Something of the catalogue and the options to build it with."""

    name: str
    options: Mapping[str, Any] = attrs.field(factory=dict)


@attrs.frozen(kw_only=True)
class ModelSpec:
    """Which network is trained and where its first weights come from."""

    name: str
    options: Mapping[str, Any] = attrs.field(factory=dict)
    classes: int | None = None
    """None takes the number of classes of the training data."""
    pretrained: bool | str = False
    """True, a tag, or the path of a weight file; a head for another number of classes is replaced."""


@attrs.frozen(kw_only=True)
class DataSpec:
    """The data sets of a run. What their samples mean (class folders, boxes, sentence pairs) is the task's matter."""

    train: Component
    validation: Component | None = None
    """What is measured after each epoch."""
    test: Component | None = None
    """What ``evaluate`` measures; None takes ``validation``."""


@attrs.frozen(kw_only=True)
class TransformSpec:
    """What happens to a sample on its way into a batch, step by step."""

    train: tuple[Component, ...] = ()
    evaluation: tuple[Component, ...] = ()


@attrs.frozen(kw_only=True)
class DistillationSpec:
    """A second, trained network whose softened answers are learned too (arXiv:1503.02531)."""

    teacher: str
    options: Mapping[str, Any] = attrs.field(factory=dict)
    pretrained: bool | str = True
    temperature: float = attrs.field(default=20.0, validator=gt(0.0))
    hard_weight: float = attrs.field(default=0.5, validator=[ge(0.0), le(1.0)])
    """Share of the loss against the true labels; the rest is against the teacher's answers."""


NAN_POLICIES = ("raise", "skip", "stop")


@attrs.frozen(kw_only=True)
class Recipe:
    """Everything that decides what a training run computes."""

    # What is learned, from what.
    name: str
    task: str
    model: ModelSpec
    data: DataSpec
    transforms: TransformSpec = attrs.field(factory=TransformSpec)
    loss: Component | None = None
    """None takes the task's usual loss."""
    metrics: tuple[Component, ...] = ()
    """Measured on training and validation data; empty takes the task's usual ones."""

    # How the weights change.
    optimizer: OptimizerSpec = attrs.field(factory=OptimizerSpec)
    learning_rate: float = attrs.field(default=0.1, validator=gt(0.0))
    schedule: ScheduleSpec = attrs.field(factory=ScheduleSpec)
    epochs: int = attrs.field(default=10, validator=ge(1))
    batch_size: int = attrs.field(default=128, validator=ge(1))
    accumulate: int = attrs.field(default=1, validator=ge(1))
    """Batches whose gradients are averaged before one update."""
    clip_norm: float | None = attrs.field(default=None, validator=optional(gt(0.0)))
    ema_decay: float | None = attrs.field(default=None, validator=optional([gt(0.0), le(1.0)]))
    no_decay: bool = False
    """No weight decay on biases and on the scales and shifts of normalisation."""
    rules: tuple[ParameterRule, ...] = ()
    """Multipliers and frozen parameters by pattern of the structural name."""
    precision: str = attrs.field(default="auto", validator=in_(("auto", *PRECISIONS)))
    """"auto" computes in bfloat16 where the device gains by it, otherwise in float32."""

    # Regularisation.
    label_smoothing: float = attrs.field(default=0.0, validator=[ge(0.0), le(0.99)])
    mixup: float = attrs.field(default=0.0, validator=ge(0.0))
    """The alpha of the Beta distribution that mixing weights are drawn from (arXiv:1710.09412); 0 mixes nothing."""
    cutmix: float = attrs.field(default=0.0, validator=ge(0.0))
    """The same for pasted rectangles (arXiv:1905.04899). With mixup, each batch draws one of the two."""
    mixing_stops_before: int = attrs.field(default=0, validator=ge(0))
    """Number of last epochs without mixup and cutmix."""
    distillation: DistillationSpec | None = None

    # Several processes.
    sync_batch_norm: bool = True
    """Batch normalisation over the samples of all processes, as one process with the whole batch computes it."""

    # The run.
    seed: int = attrs.field(default=0, validator=[ge(0), instance_of(int)])
    workers: int = attrs.field(default=0, validator=ge(0))
    worker_type: str = attrs.field(default="thread", validator=in_(("thread", "process")))
    loader_timeout: float = attrs.field(default=300.0, validator=gt(0.0))
    """Seconds that one batch may take to be made before its worker is taken to hang."""
    last_batch: str = attrs.field(default="discard", validator=in_(("discard", "keep")))
    """What happens to the smaller batch at the end of a training epoch."""
    on_bad_sample: str = attrs.field(default="raise", validator=in_(("raise", "skip")))
    monitor: str = ""
    """The validation metric that decides which weights are best; empty takes the task's first metric."""
    patience: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """Stop after this many epochs without a better monitored metric."""
    validate_every: int = attrs.field(default=1, validator=ge(1))
    """Epochs between validations; the last epoch is always validated."""
    log_every: int = attrs.field(default=50, validator=ge(1))
    """Steps between two reads of loss and metrics from the device."""
    checkpoint_every: int | None = attrs.field(default=None, validator=optional(ge(1)))
    """Steps between checkpoints within an epoch, besides the one after each epoch."""
    keep_checkpoints: int = attrs.field(default=2, validator=ge(1))
    nan_policy: str = attrs.field(default="raise", validator=in_(NAN_POLICIES))
    """When a loss or weight is not finite: "raise" with the batch saved, "skip" the batch that did it, or "stop"."""
    on_out_of_memory: str = attrs.field(default="raise", validator=in_(("raise", "halve")))
    """When memory runs out: "raise" with what would need less, or "halve" what is computed at once, and sum the
    gradients: batches and updates stay what they are, but batch normalisation sees the parts. "halve" costs a copy of
    the running statistics each step, and works in runs of one process; with several, memory that runs out is an error.
    """
    options: Mapping[str, Any] = attrs.field(factory=dict)
    """Options of the task that no other task knows."""

    def override(self, assignments: Mapping[str, str]) -> Recipe:
        """A copy with the fields at dotted paths set from text, as ``--set learning_rate=0.2`` gives them.

        Raises:
            OptionError: there is no such field (near names are shown), or the text does not fit its type.
        """
        recipe = self
        for path, text in assignments.items():
            recipe = specification.override(recipe, ALIASES.get(path, path), text)
        return recipe

    def to_dict(self) -> dict[str, Any]:
        """The recipe in terms that JSON knows."""
        plain: dict[str, Any] = specification.to_plain(self)
        return plain

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Recipe:
        """The inverse of ``to_dict``.

        Raises:
            OptionError: a field is unknown or has a value that does not fit, for instance after a hand edit.
        """
        return specification.from_plain(cls, data)

    def parameter_rules(self) -> tuple[ParameterRule, ...]:
        """The rules that the optimiser follows, the one of ``no_decay`` included."""
        decay = (ParameterRule(pattern=NO_DECAY_PATTERN, wd_mult=0.0),) if self.no_decay else ()
        return (*decay, *self.rules)


def parse_assignment(text: str) -> tuple[str, str]:
    """Splits the ``key=value`` of ``--set``.

    Raises:
        OptionError: there is no equals sign.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise OptionError(f"--set takes key=value, such as --set learning_rate=0.05. Received: {text!r}.")
    return key.strip(), value

"""Losses of classifiers, in the dialect: they run, compile and export on either backend.

Each maps scores (batch, classes), before any softmax, to one loss per sample, (batch,). They are computed in float32
whatever the network computes in: the logarithm of a sum of exponentials needs the range.
"""

from __future__ import annotations

from typing import Any

from glueball import nn
from glueball.errors import OptionError


def _checked_share(value: float, name: str) -> float:
    if not 0.0 <= value <= 1.0:
        raise OptionError(f"Expected {name} from 0 to 1. Received: {value!r}.")
    return float(value)


class SoftmaxCrossEntropy(nn.HybridBlock):
    """The cross entropy of the softmax of the scores and the labels.

    Args:
        sparse_label: labels are class numbers (batch,); otherwise soft labels (batch, classes) that sum to one, as
            mixup, cutmix and a teacher make them.
        label_smoothing: the share of every label that is spread evenly over all classes (arXiv:1512.00567, section 7).

    Inputs: scores (batch, classes); labels; optionally weights (batch,) that the losses are multiplied with.

    Raises:
        OptionError: the smoothing is not between 0 and 1.
    """

    def __init__(self, sparse_label: bool = True, label_smoothing: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._sparse_label = sparse_label
        self._label_smoothing = _checked_share(label_smoothing, "label_smoothing")

    def hybrid_forward(self, F: Any, scores: Any, labels: Any, sample_weights: Any = None) -> Any:
        log_probabilities = F.log_softmax(F.cast(scores, dtype="float32"), axis=-1)
        if self._sparse_label:
            loss = 0.0 - F.pick(log_probabilities, labels, axis=-1)
        else:
            loss = 0.0 - F.sum(log_probabilities * F.cast(labels, dtype="float32"), axis=-1)
        if self._label_smoothing:
            # The cross entropy is linear in the labels, so that nobody has to build the smoothed ones.
            even = 0.0 - F.mean(log_probabilities, axis=-1)
            loss = (1.0 - self._label_smoothing) * loss + self._label_smoothing * even
        return loss if sample_weights is None else loss * sample_weights


class DistillationSoftmaxCrossEntropyLoss(nn.HybridBlock):
    """Learning from a teacher and from labels at once (arXiv:1503.02531).

    ``(1 - hard_weight) * T**2 * CE(scores / T, teacher) + hard_weight * CE(scores, labels)``, where ``T**2`` keeps the
    gradients of the soft part at the size of the hard part's.

    Args:
        temperature: T. The teacher's probabilities are ``softmax(teacher scores / T)`` with the same T.
        hard_weight: from 0, only the teacher, to 1, only the labels.
        sparse_label: as for ``SoftmaxCrossEntropy``.
        label_smoothing: of the hard part.

    Inputs: scores (batch, classes); labels; the teacher's probabilities (batch, classes).

    Raises:
        OptionError: the temperature is not positive, or a share is not between 0 and 1.
    """

    def __init__(
        self,
        temperature: float = 1.0,
        hard_weight: float = 0.5,
        sparse_label: bool = True,
        label_smoothing: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not temperature > 0:
            raise OptionError(f"Expected a temperature above 0. Received: {temperature!r}.")
        self._temperature = float(temperature)
        self._hard_weight = _checked_share(hard_weight, "hard_weight")
        with self.name_scope():
            self.soft_loss = SoftmaxCrossEntropy(sparse_label=False)
            self.hard_loss = SoftmaxCrossEntropy(sparse_label=sparse_label, label_smoothing=label_smoothing)

    def hybrid_forward(self, F: Any, scores: Any, labels: Any, teacher_probabilities: Any) -> Any:
        if self._hard_weight == 1.0:
            return self.hard_loss(scores, labels)
        soft = self._temperature**2 * self.soft_loss(scores / self._temperature, teacher_probabilities)
        if self._hard_weight == 0.0:
            return soft
        return (1.0 - self._hard_weight) * soft + self._hard_weight * self.hard_loss(scores, labels)

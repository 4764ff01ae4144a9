"""A loss is a block as well: the engine compiles it together with the network."""

from __future__ import annotations

from typing import Any

from glueball import nn
from glueball.errors import OptionError


class FocalLoss(nn.HybridBlock):
    """Focal loss of several classes, ``-(1 - p)^gamma log p`` with p of the true class (arXiv:1708.02002, equation 4).

    Input: scores (batch, classes) and labels (batch,). Output: one loss per sample, (batch,). With ``gamma=0`` it is
    the cross-entropy.

    Raises:
        OptionError: ``gamma`` is negative.
    """

    def __init__(self, gamma: float = 2.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if gamma < 0:
            raise OptionError(f"gamma must be at least 0. Received: {gamma!r}")
        self._gamma = gamma

    def hybrid_forward(self, F: Any, scores: Any, labels: Any) -> Any:
        log_probability = F.pick(F.log_softmax(scores, axis=-1), labels, axis=-1)
        if self._gamma == 0:
            return -log_probability
        # Rounding can bring the probability above 1, where the power of a negative number is no number.
        miss = F.clip(1.0 - F.exp(log_probability), a_min=1e-12, a_max=1.0)
        return -(miss**self._gamma) * log_probability

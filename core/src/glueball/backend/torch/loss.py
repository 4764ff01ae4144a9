"""Losses as blocks, with the formulas and the weighting of MXNet's ``gluon.loss``.

Every loss gives one number for each sample, shape (batch,): the mean over all axes but ``batch_axis``. ``weight`` is
one factor for all, ``sample_weight`` is broadcast against the elements (shape (batch, 1, ...) for one factor a sample).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from glueball.backend.torch.block import HybridBlock
from glueball.errors import OptionError

__all__ = [
    "CosineEmbeddingLoss",
    "HingeLoss",
    "HuberLoss",
    "KLDivLoss",
    "L1Loss",
    "L2Loss",
    "LogisticLoss",
    "Loss",
    "PoissonNLLLoss",
    "SigmoidBCELoss",
    "SigmoidBinaryCrossEntropyLoss",
    "SoftmaxCELoss",
    "SoftmaxCrossEntropyLoss",
    "SquaredHingeLoss",
    "TripletLoss",
]


def _mean_all_but(loss: Tensor, axis: int) -> Tensor:
    dims = [one for one in range(loss.dim()) if one != axis % loss.dim()]
    return loss.mean(dims) if dims else loss


def _like(label: Tensor, prediction: Tensor) -> Tensor:
    return label.to(prediction.dtype).reshape(prediction.shape)


class Loss(HybridBlock):
    """The base of all losses; subclasses write ``hybrid_forward(self, F, prediction, label, sample_weight=None)``."""

    def __init__(self, weight: float | None, batch_axis: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._weight = weight
        self._batch_axis = batch_axis

    def _weigh(self, loss: Tensor, sample_weight: Tensor | None, factor: float | None = None) -> Tensor:
        if sample_weight is not None:
            loss = loss * sample_weight
        weight = self._weight if factor is None else factor
        return loss if weight is None else loss * weight

    def _mean(self, loss: Tensor) -> Tensor:
        return _mean_all_but(loss, self._batch_axis)

    def extra_repr(self) -> str:
        return f"batch_axis={self._batch_axis}, w={self._weight}"


class L2Loss(Loss):
    """weight / 2 · (prediction - label)², averaged."""

    def __init__(self, weight: float | None = 1.0, batch_axis: int = 0, **kwargs: Any) -> None:
        super().__init__(weight, batch_axis, **kwargs)

    def hybrid_forward(self, F: Any, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        loss = (_like(label, pred) - pred).square()
        return self._mean(self._weigh(loss, sample_weight, (1.0 if self._weight is None else self._weight) / 2))


class L1Loss(Loss):
    """|prediction - label|, averaged."""

    def __init__(self, weight: float | None = None, batch_axis: int = 0, **kwargs: Any) -> None:
        super().__init__(weight, batch_axis, **kwargs)

    def hybrid_forward(self, F: Any, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        return self._mean(self._weigh((_like(label, pred) - pred).abs(), sample_weight))


class SigmoidBinaryCrossEntropyLoss(Loss):
    """Binary cross entropy of logits (or of probabilities with ``from_sigmoid``), averaged.

    ``pos_weight`` multiplies the terms of positive labels.
    """

    def __init__(
        self, from_sigmoid: bool = False, weight: float | None = None, batch_axis: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._from_sigmoid = from_sigmoid

    def hybrid_forward(
        self,
        F: Any,
        pred: Any,
        label: Any,
        sample_weight: Any = None,
        pos_weight: Any = None,
    ) -> Any:
        label = _like(label, pred)
        if not self._from_sigmoid:
            if pos_weight is None:
                # max(x, 0) - x·z + log(1 + exp(-|x|)): no exponential of a large number.
                loss = functional.relu(pred) - pred * label + functional.softplus(-pred.abs())
            else:
                positive = 1 + (pos_weight - 1) * label
                loss = pred - pred * label + positive * (functional.softplus(-pred.abs()) + functional.relu(-pred))
        else:
            epsilon = 1e-12
            positive = torch.log(pred + epsilon) * label
            if pos_weight is not None:
                positive = positive * pos_weight
            loss = -(positive + torch.log(1.0 - pred + epsilon) * (1.0 - label))
        return self._mean(self._weigh(loss, sample_weight))


SigmoidBCELoss = SigmoidBinaryCrossEntropyLoss


class SoftmaxCrossEntropyLoss(Loss):
    """Cross entropy of the softmax along ``axis``.

    ``sparse_label``: class indices in the prediction's shape without ``axis`` (clipped into the range, as in MXNet);
    otherwise probabilities in the prediction's shape. ``from_logits``: the prediction is a log softmax already.
    """

    def __init__(
        self,
        axis: int = -1,
        sparse_label: bool = True,
        from_logits: bool = False,
        weight: float | None = None,
        batch_axis: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._axis = axis
        self._sparse_label = sparse_label
        self._from_logits = from_logits

    def hybrid_forward(self, F: Any, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        logarithms = pred if self._from_logits else torch.log_softmax(pred, self._axis)
        if self._sparse_label:
            index = label.long().clamp(0, pred.shape[self._axis] - 1)
            if index.dim() < pred.dim():
                index = index.unsqueeze(self._axis)
            loss = -logarithms.gather(self._axis, index)
        else:
            loss = -(logarithms * _like(label, pred)).sum(self._axis, keepdim=True)
        return self._mean(self._weigh(loss, sample_weight))


SoftmaxCELoss = SoftmaxCrossEntropyLoss


class KLDivLoss(Loss):
    """label · (log label - log prediction), summed over each sample; ``from_logits``: predictions are logarithms."""

    def __init__(
        self, from_logits: bool = True, axis: int = -1, weight: float | None = None, batch_axis: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._from_logits = from_logits
        self._axis = axis

    def hybrid_forward(self, F: Any, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        logarithms = pred if self._from_logits else torch.log_softmax(pred, self._axis)
        loss = self._weigh(label * (torch.log(label + 1e-12) - logarithms), sample_weight)
        # MXNet 1.9 sums here, though its documentation says mean.
        dims = [one for one in range(loss.dim()) if one != self._batch_axis % loss.dim()]
        return loss.sum(dims) if dims else loss


class HuberLoss(Loss):
    """|error| - rho / 2 beyond ``rho``, else error² / (2 rho), averaged."""

    def __init__(self, rho: float = 1, weight: float | None = None, batch_axis: int = 0, **kwargs: Any) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._rho = rho

    def hybrid_forward(self, F: Any, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        error = (_like(label, pred) - pred).abs()
        loss = torch.where(error > self._rho, error - 0.5 * self._rho, (0.5 / self._rho) * error.square())
        return self._mean(self._weigh(loss, sample_weight))


class HingeLoss(Loss):
    """max(0, margin - prediction · label) with labels -1 and 1, averaged."""

    def __init__(self, margin: float = 1, weight: float | None = None, batch_axis: int = 0, **kwargs: Any) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._margin = margin

    def hybrid_forward(self, F: Any, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        loss = functional.relu(self._margin - pred * _like(label, pred))
        return self._mean(self._weigh(loss, sample_weight))


class SquaredHingeLoss(Loss):
    """max(0, margin - prediction · label)² with labels -1 and 1, averaged."""

    def __init__(self, margin: float = 1, weight: float | None = None, batch_axis: int = 0, **kwargs: Any) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._margin = margin

    def hybrid_forward(self, F: Any, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        loss = functional.relu(self._margin - pred * _like(label, pred)).square()
        return self._mean(self._weigh(loss, sample_weight))


class LogisticLoss(Loss):
    """log(1 + exp(-prediction · label)), averaged; labels are -1, 1 ("signed") or 0, 1 ("binary")."""

    def __init__(
        self, weight: float | None = None, batch_axis: int = 0, label_format: str = "signed", **kwargs: Any
    ) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        if label_format not in ("signed", "binary"):
            raise OptionError(f"LogisticLoss: expected label_format signed or binary; received {label_format!r}.")
        self._label_format = label_format

    def hybrid_forward(self, F: Any, pred: Any, label: Any, sample_weight: Any = None) -> Any:
        label = _like(label, pred)
        if self._label_format == "signed":
            label = (label + 1.0) / 2.0
        loss = functional.relu(pred) - pred * label + functional.softplus(-pred.abs())
        return self._mean(self._weigh(loss, sample_weight))


class TripletLoss(Loss):
    """max(0, margin + |prediction - positive|² - |prediction - negative|²), the squares summed over each sample."""

    def __init__(self, margin: float = 1, weight: float | None = None, batch_axis: int = 0, **kwargs: Any) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._margin = margin

    def hybrid_forward(
        self,
        F: Any,
        pred: Any,
        positive: Any,
        negative: Any,
        sample_weight: Any = None,
    ) -> Any:
        positive, negative = _like(positive, pred), _like(negative, pred)
        difference = (positive - pred).square() - (negative - pred).square()
        dims = [one for one in range(pred.dim()) if one != self._batch_axis % pred.dim()]
        loss = functional.relu((difference.sum(dims) if dims else difference) + self._margin)
        return self._weigh(loss, sample_weight)


class PoissonNLLLoss(Loss):
    """Negative log likelihood of Poisson counts, averaged over everything to shape (1,).

    ``from_logits``: predictions are logarithms of rates. ``compute_full`` adds Stirling's term for targets above 1.
    """

    def __init__(
        self,
        weight: float | None = None,
        from_logits: bool = True,
        batch_axis: int = 0,
        compute_full: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._from_logits = from_logits
        self._compute_full = compute_full

    def hybrid_forward(
        self,
        F: Any,
        pred: Any,
        target: Any,
        sample_weight: Any = None,
        epsilon: float = 1e-08,
    ) -> Any:
        target = _like(target, pred)
        if self._from_logits:
            loss = torch.exp(pred) - target * pred
        else:
            loss = pred - target * torch.log(pred + epsilon)
        if self._compute_full:
            stirling = target * torch.log(target) - target + 0.5 * torch.log(2 * target * math.pi)
            loss = loss + torch.where(target > 1, stirling, torch.zeros_like(stirling))
        return self._weigh(loss, sample_weight).mean().reshape(1)


class CosineEmbeddingLoss(Loss):
    """1 - cos(input1, input2) where the label is 1, max(0, cos - margin) where it is -1; shape (batch, 1)."""

    def __init__(self, weight: float | None = None, batch_axis: int = 0, margin: float = 0, **kwargs: Any) -> None:
        super().__init__(weight, batch_axis, **kwargs)
        self._margin = margin

    def hybrid_forward(
        self,
        F: Any,
        input1: Any,
        input2: Any,
        label: Any,
        sample_weight: Any = None,
    ) -> Any:
        input1 = input1.reshape(input2.shape)
        product = (input1 * input2).sum(-1, keepdim=True)
        lengths = torch.linalg.vector_norm(input1, dim=-1, keepdim=True) * torch.linalg.vector_norm(
            input2, dim=-1, keepdim=True
        )
        cosine = product / lengths.clamp(min=1e-12)
        label = label.to(cosine.dtype).reshape(-1, 1)
        loss = torch.where(label == 1, 1.0 - cosine, functional.relu(cosine - self._margin))
        return self._weigh(loss, sample_weight)

"""Losses as functions, and what stops a gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from glueball.backend.torch.ops.registry import operator
from glueball.errors import OptionError


class _SoftmaxOutput(torch.autograd.Function):
    """Softmax whose backward is that of the cross entropy with the label, whatever gradient arrives from above."""

    @staticmethod
    def forward(  # type: ignore[override]
        context: Any,
        data: Tensor,
        label: Tensor,
        axis: int,
        grad_scale: float,
        ignore_label: float,
        use_ignore: bool,
        normalization: str,
        out_grad: bool,
        smooth_alpha: float,
    ) -> Tensor:
        probabilities = torch.softmax(data, axis)
        context.save_for_backward(probabilities, label)
        context.options = (axis, grad_scale, ignore_label, use_ignore, normalization, out_grad, smooth_alpha)
        return probabilities

    @staticmethod
    def backward(context: Any, head_gradient: Tensor) -> Any:  # type: ignore[override]
        probabilities, label = context.saved_tensors
        axis, grad_scale, ignore_label, use_ignore, normalization, out_grad, smooth_alpha = context.options
        classes = probabilities.shape[axis]
        if label.shape == probabilities.shape:
            gradient, kept = probabilities - label, None
        else:
            index = label.reshape([size for one, size in enumerate(probabilities.shape) if one != axis]).long()
            target = functional.one_hot(index.clamp(0, classes - 1), classes).to(probabilities.dtype)
            if smooth_alpha:
                target = target * (1.0 - smooth_alpha) + (1.0 - target) * (smooth_alpha / (classes - 1))
            gradient = probabilities - target.movedim(-1, axis)
            kept = index != int(ignore_label)
            if use_ignore:
                gradient = gradient * kept.unsqueeze(axis).to(gradient.dtype)
        if normalization == "batch":
            gradient = gradient / probabilities.shape[0]
        elif normalization == "valid":
            count = label.numel() if kept is None or not use_ignore else kept.sum().clamp(min=1)
            gradient = gradient / count
        gradient = gradient * grad_scale
        if out_grad:
            gradient = gradient * head_gradient
        return gradient, None, None, None, None, None, None, None, None


@operator("SoftmaxOutput")
def softmax_output(
    data: Tensor,
    label: Tensor,
    grad_scale: float = 1.0,
    ignore_label: float = -1.0,
    multi_output: bool = False,
    use_ignore: bool = False,
    preserve_shape: bool = False,
    normalization: str = "null",
    out_grad: bool = False,
    smooth_alpha: float = 0.0,
) -> Tensor:
    """Softmax with a built-in cross-entropy gradient.

    ``multi_output``: classes on axis 1; ``preserve_shape``: on the last axis; otherwise the array is flattened to
    (batch, classes). The head gradient is ignored unless ``out_grad`` is set, so scaling the loss above has no effect:
    use SoftmaxCrossEntropyLoss where loss weights or float16 loss scaling matter.
    """
    if normalization not in ("null", "batch", "valid"):
        raise OptionError(f"SoftmaxOutput: expected normalization null, batch or valid; received {normalization!r}.")
    options = (grad_scale, ignore_label, use_ignore, normalization, out_grad, smooth_alpha)
    if multi_output:
        return _SoftmaxOutput.apply(data, label, 1, *options)
    if preserve_shape:
        return _SoftmaxOutput.apply(data, label, data.dim() - 1, *options)
    flat = data.reshape(data.shape[0], -1)
    return _SoftmaxOutput.apply(flat, label, 1, *options).reshape(data.shape)


@operator("softmax_cross_entropy")
def softmax_cross_entropy(data: Tensor, label: Tensor) -> Tensor:
    """Sum over the batch of -log softmax(data)[label], shape (1,). data: (batch, classes); label: (batch,)."""
    return functional.cross_entropy(data, label.long(), reduction="sum").reshape(1)


@operator("smooth_l1")
def smooth_l1(data: Tensor, scalar: float = 1.0) -> Tensor:
    """0.5 (scalar · x)² where |x| < 1 / scalar², else |x| - 0.5 / scalar² (arXiv:1504.08083)."""
    squared = scalar * scalar
    return torch.where(data.abs() < 1.0 / squared, 0.5 * squared * data.square(), data.abs() - 0.5 / squared)


@operator("identity")
def identity(data: Tensor) -> Tensor:
    """The same array."""
    return data


class _MakeLoss(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, data: Tensor) -> Tensor:  # type: ignore[override]
        return data.clone()

    @staticmethod
    def backward(context: Any, head_gradient: Tensor) -> Tensor:  # type: ignore[override]
        return torch.ones_like(head_gradient)


@operator("make_loss")
def make_loss(data: Tensor) -> Tensor:
    """The same array as a loss: its gradient is one everywhere, whatever arrives from above, as in MXNet."""
    return _MakeLoss.apply(data)


@operator("BlockGrad", "stop_gradient")
def stop_gradient(data: Tensor) -> Tensor:
    """The same values; no gradient passes."""
    return data.detach()

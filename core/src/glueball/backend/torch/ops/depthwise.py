"""Two-dimensional convolution, with a faster gradient for depthwise ones that skip pixels, in bfloat16 on CPUs.

oneDNN, which computes convolutions on CPUs, takes many times as long for the bfloat16 gradient of the data of a
depthwise convolution with stride 2 as with stride 1. The two are one and the same sum, once zeros stand between the
gradients of a stride. MobileNet has four such layers (``benchmarks/models.py`` times its training).
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

_gradients = torch.ops.aten.convolution_backward


def conv2d(
    data: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    groups: int,
) -> Tensor:
    """As ``torch.nn.functional.conv2d``, value for value; gradients are the same sums, in another order."""
    if groups > 1 and max(stride) > 1 and _is_slow(data, weight, groups):
        # Outside of autocast's own cast, because it does not see into a function of ours.
        result = _Strided.apply(data.bfloat16(), weight.bfloat16(), stride, padding, dilation)
        return result if bias is None else result + bias.bfloat16().view(1, -1, 1, 1)
    return functional.conv2d(data, weight, bias, stride, padding, dilation, groups)


def _is_slow(data: Tensor, weight: Tensor, groups: int) -> bool:
    if groups != weight.shape[0] or weight.shape[1] != 1 or data.device.type != "cpu" or data.dim() != 4:
        return False
    if not (torch.is_grad_enabled() and data.requires_grad) or torch.compiler.is_compiling():
        return False
    if torch.is_autocast_enabled("cpu"):
        return torch.get_autocast_dtype("cpu") == torch.bfloat16
    return data.dtype == weight.dtype == torch.bfloat16


class _Strided(torch.autograd.Function):
    """A depthwise convolution with a stride."""

    @staticmethod
    def forward(
        context: Any,
        data: Tensor,
        weight: Tensor,
        stride: tuple[int, ...],
        padding: tuple[int, ...],
        dilation: tuple[int, ...],
    ) -> Tensor:
        context.save_for_backward(data, weight)
        context.geometry = stride, padding, dilation
        return functional.conv2d(data, weight, None, stride, padding, dilation, weight.shape[0])

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # Made of operators that have gradients themselves, so that gradients of gradients work.
        data, weight = context.saved_tensors
        stride, padding, dilation = context.geometry
        groups = weight.shape[0]
        of_data = of_weight = None
        if context.needs_input_grad[0]:
            spread = _spread(gradient, stride, _dense_shape(data, weight, padding, dilation))
            of_data = _gradients(
                spread, data, weight, None, (1, 1), padding, dilation, False, (0, 0), groups, (True, False, False)
            )[0]
        if context.needs_input_grad[1]:
            of_weight = _gradients(
                gradient, data, weight, None, stride, padding, dilation, False, (0, 0), groups, (False, True, False)
            )[1]
        return of_data, of_weight, None, None, None


def _dense_shape(
    data: Tensor, weight: Tensor, padding: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[int, int, int, int]:
    """What the convolution would give without its stride: (batch, channels, height, width)."""
    height, width = (
        data.shape[2 + axis] + 2 * padding[axis] - dilation[axis] * (weight.shape[2 + axis] - 1) for axis in (0, 1)
    )
    return data.shape[0], weight.shape[0], height, width


def _spread(gradient: Tensor, stride: tuple[int, ...], shape: tuple[int, int, int, int]) -> Tensor:
    """The gradients with zeros for the places that the stride leaves out."""
    memory_format = (
        torch.channels_last if gradient.is_contiguous(memory_format=torch.channels_last) else torch.contiguous_format
    )
    spread = torch.empty(shape, dtype=gradient.dtype, device=gradient.device, memory_format=memory_format).zero_()
    spread[:, :, :: stride[0], :: stride[1]] = gradient
    return spread

"""Batch normalisation over the samples of all processes: the statistics, and so the numbers, of one process.

Each process gives mean, variance and number of its own samples, and all combine them (Chan et al. 1983): sums of
squares, which could be added more simply, lose digits where the mean is large. The backward pass adds up two sums.
Both passes use torch's own fused kernels between the exchanges.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, distributed
from torch.nn import functional

# None: every process by itself. 1: over all processes. 0: likewise, but this process's samples do not count.
_share: float | None = None


@contextlib.contextmanager
def over_processes(counts: bool) -> Iterator[None]:
    """Within it, BatchNorm in training mode normalises by the samples of all processes.

    All processes must run the same layers in the same order. ``counts``: whether this one's samples are real; stand-ins
    are normalised as the others' samples are, and have no influence on them.
    """
    global _share
    previous, _share = _share, float(counts)
    try:
        yield
    finally:
        _share = previous


def is_shared() -> bool:
    """Whether BatchNorm is to be computed over all processes."""
    return _share is not None


def share_of_samples() -> float:
    """1 where this process's samples count, 0 where they are stand-ins."""
    return 1.0 if _share is None else _share


class _Normalize(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, data: Tensor, gamma: Tensor, beta: Tensor, eps: float, share: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        channels = data.shape[1]
        count = share * (data.numel() // channels)
        own = torch.zeros(2 * channels + 1, dtype=torch.float32, device=data.device)
        if count:
            dims = [axis for axis in range(data.dim()) if axis != 1]
            own[channels:-1], own[:channels] = torch.var_mean(data.float(), dims, correction=0)
            own[-1] = count
        parts = [torch.empty_like(own) for _ in range(distributed.get_world_size())]
        distributed.all_gather(parts, own)
        # Vectors of one number for each channel: the double precision costs nothing.
        table = torch.stack(parts).double()
        means, variances, counts = table[:, :channels], table[:, channels:-1], table[:, -1:]
        total = counts.sum().clamp(min=1.0)
        mean = (means * counts).sum(0) / total
        variance = ((variances + (means - mean).square()) * counts).sum(0) / total
        inverse = torch.rsqrt(variance + eps).float()
        mean, variance = mean.float(), variance.float()
        context.save_for_backward(data, gamma, mean, variance, inverse, total.float())
        context.eps, context.share = eps, share
        context.mark_non_differentiable(mean, variance)
        return functional.batch_norm(data, mean, variance, gamma, beta, False, 0.0, eps), mean, variance

    @staticmethod
    def backward(context: Any, gradient: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        data, gamma, mean, variance, inverse, total = context.saved_tensors
        # As if mean and variance were constants: gradient · gamma / deviation, and the sums that follow from it.
        result, by_gamma, by_beta = torch.ops.aten.native_batch_norm_backward(
            gradient, data, gamma, mean, variance, None, None, False, context.eps, [True, True, True]
        )
        sums = torch.cat([by_beta, by_gamma]).float()
        distributed.all_reduce(sums)
        through_mean, through_variance = (sums * (context.share / total)).chunk(2)
        # What mean and variance pass on: gamma / deviation · (through_mean + normalised data · through_variance).
        slope = gamma * inverse.square() * through_variance
        offset = gamma * inverse * through_mean - mean * slope
        shape = (1, -1) + (1,) * (data.dim() - 2)
        result.addcmul_(data, slope.reshape(shape).to(result.dtype), value=-1.0)
        result.sub_(offset.reshape(shape).to(result.dtype))
        return result, by_gamma, by_beta, None, None


@torch.compiler.disable
def normalize(
    data: Tensor,
    gamma: Tensor | None,
    beta: Tensor,
    running_mean: Tensor,
    running_variance: Tensor,
    *,
    eps: float,
    momentum: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """data: (batch, channels, ...) normalised over the processes, mean and biased variance; moves the running ones.

    ``gamma``: None counts as 1.
    """
    scale = torch.ones_like(beta) if gamma is None else gamma
    result, mean, variance = _Normalize.apply(data, scale, beta, eps, share_of_samples())
    with torch.no_grad():
        running_mean.lerp_(mean.to(running_mean.dtype), 1.0 - momentum)
        running_variance.lerp_(variance.to(running_variance.dtype), 1.0 - momentum)
    return result, mean, variance

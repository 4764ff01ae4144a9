"""What a training step does with the other processes: the same first weights, summed gradients, shared statistics.

After every update all processes hold the same weights, because they began with the same and followed the same sums.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glueball.backend.base import ProcessGroup, StepOptions
from glueball.backend.torch.gradients import GradientReducer, average, broadcast_from_first
from glueball.backend.torch.ops import statistics
from glueball.backend.torch.processes import lost_processes

logger = logging.getLogger("glueball.backend")


class Together:
    """The other processes, as a training step needs them."""

    def __init__(self, group: ProcessGroup, options: StepOptions) -> None:
        self._group = group
        self._sync = options.sync_batch_norm
        self._reducer: GradientReducer | None = None
        self._own_statistics: list[Tensor] = []

    def prepare(self, tensors: Mapping[str, Tensor], trainable: Sequence[Tensor], modules: Sequence[Any]) -> None:
        """Takes rank 0's weights over, and begins to watch gradients.

        Args:
            tensors: all parameters and running statistics of the network, by name.
            trainable: those that are trained.
            modules: all modules that run.
        """
        unique = {id(tensor): tensor for tensor in tensors.values()}
        broadcast_from_first(list(unique.values()))
        self._reducer = GradientReducer(list({id(tensor): tensor for tensor in trainable}.values()))
        foreign = [module for module in modules if isinstance(module, torch.nn.modules.batchnorm._BatchNorm)]
        if foreign and self._sync and self._group.rank == 0:
            logger.warning(
                "%d layers of batch normalisation are PyTorch's own and take their statistics over the samples of one "
                "process only. Use glueball.nn.BatchNorm for the numbers of one process.",
                len(foreign),
            )
        if foreign or not self._sync:
            self._own_statistics = [
                tensor for name, tensor in tensors.items() if name.endswith(("running_mean", "running_var"))
            ]

    @contextlib.contextmanager
    def forward(self, weight: float) -> Iterator[None]:
        """The scope of a forward pass of samples that count ``weight``."""
        with lost_processes(), statistics.over_processes(weight > 0) if self._sync else contextlib.nullcontext():
            yield

    def backward(self, loss: Tensor, weight: float, *, reduce: bool) -> None:
        """The backward pass; with ``reduce`` the gradients become their means over the processes.

        The loss is divided by the number of processes instead of the gradients, which are many.
        """
        assert self._reducer is not None
        share = weight / self._group.size
        if not reduce:
            (loss * share).backward()
        else:
            self._reducer.begin()
            try:
                with lost_processes():
                    (loss * share).backward()
            except BaseException:
                self._reducer.abandon()
                raise
            self._reducer.finish()
        if self._own_statistics:
            average(self._own_statistics, 1.0 if weight > 0 else 0.0)

    def reduce(self) -> None:
        """Sums gradients that were added up by this process alone so far."""
        assert self._reducer is not None
        self._reducer.begin()
        self._reducer.finish()

    def spread(self, parameters: Sequence[Tensor]) -> None:
        """Divides gradients that are sums already, so that summing them once more leaves them as they are."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if gradients:
            torch._foreach_div_(gradients, float(self._group.size))

    def agree(self, code: int, failed: bool) -> int:
        """Rank 0's code for all; -1 where anything failed in any process."""
        own = np.array([code if self._group.rank == 0 else 0, int(failed)], np.int64)
        total = self._group.all_reduce([own])[0]
        return -1 if total[1] else int(total[0])

"""Normalisation layers."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from torch import Tensor

from glueball.backend.torch.block import HybridBlock
from glueball.backend.torch.ops.arguments import torch_dtype


class BatchNorm(HybridBlock):
    """Batch normalisation along ``axis`` (arXiv:1502.03167), with MXNet's running statistics.

    running = momentum · running + (1 - momentum) · batch, with the biased variance. With ``scale=False`` (``center``)
    gamma (beta) exists and is saved, but counts as 1 (stays as it is) and is not trained.
    """

    gives_new_array = True  # its gradient needs the input, not the output

    def __init__(
        self,
        axis: int = 1,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        use_global_stats: bool = False,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        running_mean_initializer: Any = "zeros",
        running_variance_initializer: Any = "ones",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._axis = axis
        self._momentum = momentum
        self._epsilon = epsilon
        self._scale = scale
        self._center = center
        self._use_global_stats = use_global_stats
        shape = (in_channels,)
        self.gamma = self.params.get(
            "gamma",
            grad_req="write" if scale else "null",
            shape=shape,
            init=gamma_initializer,
            allow_deferred_init=True,
        )
        self.beta = self.params.get(
            "beta",
            grad_req="write" if center else "null",
            shape=shape,
            init=beta_initializer,
            allow_deferred_init=True,
        )
        self.running_mean = self.params.get(
            "running_mean",
            grad_req="null",
            shape=shape,
            init=running_mean_initializer,
            allow_deferred_init=True,
            differentiable=False,
        )
        self.running_var = self.params.get(
            "running_var",
            grad_req="null",
            shape=shape,
            init=running_variance_initializer,
            allow_deferred_init=True,
            differentiable=False,
        )

    def infer_shape(self, x: Tensor, *others: Any) -> None:
        for parameter in (self.gamma, self.beta, self.running_mean, self.running_var):
            parameter.shape = (x.shape[self._axis],)

    def cast(self, dtype: Any) -> None:
        # Half precision loses running statistics, so the layer stays in float32 as in MXNet; torch mixes the two.
        super().cast("float32" if torch_dtype(dtype) in (torch.float16, torch.bfloat16) else dtype)

    def hybrid_forward(
        self,
        F: Any,
        x: Any,
        gamma: Any,
        beta: Any,
        running_mean: Any,
        running_var: Any,
    ) -> Any:
        return F.BatchNorm(
            x,
            gamma,
            beta,
            running_mean,
            running_var,
            eps=self._epsilon,
            momentum=self._momentum,
            fix_gamma=not self._scale,
            use_global_stats=self._use_global_stats,
            axis=self._axis,
        )

    def extra_repr(self) -> str:
        shape = self.gamma.shape
        return (
            f"axis={self._axis}, eps={self._epsilon}, momentum={self._momentum}, fix_gamma={not self._scale}, "
            f"use_global_stats={self._use_global_stats}, in_channels={(shape and shape[0]) or None}"
        )


class SyncBatchNorm(BatchNorm):
    """BatchNorm over the batches of all processes when torch.distributed runs; otherwise BatchNorm.

    ``num_devices`` is taken for MXNet's sake: here all processes of the default group take part.
    """

    def __init__(
        self,
        in_channels: int = 0,
        num_devices: int | None = None,
        momentum: float = 0.9,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        use_global_stats: bool = False,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        running_mean_initializer: Any = "zeros",
        running_variance_initializer: Any = "ones",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            1,
            momentum,
            epsilon,
            center,
            scale,
            use_global_stats,
            beta_initializer,
            gamma_initializer,
            running_mean_initializer,
            running_variance_initializer,
            in_channels,
            **kwargs,
        )

    def hybrid_forward(
        self,
        F: Any,
        x: Any,
        gamma: Any,
        beta: Any,
        running_mean: Any,
        running_var: Any,
    ) -> Any:
        from glueball.backend.torch import ops
        from glueball.backend.torch.ops import statistics

        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        alone = not distributed or torch.distributed.get_world_size() == 1
        if alone or F is ops.INFERENCE or self._use_global_stats:
            return super().hybrid_forward(F, x, gamma, beta, running_mean, running_var)
        scale = gamma if self._scale else None
        settings = {"eps": self._epsilon, "momentum": self._momentum}
        return statistics.normalize(x, scale, beta, running_mean, running_var, **settings)[0]


class LayerNorm(HybridBlock):
    """Normalises along one axis (arXiv:1607.06450)."""

    def __init__(
        self,
        axis: int = -1,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        in_channels: int = 0,
        prefix: str | None = None,
        params: Any = None,
    ) -> None:
        super().__init__(prefix=prefix, params=params)
        self._axis = axis
        self._epsilon = epsilon
        self.gamma = self.params.get(
            "gamma",
            grad_req="write" if scale else "null",
            shape=(in_channels,),
            init=gamma_initializer,
            allow_deferred_init=True,
        )
        self.beta = self.params.get(
            "beta",
            grad_req="write" if center else "null",
            shape=(in_channels,),
            init=beta_initializer,
            allow_deferred_init=True,
        )

    def infer_shape(self, x: Tensor, *others: Any) -> None:
        self.gamma.shape = self.beta.shape = (x.shape[self._axis],)

    def hybrid_forward(self, F: Any, x: Any, gamma: Any, beta: Any) -> Any:
        return F.LayerNorm(x, gamma, beta, axis=self._axis, eps=self._epsilon)


class GroupNorm(HybridBlock):
    """Normalises ``num_groups`` groups of channels of each sample (arXiv:1803.08494).

    gamma, beta: (num_groups,), as in MXNet 1.9, which scales whole groups.
    """

    def __init__(
        self,
        num_groups: int = 1,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = True,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        prefix: str | None = None,
        params: Any = None,
    ) -> None:
        super().__init__(prefix=prefix, params=params)
        self._num_groups = num_groups
        self._epsilon = epsilon
        self.gamma = self.params.get(
            "gamma",
            grad_req="write" if scale else "null",
            shape=(num_groups,),
            init=gamma_initializer,
            allow_deferred_init=True,
        )
        self.beta = self.params.get(
            "beta",
            grad_req="write" if center else "null",
            shape=(num_groups,),
            init=beta_initializer,
            allow_deferred_init=True,
        )

    def hybrid_forward(self, F: Any, x: Any, gamma: Any, beta: Any) -> Any:
        return F.GroupNorm(x, gamma, beta, num_groups=self._num_groups, eps=self._epsilon)


class InstanceNorm(HybridBlock):
    """Normalises every channel of every sample over space (arXiv:1607.08022); channels on ``axis``."""

    def __init__(
        self,
        axis: int = 1,
        epsilon: float = 1e-5,
        center: bool = True,
        scale: bool = False,
        beta_initializer: Any = "zeros",
        gamma_initializer: Any = "ones",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._axis = axis
        self._epsilon = epsilon
        self.gamma = self.params.get(
            "gamma",
            grad_req="write" if scale else "null",
            shape=(in_channels,),
            init=gamma_initializer,
            allow_deferred_init=True,
        )
        self.beta = self.params.get(
            "beta",
            grad_req="write" if center else "null",
            shape=(in_channels,),
            init=beta_initializer,
            allow_deferred_init=True,
        )

    def infer_shape(self, x: Tensor, *others: Any) -> None:
        self.gamma.shape = self.beta.shape = (x.shape[self._axis],)

    def hybrid_forward(self, F: Any, x: Any, gamma: Any, beta: Any) -> Any:
        if self._axis == 1:
            return F.InstanceNorm(x, gamma, beta, eps=self._epsilon)
        moved = x.transpose(1, self._axis)
        return F.InstanceNorm(moved, gamma, beta, eps=self._epsilon).transpose(1, self._axis)

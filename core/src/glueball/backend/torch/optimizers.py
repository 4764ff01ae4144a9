"""The formulas of ``glueball.backend.optimizers`` on PyTorch: its fused optimisers where they agree, foreach otherwise.

``torch.optim``'s SGD, Adam and AdamW (fused) and RMSprop (foreach) are exactly our formulas, and their first momentum
equals a buffer that starts at zero; lamb and lars do not exist there. Parameters are grouped by their multipliers, so
that one kernel updates all that are treated alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from glueball.backend.base import OptimizerSpec
from glueball.backend.optimizers import Treatment, moments

# Our names of the moments -> those in the state of torch.optim.
_TORCH_NAMES = {
    "sgd": {"momentum": "momentum_buffer"},
    "nag": {"momentum": "momentum_buffer"},
    "adam": {"mean": "exp_avg", "variance": "exp_avg_sq"},
    "adamw": {"mean": "exp_avg", "variance": "exp_avg_sq"},
    "rmsprop": {"variance": "square_avg"},
}


class TorchOptimizer:
    """Updates parameters in place from their ``grad``; one without a gradient (unused in the graph) is left alone."""

    def __init__(
        self, spec: OptimizerSpec, parameters: Mapping[str, torch.Tensor], treatments: Mapping[str, Treatment]
    ) -> None:
        self.spec = spec
        self.parameters = dict(parameters)
        self.state: dict[str, dict[str, torch.Tensor]] = {
            moment: {
                name: torch.zeros_like(parameter, dtype=torch.float32, memory_format=torch.preserve_format)
                for name, parameter in self.parameters.items()
            }
            for moment in moments(spec)
        }
        groups: dict[tuple[float, float], list[str]] = {}
        for name in self.parameters:
            treatment = treatments[name]
            groups.setdefault((treatment.lr_mult, treatment.wd_mult), []).append(name)
        self._groups = [(lr_mult, wd_mult, names) for (lr_mult, wd_mult), names in groups.items()]
        self._optimizer = self._torch_optimizer() if spec.name in _TORCH_NAMES else None

    @property
    def skips_on_device(self) -> bool:
        """Whether an update can be skipped by a flag on the device, without asking for its value."""
        return self.spec.name in ("sgd", "nag", "adam", "adamw")

    def _torch_optimizer(self) -> torch.optim.Optimizer:
        spec = self.spec
        groups: list[dict[str, Any]] = [
            {
                "params": [self.parameters[name] for name in names],
                "weight_decay": spec.weight_decay * wd_mult,
                "lr": 0.0,
                "lr_mult": lr_mult,
            }
            for lr_mult, wd_mult, names in self._groups
        ]
        optimizer: torch.optim.Optimizer
        if spec.name in ("sgd", "nag"):
            # Without momentum nag is sgd, and torch refuses to call it nesterov.
            nesterov = spec.name == "nag" and spec.momentum > 0
            optimizer = torch.optim.SGD(groups, lr=0.0, momentum=spec.momentum, nesterov=nesterov, fused=True)
        elif spec.name == "rmsprop":
            optimizer = torch.optim.RMSprop(groups, lr=0.0, alpha=spec.rho, eps=spec.epsilon, foreach=True)
        else:
            kind = torch.optim.Adam if spec.name == "adam" else torch.optim.AdamW
            optimizer = kind(groups, lr=0.0, betas=(spec.beta1, spec.beta2), eps=spec.epsilon, fused=True)
        for name, parameter in self.parameters.items():
            state: dict[str, torch.Tensor] = {
                _TORCH_NAMES[spec.name][moment]: tensors[name] for moment, tensors in self.state.items()
            }
            if spec.name in ("adam", "adamw"):
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            elif spec.name == "rmsprop":
                state["step"] = torch.zeros((), dtype=torch.float32)
            if state:
                optimizer.state[parameter] = state  # type: ignore[index]
        return optimizer

    def set_count(self, count: int) -> None:
        """Puts back how many updates there were, which adam's bias correction depends on."""
        if self._optimizer is None:
            return
        for state in self._optimizer.state.values():
            if "step" in state:
                state["step"].fill_(count)

    def update(self, learning_rate: float, count: int, found_inf: torch.Tensor | None = None) -> None:
        """Update number ``count`` (from 1). ``found_inf`` is 1 on the device where the update is to be skipped."""
        if self._optimizer is None:
            with torch.no_grad():
                for lr_mult, wd_mult, names in self._groups:
                    used = [name for name in names if self.parameters[name].grad is not None]
                    if used:
                        update = self._lamb if self.spec.name == "lamb" else self._lars
                        update(used, learning_rate * lr_mult, self.spec.weight_decay * wd_mult, count)
            return
        for group in self._optimizer.param_groups:
            group["lr"] = learning_rate * group["lr_mult"]
        if found_inf is not None:
            # What torch.amp.GradScaler hands to fused optimisers.
            self._optimizer.grad_scale = None  # type: ignore[attr-defined]
            self._optimizer.found_inf = found_inf  # type: ignore[attr-defined]
        self._optimizer.step()

    def _lamb(self, names: Sequence[str], lr: float, wd: float, count: int) -> None:
        spec = self.spec
        weights, gradients = self._tensors(names)
        means = [self.state["mean"][name] for name in names]
        variances = [self.state["variance"][name] for name in names]
        torch._foreach_lerp_(means, gradients, 1 - spec.beta1)
        torch._foreach_mul_(variances, spec.beta2)
        torch._foreach_addcmul_(variances, gradients, gradients, 1 - spec.beta2)
        denominators = torch._foreach_sqrt(variances)
        torch._foreach_div_(denominators, math.sqrt(1 - spec.beta2**count))
        torch._foreach_add_(denominators, spec.epsilon)
        directions = torch._foreach_div(means, 1 - spec.beta1**count)
        torch._foreach_div_(directions, denominators)
        if wd:
            torch._foreach_add_(directions, weights, alpha=wd)
        weight_norms = torch.stack(torch._foreach_norm(weights))
        direction_norms = torch.stack(torch._foreach_norm(directions))
        valid = (weight_norms > 0) & (direction_norms > 0)
        ratios = torch.where(valid, weight_norms / direction_norms, 1.0)
        torch._foreach_mul_(directions, list(ratios.unbind()))
        torch._foreach_add_(weights, directions, alpha=-lr)

    def _lars(self, names: Sequence[str], lr: float, wd: float, count: int) -> None:
        spec = self.spec
        weights, gradients = self._tensors(names)
        weight_norms = torch.stack(torch._foreach_norm(weights))
        gradient_norms = torch.stack(torch._foreach_norm(gradients))
        adapted = torch.tensor([weight.ndim > 1 for weight in weights], device=weight_norms.device)
        valid = adapted & (weight_norms > 0) & (gradient_norms > 0)
        ratios = spec.trust_coefficient * weight_norms / (gradient_norms + wd * weight_norms)
        ratios = torch.where(valid, ratios, 1.0)
        updates = torch._foreach_add(gradients, weights, alpha=wd) if wd else gradients
        updates = torch._foreach_mul(updates, list(ratios.unbind()))
        if self.state:
            buffers = [self.state["momentum"][name] for name in names]
            torch._foreach_mul_(buffers, spec.momentum)
            torch._foreach_add_(buffers, updates)
            updates = buffers
        torch._foreach_add_(weights, updates, alpha=-lr)

    def _tensors(self, names: Sequence[str]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        weights = [self.parameters[name] for name in names]
        gradients = [weight.grad for weight in weights]
        return weights, [gradient for gradient in gradients if gradient is not None]

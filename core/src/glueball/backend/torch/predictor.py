"""Prediction on PyTorch: BatchNorm folded into convolutions, channels_last, autocast; compiled on GPUs where it gains.

Nothing is recorded (``torch.no_grad``). It is not ``torch.inference_mode``, whose tensors could not take part in
training afterwards, as the outputs of a teacher in distillation do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from glueball.backend.torch import autograd
from glueball.backend.torch.folding import FoldedConvolution, fold
from glueball.backend.torch.step import _DTYPES, CompileChoice

if TYPE_CHECKING:
    from glueball.backend.torch.backend import TorchBackend

# Largest difference between the folded graph and the network, relative to the largest output, on the first inputs.
# Folding rounds weights anew; more than this means that tracing misunderstood the network.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 5e-2, torch.float16: 1e-2}


class TorchPredictor:
    """``predict(*arrays) -> outputs``; follows changes of the network's weights."""

    def __init__(
        self, backend: TorchBackend, network: Any, *, device: str, precision: str = "float32", compile: bool = True
    ) -> None:
        self._backend = backend
        self._network = network
        self._device = backend.device(device)
        self._dtype = _DTYPES.get(precision, torch.float32)
        self._fold = compile
        network.to(self._device)
        # For each number of inputs: what computes them, and the folded convolutions within.
        self._graphs: dict[int, tuple[Any, list[FoldedConvolution]]] = {}
        self._channels_last = False
        self._compile = compile and self._device.type != "cpu"

    def __call__(self, *inputs: Any) -> Any:
        with torch.no_grad(), autograd.predict_mode():
            arrays = tuple(self._on_device(value) for value in inputs)
            if len(arrays) not in self._graphs:
                self._graphs[len(arrays)] = self._build(arrays)
                arrays = tuple(self._on_device(value) for value in arrays)
            run, folded = self._graphs[len(arrays)]
            for convolution in folded:
                convolution.refresh()
            with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype != torch.float32):
                return run(arrays)

    def refresh(self) -> None:
        """Takes over the weights that the network has now. Changes in place are noticed without this."""
        for _, folded in self._graphs.values():
            for convolution in folded:
                convolution.refresh()

    def fused_layers(self) -> int:
        """How many operators of the graphs stand for several layers."""
        return sum(len(folded) for _, folded in self._graphs.values())

    def _on_device(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            value = self._backend.array(value, str(self._device))
        elif value.device != self._device:
            value = value.to(self._device, non_blocking=True)
        if self._channels_last and value.ndim == 4 and value.is_floating_point():
            value = value.contiguous(memory_format=torch.channels_last)
        return value

    def _build(self, arrays: tuple[Any, ...]) -> tuple[Any, list[FoldedConvolution]]:
        expected = self._plain(arrays)  # which also settles deferred shapes
        self._channels_last = any(
            parameter.ndim == 4 and parameter.is_initialized
            for parameter in self._backend.parameters(self._network).values()
        )
        plain: tuple[Any, list[FoldedConvolution]] = (self._plain, [])
        if not self._fold:
            return plain
        try:
            graph, folded = fold(self._network, len(arrays), self._dtype)
            with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype != torch.float32):
                result = graph(arrays)
        except Exception:
            # Networks whose Python code depends on their inputs cannot be traced; they predict as they are.
            return plain
        if not self._agree(result, expected):
            return plain
        if self._compile:
            return CompileChoice(lambda *inputs: graph(inputs), True, self._device), folded
        return graph, folded

    def _plain(self, arrays: tuple[Any, ...]) -> Any:
        with torch.autocast(self._device.type, dtype=self._dtype, enabled=self._dtype != torch.float32):
            return self._network(*arrays)

    def _agree(self, result: Any, expected: Any) -> bool:
        if isinstance(expected, (list, tuple)):
            return (
                isinstance(result, (list, tuple))
                and len(result) == len(expected)
                and all(self._agree(one, other) for one, other in zip(result, expected, strict=True))
            )
        if not isinstance(result, torch.Tensor) or result.shape != expected.shape:
            return False
        if not expected.is_floating_point():
            return bool(torch.equal(result, expected))
        difference = (result.float() - expected.float()).abs()
        scale = expected.float().abs().amax().clamp(min=1e-6) if expected.numel() else 1.0
        # Where the network itself gives NaN, so may the graph.
        worst = torch.nan_to_num(difference / scale).amax() if expected.numel() else torch.zeros(())
        return bool(worst <= _TOLERANCE[self._dtype])

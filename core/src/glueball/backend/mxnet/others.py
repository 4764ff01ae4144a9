"""What a training step does with the other processes: the same weights, the sums of gradients, the same statistics."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import mxnet as mx
import numpy as np
from mxnet import gluon
from safetensors.numpy import load, save

from glueball.backend.mxnet import batch_norm, precision
from glueball.backend.mxnet.optimizers import FlatState
from glueball.backend.mxnet.processes import GradientBuckets
from glueball.errors import TrainingError

if TYPE_CHECKING:
    from glueball.backend.base import StepOptions
    from glueball.backend.mxnet.backend import MXNetBackend
    from glueball.backend.mxnet.processes import MXNetProcessGroup


class Others:
    """The other processes, as one training step sees them.

    Raises:
        TrainingError: the network has parameters without values.
    """

    def __init__(
        self, group: MXNetProcessGroup, backend: MXNetBackend, network: Any, graph: Any, options: StepOptions
    ) -> None:
        self.size = group.size
        self._counts: Any = None
        self._group, self._graph, self._precision = group, graph, options.precision
        self._buckets: GradientBuckets | None = None
        self._statistics: list[Any] = []
        self._kept: list[Any] | None = None
        self._average: FlatState | None = None
        self._weight = 0.0
        parameters = backend.parameters(network)
        self._take_first_weights(backend, network, parameters)
        running = [parameter for parameter in parameters.values() if not parameter._differentiable]
        self.synchronizes = bool(running) and options.sync_batch_norm and isinstance(graph, gluon.HybridBlock)
        if running and options.sync_batch_norm and not self.synchronizes:
            warnings.warn(
                "The training graph is no HybridBlock, so that batch normalisation cannot be put together over the "
                "processes: each one normalises with its own part of the batch, and their running statistics are "
                "averaged.",
                stacklevel=4,
            )
        if not self.synchronizes:
            self._statistics = [parameter.data() for parameter in running]
        if self._statistics:
            self._average = FlatState([tuple(array.shape) for array in self._statistics], self._statistics[0].ctx)
            group.prepare("running statistics", self._average.buffer)

    def begin(self, weight: float, context: Any) -> None:
        """Before the forward pass of a batch."""
        if self.synchronizes:
            self._counts = mx.nd.full((1,), float(weight > 0), ctx=context)
        elif not weight and self._statistics:
            mx.nd.waitall()  # for what compiled graphs write late, as in MXNetBackend.get_arrays
            self._kept = [array.copy() for array in self._statistics]

    def further_inputs(self) -> list[Any]:
        """What a synchronised graph takes besides the batch."""
        return [self._counts] if self.synchronizes else []

    def end(self, weight: float) -> None:
        """After the backward pass of a batch."""
        self._weight += weight
        if self._kept is not None:
            mx.nd.waitall()
            for array, values in zip(self._statistics, self._kept, strict=True):
                array[:] = values
            self._kept = None

    def synchronized(self, block: Any, batch: list[Any]) -> Any:
        """The block with batch normalisation over all processes, and with ``further_inputs``."""
        variables = [*precision.input_variables(batch), mx.sym.var(batch_norm.COUNTS, dtype=np.float32)]
        outputs = block(*variables[:-1])
        symbol = mx.sym.Group(list(outputs)) if isinstance(outputs, (list, tuple)) else outputs
        parameters = self._graph.collect_params()
        channels = {name: parameter.shape[0] for name, parameter in parameters.items() if parameter.shape}
        symbol, replaced = batch_norm.synchronized(symbol, self._group, channels)
        if self._precision != "float32":
            symbol = precision.convert_symbol(symbol, self._precision)
        if not replaced:  # all of it is frozen: nobody asks for the count
            symbol = mx.sym.Group([*symbol, variables[-1]])
        return gluon.SymbolBlock(symbol, variables, params=parameters)

    def totals(self, weights: Sequence[Any]) -> list[Any]:
        """Where ``reduce`` puts the sums of gradients of these weights."""
        self._buckets = GradientBuckets(
            self._group, [tuple(weight.shape) for weight in weights], weights[0].ctx if weights else mx.cpu()
        )
        return self._buckets.views

    def reduce(self, gradients: Sequence[Any], count: int) -> None:
        """Sums the gradients of ``count`` micro-batches over the processes, and averages running statistics."""
        assert self._buckets is not None
        self._buckets.reduce(gradients)
        if self._average is not None:
            # The running statistics are there when the gradients are, and do not say so themselves.
            for gradient in gradients:
                gradient.wait_to_read()
            for array, view in zip(self._statistics, self._average.views, strict=True):
                view[:] = array * (self._weight / count)
            self._group.sum("running statistics", self._average.buffer)
            for array, view in zip(self._statistics, self._average.views, strict=True):
                array[:] = view / self.size
        self._weight = 0.0

    def share_waiting(self, gradients: Sequence[Any]) -> None:
        """Replaces gradients that wait for more micro-batches by their mean over the processes."""
        assert self._buckets is not None
        self._buckets.reduce(gradients)
        for gradient, total in zip(gradients, self._buckets.views, strict=True):
            gradient[:] = total / self.size

    def _take_first_weights(self, backend: MXNetBackend, network: Any, parameters: dict[str, Any]) -> None:
        unknown = [name for name, parameter in parameters.items() if parameter._data is None]
        if unknown:
            raise TrainingError(
                f"{len(unknown)} parameters have no values yet ({', '.join(unknown[:3])}, ...), so that the processes "
                "cannot begin with the same ones: initialise the network, and let it see one input."
            )
        arrays: dict[str, np.ndarray] = {
            name: np.ascontiguousarray(array) for name, array in backend.get_arrays(network).items()
        }
        content = self._group.broadcast(save(arrays) if self._group.rank == 0 else None)
        if self._group.rank:
            first = load(content)
            shapes = {name: array.shape for name, array in arrays.items()}
            if shapes != {name: array.shape for name, array in first.items()}:
                raise TrainingError(
                    f"Process {self._group.rank} has another network than process 0. The processes of a job must train "
                    "the same recipe on the same data."
                )
            backend.set_arrays(network, first)

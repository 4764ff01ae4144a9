"""Prediction on MXNet: the traced graph of the network, partitioned for oneDNN on the CPU.

A graph of fused operators cannot be trained any more. So the network is traced into a symbol of its own with copies of
its weights; the network itself is never touched. Nobody repairs MXNet's partitioner and memory planner any more. So a
compiled graph proves itself on the first batch of its shape: it gives what the network gives, or it is not used.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import mxnet as mx
import numpy as np
from mxnet import gluon

from glueball.backend.mxnet import device as devices_module
from glueball.backend.mxnet.fusion import fused
from glueball.backend.mxnet.graphs import last_line, without_dropout
from glueball.backend.mxnet.precision import convert_symbol, input_variables
from glueball.errors import BackendError

if TYPE_CHECKING:
    from glueball.backend.mxnet.backend import MXNetBackend

# Of the largest value; sums in another order differ by far less, what is wrong by far more.
_TOLERANCE = 0.02


# Shapes that get a static plan of their own; batches of further shapes share a plan that is made anew for each.
_STATIC_PLANS = 4


class MXNetPredictor:
    """``predict(*arrays) -> outputs`` with the weights that the network has when this is made, or at ``refresh()``."""

    def __init__(
        self, backend: MXNetBackend, network: Any, *, device: str, precision: str = "float32", compile: bool = True
    ) -> None:
        self._backend = backend
        self._network = network
        self._context = devices_module.context(device)
        self._precision = precision
        if precision != "float32":
            reason = backend.supports_precision(precision, device)
            if reason is not None:
                raise BackendError(f"Cannot predict in {precision} on {device}: {reason}. Use float32.")
            if not isinstance(network, gluon.HybridBlock):
                raise self._no_such_precision("it is no HybridBlock, so that no casts can be put into its graph")
        # The casts of a lower precision are in the graph: without one there is no such precision.
        self._compile = (compile or precision != "float32") and isinstance(network, gluon.HybridBlock)
        # Shapes of the inputs -> the compiled graph, None where the network itself has to do.
        self._compiled: dict[Any, Any] = {}
        # What all compiled graphs compute with: name -> (the network's parameter, its copy).
        self._copies: dict[str, tuple[Any, Any]] = {}
        self._shared: Any = None
        backend.to_device(network, device)

    def __call__(self, *inputs: Any) -> Any:
        arrays = [self._on_device(value) for value in inputs]
        with mx.autograd.predict_mode(), mx.autograd.pause():
            if not self._compile:
                return self._network(*arrays)
            key: Any = tuple((value.shape, str(value.dtype)) for value in arrays)
            static = key in self._compiled or len(self._compiled) < _STATIC_PLANS
            if not static:
                key = tuple((value.ndim, str(value.dtype)) for value in arrays)
            if key not in self._compiled:
                self._compiled[key] = self._build(arrays, static)
            block = self._compiled[key]
            result = self._network(*arrays) if block is None else block(*arrays)
        return result if self._single or not isinstance(result, (list, tuple)) else tuple(result)

    def refresh(self) -> None:
        """Takes over the weights that the network has now; nothing is traced again."""
        mx.nd.waitall()  # for the running statistics, as in MXNetBackend.get_arrays
        for source, copy in self._copies.values():
            source.data(self._context).copyto(copy.data(self._context))
        # oneDNN's fused operators keep reordered weights, which they only reread in a graph that is built anew.
        for block in filter(None, self._compiled.values()):
            block._clear_cached_op()

    def fused_layers(self) -> int:
        """How many operators of the compiled graphs stand for several layers."""
        blocks = filter(None, self._compiled.values())
        graphs = [block._cached_graph[1] for block in blocks if block._cached_graph]
        return sum(node["op"].startswith("_sg_") for graph in graphs for node in json.loads(graph.tojson())["nodes"])

    def _on_device(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return self._backend.array(value, self._context)
        return value if value.ctx == self._context else value.as_in_context(self._context)

    _single = True

    def _build(self, arrays: list[Any], static: bool) -> Any:
        """The network compiled for such inputs; None where the network itself has to do."""
        if any(parameter._data is None for parameter in self._network.collect_params().values()):
            self._network(*arrays)  # settles deferred shapes
        # SymbolBlock infers types from its inputs, and warns about inputs that have none.
        variables = input_variables(arrays)
        try:
            outputs = self._network(*variables)
        except Exception as error:
            reason = f"it cannot be traced: {type(error).__name__}: {error}"
            if self._precision != "float32":
                raise self._no_such_precision(reason) from error
            self._warn(f"The network predicts without compilation, since {reason}")
            return None
        self._single = not isinstance(outputs, (list, tuple))
        plain = without_dropout(outputs if self._single else mx.sym.Group(list(outputs)))
        if self._precision != "float32":
            symbols = [convert_symbol(plain, self._precision)]
        elif self._context.device_type == "cpu":
            symbols = [fused(plain), plain]
        else:
            symbols = [plain]
        faults = []
        for symbol in symbols:
            for static_shape in (True, False) if static else (False,):
                block = self._with_weights(symbol, variables)
                block.hybridize(static_alloc=True, static_shape=static_shape)
                fault = self._fault(block, arrays)
                if fault is None:
                    return block
                faults.append(fault)
        if self._precision != "float32":
            raise self._no_such_precision(faults[0])
        self._warn(f"The network predicts without compilation, since the compiled graphs are wrong: {faults[0]}")
        return None

    def _with_weights(self, symbol: Any, variables: Sequence[Any]) -> Any:
        """The symbol as a block on copies of the network's weights."""
        parameters = self._network.collect_params()
        block = gluon.SymbolBlock(symbol, variables, params=self._shared)
        if self._shared is None:
            self._shared = block.collect_params()
        mx.nd.waitall()
        for name, copy in block.collect_params().items():
            if name in self._copies:
                continue
            source = parameters[name]
            copy.shape = source.shape
            copy.dtype = source.dtype
            copy.grad_req = "null"
            copy._load_init(source.data(self._context), [self._context])
            self._copies[name] = (source, copy)
        return block

    def _fault(self, block: Any, arrays: list[Any]) -> str | None:
        """What is wrong with the block's answers; None where they are the network's."""
        expected = _values(self._network(*arrays))
        try:
            # A static plan is made by the first call and used by the second.
            answers = [_values(block(*arrays)) for _ in range(2)]
        except mx.MXNetError as error:
            return last_line(error)
        for received in answers:
            for one, two in zip(expected, received, strict=True):
                if one.shape != two.shape:
                    return f"the result has shape {two.shape} instead of {one.shape}"
                bound = _TOLERANCE * float(np.abs(one[np.isfinite(one)]).max(initial=0.0))
                if self._precision == "float32" and not np.allclose(one, two, rtol=0.0, atol=bound, equal_nan=True):
                    return "the result is not the network's own"
        return None

    def _no_such_precision(self, reason: str) -> BackendError:
        return BackendError(
            f'The network cannot predict in {self._precision} on MXNet: {reason}. Use float32 (precision="float32").'
        )

    def _warn(self, message: str) -> None:
        warnings.warn(message, RuntimeWarning, stacklevel=5)


def _values(outputs: Any) -> list[np.ndarray]:
    """The outputs as NumPy; what fails in MXNet's engine fails here at the latest."""
    return [output.asnumpy() for output in (outputs if isinstance(outputs, (list, tuple)) else [outputs])]

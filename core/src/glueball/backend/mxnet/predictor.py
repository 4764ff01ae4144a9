"""Prediction on MXNet: the traced graph of the network, partitioned for oneDNN on the CPU.

A graph of fused operators cannot be trained any more. So the network is traced into a symbol of its own with copies of
its weights; the network itself is never touched.
"""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Any

import mxnet as mx
import numpy as np
from mxnet import gluon

from glueball.backend.mxnet import device as devices_module
from glueball.backend.mxnet.precision import convert_symbol
from glueball.errors import BackendError

if TYPE_CHECKING:
    from glueball.backend.mxnet.backend import MXNetBackend


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
        self._compile = compile and isinstance(network, gluon.HybridBlock)
        # Compiled for each number of inputs and rank; the shapes within are MXNet's own matter.
        self._compiled: dict[Any, Any] = {}
        self._copies: list[tuple[Any, Any]] = []
        backend.to_device(network, device)

    def __call__(self, *inputs: Any) -> Any:
        arrays = [self._on_device(value) for value in inputs]
        with mx.autograd.predict_mode(), mx.autograd.pause():
            if not self._compile:
                return self._network(*arrays)
            key = tuple((value.ndim, str(value.dtype)) for value in arrays)
            block = self._compiled.get(key)
            if block is None:
                block = self._build(arrays)
                if block is None:
                    return self._network(*arrays)
                self._compiled[key] = block
            result = block(*arrays)
        return result if self._single or not isinstance(result, (list, tuple)) else tuple(result)

    def refresh(self) -> None:
        """Takes over the weights that the network has now; nothing is traced again."""
        mx.nd.waitall()  # for the running statistics, as in MXNetBackend.get_arrays
        for source, copy in self._copies:
            source.data(self._context).copyto(copy.data(self._context))
        # oneDNN's fused operators keep reordered weights, which they only reread in a graph that is built anew.
        for block in self._compiled.values():
            block._clear_cached_op()

    def fused_layers(self) -> int:
        """How many operators of the compiled graphs stand for several layers."""
        graphs = [block._cached_graph[1] for block in self._compiled.values() if block._cached_graph]
        return sum(node["op"].startswith("_sg_") for graph in graphs for node in json.loads(graph.tojson())["nodes"])

    def _on_device(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return self._backend.array(value, self._context)
        return value if value.ctx == self._context else value.as_in_context(self._context)

    _single = True

    def _build(self, arrays: list[Any]) -> Any:
        parameters = self._network.collect_params()
        if any(parameter._data is None for parameter in parameters.values()):
            self._network(*arrays)  # settles deferred shapes
        names = [f"input{index}" for index in range(len(arrays))]
        # SymbolBlock infers types from its inputs, and warns about inputs that have none.
        variables = [mx.sym.var(name, dtype=value.dtype) for name, value in zip(names, arrays, strict=True)]
        try:
            outputs = self._network(*variables)
        except Exception as error:
            self._compile = False
            warnings.warn(
                f"The network predicts without compilation, since it cannot be traced: {type(error).__name__}: {error}",
                RuntimeWarning,
                stacklevel=3,
            )
            return None
        self._single = not isinstance(outputs, (list, tuple))
        symbol = outputs if self._single else mx.sym.Group(list(outputs))
        if self._precision != "float32":
            symbol = convert_symbol(symbol, self._precision)
        elif self._context.device_type == "cpu":
            # Convolution, BatchNorm, activation and sum become one operator. This is the partitioner that executors
            # use; HybridBlock.optimize_for of 1.9.1 leaves such graphs as they are.
            symbol = symbol.get_backend_symbol("MKLDNN")
        block = gluon.SymbolBlock(symbol, variables)
        mx.nd.waitall()
        for name, copy in block.collect_params().items():
            source = parameters[name]
            copy.shape = source.shape
            copy.dtype = source.dtype
            copy.grad_req = "null"
            copy._load_init(source.data(self._context), [self._context])
            self._copies.append((source, copy))
        block.hybridize(static_alloc=True, static_shape=True)
        return block

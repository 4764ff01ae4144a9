"""float16 and bfloat16 on MXNet: casts put into the graph, the weights stay float32.

MXNet's ``amp.init()`` would rewrite every operator of the process, and ``amp.convert_symbol`` takes every input for
float32 and fails on the integer labels of a loss. So the traced graph is rewritten here: convolutions and matrix
products compute in the lower precision, what only passes values on (activations, pooling, sums, BatchNorm with its
float32 statistics) keeps the precision that it is given, and everything else (softmax, norms, losses) and the outputs
are float32. Gradients flow back through the casts and arrive at the weights in float32.
"""

from __future__ import annotations

import json
from typing import Any

import mxnet as mx
from mxnet import gluon

# What gains from the lower precision: tensor cores multiply matrices.
_LOW = frozenset({"Convolution", "Deconvolution", "FullyConnected", "batch_dot", "dot"})

# What computes in the precision of its data: position of the last data input, or None where every input is data.
_FOLLOWING: dict[str, int | None] = {
    "Activation": 0,
    "BatchNorm": 0,
    "Concat": None,
    "Dropout": 0,
    "Flatten": 0,
    "LeakyReLU": 0,
    "Pooling": 0,
    "Reshape": 0,
    "SliceChannel": 0,
    "SwapAxis": 0,
    "UpSampling": 0,
    "_copy": 0,
    "add_n": None,
    "clip": 0,
    "elemwise_add": None,
    "elemwise_mul": None,
    "expand_dims": 0,
    "slice_axis": 0,
    "transpose": 0,
}


def converted(block: Any, arrays: list[Any], precision: str, parameters: Any) -> Any:
    """The block as a ``SymbolBlock`` on the same parameters, computing in ``precision`` where that gains.

    ``arrays`` are inputs of the data types that will come. Shared parameters keep their names and arrays, so that
    training the converted graph trains the block.
    """
    variables = input_variables(arrays)
    outputs = block(*variables)
    symbol = mx.sym.Group(list(outputs)) if isinstance(outputs, (list, tuple)) else outputs
    return gluon.SymbolBlock(convert_symbol(symbol, precision), variables, params=parameters)


def input_variables(arrays: list[Any]) -> list[Any]:
    """Symbols for inputs of these data types, without which MXNet cannot infer those of a graph with casts."""
    return [mx.sym.var(f"input{index}", dtype=array.dtype) for index, array in enumerate(arrays)]


def convert_symbol(symbol: Any, precision: str) -> Any:
    """The symbol with casts to and from ``precision``; its outputs are float32."""
    return mx.sym.load_json(json.dumps(_Conversion(json.loads(symbol.tojson()), precision).run()))


class _Conversion:
    """Rewrites the JSON form of a symbol, node by node in topological order."""

    def __init__(self, graph: dict[str, Any], precision: str) -> None:
        self._graph = graph
        self._precision = precision
        self._nodes: list[dict[str, Any]] = []
        self._moved: dict[int, int] = {}
        self._is_low: set[int] = set()
        # (node, output, precision) -> the node that casts it, so that an array with two users is cast once.
        self._casts: dict[tuple[int, int, str], int] = {}

    def run(self) -> dict[str, Any]:
        for old, node in enumerate(self._graph["nodes"]):
            inputs = [[self._moved[source], output, 0] for source, output, *_ in node["inputs"]]
            data = self._data_inputs(node, len(inputs))
            operator = node["op"]
            low = operator in _LOW or (
                operator in _FOLLOWING and bool(data) and all(inputs[index][0] in self._is_low for index in data)
            )
            if operator != "null":
                for index, entry in enumerate(inputs):
                    wanted_low = low and index in data
                    if wanted_low != (entry[0] in self._is_low):
                        inputs[index] = self._cast(entry, self._precision if wanted_low else "float32")
            self._moved[old] = self._add({**node, "inputs": inputs})
            if low:
                self._is_low.add(self._moved[old])
        heads = []
        for source, output, *_ in self._graph["heads"]:
            entry = [self._moved[source], output, 0]
            heads.append(self._cast(entry, "float32") if entry[0] in self._is_low else entry)
        return {
            "nodes": self._nodes,
            "arg_nodes": [index for index, node in enumerate(self._nodes) if node["op"] == "null"],
            "node_row_ptr": list(range(len(self._nodes) + 1)),
            "heads": heads,
            "attrs": self._graph.get("attrs", {}),
        }

    def _data_inputs(self, node: dict[str, Any], count: int) -> range:
        """The inputs whose precision matters; BatchNorm's and PReLU's parameters stay float32."""
        if node["op"] in _LOW:
            return range(count)
        last = _FOLLOWING.get(node["op"])
        return range(count) if last is None else range(last + 1)

    def _cast(self, entry: list[int], precision: str) -> list[int]:
        source, output, _ = entry
        key = (source, output, precision)
        if key not in self._casts:
            name = f"{self._nodes[source]['name']}_{output}_{precision}"
            attributes = {"dtype": precision}
            self._casts[key] = self._add({"op": "amp_cast", "name": name, "attrs": attributes, "inputs": [entry]})
            if precision == self._precision != "float32":
                self._is_low.add(self._casts[key])
        return [self._casts[key], 0, 0]

    def _add(self, node: dict[str, Any]) -> int:
        self._nodes.append(node)
        return len(self._nodes) - 1

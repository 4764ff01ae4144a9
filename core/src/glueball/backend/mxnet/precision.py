"""float16 and bfloat16 on MXNet: casts put into the graph, the weights stay float32.

MXNet's ``amp.init()`` would rewrite every operator of the process, and ``amp.convert_symbol`` takes every input for
float32 and fails on the integer labels of a loss. So the traced graph is rewritten here: convolutions and matrix
products compute in the lower precision, what only passes values on (activations, pooling, sums, BatchNorm with its
float32 statistics) keeps the precision that it is given, and everything else (softmax, norms, losses) and the outputs
are float32. Gradients flow back through the casts and arrive at the weights in float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import mxnet as mx
from mxnet import gluon

from glueball.backend.mxnet.graphs import Entry, GraphRewriter


@attrs.frozen(kw_only=True)
class _Kernels:
    """Which operators MXNet 1.9.1 has in a precision, forward and backward."""

    computing: frozenset[str]
    """What gains from the lower precision."""
    following: Mapping[str, int | None]
    """What computes in the precision of its data: position of the last data input, or None where all are data."""
    limits: Mapping[str, tuple[str, str, frozenset[str]]] = attrs.field(factory=dict)
    """Operator: an attribute, its default, and the values with kernels."""

    def are_there(self, node: Mapping[str, Any]) -> bool:
        if node["op"] not in self.computing and node["op"] not in self.following:
            return False
        if node["op"] not in self.limits:
            return True
        name, default, values = self.limits[node["op"]]
        return node.get("attrs", {}).get(name, default) in values


_PASSING: dict[str, int | None] = {
    "Activation": 0,
    "BatchNorm": 0,
    "Concat": None,
    "Flatten": 0,
    "LeakyReLU": 0,
    "Pooling": 0,
    "Reshape": 0,
    "SliceChannel": 0,
    "SwapAxis": 0,
    "_copy": 0,
    "add_n": None,
    "clip": 0,
    "elemwise_add": None,
    "elemwise_mul": None,
    "expand_dims": 0,
    "slice_axis": 0,
}

# On GPUs: tensor cores multiply matrices.
_FLOAT16 = _Kernels(
    computing=frozenset({"Convolution", "Deconvolution", "FullyConnected", "batch_dot", "dot"}),
    following=_PASSING | {"Dropout": 0, "UpSampling": 0, "transpose": 0},
)
# On the CPU, by oneDNN. What is missing here fails ("Unknown type enum 12") or, as transpose does, corrupts memory.
_BFLOAT16 = _Kernels(
    computing=frozenset({"Convolution", "FullyConnected"}),
    following=_PASSING,
    limits={
        "Activation": ("act_type", "", frozenset({"relu", "sigmoid", "softrelu", "tanh"})),
        "LeakyReLU": ("act_type", "leaky", frozenset({"elu", "gelu", "leaky"})),
        "Pooling": ("pool_type", "max", frozenset({"avg", "max"})),
    },
)


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
    return _Conversion(symbol, precision).run()


class _Conversion(GraphRewriter):
    def __init__(self, symbol: Any, precision: str) -> None:
        super().__init__(symbol)
        self._precision = precision
        self._kernels = _BFLOAT16 if precision == "bfloat16" else _FLOAT16
        self._is_low: set[int] = set()
        # (node, output, precision) -> what casts it, so that an array with two users is cast once.
        self._casts: dict[tuple[int, int, str], Entry] = {}

    def rewrite(self, old: int, node: dict[str, Any]) -> Entry:
        inputs = node["inputs"]
        data = self._data_inputs(node, len(inputs))
        low = self._kernels.are_there(node) and (
            node["op"] in self._kernels.computing
            or (bool(data) and all(inputs[index][0] in self._is_low for index in data))
        )
        if node["op"] != "null":
            for index, entry in enumerate(inputs):
                wanted_low = low and index in data
                if wanted_low == (entry[0] in self._is_low):
                    continue
                if wanted_low and index == 1 and int(node.get("attrs", {}).get("num_group", 1)) > 1:
                    # A convolution by groups leaves its weight in a layout of oneDNN that cannot be cast; a copy can.
                    entry = self.after(entry, "_copy", "plain")
                inputs[index] = self._cast(entry, self._precision if wanted_low else "float32")
        moved = self.keep(old, node)
        if low:
            self._is_low.add(moved[0])
        return moved

    def head(self, entry: Entry) -> Entry:
        return self._cast(entry, "float32") if entry[0] in self._is_low else entry

    def _data_inputs(self, node: Mapping[str, Any], count: int) -> range:
        """The inputs whose precision matters; BatchNorm's and PReLU's parameters stay float32."""
        if node["op"] in self._kernels.computing:
            return range(count)
        last = self._kernels.following.get(node["op"])
        return range(count) if last is None else range(last + 1)

    def _cast(self, entry: Entry, precision: str) -> Entry:
        key = (entry[0], entry[1], precision)
        if key not in self._casts:
            self._casts[key] = self.after(entry, "amp_cast", precision, dtype=precision)
            if precision == self._precision != "float32":
                self._is_low.add(self._casts[key][0])
        return self._casts[key]

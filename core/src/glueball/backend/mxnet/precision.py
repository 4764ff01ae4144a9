"""float16 and bfloat16 on MXNet: casts put into the graph, the weights stay float32.

MXNet's ``amp.init()`` would rewrite every operator of the process; converting the traced graph touches this one only.
Its lists decide which operators run in the lower precision (convolutions, matrix products) and which stay in float32
(softmax, norms, sums).
"""

from __future__ import annotations

import warnings
from typing import Any

import mxnet as mx
from mxnet import gluon


def converted(block: Any, inputs: int, precision: str, parameters: Any) -> Any:
    """The block as a ``SymbolBlock`` on the same parameters, with casts to ``precision`` around operators that gain.

    ``inputs`` is the number of the block's inputs. Shared parameters keep their names and arrays, so that training the
    converted graph trains the block.
    """
    names = [f"input{index}" for index in range(inputs)]
    variables = [mx.sym.var(name) for name in names]
    outputs = block(*variables)
    symbol = mx.sym.Group(list(outputs)) if isinstance(outputs, (list, tuple)) else outputs
    return gluon.SymbolBlock(convert_symbol(symbol, names, precision), variables, params=parameters)


def convert_symbol(symbol: Any, inputs: list[str], precision: str) -> Any:
    """A symbol with casts to ``precision`` around the operators that gain; ``inputs`` names its data variables."""
    with warnings.catch_warnings():
        # The package drags in converters written for older libraries.
        warnings.simplefilter("ignore", DeprecationWarning)
        from mxnet.contrib import amp
    return amp.convert_symbol(symbol, target_dtype=precision, data_names=inputs)

"""Layers on MXNet: Gluon's own, with Glueball's interface (see ``glueball.backend.mxnet.block``).

``glueball.backend.dialect.LAYERS`` lists them. Layers of Gluon that the dialect does not list are handed on as well;
a model that uses one runs on MXNet only.
"""

from __future__ import annotations

from typing import Any

from mxnet import gluon
from mxnet.gluon.contrib import nn as contrib_layers

from glueball.backend.mxnet.block import Block, HybridBlock, SymbolBlock, with_interface

Parameter = gluon.Parameter
Constant = gluon.Constant
ParameterDict = gluon.ParameterDict

__all__ = ["Block", "Constant", "HybridBlock", "Parameter", "ParameterDict", "SymbolBlock"]

for _source in (gluon.nn, contrib_layers):
    for _name, _layer in vars(_source).items():
        if isinstance(_layer, type) and issubclass(_layer, gluon.Block) and _name not in globals():
            globals()[_name] = with_interface(_layer, __name__)
            __all__ += [_name]


class SiLU(HybridBlock):
    """data * sigmoid(data), element by element (arXiv:1702.03118)."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return x * F.sigmoid(x)


__all__ += ["SiLU"]


def __getattr__(name: str) -> Any:
    raise AttributeError(f"the layers of backend 'mxnet' have no {name!r}; they are {', '.join(sorted(__all__))}")

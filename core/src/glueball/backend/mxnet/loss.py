"""Losses on MXNet: Gluon's own, with Glueball's interface. ``glueball.backend.dialect.LOSSES`` lists them."""

from __future__ import annotations

from typing import Any

from mxnet import gluon

from glueball.backend.mxnet.block import with_interface

__all__: list[str] = []

# Two names of one class (SoftmaxCELoss) must stay one class.
_made: dict[type, type] = {}
for _name in gluon.loss.__all__:
    _loss = getattr(gluon.loss, _name)
    if _loss not in _made:
        _made[_loss] = with_interface(_loss, __name__)
    globals()[_name] = _made[_loss]
    __all__ += [_name]


def __getattr__(name: str) -> Any:
    raise AttributeError(f"the losses of backend 'mxnet' have no {name!r}; they are {', '.join(sorted(__all__))}")

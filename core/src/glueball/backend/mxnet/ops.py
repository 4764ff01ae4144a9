"""Functions on MXNet's arrays: ``mxnet.nd``, which is also what ``F`` is in an eager ``hybrid_forward``.

``glueball.backend.dialect.OPS`` lists those that exist on every backend. They are looked up when they are used, since
MXNet makes them from its operator registry, which extensions may add to.
"""

from __future__ import annotations

from typing import Any

import mxnet as mx

contrib = mx.nd.contrib
linalg = mx.nd.linalg
random = mx.nd.random


def __getattr__(name: str) -> Any:
    # Private names are asked for by inspect and pickle; MXNet's internal operators (``_plus_scalar``) are no dialect.
    if not name.startswith("_"):
        try:
            return getattr(mx.nd, name)
        except AttributeError:
            pass
    raise AttributeError(f"the functions of backend 'mxnet' have no {name!r}; MXNet {mx.__version__} does not offer it")


def __dir__() -> list[str]:
    return sorted(name for name in dir(mx.nd) if not name.startswith("_"))

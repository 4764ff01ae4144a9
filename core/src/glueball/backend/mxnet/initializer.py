"""Glueball's NumPy initialisers behind MXNet's interface.

Gluon asks an initialiser for values by the parameter's global name, which depends on how many networks the process has
built before. Glueball keys its random streams by the structural name instead, which only depends on the network; this
adapter translates one into the other.
"""

from __future__ import annotations

from typing import Any

import mxnet as mx
import numpy as np


class StructuralInitializer(mx.init.Initializer):
    """Initialises every parameter of one network: by its own initialiser, or by ``default`` where it names none."""

    def __init__(self, network: Any, default: Any = None) -> None:
        super().__init__()
        self._names = {
            parameter.name: structural for structural, parameter in network._collect_params_with_prefix().items()
        }
        self._default = default

    def __call__(self, desc: Any, arr: Any) -> None:
        from glueball import init

        # Gluon hands this object on as the parameter's own initialiser where the parameter names none.
        chosen = desc.attrs.get("__init__") if isinstance(desc, mx.init.InitDesc) else None
        own = None if chosen is None or chosen is self or chosen == "" else chosen
        if isinstance(own, str) and own.lower() not in init.NAMES:
            # A Constant registers an initialiser with MXNet under a name of its own.
            own = mx.init.create(own)
        for initializer in (own, self._default) if own is None else (own,):
            # The user's own MXNet initialiser, or the values of a Constant.
            if isinstance(initializer, mx.init.Initializer):
                initializer._init_weight(desc, arr)
                return
        name = self._names.get(str(desc), str(desc))
        values = init.initial_value(name, tuple(arr.shape), own=own, default=self._default)
        arr[:] = mx.nd.array(values, ctx=arr.ctx, dtype=np.float32).astype(arr.dtype)

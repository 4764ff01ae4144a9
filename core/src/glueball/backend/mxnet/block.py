"""Gluon's blocks with the interface that Glueball gives to networks on every backend.

Each class is a subclass of Gluon's own class that adds nothing to the computation: NumPy arrays are accepted as inputs,
parameters start from Glueball's initialisers (so that both backends start from the same weights), and weights are read
and written by ``glueball.weights`` (any of its formats). ``hybridize``, ``export``, ``optimize_for`` and every MXNet
tool work as always.
"""

from __future__ import annotations

from collections.abc import Callable
from os import PathLike
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import gluon

from glueball.backend.mxnet.device import context as context_of
from glueball.errors import BackendError, OptionError


class BlockInterface:
    """What Glueball adds to a Gluon block; mixed into every class of ``nn`` and ``loss``."""

    def __call__(self, *inputs: Any) -> Any:
        # Children of an eager network come through here too: one pass of isinstance is all that they pay.
        if any(isinstance(value, np.ndarray) for value in inputs):
            inputs = tuple(self._to_array(value) if isinstance(value, np.ndarray) else value for value in inputs)
        return super().__call__(*inputs)  # type: ignore[misc]

    def _to_array(self, values: np.ndarray) -> Any:
        """``values`` on the network's device; floating ones in the data type that ``cast`` gave to its parameters."""
        # MXNet knows the types of this machine's byte order only.
        values = values.astype(values.dtype.newbyteorder("="), copy=False)
        device, dtype = mx.current_context(), values.dtype
        ready = {
            name: parameter
            for name, parameter in self.collect_params().items()
            if parameter._data is not None or parameter._deferred_init
        }
        if ready:
            device = next(iter(ready.values())).list_ctx()[0]
        if dtype.kind == "f":
            floating = [(name, np.dtype(parameter.dtype)) for name, parameter in ready.items()]
            # Normalisation stays in float32 when the network is cast to half precision, so others are asked first.
            floating.sort(key=lambda one: one[0].endswith(("gamma", "beta")))
            dtype = next((kind for _, kind in floating if kind.kind in "fV"), np.dtype(np.float32))
            if dtype.kind == "V":  # MXNet's stand-in for bfloat16, which NumPy lacks
                return mx.nd.amp_cast(mx.nd.array(values, ctx=device, dtype=np.float32), dtype=dtype)
        elif dtype in (np.uint16, np.uint32, np.uint64):
            dtype = np.dtype(np.int64)
        return mx.nd.array(values, ctx=device, dtype=dtype)

    def initialize(
        self,
        init: Any = None,
        device: Any = None,
        ctx: Any = None,
        verbose: bool = False,
        force_reinit: bool = False,
    ) -> None:
        """Gives every parameter its first values; those of unknown shape get them at the first forward pass.

        ``init`` is an initialiser of ``glueball.init`` (or of MXNet) for parameters that do not name their own;
        ``device`` is ``"cpu"``, ``"cuda:0"``, ... or an MXNet context, and ``ctx`` is Gluon's name for it.
        """
        from glueball.backend.mxnet.initializer import StructuralInitializer

        where = ctx if device is None else device
        contexts = [context_of(one) for one in where] if isinstance(where, (list, tuple)) else None
        if contexts is None and where is not None:
            contexts = [context_of(where)]
        wrapper = StructuralInitializer(self, init)
        self.collect_params().initialize(wrapper, contexts, verbose, force_reinit)

    def cast(self, dtype: Any) -> None:
        """Converts the parameters of all blocks below to float16, float32 or float64; normalisation never to float16.

        Raises:
            BackendError: bfloat16, for which MXNet has too few kernels to run a network by itself.
            OptionError: there is no such data type.
        """
        if str(dtype) == "bfloat16":
            raise BackendError(
                "MXNet cannot run a network in bfloat16: few of its operators have such kernels, and some of the "
                "others give wrong numbers. Leave the network in float32 and ask for the precision where it is used, "
                'which casts what gains by it: glueball.load(RUN, precision="bfloat16"), '
                'glueball.backend.current().predictor(net, device="cpu", precision="bfloat16"), or '
                "`glueball train --precision bfloat16`. PyTorch casts all of it (GLUEBALL_BACKEND=torch)."
            )
        try:
            np.dtype(dtype)
        except TypeError as error:
            raise OptionError(f"cast takes float16, float32 or float64. Received: {dtype!r}.") from error
        super().cast(dtype)  # type: ignore[misc]

    def save_parameters(self, filename: str | PathLike[str], deduplicate: bool = False) -> None:
        """Writes the parameters under their structural names; the suffix decides the format (.params, .safetensors).

        Raises:
            BackendError: some parameters hold no values yet; a file without them would not load again.
        """
        from glueball import weights
        from glueball.backend.mxnet.backend import BACKEND

        arrays = BACKEND.get_arrays(self)
        empty = [name for name in BACKEND.parameters(self) if name not in arrays]
        if empty:
            raise BackendError(
                f"Nothing was written to {filename}: {len(empty)} of {len(arrays) + len(empty)} parameters were not "
                f"initialized, {empty[0]!r} first. Call initialize(), and the network once on a batch, before saving."
            )
        weights.save(filename, arrays)

    def load_parameters(
        self,
        filename: str | PathLike[str],
        ctx: Any = None,
        allow_missing: bool = False,
        ignore_extra: bool = False,
        cast_dtype: bool = False,
        dtype_source: str = "current",
        *,
        device: Any = None,
    ) -> None:
        """Reads parameters from any file that ``glueball.weights`` knows.

        Raises:
            WeightsError: the file is damaged, or names or shapes do not fit; all mismatches are listed.
        """
        from glueball import weights
        from glueball.backend.mxnet.backend import BACKEND

        weights.load_into(self, filename, allow_missing=allow_missing, ignore_extra=ignore_extra, cast_dtype=cast_dtype)
        where = ctx if device is None else device
        if where is not None:
            BACKEND.to_device(self, where)

    def summary(self, *inputs: Any) -> None:
        """Prints the output shape and the number of parameters of every block; ``inputs`` may be NumPy arrays."""
        arrays = [self._to_array(value) if isinstance(value, np.ndarray) else value for value in inputs]
        # Gluon hooks every child, which only runs eagerly; a hybridized network is put back afterwards.
        active = bool(getattr(self, "_active", False))
        flags = dict(getattr(self, "_flags", ()))
        if active:
            self.hybridize(False)
        try:
            super().summary(*arrays)  # type: ignore[misc]
        finally:
            if active:
                self.hybridize(True, **flags)

    # Methods of the Gluon class that the mixin is combined with.
    collect_params: Callable[..., Any]
    hybridize: Callable[..., None]


class Block(BlockInterface, gluon.Block):
    """A block whose ``forward`` is plain Python on arrays."""


class HybridBlock(BlockInterface, gluon.HybridBlock):
    """A block whose ``hybrid_forward(F, ...)`` can be compiled into a graph."""


class SymbolBlock(BlockInterface, gluon.SymbolBlock):
    """A block made of an MXNet symbol, for instance an exported network."""


def with_interface(gluon_class: type, module: str) -> type:
    """The Gluon class with Glueball's interface, under the same name and with the same constructor."""
    return type(
        gluon_class.__name__,
        (BlockInterface, gluon_class),
        {"__module__": module, "__doc__": gluon_class.__doc__},
    )

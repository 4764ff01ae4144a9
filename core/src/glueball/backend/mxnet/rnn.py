"""Recurrent layers on MXNet: Gluon's own, with Glueball's interface, and with lengths and dropout on every device.

``glueball.backend.dialect.RECURRENT`` lists them. Layers and cells of Gluon that the dialect does not list are handed
on as well; a model that uses one runs on MXNet only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import mxnet as mx
import numpy as np
from mxnet import gluon

from glueball.backend import recurrent
from glueball.backend.mxnet.block import BlockInterface, with_interface
from glueball.errors import BackendError

_WEIGHTS = ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")

_FLAT_NAME = re.compile(r"(l|r)(\d+)_(\w+)")


class _RecurrentLayer(BlockInterface):
    """Mixed into Gluon's RNN, LSTM and GRU."""

    # Of the Gluon class.
    _layout: str
    _mode: str
    _dir: int
    _num_layers: int
    _hidden_size: int
    _dropout: float
    _projection_size: int | None
    _lstm_state_clip_min: float | None
    _lstm_state_clip_max: float | None
    _lstm_state_clip_nan: bool
    _use_sequence_length: bool
    _reg_params: dict[str, Any]
    skip_states: bool
    state_info: Callable[..., list[dict[str, Any]]]
    begin_state: Callable[..., list[Any]]

    def __call__(self, inputs: Any, states: Any = None, sequence_length: Any = None) -> Any:
        layer = type(self).__name__
        recurrent.check_lengths(layer, self._use_sequence_length, sequence_length is not None)
        self._check_clipping()
        if isinstance(inputs, np.ndarray):
            inputs = self._to_array(inputs)
        if isinstance(sequence_length, np.ndarray):
            # Not as the other inputs are: the network's data type may be too short for a length.
            sequence_length = mx.nd.array(sequence_length, ctx=inputs.context, dtype=np.float32)
        without_states = states is None
        if states is None:
            states = self._zero_states(inputs)
        elif not isinstance(states, (list, tuple)):
            states = [states]
        states = [self._to_array(one) if isinstance(one, np.ndarray) else one for one in states]
        if isinstance(inputs, mx.nd.NDArray):
            expected = [info["shape"] for info in self.state_info(inputs.shape[self._layout.find("N")])]
            recurrent.check_states(layer, states, expected)
        # Gluon compiles a layer with or without its states as the first call has it, and later calls get the same. Here
        # the graph always gives them.
        self.skip_states = False
        lengths = [sequence_length] if self._use_sequence_length else []
        outputs, ended = gluon.HybridBlock.__call__(self, inputs, states, *lengths)
        return outputs if without_states else (outputs, ended)

    def _zero_states(self, inputs: Any) -> list[Any]:
        if isinstance(inputs, mx.nd.NDArray):
            batch_size = inputs.shape[self._layout.find("N")]
            return self.begin_state(batch_size, ctx=inputs.context, dtype=inputs.dtype)
        # Made from the inputs: of their data type, and of a batch size that is known when the graph runs.
        data = mx.sym.swapaxes(inputs, 0, 1) if self._layout == "NTC" else inputs
        column = mx.sym.slice(data, begin=(0, None, 0), end=(1, None, 1))
        return [
            mx.sym.broadcast_axis(mx.sym.zeros_like(column), axis=(0, 2), size=(info["shape"][0], info["shape"][2]))
            for info in self.state_info()
        ]

    def _forward_kernel(self, F: Any, inputs: Any, states: Any, sequence_length: Any, **weights: Any) -> Any:
        if not self._use_sequence_length and (self._num_layers == 1 or not self._dropout):
            return super()._forward_kernel(F, inputs, states, sequence_length, **weights)  # type: ignore[misc]
        names = _WEIGHTS if self._projection_size is None else (*_WEIGHTS, "h2r_weight")
        data = F.swapaxes(inputs, 0, 1) if self._layout == "NTC" else inputs
        if self._use_sequence_length and F is mx.sym:
            weights.update(self._with_inferred_shapes(F, data, weights))
        ordered = [
            [weights[f"{direction}{layer}_{name}"] for name in names]
            for layer in range(self._num_layers)
            for direction in "lr"[: self._dir]
        ]

        def kernel(read: Any, own: Sequence[Sequence[Any]], before: Sequence[Any]) -> Any:
            return self._one_layer(F, read, own, before)

        if self._use_sequence_length:
            outputs, ended = recurrent.run_lengths(
                F,
                kernel,
                data,
                states,
                sequence_length,
                ordered,
                mode=self._mode,
                hidden_size=self._hidden_size,
                num_directions=self._dir,
                dropout=self._dropout,
            )
        else:
            outputs, ended = recurrent.run_layers(
                F, kernel, data, states, ordered, num_directions=self._dir, dropout=self._dropout
            )
        return (F.swapaxes(outputs, 0, 1) if self._layout == "NTC" else outputs), ended

    def _with_inferred_shapes(self, F: Any, data: Any, weights: dict[str, Any]) -> dict[str, Any]:
        """The weights whose size MXNet is to infer: from that of a sum, since it cannot do so through a concat."""
        found = {}
        for name in [f"{direction}0_i2h_weight" for direction in "lr"[: self._dir]]:
            rows, channels = self._reg_params[name].shape
            if channels == 0:
                step = F.reshape(F.slice(data, begin=(0, 0, None), end=(1, 1, None)), shape=(-3, -2))
                zeros = F.broadcast_axis(F.zeros_like(step), axis=0, size=rows)
                found[name] = F.elemwise_add(weights[name], zeros)
        return found

    def _one_layer(self, F: Any, data: Any, weights: Sequence[Sequence[Any]], states: Sequence[Any]) -> Any:
        matrices = [one for own in weights for one in (*own[:2], *own[4:])]
        biases = [one for own in weights for one in own[2:4]]
        flat = [F.reshape(one, shape=(-1,)) for one in (*matrices, *biases)]
        return F.RNN(
            data,
            F._internal._rnn_param_concat(*flat, dim=0),
            *states,
            state_size=self._hidden_size,
            projection_size=self._projection_size,
            num_layers=1,
            bidirectional=len(weights) == 2,
            state_outputs=True,
            mode=self._mode,
            lstm_state_clip_min=self._lstm_state_clip_min,
            lstm_state_clip_max=self._lstm_state_clip_max,
            lstm_state_clip_nan=self._lstm_state_clip_nan,
        )

    def _check_clipping(self) -> None:
        """MXNet's kernel for CPUs would leave the states as they are."""
        if self._lstm_state_clip_min is None and self._lstm_state_clip_max is None:
            return
        for parameter in self._reg_params.values():
            contexts = parameter.list_ctx() if parameter._data is not None or parameter._deferred_init else []
            if any(context.device_type == "cpu" for context in contexts):
                raise BackendError(
                    f"{type(self).__name__}: MXNet clips states on GPUs only; move the network there, or leave "
                    "state_clip_min and state_clip_max out."
                )

    def _collect_params_with_prefix(self, prefix: str = "") -> dict[str, Any]:
        """Gluon's names, ``_unfused.0.l_cell.i2h_weight``; its own method stumbles over the eleventh layer."""
        found = {}
        for name, parameter in self._reg_params.items():
            matched = _FLAT_NAME.fullmatch(name)
            assert matched is not None
            direction, layer, rest = matched.groups()
            cell = f"{direction}_cell." if self._dir == 2 else ""
            found[f"{prefix}{'.' if prefix else ''}_unfused.{layer}.{cell}{rest}"] = parameter
        return found


class _Cell(BlockInterface):
    """Mixed into Gluon's RNNCell, LSTMCell and GRUCell."""

    # Of the Gluon class.
    state_info: Callable[..., list[dict[str, Any]]]
    reset: Callable[[], None]

    def unroll(
        self,
        length: int,
        inputs: Any,
        begin_state: Any = None,
        layout: str = "NTC",
        merge_outputs: bool | None = None,
        valid_length: Any = None,
    ) -> Any:
        """Gluon's, except that a ``valid_length`` of 0 leaves the states as they were, where Gluon reads elsewhere."""
        recurrent.check_layout(type(self).__name__, layout)
        axis = layout.index("T")
        if isinstance(inputs, (mx.nd.NDArray, mx.sym.Symbol)):
            if isinstance(inputs, mx.nd.NDArray):
                recurrent.check_steps(type(self).__name__, length, inputs.shape[axis])
            F = mx.nd if isinstance(inputs, mx.nd.NDArray) else mx.sym
            pieces = F.split(inputs, num_outputs=length, axis=axis, squeeze_axis=True)
            steps = [pieces] if length == 1 else list(pieces)
        else:
            steps = list(inputs)
            recurrent.check_steps(type(self).__name__, length, len(steps))
            F = mx.nd if isinstance(steps[0], mx.nd.NDArray) else mx.sym
        if begin_state is None:
            # Made from the first step: of its batch size, data type and device, in a graph too.
            row = F.zeros_like(F.slice_axis(steps[0], axis=1, begin=0, end=1))
            sizes = [info["shape"][1] for info in self.state_info()]
            begin_state = [F.broadcast_axis(row, axis=1, size=size) for size in sizes]
        self.reset()
        return recurrent.unroll(F, self, steps, begin_state, axis, merge_outputs, valid_length)


__all__: list[str] = []

for _name, _layer in vars(gluon.rnn).items():
    if isinstance(_layer, type) and issubclass(_layer, gluon.Block):
        if _name in ("RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell"):
            _mixin = _Cell if _name.endswith("Cell") else _RecurrentLayer
            globals()[_name] = type(_name, (_mixin, _layer), {"__module__": __name__, "__doc__": _layer.__doc__})
        else:
            globals()[_name] = with_interface(_layer, __name__)
        __all__ += [_name]


def __getattr__(name: str) -> Any:
    raise AttributeError(
        f"the recurrent layers of backend 'mxnet' have no {name!r}; they are {', '.join(sorted(__all__))}"
    )

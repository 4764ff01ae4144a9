"""One step of a recurrent layer as a block, for models that do something between two steps.

Over whole sequences the layers of ``recurrent.py`` compute the same in one call, many times faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from glueball.backend import recurrent
from glueball.backend.torch import ops
from glueball.backend.torch.block import HybridBlock
from glueball.backend.torch.ops.arguments import torch_dtype
from glueball.errors import OptionError


class _Cell(HybridBlock):
    """What the three share. Subclasses hand in the mode and compute a step."""

    _num_states = 1

    def __init__(
        self,
        mode: str,
        hidden_size: int,
        i2h_weight_initializer: Any,
        h2h_weight_initializer: Any,
        i2h_bias_initializer: Any,
        h2h_bias_initializer: Any,
        input_size: int,
        prefix: str | None,
        params: Any,
    ) -> None:
        super().__init__(prefix=prefix, params=params)
        self._hidden_size = hidden_size
        self._rows = rows = recurrent.GATES[mode] * hidden_size
        for name, shape, initializer in (
            ("i2h_weight", (rows, input_size), i2h_weight_initializer),
            ("h2h_weight", (rows, hidden_size), h2h_weight_initializer),
            ("i2h_bias", (rows,), i2h_bias_initializer),
            ("h2h_bias", (rows,), h2h_bias_initializer),
        ):
            setattr(self, name, self.params.get(name, shape=shape, init=initializer, allow_deferred_init=True))

    i2h_weight: Any

    def _alias(self) -> str:
        return type(self).__name__.removesuffix("Cell").lower()

    def infer_shape(self, inputs: Tensor, *others: Any) -> None:
        self.i2h_weight.shape = (self._rows, inputs.shape[-1])

    def reset(self) -> None:
        """Nothing: a cell of this kind remembers nothing from one sequence to the next."""

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        """Shapes of the states: h, and c of an LSTM, each (batch, hidden)."""
        return [{"shape": (batch_size, self._hidden_size), "__layout__": "NC"} for _ in range(self._num_states)]

    def begin_state(self, batch_size: int = 0, func: Any = None, **kwargs: Any) -> list[Tensor]:
        """States to begin with: zeros on the cell's device, or ``func(shape=shape, **kwargs)``."""
        shapes = [info["shape"] for info in self.state_info(batch_size)]
        if func is not None:
            return [func(shape=shape, **kwargs) for shape in shapes]
        device = kwargs.pop("device", None) or kwargs.pop("ctx", None) or self._device()
        dtype = kwargs.pop("dtype", None) or self._floating_dtype()
        if kwargs:
            raise OptionError(f"begin_state without func takes dtype and device; received {', '.join(kwargs)}.")
        kind = None if dtype is None else torch_dtype(dtype)
        return [torch.zeros(shape, dtype=kind, device=device) for shape in shapes]

    def unroll(
        self,
        length: int,
        inputs: Any,
        begin_state: Any = None,
        layout: str = "NTC",
        merge_outputs: bool | None = None,
        valid_length: Any = None,
    ) -> tuple[Any, list[Tensor]]:
        """(outputs, states) after ``length`` steps.

        ``inputs`` is one array in ``layout`` or a list of (batch, channels); outputs are one array where
        ``merge_outputs`` is True and a list where it is False. With ``valid_length`` (batch,) outputs beyond a length
        are 0 and states are those at the length; 0 leaves them as they were.

        Raises:
            OptionError: the layout is unknown, or the inputs are not ``length`` steps.
        """
        recurrent.check_layout(type(self).__name__, layout)
        axis = layout.index("T")
        steps: Sequence[Tensor] = inputs.unbind(axis) if isinstance(inputs, Tensor) else list(inputs)
        recurrent.check_steps(type(self).__name__, length, len(steps))
        if begin_state is None:
            begin_state = self.begin_state(steps[0].shape[0], dtype=steps[0].dtype, device=steps[0].device)
        return recurrent.unroll(ops, self, steps, begin_state, axis, merge_outputs, valid_length)

    def extra_repr(self) -> str:
        shape = tuple(self.i2h_weight.shape or ())
        return f"{shape[1] or None} -> {self._hidden_size}"


class RNNCell(_Cell):
    """h = act(W_i2h · x + b_i2h + W_h2h · h + b_h2h); ``cell(inputs, [h])`` gives (output, [h]).

    inputs: (batch, channels). ``activation`` is a name that ``F.Activation`` knows.
    """

    def __init__(
        self,
        hidden_size: int,
        activation: str = "tanh",
        i2h_weight_initializer: Any = None,
        h2h_weight_initializer: Any = None,
        i2h_bias_initializer: Any = "zeros",
        h2h_bias_initializer: Any = "zeros",
        input_size: int = 0,
        prefix: str | None = None,
        params: Any = None,
    ) -> None:
        super().__init__(
            "rnn_tanh",
            hidden_size,
            i2h_weight_initializer,
            h2h_weight_initializer,
            i2h_bias_initializer,
            h2h_bias_initializer,
            input_size,
            prefix,
            params,
        )
        self._activation = activation

    def hybrid_forward(self, F: Any, inputs: Any, states: Any, **weights: Any) -> Any:
        linear = torch.nn.functional.linear
        read = linear(inputs, weights["i2h_weight"], weights["i2h_bias"])
        kept = linear(states[0], weights["h2h_weight"], weights["h2h_bias"])
        output = F.Activation(read + kept, act_type=self._activation)
        return output, [output]


class LSTMCell(_Cell):
    """A step of long short-term memory with gates i, f, g, o: ``cell(inputs, [h, c])`` gives (output, [h, c])."""

    _num_states = 2

    def __init__(
        self,
        hidden_size: int,
        i2h_weight_initializer: Any = None,
        h2h_weight_initializer: Any = None,
        i2h_bias_initializer: Any = "zeros",
        h2h_bias_initializer: Any = "zeros",
        input_size: int = 0,
        prefix: str | None = None,
        params: Any = None,
        activation: str = "tanh",
        recurrent_activation: str = "sigmoid",
    ) -> None:
        super().__init__(
            "lstm",
            hidden_size,
            i2h_weight_initializer,
            h2h_weight_initializer,
            i2h_bias_initializer,
            h2h_bias_initializer,
            input_size,
            prefix,
            params,
        )
        self._activation = activation
        self._recurrent_activation = recurrent_activation

    def hybrid_forward(self, F: Any, inputs: Any, states: Any, **weights: Any) -> Any:
        linear = torch.nn.functional.linear
        read = linear(inputs, weights["i2h_weight"], weights["i2h_bias"])
        kept = linear(states[0], weights["h2h_weight"], weights["h2h_bias"])
        gates = (read + kept).chunk(4, dim=1)
        i, f, o = (F.Activation(gates[index], act_type=self._recurrent_activation) for index in (0, 1, 3))
        cell = f * states[1] + i * F.Activation(gates[2], act_type=self._activation)
        output = o * F.Activation(cell, act_type=self._activation)
        return output, [output, cell]


class GRUCell(_Cell):
    """A step of gated recurrent units, blocks r, z, n, as in ``GRU``: ``cell(inputs, [h])`` gives (output, [h])."""

    def __init__(
        self,
        hidden_size: int,
        i2h_weight_initializer: Any = None,
        h2h_weight_initializer: Any = None,
        i2h_bias_initializer: Any = "zeros",
        h2h_bias_initializer: Any = "zeros",
        input_size: int = 0,
        prefix: str | None = None,
        params: Any = None,
    ) -> None:
        super().__init__(
            "gru",
            hidden_size,
            i2h_weight_initializer,
            h2h_weight_initializer,
            i2h_bias_initializer,
            h2h_bias_initializer,
            input_size,
            prefix,
            params,
        )

    def hybrid_forward(self, F: Any, inputs: Any, states: Any, **weights: Any) -> Any:
        linear = torch.nn.functional.linear
        read_r, read_z, read_n = linear(inputs, weights["i2h_weight"], weights["i2h_bias"]).chunk(3, dim=1)
        kept_r, kept_z, kept_n = linear(states[0], weights["h2h_weight"], weights["h2h_bias"]).chunk(3, dim=1)
        reset, update = torch.sigmoid(read_r + kept_r), torch.sigmoid(read_z + kept_z)
        output = (1 - update) * torch.tanh(read_n + reset * kept_n) + update * states[0]
        return output, [output]

"""RNN, LSTM and GRU over whole sequences, on PyTorch's native kernels (cuDNN on GPUs, oneDNN on CPUs).

Gluon names the weights of layer 2's reversed direction ``_unfused.2.r_cell.i2h_weight``, or ``_unfused.2.i2h_weight``
in a layer of one direction, since these were once stacks of cells. Here the weights do live in blocks of these names,
so that ``state_dict`` and files agree without translation.

Sequences of different lengths run packed: padding costs no computation, and each ends where it ends. Their lengths are
needed on the host for that. Neither packing nor the kernels, which torch.compile would unroll step by step, are
compiled: a compiled network leaves its graph for them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from glueball.backend import recurrent
from glueball.backend.torch import ops
from glueball.backend.torch.autograd import scope_training
from glueball.backend.torch.block import Block, HybridBlock
from glueball.backend.torch.ops.arguments import shareable, torch_dtype
from glueball.backend.torch.parameter import Parameter
from glueball.errors import OptionError

_KERNELS: dict[str, Any] = {
    "lstm": torch.lstm,
    "gru": torch.gru,
    "rnn_tanh": torch.rnn_tanh,
    "rnn_relu": torch.rnn_relu,
}


class _Weights(Block):
    """The parameters of one layer in one direction, under the names that a cell gives them."""

    def tensors(self, names: Sequence[str]) -> list[Tensor]:
        """The values, in this order."""
        found = []
        for name in names:
            tensor = self._parameters.get(name)
            if tensor is None:  # not trained, or put in its place by a tool of PyTorch
                value = getattr(self, name)
                tensor = value.data() if isinstance(value, Parameter) else value
            found.append(tensor)
        return found


class _Group(Block):
    """Names in the path of a parameter: layers, or the two directions of one."""


class _RecurrentLayer(HybridBlock):
    """What the three share. Subclasses hand in the mode."""

    def __init__(
        self,
        mode: str,
        hidden_size: int,
        num_layers: int,
        layout: str,
        dropout: float,
        bidirectional: bool,
        input_size: int,
        i2h_weight_initializer: Any,
        h2h_weight_initializer: Any,
        i2h_bias_initializer: Any,
        h2h_bias_initializer: Any,
        dtype: Any,
        projection_size: int | None = None,
        h2r_weight_initializer: Any = None,
        use_sequence_length: bool = False,
        prefix: str | None = None,
        params: Any = None,
    ) -> None:
        super().__init__(prefix=prefix, params=params)
        recurrent.check_layout(type(self).__name__, layout)
        self._mode = mode
        self._hidden_size = hidden_size
        self._projection_size = projection_size or None
        self._num_layers = num_layers
        self._layout = layout
        self._dropout = dropout
        self._dir = 2 if bidirectional else 1
        self._gates = recurrent.GATES[mode]
        self._use_sequence_length = use_sequence_length
        self._has_waiting = True
        # Addresses of weights that cuDNN finds in one piece.
        self._flat: tuple[int, ...] = ()
        rows, outputs = self._gates * hidden_size, self._projection_size or hidden_size
        shapes: dict[str, tuple[tuple[int, ...], Any]] = {
            "i2h_weight": ((rows, input_size), i2h_weight_initializer),
            "h2h_weight": ((rows, outputs), h2h_weight_initializer),
            "i2h_bias": ((rows,), i2h_bias_initializer),
            "h2h_bias": ((rows,), h2h_bias_initializer),
        }
        if self._projection_size is not None:
            shapes["h2r_weight"] = ((outputs, hidden_size), h2r_weight_initializer)
        self._names = tuple(shapes)
        # In the order of the states: layer by layer, the forward direction first.
        self._blocks: list[_Weights] = []
        self._unfused = _Group(prefix="")
        for layer in range(num_layers):
            if layer:
                shapes["i2h_weight"] = ((rows, outputs * self._dir), i2h_weight_initializer)
            group = _Group(prefix="")
            for direction in "lr"[: self._dir]:
                with self.name_scope():
                    weights = _Weights(prefix=f"{direction}{layer}_")
                for name, (shape, initializer) in shapes.items():
                    full = f"{direction}{layer}_{name}"
                    handle = self.params.get(full, shape=shape, init=initializer, dtype=dtype, allow_deferred_init=True)
                    setattr(weights, name, handle)
                    # Gluon's attribute. In __dict__, since the parameter belongs to the block of weights.
                    self.__dict__[full] = handle
                self._blocks.append(weights)
                group.register_child(weights, f"{direction}_cell")
            self._unfused.register_child(group if bidirectional else weights)

    def state_info(self, batch_size: int = 0) -> list[dict[str, Any]]:
        """Shapes of the states: h, and c of an LSTM, each (layers * directions, batch, hidden)."""
        first = self._num_layers * self._dir
        sizes = [self._projection_size or self._hidden_size]
        if self._mode == "lstm":
            sizes.append(self._hidden_size)
        return [{"shape": (first, batch_size, size), "__layout__": "LNC"} for size in sizes]

    def begin_state(self, batch_size: int = 0, func: Any = None, **kwargs: Any) -> list[Tensor]:
        """States to begin with: zeros, or ``func(shape, **kwargs)``. They are on the layer's device.

        ``dtype`` and ``ctx`` (or ``device``) among the keywords place zeros elsewhere.
        """
        shapes = [info["shape"] for info in self.state_info(batch_size)]
        if func is not None:
            return [func(shape=shape, **kwargs) for shape in shapes]
        device = kwargs.pop("device", None) or kwargs.pop("ctx", None) or self._device()
        dtype = kwargs.pop("dtype", None) or self._floating_dtype()
        if kwargs:
            raise OptionError(f"begin_state without func takes dtype and device; received {', '.join(kwargs)}.")
        kind = None if dtype is None else torch_dtype(dtype)
        return [torch.zeros(shape, dtype=kind, device=device) for shape in shapes]

    def __call__(self, inputs: Any, states: Any = None, sequence_length: Any = None) -> Any:
        recurrent.check_lengths(type(self).__name__, self._use_sequence_length, sequence_length is not None)
        if isinstance(sequence_length, np.ndarray):
            # Not with the other inputs: the network's data type may be too short for a length.
            sequence_length = torch.from_numpy(shareable(sequence_length))
        return super().__call__(inputs, states, sequence_length)

    def forward(self, inputs: Tensor, states: Any = None, sequence_length: Any = None) -> Any:
        if self._has_waiting:
            self._settle_shapes(inputs)
        training = scope_training()
        if training is None:
            training = self.training
        data = inputs.transpose(0, 1) if self._layout == "NTC" else inputs
        without_states = states is None
        if states is None:
            states = self.begin_state(data.shape[1], dtype=data.dtype, device=data.device)
        elif isinstance(states, Tensor):
            states = [states]
        expected = [info["shape"] for info in self.state_info(data.shape[1])]
        recurrent.check_states(type(self).__name__, states, expected)
        outputs, *ended = self._run(data, list(states), sequence_length, training)
        if self._layout == "NTC":
            outputs = outputs.transpose(0, 1)
        return outputs if without_states else (outputs, ended)

    @torch.compiler.disable
    def _settle_shapes(self, inputs: Tensor) -> None:
        for block in self._blocks[: self._dir]:
            first = block._handles.get("i2h_weight")
            if first is not None and not first.is_initialized:
                first.shape = (self._gates * self._hidden_size, inputs.shape[-1])
        for handle in (one for block in self._blocks for one in block._handles.values()):
            if not handle.is_initialized:
                if handle._deferred is not None:
                    handle._move_lazy(inputs.device)
                handle.finish_deferred_initialization()
        self._has_waiting = False

    @torch.compiler.disable
    def _run(self, data: Tensor, states: list[Tensor], lengths: Tensor | None, training: bool) -> Sequence[Tensor]:
        """(output, *states). data: (time, batch, channels)."""
        weights = [block.tensors(self._names) for block in self._blocks]
        if lengths is not None and torch.compiler.is_compiling():  # an export: compiled networks do not come here
            return self._run_padded(data, states, lengths, weights, training)
        every = [one for block in weights for one in block]
        if data.is_cuda:
            self._flatten(every, data.shape[-1])
        if lengths is not None and data.shape[1] > 0:
            return self._run_packed(data, states, lengths, every, training)
        return self._kernel(data, None, states, every, self._num_layers, self._dir == 2, training)

    def _run_packed(
        self, data: Tensor, states: list[Tensor], lengths: Tensor, weights: list[Tensor], training: bool
    ) -> Sequence[Tensor]:
        time = data.shape[0]
        lengths = lengths.detach().cpu().long().clamp(0, time)
        empty = lengths == 0
        chosen = empty.to(data.device)[:, None] if bool(empty.any()) else None
        if chosen is not None:
            # Packing asks for a step of each, which must not be one of whatever stands there.
            data = data.masked_fill(chosen, 0.0)
        packed = pack_padded_sequence(data, lengths.clamp(min=1), enforce_sorted=False)
        order = packed.sorted_indices
        before = [state.index_select(1, order) for state in states]
        values, *after = self._kernel(
            packed.data, packed.batch_sizes, before, weights, self._num_layers, self._dir == 2, training
        )
        packed = PackedSequence(values, packed.batch_sizes, order, packed.unsorted_indices)
        outputs, _ = pad_packed_sequence(packed, total_length=time)
        ended = [state.index_select(1, packed.unsorted_indices) for state in after]
        if chosen is not None:
            outputs = outputs.masked_fill(chosen, 0.0)
            ended = [torch.where(chosen, old.to(new.dtype), new) for old, new in zip(states, ended, strict=True)]
        return outputs, *ended

    def _run_padded(
        self, data: Tensor, states: list[Tensor], lengths: Tensor, weights: list[list[Tensor]], training: bool
    ) -> Sequence[Tensor]:
        def kernel(read: Tensor, own: Sequence[Sequence[Tensor]], before: Sequence[Tensor]) -> Sequence[Tensor]:
            return self._kernel(read, None, before, own[0], 1, False, training)

        outputs, ended = recurrent.run_lengths(
            ops.TRAINING if training else ops.INFERENCE,
            kernel,
            data,
            states,
            lengths,
            weights,
            mode=self._mode,
            hidden_size=self._hidden_size,
            num_directions=self._dir,
            dropout=self._dropout,
        )
        return outputs, *ended

    def _kernel(
        self,
        data: Tensor,
        batch_sizes: Tensor | None,
        states: Sequence[Tensor],
        weights: Sequence[Tensor],
        num_layers: int,
        bidirectional: bool,
        training: bool,
    ) -> Sequence[Tensor]:
        """PyTorch's kernel: (output, *states). Packed data come with the number of sequences at each step."""
        before = tuple(states) if self._mode == "lstm" else states[0]
        shared = (before, list(weights), True, num_layers, float(self._dropout), training, bidirectional)
        kernel = _KERNELS[self._mode]
        with warnings.catch_warnings():
            if self._projection_size is not None:
                # That it takes another of its kernels is no matter of the user's.
                warnings.filterwarnings("ignore", ".*with projections is not supported with oneDNN", UserWarning)
            result = kernel(data, *shared, False) if batch_sizes is None else kernel(data, batch_sizes, *shared)
        return tuple(result)

    def _flatten(self, weights: list[Tensor], input_size: int) -> None:
        """Lays the weights out in one piece of memory, without which cuDNN would copy them at every call."""
        addresses = tuple(one.data_ptr() for one in weights)
        if addresses == self._flat or len(set(addresses)) != len(addresses):
            return
        if not all(torch.backends.cudnn.is_acceptable(one) for one in weights):
            return
        from torch.backends.cudnn import rnn

        with torch.no_grad(), torch.cuda.device_of(weights[0]):
            if torch._use_cudnn_rnn_flatten_weight():
                torch._cudnn_rnn_flatten_weight(
                    weights,
                    len(self._names),
                    input_size,
                    rnn.get_cudnn_mode(self._mode.upper()),
                    self._hidden_size,
                    self._projection_size or 0,
                    self._num_layers,
                    False,
                    self._dir == 2,
                )
        self._flat = tuple(one.data_ptr() for one in weights)

    def extra_repr(self) -> str:
        shape = tuple(self.__dict__["l0_i2h_weight"].shape or ())
        text = f"{shape[1] or None} -> {self._hidden_size}, {self._layout}"
        if self._num_layers != 1:
            text += f", num_layers={self._num_layers}"
        if self._dropout:
            text += f", dropout={self._dropout}"
        return text + ", bidirectional" if self._dir == 2 else text


class RNN(_RecurrentLayer):
    """h = act(W_i2h · x + b_i2h + W_h2h · h + b_h2h) in each layer (Elman 1990); ``activation`` is "relu" or "tanh".

    ``layer(inputs)`` gives the outputs of the last layer: (time, batch, hidden * directions), or (batch, time, ...)
    with layout "NTC". ``layer(inputs, states)`` gives (outputs, states), (layers * directions, batch, hidden) each;
    ``begin_state(batch_size)`` makes zeros. Made with ``use_sequence_length=True`` it is called
    ``layer(inputs, states, sequence_length)``: outputs beyond a length are 0, states are those at the length, and the
    reversed direction begins there.

    Raises:
        OptionError: an unknown activation or layout, lengths that are missing or would be ignored, states that do not
            fit.
    """

    def __init__(
        self,
        hidden_size: int,
        num_layers: int = 1,
        activation: str = "relu",
        layout: str = "TNC",
        dropout: float = 0,
        bidirectional: bool = False,
        i2h_weight_initializer: Any = None,
        h2h_weight_initializer: Any = None,
        i2h_bias_initializer: Any = "zeros",
        h2h_bias_initializer: Any = "zeros",
        input_size: int = 0,
        dtype: Any = "float32",
        **kwargs: Any,
    ) -> None:
        if activation not in ("relu", "tanh"):
            raise OptionError(f"RNN: expected activation relu or tanh; received {activation!r}.")
        super().__init__(
            "rnn_" + activation,
            hidden_size,
            num_layers,
            layout,
            dropout,
            bidirectional,
            input_size,
            i2h_weight_initializer,
            h2h_weight_initializer,
            i2h_bias_initializer,
            h2h_bias_initializer,
            dtype,
            **kwargs,
        )


class LSTM(_RecurrentLayer):
    """Long short-term memory (Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000).

    c = sigmoid(f) · c + sigmoid(i) · tanh(g) and h = sigmoid(o) · tanh(c), where the blocks of W_i2h · x + b_i2h +
    W_h2h · h + b_h2h are i, f, g, o. States are [h, c]; ``projection_size`` makes h = W_h2r · h of that size
    (arXiv:1402.1128). Called as ``RNN`` is.

    Raises:
        OptionError: as ``RNN``; state clipping, for which PyTorch has no kernel.
    """

    def __init__(
        self,
        hidden_size: int,
        num_layers: int = 1,
        layout: str = "TNC",
        dropout: float = 0,
        bidirectional: bool = False,
        input_size: int = 0,
        i2h_weight_initializer: Any = None,
        h2h_weight_initializer: Any = None,
        i2h_bias_initializer: Any = "zeros",
        h2h_bias_initializer: Any = "zeros",
        projection_size: int | None = None,
        h2r_weight_initializer: Any = None,
        state_clip_min: float | None = None,
        state_clip_max: float | None = None,
        state_clip_nan: bool = False,
        dtype: Any = "float32",
        **kwargs: Any,
    ) -> None:
        if state_clip_min is not None or state_clip_max is not None or state_clip_nan:
            raise OptionError("LSTM: the torch backend has no kernel that clips states; leave state_clip_* out.")
        super().__init__(
            "lstm",
            hidden_size,
            num_layers,
            layout,
            dropout,
            bidirectional,
            input_size,
            i2h_weight_initializer,
            h2h_weight_initializer,
            i2h_bias_initializer,
            h2h_bias_initializer,
            dtype,
            projection_size,
            h2r_weight_initializer,
            **kwargs,
        )


class GRU(_RecurrentLayer):
    """Gated recurrent units (arXiv:1406.1078) in the form of cuDNN: the reset gate acts on the product.

    h = (1 - z) · n + z · h with r, z = sigmoid(...) and n = tanh(W_i2h · x + b_i2h + r · (W_h2h · h + b_h2h)), blocks
    in the order r, z, n. Called as ``RNN`` is.

    Raises:
        OptionError: as ``RNN``.
    """

    def __init__(
        self,
        hidden_size: int,
        num_layers: int = 1,
        layout: str = "TNC",
        dropout: float = 0,
        bidirectional: bool = False,
        input_size: int = 0,
        i2h_weight_initializer: Any = None,
        h2h_weight_initializer: Any = None,
        i2h_bias_initializer: Any = "zeros",
        h2h_bias_initializer: Any = "zeros",
        dtype: Any = "float32",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            "gru",
            hidden_size,
            num_layers,
            layout,
            dropout,
            bidirectional,
            input_size,
            i2h_weight_initializer,
            h2h_weight_initializer,
            i2h_bias_initializer,
            h2h_bias_initializer,
            dtype,
            **kwargs,
        )

"""Recurrent layers on padded batches, written in the dialect for both backends.

A sequence that ends before the batch does must not notice the padding: its states are those after its own last step,
its reversed direction begins at that step, and what comes out beyond it is zero. MXNet's kernel knows of lengths with
cuDNN only (on the CPU it ignores them without a word, and dropout between layers too), PyTorch's needs them on the
host, which a graph that is being exported cannot give. Where neither will do, the functions here call a kernel of one
layer and take care of the rest around it, by functions that every backend has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from glueball.errors import OptionError

GATES = {"rnn_relu": 1, "rnn_tanh": 1, "lstm": 4, "gru": 3}
"""Mode -> how many blocks of ``hidden_size`` rows its weights have: lstm i, f, g, o; gru r, z, n."""

LAYOUTS = ("TNC", "NTC")

# Large enough that a sigmoid is exactly 0 or 1 whatever the other terms are, small enough for float16.
_SATURATION = 1e4

Kernel = Callable[[Any, Sequence[Sequence[Any]], Sequence[Any]], Sequence[Any]]
"""(data, weights of each direction, states) -> (output, *states) of one layer; arrays and states with three axes."""


def run_layers(
    F: Any,
    kernel: Kernel,
    data: Any,
    states: Sequence[Any],
    weights: Sequence[Sequence[Any]],
    *,
    num_directions: int,
    dropout: float,
) -> tuple[Any, list[Any]]:
    """(output, states) of a stack of layers over whole sequences; arguments as of ``run_lengths``."""
    ends: list[list[Any]] = [[] for _ in states]
    for first in range(0, len(weights), num_directions):
        if first and dropout:
            data = F.Dropout(data, p=dropout)
        before = [F.slice_axis(state, axis=0, begin=first, end=first + num_directions) for state in states]
        data, *after = kernel(data, weights[first : first + num_directions], before)
        for end, state in zip(ends, after, strict=True):
            end.append(state)
    return data, [_joined(F, one, 0) for one in ends]


def run_lengths(
    F: Any,
    kernel: Kernel,
    data: Any,
    states: Sequence[Any],
    sequence_length: Any,
    weights: Sequence[Sequence[Any]],
    *,
    mode: str,
    hidden_size: int,
    num_directions: int,
    dropout: float,
) -> tuple[Any, list[Any]]:
    """(output, states at the end of each sequence) of a stack of layers.

    ``data``: (time, batch, channels). ``states``: (layers * directions, batch, hidden) each. ``sequence_length``:
    (batch,), where more than there is of time counts as all of it, and 0 leaves the states as they were. ``weights``
    has (i2h_weight, h2h_weight, i2h_bias, h2h_bias) for each layer and direction, in the order of the states, and
    h2r_weight at the end where the output is projected.
    """
    # Lengths are counted from the mask: so they are within the bounds of time, whatever was handed in.
    feature = F.slice_axis(data, axis=2, begin=0, end=1)
    inside = F.SequenceMask(F.ones_like(feature), sequence_length, use_sequence_length=True)
    length = F.sum(F.cast(inside, dtype="float32"), axis=(0, 2))
    last_step = F.broadcast_maximum(length, F.ones_like(length))
    padding = 1 - inside
    # Whatever stands in the padding, be it not finite, is gone from here on.
    data = F.SequenceMask(data, length, use_sequence_length=True)
    ends: list[list[Any]] = [[] for _ in states]
    for layer in range(len(weights) // num_directions):
        if layer and dropout:
            data = F.Dropout(data, p=dropout)
        outputs = []
        for direction in range(num_directions):
            index = layer * num_directions + direction
            before = [F.slice_axis(state, axis=0, begin=index, end=index + 1) for state in states]
            own = weights[index]
            read = F.SequenceReverse(data, length, use_sequence_length=True) if direction else data
            if mode == "lstm":
                read, own = F.concat(read, padding, dim=2), _keeping_cell(F, own, hidden_size)
            output, *after = kernel(read, [own], before)
            # No step of an empty sequence is its last one.
            last = F.SequenceLast(output, last_step, use_sequence_length=True)
            ended = F.where(length > 0, last, F.reshape(before[0], shape=(-3, -2)))
            ends[0].append(F.expand_dims(ended, axis=0))
            if mode == "lstm":
                ends[1].append(after[1])
            output = F.SequenceMask(output, length, use_sequence_length=True)
            outputs.append(F.SequenceReverse(output, length, use_sequence_length=True) if direction else output)
        data = _joined(F, outputs, 2)
    return data, [_joined(F, one, 0) for one in ends]


def _joined(F: Any, arrays: Sequence[Any], axis: int) -> Any:
    return arrays[0] if len(arrays) == 1 else F.concat(*arrays, dim=axis)


def _keeping_cell(F: Any, weights: Sequence[Any], hidden_size: int) -> list[Any]:
    """The weights of an LSTM with one input more, which is 1 in the padding: forget gate 1, input gate 0.

    So the cell, of which a kernel gives the last value only, is still that of the sequence's end when time is over.
    """
    i2h_weight, *others = weights
    zeros = F.zeros_like(F.slice_axis(others[1], axis=0, begin=0, end=hidden_size))
    column = F.concat(zeros - _SATURATION, zeros + _SATURATION, zeros, zeros, dim=0)
    return [F.concat(i2h_weight, F.expand_dims(column, axis=1), dim=1), *others]


def unroll(
    F: Any,
    cell: Callable[..., Any],
    steps: Sequence[Any],
    states: Sequence[Any],
    axis: int,
    merge: bool | None,
    valid_length: Any,
) -> tuple[Any, Any]:
    """(outputs, states) of a cell over ``steps``, each (batch, channels); outputs are joined along a new ``axis``.

    As in Gluon ``merge`` None leaves them a list, unless they are masked by ``valid_length`` (batch,). Unlike there a
    length of 0 is one: no step before the first is read.
    """
    begin, outputs, every = states, [], []
    for step in steps:
        output, states = cell(step, states)
        outputs.append(output)
        every.append(states)
    if valid_length is None:
        return (F.stack(*outputs, axis=axis) if merge else outputs), states
    last_step = F.broadcast_maximum(valid_length, F.ones_like(valid_length))
    ended = []
    for first, reached in zip(begin, zip(*every, strict=True), strict=True):
        last = F.SequenceLast(F.stack(*reached, axis=0), last_step, use_sequence_length=True)
        ended.append(F.where(valid_length > 0, last, first))
    merged = F.SequenceMask(F.stack(*outputs, axis=axis), valid_length, use_sequence_length=True, axis=axis)
    if merge is False:
        pieces = F.split(merged, num_outputs=len(outputs), axis=axis, squeeze_axis=True)
        return ([pieces] if len(outputs) == 1 else list(pieces)), ended
    return merged, ended


def check_steps(cell: str, expected: int, received: int) -> None:
    """Raises OptionError where the inputs are not as many steps as are to be made."""
    if expected != received or received < 1:
        raise OptionError(f"{cell}.unroll: expected inputs of {expected} steps, at least 1; received {received}.")


def check_layout(layer: str, layout: str) -> None:
    """Raises OptionError for a layout that recurrent layers do not have."""
    if layout not in LAYOUTS:
        raise OptionError(f"{layer}: expected layout {' or '.join(LAYOUTS)}; received {layout!r}.")


def check_lengths(layer: str, uses_lengths: bool, are_given: bool) -> None:
    """Raises OptionError where lengths are missing, or would be ignored."""
    if uses_lengths and not are_given:
        raise OptionError(
            f"{layer} was made with use_sequence_length=True, but no lengths were given: call it as "
            "layer(inputs, states, sequence_length), states None for zeros; sequence_length: (batch,)."
        )
    if are_given and not uses_lengths:
        raise OptionError(
            f"{layer} was given lengths that it would ignore: make it with use_sequence_length=True, or leave "
            "sequence_length out."
        )


def check_states(layer: str, states: Sequence[Any], expected: Sequence[tuple[int, ...]]) -> None:
    """Raises OptionError where the number of states or their shapes are not those of the layer."""
    received = [tuple(state.shape) for state in states]
    if received != list(expected):
        raise OptionError(
            f"{layer}: expected states of the shapes {list(expected)}, (layers * directions, batch, hidden) each; "
            f"received {received}. layer.begin_state(batch_size) makes them."
        )

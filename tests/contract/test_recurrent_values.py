"""Recurrent layers against NumPy: outputs, states at each sequence's end, gradients, with and without lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tolerances
from reference import normal, recurrent_layers

from glueball import autograd, backend, init, nn, rnn

TIME, CHANNELS, HIDDEN = 5, 4, 3
LENGTHS = [3, 5, 0, 1]
MODES: dict[str, Any] = {
    "rnn_relu": lambda **options: rnn.RNN(HIDDEN, **options),
    "rnn_tanh": lambda **options: rnn.RNN(HIDDEN, activation="tanh", **options),
    "lstm": lambda **options: rnn.LSTM(HIDDEN, **options),
    "gru": lambda **options: rnn.GRU(HIDDEN, **options),
}
NAMES = ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")


class WithLengths(nn.HybridBlock):  # type: ignore[misc, name-defined]
    """A layer within a network, where a compiled backend calls it with symbols."""

    def __init__(self, layer: Any) -> None:
        super().__init__()
        self.layer = layer

    def hybrid_forward(self, F: Any, inputs: Any, *others: Any) -> Any:
        return self.layer(inputs, None, *others)


def numbers(layer: Any) -> dict[str, np.ndarray]:
    """The layer's weights, drawn anew: biases that are not zero, and weights that make differences."""
    arrays = {}
    for seed, (name, values) in enumerate(backend.current().get_arrays(layer).items()):
        arrays[name] = (0.6 * normal(*values.shape, seed=seed)).astype(np.float32)
    backend.current().set_arrays(layer, arrays)
    return {name: values.astype(np.float64) for name, values in arrays.items()}


def grouped(
    arrays: dict[str, np.ndarray], layers: int, directions: int, names: tuple[str, ...] = NAMES
) -> list[list[np.ndarray]]:
    """The weights in the reference's order, found by the names that Gluon's files have."""
    cells = [
        f"_unfused.{layer}." + (f"{direction}_cell." if directions == 2 else "")
        for layer in range(layers)
        for direction in "lr"[:directions]
    ]
    assert set(arrays) == {cell + name for cell in cells for name in names}
    return [[arrays[cell + name] for name in names] for cell in cells]


def build(mode: str, layers: int, directions: int, lengths: bool, layout: str = "TNC") -> Any:
    layer = MODES[mode](
        num_layers=layers,
        bidirectional=directions == 2,
        layout=layout,
        use_sequence_length=lengths,
        input_size=CHANNELS,
    )
    layer.initialize(init.Xavier())
    return layer


def begin(mode: str, layers: int, directions: int) -> list[np.ndarray]:
    count = 2 if mode == "lstm" else 1
    return [0.5 * normal(layers * directions, len(LENGTHS), HIDDEN, seed=40 + index) for index in range(count)]


def close(found: Any, expected: np.ndarray, bounds: tolerances.Tolerance = tolerances.ACCUMULATED) -> None:
    values = backend.current().numpy(found)
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, expected, rtol=bounds.relative, atol=bounds.absolute)


@pytest.mark.parametrize("layout", ["TNC", "NTC"])
@pytest.mark.parametrize("lengths", [False, True], ids=["whole", "lengths"])
@pytest.mark.parametrize(("layers", "directions"), [(1, 1), (3, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("mode", MODES)
def test_values(mode: str, layers: int, directions: int, lengths: bool, layout: str) -> None:
    layer = build(mode, layers, directions, lengths, layout)
    weights = grouped(numbers(layer), layers, directions)
    data, states = normal(TIME, len(LENGTHS), CHANNELS), begin(mode, layers, directions)
    expected, *ends = recurrent_layers(mode, data, states, weights, LENGTHS if lengths else None, directions)
    inputs = data if layout == "TNC" else data.swapaxes(0, 1)
    expected = expected if layout == "TNC" else expected.swapaxes(0, 1)
    current = backend.current()
    given = [np.array(LENGTHS, np.float32)] if lengths else []
    outputs, ended = layer(
        current.array(inputs), [current.array(one) for one in states], *(current.array(one) for one in given)
    )
    close(outputs, expected)
    assert len(ended) == len(ends)
    for one, wanted in zip(ended, ends, strict=True):
        close(one, wanted)
    # From zeros where no states are given, and then the outputs alone; NumPy arrays will do.
    zeros = [np.zeros_like(one) for one in states]
    expected, *_ = recurrent_layers(mode, data, zeros, weights, LENGTHS if lengths else None, directions)
    expected = expected if layout == "TNC" else expected.swapaxes(0, 1)
    close(layer(inputs.astype(np.float32), None, *given), expected)


@pytest.mark.parametrize("lengths", [False, True], ids=["whole", "lengths"])
@pytest.mark.parametrize("directions", [1, 2])
def test_projection(directions: int, lengths: bool) -> None:
    """h is projected to a smaller one, c is not (arXiv:1402.1128)."""
    current = backend.current()
    options = {"bidirectional": directions == 2, "use_sequence_length": lengths, "input_size": CHANNELS}
    layer = rnn.LSTM(HIDDEN, 2, projection_size=2, **options)
    layer.initialize()
    arrays = numbers(layer)
    weights = grouped(arrays, 2, directions, (*NAMES, "h2r_weight"))
    _, c = begin("lstm", 2, directions)
    states = [c[:, :, :2] * 0.7, c]
    data = normal(TIME, len(LENGTHS), CHANNELS)
    expected = recurrent_layers("lstm", data, states, weights, LENGTHS if lengths else None, directions)
    outputs, ended = layer(
        current.array(data),
        [current.array(one) for one in states],
        *([current.array(np.array(LENGTHS, np.float32))] if lengths else []),
    )
    for one, wanted in zip([outputs, *ended], expected, strict=True):
        close(one, wanted)


@pytest.mark.parametrize("lengths", [False, True], ids=["whole", "lengths"])
@pytest.mark.parametrize("mode", MODES)
def test_in_a_compiled_network(mode: str, lengths: bool) -> None:
    """Shapes that the first pass tells, a second call that is the compiled one, and another batch size."""
    current = backend.current()
    network = WithLengths(MODES[mode](num_layers=2, bidirectional=True, use_sequence_length=lengths))
    network.initialize()
    network.hybridize(**({"backend": "eager"} if current.name == "torch" else {}))
    data, given = normal(TIME, len(LENGTHS), CHANNELS), [np.array(LENGTHS, np.float32)] if lengths else []
    with autograd.pause():
        network(data.astype(np.float32), *given)
        weights = grouped(numbers(network.layer), 2, 2)
        zeros = [np.zeros_like(one) for one in begin(mode, 2, 2)]
        for count in (len(LENGTHS), len(LENGTHS), 2):
            states, now = [one[:, :count] for one in zeros], [one[:count] for one in given]
            expected, *_ = recurrent_layers(mode, data[:, :count], states, weights, now[0] if now else None, 2)
            close(network(data[:, :count].astype(np.float32), *now), expected)


@pytest.mark.parametrize("lengths", [False, True], ids=["whole", "lengths"])
@pytest.mark.parametrize("mode", MODES)
def test_gradients(mode: str, lengths: bool) -> None:
    """Of the outputs and of the last states, by weights, inputs and first states, in two layers of two directions."""
    current, layers, directions = backend.current(), 2, 2
    layer = build(mode, layers, directions, lengths)
    arrays = numbers(layer)
    data, states = normal(TIME, len(LENGTHS), CHANNELS), begin(mode, layers, directions)
    sources = {"data": data, **{f"state{index}": one for index, one in enumerate(states)}, **arrays}
    given = LENGTHS if lengths else None
    shapes = [(TIME, len(LENGTHS), HIDDEN * directions), *(one.shape for one in states)]
    heads = [normal(*shape, seed=60 + index) for index, shape in enumerate(shapes)]

    def total(changed: dict[str, np.ndarray]) -> float:
        weights = grouped({name: changed[name] for name in arrays}, layers, directions)
        begins = [changed[f"state{index}"] for index in range(len(states))]
        results = recurrent_layers(mode, changed["data"], begins, weights, given, directions)
        return float(sum((head * one).sum() for head, one in zip(heads, results, strict=True)))

    inputs = {}
    for name in sources.keys() - arrays.keys():
        inputs[name] = nn.Parameter(name, shape=sources[name].shape, init="zeros")
        inputs[name].initialize()
        inputs[name].set_data(current.array(sources[name].astype(np.float32)))
    with autograd.record():
        outputs, ended = layer(
            inputs["data"].data(),
            [inputs[f"state{index}"].data() for index in range(len(states))],
            *([current.array(np.array(LENGTHS, np.float32))] if lengths else []),
        )
    autograd.backward([outputs, *ended], [current.array(head.astype(np.float32)) for head in heads])
    found = {name: one.grad() for name, one in {**inputs, **current.parameters(layer)}.items()}
    bounds, step = tolerances.GRADIENT, 1e-5
    for name, values in sources.items():
        received = current.numpy(found[name])
        assert received.shape == values.shape
        # A few elements of each array: every one of them would take minutes in NumPy.
        for place in range(0, values.size, max(values.size // 4, 1)):
            ends = []
            for sign in (1, -1):
                moved = values.copy()
                moved.flat[place] += sign * step
                ends.append(total({**sources, name: moved}))
            wanted = (ends[0] - ends[1]) / (2 * step)
            np.testing.assert_allclose(
                received.flat[place], wanted, rtol=bounds.relative, atol=bounds.absolute, err_msg=f"{name}, {place}"
            )


@pytest.mark.parametrize("mode", MODES)
def test_what_stands_in_the_padding_changes_nothing(mode: str) -> None:
    """Not even what is no number, and however much of it there is; gradients of it are zero."""
    current = backend.current()
    layer = build(mode, 2, 2, True)
    numbers(layer)
    data = normal(TIME, len(LENGTHS), CHANNELS).astype(np.float32)
    states = [current.array(one) for one in begin(mode, 2, 2)]
    wide = np.full((TIME + 3, *data.shape[1:]), np.nan, np.float32)
    for sample, length in enumerate(LENGTHS):
        wide[:length, sample] = data[:length, sample]
    lengths = current.array(np.array(LENGTHS, np.float32))
    outputs, ended = layer(current.array(data), states, lengths)
    source = nn.Parameter("data", shape=wide.shape, init="zeros")
    source.initialize()
    source.set_data(current.array(wide))
    with autograd.record():
        more, after = layer(source.data(), states, lengths)
    autograd.backward([more, *after])
    for name, parameter in current.parameters(layer).items():
        assert np.isfinite(current.numpy(parameter.grad())).all(), name
    gradient = current.numpy(source.grad())
    for sample, length in enumerate(LENGTHS):
        assert (gradient[length:, sample] == 0).all()
        if mode != "rnn_relu":  # whose units may all be off
            assert (gradient[:length, sample] != 0).any(axis=-1).all()
    np.testing.assert_allclose(current.numpy(more)[:TIME], current.numpy(outputs), rtol=1e-6, atol=1e-6)
    assert (current.numpy(more)[TIME:] == 0).all()
    for one, two in zip(ended, after, strict=True):
        np.testing.assert_allclose(current.numpy(two), current.numpy(one), rtol=1e-6, atol=1e-6)
    # Each sample alone, without any padding.
    for sample, length in enumerate(LENGTHS):
        if length:
            alone = layer(
                current.array(data[:length, sample : sample + 1]),
                [current.array(one[:, sample : sample + 1]) for one in begin(mode, 2, 2)],
                current.array(np.array([length], np.float32)),
            )[0]
            np.testing.assert_allclose(
                current.numpy(alone)[:, 0], current.numpy(outputs)[:length, sample], rtol=1e-5, atol=1e-6
            )


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.float32])
def test_lengths_of_any_kind(kind: Any) -> None:
    """Longer than the batch counts as all of it, as everywhere in the dialect."""
    current = backend.current()
    layer = build("lstm", 1, 2, True)
    data = current.array(normal(TIME, 3, CHANNELS).astype(np.float32))
    expected = current.numpy(layer(data, None, np.array([TIME, 2, 4], np.float32)))
    for lengths in ([TIME, 2, 4], [TIME + 4, 2, 4]):
        found = layer(data, None, current.array(np.array(lengths, kind)))
        np.testing.assert_array_equal(current.numpy(found), expected)


CELLS: dict[str, Any] = {
    "rnn_relu": lambda: rnn.RNNCell(HIDDEN, "relu"),
    "rnn_tanh": lambda: rnn.RNNCell(HIDDEN),
    "lstm": lambda: rnn.LSTMCell(HIDDEN),
    "gru": lambda: rnn.GRUCell(HIDDEN),
}


@pytest.mark.parametrize("lengths", [False, True], ids=["whole", "lengths"])
@pytest.mark.parametrize("layout", ["TNC", "NTC"])
@pytest.mark.parametrize("mode", CELLS)
def test_cells(mode: str, layout: str, lengths: bool) -> None:
    """A step, and sequences as arrays and as lists, from given states and from zeros."""
    current, cell = backend.current(), CELLS[mode]()
    cell.initialize(init.Xavier())
    states = [one[0] for one in begin(mode, 1, 1)]
    data = normal(TIME, len(LENGTHS), CHANNELS)
    arrays = [current.array(one.astype(np.float32)) for one in states]
    cell(current.array(data[0].astype(np.float32)), arrays)  # tells the shapes
    weights = [numbers(cell)[name] for name in NAMES]
    stepped = recurrent_layers(mode, data[:1], [one[None] for one in states], [weights])
    output, after = cell(current.array(data[0].astype(np.float32)), arrays)
    close(output, stepped[0][0])
    for one, wanted in zip(after, stepped[1:], strict=True):
        close(one, wanted[0])
    given = LENGTHS if lengths else None
    valid = current.array(np.array(LENGTHS, np.float32)) if lengths else None
    axis = layout.index("T")
    inputs = current.array((data if axis == 0 else data.swapaxes(0, 1)).astype(np.float32))
    separate = [current.array(one.astype(np.float32)) for one in data]
    for begins, first in ((arrays, states), (None, [np.zeros_like(one) for one in states])):
        expected, *ends = recurrent_layers(mode, data, [one[None] for one in first], [weights], given)
        for source in (inputs, separate):
            merged, ended = cell.unroll(TIME, source, begins, layout, True, valid)
            close(merged, expected if axis == 0 else expected.swapaxes(0, 1))
            for one, wanted in zip(ended, ends, strict=True):
                close(one, wanted[0])
            listed, _ = cell.unroll(TIME, source, begins, layout, False, valid)
            assert len(listed) == TIME
            for one, wanted in zip(listed, expected, strict=True):
                close(one, wanted)
    single, _ = cell.unroll(1, separate[:1], None, layout, True)
    assert current.numpy(single).shape[axis] == 1

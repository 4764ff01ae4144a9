"""Recurrent layers around their numbers (contract/test_recurrent_values.py): files, names, training, refusals."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import glueball
from glueball import autograd, init, loss, nn, rnn, weights
from glueball import backend as backends
from glueball.backend.base import OptimizerSpec, StepOptions
from glueball.errors import BackendError, GlueballError, OptionError

GOLDEN = Path(__file__).parents[1] / "contract" / "golden"
PLAIN: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("RNN", {"hidden_size": 3, "num_layers": 2}),
    "rnn_tanh_both": ("RNN", {"hidden_size": 3, "activation": "tanh", "bidirectional": True}),
    "lstm": ("LSTM", {"hidden_size": 3, "num_layers": 2}),
    "lstm_both": ("LSTM", {"hidden_size": 3, "num_layers": 2, "bidirectional": True}),
    "gru": ("GRU", {"hidden_size": 3}),
    "gru_both": ("GRU", {"hidden_size": 3, "num_layers": 2, "bidirectional": True}),
}
"""What ``tests/contract/gluon_recurrent.py`` saved by plain Gluon: file -> class and options."""

KINDS = ("RNN", "LSTM", "GRU")


def values(array: Any) -> np.ndarray:
    return backends.current().numpy(array)


def data(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.Generator(np.random.Philox(seed)).standard_normal(shape).astype(np.float32)


def on(name: str) -> Any:
    if backends.current().name != name:
        pytest.skip(f"a matter of the {name} backend")
    return pytest.importorskip(name)


class Classifier(nn.HybridBlock):  # type: ignore[misc, name-defined]
    """The last state of an LSTM of two directions over vectors, and a dense layer."""

    def __init__(self, dropout: float = 0.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder = rnn.LSTM(4, 2, "NTC", dropout, bidirectional=True, use_sequence_length=True)
        self.output = nn.Dense(3)

    def hybrid_forward(self, F: Any, inputs: Any, lengths: Any) -> Any:
        return self.output(F.max(self.encoder(inputs, None, lengths), axis=1))


def classifier(seed: int = 3, **options: Any) -> Any:
    glueball.seed(seed)
    net = Classifier(**options)
    net.initialize(init.Xavier())
    return net


INPUTS, LENGTHS = data(6, 5, 4), np.array([5, 1, 3, 0, 2, 4], np.float32)


@pytest.mark.parametrize("name", PLAIN)
def test_files_of_plain_gluon_are_read_computed_and_written(name: str, tmp_path: Path) -> None:
    kind, options = PLAIN[name]
    layer = getattr(rnn, kind)(**options)
    layer.load_parameters(GOLDEN / f"gluon_{name}.params")
    with np.load(GOLDEN / "gluon_recurrent.npz", allow_pickle=False) as file:
        expected = {key.partition("/")[2]: file[key] for key in file.files if key.startswith(f"{name}/")}
    inputs = np.load(GOLDEN / "gluon_recurrent.npz", allow_pickle=False)["data"]
    begin = [np.ones(info["shape"], np.float32) for info in layer.state_info(inputs.shape[1])]
    outputs, states = layer(inputs, begin)
    np.testing.assert_allclose(values(outputs), expected.pop("outputs"), rtol=1e-5, atol=1e-6)
    assert len(states) == len(expected)
    for index, state in enumerate(states):
        np.testing.assert_allclose(values(state), expected[f"state{index}"], rtol=1e-5, atol=1e-6)
    # Written again: the same names in the same order, the same values.
    layer.save_parameters(tmp_path / "again.params")
    before, after = weights.load(GOLDEN / f"gluon_{name}.params"), weights.load(tmp_path / "again.params")
    assert list(before) == list(after)
    for key, array in before.items():
        np.testing.assert_array_equal(after[key], array)


def test_plain_gluon_reads_our_files(tmp_path: Path) -> None:
    mx = on("mxnet")
    for name, (kind, options) in PLAIN.items():
        ours, plain = getattr(rnn, kind)(**options), getattr(mx.gluon.rnn, kind)(**options)
        ours.initialize(init.Xavier())
        inputs = data(5, 2, 4)
        expected = values(ours(inputs))
        ours.save_parameters(tmp_path / f"{name}.params")
        plain.load_parameters(str(tmp_path / f"{name}.params"))
        np.testing.assert_array_equal(plain(mx.nd.array(inputs)).asnumpy(), expected)


def test_names_are_gluon_s() -> None:
    layer = rnn.LSTM(2, num_layers=12, bidirectional=True, input_size=3, prefix="encoder_")
    names = list(backends.current().parameters(layer))
    assert len(names) == 12 * 8
    assert names[:5] == [
        *(f"_unfused.0.l_cell.{name}" for name in ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")),
        "_unfused.0.r_cell.i2h_weight",
    ]
    # Gluon's own method fails from the eleventh layer on.
    assert names[-1] == "_unfused.11.r_cell.h2h_bias"
    shapes = {name: tuple(parameter.shape) for name, parameter in backends.current().parameters(layer).items()}
    assert shapes["_unfused.0.r_cell.i2h_weight"] == (8, 3)
    assert shapes["_unfused.11.l_cell.i2h_weight"] == (8, 4)
    one = list(backends.current().parameters(rnn.GRU(2)))
    assert one == [f"_unfused.0.{name}" for name in ("i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias")]
    assert "encoder_r11_h2h_bias" in layer.collect_params()
    assert tuple(layer.l0_i2h_weight.shape) == (8, 3)


def test_both_backends_start_from_these_values() -> None:
    """By the structural name, which is the same everywhere."""
    net = classifier()
    net(INPUTS, LENGTHS)
    init.set_seed(3)
    arrays = backends.current().get_arrays(net)
    for name in ("encoder._unfused.0.r_cell.i2h_weight", "encoder._unfused.1.l_cell.h2h_weight", "output.weight"):
        np.testing.assert_array_equal(arrays[name], init.Xavier().sample(name, arrays[name].shape))
    assert (arrays["encoder._unfused.1.l_cell.h2h_bias"] == 0).all()


def test_own_initializers() -> None:
    layer = rnn.LSTM(
        2,
        input_size=3,
        i2h_weight_initializer=init.Constant(1.0),
        h2h_weight_initializer="zeros",
        i2h_bias_initializer=init.Constant(2.0),
        h2h_bias_initializer="ones",
    )
    layer.initialize(init.Xavier())
    arrays = backends.current().get_arrays(layer)
    assert [float(arrays[f"_unfused.0.{name}"].mean()) for name in ("i2h_weight", "h2h_weight")] == [1, 0]
    assert [float(arrays[f"_unfused.0.{name}"].mean()) for name in ("i2h_bias", "h2h_bias")] == [2, 1]


def test_layers_share_parameters() -> None:
    first = rnn.GRU(3, input_size=4, prefix="shared_")
    second = rnn.GRU(3, input_size=4, prefix="shared_", params=first.params)
    first.initialize(init.Xavier())
    np.testing.assert_array_equal(values(second(data(5, 2, 4))), values(first(data(5, 2, 4))))
    backends.current().set_arrays(first, {"_unfused.0.i2h_bias": np.full(9, 0.5, np.float32)})
    np.testing.assert_array_equal(backends.current().get_arrays(second)["_unfused.0.i2h_bias"], np.full(9, 0.5))
    np.testing.assert_array_equal(values(second(data(5, 2, 4))), values(first(data(5, 2, 4))))


@pytest.mark.parametrize("kind", KINDS)
def test_states_carry_on(kind: str) -> None:
    """Two halves one after the other are the whole: what truncated backpropagation relies on."""
    layer = getattr(rnn, kind)(3, 2)
    layer.initialize(init.Xavier())
    inputs = data(6, 2, 4)
    whole, ended = layer(inputs, layer.begin_state(2))
    first, states = layer(inputs[:2], layer.begin_state(2))
    second, states = layer(inputs[2:], states)
    np.testing.assert_allclose(np.concatenate([values(first), values(second)]), values(whole), rtol=1e-5, atol=1e-6)
    for one, two in zip(states, ended, strict=True):
        np.testing.assert_allclose(values(one), values(two), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(values(layer(inputs)), values(whole), rtol=1e-6, atol=1e-6)


def test_a_compiled_layer_gives_states_when_they_are_asked_for() -> None:
    """Gluon's gives what the first call asked for, for ever."""
    layer = rnn.LSTM(3, input_size=4)
    layer.initialize(init.Xavier())
    inputs = data(5, 2, 4)
    expected = values(layer(inputs))
    layer.hybridize(**({"backend": "eager"} if backends.current().name == "torch" else {}))
    with autograd.pause():
        for _ in range(2):
            np.testing.assert_allclose(values(layer(inputs)), expected, rtol=1e-5, atol=1e-6)
            outputs, states = layer(inputs, layer.begin_state(2))
            np.testing.assert_allclose(values(outputs), expected, rtol=1e-5, atol=1e-6)
            assert len(states) == 2


@pytest.mark.parametrize("lengths", [False, True])
def test_dropout_lies_between_the_layers_in_training(lengths: bool) -> None:
    given = [np.array([5, 3], np.float32)] if lengths else []
    glueball.seed(1)
    layer = rnn.GRU(8, 2, dropout=0.5, use_sequence_length=lengths)
    layer.initialize(init.Xavier())
    inputs = data(5, 2, 4)
    predicted = [values(layer(inputs, None, *given)) for _ in range(2)]
    np.testing.assert_array_equal(predicted[0], predicted[1])
    with autograd.train_mode():
        trained = [values(layer(inputs, None, *given)) for _ in range(3)]
    assert np.abs(trained[0] - trained[1]).max() > 1e-3
    assert np.abs(trained[0] - predicted[0]).max() > 1e-3
    single = rnn.GRU(8, 1, dropout=0.5, use_sequence_length=lengths)
    single.initialize(init.Xavier())
    with autograd.train_mode():
        once, again = (values(single(inputs, None, *given)) for _ in range(2))
    np.testing.assert_array_equal(once, again)


class Graph(nn.HybridBlock):  # type: ignore[misc, name-defined]
    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.loss = loss.SoftmaxCrossEntropyLoss()

    def hybrid_forward(self, F: Any, inputs: Any, lengths: Any, labels: Any) -> Any:
        scores = self.network(inputs, lengths)
        return self.loss(scores, labels), scores


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_it_learns(precision: str) -> None:
    """The engine's own step, batches of several padded sizes in it: compiled on MXNet, autocast in half precision."""
    backend = backends.current()
    reason = backend.supports_precision(precision, "cpu")
    if reason is not None:
        pytest.skip(reason)
    net = classifier(dropout=0.1)
    step = backend.training_step(
        net,
        Graph(net),
        StepOptions(optimizer=OptimizerSpec(name="adam"), clip_norm=5.0, precision=precision),
        "cpu",
    )
    labels = np.array([0, 1, 2, 0, 1, 2], np.float32)
    found = []
    for number in range(60):
        inputs = np.pad(INPUTS, ((0, 0), (0, number % 3), (0, 0)))
        output = step([backend.array(one) for one in (inputs, LENGTHS, labels)], 0.02)
        found.append(float(np.ravel(values(output.loss))[0]))
        assert np.isfinite(values(output.gradient_norm)).all()
    assert np.isfinite(found).all()
    # The empty sequence says nothing of its label: one sample in six cannot be known.
    assert np.mean(found[-6:]) < 0.75 * found[0]
    # In inference mode again, and the predictor agrees.
    predictor = backend.predictor(net, device="cpu")
    expected = values(net(INPUTS, LENGTHS))
    np.testing.assert_allclose(values(predictor(INPUTS, LENGTHS)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # PyTorch's own, while it compiles
def test_training_in_a_compiled_network() -> None:
    net = classifier()
    net(INPUTS, LENGTHS)

    def gradients() -> dict[str, np.ndarray]:
        with autograd.record():
            output = net(INPUTS, LENGTHS)
        autograd.backward(output)
        return {name: values(one.grad()) for name, one in backends.current().parameters(net).items()}

    expected = gradients()
    net.hybridize(**({"backend": "eager"} if backends.current().name == "torch" else {}))
    for _ in range(2):
        for name, found in gradients().items():
            np.testing.assert_allclose(found, expected[name], rtol=1e-4, atol=1e-5, err_msg=name)


# MXNet does not infer types backwards through SequenceMask, and takes float32 then.
@pytest.mark.filterwarnings("ignore:Cannot decide type for the following arguments:UserWarning")
def test_export_to_a_symbol(tmp_path: Path) -> None:
    mx = on("mxnet")
    net = classifier()
    net.hybridize()
    expected = values(net(INPUTS, LENGTHS))
    net.export(str(tmp_path / "net"))
    files = [str(tmp_path / name) for name in ("net-symbol.json", "net-0000.params")]
    again = mx.gluon.SymbolBlock.imports(files[0], ["data0", "data1"], files[1])
    np.testing.assert_allclose(
        again(mx.nd.array(INPUTS), mx.nd.array(LENGTHS)).asnumpy(), expected, rtol=1e-5, atol=1e-6
    )
    # Another batch size and length: the first states are made in the graph.
    assert again(mx.nd.array(INPUTS[:2, :3]), mx.nd.array(LENGTHS[:2])).shape == (2, 3)


@pytest.mark.parametrize("with_lengths", [False, True])
def test_export_by_torch(with_lengths: bool, tmp_path: Path) -> None:
    """The exported graph counts lengths itself, where PyTorch's kernels want them on the host."""
    torch = on("torch")
    net: Any
    inputs: tuple[Any, ...]
    if with_lengths:
        net, inputs = classifier(), (torch.from_numpy(INPUTS), torch.from_numpy(LENGTHS))
    else:
        net, inputs = rnn.GRU(4, 2, "NTC", bidirectional=True), (torch.from_numpy(INPUTS),)
        net.initialize(init.Xavier())
    expected = net(*inputs)
    graph, _ = net.export(tmp_path / "net", inputs=inputs)
    exported = torch.export.load(graph).module()
    torch.testing.assert_close(exported(*inputs), expected)
    few = tuple(one[2:4] for one in inputs)
    torch.testing.assert_close(exported(*few), net(*few))


def test_half_precision_keeps_long_lengths() -> None:
    """bfloat16 has eight bits: 300 would become 304 on the way to the layer."""
    on("torch")
    layer = rnn.LSTM(2, input_size=1, use_sequence_length=True)
    layer.initialize(init.Xavier())
    layer.cast("bfloat16")
    outputs = values(layer(np.ones((310, 1, 1), np.float32), None, np.array([301], np.float32)))
    assert (outputs[:301] != 0).all()
    assert (outputs[301:] == 0).all()


def test_what_a_library_has_no_kernel_for_is_refused() -> None:
    """MXNet's kernels for CPUs would leave states unclipped in silence; PyTorch has none that clips."""
    clipping = {"state_clip_min": -0.01, "state_clip_max": 0.01, "input_size": 4}
    if backends.current().name == "torch":
        with pytest.raises(OptionError, match="clips states"):
            rnn.LSTM(3, **clipping)
        return
    layer = rnn.LSTM(3, **clipping)
    layer.initialize()
    with pytest.raises(BackendError, match="on GPUs only"):
        layer(data(5, 2, 4))
    projecting = rnn.LSTM(3, projection_size=2, input_size=4)
    projecting.initialize()
    with pytest.raises(Exception, match="No training support for LSTM with projection"), autograd.record():
        values(projecting(data(5, 2, 4)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda layer, lengths: layer(data(5, 2, 4), None, np.ones(2, np.float32)), "use_sequence_length=True"),
        (lambda layer, lengths: lengths(data(5, 2, 4)), r"no lengths were given.*sequence_length: \(batch,\)"),
        (lambda layer, lengths: layer(data(5, 2, 4), [np.zeros((1, 2, 3), np.float32)]), r"received \[\(1, 2, 3\)\]"),
        (lambda layer, lengths: layer(data(5, 2, 4), [np.zeros((1, 3, 3), np.float32)] * 2), "begin_state"),
    ],
)
def test_what_does_not_fit_is_refused(call: Any, message: str) -> None:
    layers = [rnn.LSTM(3, input_size=4), rnn.LSTM(3, input_size=4, use_sequence_length=True)]
    for layer in layers:
        layer.initialize()
    with pytest.raises(OptionError, match=message):
        call(*layers)


def test_cells_have_gluon_s_names_and_refuse_other_lengths() -> None:
    cell = rnn.LSTMCell(3, prefix="cell_")
    cell.initialize()
    assert list(backends.current().parameters(cell)) == ["i2h_weight", "h2h_weight", "i2h_bias", "h2h_bias"]
    assert "cell_h2h_bias" in cell.collect_params()
    inputs = backends.current().array(data(2, 5, 4))
    with pytest.raises(OptionError, match=r"of 4 steps.*received 5"):
        cell.unroll(4, inputs)
    with pytest.raises(OptionError, match="NCT"):
        cell.unroll(5, inputs, layout="NCT")


def test_options_are_checked() -> None:
    with pytest.raises((OptionError, AssertionError), match="NTC"):
        rnn.GRU(3, layout="NCT")
    with pytest.raises((OptionError, ValueError, KeyError), match="sigmoid"):
        rnn.RNN(3, activation="sigmoid")


def test_a_file_that_does_not_fit_says_so(tmp_path: Path) -> None:
    with pytest.raises(GlueballError, match=r"8 missing in the file:\s+_unfused\.0\{\.l_cell"):
        rnn.LSTM(3, bidirectional=True, input_size=4).load_parameters(GOLDEN / "gluon_lstm.params")


def test_copies_are_of_their_own() -> None:
    on("torch")
    net = classifier()
    before = values(net(INPUTS, LENGTHS))
    other = copy.deepcopy(net)
    backends.current().set_arrays(other, {"encoder._unfused.0.l_cell.i2h_bias": np.ones(16, np.float32)})
    np.testing.assert_array_equal(values(net(INPUTS, LENGTHS)), before)
    assert np.abs(values(other(INPUTS, LENGTHS)) - before).max() > 1e-3
    assert (values(other.encoder.l0_i2h_bias.data()) == 1).all()


def test_summary_counts_the_weights(capsys: pytest.CaptureFixture[str]) -> None:
    net = classifier()
    net(INPUTS, LENGTHS)
    net.summary(INPUTS, LENGTHS)
    printed = capsys.readouterr().out
    count = sum(array.size for array in backends.current().get_arrays(net).values())
    assert re.search(rf"\b{count}\b", printed)

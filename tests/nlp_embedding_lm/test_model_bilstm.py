"""The bi-LSTM with self-attentive pooling: what it computes, what padding may not change, and that it learns."""

from __future__ import annotations

from typing import Any

import bilstm_golden
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import glueball
from glueball import autograd, backend, loss, nn
from glueball.backend.base import OptimizerSpec, StepOptions
from glueball.errors import OptionError
from glueball.testing import check_plugin

VARIANTS = list(bilstm_golden.VARIANTS)


def answers(network: Any, ids: np.ndarray, lengths: Any) -> np.ndarray:
    return backend.current().numpy(network(ids, np.asarray(lengths, np.float32)))


def arrays(network: Any) -> dict[str, np.ndarray]:
    return backend.current().get_arrays(network)


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def lstm(vectors: np.ndarray, weights: dict[str, np.ndarray], cell: str) -> np.ndarray:
    """One direction of one layer, step by step. vectors: (length, width) -> (length, hidden)."""
    hidden = weights[f"{cell}.h2h_weight"].shape[1]
    h, c, outputs = np.zeros(hidden), np.zeros(hidden), []
    for x in vectors:
        gates = weights[f"{cell}.i2h_weight"] @ x + weights[f"{cell}.i2h_bias"]
        gates = gates + weights[f"{cell}.h2h_weight"] @ h + weights[f"{cell}.h2h_bias"]
        i, f, g, o = np.split(gates, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        h = sigmoid(o) * np.tanh(c)
        outputs.append(h)
    return np.array(outputs).reshape(len(outputs), hidden)


def by_hand(weights: dict[str, np.ndarray], ids: np.ndarray, length: int, layers: int) -> np.ndarray:
    """Equations (1) to (8) of the paper for one text without its padding, in float64."""
    weights = {name: values.astype(np.float64) for name, values in weights.items()}
    states = weights["embedding.weight"][ids[:length]]
    for layer in range(layers):
        forward = lstm(states, weights, f"encoder._unfused.{layer}.l_cell")
        backward = lstm(states[::-1], weights, f"encoder._unfused.{layer}.r_cell")[::-1]
        states = np.concatenate([forward, backward], axis=1)
    hops = weights["pooling.score.weight"] @ np.tanh(weights["pooling.hidden.weight"] @ states.T)
    if length:
        hops = np.exp(hops - hops.max(axis=1, keepdims=True))
        hops = hops / hops.sum(axis=1, keepdims=True)
    return weights["output.weight"] @ (hops @ states).reshape(-1) + weights["output.bias"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_logits_are_those_of_the_papers_equations(variant: str) -> None:
    network = bilstm_golden.build(variant)
    random = np.random.default_rng(1)
    # Biases that are not zero, as training leaves them.
    drawn = {name: random.normal(scale=0.7, size=a.shape).astype(np.float32) for name, a in arrays(network).items()}
    backend.current().set_arrays(network, drawn)
    ids, lengths = bilstm_golden.texts()
    received = answers(network, ids, lengths)
    layers = bilstm_golden.VARIANTS[variant].get("num_layers", 1)
    for row, length in enumerate(lengths.astype(int)):
        expected = by_hand(drawn, ids[row], length, layers)
        np.testing.assert_allclose(received[row], expected, rtol=1e-4, atol=1e-4, err_msg=f"text {row}")


@pytest.mark.parametrize("other", ["mxnet", "torch"])
def test_logits_and_gradients_are_those_of_the_other_backend(other: str) -> None:
    with np.load(bilstm_golden.FOLDER / f"bilstm_{other}.npz", allow_pickle=False) as file:
        expected = {name: file[name] for name in file.files}
    received = bilstm_golden.compute()
    assert list(received) == list(expected), "run bilstm_golden.py on both backends"
    for name, values in expected.items():
        np.testing.assert_allclose(received[name], values, rtol=1e-4, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("other", ["mxnet", "torch"])
def test_weights_of_the_other_backend_are_read(other: str) -> None:
    glueball.seed(77)  # other weights, which the file's must replace
    network = glueball.get_model("bilstm_attention", **bilstm_golden.OPTIONS, num_layers=2, hops=2)
    network.load_parameters(bilstm_golden.FOLDER / f"bilstm_{other}.params")
    with np.load(bilstm_golden.FOLDER / f"bilstm_{other}.npz", allow_pickle=False) as file:
        np.testing.assert_allclose(answers(network, *bilstm_golden.texts()), file["deep/logits"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("variant", VARIANTS)
@given(
    lengths=st.lists(st.integers(0, 11), min_size=1, max_size=4),
    extra=st.integers(0, 9),
    filler=st.integers(0, bilstm_golden.VOCAB - 1),
)
@settings(max_examples=15, deadline=None)
def test_padding_changes_no_answer(variant: str, lengths: list[int], extra: int, filler: int) -> None:
    network = bilstm_golden.build(variant)
    width = max(1, max(lengths)) + extra
    ids = np.random.default_rng(0).integers(0, bilstm_golden.VOCAB, (len(lengths), width)).astype(np.int32)
    together = answers(network, ids, lengths)
    assert np.isfinite(together).all()
    for row, length in enumerate(lengths):
        alone = np.full((1, max(1, length)), filler, np.int32)
        alone[0, :length] = ids[row, :length]
        np.testing.assert_allclose(together[row], answers(network, alone, [length])[0], rtol=1e-4, atol=1e-5)


def test_the_order_of_words_matters() -> None:
    network = bilstm_golden.build("plain")
    ids = np.arange(2, 11, dtype=np.int32)[None]
    assert not np.allclose(answers(network, ids, [9]), answers(network, ids[:, ::-1].copy(), [9]), atol=1e-5)


@pytest.mark.parametrize("variant", ["plain", "deep"])
def test_dropout_is_active_in_training_only(variant: str) -> None:
    network = bilstm_golden.build(variant)
    ids, lengths = bilstm_golden.texts()
    np.testing.assert_array_equal(answers(network, ids, lengths), answers(network, ids, lengths))
    with autograd.record():
        first, second = answers(network, ids, lengths), answers(network, ids, lengths)
    assert not np.array_equal(first, second)


def test_an_empty_batch_of_words_gets_finite_gradients() -> None:
    """Texts without a known word happen; a batch may even hold nothing else."""
    network = bilstm_golden.build("deep")
    ids, lengths = bilstm_golden.texts()
    for given_lengths in (lengths, np.zeros_like(lengths)):
        with autograd.record():
            value = loss.SoftmaxCrossEntropyLoss()(network(ids, given_lengths), np.zeros(6, np.float32))
        autograd.backward(value)
        for name, parameter in backend.current().parameters(network).items():
            assert np.isfinite(backend.current().numpy(parameter.grad())).all(), name


class Graph(nn.HybridBlock):
    """Network and loss, as the engine has them."""

    def __init__(self, network: Any) -> None:
        super().__init__(prefix="")
        self.network = network
        self.criterion = loss.SoftmaxCrossEntropyLoss()

    def hybrid_forward(self, F: Any, ids: Any, lengths: Any, labels: Any) -> Any:
        logits = self.network(ids, lengths)
        return self.criterion(logits, labels), logits


def test_it_learns_which_word_comes_first() -> None:
    """Of two marked words somewhere in a text: no bag of words can know, and the padding must not tell."""
    random = np.random.default_rng(0)
    ids = random.integers(4, bilstm_golden.VOCAB, (64, 12)).astype(np.int32)
    lengths = random.integers(4, 13, 64)
    labels = random.integers(0, 2, 64)
    for row, (length, label) in enumerate(zip(lengths, labels, strict=True)):
        first, second = sorted(random.choice(length, 2, replace=False))
        ids[row, first], ids[row, second] = (2, 3) if label else (3, 2)
    selected = backend.current()
    glueball.seed(2)
    network = glueball.get_model("bilstm_attention", **{**bilstm_golden.OPTIONS, "hidden_size": 12}, dropout=0.1)
    step = selected.training_step(
        network, Graph(network), StepOptions(optimizer=OptimizerSpec(name="adam"), clip_norm=5.0), "cpu"
    )
    batch = [selected.array(one) for one in (ids, lengths.astype(np.float32), labels.astype(np.float32))]
    for _ in range(120):
        output = step(batch, 0.02)
    assert np.isfinite(selected.numpy(output.loss)).all()
    predicted = answers(network, ids, lengths).argmax(axis=1)
    assert (predicted == labels).mean() > 0.9


@pytest.mark.parametrize("name", ["vocab_size", "embed_size", "hidden_size", "num_layers", "attention_units", "hops"])
def test_sizes_are_positive(name: str) -> None:
    with pytest.raises(OptionError, match=f"{name} is a positive integer.*0"):
        glueball.get_model("bilstm_attention", **{"vocab_size": 9, name: 0})


def test_the_model_keeps_the_promises_of_a_plugin() -> None:
    report = check_plugin("nlp_embedding_lm", pattern="bilstm_attention")
    assert report.checked == 4  # state, light import, and two of the model
    assert not [reason for reason in report.skipped if "task" not in reason]


def test_the_predictor_gives_what_the_network_gives() -> None:
    network = bilstm_golden.build("deep")
    predict = backend.current().predictor(network, device="cpu")
    ids, lengths = bilstm_golden.texts()
    for width in (9, 10, 12, 16, 20, 33):  # more shapes than a backend keeps compiled graphs for
        padded = np.pad(ids, ((0, 0), (0, width - 9)))
        received = backend.current().numpy(predict(padded, lengths))
        np.testing.assert_allclose(received, answers(network, ids, lengths), rtol=1e-3, atol=1e-4)

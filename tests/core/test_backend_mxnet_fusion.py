"""Fused operators of oneDNN on MXNet: every way in which a result can be needed twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import glueball
from glueball import backend as backends

pytestmark = pytest.mark.skipif(backends.current().name != "mxnet", reason="about the MXNet backend")

GRAPHS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "activation and sum of one convolution": lambda F, x, n: F.Activation(n.one(x), act_type="relu") + n.one(x),
    "convolution activated and kept": lambda F, x, n: _twice(n.one(x), lambda y: F.Activation(y, act_type="relu") + y),
    "kept and activated": lambda F, x, n: _twice(n.one(x), lambda y: y + F.Activation(y, act_type="relu")),
    "convolution normalised and kept": lambda F, x, n: _twice(n.one(x), lambda y: n.norm(y) + y),
    "normalised, activated and kept": lambda F, x, n: _twice(
        n.norm(n.one(x)), lambda y: F.concat(F.Activation(y, act_type="relu"), y, dim=1)
    ),
    "convolution and itself": lambda F, x, n: _twice(n.one(x), lambda y: y + y),
    "pre-activation": lambda F, x, n: _twice(n.one(x), lambda y: n.two(F.Activation(n.norm(y), act_type="relu")) + y),
    "pre-activation, shortcut first": lambda F, x, n: _twice(
        n.one(x), lambda y: y + n.two(F.Activation(n.norm(y), act_type="relu"))
    ),
    "post-activation": lambda F, x, n: F.Activation(n.norm(n.one(x)) + x, act_type="relu"),
    "post-activation, shortcut first": lambda F, x, n: F.Activation(x + n.norm(n.one(x)), act_type="relu"),
    "two convolutions": lambda F, x, n: F.Activation(n.norm(n.one(x)) + n.two(x), act_type="relu"),
    "a sum used twice": lambda F, x, n: _twice(n.one(x) + x, lambda y: F.Activation(y, act_type="relu") + n.two(y)),
    "a long shortcut": lambda F, x, n: _twice(n.one(x), lambda y: _twice(n.two(y) + y, lambda z: n.one(z) + z + y)),
    "clipped in two ways": lambda F, x, n: _twice(n.one(x), lambda y: F.clip(y, 0, 6) + F.clip(y, -1, 2)),
    "leaky": lambda F, x, n: _twice(n.one(x), lambda y: F.LeakyReLU(y, act_type="leaky", slope=0.1) * y),
    "dense activated and kept": lambda F, x, n: _twice(
        n.dense(x), lambda y: F.concat(F.Activation(y, act_type="relu"), y, dim=1)
    ),
    "a result on the way": lambda F, x, n: _twice(
        n.one(x), lambda y: F.concat(F.flatten(y), F.flatten(F.Activation(y, act_type="relu")), dim=1)
    ),
}


def _twice(value: Any, use: Callable[[Any], Any]) -> Any:
    return use(value)


def make_network(graph: Callable[[Any, Any, Any], Any]) -> Any:
    nn = backends.current().nn

    class Network(nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Conv2D(4, 3, padding=1, in_channels=4)
            self.two = nn.Conv2D(4, 3, padding=1, in_channels=4, use_bias=False)
            self.norm = nn.BatchNorm(in_channels=4)
            self.dense = nn.Dense(5, in_units=4 * 8 * 8)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            return graph(F, x, self)

    glueball.seed(0)
    network = Network()
    network.initialize("xavier")
    random = np.random.default_rng(0)
    drawn = {
        key: random.uniform(0.5, 1.5, values.shape).astype(np.float32)
        for key, values in backends.current().get_arrays(network).items()
        if key.startswith("norm.")
    }
    backends.current().set_arrays(network, drawn)
    return network


@pytest.mark.parametrize("name", GRAPHS)
def test_what_is_needed_twice_stays_what_it_is(name: str) -> None:
    backend, network = backends.current(), make_network(GRAPHS[name])
    data = np.random.default_rng(1).normal(size=(2, 4, 8, 8)).astype(np.float32)
    kept = backend.array(data, "cpu")
    expected = backend.numpy(network(data))
    predict = backend.predictor(network, device="cpu")
    for _ in range(2):
        np.testing.assert_allclose(backend.numpy(predict(kept)), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(backend.numpy(kept), data)
    assert predict.fused_layers() >= 1, "the fused graph was wrong and is not used"


def test_a_graph_with_two_results_gives_both() -> None:
    backend = backends.current()
    nn = backend.nn

    class Two(nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2D(4, 3, padding=1, in_channels=4)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            y = self.conv(x)
            return y, F.Activation(y, act_type="relu")

    network = Two()
    network.initialize("xavier")
    data = np.random.default_rng(1).normal(size=(2, 4, 8, 8)).astype(np.float32)
    expected = [backend.numpy(output) for output in network(data)]
    assert (expected[0] < 0).any()
    for one, two in zip(expected, backend.predictor(network, device="cpu")(data), strict=True):
        np.testing.assert_allclose(backend.numpy(two), one, rtol=1e-4, atol=1e-5)


def test_every_shape_is_served() -> None:
    """Four shapes get plans of their own, the others share one; and all follow the weights."""
    backend, network = backends.current(), make_network(GRAPHS["pre-activation"])
    predict = backend.predictor(network, device="cpu")
    random = np.random.default_rng(1)
    for turn in range(2):
        for size in (8, 4, 8, 5, 6, 7, 9, 10, 4, 9):
            data = random.normal(size=(2, 4, size, size)).astype(np.float32)
            expected = backend.numpy(network(data))
            np.testing.assert_allclose(backend.numpy(predict(data)), expected, rtol=1e-4, atol=1e-5)
        if turn == 0:
            weights = {key: values * 1.5 for key, values in backend.get_arrays(network).items()}
            backend.set_arrays(network, weights)
            predict.refresh()


@pytest.mark.parametrize("damage", ["wrong", "fails"])
def test_a_fused_graph_that_is_wrong_is_not_used(damage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import mxnet as mx

    from glueball.backend.mxnet import predictor

    def broken(symbol: Any) -> Any:
        return symbol * 2 if damage == "wrong" else mx.sym.elemwise_add(symbol, mx.sym.zeros(shape=(7, 11)))

    monkeypatch.setattr(predictor, "fused", broken)
    backend, network = backends.current(), make_network(GRAPHS["post-activation"])
    data = np.random.default_rng(1).normal(size=(2, 4, 8, 8)).astype(np.float32)
    expected = backend.numpy(network(data))
    predict = backend.predictor(network, device="cpu")
    np.testing.assert_allclose(backend.numpy(predict(data)), expected, rtol=1e-5, atol=1e-6)
    assert predict.fused_layers() == 0

    # Where no compiled graph is right, the network itself predicts, and says so.
    monkeypatch.setattr(predictor, "without_dropout", broken)
    predict = backend.predictor(network, device="cpu")
    with pytest.warns(RuntimeWarning, match="predicts without compilation, since the compiled graphs are wrong"):
        received = backend.numpy(predict(data))
    np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


def test_shared_results_do_not_stop_fusing() -> None:
    """In a residual network every block's result has two users, and every convolution is fused all the same."""
    backend, network = backends.current(), make_network(GRAPHS["post-activation"])
    predict = backend.predictor(network, device="cpu")
    predict(np.zeros((2, 4, 8, 8), np.float32))
    assert predict.fused_layers() == 1


def test_dropout_is_gone_in_inference_unless_it_is_meant() -> None:
    import mxnet as mx

    from glueball.backend.mxnet.graphs import without_dropout

    x = mx.sym.var("x")
    symbol = mx.sym.Dropout(mx.sym.Dropout(x, p=0.5, name="first"), p=0.5, mode="always", name="second") + 1
    outputs = without_dropout(symbol).get_internals().list_outputs()
    assert "first_output" not in outputs
    assert "second_output" in outputs

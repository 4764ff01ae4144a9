"""Graphs in lower precision on MXNet. Their kernels need a GPU (or AVX-512), the rewriting of the graph does not."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import glueball
from glueball import backend as backends
from glueball.backend.base import StepOptions
from glueball.errors import BackendError

pytestmark = pytest.mark.skipif(backends.current().name != "mxnet", reason="about the MXNet backend")


def make_block(backend: Any) -> Any:
    nn = backend.nn

    class Graph(nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2D(6, 3, padding=1, use_bias=False)
            self.norm = nn.BatchNorm()
            self.second = nn.Conv2D(6, 3, padding=1)
            self.head = nn.Dense(5)
            self.loss = backend.loss.SoftmaxCrossEntropyLoss()

        def hybrid_forward(self, F: Any, data: Any, label: Any) -> Any:
            x = F.Activation(self.norm(self.first(data)), act_type="relu")
            x = F.Activation(self.second(x) + x, act_type="relu")
            x = self.head(F.Pooling(x, global_pool=True, pool_type="avg", kernel=(1, 1)))
            return self.loss(x, label), x

    glueball.seed(1)
    block = Graph()
    block.initialize("xavier")
    return block


def make_batch(backend: Any) -> list[Any]:
    random = np.random.default_rng(0)
    return [
        backend.array(random.normal(size=(4, 3, 8, 8)), "cpu"),
        backend.array(random.integers(0, 5, 4).astype(np.int32), "cpu"),
    ]


def nodes_of(block: Any, arrays: list[Any], precision: str) -> dict[str, dict[str, Any]]:
    import mxnet as mx

    from glueball.backend.mxnet.precision import convert_symbol, input_variables

    symbol = convert_symbol(mx.sym.Group(list(block(*input_variables(arrays)))), precision)
    # Written by default without casts, so that older versions can read it.
    graph = json.loads(symbol.tojson(remove_amp_cast=False))
    nodes = graph["nodes"]
    for node in nodes:
        node["sources"] = [nodes[entry[0]] for entry in node["inputs"]]
    return {node["name"]: node for node in nodes} | {
        f"head{index}": nodes[entry[0]] for index, entry in enumerate(graph["heads"])
    }


def is_cast(node: dict[str, Any], precision: str) -> bool:
    return node["op"] == "amp_cast" and node["attrs"]["dtype"] == precision


def test_casts_stand_where_they_gain() -> None:
    backend = backends.current()
    block, batch = make_block(backend), make_batch(backend)
    nodes = nodes_of(block, batch, "float16")
    convolutions = [node for node in nodes.values() if node["op"] == "Convolution"]
    assert len(convolutions) == 2
    # The picture and every weight is cast; the second convolution's data is low already.
    assert all(is_cast(source, "float16") for source in convolutions[0]["sources"])
    assert not is_cast(convolutions[1]["sources"][0], "float16")
    assert all(is_cast(source, "float16") for source in convolutions[1]["sources"][1:])
    norm = next(node for node in nodes.values() if node["op"] == "BatchNorm")
    assert norm["sources"][0]["op"] == "Convolution"
    assert all(source["op"] == "null" for source in norm["sources"][1:])
    added = next(node for node in nodes.values() if node["op"] == "elemwise_add")
    assert {source["op"] for source in added["sources"]} == {"Convolution", "Activation"}
    softmax = next(node for node in nodes.values() if node["op"] == "log_softmax")
    assert is_cast(softmax["sources"][0], "float32")
    assert is_cast(nodes["head1"], "float32")
    # Labels are integers and pass as they are.
    assert not any(source["name"].startswith("input1") and source["op"] == "amp_cast" for source in nodes.values())


def test_parameters_are_the_networks_own_and_stay_float32() -> None:
    backend = backends.current()
    from glueball.backend.mxnet.precision import converted

    block, batch = make_block(backend), make_batch(backend)
    result = converted(block, batch, "float16", block.collect_params())
    own = block.collect_params()
    assert {name: id(value) for name, value in result.collect_params().items()} == {
        name: id(value) for name, value in own.items()
    }
    assert {np.dtype(value.dtype) for value in own.values()} == {np.dtype(np.float32)}


def test_the_rewritten_graph_computes_and_learns_the_same() -> None:
    """With float32 in the role of the lower precision the casts change nothing, and any wrong edge would show."""
    backend = backends.current()
    import mxnet as mx

    from glueball.backend.mxnet.precision import converted

    results = []
    for rewrite in (False, True):
        block, batch = make_block(backend), make_batch(backend)
        block(*batch)
        runner = converted(block, batch, "float32", block.collect_params()) if rewrite else block
        runner.hybridize(static_alloc=True)
        with mx.autograd.record():
            loss, output = runner(*batch)
        loss.backward()
        gradients = [value.grad().asnumpy() for value in block.collect_params().values() if value.grad_req != "null"]
        results.append([loss.asnumpy(), output.asnumpy(), *gradients])
    assert len(results[0]) == len(results[1]) > 6
    for expected, received in zip(*results, strict=True):
        np.testing.assert_allclose(received, expected, rtol=1e-5, atol=1e-6)


# ----------------------------------------------------------------------------------------------------------------------
# bfloat16 on the CPU: each kernel that the conversion counts on, forward and backward
# ----------------------------------------------------------------------------------------------------------------------

KERNELS: dict[str, Any] = {
    "Activation relu": lambda F, x: F.Activation(x, act_type="relu"),
    "Activation tanh": lambda F, x: F.Activation(x, act_type="tanh"),
    "Activation sigmoid": lambda F, x: F.Activation(x, act_type="sigmoid"),
    "Activation softrelu": lambda F, x: F.Activation(x, act_type="softrelu"),
    "Activation softsign": lambda F, x: F.Activation(x, act_type="softsign"),
    "Concat": lambda F, x: F.Concat(x, F.Activation(x, act_type="relu"), dim=1),
    "Dropout": lambda F, x: F.Dropout(x, p=0.0),
    "Flatten": lambda F, x: F.Flatten(x),
    "LeakyReLU leaky": lambda F, x: F.LeakyReLU(x, act_type="leaky"),
    "LeakyReLU elu": lambda F, x: F.LeakyReLU(x, act_type="elu"),
    "LeakyReLU gelu": lambda F, x: F.LeakyReLU(x, act_type="gelu"),
    "LeakyReLU selu": lambda F, x: F.LeakyReLU(x, act_type="selu"),
    "Pooling max": lambda F, x: F.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="max"),
    "Pooling avg": lambda F, x: F.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="avg"),
    "Pooling sum": lambda F, x: F.Pooling(x, kernel=(2, 2), stride=(2, 2), pool_type="sum"),
    "Pooling global": lambda F, x: F.Pooling(x, global_pool=True, kernel=(1, 1), pool_type="avg"),
    "Reshape": lambda F, x: F.Reshape(x, shape=(0, -1)),
    "SliceChannel": lambda F, x: F.SliceChannel(x, num_outputs=2, axis=1)[1],
    "SwapAxis": lambda F, x: F.SwapAxis(x, dim1=1, dim2=2),
    "UpSampling": lambda F, x: F.UpSampling(x, scale=2, sample_type="nearest"),
    "add_n": lambda F, x: F.add_n(x, F.Activation(x, act_type="relu")),
    "clip": lambda F, x: F.clip(x, 0, 6),
    "elemwise_add": lambda F, x: x + F.Activation(x, act_type="relu"),
    "elemwise_mul": lambda F, x: x * F.Activation(x, act_type="tanh"),
    "expand_dims": lambda F, x: F.expand_dims(x, axis=0),
    "slice_axis": lambda F, x: F.slice_axis(x, axis=1, begin=1, end=3),
    "transpose": lambda F, x: F.transpose(x, axes=(0, 2, 3, 1)),
    "softmax": lambda F, x: F.softmax(x, axis=1),
    "batch_dot": lambda F, x: F.batch_dot(F.Reshape(x, shape=(-3, 0, 0)), F.Reshape(x, shape=(-3, 0, 0))),
}


def lowered_or_skip(backend: Any) -> None:
    if reason := backend.supports_precision("bfloat16", "cpu"):
        pytest.skip(reason)


def results_of(backend: Any, make: Any, precision: str, *, warm: bool = False) -> list[np.ndarray]:
    """Output and gradients of a network that ``make`` builds."""
    import mxnet as mx

    from glueball.backend.mxnet.precision import converted

    glueball.seed(1)
    block = make()
    block.initialize("xavier")
    data = backend.array(np.random.default_rng(0).normal(size=(2, 4, 6, 6)), "cpu")
    with mx.autograd.train_mode():
        block(data)
    if warm:
        block(data)
    runner = block if precision == "float32" else converted(block, [data], precision, block.collect_params())
    runner.hybridize(static_alloc=True)
    data.attach_grad()
    with mx.autograd.record():
        output = runner(data)
        total = (output * output * output).sum()
    total.backward()
    gradients = [value.grad().asnumpy() for value in block.collect_params().values() if value.grad_req != "null"]
    return [output.asnumpy(), data.grad.asnumpy(), *gradients]


def assert_close(received: list[np.ndarray], expected: list[np.ndarray]) -> None:
    assert len(received) == len(expected)
    for one, two in zip(expected, received, strict=True):
        assert two.dtype == np.float32
        # 8 bits of mantissa, and here and there a value that falls on the other side of a bend; a wrong kernel is off
        # by the size of the values.
        assert np.linalg.norm(two - one) < 0.1 * np.linalg.norm(one)


@pytest.mark.parametrize("name", KERNELS)
def test_bfloat16_after_a_convolution(name: str) -> None:
    backend = backends.current()
    lowered_or_skip(backend)
    nn = backend.nn

    class Network(nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2D(4, 1, in_channels=4)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            return KERNELS[name](F, self.conv(x))

    expected, received = (results_of(backend, Network, precision) for precision in ("float32", "bfloat16"))
    assert_close(received, expected)
    assert not np.array_equal(received[0], expected[0])


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("kind", ["Conv2D", "Conv2DTranspose"])
def test_bfloat16_weights_whose_layout_inference_has_changed(kind: str, groups: int) -> None:
    """oneDNN reorders a weight in place when a network predicts; training goes on with it afterwards."""
    backend = backends.current()
    lowered_or_skip(backend)

    def make() -> Any:
        return getattr(backend.nn, kind)(4, 3, padding=1, groups=groups, in_channels=4)

    expected, received = (results_of(backend, make, precision, warm=True) for precision in ("float32", "bfloat16"))
    assert_close(received, expected)


def test_bfloat16_is_refused_where_no_casts_can_be_put() -> None:
    backend = backends.current()
    lowered_or_skip(backend)

    class Dynamic(backend.nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.dense = backend.nn.Dense(3)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            return self.dense(x) if float(x.sum().asscalar()) > 0 else x

    network = Dynamic()
    network.initialize("xavier")
    data = np.ones((2, 4), np.float32)
    network(data)
    with pytest.raises(BackendError, match=r"cannot predict in bfloat16.*cannot be traced.*float32"):
        backend.predictor(network, device="cpu", precision="bfloat16")(data)
    step = backend.training_step(network, network, StepOptions(precision="bfloat16"), "cpu")
    with pytest.raises(BackendError, match=r"cannot be trained in bfloat16.*float32"):
        step((data,), 0.1)


def test_a_bad_batch_is_not_blamed_on_the_precision() -> None:
    backend = backends.current()
    lowered_or_skip(backend)
    network = backend.nn.Dense(3, in_units=4)
    network.initialize("xavier")
    step = backend.training_step(network, network, StepOptions(precision="bfloat16"), "cpu")
    with pytest.raises(Exception, match=r"(?i)shape"):
        step((np.ones((2, 5), np.float32),), 0.1)

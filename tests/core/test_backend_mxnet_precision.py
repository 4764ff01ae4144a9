"""Graphs in lower precision on MXNet. Their kernels need a GPU (or AVX-512), the rewriting of the graph does not."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

import glueball
from glueball import backend as backends

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

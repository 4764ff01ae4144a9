"""A program that trains in a job of MXNet's KVStore or of Horovod, and the same training without one, to compare.

``mxnet_job.py OUT SCENARIO ...`` writes what the scenarios gave, from process 0, to a safetensors file.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

import glueball
from glueball import backend as backends
from glueball.backend.base import OptimizerSpec, StepOptions

SCENARIOS: dict[str, dict[str, Any]] = {
    "pictures": {},
    "normalized": {"normalize": True},
    "normalized eagerly": {"normalize": True, "compile": False, "epochs": 1},
    "accumulated": {"normalize": True, "accumulate": 2, "clip_norm": 0.5, "ema_decay": 0.9},
    "adam": {"optimizer": OptimizerSpec(name="adamw", weight_decay=0.01)},
    "texts": {"texts": True},
    # Each process with statistics of its own: other numbers, but the same in all processes.
    "own statistics": {"normalize": True, "sync_batch_norm": False, "epochs": 1},
    # State and weights of a run whose accumulation was interrupted.
    "waiting": {"normalize": True, "accumulate": 3, "epochs": 1, "flush": False},
}
RATE = 0.02


def train(group: Any, scenario: str) -> dict[str, np.ndarray]:
    """Trains on global batches, two of which do not divide among processes; gives losses, weights and state."""
    options = dict(SCENARIOS[scenario])
    texts, normalize = options.pop("texts", False), options.pop("normalize", False)
    epochs, flush = options.pop("epochs", 5), options.pop("flush", True)
    backend = backends.current()
    rank, size = (0, 1) if group is None else (group.rank, group.size)
    # Every process begins with weights of its own and must take those of process 0.
    network = text_network(backend, rank) if texts else picture_network(backend, rank, normalize)
    step_options = StepOptions(**{"optimizer": OptimizerSpec(name="sgd", momentum=0.9), **options})
    arguments = [network, graph_of(backend, network), step_options, "cpu"]
    step = backend.training_step(*arguments) if group is None else backend.training_step(*arguments, group)
    losses = []
    for _ in range(epochs):
        for data, labels in batches(texts):
            count = len(data)
            mine = slice(count * rank // size, count * (rank + 1) // size)
            own = mine.stop - mine.start
            # A process without a sample takes a stand-in, which must leave no trace.
            part = (data[mine], labels[mine]) if own else (data[:1] * 0 + 5, labels[:1])
            arrays = [backend.array(array, "cpu") for array in part]
            output = step(arrays, RATE) if group is None else step(arrays, RATE, own * size / count)
            loss = np.float64(backend.numpy(output.loss).item() * own / count)
            losses.append(loss if group is None else group.all_reduce([loss])[0])
        if flush:
            step.flush(RATE)
    state = step.state_dict()
    with step.ema_weights():
        averaged = backend.get_arrays(network)
    result = {"losses": np.array(losses)}
    for part, arrays in (("state", state), ("weights", backend.get_arrays(network)), ("average", averaged)):
        result.update({f"{part}/{name}": np.ascontiguousarray(array) for name, array in arrays.items()})
    return result


def picture_network(backend: Any, seed: int, normalize: bool) -> Any:
    nn = backend.nn
    glueball.seed(seed)
    network = nn.HybridSequential()
    # 16 channels: then oneDNN keeps arrays in layouts of its own.
    network.add(nn.Conv2D(16, 3, padding=1, use_bias=not normalize))
    if normalize:
        network.add(nn.BatchNorm(), nn.Activation("relu"), nn.Conv2D(16, 3, padding=1, use_bias=False))
        network.add(nn.BatchNorm(scale=False))
    network.add(nn.Activation("relu"), nn.MaxPool2D(2), nn.Flatten(), nn.Dense(5))
    network.initialize("xavier")
    network(np.zeros((1, 3, 8, 8), np.float32))
    return network


def text_network(backend: Any, seed: int) -> Any:
    nn = backend.nn
    glueball.seed(seed)
    network = nn.HybridSequential()
    network.add(nn.Embedding(20, 8), nn.Dense(16, activation="tanh"), nn.Dense(5))
    network.initialize("xavier")
    network(np.zeros((1, 6), np.int32))
    return network


def graph_of(backend: Any, network: Any) -> Any:
    class Graph(backend.nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.loss = backend.loss.SoftmaxCrossEntropyLoss()

        def hybrid_forward(self, F: Any, data: Any, label: Any) -> Any:
            output = self.network(data)
            return self.loss(output, label), output

    return Graph()


def batches(texts: bool) -> list[tuple[np.ndarray, np.ndarray]]:
    """Eight whole batches, one of five samples and one of a single sample."""
    random = np.random.default_rng(0)
    result = []
    for count in (*[8] * 8, 5, 1):
        if texts:
            data = random.integers(0, 20, (count, 6)).astype(np.int32)
        else:
            data = random.normal(size=(count, 3, 8, 8)).astype(np.float32)
        result.append((data, random.integers(0, 5, count).astype(np.int32)))
    return result


def host_exchanges(group: Any) -> dict[str, np.ndarray]:
    """Every method of a process group, with what all processes agree on."""
    large = np.arange(300_000, dtype=np.float64) + group.rank
    whole = [np.array([2**60 + group.rank]), np.full((2, 2), 0.5, np.float32), large, np.zeros((0, 3), np.int64)]
    integers, floats, doubles, empty = group.all_reduce(whole)
    assert integers.tolist() == [group.size * 2**60 + sum(range(group.size))]
    assert (floats == 0.5 * group.size).all()
    assert (integers.dtype, floats.dtype, doubles.dtype) == (np.int64, np.float32, np.float64)
    assert (doubles == group.size * np.arange(300_000) + sum(range(group.size))).all()
    assert empty.shape == (0, 3)
    assert group.gather(b"x" * group.rank) == [b"x" * rank for rank in range(group.size)]
    last = group.size - 1
    assert group.broadcast(b"from the last" if group.rank == last else None, last) == b"from the last"
    assert group.broadcast(b"first" if group.rank == 0 else b"not looked at") == b"first"
    group.barrier()
    return {"local_rank": np.array(group.local_rank)}


def fail_in_step(group: Any, how: str) -> None:
    """Process 1 ends in one way or another, while the others wait inside MXNet for its part of a sum."""
    import mxnet as mx

    array = mx.nd.ones((1000,))
    group.prepare("array", array)
    group.sum("array", array)
    assert (array.asnumpy() == group.size).all()
    if how == "waits":
        print("the server may go", flush=True)
        for _ in range(600):
            time.sleep(0.1)
            group.sum("array", array)
            backends.current().numpy(array)
    if group.rank == 1:
        if how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "raises":
            raise RuntimeError("no more of this")
        time.sleep(60)
    group.sum("array", array)
    backends.current().numpy(array)
    print("what cannot be summed was summed", flush=True)


def main() -> None:
    from safetensors.numpy import save_file

    from glueball.engine import processes

    out, *scenarios = sys.argv[1:]
    launch = processes.from_environment()
    assert launch is not None
    print("joining", flush=True)
    group = backends.current().process_group(launch)
    results: dict[str, np.ndarray] = {}
    for scenario in scenarios:
        if scenario == "exchanges":
            results.update(host_exchanges(group))
        elif scenario in SCENARIOS:
            found = train(group, scenario)
            texts = {name: array.tobytes().hex() for name, array in found.items()}
            digests = group.gather(json.dumps(texts).encode())
            assert len(set(digests)) == 1, f"the processes do not agree after {scenario}"
            results.update({f"{scenario}/{name}": array for name, array in found.items()})
        else:
            fail_in_step(group, scenario)
    if group.rank == 0:
        save_file(results, Path(out))
    group.close()


if __name__ == "__main__":
    main()

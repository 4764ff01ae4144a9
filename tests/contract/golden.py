"""Writes what the selected backend computes for small networks and losses, for the other backend to be held against.

    GLUEBALL_BACKEND=mxnet python tests/contract/golden.py

writes ``golden/mxnet.npz``. Both files are committed; ``test_golden.py`` compares the running backend with each.
Weights come from Glueball's initialisers, which give both backends the same numbers, so nothing but the computation can
differ.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from reference import normal, positive, whole

import glueball
from glueball import autograd, backend, init, loss, nn, rnn

FOLDER = Path(__file__).parent / "golden"


@attrs.frozen
class Network:
    """A network, what goes in, and whether its gradients are comparable."""

    build: Callable[[], Any]
    inputs: tuple[np.ndarray, ...]
    gradients: bool = True


NETWORKS: dict[str, Network] = {}


def network(*inputs: np.ndarray, gradients: bool = True) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    def register(build: Callable[[], Any]) -> Callable[[], Any]:
        NETWORKS[build.__name__] = Network(build, inputs, gradients)
        return build

    return register


def chain(*blocks: Any) -> Any:
    result = nn.HybridSequential(prefix="net_")
    result.add(*blocks)
    return result


class Residual(nn.HybridBlock):  # type: ignore[misc, name-defined]
    """A block with children, a function of the dialect and an addition."""

    def __init__(self, channels: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.body = chain(
            nn.BatchNorm(),
            nn.Activation("relu"),
            nn.Conv2D(channels, 3, padding=1, use_bias=False),
            nn.BatchNorm(momentum=0.8, epsilon=1e-3),
        )

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.Activation(self.body(x) + x, act_type="relu")


class Scaled(nn.HybridBlock):  # type: ignore[misc, name-defined]
    """A block with a parameter and a constant of its own."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scale = self.params.get("scale", shape=(1, 4, 1, 1), init=init.Constant(20.0))
        self.shift = self.params.get_constant("shift", np.arange(4, dtype=np.float32).reshape(1, 4, 1, 1))

    def hybrid_forward(self, F: Any, x: Any, scale: Any, shift: Any) -> Any:
        normalized = F.L2Normalization(x, mode="channel", eps=1e-5)
        return F.broadcast_add(F.broadcast_mul(normalized, scale), shift)


class Recurrent(nn.HybridBlock):  # type: ignore[misc, name-defined]
    """A recurrent layer that begins with learned states and gives all that it has: outputs, and states at the end."""

    def __init__(self, layer: Any, num_states: int, count: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer
        shape = (count, 1, 3)
        self.h = self.params.get("h", shape=shape, init=init.Normal(0.5))
        self.c = self.params.get("c", shape=shape, init=init.Normal(0.5)) if num_states == 2 else None

    def hybrid_forward(self, F: Any, x: Any, *lengths: Any, **states: Any) -> Any:
        begin = [F.broadcast_axis(states[name], axis=1, size=4) for name in sorted(states, reverse=True)]
        outputs, ended = self.layer(x, begin, *lengths)
        return F.concat(*(F.reshape(one, shape=(-1,)) for one in (outputs, *ended)), dim=0)


@network(normal(4, 3, 12, 11))
def convolutional() -> Any:
    return chain(
        nn.Conv2D(8, 3, strides=2, padding=1, use_bias=False),
        nn.BatchNorm(),
        nn.Activation("relu"),
        nn.MaxPool2D(3, 2, 1),
        Residual(8),
        nn.GlobalAvgPool2D(),
        nn.Flatten(),
        nn.Dense(5),
    )


@network(normal(2, 4, 9, 9))
def grouped() -> Any:
    return chain(
        nn.Conv2D(8, (3, 1), padding=(2, 0), dilation=(2, 1), groups=2, activation="relu"),
        nn.MaxPool2D(2, 2, ceil_mode=True),
        nn.Conv2D(8, 3, padding=1, groups=8),
        nn.AvgPool2D(3, 2, 1, ceil_mode=True),
        nn.AvgPool2D(3, 1, 1, count_include_pad=False),
        nn.GlobalMaxPool2D(),
        nn.Dense(3, activation="tanh"),
    )


@network(normal(3, 2, 13))
def one_dimensional() -> Any:
    return chain(
        nn.Conv1D(4, 3, padding=1),
        nn.BatchNorm(scale=False),
        nn.MaxPool1D(),
        nn.Conv1DTranspose(3, 4, strides=2, padding=1),
        nn.AvgPool1D(3, 1),
        nn.LayerNorm(),
        nn.HybridSequential(prefix=""),
    )


@network(normal(2, 2, 5, 6, 6))
def three_dimensional() -> Any:
    return chain(
        nn.Conv3D(4, (1, 3, 3), padding=(0, 1, 1)),
        nn.BatchNorm(center=False),
        nn.MaxPool3D(2, 2, ceil_mode=True),
        nn.Conv3DTranspose(2, 2, strides=2),
        nn.AvgPool3D(2),
        nn.GlobalAvgPool3D(),
    )


@network(normal(2, 3, 5, 4))
def transposed() -> Any:
    return chain(
        nn.Conv2DTranspose(4, 4, strides=2, padding=1, use_bias=False),
        nn.GroupNorm(2),
        nn.Conv2DTranspose(4, 3, strides=2, padding=1, output_padding=1, groups=2, in_channels=4),
        nn.InstanceNorm(scale=True),
        nn.ReflectionPad2D(1),
        nn.PixelShuffle2D(2),
    )


@network(whole([[1, 4, 0], [2, 2, 3]]))
def embedded() -> Any:
    return chain(nn.Embedding(5, 6), nn.LayerNorm(epsilon=1e-4), nn.Dense(4, flatten=False), nn.GELU(), nn.Dense(2))


@network(normal(2, 4, 5, 5))
def activations() -> Any:
    return chain(
        nn.Conv2D(4, 1),
        nn.LeakyReLU(0.1),
        nn.Conv2D(4, 1),
        nn.PReLU(),
        nn.Conv2D(4, 1),
        nn.PReLU(in_channels=4),
        nn.Conv2D(4, 1),
        nn.ELU(0.7),
        nn.Conv2D(4, 1),
        nn.Swish(1.5),
        nn.Conv2D(4, 1),
        nn.SiLU(),
        nn.Conv2D(4, 1),
        nn.Activation("softsign"),
        nn.HybridLambda("sigmoid"),
    )


# MXNet's SELU has another gradient below 0 than the function that it computes.
@network(normal(3, 4), gradients=False)
def self_normalizing() -> Any:
    return chain(nn.Dense(4), nn.SELU(), nn.Identity())


@network(normal(2, 4, 6, 6))
def branches() -> Any:
    side_by_side = nn.HybridConcurrent(axis=1, prefix="")
    side_by_side.add(
        nn.Conv2D(3, 1), nn.Identity(), chain(nn.MaxPool2D(3, 1, 1), nn.Conv2D(2, 3, padding=1)), nn.BatchNorm()
    )
    return chain(side_by_side, nn.BatchNorm(scale=False, center=False), nn.GlobalMaxPool2D())


@network(normal(4, 3, 4))
def shared_statistics() -> Any:
    return chain(
        nn.SyncBatchNorm(num_devices=1),
        nn.Conv1D(6, 1),
        nn.BatchNorm(use_global_stats=True),
        nn.PixelShuffle1D(2),
        nn.GlobalAvgPool1D(),
    )


@network(normal(1, 8, 2, 3, 2))
def voxels() -> Any:
    return chain(nn.Conv3D(8, 1), nn.PixelShuffle3D(2), nn.GlobalMaxPool3D())


@network(normal(2, 2, 7))
def longest() -> Any:
    return chain(nn.Conv1D(3, 2), nn.GlobalMaxPool1D(), nn.Flatten())


@network(normal(2, 4, 3, 3))
def own_parameters() -> Any:
    return chain(Scaled(), nn.Conv2D(2, 3))


# Lengths at both ends, and one sequence without a step.
_LENGTHS = whole([5, 1, 0, 3])


@network(normal(5, 4, 6))
def recurrent() -> Any:
    return chain(rnn.RNN(3, 2), rnn.GRU(3, bidirectional=True), rnn.LSTM(3), nn.Dense(2, flatten=False))


@network(normal(5, 4, 6), _LENGTHS)
def elman() -> Any:
    return Recurrent(rnn.RNN(3, 2, "tanh", bidirectional=True, use_sequence_length=True), 1, 4)


@network(normal(4, 5, 6), _LENGTHS)
def long_short() -> Any:
    return Recurrent(rnn.LSTM(3, 2, "NTC", bidirectional=True, use_sequence_length=True), 2, 4)


@network(normal(5, 4, 6), _LENGTHS)
def gated() -> Any:
    return Recurrent(rnn.GRU(3, 2, bidirectional=True, use_sequence_length=True), 1, 4)


class Unrolled(nn.HybridBlock):  # type: ignore[misc, name-defined]
    """Cells one above the other over sequences of different lengths; all that they give."""

    def __init__(self, *cells: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for cell in cells:
            self.register_child(cell)

    def hybrid_forward(self, F: Any, x: Any, length: Any) -> Any:
        results = []
        for cell in self._children.values():
            x, states = cell.unroll(5, x, layout="NTC", merge_outputs=True, valid_length=length)
            results += states
        return F.concat(*(F.reshape(one, shape=(-1,)) for one in (x, *results)), dim=0)


@network(normal(4, 5, 6), _LENGTHS)
def cells() -> Any:
    return Unrolled(rnn.LSTMCell(3), rnn.GRUCell(4), rnn.RNNCell(3), rnn.RNNCell(3, "softsign"))


@network(normal(4, 5, 6))
def whole_sequences() -> Any:
    return Recurrent(rnn.LSTM(3, 2, "NTC"), 2, 2)


_P, _L = normal(4, 5, seed=21), normal(4, 5, seed=22)
_SIGNED = np.sign(normal(4, 5, seed=23))
_SHARES = np.exp(_L) / np.exp(_L).sum(1, keepdims=True)
_WEIGHT = positive(4, 1)

LOSSES: dict[str, tuple[Callable[[], Any], tuple[np.ndarray, ...]]] = {
    "SoftmaxCrossEntropyLoss": (lambda: loss.SoftmaxCrossEntropyLoss(), (_P, whole([0, 4, 2, 2]))),
    "SoftmaxCrossEntropyLoss-dense": (lambda: loss.SoftmaxCrossEntropyLoss(sparse_label=False), (_P, _SHARES, _WEIGHT)),
    "SoftmaxCrossEntropyLoss-axis": (
        lambda: loss.SoftmaxCrossEntropyLoss(axis=1, weight=0.5),
        (normal(2, 3, 4), whole([[0, 1, 2, 0], [-1, 2, 9, 1]])),
    ),
    "SoftmaxCELoss": (lambda: loss.SoftmaxCELoss(from_logits=True), (np.log(_SHARES), whole([1, 1, 0, 3]), _WEIGHT)),
    "SigmoidBinaryCrossEntropyLoss": (lambda: loss.SigmoidBinaryCrossEntropyLoss(), (_P, whole(_SIGNED > 0), _WEIGHT)),
    "SigmoidBinaryCrossEntropyLoss-weights": (
        lambda: loss.SigmoidBinaryCrossEntropyLoss(),
        (_P, whole(_SIGNED > 0), _WEIGHT, positive(1, 5)),
    ),
    "SigmoidBCELoss": (lambda: loss.SigmoidBCELoss(from_sigmoid=True), (_SHARES, whole(_SIGNED > 0))),
    "L1Loss": (lambda: loss.L1Loss(weight=2.0), (_P, _L, _WEIGHT)),
    "L2Loss": (lambda: loss.L2Loss(), (_P, _L)),
    "L2Loss-batch-axis": (lambda: loss.L2Loss(batch_axis=1), (_P, _L)),
    "KLDivLoss": (lambda: loss.KLDivLoss(), (np.log(_SHARES[::-1].copy()), _SHARES)),
    "KLDivLoss-raw": (lambda: loss.KLDivLoss(from_logits=False), (_P, _SHARES, _WEIGHT)),
    "HuberLoss": (lambda: loss.HuberLoss(rho=0.5), (_P, _L, _WEIGHT)),
    "HingeLoss": (lambda: loss.HingeLoss(margin=0.7), (_P, _SIGNED, _WEIGHT)),
    "SquaredHingeLoss": (lambda: loss.SquaredHingeLoss(), (_P, _SIGNED)),
    "LogisticLoss": (lambda: loss.LogisticLoss(), (_P, _SIGNED, _WEIGHT)),
    "LogisticLoss-binary": (lambda: loss.LogisticLoss(label_format="binary", weight=3.0), (_P, whole(_SIGNED > 0))),
    "TripletLoss": (lambda: loss.TripletLoss(), (_P, _L, normal(4, 5, seed=24))),
    "CosineEmbeddingLoss": (lambda: loss.CosineEmbeddingLoss(margin=0.1), (_P, _L, whole([1, -1, 1, -1]))),
    "PoissonNLLLoss": (lambda: loss.PoissonNLLLoss(), (_P, whole([[0, 1, 2, 3, 4]] * 4))),
    "PoissonNLLLoss-full": (
        lambda: loss.PoissonNLLLoss(from_logits=False, compute_full=True),
        (_SHARES, whole([[1, 1, 2, 3, 4]] * 4)),
    ),
}
"""Losses with their inputs; a name is that of the class, and what is special after a hyphen."""

# MXNet's compute_full multiplies in place, which it refuses to record.
VALUE_ONLY = {"PoissonNLLLoss-full"}


def compute_network(name: str) -> dict[str, np.ndarray]:
    """Outputs, gradients and running statistics of one network."""
    current = backend.current()
    glueball.seed(20)
    entry = NETWORKS[name]
    net = entry.build()
    net.initialize(init.Xavier(magnitude=2.0))
    inputs = [current.array(one.astype(np.float32)) for one in entry.inputs]
    with autograd.predict_mode():
        predicted = net(*inputs)
    result = {"predicted": current.numpy(predicted)}
    head = current.array(normal(*result["predicted"].shape, seed=3).astype(np.float32))
    # Twice, so that the running statistics are moved from moved ones.
    for _ in range(2):
        with autograd.record():
            trained = net(*inputs)
        autograd.backward(trained, head)
    result["trained"] = current.numpy(trained)
    for key, parameter in current.parameters(net).items():
        if key.endswith(("running_mean", "running_var")):
            result[f"statistics/{key}"] = current.numpy(parameter.data())
        elif parameter.grad_req != "null" and entry.gradients:
            result[f"gradient/{key}"] = current.numpy(parameter.grad())
    with autograd.predict_mode():
        result["predicted-afterwards"] = current.numpy(net(*inputs))
    return {f"network/{name}/{key}": value for key, value in result.items()}


def compute_loss(name: str) -> dict[str, np.ndarray]:
    """The value of one loss and its gradient with respect to the prediction."""
    current = backend.current()
    build, inputs = LOSSES[name]
    prediction = nn.Parameter("prediction", shape=inputs[0].shape, init="zeros")
    prediction.initialize()
    prediction.set_data(current.array(inputs[0].astype(np.float32)))
    others = [current.array(one.astype(np.float32)) for one in inputs[1:]]
    if name in VALUE_ONLY:
        return {f"loss/{name}/value": current.numpy(build()(prediction.data(), *others))}
    with autograd.record():
        value = build()(prediction.data(), *others)
    autograd.backward(value)
    return {f"loss/{name}/value": current.numpy(value), f"loss/{name}/gradient": current.numpy(prediction.grad())}


def main() -> None:
    arrays: dict[str, np.ndarray] = {}
    for name in NETWORKS:
        arrays.update(compute_network(name))
    for name in LOSSES:
        arrays.update(compute_loss(name))
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    path = FOLDER / f"{backend.current().name}.npz"
    path.write_bytes(buffer.getvalue())
    print(f"{path}: {len(arrays)} arrays, {len(buffer.getvalue()) / 1024:.0f} KiB")


if __name__ == "__main__":
    main()

"""Training steps and predictors on the selected backend: what one call does to the weights, and what a state holds."""

from __future__ import annotations

import copy
import re
import warnings
from typing import Any

import numpy as np
import pytest

import glueball
from glueball import backend as backends
from glueball.backend.base import OptimizerSpec, ParameterRule, StepOptions
from glueball.errors import BackendError, CheckpointError, TrainingError

BATCH = 8


@pytest.fixture
def backend() -> Any:
    return backends.current()


def make_network(
    backend: Any, *, normalize: bool = True, dropout: float = 0.0, seed: int = 1, settle: bool = True
) -> Any:
    """A small network; ``settle=False`` leaves the shapes of its parameters to its first input."""
    nn = backend.nn
    glueball.seed(seed)
    network = nn.HybridSequential()
    network.add(nn.Conv2D(6, 3, padding=1, use_bias=not normalize))
    if normalize:
        network.add(nn.BatchNorm())
    network.add(nn.Activation("relu"), nn.MaxPool2D(2), nn.Flatten())
    if dropout:
        network.add(nn.Dropout(dropout))
    network.add(nn.Dense(5))
    network.initialize("xavier")
    if settle:
        network(np.zeros((1, 3, 8, 8), np.float32))
    return network


def make_graph(backend: Any, network: Any, *, scale: float = 1.0) -> Any:
    class Graph(backend.nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.network = network
            self.loss = backend.loss.SoftmaxCrossEntropyLoss()

        def hybrid_forward(self, F: Any, data: Any, label: Any) -> Any:
            output = self.network(data)
            return self.loss(output, label) * scale, output

    return Graph()


def batches(count: int, size: int = BATCH, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    random = np.random.default_rng(seed)
    return [
        (random.normal(size=(size, 3, 8, 8)).astype(np.float32), random.integers(0, 5, size).astype(np.int32))
        for _ in range(count)
    ]


def on_device(backend: Any, batch: tuple[np.ndarray, ...]) -> list[Any]:
    return [backend.array(values, "cpu") for values in batch]


def make_step(backend: Any, network: Any, *, scale: float = 1.0, **options: Any) -> Any:
    options.setdefault("optimizer", OptimizerSpec(name="sgd", weight_decay=1e-3))
    return backend.training_step(network, make_graph(backend, network, scale=scale), StepOptions(**options), "cpu")


def train(backend: Any, step: Any, data: list[tuple[np.ndarray, np.ndarray]], rate: float = 0.05) -> list[Any]:
    return [step(on_device(backend, batch), rate) for batch in data]


def assert_same(first: dict[str, np.ndarray], second: dict[str, np.ndarray]) -> None:
    assert list(first) == list(second)
    for name in first:
        assert np.array_equal(first[name], second[name]), name


def test_training_lowers_the_loss_and_returns_the_outputs(backend: Any) -> None:
    network = make_network(backend)
    step = make_step(backend, network)
    results = train(backend, step, batches(1) * 20)
    losses = [float(np.ravel(backend.numpy(result.loss))[0]) for result in results]
    assert losses[-1] < losses[0] / 2
    assert np.ravel(backend.numpy(results[0].loss)).shape == (1,)
    assert backend.numpy(results[0].outputs[0]).shape == (BATCH, 5)
    assert all(result.updated for result in results)
    assert results[0].gradient_norm is None


def test_shapes_are_settled_by_the_first_batch(backend: Any) -> None:
    data = batches(3)
    networks = [make_network(backend, settle=True), make_network(backend, settle=False)]
    for network in networks:
        glueball.seed(1)  # the streams of the deferred parameters begin where those of the others did
        train(backend, make_step(backend, network), data)
    assert_same(backend.get_arrays(networks[0]), backend.get_arrays(networks[1]))


def test_outputs_of_a_step_survive_the_next_ones(backend: Any) -> None:
    # Static memory plans reuse buffers; what a step returned must not be among them.
    step = make_step(backend, make_network(backend))
    first, *_ = batches(1)
    result = step(on_device(backend, first), 0.1)
    kept = backend.numpy(result.outputs[0]).copy(), backend.numpy(result.loss).copy()
    train(backend, step, batches(3, seed=5), 0.1)
    assert np.array_equal(kept[0], backend.numpy(result.outputs[0]))
    assert np.array_equal(kept[1], backend.numpy(result.loss))


def test_accumulating_two_halves_equals_the_whole(backend: Any) -> None:
    data = batches(4, size=2 * BATCH)
    whole = make_network(backend, normalize=False)
    halves = make_network(backend, normalize=False)
    train(backend, make_step(backend, whole), data)
    step = make_step(backend, halves, accumulate=2)
    for images, labels in data:
        first = step(on_device(backend, (images[:BATCH], labels[:BATCH])), 0.05)
        second = step(on_device(backend, (images[BATCH:], labels[BATCH:])), 0.05)
        assert (first.updated, second.updated) == (False, True)
    expected, received = backend.get_arrays(whole), backend.get_arrays(halves)
    for name in expected:
        np.testing.assert_allclose(received[name], expected[name], rtol=1e-4, atol=1e-6)


def test_flush_updates_with_the_mean_of_what_waits(backend: Any) -> None:
    data = batches(1)
    plain, flushed = make_network(backend, normalize=False), make_network(backend, normalize=False)
    train(backend, make_step(backend, plain), data)
    step = make_step(backend, flushed, accumulate=3)
    assert not step(on_device(backend, data[0]), 0.05).updated
    assert step.flush(0.05)
    assert not step.flush(0.05)
    expected, received = backend.get_arrays(plain), backend.get_arrays(flushed)
    for name in expected:
        np.testing.assert_allclose(received[name], expected[name], rtol=1e-5, atol=1e-7)


def test_clipping_bounds_the_update(backend: Any) -> None:
    data = batches(1)
    network = make_network(backend)
    optimizer = OptimizerSpec(name="sgd", momentum=0.0)
    step = make_step(backend, network, optimizer=optimizer, clip_norm=0.01)
    step(on_device(backend, data[0]), 0.0)
    before = backend.get_arrays(network)
    result = step(on_device(backend, data[0]), 1.0)
    after = backend.get_arrays(network)
    trained = [name for name in before if "running" not in name]
    distance = np.sqrt(sum(np.sum((after[name] - before[name]) ** 2) for name in trained))
    norm = float(np.ravel(backend.numpy(result.gradient_norm))[0])
    assert norm > 0.1
    assert distance == pytest.approx(0.01, rel=1e-3)


def test_average_follows_its_formula(backend: Any) -> None:
    network = make_network(backend)
    step = make_step(backend, network, ema_decay=0.5)
    average: dict[str, np.ndarray] = {}
    for number, batch in enumerate(batches(6), start=1):
        if number == 1:
            step(on_device(backend, batch), 0.0)  # settles the shapes; a rate of zero moves only running statistics
            average = {name: values.astype(np.float64) for name, values in step.ema_parameters().items()}
            continue
        step(on_device(backend, batch), 0.1)
        decay = min(0.5, (1 + number) / (10 + number))
        weights = backend.get_arrays(network)
        average = {name: decay * average[name] + (1 - decay) * weights[name] for name in average}
    received = step.ema_parameters()
    assert set(received) == set(backend.get_arrays(network))
    for name in average:
        np.testing.assert_allclose(received[name], average[name], rtol=1e-5, atol=1e-6)


def test_network_holds_the_average_within_the_context_only(backend: Any) -> None:
    network = make_network(backend)
    step = make_step(backend, network, ema_decay=0.9)
    train(backend, step, batches(3), 0.2)
    weights = backend.get_arrays(network)
    with step.ema_weights():
        assert_same(backend.get_arrays(network), step.ema_parameters())
    assert_same(backend.get_arrays(network), weights)
    assert any(not np.array_equal(weights[name], values) for name, values in step.ema_parameters().items())


def test_no_average_where_none_is_asked_for(backend: Any) -> None:
    network = make_network(backend)
    step = make_step(backend, network)
    train(backend, step, batches(1))
    weights = backend.get_arrays(network)
    with step.ema_weights():
        assert_same(backend.get_arrays(network), weights)
    assert step.ema_parameters() == {}


def test_frozen_parameters_stay(backend: Any) -> None:
    network = make_network(backend)
    step = make_step(backend, network, rules=(ParameterRule(pattern=r"^0\.", trainable=False),))
    train(backend, step, batches(1))
    before = backend.get_arrays(network)
    train(backend, step, batches(3, seed=3), 0.5)
    after = backend.get_arrays(network)
    assert np.array_equal(before["0.weight"], after["0.weight"])
    assert not np.array_equal(before["4.weight" if "4.weight" in before else "5.weight"],
                              after["4.weight" if "4.weight" in after else "5.weight"])  # fmt: skip


@pytest.mark.parametrize("name", ["sgd", "nag", "adamw", "rmsprop", "lamb", "lars"])
def test_a_resumed_run_is_bit_identical(backend: Any, name: str) -> None:
    data = batches(9)
    options: dict[str, Any] = {
        "optimizer": OptimizerSpec(name=name, weight_decay=0.01),
        "accumulate": 2,
        "ema_decay": 0.9,
        "clip_norm": 1.0,
    }
    straight = make_network(backend, dropout=0.5)
    step = make_step(backend, straight, **options)
    backend.seed(11)
    train(backend, step, data[:5])  # an odd number: gradients wait
    kept = backend.get_arrays(straight), copy.deepcopy(step.state_dict()), copy.deepcopy(backend.random_state())
    train(backend, step, data[5:], 0.02)

    resumed = make_network(backend, dropout=0.5, seed=99)
    backend.set_arrays(resumed, kept[0])
    again = make_step(backend, resumed, **options)
    again.load_state_dict(kept[1])
    backend.seed(12345)
    backend.set_random_state(kept[2])
    assert_same(again.state_dict(), kept[1])
    train(backend, again, data[5:], 0.02)
    assert_same(backend.get_arrays(resumed), backend.get_arrays(straight))
    assert_same(again.state_dict(), step.state_dict())


def test_waiting_gradients_of_a_state_are_flushed(backend: Any) -> None:
    data = batches(3)
    network = make_network(backend)
    step = make_step(backend, network, accumulate=2)
    train(backend, step, data)
    arrays, state = backend.get_arrays(network), step.state_dict()
    assert step.flush(0.1)
    other = make_network(backend)
    backend.set_arrays(other, arrays)
    again = make_step(backend, other, accumulate=2)
    again.load_state_dict(state)
    assert again.flush(0.1)
    assert_same(backend.get_arrays(other), backend.get_arrays(network))


def test_a_state_of_another_run_names_every_misfit(backend: Any) -> None:
    network = make_network(backend)
    step = make_step(backend, network)
    train(backend, step, batches(1))
    state = step.state_dict()
    removed = next(name for name in state if name.startswith("momentum/"))
    changed = next(name for name in state if name.startswith("momentum/") and name != removed)
    del state[removed]
    state[changed] = np.zeros((1, 2, 3), dtype=np.float32)
    state["momentum/stranger"] = np.zeros(3, dtype=np.float32)
    with pytest.raises(CheckpointError) as caught:
        step.load_state_dict(state)
    message = str(caught.value)
    assert f"missing (1): {removed}" in message
    assert "unknown (1): momentum/stranger" in message
    assert f"{changed}: expected" in message


def test_a_state_needs_initialised_parameters(backend: Any) -> None:
    network = make_network(backend)
    step = make_step(backend, network)
    train(backend, step, batches(1))
    fresh = make_network(backend, settle=False)
    with pytest.raises(TrainingError, match="no values yet"):
        make_step(backend, fresh).load_state_dict(step.state_dict())


def test_a_smaller_last_batch_needs_nothing_special(backend: Any) -> None:
    data = batches(3) + batches(1, size=3, seed=2) + batches(2, seed=4) + batches(1, size=3, seed=6)
    results = {}
    for compiled in (True, False):
        network = make_network(backend)
        step = make_step(backend, network, compile=compiled)
        outputs = train(backend, step, data)
        assert [backend.numpy(result.outputs[0]).shape[0] for result in outputs] == [8, 8, 8, 3, 8, 8, 3]
        results[compiled] = backend.get_arrays(network)
    for name in results[True]:
        np.testing.assert_allclose(results[True][name], results[False][name], rtol=1e-4, atol=1e-5)


def test_more_shapes_than_static_plans(backend: Any) -> None:
    network = make_network(backend)
    step = make_step(backend, network)
    for size in (8, 7, 6, 5, 4, 3, 8, 3):
        result = step(on_device(backend, batches(1, size=size)[0]), 0.05)
        assert np.isfinite(backend.numpy(result.loss)).all()


def test_dropout_and_batchnorm_train_in_the_step_and_predict_outside(backend: Any) -> None:
    network = make_network(backend, dropout=0.5)
    step = make_step(backend, network, optimizer=OptimizerSpec(name="sgd"))
    data = on_device(backend, batches(1)[0])
    first, second = (backend.numpy(step(data, 0.0).outputs[0]).copy() for _ in range(2))
    assert not np.array_equal(first, second)  # other units dropped
    assert np.array_equal(backend.numpy(network(data[0])), backend.numpy(network(data[0])))
    before = backend.get_arrays(network)["1.running_mean"].copy()
    network(data[0])
    assert np.array_equal(before, backend.get_arrays(network)["1.running_mean"])
    step(data, 0.0)
    assert not np.array_equal(before, backend.get_arrays(network)["1.running_mean"])


def test_seed_decides_the_dropped_units(backend: Any) -> None:
    data = on_device(backend, batches(1)[0])
    outputs = []
    for seed in (3, 3, 4):
        network = make_network(backend, dropout=0.5)
        step = make_step(backend, network)
        backend.seed(seed)
        outputs.append(backend.numpy(step(data, 0.0).outputs[0]).copy())
    assert np.array_equal(outputs[0], outputs[1])
    assert not np.array_equal(outputs[0], outputs[2])


def test_overflow_skips_the_update_and_halves_the_scale(backend: Any) -> None:
    # A loss scale that overflows float32 itself: the machinery of float16 where its arithmetic is not available.
    network = make_network(backend)
    step = make_step(backend, network, ema_decay=0.9, initial_loss_scale=2.0**126, loss_scale_growth_interval=3)
    enable_loss_scaling(step)
    data = on_device(backend, batches(1)[0])
    scaled = make_step(backend, network, scale=1000.0, initial_loss_scale=2.0**126, ema_decay=0.9)
    enable_loss_scaling(scaled)
    scaled(data, 0.0)
    before, average = backend.get_arrays(network), scaled.ema_parameters()
    result = scaled(data, 0.5)
    assert result.updated
    assert scaled.skipped_updates() == 2
    assert float(scaled.state_dict()["loss_scale"]) == 2.0**124
    trained = [name for name in before if "running" not in name]
    after = backend.get_arrays(network)
    assert all(np.array_equal(before[name], after[name]) for name in trained)
    assert_same({name: scaled.ema_parameters()[name] for name in trained}, {name: average[name] for name in trained})
    assert int(scaled.state_dict()["updates"]) == 0


@pytest.mark.parametrize("name", ["sgd", "adam", "lamb"])
def test_loss_scale_changes_nothing_else_and_grows(backend: Any, name: str) -> None:
    data = batches(6)
    optimizer = OptimizerSpec(name=name)
    plain, scaled = make_network(backend), make_network(backend)
    train(backend, make_step(backend, plain, optimizer=optimizer, ema_decay=0.9, clip_norm=1.0), data, 0.01)
    step = make_step(
        backend,
        scaled,
        optimizer=optimizer,
        ema_decay=0.9,
        clip_norm=1.0,
        initial_loss_scale=1024.0,
        loss_scale_growth_interval=4,
    )
    enable_loss_scaling(step)
    train(backend, step, data, 0.01)
    assert step.skipped_updates() == 0
    state = step.state_dict()
    assert float(state["loss_scale"]) == 2048.0
    assert int(state["updates"]) == 6
    expected, received = backend.get_arrays(plain), backend.get_arrays(scaled)
    for weight in expected:
        np.testing.assert_allclose(received[weight], expected[weight], rtol=2e-3, atol=2e-4)
    again = make_step(backend, scaled, optimizer=optimizer, ema_decay=0.9, clip_norm=1.0)
    enable_loss_scaling(again)
    again.load_state_dict(state)
    assert_same(again.state_dict(), state)


def enable_loss_scaling(step: Any) -> None:
    """Switches on what float16 would, with arithmetic in float32."""
    if hasattr(step, "_scaling"):
        step._scaling = True
    else:
        from glueball.backend.torch.step import LossScaler

        step._scaler = LossScaler(step._options, step._device)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_a_precision_trains_or_the_reason_is_given(backend: Any, precision: str) -> None:
    network = make_network(backend)
    reason = backend.supports_precision(precision, "cpu")
    if reason is not None and backend.name == "mxnet":
        with pytest.raises(BackendError, match=re.escape(reason)):
            make_step(backend, network, precision=precision)
        return
    results = train(backend, make_step(backend, network, precision=precision), batches(3))
    assert np.isfinite(backend.numpy(results[-1].loss)).all()
    assert all(values.dtype == np.float32 for values in backend.get_arrays(network).values())


def test_weights_that_the_graph_does_not_use_are_left_alone(backend: Any) -> None:
    nn = backend.nn

    class TwoHeads(nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.used = nn.Dense(5, in_units=192)
            self.unused = nn.Dense(5, in_units=192)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            return self.used(x)

    network = TwoHeads()
    network.initialize("xavier")
    before = backend.get_arrays(network)
    step = make_step(backend, network, optimizer=OptimizerSpec(name="adamw", weight_decay=0.5), clip_norm=1.0)
    with warnings.catch_warnings():
        # Gluon points out that the graph has no use for some parameters.
        warnings.simplefilter("ignore", UserWarning)
        for images, labels in batches(2):
            step(on_device(backend, (images.reshape(BATCH, -1), labels)), 0.1)
    after = backend.get_arrays(network)
    assert np.array_equal(before["unused.weight"], after["unused.weight"])
    assert not np.array_equal(before["used.weight"], after["used.weight"])


def residual_network(backend: Any) -> Any:
    nn = backend.nn

    class Residual(nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.HybridSequential()
            self.body.add(nn.Conv2D(6, 3, padding=1, use_bias=False), nn.BatchNorm(), nn.Activation("relu"))
            self.body.add(nn.Conv2D(6, 3, padding=1, groups=2), nn.BatchNorm(scale=False))
            self.shared = nn.BatchNorm()

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            x = F.Activation(self.body(x) + x, act_type="relu")
            return F.concat(self.shared(x), self.shared(x), dim=1)

    network = nn.HybridSequential()
    network.add(nn.Conv2D(6, 3, strides=2, activation="relu"), Residual(), nn.GlobalAvgPool2D(), nn.Dense(4))
    glueball.seed(5)
    network.initialize("xavier")
    network(backend.array(batches(1)[0][0]))
    random = np.random.default_rng(2)
    arrays = backend.get_arrays(network)
    backend.set_arrays(
        network,
        {
            name: (random.uniform(0.5, 1.5, values.shape)).astype(np.float32)
            for name, values in arrays.items()
            if name.endswith(("gamma", "beta", "running_mean", "running_var"))
        },
    )
    return network


def test_predictor_agrees_with_the_network(backend: Any) -> None:
    network = residual_network(backend)
    predict = backend.predictor(network, device="cpu")
    for size in (8, 3, 8):
        images = batches(1, size=size, seed=size)[0][0]
        expected = backend.numpy(network(backend.array(images)))
        np.testing.assert_allclose(backend.numpy(predict(backend.array(images))), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(backend.numpy(predict(images)), expected, rtol=1e-4, atol=1e-5)


def test_predictor_is_fused(backend: Any) -> None:
    network = residual_network(backend)
    predict = backend.predictor(network, device="cpu")
    predict(batches(1)[0][0])
    assert predict.fused_layers() >= 2
    assert backend.predictor(network, device="cpu", compile=False).fused_layers() == 0


def test_predictor_leaves_the_network_trainable_and_follows_refresh(backend: Any) -> None:
    network = make_network(backend)
    images = batches(1)[0][0]
    predict = backend.predictor(network, device="cpu")
    before = backend.numpy(predict(images)).copy()
    names = list(backend.parameters(network))
    step = make_step(backend, network)
    train(backend, step, batches(4), 0.2)
    predict.refresh()
    after = backend.numpy(predict(images))
    np.testing.assert_allclose(after, backend.numpy(network(backend.array(images))), rtol=1e-4, atol=1e-5)
    assert not np.allclose(before, after, atol=1e-3)
    assert list(backend.parameters(network)) == names


def test_predictor_between_steps_changes_nothing(backend: Any) -> None:
    results = []
    for look in (False, True):
        network = make_network(backend, dropout=0.3)
        step = make_step(backend, network)
        predict = backend.predictor(network, device="cpu")
        backend.seed(3)
        for batch in batches(4):
            train(backend, step, [batch])
            if look:
                predict.refresh()
                predict(batch[0])
                network(backend.array(batch[0]))
        results.append(backend.get_arrays(network))
    assert_same(results[0], results[1])


def test_predictor_returns_every_output(backend: Any) -> None:
    nn = backend.nn

    class Two(nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Dense(3)

        def hybrid_forward(self, F: Any, x: Any, y: Any) -> Any:
            return self.dense(x), F.broadcast_add(x, y)

    network = Two()
    network.initialize("xavier")
    images = np.arange(12, dtype=np.float32).reshape(3, 4)
    for compiled in (True, False):
        first, second = backend.predictor(network, device="cpu", compile=compiled)(images, images)
        assert backend.numpy(first).shape == (3, 3)
        np.testing.assert_array_equal(backend.numpy(second), 2 * images)


def test_predictor_of_a_network_that_cannot_be_traced(backend: Any) -> None:
    nn = backend.nn

    class Dynamic(nn.Block):
        def __init__(self) -> None:
            super().__init__()
            self.dense = nn.Dense(3)

        def forward(self, x: Any) -> Any:
            return self.dense(x) if float(backend.numpy(x).sum()) > 0 else x

    network = Dynamic()
    network.initialize("xavier")
    predict = backend.predictor(network, device="cpu")
    assert backend.numpy(predict(np.ones((2, 4), np.float32))).shape == (2, 3)
    assert backend.numpy(predict(-np.ones((2, 4), np.float32))).shape == (2, 4)


def test_random_state_is_refused_from_the_other_backend(backend: Any) -> None:
    with pytest.raises(BackendError, match="random state"):
        backend.set_random_state({"other": np.zeros(3)})


def test_arrays_in_bfloat16(backend: Any) -> None:
    if reason := backend.supports_precision("bfloat16", "cpu"):
        pytest.skip(reason)
    array = backend.array(np.array([1.0, 2.5, 3.14159], np.float32), "cpu", dtype="bfloat16")
    received = backend.numpy(array)
    assert received.dtype == np.float32
    np.testing.assert_array_equal(received, np.array([1.0, 2.5, 3.140625], np.float32))

"""What random functions must hold: their mode, rate, scale and range, and that the seed decides."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import glueball
from glueball import autograd, backend, nn, ops

COUNT = 20_000


def ones(*shape: int) -> Any:
    return backend.current().array(np.ones(shape, dtype=np.float32))


def values(array: Any) -> np.ndarray:
    return backend.current().numpy(array)


@pytest.fixture(autouse=True)
def seeded() -> None:
    glueball.seed(5)


def test_dropout_predicts_the_identity() -> None:
    with autograd.predict_mode():
        np.testing.assert_array_equal(values(ops.Dropout(ones(4, 5), p=0.5)), np.ones((4, 5)))


def test_dropout_keeps_the_mean() -> None:
    with autograd.train_mode():
        found = values(ops.Dropout(ones(COUNT), p=0.25))
    np.testing.assert_allclose(np.unique(found), [0.0, 1 / 0.75], rtol=1e-6)
    # Five standard deviations of a mean of so many coin tosses.
    assert abs((found == 0).mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / COUNT)


def test_dropout_always() -> None:
    with autograd.predict_mode():
        assert (values(ops.Dropout(ones(100), p=0.5, mode="always")) == 0).any()


def test_dropout_of_whole_axes() -> None:
    with autograd.train_mode():
        found = values(ops.Dropout(ones(30, 10, 4), p=0.5, axes=(2,)))
    np.testing.assert_array_equal(found, np.broadcast_to(found[:, :, :1], found.shape))
    assert 0 < (found == 0).mean() < 1


def test_dropout_layer_follows_the_scopes() -> None:
    layer = nn.Dropout(0.5)
    layer.initialize()
    data = ones(200)
    assert (values(layer(data)) == 1).all()
    with autograd.record():
        assert (values(layer(data)) == 0).any()
    with autograd.record(train_mode=False):
        assert (values(layer(data)) == 1).all()
    with autograd.train_mode(), autograd.pause():
        assert (values(layer(data)) == 1).all()


def test_gradient_of_dropout_is_its_mask() -> None:
    parameter = nn.Parameter("values", shape=(50,), init="ones")
    parameter.initialize()
    with autograd.record():
        output = ops.Dropout(parameter.data(), p=0.4)
    autograd.backward(output)
    np.testing.assert_array_equal(values(parameter.grad()), values(output))


def test_uniform() -> None:
    found = values(ops.random.uniform(-1, 3, shape=(COUNT,)))
    assert found.dtype == np.float32
    assert found.min() >= -1
    assert found.max() <= 3
    assert abs(found.mean() - 1) < 5 * 4 / np.sqrt(12 * COUNT)


def test_normal() -> None:
    found = values(ops.random.normal(2, 0.5, shape=(COUNT,)))
    assert abs(found.mean() - 2) < 5 * 0.5 / np.sqrt(COUNT)
    assert abs(found.std() - 0.5) < 5 * 0.5 / np.sqrt(2 * COUNT)


def test_random_arrays_like_another() -> None:
    data = ones(50, 400)
    uniform = values(ops.random.uniform_like(data, low=1.0, high=2.0))
    assert uniform.shape == (50, 400)
    assert uniform.min() >= 1
    assert abs(uniform.mean() - 1.5) < 5 / np.sqrt(12 * COUNT)
    normal = values(ops.random.normal_like(data, loc=1.0, scale=2.0))
    assert normal.shape == (50, 400)
    assert abs(normal.mean() - 1) < 5 * 2 / np.sqrt(COUNT)


def test_the_seed_decides() -> None:
    first = values(ops.random.uniform(0, 1, shape=(10,)))
    second = values(ops.random.uniform(0, 1, shape=(10,)))
    glueball.seed(5)
    np.testing.assert_array_equal(values(ops.random.uniform(0, 1, shape=(10,))), first)
    assert (first != second).any()

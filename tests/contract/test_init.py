"""The initialisers: MXNet's formulas, streams by seed and name, and the rules for kinds of parameters."""

from __future__ import annotations

import math

import numpy as np
import pytest

import glueball
from glueball import backend, init, nn
from glueball.errors import OptionError

SHAPE = (64, 32, 3, 3)
COUNT = int(np.prod(SHAPE))


@pytest.fixture(autouse=True)
def seeded() -> None:
    init.set_seed(1)


@pytest.mark.parametrize(("factor", "fan"), [("in", 32 * 9), ("out", 64 * 9), ("avg", 48 * 9)])
def test_xavier_uniform(factor: str, fan: int) -> None:
    values = init.Xavier(factor_type=factor).sample("weight", SHAPE)
    bound = math.sqrt(3 / fan)
    assert values.dtype == np.float32
    assert np.abs(values).max() <= bound
    assert np.abs(values).max() > 0.999 * bound
    assert abs(values.std() - bound / math.sqrt(3)) < 5 * bound / math.sqrt(COUNT)


def test_xavier_gaussian() -> None:
    values = init.Xavier("gaussian", "in", 2).sample("weight", SHAPE)
    deviation = math.sqrt(2 / (32 * 9))
    assert abs(values.std() / deviation - 1) < 5 / math.sqrt(2 * COUNT)
    assert abs(values.mean()) < 5 * deviation / math.sqrt(COUNT)


def test_msra_prelu() -> None:
    values = init.MSRAPrelu("out", slope=0.5).sample("weight", SHAPE)
    assert abs(values.std() / math.sqrt(2 / 1.25 / (64 * 9)) - 1) < 5 / math.sqrt(2 * COUNT)


def test_uniform_and_normal() -> None:
    assert np.abs(init.Uniform().sample("weight", SHAPE)).max() <= 0.07
    assert abs(init.Normal(0.02).sample("weight", SHAPE).std() / 0.02 - 1) < 5 / math.sqrt(2 * COUNT)


@pytest.mark.parametrize("kind", ["uniform", "normal"])
@pytest.mark.parametrize("shape", [(4, 9), (9, 4), (6, 2, 3)])
def test_orthogonal(kind: str, shape: tuple[int, ...]) -> None:
    flat = init.Orthogonal(scale=2.0, rand_type=kind).sample("weight", shape).reshape(shape[0], -1)
    product = flat @ flat.T if flat.shape[0] <= flat.shape[1] else flat.T @ flat
    np.testing.assert_allclose(product, 4 * np.eye(len(product)), atol=1e-5)


def test_bilinear_interpolates() -> None:
    kernel = init.Bilinear().sample("weight", (2, 1, 4, 4))
    line = np.array([0.25, 0.75, 0.75, 0.25])
    np.testing.assert_array_equal(kernel, np.broadcast_to(np.outer(line, line), (2, 1, 4, 4)).astype(np.float32))


def test_mixed_takes_the_first_match() -> None:
    mixed = init.Mixed(["features", ".*"], [init.One(), "zeros"])
    assert (mixed.sample("features.0.weight", (2,)) == 1).all()
    # Matched from the start of the name, as in MXNet.
    assert (mixed.sample("more.features.weight", (2,)) == 0).all()
    with pytest.raises(OptionError, match=r"no pattern matches .*'x\.weight'.*as the last pattern"):
        init.Mixed(["features"], ["ones"]).sample("x.weight", (2,))


@pytest.mark.parametrize(
    ("name", "value"),
    [("a.bias", 0), ("a.beta", 0), ("a.running_mean", 0), ("a.gamma", 1), ("a.running_var", 1), ("a.weight", 3)],
)
def test_the_suffix_says_the_kind(name: str, value: int) -> None:
    assert (init.Constant(3).sample(name, (4,)) == value).all()
    assert (init.initial_value(name, (4,), own=init.Constant(5), default="xavier") == 5).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: init.Xavier().sample("a.scale", (2, 2)), "params.get"),
        (lambda: init.Xavier().sample("a.weight", (2,)), "two axes or more"),
        (lambda: init.Xavier("square"), "uniform"),
        (lambda: init.Xavier(factor_type="all"), "avg"),
        (lambda: init.Orthogonal(rand_type="x"), "normal"),
        (lambda: init.Mixed(["a"], []), "1 patterns and 0"),
        (lambda: init.create("xaver"), "xavier"),
        (lambda: init.create(None), "None"),
        (lambda: init.Constant([1, 2]).sample("weight", (3,)), "shape"),
    ],
)
def test_what_cannot_be_is_said(make: object, message: str) -> None:
    with pytest.raises(OptionError, match=message):
        make()  # type: ignore[operator]


def test_streams_depend_on_seed_name_and_drawing() -> None:
    def draw(seed: int, name: str) -> np.ndarray:
        init.set_seed(seed)
        return init.Uniform().sample(name, (5,))

    first = draw(1, "a.weight")
    np.testing.assert_array_equal(draw(1, "a.weight"), first)
    assert (draw(2, "a.weight") != first).any()
    assert (draw(1, "b.weight") != first).any()
    init.set_seed(1)
    init.Uniform().sample("b.weight", (7,))
    np.testing.assert_array_equal(init.Uniform().sample("a.weight", (5,)), first)
    # A second network of the same names starts elsewhere.
    assert (init.Uniform().sample("a.weight", (5,)) != first).any()


def test_values_of_a_seed_stay_what_they_are() -> None:
    """Published runs name their seed: a change of these numbers is a change of every one of them."""
    values = init.Uniform(1.0).sample("features.0.weight", (3,))
    np.testing.assert_array_equal(
        values, np.array([-0.3230699896812439, -0.17062786221504211, 0.3915342688560486], dtype=np.float32)
    )


def test_networks_start_from_these_values() -> None:
    glueball.seed(3)
    net = nn.HybridSequential()
    net.add(nn.Dense(4), nn.BatchNorm(), nn.Dense(2, in_units=4, weight_initializer=init.Normal(0.5)))
    net.initialize(init.Xavier())
    net(np.ones((2, 3), dtype=np.float32))
    arrays = backend.current().get_arrays(net)
    init.set_seed(3)
    np.testing.assert_array_equal(arrays["0.weight"], init.Xavier().sample("0.weight", (4, 3)))
    np.testing.assert_array_equal(arrays["2.weight"], init.Normal(0.5).sample("2.weight", (2, 4)))
    assert (arrays["1.gamma"] == 1).all()
    assert (arrays["1.running_mean"] == 0).all()
    assert (arrays["0.bias"] == 0).all()

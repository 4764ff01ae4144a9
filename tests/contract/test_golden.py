"""Small networks and losses against what both backends wrote into ``golden/``: outputs, gradients, statistics."""

from __future__ import annotations

import functools
import inspect

import golden
import numpy as np
import pytest
import tolerances

from glueball import nn, rnn
from glueball.backend import BACKENDS, dialect

UNUSED_LAYERS = {
    "Block": "a base class",
    "HybridBlock": "a base class, which several networks subclass",
    "Sequential": "no HybridBlock may hold it; test_blocks.py",
    "Concurrent": "no HybridBlock may hold it; test_blocks.py",
    "Lambda": "no HybridBlock may hold it; test_blocks.py",
    "Dropout": "random; test_random.py",
    "Parameter": "no layer; test_blocks.py",
    "Constant": "no layer; own_parameters has one",
    "ParameterDict": "no layer; test_blocks.py",
}
"""Entries of the dialect's layers that no golden network is made of, with the reason."""


@functools.cache
def recorded(name: str) -> dict[str, np.ndarray]:
    with np.load(golden.FOLDER / f"{name}.npz", allow_pickle=False) as file:
        return dict(file)


def bounds_of(key: str) -> tolerances.Tolerance:
    if "/statistics/" in key:
        return tolerances.STATISTICS
    return tolerances.BACKENDS_GRADIENT if "gradient" in key else tolerances.BACKENDS


def compare(computed: dict[str, np.ndarray], other: str, prefix: str) -> None:
    expected = {key: values for key, values in recorded(other).items() if key.startswith(prefix)}
    assert set(computed) == set(expected)
    for key, values in expected.items():
        bounds = bounds_of(key)
        np.testing.assert_allclose(
            computed[key], values, rtol=bounds.relative, atol=bounds.absolute, err_msg=f"{key} against {other}"
        )


@functools.cache
def network_results(name: str) -> dict[str, np.ndarray]:
    return golden.compute_network(name)


@functools.cache
def loss_results(name: str) -> dict[str, np.ndarray]:
    return golden.compute_loss(name)


@pytest.mark.parametrize("other", BACKENDS)
@pytest.mark.parametrize("name", golden.NETWORKS)
def test_network(name: str, other: str) -> None:
    compare(network_results(name), other, f"network/{name}/")


@pytest.mark.parametrize("other", BACKENDS)
@pytest.mark.parametrize("name", golden.LOSSES)
def test_loss(name: str, other: str) -> None:
    compare(loss_results(name), other, f"loss/{name}/")


def classes_in(block: object) -> set[str]:
    children = getattr(block, "_children", {})
    names = {base.__name__ for base in type(block).__mro__}
    return names.union(*(classes_in(child) for child in children.values()))


def test_every_layer_is_in_a_network() -> None:
    """A layer that is added to the dialect goes into a golden network or gets a reason."""
    used: set[str] = set()
    for entry in golden.NETWORKS.values():
        used |= classes_in(entry.build())
    layers = {name for name in dialect.LAYERS if inspect.isclass(getattr(nn, name))}
    layers |= {name for name in dialect.RECURRENT if inspect.isclass(getattr(rnn, name))}
    assert layers - used <= set(UNUSED_LAYERS)
    assert set(UNUSED_LAYERS) <= layers


def test_every_loss_is_computed() -> None:
    computed = {name.partition("-")[0] for name in golden.LOSSES}
    assert set(dialect.LOSSES) - computed == {"Loss"}


def test_files_hold_nothing_else() -> None:
    for name in BACKENDS:
        kinds = {(key.split("/")[0], key.split("/")[1]) for key in recorded(name)}
        assert kinds == {("network", one) for one in golden.NETWORKS} | {("loss", one) for one in golden.LOSSES}

"""Every function of the dialect against its NumPy reference: values, data types and gradients.

Forward passes run eagerly and as part of a compiled graph where the backend makes one (MXNet's symbol).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import reference
import tolerances
from reference import REFERENCES, Case

from glueball import autograd, backend, nn, ops
from glueball.backend import dialect
from glueball.errors import OptionError

CASES = [
    pytest.param(name, case, id=f"{name}-{index}")
    for name, entry in REFERENCES.items()
    for index, case in enumerate(entry.cases)
]


def find(namespace: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        namespace = getattr(namespace, part)
    return namespace


def stated_options(case: Case) -> dict[str, Any]:
    """The options without what only references read."""
    return {key: value for key, value in case.options.items() if key != "expected"}


def expected_outputs(name: str, case: Case, inputs: Any = None) -> list[np.ndarray]:
    options = dict(case.options)
    if name == "BatchNorm":
        options["training"] = case.training
    result = REFERENCES[name].function(*(case.inputs if inputs is None else inputs), **options)
    return [np.asarray(one) for one in result] if isinstance(result, list) else [np.asarray(result)]


def as_list(value: Any) -> list[Any]:
    """The arrays in a result; an MXNet graph gives a function's several outputs as a list within the list."""
    return [one for part in value for one in as_list(part)] if isinstance(value, (list, tuple)) else [value]


class Functions(nn.HybridBlock):  # type: ignore[misc, name-defined]
    """Cases as one network, so that the functions are also called with what ``F`` is in a compiled one."""

    def __init__(self, cases: list[tuple[str, Case]]) -> None:
        super().__init__()
        self._cases = cases

    def hybrid_forward(self, F: Any, *arrays: Any) -> Any:
        outputs: list[Any] = []
        position = 0
        for name, case in self._cases:
            inputs = []
            for one in case.inputs:
                if isinstance(one, np.ndarray):
                    inputs.append(arrays[position])
                    position += 1
                else:
                    inputs.append(one)
            outputs += as_list(find(F, name)(*inputs, **stated_options(case)))
        return outputs


def skip_if_asked(case: Case) -> None:
    name = backend.current().name
    if name in case.skip:
        pytest.skip(f"{name} {case.skip[name]}")


def make_parameter(values: np.ndarray) -> Any:
    """A trained array, the same way on every backend."""
    parameter = nn.Parameter("values", shape=values.shape, init="zeros")
    parameter.initialize()
    parameter.set_data(backend.current().array(values.astype(np.float32)))
    return parameter


def check(found: Any, expected: np.ndarray, bounds: tolerances.Tolerance) -> None:
    values = backend.current().numpy(found)
    assert values.shape == expected.shape
    # References count in float64 where backends use float32.
    wanted = np.dtype(np.float32) if expected.dtype == np.float64 else expected.dtype
    assert values.dtype == wanted
    np.testing.assert_allclose(values, expected, rtol=bounds.relative, atol=bounds.absolute)


def test_every_function_has_a_reference() -> None:
    """A function that is added to the dialect needs a reference or a reason."""
    assert set(dialect.OPS) - set(REFERENCES) == set(reference.EXEMPT)
    assert not set(REFERENCES) - set(dialect.OPS)


@pytest.mark.parametrize(("name", "case"), CASES)
def test_values(name: str, case: Case) -> None:
    skip_if_asked(case)
    current = backend.current()
    arrays = [current.array(one) if isinstance(one, np.ndarray) else one for one in case.inputs]
    with autograd.train_mode() if case.training else autograd.predict_mode():
        found = as_list(find(ops, name)(*arrays, **stated_options(case)))
    expected = expected_outputs(name, case)
    assert len(found) == len(expected)
    for one, wanted in zip(found, expected, strict=True):
        check(one, wanted, tolerances.of_function(name))


# PyTorch's tracer makes an instance of the autograd functions that it traces, and PyTorch warns of it.
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize(
    ("initial", "training"), sorted({(name[0], case.training) for name, case in (one.values for one in CASES)})
)
def test_values_in_a_graph(initial: str, training: bool) -> None:
    """All functions with one initial letter in one graph: compiling each case alone would take minutes."""
    current = backend.current()
    cases = [
        (name, case)
        for name, case in (one.values for one in CASES)
        if name.startswith(initial)
        and case.training is training
        # MXNet builds the backward graph along with the forward one.
        and current.name not in {**case.skip, **case.skip_gradient}
        and any(isinstance(one, np.ndarray) for one in case.inputs)
    ]
    if not cases:
        pytest.skip("no such function")
    block = Functions(cases)
    # Tracing with PyTorch's default compiler would generate code for each graph; the traced graph itself is the point.
    flags = {"backend": "eager", "fullgraph": True, "dynamic": False} if current.name == "torch" else {}
    block.hybridize(**flags)
    arrays = [current.array(one) for _, case in cases for one in case.inputs if isinstance(one, np.ndarray)]
    with autograd.train_mode() if training else autograd.predict_mode():
        found = as_list(block(*arrays))
    expected = [(name, wanted) for name, case in cases for wanted in expected_outputs(name, case)]
    assert len(found) == len(expected)
    for one, (name, wanted) in zip(found, expected, strict=True):
        check(one, wanted, tolerances.of_function(name))


def central_differences(name: str, case: Case, index: int, heads: list[np.ndarray]) -> np.ndarray:
    """The gradient of sum(head * output) with respect to one input, from the reference alone."""

    def total(values: np.ndarray) -> float:
        inputs = [values if place == index else one for place, one in enumerate(case.inputs)]
        outputs = expected_outputs(name, case, inputs)
        return float(sum((one * head).sum() for one, head in zip(outputs, heads, strict=True)))

    values, step = case.inputs[index], 1e-4
    gradient = np.zeros(values.size)
    for place in range(values.size):
        change = np.zeros(values.size)
        change[place] = step
        change = change.reshape(values.shape)
        gradient[place] = (total(values + change) - total(values - change)) / (2 * step)
    return gradient.reshape(values.shape)


@pytest.mark.parametrize(
    ("name", "case"), [one for one in CASES if one.values[1].differentiable and one.values[0] != "cast"]
)
def test_gradients(name: str, case: Case) -> None:
    skip_if_asked(case)
    if backend.current().name in case.skip_gradient:
        pytest.skip(f"{backend.current().name} {case.skip_gradient[backend.current().name]}")
    current = backend.current()
    parameters = {index: make_parameter(case.inputs[index]) for index in case.differentiable}
    arrays = []
    for index, one in enumerate(case.inputs):
        if index in parameters:
            arrays.append(parameters[index].data())
        else:
            arrays.append(current.array(one) if isinstance(one, np.ndarray) else one)
    # MXNet's max pooling remembers its winners in training mode only, and nothing but BatchNorm cares otherwise.
    training = case.training or name != "BatchNorm"
    with autograd.record(train_mode=training):
        outputs = as_list(find(ops, name)(*arrays, **stated_options(case)))
    expected = expected_outputs(name, case)
    heads = [reference.normal(*one.shape, seed=11) for one in expected]
    assert all(one.dtype == np.float64 for one in expected)
    gradients_above = [current.array(head.astype(np.float32)) for head in heads]
    autograd.backward(outputs, gradients_above, train_mode=training)
    own = REFERENCES[name].gradient
    analytic = None if own is None else own(case.inputs, case.options, heads)
    for order, (index, parameter) in enumerate(parameters.items()):
        wanted = central_differences(name, case, index, heads) if analytic is None else analytic[order]
        bounds = tolerances.GRADIENT
        np.testing.assert_allclose(
            current.numpy(parameter.grad()),
            wanted,
            rtol=bounds.relative,
            atol=bounds.absolute,
            err_msg=f"input {index}",
        )


@pytest.mark.parametrize("name", ["BlockGrad", "stop_gradient"])
def test_no_gradient_passes(name: str) -> None:
    parameter = make_parameter(np.asarray([2.0, 3.0]))
    with autograd.record():
        output = parameter.data() * find(ops, name)(parameter.data())
    autograd.backward(output)
    np.testing.assert_array_equal(backend.current().numpy(parameter.grad()), [2.0, 3.0])


TIED = [
    # Where elements are equal the gradient is a convention: MXNet's, which official training runs followed.
    pytest.param("max", ([1, 1, 0],), {}, [[1, 1, 0]], id="max-all"),
    pytest.param("min", ([1, 1, 2],), {}, [[1, 1, 0]], id="min-all"),
    pytest.param("broadcast_maximum", ([1, 1, 1], [1, 1, 2]), {}, [[1, 1, 0], [0, 0, 1]], id="maximum-left"),
    pytest.param("broadcast_minimum", ([1, 1, 1], [1, 1, 0]), {}, [[1, 1, 0], [0, 0, 1]], id="minimum-left"),
    pytest.param("relu", ([0, 1, -1],), {}, [[0, 1, 0]], id="relu-zero"),
    pytest.param("abs", ([0, 1, -1],), {}, [[0, 1, -1]], id="abs-zero"),
    pytest.param("clip", ([0, 1, 2, -1],), {"a_min": 0, "a_max": 1}, [[1, 1, 0, 0]], id="clip-ends"),
    pytest.param(
        "Pooling",
        ([[[[1, 1], [1, 1]]]],),
        {"kernel": (2, 2), "pool_type": "max"},
        [[[[[1, 0], [0, 0]]]]],
        id="max-pool-first",
    ),
    pytest.param(
        "Pooling",
        ([[[[1, 1], [1, 1]]]],),
        {"kernel": (1, 1), "pool_type": "max", "global_pool": True},
        [[[[[1, 0], [0, 0]]]]],
        id="global-max-pool-first",
    ),
]


@pytest.mark.parametrize(("name", "inputs", "options", "gradients"), TIED)
def test_gradient_where_elements_are_equal(name: str, inputs: Any, options: Any, gradients: Any) -> None:
    parameters = [make_parameter(np.asarray(one, dtype=np.float32)) for one in inputs]
    with autograd.record():
        output = find(ops, name)(*(one.data() for one in parameters), **options)
    autograd.backward(output)
    for parameter, wanted in zip(parameters, gradients, strict=True):
        np.testing.assert_array_equal(backend.current().numpy(parameter.grad()), np.asarray(wanted, dtype=np.float32))


def test_same_pooling_is_for_one_axis() -> None:
    """With two axes MXNet refuses; windows that lie in the padding alone would hold the lowest number there is."""
    array = backend.current().array(np.ones((1, 2, 7, 7), np.float32))
    for options in ({}, {"pool_type": "avg"}, {"global_pool": True}):
        with pytest.raises((OptionError, RuntimeError), match="'same'"):
            find(ops, "Pooling")(array, kernel=(3, 3), stride=(2, 2), pooling_convention="same", **options)


def test_comparisons_by_name_have_the_type_of_their_input() -> None:
    current = backend.current()
    for kind in (np.float32, np.int32, np.int64):
        left, right = current.array(np.array([1, 2, 3], kind)), current.array(np.array([2, 2, 2], kind))
        found = current.numpy(ops.broadcast_greater(left, right))
        assert found.dtype == kind
        np.testing.assert_array_equal(found, [0, 0, 1])
        # The portable way to compare with a number; the type of ``left > 2`` itself is each library's own.
        found = current.numpy(ops.cast(left > 2, dtype="float32"))
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, [0, 0, 1])
        np.testing.assert_array_equal(current.numpy(ops.where(left > 2, left, right)), [2, 2, 3])
        np.testing.assert_array_equal(current.numpy((left > 2) * left), [0, 0, 3])
    left, right = (current.array(np.array(values, np.int64)) for values in ([7, -7], [2, 2]))
    np.testing.assert_array_equal(current.numpy(ops.broadcast_div(left, right)), [3, -3])

"""Every function, layer, loss and initialiser of the dialect is on the selected backend, as the tables say it is."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from glueball import autograd, backend, init, loss, nn, ops, rnn
from glueball.backend import dialect

# Parameters that MXNet adds to every function that it generates.
GENERATED = {"out", "name", "kwargs"}
# Functions that make arrays also take MXNet's device and storage there; the dialect leaves these keywords out.
CREATION = {"arange", "full", "linspace", "ones", "random.normal", "random.uniform", "zeros"}
PLACEMENT = {"ctx", "stype", "infer_range"}
POSITIONAL = inspect.Parameter.VAR_POSITIONAL


def find(namespace: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        namespace = getattr(namespace, part)
    return namespace


def names(signature: inspect.Signature) -> list[str]:
    """Names of the parameters in order, without those that belong to the language or to MXNet's generator."""
    return [
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.name not in {*GENERATED, "self"} and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]


def takes_any_number(signature: inspect.Signature) -> bool:
    return any(parameter.kind is POSITIONAL for parameter in signature.parameters.values())


def bare(signature: inspect.Signature) -> inspect.Signature:
    """The signature without self and annotations; a default that is an object is what the tables write as ``...``."""
    parameters = []
    for parameter in signature.parameters.values():
        if parameter.name == "self":
            continue
        plain = parameter.default is inspect.Parameter.empty or isinstance(
            parameter.default, (bool, int, float, str, tuple, type(None))
        )
        parameters.append(
            parameter.replace(annotation=inspect.Parameter.empty, default=parameter.default if plain else ...)
        )
    return inspect.Signature(parameters)


@pytest.mark.parametrize(
    ("table", "space", "name"),
    [
        *(("OPS", ops, name) for name in dialect.OPS),
        *(("LAYERS", nn, name) for name in dialect.LAYERS),
        *(("RECURRENT", rnn, name) for name in dialect.RECURRENT),
        *(("LOSSES", loss, name) for name in dialect.LOSSES),
        *(("AUTOGRAD", autograd, name) for name in dialect.AUTOGRAD),
        *(("INITIALIZERS", init, name) for name in dialect.INITIALIZERS),
    ],
)
def test_defaults_and_kinds_are_those_of_the_table(table: str, space: Any, name: str) -> None:
    """Where signatures are Glueball's own they are equal to the last default; MXNet hides the defaults of its own."""
    if backend.current().name == "mxnet" and table in ("OPS", "LAYERS", "RECURRENT"):
        pytest.skip("MXNet's generated functions name no defaults, and its layers are wrapped")
    expected, found = getattr(dialect, table)[name], find(space, name)
    signature = inspect.signature(found.__init__ if inspect.isclass(found) else found)
    received = bare(signature)
    if "kwargs" not in received.parameters and list(expected.parameters) == ["kwargs"]:
        # A layer without parameters of its own inherits Gluon's two, prefix and params.
        assert set(received.parameters) == {"prefix", "params"}
        return
    assert received == expected


@pytest.mark.parametrize("name", sorted(dialect.OPS))
def test_function_has_the_signature_of_the_table(name: str) -> None:
    expected, found = dialect.OPS[name], inspect.signature(find(ops, name))
    if takes_any_number(expected) or takes_any_number(found):
        # MXNet generates (*data, **kwargs) where a function takes any number of arrays: options have no names there.
        assert takes_any_number(found)
        return
    received = names(found)
    if name in CREATION:
        received = [parameter for parameter in received if parameter not in PLACEMENT]
    assert received == names(expected)


@pytest.mark.parametrize("name", sorted(dialect.LAYERS))
def test_layer_has_the_signature_of_the_table(name: str) -> None:
    expected, found = dialect.LAYERS[name], inspect.signature(find(nn, name).__init__)
    # Whatever else Gluon gives by keyword (prefix, params) comes after the layer's own parameters.
    assert names(found)[: len(names(expected))] == names(expected)


@pytest.mark.parametrize("name", sorted(dialect.RECURRENT))
def test_recurrent_layer_has_the_signature_of_the_table(name: str) -> None:
    expected, found = dialect.RECURRENT[name], inspect.signature(find(rnn, name).__init__)
    assert names(found)[: len(names(expected))] == names(expected)


@pytest.mark.parametrize("name", sorted(dialect.LOSSES))
def test_loss_has_the_signature_of_the_table(name: str) -> None:
    expected, found = dialect.LOSSES[name], inspect.signature(find(loss, name).__init__)
    assert names(found)[: len(names(expected))] == names(expected)


@pytest.mark.parametrize("name", sorted(dialect.AUTOGRAD))
def test_scope_is_there(name: str) -> None:
    assert callable(find(autograd, name))


@pytest.mark.parametrize("name", sorted(dialect.INITIALIZERS))
def test_initializer_has_the_signature_of_the_table(name: str) -> None:
    expected, found = dialect.INITIALIZERS[name], inspect.signature(find(init, name))
    assert names(found) == names(expected)


def test_layers_are_blocks_of_the_library() -> None:
    """``hybridize`` and every tool of the library work on a model because its blocks are the library's own."""
    bases = {f"{base.__module__}.{base.__qualname__}" for base in nn.HybridBlock.__mro__}
    library = {"mxnet": "mxnet.gluon.block.HybridBlock", "torch": "torch.nn.modules.module.Module"}
    assert library[backend.current().name] in bases

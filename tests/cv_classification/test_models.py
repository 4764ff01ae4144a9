"""Every registered classification model, against the official parameters and against what it promises."""

from __future__ import annotations

import ast
import gzip
import inspect
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import glueball
from glueball import autograd, catalog, loss, nn
from glueball.backend.base import OptimizerSpec, StepOptions
from glueball.errors import OptionError, WeightsError

MODELS = glueball.list_models(plugin="cv_classification")
# The first dense layer in their files fits large pictures only, which take long.
FIXED_SIZE = ("alexnet", "vgg")


@cache
def expected() -> dict[str, dict[str, Any]]:
    path = Path(__file__).with_name("expected_parameters.json.gz")
    return json.loads(gzip.decompress(path.read_bytes()))


def representatives() -> list[str]:
    """The smallest registered model of each class."""
    smallest: dict[str, tuple[int, str]] = {}
    for name in MODELS:
        size = sum(int(np.prod(shape)) for _, shape, _, _ in expected()[name]["parameters"])
        kind = expected()[name]["class"]
        smallest[kind] = min(smallest.get(kind, (size, name)), (size, name))
    return [name for _, name in smallest.values()]


def picture(name: str, batch: int = 2) -> np.ndarray:
    """(batch, channels, height, width) of the model's test size."""
    shape = catalog.current().find("model", name).metadata["test_input_shape"]
    return np.random.default_rng(0).normal(size=(batch, *shape)).astype(np.float32)


def as_numpy(array: Any) -> np.ndarray:
    return glueball.backend.current().numpy(array)


def bare(name: str, **options: Any) -> Any:
    """The network without values."""
    return catalog.current().resolve(catalog.current().find("model", name))(**options)


def test_the_table_and_the_registry_name_the_same_models() -> None:
    assert sorted(expected()) == sorted(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_parameters_are_those_of_the_official_file(name: str) -> None:
    entry = catalog.current().find("model", name)
    table = expected()[name]
    network = bare(name)
    assert type(network).__name__ == table["class"]
    assert re.fullmatch(re.escape(table["prefix"]).replace(r"\#", r"\d+"), network.prefix)

    parameters = glueball.backend.current().parameters(network)
    found = [
        (key, parameter.name.removeprefix(network.prefix), parameter.grad_req) for key, parameter in parameters.items()
    ]
    assert found == [(key, name_, grad_req) for key, _, name_, grad_req in table["parameters"]]

    # The loader compares every shape, and fills in what is still unknown.
    shapes = {key: tuple(shape) for key, shape, _, _ in table["parameters"]}
    zero = np.zeros((), np.float32)
    glueball.weights.load_into(network, {key: np.broadcast_to(zero, shape) for key, shape in shapes.items()})
    assert {key: tuple(parameter.shape) for key, parameter in parameters.items()} == shapes

    if not name.startswith(FIXED_SIZE):
        output = network(np.zeros((1, *entry.metadata["test_input_shape"]), np.float32))
        assert tuple(output.shape) == (1, entry.metadata["classes"])


@pytest.mark.parametrize("name", representatives())
def test_a_network_from_get_model_predicts(name: str) -> None:
    network = glueball.get_model(name, classes=7)
    data = picture(name)
    before = glueball.backend.current().get_arrays(network)
    first = as_numpy(network(data))
    second = as_numpy(network(glueball.backend.current().array(data)))
    assert first.shape == (2, 7)
    assert np.isfinite(first).all()
    # In inference mode nothing is dropped and no running statistic moves.
    np.testing.assert_array_equal(first, second)
    after = glueball.backend.current().get_arrays(network)
    assert all(np.array_equal(before[key], after[key]) for key in before if "running" in key)


@pytest.mark.parametrize("name", representatives())
def test_gradients_reach_every_parameter(name: str) -> None:
    backend = glueball.backend.current()
    network = glueball.get_model(name, classes=3)
    data, label = backend.array(picture(name, batch=4)), backend.array(np.array([0, 1, 2, 1], np.float32))
    with autograd.record():
        losses = loss.SoftmaxCrossEntropyLoss()(network(data), label)
    autograd.backward(losses)
    assert np.isfinite(as_numpy(losses)).all()
    for key, parameter in backend.parameters(network).items():
        if parameter.grad_req == "write":
            gradient = as_numpy(parameter.grad())
            assert np.isfinite(gradient).all(), key
            assert gradient.shape == tuple(parameter.shape), key
    head = as_numpy(list(backend.parameters(network).values())[-1].grad())
    assert np.abs(head).max() > 0


def with_random_statistics(name: str) -> Any:
    """The network as training would leave it: no scale is 1, no shift 0."""
    network = glueball.get_model(name, classes=5)
    network(picture(name))
    backend, random = glueball.backend.current(), np.random.default_rng(1)
    drawn = {
        key: random.uniform(0.5, 1.5, values.shape).astype(np.float32) * (-1 if key.endswith("mean") else 1)
        for key, values in backend.get_arrays(network).items()
        if key.endswith(("gamma", "beta", "running_mean", "running_var"))
    }
    backend.set_arrays(network, drawn)
    return network


def skip_where_missing(precision: str) -> None:
    if reason := glueball.backend.current().supports_precision(precision, "cpu"):
        pytest.skip(reason)


@pytest.mark.parametrize("name", representatives())
def test_the_predictor_gives_what_the_network_gives(name: str) -> None:
    """A predictor fuses and folds; where it cannot, it warns, which fails here."""
    backend, network, data = glueball.backend.current(), with_random_statistics(name), picture(name)
    expected = as_numpy(network(data))
    received = as_numpy(backend.predictor(network, device="cpu")(data))
    np.testing.assert_allclose(received, expected, rtol=0, atol=1e-3 * np.abs(expected).max())


@pytest.mark.parametrize("name", representatives())
def test_the_predictor_in_bfloat16_is_close(name: str) -> None:
    skip_where_missing("bfloat16")
    backend, network, data = glueball.backend.current(), with_random_statistics(name), picture(name)
    expected = as_numpy(network(data))
    received = as_numpy(backend.predictor(network, device="cpu", precision="bfloat16")(data))
    assert received.dtype == np.float32
    assert not np.array_equal(received, expected)
    np.testing.assert_allclose(received, expected, rtol=0, atol=0.1 * np.abs(expected).max())


@pytest.mark.parametrize("compile", [True, False])
@pytest.mark.parametrize("name", representatives())
def test_a_training_step_in_bfloat16(name: str, compile: bool) -> None:
    skip_where_missing("bfloat16")
    backend = glueball.backend.current()
    losses, changes = {}, {}
    for precision in ("float32", "bfloat16"):
        glueball.seed(0)
        network = glueball.get_model(name, classes=3)
        data, label = picture(name, batch=4), np.array([0, 1, 2, 1], np.float32)
        network(data)
        before = backend.get_arrays(network)

        class Graph(nn.HybridBlock):
            def __init__(self, network: Any) -> None:
                super().__init__()
                self.network = network
                self.loss = loss.SoftmaxCrossEntropyLoss()

            def hybrid_forward(self, F: Any, data: Any, label: Any) -> Any:
                return self.loss(self.network(data), label)

        options = StepOptions(optimizer=OptimizerSpec(name="sgd"), precision=precision, compile=compile)
        step = backend.training_step(network, Graph(network), options, "cpu")
        losses[precision] = as_numpy(step((data, label), 0.1).loss).item()
        after = backend.get_arrays(network)
        changes[precision] = {key: after[key] - before[key] for key in after if "running" not in key}
        assert all(np.isfinite(values).all() for values in after.values())
        assert all(values.dtype == np.float32 for values in after.values())
    # Statistics of a few small pictures magnify every rounding.
    assert losses["bfloat16"] == pytest.approx(losses["float32"], rel=0.5)
    # Rounded otherwise, so that it was bfloat16 indeed.
    assert any(not np.array_equal(changes["bfloat16"][key], values) for key, values in changes["float32"].items())


@pytest.mark.parametrize("suffix", [".params", ".safetensors"])
@pytest.mark.parametrize("name", ["cifar_resnet20_v2", "mobilenetv2_0.25", "squeezenet1.1"])
def test_save_and_load(name: str, suffix: str, tmp_path: Path) -> None:
    path = str(tmp_path / f"network{suffix}")
    first, second = glueball.get_model(name, classes=5), glueball.get_model(name, classes=5)
    data = picture(name)
    # What is still unknown before the first picture is saved afterwards.
    output = as_numpy(first(data))
    assert not np.array_equal(output, as_numpy(second(data)))
    first.save_parameters(path)
    second.load_parameters(path)
    np.testing.assert_array_equal(output, as_numpy(second(data)))


def test_a_file_of_another_architecture_is_refused(tmp_path: Path) -> None:
    network = glueball.get_model("cifar_resnet20_v1")
    network(picture("cifar_resnet20_v1"))
    network.save_parameters(str(tmp_path / "v1.params"))
    with pytest.raises(WeightsError, match="features"):
        glueball.get_model("cifar_resnet20_v2").load_parameters(str(tmp_path / "v1.params"))


@pytest.mark.parametrize("name", representatives())
def test_what_makes_no_sense_is_an_option_error(name: str) -> None:
    with pytest.raises(OptionError, match="no_such_option"):
        glueball.get_model(name, no_such_option=1)


@pytest.mark.parametrize("backend", ["mxnet", "torch"])
def test_every_model_is_in_the_recorded_sweep_against_gluoncv(backend: str) -> None:
    results = Path(__file__).parents[2] / "benchmarks" / "results" / f"oracle_classification_{backend}.json"
    recorded = json.loads(results.read_text(encoding="utf-8"))
    assert sorted(row["model"] for row in recorded["models"]) == sorted(MODELS)
    for row in recorded["models"]:
        assert row["keys_equal"], row["model"]
        beyond = [name for name, bound in recorded["bounds"].items() if not row[name] <= bound]
        assert not beyond, row["model"]


# ----------------------------------------------------------------------------------------------------------------------
# Options
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["resnet18_v1", "resnet18_v2"])
def test_thumbnail_keeps_the_size_in_the_stem(name: str) -> None:
    backend = glueball.backend.current()
    sizes = {}
    for thumbnail in (True, False):
        network = glueball.get_model(name, thumbnail=thumbnail, classes=10)
        x = backend.array(np.zeros((1, 3, 32, 32), np.float32))
        assert tuple(network(x).shape) == (1, 10)
        for layer in network.features._children.values():
            if type(layer).__name__ == "GlobalAvgPool2D":
                sizes[thumbnail] = tuple(x.shape[2:])
                break
            x = layer(x)
    # The three strided stages remain of the five halvings.
    assert sizes == {True: (4, 4), False: (1, 1)}


@pytest.mark.parametrize("name", ["resnet18_v1b", "resnet50_v1d"])
def test_dilated_keeps_an_eighth_of_the_size(name: str) -> None:
    data = glueball.backend.current().array(np.zeros((1, 3, 64, 64), np.float32))
    shapes = {}
    for dilated in (False, True):
        network = glueball.get_model(name, dilated=dilated)
        x = network.maxpool(network.relu(network.bn1(network.conv1(data))))
        for stage in (network.layer1, network.layer2, network.layer3, network.layer4):
            x = stage(x)
        shapes[dilated] = tuple(x.shape[2:])
        assert list(glueball.backend.current().parameters(network)) == [
            key for key, _, _, _ in expected()[name]["parameters"]
        ]
    assert shapes == {False: (2, 2), True: (8, 8)}


@pytest.mark.parametrize("name", ["resnet18_v1", "resnet18_v2", "resnet18_v1b", "resnet50_v1b"])
def test_last_gamma_silences_every_residual_branch(name: str) -> None:
    silent = {}
    for last_gamma in (True, False):
        arrays = glueball.backend.current().get_arrays(glueball.get_model(name, last_gamma=last_gamma))
        silent[last_gamma] = sum(key.endswith("gamma") and not values.any() for key, values in arrays.items())
    blocks = {"18": 8, "50": 16}[re.findall(r"\d+", name)[0]]
    assert silent == {True: blocks, False: 0}


def test_another_normalisation_layer() -> None:
    network = glueball.get_model("resnet18_v1b", norm_layer=nn.GroupNorm, norm_kwargs={"num_groups": 8}, classes=4)
    assert as_numpy(network(picture("resnet18_v1b"))).shape == (2, 4)
    assert not any("running" in key for key in glueball.backend.current().parameters(network))


def test_global_statistics_stay_as_they_are_in_training() -> None:
    backend = glueball.backend.current()
    for use_global_stats in (True, False):
        network = glueball.get_model("resnet18_v1b", use_global_stats=use_global_stats, classes=4)
        data = backend.array(picture("resnet18_v1b"))
        network(data)
        before = backend.get_arrays(network)
        with autograd.record():
            output = network(data)
        autograd.backward(output)
        after = backend.get_arrays(network)
        same = all(np.array_equal(before[key], after[key]) for key in before if "running" in key)
        assert same == use_global_stats


def test_final_drop_works_in_training_only() -> None:
    backend = glueball.backend.current()
    network = glueball.get_model("resnet18_v1b", final_drop=0.5, classes=4, use_global_stats=True)
    data = backend.array(picture("resnet18_v1b"))
    plain = as_numpy(network(data))
    with autograd.train_mode():
        dropped = as_numpy(network(data))
    assert not np.array_equal(plain, dropped)
    np.testing.assert_array_equal(plain, as_numpy(network(data)))


def test_squeezenet_has_two_versions() -> None:
    from glueball_cv_classification.models.squeezenet import SqueezeNet

    with pytest.raises(OptionError, match=r"'1\.0', '1\.1'"):
        SqueezeNet("1.2")


# ----------------------------------------------------------------------------------------------------------------------
# Every network is symbols, arrays of MXNet or tensors: only what all three share may be used
# ----------------------------------------------------------------------------------------------------------------------


def _foreign_accesses(source: str) -> list[str]:
    """Attributes and indices, within hybrid_forward, of anything but ``self`` and ``F``."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef) or function.name != "hybrid_forward":
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Subscript):
                found.append(ast.unparse(node))
            if isinstance(node, ast.Attribute):
                root: ast.AST = node
                while isinstance(root, ast.Attribute):
                    root = root.value
                if not (isinstance(root, ast.Name) and root.id in ("self", "F")):
                    found.append(ast.unparse(node))
    return found


def test_the_check_of_hybrid_forward_finds_array_methods() -> None:
    source = """
class Network:
    def hybrid_forward(self, F, x):
        return self.head(F.relu(x).reshape((0, -1)) + x.mean() + x[0])
"""
    assert sorted(_foreign_accesses(source)) == ["F.relu(x).reshape", "x.mean", "x[0]"]


def test_models_use_no_array_methods() -> None:
    entries = [catalog.current().find("model", name) for name in MODELS]
    files = {Path(inspect.getfile(catalog.current().resolve(entry))) for entry in entries}
    assert len(files) >= 8
    found = {file.name: _foreign_accesses(file.read_text("utf-8")) for file in files}
    assert {name: accesses for name, accesses in found.items() if accesses} == {}

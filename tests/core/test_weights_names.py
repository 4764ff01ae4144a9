"""Key dialects and names of torch checkpoints; names only, no backend."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from glueball.weights.convert import from_torch
from glueball.weights.names import assign, renumber

# A network made third in its program: structural name -> global name.
PARAMETERS = {
    "features.0.weight": "net2_conv0_weight",
    "features.1.gamma": "net2_batchnorm0_gamma",
    "features.1.running_mean": "net2_batchnorm0_running_mean",
    "output.weight": "net2_dense0_weight",
    "output.bias": "net2_dense0_bias",
}
PREFIX = "net2_"


def flat(prefix: str, statistics: str = "running_mean") -> dict[str, str]:
    """Structural name -> what a file calls it."""
    names = {name: prefix + global_name.removeprefix(PREFIX) for name, global_name in PARAMETERS.items()}
    return {name: key.replace("running_mean", statistics) for name, key in names.items()}


@pytest.mark.parametrize(
    ("expected", "dialect"),
    [
        ({name: name for name in PARAMETERS}, "structural"),
        (dict(PARAMETERS), "flat"),
        (flat("net0_"), "flat"),
        (flat("net_"), "flat"),
        (flat("another_net17_"), "flat"),
        (flat(""), "flat"),
        (flat("net0_", "moving_mean"), "flat"),
        ({name: f"module.{name}" for name in PARAMETERS}, "structural"),
        ({name: f"_orig_mod.{name}" for name in PARAMETERS}, "structural"),
        (
            {
                name: ("aux:" if "running" in name else "arg:") + key
                for name, key in flat("net5_", "moving_mean").items()
            },
            "exported",
        ),
        ({name: ("aux:" if "running" in name else "arg:") + name for name in PARAMETERS}, "exported"),
    ],
)
def test_every_dialect_is_read(expected: dict[str, str], dialect: str) -> None:
    received = assign(reversed(expected.values()), PARAMETERS, PREFIX)
    assert received.found == expected
    assert received.unexpected == ()
    assert received.dialect == dialect


def test_missing_and_unexpected_names_keep_their_spelling() -> None:
    keys = [*flat("net0_").values(), "net0_extra0_weight"]
    keys.remove("net0_dense0_bias")
    received = assign(keys, PARAMETERS, PREFIX)
    assert sorted(PARAMETERS.keys() - received.found) == ["output.bias"]
    assert received.unexpected == ("net0_extra0_weight",)


def test_a_single_layer_is_structural_without_any_dot() -> None:
    received = assign(["weight", "bias"], {"weight": "dense0_weight", "bias": "dense0_bias"}, "dense0_")
    assert received.dialect == "structural"
    assert received.found == {"weight": "weight", "bias": "bias"}


def test_layers_numbered_through_the_program_are_matched_by_their_order() -> None:
    parameters = {f"{index}.{leaf}": f"dense{index + 9}_{leaf}" for index in range(3) for leaf in ("weight", "bias")}
    keys = [f"dense{number}_{leaf}" for number in (4, 10, 12) for leaf in ("bias", "weight")]
    received = assign(keys, parameters, "")
    assert received.found == {
        f"{index}.{leaf}": f"dense{number}_{leaf}"
        for index, number in enumerate((4, 10, 12))
        for leaf in ("weight", "bias")
    }


def test_renumber_keeps_what_is_no_counter() -> None:
    assert renumber(["res3a_conv7_weight", "res3a_conv9_weight", "stage10_conv1x1b_bias"]) == {
        "res3a_conv7_weight": "res3a_conv0_weight",
        "res3a_conv9_weight": "res3a_conv1_weight",
        "stage10_conv1x1b_bias": "stage0_conv1x1b_bias",
    }


def test_one_parameter_under_two_names() -> None:
    parameters = {"body.weight": "net0_conv0_weight", "alias.weight": "net0_conv0_weight"}
    received = assign(["net0_conv0_weight"], parameters, "net0_")
    assert received.found == dict.fromkeys(parameters, "net0_conv0_weight")


def test_nothing_fits() -> None:
    received = assign(["foo", "bar"], PARAMETERS, PREFIX)
    assert received.found == {}
    assert received.unexpected == ("foo", "bar")


# Checkpoints of torchvision: (its key, our name), from the papers' layer lists


def _norm(theirs: str, ours: str) -> Iterator[tuple[str, str]]:
    yield f"{theirs}.weight", f"{ours}.gamma"
    yield f"{theirs}.bias", f"{ours}.beta"
    for leaf in ("running_mean", "running_var"):
        yield f"{theirs}.{leaf}", f"{ours}.{leaf}"


def _layer(theirs: str, ours: str, bias: bool = True) -> Iterator[tuple[str, str]]:
    yield f"{theirs}.weight", f"{ours}.weight"
    if bias:
        yield f"{theirs}.bias", f"{ours}.bias"


def _resnet18() -> Iterator[tuple[str, str]]:
    yield from _layer("conv1", "conv1", bias=False)
    yield from _norm("bn1", "bn1")
    for stage in range(1, 5):
        for block in range(2):
            path = f"layer{stage}.{block}"
            for index in (1, 2):
                yield from _layer(f"{path}.conv{index}", f"{path}.conv{index}", bias=False)
                yield from _norm(f"{path}.bn{index}", f"{path}.bn{index}")
            if stage > 1 and block == 0:
                yield from _layer(f"{path}.downsample.0", f"{path}.downsample.0", bias=False)
                yield from _norm(f"{path}.downsample.1", f"{path}.downsample.1")
    yield from _layer("fc", "fc")


def _vgg(plan: tuple[int, ...], norm: bool) -> Iterator[tuple[str, str]]:
    index = 0
    for convolutions in plan:
        for _ in range(convolutions):
            yield from _layer(f"features.{index}", f"features.{index}")
            if norm:
                yield from _norm(f"features.{index + 1}", f"features.{index + 1}")
            index += 3 if norm else 2
        index += 1
    yield from _layer("classifier.0", f"features.{index}")
    yield from _layer("classifier.3", f"features.{index + 2}")
    yield from _layer("classifier.6", "output")


def _alexnet() -> Iterator[tuple[str, str]]:
    for theirs, ours in zip((0, 3, 6, 8, 10), (0, 2, 4, 5, 6), strict=True):
        yield from _layer(f"features.{theirs}", f"features.{ours}")
    yield from _layer("classifier.1", "features.9")
    yield from _layer("classifier.4", "features.11")
    yield from _layer("classifier.6", "output")


def _squeezenet(fires: tuple[int, ...]) -> Iterator[tuple[str, str]]:
    yield from _layer("features.0", "features.0")
    for index in fires:
        for theirs, ours in (("squeeze", "0.0"), ("expand1x1", "1.0.0"), ("expand3x3", "1.1.0")):
            yield from _layer(f"features.{index}.{theirs}", f"features.{index}.{ours}")
    yield from _layer("classifier.1", "output.0")


def _densenet121(dot: str = "") -> Iterator[tuple[str, str]]:
    yield from _layer("features.conv0", "features.0", bias=False)
    yield from _norm("features.norm0", "features.1")
    for block, layers in enumerate((6, 12, 24, 16), start=1):
        for layer in range(layers):
            theirs = f"features.denseblock{block}.denselayer{layer + 1}"
            ours = f"features.{2 * block + 2}.{layer}.1"
            yield from _norm(f"{theirs}.norm{dot}1", f"{ours}.0")
            yield from _layer(f"{theirs}.conv{dot}1", f"{ours}.2", bias=False)
            yield from _norm(f"{theirs}.norm{dot}2", f"{ours}.3")
            yield from _layer(f"{theirs}.conv{dot}2", f"{ours}.5", bias=False)
        if block < 4:
            yield from _norm(f"features.transition{block}.norm", f"features.{2 * block + 3}.0")
            yield from _layer(f"features.transition{block}.conv", f"features.{2 * block + 3}.2", bias=False)
    yield from _norm("features.norm5", "features.11")
    yield from _layer("classifier", "output")


TORCHVISION = {
    "resnet18_v1b": dict(_resnet18()),
    "vgg11": dict(_vgg((1, 1, 2, 2, 2), norm=False)),
    "vgg13_bn": dict(_vgg((2, 2, 2, 2, 2), norm=True)),
    "vgg16": dict(_vgg((2, 2, 3, 3, 3), norm=False)),
    "vgg16_bn": dict(_vgg((2, 2, 3, 3, 3), norm=True)),
    "vgg19": dict(_vgg((2, 2, 4, 4, 4), norm=False)),
    "vgg19_bn": dict(_vgg((2, 2, 4, 4, 4), norm=True)),
    "alexnet": dict(_alexnet()),
    "squeezenet1.0": dict(_squeezenet((3, 4, 5, 7, 8, 9, 10, 12))),
    "squeezenet1.1": dict(_squeezenet((3, 4, 6, 7, 9, 10, 11, 12))),
    "densenet121": dict(_densenet121()),
}


@pytest.mark.parametrize("model", TORCHVISION)
@pytest.mark.parametrize("wrapper", ["", "module."])
def test_torchvision_names_are_read(model: str, wrapper: str) -> None:
    names = TORCHVISION[model]
    counters = [name.replace("running_var", "num_batches_tracked") for name in names if name.endswith("running_var")]
    received = from_torch([wrapper + name for name in [*names, *counters]], dict.fromkeys(names.values()))
    assert received.found == {ours: wrapper + theirs for theirs, ours in names.items()}
    assert received.unexpected == ()


def test_older_densenet_files_are_read() -> None:
    names = dict(_densenet121(dot="."))
    received = from_torch(names, dict.fromkeys(TORCHVISION["densenet121"].values()))
    assert received.found == {ours: theirs for theirs, ours in names.items()}


def test_mobilenet_is_read_up_to_its_classifier() -> None:
    names = dict(_layer("features.0.0", "features.0", bias=False)) | dict(_norm("features.0.1", "features.1"))
    names |= dict(_layer("features.1.conv.0.0", "features.3.out.0", bias=False))
    names |= dict(_norm("features.1.conv.0.1", "features.3.out.1"))
    names |= dict(_layer("features.1.conv.1", "features.3.out.3", bias=False))
    names |= dict(_norm("features.1.conv.2", "features.3.out.4"))
    for block in range(2, 18):
        theirs, ours = f"features.{block}.conv", f"features.{block + 2}.out"
        for index, (convolution, norm) in enumerate((("0.0", "0.1"), ("1.0", "1.1"), ("2", "3"))):
            names |= dict(_layer(f"{theirs}.{convolution}", f"{ours}.{3 * index}", bias=False))
            names |= dict(_norm(f"{theirs}.{norm}", f"{ours}.{3 * index + 1}"))
    names |= dict(_layer("features.18.0", "features.20", bias=False)) | dict(_norm("features.18.1", "features.21"))
    parameters = dict.fromkeys([*names.values(), "output.0.weight"])
    received = from_torch([*names, "classifier.1.weight", "classifier.1.bias"], parameters)
    assert received.found == {ours: theirs for theirs, ours in names.items()}
    assert received.unexpected == ("classifier.1.weight", "classifier.1.bias")

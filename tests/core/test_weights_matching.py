"""Weights into networks of the selected backend: dialects, misfits, deferred shapes, new heads."""

from __future__ import annotations

import itertools
import logging
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glueball import backend, weights
from glueball.errors import OptionError, WeightsError
from glueball.plugin import Weights
from glueball.weights.hashing import file_hash
from glueball.weights.listing import compressed
from glueball.weights.matching import MisfitError, ShapeMisfit


def build(classes: int = 10, *, deferred: bool = False, prefix: str | None = None) -> Any:
    """A small classifier; with ``deferred`` its shapes are not known before the first input."""
    nn = backend.current().nn
    network = nn.HybridSequential(prefix=prefix)
    known: Callable[[int], int] = (lambda channels: 0) if deferred else (lambda channels: channels)
    with network.name_scope():
        network.add(
            nn.Conv2D(4, kernel_size=3, in_channels=known(3)),
            nn.BatchNorm(in_channels=known(4)),
            nn.Flatten(),
            nn.Dense(classes, in_units=known(4 * 6 * 6)),
        )
    network.initialize()
    return network


def arrays_of(network: Any) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in backend.current().get_arrays(network).items()}


def new_arrays(classes: int = 10) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(classes)
    return {
        name: generator.uniform(0.1, 1.0, array.shape).astype(np.float32)
        for name, array in arrays_of(build(classes)).items()
    }


def global_names(network: Any) -> dict[str, str]:
    return {name: parameter.name for name, parameter in backend.current().parameters(network).items()}


def assert_holds(network: Any, expected: dict[str, np.ndarray]) -> None:
    received = arrays_of(network)
    assert sorted(received) == sorted(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(received[name], array, err_msg=name)


def spelled(style: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if style == "structural":
        return arrays
    network = build(prefix="small7_")
    names = global_names(network)
    if style == "flat":
        return {names[name]: array for name, array in arrays.items()}
    if style == "relative":
        return {names[name].removeprefix("small7_"): array for name, array in arrays.items()}
    if style == "exported":
        return {
            ("aux:" if "running" in name else "arg:") + names[name].replace("running_", "moving_"): array
            for name, array in arrays.items()
        }
    torch_names = {"gamma": "weight", "beta": "bias"}
    return {
        ".".join(torch_names.get(part, part) for part in name.split(".")): array for name, array in arrays.items()
    } | {"1.num_batches_tracked": np.array(3)}


@pytest.mark.parametrize("style", ["structural", "flat", "relative", "exported", "torch"])
@pytest.mark.parametrize("suffix", [".params", ".safetensors"])
@pytest.mark.parametrize("deferred", [False, True])
def test_every_spelling_loads(style: str, suffix: str, deferred: bool, tmp_path: Path) -> None:
    expected = new_arrays()
    written = spelled(style, expected)
    if suffix == ".params":
        written.pop("1.num_batches_tracked", None)
    weights.save(tmp_path / f"w{suffix}", written)
    network = build(deferred=deferred)
    found = weights.load_into(network, tmp_path / f"w{suffix}")
    assert found.dialect == {"relative": "flat"}.get(style, style)
    assert_holds(network, expected)


def test_the_network_computes_with_what_was_loaded() -> None:
    current = backend.current()
    first, second = build(), build(deferred=True)
    weights.load_into(first, new_arrays())
    weights.load_into(second, new_arrays())
    data = current.array(np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32))
    np.testing.assert_array_equal(current.numpy(first(data)), current.numpy(second(data)))


def test_everything_that_does_not_fit_is_listed_at_once() -> None:
    network = build()
    before = arrays_of(network)
    arrays = new_arrays()
    del arrays["1.beta"]
    arrays["9.weight"] = np.zeros(1, np.float32)
    arrays["0.weight"] = np.zeros((5, 3, 3, 3), np.float32)
    arrays["3.weight"] = np.zeros((10, 7), np.float32)
    arrays["3.bias"] = arrays["3.bias"].astype(np.float64)
    with pytest.raises(WeightsError) as caught:
        weights.load_into(network, arrays, source="old.params")
    message = str(caught.value)
    for part in (
        "old.params does not fit",
        "1 missing in the file:\n    1.beta",
        "1 unexpected in the file:\n    9.weight",
        "2 of another shape",
        "0.weight: network (4, 3, 3, 3), file (5, 3, 3, 3)",
        "3.weight: network (10, 144), file (10, 7)",
        "3.bias: network float32, file float64",
        "allow_missing=True",
        "ignore_extra=True",
        "cast_dtype=True",
    ):
        assert part in message
    assert_holds(network, before)


def expanded(pattern: str) -> list[str]:
    """Every name that a pattern of an error stands for."""
    parts: list[list[str]] = []
    for text, choices in re.findall(r"([^{]*)(?:\{([^}]*)\})?", pattern):
        found: list[str] = []
        for choice in choices.split(","):
            run = re.fullmatch(r"(\d+)-(\d+)", choice)
            found += map(str, range(int(run[1]), int(run[2]) + 1)) if run else [choice]
        parts.append([text + one for one in found])
    return ["".join(chosen) for chosen in itertools.product(*parts)]


def test_long_lists_are_told_in_patterns_and_lose_nothing() -> None:
    more = [f"more.{layer}.bn{number}.{leaf}" for layer in range(12) for number in (1, 2) for leaf in ("gamma", "beta")]
    more.remove("more.7.bn1.beta")
    arrays = new_arrays() | {name: np.zeros(1, np.float32) for name in [*more, "odd", "more.007.x", "more.7.x"]}
    with pytest.raises(WeightsError) as caught:
        weights.load_into(build(), arrays)
    message = str(caught.value)
    assert "50 unexpected in the file:" in message
    assert "more.{0-6,8-11}.bn{1,2}.{gamma,beta}" in message
    lines = [line.strip() for line in message.splitlines() if line.startswith("    ")]
    assert len(lines) < 10
    named = [name for line in lines for name in expanded(line)]
    assert sorted(named) == sorted([*more, "odd", "more.007.x", "more.7.x"])
    assert caught.value.unexpected == (*more, "odd", "more.007.x", "more.7.x")  # type: ignore[attr-defined]


@given(
    st.lists(
        st.from_regex(r"[ab]\.?[0-2]{0,2}[._][0-9]{1,2}\.?(weight|bias|running_mean)?", fullmatch=True), max_size=60
    )
)
def test_patterns_stand_for_the_names_and_no_others(names: list[str]) -> None:
    named = [name for pattern in compressed(names) for name in expanded(pattern)]
    assert sorted(named) == sorted(set(names))


def test_the_error_carries_every_misfit() -> None:
    arrays = new_arrays()
    del arrays["1.beta"]
    arrays["9.weight"] = np.zeros(1, np.float32)
    arrays["3.weight"] = np.zeros((10, 7), np.float32)
    arrays["3.bias"] = arrays["3.bias"].astype(np.float64)
    with pytest.raises(MisfitError) as caught:
        weights.load_into(build(), arrays)
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert error.missing == ("1.beta",)
        assert error.unexpected == ("9.weight",)
        assert error.shapes == (ShapeMisfit(name="3.weight", expected=(10, 144), received=(10, 7)),)
        assert error.dtypes == (("3.bias", "float32", "float64"),)
        assert str(error) == str(caught.value)
    with pytest.raises(MisfitError) as caught:
        weights.load_into(build(), arrays, allow_missing=True, ignore_extra=True)
    assert (caught.value.missing, caught.value.unexpected) == ((), ())  # what is allowed is no misfit


def test_each_leniency_allows_its_own_misfit_only() -> None:
    expected = new_arrays()
    arrays = {name: array for name, array in expected.items() if name != "1.beta"}
    network = build()
    beta = arrays_of(network)["1.beta"]
    with pytest.raises(WeightsError, match="missing"):
        weights.load_into(network, arrays, ignore_extra=True, cast_dtype=True)
    found = weights.load_into(network, arrays, allow_missing=True)
    assert found.missing == ("1.beta",)
    assert_holds(network, arrays | {"1.beta": beta})

    with pytest.raises(WeightsError, match="unexpected"):
        weights.load_into(network, expected | {"x.y": np.zeros(1)}, allow_missing=True, cast_dtype=True)
    assert weights.load_into(network, expected | {"x.y": np.zeros(1)}, ignore_extra=True).unexpected == ("x.y",)

    doubled = {name: array.astype(np.float64) for name, array in expected.items()}
    with pytest.raises(WeightsError, match="of another dtype"):
        weights.load_into(network, doubled, allow_missing=True, ignore_extra=True)
    weights.load_into(network, doubled, cast_dtype=True)
    assert_holds(network, expected)


def test_another_class_count_names_the_cure() -> None:
    with pytest.raises(WeightsError, match=r"the file has 7 classes and the network 10: build it with classes=7"):
        weights.load_into(build(10), new_arrays(7))


def test_a_file_of_another_model_is_called_that() -> None:
    with pytest.raises(WeightsError, match="no name fits at all"):
        weights.load_into(build(), {"a.b": np.zeros(1, np.float32)})


def test_an_empty_file_is_all_missing(tmp_path: Path) -> None:
    weights.save(tmp_path / "w.params", {})
    with pytest.raises(WeightsError, match="8 missing in the file"):
        weights.load_into(build(), tmp_path / "w.params")


# Pretrained


@attrs.frozen
class EntryOfModel:
    name: str
    metadata: dict[str, Any]


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EntryOfModel:
    """A model whose official weights, for 7 classes, are in the store."""
    monkeypatch.setenv("GLUEBALL_HOME", str(tmp_path / "store"))
    monkeypatch.setenv("GLUEBALL_OFFLINE", "1")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("MXNET_HOME", raising=False)
    path = tmp_path / "store" / "models" / "small-00000000.params"
    path.parent.mkdir(parents=True)
    weights.save(path, new_arrays(7))
    official = Weights(file=path.name, sha1=file_hash(path, "0" * 40), classes=7)
    absent = Weights(file="absent.params", sha1="a" * 40, classes=7, url=("https://example.org/absent.params",))
    return EntryOfModel("small", {"weights": {"first": official, "second": absent}, "classes": 7})


@pytest.mark.parametrize("pretrained", [True, "first", "hash"])
def test_official_weights_by_tag(entry: EntryOfModel, pretrained: bool | str) -> None:
    network = build(7)
    chosen = entry.metadata["weights"]["first"].sha1[:8] if pretrained == "hash" else pretrained
    weights.load_pretrained(network, entry, chosen)
    assert_holds(network, new_arrays(7))


def test_official_weights_that_are_not_here(entry: EntryOfModel) -> None:
    with pytest.raises(OSError, match=r"absent\.params .*a{40}"):
        weights.load_pretrained(build(7), entry, "second")


@pytest.mark.parametrize("by_path", [False, True])
def test_the_head_is_left_fresh_where_the_classes_differ(
    entry: EntryOfModel, by_path: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    network = build(3)
    before = arrays_of(network)
    path = tmp_path / "store" / "models" / "small-00000000.params"
    with caplog.at_level(logging.INFO, logger="glueball"):
        weights.load_pretrained(network, entry, path if by_path else True, classes=3)
    expected = new_arrays(7) | {name: before[name] for name in ("3.weight", "3.bias")}
    assert_holds(network, expected)
    assert "are for 7 classes and the network has 3; newly initialised: 3.weight, 3.bias" in caplog.text


def test_other_misfits_are_no_head(entry: EntryOfModel, tmp_path: Path) -> None:
    arrays = new_arrays(7)
    arrays["0.weight"] = np.zeros((5, 3, 3, 3), np.float32)
    weights.save(tmp_path / "odd.params", arrays)
    with pytest.raises(WeightsError, match="3 of another shape"):
        weights.load_pretrained(build(3), entry, tmp_path / "odd.params", classes=3)
    with pytest.raises(WeightsError, match="2 of another shape"):
        weights.load_pretrained(build(3), entry, True)


def test_unknown_tags_and_models_without_weights(entry: EntryOfModel, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights called 'third'.*'first', 'second', or the path"):
        weights.load_pretrained(build(7), entry, "third")
    with pytest.raises(WeightsError, match="does not exist"):
        weights.load_pretrained(build(7), entry, str(tmp_path / "third.params"))
    with pytest.raises(WeightsError, match="no official weights for plain"):
        weights.load_pretrained(build(7), EntryOfModel("plain", {}), True)
    with pytest.raises(WeightsError, match="pickle"):
        weights.load_pretrained(build(7), entry, str(tmp_path / "third.pth"))


@pytest.mark.parametrize("kind", [np.float16, np.float64])
def test_pretrained_files_of_any_floating_type_fill_the_network(
    entry: EntryOfModel, kind: type, tmp_path: Path
) -> None:
    stored = {name: array.astype(kind) for name, array in new_arrays(7).items()}
    weights.save(tmp_path / "w.safetensors", stored)
    network = build(7)
    weights.load_pretrained(network, entry, tmp_path / "w.safetensors")
    assert_holds(network, {name: array.astype(np.float32) for name, array in stored.items()})
    network = build(3)
    before = arrays_of(network)
    weights.load_pretrained(network, entry, tmp_path / "w.safetensors", classes=3)
    head = {name: before[name] for name in ("3.weight", "3.bias")}
    assert_holds(network, {name: array.astype(np.float32) for name, array in stored.items()} | head)


def test_advice_on_pretrained_weights_can_be_followed(entry: EntryOfModel, tmp_path: Path) -> None:
    arrays = new_arrays(7)
    arrays["extra"] = arrays.pop("1.beta")
    arrays["0.bias"] = np.zeros(4, np.int32)
    weights.save(tmp_path / "{w}.params", arrays)
    with pytest.raises(WeightsError) as caught:
        weights.load_pretrained(build(7), entry, tmp_path / "{w}.params")
    message = str(caught.value)
    assert "0.bias: network float32, file int32" in message
    assert "cast_dtype" not in message
    for option in ("allow_missing", "ignore_extra"):
        advice = f"get_model('small').load_parameters({str(tmp_path / '{w}.params')!r}, {option}=True)"
        assert advice in message


@pytest.mark.parametrize("nothing", [None, False])
def test_no_pretrained_weights(entry: EntryOfModel, nothing: Any) -> None:
    network = build(7)
    before = arrays_of(network)
    weights.load_pretrained(network, entry, nothing)
    assert_holds(network, before)


def test_pretrained_that_names_nothing(entry: EntryOfModel) -> None:
    for value in (1, 1.5, b"first", ("first",)):
        with pytest.raises(OptionError, match=r"pretrained must be True, False, 'first', 'second', or the path"):
            weights.load_pretrained(build(7), entry, value)  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match=r"empty text.*'first', 'second', or the path.*pretrained=False"):
        weights.load_pretrained(build(7), entry, "")

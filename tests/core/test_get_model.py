"""What ``get_model`` returns: initialised once, by the registered initialiser, in inference mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import glueball
from glueball import backend, nn
from glueball.errors import OptionError, WeightsError
from glueball.plugin import Weights, hookimpl
from glueball.testing import isolated_catalog


class SmallNet(nn.HybridBlock):
    """Everything whose output depends on the mode, and a part that keeps its shape until an input shows it."""

    def __init__(self, classes: int = 4, width: int = 6, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.body = nn.HybridSequential(prefix="")
            self.body.add(nn.Dense(width, in_units=5), nn.BatchNorm(), nn.Dropout(0.5))
            self.output = nn.Dense(classes)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.body(x))


def small_net(classes: int = 4, **options: Any) -> SmallNet:
    return SmallNet(classes, **options)


def half_initialized(classes: int = 4) -> SmallNet:
    network = SmallNet(classes)
    network.body[0].initialize("ones")
    return network


class Nets:
    @hookimpl
    def register_models(self, register: Callable) -> None:
        where = f"{__name__}:"
        weights = {"seven": Weights(file="seven-00000000.params", sha1="0" * 40, classes=7)}
        register("small", f"{where}small_net", task="image_classification", classes=4, weights=weights)
        register("ones", f"{where}small_net", task="image_classification", classes=4, initializer="ones")
        register("half", f"{where}half_initialized", task="image_classification", classes=4)


@pytest.fixture(autouse=True)
def nets() -> Iterator[None]:
    with isolated_catalog({"nets": Nets()}):
        yield


def arrays(network: Any) -> dict[str, np.ndarray]:
    network(np.zeros((2, 5), np.float32))  # shows the shapes
    return backend.current().get_arrays(network)


def test_network_predicts_without_being_told() -> None:
    network = glueball.get_model("small", classes=3)
    data = np.random.default_rng(0).standard_normal((8, 5)).astype(np.float32)
    current = backend.current()
    once, again = (current.numpy(network(data)) for _ in range(2))
    assert once.shape == (8, 3)
    np.testing.assert_array_equal(once, again)  # dropout is off
    before = {name: values.copy() for name, values in arrays(network).items()}
    network(10 * data)
    for name, values in arrays(network).items():  # running statistics stay
        np.testing.assert_array_equal(values, before[name], err_msg=name)


def test_seed_decides_the_first_weights() -> None:
    def first(seed: int) -> dict[str, np.ndarray]:
        glueball.seed(seed)
        return arrays(glueball.get_model("small"))

    one, same, other = first(5), first(5), first(6)
    assert one.keys() == same.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], same[name])
    assert any((one[name] != other[name]).any() for name in one)


@pytest.mark.parametrize("value", [-1, 2**63, 1.5, "1", True, None])
def test_seed_refuses_what_is_no_seed(value: object) -> None:
    with pytest.raises(OptionError, match="integer from 0"):
        glueball.seed(value)  # type: ignore[arg-type]


def test_registered_initializer_is_used() -> None:
    found = arrays(glueball.get_model("ones"))
    assert (found["body.0.weight"] == 1).all()
    assert (found["output.weight"] == 1).all()
    assert (found["output.bias"] == 0).all()


@pytest.mark.filterwarnings("error")
def test_what_the_factory_has_initialized_stays() -> None:
    found = arrays(glueball.get_model("half"))
    assert (found["body.0.weight"] == 1).all()
    assert not (found["output.weight"] == 1).any()


def test_option_that_only_a_base_class_would_refuse_is_told_with_near_ones() -> None:
    with pytest.raises(OptionError, match=r"'small'.*has no option 'widht'. Did you mean 'width'"):
        glueball.get_model("small", widht=3)


def test_weights_from_a_path_go_into_the_network(tmp_path: Path) -> None:
    source = glueball.get_model("small")
    expected = arrays(source)
    for suffix in (".params", ".safetensors"):
        file = tmp_path / f"weights{suffix}"
        source.save_parameters(str(file))
        for path in (file, str(file)):
            found = arrays(glueball.get_model("small", pretrained=path))
            for name, values in expected.items():
                np.testing.assert_array_equal(found[name], values)


def test_other_number_of_classes_keeps_the_rest_of_the_weights(tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    source = glueball.get_model("small")
    expected = arrays(source)
    source.save_parameters(str(file))
    found = arrays(glueball.get_model("small", pretrained=file, classes=9))
    assert found["output.weight"].shape == (9, 6)
    np.testing.assert_array_equal(found["body.0.weight"], expected["body.0.weight"])


def test_unknown_weights_are_refused() -> None:
    with pytest.raises(WeightsError, match="seven"):
        glueball.get_model("small", pretrained="sevn")
    with pytest.raises(WeightsError):
        glueball.get_model("ones", pretrained=True)


def test_none_stands_for_no_weights_and_other_values_are_refused() -> None:
    assert arrays(glueball.get_model("small", pretrained=None))["output.weight"].shape == (4, 6)
    for value in (1, 0, 1.5, b"seven", ["seven"]):
        with pytest.raises(OptionError, match="pretrained must be True, False, the tag"):
            glueball.get_model("small", pretrained=value)  # type: ignore[arg-type]


def test_classes_may_come_from_numpy() -> None:
    assert arrays(glueball.get_model("small", classes=np.int64(3)))["output.weight"].shape == (3, 6)
    for value in (0, -1, 2.0, True, np.True_, "3", np.int64(0)):
        with pytest.raises(OptionError, match="classes must be a positive integer"):
            glueball.get_model("small", classes=value)


def test_half_precision_files_go_into_the_network(tmp_path: Path) -> None:
    from glueball import weights

    stored = {name: values.astype(np.float16) for name, values in arrays(glueball.get_model("small")).items()}
    weights.save(tmp_path / "half.safetensors", stored)
    for name, values in arrays(glueball.get_model("small", pretrained=tmp_path / "half.safetensors")).items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, stored[name])


def test_network_has_the_classes_of_its_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    from glueball import weights

    loaded = []
    monkeypatch.setattr(
        weights,
        "load_pretrained",
        lambda network, entry, pretrained, classes: loaded.append((entry.name, pretrained, classes)),
    )
    for pretrained, classes, width in ((True, None, 7), ("seven", None, 7), (True, 3, 3), (False, None, 4)):
        found = arrays(glueball.get_model("small", pretrained=pretrained, classes=classes))
        assert found["output.weight"].shape[0] == width
    assert loaded == [("small", True, None), ("small", "seven", None), ("small", True, 3)]

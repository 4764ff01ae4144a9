"""The plugin to copy, put on the path as an installer would, next to what is installed."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import glueball
from glueball import backend, catalog
from glueball.catalog import Catalog
from glueball.catalog.selection import Selection
from glueball.testing import check_plugin

TEMPLATE = Path(__file__).resolve().parents[2] / "examples" / "glueball-plugin-template"


def entry_points() -> str:
    """``entry_points.txt`` as the build backend writes it from pyproject.toml."""
    text = (TEMPLATE / "pyproject.toml").read_text(encoding="utf-8")
    table = text.partition('[project.entry-points."glueball.plugins"]\n')[2].partition("\n\n")[0]
    return "[glueball.plugins]\n" + table.replace('"', "") + "\n"


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Catalog]:
    """The template among the installed plugins."""
    site = tmp_path / "site"
    shutil.copytree(TEMPLATE / "src" / "glueball_plugin_template", site / "glueball_plugin_template")
    information = site / "glueball_plugin_template-0.1.0.dist-info"
    information.mkdir()
    requirement = (TEMPLATE / "pyproject.toml").read_text(encoding="utf-8").partition('dependencies = ["')[2]
    (information / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: glueball-plugin-template\nVersion: 0.1.0\n"
        f"Requires-Dist: {requirement.partition(chr(34))[0]}\n"
    )
    (information / "entry_points.txt").write_text(entry_points())
    monkeypatch.syspath_prepend(str(site))
    importlib.invalidate_caches()
    with catalog.replaced(Catalog(selection=Selection)) as current:
        yield current
    for name in [name for name in sys.modules if name.partition(".")[0] == "glueball_plugin_template"]:
        del sys.modules[name]


def test_template_states_which_core_it_needs(template: Catalog) -> None:
    info = template.plugin("template")
    assert (info.state, info.distribution) == ("active", "glueball-plugin-template")
    assert dict(info.counts) == {"model": 1, "dataset": 1, "transform": 1, "loss": 1, "metric": 1}


@pytest.mark.usefixtures("template")
def test_get_model_finds_the_template_next_to_ours() -> None:
    others = [name for name in glueball.list_models() if name != "shape_net"]
    network = glueball.get_model("shape_net", classes=4)
    assert tuple(network(np.zeros((2, 3, 16, 16), np.float32)).shape) == (2, 4)
    if "cv_classification" in [info.name for info in catalog.current().plugins() if info.state == "active"]:
        assert "cifar_resnet20_v1" in others
        ours = glueball.get_model("cifar_resnet20_v1")
        assert tuple(ours(np.zeros((2, 3, 16, 16), np.float32)).shape) == (2, 10)


@pytest.mark.usefixtures("template")
def test_template_keeps_its_promises() -> None:
    report = check_plugin("template", backend=backend.current().name)
    assert report.checked == 12  # state, light import, and two for each of five entries
    assert report.problems == []
    assert all("registers its task" in reason for reason in report.skipped)


@pytest.mark.usefixtures("template")
def test_check_plugin_lists_all_broken_promises(monkeypatch: pytest.MonkeyPatch) -> None:
    models = importlib.import_module("glueball_plugin_template.models")
    metrics = importlib.import_module("glueball_plugin_template.metrics")

    class Wider(models.ShapeNet):  # type: ignore[misc, name-defined]
        def __init__(self, classes: int = 3, **kwargs: object) -> None:
            super().__init__(classes=classes + 1, **kwargs)

    monkeypatch.setattr(models, "shape_net", Wider)
    monkeypatch.delattr(metrics.MeanClassAccuracy, "get")
    with pytest.raises(AssertionError) as caught:
        check_plugin("template")
    assert "breaks 2 promise(s)" in str(caught.value)
    assert "states 3 classes, and its output has the shape (2, 4)" in str(caught.value)
    assert "has no get" in str(caught.value)


@pytest.mark.usefixtures("template")
def test_template_trains_with_its_own_loss_data_and_metric() -> None:
    current = backend.current()
    glueball.seed(1)
    network = glueball.get_model("shape_net", channels=8)
    loss = glueball.get_loss("focal", gamma=1.0)
    metric = glueball.get_metric("mean_class_accuracy")
    shuffle = glueball.get_transform("channel_shuffle")
    shapes = glueball.get_dataset("shapes", length=48, size=16).transform_first(shuffle)
    pictures, labels = zip(*(shapes.fetch(index, np.random.default_rng(index)) for index in range(48)), strict=True)
    data = current.array(np.stack(pictures).transpose(0, 3, 1, 2).astype(np.float32) / 128 - 1)
    target = current.array(np.array(labels, np.float32))
    losses = []
    for _ in range(12):
        with current.autograd.record():
            value = loss(network(data), target).mean()
        value.backward()
        losses.append(current.numpy(value).item())
        arrays = {}
        for name, parameter in current.parameters(network).items():
            if parameter.grad_req != "null":
                arrays[name] = current.numpy(parameter.data()) - 0.3 * current.numpy(parameter.grad())
                if hasattr(parameter, "zero_grad"):
                    parameter.zero_grad()
        current.set_arrays(network, arrays)
    assert losses[-1] < 0.7 * losses[0]
    with current.autograd.predict_mode():
        metric.update(np.array(labels), current.numpy(network(data)))
    assert 0 <= metric.get()[1] <= 1


def test_template_is_complete_and_says_nothing_of_this_machine() -> None:
    for name in ("pyproject.toml", "README.md", "tests/test_plugin.py", "src/glueball_plugin_template/py.typed"):
        assert (TEMPLATE / name).is_file()
    for file in TEMPLATE.rglob("*.py"):
        assert os.sep + "work" + os.sep not in file.read_text(encoding="utf-8")

"""The table of official weights: complete, well-formed, light, and the same as GluonCV's own list."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from glueball_cv_classification import weights


def gluoncv_hashes() -> dict[str, str]:
    """GluonCV's list of hashes, read as text: importing GluonCV takes seconds and prepares MXNet in its own way."""
    if importlib.util.find_spec("gluoncv") is None:
        pytest.skip("gluoncv, which publishes the hashes, is not installed")
    folder = Path(importlib.metadata.distribution("gluoncv").locate_file("gluoncv/model_zoo/model_store.py"))
    return {name: sha1 for sha1, name in re.findall(r"\('([0-9a-f]{40})', '([^']+)'\)", folder.read_text("utf-8"))}


def test_hashes_are_those_of_gluoncv() -> None:
    published = gluoncv_hashes()
    assert len(weights.models()) == 53
    for model in weights.models():
        for official in weights.official(model).values():
            assert official.sha1 == published[model]


def test_files_and_addresses_follow_from_name_and_hash() -> None:
    for model in weights.models():
        for tag, official in weights.official(model).items():
            stem = f"{model}-{official.sha1[:8]}"
            assert official.file == f"{stem}.params"
            assert [url.rpartition("/")[2] for url in official.url] == [f"{stem}.zip"]
            assert all(url.startswith("https://") for url in official.url)
            assert official.classes == {"imagenet1k": 1000, "cifar10": 10}[tag]
            assert all(50 < value < 100 for value in official.metrics.values())


def test_models_without_weights_have_none() -> None:
    assert weights.official("resnet18_v1c") == {}


def test_only_the_three_unpublished_accuracies_are_missing() -> None:
    without = [model for model in weights.models() for entry in weights.official(model).values() if not entry.metrics]
    assert without == ["resnet50_v1s", "resnet101_v1s", "resnet152_v1s"]


def test_the_table_is_light() -> None:
    script = (
        "import sys; import glueball_cv_classification.weights; print('numpy' in sys.modules, 'mxnet' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]

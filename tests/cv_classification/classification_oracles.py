"""MXNet and GluonCV as second opinions, where they are installed and selected."""

from __future__ import annotations

import importlib
import os
import warnings
from pathlib import Path
from types import ModuleType

import pytest

from glueball import backend

CIFAR10_FOLDERS = (
    Path(os.environ["GLUEBALL_DATA"]) / "cifar10" if "GLUEBALL_DATA" in os.environ else None,
    Path(__file__).resolve().parents[3] / "shared" / "data" / "cifar10",
)


def mxnet() -> ModuleType:
    """MXNet, imported through Glueball, which puts back what it needs of NumPy."""
    if backend.current().name != "mxnet":
        pytest.skip("compares with MXNet, which is not the selected backend (GLUEBALL_BACKEND=mxnet)")
    return importlib.import_module("mxnet")


def gluoncv(module: str) -> ModuleType:
    """A module of GluonCV."""
    mxnet()
    if importlib.util.find_spec("gluoncv") is None:
        pytest.skip("compares with GluonCV, which is not installed")
    with warnings.catch_warnings():
        # It tells which of the two libraries it was written for are missing.
        warnings.simplefilter("ignore")
        return importlib.import_module(module)


def cifar10_folder() -> Path:
    """The real CIFAR-10, where it is at hand."""
    for folder in CIFAR10_FOLDERS:
        if folder is not None and (folder / "test.tar").is_file():
            return folder
    pytest.skip("CIFAR-10 is not in ../shared/data/cifar10 or $GLUEBALL_DATA/cifar10")

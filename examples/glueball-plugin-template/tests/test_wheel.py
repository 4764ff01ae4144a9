"""The plugin as an index would hold it: a wheel with its entry point and all of its modules."""

from __future__ import annotations

import configparser
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
PACKAGE = "glueball_plugin_template"
# What pip says where it cannot fetch the build backend, or is missing itself: nothing that this project could mend.
NO_BUILD_HERE = ("No module named pip", "Could not find a version that satisfies", "No matching distribution found")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--wheel-dir", str(folder), str(PROJECT)]
    built = subprocess.run(command, capture_output=True, text=True)
    said = built.stdout + built.stderr
    if built.returncode and any(reason in said for reason in NO_BUILD_HERE):
        pytest.skip(f"pip cannot build here: {said.strip().splitlines()[-1]}")
    assert built.returncode == 0, said
    (path,) = folder.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_wheel_has_the_entry_point_that_glueball_looks_for(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/entry_points.txt")]
    points = configparser.ConfigParser(delimiters="=")
    points.read_string(wheel.read(name).decode())
    assert dict(points["glueball.plugins"]) == {"template": f"{PACKAGE}.plugin"}


def test_wheel_states_the_core_that_it_needs(wheel: zipfile.ZipFile) -> None:
    (name,) = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
    assert "Requires-Dist: glueball-core" in wheel.read(name).decode()


def test_wheel_holds_every_module_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    sources = PROJECT / "src"
    expected = {
        path.relative_to(sources).as_posix()
        for path in (sources / PACKAGE).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == expected

"""Users install only the families they need: what a family requires, read from its own declarations."""

from __future__ import annotations

import re
from pathlib import Path

import importlib_metadata
import pytest
from packaging.requirements import Requirement

from glueball.catalog.families import FAMILIES

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    import tomli as tomllib  # type: ignore[import-not-found, no-redef]

ROOT = Path(__file__).resolve().parents[2]
PICTURES = {"pillow", "opencv-python", "opencv-python-headless", "simplejpeg", "scikit-learn", "imageio"}
TEXTS = {"sentencepiece", "sacremoses", "jieba", "nltk", "spacy", "gensim", "tokenizers", "regex"}
BACKENDS = {"mxnet", "mxnet-cu112", "torch"}
FOLDERS = sorted(path.parent for path in (ROOT / "plugins").glob("*/pyproject.toml"))


def required(folder: Path) -> set[str]:
    """Names of the distributions that a plain installation brings, without extras."""
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return {re.split(r"[\s<>=!~;\[]", line, maxsplit=1)[0].lower() for line in project["dependencies"]}


def test_both_kinds_of_families_are_seen() -> None:
    kinds = {folder.name.partition("_")[0] for folder in FOLDERS}
    assert kinds == {"cv", "nlp"}
    assert {folder.name for folder in FOLDERS} <= {family.plugin for family in FAMILIES}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_family_brings_nothing_of_the_other_kind(folder: Path) -> None:
    names = required(folder)
    assert "glueball-core" in names
    assert not names & BACKENDS, "which backend runs is the user's choice"
    assert not names & (TEXTS if folder.name.startswith("cv_") else PICTURES)
    others = {family.distribution for family in FAMILIES if family.plugin != folder.name}
    foreign = {name for name in names & others if name.startswith("glueball-cv") != folder.name.startswith("cv_")}
    assert not foreign


def test_core_brings_neither_pictures_nor_texts_nor_a_backend() -> None:
    assert not required(ROOT / "core") & (PICTURES | TEXTS | BACKENDS)


def closure(name: str) -> set[str]:
    """A distribution that is installed here and all that it requires, directly or not, without extras."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        current = waiting.pop().lower().replace("_", "-")
        if current in found:
            continue
        found.add(current)
        for line in importlib_metadata.distribution(current).requires or ():
            requirement = Requirement(line)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                waiting.append(requirement.name)
    return found


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_nothing_comes_in_by_a_detour(folder: Path) -> None:
    name = f"glueball-{folder.name.replace('_', '-')}"
    try:
        everything = closure(name)
    except importlib_metadata.PackageNotFoundError as error:
        pytest.skip(f"{error.name} is not installed here")
    assert {"glueball-core", "numpy"} <= everything
    assert not everything & BACKENDS
    assert not everything & (TEXTS if folder.name.startswith("cv_") else PICTURES)

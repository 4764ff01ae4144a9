"""A run that is resumed or measured tells its task what it had found out from its training data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import engine_toy
import pytest
from engine_toy import ToyPlugin, ToyTask

from glueball.engine.load import evaluate_run
from glueball.errors import DataError
from glueball.testing import isolated_catalog


@pytest.fixture
def adopted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What tasks are told, in order; the toy finds out what the number of points is."""
    told: list[Any] = []
    describe = ToyTask.describe
    monkeypatch.setattr(ToyTask, "describe", lambda self: {**describe(self), "found": len(self.source("train"))})
    monkeypatch.setattr(ToyTask, "adopt", lambda self, description: told.append((description["found"], self._datasets)))
    return told


def test_a_new_run_adopts_nothing(tmp_path: Path, adopted: list[Any]) -> None:
    engine_toy.run(tmp_path / "run", {"epochs": 1})
    assert adopted == []


def test_a_resumed_run_adopts_before_it_opens_data(
    tmp_path: Path, adopted: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine_toy.run(tmp_path / "run", {"epochs": 1})
    opened = []
    real = ToyTask.source

    def source(self: Any, split: str) -> Any:
        opened.append(len(adopted))
        return real(self, split)

    monkeypatch.setattr(ToyTask, "source", source)
    engine_toy.run(tmp_path / "run", {"epochs": 1}, resume=True)
    assert [found for found, _ in adopted] == [96]
    assert opened
    assert min(opened) == 1


def test_a_measured_run_adopts(tmp_path: Path, adopted: list[Any]) -> None:
    engine_toy.run(tmp_path / "run", {"epochs": 1})
    with isolated_catalog({"toy": ToyPlugin()}):
        evaluate_run(tmp_path / "run", split="validation", device="cpu")
    assert [found for found, _ in adopted] == [96]


def test_what_a_task_refuses_is_said(tmp_path: Path, adopted: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    engine_toy.run(tmp_path / "run", {"epochs": 1})

    def refuse(self: Any, description: Any) -> None:
        raise DataError("the vocabulary is another one")

    monkeypatch.setattr(ToyTask, "adopt", refuse)
    with pytest.raises(DataError, match="another one"):
        engine_toy.run(tmp_path / "run", {"epochs": 1}, resume=True)


@pytest.mark.parametrize("content", [None, "{", '{"format": 1}'])
def test_a_damaged_description_is_written_again_from_the_data(
    tmp_path: Path, adopted: list[Any], content: str | None
) -> None:
    engine_toy.run(tmp_path / "run", {"epochs": 1})
    description = tmp_path / "run" / "run.json"
    description.unlink()
    if content is not None:
        description.write_text(content)
    engine_toy.run(tmp_path / "run", {"epochs": 1}, resume=True)
    assert adopted == []
    assert json.loads(description.read_text())["found"] == 96

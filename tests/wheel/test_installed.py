"""What a user does with the built wheels, through the installed command only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def glueball(*arguments: str, cwd: Path) -> str:
    """Runs the installed command away from the sources and returns what it prints."""
    command = Path(sys.executable).with_name("glueball")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    finished = subprocess.run(
        [command, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("user")


def test_packages_come_from_wheels_not_from_the_checkout(workspace: Path) -> None:
    program = (
        "import glueball, glueball_cv_classification as p, glueball_nlp_embedding_lm as t; "
        "print(glueball.__file__, p.__file__, t.__file__)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program], cwd=workspace, capture_output=True, text=True, check=True
    )
    assert finished.stdout.count("site-packages") == 3


def test_models_are_listed(workspace: Path) -> None:
    entries = json.loads(glueball("list", "models", "resnet18*", "--json", cwd=workspace))
    assert "resnet18_v1b" in {entry["name"] for entry in entries}


def test_doctor_finds_a_working_backend(workspace: Path) -> None:
    glueball("doctor", cwd=workspace)


def test_train_evaluate_predict(workspace: Path) -> None:
    glueball("train", "digits", "--epochs", "5", "--out", "run", cwd=workspace)
    assert (workspace / "run" / "log.jsonl").stat().st_size > 0
    measured = json.loads(glueball("evaluate", "run", "--json", cwd=workspace))
    # Five epochs are far from the recipe's accuracy but far from chance too.
    assert measured["metrics"]["accuracy"] > 0.8


def test_own_texts(workspace: Path) -> None:
    lines = [f"{label}\tthe {word} number {index}" for index in range(30) for label, word in enumerate(("low", "high"))]
    (workspace / "texts.tsv").write_text("label\ttext\n" + "\n".join(lines) + "\n", encoding="utf-8")
    glueball("train", "text-classification", "--data", "texts.tsv", "--epochs", "5", "--out", "texts", cwd=workspace)
    answers = glueball("predict", "texts", "a high number", "--json", "--top", "1", cwd=workspace)
    assert json.loads(answers)["predictions"][0]["label"] == "1"

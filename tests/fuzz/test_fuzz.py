"""Damaged files of every kind: each gives a right answer or one of our errors, in time and within its memory.

10,000 inputs for each reader here; ``tox -e fuzz`` runs a million. GLUEBALL_FUZZ_INPUTS sets another number.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

from run import SEED, all_targets, build  # noqa: E402

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="blocks of inputs are forked and limited")

INPUTS = int(os.environ.get("GLUEBALL_FUZZ_INPUTS", "10000"))


@pytest.mark.parametrize("name", all_targets())
def test_reader(name: str, tmp_path: Path) -> None:
    record = tmp_path / "totals.json"
    command = [sys.executable, str(FOLDER / "run.py"), "--target", name, "--count", str(INPUTS), "--json", str(record)]
    done = subprocess.run(
        [*command, "--state", str(tmp_path / "state")], capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, f"seed {SEED}\n{done.stdout}\n{done.stderr}"
    totals = json.loads(record.read_text("utf-8"))[name]
    assert totals["inputs"] == INPUTS
    assert totals["accepted"] + totals["rejected"] == INPUTS
    # A reader that refuses everything, or takes everything, is not being tested.
    assert totals["accepted"] > INPUTS // 1000
    assert totals["rejected"] > INPUTS // 1000


def test_inputs_are_the_same_each_time() -> None:
    target = build("idx")
    assert [target.make(1, index) for index in range(50)] == [target.make(1, index) for index in range(50)]
    assert target.make(1, 0) != target.make(2, 0)

"""Damaged files of every kind: each gives a right answer or one of our errors, in time and within its memory.

So many inputs for each reader here that all take about a minute; ``tox -e fuzz`` runs a million. GLUEBALL_FUZZ_INPUTS
sets another number.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER))

from run import SEED, all_targets, build  # noqa: E402

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="blocks of inputs are forked and limited")

INPUTS = int(os.environ.get("GLUEBALL_FUZZ_INPUTS", "7000"))


@pytest.fixture(scope="module")
def totals(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of the inputs of all chosen readers, in one process that imports them once."""
    chosen = [item.callspec.params["name"] for item in request.session.items if _is_reader(item)]  # type: ignore[attr-defined]
    folder = tmp_path_factory.mktemp("fuzz")
    command = [sys.executable, str(FOLDER / "run.py"), "--count", str(INPUTS), "--json", str(folder / "totals.json")]
    command += [word for name in chosen for word in ("--target", name)]
    done = subprocess.run(
        [*command, "--state", str(folder / "state")], capture_output=True, text=True, timeout=3600, check=False
    )
    assert done.returncode in (0, 1), f"{done.stdout}\n{done.stderr}"
    return {**json.loads((folder / "totals.json").read_text("utf-8")), "output": done.stdout}


def _is_reader(item: pytest.Item) -> bool:
    return item.path == Path(__file__) and getattr(item, "originalname", "") == "test_reader"


@pytest.mark.parametrize("name", all_targets())
def test_reader(name: str, totals: dict[str, Any]) -> None:
    found = totals[name]
    assert not found["failures"], f"seed {SEED}:\n" + "\n".join(found["failures"]) + f"\n{totals['output']}"
    assert found["inputs"] == found["accepted"] + found["rejected"] == INPUTS
    # A reader that refuses everything, or takes everything, is not being tested; markers alone cannot be wrong.
    assert found["accepted"] > INPUTS // 1000
    assert found["rejected"] > INPUTS // 1000 or name == "jpeg_markers"


def test_inputs_are_the_same_each_time() -> None:
    target = build("idx")
    assert [target.make(1, index) for index in range(50)] == [target.make(1, index) for index in range(50)]
    assert target.make(1, 0) != target.make(2, 0)


def test_failures_of_every_kind_are_noticed(tmp_path: Path) -> None:
    """Another exception, a warning, a crash, a hang and memory: each is found and named, and the rest goes on."""
    import ctypes

    import harness
    import numpy as np
    from mutation import Mutation

    from glueball.errors import DataError

    def read(parts: tuple[bytes, ...], folder: Path) -> None:
        if parts == (b"corpus",):
            return
        if index := calls.pop(0):
            kinds[index]()
        raise DataError("refused")

    def crash() -> None:
        ctypes.string_at(0)

    def hang() -> None:
        while True:
            pass

    def allocate() -> None:
        np.empty(1 << 30, np.uint8)

    def fill() -> None:
        np.ones(48 << 20, np.uint8)

    kinds = {1: lambda: [][1], 2: lambda: np.float32(1e38) * np.float32(10), 3: hang, 4: allocate, 5: fill, 6: crash}
    calls = [0, 1, 2, 0, 3, 4, 5, 6]
    target = harness.Target("trial", Mutation([(b"corpus",)]), read)
    limit, harness.CPU_SECONDS = harness.CPU_SECONDS, 0.3
    try:
        found = harness.run_block(target, 7, 0, len(calls), tmp_path / "failures")
    finally:
        harness.CPU_SECONDS = limit
    assert len(found.failures) == 6
    saved = sorted(path.name for path in (tmp_path / "failures").glob("trial-7-*.txt"))
    assert saved == [f"trial-7-{index}.txt" for index in (1, 2, 4, 5, 6, 7)]
    assert "SIGSEGV" in found.failures[-1]
    messages = {index: (tmp_path / "failures" / f"trial-7-{index}.txt").read_text("utf-8") for index in (1, 2, 4, 5, 6)}
    for index, word in {
        1: "IndexError",
        2: "RuntimeWarning",
        4: "HangError",
        5: "MemoryError",
        6: "memory grew",
    }.items():
        assert word in messages[index]
    assert found.inputs == len(calls)

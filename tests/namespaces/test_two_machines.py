"""Two machines, as far as the network can tell: namespaces with addresses of their own and a cable between them.

Needs root and Linux; `tox -e processes-torch` (or `-mxnet`) runs it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import processes_jobs
import pytest
import test_processes
from test_processes import KINDS, assert_close, job

from glueball import backend

CORE = Path(test_processes.__file__).parent
ADDRESSES = ("10.213.77.1", "10.213.77.2")
PORT = 29517
EACH = 2
"""Processes on each machine."""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=30)


@pytest.fixture(scope="module")
def machines() -> Iterator[list[list[str]]]:
    """For each machine the words that run a command there."""
    if sys.platform != "linux" or os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("network namespaces need Linux, root and the command ip")
    names = [f"glueball-{os.getpid()}-{number}" for number in range(2)]
    ends = [f"gb{os.getpid() % 10**6}{letter}" for letter in "ab"]
    try:
        for name in names:
            ip("netns", "add", name)
    except (subprocess.CalledProcessError, OSError) as error:
        pytest.skip(f"this system allows no network namespaces: {getattr(error, 'stderr', error)}")
    try:
        ip("link", "add", ends[0], "type", "veth", "peer", "name", ends[1])
        for name, end, address in zip(names, ends, ADDRESSES, strict=True):
            ip("link", "set", end, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", end, "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield [["ip", "netns", "exec", name] for name in names]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=30)


def run_everywhere(
    machines: list[list[str]], folder: Path, jobs: list[dict[str, Any]]
) -> tuple[list[int], list[str], float]:
    """Exit statuses and outputs of what was started on the two machines, and how long it took."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    words = ["processes_jobs.py", str(folder / "jobs.json"), str(folder / "results")]
    base = {**os.environ, "OMP_NUM_THREADS": "1", "GLUEBALL_BACKEND": backend.current().name}
    if backend.current().name == "torch":
        # What one types on each machine.
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", str(EACH)]
        meeting = ["--master-addr", ADDRESSES[0], "--master-port", str(PORT)]
        starts = [
            ([*machine, *torchrun, "--node-rank", str(number), *meeting, *words], base)
            for number, machine in enumerate(machines)
        ]
    else:
        starts = kvstore(machines, words, base)
    begin = time.monotonic()
    processes = [
        subprocess.Popen(
            command, env=environment, cwd=CORE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for command, environment in starts
    ]
    try:
        outputs = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return [process.returncode for process in processes], outputs, time.monotonic() - begin


def kvstore(
    machines: list[list[str]], words: list[str], base: dict[str, str]
) -> list[tuple[list[str], dict[str, str]]]:
    """A worker on each machine; the scheduler and the server are on the first."""
    from glueball.backend.launching import kvstore_environments

    starts = []
    for environment in kvstore_environments(2, address=ADDRESSES[0], port=PORT, servers=1, local=False):
        place = 1 if environment.get("DMLC_WORKER_ID") == "1" else 0
        full = {**base, **environment, "DMLC_NODE_HOST": ADDRESSES[place]}
        starts.append(([*machines[place], sys.executable, *words], full))
    return starts


@pytest.mark.parametrize("kind", ["pictures", "texts"])
def test_two_machines_are_as_one_process(machines: list[list[str]], tmp_path: Path, kind: str) -> None:
    processes_jobs.run(job(tmp_path, "alone", **KINDS[kind]))
    statuses, outputs, _ = run_everywhere(machines, tmp_path, [job(tmp_path, "together", **KINDS[kind])])
    assert not any(statuses), "\n".join(outputs)
    assert_close(tmp_path / "alone", tmp_path / "together")
    start = test_processes.log_of(tmp_path / "together", "start")[0]
    assert start["processes"] == (2 * EACH if backend.current().name == "torch" else 2)


def test_an_error_on_one_machine_is_told_on_the_other(machines: list[list[str]], tmp_path: Path) -> None:
    changes = {"at": 5, "accumulate": 1}
    statuses, outputs, _ = run_everywhere(machines, tmp_path, [job(tmp_path, "run", "points", changes=changes)])
    trained = 2
    assert all(statuses[:trained]), "\n".join(outputs)
    for output in outputs[:trained]:
        assert "this point is damaged" in output, "\n".join(outputs)

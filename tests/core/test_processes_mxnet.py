"""Several processes on MXNet: the same numbers as one, by KVStore and Horovod, and an end for all when one is lost."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from glueball import backend as backends
from glueball.backend.base import Launch
from glueball.errors import BackendError, LostProcessError, OptionError, TrainingError

if backends.current().name != "mxnet":
    pytest.skip("about the MXNet backend", allow_module_level=True)

import mxnet_job

from glueball.backend.mxnet import peers as peers_module
from glueball.backend.mxnet.peers import Peers

PROGRAM = str(Path(mxnet_job.__file__))
SAME = [name for name in mxnet_job.SCENARIOS if name != "own statistics"]
TIMEOUT = 240.0
TOKEN = bytes(range(16))

CARRIERS = [
    "kvstore",
    pytest.param(
        "horovod",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("horovod") is None,
            reason="Horovod is not installed here (tox -e processes-horovod builds it)",
        ),
    ),
]


def launch(*words: str, by: str = "kvstore", workers: int = 2, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "glueball", "launch", "--by", by, "-n", str(workers), "--", "python", *words]
    return subprocess.run(
        command,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )


# ----------------------------------------------------------------------------------------------------------------------
# The same numbers
# ----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=CARRIERS)
def together(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """What two processes found, in all scenarios."""
    out = tmp_path_factory.mktemp("job") / "results.safetensors"
    process = launch(PROGRAM, str(out), "exchanges", *mxnet_job.SCENARIOS, by=request.param)
    assert process.returncode == 0, process.stdout + process.stderr
    return dict(load_file(out))


@pytest.mark.parametrize("scenario", SAME)
def test_two_processes_train_as_one_does(together: dict[str, np.ndarray], scenario: str) -> None:
    alone = mxnet_job.train(None, scenario)
    begin = f"{scenario}/"
    found = {name[len(begin) :]: array for name, array in together.items() if name.startswith(begin)}
    assert found.keys() == alone.keys()
    assert len(alone["losses"]) >= 10
    assert not np.allclose(alone["losses"][0], alone["losses"][-3], rtol=0.01), "nothing was learnt"
    for name, array in alone.items():
        scale = max(float(np.abs(array).max(initial=0)), 1e-6)
        np.testing.assert_allclose(found[name] / scale, array / scale, rtol=1e-5, atol=1e-5, err_msg=name)


def test_fifty_steps_are_compared(together: dict[str, np.ndarray]) -> None:
    for scenario in ("pictures", "normalized", "texts"):
        assert len(together[f"{scenario}/losses"]) == 50


def test_statistics_of_each_process_are_averaged(together: dict[str, np.ndarray]) -> None:
    alone = mxnet_job.train(None, "own statistics")
    mean, expected = together["own statistics/weights/1.running_mean"], alone["weights/1.running_mean"]
    # Means of equal parts are those of the whole; the weights before them have been trained a little differently.
    np.testing.assert_allclose(mean, expected, atol=0.1)
    assert not np.allclose(together["own statistics/losses"], alone["losses"], rtol=1e-5)


# ----------------------------------------------------------------------------------------------------------------------
# An end for all
# ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", CARRIERS)
@pytest.mark.parametrize("how", ["killed", "raises"])
def test_a_process_that_is_lost_ends_all(tmp_path: Path, by: str, how: str) -> None:
    begin = time.monotonic()
    process = launch(PROGRAM, str(tmp_path / "out"), how, by=by)
    said = process.stdout + process.stderr
    assert process.returncode not in (0, 3), said
    assert "was summed" not in said
    assert time.monotonic() - begin < 90, said  # of which most is the start
    if how == "raises":
        assert "RuntimeError: no more of this" in said
    if by == "kvstore":
        lost = "failed: RuntimeError: no more of this" if how == "raises" else "has ended without a word"
        assert f"Process 1 of 2 {'has ' if how == 'raises' else ''}{lost}" in said


def test_a_lost_server_ends_all(tmp_path: Path) -> None:
    """Without our launcher: each process finds out by itself."""
    from glueball.backend import launching

    environments = launching.kvstore_environments(1, address="127.0.0.1", port=launching.free_port("127.0.0.1"))
    command = [sys.executable, PROGRAM, str(tmp_path / "out"), "waits"]
    running = {
        item["DMLC_ROLE"]: subprocess.Popen(
            command,
            env={**os.environ, "PS_HEARTBEAT_TIMEOUT": "3", **item},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for item in environments
    }
    try:
        assert running["worker"].stdout is not None
        assert running["worker"].stdout.readline() == "joining\n"
        assert running["worker"].stdout.readline() == "the server may go\n"
        running["server"].kill()
        begin = time.monotonic()
        assert running["worker"].wait(60) == 3
        assert running["scheduler"].wait(60) == 1
        assert time.monotonic() - begin < 40
        assert "is gone" in running["worker"].stdout.read()
        assert running["scheduler"].stdout is not None
        assert "no sign of life" in running["scheduler"].stdout.read()
    finally:
        for process in running.values():
            process.kill()
            process.communicate()


def test_processes_that_do_not_come_are_waited_for_with_signals_answered() -> None:
    from glueball.backend import launching

    (worker, *_) = launching.kvstore_environments(2, address="127.0.0.1", port=launching.free_port("127.0.0.1"))
    command = [sys.executable, PROGRAM, "out", "pictures"]
    process = subprocess.Popen(command, env={**os.environ, **worker}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"joining\n"
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        process.send_signal(2)
        assert process.wait(30) != 0
    finally:
        process.kill()
        process.communicate()


# ----------------------------------------------------------------------------------------------------------------------
# Ways to start that do not fit
# ----------------------------------------------------------------------------------------------------------------------


def test_launchers_of_other_libraries_are_refused_with_the_cure() -> None:
    with pytest.raises(OptionError, match="glueball train RECIPE --processes N"):
        backends.current().process_group(Launch(kind="torchrun", rank=0, size=2, local_rank=0))


@pytest.mark.skipif(importlib.util.find_spec("horovod") is not None, reason="Horovod is installed")
def test_missing_horovod_is_named_with_the_cure() -> None:
    with pytest.raises(BackendError, match="HOROVOD_WITH_MXNET=1"):
        backends.current().process_group(Launch(kind="horovod", rank=0, size=2, local_rank=0))


def test_local_processes_name_their_roles() -> None:
    from glueball.engine import processes

    launches = [processes.from_environment(item) for item in backends.current().local_processes(4)]
    assert all(item is not None for item in launches)
    assert [item.rank for item in launches if item] == [0, 1, 2, 3, None, None, None]
    assert [item.role for item in launches if item] == ["worker"] * 4 + ["server"] * 2 + ["scheduler"]
    assert {item.address for item in launches if item} == {"127.0.0.1"}


# ----------------------------------------------------------------------------------------------------------------------
# The connection between processes, in threads
# ----------------------------------------------------------------------------------------------------------------------


class Ended(list[int]):
    """Takes the place of ``os._exit``."""


def connect(size: int, grace: float = 0.2, ended: Ended | None = None) -> list[Peers]:
    listener = peers_module.listen("127.0.0.1")
    address = listener.getsockname()[:2]
    found: dict[int, Peers] = {}
    note = Ended() if ended is None else ended

    def join(rank: int) -> None:
        found[rank] = Peers(
            rank, size, address, TOKEN, listener if rank == 0 else None, timeout=20, grace=grace, end=note.append
        )

    in_threads([lambda rank=rank: join(rank) for rank in range(size)])  # type: ignore[misc]
    return [found[rank] for rank in range(size)]


def in_threads(actions: list[Callable[[], Any]]) -> list[Any]:
    results: dict[int, Any] = {}

    def run(number: int, action: Callable[[], Any]) -> None:
        try:
            results[number] = action()
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=item) for item in enumerate(actions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return [results[number] for number in range(len(actions))]


def close(all_peers: list[Peers]) -> None:
    in_threads([peers.close for peers in all_peers])


def test_three_processes_exchange() -> None:
    all_peers = connect(3)
    gathered = in_threads([lambda p=p: p.gather(bytes([p.rank]) * p.rank) for p in all_peers])  # type: ignore[misc]
    assert gathered == [[b"", b"\1", b"\2\2"]] * 3
    values = [np.array([0.1, 1e10]), np.array([0.2, 1.0]), np.array([0.3, -1e10])]
    sums = in_threads([lambda p=p: p.all_reduce([values[p.rank]])[0] for p in all_peers])  # type: ignore[misc]
    assert {item.tobytes() for item in sums} == {(values[0] + values[1] + values[2]).tobytes()}
    close(all_peers)
    close(all_peers)


def telling(peers: Peers, action: Callable[[], Any]) -> Callable[[], Any]:
    """The action, whose error goes to the others, as the engine does it."""

    def run() -> Any:
        try:
            return action()
        except LostProcessError:
            raise
        except TrainingError as error:
            peers.fail(str(error))
            raise

    return run


def test_processes_that_do_different_things_are_told() -> None:
    one, two = connect(2, grace=20)
    first, second = in_threads([telling(one, one.barrier), telling(two, lambda: two.gather(b""))])
    assert "do not do the same: barrier here, gather there" in str(first)
    assert isinstance(second, LostProcessError)
    assert "Process 0 of 2 has failed: Processes 0 and 1 of 2 do not do the same" in str(second)
    close([one, two])


def test_arrays_of_another_shape_are_told() -> None:
    all_peers = connect(2, grace=20)
    first, second = in_threads(
        [telling(peers, lambda p=peers: p.all_reduce([np.zeros(p.rank + 1)])) for peers in all_peers]  # type: ignore[misc]
    )
    assert '[["<f8", [1]]] here' in str(first)
    assert isinstance(second, LostProcessError)
    close(all_peers)


def test_arrays_of_other_types_are_refused() -> None:
    (alone,) = connect(1)
    with pytest.raises(TypeError, match="float16"):
        alone.all_reduce([np.zeros(1, np.float16)])
    alone.close()


@pytest.mark.parametrize("lost", [0, 2])
def test_a_broken_connection_ends_the_others(lost: int) -> None:
    ended = Ended()
    all_peers = connect(3, ended=ended)
    others = [peers for peers in all_peers if peers.rank != lost]
    waiting = threading.Thread(
        target=lambda: in_threads([lambda p=p: p.gather(b"") for p in others])  # type: ignore[misc]
    )
    waiting.start()
    all_peers[lost]._closing = all_peers[lost]._has_failed = True  # what is killed notices nothing
    for connection in all_peers[lost]._sockets.values():
        connection.shutdown(socket.SHUT_RDWR)
    waiting.join(10)
    assert not waiting.is_alive()
    for peers in others:
        with pytest.raises(LostProcessError, match=f"Process {lost} of 3 has ended without a word"):
            peers.check()
    wait_for(lambda: len(ended) == 2)
    assert set(ended) == {peers_module.EXIT_LOST}
    close(all_peers)


def test_a_process_that_leaves_early_is_told_of() -> None:
    all_peers = connect(2, grace=20)
    leaving = threading.Thread(target=all_peers[1].close, daemon=True)
    leaving.start()
    with pytest.raises(LostProcessError, match="Process 1 of 2 has finished, while process 0 waits"):
        all_peers[0].barrier()
    all_peers[0].close()
    leaving.join(10)
    assert not leaving.is_alive()


def test_who_has_no_token_is_turned_away() -> None:
    listener = peers_module.listen("127.0.0.1")
    address = listener.getsockname()[:2]
    outcome: list[Any] = []
    first = threading.Thread(target=lambda: outcome.append(Peers(0, 2, address, TOKEN, listener, timeout=20)))
    first.start()
    for hello in (b"", b"GET / HTTP/1.1\r\n\r\n", bytes(16) + bytes([0, 0, 0, 1]), TOKEN + bytes([0, 0, 0, 9])):
        with socket.create_connection(address, 5) as stranger:
            stranger.sendall(hello)
            stranger.shutdown(socket.SHUT_WR)
            stranger.settimeout(10)
            with contextlib.suppress(ConnectionError):
                assert stranger.recv(1) == b""
    second = Peers(1, 2, address, TOKEN)
    first.join(20)
    in_threads([second.barrier, outcome[0].barrier])
    close([second, *outcome])


def test_processes_that_are_absent_are_named() -> None:
    listener = peers_module.listen("127.0.0.1")
    with pytest.raises(TrainingError, match=r"2 of 3 processes did not come to .* within 0 s: \[1, 2\]"):
        Peers(0, 3, listener.getsockname()[:2], TOKEN, listener, timeout=0.2)
    with pytest.raises(TrainingError, match="Process 1 cannot reach process 0"):
        Peers(1, 3, ("127.0.0.1", 1), TOKEN, timeout=1)


def wait_for(condition: Callable[[], Any], seconds: float = 10.0) -> None:
    begin = time.monotonic()
    while time.monotonic() - begin < seconds:
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("it did not happen")

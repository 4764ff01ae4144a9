"""Several processes that train together on MXNet: by KVStore or by Horovod.

Gradients are summed on the device, as operations of MXNet's engine: by KVStore's ``dist_sync``, whose servers only add
and pass on, or by Horovod's all-reduce. The optimisers stay where they are, in every process, so that the same code
updates one process's weights and those of many. What the host exchanges goes through ``peers``, which also ends this
process when another one is lost.

A process belongs to one job from its first group to its end, because MXNet's servers serve one job only: closing a
group leaves the connection to the next one of the same process.
"""

from __future__ import annotations

import atexit
import importlib
import json
import logging
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import mxnet as mx
import numpy as np
from mxnet.base import _LIB, check_call

from glueball.backend import launching
from glueball.backend.base import Launch
from glueball.backend.mxnet import peers as peers_module
from glueball.backend.mxnet import roles
from glueball.backend.mxnet.graphs import last_line
from glueball.backend.mxnet.optimizers import FlatState
from glueball.backend.mxnet.peers import Peers
from glueball.errors import BackendError, LostProcessError, OptionError, TrainingError

logger = logging.getLogger("glueball.backend")

_BUCKET_BYTES = 32 << 20
"""Gradients are reduced in arrays of about this size: a few messages, the last layers' while the first ones compute."""

_JOIN_SECONDS = 600.0
_SAY_SECONDS = 20.0
# How long the library may take to free what it holds after a failure.
_LEAVE_SECONDS = 4.0
# Where process 0 listens, as float32 numbers of one byte each: what KVStore can add.
_ADDRESS_BYTES = 512


class _Carrier(Protocol):
    """What sums arrays on the device over all processes."""

    kind: str

    def prepare(self, name: str, array: Any) -> None:
        """Agrees with the others on an array; called by all processes in the same order."""

    def sum(self, name: str, array: Any, priority: int = 0) -> None:
        """Replaces a prepared array by its sum over the processes, in the order of MXNet's engine; returns at once."""

    def leave(self) -> None:
        """Takes leave of the others, who do the same, and frees what the library holds."""

    def abandon(self) -> None:
        """Makes ``leave`` wait for nobody, as far as the library can."""


class MXNetProcessGroup:
    """See ``glueball.backend.base.ProcessGroup``."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        self._closed = False
        self.rank, self.size, self.local_rank = job.peers.rank, job.peers.size, job.local_rank
        self.kind = job.carrier.kind

    def all_reduce(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        return self._peers.all_reduce(arrays)

    def broadcast(self, data: bytes | None, root: int = 0) -> bytes:
        return self._peers.broadcast(data, root)

    def gather(self, data: bytes) -> list[bytes]:
        return self._peers.gather(data)

    def barrier(self) -> None:
        self._peers.barrier()

    def fail(self, message: str) -> None:
        self._job.fail(message)

    def close(self) -> None:
        # The job ends with the process: see the module's docstring.
        self._closed = True

    def prepare(self, name: str, array: Any) -> None:
        """Agrees with the others on an array that will be summed; called by all processes in the same order."""
        self._peers.check()
        self._job.carrier.prepare(name, array)

    def sum(self, name: str, array: Any, priority: int = 0) -> None:
        """Replaces an MXNet array by its sum over all processes; returns at once, as MXNet's operations do."""
        self._peers.check()
        self._job.carrier.sum(name, array, priority)

    def sum_inside(self, name: str, array: Any) -> None:
        """As ``sum``, for operators in Python: MXNet ends the process when one of them raises.

        When another process is lost it does nothing. No update follows then: the gradients' own ``sum`` raises before.
        """
        if self._job.peers.failure is None:
            self._job.carrier.sum(name, array)

    @property
    def _peers(self) -> Peers:
        if self._closed:
            raise TrainingError("The process group is closed. Ask the backend for another one.")
        return self._job.peers


class _Job:
    """This process's part in a job: the carrier of gradients and the connection to the others."""

    def __init__(self, carrier: _Carrier, peers: Peers, local_rank: int) -> None:
        self.carrier, self.peers, self.local_rank = carrier, peers, local_rank
        self._has_failed = False

    def fail(self, message: str) -> None:
        """Tells the others; what this process still waits for inside MXNet gets no answer, so it must end soon."""
        self._has_failed = True
        self.peers.fail(message)
        peers_module.end_soon()
        self.carrier.abandon()

    def leave(self) -> None:
        """At the end of the process."""
        error = getattr(sys, "last_value", None)  # what ended the program, if it was an exception that nobody caught
        if isinstance(error, Exception):
            self.fail(f"{type(error).__name__}: {error}")
        self.peers.close()
        if self._has_failed or self.peers.failure is not None:
            self.carrier.abandon()
            peers_module.end_soon()
        leaving = threading.Thread(target=self.carrier.leave, name="glueball-leave", daemon=True)
        leaving.start()
        leaving.join(_LEAVE_SECONDS if self._has_failed or self.peers.failure is not None else None)
        if leaving.is_alive():
            # It waits for what the others will never send, and so would the library's own clean-up.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(peers_module.EXIT_LOST if self.peers.failure is not None else 1)


_job: _Job | None = None


def process_group(launch: Launch) -> MXNetProcessGroup:
    """See ``glueball.backend.base.Backend.process_group``."""
    global _job
    if launch.role != "worker":
        roles.serve(launch.role)
    if _job is None:
        if launch.kind == "dmlc":
            _job = _join_kvstore(launch)
        elif launch.kind == "horovod":
            _job = _join_horovod(launch)
        else:
            raise OptionError(
                f"MXNet's processes cannot meet by the variables of {launch.kind}: they meet through KVStore or "
                "Horovod. Start them with glueball train RECIPE --processes N, glueball launch, horovodrun, or MXNet's "
                "tools/launch.py."
            )
        atexit.register(_job.leave)
    _job.peers.check()
    return MXNetProcessGroup(_job)


def raise_lost(error: Exception) -> None:
    """Raises LostProcessError for an error of Horovod, with what the connection to the others says of the cause."""
    begin = time.monotonic()
    while _job is not None and _job.peers.failure is None and time.monotonic() - begin < 2.0:
        time.sleep(0.05)
    known = None if _job is None else _job.peers.failure
    raise LostProcessError(known or f"Another process has ended: {last_line(error)}.") from error


def local_processes(count: int) -> list[dict[str, str]]:
    """See ``glueball.backend.base.Backend.local_processes``: workers, a server and a scheduler of KVStore."""
    return launching.kvstore_environments(count, address="127.0.0.1", port=launching.free_port("127.0.0.1"))


# ----------------------------------------------------------------------------------------------------------------------
# Gradients
# ----------------------------------------------------------------------------------------------------------------------


class GradientBuckets:
    """Copies of the gradients in a few large arrays, which are summed over the processes.

    Args:
        shapes: of the gradients, in the order of the weights.
    """

    def __init__(self, group: MXNetProcessGroup, shapes: Sequence[tuple[int, ...]], context: Any) -> None:
        self._group = group
        self._buckets: list[tuple[range, FlatState]] = []
        first, size = 0, 0
        for index, shape in enumerate(shapes):
            size += 4 * int(np.prod(shape))
            if size >= _BUCKET_BYTES or index + 1 == len(shapes):
                members = range(first, index + 1)
                flat = FlatState([shapes[member] for member in members], context)
                self._buckets.append((members, flat))
                first, size = index + 1, 0
        self.views = [view for _, flat in self._buckets for view in flat.views]
        for number, (_, flat) in enumerate(self._buckets):
            group.prepare(f"gradients {number}", flat.buffer)

    def reduce(self, gradients: Sequence[Any]) -> None:
        """Makes ``views`` the sums of ``gradients`` over the processes."""
        # The backward pass ends with the first layers: the last ones are ready, and sent, before.
        for number, (members, flat) in reversed(list(enumerate(self._buckets))):
            for member, view in zip(members, flat.views, strict=True):
                gradients[member].copyto(view)
            self._group.sum(f"gradients {number}", flat.buffer, priority=number)


# ----------------------------------------------------------------------------------------------------------------------
# KVStore
# ----------------------------------------------------------------------------------------------------------------------


class _KVStore:
    """MXNet's parameter server in the mode dist_sync, without an optimiser: it adds what the workers push."""

    kind = "kvstore"

    def __init__(self, store: Any) -> None:
        self._store: Any = store
        self._keys: dict[tuple[str, int, str], int] = {}
        # Batch normalisation sums in MXNet's threads for operators in Python, besides the one that trains.
        self._lock = threading.Lock()
        self._watch: roles.SchedulerWatch | None = None

    def watch(self, lost: Callable[[str], None]) -> None:
        self._watch = roles.SchedulerWatch(lost)

    def prepare(self, name: str, array: Any) -> None:
        # The server keeps an array for every key to the end of the job, so a name of the same size keeps its key.
        place = (name, array.size, str(np.dtype(array.dtype)))
        if place not in self._keys:
            self._keys[place] = len(self._keys)
            self._store.init(self._keys[place], mx.nd.zeros_like(array))

    def sum(self, name: str, array: Any, priority: int = 0) -> None:
        key = self._keys[name, array.size, str(np.dtype(array.dtype))]
        with self._lock:
            self._store.pushpull(key, array, out=array, priority=priority)

    def leave(self) -> None:
        self._stop_watching()
        # Waits for all workers, and ends the servers.
        self._store = None

    def abandon(self) -> None:
        self._stop_watching()
        if self._store is not None:
            check_call(_LIB.MXKVStoreSetBarrierBeforeExit(self._store.handle, 0))

    def _stop_watching(self) -> None:
        if self._watch is not None:
            self._watch.stop()


def _join_kvstore(launch: Launch) -> _Job:
    roles.prepare_environment()
    where = f"the scheduler at {launch.address}:{launch.port}"
    store = _wait_for(lambda: mx.kvstore.create("dist_sync"), where, launch.size)
    carrier = _KVStore(store)

    def total(name: str, values: np.ndarray) -> np.ndarray:
        array = mx.nd.array(values, dtype=values.dtype)
        carrier.prepare(name, array)
        carrier.sum(name, array)
        return np.asarray(array.asnumpy())

    rank = _chosen_rank(launch, int(store.rank), total)
    host = os.environ.get("DMLC_NODE_HOST") or peers_module.own_address(launch.address or "127.0.0.1")

    def share(content: bytes) -> bytes:
        values = np.zeros(_ADDRESS_BYTES, np.float32)
        values[: len(content)] = np.frombuffer(content, np.uint8)
        return total("address", values).astype(np.uint8).tobytes().rstrip(b"\0")

    job = _meet(carrier, rank, launch, host, share)
    carrier.watch(job.peers.lose)
    return job


def _chosen_rank(launch: Launch, given: int, total: Callable[[str, np.ndarray], np.ndarray]) -> int:
    """The launcher's number for this process, where all processes have one, instead of KVStore's, which changes.

    A run's files lie where process 0 is; when it is resumed, process 0 should be there again.
    """
    wanted = launch.rank
    if wanted is None and os.environ.get("DMLC_TASK_ID", "").isdecimal():  # as MXNet's tools/launch.py says it
        wanted = int(os.environ["DMLC_TASK_ID"])
    chosen = np.zeros(launch.size, np.float32)
    if wanted is not None and wanted < launch.size:
        chosen[wanted] = 1
    return wanted if wanted is not None and (total("ranks", chosen) == 1).all() else given


# ----------------------------------------------------------------------------------------------------------------------
# Horovod
# ----------------------------------------------------------------------------------------------------------------------


class _Horovod:
    """Horovod's all-reduce."""

    kind = "horovod"

    def __init__(self, library: Any) -> None:
        self._library = library

    def prepare(self, name: str, array: Any) -> None:
        pass  # Horovod finds out by the names

    def sum(self, name: str, array: Any, priority: int = 0) -> None:
        self._library.allreduce_(array, op=self._library.Sum, name=name, priority=priority)

    def leave(self) -> None:
        mx.nd.waitall()
        self._library.shutdown()

    def abandon(self) -> None:
        pass


def _join_horovod(launch: Launch) -> _Job:
    try:
        library: Any = importlib.import_module("horovod.mxnet")
    except ImportError as error:
        raise BackendError(
            "The variables HOROVOD_RANK and HOROVOD_SIZE say that Horovod started this process, but Horovod for MXNet "
            f"cannot be imported: {error}. Build it with HOROVOD_WITH_MXNET=1 pip install --no-build-isolation "
            "horovod==0.28.1, or start the processes with glueball train RECIPE --processes N, which needs none."
        ) from error
    where = f"Horovod's rendezvous at {launch.address}:{launch.port}"
    _wait_for(library.init, where, launch.size)
    carrier = _Horovod(library)
    host = peers_module.own_address(launch.address or "127.0.0.1")

    def share(content: bytes) -> bytes:
        values = np.zeros(_ADDRESS_BYTES, np.uint8)
        values[: len(content)] = np.frombuffer(content, np.uint8)
        array = library.broadcast(mx.nd.array(values, dtype=np.uint8), root_rank=0, name="address")
        return bytes(array.asnumpy().tobytes().rstrip(b"\0"))

    return _meet(carrier, int(library.rank()), launch, host, share)


# ----------------------------------------------------------------------------------------------------------------------
# Meeting
# ----------------------------------------------------------------------------------------------------------------------


def _wait_for(join: Callable[[], Any], where: str, size: int) -> Any:
    """Joins in a thread, so that signals are answered while the others are not there yet.

    Raises:
        TrainingError: they did not come, or the library could not join.
    """
    outcome: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(join())
        except BaseException as error:  # handed to the thread that waits
            errors.append(error)

    thread = threading.Thread(target=run, name="glueball-join", daemon=True)
    thread.start()
    begin, said = time.monotonic(), False
    while thread.is_alive():
        thread.join(0.1)
        waited = time.monotonic() - begin
        if waited > _SAY_SECONDS and not said:
            logger.warning("Waiting for all of %d processes to come to %s.", size, where)
            said = True
        if waited > _JOIN_SECONDS and thread.is_alive():
            peers_module.end_soon()
            raise TrainingError(
                f"Not all of {size} processes came to {where} within {_JOIN_SECONDS:.0f} s. Start as many workers as "
                "the launcher's variables say, and let their machines reach that address."
            )
    if errors:
        if isinstance(errors[0], Exception):
            raise TrainingError(f"This process cannot join the others at {where}: {last_line(errors[0])}.") from errors[
                0
            ]
        raise errors[0]
    return outcome[0]


def _meet(carrier: _Carrier, rank: int, launch: Launch, host: str, share: Callable[[bytes], bytes]) -> _Job:
    """Connects the processes; ``share`` gives what process 0 puts in to all of them."""
    listener, content = None, b""
    if rank == 0:
        listener = peers_module.listen(host)
        secret = secrets.token_hex(peers_module.TOKEN_BYTES)
        content = json.dumps({"host": host, "port": listener.getsockname()[1], "token": secret}).encode()
    meeting = json.loads(share(content))
    address = (str(meeting["host"]), int(meeting["port"]))
    peers = Peers(rank, launch.size, address, bytes.fromhex(meeting["token"]), listener)
    machines = [part.decode() for part in peers.gather(_machine().encode())]
    return _Job(carrier, peers, machines[:rank].count(machines[rank]))


def _machine() -> str:
    """What tells this machine from others, containers on one machine included."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    return f"{socket.gethostname()} {boot.read_text().strip() if boot.exists() else ''}"

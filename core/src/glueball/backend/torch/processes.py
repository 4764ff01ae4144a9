"""The processes of one run on PyTorch: torch.distributed, gloo between CPUs and NCCL between GPUs.

Two groups are made. The first carries gradients and statistics of batch normalisation. The second, always gloo, carries
what the engine says (signals, counts, states of metrics): small messages of the host, which must neither wait behind
gradients nor for the device.

A process that fails leaves a note in the store that all of them share, and each looks there twice a second. That is how
the others, on whatever machine, learn which one failed and why, and how they end even where a collective waits for
ever, as NCCL's do.
"""

from __future__ import annotations

import atexit
import contextlib
import datetime
import json
import os
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import distributed

from glueball.backend.base import Launch
from glueball.errors import LostProcessError, OptionError, TrainingError

RENDEZVOUS = datetime.timedelta(minutes=5)
"""How long a process waits for the others to come."""
PATIENCE = datetime.timedelta(minutes=30)
"""How long a process waits in one collective: rank 0 may draw predictions or write to a slow disk meanwhile."""

_POLL_SECONDS = 0.5
_GRACE_SECONDS = 10.0
"""How long a process may take to end by itself after another one has failed. Then it is ended, wherever it waits."""
_EXIT_LOST = 3
_HEARING_SECONDS = 3.0
_NOTE, _HEARD = "glueball/failed", "glueball/heard"
_LOST = re.compile(
    r"Connection (closed|reset)|Broken pipe|gloo|NCCL|Socket (Timeout|closed)|Timed out|failed to (send|recv)", re.I
)

_current: TorchProcessGroup | None = None


class TorchProcessGroup:
    """See ``glueball.backend.base.ProcessGroup``. There is one in a process; ``join`` makes it."""

    def __init__(self, launch: Launch) -> None:
        assert launch.rank is not None
        self._launch = launch
        self._owns = not distributed.is_initialized()
        self._store: Any = None
        if self._owns:
            self._initialize(launch)
        self.rank = distributed.get_rank()
        self.size = distributed.get_world_size()
        self.local_rank = launch.local_rank
        self.kind = "nccl" if "nccl" in str(distributed.get_backend()) or torch.cuda.is_available() else "gloo"
        with lost_processes():
            self._host = distributed.new_group(backend="gloo", timeout=PATIENCE)
        self._watch = _Watch(self._connect(), self.rank, self.size) if self._store is not None else None

    def _initialize(self, launch: Launch) -> None:
        _choose_interface(launch.address)
        assert launch.rank is not None
        # torchrun keeps a store of its own, which env:// knows how to find.
        url = "env://" if launch.kind == "torchrun" else f"tcp://{launch.address}:{launch.port}"
        try:
            store, rank, size = next(
                distributed.rendezvous(url, launch.rank, launch.size, timeout=RENDEZVOUS)  # type: ignore[no-untyped-call]
            )
            store.set_timeout(PATIENCE)
            # With both, tensors on the host and on the device can be reduced; NCCL starts at its first use.
            backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
            if torch.cuda.is_available() and launch.local_rank < torch.cuda.device_count():
                torch.cuda.set_device(launch.local_rank)
            distributed.init_process_group(
                backend, store=distributed.PrefixStore("glueball", store), rank=rank, world_size=size, timeout=PATIENCE
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise TrainingError(
                f"Process {launch.rank} of {launch.size} did not find the others at {launch.address}:{launch.port}: "
                f"{_first_line(error)}. All processes must be started, be able to reach that address, and find the "
                "port free on its machine. GLOO_SOCKET_IFNAME names the network interface where the wrong one is used."
            ) from error
        self._store = store

    def _connect(self) -> Any:
        """A connection to the store for the thread that watches: one that waits would block the others."""
        launch = self._launch
        return distributed.TCPStore(
            str(launch.address), int(launch.port or 0), None, False, datetime.timedelta(seconds=20), False
        )

    def all_reduce(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        with lost_processes():
            tensors = [torch.from_numpy(np.array(array, copy=True, order="C")) for array in arrays]
            for tensor in tensors:
                distributed.all_reduce(tensor, group=self._host)
            return [tensor.numpy() for tensor in tensors]

    def broadcast(self, data: bytes | None, root: int = 0) -> bytes:
        with lost_processes():
            own = _as_tensor(data or b"") if self.rank == root else torch.empty(0, dtype=torch.uint8)
            length = torch.tensor([own.numel()])
            distributed.broadcast(length, root, group=self._host)
            values = own if self.rank == root else torch.empty(int(length), dtype=torch.uint8)
            if int(length):
                distributed.broadcast(values, root, group=self._host)
            return values.numpy().tobytes()

    def gather(self, data: bytes) -> list[bytes]:
        with lost_processes():
            own = _as_tensor(data)
            lengths = [torch.empty(1, dtype=torch.int64) for _ in range(self.size)]
            distributed.all_gather(lengths, torch.tensor([own.numel()]), group=self._host)
            longest = max(int(length) for length in lengths)
            if longest == 0:
                return [b""] * self.size
            padded = torch.zeros(longest, dtype=torch.uint8)
            padded[: own.numel()] = own
            parts = [torch.empty_like(padded) for _ in range(self.size)]
            distributed.all_gather(parts, padded, group=self._host)
            return [part[: int(length)].numpy().tobytes() for part, length in zip(parts, lengths, strict=True)]

    def barrier(self) -> None:
        self.all_reduce([np.zeros(1, np.int64)])

    def fail(self, message: str) -> None:
        if self._watch is not None:
            self._watch.tell(message)

    def close(self) -> None:
        global _current
        if self._watch is not None:
            self._watch.stop()
            self._watch = None
        if _current is self:
            _current = None
            if self._owns and distributed.is_initialized():
                distributed.destroy_process_group()


def join(launch: Launch) -> TorchProcessGroup:
    """The group of this process; further calls give the same one, because a process cannot leave and come back.

    Raises:
        OptionError: the launcher is one that torch.distributed does not know.
        TrainingError: the others did not come.
    """
    global _current
    if _current is None:
        if launch.kind not in ("torchrun", "slurm") or launch.rank is None:
            raise OptionError(
                f"The processes were started by a launcher for MXNet ({launch.kind}), and PyTorch runs here. Start "
                "them with glueball train --processes, torchrun or srun, or set GLUEBALL_BACKEND=mxnet."
            )
        _current = TorchProcessGroup(launch)
        atexit.register(_leave)
    return _current


def _leave() -> None:
    if _current is None:
        return
    error = getattr(sys, "last_value", None)  # what ended the program, if nobody caught it
    if error is not None and not isinstance(error, LostProcessError):
        _current.fail(f"{type(error).__name__}: {error}")
    _current.close()


@contextlib.contextmanager
def lost_processes() -> Iterator[None]:
    """A collective that fails because another process is gone raises LostProcessError.

    Raises:
        LostProcessError: with what the other process said, if it could say anything.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, torch.cuda.OutOfMemoryError) or not _is_loss(error):
            raise
        # The note of a process that fails may come a moment after its connections break.
        watch = _current._watch if _current is not None else None
        raise LostProcessError(lost_message(None if watch is None else watch.wait_for_note(2.0))) from error


def _is_loss(error: RuntimeError) -> bool:
    return isinstance(error, distributed.DistError) or bool(_LOST.search(str(error)))


def lost_message(note: tuple[int, str] | None) -> str:
    """What a process says that ends because another one has ended."""
    if note is None:
        return "The connection to another process of the run was lost; the output of that process says why it ended."
    return f"The process of rank {note[0]} has ended with an error: {note[1]}"


class _Watch:
    """A thread that looks for the note of a process that failed."""

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self._store = store
        self._rank, self._size = rank, size
        self._lock = threading.Lock()
        self._note: tuple[int, str] | None = None
        self._is_lost = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._look, name="glueball-watch", daemon=True)
        self._thread.start()

    def tell(self, message: str) -> None:
        """Leaves a note, unless there is one: the first failure is the cause of the others."""
        with contextlib.suppress(RuntimeError):
            with self._lock:
                own = json.dumps([self._rank, message])
                is_first = self._store.compare_set(_NOTE, "", own).decode() == own
            # Launchers end all at the first failure, and with them the store that the note is in.
            end = time.monotonic() + _HEARING_SECONDS
            while is_first and time.monotonic() < end:
                with self._lock:
                    if self._store.add(_HEARD, 0) >= self._size - 1:
                        return
                time.sleep(_POLL_SECONDS / 5)

    def wait_for_note(self, seconds: float) -> tuple[int, str] | None:
        """What another process left, or None if none comes in time."""
        self._is_lost.wait(seconds)
        return self._note

    def stop(self) -> None:
        """Ends the thread; from now on the others may go."""
        self._stopping.set()
        if self._thread is not threading.current_thread():
            self._thread.join(5.0)

    def _look(self) -> None:
        while not self._stopping.wait(_POLL_SECONDS):
            try:
                with self._lock:
                    if not self._store.check([_NOTE]):
                        continue
                    rank, message = json.loads(self._store.get(_NOTE))
                    if rank != self._rank:
                        self._store.add(_HEARD, 1)
            except (RuntimeError, ValueError):
                # The process that keeps the store is gone: at the end of a run that is as it should be. Before it, the
                # next collective fails.
                return
            if rank == self._rank:
                return
            self._note = (rank, message)
            self._is_lost.set()
            if not self._stopping.wait(_GRACE_SECONDS):
                self._end()
            return

    def _end(self) -> None:
        # The main thread waits in a collective that nobody will answer, and no exception reaches it there.
        with contextlib.suppress(OSError, ValueError):
            print(f"glueball: {lost_message(self._note)}", file=sys.stderr, flush=True)
        os._exit(_EXIT_LOST)


def _as_tensor(data: bytes) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(bytearray(data), np.uint8)) if data else torch.empty(0, dtype=torch.uint8)


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _choose_interface(address: str | None) -> None:
    """Makes gloo use the network interface that leads to the others.

    By itself it asks for the address of the host's own name, which may be unknown, or lead to an interface that the
    other machines cannot reach.
    """
    if "GLOO_SOCKET_IFNAME" in os.environ or not address or sys.platform != "linux":
        return
    with contextlib.suppress(OSError):
        family, kind, _, _, target = socket.getaddrinfo(address, 9, type=socket.SOCK_DGRAM)[0]
        if family != socket.AF_INET:
            return
        with socket.socket(family, kind) as probe:
            probe.connect(target)  # of a datagram socket: sends nothing, but chooses a way
            own = probe.getsockname()[0]
            for _, name in socket.if_nameindex():
                if _address_of(probe, name) == own:
                    os.environ["GLOO_SOCKET_IFNAME"] = name
                    return
            if own.startswith("127."):
                os.environ["GLOO_SOCKET_IFNAME"] = "lo"


def _address_of(probe: socket.socket, interface: str) -> str | None:
    import fcntl

    request = struct.pack("256s", interface.encode()[:15])
    try:
        answer = fcntl.ioctl(probe.fileno(), 0x8915, request)  # SIOCGIFADDR
    except OSError:
        return None
    return socket.inet_ntoa(answer[20:24])


def environments(count: int) -> list[dict[str, str]]:
    """What torchrun would set for ``count`` processes on this machine."""
    with socket.socket() as probe:
        # The kernel chooses a free port; nobody else gets it before rank 0 takes it, short of bad luck.
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return [
        {
            "RANK": str(rank),
            "WORLD_SIZE": str(count),
            "LOCAL_RANK": str(rank),
            "LOCAL_WORLD_SIZE": str(count),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
        }
        for rank in range(count)
    ]


__all__ = ["TorchProcessGroup", "environments", "join", "lost_message", "lost_processes"]

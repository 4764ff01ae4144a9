"""What runs in a worker process: it receives the work once, then makes batches until its input ends.

It is started as a fresh interpreter, not forked: a fork copies the locks of the backend's threads in whatever state
they are and hangs on them sooner or later. A fresh interpreter imports what the dataset needs, and no backend.
Arrays travel through shared memory (``glueball.data.memory``); only their description goes through the pipe.
"""

from __future__ import annotations

import os
import pickle
import runpy
import signal
import struct
import sys
import traceback
import types
from typing import IO, Any

import numpy as np

from glueball.data import batchify, memory
from glueball.data.work import Request, Work

LENGTH = struct.Struct("<Q")
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
STARTING = "GLUEBALL_WORKER_STARTING"
"""Set in the environment while a worker starts, so that a script without a main guard cannot start workers of it."""


def send(stream: IO[bytes], message: Any) -> None:
    """Writes one message."""
    payload = pickle.dumps(message, pickle.HIGHEST_PROTOCOL)
    stream.write(LENGTH.pack(len(payload)))
    stream.write(payload)
    stream.flush()


def receive(stream: IO[bytes]) -> Any:
    """Reads one message.

    Raises:
        EOFError: the other side has ended.
    """
    return pickle.loads(_read(stream, LENGTH.unpack(_read(stream, LENGTH.size))[0]))


def _read(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("The other side of the pipe is gone.")
    return data


def _import_main(name: str | None, path: str | None) -> None:
    """Makes what the parent's script defines available as ``__main__``, without running its guarded part."""
    if name is not None:
        content = runpy.run_module(name, run_name="__mp_main__", alter_sys=True)
    elif path is not None:
        content = runpy.run_path(path, run_name="__mp_main__")
    else:
        return
    module = types.ModuleType("__mp_main__")
    module.__dict__.update(content)
    # Under both names, as multiprocessing does: what is pickled here again carries the first.
    sys.modules["__main__"] = sys.modules["__mp_main__"] = module


def _private_streams() -> tuple[IO[bytes], IO[bytes]]:
    """The pipes under new numbers: what user code prints goes to standard error, what it reads is empty."""
    source, target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, target


class _Batches:
    """Makes batches and says where in the shared memory their arrays are."""

    def __init__(self, work: Work, arena: memory.Arena | None, progress: np.ndarray | None) -> None:
        self._work = work
        self._arena = arena
        self._progress = progress
        self._last_size = 0

    def _report(self, index: int) -> None:
        if self._progress is not None:
            self._progress[0] = index

    def make(self, request: Request, released: list[int]) -> tuple[Any, list[np.ndarray]]:
        """The reply, and the buffers to send after it where no memory is shared."""
        if self._arena is None:
            result = self._work(request, self._report)
            buffers: list[pickle.PickleBuffer] = []
            payload = pickle.dumps(result, 5, buffer_callback=buffers.append)
            raw = [_bytes(buffer) for buffer in buffers]
            return ("inline", payload, [part.nbytes for part in raw]), raw
        self._arena.release(released)
        region = self._arena.region(self._last_size)
        try:
            with batchify.allocating(region.take):
                result = self._work(request, self._report)
            buffers = []
            payload = pickle.dumps(result, 5, buffer_callback=buffers.append)
            raw = [_bytes(buffer) for buffer in buffers]
            places = [region.place(part) for part in raw]
            if None in places:
                self._last_size = sum(part.nbytes + memory.ALIGNMENT for part in raw)
                larger = self._arena.region(self._last_size)
                places = [larger.place(part) for part in raw]
                self._arena.release([region.offset])
                region = larger
        except BaseException:
            self._arena.release([region.offset])
            raise
        parts = [(place, part.nbytes) for place, part in zip(places, raw, strict=True)]
        return ("shared", payload, (region.offset, region.capacity, parts)), []


def _bytes(buffer: pickle.PickleBuffer) -> np.ndarray:
    return np.frombuffer(buffer.raw(), np.uint8)


def _failure(error: BaseException) -> tuple[str, Any, str]:
    """An error as a message; as text where the error itself cannot be sent."""
    text = traceback.format_exc()
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    return "failed", error, text


def _end_with_parent() -> None:
    """Has the system kill this process when its parent is killed, even while a sample hangs. Linux only."""
    if not sys.platform.startswith("linux"):
        return
    try:
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return


def main() -> None:
    """Runs the worker: the first message says what to do, each further one asks for a batch."""
    # Ctrl-C, and the SIGTERM of many schedulers, go to the whole group of processes. The parent decides: it still needs
    # this process for the step that it finishes. Closing the pipe ends the worker, and so does the parent's death.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _end_with_parent()
    source, target = _private_streams()
    try:
        setup = receive(source)
        sys.argv = setup["argv"]
        try:
            _import_main(setup["main_name"], setup["main_path"])
            buffers: list[np.ndarray] = []
            if setup["buffers"]:
                mapped = memory.map_private(setup["data_descriptor"], setup["data_size"])
                buffers = [mapped[start : start + size] for start, size in setup["buffers"]]
            work = pickle.loads(setup["payload"], buffers=buffers)
            arena = progress = None
            if setup["descriptor"] is not None:
                progress = memory.map_progress(setup["progress_descriptor"])
                arena = memory.Arena(setup["descriptor"])
            batches = _Batches(work, arena, progress)
        except BaseException as error:
            send(target, _failure(error))
            return
        os.environ.pop(STARTING, None)
        send(target, ("ready", None, None))
        while True:
            request, released = receive(source)
            try:
                reply, raw = batches.make(request, released)
            except BaseException as error:
                send(target, _failure(error))
                continue
            send(target, reply)
            for part in raw:
                target.write(part.data)
            target.flush()
    except (EOFError, BrokenPipeError):
        return

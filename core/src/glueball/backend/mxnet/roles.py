"""The server and the scheduler of MXNet's KVStore: processes that train nothing.

``import mxnet`` in a process whose DMLC_ROLE is "server" or "scheduler" never returns: it serves, and ends the program
when the workers are done. Its server also unpickles what any machine sends to its port. Here the same loop of the
library runs without the Python package, which takes seconds to import: with a controller that unpickles nothing, with
an end when the workers are lost, and with signals that leave the workers time to save.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

from glueball.errors import BackendError

HELPERS = ("server", "scheduler")

# Signs of life that every process of a job sends to the scheduler (seconds), and how long it waits for one. Both can be
# set by the environment, in ps-lite's variables.
_HEARTBEAT_SECONDS = 1
_SILENCE_SECONDS = 12
_LOOK_SECONDS = 2.0
# After SIGTERM the workers save a checkpoint, for which they need us.
_LAST_SECONDS = 25.0
# ps-lite's numbers for groups of nodes.
_SERVERS_AND_WORKERS = 2 + 4


def prepare_environment() -> None:
    """What all processes of a KVStore job need before they meet."""
    os.environ.setdefault("PS_HEARTBEAT_INTERVAL", str(_HEARTBEAT_SECONDS))


def _silence_seconds() -> int:
    text = os.environ.get("PS_HEARTBEAT_TIMEOUT", "")
    return int(text) if text.isdecimal() and int(text) else _SILENCE_SECONDS


def serve(role: str) -> NoReturn:
    """Serves until the workers are done, and ends the process: with status 0, or 1 when workers were lost."""
    prepare_environment()
    library = _library()
    store = ctypes.c_void_p()
    _check(library, library.MXKVStoreCreate(b"dist", ctypes.byref(store)))
    prototype = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)
    errors: list[Exception] = []

    def refuse(command: int, body: bytes, handle: Any) -> None:
        _say(
            f"glueball: this server was sent a command ({command}) and did not obey: MXNet's commands are pickled "
            "objects, which any machine could send. Gradients need none; an optimiser on the server is not offered."
        )

    controller = prototype(refuse)

    def run() -> None:
        try:
            _check(library, library.MXKVStoreRunServer(store, controller, None))
        except BackendError as error:  # shown by the main thread
            errors.append(error)

    if threading.current_thread() is threading.main_thread():
        # Ctrl-C reaches all processes of a terminal. The workers decide what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _end_after_the_workers)
    thread = threading.Thread(target=run, name="glueball-serve", daemon=True)
    thread.start()
    looked = time.monotonic()
    scheduler = None if role == "scheduler" else Scheduler()
    while thread.is_alive():
        thread.join(0.2)
        if time.monotonic() - looked < _LOOK_SECONDS or not thread.is_alive():
            continue
        looked = time.monotonic()
        if scheduler is not None and scheduler.is_gone():
            _end(role, f"{scheduler} is gone")
        if scheduler is None and _count_lost(library, store):
            _end(role, f"a worker or a server gave no sign of life for {_silence_seconds()} s")
    if errors:
        _end(role, str(errors[0]))
    raise SystemExit(0)


class Scheduler:
    """The scheduler as seen from another process: whether something still answers at its port."""

    def __init__(self) -> None:
        self._address = (os.environ["DMLC_PS_ROOT_URI"], int(os.environ["DMLC_PS_ROOT_PORT"]))
        self._seen = False
        self._misses = 0

    def __str__(self) -> str:
        return f"the scheduler at {self._address[0]}:{self._address[1]}"

    def is_gone(self) -> bool:
        """Whether it was there, and twice in a row is not; asks once."""
        try:
            socket.create_connection(self._address, timeout=3.0).close()
        except (ConnectionError, TimeoutError):
            self._misses += 1
        except OSError:  # out of files or routes: says nothing about the scheduler
            return False
        else:
            self._seen, self._misses = True, 0
        return self._seen and self._misses >= 2


class SchedulerWatch:
    """A thread that calls ``lost`` when the scheduler is gone, which also ends when a server or worker is lost."""

    def __init__(self, lost: Callable[[str], None]) -> None:
        self._stopped = threading.Event()
        self._lost = lost
        threading.Thread(target=self._watch, name="glueball-scheduler-watch", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()

    def _watch(self) -> None:
        scheduler = Scheduler()
        while not self._stopped.wait(_LOOK_SECONDS):
            if scheduler.is_gone() and not self._stopped.is_set():
                self._lost(f"{scheduler} is gone; it ends when a server or a worker is lost.")
                return


def _count_lost(library: ctypes.CDLL, store: ctypes.c_void_p) -> int:
    number = ctypes.c_int()
    group, silence = ctypes.c_int(_SERVERS_AND_WORKERS), ctypes.c_int(_silence_seconds())
    _check(library, library.MXKVStoreGetNumDeadNode(store, group, ctypes.byref(number), silence))
    return number.value


def _library() -> ctypes.CDLL:
    """MXNet's shared library, found as its package finds it."""
    package = importlib.util.find_spec("mxnet")
    assert package is not None
    assert package.submodule_search_locations
    place = os.path.join(package.submodule_search_locations[0], "libinfo.py")
    specification = importlib.util.spec_from_file_location("glueball_mxnet_libinfo", place)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    try:
        library = ctypes.CDLL(module.find_lib_path()[0])
    except OSError as error:
        raise BackendError(f"The library of mxnet cannot be loaded: {error}") from error
    library.MXGetLastError.restype = ctypes.c_char_p
    return library


def _check(library: ctypes.CDLL, status: int) -> None:
    if status:
        lines = library.MXGetLastError().decode(errors="backslashreplace").strip().splitlines()
        raise BackendError(lines[-1].removeprefix("MXNetError: ").rstrip(".") if lines else "unknown error")


def _end_after_the_workers(number: int, frame: Any) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a second one ends at once
    timer = threading.Timer(_LAST_SECONDS, os._exit, (128 + number,))
    timer.daemon = True
    timer.start()


def _end(role: str, reason: str) -> NoReturn:
    _say(f"glueball: The {role} of the parameter server ends: {reason}.")
    os._exit(1)


def _say(sentence: str) -> None:
    sys.stderr.write(sentence + "\n")
    sys.stderr.flush()

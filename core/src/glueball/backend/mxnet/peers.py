"""What the processes of one job tell each other besides gradients: small arrays, texts, and that they are alive.

MXNet's KVStore and Horovod reduce arrays on the device, and know no way out when a process of the job is gone: the
others wait for ever. So every process holds one connection to the first one. It carries what the host exchanges, and
when it breaks, or a process says that it fails, all others know within a second and end, with the reason shown.

A message is a letter, a length and that many bytes. Nothing that comes in is unpickled: arrays come as JSON (what they
are) and their bytes. Who does not show the job's token, which travels through KVStore or Horovod, is turned away.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import queue
import selectors
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from glueball.errors import LostProcessError, TrainingError

GRACE_SECONDS = 10.0
"""How long a process may take to end by itself after another one has failed. Then it is ended, wherever it waits."""

EXIT_LOST = 3
"""Exit status of a process that ends because another one did, so that a launcher can tell which one was first."""

TOKEN_BYTES = 16

_HEADER = struct.Struct("!cQ")
_HELLO = struct.Struct(f"!{TOKEN_BYTES}sI")
_CONNECT_SECONDS = 60.0
# A machine that vanishes sends nothing: after 5 s of silence the system asks three times, every 3 s.
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 3, "TCP_KEEPCNT": 3}
# What was sent and not acknowledged for this long (milliseconds) breaks the connection, too.
_USER_TIMEOUT = {"TCP_USER_TIMEOUT": 15_000}

_DATA, _FAILED, _DONE = b"d", b"f", b"b"
_TYPES = (np.dtype(np.float64), np.dtype(np.float32), np.dtype(np.int64))


class _Gone(Exception):  # noqa: N818 - a signal inside this module
    """The connection has ended."""


class Peers:
    """One process's connection to all others, which passes through process 0.

    Args:
        rank, size: this process, and how many there are.
        address: where process 0 listens.
        token: the job's secret of ``TOKEN_BYTES`` bytes.
        listener: the listening socket, in process 0 alone.
        end: what ends this process when it does not end by itself; ``os._exit`` but for tests.

    Raises:
        TrainingError: process 0 cannot be reached, or not all others came in time.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        address: tuple[str, int],
        token: bytes,
        listener: socket.socket | None = None,
        *,
        timeout: float = _CONNECT_SECONDS,
        grace: float = GRACE_SECONDS,
        end: Callable[[int], None] = os._exit,
    ) -> None:
        self.rank, self.size = rank, size
        self.failure: str | None = None
        """What has happened to another process; None while all is well."""
        self._grace, self._end = grace, end
        self._lock = threading.Lock()
        self._closing = False
        self._has_failed = False
        self._all_left = threading.Event()
        self._done: set[int] = set()
        if listener is not None:
            self._sockets = _accept_all(listener, size, token, timeout)
        else:
            self._sockets = {0: _connect(rank, address, token, timeout)}
        self._inbox: dict[int, queue.SimpleQueue[bytes | None]] = {peer: queue.SimpleQueue() for peer in self._sockets}
        self._writing = {peer: threading.Lock() for peer in self._sockets}
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._listen, name="glueball-peers", daemon=True)
        self._thread.start()

    # ------------------------------------------------------------------------------------------------------------------
    # What all processes call together
    # ------------------------------------------------------------------------------------------------------------------

    def gather(self, data: bytes, kind: str = "gather") -> list[bytes]:
        """The bytes of every process, in their order, in every process.

        Raises:
            LostProcessError: another process has failed or left.
            TrainingError: one asks for something else than this one.
        """
        label = kind.encode()
        if self.rank:
            self._send(0, label, data)
            return _split(self._receive(0, label), self.size)
        parts = [data, *(self._receive(peer, label) for peer in range(1, self.size))]
        joined = b"".join(struct.pack("!Q", len(part)) + part for part in parts)
        for peer in range(1, self.size):
            self._send(peer, label, joined)
        return parts

    def broadcast(self, data: bytes | None, root: int = 0) -> bytes:
        """The bytes of process ``root``, in every process. Raises what ``gather`` does."""
        if data is None:
            data = b""
        label = f"broadcast {root}".encode()
        if self.rank:
            if self.rank == root:
                self._send(0, label, data)
            return self._receive(0, label)
        whole = data if root == 0 else self._receive(root, label)
        for peer in range(1, self.size):
            self._send(peer, label, whole)
        return whole

    def all_reduce(self, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Sums over the processes, in their order, so that every process gets the same bits on every run.

        float64, float32 and int64 arrays keep their type and shape.

        Raises:
            TrainingError: as ``gather``, or the processes have arrays of other types or shapes.
        """
        values = [np.asarray(array) for array in arrays]
        for value in values:
            if value.dtype not in _TYPES:
                raise TypeError(f"all_reduce takes float64, float32 and int64. Received: {value.dtype}.")
        described = json.dumps([[value.dtype.str, list(value.shape)] for value in values]).encode()
        label = b"all_reduce " + described
        mine = b"".join(value.tobytes() for value in values)
        if self.rank:
            self._send(0, label, mine)
            whole = self._receive(0, label)
        else:
            totals = [value.copy() for value in values]
            for peer in range(1, self.size):
                for total, part in zip(totals, _arrays(self._receive(peer, label), values), strict=True):
                    total += part
            whole = b"".join(total.tobytes() for total in totals)
            for peer in range(1, self.size):
                self._send(peer, label, whole)
        return [part.copy() for part in _arrays(whole, values)]

    def barrier(self) -> None:
        """Waits until every process is here. Raises what ``gather`` does."""
        self.gather(b"", "barrier")

    # ------------------------------------------------------------------------------------------------------------------
    # Life and death
    # ------------------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raises LostProcessError if another process has failed; asks nobody."""
        if self.failure is not None:
            raise LostProcessError(self.failure)

    def fail(self, message: str) -> None:
        """Tells all others that this process fails, which ends them, too."""
        with self._lock:
            if self._closing or self.failure is not None:
                return
            self._closing = self._has_failed = True
        self._tell_all(_FAILED, f"Process {self.rank} of {self.size} has failed: {message}".encode())

    def close(self) -> None:
        """Says goodbye, and waits until all others have; the second call does nothing."""
        with self._lock:
            leaving, self._closing = not self._closing and self.failure is None, True
        if leaving:
            self._tell_all(_DONE, b"")
            # Messages pass through process 0, so it must not leave before the others.
            if self._sockets:
                self._all_left.wait()
        with contextlib.suppress(OSError):
            self._wake.send(b"x")
        self._thread.join(1.0)
        for connection in (*self._sockets.values(), self._wake, self._woken):
            connection.close()

    def lose(self, reason: str) -> None:
        """Notes that something is gone that no process can do without; from any thread."""
        self._lose(None, reason)

    def _tell_all(self, letter: bytes, content: bytes, but: int | None = None) -> None:
        for peer in self._sockets:
            if peer != but:
                # Who is gone by now hears nothing; it is missed by the others.
                with contextlib.suppress(OSError):
                    self._write(peer, letter, content)

    def _listen(self) -> None:
        """The thread: sorts what comes, and notices who goes."""
        with selectors.DefaultSelector() as selector:
            for peer, connection in self._sockets.items():
                selector.register(connection, selectors.EVENT_READ, peer)
            selector.register(self._woken, selectors.EVENT_READ, None)
            while True:
                for key, _ in selector.select():
                    if key.data is None:
                        return
                    try:
                        self._take(key.data, key.fileobj)
                    except (_Gone, OSError) as error:
                        selector.unregister(key.fileobj)
                        if key.data not in self._done:
                            self._lose(key.data, _gone(key.data, self.size, error))
                    if len(self._done) == len(self._sockets):
                        self._all_left.set()

    def _take(self, peer: int, connection: Any) -> None:
        letter, length = _HEADER.unpack(_read(connection, _HEADER.size))
        content = _read(connection, length)
        if letter == _DATA:
            self._inbox[peer].put(content)
        elif letter == _DONE:
            self._done.add(peer)
            self._inbox[peer].put(None)
        elif letter == _FAILED:
            self._lose(peer, content.decode(errors="backslashreplace"))
        else:
            raise OSError(f"it sent a message of the unknown kind {letter!r}")

    def _lose(self, source: int | None, reason: str) -> None:
        with self._lock:
            if self.failure is not None or self._has_failed:
                return
            self.failure = reason
        if self.rank == 0:
            self._tell_all(_FAILED, reason.encode(), but=source)
        for inbox in self._inbox.values():
            inbox.put(None)
        self._all_left.set()
        threading.Thread(target=self._end_later, name="glueball-peers-end", daemon=True).start()

    def _end_later(self) -> None:
        """MXNet waits inside the library for processes that will never answer; nothing else gets it out of there."""
        time.sleep(self._grace)
        sys.stderr.write(f"glueball: {self.failure} This process ({self.rank} of {self.size}) ends with it.\n")
        sys.stderr.flush()
        sys.stdout.flush()
        self._end(EXIT_LOST)

    # ------------------------------------------------------------------------------------------------------------------
    # Messages
    # ------------------------------------------------------------------------------------------------------------------

    def _send(self, peer: int, label: bytes, data: bytes) -> None:
        self.check()
        try:
            self._write(peer, _DATA, struct.pack("!I", len(label)) + label + data)
        except OSError as error:
            self.check()
            raise LostProcessError(_gone(peer, self.size, error)) from error

    def _write(self, peer: int, letter: bytes, content: bytes) -> None:
        with self._writing[peer]:
            self._sockets[peer].sendall(_HEADER.pack(letter, len(content)))
            self._sockets[peer].sendall(content)

    def _receive(self, peer: int, label: bytes) -> bytes:
        self.check()
        content = self._inbox[peer].get()
        if content is None:
            self.check()
            raise LostProcessError(
                f"Process {peer} of {self.size} has finished, while process {self.rank} waits for it: the processes "
                "of a job must train the same recipe on the same data."
            )
        (length,) = struct.unpack_from("!I", content)
        received = content[4 : 4 + length]
        if received != label:
            raise TrainingError(
                f"Processes {self.rank} and {peer} of {self.size} do not do the same: {_shown(label)} here, "
                f"{_shown(received)} there. The processes of a job must train the same recipe on the same data."
            )
        return content[4 + length :]


def listen(host: str) -> socket.socket:
    """A listening socket on a free port of ``host``, for process 0."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.bind((host, 0))
    listener.listen(128)
    return listener


def own_address(towards: str) -> str:
    """The address of this machine on the way to another one; what others can reach it by."""
    family, kind, protocol, _, address = socket.getaddrinfo(towards, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)  # sends nothing: it looks up the route
        return str(probe.getsockname()[0])


def end_soon(seconds: float = GRACE_SECONDS) -> None:
    """Lets the system end this process after some time, even in the library's clean-up, where no Python runs."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(max(1, round(seconds)))


def _accept_all(listener: socket.socket, size: int, token: bytes, timeout: float) -> dict[int, socket.socket]:
    found: dict[int, socket.socket] = {}
    end = time.monotonic() + timeout
    with listener:
        while len(found) < size - 1:
            left = end - time.monotonic()
            absent = sorted(set(range(1, size)) - set(found))
            if left <= 0:
                raise TrainingError(
                    f"{len(absent)} of {size} processes did not come to {listener.getsockname()[:2]} within "
                    f"{timeout:.0f} s: {absent}. Their machines must be able to reach that address."
                )
            listener.settimeout(left)
            try:
                connection, _ = listener.accept()
            except TimeoutError:
                continue
            connection.settimeout(5.0)
            try:
                shown, rank = _HELLO.unpack(_read(connection, _HELLO.size))
            except (_Gone, OSError):
                connection.close()
                continue
            if not hmac.compare_digest(shown, token) or rank not in absent:
                connection.close()
                continue
            found[rank] = _prepared(connection)
    return dict(sorted(found.items()))


def _connect(rank: int, address: tuple[str, int], token: bytes, timeout: float) -> socket.socket:
    try:
        connection = socket.create_connection(address, timeout)
        connection.sendall(_HELLO.pack(token, rank))
    except OSError as error:
        raise TrainingError(
            f"Process {rank} cannot reach process 0 at {address[0]}:{address[1]}: {error}. Every machine of the job "
            "must be able to reach every other one, on any port."
        ) from error
    return _prepared(connection)


def _prepared(connection: socket.socket) -> socket.socket:
    connection.settimeout(None)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (_KEEPALIVE | _USER_TIMEOUT).items():
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return connection


def _read(connection: Any, count: int) -> bytes:
    """Exactly ``count`` bytes; asks for memory as they come, not by what a header promises."""
    parts = []
    while count:
        part = connection.recv(min(count, 1 << 20))
        if not part:
            raise _Gone
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def _split(joined: bytes, size: int) -> list[bytes]:
    parts, offset = [], 0
    for _ in range(size):
        (length,) = struct.unpack_from("!Q", joined, offset)
        parts.append(joined[offset + 8 : offset + 8 + length])
        offset += 8 + length
    return parts


def _arrays(content: bytes, like: Sequence[np.ndarray]) -> list[np.ndarray]:
    arrays, offset = [], 0
    for value in like:
        arrays.append(np.frombuffer(content, value.dtype, value.size, offset).reshape(value.shape))
        offset += value.nbytes
    return arrays


def _gone(peer: int, size: int, error: Exception) -> str:
    reason = "it was killed, or its machine is gone" if isinstance(error, _Gone) else str(error)
    return f"Process {peer} of {size} has ended without a word: {reason}."


def _shown(label: bytes) -> str:
    text = label.decode(errors="backslashreplace")
    return text if len(text) < 200 else f"{text[:200]}..."

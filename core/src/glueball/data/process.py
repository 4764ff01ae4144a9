"""The parent's side of a worker process: starting it, asking it for batches, noticing its death, ending it."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from typing import Any

import attrs
import numpy as np

from glueball.data import child, memory
from glueball.data.work import Request, Result, Work
from glueball.errors import OptionError, TrainingError

SHARED_MEMORY = os.name == "posix"
"""Whether descriptors can be handed to a child. Elsewhere batches go through the pipe, as bytes."""

_START = "import sys, json; sys.path[:] = json.loads(sys.argv[1]); from glueball.data.child import main; main()"


class RemoteTraceback(Exception):  # noqa: N818 - it is the text of a traceback, chained to the error itself
    """The traceback of an error in a worker process, as text."""

    def __str__(self) -> str:
        return f"\n\nIn the worker process:\n{self.args[0]}"


@attrs.define
class Parcel:
    """The work, ready to be sent to any number of workers: its arrays lie in memory that all of them map."""

    payload: bytes
    descriptor: int | None
    places: list[tuple[int, int]]
    size: int

    @classmethod
    def pack(cls, work: Work) -> Parcel:
        """Pickles the work for our own child processes.

        Raises:
            OptionError: something in it cannot be pickled, or is defined where a child cannot import it.
        """
        buffers: list[pickle.PickleBuffer] = []
        try:
            payload = pickle.dumps(work, 5, buffer_callback=buffers.append if SHARED_MEMORY else None)
        except Exception as error:
            raise OptionError(
                f"The dataset or one of its functions cannot be sent to a worker process: {error}. Define functions at "
                'the top level of a module instead of lambdas or local functions, or use worker_type="thread".'
            ) from error
        if b"__main__" in payload and _main_script() == (None, None):
            raise OptionError(
                "The dataset or one of its functions is defined in an interactive session, where a worker process "
                'cannot find it. Put it into a module and import it, or use worker_type="thread".'
            )
        if not buffers:
            return cls(payload, None, [], 0)
        descriptor = memory.anonymous_file()
        try:
            places, size = memory.write_buffers(descriptor, [np.frombuffer(part.raw(), np.uint8) for part in buffers])
        except BaseException:
            os.close(descriptor)
            raise
        return cls(payload, descriptor, places, size)

    def close(self) -> None:
        """Gives the memory back; workers that have mapped it keep their view."""
        descriptor, self.descriptor = self.descriptor, None
        if descriptor is not None:
            os.close(descriptor)


def _main_script() -> tuple[str | None, str | None]:
    """(module name, None) for ``python -m``, (None, path) for a script, (None, None) for neither."""
    main = sys.modules.get("__main__")
    specification = getattr(main, "__spec__", None)
    if specification is not None:
        return specification.name, None
    path = getattr(main, "__file__", None)
    return (None, os.path.abspath(path)) if path and os.path.isfile(path) else (None, None)


class WorkerProcess:
    """One worker process. Not safe for several threads at once, except ``index`` and ``kill``."""

    def __init__(self, parcel: Parcel, work: Work, max_lent: int) -> None:
        if child.STARTING in os.environ:
            raise OptionError(
                "A script that starts worker processes is imported again by them and must not start more. Put its main "
                'part under `if __name__ == "__main__":`.'
            )
        self._work = work
        self._descriptors: list[int] = []
        self._view: memory.ArenaView | None = None
        self._progress: np.ndarray | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        try:
            self._start(parcel, max_lent)
        except BaseException:
            self.close(grace=0)
            raise

    def _start(self, parcel: Parcel, max_lent: int) -> None:
        setup: dict[str, Any] = {
            "argv": sys.argv,
            "payload": parcel.payload,
            "buffers": parcel.places,
            "data_descriptor": parcel.descriptor,
            "data_size": parcel.size,
            "main_name": None,
            "main_path": None,
            "descriptor": None,
            "progress_descriptor": None,
        }
        if b"__main__" in parcel.payload:
            setup["main_name"], setup["main_path"] = _main_script()
        if SHARED_MEMORY:
            for key in ("descriptor", "progress_descriptor"):
                setup[key] = memory.anonymous_file()
                self._descriptors.append(setup[key])
            self._view = memory.ArenaView(setup["descriptor"], max_lent)
            self._progress = memory.map_progress(setup["progress_descriptor"])
            self._progress[0] = -1
        handed = [*self._descriptors, *([parcel.descriptor] if parcel.descriptor is not None else [])]
        environment = dict(os.environ)
        environment[child.STARTING] = "1"
        # The loader's workers are the parallelism; threads inside each of them would only fight over the cores.
        for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OPENCV_FOR_THREADS_NUM"):
            environment.setdefault(variable, "1")
        # The parcel's descriptor is given by number, and a number is the same in the child for pass_fds.
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, json.dumps(sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            pass_fds=handed if SHARED_MEMORY else (),
        )
        self._exchange(setup, None)

    @property
    def index(self) -> int:
        """The index of the sample that the worker is making; -1 when that is not known."""
        return int(self._progress[0]) if self._progress is not None else -1

    def _exchange(self, message: Any, request: Request | None) -> tuple[Any, Any, Any]:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            child.send(process.stdin, message)
            reply = child.receive(process.stdout)
        except (EOFError, OSError, ValueError) as error:
            raise self._death(request) from error
        if reply[0] == "failed":
            _, failure, text = reply
            if request is None and not isinstance(failure, OptionError):
                failure = TrainingError(
                    f"A worker process could not start: {type(failure).__name__}: {failure}. If it does not find what "
                    'the script defines, move that into a module, or use worker_type="thread".'
                )
            failure.__cause__ = RemoteTraceback(text)
            raise failure
        return reply

    def _death(self, request: Request | None) -> TrainingError:
        process = self._process
        assert process is not None
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(5)
        code = process.returncode
        how = f"with exit code {code}"
        if code is not None and code < 0:
            with contextlib.suppress(ValueError):
                how = f"by signal {signal.Signals(-code).name}"
        cure = (
            " The system ends processes this way when memory runs out: use fewer workers, smaller batches or less "
            "prefetch."
            if code == -9
            else ""
        )
        if request is None:
            return TrainingError(f"A worker process ended {how} while it started; its own output says why.{cure}")
        where = self._work.name(self.index) if self.index >= 0 else f"one of samples {list(request.indices)}"
        return TrainingError(f"A worker process ended {how} while it made {where}.{cure}")

    def __call__(self, request: Request) -> Result:
        """Makes a batch in the process.

        Raises:
            DataError: a sample could not be made.
            TrainingError: the process died.
        """
        released = self._view.take_released() if self._view is not None else []
        if self._progress is not None:
            self._progress[0] = -1  # a process that died while it waited must not be blamed on its last sample
        kind, payload, places = self._exchange((request, released), request)
        if kind == "shared":
            assert self._view is not None
            buffers = self._view.buffers(*places)
        else:
            assert self._process is not None
            assert self._process.stdout is not None
            # bytearray, so that the arrays can be written to, as everywhere else.
            buffers = [np.frombuffer(bytearray(self._process.stdout.read(size)), np.uint8) for size in places]
        return pickle.loads(payload, buffers=buffers)

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def kill(self) -> None:
        """Ends the process at once, from any thread; a thread that waits for it gets an error."""
        with self._lock:
            if self._process is not None:
                self._process.kill()

    def close(self, grace: float = 5.0) -> None:
        """Ends the process: by closing its input, and after ``grace`` seconds by killing it. Waits for its end."""
        with self._lock:
            process, self._process = self._process, None
            descriptors, self._descriptors = self._descriptors, []
        if process is not None:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()
            try:
                process.wait(grace)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for descriptor in descriptors:
            os.close(descriptor)

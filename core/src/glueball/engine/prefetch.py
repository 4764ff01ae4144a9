"""Batches on the device before they are needed: a thread loads and copies while the step runs.

Each batch comes with the loader's state right after it, because the loader itself is ahead of the training by the
length of the queue, and a checkpoint must say where the training is.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import numpy as np

from glueball.errors import TrainingError

logger = logging.getLogger("glueball.engine")

_POLL_SECONDS = 0.2
# A run that stops or fails does not wait longer for a sample that is being made.
_LEAVING_SECONDS = 2.0


@attrs.frozen
class LoadedBatch:
    """One batch, on both sides."""

    host: tuple[np.ndarray, ...]
    device: tuple[Any, ...]
    loader_state: Any
    """The loader's ``state_dict`` after this batch; None where no state was asked for."""


class _End:
    """Marks the end of the queue, with the error that ended it if there was one."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class Prefetcher:
    """Iterates over ``LoadedBatch``; ``close`` (or leaving the ``with``) ends the thread at any time.

    Args:
        batches: what the thread iterates over.
        to_device: brings one array to the device.
        state: gives the loader's state after a batch.
        depth: how many batches wait at most.
        check: called several times a second while a batch is waited for; may raise to stop.
        timeout: seconds to wait for a batch; None waits for ever.
        hanging: called when that time is over, with the seconds; returns the error to raise.
    """

    def __init__(
        self,
        batches: Iterable[tuple[np.ndarray, ...]],
        to_device: Callable[[np.ndarray], Any],
        *,
        state: Callable[[], Any] | None = None,
        depth: int = 2,
        check: Callable[[], None] | None = None,
        timeout: float | None = None,
        hanging: Callable[[float], Exception] | None = None,
    ) -> None:
        self._batches = batches
        self._to_device = to_device
        self._state = state
        self._check = check
        self._timeout = timeout
        self._hanging = hanging
        self._queue: queue.Queue[LoadedBatch | _End] = queue.Queue(maxsize=depth)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._load, name="glueball-prefetch", daemon=True)
        self._thread.start()

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, kind: type[BaseException] | None, *exception: object) -> None:
        # Whatever ends the run does not wait for the thread; what only goes back comes again, and finds it idle.
        is_leaving = kind is not None and not getattr(kind, "goes_on", False)
        self.close(_LEAVING_SECONDS if is_leaving else self._timeout)

    def __iter__(self) -> Iterator[LoadedBatch]:
        while True:
            item = self._next()
            if isinstance(item, _End):
                if item.error is not None:
                    if self._check is not None:
                        self._check()  # workers that a signal has hit are no news to somebody whom it has hit, too
                    raise item.error
                return
            yield item

    def close(self, grace: float | None = None) -> None:
        """Stops loading and waits for the thread, at most ``grace`` seconds: a thread cannot be ended from outside."""
        self._stopping.set()
        end = None if grace is None else time.monotonic() + grace
        while self._thread.is_alive():
            if end is not None and time.monotonic() > end:
                logger.warning(
                    "The thread that loads batches is left behind: a sample has taken more than %g s.", grace
                )
                return
            try:  # the thread may be waiting for room in the queue
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(0.01)

    def _next(self) -> LoadedBatch | _End:
        since = time.monotonic()
        while True:
            if self._check is not None:
                self._check()
            try:
                # Short waits, so that a signal is answered while a slow loader works.
                return self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if not self._thread.is_alive() and self._queue.empty():
                    raise TrainingError("The thread that loads batches has died without an error.") from None
                if self._timeout is not None and time.monotonic() - since > self._timeout:
                    raise self._too_slow() from None

    def _too_slow(self) -> Exception:
        assert self._timeout is not None
        if self._hanging is not None:
            return self._hanging(self._timeout)
        return TrainingError(f"There was no batch for {self._timeout:g} seconds.")

    def _load(self) -> None:
        iterator: Any = None
        try:
            iterator = iter(self._batches)
            for batch in iterator:
                device = tuple(self._to_device(array) for array in batch)
                state = None if self._state is None else self._state()
                if not self._put(LoadedBatch(batch if isinstance(batch, tuple) else tuple(batch), device, state)):
                    return
            self._put(_End())
        except BaseException as error:  # whatever it is, it belongs to the trainer, not to this thread
            self._put(_End(error))
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:  # worker pools of the loader end with its iterator
                close()

    def _put(self, item: LoadedBatch | _End) -> bool:
        while not self._stopping.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
                return True
            except queue.Full:
                continue
        return False

"""Batches on the device before they are needed: a thread loads and copies while the step runs.

Each batch comes with the loader's state right after it, because the loader itself is ahead of the training by the
length of the queue, and a checkpoint must say where the training is.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import attrs
import numpy as np

from glueball.errors import TrainingError

_POLL_SECONDS = 0.2


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
    """Iterates over ``LoadedBatch``; ``close`` (or leaving the ``with``) ends the thread at any time."""

    def __init__(
        self,
        batches: Iterable[tuple[np.ndarray, ...]],
        to_device: Callable[[np.ndarray], Any],
        *,
        state: Callable[[], Any] | None = None,
        depth: int = 2,
        check: Callable[[], None] | None = None,
    ) -> None:
        self._batches = batches
        self._to_device = to_device
        self._state = state
        self._check = check
        self._queue: queue.Queue[LoadedBatch | _End] = queue.Queue(maxsize=depth)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._load, name="glueball-prefetch", daemon=True)
        self._thread.start()

    def __enter__(self) -> Prefetcher:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[LoadedBatch]:
        while True:
            item = self._next()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item

    def close(self) -> None:
        """Stops loading and waits for the thread."""
        self._stopping.set()
        while self._thread.is_alive():
            try:  # the thread may be waiting for room in the queue
                self._queue.get_nowait()
            except queue.Empty:
                self._thread.join(0.01)

    def _next(self) -> LoadedBatch | _End:
        while True:
            if self._check is not None:
                self._check()
            try:
                # Short waits, so that a signal is answered while a slow loader works.
                return self._queue.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if not self._thread.is_alive() and self._queue.empty():
                    raise TrainingError("The thread that loads batches has died without an error.") from None

    def _load(self) -> None:
        iterator: Any = None
        try:
            iterator = iter(self._batches)
            for batch in iterator:
                device = tuple(self._to_device(array) for array in batch)
                state = None if self._state is None else self._state()
                if not self._put(LoadedBatch(tuple(batch), device, state)):
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

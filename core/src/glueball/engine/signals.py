"""SIGINT and SIGTERM become a request that the trainer answers between two steps, where everything can be saved.

A handler that raised at once could interrupt a step or the writing of a checkpoint. Before there is anything to save
it may (``SignalGuard.at_once``): data can take minutes to build. A second Ctrl-C raises, too: the user no longer wants
to wait.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

# Some launchers send one Ctrl-C to the process and to its group: only a later one means that somebody insists.
_IMPATIENCE_SECONDS = 1.0


class StopRequest(BaseException):
    """A signal asked the trainer to stop; raised only at points where the run can be saved."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class SignalGuard:
    """Within it, SIGINT and SIGTERM are noted instead of ending the process.

    Guards may lie within each other: what comes to the inner one and does not end the process is handed on.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._since = 0.0
        self._previous: dict[int, Any] = {}
        self._raises = False

    def __enter__(self) -> SignalGuard:
        # Only the main thread may set handlers; elsewhere signals keep their usual meaning.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            # None is a handler that was not set from Python; it cannot be put back.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
            outer = getattr(handler, "__self__", None)
            if isinstance(outer, SignalGuard) and outer.received is None:
                outer.received, outer._since = self.received, self._since
        self._previous.clear()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within it a signal raises StopRequest where it arrives: nothing is there yet that could be lost."""
        self._raises = True
        try:
            self.check()
            yield
        finally:
            self._raises = False

    def check(self) -> None:
        """Raises StopRequest if a signal has come."""
        if self.received is not None:
            raise StopRequest(self.received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is None:
            self.received, self._since = number, time.monotonic()
            if self._raises:
                raise StopRequest(number)
        elif number == signal.SIGINT and time.monotonic() - self._since > _IMPATIENCE_SECONDS:
            raise KeyboardInterrupt


def end_process(number: int) -> NoReturn:
    """Ends as the signal asked, for callers that saved first: KeyboardInterrupt, or exit status 143 after SIGTERM."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)

"""SIGINT and SIGTERM become a request that the trainer answers between two steps, where everything can be saved.

A handler that raised at once could interrupt a step or the writing of a checkpoint. A second Ctrl-C does raise: the
user no longer wants to wait.
"""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any, NoReturn


class StopRequest(BaseException):
    """A signal asked the trainer to stop; raised only at points where the run can be saved."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class SignalGuard:
    """Within it, SIGINT and SIGTERM are noted instead of ending the process."""

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> SignalGuard:
        # Only the main thread may set handlers; elsewhere signals keep their usual meaning.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

    def check(self) -> None:
        """Raises StopRequest if a signal has come."""
        if self.received is not None:
            raise StopRequest(self.received)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = number


def end_process(number: int) -> NoReturn:
    """Ends as the signal asked, for callers that saved first: KeyboardInterrupt, or exit status 143 after SIGTERM."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)

"""A lock between processes that the system releases when its owner dies, so that no lock can be left behind."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from glueball.errors import DownloadError

logger = logging.getLogger(__name__)


@contextlib.contextmanager
def locked(path: Path, timeout: float = 3600.0) -> Iterator[None]:
    """Holds the lock file ``path`` (created, and kept afterwards) or waits up to ``timeout`` seconds for it.

    Raises:
        DownloadError: another process has held it for all that time.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        deadline = time.monotonic() + timeout
        told = False
        while not _try_lock(descriptor):
            if time.monotonic() >= deadline:
                raise DownloadError(
                    f"Another process has held {path} for {timeout:.0f} seconds. Wait for its download or end it."
                )
            if not told:
                logger.info("waiting for another process that holds %s", path)
                told = True
            time.sleep(0.05)
        try:
            yield
        finally:
            _unlock(descriptor)
    finally:
        os.close(descriptor)


if sys.platform == "win32":
    import msvcrt

    def _try_lock(descriptor: int) -> bool:
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        os.lseek(descriptor, 0, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def _try_lock(descriptor: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _unlock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)

"""Writing files so that a crash leaves either the old file or the new one, never half of one."""

from __future__ import annotations

import contextlib
import glob
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO


def sync_directory(folder: Path) -> None:
    """Makes renames in ``folder`` survive a power cut, where the system can do so."""
    # Windows cannot open a folder; there a rename is durable once the journal says so.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a temporary file next to ``path``; on success it is synced and takes the name, on failure it is removed.

    The parent folder is created. The file's mode follows the umask, as with ``open``.

    Raises:
        OSError: the folder cannot be written or the disk is full; ``path`` is as it was before.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(target.parent)


def remove_unfinished(path: str | os.PathLike[str]) -> None:
    """Removes what killed processes left of an ``atomic_write`` of ``path``; for whoever alone writes that file."""
    target = Path(path)
    for leftover in target.parent.glob(f".{glob.escape(target.name)}.*.tmp"):
        leftover.unlink(missing_ok=True)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """``atomic_write`` for UTF-8 text."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))

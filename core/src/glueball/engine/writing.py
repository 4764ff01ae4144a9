"""Failures of the system while a run writes its files: which file it was, what is safe, and what helps.

A run writes many small files in many places. None of them handles a full disk; each says which file it writes, and the
trainer turns what comes up into one error.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from glueball.errors import GlueballError

# A quota and a limit on the size of a file stop a run as a full disk does.
_FULL = frozenset({errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)})


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Puts ``path`` into an OSError: a failed write, unlike a failed open, does not say which file it hit."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, GlueballError):
            error.filename = os.fspath(path)
        raise


def is_full(error: Exception) -> bool:
    """Whether there was no room left."""
    # safetensors reports the system's words in an error class of its own.
    return getattr(error, "errno", None) in _FULL or any(os.strerror(number) in str(error) for number in _FULL)


def cure(error: Exception) -> str:
    """What to do about an error that stopped a run from writing."""
    return f"{'Free some space' if is_full(error) else 'Make the folder writable'}, then go on with --resume."


def belongs_to_run(error: OSError, folder: Path) -> bool:
    """Whether the error hit a file in ``folder``, or no known file but there was no room left."""
    if isinstance(error, GlueballError):
        return False
    if isinstance(error.filename, (str, os.PathLike)):
        return Path(error.filename).absolute().is_relative_to(folder.absolute())
    return is_full(error)


def sentence(error: OSError) -> str:
    """What could not be written, and why."""
    return f"{error.filename or 'A file of the run'} could not be written: {error.strerror or error}."

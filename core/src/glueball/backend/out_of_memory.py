"""Whether an error means that memory ran out: libraries say so in many ways, and few have a class for it."""

from __future__ import annotations

from glueball.errors import GlueballError

# CUDA and its libraries, PyTorch's and MXNet's allocators for the CPU, the C++ library, and the system.
_WORDS = (
    "out of memory",
    "alloc_failed",
    "can't allocate memory",
    "cannot allocate memory",
    "failed to allocate",
    "memory allocation failed",
    "bad_alloc",
)


def says_so(error: BaseException) -> bool:
    """Whether the error is a MemoryError, or one of a library whose words tell of a failed allocation.

    Errors that Glueball has explained already do not count.
    """
    if isinstance(error, MemoryError):
        return True
    if isinstance(error, GlueballError) or not isinstance(error, (RuntimeError, OSError)):
        return False
    text = str(error).lower()
    return any(word in text for word in _WORDS)

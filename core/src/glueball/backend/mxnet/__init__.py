"""The dialect on Apache MXNet 1.9.1: thin, because MXNet already speaks it.

Nothing here imports MXNet before the backend is selected; ``compat`` is the only door through which it comes in.
"""

from __future__ import annotations

from types import ModuleType


def import_library() -> ModuleType:
    """Imports mxnet, prepared for current systems (see ``glueball.backend.mxnet.compat``)."""
    from glueball.backend.mxnet import compat

    return compat.import_library()

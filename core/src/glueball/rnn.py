"""Recurrent layers of the selected backend: ``from glueball import rnn; rnn.LSTM(100, bidirectional=True)``.

The backend is imported at the first use of a name, not with this module.
"""

from __future__ import annotations

from typing import Any


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from glueball import backend

    return getattr(backend.current().rnn, name)


def __dir__() -> list[str]:
    from glueball.backend import dialect

    return sorted(dialect.RECURRENT)

"""Names, and where they come from.

``current()`` is the catalogue of the process. It knows no backend and imports none: what plugins register are names,
addresses and descriptions, and only ``resolve`` imports the one object that somebody wants to use.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from glueball.catalog.catalog import Catalog
from glueball.catalog.entries import HOOKS, KINDS, PLURALS, Entry, PluginInfo

__all__ = ["HOOKS", "KINDS", "PLURALS", "Catalog", "Entry", "PluginInfo", "current", "refresh", "replaced"]

_lock = threading.Lock()
_stack = [Catalog()]


def current() -> Catalog:
    """The catalogue that ``glueball.get_model`` and all others ask; it scans at the first question."""
    return _stack[-1]


def refresh() -> None:
    """Makes the current catalogue look again: plugins were installed, or GLUEBALL_PLUGINS changed, meanwhile."""
    current().refresh()


@contextmanager
def replaced(catalog: Catalog) -> Iterator[Catalog]:
    """Within it ``catalog`` is the current one, in all threads (``glueball.testing.isolated_catalog`` builds on it)."""
    with _lock:
        _stack.append(catalog)
    try:
        yield catalog
    finally:
        with _lock:
            _stack.remove(catalog)

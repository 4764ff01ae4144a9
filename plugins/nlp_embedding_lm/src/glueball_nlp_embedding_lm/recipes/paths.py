"""Paths in recipes."""

from __future__ import annotations

import os
from pathlib import Path


def absolute(path: str) -> str:
    """The path from the root of the disk: a run is resumed and measured from other folders than it was started in."""
    return os.path.abspath(Path(path).expanduser())

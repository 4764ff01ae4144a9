"""Weight files: reading, writing, finding, and setting them into networks of either backend.

``load`` and ``save`` deal with files alone (NumPy in, NumPy out); ``load_into`` and ``load_pretrained`` with networks;
``locate`` with the store of official files.
"""

from __future__ import annotations

from glueball.weights.formats import load, save
from glueball.weights.matching import load_into

__all__ = ["load", "load_into", "save"]

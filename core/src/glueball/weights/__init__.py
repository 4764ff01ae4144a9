"""Weight files: reading, writing, finding, and setting them into networks of either backend.

``load`` and ``save`` deal with files alone (NumPy in, NumPy out); ``load_into`` and ``load_pretrained`` with networks;
``locate`` with the store of official files.
"""

from __future__ import annotations

from glueball.weights.formats import load, save
from glueball.weights.matching import load_into
from glueball.weights.pretrained import load_pretrained
from glueball.weights.store import home, locate

__all__ = ["home", "load", "load_into", "load_pretrained", "locate", "save"]

"""The states of every random generator that a run may draw from, as arrays for a checkpoint.

Loaders, transforms and initialisers derive their streams from the seed and need no state. Left are the generators of
the backend (dropout) and the global ones of Python and NumPy, which a user's own code may use.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np


def seed_everything(seed: int) -> None:
    """Seeds the initialisers, the backend and the global generators."""
    from glueball.seeding import seed as seed_library

    seed_library(seed)
    random.seed(seed)
    np.random.seed(seed % 2**32)


def capture(backend: Any) -> dict[str, np.ndarray]:
    """All states, by name."""
    _, words, gauss = random.getstate()
    _, keys, position, has_gauss, cached = np.random.get_state()  # type: ignore[misc]
    return {
        **{f"backend.{key}": np.asarray(value) for key, value in backend.random_state().items()},
        "python.words": np.array(words, dtype=np.int64),
        "python.gauss": np.array([] if gauss is None else [gauss], dtype=np.float64),
        "numpy.keys": np.asarray(keys),
        "numpy.position": np.array([position, has_gauss], dtype=np.int64),
        "numpy.gauss": np.array([cached], dtype=np.float64),
    }


def restore(backend: Any, state: Mapping[str, np.ndarray]) -> None:
    """Puts captured states back."""
    prefix = "backend."
    backend.set_random_state({key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)})
    gauss = state["python.gauss"]
    random.setstate((3, tuple(int(word) for word in state["python.words"]), float(gauss[0]) if len(gauss) else None))
    position, has_gauss = (int(value) for value in state["numpy.position"])
    np.random.set_state(("MT19937", state["numpy.keys"], position, has_gauss, float(state["numpy.gauss"][0])))

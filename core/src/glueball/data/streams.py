"""Random streams that depend on what is drawn, never on who draws it.

Every sample, batch and order has its own generator, keyed by (seed, epoch, index). Philox is counter based: the key
names the seed and the purpose, the upper half of the counter names epoch and index, and the lower half counts the
numbers drawn (2**128 of them), so that no two streams overlap and making one costs no warm-up. That is why batches are
the same for any number of workers, and why a run resumes in the middle of an epoch without replaying it.
"""

from __future__ import annotations

import numpy as np

from glueball.errors import OptionError

SAMPLE = 1
"""Purpose of the stream that a sample's random transforms draw from."""
BATCH = 2
"""Purpose of the stream that a batch transform (mixup, cutmix) draws from."""
ORDER = 3
"""Purpose of the stream that orders an epoch."""

_MASK = (1 << 64) - 1


def stream(seed: int, purpose: int, epoch: int = 0, index: int = 0) -> np.random.Generator:
    """The generator of one sample, batch or order.

    Raises:
        OptionError: ``seed`` is no integer, negative or wider than 64 bits, so that two seeds would share a stream.
    """
    if not isinstance(seed, (int, np.integer)) or not 0 <= seed <= _MASK:
        raise OptionError(f"A seed is an integer from 0 to 2**64 - 1. Received: {seed}.")
    bits = np.random.Philox(
        key=np.array([seed, purpose], np.uint64),
        counter=np.array([0, 0, epoch & _MASK, index & _MASK], np.uint64),
    )
    return np.random.Generator(bits)

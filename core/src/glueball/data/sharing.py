"""Each process's share of every batch, when several processes train together.

All processes know the order of the whole epoch and cut the same batches; each loads its own samples of each batch and
nothing else. So the samples that a step sees do not depend on how many processes there are, and a run may go on with
another number of them in the middle of an epoch.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import attrs

from glueball.data.samplers import as_count
from glueball.errors import OptionError

MIRROR = "mirror"
"""What a batch transform says as its ``partner`` if it mixes the batch with itself reversed: samples that need each
other then go to one process, which gives the same mixtures as one process with the whole batch."""


@attrs.frozen
class Share:
    """Which samples of each batch are those of process ``index`` of ``count``.

    The shares are contiguous and differ by one sample at most. ``mirrored``: a sample and its mirror image in the batch
    stay together; the shares are symmetric about the middle then, and differ by two at most.

    Raises:
        OptionError: there is no process of that index.
    """

    index: int = attrs.field()
    count: int = attrs.field()
    mirrored: bool = False

    def __attrs_post_init__(self) -> None:
        as_count("count", self.count, at_least=1)
        if not 0 <= as_count("index", self.index, at_least=0) < self.count:
            raise OptionError(f"A share expects 0 <= index < count. Received: index={self.index}, count={self.count}.")

    def positions(self, total: int) -> list[int]:
        """The positions of the share's samples in a batch of ``total``, ascending; none where the batch is too small.

        Example:
            >>> [Share(index, 3).positions(8) for index in range(3)]
            [[0, 1], [2, 3, 4], [5, 6, 7]]
            >>> [Share(index, 2, mirrored=True).positions(8) for index in range(2)]
            [[0, 1, 6, 7], [2, 3, 4, 5]]
        """
        if not self.mirrored:
            return list(range(*self._bounds(total)))
        # Of an odd number of samples the one in the middle is its own partner.
        start, end = self._bounds((total + 1) // 2)
        return sorted({*range(start, end), *range(total - end, total - start)})

    def _bounds(self, total: int) -> tuple[int, int]:
        return total * self.index // self.count, total * (self.index + 1) // self.count


class SharedBatch(tuple[Any, ...]):
    """The arrays of one process's share of a batch, and how it lies in the whole."""

    positions: tuple[int, ...]
    """Where the samples are in the whole batch. None at all: this process has no sample in it, and the arrays hold
    another process's sample as a stand-in, because a network needs something to run on."""
    total: int
    """How many samples the whole batch was asked to have; with damaged ones left out it may have fewer."""

    def __new__(cls, arrays: Iterable[Any], positions: tuple[int, ...], total: int) -> SharedBatch:
        batch = super().__new__(cls, arrays)
        batch.positions, batch.total = positions, total
        return batch

    @property
    def is_stand_in(self) -> bool:
        """Whether none of the samples is this process's."""
        return not self.positions

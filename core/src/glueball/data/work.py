"""What turns a list of indices into a batch; the same code in the caller's thread, a worker thread or a process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from glueball.data import streams
from glueball.errors import DataError

SKIPPABLE = (OSError, ValueError, EOFError)
"""Errors that mean a damaged sample (DataError is a ValueError). Any other is a mistake in the program."""


@attrs.frozen
class Request:
    """One batch to be made: the ``position``-th of its epoch."""

    epoch: int
    position: int
    indices: tuple[int, ...]
    stand_ins: tuple[int, ...] = ()
    """Samples of which one makes the batch where none of ``indices`` can: those of other processes."""


@attrs.frozen
class Result:
    """A batch, and the samples left out of it as (index, reason)."""

    batch: Any
    skipped: tuple[tuple[int, str], ...] = ()

    @property
    def empty(self) -> bool:
        """Whether all samples were left out, so that there is no batch."""
        return self.batch is None


@attrs.frozen
class Work:
    """Everything that a worker needs; sent to it once."""

    dataset: Any
    batchify: Callable[[Sequence[Any]], Any]
    batch_transform: Callable[..., Any] | None
    seed: int
    skip: bool

    def name(self, index: int) -> str:
        """The sample in words: its index and, where known, its path."""
        try:
            origin = self.dataset.describe(index)
        except Exception:
            origin = ""
        return f"sample {index} ({origin})" if origin else f"sample {index}"

    def __call__(self, request: Request, progress: Callable[[int], None] | None = None) -> Result:
        """Makes a batch; ``progress`` hears of each index before its sample is made, and of -1 after the last.

        Raises:
            DataError: a sample or the batch could not be made; the cause is chained.
            MemoryError: there was no memory for it, which says nothing about the sample.
        """
        samples: list[Any] = []
        skipped: list[tuple[int, str]] = []
        for index in request.indices:
            if progress is not None:
                progress(index)
            try:
                samples.append(self._sample(request.epoch, index))
            except MemoryError as error:
                raise MemoryError(f"S{self.name(index)[1:]} could not be made: {_reason(error)}") from error
            except Exception as error:
                reason = _reason(error)
                if not (self.skip and isinstance(error, SKIPPABLE)):
                    raise DataError(f"S{self.name(index)[1:]} could not be made: {reason}") from error
                skipped.append((index, f"{self.name(index)}: {reason}"))
        if not samples:
            samples.extend(self._stand_in(request))
        if progress is not None:
            progress(-1)  # what comes now concerns the batch and no single sample
        if not samples:
            return Result(None, tuple(skipped))
        try:
            batch = self.batchify(samples)
            if self.batch_transform is not None:
                random = streams.stream(self.seed, streams.BATCH, request.epoch, request.position)
                batch = self.batch_transform(batch, random)
        except Exception as error:
            names = ", ".join(self.name(index) for index in request.indices[:4])
            more = ", ..." if len(request.indices) > 4 else ""
            what = f"Batch {request.position} of {names}{more} could not be made: {_reason(error)}"
            raise (MemoryError if isinstance(error, MemoryError) else DataError)(what) from error
        return Result(batch, tuple(skipped))

    def _sample(self, epoch: int, index: int) -> Any:
        random = streams.stream(self.seed, streams.SAMPLE, epoch, index) if self.dataset.is_random else None
        return self.dataset.fetch(index, random)

    def _stand_in(self, request: Request) -> list[Any]:
        """The first of the request's stand-ins that can be made; whoever trains on it counts those that cannot."""
        for index in request.stand_ins:
            try:
                return [self._sample(request.epoch, index)]
            except Exception as error:
                if not (self.skip and isinstance(error, SKIPPABLE)):
                    raise DataError(f"S{self.name(index)[1:]} could not be made: {_reason(error)}") from error
        return []


def _reason(error: Exception) -> str:
    if isinstance(error, DataError):
        return str(error)
    # NumPy's class for arrays that are too large has a name with an underscore, and says all in its message.
    name = "MemoryError" if isinstance(error, MemoryError) else type(error).__name__
    return f"{name}: {error}" if str(error) else name

"""Memory that a worker process shares with its parent.

Each worker owns one anonymous file that both sides map. It has no name, so nothing is left behind however either side
ends, and it does not count against the size of /dev/shm, which is 64 MB in most containers: named segments
(``multiprocessing.shared_memory``) fail at both. The file is divided into regions, one batch each. The worker hands
them out and grows the file when none is free; the parent gives a region back when the last array in it is gone.
"""

from __future__ import annotations

import mmap
import os
import tempfile
import threading
import weakref
from collections.abc import Sequence

import attrs
import numpy as np

ALIGNMENT = 64
"""Arrays start at multiples of a cache line."""


def anonymous_file() -> int:
    """A file descriptor of a file without a name, in memory where the system can do so."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("glueball-batches")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _aligned(size: int, unit: int = ALIGNMENT) -> int:
    return -(-size // unit) * unit


@attrs.define
class Region:
    """A part of the file for one batch."""

    offset: int
    capacity: int
    memory: np.ndarray
    used: int = 0

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray | None:
        """The next array in the region; None when it does not fit."""
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if dtype.hasobject or size == 0 or self.used + size > self.capacity:
            return None
        start, self.used = self.used, _aligned(self.used + size)
        return self.memory[start : start + size].view(dtype).reshape(shape)

    def place(self, buffer: np.ndarray) -> int | None:
        """The offset in the region of ``buffer`` (bytes), copied there unless it lies there; None when it is full."""
        distance = buffer.ctypes.data - self.memory.ctypes.data
        if 0 <= distance <= self.capacity - buffer.nbytes:
            return distance
        if self.used + buffer.nbytes > self.capacity:
            return None
        start, self.used = self.used, _aligned(self.used + buffer.nbytes)
        self.memory[start : start + buffer.nbytes] = buffer
        return start


def _map(descriptor: int, offset: int, capacity: int) -> np.ndarray:
    return np.frombuffer(mmap.mmap(descriptor, capacity, offset=offset), np.uint8)


class Arena:
    """The worker's side: finds a region for each batch."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._end = 0
        self._regions: dict[int, Region] = {}
        self._free: list[Region] = []

    def region(self, size: int) -> Region:
        """A free region of at least ``size`` bytes, the file grown by one if there is none.

        Raises:
            OSError: memory is used up.
        """
        fitting = [region for region in self._free if region.capacity >= size]
        if fitting:
            region = min(fitting, key=lambda candidate: candidate.capacity)
            self._free.remove(region)
            region.used = 0
            return region
        # An eighth of slack: batches of padded sequences vary, and a region that fits again need not be made again.
        capacity = _aligned(max(size + size // 8, 1), mmap.ALLOCATIONGRANULARITY)
        if hasattr(os, "posix_fallocate"):
            # Asked for now, so that a lack of memory is an error here and not a bus error at some later write.
            os.posix_fallocate(self._descriptor, self._end, capacity)
        else:
            os.ftruncate(self._descriptor, self._end + capacity)
        region = Region(self._end, capacity, _map(self._descriptor, self._end, capacity))
        self._end += capacity
        self._regions[region.offset] = region
        return region

    def release(self, offsets: Sequence[int]) -> None:
        """Takes regions back."""
        self._free.extend(self._regions[offset] for offset in offsets)


class ArenaView:
    """The parent's side: arrays over the worker's regions, which are given back once no array is left."""

    def __init__(self, descriptor: int, limit: int) -> None:
        self._descriptor = descriptor
        self._limit = limit
        self._maps: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()
        self._released: list[int] = []
        self._lent = 0

    def _release(self, offset: int) -> None:
        with self._lock:
            self._released.append(offset)
            self._lent -= 1

    def take_released(self) -> list[int]:
        """The regions given back since the last call."""
        with self._lock:
            released, self._released = self._released, []
        return released

    def buffers(self, offset: int, capacity: int, places: Sequence[tuple[int, int]]) -> list[np.ndarray]:
        """The parts (start, size) of a region, as bytes; the region is lent until all of them are gone.

        A caller that keeps more batches than the loader works ahead gets copies: otherwise every batch kept would
        cost the worker a new region.
        """
        mapped = self._maps.get(offset)
        if mapped is None:
            mapped = self._maps[offset] = _map(self._descriptor, offset, capacity)
        # A fresh memoryview is a base that NumPy does not see through: the arrays keep `base` alive, not `mapped`.
        base = np.frombuffer(mapped.data, np.uint8)
        if self._lent >= self._limit:
            copies = [base[start : start + size].copy() for start, size in places]
            with self._lock:
                self._released.append(offset)
            return copies
        with self._lock:
            self._lent += 1
        weakref.finalize(base, self._release, offset).atexit = False
        return [base[start : start + size] for start, size in places]


def map_private(descriptor: int, size: int) -> np.ndarray:
    """The first ``size`` bytes of a file; what is written to them stays in this process."""
    return np.frombuffer(mmap.mmap(descriptor, size, access=mmap.ACCESS_COPY), np.uint8)


def map_progress(descriptor: int) -> np.ndarray:
    """One int64 in shared memory: the index of the sample that a worker is making."""
    size = mmap.ALLOCATIONGRANULARITY
    if os.fstat(descriptor).st_size < size:
        os.ftruncate(descriptor, size)
    return np.frombuffer(mmap.mmap(descriptor, size), np.int64, count=1)


def write_buffers(descriptor: int, buffers: Sequence[np.ndarray]) -> tuple[list[tuple[int, int]], int]:
    """Writes byte arrays to a file, each at a multiple of ``ALIGNMENT``; gives (start, size) of each, and the end."""
    places: list[tuple[int, int]] = []
    end = 0
    for buffer in buffers:
        places.append((end, buffer.nbytes))
        view, written = buffer.data, 0
        while written < buffer.nbytes:
            written += os.pwrite(descriptor, view[written:], end + written)
        end = _aligned(end + buffer.nbytes)
    if end:
        os.ftruncate(descriptor, end)
    return places, end

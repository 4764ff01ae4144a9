"""A data set: NumPy arrays and plain Python values, without any backend."""

from __future__ import annotations

import numpy as np

from glueball.data import Dataset
from glueball.errors import OptionError


class Shapes(Dataset):
    """Coloured squares, discs and crosses on noise.

    A sample is ``(picture, label)``: uint8 of (size, size, 3), RGB, and 0, 1 or 2. The same index is always the same
    picture.

    Raises:
        OptionError: ``length`` is negative or ``size`` is below 8 pixels.
    """

    classes = ("square", "disc", "cross")

    def __init__(self, length: int = 300, size: int = 32, seed: int = 0) -> None:
        if length < 0 or size < 8:
            raise OptionError(f"Shapes needs length >= 0 and size >= 8. Received: length={length}, size={size}.")
        self._length = length
        self._size = size
        self._seed = seed

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if not 0 <= index < self._length:
            raise IndexError(f"Shapes has {self._length} samples. Received the index {index}.")
        random = np.random.default_rng((self._seed, index))
        label = index % len(self.classes)
        radius = random.integers(self._size // 6, self._size // 4 + 1)
        row, column = random.integers(radius, self._size - radius, 2)
        vertical, horizontal = np.ogrid[: self._size, : self._size]
        vertical, horizontal = abs(vertical - row), abs(horizontal - column)
        mask = (
            np.maximum(vertical, horizontal) <= radius,
            vertical**2 + horizontal**2 <= radius**2,
            (np.minimum(vertical, horizontal) <= radius // 4) & (np.maximum(vertical, horizontal) <= radius),
        )[label]
        picture = random.integers(0, 64, (self._size, self._size, 3), dtype=np.uint8)
        picture[mask] = random.integers(128, 256, 3, dtype=np.uint8)
        return picture, label

    def labels(self) -> np.ndarray:
        """The class of every sample, so that the data can be split by class without drawing it."""
        return np.arange(self._length) % len(self.classes)

"""Handwritten digits, 8x8: small enough to come inside a Python package, real enough to learn from.

The file is read from scikit-learn's installed package without importing it: the data are a table in a gzip file, and
importing scikit-learn with SciPy takes longer than training on them.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from glueball.archives import open_compressed
from glueball.errors import DataError

from .common import ArrayImageDataset, checked_channels, checked_labels, is_train_split, stratified_split, with_channels

COLUMNS = 8 * 8 + 1


class Digits(ArrayImageDataset):
    """1,797 handwritten digits of 8x8 pixels (UCI "Optical Recognition of Handwritten Digits", test part).

    Args:
        split: "train" (1,438 with the default fraction) or "test".
        channels: 3 for RGB with equal channels, 1 for grey.
        test_fraction: held out of every class.
        seed: of the split.
        path: a ``digits.csv`` or ``digits.csv.gz`` to read instead of scikit-learn's.

    Raises:
        DataError: scikit-learn is not installed and no path is given, or the file is not that table.

    Source: E. Alpaydin and C. Kaynak, https://archive.ics.uci.edu/dataset/80.
    """

    def __init__(
        self,
        split: str = "train",
        *,
        channels: int = 3,
        test_fraction: float = 0.2,
        seed: int = 0,
        path: str | os.PathLike[str] | None = None,
    ) -> None:
        training = is_train_split(split)
        file = packaged_file() if path is None else Path(path)
        grey, labels = read_table(file)
        train, test = stratified_split(labels, test_fraction, seed)
        chosen = train if training else test
        super().__init__(
            with_channels(grey[chosen], checked_channels(channels)),
            labels[chosen],
            [str(digit) for digit in range(10)],
            f"{'training' if training else 'held-out'} part of {file}, {test_fraction:.0%} of every class held out, "
            f"seed {seed}",
        )


def packaged_file() -> Path:
    """Where scikit-learn keeps the table.

    Raises:
        DataError: scikit-learn is not installed, or without its data.
    """
    specification = find_spec("sklearn")
    for folder in (specification.submodule_search_locations or ()) if specification is not None else ():
        candidate = Path(folder) / "datasets" / "data" / "digits.csv.gz"
        if candidate.is_file():
            return candidate
    raise DataError(
        "The digits come inside the package scikit-learn, which is not installed here. "
        "Install it (pip install scikit-learn), or name the file: path='digits.csv.gz'."
    )


def read_table(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Pictures (count, 8, 8) uint8, scaled from the table's 0..16 to 0..255, and labels (count,)."""
    try:
        with open(file, "rb") as packed:
            unpacked = open_compressed(packed, str(file)) or packed
            with unpacked:
                table = np.array([line.split(b",") for line in unpacked.read().split()], dtype=np.float64)
    except DataError:
        raise
    except (OSError, ValueError) as error:
        raise DataError(f"{file} cannot be read as the table of digits: {error}") from error
    # Written so that NaN fails too.
    is_table = table.ndim == 2 and table.shape[1] == COLUMNS and len(table) > 0
    if not is_table or not ((table >= 0) & (table <= 16)).all() or (table[:, -1] % 1).any():
        raise DataError(
            f"{file} is not the table of digits. Expected rows of 64 values from 0 to 16 and a label. "
            f"Received: a table of shape {table.shape}."
        )
    grey = np.round(table[:, :-1] * (255.0 / 16.0)).astype(np.uint8).reshape(-1, 8, 8)
    return grey, checked_labels(table[:, -1].astype(np.int64), len(grey), 10)

"""What the data sets share: splits, places to look in, and errors that say which file belongs where."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import attrs
import numpy as np

from glueball.data import Dataset
from glueball.errors import DataError, DownloadError, OptionError

TRAIN_NAMES = ("train", "training")
TEST_NAMES = ("test", "val", "valid", "validation", "eval")


def is_train_split(split: str) -> bool:
    """Whether ``split`` names the training part; "test" and "val" both name the held-out part of two-part data sets.

    Raises:
        OptionError: the name is none of these.
    """
    if split in TRAIN_NAMES:
        return True
    if split in TEST_NAMES:
        return False
    raise OptionError(f'Unknown split. Expected "train", or "test" (also called "val"). Received: split={split!r}.')


class ImageClassificationDataset(Dataset):
    """The base of every data set here: samples ``(image (height, width, 3) uint8 RGB, label)``.

    Subclasses implement ``image(index)`` and fill in the three attributes.
    """

    classes: tuple[str, ...]
    """Class names; a label is an index into them."""
    summary: str
    """Where the pictures came from and how they were split, in a sentence."""
    _labels: np.ndarray

    def image(self, index: int) -> np.ndarray:
        """The picture alone: uint8 of shape (height, width, 3)."""
        raise NotImplementedError

    def labels(self) -> np.ndarray:
        """All labels, int64 of shape (len(self),), without touching a picture."""
        return self._labels

    def __len__(self) -> int:
        return len(self._labels)

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"Index {index} is outside of a data set of {count} samples.")
        position = int(index) % count
        return self.image(position), int(self._labels[position])

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} images, {len(self.classes)} classes: {self.summary})"


class ArrayImageDataset(ImageClassificationDataset):
    """Pictures that are in memory already.

    Args:
        images: uint8, (count, height, width, 3) or (count, height, width, 1).
        labels: integers, (count,).
        classes: the name of each label.
        summary: where they came from.

    Raises:
        DataError: the arrays do not fit each other, or a label has no name.
    """

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, classes: Sequence[str], summary: str = "arrays in memory"
    ) -> None:
        images = np.asarray(images)
        if images.ndim != 4 or images.shape[3] not in (1, 3) or images.dtype != np.uint8:
            raise DataError(
                "Pictures have the wrong form. Expected uint8 of shape (count, height, width, 3 or 1). "
                f"Received: {images.dtype} of shape {images.shape}."
            )
        self.images = images
        self._labels = checked_labels(labels, len(images), len(classes))
        self.classes = tuple(classes)
        self.summary = summary

    def image(self, index: int) -> np.ndarray:
        return self.images[index]


def checked_labels(labels: np.ndarray | Sequence[int], count: int, classes: int) -> np.ndarray:
    """``labels`` as int64 of shape (count,).

    Raises:
        DataError: another number of labels than of pictures, or one that no class stands for.
    """
    array = np.asarray(labels)
    if array.shape != (count,) or (array.size and not np.issubdtype(array.dtype, np.integer)):
        raise DataError(f"Expected {count} integer labels. Received: {array.dtype} of shape {array.shape}.")
    array = array.astype(np.int64)
    if array.size and not 0 <= int(array.min()) <= int(array.max()) < classes:
        raise DataError(
            f"Expected labels from 0 to {classes - 1}, one for each class. "
            f"Received labels from {array.min()} to {array.max()}."
        )
    return array


def checked_channels(channels: int) -> int:
    """1 or 3.

    Raises:
        OptionError: any other number, which no picture of ours has.
    """
    if channels not in (1, 3):
        raise OptionError(f"Pictures have 1 channel (grey) or 3 (RGB). Received: channels={channels!r}.")
    return channels


def with_channels(grey: np.ndarray, channels: int) -> np.ndarray:
    """Grey pictures (count, height, width) as (count, height, width, channels)."""
    images = grey[..., np.newaxis]
    return np.repeat(images, channels, axis=3) if channels == 3 else np.ascontiguousarray(images)


def stratified_split(
    labels: np.ndarray, fraction: float, seed: int = 0, names: Sequence[str] | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Splits sample indices so that every class is held out in the same proportion.

    Within a class the samples are ordered by SHA-256 of the seed and their name (their index where they have none) and
    the first ``round(fraction * count)`` are held out. So the split does not depend on the NumPy version or the order
    of the files, and adding one file to a folder moves no more than one other across. At least one sample of every
    class stays in the training part; of a class with two samples or more, at least one is held out.

    Returns:
        Indices to train on and indices held out, each sorted.

    Raises:
        OptionError: the fraction is not between 0 and 1.
    """
    if not 0.0 < fraction < 1.0:
        raise OptionError(f"Expected a fraction above 0 and below 1 to hold out. Received: {fraction!r}.")
    held_out: list[int] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)

        def order(index: int) -> bytes:
            name = str(index) if names is None else names[index]
            return hashlib.sha256(f"{seed}/{name}".encode("utf-8", "surrogateescape")).digest()

        ranked = sorted((int(member) for member in members), key=order)
        count = min(max(round(fraction * len(ranked)), 1), len(ranked) - 1)
        held_out.extend(ranked[:count])
    test = np.sort(np.asarray(held_out, dtype=np.int64))
    train = np.setdiff1d(np.arange(len(labels), dtype=np.int64), test)
    return train, test


@attrs.frozen
class Source:
    """A file that can be downloaded."""

    file: str
    url: str
    sha1: str


def dataset_folders(name: str, root: str | os.PathLike[str] | None, packaged: Iterable[str] = ()) -> list[Path]:
    """The folders in which a data set is looked for, first choice first.

    ``root`` alone when it is given (the folder itself, or the one above it); otherwise ``$GLUEBALL_DATA/name``, the
    cache of downloads, and where a distribution's package installs it.
    """
    if root is not None:
        given = Path(root).expanduser()
        return [given, given / name]
    folders = []
    if shared := os.environ.get("GLUEBALL_DATA"):
        folders.append(Path(shared).expanduser() / name)
    folders.append(download_folder(name))
    folders.extend(Path(folder) for folder in packaged)
    return folders


def download_folder(name: str) -> Path:
    """Where downloads of the data set ``name`` are kept."""
    # Imported lazily: reading what is on the disk needs no weight store.
    from glueball.weights.store import home

    return home() / "datasets" / name


def fetch(title: str, sources: Sequence[Source], folder: Path, searched: Sequence[Path], hint: str = "") -> list[Path]:
    """Downloads every source into ``folder``, verified by SHA-1, unless it is there already.

    Raises:
        DownloadError: the network is off (GLUEBALL_OFFLINE), a file could not be fetched, or has another hash; the
            message says where it was looked for, which file with which hash belongs where, and what else would do.
    """
    from glueball.weights.download import download_verified, is_offline

    paths = []
    for source in sources:
        target = folder / source.file
        try:
            if not target.is_file():
                if is_offline():
                    raise DownloadError("GLUEBALL_OFFLINE is set")
                download_verified(source.url, target, source.sha1)
        except OSError as error:
            raise DownloadError(missing(title, sources, folder, searched, hint, str(error))) from error
        paths.append(target)
    return paths


def missing(
    title: str, sources: Sequence[Source], folder: Path, searched: Sequence[Path], hint: str = "", reason: str = ""
) -> str:
    """The message for a data set that is not there."""
    lines = [f"{title} was not found in {', '.join(str(place) for place in searched)}."]
    if reason:
        lines.append(f"Downloading it failed: {reason}")
    if sources:
        lines.append(f"Put these files into {folder}, or name their folder as root=:")
        lines.extend(f"  {source.file}  (sha1 {source.sha1}, {source.url})" for source in sources)
    if hint:
        lines.append(hint)
    return "\n".join(lines)

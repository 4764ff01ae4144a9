"""CIFAR-10 and CIFAR-100 in each form in which they are handed around.

Found in this order in each folder that is searched: the official binary files, the official python files (parsed, see
``archive``), either of them inside their archive as it was downloaded, and pictures in class folders, on the disk or
in ``train.tar`` and ``test.tar``. Archives are read where they are and never unpacked.

Source: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009,
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np

from glueball.archives import tar_files
from glueball.data.images import decode
from glueball.errors import DataError

from .archive import read_archive_batch
from .common import (
    ArrayImageDataset,
    ImageClassificationDataset,
    Source,
    checked_labels,
    dataset_folders,
    download_folder,
    fetch,
    is_train_split,
    missing,
)
from .pictures import PictureFiles, picture_files

SIDE = 32
PIXELS = 3 * SIDE * SIDE
# The largest official batch (CIFAR-100's training part) has 155 MB; what is larger is not read into memory.
LARGEST_BATCH = 256 * 2**20


class ClassFolderPictures(ImageClassificationDataset):
    """Small pictures of one size in class folders, decoded once, at the first access, and kept in memory.

    Decoding 50,000 pictures of 32x32 takes seconds; doing it again in every epoch would take longer than the training
    of a small network.

    Raises:
        DataError: the class folders are not those of ``classes``.
    """

    def __init__(self, files: PictureFiles, classes: tuple[str, ...], title: str, side: int = SIDE) -> None:
        self._files = files
        self._side = side
        self._title = title
        self._images: np.ndarray | None = None
        self._lock = threading.Lock()
        found = [PurePosixPath(name).parent.name for name in files.names]
        if set(found) != set(classes):
            unknown = sorted(set(found) - set(classes))
            lacking = sorted(set(classes) - set(found))
            raise DataError(
                f"{files.place} does not hold {title} in class folders. Expected a folder for each of its "
                f"{len(classes)} classes. Missing: {lacking[:5]}. Unknown: {unknown[:5]}."
            )
        index = {name: label for label, name in enumerate(classes)}
        self.classes = classes
        self._labels = np.array([index[name] for name in found], dtype=np.int64)
        self.summary = f"class folders in {files.place}"

    @property
    def images(self) -> np.ndarray:
        """All pictures, (count, side, side, 3) uint8."""
        if self._images is None:
            with self._lock:
                if self._images is None:
                    self._images = self._decode_all()
        return self._images

    def image(self, index: int) -> np.ndarray:
        return self.images[index]

    def _decode_all(self) -> np.ndarray:
        images = np.empty((len(self._files.names), self._side, self._side, 3), dtype=np.uint8)
        for at, name in enumerate(self._files.names):
            picture = decode(self._files.read(name), name=f"{self._files.place}: {name}")
            if picture.shape != images.shape[1:]:
                raise DataError(
                    f"{self._files.place}: {name} is no picture of {self._title}. Expected {self._side}x{self._side} "
                    f"pixels. Received: {picture.shape[1]}x{picture.shape[0]}."
                )
            images[at] = picture
        return images

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()


class _CIFAR(ImageClassificationDataset):
    """What the two have in common."""

    title: ClassVar[str]
    folder: ClassVar[str]
    binary: ClassVar[tuple[str, str]]
    """Folder inside the binary archive, and the archive's file name."""
    python: ClassVar[tuple[str, str]]
    """The same for the python archive."""
    source: ClassVar[Source]

    def __init__(
        self, split: str = "train", root: str | os.PathLike[str] | None = None, *, download: bool = True
    ) -> None:
        training = is_train_split(split)
        folders = dataset_folders(self.folder, root)
        part = next((found for folder in folders if (found := self._open(folder, training)) is not None), None)
        if part is None:
            target = folders[0] if root is not None else download_folder(self.folder)
            hint = (
                f"The archive {self.python[1]} or class folders (train/<class>/*.jpg, test/<class>/*.jpg, or train.tar "
                "and test.tar of them) do as well."
            )
            if not download:
                raise DataError(missing(self.title, [self.source], target, folders, hint))
            fetch(self.title, [self.source], target, folders, hint)
            part = self._open(target, training)
            if part is None:
                raise DataError(f"{target / self.source.file} does not hold the files of {self.title}.")
        self._part = part
        self._labels = part.labels()
        self.summary = f"{'training' if training else 'test'} part, {part.summary}"

    @property
    def images(self) -> np.ndarray:
        """All pictures, (count, 32, 32, 3) uint8."""
        return self._part.images

    def image(self, index: int) -> np.ndarray:
        return self._part.image(index)

    # How each class names its files and reads one of them.

    def _binary_files(self, training: bool) -> tuple[str, ...]:
        raise NotImplementedError

    def _python_files(self, training: bool) -> tuple[str, ...]:
        raise NotImplementedError

    def _label_column(self) -> tuple[int, int]:
        """Which label byte of a binary record to take, of how many."""
        raise NotImplementedError

    def _label_key(self) -> str:
        """Where a python batch keeps the labels."""
        raise NotImplementedError

    def _open(self, folder: Path, training: bool) -> Any:
        """The part in any of its forms, or None."""
        forms: tuple[tuple[tuple[str, str], tuple[str, ...], Callable[..., tuple[np.ndarray, np.ndarray]]], ...] = (
            (self.binary, self._binary_files(training), self._read_binary),
            (self.python, self._python_files(training), self._read_python),
        )
        for (inner, _), names, read in forms:
            for place in (folder, folder / inner):
                if all((place / name).is_file() for name in names):
                    contents = ((f"{place / name}", _read_file(place / name)) for name in names)
                    return self._from_batches(contents, read, str(place))
        for (_, archive), names, read in forms:
            if (folder / archive).is_file():
                return self._from_batches(_read_members(folder / archive, names), read, str(folder / archive))
        word = "train" if training else "test"
        for place in (folder / word, folder / f"{word}.tar"):
            if place.is_dir() or (place.is_file() and place.suffix == ".tar"):
                return ClassFolderPictures(picture_files(place), self.classes, self.title)
        return None

    def _from_batches(
        self,
        contents: Iterator[tuple[str, bytes]],
        read: Callable[[bytes, str], tuple[np.ndarray, np.ndarray]],
        place: str,
    ) -> ArrayImageDataset:
        batches = [read(content, name) for name, content in contents]
        return ArrayImageDataset(
            np.concatenate([images for images, _ in batches]),
            np.concatenate([labels for _, labels in batches]),
            self.classes,
            f"official batches in {place}",
        )

    def _read_binary(self, content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
        column, columns = self._label_column()
        if not content or len(content) % (columns + PIXELS):
            raise DataError(
                f"{name} is damaged. Expected records of {columns + PIXELS} bytes. Received: {len(content)} bytes."
            )
        records = np.frombuffer(content, dtype=np.uint8).reshape(-1, columns + PIXELS)
        labels = checked_labels(records[:, column].astype(np.int64), len(records), len(self.classes))
        return _rows_to_images(records[:, columns:]), labels

    def _read_python(self, content: bytes, name: str) -> tuple[np.ndarray, np.ndarray]:
        batch = read_archive_batch(content, name)
        rows, labels = batch.get("data"), batch.get(self._label_key())
        if not isinstance(rows, np.ndarray) or rows.ndim != 2 or rows.shape[1] != PIXELS:
            raise DataError(f"{name} holds no pictures. Expected data of shape (count, {PIXELS}).")
        if not isinstance(labels, list) or not all(type(label) is int for label in labels):
            raise DataError(f"{name} holds no labels. Expected a list of numbers under {self._label_key()!r}.")
        return _rows_to_images(rows), checked_labels(np.array(labels), len(rows), len(self.classes))


class CIFAR10(_CIFAR):
    """60,000 colour pictures of 32x32 in 10 classes.

    Args:
        split: "train" (50,000) or "test" (10,000).
        root: the folder of the files in any of their forms, or the one above it; by default
            ``$GLUEBALL_DATA/cifar10``, then the cache.
        download: fetch the binary archive when it is missing.

    Raises:
        DataError: the files are damaged, or missing while ``download`` is off.
        DownloadError: the files are missing and could not be fetched.
    """

    title = "CIFAR-10"
    folder = "cifar10"
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    binary = ("cifar-10-batches-bin", "cifar-10-binary.tar.gz")
    python = ("cifar-10-batches-py", "cifar-10-python.tar.gz")
    source = Source(
        "cifar-10-binary.tar.gz",
        "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset/cifar10/cifar-10-binary.tar.gz",
        "fab780a1e191a7eda0f345501ccd62d20f7ed891",
    )

    def _binary_files(self, training: bool) -> tuple[str, ...]:
        return tuple(f"{name}.bin" for name in self._python_files(training))

    def _python_files(self, training: bool) -> tuple[str, ...]:
        return tuple(f"data_batch_{number}" for number in range(1, 6)) if training else ("test_batch",)

    def _label_column(self) -> tuple[int, int]:
        return 0, 1

    def _label_key(self) -> str:
        return "labels"


# fmt: off
FINE_CLASSES: tuple[str, ...] = (
    "apple", "aquarium_fish", "baby", "bear", "beaver", "bed", "bee", "beetle", "bicycle", "bottle", "bowl", "boy",
    "bridge", "bus", "butterfly", "camel", "can", "castle", "caterpillar", "cattle", "chair", "chimpanzee", "clock",
    "cloud", "cockroach", "couch", "crab", "crocodile", "cup", "dinosaur", "dolphin", "elephant", "flatfish", "forest",
    "fox", "girl", "hamster", "house", "kangaroo", "keyboard", "lamp", "lawn_mower", "leopard", "lion", "lizard",
    "lobster", "man", "maple_tree", "motorcycle", "mountain", "mouse", "mushroom", "oak_tree", "orange", "orchid",
    "otter", "palm_tree", "pear", "pickup_truck", "pine_tree", "plain", "plate", "poppy", "porcupine", "possum",
    "rabbit", "raccoon", "ray", "road", "rocket", "rose", "sea", "seal", "shark", "shrew", "skunk", "skyscraper",
    "snail", "snake", "spider", "squirrel", "streetcar", "sunflower", "sweet_pepper", "table", "tank", "telephone",
    "television", "tiger", "tractor", "train", "trout", "tulip", "turtle", "wardrobe", "whale", "willow_tree", "wolf",
    "woman", "worm",
)
COARSE_CLASSES: tuple[str, ...] = (
    "aquatic_mammals", "fish", "flowers", "food_containers", "fruit_and_vegetables", "household_electrical_devices",
    "household_furniture", "insects", "large_carnivores", "large_man-made_outdoor_things",
    "large_natural_outdoor_scenes", "large_omnivores_and_herbivores", "medium_mammals", "non-insect_invertebrates",
    "people", "reptiles", "small_mammals", "trees", "vehicles_1", "vehicles_2",
)
# fmt: on


class CIFAR100(_CIFAR):
    """60,000 colour pictures of 32x32 in 100 classes, which form 20 coarse ones.

    Args:
        split: "train" (50,000) or "test" (10,000).
        root: as for ``CIFAR10``; the folder is ``cifar100``.
        coarse: label with the 20 coarse classes.
        download: fetch the binary archive when it is missing.

    Raises:
        DataError: the files are damaged, or missing while ``download`` is off.
        DownloadError: the files are missing and could not be fetched.
    """

    title = "CIFAR-100"
    folder = "cifar100"
    classes = FINE_CLASSES
    binary = ("cifar-100-binary", "cifar-100-binary.tar.gz")
    python = ("cifar-100-python", "cifar-100-python.tar.gz")
    source = Source(
        "cifar-100-binary.tar.gz",
        "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset/cifar100/cifar-100-binary.tar.gz",
        "a0bb982c76b83111308126cc779a992fa506b90b",
    )

    def __init__(
        self,
        split: str = "train",
        root: str | os.PathLike[str] | None = None,
        *,
        coarse: bool = False,
        download: bool = True,
    ) -> None:
        self._coarse = coarse
        self.classes = COARSE_CLASSES if coarse else FINE_CLASSES
        super().__init__(split, root, download=download)

    def _binary_files(self, training: bool) -> tuple[str, ...]:
        return ("train.bin",) if training else ("test.bin",)

    def _python_files(self, training: bool) -> tuple[str, ...]:
        return ("train",) if training else ("test",)

    def _label_column(self) -> tuple[int, int]:
        return (0 if self._coarse else 1), 2

    def _label_key(self) -> str:
        return "coarse_labels" if self._coarse else "fine_labels"


def _rows_to_images(rows: np.ndarray) -> np.ndarray:
    """(count, 3072) planes of red, green and blue as (count, 32, 32, 3)."""
    return np.ascontiguousarray(rows.reshape(-1, 3, SIDE, SIDE).transpose(0, 2, 3, 1))


def _read_file(path: Path) -> bytes:
    try:
        if path.stat().st_size > LARGEST_BATCH:
            raise DataError(f"{path} is too large to be a batch of CIFAR: {path.stat().st_size} bytes.")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error}.") from error


def _read_members(archive: Path, names: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """The files ``names`` of an archive, in that order, wherever in it they lie."""
    contents: dict[str, bytes] = {}
    with contextlib.closing(tar_files(archive)) as files:
        for file in files:
            name = PurePosixPath(file.name).name
            if name not in names or name in contents:
                continue
            if file.size > LARGEST_BATCH:
                raise DataError(f"{archive}: {file.name} is too large to be a batch: {file.size} bytes.")
            contents[name] = file.read()
            if len(contents) == len(names):
                break
    lacking = [name for name in names if name not in contents]
    if lacking:
        raise DataError(f"{archive} is not the official archive: it lacks {', '.join(lacking)}.")
    for name in names:
        yield f"{archive}: {name}", contents[name]

"""A folder of class folders: everybody's own data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from glueball.data.images import EncodedImage, decode
from glueball.errors import DataError, OptionError

from .common import TEST_NAMES, TRAIN_NAMES, ImageClassificationDataset, stratified_split
from .pictures import PictureFiles, picture_files

SPLITS = ("train", "val", "test", "all")


class ImageFolder(ImageClassificationDataset):
    """Pictures whose class is the name of the folder they lie in, decoded at each access.

    Two forms are understood, on the disk or in an uncompressed .tar file::

        root/cat/1.jpg  root/dog/2.png                      one folder: split here
        root/train/cat/1.jpg  root/val/cat/2.jpg            ready-made parts (val, valid, validation, test)

    Without a ready-made held-out part, ``val_fraction`` of every class is held out, chosen by a hash of the file names
    (see ``stratified_split``): the same files always fall on the same side. ``summary`` says which of it happened.
    Folders inside a class folder belong to that class.

    Args:
        root: the folder or .tar file.
        split: "train", "val" (also "test"), or "all": every picture of a folder that is not divided.
        val_fraction: held out of every class where the folder does not decide.
        seed: of that split.
        classes: class names in the order of the labels; default: the folder names, sorted. A folder that is not among
            them is an error; a class without a folder is not, so that a model can be evaluated on some of its classes.
        decode: False gives ``glueball.data.images.EncodedImage``, which resizing and cropping transforms decode at the
            scale they need: faster for pictures at least twice as large as the network's input.

    Raises:
        DataError: there is no such folder, no picture in it, an empty class folder, or a class that is not known.
        OptionError: the split is unknown.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        val_fraction: float = 0.2,
        seed: int = 0,
        classes: Sequence[str] | None = None,
        decode: bool = True,
    ) -> None:
        self._decode = decode
        if split not in SPLITS and split not in TRAIN_NAMES + TEST_NAMES:
            raise OptionError(f"Unknown split. Expected one of {', '.join(SPLITS)}. Received: split={split!r}.")
        self.root = Path(root).expanduser()
        self._files: PictureFiles = picture_files(self.root)
        if not self._files.names:
            raise DataError(
                f"{self.root} holds no pictures. Expected class folders with pictures in them "
                f"({self.root.name}/<class>/<picture>.jpg), or train and val folders of such."
            )
        names, training, how = self._choose(split, val_fraction, seed)
        self.names = names
        """Paths of the pictures below ``root``, in order."""
        found = [_class_of(name, training) for name in names]
        self.classes = tuple(self._class_names(training)) if classes is None else tuple(classes)
        index = {name: label for label, name in enumerate(self.classes)}
        unknown = sorted(set(found) - set(index))
        if unknown:
            raise DataError(
                f"{self.root} has class folders that are not known: {_listed(unknown)}. "
                f"Expected some of: {_listed(list(self.classes))}. Rename or remove them."
            )
        self._labels = np.array([index[name] for name in found], dtype=np.int64)
        self.summary = how

    def image(self, index: int) -> Any:
        """The picture, decoded unless the data set was told otherwise.

        Raises:
            DataError: it is damaged, no picture, or too large; the message names the file.
        """
        content, name = self._files.read(self.names[index]), self.describe(index)
        return decode(content, name=name) if self._decode else EncodedImage(content, name)

    def describe(self, index: int) -> str:
        """Where the picture lies."""
        return f"{self.root}{':' if self.root.is_file() else '/'}{self.names[index]}"

    def _choose(self, split: str, fraction: float, seed: int) -> tuple[list[str], str, str]:
        """The chosen names, the name of the training folder ("" where there is none), and how they were chosen."""
        names = self._files.names
        base = _common_folder(names)
        if base:
            # A .tar file usually holds one folder with everything in it.
            names = [name for name in names if name.startswith(base)]
        tops = {PurePosixPath(name[len(base) :]).parts[0] for name in names if "/" in name[len(base) :]}
        training = next((base + top for top in TRAIN_NAMES if top in tops), "")
        held_out = next((base + top for top in (_first(split), *TEST_NAMES) if top in tops), "")
        is_training = split in TRAIN_NAMES
        # Class folders may be called "test" or "train"; only the two together, or "train" alone, are parts.
        if training and (held_out or len(tops) == 1):
            self._check_empty(training)
            if split == "all":
                raise OptionError(
                    f'{self.root} is divided into {", ".join(sorted(tops))} already. Expected split="train" or "val". '
                    'Received: split="all".'
                )
            if held_out:
                self._check_empty(held_out)
                part = training if is_training else held_out
                chosen = [name for name in names if name.startswith(part + "/")]
                return chosen, training if is_training else held_out, f"the folder {part} of {self.root}"
            names = [name for name in names if name.startswith(training + "/")]
            where = f"the folder {training} of {self.root}, which has no val folder beside it"
        else:
            training = base.rstrip("/")
            self._check_empty(training)
            where = f"{self.root}, which is not divided"
        if split == "all":
            return names, training, f"all pictures of {self.root}"
        found = [_class_of(name, training) for name in names]
        order = {name: at for at, name in enumerate(sorted(set(found)))}
        labels = np.array([order[name] for name in found])
        prefix = len(training) + 1 if training else 0
        train, test = stratified_split(labels, fraction, seed, [name[prefix:] for name in names])
        kept = train if is_training else test
        how = (
            f"{'training' if is_training else 'held-out'} part of {where}: {fraction:.0%} of every class held out by a "
            f"hash of the file names, seed {seed} ({len(train)} to train on, {len(test)} held out)"
        )
        return [names[at] for at in kept], training, how

    def _class_names(self, part: str) -> list[str]:
        """All classes, also those that the chosen part has no picture of."""
        prefixes = {part}
        parent, _, last = part.rpartition("/")
        if last in TEST_NAMES:
            # Labels of a held-out folder follow the training folder beside it.
            beside = [f"{parent}/{name}" if parent else name for name in TRAIN_NAMES]
            prefixes = {name for name in beside if any(path.startswith(name + "/") for path in self._files.names)}
            prefixes = prefixes or {part}
        found: set[str] = set()
        for prefix in prefixes:
            start = prefix + "/" if prefix else ""
            found.update(_class_of(name, prefix) for name in self._files.names if name.startswith(start))
        return sorted(found)

    def _check_empty(self, part: str) -> None:
        """An empty class folder is a mistake that a shifted label would hide."""
        folder = self.root / part
        if not folder.is_dir():
            return
        filled = {_class_of(name, part) for name in self._files.names if name.startswith(part + "/" if part else "")}
        empty = sorted(
            child.name
            for child in folder.iterdir()
            if child.is_dir() and not child.name.startswith(".") and child.name not in filled
        )
        if empty:
            raise DataError(
                f"Class folders without a picture in {folder}: {_listed(empty)}. Put pictures in them, or remove them."
            )


def _first(split: str) -> str:
    return split if split in TEST_NAMES else TEST_NAMES[1]


def _class_of(name: str, part: str) -> str:
    rest = name[len(part) + 1 :] if part else name
    top, slash, _ = rest.partition("/")
    if not slash:
        raise DataError(
            f"{name} lies beside the class folders, not in one. Expected <class>/<picture>. Move it into the folder of "
            "its class."
        )
    return top


def _common_folder(names: Sequence[str]) -> str:
    """The folder that everything lies in, with its slash, where there is more than one folder inside it; or ""."""
    tops = {name.partition("/")[0] for name in names}
    if len(tops) != 1 or not all(name.count("/") >= 2 for name in names):
        return ""
    top = tops.pop()
    return "" if top in TRAIN_NAMES else top + "/"


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"

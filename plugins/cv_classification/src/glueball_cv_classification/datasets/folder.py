"""A folder of class folders: everybody's own data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glueball.data.images import EncodedImage, decode
from glueball.errors import DataError, OptionError

from .common import ImageClassificationDataset, stratified_split
from .layout import ALL, TEST, TRAIN, VALIDATION, find_layout, part_of_split
from .pictures import PictureFiles, picture_files


class ImageFolder(ImageClassificationDataset):
    """Pictures whose class is the name of the folder they lie in, decoded at each access.

    Two forms are understood, on the disk or in an uncompressed .tar file::

        root/cat/1.jpg  root/dog/2.png                      one folder: split here
        root/train/cat/1.jpg  root/val/cat/2.jpg            ready-made parts, also called training, valid, validation,
                                                            eval and test, in small letters or capitals

    Without a ready-made held-out part, ``val_fraction`` of every class is held out, chosen by a hash of the file names
    (see ``stratified_split``): the same files always fall on the same side. ``summary`` says which of it happened.
    Folders inside a class folder belong to that class; a lone folder around everything is passed through.

    Args:
        root: the folder or .tar file.
        split: "train", "val" or "test" (each of these two stands in for the other where only one is there), or "all":
            every picture of a folder that is not divided.
        val_fraction: held out of every class where the folder does not decide; None holds nothing out, so that every
            split of a folder that is not divided is the whole of it.
        seed: of that split.
        classes: class names in the order of the labels; default: the folder names, sorted. A folder that is not among
            them is an error; a class without a folder is not, so that a model can be evaluated on some of its classes.
        decode: False gives ``glueball.data.images.EncodedImage``, which resizing and cropping transforms decode at the
            scale they need: faster for pictures at least twice as large as the network's input.

    Raises:
        DataError: there is no such folder, no picture in it, an empty class folder or part, a single class, a class
            that is not known, or no training part where one is asked for.
        OptionError: the split is unknown, or "all" of a folder that is divided.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "train",
        *,
        val_fraction: float | None = 0.2,
        seed: int = 0,
        classes: Sequence[str] | None = None,
        decode: bool = True,
    ) -> None:
        self._decode = decode
        part = part_of_split(split)
        self.root = Path(root).expanduser()
        self._files: PictureFiles = picture_files(self.root)
        if not self._files.names:
            raise DataError(
                f"{self.root} holds no pictures. Expected class folders with pictures in them "
                f"({self.root.name}/<class>/<picture>.jpg), or train and val folders of such."
            )
        self._layout = find_layout(self._files, classes or ())
        folder = self._folder_of(part)
        # Labels of a held-out folder follow the training folder beside it.
        parts = self._layout.parts
        numbered_by = [parts[TRAIN]] if TRAIN in parts else list(parts.values()) or [folder]
        for each in {folder, *numbered_by}:
            self._check_empty(each)
        self.classes = self._class_names(numbered_by) if classes is None else tuple(classes)
        everything = self._below(folder)
        found = [_class_of(name, folder) for name in everything]
        index = {name: label for label, name in enumerate(self.classes)}
        unknown = sorted(set(found) - set(index))
        if unknown:
            raise DataError(
                f"{self.root} has class folders that are not known: {_listed(unknown)}. "
                f"Expected some of: {_listed(list(self.classes))}. Rename or remove them."
            )
        labels = np.array([index[name] for name in found], dtype=np.int64)
        chosen, self.summary = self._choose(part, folder, everything, labels, val_fraction, seed)
        self.names = [everything[at] for at in chosen]
        """Paths of the pictures below ``root``, in order."""
        self._labels = labels[chosen]

    def image(self, index: int) -> Any:
        """The picture, decoded unless the data set was told otherwise.

        Raises:
            DataError: it is damaged, no picture, or too large; the message names the file.
        """
        content, name = self._files.read(self.names[index]), self.describe(index)
        return decode(content, name=name) if self._decode else EncodedImage(content, name)

    def describe(self, index: int) -> str:
        """Where the picture lies."""
        return self._place(self.names[index])

    def _place(self, name: str) -> str:
        return f"{self.root}{':' if self.root.is_file() else '/'}{name}" if name else str(self.root)

    def _below(self, folder: str) -> list[str]:
        return [name for name in self._files.names if name.startswith(folder + "/")] if folder else self._files.names

    def _folder_of(self, part: str) -> str:
        """The folder in which the class folders of a part lie, relative to the root."""
        layout = self._layout
        if not layout.parts:
            return layout.base
        shown = ", ".join(sorted(folder.rpartition("/")[2] for folder in layout.parts.values()))
        if part == ALL and len(layout.parts) > 1:
            raise OptionError(
                f'{self.root} is divided into {shown} already. Expected split="train" or "val". Received: split="all".'
            )
        if part == ALL:
            return next(iter(layout.parts.values()))
        if part == TRAIN and TRAIN not in layout.parts:
            first = self.root / layout.parts[layout.held_out[0]]
            raise DataError(
                f"{self.root} has no part to train on. Expected class folders, or a folder train of such. Received: "
                f"{shown}. Add train beside it{f', or name {first} itself as the data' if first.is_dir() else ''}."
            )
        if part == TRAIN or not layout.held_out:
            return layout.parts[TRAIN]
        return layout.parts[part if part in layout.held_out else layout.held_out[0]]

    def _choose(
        self, part: str, folder: str, names: Sequence[str], labels: np.ndarray, fraction: float | None, seed: int
    ) -> tuple[np.ndarray, str]:
        """Positions of the chosen pictures among those of ``folder``, and how they were chosen."""
        layout, place = self._layout, self._place(folder)
        beside = f"; not used: {', '.join(layout.left_out)}" if layout.left_out else ""
        everything = np.arange(len(names))
        if layout.held_out and len(layout.parts) > 1:
            return everything, f"the folder {folder} of {self.root}{beside}"
        if layout.held_out or fraction is None or part == ALL:
            return everything, f"every picture of {place}{beside}"
        # Relative to the class folders, so that the split does not depend on where they lie.
        below = [name[len(folder) + 1 if folder else 0 :] for name in names]
        train, held_out = stratified_split(labels, fraction, seed, below)
        whole = sorted(set(labels[train].tolist()) - set(labels[held_out].tolist()))
        sentence = (
            f"{'training' if part == TRAIN else 'held-out'} part of {place}, which "
            f"{'has no val folder beside it' if layout.parts else 'is not divided'}: {fraction:.0%} of every class "
            f"held out by a hash of the file names, seed {seed} ({len(train)} to train on, {len(held_out)} held out)"
        )
        if whole:
            sentence += f"; nothing held out of {_listed([self.classes[at] for at in whole])}, with one picture each"
        return train if part == TRAIN else held_out, sentence + beside

    def _class_names(self, folders: Sequence[str]) -> tuple[str, ...]:
        """The folder names as classes, sorted.

        Raises:
            DataError: there is only one, and then there is nothing to tell apart.
        """
        names = sorted({_class_of(name, folder) for folder in folders for name in self._below(folder)})
        if len(names) < 2:
            raise DataError(
                f"{self._place(folders[0])} holds a single class: {_listed(names)}. Expected at least two class "
                "folders with pictures in them (<class>/<picture>.jpg). Name the folder whose folders are the classes."
            )
        return tuple(names)

    def _check_empty(self, part: str) -> None:
        """An empty class folder is a mistake that a shifted label would hide."""
        prefix = part + "/" if part else ""
        filled = {_class_of(name, part) for name in self._below(part)}
        below = {folder[len(prefix) :] for folder in self._files.folders if folder.startswith(prefix)}
        empty = sorted(folder for folder in below if "/" not in folder and folder not in filled)
        if empty:
            raise DataError(
                f"Class folders without a picture in {self._place(part)}: {_listed(empty)}. Put pictures in them, or "
                "remove them."
            )


def has_test_part(root: str | os.PathLike[str]) -> bool:
    """Whether a folder or .tar file holds a test part besides one to train on and one to validate on.

    Data that cannot be used have none; what is wrong with them is said where they are opened.
    """
    try:
        return {TRAIN, VALIDATION, TEST} <= find_layout(picture_files(root)).parts.keys()
    except DataError:
        return False


def _class_of(name: str, part: str) -> str:
    rest = name[len(part) + 1 :] if part else name
    top, slash, _ = rest.partition("/")
    if not slash:
        raise DataError(
            f"{name} lies beside the class folders, not in one. Expected <class>/<picture>. Move it into the folder of "
            "its class."
        )
    return top


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:10])
    return shown if len(names) <= 10 else f"{shown} and {len(names) - 10} more"

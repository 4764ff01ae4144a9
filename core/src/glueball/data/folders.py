"""Pictures in files: a folder of class folders, or a list of paths and labels."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glueball.data import images
from glueball.data.dataset import Dataset
from glueball.errors import DataError, OptionError


class ImageFileDataset(Dataset):
    """Pictures by path: samples (picture, label); the base of the datasets below.

    Args:
        items: (path, label) of each sample.
        classes: the names of the classes, where labels are classes.
        decode: False gives ``images.EncodedImage`` instead of arrays, which resizing and cropping transforms decode at
            the scale they need: faster for pictures of twice the size a network takes, and more.
    """

    def __init__(
        self, items: Sequence[tuple[str, Any]], classes: Sequence[str] | None = None, *, decode: bool = True
    ) -> None:
        self.items = list(items)
        self.classes = list(classes) if classes is not None else None
        self._decode = decode

    def __getitem__(self, index: int) -> Any:
        path, label = self.items[index]
        return (images.decode(path) if self._decode else images.EncodedImage.read(path)), label

    def __len__(self) -> int:
        return len(self.items)

    def describe(self, index: int) -> str:
        return self.items[index][0]

    def labels(self) -> np.ndarray | None:
        labels = np.array([label for _, label in self.items])
        return labels if labels.ndim == 1 and labels.dtype.kind in "iu" else None


def _find_pictures(folder: Path, suffixes: Sequence[str], follow_links: bool) -> Iterator[str]:
    """Paths of pictures under ``folder``, at any depth, sorted; hidden files and folders are left out."""
    seen = {os.path.realpath(folder)}
    for root, folders, files in os.walk(folder, followlinks=follow_links):
        kept = []
        for name in sorted(folders):
            # A link may lead back up, and then the walk would never end.
            real = os.path.realpath(os.path.join(root, name))
            if not name.startswith(".") and real not in seen:
                seen.add(real)
                kept.append(name)
        folders[:] = kept
        for name in sorted(files):
            if not name.startswith(".") and name.lower().endswith(tuple(suffixes)):
                yield os.path.join(root, name)


class ImageFolderDataset(ImageFileDataset):
    """A folder that holds one folder of pictures for each class: samples (picture, class number).

    Classes are numbered in the sorted order of their folders' names. Pictures may lie at any depth below. Hidden files
    and folders are left out.

    Args:
        root: the folder.
        classes: the classes to number by, where another folder (the training pictures) has settled them; a folder of
            another name is an error, and a class without a folder has no samples.
        suffixes: which files are pictures.
        follow_links: whether to go into folders that are links.
        allow_empty: whether a class may have no picture.
        decode: see ``ImageFileDataset``.

    Raises:
        DataError: the folder is missing or has no class folders, a class has no pictures, or is not in ``classes``.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        classes: Sequence[str] | None = None,
        suffixes: Sequence[str] = images.IMAGE_SUFFIXES,
        follow_links: bool = True,
        allow_empty: bool = False,
        decode: bool = True,
    ) -> None:
        self.root = Path(root)
        suffixes = [suffix.lower() for suffix in suffixes]
        if not self.root.is_dir():
            what = "is a file" if self.root.exists() else "does not exist"
            raise DataError(f"{self.root} {what}; expected a folder with one folder of pictures for each class.")
        folders = sorted(
            entry.name
            for entry in os.scandir(self.root)
            if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=follow_links)
        )
        if not folders:
            loose = sum(1 for _ in _find_pictures(self.root, suffixes, False))
            hint = f" It holds {loose} pictures directly; move each into the folder of its class." if loose else ""
            raise DataError(
                f"{self.root} holds no class folders; expected one folder of pictures for each class.{hint}"
            )
        names = list(classes) if classes is not None else folders
        unknown = sorted(set(folders) - set(names))
        if unknown:
            raise DataError(f"{self.root} holds folders that are no known class: {unknown}. The classes are {names}.")
        items: list[tuple[str, Any]] = []
        empty: list[str] = []
        for label, name in enumerate(names):
            before = len(items)
            if name in folders:
                items.extend((path, label) for path in _find_pictures(self.root / name, suffixes, follow_links))
                if len(items) == before:
                    empty.append(name)
        if empty and (not allow_empty or not items):
            raise DataError(
                f"{self.root}: no pictures ({' '.join(suffixes)}) in the folders of these classes: {empty}. Remove the "
                "folders, or pass allow_empty=True."
            )
        super().__init__(items, names, decode=decode)


class ImageListDataset(ImageFileDataset):
    """Pictures listed in a file: samples (picture, label).

    ``.lst`` is im2rec's list: number, one or more labels, path, separated by tabs. ``.csv`` and ``.tsv`` have a first
    line that names the columns. Labels that are integers are class numbers; other words are classes, numbered in sorted
    order; several labels of a .lst are a float32 vector.

    Args:
        path: the list.
        root: the folder that the paths in it start from; default: the list's own.
        path_column, label_column: columns of a .csv or .tsv; default: path, image, file or filename; label, class or
            category.
        classes: the names of the classes by which words are numbered.
        decode: see ``ImageFileDataset``.

    Raises:
        DataError: the list cannot be read, is empty, or a line does not have what is needed.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        root: str | os.PathLike[str] | None = None,
        *,
        path_column: str | None = None,
        label_column: str | None = None,
        classes: Sequence[str] | None = None,
        decode: bool = True,
    ) -> None:
        self.path = Path(path)
        self.root = Path(root) if root is not None else self.path.parent
        try:
            with open(self.path, encoding="utf-8-sig", newline="") as file:
                lines = file.read().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{self.path}: the list cannot be read: {error}.") from error
        suffix = self.path.suffix.lower()
        if suffix == ".lst":
            rows = self._read_lst(lines)
        elif suffix in (".csv", ".tsv"):
            rows = self._read_table(lines, "," if suffix == ".csv" else "\t", path_column, label_column)
        else:
            raise OptionError(f"{self.path}: a list of pictures is a .lst, .csv or .tsv file.")
        if not rows:
            raise DataError(f"{self.path}: the list names no picture.")
        names = list(classes) if classes is not None else None
        labels = [label for _, label in rows]
        if all(isinstance(label, str) for label in labels):
            labels, names = self._number(labels, names)
        super().__init__(
            [(os.path.join(self.root, name), label) for (name, _), label in zip(rows, labels, strict=True)],
            names,
            decode=decode,
        )

    def _read_lst(self, lines: list[str]) -> list[tuple[str, Any]]:
        rows: list[tuple[str, Any]] = []
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            words = line.split("\t")
            try:
                with np.errstate(over="ignore"):
                    values = np.array([float(word) for word in words[1:-1]]).astype(np.float32)
            except ValueError:
                values = np.empty(0, np.float32)
            if len(values) == 0 or not np.isfinite(values).all() or not words[-1].strip():
                raise DataError(
                    f"{self.path}, line {number}: expected number, label and path, separated by tabs, and finite "
                    f"labels. Received: {line[:80]!r}."
                )
            single = len(values) == 1
            whole = single and float(values[0]).is_integer()
            if rows and np.size(rows[0][1]) != len(values):
                raise DataError(
                    f"{self.path}, line {number}: expected as many labels as on the lines before, "
                    f"{np.size(rows[0][1])}. Received: {len(values)}."
                )
            rows.append((words[-1].strip(), int(values[0]) if whole else values[0] if single else values))
        return rows

    def _read_table(
        self, lines: list[str], delimiter: str, path_column: str | None, label_column: str | None
    ) -> list[tuple[str, Any]]:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        try:
            table = [(reader.line_num, row) for row in reader if row]
        except csv.Error as error:
            raise DataError(f"{self.path}, line {reader.line_num}: {error}.") from error
        if not table:
            return []
        header = [name.strip() for name in table[0][1]]
        places = [
            self._column(header, path_column, ("path", "image", "file", "filename"), "path_column"),
            self._column(header, label_column, ("label", "class", "category"), "label_column"),
        ]
        rows: list[tuple[str, Any]] = []
        for number, row in table[1:]:
            if len(row) != len(header):
                raise DataError(f"{self.path}, line {number}: expected {len(header)} columns. Received: {len(row)}.")
            name, label = (row[place].strip() for place in places)
            if not name or not label:
                raise DataError(f"{self.path}, line {number}: the path or the label is empty.")
            rows.append((name, label))
        return rows

    def _column(self, header: list[str], wanted: str | None, usual: Sequence[str], option: str) -> int:
        lowered = [name.lower() for name in header]
        for name in (wanted.lower(),) if wanted is not None else usual:
            if name in lowered:
                return lowered.index(name)
        raise DataError(
            f"{self.path}: the first line names no column {wanted or ' or '.join(usual)}; it has {header}. Name the "
            f"column with {option}."
        )

    def _number(self, labels: list[str], names: list[str] | None) -> tuple[list[int], list[str] | None]:
        # Longer ones are names that happen to be of digits; they would not fit 64 bits.
        if names is None and all(label.isdecimal() and len(label) <= 18 for label in labels):
            return [int(label) for label in labels], None
        names = sorted(set(labels)) if names is None else names
        numbers = {name: number for number, name in enumerate(names)}
        unknown = sorted(set(labels) - set(names))
        if unknown:
            raise DataError(f"{self.path}: labels that are no known class: {unknown[:10]}. The classes are {names}.")
        return [numbers[label] for label in labels], names

"""Folders and archives seen alike: names of files, and their content in memory.

An archive is never unpacked, so no name in it can lead anywhere; links and special files in it do not exist here. What
an archive says about sizes is not trusted: reading stops at a limit that follows from the archive's own size.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from glueball.archives import ZipArchive, tar_files
from glueball.errors import DataError

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ARCHIVE_SUFFIXES = (".zip", *TAR_SUFFIXES)


class Tree:
    """Files below one place. Names are relative, with slashes, in the place's own spelling."""

    place: str
    """The folder or archive, for messages."""

    def names(self) -> list[str]:
        """The names of all plain files, sorted."""
        raise NotImplementedError

    def open(self, name: str) -> BinaryIO:
        """The content of one file as a stream.

        Raises:
            DataError: it is damaged, encrypted, or larger than it can honestly be.
        """
        raise NotImplementedError

    def read_all(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        """The content of several files, in the order that suits the place, in one pass."""
        for name in names:
            yield name, self.read(name)

    def read(self, name: str) -> bytes:
        """The content of one file."""
        with self.open(name) as file:
            return file.read()

    def describe(self, name: str) -> str:
        """A file's place, for messages."""
        return f"{self.place}: {name}"

    def find(self, *endings: str) -> str | None:
        """The file whose name is one of ``endings``, or ends in one after a slash; None if there is none.

        The first ending that is there wins.

        Raises:
            DataError: several files fit one ending.
        """
        names = self.names()
        for ending in endings:
            found = [name for name in names if name == ending or name.endswith("/" + ending)]
            if len(found) > 1:
                raise DataError(
                    f"{self.place} holds {len(found)} files called {ending}, expected 1. Received: {found[:5]}. Name "
                    "the folder of the right one."
                )
            if found:
                return found[0]
        return None


class FolderTree(Tree):
    """A folder on the disk.

    Args:
        folder: where it is.
        deep: whether folders inside it belong to it.
    """

    def __init__(self, folder: Path, deep: bool = True) -> None:
        self.folder = folder
        self.place = os.fspath(folder)
        self._deep = deep
        self._names: list[str] | None = None

    def names(self) -> list[str]:
        if self._names is None:
            found: list[str] = []
            for parent, folders, files in os.walk(self.folder):
                inner = PurePosixPath(Path(parent).relative_to(self.folder).as_posix())
                found.extend((inner / file).as_posix() for file in files)
                if not self._deep:
                    folders.clear()
            self._names = sorted(name for name in found if (self.folder / name).is_file())
        return self._names

    def open(self, name: str) -> BinaryIO:
        try:
            return open(self.folder / name, "rb")
        except OSError as error:
            raise DataError(f"{self.folder / name} cannot be read: {error}.") from error

    def describe(self, name: str) -> str:
        return os.fspath(self.folder / name)


class ZipTree(Tree):
    """A zip archive."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = os.fspath(path)
        with ZipArchive(path) as archive:
            archive.check_total()
            self._names = sorted(archive.members)

    def names(self) -> list[str]:
        return self._names

    def open(self, name: str) -> BinaryIO:
        return io.BytesIO(self.read(name))

    def read(self, name: str) -> bytes:
        with ZipArchive(self.path) as archive:
            return archive.read(name)

    def read_all(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        # One opening for all: reading the directory of an archive of 2,000 files takes longer than a file.
        with ZipArchive(self.path) as archive:
            left = archive.limit
            for name in names:
                content = archive.read(name, left)
                left -= len(content)
                yield name, content


class TarTree(Tree):
    """A tar archive, compressed or not. Opening one file of a compressed archive reads all before it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = os.fspath(path)
        self._names = sorted(file.name for file in tar_files(path))
        if len(set(self._names)) != len(self._names):
            raise DataError(f"{self.place} holds two files of one name. Get the file again.")

    def names(self) -> list[str]:
        return self._names

    def open(self, name: str) -> BinaryIO:
        (content,) = (content for _, content in self.read_all([name]))
        return io.BytesIO(content)

    def read_all(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        wanted = set(names)
        with contextlib.closing(tar_files(self.path)) as files:
            for file in files:
                if file.name in wanted:
                    yield file.name, file.read()


def open_tree(path: Path) -> Tree:
    """The folder or archive at ``path``.

    Raises:
        DataError: it is neither, or damaged.
    """
    if path.is_dir():
        return FolderTree(path)
    name = path.name.lower()
    if name.endswith(".zip"):
        return ZipTree(path)
    if name.endswith(TAR_SUFFIXES):
        return TarTree(path)
    raise DataError(f"{path} is neither a folder nor an archive. Expected one of: {', '.join(ARCHIVE_SUFFIXES)}.")

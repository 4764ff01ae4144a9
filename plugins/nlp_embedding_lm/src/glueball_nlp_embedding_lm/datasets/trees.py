"""Folders and archives seen alike: names of files, and their content in memory.

An archive is never unpacked, so no name in it can lead anywhere; links and special files in it do not exist here. What
an archive says about sizes is not trusted: reading stops at a limit that follows from the archive's own size.
"""

from __future__ import annotations

import gzip
import io
import os
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from glueball.errors import DataError

_LARGEST = 16 << 30
# Text compresses 3 to 10 times; what unpacks to 100 times its size is a bomb, unless it is small all the same.
_LARGEST_RATIO = 100
_SMALL = 64 << 20

TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz")
ARCHIVE_SUFFIXES = (".zip", *TAR_SUFFIXES)

_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, gzip.BadGzipFile, EOFError, NotImplementedError)


def unpacked_limit(path: Path) -> int:
    """How many bytes may come out of a compressed file, in all."""
    return min(_LARGEST, max(_SMALL, _LARGEST_RATIO * os.path.getsize(path)))


class BoundedReader(io.RawIOBase):
    """Reads ``source`` up to ``limit`` bytes; damage and excess are told as what they are.

    Raises:
        DataError: more than ``limit`` bytes came, or the compressed content is damaged.
    """

    def __init__(self, source: BinaryIO, limit: int, place: str) -> None:
        self._source = source
        self._left = limit
        self._limit = limit
        self._place = place

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            content = self._source.read(len(buffer))
        except (*_DAMAGED, OSError) as error:
            raise damaged(self._place, error) from error
        self._left -= len(content)
        if self._left < 0:
            raise DataError(
                f"{self._place} unpacks to more than {self._limit} bytes: it looks like a decompression bomb and is "
                "not read. Unpack it by hand if it is right."
            )
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()


def damaged(place: str, error: BaseException) -> DataError:
    """The error for compressed content that cannot be read."""
    return DataError(f"{place} is not what its name says or is damaged ({error}). Get the file again.")


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
        try:
            with zipfile.ZipFile(path) as opened:
                infos = opened.infolist()
        except (*_DAMAGED, OSError, ValueError) as error:
            raise damaged(self.place, error) from error
        self._members: dict[str, zipfile.ZipInfo] = {}
        for info in infos:
            mode = info.external_attr >> 16
            if info.is_dir() or (stat.S_IFMT(mode) and not stat.S_ISREG(mode)):
                continue
            if info.filename in self._members:
                raise DataError(f"{self.place} holds {info.filename} twice. Get the file again.")
            self._members[info.filename] = info
        limit = unpacked_limit(path)
        if sum(info.file_size for info in self._members.values()) > limit:
            raise DataError(
                f"{self.place} would unpack to more than {limit} bytes: it looks like a decompression bomb and is not "
                "read. Unpack it by hand if it is right."
            )
        self._limit = limit

    def names(self) -> list[str]:
        return sorted(self._members)

    def open(self, name: str) -> BinaryIO:
        archive = zipfile.ZipFile(self.path)
        return cast(BinaryIO, io.BufferedReader(_ZipMember(archive, self._open(archive, name), self, name)))

    def _open(self, archive: zipfile.ZipFile, name: str) -> BinaryIO:
        if self._members[name].flag_bits & 0x1:
            archive.close()
            raise DataError(f"{self.describe(name)} is encrypted, expected a plain file.")
        try:
            return cast(BinaryIO, archive.open(name))
        except (*_DAMAGED, OSError, KeyError, RuntimeError) as error:
            archive.close()
            raise damaged(self.describe(name), error) from error

    @property
    def limit(self) -> int:
        """How many bytes may come out."""
        return self._limit

    def read_all(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        # One opening for all: reading the directory of an archive of 2,000 files takes longer than a file.
        with zipfile.ZipFile(self.path) as archive:
            left = self._limit
            for name in names:
                with io.BufferedReader(BoundedReader(self._open(archive, name), left, self.describe(name))) as file:
                    content = file.read()
                left -= len(content)
                yield name, content


class _ZipMember(BoundedReader):
    """Closes its archive with itself."""

    def __init__(self, archive: zipfile.ZipFile, source: BinaryIO, tree: ZipTree, name: str) -> None:
        super().__init__(source, tree.limit, tree.describe(name))
        self._archive = archive

    def close(self) -> None:
        super().close()
        self._archive.close()


class TarTree(Tree):
    """A tar archive, compressed or not. Opening one file of a compressed archive reads all before it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place = os.fspath(path)
        self._limit = unpacked_limit(path)
        self._names: list[str] = []
        try:
            with tarfile.open(path) as opened:
                position = 0
                for member in opened:
                    position += member.size
                    if position > self._limit:
                        raise DataError(
                            f"{self.place} would unpack to more than {self._limit} bytes: it looks like a "
                            "decompression bomb and is not read. Unpack it by hand if it is right."
                        )
                    if member.isreg():
                        self._names.append(_plain(member.name))
        except (*_DAMAGED, OSError) as error:
            raise damaged(self.place, error) from error
        if len(set(self._names)) != len(self._names):
            raise DataError(f"{self.place} holds two files of one name. Get the file again.")

    def names(self) -> list[str]:
        return sorted(self._names)

    def open(self, name: str) -> BinaryIO:
        (content,) = (content for _, content in self.read_all([name]))
        return io.BytesIO(content)

    def read_all(self, names: Collection[str]) -> Iterator[tuple[str, bytes]]:
        wanted = set(names)
        try:
            with tarfile.open(self.path) as opened:
                for member in opened:
                    name = _plain(member.name)
                    if member.isreg() and name in wanted:
                        source = opened.extractfile(member)
                        assert source is not None
                        yield name, source.read()
        except (*_DAMAGED, OSError) as error:
            raise damaged(self.place, error) from error


def _plain(name: str) -> str:
    """Without the "./" that tar puts first when it packs "."."""
    return name.removeprefix("./")


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

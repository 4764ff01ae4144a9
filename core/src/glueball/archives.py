"""Archives and compressed files, read without trusting what they say about themselves.

Nothing is ever unpacked to the disk under a name from an archive: members are streams, found by their exact names, so
that no name leads anywhere. Links, devices, and sparse files do not exist here. Reading stops at a limit that follows
from the archive's own size, whatever its headers announce. Zip archives may store and deflate; the other methods of
the format are refused, since Python's zipfile expands their blocks without a bound (bzip2) or allocates what a header
asks for (LZMA). Tar archives may be plain or in gzip, bzip2 or xz.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import BinaryIO, cast

import attrs

from glueball.errors import DataError, GlueballError

LARGEST = 16 << 30
"""Most bytes that come out of anything."""
LARGEST_RATIO = 100
"""Text compresses 3 to 10 times, weights hardly; what unpacks to 100 times its size is a bomb."""
SMALL = 1 << 20
"""So much may come out of the smallest file: a short text of few words compresses better than anything long."""

DAMAGE = (
    *(zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError, struct.error),
    *(EOFError, OSError, ValueError, RuntimeError, OverflowError, IndexError, KeyError, AttributeError, TypeError),
)
"""What Python's readers of archives raise when they stumble over what they read (found by fuzzing them)."""

# xz -9 needs 65 MiB to unpack; a header may ask for 4 GiB.
_XZ_MEMORY = 100 << 20
_BUFFER = 1 << 16
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED


def unpacked_limit(packed: int) -> int:
    """How many bytes may come out of a compressed file of ``packed`` bytes, in all."""
    return min(LARGEST, max(SMALL, LARGEST_RATIO * packed))


@contextlib.contextmanager
def damage_told(place: str) -> Iterator[None]:
    """What a damaged archive makes Python's readers raise becomes an error that says so.

    Raises:
        DataError: ``place`` cannot be read.
    """
    try:
        yield
    except GlueballError:
        raise
    except DAMAGE as error:
        reason = getattr(error, "strerror", None) or str(error) or "it ends too early"
        raise DataError(
            f"{place} cannot be read: it is not what its name says, or is cut short or damaged ({reason}). Get "
            "the file again."
        ) from error


class BoundedReader(io.RawIOBase):
    """Reads ``source`` up to ``limit`` bytes; damage and excess are told as what they are. Closes what it reads.

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
        with damage_told(self._place):
            content = self._source.read(len(buffer))
        self._left -= len(content)
        if self._left < 0:
            raise bomb(self._place, self._limit)
        buffer[: len(content)] = content
        return len(content)

    def close(self) -> None:
        if not self.closed:
            # What a reader has to say about a checksum was said when it was read.
            with contextlib.suppress(*DAMAGE):
                self._source.close()
        super().close()


def bomb(place: str, limit: int) -> DataError:
    """The error for what unpacks to more than it can honestly hold."""
    return DataError(
        f"{place} unpacks to more than {limit:,} bytes: it looks like a decompression bomb and is not read. "
        "Unpack it by hand if it is right."
    )


# ----------------------------------------------------------------------------------------------------------------------
# Compressed files


class _XZ(io.RawIOBase):
    """Unpacks xz within a limit of memory, which ``lzma.LZMAFile`` does not offer."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        while True:
            if self._decompressor.eof:
                self._rest = (self._decompressor.unused_data or self._file.read(_BUFFER)).lstrip(b"\0")
                if not self._rest:
                    return 0
                self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)
            elif self._decompressor.needs_input and not self._rest:
                self._rest = self._file.read(_BUFFER)
                if not self._rest:
                    raise EOFError("the compressed data end early")
            content = self._decompressor.decompress(self._rest, len(buffer))
            self._rest = b""
            if content:
                buffer[: len(content)] = content
                return len(content)


_OPENERS: dict[bytes, Callable[[BinaryIO], object]] = {
    b"\x1f\x8b": lambda file: gzip.GzipFile(fileobj=file),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ\0": lambda file: io.BufferedReader(_XZ(file)),
}


def open_compressed(file: BinaryIO, place: str) -> BinaryIO | None:
    """What is inside of ``file`` if it begins as gzip, bzip2 or xz do, bounded; None for anything else.

    ``file`` is at its beginning and can seek; its size bounds what comes out.

    Raises:
        DataError: from reading: the content is damaged or looks like a bomb.
    """
    start = file.read(6)
    file.seek(0)
    for magic, opener in _OPENERS.items():
        if start.startswith(magic):
            limit = unpacked_limit(_size(file))
            return cast(BinaryIO, io.BufferedReader(BoundedReader(cast(BinaryIO, opener(file)), limit, place), _BUFFER))
    return None


def _size(file: BinaryIO) -> int:
    position = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(position)
    return size


# ----------------------------------------------------------------------------------------------------------------------
# Zip


class ZipArchive:
    """The plain files of a zip archive.

    Args:
        file: its path, or an open file, which is left open.
        place: what errors call it; default: the path.

    Raises:
        DataError: it is no zip archive, damaged, holds one name twice, or announces more than it can honestly hold.
    """

    def __init__(self, file: str | os.PathLike[str] | BinaryIO, place: str | None = None) -> None:
        self.place = place if place is not None else str(file)
        with damage_told(self.place):
            self._archive = zipfile.ZipFile(cast(BinaryIO, file))
        try:
            assert self._archive.fp is not None
            self.packed = _size(cast(BinaryIO, self._archive.fp))
            self.limit = unpacked_limit(self.packed)
            """How many bytes may come out."""
            self.members: dict[str, zipfile.ZipInfo] = {}
            """Name -> what the archive says about the file; folders, links and devices are left out."""
            self._special: set[str] = set()
            for info in self._archive.infolist():
                if not info.filename:
                    raise DataError(f"{self.place} is damaged: it holds a file without a name. Get the file again.")
                mode = info.external_attr >> 16
                if info.is_dir():
                    continue
                if stat.S_IFMT(mode) and not stat.S_ISREG(mode):
                    self._special.add(info.filename)
                    continue
                if info.filename in self.members:
                    raise DataError(f"{self.place} holds {info.filename!r} twice. Get the file again.")
                self.members[info.filename] = info
        except BaseException:
            self._archive.close()
            raise

    def check_total(self) -> None:
        """Refuses an archive of which all files together would unpack to more than the limit.

        Raises:
            DataError: they would.
        """
        if sum(info.file_size for info in self.members.values()) > self.limit:
            raise bomb(self.place, self.limit)

    def open(self, name: str, limit: int | None = None) -> io.BufferedReader:
        """One file as a stream.

        Args:
            name: its whole name.
            limit: most bytes of it; default: the archive's limit.

        Raises:
            DataError: there is no such plain file, it is encrypted or packed in another way, or (from reading) damaged
                or larger than the limit.
        """
        info = self.members.get(name)
        place = f"{self.place}: {name}"
        if info is None and name in self._special:
            raise DataError(f"{place} is a link or another special file, expected a plain file.")
        if info is None:
            raise DataError(f"{self.place} has no plain file {name!r}. Received: {list(self.members)[:5]}.")
        if info.flag_bits & 0x1:
            raise DataError(f"{place} is encrypted, expected a plain file.")
        if info.compress_type not in (_STORED, _DEFLATED):
            method = zipfile.compressor_names.get(info.compress_type, str(info.compress_type))  # type: ignore[attr-defined]
            raise DataError(
                f"{place} is packed with the method {method!r}, expected 'store' or 'deflate'. Pack it anew."
            )
        limit = self.limit if limit is None else limit
        if info.file_size > limit:
            raise bomb(place, limit)
        with damage_told(place):
            source = cast(BinaryIO, self._archive.open(info))
        return io.BufferedReader(BoundedReader(source, limit, place), _BUFFER)

    def read(self, name: str, limit: int | None = None) -> bytes:
        """The content of one file; see ``open``."""
        with self.open(name, limit) as file:
            return file.read()

    def close(self) -> None:
        """Closes the archive."""
        self._archive.close()

    def __enter__(self) -> ZipArchive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# ----------------------------------------------------------------------------------------------------------------------
# Tar


@attrs.frozen(eq=False)
class TarFile:
    """A plain file of a tar archive, while the archive is being walked through."""

    name: str
    """As it is in the archive, without a "./" in front."""
    size: int
    offset: int
    """Where its content begins in the uncompressed archive."""
    _archive: tarfile.TarFile
    _member: tarfile.TarInfo
    _place: str

    def read(self) -> bytes:
        """The content; only before the next file is asked for.

        Raises:
            DataError: the archive is damaged.
        """
        with damage_told(self._place):
            source = self._archive.extractfile(self._member)
            content = b"" if source is None else source.read()
        if len(content) != self.size:
            raise DataError(f"{self._place} is cut short: {self.name} has {len(content)} bytes, expected {self.size}.")
        return content


def _open_tar(file: BinaryIO, unpacked: BinaryIO | None) -> tarfile.TarFile:
    # What comes out of compressed data cannot seek: then the archive is a stream.
    return tarfile.open(fileobj=file, mode="r:") if unpacked is None else tarfile.open(fileobj=file, mode="r|")


def tar_files(
    path: str | os.PathLike[str], folders: list[str] | None = None, *, is_compressed: bool = True
) -> Generator[TarFile, None, None]:
    """The plain files of a tar archive, compressed or not, in their order. Close the iterator if it is not exhausted.

    Args:
        path: the archive.
        folders: gets the names of the folders in it.
        is_compressed: False refuses a compressed one, of which the offsets mean nothing.

    Raises:
        DataError: it is no tar archive, damaged, or announces more than it can honestly hold.
    """
    place = os.fspath(path)
    with contextlib.ExitStack() as stack:
        with damage_told(place):
            file = stack.enter_context(open(path, "rb"))
            unpacked = open_compressed(file, place) if is_compressed else None
            limit = unpacked_limit(_size(file))
            archive = stack.enter_context(
                _open_tar(file if unpacked is None else stack.enter_context(unpacked), unpacked)
            )
        total = 0
        while True:
            with damage_told(place):
                member = archive.next()
            # tarfile keeps every member; 100,000 of them take 100 MB that nobody reads again.
            archive.members = []  # type: ignore[attr-defined]
            if member is None:
                return
            name = member.name.removeprefix("./")
            if folders is not None and member.isdir():
                folders.append(name)
            # A sparse file announces a size that nothing in the archive stands for.
            if not member.isreg() or member.issparse():
                continue
            total += max(member.size, 0)
            if member.size < 0 or total > limit:
                raise bomb(place, limit)
            yield TarFile(name, member.size, member.offset_data, archive, member, place)

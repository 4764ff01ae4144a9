"""Pictures in class folders, on the disk or inside a .tar file that is never unpacked."""

from __future__ import annotations

import os
import threading
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

from glueball.archives import tar_files
from glueball.data.images import IMAGE_SUFFIXES
from glueball.errors import DataError


class PictureFiles(Protocol):
    """Named encoded pictures."""

    place: Path
    names: list[str]
    """Paths below ``place`` with forward slashes, sorted."""
    folders: list[str]
    """The folders below ``place``, those without a picture too, likewise."""

    def read(self, name: str) -> bytes:
        """The content of one of them."""


def picture_files(place: str | os.PathLike[str]) -> PictureFiles:
    """The pictures below a folder or in a .tar file.

    Raises:
        DataError: there is no such folder or file, or it is no tar archive.
    """
    path = Path(place).expanduser()
    if path.is_dir():
        return FolderPictures(path)
    if path.is_file():
        return TarPictures(path)
    raise DataError(f"{path} does not exist. Expected a folder of class folders, or a .tar file of one.")


def is_picture(name: str) -> bool:
    """Whether a name ends like a picture's and neither it nor a folder above it is hidden."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not any(map(is_hidden, name.split("/")))


def is_hidden(name: str) -> bool:
    """Whether a file or folder is none of the user's: macOS leaves "._name" beside files and __MACOSX in archives."""
    return name.startswith(".") or name == "__MACOSX"


class FolderPictures:
    """Pictures below a folder."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.names: list[str] = []
        self.folders: list[str] = []
        for folder, below, files in os.walk(place, followlinks=True):
            below[:] = sorted(name for name in below if not is_hidden(name))
            if len(Path(folder).relative_to(place).parts) > 32:
                raise DataError(f"{folder} lies too deep below {place}: does a link point back to a folder above it?")
            prefix = Path(folder).relative_to(place).as_posix()
            prefix = "" if prefix == "." else prefix + "/"
            self.names.extend(prefix + name for name in files if is_picture(name))
            self.folders.extend(prefix + name for name in below)
        self.names.sort()
        self.folders.sort()

    def read(self, name: str) -> bytes:
        try:
            return (self.place / name).read_bytes()
        except OSError as error:
            raise DataError(f"{self.place / name} cannot be read: {error}.") from error


class TarPictures:
    """Pictures in an uncompressed .tar file, read in place.

    Only regular files count: links and devices in the archive are not followed, and no name of it is ever a path here.
    """

    def __init__(self, place: Path) -> None:
        self.place = place
        self._descriptor = -1
        self._lock = threading.Lock()
        self._where: dict[str, tuple[int, int]] = {}
        folders: list[str] = []
        try:
            for file in tar_files(place, folders, is_compressed=False):
                # Archives name their members "./a/b" as often as "a/b".
                name = PurePosixPath(file.name).as_posix()
                if is_picture(name):
                    self._where[name] = (file.offset, file.size)
        except DataError as error:
            raise DataError(
                f"{place} cannot be read as an uncompressed tar archive: {error} Expected a folder of class folders, "
                "or a .tar file of one (unpack a compressed archive first)."
            ) from error
        self.names = sorted(self._where)
        plain = {PurePosixPath(folder).as_posix() for folder in folders} - {"."}
        self.folders = sorted(folder for folder in plain if not any(map(is_hidden, folder.split("/"))))

    def read(self, name: str) -> bytes:
        offset, size = self._where[name]
        content = self._read_at(offset, size)
        if len(content) != size:
            raise DataError(f"{self.place} is cut short: {name} should have {size} bytes and has {len(content)}.")
        return content

    def _read_at(self, offset: int, size: int) -> bytes:
        try:
            if not hasattr(os, "pread"):
                with open(self.place, "rb") as file:
                    file.seek(offset)
                    return file.read(size)
            # pread has no position that threads and forked processes could disturb, so that all share the descriptor.
            if self._descriptor < 0:
                with self._lock:
                    if self._descriptor < 0:
                        self._descriptor = os.open(self.place, os.O_RDONLY)
            return os.pread(self._descriptor, size, offset)
        except OSError as error:
            raise DataError(f"{self.place} cannot be read: {error}.") from error

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            os.close(self._descriptor)

    def __getstate__(self) -> dict[str, Any]:
        return {"place": self.place, "names": self.names, "folders": self.folders, "_where": self._where}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._descriptor = -1
        self._lock = threading.Lock()

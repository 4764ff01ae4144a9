"""Opens a file of vectors, plain, in gzip or in a zip archive; what it is is told by its bytes, not by its name."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, cast

import attrs
from tqdm import tqdm

from glueball.errors import DataError

DAMAGED = (zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError, NotImplementedError, OSError)
"""What reading a damaged or unreadable file raises."""


@attrs.define(eq=False)
class Source:
    """An open file of vectors."""

    name: str
    """What messages call it."""
    file: io.BufferedReader
    """The content, unpacked."""
    size: int | None
    """Bytes of the content, where that is known before it is read."""
    path: str | None
    """Where the content lies as it is, to be mapped into memory; None if it is packed."""
    raw: BinaryIO
    """The file on the disk: how far it has been read is the progress."""
    bar: tqdm

    def peek(self, count: int) -> bytes:
        """The next bytes, which stay unread."""
        return self.file.peek(count)[:count]

    def read(self, count: int) -> bytes:
        """Up to ``count`` bytes, fewer at the end only."""
        content = self.file.read(count)
        self.bar.update(self.raw.tell() - self.bar.n)
        return content


@contextlib.contextmanager
def opened(path: str | os.PathLike[str], member: str | None) -> Iterator[Source]:
    """Opens ``path``, or ``member`` of it if it is a zip archive.

    Raises:
        DataError: it cannot be read or unpacked, or the archive holds more than one file and none was named.
    """
    name = os.fspath(path)
    with contextlib.ExitStack() as stack:
        try:
            raw = stack.enter_context(open(path, "rb"))
            size: int | None = os.fstat(raw.fileno()).st_size
            start = raw.peek(4)[:4]
            content: io.BufferedReader = raw
            plain: str | None = name
            if start[:2] == b"\x1f\x8b":
                content = io.BufferedReader(stack.enter_context(gzip.GzipFile(fileobj=raw)), 1 << 20)
                size = plain = None
            elif start == b"PK\3\4":
                archive = stack.enter_context(zipfile.ZipFile(raw))
                info = _member(archive, name, member)
                name = f"{name}/{info.filename}"
                content = io.BufferedReader(cast(io.RawIOBase, stack.enter_context(archive.open(info))), 1 << 20)
                size, plain = info.file_size, None
            elif member is not None:
                raise DataError(f"{name} is not a zip archive, so it has no member {member!r}. Leave member out.")
            # disable=None: a bar on terminals only, never in logs.
            total = os.fstat(raw.fileno()).st_size
            bar = stack.enter_context(
                tqdm(total=total, unit="B", unit_scale=True, desc=os.path.basename(name), disable=None, leave=False)
            )
            yield Source(name=name, file=content, size=size, path=plain, raw=raw, bar=bar)
        except DataError:
            raise
        except RuntimeError as error:  # zipfile's word for an encrypted member
            raise DataError(f"{name} cannot be unpacked: {error}.") from error
        except DAMAGED as error:
            reason = getattr(error, "strerror", None) or error or "it ends too early"
            raise DataError(f"{name} cannot be read: {reason}. Get the file again if it is damaged.") from error


def is_npz(path: str | os.PathLike[str]) -> bool:
    """Whether the file is a zip archive of NumPy arrays with vectors, in GluonNLP's layout.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"PK\3\4":
                return False
            with zipfile.ZipFile(file) as archive:
                return "idx_to_vec.npy" in archive.namelist()
    except zipfile.BadZipFile as error:
        raise DataError(f"{os.fspath(path)} is cut short or damaged: {error}. Get the file again.") from error
    except OSError as error:
        raise DataError(f"{os.fspath(path)} cannot be read: {error.strerror or error}.") from error


def _member(archive: zipfile.ZipFile, name: str, member: str | None) -> zipfile.ZipInfo:
    files = [info for info in archive.infolist() if not info.is_dir()]
    if member is not None:
        chosen = [info for info in files if info.filename == member]
    else:
        chosen = files
    if len(chosen) != 1:
        names = ", ".join(info.filename for info in files[:8])
        raise DataError(
            f"{name} holds {len(files)} files: {names}. Expected one, or the name of one. Received: member={member!r}. "
            f'Name it: from_file(path, member="{files[0].filename if files else "vectors.txt"}").'
        )
    return chosen[0]

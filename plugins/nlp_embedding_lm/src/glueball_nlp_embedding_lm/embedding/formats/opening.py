"""Opens a file of vectors, plain, in gzip or in a zip archive; what it is is told by its bytes, not by its name."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Iterator
from typing import BinaryIO, cast

import attrs
from tqdm import tqdm

from glueball.archives import ZipArchive, open_compressed
from glueball.errors import DataError


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
        # Small files need no memory for large blocks.
        content = self.file.read(count if self.size is None else min(count, self.size + 1))
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
            content: io.BufferedReader = raw
            plain: str | None = name
            if raw.peek(4)[:4] == b"PK\3\4":
                archive = stack.enter_context(ZipArchive(raw, name))
                chosen = _member(archive, member)
                content = stack.enter_context(archive.open(chosen))
                name = f"{name}/{chosen}"
                size, plain = archive.members[chosen].file_size, None
            elif (unpacked := open_compressed(raw, name)) is not None:
                content = cast(io.BufferedReader, stack.enter_context(unpacked))
                size = plain = None
            elif member is not None:
                raise DataError(f"{name} is not a zip archive, so it has no member {member!r}. Leave member out.")
            # disable=None: a bar on terminals only, never in logs.
            total = os.fstat(raw.fileno()).st_size
            bar = stack.enter_context(
                tqdm(total=total, unit="B", unit_scale=True, desc=os.path.basename(name), disable=None, leave=False)
            )
            yield Source(name=name, file=content, size=size, path=plain, raw=raw, bar=bar)
        except OSError as error:
            raise DataError(
                f"{name} cannot be read: {error.strerror or error}. Get the file again if it is damaged."
            ) from error


def is_npz(path: str | os.PathLike[str]) -> bool:
    """Whether the file is a zip archive of NumPy arrays with vectors, in GluonNLP's layout.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"PK\3\4":
                return False
            with ZipArchive(file, os.fspath(path)) as archive:
                return "idx_to_vec.npy" in archive.members
    except OSError as error:
        raise DataError(f"{os.fspath(path)} cannot be read: {error.strerror or error}.") from error


def _member(archive: ZipArchive, member: str | None) -> str:
    files = list(archive.members)
    chosen = files if member is None else [name for name in files if name == member]
    if len(chosen) != 1:
        raise DataError(
            f"{archive.place} holds {len(files)} files: {', '.join(files[:8])}. Expected one, or the name of one. "
            f"Received: member={member!r}. "
            f'Name it: from_file(path, member="{files[0] if files else "vectors.txt"}").'
        )
    return chosen[0]

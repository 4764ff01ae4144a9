"""Weight files out of zip archives, without trusting what an archive says about itself."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from pathlib import Path

from glueball.errors import DownloadError
from glueball.files import atomic_write

_LARGEST_FILE = 16 << 30
# Trained weights hardly compress (about 1.1 to 1); what unpacks to 100 times its size is a bomb.
_LARGEST_RATIO = 100
_SMALL = 1 << 20
_CHUNK = 1 << 20


def extract_member(archive: Path, name: str, target: Path) -> None:
    """Unpacks the one file ``name`` from the top of ``archive`` to ``target``, which appears when it is complete.

    Raises:
        DownloadError: not a zip archive, no such member, a link, an encrypted member, one that is larger than it says
            or than weights can be, or damaged content.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            _extract(opened, archive, name, target)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        raise DownloadError(f"{archive} is not a zip archive or is damaged ({error}). Download it again.") from error


def _extract(opened: zipfile.ZipFile, archive: Path, name: str, target: Path) -> None:
    members = [member for member in opened.infolist() if member.filename == name]
    if len(members) != 1:
        names = [member.filename for member in opened.infolist()]
        raise DownloadError(
            f"{archive} holds {len(members)} files called {name}, expected 1. Received: {names[:5]} "
            f"({len(names)} in all). Get the right archive."
        )
    member = members[0]
    mode = member.external_attr >> 16
    if mode and not stat.S_ISREG(mode) and stat.S_IFMT(mode):
        raise DownloadError(f"{name} in {archive} is a link or another special file, expected a plain file.")
    if member.flag_bits & 0x1:
        raise DownloadError(f"{name} in {archive} is encrypted, expected a plain file.")
    # The archive's own size bounds what can be inside, whatever its headers say.
    limit = min(_LARGEST_FILE, max(_SMALL, _LARGEST_RATIO * os.path.getsize(archive)))
    if member.file_size > limit:
        raise DownloadError(
            f"{name} in {archive} would unpack to {member.file_size} bytes, expected at most {limit}: it looks like a "
            "decompression bomb and is left packed."
        )
    with opened.open(member) as source, atomic_write(target) as file:
        written = 0
        while chunk := source.read(_CHUNK):
            written += len(chunk)
            if written > limit:
                raise DownloadError(f"{name} in {archive} unpacks to more than {limit} bytes and was left packed.")
            file.write(chunk)

"""Weight files out of zip archives, without trusting what an archive says about itself."""

from __future__ import annotations

from pathlib import Path

from glueball.archives import ZipArchive
from glueball.errors import DataError, DownloadError
from glueball.files import atomic_write

_CHUNK = 1 << 20


def extract_member(archive: Path, name: str, target: Path) -> None:
    """Unpacks the one file ``name`` from the top of ``archive`` to ``target``, which appears when it is complete.

    Raises:
        DownloadError: not a zip archive, no such member, a link, an encrypted member, one that is larger than it says
            or than weights can be, or damaged content.
        OSError: ``target`` cannot be written.
    """
    try:
        with ZipArchive(archive) as opened, opened.open(name) as source, atomic_write(target) as file:
            while chunk := source.read(_CHUNK):
                file.write(chunk)
    except DataError as error:
        raise DownloadError(f"{error} It is left packed.") from error

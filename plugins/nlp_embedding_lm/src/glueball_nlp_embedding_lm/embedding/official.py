"""Published files by name and full SHA-1: found on this machine, else downloaded, and not opened before they are right.

Files are looked for where Glueball keeps them, then where GluonNLP left them. What a user put somewhere is never
changed or deleted.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path

import attrs

from glueball.errors import DownloadError
from glueball.weights.download import OFFLINE_VARIABLE, download_verified, is_offline
from glueball.weights.hashing import VerifiedFiles, file_hash
from glueball.weights.store import home

logger = logging.getLogger(__name__)

MIRROR = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/"


@attrs.frozen
class OfficialFile:
    """A published file."""

    file: str
    """Its name, which may have folders in front with "/" between them."""
    sha1: str
    url: str = ""
    """Where it is offered; empty: nowhere that a program can fetch it from."""


def folders(kind: str, name: str, root: str | os.PathLike[str] | None) -> list[Path]:
    """Where files are looked for: ``root`` alone if it is given, else Glueball's folder, then GluonNLP's.

    Args:
        kind: "embedding" or "datasets".
        name: of the embedding or data set.
    """
    if root is not None:
        given = Path(root).expanduser()
        return [given, given / name]
    found = [home() / kind / name]
    if kind == "datasets" and (shared := os.environ.get("GLUEBALL_DATA")):
        found.insert(0, Path(shared).expanduser() / name)
    mxnet_home = os.environ.get("MXNET_HOME")
    if mxnet_home:
        found.append(Path(mxnet_home).expanduser() / kind / name)
    found.append(Path.home() / ".mxnet" / kind / name)
    return found


def find(wanted: OfficialFile, searched: Iterable[Path]) -> Path | None:
    """The first right copy in the folders; one with another hash is named in a warning and passed over."""
    verified = VerifiedFiles(home() / "verified.json")
    for folder in searched:
        candidate = folder.joinpath(*wanted.file.split("/"))
        if not candidate.is_file():
            continue
        try:
            received = verified.hash_of(candidate, wanted.sha1)
        except OSError as error:
            logger.warning("%s cannot be read (%s); looking elsewhere", candidate, error)
            continue
        if received == wanted.sha1:
            return candidate
        logger.warning(
            "%s does not have the SHA-1 of the official file (expected %s, received %s) and is not used",
            candidate, wanted.sha1, received,
        )  # fmt: skip
    return None


def fetch(title: str, wanted: OfficialFile, searched: list[Path], hint: str = "") -> Path:
    """A right copy out of the folders, downloaded into the first of them if there is none.

    Raises:
        DownloadError: there is none, and GLUEBALL_OFFLINE is set, nobody offers it, the download failed or brought
            another file, or a file with another hash is in its place. The message says which file to put where.
    """
    found = find(wanted, searched)
    if found is not None:
        return found
    target = searched[0].joinpath(*wanted.file.split("/"))
    if target.exists():
        raise DownloadError(
            f"{target} is not the official file of {title} and is not opened. Expected SHA-1: {wanted.sha1}. Received: "
            f"{file_hash(target, wanted.sha1)}. It is left as it is; move or delete it to have it downloaded again."
        )
    offered = f" It is offered at {wanted.url}." if wanted.url else ""
    missing = (
        f"{title} needs the file {wanted.file} (SHA-1 {wanted.sha1}), which is not on this machine. Put it at {target}."
        f"{offered}{' ' + hint if hint else ''}"
    )
    if is_offline():
        raise DownloadError(f"{missing} {OFFLINE_VARIABLE} is set: nothing is downloaded.")
    if not wanted.url:
        raise DownloadError(missing)
    try:
        download_verified(wanted.url, target, wanted.sha1)
    except OSError as error:  # DownloadError is one
        raise DownloadError(f"{missing} Downloading failed: {error}") from error
    return target

"""The store of official weight files: a folder on this machine, filled from the network when needed.

A file is used only if its full hash is right, whoever put it there. Files of other programs (GluonCV's and MXNet's
``~/.mxnet/models``) are used where they lie and never changed; no file that a user put somewhere is ever deleted.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from glueball.errors import DownloadError
from glueball.weights.archives import extract_member
from glueball.weights.download import OFFLINE_VARIABLE, download, is_offline, partial_path
from glueball.weights.hashing import VerifiedFiles, file_hash
from glueball.weights.locking import locked

if TYPE_CHECKING:
    from glueball.plugin import Weights

logger = logging.getLogger(__name__)

HOME_VARIABLE = "GLUEBALL_HOME"


def home() -> Path:
    """The folder of everything that Glueball keeps: GLUEBALL_HOME, or the system's place for caches."""
    chosen = os.environ.get(HOME_VARIABLE)
    if chosen:
        return Path(chosen).expanduser()
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "glueball" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "glueball"
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "glueball"


def models_folder() -> Path:
    """Where weight files are kept, and where a file that was fetched by hand is to be put."""
    return home() / "models"


def locate(weights: Weights) -> Path:
    """The path of a verified copy of an official weight file, downloaded if this machine has none.

    Looked for in ``GLUEBALL_HOME/models``, ``MXNET_HOME/models`` and ``~/.mxnet/models``, also as the zip archive that
    GluonCV's store hands out.

    Raises:
        DownloadError: the copy in our folder has the wrong hash (it is left in place); or there is none, and
            GLUEBALL_OFFLINE is set, the download failed, or what came has the wrong hash. The message says which file
            to put where.
    """
    target = models_folder() / weights.file
    verified = VerifiedFiles(home() / "verified.json")
    found = _find(weights, target, verified)
    if found is not None:
        return found
    if is_offline():
        raise DownloadError(f"{_missing(weights, target)} {OFFLINE_VARIABLE} is set: nothing is downloaded.")
    if not weights.url:
        raise DownloadError(f"{_missing(weights, target)} It has no address to download it from.")
    try:
        with locked(target.with_name(target.name + ".lock")):
            # Another process may have fetched it while this one waited.
            found = _find(weights, target, verified)
            if found is not None:
                return found
            return _download(weights, target, verified)
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(f"{_missing(weights, target)} It cannot be written there: {error}.") from error


def _find(weights: Weights, target: Path, verified: VerifiedFiles) -> Path | None:
    if target.is_file():
        received = verified.hash_of(target, weights.sha1)
        if received != weights.sha1:
            raise DownloadError(
                f"{target} does not have the hash of the official file and is not opened. Expected: {weights.sha1}. "
                f"Received: {received}. It is left as it is; move or delete it to have it downloaded again."
            )
        return target
    for folder in _foreign_folders():
        candidate = folder / weights.file
        if not candidate.is_file():
            continue
        try:
            received = verified.hash_of(candidate, weights.sha1)
        except OSError as error:
            logger.warning("%s cannot be read (%s); looking elsewhere", candidate, error)
            continue
        if received == weights.sha1:
            return candidate
        logger.warning(
            "%s does not have the hash of the official file (expected %s, received %s) and is not used",
            candidate, weights.sha1, received,
        )  # fmt: skip
    archive = target.with_suffix(".zip")
    if archive.is_file():
        extract_member(archive, weights.file, target)
        return _verify_new(weights, target, verified, os.fspath(archive))
    return None


def _foreign_folders() -> list[Path]:
    folders = [Path.home() / ".mxnet" / "models"]
    mxnet_home = os.environ.get("MXNET_HOME")
    if mxnet_home:
        folders.insert(0, Path(mxnet_home).expanduser() / "models")
    return folders


def _download(weights: Weights, target: Path, verified: VerifiedFiles) -> Path:
    failures = []
    for template in weights.url:
        url = template.replace("{file}", weights.file)
        is_archive = url.endswith(".zip") and not weights.file.endswith(".zip")
        fetched = target.with_name(f".{weights.file}.download" + (".zip" if is_archive else ""))
        resumed = partial_path(fetched).exists()
        try:
            try:
                _fetch(weights, url, fetched, target, is_archive)
            except _WrongContentError:
                # What an earlier attempt left may have been the beginning of something else.
                if not resumed:
                    raise
                _fetch(weights, url, fetched, target, is_archive)
        except DownloadError as error:
            failures.append(str(error))
            continue
        verified.hash_of(target, weights.sha1)
        return target
    raise DownloadError(" ".join([_missing(weights, target), *failures]))


class _WrongContentError(DownloadError):
    """What came is not the official file."""


def _fetch(weights: Weights, url: str, fetched: Path, target: Path, is_archive: bool) -> None:
    """Downloads to ``fetched``; ``target`` appears when the hash was right, and nothing is left behind otherwise."""
    logger.info("downloading %s", url)
    download(url, fetched)
    content = fetched
    try:
        if is_archive:
            content = target.with_name(f".{weights.file}.unpacked")
            try:
                extract_member(fetched, weights.file, content)
            except DownloadError as error:
                raise _WrongContentError(f"{url}: {error}") from error
        # Verified under its temporary name: a file under the official name is one that was right once.
        received = file_hash(content, weights.sha1)
        if received != weights.sha1:
            raise _WrongContentError(
                f"{url} sent a file with another hash, which was removed. Expected: {weights.sha1}. "
                f"Received: {received}."
            )
        os.replace(content, target)
    finally:
        fetched.unlink(missing_ok=True)
        content.unlink(missing_ok=True)


def _verify_new(weights: Weights, target: Path, verified: VerifiedFiles, origin: str) -> Path:
    received = verified.hash_of(target, weights.sha1)
    if received == weights.sha1:
        return target
    target.unlink()
    raise DownloadError(
        f"{weights.file} in {origin} does not have the hash of the official file. Expected: {weights.sha1}. "
        f"Received: {received}. The archive is left as it is; move or delete it to have it downloaded again."
    )


def _missing(weights: Weights, target: Path) -> str:
    addresses = ", ".join(template.replace("{file}", weights.file) for template in weights.url)
    offered = f" It is offered at {addresses}." if addresses else ""
    return (
        f"The weight file {weights.file} (SHA-1 {weights.sha1}) is not on this machine. Fetch it elsewhere and put "
        f"it at {target}{' (its zip archive will do as well)' if '.zip' in addresses else ''}.{offered}"
    )

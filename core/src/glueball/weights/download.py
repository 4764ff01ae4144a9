"""Downloads over HTTPS: resumed where they stopped, bounded in size, never from an address that is not safe."""

from __future__ import annotations

import contextlib
import http.client
import logging
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from glueball.errors import DownloadError
from glueball.files import sync_directory

logger = logging.getLogger(__name__)

OFFLINE_VARIABLE = "GLUEBALL_OFFLINE"

_CHUNK = 1 << 18
_TIMEOUT = 30.0
_ATTEMPTS = 4
_LARGEST_DOWNLOAD = 16 << 30
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def is_offline() -> bool:
    """Whether GLUEBALL_OFFLINE forbids the network."""
    return os.environ.get(OFFLINE_VARIABLE, "").strip().lower() not in ("", "0", "false", "no")


def partial_path(target: Path) -> Path:
    """Where the part of ``target`` that has come so far is kept."""
    return target.with_name(target.name + ".part")


def download(url: str, target: Path, *, attempts: int = _ATTEMPTS, wait: float = 1.0) -> None:
    """Fetches ``url`` into ``target``. What an earlier, broken attempt left in ``<target>.part`` is continued.

    ``wait`` is the time in seconds before the second attempt; it doubles from then on.

    Raises:
        DownloadError: GLUEBALL_OFFLINE is set, the address is neither HTTPS nor on this machine, the server has no such
            file, the content is larger than weights can be, the disk is too small, or all attempts failed (what came is
            kept for the next).
    """
    if is_offline():
        # Callers say more, such as where to put the file; this holds for those who did not ask.
        raise DownloadError(f"{url} is not downloaded: {OFFLINE_VARIABLE} is set.")
    _check_address(url)
    partial = partial_path(target)
    partial.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, attempts + 1):
        try:
            _fetch(url, partial)
        except urllib.error.HTTPError as error:
            error.close()
            # 408 and 429 ask for patience and 5xx may pass; any other 4xx will stay as it is.
            if error.code < 500 and error.code not in (408, 429):
                raise DownloadError(f"{url} answered {error.code} {error.reason}, expected the file.") from error
            reason: Exception = error
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            reason = error
        else:
            os.replace(partial, target)
            sync_directory(target.parent)
            return
        if attempt == attempts:
            raise DownloadError(f"{url} could not be downloaded in {attempts} attempts: {reason}.") from reason
        logger.warning("%s: %s; trying again", url, reason)
        time.sleep(wait * 2 ** (attempt - 1))


def _check_address(url: str) -> None:
    parts = urllib.parse.urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK):
        return
    raise DownloadError(f"{url} is not fetched: weights come over https only. Use an https address.")


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to addresses that would have been allowed in the first place, never from https to http."""

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        _check_address(newurl)
        if req.type == "https" and not newurl.lower().startswith("https:"):
            raise DownloadError(f"{req.full_url} redirects to {newurl}: weights come over https only.")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(url: str, partial: Path) -> None:
    """One attempt: appends to ``partial`` if the server can continue, else starts over."""
    opener = urllib.request.build_opener(_SafeRedirects)
    start = partial.stat().st_size if partial.exists() else 0
    validator = partial.with_name(partial.name + ".etag")
    headers = {"User-Agent": "glueball", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        # A file that was replaced on the server must not be glued to the beginning of the old one.
        with contextlib.suppress(OSError):
            if (known := validator.read_text("ascii")) and not known.startswith("W/"):
                headers["If-Range"] = known
    try:
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing lies beyond what is there: either all of it came already, or it is of another file.
        error.close()
        partial.unlink(missing_ok=True)
        start = 0
        headers.pop("Range", None)
        headers.pop("If-Range", None)
        response = opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    with response:
        if response.status == 206 and not _continues_at(response.headers.get("Content-Range", ""), start):
            raise http.client.HTTPException(f"the server continued at {response.headers.get('Content-Range')!r}")
        if response.status != 206:
            start = 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length and length.isdigit() else None
        _check_size(url, total, start, partial.parent)
        with contextlib.suppress(OSError, UnicodeEncodeError):
            validator.write_text(response.headers.get("ETag", ""), "ascii")
        with open(partial, "ab" if start else "wb") as file:
            received = _copy(response, file, start, total, url)
            file.flush()
            os.fsync(file.fileno())
    if total is not None and received != total:
        raise http.client.HTTPException(f"the connection ended after {received} of {total} bytes")
    validator.unlink(missing_ok=True)


def _continues_at(content_range: str, start: int) -> bool:
    found = re.match(r"bytes (\d+)-", content_range)
    return found is not None and int(found[1]) == start


def _check_size(url: str, total: int | None, start: int, folder: Path) -> None:
    if total is None:
        return
    if total > _LARGEST_DOWNLOAD:
        raise DownloadError(f"{url} announces {total} bytes, expected at most {_LARGEST_DOWNLOAD}.")
    free = shutil.disk_usage(folder).free
    if total - start > free:
        raise DownloadError(
            f"{url} needs {total - start} bytes in {folder}, {free} are free. "
            "Make room, or set GLUEBALL_HOME to a folder on a larger disk."
        )


def _copy(response: IO[bytes], file: IO[bytes], start: int, total: int | None, url: str) -> int:
    received = start
    name = url.rpartition("/")[2]
    # disable=None: a bar on terminals only, never in logs.
    with tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=name, disable=None, leave=False) as bar:
        while chunk := response.read(_CHUNK):
            received += len(chunk)
            if received > _LARGEST_DOWNLOAD:
                raise DownloadError(f"{url} sent more than {_LARGEST_DOWNLOAD} bytes; stopped.")
            file.write(chunk)
            bar.update(len(chunk))
    return received

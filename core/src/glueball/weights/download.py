"""Downloads over HTTPS: resumed where they stopped, bounded in size and in patience, from known hosts only.

Where a file comes from is written in plugins, and what a server answers can send a program anywhere. So only hosts of
``HOSTS`` are asked, and those that the user names in GLUEBALL_DOWNLOAD_HOSTS; a redirect must lead to one of them or
stay where it was; and nothing but the file's name, a range and our own name is ever sent.
"""

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
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import IO, Any

from tqdm import tqdm

from glueball.errors import DownloadError
from glueball.files import sync_directory
from glueball.weights.hashing import file_hash
from glueball.weights.locking import locked

logger = logging.getLogger(__name__)

OFFLINE_VARIABLE = "GLUEBALL_OFFLINE"
HOSTS_VARIABLE = "GLUEBALL_DOWNLOAD_HOSTS"

HOSTS = frozenset(
    {
        # GluonCV's and GluonNLP's files.
        "apache-mxnet.s3-accelerate.dualstack.amazonaws.com",
        # Sets that word vectors are evaluated on, where their authors offer them.
        "alt.qcri.org",
        "download.tensorflow.org",
        "ie.technion.ac.il",
        "s3.amazonaws.com",
        "www-nlp.stanford.edu",
        "www.aclweb.org",
        "www.cl.cam.ac.uk",
        "www.kiraradinsky.com",
    }
)
"""Whom files are asked for without the user naming them; a test compares it with the addresses in the plugins."""

_CHUNK = 1 << 18
_TIMEOUT = 30.0
# A server that sends a byte now and then keeps every timeout; fewer bytes than this in that time are a stall.
_PATIENCE = 60.0
_LEAST_BYTES = 60 * 1024
_ATTEMPTS = 4
_LARGEST_DOWNLOAD = 16 << 30
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def is_offline() -> bool:
    """Whether GLUEBALL_OFFLINE forbids the network."""
    return os.environ.get(OFFLINE_VARIABLE, "").strip().lower() not in ("", "0", "false", "no")


def allowed_hosts() -> frozenset[str]:
    """``HOSTS``, and the hosts that GLUEBALL_DOWNLOAD_HOSTS names, divided by commas or spaces."""
    return HOSTS | frozenset(os.environ.get(HOSTS_VARIABLE, "").replace(",", " ").lower().split())


def partial_path(target: Path) -> Path:
    """Where the part of ``target`` that has come so far is kept."""
    return target.with_name(target.name + ".part")


def download(
    url: str, target: Path, *, attempts: int = _ATTEMPTS, wait: float = 1.0, hosts: Iterable[str] = ()
) -> None:
    """Fetches ``url`` into ``target``. What an earlier, broken attempt left in ``<target>.part`` is continued.

    What came is not trusted yet, and one process at a time may fetch a target: see ``download_verified``.

    Args:
        url: an address of HTTPS, or one on this machine.
        target: the file.
        attempts: how often to try.
        wait: the time in seconds before the second attempt; it doubles from then on.
        hosts: further hosts that the user wants files from.

    Raises:
        DownloadError: GLUEBALL_OFFLINE is set; the address is neither HTTPS nor on this machine, or of a host that
            nobody named; the server has no such file, the content is larger than weights can be, the disk is too small,
            or all attempts failed (what came is kept for the next).
        OSError: the file cannot be written.
    """
    shown = _shown(url)
    if is_offline():
        # Callers say more, such as where to put the file; this holds for those who did not ask.
        raise DownloadError(f"{shown} is not downloaded: {OFFLINE_VARIABLE} is set.")
    allowed = allowed_hosts() | {host.lower() for host in hosts}
    _check_address(url, allowed)
    partial = partial_path(target)
    partial.parent.mkdir(parents=True, exist_ok=True)
    for attempt in range(1, attempts + 1):
        try:
            _fetch(url, partial, allowed)
        except urllib.error.HTTPError as error:
            error.close()
            # 408 and 429 ask for patience and 5xx may pass; any other 4xx will stay as it is.
            if error.code < 500 and error.code not in (408, 429):
                raise DownloadError(f"{shown} answered {error.code} {error.reason}, expected the file.") from error
            reason: Exception = error
        except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError, ssl.SSLError) as error:
            reason = error
        else:
            os.replace(partial, target)
            sync_directory(target.parent)
            return
        if attempt == attempts:
            raise DownloadError(f"{shown} could not be downloaded in {attempts} attempts: {reason}.") from reason
        logger.warning("%s: %s; trying again", shown, reason)
        time.sleep(wait * 2 ** (attempt - 1))


def download_verified(url: str, target: Path, expected: str, *, hosts: Iterable[str] = ()) -> None:
    """Fetches ``url`` under a temporary name; ``target`` appears once its full hash was right.

    Processes that want the same file wait for each other, and the later ones find it there.

    Args:
        url: see ``download``.
        target: the file; one that is there already is verified and never changed.
        expected: SHA-1 (40 digits) or SHA-256 (64 digits).
        hosts: see ``download``.

    Raises:
        DownloadError: see ``download``; or what came has another hash (it is removed), or what was there.
        OSError: the file cannot be written.
    """
    fetched = target.with_name(f".{target.name}.download")
    with locked(target.with_name(f".{target.name}.lock")):
        # Another process may have fetched it while this one waited.
        if target.exists():
            if (received := file_hash(target, expected)) != expected:
                raise DownloadError(
                    f"{target} does not have the hash of the file at {_shown(url)}. Expected: {expected}. Received: "
                    f"{received}. It is left as it is; move or delete it to have it downloaded again."
                )
            return
        while True:
            # What an earlier attempt left may have been the beginning of something else.
            was_resumed = partial_path(fetched).exists()
            download(url, fetched, hosts=hosts)
            received = file_hash(fetched, expected)
            if received == expected:
                os.replace(fetched, target)
                sync_directory(target.parent)
                return
            fetched.unlink()
            if not was_resumed:
                raise DownloadError(
                    f"{_shown(url)} sent a file with another hash, which was removed. Expected: {expected}. "
                    f"Received: {received}."
                )


# ----------------------------------------------------------------------------------------------------------------------
# Addresses


def _shown(url: str) -> str:
    """The address for messages and logs: without a user's name, password or the keys that a query can hold."""
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port is not None else ""
    except ValueError:
        return "An address that is none"
    return urllib.parse.urlunsplit((parts.scheme, host + port, parts.path, "..." if parts.query else "", ""))


def _check_address(url: str, allowed: Collection[str], coming_from: str | None = None) -> None:
    """Refuses an address that files are not fetched from.

    ``coming_from`` is the host that redirected here.

    Raises:
        DownloadError: not https, a host that nobody named, or an address with a password in it.
    """
    shown = _shown(url)
    try:
        parts = urllib.parse.urlsplit(url)
        host = parts.hostname
    except ValueError as error:
        raise DownloadError(f"{shown} is not fetched: {error}.") from error
    is_local = host in _LOOPBACK and coming_from in (None, *_LOOPBACK)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_local):
        raise DownloadError(f"{shown} is not fetched: files come over https only. Use an https address.")
    if "@" in parts.netloc:
        raise DownloadError(
            f"{shown} is not fetched: its address holds a user's name or password, which would be sent along. Fetch "
            "the file by hand."
        )
    if not host:
        raise DownloadError(f"{shown} is not fetched: it names no host.")
    if is_local or host in allowed or host == coming_from:
        return
    origin = f", to which {coming_from} redirects," if coming_from is not None else ""
    raise DownloadError(
        f"{shown} is not fetched: the host {host}{origin} is not among those that files are fetched from. If it can be "
        f"trusted, name it: {HOSTS_VARIABLE}={host}."
    )


class _SafeRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to addresses that would have been allowed in the first place, never from https to http."""

    max_redirections = 5

    def __init__(self, allowed: Collection[str]) -> None:
        self._allowed = allowed

    def redirect_request(
        self, req: urllib.request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Any:
        try:
            if req.type == "https" and not newurl.lower().startswith("https:"):
                raise DownloadError(
                    f"{_shown(req.full_url)} redirects to {_shown(newurl)}: files come over https only."
                )
            _check_address(newurl, self._allowed, urllib.parse.urlsplit(req.full_url).hostname)
        except DownloadError:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener(allowed: Collection[str]) -> urllib.request.OpenerDirector:
    """Knows http and https, and none of the other kinds of addresses that urllib opens (file, ftp, data)."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _SafeRedirects(allowed),
    ):
        opener.add_handler(handler)
    return opener


# ----------------------------------------------------------------------------------------------------------------------
# One attempt


def _fetch(url: str, partial: Path, allowed: Collection[str]) -> None:
    """One attempt: appends to ``partial`` if the server can continue, else starts over."""
    opener = _opener(allowed)
    start = partial.stat().st_size if partial.exists() else 0
    validator = partial.with_name(partial.name + ".etag")
    response = _continued(opener, url, start, validator) if start else None
    if response is None:
        start = 0
        partial.unlink(missing_ok=True)
        response = opener.open(urllib.request.Request(url, headers=_headers()), timeout=_TIMEOUT)
    with response:
        if response.status not in (200, 206) or (response.status == 206 and not start):
            raise http.client.HTTPException(f"the server answered {response.status} where the file was asked for")
        if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            raise http.client.HTTPException("the server sent it compressed, which was not asked for")
        if response.status != 206:
            start = 0
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if re.fullmatch("[0-9]{1,18}", length) else None
        _check_size(url, total, start, partial.parent)
        with contextlib.suppress(OSError, UnicodeEncodeError):
            validator.write_text(response.headers.get("ETag", "")[:1024], "ascii")
        with open(partial, "ab" if start else "wb") as file:
            try:
                received = _copy(response, file, start, total, url)
            finally:
                file.flush()
                os.fsync(file.fileno())
    if total is not None and received != total:
        raise http.client.HTTPException(f"the connection ended after {received} of {total} bytes")
    validator.unlink(missing_ok=True)


def _headers(**more: str) -> dict[str, str]:
    return {"User-Agent": "glueball", "Accept-Encoding": "identity", **more}


def _continued(opener: urllib.request.OpenerDirector, url: str, start: int, validator: Path) -> Any:
    """The answer to a request for what comes after ``start``; None if it is of no use and all must be fetched anew."""
    headers = _headers(Range=f"bytes={start}-")
    # A file that was replaced on the server must not be glued to the beginning of the old one.
    with contextlib.suppress(OSError, UnicodeDecodeError):
        if (known := validator.read_text("ascii")) and not known.startswith("W/"):
            headers["If-Range"] = known
    try:
        response: Any = opener.open(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT)
    except urllib.error.HTTPError as error:
        if error.code != 416:
            raise
        # Nothing lies beyond what is there: either all of it came already, or it is of another file.
        error.close()
        return None
    if response.status == 206 and not _continues_at(response, start):
        # A server that does not know what a range is may still know how to send a file.
        response.close()
        return None
    return response


def _continues_at(response: Any, start: int) -> bool:
    """Whether the answer to a range is the rest of the file: from ``start`` to its end, and as long as it says."""
    found = re.fullmatch(
        r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18}|\*)", response.headers.get("Content-Range", "")
    )
    if found is None or int(found[1]) != start or int(found[2]) < start:
        return False
    if found[3] != "*" and int(found[2]) + 1 != int(found[3]):
        return False
    return response.headers.get("Content-Length") in (None, str(int(found[2]) + 1 - start))


def _check_size(url: str, total: int | None, start: int, folder: Path) -> None:
    if total is None:
        return
    if total > _LARGEST_DOWNLOAD:
        raise DownloadError(f"{_shown(url)} announces {total} bytes, expected at most {_LARGEST_DOWNLOAD}.")
    free = shutil.disk_usage(folder).free
    if total - start > free:
        raise DownloadError(
            f"{_shown(url)} needs {total - start} bytes in {folder}, {free} are free. "
            "Make room, or set GLUEBALL_HOME to a folder on a larger disk."
        )


def _copy(response: Any, file: IO[bytes], start: int, total: int | None, url: str) -> int:
    received = start
    since, counted = time.monotonic(), start
    name = _shown(url).rpartition("/")[2]
    # disable=None: a bar on terminals only, never in logs.
    with tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=name, disable=None, leave=False) as bar:
        # What is there, not a full chunk: a slow server must not keep us from looking at the clock.
        while chunk := response.read1(_CHUNK):
            received += len(chunk)
            if received > _LARGEST_DOWNLOAD:
                raise DownloadError(f"{_shown(url)} sent more than {_LARGEST_DOWNLOAD} bytes; stopped.")
            file.write(chunk)
            bar.update(len(chunk))
            if (now := time.monotonic()) - since >= _PATIENCE:
                if received - counted < _LEAST_BYTES:
                    raise TimeoutError(f"only {received - counted} bytes came in {now - since:.0f} seconds")
                since, counted = now, received
    return received

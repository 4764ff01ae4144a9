"""Full hashes of files, computed once per file and remembered for as long as the file does not change."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

from glueball.files import write_text

_CHUNK = 1 << 20


def file_hash(path: Path, expected: str) -> str:
    """The file's hash by the algorithm that ``expected`` belongs to: SHA-1 (40 digits) or SHA-256 (64 digits)."""
    digest = hashlib.sha256() if len(expected) == 64 else hashlib.sha1()  # SHA-1 is what the store published.
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


class VerifiedFiles:
    """Remembers in a small JSON file which files had which hash at which size and time of change.

    Hashing 100 MB takes longer than mapping them; a file whose size or time differs is hashed again. An unreadable
    record is an empty one, and one that cannot be written is only not kept.
    """

    def __init__(self, record: Path) -> None:
        self._record = record

    def hash_of(self, path: Path, expected: str) -> str:
        """The hash of ``path``, read from the record if the file has not changed since."""
        status = path.stat()
        key = os.fspath(path.resolve())
        state = [status.st_size, status.st_mtime_ns, status.st_ino]
        known = self._read().get(key)
        if isinstance(known, dict) and known.get("state") == state and known.get("hash") == expected:
            return expected
        received = file_hash(path, expected)
        # Only what is right is remembered: a file that is wrong will be looked at again.
        if received == expected:
            self._write({**self._read(), key: {"state": state, "hash": received}})
        return received

    def _read(self) -> dict[str, object]:
        try:
            content = json.loads(self._record.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return content if isinstance(content, dict) else {}

    def _write(self, content: dict[str, object]) -> None:
        try:
            write_text(self._record, json.dumps(content, indent=1))
        except OSError:
            # A read-only cache works too, at the cost of hashing each time.
            return

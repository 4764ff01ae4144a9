"""Archives for corpora, and checksums that are right again after damage, so that it gets past them."""

from __future__ import annotations

import gzip
import io
import random
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Mapping

from mutation import Parts


def make_zip(members: Mapping[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content, compression)
    return stream.getvalue()


def make_tar(members: Mapping[str, bytes], mode: str = "w", format: int = tarfile.GNU_FORMAT) -> bytes:
    """A tar archive with a symbolic link at its end."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode, format=format) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("link.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
    return stream.getvalue()


ZIP_TOKENS = [
    *(b"PK\x01\x02", b"PK\x03\x04", b"PK\x05\x06", b"PK\x06\x06", b"PK\x06\x07"),
    # Ways to compress.
    *(b"\x08\0", b"\x09\0", b"\x0c\0", b"\x0e\0", b"\x5d\0", b"\x63\0"),
    *(b"../", b"/", b"\\", b"\0", b"\x01\0\x10\0" + b"\xff" * 16, b"\xff\xff\xff\xff"),
]

TAR_TOKENS = [
    *(b"ustar\x0000", b"ustar  \0", b"../../x", b"/etc/passwd", b"77777777777", b"\x80" + b"\xff" * 11),
    *(b"11 path=\n", b"20 size=99999999999\n", b"GNU.sparse.map", b"GNU.sparse.realsize"),
    *(bytes((kind,)) for kind in b"0123456LKxgSV"),
]


def sum_tar(rng: random.Random, parts: Parts) -> Parts:
    """Right checksums of the headers of a tar archive; some archives are packed afterwards."""
    if parts[0][:2] in (b"\x1f\x8b", b"BZ", b"\xfd7"):
        return parts
    data = bytearray(parts[0])
    for at in range(0, len(data) - 511, 512):
        block = data[at : at + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            data[at + 148 : at + 156] = b"%06o\0 " % (sum(block) % (1 << 18))
    content = bytes(data)
    return (gzip.compress(content, 1) if rng.random() < 0.2 else content, *parts[1:])


def sum_zip(rng: random.Random, parts: Parts) -> Parts:
    """Right checksums of the stored members of a zip archive."""
    data = bytearray(parts[0])
    at = data.find(b"PK\x03\x04")
    while 0 <= at <= len(data) - 30:
        size, _, name, extra = struct.unpack_from("<IIHH", data, at + 18)
        start = at + 30 + name + extra
        if data[at + 8 : at + 10] == b"\0\0" and start + size <= len(data):
            checksum = zlib.crc32(data[start : start + size]).to_bytes(4, "little")
            data[at + 14 : at + 18] = checksum
            entry = data.find(b"PK\x01\x02")
            while 0 <= entry <= len(data) - 46:
                if struct.unpack_from("<I", data, entry + 42)[0] == at:
                    data[entry + 16 : entry + 20] = checksum
                entry = data.find(b"PK\x01\x02", entry + 4)
        at = data.find(b"PK\x03\x04", at + 4)
    return (bytes(data), *parts[1:])


def pack_gzip(rng: random.Random, parts: Parts) -> Parts:
    """Damage inside of what is compressed without damage, for some."""
    if parts[0][:2] in (b"\x1f\x8b", b"PK") or rng.random() < 0.8:
        return parts
    return (gzip.compress(parts[0], 1), *parts[1:])

"""Hostile archives: nothing leaves them but bytes of plain files, and no more of these than they can honestly hold."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import subprocess
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from glueball import archives
from glueball.archives import BoundedReader, ZipArchive, open_compressed, tar_files, unpacked_limit
from glueball.errors import DataError, DownloadError
from glueball.weights.archives import extract_member

# Names that would lead elsewhere if an archive were unpacked by them.
OUTSIDE = [
    "../evil",
    "../../../../tmp/evil",
    "/tmp/evil",
    "a/../../evil",
    "C:\\evil",
    "..\\evil",
    "~/evil",
    "\\\\host\\evil",
    "a\0b",
]
SPECIAL_ZIP = [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFSOCK]


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def make_zip(members: dict[str, bytes], mode: int = 0, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.external_attr = mode << 16
            info.compress_type = compression
            archive.writestr(info, content)
    return stream.getvalue()


def make_tar(members: dict[str, bytes], mode: str = "w", **fields: object) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for field, value in fields.items():
                setattr(info, field, value)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


# ----------------------------------------------------------------------------------------------------------------------
# Names, links, devices


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_lead_nowhere(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are names: what they name can be read, and nothing is written by them."""
    inner = tmp_path / "inner"
    inner.mkdir()
    monkeypatch.chdir(inner)
    packed = write(inner / "a.zip", make_zip({name: b"evil", "net.params": b"good"}))
    with ZipArchive(packed) as archive:
        assert archive.read("net.params") == b"good"
        for member in archive.members:
            archive.read(member)
    extract_member(packed, "net.params", inner / "net.params")
    if "\0" not in name:
        write(inner / "a.tar", make_tar({name: b"evil", "good": b"good"}))
        assert {file.name: file.read() for file in tar_files(inner / "a.tar")}["good"] == b"good"
    assert set(everything(tmp_path)) <= {"inner", "inner/a.zip", "inner/a.tar", "inner/net.params"}
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize("kind", SPECIAL_ZIP)
def test_links_and_devices_in_a_zip_are_no_files(kind: int, tmp_path: Path) -> None:
    secret = write(tmp_path / "secret", b"secret")
    packed = write(tmp_path / "a.zip", make_zip({"net.params": os.fspath(secret).encode()}, kind | 0o777))
    with ZipArchive(packed) as archive:
        assert not archive.members
        with pytest.raises(DataError, match="is a link or another special file"):
            archive.open("net.params")
    with pytest.raises(DownloadError, match="is a link or another special file"):
        extract_member(packed, "net.params", tmp_path / "net.params")
    assert not (tmp_path / "net.params").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_links_and_devices_in_a_tar_are_no_files(kind: bytes, mode: str, tmp_path: Path) -> None:
    packed = write(tmp_path / "a.tar", make_tar({"x": b""}, mode, type=kind, linkname="/etc/passwd"))
    assert list(tar_files(packed)) == []


def test_a_file_that_is_there_is_not_written_through_a_link(tmp_path: Path) -> None:
    """The target's own name may be a link that somebody left; the link is replaced, not followed."""
    victim = write(tmp_path / "victim", b"mine")
    target = tmp_path / "net.params"
    target.symlink_to(victim)
    extract_member(write(tmp_path / "a.zip", make_zip({"net.params": b"good"})), "net.params", target)
    assert victim.read_bytes() == b"mine"
    assert target.read_bytes() == b"good"
    assert not target.is_symlink()


# ----------------------------------------------------------------------------------------------------------------------
# Bombs


def test_the_limit_follows_from_the_size() -> None:
    assert unpacked_limit(0) == archives.SMALL == 1 << 20
    assert unpacked_limit(1 << 20) == 100 << 20
    assert unpacked_limit(1 << 40) == archives.LARGEST == 16 << 30


ZEROS = bytes(30 << 20)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_compressed_bombs(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    packed = write(tmp_path / "a", pack(ZEROS))
    with open(packed, "rb") as file:
        opened = open_compressed(file, "it")
        assert opened is not None
        with opened, pytest.raises(DataError, match=r"it unpacks to more than .* bytes: it looks like a decompression"):
            opened.read()
    for packed_text in (pack(b"honest text"), pack(b"one") + pack(b"two")):
        with open(write(packed, packed_text), "rb") as file:
            opened = open_compressed(file, "it")
            assert opened is not None
            with opened:
                assert opened.read() in (b"honest text", b"onetwo")


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_bombs_in_a_tar(mode: str, tmp_path: Path) -> None:
    packed = write(tmp_path / "a.tar", make_tar({"zeros": ZEROS}, mode))
    with pytest.raises(DataError, match="bomb"):
        list(tar_files(packed))
    many = write(tmp_path / "b.tar", make_tar({str(number): bytes(1 << 19) for number in range(60)}, mode))
    with pytest.raises(DataError, match="bomb"):
        [file.read() for file in tar_files(many)]


def test_a_header_of_a_tar_that_is_as_large_as_the_memory(tmp_path: Path) -> None:
    """Extended headers are read whole by Python; what is compressed can announce any size of them."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    packed = write(tmp_path / "a.tar.gz", gzip.compress(info.tobuf() + bytes(64 << 20)))
    with pytest.raises(DataError, match=r"bomb|damaged"):
        list(tar_files(packed))


def test_bombs_in_a_zip(tmp_path: Path) -> None:
    packed = write(tmp_path / "a.zip", make_zip({"zeros": ZEROS}))
    with ZipArchive(packed) as archive:
        with pytest.raises(DataError, match="bomb"):
            archive.check_total()
        with pytest.raises(DataError, match="bomb"):
            archive.open("zeros")


def test_a_zip_that_lies_about_sizes(tmp_path: Path) -> None:
    content = bytearray(make_zip({"zeros": ZEROS}))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = content.index(signature) + offset
        content[place : place + 4] = (1000).to_bytes(4, "little")
    with ZipArchive(write(tmp_path / "a.zip", bytes(content))) as archive, pytest.raises(DataError):
        archive.read("zeros")


def test_files_of_a_zip_that_share_their_content(tmp_path: Path) -> None:
    """As many names as one likes for one block of data (Fifield 2019, "A better zip bomb")."""
    zeros = bytes(900_000)
    packer = zlib.compressobj(9, wbits=-15)
    data = packer.compress(zeros) + packer.flush()
    local = (
        struct.pack("<IHHHHHIIIHH", 0x04034B50, 20, 0, 8, 0, 0, zlib.crc32(zeros), len(data), len(zeros), 1, 0) + b"a"
    )
    entries = b""
    for number in range(500):
        name = b"%03d" % number
        entries += struct.pack(
            "<IHHHHHHIIIHHHHHII",
            0x02014B50,
            20,
            20,
            0,
            8,
            0,
            0,
            zlib.crc32(zeros),
            len(data),
            len(zeros),
            3,
            0,
            0,
            0,
            0,
            0,
            0,
        )
        entries += name
    end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, 500, 500, len(entries), len(local) + len(data), 0)
    with ZipArchive(write(tmp_path / "a.zip", local + data + entries + end)) as archive:
        assert len(archive.members) == 500
        with pytest.raises(DataError, match="bomb"):
            archive.check_total()


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    content = make_zip({"a": b"one", "b": b"two"}).replace(b"b", b"a")
    with pytest.raises(DataError, match="'a' twice"):
        ZipArchive(write(tmp_path / "a.zip", content))


def test_xz_that_asks_for_more_memory_than_any_text_needs(tmp_path: Path) -> None:
    content = lzma.compress(b"text", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}])
    with open(write(tmp_path / "a.xz", content), "rb") as file:
        opened = open_compressed(file, "it")
        assert opened is not None
        with opened, pytest.raises(DataError, match=r"[Mm]emory usage limit"):
            opened.read()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the memory of a process as Linux does")
def test_bombs_cost_no_memory(tmp_path: Path) -> None:
    """Each of them in a process that may grow by 32 MiB beyond what it unpacks."""
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 30
    sparse = tarfile.TarInfo("y")
    sparse.size = 1 << 33
    bombs = {
        "a.zip": make_zip({"zeros": ZEROS}),
        "b.zip": make_zip({"zeros": ZEROS}, compression=zipfile.ZIP_BZIP2),
        "c.zip": make_zip({"zeros": ZEROS}, compression=zipfile.ZIP_LZMA),
        "d.tar": make_tar({"zeros": ZEROS}, "w:bz2"),
        "e.tar": make_tar({"zeros": ZEROS}, "w:xz"),
        "f.tar": gzip.compress(info.tobuf() + ZEROS),
        "g.tar": sparse.tobuf() + bytes(1024),
        "h.xz": lzma.compress(b"text", filters=[{"id": lzma.FILTER_LZMA2, "dict_size": 1 << 29}]),
    }
    for name, content in bombs.items():
        write(tmp_path / name, content)
    program = """
import resource, sys
from pathlib import Path
from glueball.archives import ZipArchive, open_compressed, tar_files
from glueball.errors import DataError
import lzma, bz2, zipfile, tarfile
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (32 << 20)
resource.setrlimit(resource.RLIMIT_AS, (used, used))
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        if path.suffix == ".zip":
            with ZipArchive(path) as archive:
                archive.read("zeros")
        elif path.suffix == ".tar":
            for file in tar_files(path):
                file.read()
        else:
            with open(path, "rb") as file, open_compressed(file, "it") as opened:
                opened.read()
    except DataError:
        print("refused", path.name)
"""
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.split() == [word for name in sorted(bombs) for word in ("refused", name)], done.stderr


def test_a_bounded_reader_gives_what_is_allowed() -> None:
    assert io.BufferedReader(BoundedReader(io.BytesIO(bytes(100)), 100, "it")).read() == bytes(100)
    with pytest.raises(DataError, match="it unpacks to more than 100 bytes"):
        io.BufferedReader(BoundedReader(io.BytesIO(bytes(101)), 100, "it")).read()

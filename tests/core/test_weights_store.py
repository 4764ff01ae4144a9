"""The store: search order, hashes, downloads that break off, locks, hostile archives, and work without a network."""

from __future__ import annotations

import hashlib
import http.server
import io
import logging
import multiprocessing
import os
import stat
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from glueball.errors import DownloadError
from glueball.plugin import Weights
from glueball.weights import download as download_module
from glueball.weights import home, locate
from glueball.weights.archives import extract_member
from glueball.weights.download import download, partial_path
from glueball.weights.hashing import VerifiedFiles
from glueball.weights.locking import locked

NAME = "net-0123abcd.params"
CONTENT = os.urandom(300_000)


def weights_of(content: bytes, *urls: str, file: str = NAME) -> Weights:
    return Weights(file=file, sha1=hashlib.sha1(content).hexdigest(), url=urls)


def zipped(content: bytes, name: str = NAME, mode: int | None = None) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        member = zipfile.ZipInfo(name)
        member.compress_type = zipfile.ZIP_DEFLATED
        if mode is not None:
            member.external_attr = mode << 16
        archive.writestr(member, content)
    return stream.getvalue()


@attrs.define
class Server:
    """A web server on this machine whose behaviour the tests set."""

    files: dict[str, bytes] = attrs.field(factory=dict)
    redirects: dict[str, str] = attrs.field(factory=dict)
    # Per file: how many bytes to send before breaking off, one for each request that comes.
    breaks: dict[str, list[int]] = attrs.field(factory=dict)
    errors: dict[str, list[int]] = attrs.field(factory=dict)
    ranges: bool = True
    tagged: bool = True
    requests: list[tuple[str, str | None]] = attrs.field(factory=list)
    address: str = ""

    def handle(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        name = handler.path.lstrip("/")
        wanted = handler.headers.get("Range")
        self.requests.append((name, wanted))
        if name in self.redirects:
            handler.send_response(302)
            handler.send_header("Location", self.redirects[name])
            handler.end_headers()
            return
        if self.errors.get(name):
            handler.send_error(self.errors[name].pop(0))
            return
        if name not in self.files:
            handler.send_error(404)
            return
        content = self.files[name]
        tag = f'"{hashlib.sha1(content).hexdigest()}"'
        start = 0
        if wanted and self.ranges and handler.headers.get("If-Range", tag) == tag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
            if start >= len(content):
                handler.send_error(416)
                return
            handler.send_response(206)
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            handler.send_response(200)
        if self.tagged:
            handler.send_header("ETag", tag)
        handler.send_header("Content-Length", str(len(content) - start))
        handler.end_headers()
        end = len(content)
        if self.breaks.get(name):
            end = start + self.breaks[name].pop(0)
        handler.wfile.write(content[start:end])


@pytest.fixture
def server() -> Iterator[Server]:
    behaviour = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour.handle(self)

        def log_message(self, *arguments: object) -> None: ...

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    behaviour.address = f"http://127.0.0.1:{running.server_address[1]}"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield behaviour
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture(autouse=True)
def glueball_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, an empty home folder, and no waiting between attempts."""
    monkeypatch.setenv("GLUEBALL_HOME", str(tmp_path / "store"))
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "user"))
    for name in ("MXNET_HOME", "GLUEBALL_OFFLINE", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(download_module.time, "sleep", lambda seconds: None)
    return tmp_path / "store"


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def left_in(folder: Path) -> list[str]:
    """What is in the folder besides lock files."""
    return sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")


# Where files are looked for


def test_home_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert home() == tmp_path / "store"
    monkeypatch.delenv("GLUEBALL_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    monkeypatch.setattr("glueball.weights.store.sys.platform", "linux")
    assert home() == tmp_path / "caches" / "glueball"


def test_our_folder_comes_first_then_those_of_mxnet(
    glueball_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MXNET_HOME", str(tmp_path / "mxnet"))
    official = weights_of(CONTENT)
    users = put(tmp_path / "user" / ".mxnet" / "models" / NAME)
    assert locate(official) == users
    elsewhere = put(tmp_path / "mxnet" / "models" / NAME)
    assert locate(official) == elsewhere
    ours = put(glueball_home / "models" / NAME)
    assert locate(official) == ours


def test_a_file_of_another_program_with_a_wrong_hash_is_passed_over(
    server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = put(tmp_path / "user" / ".mxnet" / "models" / NAME, b"old")
    server.files[NAME] = CONTENT
    with caplog.at_level(logging.WARNING):
        found = locate(weights_of(CONTENT, f"{server.address}/{{file}}"))
    assert found.read_bytes() == CONTENT
    assert "is not used" in caplog.text
    assert wrong.read_bytes() == b"old"


def test_our_file_with_a_wrong_hash_is_an_error_and_stays(glueball_home: Path, server: Server) -> None:
    path = put(glueball_home / "models" / NAME, b"damaged")
    server.files[NAME] = CONTENT
    official = weights_of(CONTENT, f"{server.address}/{{file}}")
    with pytest.raises(DownloadError) as caught:
        locate(official)
    assert official.sha1 in str(caught.value)
    assert hashlib.sha1(b"damaged").hexdigest() in str(caught.value)
    assert "left as it is" in str(caught.value)
    assert path.read_bytes() == b"damaged"
    assert server.requests == []


def test_an_archive_that_the_user_put_there_will_do(glueball_home: Path) -> None:
    archive = put(glueball_home / "models" / "net-0123abcd.zip", zipped(CONTENT))
    assert locate(weights_of(CONTENT)).read_bytes() == CONTENT
    assert archive.exists()


def test_an_archive_with_a_wrong_file_is_an_error_and_stays(glueball_home: Path) -> None:
    archive = put(glueball_home / "models" / "net-0123abcd.zip", zipped(b"other"))
    with pytest.raises(DownloadError, match=r"archive is left as it is"):
        locate(weights_of(CONTENT))
    assert left_in(archive.parent) == [archive.name]


def test_hashes_are_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = put(tmp_path / "file", b"one")
    right = hashlib.sha1(b"one").hexdigest()
    verified = VerifiedFiles(tmp_path / "verified.json")
    hashed = []
    original = VerifiedFiles.hash_of.__globals__["file_hash"]
    monkeypatch.setitem(
        VerifiedFiles.hash_of.__globals__,
        "file_hash",
        lambda path, expected: hashed.append(path) or original(path, expected),
    )
    assert verified.hash_of(path, right) == right
    assert VerifiedFiles(tmp_path / "verified.json").hash_of(path, right) == right
    assert len(hashed) == 1
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert verified.hash_of(path, right) == hashlib.sha1(b"two").hexdigest()
    (tmp_path / "verified.json").write_text("broken")
    assert verified.hash_of(put(path, b"one"), right) == right


def test_sha256_is_known_by_its_length(tmp_path: Path) -> None:
    path = put(tmp_path / "file", b"one")
    expected = hashlib.sha256(b"one").hexdigest()
    assert VerifiedFiles(tmp_path / "verified.json").hash_of(path, expected) == expected


# Without a network


def test_offline_fetches_nothing_for_those_who_do_not_ask(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLUEBALL_OFFLINE", "1")
    with pytest.raises(DownloadError, match="is not downloaded: GLUEBALL_OFFLINE is set"):
        download_module.download(f"{server.address}/file", tmp_path / "file")
    assert not list(tmp_path.glob("file*"))


def test_offline_says_which_file_to_put_where(glueball_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLUEBALL_OFFLINE", "1")
    official = weights_of(CONTENT, "https://example.org/models/net-0123abcd.zip")
    with pytest.raises(DownloadError) as caught:
        locate(official)
    message = str(caught.value)
    for part in (NAME, official.sha1, official.url[0], str(glueball_home / "models" / NAME), "GLUEBALL_OFFLINE"):
        assert part in message


def test_a_failed_download_says_which_file_to_put_where(glueball_home: Path, server: Server) -> None:
    official = weights_of(CONTENT, f"{server.address}/missing.params", f"{server.address}/also.params")
    with pytest.raises(DownloadError) as caught:
        locate(official)
    for part in (official.sha1, "missing.params answered 404", "also.params answered 404", str(glueball_home)):
        assert part in str(caught.value)
    with pytest.raises(DownloadError, match="no address"):
        locate(weights_of(CONTENT))


# Downloads


@pytest.mark.parametrize("archived", [False, True])
def test_downloads_verifies_and_keeps_nothing_else(server: Server, glueball_home: Path, archived: bool) -> None:
    name = "net-0123abcd.zip" if archived else NAME
    server.files[name] = zipped(CONTENT) if archived else CONTENT
    official = weights_of(CONTENT, f"{server.address}/gone", f"{server.address}/{name}")
    found = locate(official)
    assert found == glueball_home / "models" / NAME
    assert found.read_bytes() == CONTENT
    assert left_in(found.parent) == [NAME]
    asked = len(server.requests)
    assert locate(official) == found
    assert len(server.requests) == asked


@pytest.mark.parametrize("archived", [False, True])
def test_wrong_content_is_never_kept(server: Server, glueball_home: Path, archived: bool) -> None:
    name = "net-0123abcd.zip" if archived else NAME
    server.files[name] = zipped(b"wrong") if archived else b"wrong"
    official = weights_of(CONTENT, f"{server.address}/{name}")
    with pytest.raises(DownloadError) as caught:
        locate(official)
    assert official.sha1 in str(caught.value)
    assert hashlib.sha1(b"wrong").hexdigest() in str(caught.value)
    assert left_in(glueball_home / "models") == []


def test_a_broken_download_continues(server: Server, tmp_path: Path) -> None:
    server.files["file"] = CONTENT
    server.breaks["file"] = [100_000, 50_000]
    download(f"{server.address}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.requests == [("file", None), ("file", "bytes=100000-"), ("file", "bytes=150000-")]
    assert not partial_path(tmp_path / "file").exists()


def test_what_an_earlier_process_left_is_continued(server: Server, tmp_path: Path) -> None:
    server.files["file"] = CONTENT
    server.breaks["file"] = [1000]
    with pytest.raises(DownloadError, match="ended after 1000 of 300000 bytes"):
        download(f"{server.address}/file", tmp_path / "file", attempts=1)
    assert not (tmp_path / "file").exists()
    download(f"{server.address}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT
    assert server.requests[-1] == ("file", "bytes=1000-")


def test_a_file_that_changed_on_the_server_starts_over(server: Server, tmp_path: Path) -> None:
    server.files["file"] = b"old" * 1000
    server.breaks["file"] = [100]
    with pytest.raises(DownloadError):
        download(f"{server.address}/file", tmp_path / "file", attempts=1)
    server.files["file"] = CONTENT
    download(f"{server.address}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_server_that_cannot_continue_starts_over(server: Server, tmp_path: Path) -> None:
    server.ranges = False
    server.files["file"] = CONTENT
    server.breaks["file"] = [100]
    download(f"{server.address}/file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


@pytest.mark.parametrize("leftover", [b"garbage", CONTENT, CONTENT + b"more"])
def test_a_strange_beginning_is_dropped(server: Server, glueball_home: Path, leftover: bytes) -> None:
    server.tagged = False
    server.files[NAME] = CONTENT
    put(partial_path(glueball_home / "models" / f".{NAME}.download"), leftover)
    assert locate(weights_of(CONTENT, f"{server.address}/{NAME}")).read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_and_a_refusing_one_is_not(server: Server, tmp_path: Path) -> None:
    server.files["file"] = CONTENT
    server.errors["file"] = [503, 429]
    download(f"{server.address}/file", tmp_path / "file")
    assert len(server.requests) == 3
    server.errors["file"] = [403]
    with pytest.raises(DownloadError, match="answered 403"):
        download(f"{server.address}/file", tmp_path / "again")
    assert len(server.requests) == 4


def test_all_attempts_fail(server: Server, tmp_path: Path) -> None:
    server.errors["file"] = [500] * 9
    with pytest.raises(DownloadError, match="in 4 attempts"):
        download(f"{server.address}/file", tmp_path / "file")
    assert len(server.requests) == 4


@pytest.mark.parametrize(
    "url", ["http://example.org/file", "file:///etc/passwd", "ftp://example.org/file", "http://127.0.0.1.example.org/f"]
)
def test_only_https_is_fetched(url: str, tmp_path: Path, server: Server) -> None:
    with pytest.raises(DownloadError, match="https only"):
        download(url, tmp_path / "file")
    server.redirects["moved"] = url
    with pytest.raises(DownloadError, match=r"https only|not allowed"):
        download(f"{server.address}/moved", tmp_path / "file")


def test_redirects_to_allowed_addresses_are_followed(server: Server, tmp_path: Path) -> None:
    server.files["file"] = CONTENT
    server.redirects["moved"] = f"{server.address}/file"
    download(f"{server.address}/moved", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == CONTENT


def test_a_disk_that_is_too_small_is_said_before(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Usage:
        free = 10

    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda folder: Usage)
    server.files["file"] = CONTENT
    with pytest.raises(DownloadError, match=r"needs 300000 bytes .* 10 are free"):
        download(f"{server.address}/file", tmp_path / "file")


def test_a_download_that_is_too_large_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_module, "_LARGEST_DOWNLOAD", 1000)
    server.files["file"] = CONTENT
    with pytest.raises(DownloadError, match="announces 300000 bytes"):
        download(f"{server.address}/file", tmp_path / "file")


def test_a_folder_that_cannot_be_written_is_explained(server: Server, glueball_home: Path) -> None:
    put(glueball_home, b"a file where the folder should be")
    with pytest.raises(DownloadError, match="cannot be written"):
        locate(weights_of(CONTENT, f"{server.address}/{NAME}"))


# Several processes


def _locate_in_process(folder: str, url: str, sha1: str, answers: multiprocessing.Queue) -> None:
    os.environ["GLUEBALL_HOME"] = folder
    answers.put(str(locate(Weights(file=NAME, sha1=sha1, url=(url,)))))


def test_processes_download_a_file_once(server: Server, glueball_home: Path) -> None:
    server.files[NAME] = CONTENT
    context = multiprocessing.get_context("spawn")
    answers: multiprocessing.Queue = context.Queue()
    arguments = (str(glueball_home), f"{server.address}/{NAME}", hashlib.sha1(CONTENT).hexdigest(), answers)
    processes = [context.Process(target=_locate_in_process, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    found = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join()
    assert found == {str(glueball_home / "models" / NAME)}
    assert len(server.requests) == 1


def test_a_lock_is_waited_for_and_given_up_on(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file.lock"
    with locked(path), pytest.raises(DownloadError, match="has held"), locked(path, timeout=0.0):
        pass
    with locked(path, timeout=0.0):
        pass


def _hold_and_die(path: str) -> None:
    with locked(Path(path)):
        Path(path + ".held").touch()
        os._exit(1)


def test_a_lock_dies_with_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "file.lock"
    process = multiprocessing.get_context("spawn").Process(target=_hold_and_die, args=(str(path),))
    process.start()
    process.join()
    assert (tmp_path / "file.lock.held").exists()
    with locked(path, timeout=0.0):
        pass


# Archives


def test_members_elsewhere_or_twice_are_refused(tmp_path: Path) -> None:
    for name in (f"../{NAME}", f"/{NAME}", f"folder/{NAME}", "other.params"):
        archive = put(tmp_path / "a.zip", zipped(CONTENT, name))
        with pytest.raises(DownloadError, match="has no plain file"):
            extract_member(archive, NAME, tmp_path / "out")
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as opened:
        opened.writestr(NAME, b"one")
        with pytest.warns(UserWarning, match="Duplicate name"):
            opened.writestr(NAME, b"two")
    with pytest.raises(DownloadError, match="twice"):
        extract_member(put(tmp_path / "a.zip", stream.getvalue()), NAME, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_are_refused(kind: int, tmp_path: Path) -> None:
    archive = put(tmp_path / "a.zip", zipped(b"/etc/passwd", mode=kind | 0o777))
    with pytest.raises(DownloadError, match="link or another special file"):
        extract_member(archive, NAME, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bomb_is_left_packed(tmp_path: Path) -> None:
    archive = put(tmp_path / "a.zip", zipped(bytes(50 << 20)))
    with pytest.raises(DownloadError, match="decompression bomb"):
        extract_member(archive, NAME, tmp_path / "out")
    assert left_in(tmp_path) == ["a.zip"]


def test_a_bomb_that_lies_about_its_size_is_left_packed(tmp_path: Path) -> None:
    content = bytearray(zipped(bytes(50 << 20)))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = content.index(signature) + offset
        content[place : place + 4] = (1000).to_bytes(4, "little")
    with pytest.raises(DownloadError):
        extract_member(put(tmp_path / "a.zip", bytes(content)), NAME, tmp_path / "out")
    assert left_in(tmp_path) == ["a.zip"]


def test_damaged_archives_are_explained(tmp_path: Path) -> None:
    good = zipped(CONTENT)
    for content in (b"", b"no zip", good[: len(good) // 2], good.replace(CONTENT[1000:1010], bytes(10))):
        if content == good:
            continue
        with pytest.raises(DownloadError, match="damaged"):
            extract_member(put(tmp_path / "a.zip", content), NAME, tmp_path / "out")
    assert left_in(tmp_path) == ["a.zip"]


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    content = bytearray(zipped(CONTENT))
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    with pytest.raises(DownloadError, match="encrypted"):
        extract_member(put(tmp_path / "a.zip", bytes(content)), NAME, tmp_path / "out")

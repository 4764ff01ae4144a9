"""Servers that lie, stall and lead elsewhere: a file has its name when it is whole and right, or is not there."""

from __future__ import annotations

import hashlib
import http.server
import multiprocessing
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import attrs
import pytest

from glueball.errors import DownloadError
from glueball.weights import download as downloads
from glueball.weights.download import HOSTS, allowed_hosts, download, download_verified, partial_path

CONTENT = os.urandom(200_000)
SHA1 = hashlib.sha1(CONTENT).hexdigest()
Handler = http.server.BaseHTTPRequestHandler
Answer = Callable[[Handler, int], None]


@attrs.define
class Server:
    """A web server on this machine; ``answer(handler, start)`` answers, where ``start`` begins the range asked for."""

    address: str = ""
    answer: Answer = lambda handler, start: None
    requests: list[dict[str, str]] = attrs.field(factory=list)

    @property
    def url(self) -> str:
        return f"{self.address}/file.bin"

    @property
    def ranges(self) -> list[str | None]:
        return [request.get("Range") for request in self.requests]


@pytest.fixture
def server() -> Iterator[Server]:
    behaviour = Server(answer=whole)

    class Answering(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            behaviour.requests.append({**dict(self.headers), "path": self.path})
            wanted = self.headers.get("Range")
            behaviour.answer(self, int(wanted[6:-1]) if wanted else 0)

        def log_message(self, *arguments: object) -> None: ...

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    running.daemon_threads = True
    behaviour.address = f"http://127.0.0.1:{running.server_address[1]}"
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield behaviour
    running.shutdown()
    thread.join()
    running.server_close()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GLUEBALL_OFFLINE", "GLUEBALL_DOWNLOAD_HOSTS", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(downloads.time, "sleep", lambda seconds: None)


def send(handler: Handler, status: int, body: bytes, **headers: str) -> None:
    handler.send_response(status)
    for name, value in {"Content_Length": str(len(body)), **headers}.items():
        if value:
            handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def whole(handler: Handler, start: int) -> None:
    if start:
        rest = f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"
        send(handler, 206, CONTENT[start:], Content_Range=rest)
    else:
        send(handler, 200, CONTENT)


def leave_part(target: Path, size: int = 1000, content: bytes = CONTENT) -> None:
    """What a broken attempt left."""
    partial_path(target).write_bytes(content[:size])


def get(server: Server, target: Path) -> bytes:
    download(server.url, target)
    return target.read_bytes()


# ----------------------------------------------------------------------------------------------------------------------
# Lengths and ranges


def test_resuming_asks_for_the_rest_and_nothing_else(server: Server, tmp_path: Path) -> None:
    leave_part(tmp_path / "f")
    assert get(server, tmp_path / "f") == CONTENT
    assert server.ranges == ["bytes=1000-"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Range": "bytes 999-199999/200000"},
        {"Content_Range": "bytes 0-199999/200000"},
        {"Content_Range": "bytes 1000-150000/200000"},
        {"Content_Range": "bytes 1000-99/200000"},
        {"Content_Range": "bytes */200000"},
        {"Content_Range": "items 1000-199999/200000"},
        {"Content_Range": ""},
        {"Content_Range": "bytes 1000-199999/200000", "Content_Length": "5"},
        {"Content_Range": "bytes ¹000-199999/200000"},
    ],
    ids=lambda headers: ", ".join(headers.values()),
)
def test_a_wrong_range_is_not_glued_to_what_is_there(headers: dict[str, str], server: Server, tmp_path: Path) -> None:
    leave_part(tmp_path / "f")

    def answer(handler: Handler, start: int) -> None:
        if start:
            send(handler, 206, CONTENT[start:], **headers)
        else:
            whole(handler, 0)

    server.answer = answer
    assert get(server, tmp_path / "f") == CONTENT
    assert server.ranges == ["bytes=1000-", None]


def test_a_range_that_is_ignored_starts_over(server: Server, tmp_path: Path) -> None:
    leave_part(tmp_path / "f", content=bytes(5000), size=5000)
    server.answer = lambda handler, start: send(handler, 200, CONTENT)
    assert get(server, tmp_path / "f") == CONTENT


def test_a_part_that_was_not_asked_for_is_refused(server: Server, tmp_path: Path) -> None:
    server.answer = lambda handler, start: send(handler, 206, CONTENT[5:], Content_Range="bytes 5-199999/200000")
    with pytest.raises(DownloadError, match="the server answered 206 where the file was asked for"):
        download(server.url, tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_a_beginning_of_another_file_is_found_by_the_hash_and_fetched_anew(server: Server, tmp_path: Path) -> None:
    leave_part(tmp_path / ".f.download", content=bytes(5000), size=5000)
    download_verified(server.url, tmp_path / "f", SHA1)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.ranges == ["bytes=5000-", None]


def test_a_server_that_announces_more_than_it_sends(server: Server, tmp_path: Path) -> None:
    server.answer = lambda handler, start: send(handler, 200, CONTENT, Content_Length=str(len(CONTENT) + 1))
    with pytest.raises(DownloadError, match=r"in 4 attempts: the connection ended after 200000 of 200001 bytes"):
        download(server.url, tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_a_server_that_sends_more_than_it_announces(server: Server, tmp_path: Path) -> None:
    """What goes beyond the length belongs to no file; whether the file is right, its hash tells."""
    server.answer = lambda handler, start: send(handler, 200, CONTENT, Content_Length="1000")
    with pytest.raises(DownloadError, match="another hash"):
        download_verified(server.url, tmp_path / "f", SHA1)
    assert [path.name for path in tmp_path.iterdir()] == [".f.lock"]


@pytest.mark.parametrize("length", ["-1", "²", "1e9", "0x10", "9" * 30, "12 34"])
def test_lengths_that_are_no_numbers_do_not_matter(length: str, server: Server, tmp_path: Path) -> None:
    def answer(handler: Handler, start: int) -> None:
        handler.send_response(200)
        handler._headers_buffer.append(f"Content-Length: {length}\r\n".encode("latin-1", "replace"))  # type: ignore[attr-defined]
        handler.end_headers()
        handler.wfile.write(CONTENT)

    server.answer = answer
    download_verified(server.url, tmp_path / "f", SHA1)
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_an_announced_length_beyond_the_disk_or_the_limit(server: Server, tmp_path: Path) -> None:
    server.answer = lambda handler, start: send(handler, 200, b"x", Content_Length=str(1 << 45))
    with pytest.raises(DownloadError, match="announces 35184372088832 bytes, expected at most"):
        download(server.url, tmp_path / "f")


def test_an_endless_answer_without_a_length_is_cut_off(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_LARGEST_DOWNLOAD", 1_000_000)

    def answer(handler: Handler, start: int) -> None:
        handler.send_response(200)
        handler.end_headers()
        try:
            while True:
                handler.wfile.write(bytes(65536))
        except OSError:
            return

    server.answer = answer
    with pytest.raises(DownloadError, match="sent more than 1000000 bytes; stopped"):
        download(server.url, tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_a_chunked_answer_that_breaks_off(server: Server, tmp_path: Path) -> None:
    def answer(handler: Handler, start: int) -> None:
        handler.send_response(200)
        handler.send_header("Transfer-Encoding", "chunked")
        handler.end_headers()
        handler.wfile.write(b"1000\r\n" + CONTENT[:100])

    server.answer = answer
    with pytest.raises(DownloadError, match="in 4 attempts"):
        download(server.url, tmp_path / "f")
    assert not (tmp_path / "f").exists()


def test_compressed_content_that_was_not_asked_for(server: Server, tmp_path: Path) -> None:
    server.answer = lambda handler, start: send(handler, 200, CONTENT, Content_Encoding="gzip")
    with pytest.raises(DownloadError, match="compressed, which was not asked for"):
        download(server.url, tmp_path / "f")


def test_broken_attempts_add_up(server: Server, tmp_path: Path) -> None:
    def answer(handler: Handler, start: int) -> None:
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Length", str(len(CONTENT) - start))
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
        handler.end_headers()
        handler.wfile.write(CONTENT[start : start + 60_000])

    server.answer = answer
    assert get(server, tmp_path / "f") == CONTENT
    assert server.ranges == [None, "bytes=60000-", "bytes=120000-", "bytes=180000-"]


# ----------------------------------------------------------------------------------------------------------------------
# Time


def test_a_server_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/f"
        begin = time.monotonic()
        with pytest.raises(DownloadError, match=r"in 2 attempts: .*timed out"):
            download(url, tmp_path / "f", attempts=2)
    assert time.monotonic() - begin < 5


def test_a_server_that_sends_a_byte_now_and_then(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloads, "_PATIENCE", 0.5)
    stopped = threading.Event()

    def answer(handler: Handler, start: int) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        try:
            while not stopped.wait(0.02):
                handler.wfile.write(b"x")
        except OSError:
            return

    server.answer = answer
    try:
        with pytest.raises(DownloadError, match=r"in 1 attempts: only \d+ bytes came in \d+ seconds"):
            download(server.url, tmp_path / "f", attempts=1)
    finally:
        stopped.set()
    assert partial_path(tmp_path / "f").exists(), "what came is kept for the next attempt"
    assert not (tmp_path / "f").exists()


# ----------------------------------------------------------------------------------------------------------------------
# Hosts, redirects, credentials


def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    asked: list[Any] = []

    def refuse(host: str, *arguments: Any, **options: Any) -> None:
        asked.append(host)
        raise OSError("there is no network here")

    monkeypatch.setattr(downloads.urllib.request.socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.org/f", "ftp://example.org/f", "file:///etc/passwd", "data:text/plain,x", "//example.org/f"),
        *("gopher://127.0.0.1/f", "HTTP://example.org/f", "/etc/passwd", "", "https:///f", "jar:https://example.org/f"),
        *("http://127.0.0.1.example.org/f", "http://localhost@example.org/f", "https://[::1/f", "https://x:port/f"),
    ],
)
def test_addresses_that_are_not_fetched(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = no_network(monkeypatch)
    with pytest.raises(DownloadError, match="is not fetched"):
        download(url, tmp_path / "f")
    assert not asked
    assert not list(tmp_path.iterdir())


def test_hosts_that_nobody_named_are_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = no_network(monkeypatch)
    url = "https://weights.example.org/f"
    with pytest.raises(DownloadError, match=r"the host weights.example.org is .*GLUEBALL_DOWNLOAD_HOSTS=weights.ex"):
        download(url, tmp_path / "f")
    assert not asked
    with pytest.raises(DownloadError, match="no network here"):
        download(url, tmp_path / "f", attempts=1, hosts=["Weights.Example.Org"])
    assert asked == ["weights.example.org"]
    monkeypatch.setenv("GLUEBALL_DOWNLOAD_HOSTS", "other.example.org, Weights.Example.org")
    assert allowed_hosts() == HOSTS | {"other.example.org", "weights.example.org"}
    with pytest.raises(DownloadError, match="no network here"):
        download(url, tmp_path / "f", attempts=1)
    with pytest.raises(DownloadError, match=r"GLUEBALL_DOWNLOAD_HOSTS=example\.org"):
        download("https://example.org/f", tmp_path / "f")


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("file:///etc/passwd", "is not allowed"),
        ("ftp://127.0.0.1/f", "https only"),
        ("http://example.org/f", "https only"),
        ("https://example.org/f", r"the host example.org, to which 127.0.0.1 redirects, is not among"),
        ("https://user:secret@127.0.0.1/f", "a user's name or password"),
    ],
)
def test_redirects_to_elsewhere_are_refused(target: str, message: str, server: Server, tmp_path: Path) -> None:
    server.answer = lambda handler, start: send(handler, 302, b"", Location=target)
    with pytest.raises(DownloadError, match=message) as caught:
        download(server.url, tmp_path / "f")
    assert "secret" not in str(caught.value)
    assert len(server.requests) == 1
    assert not (tmp_path / "f").exists()


def test_a_host_elsewhere_cannot_redirect_to_this_machine() -> None:
    for target in ("http://127.0.0.1/f", "http://localhost:8080/f", "https://localhost/f", "https://[::1]/f"):
        with pytest.raises(DownloadError, match="is not fetched"):
            downloads._check_address(target, HOSTS, coming_from=next(iter(HOSTS)))


def test_redirects_among_named_hosts_and_within_one_are_followed() -> None:
    one, other = sorted(HOSTS)[:2]
    for url in (f"https://{other}/f", f"https://{one}/g"):
        downloads._check_address(url, HOSTS, coming_from=one)
    downloads._check_address("https://mine.example.org/g", HOSTS, coming_from="mine.example.org")


def test_a_circle_of_redirects_ends(server: Server, tmp_path: Path) -> None:
    server.answer = lambda handler, start: send(handler, 302, b"", Location=f"/{len(server.requests)}")
    with pytest.raises(DownloadError, match="answered 302"):
        download(server.url, tmp_path / "f")
    assert len(server.requests) <= 7


def test_nothing_about_the_user_is_sent(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text("machine 127.0.0.1 login me password secret\n", "utf-8")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("NETRC", str(home / ".netrc"))
    leave_part(tmp_path / "f")
    get(server, tmp_path / "f")
    (request,) = server.requests
    assert set(request) <= {"Accept-Encoding", "Connection", "Host", "Range", "User-Agent", "path"}
    assert request["User-Agent"] == "glueball"


def test_messages_and_logs_hold_no_secrets(server: Server, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    server.answer = lambda handler, start: send(handler, 503, b"")
    with pytest.raises(DownloadError, match="503") as caught:
        download(f"{server.url}?signature=secret", tmp_path / "f", attempts=2)
    with pytest.raises(DownloadError, match="password") as other:
        download("https://me:secret@example.org/f", tmp_path / "f")
    for text in (str(caught.value), str(other.value), caplog.text):
        assert "secret" not in text
    assert "?..." in str(caught.value)


def test_the_list_is_what_the_plugins_need() -> None:
    """No address that is shipped is refused, and no host is listed that nobody needs."""
    from urllib.parse import urlsplit

    from glueball import catalog

    urls = []
    for entry in catalog.current().entries("model"):
        for weights in (entry.metadata.get("weights") or {}).values():
            urls += weights.url
    assert urls
    root = Path(__file__).resolve().parents[2]
    shipped = "".join(path.read_text("utf-8") for path in (root / "plugins").glob("*/src/**/*.py"))
    for url in urls:
        assert urlsplit(url).hostname in HOSTS, url
    unused = [host for host in HOSTS if host not in shipped]
    assert not unused
    if find_spec("glueball_nlp_embedding_lm"):
        from glueball_nlp_embedding_lm.datasets.common import PublishedDataset
        from glueball_nlp_embedding_lm.embedding import evaluation_sets, sources

        offered = [source.url for kind in _subclasses(PublishedDataset) for source in dict(kind.sources).values()]
        offered += [source.vectors.url for table in sources.table().values() for source in table.values()]
        kinds = _subclasses(evaluation_sets._Archived)
        offered += [kind.archive.url for kind in kinds if getattr(kind, "archive", None) is not None]
        assert len(offered) > 20
        for url in offered:
            assert not url or urlsplit(url).hostname in HOSTS, url
    if find_spec("glueball_cv_classification"):
        from glueball_cv_classification import datasets

        for url in (datasets.CIFAR10.source.url, datasets.CIFAR100.source.url, datasets.MNIST.mirror):
            assert urlsplit(url).hostname in HOSTS, url


def _subclasses(kind: type) -> list[Any]:
    return [kind, *(inner for below in kind.__subclasses__() for inner in _subclasses(below))]


# ----------------------------------------------------------------------------------------------------------------------
# Hashes and processes


def test_nothing_appears_under_the_name_before_its_hash_is_right(server: Server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"another hash, which was removed\. Expected: 0000"):
        download_verified(server.url, tmp_path / "f", "0" * 40)
    assert [path.name for path in tmp_path.iterdir()] == [".f.lock"]
    download_verified(server.url, tmp_path / "f", hashlib.sha256(CONTENT).hexdigest())
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_a_wrong_file_in_its_place_is_left_and_told(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"mine")
    with pytest.raises(DownloadError, match="does not have the hash"):
        download_verified(server.url, tmp_path / "f", SHA1)
    assert (tmp_path / "f").read_bytes() == b"mine"
    assert not server.requests


def _fetch_in_a_process(url: str, target: str, expected: str) -> None:
    download_verified(url, Path(target), expected)


def test_processes_that_want_one_file_fetch_it_once(server: Server, tmp_path: Path) -> None:
    def slowly(handler: Handler, start: int) -> None:
        threading.Event().wait(1.0)
        whole(handler, start)

    server.answer = slowly
    context = multiprocessing.get_context("spawn")
    arguments = (server.url, str(tmp_path / "f"), SHA1)
    processes = [context.Process(target=_fetch_in_a_process, args=arguments) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert len(server.requests) == 1


def test_a_process_that_is_killed_leaves_no_half_file(server: Server, tmp_path: Path) -> None:
    reached = threading.Event()

    def answer(handler: Handler, start: int) -> None:
        if start or reached.is_set():
            whole(handler, start)
            return
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[:150_000])
        handler.wfile.flush()
        threading.Event().wait(0.5)
        reached.set()
        threading.Event().wait(5)

    server.answer = answer
    arguments = (server.url, str(tmp_path / "f"), SHA1)
    process = multiprocessing.get_context("spawn").Process(target=_fetch_in_a_process, args=arguments)
    process.start()
    assert reached.wait(60)
    process.kill()
    process.join()
    assert not (tmp_path / "f").exists()
    download_verified(server.url, tmp_path / "f", SHA1)
    assert (tmp_path / "f").read_bytes() == CONTENT

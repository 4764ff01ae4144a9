"""Pictures that would fill the memory or the day: refused from their headers, whatever decodes them."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from importlib.util import find_spec

import numpy as np
import pytest

from glueball.data import images, jpeg
from glueball.errors import DataError

pillow = pytest.importorskip("PIL.Image")

# 900 million pixels: 2.7 GB once decoded.
SIDE = 30_000
# The most that WebP's 14 bits can say: 268 million.
WEBP_SIDE = 16_384


def _chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


def _png() -> bytes:
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1 << 20), 9)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


def _gif() -> bytes:
    screen = struct.pack("<HHBBB", SIDE, SIDE, 0x80, 0, 0) + bytes(6)
    return b"GIF89a" + screen + b"\x2c" + struct.pack("<HHHHB", 0, 0, SIDE, SIDE, 0) + b"\x02\x02\x44\x01\x00\x3b"


def _gif_of_a_small_screen() -> bytes:
    """The frame is larger than the screen that the header announces."""
    return _gif()[:6] + struct.pack("<HH", 2, 2) + _gif()[10:]


def _bmp() -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, SIDE, SIDE, 1, 24, 0, 0, 0, 0, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 64, 0, 0, 54) + info + bytes(64)


def _riff(kind: bytes, content: bytes) -> bytes:
    chunk = kind + len(content).to_bytes(4, "little") + content + bytes(len(content) % 2)
    return b"RIFF" + (4 + len(chunk)).to_bytes(4, "little") + b"WEBP" + chunk


def _webp_extended() -> bytes:
    side = (WEBP_SIDE - 1).to_bytes(3, "little")
    return _riff(b"VP8X", bytes(4) + side + side) + bytes(40)


def _webp_lossless() -> bytes:
    return _riff(b"VP8L", b"\x2f" + ((WEBP_SIDE - 1) | (WEBP_SIDE - 1) << 14).to_bytes(4, "little") + bytes(40))


def _webp_lossy() -> bytes:
    return _riff(b"VP8 ", bytes(3) + b"\x9d\x01\x2a" + struct.pack("<HH", WEBP_SIDE - 1, WEBP_SIDE - 1) + bytes(40))


def _tiff() -> bytes:
    entries = [
        (256, 4, SIDE),
        (257, 4, SIDE),
        (258, 3, 8),
        (259, 3, 1),
        (262, 3, 1),
        (273, 4, 8),
        (277, 3, 1),
        (279, 4, 8),
    ]
    body = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in entries)
    return b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", len(entries)) + body + bytes(4 + 64)


def _ppm() -> bytes:
    return b"P6\n%d %d\n255\n" % (SIDE, SIDE) + bytes(64)


def _jpeg() -> bytes:
    stream = io.BytesIO()
    pillow.fromarray(np.zeros((8, 8, 3), np.uint8)).save(stream, "JPEG")
    content = bytearray(stream.getvalue())
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", SIDE, SIDE)
    return bytes(content)


BOMBS = {
    "png": _png,
    "gif": _gif,
    "gif of a small screen": _gif_of_a_small_screen,
    "bmp": _bmp,
    "webp extended": _webp_extended,
    "webp lossless": _webp_lossless,
    "webp lossy": _webp_lossy,
    "tiff": _tiff,
    "ppm": _ppm,
    "jpeg": _jpeg,
}
DECODERS = [
    name for name, module in (("pillow", "PIL"), ("simplejpeg", "simplejpeg"), ("opencv", "cv2")) if find_spec(module)
]


@pytest.mark.parametrize("decoder", DECODERS)
@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused(kind: str, decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLUEBALL_IMAGE_DECODER", decoder)
    with pytest.raises(DataError, match=r"more (pixels )?than the limit of 89,478,485.*GLUEBALL_MAX_PIXELS"):
        images.decode(BOMBS[kind](), name=kind)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits the memory of a process as Linux does")
def test_bombs_cost_no_memory() -> None:
    """All of them in a process that may grow by 64 MiB."""
    program = """
import os, resource, sys
sys.path.insert(0, sys.argv[1])
from test_security_pictures import BOMBS, DECODERS
from glueball.data import images
from glueball.errors import DataError
content = {kind: make() for kind, make in BOMBS.items()}
from PIL import Image, WebPImagePlugin, TiffImagePlugin, GifImagePlugin, BmpImagePlugin, PpmImagePlugin, PngImagePlugin
Image.init()
for decoder in DECODERS:
    os.environ["GLUEBALL_IMAGE_DECODER"] = decoder
    images.decode(images.encode(images.np.zeros((4, 4, 3), images.np.uint8)))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + (64 << 20)
resource.setrlimit(resource.RLIMIT_AS, (used, used))
for decoder in DECODERS:
    os.environ["GLUEBALL_IMAGE_DECODER"] = decoder
    for kind, data in content.items():
        try:
            images.decode(data)
        except DataError as error:
            assert "limit" in str(error), (kind, error)
        else:
            raise AssertionError(kind)
print("refused", len(content) * len(DECODERS))
"""
    from pathlib import Path

    command = [sys.executable, "-c", program, str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == f"refused {len(BOMBS) * len(DECODERS)}\n", done.stderr


def test_webp_headers_say_what_pillow_says() -> None:
    for options in ({"lossless": True}, {"quality": 50}, {"exif": b"Exif\0\0", "lossless": True}, {"save_all": True}):
        stream = io.BytesIO()
        pillow.fromarray(np.zeros((3, 7, 3), np.uint8)).save(stream, "WEBP", **options)
        assert images._webp_size(stream.getvalue(), "x") == (3, 7)
        assert images.decode(stream.getvalue()).shape == (3, 7, 3)
    for content in (_webp_lossy()[:25], _riff(b"VP8L", bytes(20)), _riff(b"ALPH", bytes(20))):
        with pytest.raises(DataError, match="no header of WebP"):
            images.decode(content)


def test_formats_that_run_programs_or_are_seldom_read_are_not_tried() -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%EOF\n"
    icns = b"icns" + struct.pack(">I", 16) + b"ic07" + struct.pack(">I", 8)
    for content in (eps, icns, b"8BPS" + bytes(60), b"\x00\x00\x00\x0cjP  \r\n\x87\n" + bytes(40)):
        with pytest.raises(DataError, match="not a picture that Pillow can read"):
            images.decode(content)


@pytest.mark.parametrize("decoder", DECODERS)
def test_a_progressive_picture_of_endless_scans(decoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLUEBALL_IMAGE_DECODER", decoder)
    stream = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    pillow.fromarray(noise).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    assert images.decode(content).shape == (64, 64, 3)
    scans = [(start, stop) for marker, start, _, stop in jpeg._segments(content) if marker == 0xDA]
    last = content[scans[-1][0] : jpeg.end_of(content)]
    many = content[: scans[-1][0]] + last * 600 + b"\xff\xd9"
    with pytest.raises(DataError, match="more than 500 scans"):
        images.decode(many)

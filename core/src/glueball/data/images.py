"""Pictures: decoding, encoding and the few operations that every vision transform is made of.

A picture is a NumPy array of shape (height, width, 3), uint8, RGB. Whatever decodes it, the result obeys one policy:

- The EXIF orientation is applied, so that the array is what a person sees. (Turn it off with ``orient=False``.)
- Transparency is dropped, palettes and CMYK become RGB, grey becomes three equal channels, 16-bit channels keep their
  upper 8 bits, and of an animation the first frame counts.
- A picture with more pixels than the limit is refused from its header, before memory is asked for.
- Formats are those of ``IMAGE_SUFFIXES``. Pillow knows many more, of which some run other programs (EPS starts
  Ghostscript) and most are seldom tested; none of them is tried.
- A truncated or damaged picture is an error that names the file, never half a picture, as far as damage can be seen.
  Oddities that leave the pixels whole (bytes between segments, padding, bytes behind the end) are none.

JPEG is decoded by simplejpeg or OpenCV where installed, since they are faster than Pillow and, resting on the same
library, give the same pixels; Pillow decodes everything else. Pillow comes with the image plugins, not with the core,
and is imported at the first use.

How much damage to a JPEG is seen depends on the decoder. simplejpeg hands on what libjpeg notices: data that end early
or late, codes that do not exist, restart markers out of order. Pillow and OpenCV keep that to themselves, so with them
an error is: a missing end marker, restart markers that do not fit the size, scans that a picture lacks, and compressed
data that end before the last corner. With them, bytes that were changed so that the data last until there or longer are
not seen; install simplejpeg where files cannot be trusted. No decoder sees changed bytes that are valid codes for
exactly as many pixels: JPEG has no checksums.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
import os
import re
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from glueball.data import jpeg
from glueball.errors import DataError, OptionError, PluginError

MAX_PIXELS = 89_478_485
"""Default limit of pixels in a picture: a quarter of a gigabyte once decoded, the limit at which Pillow warns."""

DECODERS = ("simplejpeg", "opencv", "pillow")
"""What may decode JPEG, fastest first (measured by benchmarks/loader.py)."""

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "area")

Size = tuple[int, int]
"""(height, width)"""
Box = tuple[int, int, int, int]
"""(left, top, right, bottom) in pixels; right and bottom lie outside."""

# Pillow's module -> the format it registers. JPEG stands for the pictures of several frames (MPO), too.
_PILLOW_FORMATS = {
    "JpegImagePlugin": "JPEG",
    "PngImagePlugin": "PNG",
    "BmpImagePlugin": "BMP",
    "GifImagePlugin": "GIF",
    "WebPImagePlugin": "WEBP",
    "TiffImagePlugin": "TIFF",
    "PpmImagePlugin": "PPM",
}

_MODULES = {"simplejpeg": "simplejpeg", "opencv": "cv2", "pillow": "PIL"}


class _OwnLimit(threading.local):
    """The limit of pixels of the picture that this thread decodes; None outside of ``decode``."""

    pixels: int | None = None


_own_limit = _OwnLimit()


def _use_own_limit(pillow: Any) -> None:
    """Makes Pillow ask for our limit within ``decode``, and for its own everywhere else.

    Pillow's limit is a global of its module. To set it for one call would lift it for all threads of the program.
    """
    original = getattr(pillow, "_decompression_bomb_check", None)
    if original is None or hasattr(original, "glueball_original"):
        return

    @functools.wraps(original)
    def check(size: Size, *arguments: Any, **options: Any) -> None:
        limit = _own_limit.pixels
        if limit is None:
            original(size, *arguments, **options)
        elif max(1, size[0]) * max(1, size[1]) > limit:
            raise pillow.DecompressionBombError(f"{size[0]} x {size[1]} pixels")

    check.glueball_original = original  # type: ignore[attr-defined]
    pillow._decompression_bomb_check = check


@functools.cache
def _pillow() -> ModuleType:
    try:
        pillow = importlib.import_module("PIL.Image")
        _use_own_limit(pillow)
        return pillow
    except ImportError as error:
        raise PluginError(
            "Decoding pictures needs Pillow, which is not installed here. The image plugins bring it: "
            "pip install glueball-cv-classification (or Pillow alone: pip install pillow)."
        ) from error


@functools.cache
def _pillow_formats() -> tuple[str, ...]:
    """Those of ``_PILLOW_FORMATS`` that this Pillow was built with."""
    for module in _PILLOW_FORMATS:
        _optional(f"PIL.{module}")
    return tuple(name for name in _PILLOW_FORMATS.values() if name in _pillow().OPEN)


@functools.cache
def _optional(name: str) -> Any:
    """The module, or None where it is not installed or broken."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


@functools.lru_cache(maxsize=8)
def _choose_decoder(wanted: str) -> str:
    if wanted == "auto":
        return next((name for name in DECODERS if _optional(_MODULES[name]) is not None), "pillow")
    if wanted not in DECODERS:
        raise OptionError(
            f"Unknown picture decoder {wanted!r}; GLUEBALL_IMAGE_DECODER is one of auto, {', '.join(DECODERS)}."
        )
    if importlib.util.find_spec(_MODULES[wanted]) is None:
        raise OptionError(
            f"The picture decoder {wanted!r} was asked for, but {_MODULES[wanted]} is not installed. Install it, or "
            "set GLUEBALL_IMAGE_DECODER=auto."
        )
    return wanted


def decoder() -> str:
    """Which of ``DECODERS`` decodes JPEG here: GLUEBALL_IMAGE_DECODER, else the fastest one that is installed.

    Raises:
        OptionError: the setting names no decoder, or one that is not installed.
    """
    return _choose_decoder(os.environ.get("GLUEBALL_IMAGE_DECODER", "auto") or "auto")


def max_pixels() -> int:
    """The limit of pixels in a picture: GLUEBALL_MAX_PIXELS, else ``MAX_PIXELS``.

    Raises:
        OptionError: the setting is no positive integer.
    """
    text = os.environ.get("GLUEBALL_MAX_PIXELS")
    if not text:
        return MAX_PIXELS
    if not text.isdecimal() or int(text) == 0:
        raise OptionError(f"GLUEBALL_MAX_PIXELS is a positive integer. Received: {text!r}.")
    return int(text)


def _check_pixels(height: int, width: int, limit: int, name: str) -> None:
    if height * width > limit:
        raise DataError(
            f"{name}: {width} x {height} pixels are more than the limit of {limit:,}. If the file can be trusted, "
            "raise the limit with GLUEBALL_MAX_PIXELS."
        )


def _turn(image: np.ndarray, orientation: int) -> np.ndarray:
    """The picture as its EXIF orientation wants it seen (Exif 2.32, tag 0x0112)."""
    if orientation == 1:
        return image
    if orientation >= 5:
        image = image.transpose(1, 0, 2)
    # After the transposition of 5 to 8, what is left is one of the four flips.
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


# ----------------------------------------------------------------------------------------------------------------------
# Decoding and encoding


def _decode_pillow(data: bytes, name: str, limit: int, orient: bool, at_least: Size | None = None) -> np.ndarray:
    """Decodes any format; ``orient`` applies the orientation that Pillow finds, ``at_least`` is for JPEG."""
    pillow = _pillow()
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        # Pillow's plugin asks for the memory of the whole picture when it opens one.
        height, width = _webp_size(data, name)
        _check_pixels(height, width, limit, name)
    _own_limit.pixels = limit
    try:
        image = pillow.open(io.BytesIO(data), formats=_pillow_formats())
        _check_pixels(image.height, image.width, limit, name)
        if at_least is not None and image.format == "JPEG":
            image.draft("RGB", at_least[::-1])
        if orient:
            transpose = importlib.import_module("PIL.ImageOps").exif_transpose
            image = transpose(image) or image
        if image.mode == "F":
            raise DataError(
                f"{name}: floating-point pixels have no agreed range; save the picture with 8-bit channels."
            )
        if image.mode == "I" or image.mode.startswith("I;"):
            wide = np.asarray(image)
            if wide.size and (int(wide.min()) < 0 or int(wide.max()) > 65535):
                raise DataError(f"{name}: 32-bit pixels beyond 65535; save the picture with 8- or 16-bit channels.")
            return np.repeat((wide.astype(np.uint32) >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
        if image.mode in ("P", "PA"):
            # Through RGBA, because Pillow warns when a palette with transparency goes to RGB at once.
            image = image.convert("RGBA")
        if image.mode != "RGB":
            image = image.convert("RGB")
        return np.array(image)
    except (pillow.DecompressionBombError, pillow.DecompressionBombWarning) as error:
        raise DataError(
            f"{name}: the picture has more pixels than the limit of {limit:,} ({error}). If the file can be trusted, "
            "raise the limit with GLUEBALL_MAX_PIXELS."
        ) from error
    except pillow.UnidentifiedImageError as error:
        raise DataError(f"{name}: not a picture that Pillow can read ({len(data):,} bytes).") from error
    except DataError:
        raise
    # Pillow's format plugins raise what their parsers stumble over; all of it means that the file is damaged.
    except (OSError, ValueError, SyntaxError, struct.error, IndexError, KeyError, TypeError, OverflowError) as error:
        raise DataError(f"{name}: the picture is damaged or cut short: {error}.") from error
    finally:
        _own_limit.pixels = None


def _webp_size(data: bytes, name: str) -> Size:
    """(height, width) from the header of a WebP picture (RFC 9649, sections 2.5 to 2.7).

    Raises:
        DataError: there is no such header.
    """
    kind, start = data[12:16], data[20:30]
    if len(start) == 10:
        if kind == b"VP8X":
            return 1 + int.from_bytes(start[7:10], "little"), 1 + int.from_bytes(start[4:7], "little")
        if kind == b"VP8L" and start[0] == 0x2F:
            bits = int.from_bytes(start[1:5], "little")
            return 1 + (bits >> 14 & 0x3FFF), 1 + (bits & 0x3FFF)
        if kind == b"VP8 " and start[3:6] == b"\x9d\x01\x2a":
            return int.from_bytes(start[8:10], "little") & 0x3FFF, int.from_bytes(start[6:8], "little") & 0x3FFF
    raise DataError(f"{name}: the picture is damaged or cut short: it has no header of WebP.")


def _reduced(size: Size, at_least: Size) -> Size:
    """The smallest of full, 1/2, 1/4 and 1/8 size that is still ``at_least`` as large: what Pillow's draft mode offers.

    simplejpeg knows all eighths; one rule for both gives one result.
    """
    for factor in (8, 4, 2):
        reduced = (-(-size[0] // factor), -(-size[1] // factor))
        if reduced[0] >= at_least[0] and reduced[1] >= at_least[1]:
            return reduced
    return size


# What libjpeg says of a picture whose pixels are not what was saved. It warns of harmless things too.
_DAMAGE = re.compile("Corrupt JPEG data: (?!bad ICC)|Premature end of JPEG file|Inconsistent progression sequence")
_STRAY_BYTES = re.compile("([0-9]+) extraneous bytes before marker 0x([0-9a-f]{2})")

# Bits that mean something as codes of any Huffman table, and no marker.
_FILLER = b"\x35\xac\x53\x9a\x6d\x17" * 16


def _decode_strictly(data: bytes, name: str, at_least: Size | None) -> np.ndarray | None:
    """What simplejpeg makes of a JPEG; None where it cannot tell damage from what it does not know.

    Raises:
        DataError: libjpeg found damage.
    """
    simplejpeg = _optional("simplejpeg")
    height, width = at_least or (0, 0)
    remaining = data
    # libjpeg tells its first finding only, so the harmless one is taken away and the rest looked at again.
    for _ in range(8):
        try:
            return simplejpeg.decode_jpeg(remaining, colorspace="RGB", min_height=height, min_width=width)
        except ValueError as error:
            message = str(error)
        stray = _STRAY_BYTES.search(message)
        cleaned = jpeg.without_stray_bytes(remaining, int(stray[1]), int(stray[2], 16)) if stray else None
        if cleaned is None:
            if _DAMAGE.search(message):
                raise DataError(f"{name}: the picture is damaged or cut short: {message}.")
            return None
        remaining = cleaned
    raise DataError(f"{name}: the picture is damaged: {message}.")


def _decode_opencv(data: bytes) -> np.ndarray | None:
    """RGB before orientation, or None where OpenCV cannot decode it."""
    cv2 = _optional("cv2")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # beyond its own limits of size
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def _decode_jpeg(
    data: bytes, header: jpeg.Header, name: str, limit: int, with_decoder: str, at_least: Size | None
) -> np.ndarray:
    """RGB before orientation. ``at_least`` is (height, width) of the picture as it is stored."""
    # The fast decoders do not know Adobe's inverted CMYK.
    plain = header.components in (1, 3)
    strict = with_decoder == "simplejpeg" and plain
    # The markers of sequential pictures tell nothing that simplejpeg does not see.
    flaw = jpeg.flaw(data) if header.progressive or not strict else None
    if flaw is not None:
        raise DataError(f"{name}: the picture is damaged or cut short: {flaw}.")
    if strict:
        wanted = None if at_least is None else _reduced((header.height, header.width), at_least)
        image = _decode_strictly(data, name, wanted)
        if image is not None:
            return image

    def decode_leniently(content: bytes) -> np.ndarray:
        image = _decode_opencv(content) if with_decoder == "opencv" and plain else None
        return _decode_pillow(content, name, limit, False, at_least) if image is None else image

    image = decode_leniently(data)
    # libjpeg gives mid-grey to what was never sent of a sequential picture. Whether the last corner is grey or empty
    # shows when more data follow: a picture that is whole has no use for them. Pictures whose gaps look otherwise are
    # rare enough to decode each twice.
    if header.progressive or not plain or (image[-1, -1] == 128).all():
        end = jpeg.end_of(data)
        # The marker may be preceded by any number of 0xFF, which would make markers of the filler.
        longer = data[:end].rstrip(b"\xff") + _FILLER + data[end:]
        if not np.array_equal(decode_leniently(longer), image):
            raise DataError(f"{name}: the picture is cut short: its compressed data end early.")
    return image


def decode(
    source: bytes | bytearray | memoryview | str | os.PathLike[str],
    *,
    name: str | None = None,
    orient: bool = True,
    at_least: Size | None = None,
    pixel_limit: int | None = None,
) -> np.ndarray:
    """Decodes a picture.

    Args:
        source: the bytes of the file, or its path.
        name: what to call the picture in errors; default: the path.
        orient: whether to apply the EXIF orientation.
        at_least: (height, width) that the result need not exceed. A JPEG is then decoded at 1/2, 1/4 or 1/8 of its
            size, straight from fewer DCT coefficients, as long as it stays at least that large; other formats and
            decoders that cannot do so give the whole picture.
        pixel_limit: the limit of pixels; default: ``max_pixels()``.

    Returns:
        (height, width, 3), uint8, RGB.

    Raises:
        DataError: the file is missing, empty, no picture, damaged, cut short, or larger than the limit.
        PluginError: Pillow is needed and not installed.
    """
    if isinstance(source, (bytes, bytearray, memoryview)):
        data, name = bytes(source), name or "picture in memory"
    else:
        data = _read(os.fspath(source))
        name = name or os.fspath(source)
    if not data:
        raise DataError(f"{name}: the file is empty.")
    limit = max_pixels() if pixel_limit is None else pixel_limit
    header = jpeg.read_header(data) if data[:2] == b"\xff\xd8" else None
    if header is None:
        return _decode_pillow(data, name, limit, orient)
    _check_pixels(header.height, header.width, limit, name)
    if at_least is not None and orient and header.lies_on_its_side:
        at_least = at_least[::-1]
    image = _decode_jpeg(data, header, name, limit, decoder(), at_least)
    return _turn(image, header.orientation) if orient else image


def encode(image: np.ndarray, format: str = "jpg", quality: int = 95) -> bytes:
    """The bytes of a picture file; ``format`` is jpg or png, ``quality`` (1 to 100) is for jpg.

    Raises:
        OptionError: the format is another one, or ``image`` is not uint8 of shape (height, width, 3) or
            (height, width).
    """
    kinds = {"jpg": "JPEG", "jpeg": "JPEG", "png": "PNG"}
    kind = kinds.get(format.lower().lstrip("."))
    if kind is None:
        raise OptionError(f"Pictures are encoded as jpg or png. Received: {format!r}.")
    if image.dtype != np.uint8 or not (image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 3)):
        raise OptionError(
            "encode expects uint8 of shape (height, width, 3) or (height, width). "
            f"Received: {image.dtype} of shape {image.shape}."
        )
    buffer = io.BytesIO()
    _pillow().fromarray(np.ascontiguousarray(image)).save(
        buffer, kind, **({"quality": quality} if kind == "JPEG" else {})
    )
    return buffer.getvalue()


class EncodedImage:
    """A picture that is not decoded yet, for transforms that need only a part of it or a smaller one.

    ``resize`` and ``crop_resize`` (not ``antialias=True``, which needs all pixels) decode it at 1/2, 1/4 or 1/8 where
    what is left is still at least twice the size asked for. The decoder then averages where bilinear interpolation
    would pick single pixels, so that the result has less aliasing, not the same pixels. Everything else sees the whole
    picture: it has the shape of the decoded array and turns into it.
    """

    ndim = 3
    dtype = np.dtype(np.uint8)

    def __init__(self, data: bytes, name: str | None = None) -> None:
        self.data = data
        self.name = name or "picture in memory"
        self._shape: tuple[int, int, int] | None = None

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> EncodedImage:
        """The picture in a file.

        Raises:
            DataError: the file cannot be read.
        """
        name = os.fspath(path)
        return cls(_read(name), name)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(height, width, 3) as it will be decoded, from the header where it is a JPEG."""
        if self._shape is None:
            header = jpeg.read_header(self.data) if self.data[:2] == b"\xff\xd8" else None
            if header is None:
                height, width = self.decode().shape[:2]
            else:
                height, width = header.height, header.width
                if header.lies_on_its_side:
                    height, width = width, height
                _check_pixels(height, width, max_pixels(), self.name)
            self._shape = (height, width, 3)
        return self._shape

    def decode(self, at_least: Size | None = None) -> np.ndarray:
        """The pixels; see ``decode``."""
        return decode(self.data, name=self.name, at_least=at_least)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self.decode(), dtype)

    def part(self, box: Box, size: Size) -> np.ndarray:
        """The part of the picture in ``box``, at full size or reduced to no less than twice ``size``."""
        height, width = self.shape[:2]
        left, top, right, bottom = box
        factor = min((bottom - top) / (2 * size[0]), (right - left) / (2 * size[1]))
        image = self.decode((int(np.ceil(height / factor)), int(np.ceil(width / factor))) if factor >= 2 else None)
        rows, columns = image.shape[0] / height, image.shape[1] / width
        top, left = int(top * rows), int(left * columns)
        return image[top : max(round(bottom * rows), top + 1), left : max(round(right * columns), left + 1)]


def _read(name: str) -> bytes:
    try:
        with open(name, "rb") as file:
            return file.read()
    except OSError as error:
        raise DataError(f"{name}: cannot be read: {error.strerror or error}.") from error


# ----------------------------------------------------------------------------------------------------------------------
# Operations


def _taps(source: int, target: int, interpolation: str) -> tuple[np.ndarray, np.ndarray]:
    """Which source positions each target position mixes, and how: indices and weights, both (taps, target).

    OpenCV's rules: pixel centres at halves, the border repeated, the cubic kernel with a = -0.75.
    """
    scale = 1 / (target / source)  # OpenCV's own order of rounding, which decides which pixel is the nearest
    centres = (np.arange(target) + 0.5) * scale - 0.5
    if interpolation == "nearest":
        return np.minimum(np.floor(np.arange(target) * scale), source - 1).astype(np.intp)[None], np.ones((1, target))
    if interpolation == "area":
        starts, ends = np.arange(target) * scale, (np.arange(target) + 1) * scale
        offsets = np.arange(int(np.ceil(scale)) + 1)[:, None]
        indices = np.floor(starts).astype(np.intp) + offsets
        weights = np.clip(np.minimum(ends, indices + 1) - np.maximum(starts, indices), 0, None)
        return np.clip(indices, 0, source - 1), weights / weights.sum(axis=0)
    low = np.floor(centres).astype(np.intp)
    fraction = centres - low
    if interpolation == "bicubic":
        distances = np.abs(fraction - np.arange(-1, 3)[:, None])
        near = (1.25 * distances - 2.25) * distances**2 + 1
        far = ((-0.75 * distances + 3.75) * distances - 6) * distances + 3
        return np.clip(low + np.arange(-1, 3)[:, None], 0, source - 1), np.where(distances <= 1, near, far)
    return np.clip(np.stack([low, low + 1]), 0, source - 1), np.stack([1 - fraction, fraction])


def _resize_numpy(image: np.ndarray, size: Size, interpolation: str) -> np.ndarray:
    """What OpenCV computes, for where it is not installed: within one grey level of it."""
    rows, row_weights = _taps(image.shape[0], size[0], interpolation)
    columns, column_weights = _taps(image.shape[1], size[1], interpolation)
    if interpolation == "nearest":
        return image[rows[0][:, None], columns[0][None]]
    work = np.zeros((size[0], *image.shape[1:]), np.float32)
    for index, weight in zip(rows, row_weights.astype(np.float32), strict=True):
        work += weight[:, None, None] * image[index]
    result = np.zeros((*size, image.shape[2]), np.float32)
    for index, weight in zip(columns, column_weights.astype(np.float32), strict=True):
        result += weight[None, :, None] * work[:, index]
    if image.dtype == np.uint8:
        return np.clip(np.rint(result), 0, 255).astype(np.uint8)
    return result.astype(image.dtype)


def _resize_pillow(image: np.ndarray, size: Size, interpolation: str) -> np.ndarray:
    pillow = _pillow()
    resampling = {"nearest": "NEAREST", "bilinear": "BILINEAR", "bicubic": "BICUBIC", "area": "BOX"}[interpolation]
    method = getattr(pillow.Resampling, resampling)
    if image.dtype == np.uint8:
        # np.array: the view that asarray gives is read-only.
        return np.array(pillow.fromarray(np.ascontiguousarray(image)).resize(size[::-1], method))
    channels = [
        np.asarray(pillow.fromarray(np.ascontiguousarray(image[:, :, channel], np.float32)).resize(size[::-1], method))
        for channel in range(image.shape[2])
    ]
    return np.stack(channels, axis=2).astype(image.dtype)


def resize(
    image: np.ndarray | EncodedImage, size: Size, interpolation: str = "bilinear", *, antialias: bool = False
) -> np.ndarray:
    """Resizes a picture.

    Args:
        image: (height, width, channels), uint8 or float32.
        size: (height, width) of the result.
        interpolation: one of ``INTERPOLATIONS``.
        antialias: False takes OpenCV's rules, by which MXNet and GluonCV resize and the official weights were measured
            (by OpenCV if installed, else by NumPy, within one grey level); True takes Pillow's, whose filter widens
            when the picture shrinks.

    Raises:
        OptionError: the interpolation is unknown, or a side is not positive.
        DataError: ``image`` is empty or not of that shape.
    """
    if interpolation not in INTERPOLATIONS:
        raise OptionError(f"interpolation is one of {', '.join(INTERPOLATIONS)}. Received: {interpolation!r}.")
    height, width = int(size[0]), int(size[1])
    if height < 1 or width < 1:
        raise OptionError(f"The size of a picture is (height, width), each at least 1. Received: {tuple(size)}.")
    if image.ndim != 3 or 0 in image.shape:
        raise DataError(f"resize expects a picture (height, width, channels). Received: shape {image.shape}.")
    if isinstance(image, EncodedImage):
        image = image.decode() if antialias else image.part((0, 0, image.shape[1], image.shape[0]), (height, width))
    if image.shape[:2] == (height, width):
        return image
    if interpolation == "area" and (height > image.shape[0] or width > image.shape[1]):
        interpolation = "bilinear"  # there is no area to average over
    if antialias:
        return _resize_pillow(image, (height, width), interpolation)
    cv2 = _optional("cv2")
    if cv2 is None:
        return _resize_numpy(image, (height, width), interpolation)
    methods = {
        "nearest": cv2.INTER_NEAREST,
        "bilinear": cv2.INTER_LINEAR,
        "bicubic": cv2.INTER_CUBIC,
        "area": cv2.INTER_AREA,
    }
    resized = cv2.resize(image, (width, height), interpolation=methods[interpolation])
    # OpenCV drops an axis of length one.
    return resized[:, :, None] if resized.ndim == 2 else resized


def crop_resize(
    image: np.ndarray | EncodedImage, box: Box, size: Size, interpolation: str = "bilinear", *, antialias: bool = False
) -> np.ndarray:
    """``resize`` of the part of the picture in ``box`` = (left, top, right, bottom), without copying that part first.

    Raises:
        OptionError: as ``resize``.
        DataError: the box is empty or not inside the picture.
    """
    left, top, right, bottom = box
    if not (0 <= left < right <= image.shape[1] and 0 <= top < bottom <= image.shape[0]):
        raise DataError(
            f"The box (left, top, right, bottom) = {tuple(box)} is empty or leaves the picture of {image.shape[1]} x "
            f"{image.shape[0]} pixels (width x height)."
        )
    if isinstance(image, EncodedImage):
        part = image.decode()[top:bottom, left:right] if antialias else image.part(box, size)
    else:
        part = image[top:bottom, left:right]
    return resize(part, size, interpolation, antialias=antialias)


def flip_left_right(image: np.ndarray) -> np.ndarray:
    """The picture mirrored about its vertical axis; a view."""
    return image[:, ::-1]


def flip_top_bottom(image: np.ndarray) -> np.ndarray:
    """The picture mirrored about its horizontal axis; a view."""
    return image[::-1]


def to_chw(image: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """(height, width, channels) of 0 to 255 to (channels, height, width), float32, of 0 to 1."""
    return normalize_to_chw(image, (0.0,), (1.0,), out)


def normalize_to_chw(
    image: np.ndarray, mean: Sequence[float], std: Sequence[float], out: np.ndarray | None = None
) -> np.ndarray:
    """``(image / 255 - mean) / std`` with the channels first.

    One pass that moves, one that scales and shifts each plane while it is in the cache.

    Args:
        image: (height, width, channels), values from 0 to 255, uint8 or floating point.
        mean, std: one number, or one for each channel.
        out: (channels, height, width), float32, to write into.

    Raises:
        OptionError: ``mean`` or ``std`` fit neither one nor all channels, or a standard deviation is not positive.
    """
    if image.ndim != 3:
        raise DataError(f"normalize_to_chw expects (height, width, channels). Received: shape {image.shape}.")
    channels = image.shape[2]
    scale, shift = _affine(tuple(map(float, mean)), tuple(map(float, std)), channels)
    if out is None:
        out = np.empty((channels, *image.shape[:2]), np.float32)
    for channel in range(channels):
        plane = out[channel]
        plane[...] = image[:, :, channel]
        plane *= scale[channel]
        if shift[channel]:
            plane += shift[channel]
    return out


@functools.lru_cache(maxsize=64)
def _affine(mean: tuple[float, ...], std: tuple[float, ...], channels: int) -> tuple[np.ndarray, np.ndarray]:
    if len(mean) not in (1, channels) or len(std) not in (1, channels):
        raise OptionError(
            f"A picture of {channels} channels is normalised with 1 or {channels} means and standard deviations. "
            f"Received: {len(mean)} and {len(std)}."
        )
    if min(std) <= 0:
        raise OptionError(f"Standard deviations are positive. Received: {std}.")
    means = np.broadcast_to(np.array(mean), channels)
    deviations = np.broadcast_to(np.array(std), channels)
    return (1 / (255 * deviations)).astype(np.float32), (-means / deviations).astype(np.float32)


def is_image_path(path: str | os.PathLike[str]) -> bool:
    """Whether the suffix is one of ``IMAGE_SUFFIXES``."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
"""Suffixes of files that are taken for pictures."""

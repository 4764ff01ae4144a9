"""Pictures: decoding, encoding and the few operations that every vision transform is made of.

A picture is a NumPy array of shape (height, width, 3), uint8, RGB. Whatever decodes it, the result obeys one policy:

- The EXIF orientation is applied, so that the array is what a person sees. (Turn it off with ``orient=False``.)
- Transparency is dropped, palettes and CMYK become RGB, grey becomes three equal channels, 16-bit channels keep their
  upper 8 bits, and of an animation the first frame counts.
- A picture with more pixels than the limit is refused from its header, before memory is asked for.
- A truncated or damaged picture is an error that names the file, never half a picture.

JPEG is decoded by simplejpeg or OpenCV where installed, since they are faster than Pillow and, resting on the same
library, give the same pixels; Pillow decodes everything else and has the last word on damaged files. Pillow comes with
the image plugins, not with the core, and is imported at the first use.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

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

_MODULES = {"simplejpeg": "simplejpeg", "opencv": "cv2", "pillow": "PIL"}


@functools.cache
def _pillow() -> ModuleType:
    try:
        return importlib.import_module("PIL.Image")
    except ImportError as error:
        raise PluginError(
            "Decoding pictures needs Pillow, which is not installed here. The image plugins bring it: "
            "pip install glueball-cv-classification (or Pillow alone: pip install pillow)."
        ) from error


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


# ----------------------------------------------------------------------------------------------------------------------
# Headers


def _exif_orientation(block: bytes) -> int:
    """The orientation (1 to 8) in a TIFF block as EXIF holds it; 1 where there is none or the block is damaged."""
    order = {b"II": "<", b"MM": ">"}.get(bytes(block[:2]))
    if order is None or len(block) < 8:
        return 1
    (start,) = struct.unpack_from(order + "I", block, 4)
    if start + 2 > len(block):
        return 1
    (count,) = struct.unpack_from(order + "H", block, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", block, entry)
        if tag == 0x0112 and kind == 3:
            (value,) = struct.unpack_from(order + "H", block, entry + 8)
            return value if 1 <= value <= 8 else 1
    return 1


def _scan_jpeg(data: bytes) -> tuple[int, int, int, int] | None:
    """(height, width, components, orientation) from the markers before the first scan; None if they are damaged."""
    position, orientation, end = 2, 1, len(data)
    while position + 4 <= end:
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # padding between segments
            position += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:  # markers without a length
            position += 2
            continue
        length = data[position + 2] << 8 | data[position + 3]
        body = position + 4
        # SOF0 to SOF15 except DHT, JPG and DAC, which share the range.
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            if body + 6 > end:
                return None
            height, width = data[body + 1] << 8 | data[body + 2], data[body + 3] << 8 | data[body + 4]
            return height, width, data[body + 5], orientation
        if marker in (0xDA, 0xD9) or length < 2:
            return None
        if marker == 0xE1 and data[body : body + 6] == b"Exif\0\0":
            orientation = _exif_orientation(data[body + 6 : position + 2 + length])
        position += 2 + length
    return None


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


def _decode_pillow(
    data: bytes, name: str, limit: int, orient: bool, orientation: int | None, at_least: Size | None
) -> np.ndarray:
    """Decodes any format; ``orientation`` is what a JPEG's header says, None leaves it to Pillow to find out."""
    pillow = _pillow()
    try:
        image = pillow.open(io.BytesIO(data))
        _check_pixels(image.height, image.width, limit, name)
        if at_least is not None and image.format == "JPEG":
            # (width, height) of the stored picture, which lies on its side with orientations 5 to 8.
            image.draft("RGB", at_least if orient and (orientation or 1) >= 5 else at_least[::-1])
        if orient and orientation is None:
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
        pixels = np.array(image)
        return _turn(pixels, orientation) if orient and orientation is not None else pixels
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


def _reduced(size: Size, at_least: Size) -> Size:
    """The smallest of full, 1/2, 1/4 and 1/8 size that is still ``at_least`` as large: what Pillow's draft mode offers.

    simplejpeg knows all eighths; one rule for both gives one result.
    """
    for factor in (8, 4, 2):
        reduced = (-(-size[0] // factor), -(-size[1] // factor))
        if reduced[0] >= at_least[0] and reduced[1] >= at_least[1]:
            return reduced
    return size


def _decode_jpeg(data: bytes, with_decoder: str, at_least: Size | None) -> np.ndarray | None:
    """RGB before orientation, or None when Pillow shall decide whether the file is damaged."""
    if with_decoder == "simplejpeg":
        simplejpeg = _optional("simplejpeg")
        height, width = at_least or (0, 0)
        try:
            return simplejpeg.decode_jpeg(data, colorspace="RGB", min_height=height, min_width=width)
        except ValueError:
            return None
    # OpenCV fills what is missing of a truncated file with grey and says nothing, so the end is checked here.
    if data.rfind(b"\xff\xd9", -64) < 0:
        return None
    cv2 = _optional("cv2")
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:  # beyond its own limits of size
        return None
    return None if image is None else cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


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
    orientation: int | None = None
    if data[:2] == b"\xff\xd8":
        header = _scan_jpeg(data)
        chosen = decoder()
        if header is not None:
            height, width, components, orientation = header
            _check_pixels(height, width, limit, name)
            # The fast decoders do not know Adobe's inverted CMYK.
            if chosen != "pillow" and components in (1, 3):
                wanted = None
                if at_least is not None:
                    wanted = _reduced((height, width), at_least[::-1] if orient and orientation >= 5 else at_least)
                image = _decode_jpeg(data, chosen, wanted)
                if image is not None:
                    return _turn(image, orientation) if orient else image
    return _decode_pillow(data, name, limit, orient, orientation, at_least)


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
            header = _scan_jpeg(self.data) if self.data[:2] == b"\xff\xd8" else None
            if header is None:
                height, width = self.decode().shape[:2]
            else:
                height, width = header[:2] if header[3] < 5 else header[1::-1]
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

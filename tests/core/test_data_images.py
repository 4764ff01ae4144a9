"""Pictures: one policy for every decoder, and operations that agree with OpenCV and Pillow."""

from __future__ import annotations

import io
import re
import struct
import sys
import threading
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glueball.data import images, jpeg
from glueball.errors import DataError, OptionError, PluginError

Image = pytest.importorskip("PIL.Image", reason="Pillow comes with the image plugins")
ImageOps = pytest.importorskip("PIL.ImageOps")


@pytest.fixture(params=images.DECODERS)
def any_decoder(request, monkeypatch):
    if images._optional(images._MODULES[request.param]) is None:
        pytest.skip(f"{request.param} is not installed")
    monkeypatch.setenv("GLUEBALL_IMAGE_DECODER", request.param)
    return request.param


def _picture(height=61, width=90, seed=0):
    small = np.random.default_rng(seed).integers(0, 255, (7, 9, 3), np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def _save(image, format="JPEG", **options):
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, format, **options)
    return buffer.getvalue()


def _orientation(value):
    exif = Image.Exif()
    exif[0x0112] = value
    return exif.tobytes()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_exif_orientation_is_applied_alike(any_decoder, orientation, format):
    data = _save(_picture(), format, exif=_orientation(orientation))
    opened = Image.open(io.BytesIO(data))
    np.testing.assert_array_equal(images.decode(data), np.asarray(ImageOps.exif_transpose(opened)))
    np.testing.assert_array_equal(images.decode(data, orient=False), np.asarray(opened))


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}])
def test_decoders_give_the_same_pixels(any_decoder, options):
    data = _save(_picture(), **options)
    np.testing.assert_array_equal(images.decode(data), np.asarray(Image.open(io.BytesIO(data))))
    grey = _save(Image.fromarray(_picture()).convert("L"), **options)
    decoded = images.decode(grey)
    np.testing.assert_array_equal(decoded, np.asarray(Image.open(io.BytesIO(grey)).convert("RGB")))
    assert (decoded[..., 0] == decoded[..., 2]).all()


def _modes():
    picture = Image.fromarray(_picture())
    rgba = picture.copy()
    rgba.putalpha(7)
    grey16 = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257)
    palette = picture.quantize(16)
    frames = [picture.quantize(16), Image.new("RGB", picture.size).quantize(2)]
    yield "rgba", _save(rgba, "PNG"), np.asarray(picture)
    yield "grey+alpha", _save(rgba.convert("LA"), "PNG"), np.asarray(picture.convert("L").convert("RGB"))
    yield "16 bits", _save(grey16, "PNG"), np.asarray(picture.convert("L").convert("RGB"))
    yield "palette", _save(palette, "PNG"), np.asarray(palette.convert("RGB"))
    yield "transparent palette", _save(palette, "PNG", transparency=b"\0\7"), np.asarray(palette.convert("RGB"))
    yield "1 bit", _save(picture.convert("1"), "PNG"), np.asarray(picture.convert("1").convert("RGB"))
    yield (
        "animation",
        _save(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        np.asarray(frames[0].convert("RGB")),
    )
    yield "bmp", _save(picture, "BMP"), np.asarray(picture)
    yield "tiff", _save(picture, "TIFF"), np.asarray(picture)
    cmyk = _save(picture.convert("CMYK"), "JPEG")
    yield "cmyk", cmyk, np.asarray(Image.open(io.BytesIO(cmyk)).convert("RGB"))


@pytest.mark.parametrize(
    ("name", "data", "expected"), list(_modes()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_every_mode_becomes_rgb(any_decoder, name, data, expected):
    decoded = images.decode(data)
    assert decoded.dtype == np.uint8
    assert decoded.flags.writeable
    np.testing.assert_array_equal(decoded, expected)


def test_floating_point_pictures_are_refused():
    with pytest.raises(DataError, match="floating-point"):
        images.decode(_save(Image.fromarray(np.zeros((3, 3), np.float32)), "TIFF"))


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_truncated_and_damaged_pictures_name_the_file(any_decoder, tmp_path, format):
    data = _save(_picture(200, 300), format)
    path = tmp_path / "cut.jpg"
    for end in (3, 20, len(data) // 2, len(data) - 40):
        path.write_bytes(data[:end])
        with pytest.raises(DataError, match=r"cut\.jpg"):
            images.decode(path)
    path.write_bytes(b"")
    with pytest.raises(DataError, match=r"cut\.jpg: the file is empty"):
        images.decode(path)
    with pytest.raises(DataError, match=r"none\.jpg: cannot be read"):
        images.decode(tmp_path / "none.jpg")
    with pytest.raises(DataError, match="not a picture"):
        images.decode(b"text", name="a.txt")


def _insert(data, position, extra):
    return data[:position] + extra + data[position:]


def _scan(data):
    """Where the compressed data begin."""
    start = data.index(b"\xff\xda")
    return start + 2 + int.from_bytes(data[start + 2 : start + 4], "big")


JPEG_OPTIONS = [
    {},
    {"progressive": True},
    {"restart_marker_blocks": 5},
    {"restart_marker_rows": 1, "progressive": True},
    {"subsampling": 1},
]


@pytest.mark.parametrize("options", JPEG_OPTIONS, ids=str)
@pytest.mark.parametrize("kind", ["RGB", "L", "CMYK"])
def test_half_a_jpeg_with_an_end_marker_is_damaged(any_decoder, options, kind):
    data = _save(Image.fromarray(_picture(200, 300)).convert(kind), **options)
    for end in (_scan(data) + 40, len(data) // 2, len(data) * 3 // 4):
        with pytest.raises(DataError, match=r"half\.jpg: .*(damaged|cut short)"):
            images.decode(data[:end].rstrip(b"\xff") + b"\xff\xd9", name="half.jpg")
    for at_least in ((100, 150), (25, 40)):
        with pytest.raises(DataError, match=r"half\.jpg"):
            images.decode(data[: len(data) // 2].rstrip(b"\xff") + b"\xff\xd9", name="half.jpg", at_least=at_least)


def test_overwritten_bytes_in_a_jpeg_are_damage(monkeypatch):
    if images._optional("simplejpeg") is None:
        pytest.skip("without simplejpeg only part of such damage is seen")
    monkeypatch.setenv("GLUEBALL_IMAGE_DECODER", "simplejpeg")
    generator = np.random.default_rng(0)
    for seed in range(60):
        data = bytearray(_save(_picture(160, 200, seed), quality=int(generator.integers(60, 95))))
        start = int(generator.integers(_scan(bytes(data)), len(data) - 210))
        data[start : start + 200] = bytes(200)
        with pytest.raises(DataError, match=r"z\.jpg: the picture is damaged or cut short: Corrupt JPEG data"):
            images.decode(bytes(data), name="z.jpg")


@pytest.mark.parametrize("options", JPEG_OPTIONS, ids=str)
def test_oddities_that_leave_the_pixels_whole_are_no_damage(any_decoder, options):
    data = _save(_picture(), exif=_orientation(6), **options)
    expected = images.decode(data)
    table = data.index(b"\xff\xdb")
    scan = _scan(data)
    odd = {
        "bytes between segments": _insert(data, table, b"\0\1\2"),
        "bytes before the scan": _insert(data, data.index(b"\xff\xda"), b"\7\7\7\7"),
        "fill bytes before a segment": _insert(data, table, b"\xff\xff\xff"),
        "padding before the end": data[:-2] + bytes(40) + data[-2:],
        "a byte before the end": data[:-2] + b"\0\0\0\0\0\1\2\3" + data[-2:],
        "fill bytes before the end": data[:-2] + b"\xff" * 9 + data[-2:],
        "bytes behind the end": data + b"garbage" * 100,
        "another picture behind the end": data + _save(_picture(seed=1)),
        "a comment": _insert(data, table, b"\xff\xfe\0\6\xff\xd9ab"),
        "both ends": _insert(data[:-2] + bytes(9) + data[-2:], table, b"\0\1"),
    }
    assert scan > table
    for name, content in odd.items():
        np.testing.assert_array_equal(images.decode(content), expected, err_msg=name)
        with pytest.raises(DataError):
            images.decode(content[: len(data) // 2] + b"\xff\xd9")


def test_whole_jpegs_of_any_make_are_no_damage(any_decoder):
    generator = np.random.default_rng(0)
    for number in range(120):
        height, width = generator.integers(1, 70, 2).tolist()
        image = _picture(height, width, number)
        if number % 3 == 0:
            image[height // 2 :] = 128  # what libjpeg gives to missing blocks
        kind = ("RGB", "L", "CMYK")[number % 3 if number % 2 else 0]
        options = {
            "quality": int(generator.integers(5, 100)),
            "subsampling": number % 3,
            "progressive": number % 5 == 0,
        }
        if number % 4 == 0:
            options["restart_marker_blocks"] = int(generator.integers(1, 9))
        data = _save(Image.fromarray(image).convert(kind), **options)
        assert images.decode(data).shape == (height, width, 3)
        assert jpeg.flaw(data) is None
        assert jpeg.end_of(data) == len(data) - 2


def test_a_progressive_picture_that_lacks_scans_is_damaged(any_decoder):
    data = _save(_picture(200, 300), progressive=True)
    scans = [found.start() for found in re.finditer(b"\xff\xda", data)]
    assert len(scans) > 3
    for start in scans[1:]:
        # Up to the tables of the next scan: every scan that is there is whole.
        cut = data.rindex(b"\xff\xc4", 0, start) if b"\xff\xc4" in data[start - 60 : start] else start
        with pytest.raises(DataError, match="scans are missing"):
            images.decode(data[:cut] + b"\xff\xd9")


def test_pillows_own_limit_does_not_stand_in_the_way(any_decoder, monkeypatch):
    whole = {format: _save(_picture(), format) for format in ("PNG", "WEBP", "GIF", "TIFF", "JPEG")}
    expected = {format: images.decode(data) for format, data in whole.items()}
    for limit in (1000, 4000):  # Pillow raises beyond twice its limit and warns beyond once
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for format, data in whole.items():
            np.testing.assert_array_equal(images.decode(data), expected[format])
            with pytest.raises(DataError, match="limit of 5,000"):
                images.decode(data, pixel_limit=5000)
        with pytest.raises((Image.DecompressionBombError, Image.DecompressionBombWarning)):
            Image.open(io.BytesIO(whole["PNG"]))  # everybody else's limit is as it was


def test_pillows_limit_holds_for_other_threads_meanwhile(monkeypatch):
    data = _save(_picture(), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    refused = []

    def open_elsewhere():
        try:
            Image.open(io.BytesIO(data))
        except Image.DecompressionBombError:
            refused.append(True)

    original = images._check_pixels

    def check_while_another_thread_opens(*arguments):
        thread = threading.Thread(target=open_elsewhere)
        thread.start()
        thread.join()
        original(*arguments)

    monkeypatch.setattr(images, "_check_pixels", check_while_another_thread_opens)
    assert images.decode(data).shape == (61, 90, 3)
    assert refused == [True]


def _png_bomb(side):
    """A PNG of a few bytes that announces side x side pixels."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)), (b"IDAT", zlib.compress(bytes(1000)))]
    packed = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(packed)


def test_bombs_are_refused_from_their_header(any_decoder, monkeypatch):
    for side in (10_000, 20_000, 60_000):
        with pytest.raises(DataError, match="limit"):
            images.decode(_png_bomb(side))
    jpeg = bytearray(_save(_picture()))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 60_000, 60_000)
    with pytest.raises(DataError, match="60000 x 60000 pixels"):
        images.decode(bytes(jpeg))
    with pytest.raises(DataError, match="90 x 61 pixels"):
        images.decode(_save(_picture()), pixel_limit=61 * 90 - 1)
    monkeypatch.setenv("GLUEBALL_MAX_PIXELS", "100")
    with pytest.raises(DataError, match="limit of 100"):
        images.decode(_save(_picture()))
    monkeypatch.setenv("GLUEBALL_MAX_PIXELS", "many")
    with pytest.raises(OptionError, match="GLUEBALL_MAX_PIXELS"):
        images.decode(_save(_picture()))


# Pillow warns of damage in metadata, which is no reason to refuse the picture.
@pytest.mark.filterwarnings("ignore:::PIL")
def test_random_damage_gives_an_error_or_a_picture(any_decoder):
    generator = np.random.default_rng(0)
    whole = [_save(_picture(20, 30), "JPEG", exif=_orientation(6)), _save(_picture(20, 30), "PNG")]
    for number in range(400):
        data = bytearray(whole[number % 2])
        for _ in range(generator.integers(1, 5)):
            data[generator.integers(len(data))] = generator.integers(256)
        try:
            decoded = images.decode(bytes(data), pixel_limit=100_000)
        except DataError:
            continue
        assert decoded.ndim == 3
        assert decoded.dtype == np.uint8


def test_decoder_settings(monkeypatch):
    monkeypatch.setenv("GLUEBALL_IMAGE_DECODER", "gimp")
    with pytest.raises(OptionError, match="auto, simplejpeg, opencv, pillow"):
        images.decoder()
    monkeypatch.setenv("GLUEBALL_IMAGE_DECODER", "auto")
    assert images.decoder() in images.DECODERS


def test_without_pillow_the_plugin_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    images._pillow.cache_clear()
    try:
        with pytest.raises(PluginError, match="glueball-cv-classification"):
            images.decode(_PNG)
    finally:
        images._pillow.cache_clear()


_PNG = _png_bomb(3)


def test_encode():
    image = _picture()
    np.testing.assert_array_equal(images.decode(images.encode(image, "png")), image)
    assert np.abs(images.decode(images.encode(image)).astype(int) - image).mean() < 3
    assert len(images.encode(image, quality=20)) < len(images.encode(image))
    with pytest.raises(OptionError, match="jpg or png"):
        images.encode(image, "tga")
    with pytest.raises(OptionError, match="uint8"):
        images.encode(image.astype(np.float32))


SIZES = [(30, 40), (100, 130), (61, 33), (13, 200), (1, 1), (61, 90)]


@pytest.mark.parametrize("interpolation", images.INTERPOLATIONS)
@pytest.mark.parametrize("size", SIZES)
def test_resizing_without_opencv_is_the_same_within_a_grey_level(monkeypatch, interpolation, size):
    if images._optional("cv2") is None:
        pytest.skip("OpenCV is not installed")
    for image in (_picture(), _picture().astype(np.float32)):
        reference = images.resize(image, size, interpolation)
        with monkeypatch.context() as patch:
            patch.setattr(images, "_optional", lambda name: None)
            ours = images.resize(image, size, interpolation)
        assert ours.dtype == reference.dtype == image.dtype
        assert ours.shape == reference.shape == (*size, 3)
        assert np.abs(ours.astype(float) - reference).max() <= 1


@pytest.mark.parametrize("interpolation", images.INTERPOLATIONS)
def test_resizing_with_antialias_is_pillows(interpolation):
    methods = {"nearest": "NEAREST", "bilinear": "BILINEAR", "bicubic": "BICUBIC", "area": "BOX"}
    method = getattr(Image.Resampling, methods[interpolation])
    ours = images.resize(_picture(), (20, 31), interpolation, antialias=True)
    np.testing.assert_array_equal(ours, np.asarray(Image.fromarray(_picture()).resize((31, 20), method)))
    floating = images.resize(_picture().astype(np.float32), (20, 31), interpolation, antialias=True)
    assert np.abs(np.clip(floating, 0, 255) - ours).max() <= 1.5


def test_crop_resize_is_resize_of_the_crop():
    image = _picture()
    for antialias in (False, True):
        np.testing.assert_array_equal(
            images.crop_resize(image, (10, 5, 50, 45), (20, 24), antialias=antialias),
            images.resize(np.ascontiguousarray(image[5:45, 10:50]), (20, 24), antialias=antialias),
        )
    for box in ((-1, 0, 5, 5), (0, 0, 91, 5), (5, 5, 5, 9), (0, 9, 5, 5)):
        with pytest.raises(DataError, match="box"):
            images.crop_resize(image, box, (4, 4))
    with pytest.raises(OptionError, match="interpolation"):
        images.resize(image, (3, 3), "lanczos")
    with pytest.raises(OptionError, match="at least 1"):
        images.resize(image, (0, 3))


def test_encoded_pictures_are_reduced_only_where_twice_the_size_is_left(any_decoder):
    picture = _picture(400, 600)
    encoded = images.EncodedImage(_save(picture, quality=95, exif=_orientation(6)))
    whole = encoded.decode()
    assert encoded.shape == whole.shape == (600, 400, 3)
    np.testing.assert_array_equal(np.asarray(encoded), whole)
    small = (40, 30, 160, 150)
    np.testing.assert_array_equal(
        images.crop_resize(encoded, small, (64, 64)), images.crop_resize(whole, small, (64, 64))
    )
    box = (40, 100, 360, 500)
    if any_decoder != "opencv":
        assert encoded.part(box, (64, 64)).shape[0] < 250
    assert min(encoded.part(box, (64, 64)).shape[:2]) >= 128
    reference = images.crop_resize(whole, box, (64, 64), "area")
    for image in (images.crop_resize(encoded, box, (64, 64)), images.resize(encoded, (64, 64))[:0]):
        assert image.size == 0 or np.abs(image.astype(int) - reference).mean() < 3
    np.testing.assert_array_equal(
        images.resize(encoded, (64, 64), antialias=True), images.resize(whole, (64, 64), antialias=True)
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3]), st.sampled_from([np.uint8, np.float32]))
def test_normalize_to_chw_is_the_formula(height, width, channels, dtype):
    image = np.random.default_rng(height * width).integers(0, 256, (height, width, channels)).astype(dtype)
    mean, std = (0.485, 0.456, 0.406)[:channels], (0.229, 0.224, 0.225)[:channels]
    expected = ((image / 255.0 - np.array(mean)) / np.array(std)).transpose(2, 0, 1)
    ours = images.normalize_to_chw(image, mean, std)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, expected, atol=2e-6)
    out = np.empty_like(ours)
    assert images.normalize_to_chw(image[:, ::-1], mean, std, out) is out
    np.testing.assert_array_equal(out[:, :, ::-1], ours)
    np.testing.assert_allclose(images.to_chw(image), (image / 255.0).transpose(2, 0, 1), atol=1e-6)


def test_normalize_to_chw_says_what_does_not_fit():
    with pytest.raises(OptionError, match="1 or 3 means"):
        images.normalize_to_chw(_picture(), (0.5, 0.5), (1.0,))
    with pytest.raises(OptionError, match="positive"):
        images.normalize_to_chw(_picture(), (0.5,), (0.0,))


def test_flips_and_paths():
    image = _picture()
    np.testing.assert_array_equal(images.flip_left_right(image)[:, 0], image[:, -1])
    np.testing.assert_array_equal(images.flip_top_bottom(image)[0], image[-1])
    assert images.is_image_path("a/B.JPG")
    assert not images.is_image_path("a/b.txt")

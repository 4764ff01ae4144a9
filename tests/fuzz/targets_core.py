"""What the core reads."""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import random
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from containers import ZIP_TOKENS, make_zip, sum_zip
from harness import Target
from mutation import Mutation, Parts, mutate_json

from glueball.data import images, jpeg
from glueball.data.folders import ImageListDataset
from glueball.data.idx import format_idx, parse_idx
from glueball.data.recordfile import (
    Header,
    ImageRecordDataset,
    RecordFile,
    RecordWriter,
    pack,
    pack_image,
    unpack,
)
from glueball.engine.checkpoint import Checkpoint, CheckpointFolder, _digest, load_checkpoint
from glueball.engine.load import read_description
from glueball.engine.recipe import Component, DataSpec, ModelSpec, Recipe, TransformSpec
from glueball.engine.run_folder import RunFolder
from glueball.weights.archives import extract_member
from glueball.weights.params import parse_params, write_params
from glueball.weights.safetensors_file import encode_safetensors, parse_safetensors

_draw = np.random.default_rng(0)
_DTYPES = ("f4", "f8", "f2", "u1", "i4", "i1", "i8", "?")


def _array(dtype: str, *shape: int) -> np.ndarray:
    return (_draw.random(shape) * 2).astype(dtype)


# ----------------------------------------------------------------------------------------------------------------------
# Weights


def _params_of(arrays: Any) -> bytes:
    file = io.BytesIO()
    write_params(file, arrays)
    return file.getvalue()


def _sparse(storage: int, stored: tuple[int, ...], shape: tuple[int, ...], *indices: np.ndarray) -> bytes:
    """A .params file with one sparse array, as mxnet.nd.save lays it out."""
    body = struct.pack("<Ii", 0xF993FAC9, storage)
    for one in (stored, shape):
        body += struct.pack(f"<i{len(one)}q", len(one), *one)
    body += struct.pack("<iii", 1, 0, 0)
    for index in indices:
        body += struct.pack(f"<ii{index.ndim}q", 6, index.ndim, *index.shape)
    body += _array("f4", *stored).tobytes() + b"".join(index.astype("<i8").tobytes() for index in indices)
    return struct.pack("<3Q", 0x112, 0, 1) + body + struct.pack("<QQ", 1, 1) + b"w"


def _old_params() -> bytes:
    """The layout of MXNet before 0.11, without a version, and that of 0.11."""
    values = _array("f4", 2, 3).tobytes()
    first = struct.pack("<III", 2, 2, 3) + struct.pack("<iii", 1, 0, 0) + values
    second = struct.pack("<Ii2q", 0xF993FAC8, 2, 2, 3) + struct.pack("<iii", 1, 0, 0) + values
    return struct.pack("<3Q", 0x112, 0, 2) + first + second + struct.pack("<Q", 0)


def _read_params(parts: Parts, folder: Path) -> None:
    arrays = parse_params(memoryview(bytearray(parts[0])), "x.params")
    # What was read can be written and is the same again.
    plain = {name: value for name, value in arrays.items() if value.dtype.kind != "u" or value.dtype.itemsize == 1}
    plain = {name: value for name, value in plain.items() if value.dtype != np.int16}
    again = parse_params(memoryview(bytearray(_params_of(plain))), "again.params")
    assert list(again) == list(plain)
    for name, value in plain.items():
        assert again[name].dtype == value.dtype
        assert again[name].tobytes() == value.tobytes()


def _params() -> Target:
    corpus = [
        _params_of({f"layer{number}.weight": _array(dtype, 3, 2) for number, dtype in enumerate(_DTYPES)}),
        _params_of([_array("f4", 4), _array("f4", 2, 1, 3)]),
        _params_of({"scalar": _array("f4"), "empty": _array("f4", 0, 3), "arg:weight": _array("f2", 5)}),
        _params_of({"embedding": _array("f4", 16, 8), "bias": _array("f8", 1)}),
        _sparse(1, (2, 3), (5, 3), np.array([1, 4])),
        _sparse(2, (3,), (4, 5), np.array([0, 1, 1, 2, 3]), np.array([0, 4, 2])),
        _old_params(),
    ]
    tokens = [struct.pack("<I", code) for code in (0xF993FAC8, 0xF993FAC9, 0xF993FACA, 0, 1, 2, 12, 32, 33, 0xFFFFFFFF)]
    tokens += [struct.pack("<q", length) for length in (0, 1, -1, 1 << 31, 1 << 40, 1 << 62, (1 << 63) - 1)]
    return Target("params", Mutation([(one,) for one in corpus], tokens), _read_params)


def _read_safetensors(parts: Parts, folder: Path) -> None:
    arrays = parse_safetensors(memoryview(bytearray(parts[0])), "x.safetensors")
    again = parse_safetensors(memoryview(bytearray(encode_safetensors(arrays))), "again.safetensors")
    assert sorted(again) == sorted(arrays)
    assert all(again[name].tobytes() == value.tobytes() for name, value in arrays.items())


def _with_header(change: Callable[[random.Random, Any], Any]) -> Callable[[random.Random, Parts], Parts]:
    def mutate(rng: random.Random, parts: Parts) -> Parts:
        content = parts[0]
        length = int.from_bytes(content[:8], "little")
        header = json.dumps(change(rng, json.loads(content[8 : 8 + length]))).encode()
        return (len(header).to_bytes(8, "little") + header + content[8 + length :],)

    return mutate


_TENSOR_WORDS = ("F64", "F32", "F16", "BF16", "I64", "U8", "BOOL", "C64", "F8_E4M3", "__metadata__", "data_offsets")


def _safetensors() -> Target:
    corpus = [
        encode_safetensors({f"w{number}": _array(dtype, 3, 2) for number, dtype in enumerate((*_DTYPES, "u2", "c8"))}),
        encode_safetensors({"a": _array("f4", 8, 4), "b": _array("f4")}, {"format": "pt", "note": "x"}),
        encode_safetensors({"empty": _array("f4", 0, 3), "after": _array("i8", 2)}),
    ]
    wide = json.dumps({"w": {"dtype": "BF16", "shape": [2, 2], "data_offsets": [0, 8]}}).encode()
    corpus.append(len(wide).to_bytes(8, "little") + wide + bytes(range(8)))
    mutators = [_with_header(lambda rng, header: mutate_json(rng, header, _TENSOR_WORDS))]
    tokens = [word.encode() for word in _TENSOR_WORDS] + [b'"shape":[', b"[" * 40, b"{" * 40, b"-1", b"\xff"]
    return Target("safetensors", Mutation([(one,) for one in corpus], tokens, mutators), _read_safetensors)


# ----------------------------------------------------------------------------------------------------------------------
# Record files


def _records(write: Callable[[RecordWriter], object]) -> tuple[bytes, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.rec"
        with RecordWriter(path) as writer:
            write(writer)
        return path.read_bytes(), path.with_suffix(".idx").read_bytes()


def _read_records(parts: Parts, folder: Path) -> None:
    path, table = folder / "x.rec", folder / "x.idx"
    path.write_bytes(parts[0])
    if parts[1]:
        table.write_bytes(parts[1])
    else:
        table.unlink(missing_ok=True)
    size = len(parts[0])
    with RecordFile(path) as file:
        assert len(set(file.keys)) == len(file)
        for place in range(min(len(file), 50)):
            record = file[place]
            assert len(record) <= size
            header, payload = unpack(record, "record")
            labels = header.label.size if isinstance(header.label, np.ndarray) else 0
            assert len(payload) + 4 * labels + 24 == len(record)
        if len(file):
            assert file.read(file.keys[0]) == file[0]


def _write_packed(writer: RecordWriter) -> None:
    writer.write(pack(Header(3.0, 1), b"abc"))
    writer.write(pack(Header(np.arange(4), 2, 3), struct.pack("<I", 0xCED7230A) * 3 + b"xy"))
    writer.write(pack(Header(-1.5), b""))


_RECORD_TOKENS = [
    struct.pack("<I", 0xCED7230A),
    struct.pack("<II", 0xCED7230A, 1 << 29 | 4),
    struct.pack("<II", 0xCED7230A, 2 << 29 | 4),
    struct.pack("<II", 0xCED7230A, 3 << 29),
    struct.pack("<II", 0xCED7230A, (1 << 29) - 1),
    struct.pack("<II", 0xCED7230A, 0),
    *(b"\t", b"\n", b"-4", b"0\t0\n", b"9\t4\n"),
    *(struct.pack("<f", value) for value in (1e30, -1.0, float("inf"), float("nan"), 16777216.0)),
]


def _recordfile() -> Target:
    corpus = [
        _records(_write_packed),
        _records(
            lambda writer: [writer.write(pack(Header(number), bytes([number]) * number * 7)) for number in range(8)]
        ),
    ]
    corpus += [(records, b"") for records, _ in corpus]
    keyed = _records(lambda writer: [writer.write(pack(Header(1.0), b"x"), key=7 * number) for number in range(4)])
    return Target("recordfile", Mutation([*corpus, keyed], _RECORD_TOKENS), _read_records)


_PICTURE_LIMIT = 1 << 16
_PICTURE_MEMORY = 64 << 20
_PICTURE_REASON = "a picture may have 65,536 pixels here, and decoders hold some copies of it and their own tables"


def _read_picture_records(parts: Parts, folder: Path) -> None:
    os.environ["GLUEBALL_MAX_PIXELS"] = str(_PICTURE_LIMIT)
    path, table = folder / "x.rec", folder / "x.idx"
    path.write_bytes(parts[0])
    table.write_bytes(parts[1])
    data = ImageRecordDataset(path)
    labels = data.labels()
    assert labels is None or labels.shape == (len(data),)
    for index in range(min(len(data), 3)):
        image, label = data[index]
        assert image.ndim == 3
        assert image.dtype == np.uint8
        assert labels is None or labels[index] == label


def _record_pictures() -> Target:
    def write(writer: RecordWriter) -> None:
        for number, kind in enumerate(("png", "jpg")):
            writer.write(pack_image(Header(float(number)), _picture(6, 5), kind))
        writer.write(pack_image(Header(np.array([2.0])), _picture(4, 4), "png"))

    return Target(
        "record_pictures",
        Mutation([_records(write)], _RECORD_TOKENS),
        _read_picture_records,
        _PICTURE_MEMORY,
        _PICTURE_REASON,
    )


# ----------------------------------------------------------------------------------------------------------------------
# IDX


def _gzip(content: bytes) -> bytes:
    compressor = zlib.compressobj(1, wbits=31)
    return compressor.compress(content) + compressor.flush()


def _read_idx(parts: Parts, folder: Path) -> None:
    array = parse_idx(parts[0])
    if parts[0][:2] != b"\x1f\x8b":
        # NaN and signs of zero too: the bytes of the file are the array.
        assert format_idx(array) == parts[0]


def _pack_idx(rng: random.Random, parts: Parts) -> Parts:
    """Damage inside of compressed data that is right as such."""
    return (_gzip(parts[0]),) if parts[0][:2] == b"\0\0" and rng.random() < 0.3 else parts


def _idx() -> Target:
    arrays = [
        _array(dtype, *shape)
        for dtype, shape in zip(
            ("u1", "i1", "i2", "i4", "f4", "f8"), ((5,), (2, 3), (1, 2, 3), (4,), (2, 2), (3,)), strict=True
        )
    ]
    arrays += [_array("u1", 2, 4, 4), _array("u1", 0, 4)]
    corpus = [(format_idx(array),) for array in arrays]
    corpus += [(_gzip(one[0]),) for one in corpus[:3]] + [(_gzip(corpus[0][0][:6]) + _gzip(corpus[0][0][6:]),)]
    tokens = [bytes((0, 0, kind, axes)) for kind in (8, 9, 11, 12, 13, 14) for axes in (1, 3, 32)]
    tokens += [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x1f\x8b\x08", bytes(8)]
    return Target("idx", Mutation(corpus, tokens, finish=_pack_idx), _read_idx)


# ----------------------------------------------------------------------------------------------------------------------
# Pictures


def _picture(height: int, width: int) -> np.ndarray:
    return _draw.integers(0, 255, (height, width, 3), dtype=np.uint8)


def _encoded(kind: str, height: int = 12, width: int = 17, mode: str = "RGB", **options: Any) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    # Smooth, so that the compressed files are small.
    ramp = np.add.outer(np.arange(height), np.arange(width))[:, :, None] * np.array([3, 5, 7])
    Image.fromarray((ramp % 256).astype(np.uint8)).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


def _exif() -> bytes:
    from PIL import Image

    exif = Image.Exif()
    exif[0x0112] = 6
    return exif.tobytes()


def _jpegs() -> list[bytes]:
    return [
        _encoded("JPEG"),
        _encoded("JPEG", progressive=True),
        _encoded("JPEG", mode="L"),
        _encoded("JPEG", mode="CMYK"),
        _encoded("JPEG", exif=_exif()),
        _encoded("JPEG", 33, 40, restart_marker_blocks=2, subsampling=0),
        _encoded("JPEG", 3, 3, optimize=True),
    ]


_JPEG_TOKENS = [
    bytes((0xFF, marker)) for marker in (0xC0, 0xC1, 0xC2, 0xC4, 0xD0, 0xD8, 0xD9, 0xDA, 0xDB, 0xDD, 0xE1, 0, 1)
]
_JPEG_TOKENS += [
    b"\xff\xff\xff\xff",
    b"Exif\0\0II*\0\x08\0\0\0",
    b"\xff\xff",
    b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00",
]


def _read_jpeg_markers(parts: Parts, folder: Path) -> None:
    data = parts[0]
    header = jpeg.read_header(data)
    assert header is None or (1 <= header.orientation <= 8 and 0 <= header.height < 65536)
    end = jpeg.end_of(data)
    assert end is None or data[end] == 0xFF
    flaw = jpeg.flaw(data)
    assert flaw is None or flaw
    for marker in (0xD9, 0xD0, 0xDA):
        cleaned = jpeg.without_stray_bytes(data, 2, marker)
        assert cleaned is None or len(cleaned) <= len(data)


def _jpeg_markers() -> Target:
    return Target("jpeg_markers", Mutation([(one,) for one in _jpegs()], _JPEG_TOKENS), _read_jpeg_markers)


def _read_picture(decoder: str) -> Callable[[Parts, Path], None]:
    def read(parts: Parts, folder: Path) -> None:
        os.environ["GLUEBALL_IMAGE_DECODER"] = decoder
        image = images.decode(parts[0], pixel_limit=_PICTURE_LIMIT)
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert 0 < image.shape[0] * image.shape[1] <= _PICTURE_LIMIT
        header = jpeg.read_header(parts[0]) if parts[0][:2] == b"\xff\xd8" else None
        assert header is None or sorted(image.shape[:2]) == sorted((header.height, header.width))

    return read


def _picture_jpeg(decoder: str) -> Target:
    return Target(
        f"jpeg_{decoder}",
        Mutation([(one,) for one in _jpegs()], _JPEG_TOKENS),
        _read_picture(decoder),
        _PICTURE_MEMORY,
        _PICTURE_REASON,
    )


def _fix_png(rng: random.Random, parts: Parts) -> Parts:
    """Right checksums, so that damage gets past them."""
    data = parts[0]
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return parts
    made, at = [data[:8]], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if at + 12 + length > len(data):
            break
        body = data[at + 4 : at + 8 + length]
        made.append(data[at : at + 4] + body + zlib.crc32(body).to_bytes(4, "big"))
        at += 12 + length
    return (b"".join(made) + data[at:],)


def _pictures() -> Target:
    corpus = [
        _encoded("PNG"),
        _encoded("PNG", mode="P"),
        _encoded("PNG", mode="RGBA"),
        _encoded("PNG", mode="I;16"),
        _encoded("PNG", mode="1"),
        _encoded("GIF", mode="P"),
        _encoded("BMP"),
        _encoded("BMP", mode="L"),
        _encoded("WEBP", lossless=True),
        _encoded("WEBP"),
        _encoded("TIFF"),
        _encoded("TIFF", compression="tiff_lzw"),
        _encoded("TIFF", compression="tiff_adobe_deflate"),
        _encoded("PPM"),
        _encoded("PPM", mode="L"),
        _encoded("PNG", exif=_exif()),
    ]
    tokens = [
        b"IHDR",
        b"IDAT",
        b"PLTE",
        b"tRNS",
        b"iCCP",
        b"zTXt",
        b"acTL",
        b"fdAT",
        b"eXIf",
        b"II*\0",
        b"MM\0*",
        b"GIF89a",
    ]
    tokens += [
        b"VP8X",
        b"VP8L",
        b"VP8 ",
        b"ANIM",
        b"RIFF",
        b"\x21\xf9\x04",
        b"\x2c",
        b"P6\n",
        b"P3\n",
        b"P7\n",
        b"BM",
        b"%!PS-Adobe",
    ]
    return Target(
        "pictures",
        Mutation([(one,) for one in corpus], tokens, finish=_fix_png),
        _read_picture("pillow"),
        _PICTURE_MEMORY,
        _PICTURE_REASON,
    )


def _read_picture_list(parts: Parts, folder: Path) -> None:
    for suffix, content in zip((".lst", ".csv", ".tsv"), parts, strict=True):
        if not content:
            continue
        path = folder / f"list{suffix}"
        path.write_bytes(content)
        data = ImageListDataset(path)
        assert len(data) > 0
        labels = data.labels()
        assert labels is None or len(labels) == len(data)


def _picture_lists() -> Target:
    corpus = [
        (b"0\t1.0\ta.jpg\n1\t0\tb/c.png\n2\t2.5\td.jpg\n", b"", b""),
        (b"0\t1.0\t2.0\ta.jpg\n1\t0.5\t1\tb.jpg\n", b"", b""),
        (b"", b'path,label\na.jpg,cat\n"b, c.jpg",dog\n', b""),
        (b"", b"", b"image\tclass\na.jpg\t1\nb.jpg\t0\n"),
    ]
    tokens = [
        b"\t",
        b",",
        b'"',
        b'""',
        b"\n",
        b"\r",
        b"\x0b",
        b"\x85",
        b"\0",
        b"\xef\xbb\xbf",
        b"nan",
        b"path",
        b"label",
        "²".encode(),
    ]
    return Target("picture_lists", Mutation(corpus, tokens), _read_picture_list)


# ----------------------------------------------------------------------------------------------------------------------
# Runs

_CHECKPOINT = ("state.json", "weights.safetensors", "optimizer.safetensors", "random.safetensors")


def _checkpoint_parts() -> list[Parts]:
    found = []
    for state in ({"epoch": 1, "step": 20, "best": 0.5, "metrics": [1.0, None]}, {}):
        checkpoint = Checkpoint(
            state=state,
            weights={"a.weight": _array("f4", 2, 3), "a.bias": _array("f4", 3)},
            optimizer={"a.weight.momentum": _array("f4", 2, 3), "step": np.array(7)},
            random={"numpy": _array("u1", 16)},
        )
        with tempfile.TemporaryDirectory() as folder:
            path = CheckpointFolder(Path(folder)).save(checkpoint, epoch=1, step=20)
            found.append(tuple((path / name).read_bytes() for name in _CHECKPOINT))
    return found


def _sign(rng: random.Random, parts: Parts) -> Parts:
    """The hashes of what the files hold now: damage by somebody who knows how they are made."""
    try:
        content = json.loads(parts[0])
        content.pop("digest")
        for name, part in zip(_CHECKPOINT[1:], parts[1:], strict=True):
            content["files"][name] = {"bytes": len(part), "sha256": hashlib.sha256(part).hexdigest()}
        return (json.dumps({**content, "digest": _digest(content)}).encode(), *parts[1:])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return parts


def _mutate_state(rng: random.Random, parts: Parts) -> Parts:
    content = mutate_json(rng, json.loads(parts[0]), ("files", "state", "format", "digest"))
    if isinstance(content, dict) and rng.random() < 0.8:
        content = {name: value for name, value in content.items() if name != "digest"}
        content["digest"] = _digest(content)
    return (json.dumps(content).encode(), *parts[1:])


def _read_checkpoint(parts: Parts, folder: Path) -> None:
    for name, part in zip(_CHECKPOINT, parts, strict=True):
        (folder / name).write_bytes(part)
    checkpoint = load_checkpoint(folder)
    for arrays in (checkpoint.weights, checkpoint.optimizer, checkpoint.random):
        assert all(isinstance(value, np.ndarray) for value in arrays.values())
    assert isinstance(checkpoint.state, dict)


def _checkpoint() -> Target:
    tokens = [b'"digest"', b'"files"', b"[" * 2000, b"null", b"{}", b"F32", b"BF16"]
    return Target("checkpoint", Mutation(_checkpoint_parts(), tokens, [_mutate_state], _sign), _read_checkpoint)


def _json_mutator(words: tuple[object, ...] = ()) -> Callable[[random.Random, Parts], Parts]:
    def mutate(rng: random.Random, parts: Parts) -> Parts:
        value = json.loads(parts[0])
        for _ in range(rng.choice((1, 1, 2, 3))):
            value = mutate_json(rng, value, words)
        return (json.dumps(value).encode(), *parts[1:])

    return mutate


_JSON_TOKENS = [
    b"[" * 3000,
    b'{"a":' * 2000,
    b"NaN",
    b"Infinity",
    b"1e999",
    b"\\ud800",
    b"\xef\xbb\xbf",
    b"\0",
    b'"',
    b"null",
]


def _read_recipe(parts: Parts, folder: Path) -> None:
    run = RunFolder(folder)
    run.recipe.write_bytes(parts[0])
    recipe = Recipe.from_dict(run.read_json(run.recipe))
    assert Recipe.from_dict(json.loads(json.dumps(recipe.to_dict()))) == recipe


def _recipe() -> Target:
    recipes = [
        Recipe(
            name="digits",
            task="image_classification",
            model=ModelSpec(name="resnet20", options={"thumbnail": True}),
            data=DataSpec(train=Component(name="digits", options={"split": "train"})),
            transforms=TransformSpec(
                train=(Component(name="flip"),), evaluation=(Component(name="center_crop", options={"size": 32}),)
            ),
        )
    ]
    corpus = [(json.dumps(recipe.to_dict()).encode(),) for recipe in recipes]
    return Target("recipe", Mutation(corpus, _JSON_TOKENS, [_json_mutator(("auto", "thread", "cosine"))]), _read_recipe)


def _read_run(parts: Parts, folder: Path) -> None:
    run = RunFolder(folder)
    run.description.write_bytes(parts[0])
    description = read_description(run)
    assert isinstance(description["task"], str)


def _run_json() -> Target:
    description = {
        "format": 1,
        "task": "image_classification",
        "model": {"name": "resnet20", "options": {"classes": 10}, "parameters": 272474},
        "classes": ["a", "b"],
        "preprocessing": [{"name": "to_tensor", "options": {}}],
    }
    return Target(
        "run_json", Mutation([(json.dumps(description).encode(),)], _JSON_TOKENS, [_json_mutator()]), _read_run
    )


def _read_weights_zip(parts: Parts, folder: Path) -> None:
    archive, target = folder / "net.zip", folder / "net.params"
    archive.write_bytes(parts[0])
    target.unlink(missing_ok=True)
    extract_member(archive, "net.params", target)
    assert {item.name for item in folder.iterdir()} == {"net.zip", "net.params"}


def _weights_zip() -> Target:
    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    corpus = [(make_zip({"net.params": b"weights" * 40, "../x": b"y"}, kind),) for kind in kinds]
    return Target("weights_zip", Mutation(corpus, ZIP_TOKENS, finish=sum_zip), _read_weights_zip)


TARGETS: dict[str, Callable[[], Target]] = {
    "params": _params,
    "safetensors": _safetensors,
    "recordfile": _recordfile,
    "idx": _idx,
    "picture_lists": _picture_lists,
    "checkpoint": _checkpoint,
    "recipe": _recipe,
    "run_json": _run_json,
    "weights_zip": _weights_zip,
}
"""What makes each target; corpora are made when they are asked for."""
if find_spec("PIL"):
    TARGETS |= {"record_pictures": _record_pictures, "jpeg_markers": _jpeg_markers, "pictures": _pictures}
    TARGETS |= {
        f"jpeg_{name}": functools.partial(_picture_jpeg, name)
        for name, module in (("pillow", "PIL"), ("simplejpeg", "simplejpeg"), ("opencv", "cv2"))
        if find_spec(module)
    }

"""What the plugin for image classification reads."""

from __future__ import annotations

import gzip
import itertools
import pickle
import pickletools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from containers import TAR_TOKENS, make_tar, pack_gzip, sum_tar
from harness import Target
from mutation import Mutation, Parts

from glueball_cv_classification.datasets import CIFAR10, CIFAR100
from glueball_cv_classification.datasets.archive import read_archive_batch
from glueball_cv_classification.datasets.cifar import PIXELS, _read_members
from glueball_cv_classification.datasets.digits import read_table
from glueball_cv_classification.datasets.pictures import TarPictures

_draw = np.random.default_rng(0)


def _check(images: np.ndarray, labels: np.ndarray, classes: int) -> None:
    assert images.dtype == np.uint8
    assert images.shape == (len(labels), 32, 32, 3)
    assert labels.dtype == np.int64
    assert not labels.size or 0 <= int(labels.min()) <= int(labels.max()) < classes


def _read_binary(parts: Parts, folder: Path) -> None:
    for kind in (CIFAR10, CIFAR100):
        columns = 1 if kind is CIFAR10 else 2
        if len(parts[0]) % (columns + PIXELS) and kind is CIFAR10:
            continue
        data = kind.__new__(kind)
        data._coarse = False
        images, labels = data._read_binary(parts[0], "x.bin")
        _check(images, labels, len(data.classes))
        assert len(parts[0]) == len(images) * (columns + PIXELS)
        return


def _cifar_binary() -> Target:
    pixels = _draw.integers(0, 255, (2, PIXELS), dtype=np.uint8)
    ten = np.concatenate([np.array([[3], [9]], np.uint8), pixels], axis=1).tobytes()
    hundred = np.concatenate([np.array([[3, 99], [19, 0]], np.uint8), pixels], axis=1).tobytes()
    tokens = [bytes((label,)) for label in (0, 9, 10, 99, 100, 255)]
    return Target("cifar_binary", Mutation([(ten,), (hundred,)], tokens), _read_binary)


def _batch(count: int, *, text: bool = True) -> bytes:
    rows = _draw.integers(0, 255, (count, PIXELS), dtype=np.uint8)
    batch: dict[Any, Any] = {
        "data": rows,
        "labels": [int(label) for label in _draw.integers(0, 10, count)],
        "batch_label": "training batch",
    }
    if not text:
        batch = {name.encode(): value for name, value in batch.items()}
    return pickle.dumps(batch, protocol=3)


_AS_PYTHON_2 = {b"C": b"U", b"B": b"T"}


def _of_python_2(content: bytes) -> bytes:
    """The same as Python 2 wrote it: its texts are bytes, and it has no instructions for these."""
    made, operations = [], list(pickletools.genops(content))
    for (operation, _, start), (_, _, stop) in itertools.pairwise([*operations, (None, None, len(content))]):
        code = operation.code.encode("latin-1")
        made.append(_AS_PYTHON_2.get(code, code) + content[start + 1 : stop])
    return b"".join(made).replace(b"\x80\x03", b"\x80\x02", 1)


def _small_batch() -> bytes:
    """All instructions that the files use, in little space: pictures would take most of the mutations."""
    batch = {b"data": np.zeros((1, 4), np.uint8), b"labels": [1, 300, -5], b"filenames": [b"a.png"] * 3}
    return pickle.dumps(batch, 3)


_PICKLE_TOKENS = [
    bytes((code,)) for code in b"}])(qrhjUTCBXKMJNtaesucRb.\x80\x88\x89\x85\x86\x87\x93\x94\x95\x8c\x8dioI0123GLFS"
]
_PICKLE_TOKENS += [
    b"cos\nsystem\n",
    b"cnumpy\ndtype\n",
    b"cnumpy\nndarray\n",
    b"(" * 300,
    b"]" * 300,
    b"K\x01\x85" * 40,
    b"h\x00a",
]


def _read_python(parts: Parts, folder: Path) -> None:
    batch = read_archive_batch(parts[0], "data_batch_1")
    for value in batch.values():
        if isinstance(value, np.ndarray):
            assert value.dtype == np.uint8
    data = CIFAR10.__new__(CIFAR10)
    if "data" in batch and getattr(batch["data"], "ndim", 0) == 2 and batch["data"].shape[1] == PIXELS:
        images, labels = data._read_python(parts[0], "data_batch_1")
        _check(images, labels, 10)


def _cifar_python() -> Target:
    small, whole = _small_batch(), _batch(1, text=False)
    corpus = [small, _of_python_2(small), small, _of_python_2(small), _batch(1), _of_python_2(whole)]
    return Target("cifar_python", Mutation([(one,) for one in corpus], _PICKLE_TOKENS), _read_python)


def _read_cifar_archive(parts: Parts, folder: Path) -> None:
    path = folder / "cifar.tar.gz"
    path.write_bytes(parts[0])
    for _, content in _read_members(path, ("test_batch", "data_batch_1")):
        assert isinstance(content, bytes)


def _cifar_archive() -> Target:
    members = {"cifar-10-batches-py/test_batch": b"x" * 700, "cifar-10-batches-py/data_batch_1": b"y" * 20}
    corpus = [(make_tar(members, mode, format),) for mode in ("w", "w:gz", "w:xz", "w:bz2") for format in (1, 2)]
    return Target("cifar_archive", Mutation(corpus, TAR_TOKENS, finish=sum_tar), _read_cifar_archive)


def _read_tar_pictures(parts: Parts, folder: Path) -> None:
    path = folder / "train.tar"
    path.write_bytes(parts[0])
    pictures = TarPictures(path)
    for name in pictures.names[:5]:
        assert len(pictures.read(name)) <= len(parts[0])


def _tar_pictures() -> Target:
    corpus = [(make_tar({"cat/a.png": b"x" * 30, "./dog/b.jpg": b"y" * 600}, "w", format),) for format in (0, 1, 2)]
    return Target("tar_pictures", Mutation(corpus, TAR_TOKENS, finish=sum_tar), _read_tar_pictures)


def _read_digits(parts: Parts, folder: Path) -> None:
    path = folder / ("digits.csv.gz" if parts[0][:2] == b"\x1f\x8b" else "digits.csv")
    path.write_bytes(parts[0])
    grey, labels = read_table(path)
    assert grey.shape == (len(labels), 8, 8)


def _digits() -> Target:
    table = "".join(",".join(str((row * 7 + column) % 17) for column in range(64)) + f",{row}\n" for row in range(3))

    corpus = [(table.encode(),), (gzip.compress(table.encode()),)]
    return Target(
        "digits", Mutation(corpus, [b",", b"\n", b"nan", b"inf", b"1e9", b"\0"], finish=pack_gzip), _read_digits
    )


TARGETS: dict[str, Callable[[], Target]] = {
    "cifar_binary": _cifar_binary,
    "cifar_python": _cifar_python,
    "cifar_archive": _cifar_archive,
    "tar_pictures": _tar_pictures,
    "digits": _digits,
}

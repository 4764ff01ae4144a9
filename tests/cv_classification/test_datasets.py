"""The data sets: every form that they are handed around in, splits, and files that are missing, damaged or hostile."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from classification_oracles import cifar10_folder, mxnet
from hypothesis import given, settings
from hypothesis import strategies as st

import glueball
from glueball.data import DataLoader, images
from glueball.data.idx import write_idx
from glueball.data.recordfile import Header, RecordWriter, pack, pack_image
from glueball.errors import DataError, DownloadError, OptionError
from glueball_cv_classification import datasets
from glueball_cv_classification.datasets import cifar, mnist
from glueball_cv_classification.datasets.archive import read_archive_batch
from glueball_cv_classification.datasets.common import stratified_split
from glueball_cv_classification.datasets.folder import has_test_part

RANDOM = np.random.default_rng(7)
ROWS = RANDOM.integers(0, 256, (20, 3072), dtype=np.uint8)
PICTURES = np.ascontiguousarray(ROWS.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
LABELS = [number % 10 for number in range(20)]


def save_picture(path: Path, image: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.encode(PICTURES[0] if image is None else image, "png"))


def make_folder(root: Path, counts: dict[str, int]) -> None:
    for name, count in counts.items():
        for number in range(count):
            save_picture(root / name / f"{number:04d}.png", PICTURES[number % len(PICTURES)])


def tar_of(folder: Path, path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        archive.add(folder, arcname=folder.name)
    return path


# ----------------------------------------------------------------------------------------------------------------------
# Every data set


def test_every_registered_data_set_is_one_of_the_classes() -> None:
    names = set(glueball.list_datasets(plugin="cv_classification"))
    targets = {glueball.catalog.current().find("dataset", name).target.partition(":")[2] for name in names}
    kinds = {name for name in datasets.__all__ if name not in ("ArrayImageDataset", "ImageClassificationDataset")}
    assert targets == kinds


def test_samples_are_rgb_pictures_with_int_labels(tmp_path: Path) -> None:
    make_folder(tmp_path / "a", {"cat": 3, "dog": 3})
    for data in (datasets.Digits("test"), datasets.ImageFolder(tmp_path / "a", "all")):
        image, label = data[0]
        assert image.dtype == np.uint8
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert type(label) is int
        assert data.labels().tolist() == [data[index][1] for index in range(len(data))]
        assert data[-1][1] == data.labels()[-1]
        assert type(data).__name__ in repr(data)
        with pytest.raises(IndexError, match="outside"):
            data[len(data)]


def test_arrays_in_memory_are_checked() -> None:
    with pytest.raises(DataError, match="wrong form"):
        datasets.ArrayImageDataset(PICTURES.astype(np.float32), np.zeros(20, int), ["a"])
    with pytest.raises(DataError, match="from 0 to 0"):
        datasets.ArrayImageDataset(PICTURES, np.arange(20), ["a"])
    with pytest.raises(DataError, match="20 integer labels"):
        datasets.ArrayImageDataset(PICTURES, np.zeros(19, int), ["a"])


# ----------------------------------------------------------------------------------------------------------------------
# Digits


def test_digits_are_split_the_same_way_each_time() -> None:
    train, test = datasets.Digits("train"), datasets.Digits("test")
    assert len(train) + len(test) == 1797
    assert np.bincount(test.labels()).min() >= 34
    assert np.array_equal(train.images, datasets.Digits("train").images)
    assert not np.array_equal(test.images, datasets.Digits("test", seed=1).images)
    assert train.images.max() == 255
    # The parts share no sample: together they are the table.
    both = np.concatenate([train.images[..., 0], test.images[..., 0]]).reshape(1797, -1)
    assert both.astype(np.int64).sum() == np.round(digits_table() * 255 / 16).astype(np.int64).sum()


def digits_table() -> np.ndarray:
    import gzip

    from glueball_cv_classification.datasets.digits import packaged_file

    return np.loadtxt(gzip.open(packaged_file()), delimiter=",")[:, :-1]


def test_digits_are_grey_on_demand() -> None:
    grey, colour = datasets.Digits("test", channels=1), datasets.Digits("test")
    assert grey[0][0].shape == (8, 8, 1)
    assert np.array_equal(np.repeat(grey.images, 3, axis=3), colour.images)
    with pytest.raises(OptionError, match="channels=2"):
        datasets.Digits(channels=2)


def test_digits_need_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "digits.csv").write_text("1,2,3\n4,5,6\n")
    with pytest.raises(DataError, match="64 values"):
        datasets.Digits(path=tmp_path / "digits.csv")
    (tmp_path / "digits.csv.gz").write_bytes(b"\x1f\x8b cut")
    with pytest.raises(DataError, match="cannot be read"):
        datasets.Digits(path=tmp_path / "digits.csv.gz")
    monkeypatch.setattr("glueball_cv_classification.datasets.digits.find_spec", lambda name: None)
    with pytest.raises(DataError, match="pip install scikit-learn"):
        datasets.Digits()


def test_unknown_split_is_refused() -> None:
    with pytest.raises(OptionError, match="'tset'"):
        datasets.Digits("tset")
    assert len(datasets.Digits("val")) == len(datasets.Digits("test"))


@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=6),
    fraction=st.floats(0.05, 0.95),
    seed=st.integers(0, 1000),
)
@settings(max_examples=50, deadline=None)
def test_stratified_split_keeps_every_class_on_both_sides(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    train, test = stratified_split(labels, fraction, seed)
    assert sorted([*train, *test]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        held_out = int((labels[test] == label).sum())
        assert held_out <= count - 1
        if count > 1:
            assert held_out >= 1
            assert abs(held_out - fraction * count) <= 1


def test_stratified_split_hardly_moves_when_a_file_is_added() -> None:
    names = [f"cat/{number}.jpg" for number in range(100)]
    _, before = stratified_split(np.zeros(100, int), 0.2, 0, names)
    _, after = stratified_split(np.zeros(101, int), 0.2, 0, [*names, "cat/new.jpg"])
    held_before = {names[index] for index in before}
    held_after = {[*names, "cat/new.jpg"][index] for index in after}
    assert len(held_before - held_after) <= 1


# ----------------------------------------------------------------------------------------------------------------------
# MNIST and its kin


def write_mnist(folder: Path, suffix: str = ".gz") -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    grey = RANDOM.integers(0, 256, (12, 28, 28), dtype=np.uint8)
    for part in ("train", "t10k"):
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", grey)
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", np.arange(12, dtype=np.uint8) % 10)
    return grey


@pytest.mark.parametrize("inner", ["", "fashion-mnist", "raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_files_are_found_in_their_usual_places(tmp_path: Path, inner: str, suffix: str) -> None:
    grey = write_mnist(tmp_path / inner, suffix)
    data = datasets.FashionMNIST("test", root=tmp_path, channels=1, download=False)
    assert np.array_equal(data.images[..., 0], grey)
    assert data.labels().tolist() == [number % 10 for number in range(12)]
    assert data.classes[9] == "ankle boot"


def test_shared_data_folder_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "mnist")
    monkeypatch.setenv("GLUEBALL_DATA", str(tmp_path))
    assert len(datasets.MNIST("train", download=False)) == 12


def test_missing_files_are_named_with_hash_and_place(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        datasets.FashionMNIST("test", root=tmp_path, download=False)
    message = str(caught.value)
    assert "t10k-images-idx3-ubyte.gz  (sha1 626ed6a7c06dd17c0eec72fa3be1740f146a2863" in message
    assert str(tmp_path) in message
    assert "apt install dataset-fashion-mnist" in message


def test_offline_download_says_what_to_put_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLUEBALL_OFFLINE", "1")
    monkeypatch.setenv("GLUEBALL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("GLUEBALL_DATA", raising=False)
    with pytest.raises(DownloadError) as caught:
        datasets.CIFAR100("test")
    message = str(caught.value)
    assert "GLUEBALL_OFFLINE" in message
    assert str(tmp_path / "home" / "datasets" / "cifar100") in message
    assert "a0bb982c76b83111308126cc779a992fa506b90b" in message


def test_a_download_with_another_hash_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GLUEBALL_OFFLINE", raising=False)
    monkeypatch.setattr(
        "glueball.weights.download.download", lambda url, target, **options: target.write_bytes(b"something else")
    )
    with pytest.raises(DownloadError, match="another hash, which was removed"):
        datasets.CIFAR10("test", root=tmp_path)
    assert [path for path in tmp_path.iterdir() if path.suffix != ".lock"] == []


def test_a_download_with_the_right_hash_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = tmp_path / "made.tar.gz"
    write_binary(tmp_path / "files")
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(tmp_path / "files", arcname=".")
    content = archive.read_bytes()
    source = cifar.Source(cifar.CIFAR10.source.file, "https://example.org/x", hashlib.sha1(content).hexdigest())
    monkeypatch.setattr(cifar.CIFAR10, "source", source)
    monkeypatch.delenv("GLUEBALL_OFFLINE", raising=False)

    def download(url: str, target: Path, **options: Any) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)

    monkeypatch.setattr("glueball.weights.download.download", download)
    root = tmp_path / "new"
    assert np.array_equal(datasets.CIFAR10("test", root=root).images, PICTURES)
    assert [path.name for path in root.iterdir() if path.suffix != ".lock"] == [source.file]


def test_labels_that_do_not_fit_the_pictures_are_refused(tmp_path: Path) -> None:
    write_mnist(tmp_path)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.zeros(11, np.uint8))
    with pytest.raises(DataError, match="12 integer labels"):
        datasets.MNIST("test", root=tmp_path)
    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.full(12, 10, np.uint8))
    with pytest.raises(DataError, match="from 0 to 9"):
        datasets.MNIST("test", root=tmp_path)
    write_idx(tmp_path / "t10k-images-idx3-ubyte.gz", np.zeros(12, np.uint8))
    with pytest.raises(DataError, match="no pictures"):
        datasets.MNIST("test", root=tmp_path)


def test_fashion_mnist_of_debian(monkeypatch: pytest.MonkeyPatch) -> None:
    if not any(Path(folder).is_dir() for folder in mnist.FashionMNIST.packaged):
        pytest.skip("Debian's package dataset-fashion-mnist is not installed")
    monkeypatch.delenv("GLUEBALL_DATA", raising=False)
    data = datasets.FashionMNIST("test", download=False)
    assert np.bincount(data.labels()).tolist() == [1000] * 10
    assert data[0][0].shape == (28, 28, 3)


def test_published_hashes_have_their_length() -> None:
    for data in (mnist.MNIST, mnist.FashionMNIST):
        assert all(len(sha1) == 40 for sha1 in data.hashes.values())


# ----------------------------------------------------------------------------------------------------------------------
# CIFAR


def write_binary(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    records = np.concatenate([np.array(LABELS, np.uint8)[:, None], ROWS], axis=1)
    for name in ("test_batch", *(f"data_batch_{number}" for number in range(1, 6))):
        (folder / f"{name}.bin").write_bytes(records.tobytes())


def python2_batch(rows: np.ndarray, labels: dict[str, list[int]], filenames: int = 0) -> bytes:
    """A batch as the official archives hold it: protocol 2 as Python 2 and NumPy 1 wrote it, byte by byte."""

    def text(value: str) -> bytes:
        return b"U" + bytes([len(value)]) + value.encode()

    out = b"\x80\x02}q\x01(" + text("batch_label") + b"q\x02" + text("testing batch 1 of 1") + b"q\x03"
    slot = 4
    for key, numbers in labels.items():
        out += text(key) + b"q" + bytes([slot]) + b"]q" + bytes([slot + 1]) + b"("
        out += b"".join(b"K" + bytes([number]) for number in numbers) + b"e"
        slot += 2
    out += text("data") + b"cnumpy.core.multiarray\n_reconstruct\nq\x20cnumpy\nndarray\nq\x21K\x00\x85" + text("b")
    out += b"\x87Rq\x22(K\x01M" + struct.pack("<H", len(rows)) + b"M" + struct.pack("<H", rows.shape[1]) + b"\x86"
    out += b"cnumpy\ndtype\nq\x23" + text("u1") + b"K\x00K\x01\x87Rq\x24(K\x03" + text("|") + b"NNN"
    out += b"J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89T" + struct.pack("<I", rows.nbytes) + rows.tobytes() + b"tb"
    out += text("filenames") + b"q\x25]r\x00\x01\x00\x00("
    out += b"".join(
        text(f"picture_{number}.png") + b"r" + struct.pack("<I", 300 + number) for number in range(filenames)
    )
    return out + b"eu."


def test_the_test_batch_is_what_python_reads() -> None:
    batch = pickle.loads(python2_batch(ROWS, {"labels": LABELS}, 3), encoding="bytes")
    assert np.array_equal(batch[b"data"], ROWS)
    assert batch[b"labels"] == LABELS
    assert batch[b"filenames"][2] == b"picture_2.png"


def write_python(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("test_batch", *(f"data_batch_{number}" for number in range(1, 6))):
        (folder / name).write_bytes(python2_batch(ROWS, {"labels": LABELS}, 20))


def test_cifar10_in_all_its_forms(tmp_path: Path) -> None:
    write_binary(tmp_path / "binary")
    write_binary(tmp_path / "binary_inner" / "cifar-10-batches-bin")
    write_python(tmp_path / "python")
    (tmp_path / "binary_archive").mkdir()
    with tarfile.open(tmp_path / "binary_archive" / "cifar-10-binary.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "binary", arcname="cifar-10-batches-bin")
    (tmp_path / "python_archive").mkdir()
    with tarfile.open(tmp_path / "python_archive" / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "python", arcname="cifar-10-batches-py")
    for number, label in enumerate(LABELS):
        for part in ("train", "test"):
            name = datasets.CIFAR10.classes[label]
            save_picture(tmp_path / "folders" / part / name / f"{number:04d}.png", PICTURES[number])
    (tmp_path / "tars").mkdir()
    for part in ("train", "test"):
        tar_of(tmp_path / "folders" / part, tmp_path / "tars" / f"{part}.tar")

    for form in ("binary", "binary_inner", "python", "binary_archive", "python_archive"):
        test = datasets.CIFAR10("test", root=tmp_path / form, download=False)
        assert np.array_equal(test.images, PICTURES), form
        assert test.labels().tolist() == LABELS
        train = datasets.CIFAR10("train", root=tmp_path / form, download=False)
        assert np.array_equal(train.images, np.concatenate([PICTURES] * 5)), form
    for form in ("folders", "tars"):
        data = datasets.CIFAR10("test", root=tmp_path / form, download=False)
        order = np.argsort([datasets.CIFAR10.classes[label] for label in LABELS], kind="stable")
        assert np.array_equal(data.images, PICTURES[order]), form
        assert data.labels().tolist() == [LABELS[index] for index in order]
        copy = pickle.loads(pickle.dumps(data))
        assert np.array_equal(copy[3][0], data[3][0])


@pytest.mark.parametrize("coarse", [False, True])
def test_cifar100_labels_are_fine_or_coarse(tmp_path: Path, coarse: bool) -> None:
    fine, rough = [5 * label for label in LABELS], LABELS
    (tmp_path / "b").mkdir()
    (tmp_path / "p").mkdir()
    records = np.concatenate([np.array([rough, fine], np.uint8).T, ROWS], axis=1)
    (tmp_path / "b" / "test.bin").write_bytes(records.tobytes())
    (tmp_path / "p" / "test").write_bytes(python2_batch(ROWS, {"fine_labels": fine, "coarse_labels": rough}))
    for form in ("b", "p"):
        data = datasets.CIFAR100("test", root=tmp_path / form, coarse=coarse, download=False)
        assert data.labels().tolist() == (rough if coarse else fine)
        assert len(data.classes) == (20 if coarse else 100)
        assert np.array_equal(data.images, PICTURES)


def test_cifar_reads_the_binary_form_as_mxnet_does(tmp_path: Path) -> None:
    vision = mxnet().gluon.data.vision
    write_binary(tmp_path)
    reader = vision.CIFAR10.__new__(vision.CIFAR10)
    expected, labels = reader._read_batch(str(tmp_path / "test_batch.bin"))
    data = datasets.CIFAR10("test", root=tmp_path, download=False)
    assert np.array_equal(data.images, expected)
    assert np.array_equal(data.labels(), labels)


def test_damaged_cifar_is_refused(tmp_path: Path) -> None:
    write_binary(tmp_path / "short")
    path = tmp_path / "short" / "test_batch.bin"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(DataError, match="records of 3073 bytes"):
        datasets.CIFAR10("test", root=tmp_path / "short", download=False)
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "cifar-10-binary.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="cannot be read"):
        datasets.CIFAR10("test", root=tmp_path / "archive", download=False)
    make_folder(tmp_path / "strange" / "test", {"airplane": 1, "zeppelin": 1})
    with pytest.raises(DataError, match=r"Unknown: \['zeppelin'\]"):
        datasets.CIFAR10("test", root=tmp_path / "strange", download=False)
    make_folder(tmp_path / "large" / "test", dict.fromkeys(datasets.CIFAR10.classes, 1))
    save_picture(tmp_path / "large" / "test" / "cat" / "0000.png", np.zeros((33, 32, 3), np.uint8))
    data = datasets.CIFAR10("test", root=tmp_path / "large", download=False)
    with pytest.raises(DataError, match=r"cat/0000.png.*32x33"):
        data[0]


def test_real_cifar10_feeds_a_loader() -> None:
    data = datasets.CIFAR10("test", root=cifar10_folder(), download=False)
    assert np.bincount(data.labels()).tolist() == [1000] * 10
    loader = DataLoader(data, 64, shuffle=True, seed=3)
    pictures, labels = next(iter(loader))
    assert pictures.shape == (64, 32, 32, 3)
    assert len(set(labels.tolist())) > 3
    # The mean colour that recipes normalise with.
    assert np.allclose(data.images.mean(axis=(0, 1, 2)) / 255, (0.4942, 0.4851, 0.4504), atol=0.005)


# ----------------------------------------------------------------------------------------------------------------------
# The python archives are parsed, never run


class Hostile:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.path, "run")


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_hostile_files_are_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    trap = tmp_path / "trap"
    content = pickle.dumps({"labels": LABELS, "data": Hostile(trap)}, protocol)
    with pytest.raises(DataError, match="nothing in it has been run"):
        read_archive_batch(content)
    assert not trap.exists()
    pickle.loads(content)
    assert trap.exists(), "the file was not hostile at all"


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"cos\nsystem\n(U\x04trueR.", id="call"),
        pytest.param(b"\x80\x02cbuiltins\neval\nU\x011\x85R.", id="eval"),
        pytest.param(b"(ios\nsystem\n.", id="INST"),
        pytest.param(b"(cos\nsystem\no.", id="OBJ"),
        pytest.param(b"\x80\x02cnumpy\nndarray\n)\x81.", id="NEWOBJ"),
        pytest.param(b"\x80\x02}(U\x04datacnumpy\nndarray\nu.", id="a type as a value"),
        pytest.param(b"\x80\x02cnumpy\nndarray\nK\x01\x85R.", id="a call of a known name"),
        pytest.param(b"\x80\x02cnumpy\ndtype\nU\x01OK\x00K\x01\x87R.", id="an array of objects"),
        pytest.param(
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x05\x85U\x01b\x87R.", id="shape"
        ),
        pytest.param(b"P1\n.", id="PERSID"),
        pytest.param(b"\x82\x01.", id="EXT1"),
        pytest.param(b"\x80\x04\x95\x00.", id="newer protocol"),
        pytest.param(b"", id="empty"),
        pytest.param(b".", id="nothing on the stack"),
        pytest.param(b"}", id="no end"),
        pytest.param(b"]K\x01a.", id="no dictionary"),
        pytest.param(b"}K\x01K\x02s.", id="key that is no string"),
        pytest.param(b"}(U\x01au.", id="key without a value"),
        pytest.param(b"}h\x05.", id="unknown memo"),
        pytest.param(b"u.", id="no mark"),
        pytest.param(b"(K\x01\x85.", id="mark taken as a value"),
        pytest.param(b"}U\x01aX\x01\x00\x00\x00\xffs.", id="not UTF-8"),
        pytest.param(b"}}b.", id="state of a dictionary"),
        pytest.param(b"T\xff\xff\xff\x7fabc.", id="length beyond the end"),
        pytest.param(b"c" + b"a" * 200, id="endless name"),
    ],
)
def test_everything_that_the_archives_do_not_hold_is_refused(content: bytes) -> None:
    with pytest.raises(DataError):
        read_archive_batch(content, "batch")


def test_arrays_of_another_size_or_order() -> None:
    good = python2_batch(ROWS, {"labels": LABELS})
    count = b"M" + struct.pack("<H", len(ROWS))
    assert good.count(count) == 1
    with pytest.raises(DataError, match=r"shape \(21, 3072\) has 61440 bytes"):
        read_archive_batch(good.replace(count, b"M" + struct.pack("<H", len(ROWS) + 1)))
    fortran = pickle.dumps({"data": np.asfortranarray(ROWS)}, 3)
    assert np.array_equal(read_archive_batch(fortran)["data"], ROWS)


def test_batches_written_by_python_3_are_read_too() -> None:
    batch = read_archive_batch(pickle.dumps({"data": ROWS, "labels": LABELS, b"name": "x", "none": None}, 3))
    assert np.array_equal(batch["data"], ROWS)
    assert batch["labels"] == LABELS
    assert batch["name"] == "x"


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_damage_is_an_error_or_harmless(data: st.DataObject) -> None:
    content = bytearray(python2_batch(ROWS[:1], {"labels": LABELS[:1]}, 1))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(content)))
    for piece in (bytes(content), bytes(content[:cut])):
        try:
            batch = read_archive_batch(piece)
        except DataError:
            continue
        assert isinstance(batch, dict)
        assert all(
            isinstance(value, (bytes, str, int, list, tuple, dict, np.ndarray, type(None))) for value in batch.values()
        )


@given(st.binary(max_size=200))
@settings(max_examples=300, deadline=None)
def test_noise_is_refused(content: bytes) -> None:
    with pytest.raises(DataError):
        read_archive_batch(b"\x80\x02" + content)


def test_the_package_never_imports_pickle() -> None:
    source = Path(datasets.__file__).parents[1]
    for file in source.rglob("*.py"):
        text = file.read_text("utf-8")
        assert "import pickle" not in text, file
        assert "allow_pickle=True" not in text, file


# ----------------------------------------------------------------------------------------------------------------------
# Folders


def test_an_undivided_folder_is_split_and_says_how(tmp_path: Path) -> None:
    make_folder(tmp_path, {"cat": 10, "dog": 20})
    train, held_out = datasets.ImageFolder(tmp_path), datasets.ImageFolder(tmp_path, "val")
    assert train.classes == held_out.classes == ("cat", "dog")
    assert np.bincount(train.labels()).tolist() == [8, 16]
    assert np.bincount(held_out.labels()).tolist() == [2, 4]
    assert not set(train.names) & set(held_out.names)
    assert "20% of every class held out by a hash" in train.summary
    assert "24 to train on, 6 held out" in train.summary
    assert len(datasets.ImageFolder(tmp_path, "all")) == 30
    assert datasets.ImageFolder(tmp_path, "val", seed=1).names != held_out.names
    assert datasets.ImageFolder(tmp_path, "test").names == held_out.names


def test_the_split_does_not_depend_on_where_the_folder_lies(tmp_path: Path) -> None:
    make_folder(tmp_path / "here", {"cat": 10, "dog": 10})
    make_folder(tmp_path / "there" / "data", {"cat": 10, "dog": 10})
    tar_of(tmp_path / "here", tmp_path / "x.tar")
    expected = datasets.ImageFolder(tmp_path / "here", "val")
    elsewhere = datasets.ImageFolder(tmp_path / "there" / "data", "val")
    inside = datasets.ImageFolder(tmp_path / "x.tar", "val")
    assert elsewhere.names == expected.names
    assert inside.names == [f"here/{name}" for name in expected.names]
    assert inside.classes == expected.classes
    assert all(np.array_equal(inside[index][0], expected[index][0]) for index in range(len(expected)))


@pytest.mark.parametrize("name", ["val", "valid", "validation", "test"])
def test_ready_made_parts_are_taken(tmp_path: Path, name: str) -> None:
    make_folder(tmp_path / "train", {"cat": 3, "dog": 4, "emu": 1})
    make_folder(tmp_path / name, {"cat": 1, "emu": 2})
    train, held_out = datasets.ImageFolder(tmp_path), datasets.ImageFolder(tmp_path, "val")
    assert (len(train), len(held_out)) == (8, 3)
    # Labels of the part without dogs still count them.
    assert held_out.classes == train.classes == ("cat", "dog", "emu")
    assert held_out.labels().tolist() == [0, 2, 2]
    assert f"the folder {name}" in held_out.summary
    with pytest.raises(OptionError, match="divided"):
        datasets.ImageFolder(tmp_path, "all")


def test_a_lone_train_folder_is_split(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", {"cat": 5, "dog": 5})
    data = datasets.ImageFolder(tmp_path, "val")
    assert len(data) == 2
    assert "no val folder" in data.summary
    assert len(datasets.ImageFolder(tmp_path, "all")) == 10


def test_class_folders_may_be_called_test(tmp_path: Path) -> None:
    make_folder(tmp_path, {"test": 5, "rehearsal": 5})
    assert datasets.ImageFolder(tmp_path, "all").classes == ("rehearsal", "test")
    make_folder(tmp_path, {"test/rehearsal": 1})
    with pytest.raises(DataError, match="lies beside folders of the same names"):
        datasets.ImageFolder(tmp_path, "all")


@pytest.mark.parametrize(("train", "test"), [("Train", "Test"), ("TRAIN", "VAL"), ("Training", "Validation")])
def test_parts_in_capitals_are_parts_not_classes(tmp_path: Path, train: str, test: str) -> None:
    make_folder(tmp_path / train, {"cat": 3, "dog": 3})
    make_folder(tmp_path / test, {"cat": 1, "dog": 1})
    assert datasets.ImageFolder(tmp_path).classes == ("cat", "dog")
    assert len(datasets.ImageFolder(tmp_path)) == 6
    held_out = datasets.ImageFolder(tmp_path, "val")
    assert len(held_out) == 2
    assert f"the folder {test}" in held_out.summary


def test_three_parts_are_three_splits(tmp_path: Path) -> None:
    for number, part in enumerate(("train", "val", "test"), 1):
        make_folder(tmp_path / part, {"cat": number, "dog": 1})
    sizes = [len(datasets.ImageFolder(tmp_path, split)) for split in ("train", "val", "test")]
    assert sizes == [2, 3, 4]
    assert has_test_part(tmp_path)
    assert has_test_part(tar_of(tmp_path / "train", tmp_path / "x.tar")) is False
    make_folder(tmp_path / "unlabelled", {"cat": 1})
    assert datasets.ImageFolder(tmp_path).summary.endswith("; not used: unlabelled")


@pytest.mark.parametrize("tar", [False, True])
@pytest.mark.parametrize(
    ("parts", "split", "expected"),
    [
        (["val"], "test", "val"),
        (["test"], "val", "test"),
        (["train"], "test", "train"),
        (["train"], "train", "train"),
        (["train", "eval"], "test", "eval"),
        (["train", "val"], "train", "train"),
        (["val", "test"], "val", "val"),
        (["val", "test"], "test", "test"),
        (["train", "val", "test"], "val", "val"),
        ([], "test", ""),
        ([], "train", ""),
    ],
)
def test_nothing_is_held_out_of_data_to_measure_on(
    tmp_path: Path, parts: list[str], split: str, expected: str, tar: bool
) -> None:
    for number, part in enumerate(parts or [""], 2):
        make_folder(tmp_path / "data" / part, {"cat": number, "dog": 2})
    root = tar_of(tmp_path / "data", tmp_path / "x.tar") if tar else tmp_path / "data"
    data = datasets.ImageFolder(root, split, val_fraction=None, classes=["bat", "cat", "dog"])
    assert len(data) == 4 + (parts.index(expected) if expected else 0)
    assert expected in data.summary
    assert sorted(set(data.labels().tolist())) == [1, 2]


def test_without_a_part_to_train_on_there_is_no_training(tmp_path: Path) -> None:
    make_folder(tmp_path / "val", {"cat": 3, "dog": 3})
    with pytest.raises(DataError, match=r"no part to train on.*Received: val\..*or name .*val itself"):
        datasets.ImageFolder(tmp_path)
    make_folder(tmp_path / "test", {"cat": 3, "dog": 3})
    with pytest.raises(DataError, match="Received: test, val"):
        datasets.ImageFolder(tmp_path)


@pytest.mark.parametrize("name", ["val", "Valid", "test"])
def test_an_empty_part_is_an_error(tmp_path: Path, name: str) -> None:
    make_folder(tmp_path / "train", {"cat": 3, "dog": 3})
    (tmp_path / name).mkdir()
    for root in (tmp_path, tar_of(tmp_path, tmp_path.parent / "empty.tar")):
        with pytest.raises(DataError, match=f"{name} is empty"):
            datasets.ImageFolder(root)


def test_two_folders_for_one_part_are_an_error(tmp_path: Path) -> None:
    for part in ("train", "val", "Validation"):
        make_folder(tmp_path / part, {"cat": 2, "dog": 2})
    with pytest.raises(DataError, match=r"Validation and val .* same part"):
        datasets.ImageFolder(tmp_path)


def test_test_pictures_without_labels_are_left_out_aloud(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", {"cat": 5, "dog": 5})
    make_folder(tmp_path, {"test": 3})
    held_out = datasets.ImageFolder(tmp_path, "val")
    assert len(held_out) == 2
    assert "not used: test (pictures without class folders)" in held_out.summary


def test_lone_folders_around_everything_are_passed_through(tmp_path: Path) -> None:
    make_folder(tmp_path / "nest" / "ds" / "images", {"cat": 5, "dog": 5})
    make_folder(tmp_path / "nest" / "__MACOSX" / "ds" / "images", {"cat": 5})
    data = datasets.ImageFolder(tmp_path / "nest")
    assert data.classes == ("cat", "dog")
    assert "ds/images" in data.summary
    tar = datasets.ImageFolder(tar_of(tmp_path / "nest", tmp_path / "x.tar"))
    assert tar.names == [f"nest/{name}" for name in data.names]
    # A class of the model is no wrapping.
    model = datasets.ImageFolder(tmp_path / "nest", "all", classes=["ds", "other"])
    assert model.labels().tolist() == [0] * 10


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    make_folder(tmp_path, {"cat": 5})
    with pytest.raises(DataError, match="a single class: cat"):
        datasets.ImageFolder(tmp_path)


def test_classes_of_which_nothing_is_held_out_are_named(tmp_path: Path) -> None:
    make_folder(tmp_path, {"cat": 5, "dog": 5, "emu": 1})
    assert "; nothing held out of emu, with one picture each" in datasets.ImageFolder(tmp_path).summary
    make_folder(tmp_path, {"emu": 2})
    assert "nothing held out" not in datasets.ImageFolder(tmp_path).summary


def test_classes_of_a_model_are_kept(tmp_path: Path) -> None:
    make_folder(tmp_path, {"dog": 2})
    data = datasets.ImageFolder(tmp_path, "all", classes=["cat", "dog"])
    assert data.labels().tolist() == [1, 1]
    make_folder(tmp_path, {"emu": 1})
    with pytest.raises(DataError, match="not known: emu"):
        datasets.ImageFolder(tmp_path, "all", classes=["cat", "dog"])


def test_folders_inside_a_class_belong_to_it(tmp_path: Path) -> None:
    make_folder(tmp_path, {"cat/black": 1, "cat/white": 1, "dog": 1})
    assert datasets.ImageFolder(tmp_path, "all").labels().tolist() == [0, 0, 1]


def test_what_is_no_picture_is_left_out(tmp_path: Path) -> None:
    make_folder(tmp_path, {"cat": 2, "dog": 2})
    (tmp_path / "cat" / "notes.txt").write_text("x")
    (tmp_path / "cat" / "._0000.png").write_text("x")
    (tmp_path / ".cache").mkdir()
    save_picture(tmp_path / ".cache" / "x.png")
    assert len(datasets.ImageFolder(tmp_path, "all")) == 4


def test_bad_folders_are_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        datasets.ImageFolder(tmp_path / "nowhere")
    with pytest.raises(DataError, match="holds no pictures"):
        datasets.ImageFolder(tmp_path)
    make_folder(tmp_path, {"cat": 2, "dog": 2})
    (tmp_path / "emu").mkdir()
    with pytest.raises(DataError, match=r"without a picture.*emu"):
        datasets.ImageFolder(tmp_path)
    (tmp_path / "emu").rmdir()
    save_picture(tmp_path / "loose.png")
    with pytest.raises(DataError, match=r"loose\.png lies beside the class folders"):
        datasets.ImageFolder(tmp_path)
    (tmp_path / "x.tar").write_bytes(b"no archive")
    with pytest.raises(DataError, match="uncompressed tar"):
        datasets.ImageFolder(tmp_path / "x.tar")
    with pytest.raises(OptionError, match="Unknown split"):
        datasets.ImageFolder(tmp_path, "trian")


def test_a_corrupt_picture_is_named(tmp_path: Path) -> None:
    make_folder(tmp_path, {"cat": 2, "dog": 2})
    (tmp_path / "dog" / "0001.png").write_bytes(b"\x89PNG\r\n\x1a\n cut")
    data = datasets.ImageFolder(tmp_path, "all")
    with pytest.raises(DataError, match=r"dog/0001\.png"):
        data[3]
    assert data.describe(3).endswith("dog/0001.png")


def test_links_in_a_tar_are_not_followed(tmp_path: Path) -> None:
    make_folder(tmp_path / "data", {"cat": 1, "dog": 1})
    path = tar_of(tmp_path / "data", tmp_path / "x.tar")
    with tarfile.open(path, "a") as archive:
        link = tarfile.TarInfo("data/cat/evil.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        up = tarfile.TarInfo("../outside/x.txt")
        up.size = 1
        archive.addfile(up, io.BytesIO(b"x"))
    assert len(datasets.ImageFolder(path, "all")) == 2
    content = path.read_bytes()
    data = datasets.ImageFolder(path, "all")
    path.write_bytes(content[:700])
    with pytest.raises(DataError, match="cut short"):
        data[1]


def test_pictures_that_stay_encoded(tmp_path: Path) -> None:
    make_folder(tmp_path, {"cat": 1, "dog": 1})
    image, label = datasets.ImageFolder(tmp_path, "all", decode=False)[1]
    assert isinstance(image, images.EncodedImage)
    assert label == 1
    tensor = glueball.get_transform("imagenet_eval", size=16)(image)
    assert tensor.shape == (3, 16, 16)


def test_imagenet_folders(tmp_path: Path) -> None:
    make_folder(tmp_path / "train", {"n01440764": 2, "n01443537": 1})
    make_folder(tmp_path / "val", {"n01440764": 1, "n01443537": 1})
    data = datasets.ImageNet("val", root=tmp_path)
    assert data.synsets == data.classes == ("n01440764", "n01443537")
    (tmp_path / "LOC_synset_mapping.txt").write_text("n01440764 tench, Tinca tinca\nn01443537 goldfish\n")
    data = datasets.ImageNet("train", root=tmp_path)
    assert data.classes == ("tench, Tinca tinca", "goldfish")
    assert data.labels().tolist() == [0, 0, 1]
    make_folder(tmp_path / "train", {"fish": 1})
    with pytest.raises(DataError, match=r"not sorted into synsets.*fish"):
        datasets.ImageNet("train", root=tmp_path)
    with pytest.raises(DataError, match=r"image-net\.org"):
        datasets.ImageNet("train", root=tmp_path / "nowhere")


# ----------------------------------------------------------------------------------------------------------------------
# Record files


def test_record_files(tmp_path: Path) -> None:
    with RecordWriter(tmp_path / "x.rec") as writer:
        for number in range(5):
            writer.write(pack_image(Header(label=number % 3, id=number), PICTURES[number], "png"))
    data = datasets.ImageRecord(tmp_path / "x.rec")
    assert data.labels().tolist() == [0, 1, 2, 0, 1]
    assert data.classes == ("0", "1", "2")
    assert np.array_equal(data[4][0], PICTURES[4])
    assert type(data[4][1]) is int
    assert "record 4" in data.describe(4)
    with pytest.raises(DataError, match="from 0 to 1"):
        datasets.ImageRecord(tmp_path / "x.rec", classes=["a", "b"])
    with RecordWriter(tmp_path / "y.rec") as writer:
        writer.write(pack(Header(label=np.array([1.0, 2.0], np.float32)), b""))
    with pytest.raises(DataError, match="several labels"):
        datasets.ImageRecord(tmp_path / "y.rec")


def test_record_files_of_mxnet(tmp_path: Path) -> None:
    recordio = mxnet().recordio
    writer = recordio.MXIndexedRecordIO(str(tmp_path / "x.idx"), str(tmp_path / "x.rec"), "w")
    for number in range(3):
        payload = images.encode(PICTURES[number], "png")
        writer.write_idx(number, recordio.pack(recordio.IRHeader(0, float(number), number, 0), payload))
    writer.close()
    data = datasets.ImageRecord(tmp_path / "x.rec")
    assert data.labels().tolist() == [0, 1, 2]
    assert np.array_equal(data[2][0], PICTURES[2])

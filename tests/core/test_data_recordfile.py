"""Record files: read and written as MXNet does, records that hold the magic number and damaged files included."""

from __future__ import annotations

import pickle
import struct
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import glueball.backend
from glueball.data import DataLoader, ImageRecordDataset, RecordFile, RecordFileDataset, RecordWriter
from glueball.data.recordfile import MAGIC, Header, pack, pack_image, unpack, unpack_image
from glueball.errors import DataError, OptionError

MAGIC_BYTES = struct.pack("<I", MAGIC)

RECORDS = [
    b"",
    b"a",
    b"four",
    MAGIC_BYTES,
    MAGIC_BYTES * 3,
    b"x" + MAGIC_BYTES,  # not at a multiple of four: stays as it is
    b"1234" + MAGIC_BYTES + b"5678",
    b"1234" + MAGIC_BYTES + b"567",
    MAGIC_BYTES + b"1" * 7 + MAGIC_BYTES + b"1" + MAGIC_BYTES,
    bytes(range(256)) * 40,
]

content = st.lists(st.sampled_from([MAGIC_BYTES, MAGIC_BYTES[:2], MAGIC_BYTES[2:], b"a", b"bcde"]), max_size=12).map(
    b"".join
)


def _write(path, records, keys=None):
    with RecordWriter(path) as writer:
        for number, record in enumerate(records):
            writer.write(record, None if keys is None else keys[number])


@settings(deadline=None, max_examples=60)
@given(st.lists(content, max_size=8))
def test_round_trip(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("records") / "a.rec"
    _write(path, records)
    with RecordFile(path) as file:
        assert list(file) == records
    path.with_suffix(".idx").unlink()
    with RecordFile(path) as file:  # without the table the file is scanned
        assert list(file) == records
        assert file.keys == list(range(len(records)))


def _mxnet_recordio():
    if glueball.backend.current().name != "mxnet":
        pytest.skip("compares with MXNet's own recordio, which the mxnet environment has")
    from mxnet import recordio

    return recordio


def test_mxnet_reads_what_is_written_here(tmp_path):
    recordio = _mxnet_recordio()
    path = tmp_path / "a.rec"
    keys = [7 * number for number in range(len(RECORDS))]
    _write(path, RECORDS, keys)
    reader = recordio.MXIndexedRecordIO(str(path.with_suffix(".idx")), str(path), "r")
    assert [reader.read_idx(key) for key in keys] == RECORDS
    reader.close()
    reader = recordio.MXRecordIO(str(path), "r")
    assert [reader.read() for _ in RECORDS] == RECORDS
    reader.close()


def test_files_written_by_mxnet_are_read_and_are_the_same_bytes(tmp_path):
    recordio = _mxnet_recordio()
    theirs, ours = tmp_path / "theirs.rec", tmp_path / "ours.rec"
    writer = recordio.MXIndexedRecordIO(str(theirs.with_suffix(".idx")), str(theirs), "w")
    for key, record in enumerate(RECORDS):
        writer.write_idx(key, record)
    writer.close()
    assert list(RecordFile(theirs)) == RECORDS
    _write(ours, RECORDS)
    assert ours.read_bytes() == theirs.read_bytes()
    assert ours.with_suffix(".idx").read_bytes() == theirs.with_suffix(".idx").read_bytes()


@pytest.mark.parametrize("label", [3.0, np.array([1.5, -2.0, 3.0], np.float32)])
def test_headers_are_those_of_mxnet(label):
    recordio = _mxnet_recordio()
    theirs = recordio.pack(recordio.IRHeader(0, label, 9, 2), b"payload")
    assert pack(Header(label, 9, 2), b"payload") == theirs
    header, payload = unpack(theirs)
    np.testing.assert_array_equal(header.label, label)
    assert (header.id, header.id2, payload) == (9, 2, b"payload")


def test_pictures_packed_by_mxnet(tmp_path):
    pytest.importorskip("PIL", reason="Pillow comes with the image plugins")
    pytest.importorskip("cv2", reason="mxnet packs pictures with OpenCV, which is not installed")
    recordio = _mxnet_recordio()
    image = np.random.default_rng(0).integers(0, 255, (9, 7, 3), np.uint8)
    record = recordio.pack_img(recordio.IRHeader(0, 4.0, 1, 0), image[:, :, ::-1], img_fmt=".png")
    header, decoded = unpack_image(record)
    assert header.label == 4.0
    np.testing.assert_array_equal(decoded, image)
    header, theirs = recordio.unpack_img(pack_image(Header(2.0), image, "png"))
    assert header.label == 2.0
    np.testing.assert_array_equal(theirs[:, :, ::-1], image)


def test_im2rec_files_as_a_dataset(tmp_path):
    pytest.importorskip("PIL", reason="Pillow comes with the image plugins")
    generator = np.random.default_rng(0)
    pictures = generator.integers(0, 255, (5, 6, 8, 3), np.uint8)
    labels = [3, 1, 0, 2, struct.unpack("<f", MAGIC_BYTES)[0]]
    _write(tmp_path / "a.rec", [pack_image(Header(label), p, "png") for label, p in zip(labels, pictures, strict=True)])
    dataset = ImageRecordDataset(tmp_path / "a.rec", label="float")
    # The last label's bytes are the magic number: the record is divided within its header.
    assert dataset.labels().tolist() == [3.0, 1.0, 0.0, 2.0, np.float32(labels[4])]
    classes = ImageRecordDataset(tmp_path / "a.rec").take(4)
    assert classes.labels().tolist() == [3, 1, 0, 2]
    for workers, kind in ((0, "thread"), (2, "thread"), (1, "process")):
        with DataLoader(classes, 4, workers=workers, worker_type=kind) as loader:
            ((images, numbers),) = list(loader)
        np.testing.assert_array_equal(images, pictures[:4])
        assert numbers.dtype == np.int64
    _write(tmp_path / "b.rec", [pack(Header(1.5), b""), pack_image(Header([1.0, 2.0]), pictures[0], "png")])
    mixed = ImageRecordDataset(tmp_path / "b.rec")
    assert mixed[1][1].tolist() == [1.0, 2.0]
    with pytest.raises(DataError, match="no class"):
        mixed.labels()
    with pytest.raises(DataError, match=r"record 0: the file is empty"):
        mixed[0]
    with pytest.raises(OptionError, match="label"):
        ImageRecordDataset(tmp_path / "b.rec", label="int")


def test_keys_and_pickling(tmp_path):
    _write(tmp_path / "a.rec", [b"zero", b"one"], keys=[10, 5])
    dataset = pickle.loads(pickle.dumps(RecordFileDataset(tmp_path / "a.rec")))
    assert list(dataset) == [b"zero", b"one"]
    file = RecordFile(tmp_path / "a.rec")
    assert file.read(5) == b"one"
    with pytest.raises(DataError, match="key 0"):
        file.read(0)
    file.close()
    with pytest.raises(OptionError, match="closed"):
        file[0]


def test_threads_share_a_file(tmp_path):
    records = [bytes([number]) * (1000 + number) for number in range(100)]
    _write(tmp_path / "a.rec", records)
    file, wrong = RecordFile(tmp_path / "a.rec"), []

    def read(seed):
        for place in np.random.default_rng(seed).integers(100, size=300).tolist():
            if file[place] != records[place]:
                wrong.append(place)

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_writer_that_fails_leaves_the_old_files(tmp_path):
    path = tmp_path / "a.rec"
    _write(path, [b"old"])
    with pytest.raises(TypeError), RecordWriter(path) as writer:
        writer.write("no bytes")
    assert list(RecordFile(path)) == [b"old"]
    forgotten = RecordWriter(path)
    forgotten.write(b"forgotten")
    del forgotten
    assert list(RecordFile(path)) == [b"old"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.idx", "a.rec"]
    with RecordWriter(path) as writer:
        writer.write(b"new", 3)
        with pytest.raises(OptionError, match="key 3"):
            writer.write(b"again", 3)
    with pytest.raises(OptionError, match="closed"):
        writer.write(b"late")


def test_damaged_files(tmp_path):
    path, table = tmp_path / "a.rec", tmp_path / "a.idx"
    _write(path, [b"x" * 100, b"y" * 100])
    whole, offsets = path.read_bytes(), table.read_text()
    with pytest.raises(DataError, match="cannot be read"):
        RecordFile(tmp_path / "none.rec")
    with pytest.raises(DataError, match="is missing"):
        RecordFile(path, tmp_path / "none.idx")
    path.write_bytes(whole[:150])
    file = RecordFile(path)
    assert file[0] == b"x" * 100
    with pytest.raises(DataError, match="cut short"):
        file[1]
    for text, message in (
        ("0\t0\n1\n", "line 2"),
        ("0\t0\n0\t108\n", "twice"),
        ("0\t4\n", None),
        ("0\t3\n", "no place"),
        ("0\t999999\n", "no place"),
        ("\xff", "not a table"),
    ):
        path.write_bytes(whole)
        table.write_text(text, "latin-1")
        with pytest.raises(DataError, match=message or "no record starts at byte 4"):
            RecordFile(path)[0]
    table.unlink()
    path.write_bytes(whole[:150])
    with pytest.raises(DataError, match="cut short"):
        RecordFile(path)
    path.write_bytes(b"rubbish, not records at all")
    with pytest.raises(DataError, match="no record starts at byte 0"):
        RecordFile(path)
    assert offsets == "0\t0\n1\t108\n"


def test_damaged_headers():
    with pytest.raises(DataError, match="too few"):
        unpack(b"short")
    with pytest.raises(DataError, match="announces 1000 labels"):
        unpack(struct.pack("<IfQQ", 1000, 0, 0, 0) + b"1234")


def test_random_damage_gives_an_error_or_a_record(tmp_path):
    path = tmp_path / "a.rec"
    _write(path, RECORDS)
    path.with_suffix(".idx").unlink()
    whole = path.read_bytes()
    generator = np.random.default_rng(0)
    for _ in range(500):
        damaged = bytearray(whole[: generator.integers(1, len(whole) + 1)])
        for _ in range(generator.integers(0, 4)):
            damaged[generator.integers(min(len(damaged), 200))] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            with RecordFile(path) as file:
                records = list(file)
        except DataError:
            continue
        assert sum(map(len, records)) <= len(damaged)

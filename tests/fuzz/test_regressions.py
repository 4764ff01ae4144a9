"""Inputs that fuzzing found to break a reader, each once and as small as it gets."""

from __future__ import annotations

import gzip
import io
import json
import struct
import tarfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from glueball.archives import ZipArchive, tar_files
from glueball.data.folders import ImageListDataset
from glueball.data.idx import parse_idx
from glueball.data.recordfile import Header, ImageRecordDataset, RecordWriter, pack
from glueball.engine.checkpoint import Checkpoint, CheckpointFolder, _digest, load_checkpoint
from glueball.engine.load import read_description
from glueball.engine.run_folder import RunFolder
from glueball.errors import CheckpointError, DataError, DownloadError, OptionError, WeightsError
from glueball.weights.archives import extract_member
from glueball.weights.safetensors_file import parse_safetensors

DEEP = "[" * 100_000


def write(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# The core


def test_lines_of_a_list_with_different_numbers_of_labels(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2: expected as many labels as on the lines before, 2. Received: 1"):
        ImageListDataset(write(tmp_path / "a.lst", "0\t1\t2\ta.jpg\n1\t0\tb.jpg\n"))


@pytest.mark.parametrize("label", ["1e39", "-1e400", "nan", "inf"])
def test_labels_of_a_list_that_are_not_finite(tmp_path: Path, label: str) -> None:
    with pytest.raises(DataError, match=r"line 1: expected number, label and path.* finite"):
        ImageListDataset(write(tmp_path / "a.lst", f"0\t{label}\ta.jpg\n"))


def test_labels_of_thousands_of_digits_are_names(tmp_path: Path) -> None:
    data = ImageListDataset(write(tmp_path / "a.csv", f"path,label\na.jpg,{'9' * 5000}\nb.jpg,1\n"))
    assert data.classes == ["1", "9" * 5000]


@pytest.mark.parametrize("label", [float("inf"), float("nan"), 1e30, -1e30, 0.5])
def test_record_labels_that_are_no_numbers_of_classes(tmp_path: Path, label: float) -> None:
    with RecordWriter(tmp_path / "a.rec") as writer:
        writer.write(pack(Header(label), b""))
    with pytest.raises(DataError, match="is no class"):
        ImageRecordDataset(tmp_path / "a.rec").labels()


def test_an_empty_idx_array_of_endless_axes() -> None:
    content = b"\0\0\x0e\4" + b"\xff\xff\xff\xff" * 3 + bytes(4)
    with pytest.raises(DataError, match="NumPy cannot hold"):
        parse_idx(content)


def test_a_name_that_no_other_program_can_write() -> None:
    header = json.dumps({"\ud800": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}).encode()
    content = len(header).to_bytes(8, "little") + header + b"x"
    with pytest.raises(WeightsError, match="half a surrogate pair"):
        parse_safetensors(memoryview(bytearray(content)), "x.safetensors")


@pytest.mark.parametrize("nested", [DEEP, '{"a":' * 100_000])
def test_nesting_without_end_in_a_run(tmp_path: Path, nested: str) -> None:
    folder = RunFolder(tmp_path)
    write(folder.description, nested)
    with pytest.raises(OptionError, match="cannot be read"):
        read_description(folder)
    write(tmp_path / "state.json", nested)
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_checkpoint(tmp_path)


def _checkpoint(folder: Path) -> Path:
    arrays = {"w": np.arange(3, dtype=np.float32)}
    checkpoint = Checkpoint(state={"epoch": 1}, weights=arrays, optimizer=arrays, random=arrays)
    return CheckpointFolder(folder).save(checkpoint, epoch=1, step=1)


@pytest.mark.parametrize("content", [DEEP, '{"checkpoint": "../other/000001-epoch-0001-step-000000001"}', "3", "{}"])
def test_a_mark_of_the_best_checkpoint_that_leads_elsewhere(tmp_path: Path, content: str) -> None:
    _checkpoint(tmp_path / "other")
    path = _checkpoint(tmp_path / "run")
    folder = CheckpointFolder(tmp_path / "run")
    write(tmp_path / "run" / "best.json", content)
    assert folder.best() is None
    write(tmp_path / "run" / "best.json", json.dumps({"checkpoint": path.name}))
    assert folder.best() == path


def _signed(path: Path, **changes: object) -> None:
    content = json.loads((path / "state.json").read_text("utf-8"))
    del content["digest"]
    content |= changes
    write(path / "state.json", json.dumps({**content, "digest": _digest(content)}))


@pytest.mark.parametrize("changes", [{"files": []}, {"files": {"weights.safetensors": 1}}, {"state": None}])
def test_a_signed_checkpoint_of_another_form(tmp_path: Path, changes: dict[str, object]) -> None:
    path = _checkpoint(tmp_path)
    _signed(path, **changes)
    with pytest.raises(CheckpointError, match="damaged"):
        load_checkpoint(path)


def test_damaged_weights_in_a_signed_checkpoint(tmp_path: Path) -> None:
    import hashlib

    path = _checkpoint(tmp_path)
    content = (path / "weights.safetensors").read_bytes().replace(b"F32", b"F99")
    write(path / "weights.safetensors", content)
    files = json.loads((path / "state.json").read_text("utf-8"))["files"]
    files["weights.safetensors"] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    _signed(path, files=files)
    with pytest.raises(CheckpointError, match="dtypes that cannot be read"):
        load_checkpoint(path)


def _zip(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def read_zip(path: Path) -> bytes:
    with ZipArchive(path) as archive:
        return archive.read("a")


def test_zip_archives_that_made_python_stumble(tmp_path: Path) -> None:
    good = _zip({"a": b"text" * 100}, zipfile.ZIP_STORED)
    entry = good.index(b"PK\1\2") + 28
    nameless = good[:entry] + b"\0\0" + good[entry + 2 :]
    end = good.index(b"PK\5\6")
    far_away = good[: end + 16] + b"\xff\xff\xff\x7f" + good[end + 20 :]
    for content in (nameless, far_away, b"PK\3\4", good[:-30]):
        path = write(tmp_path / "a.zip", content)
        with pytest.raises(DataError):
            read_zip(path)
        with pytest.raises(DownloadError):
            extract_member(path, "a", tmp_path / "a")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_of_zip_that_python_expands_without_a_bound(tmp_path: Path, method: int) -> None:
    path = write(tmp_path / "a.zip", _zip({"a": bytes(1000)}, method))
    with ZipArchive(path) as archive, pytest.raises(DataError, match="expected 'store' or 'deflate'"):
        archive.read("a")


def test_a_sparse_file_announces_what_no_archive_holds(tmp_path: Path) -> None:
    info = tarfile.TarInfo("train.bin")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[386 : 386 + 24] = b"00000000000\0" * 2
    header[483:495] = b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    assert list(tar_files(write(tmp_path / "a.tar", bytes(header) + bytes(1024)))) == []


# Image classification


def test_a_batch_of_which_every_byte_is_a_list() -> None:
    archive = pytest.importorskip("glueball_cv_classification.datasets.archive")
    with pytest.raises(DataError, match=r"piles up more than 100,000 values"):
        archive.read_archive_batch(b"\x80\x02}" + b"]" * 1_000_000 + b".")


def test_a_record_file_of_one_picture_and_a_billion_classes(tmp_path: Path) -> None:
    datasets = pytest.importorskip("glueball_cv_classification.datasets")
    with RecordWriter(tmp_path / "a.rec") as writer:
        writer.write(pack(Header(1e9), b""))
    with pytest.raises(DataError, match=r"holds the label 1,000,000,000, and 1 pictures"):
        datasets.ImageRecord(tmp_path / "a.rec")


@pytest.mark.parametrize("label", ["nan", "inf", "1.5", "-1", "1e300"])
def test_labels_of_digits(tmp_path: Path, label: str) -> None:
    digits = pytest.importorskip("glueball_cv_classification.datasets.digits")
    with pytest.raises(DataError, match="is not the table of digits"):
        digits.read_table(write(tmp_path / "digits.csv", ",".join(["3"] * 64 + [label])))


def test_a_damaged_table_of_digits(tmp_path: Path) -> None:
    digits = pytest.importorskip("glueball_cv_classification.datasets.digits")
    packed = bytearray(gzip.compress(b",".join([b"3"] * 65)))
    packed[12] ^= 0xFF
    with pytest.raises(DataError, match="damaged"):
        digits.read_table(write(tmp_path / "digits.csv.gz", bytes(packed)))


# Texts

needs_texts = pytest.mark.skipif(
    find_spec("glueball_nlp_embedding_lm") is None,
    reason="the plugin for texts is not installed",
)


@needs_texts
class TestTexts:
    """What the plugin for texts reads."""

    def read(self, path: Path, content: bytes, **options: object):  # type: ignore[no-untyped-def] # not installed everywhere
        from glueball_nlp_embedding_lm.embedding import TokenEmbedding

        return TokenEmbedding.from_file(write(path, content), **options)

    @pytest.mark.parametrize("number", ["-99999999999999999999999.5", "-9223372036854775808.0", "9" * 30 + ".25"])
    def test_decimals_with_too_many_digits_for_64_bits(self, tmp_path: Path, number: str) -> None:
        embedding = self.read(tmp_path / "v", f"a {number} 1.5\nb 1.5 2.5\n".encode())
        np.testing.assert_array_equal(embedding["a"], np.array([float(number), 1.5], np.float32))

    def test_dimensions_that_only_a_header_has(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="expected lines of a token and numbers"):
            self.read(tmp_path / "v", b"5 60000\na 1 2\nb 1 2\n", format="text")
        with pytest.raises(DataError):
            self.read(tmp_path / "v", f"{'9' * 5000} 2\na 1 2\nb 1\n".encode(), elem_delim="\t", format="text")

    def npz(self, **arrays: bytes) -> bytes:
        return _zip({f"{name}.npy": content for name, content in arrays.items()})

    def npy(self, header: str, content: bytes = b"") -> bytes:
        data = header.encode().ljust(64)
        return b"\x93NUMPY\1\0" + struct.pack("<H", len(data)) + data + content

    @pytest.mark.parametrize(
        "tokens",
        [
            "{'descr': '<U0', 'fortran_order': False, 'shape': (1000000000000,)}",
            "{'descr': '<U536870911', 'fortran_order': False, 'shape': (2,)}",
            "{'descr': '<U1', 'fortran_order': False, 'shape': (-2,)}",
            "{'descr': '<U1000000000', 'fortran_order': False, 'shape': (2,)}",
            "{'descr': '<U1', 'fortran_order': False, 'shape': (2L,",
            "((((((((((((((((",
        ],
    )
    def test_headers_of_arrays_that_announce_what_cannot_be(self, tmp_path: Path, tokens: str) -> None:
        vectors = self.npy("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 1)}", bytes(8))
        unknown = self.npy("{'descr': '<U1', 'fortran_order': False, 'shape': ()}", bytes(4))
        content = self.npz(idx_to_vec=vectors, unknown_token=unknown, idx_to_token=self.npy(tokens, bytes(8)))
        with pytest.raises(DataError):
            self.read(tmp_path / "v.npz", content)

    def test_characters_that_there_are_none_of(self, tmp_path: Path) -> None:
        vectors = self.npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1, 1)}", bytes(4))
        unknown = self.npy("{'descr': '<U1', 'fortran_order': False, 'shape': ()}", bytes(4))
        tokens = self.npy("{'descr': '<U1', 'fortran_order': False, 'shape': (1,)}", b"\xff\xff\xff\x7f")
        with pytest.raises(DataError, match="a number that is no character"):
            self.read(tmp_path / "v.npz", self.npz(idx_to_vec=vectors, unknown_token=unknown, idx_to_token=tokens))

    def test_a_fasttext_model_of_numbers_that_overflow(self, tmp_path: Path) -> None:
        import sys

        sys.path.insert(0, str(Path(__file__).resolve().parent))
        from targets_nlp import _fasttext

        content = _fasttext(["a", "b"], np.full((7, 2), 3e38))
        with pytest.raises(DataError, match="0 can be read"):
            self.read(tmp_path / "m.bin", content)
        content = _fasttext(["a", "b"], np.array([[1, 1], [1, 1], *[[3e38, 3e38]] * 5]), minn=3)
        embedding = self.read(tmp_path / "m.bin", content)
        with pytest.raises(DataError, match="'unseen' values that are not finite"):
            embedding["unseen"]

    def test_numbers_of_a_pipeline_that_ids_cannot_hold(self) -> None:
        from glueball_nlp_embedding_lm.pipeline import TextPipeline, _fingerprint

        tokens = ["<unk>", "a"]
        vocabulary = {"tokens": tokens, "sha256": _fingerprint(tokens), "unknown_token": "<unk>", "padding_token": None}
        description = {"tokenizer": {"name": "basic"}, "lower": False, "max_length": None, "vocabulary": vocabulary}
        for buckets in (2**31 - 2, 2**63, 10**30):
            with pytest.raises(DataError, match="ids below 2"):
                TextPipeline.from_description({**description, "ngrams": 2, "buckets": buckets})

    def test_a_number_of_ways_that_no_machine_lists(self) -> None:
        from glueball_nlp_embedding_lm.tokenizers.sentencepiece import SentencePieceTokenizer

        with pytest.raises(OptionError, match="at most 10,000"):
            SentencePieceTokenizer(model=b"", num_best=10**30)

    @pytest.mark.parametrize("path", [3, "/etc/passwd", None, ["x"]])
    def test_a_description_does_not_choose_what_file_is_read(self, path: object) -> None:
        from glueball_nlp_embedding_lm.tokenizers import from_description
        from glueball_nlp_embedding_lm.tokenizers.sentencepiece import SentencePieceTokenizer

        with pytest.raises(DataError, match="holds a path, expected the model itself"):
            from_description({"name": "sentencepiece", "path": path})
        if not isinstance(path, str):
            with pytest.raises(OptionError, match="expects"):
                SentencePieceTokenizer(path)  # type: ignore[arg-type]

    def test_numbers_that_signal(self, tmp_path: Path) -> None:
        vectors = self.npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1, 1)}", b"\1\0\0\0\0\0\xf0\x7f")
        text = self.npy("{'descr': '<U1', 'fortran_order': False, 'shape': (1,)}", b"a\0\0\0")
        with pytest.raises(DataError, match="not finite"):
            self.read(tmp_path / "v.npz", self.npz(idx_to_vec=vectors, unknown_token=text, idx_to_token=text))

    def test_tables(self, tmp_path: Path) -> None:
        from glueball_nlp_embedding_lm.datasets import TextFile

        with pytest.raises(DataError, match="no valid JSON"):
            TextFile(write(tmp_path / "a.json", DEEP))
        rows = "".join(f"a text\tclass{'9' * 5000}\nb text\tother\n" for _ in range(3))
        data = TextFile(write(tmp_path / "a.tsv", rows), text_column=0, label_column=1)
        assert data.classes == ("class" + "9" * 5000, "other")

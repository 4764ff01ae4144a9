"""load and save: formats by suffix, safetensors, refusals, and what is left when the disk is full."""

from __future__ import annotations

import io
import json
import random
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from glueball import weights
from glueball.errors import WeightsError
from glueball.weights.safetensors_file import encode_safetensors, parse_safetensors, read_metadata

DTYPES = [
    "float32",
    "float64",
    "float16",
    "uint8",
    "int8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "bool",
]


def sample_arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    arrays = {dtype: (generator.normal(size=(2, 3)) * 40).astype(dtype) for dtype in DTYPES}
    return arrays | {"scalar": np.array(3.5), "none": np.zeros((0, 4), np.float32)}


def assert_same(received: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert sorted(received) == sorted(expected)
    for name, array in expected.items():
        assert received[name].dtype == array.dtype, name
        assert received[name].shape == array.shape, name
        np.testing.assert_array_equal(received[name], array, err_msg=name)


def parse(content: bytes) -> dict[str, np.ndarray]:
    return parse_safetensors(memoryview(bytearray(content)), "w.safetensors")


def test_safetensors_go_both_ways_with_the_library(tmp_path: Path) -> None:
    weights.save(tmp_path / "ours.safetensors", sample_arrays(), metadata={"model": "x"})
    assert_same(load_file(tmp_path / "ours.safetensors"), sample_arrays())
    save_file(sample_arrays(), tmp_path / "theirs.safetensors", metadata={"model": "x"})
    assert_same(weights.load(tmp_path / "theirs.safetensors"), sample_arrays())
    for name in ("ours", "theirs"):
        assert read_metadata(tmp_path / f"{name}.safetensors") == {"model": "x"}


def test_safetensors_strided_and_big_endian(tmp_path: Path) -> None:
    arrays = {"strided": np.arange(24.0).reshape(4, 6)[::2, ::-3], "big": np.arange(5, dtype=">i4")}
    weights.save(tmp_path / "w.safetensors", arrays)
    received = weights.load(tmp_path / "w.safetensors")
    for name, array in arrays.items():
        np.testing.assert_array_equal(received[name], array)


def safetensors_bytes(header: object, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_safetensors_bfloat16() -> None:
    values = np.array([1.0, -2.5, 3.140625], np.float32)
    bits = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    content = safetensors_bytes({"a": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}, bits)
    assert_same(parse(content), {"a": values})


def entry(dtype: object = "F32", shape: object = (1,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut short"),
        (struct.pack("<Q", 1 << 60) + b"{}", "announce"),
        (safetensors_bytes(b"not json"), "no JSON"),
        (safetensors_bytes(b"[" * 100_000), "no JSON"),
        (safetensors_bytes([]), "not a JSON object"),
        (safetensors_bytes(b'{"a": 1, "a": 2}'), "twice"),
        (safetensors_bytes({"a": {"dtype": "F32"}}, bytes(4)), "lacks"),
        (safetensors_bytes({"a": entry(dtype="F8_E4M3")}, bytes(4)), r"a \(F8_E4M3\)"),
        (safetensors_bytes({"a": entry(shape=[-1])}, bytes(4)), "shape"),
        (safetensors_bytes({"a": entry(shape=[2])}, bytes(8)), "bytes 0 to 4"),
        (safetensors_bytes({"a": entry(offsets=[4, 8])}, bytes(8)), "bytes 4 to 8"),
        (safetensors_bytes({"a": entry(), "b": entry()}, bytes(4)), "bytes 0 to 4"),
        (safetensors_bytes({"a": entry()}, bytes(3)), "cut short"),
        (safetensors_bytes({"a": entry()}, bytes(5)), "1 bytes follow"),
        (safetensors_bytes({"a": entry(shape=[0, 1 << 62, 1 << 62], offsets=[0, 0])}), "NumPy cannot hold"),
        (safetensors_bytes({"a": entry(dtype="BOOL", offsets=[0, 1])}, b"\x02"), "other than 0 and 1"),
    ],
)
def test_safetensors_damage_is_explained(content: bytes, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        parse(content)


def test_safetensors_cuts_and_random_damage() -> None:
    original = encode_safetensors({"a": np.ones((2, 2), np.float32), "b": np.array([True, False])}, {"k": "v"})
    for length in range(len(original)):
        with pytest.raises(WeightsError):
            parse(original[:length])
    random_numbers = random.Random(5)
    read = 0
    for _ in range(2000):
        content = bytearray(original)
        for _ in range(random_numbers.randint(1, 3)):
            content[random_numbers.randrange(len(content))] = random_numbers.randrange(256)
        try:
            arrays = parse(bytes(content))
        except WeightsError:
            continue
        read += 1
        assert sum(array.nbytes for array in arrays.values()) <= 2 * len(content)
    assert 0 < read < 2000


@pytest.mark.parametrize("name", ["model.pth", "model.pt", "pytorch_model.bin", "MODEL.CKPT"])
def test_pickles_are_never_opened(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"\x80\x04.")
    with pytest.raises(WeightsError, match=r"pickle .* never read.*save_file"):
        weights.load(path)
    with pytest.raises(WeightsError, match="never written"):
        weights.save(path, {})


def test_other_suffixes_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"suffix '.h5'; weight files can be .params or .safetensors"):
        weights.load(tmp_path / "a.h5")
    with pytest.raises(WeightsError, match="does not exist"):
        weights.load(tmp_path / "a.params")
    (tmp_path / "folder.params").mkdir()
    with pytest.raises(WeightsError, match="is a folder"):
        weights.load(tmp_path / "folder.params")
    with pytest.raises(WeightsError, match="no place for metadata"):
        weights.save(tmp_path / "a.params", {}, metadata={"a": "b"})
    with pytest.raises(WeightsError, match="must be text"):
        weights.save(tmp_path / "a.params", {1: np.zeros(1)})  # type: ignore[dict-item]
    with pytest.raises(WeightsError, match=r"words \(<U1\)"):
        weights.save(tmp_path / "a.safetensors", {"words": np.array(["a"])})


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for suffix in (".params", ".safetensors"):
        weights.save(f"~/deep/w{suffix}", {"a": np.ones(2, np.float32)})
        assert (tmp_path / "deep" / f"w{suffix}").is_file()
        assert_same(weights.load(Path(f"~/deep/w{suffix}")), {"a": np.ones(2, np.float32)})
    assert not (tmp_path / "~").exists()
    with pytest.raises(WeightsError, match="does not exist"):
        weights.load("~no_such_user/w.params")


def test_params_under_the_name_of_safetensors_are_called_that(tmp_path: Path) -> None:
    for count in (0, 3):
        weights.save(tmp_path / "w.params", {f"{index}": np.ones(2, np.float32) for index in range(count)})
        (tmp_path / "w.params").rename(tmp_path / "w.safetensors")
        with pytest.raises(WeightsError, match=r"holds MXNet's \.params format.*Rename it so that it ends in \.params"):
            weights.load(tmp_path / "w.safetensors")


@pytest.mark.parametrize("suffix", [".params", ".safetensors"])
def test_a_full_disk_leaves_the_last_good_file(suffix: str, tmp_path: Path) -> None:
    """The system itself refuses to write past 64 KiB, as a full disk would, in the middle of the second save."""
    pytest.importorskip("resource", reason="limits of file size need POSIX")
    path = tmp_path / f"weights{suffix}"
    weights.save(path, {"a": np.full(100, 7, np.float32)})
    script = """
import resource, signal, sys
import numpy as np
from glueball import weights
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
try:
    weights.save(sys.argv[1], {"a": np.zeros(100_000, np.float32)})
except OSError as error:
    print(type(error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "OSError", done.stderr
    assert weights.load(path)["a"].tolist() == [7] * 100
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_an_interrupted_save_leaves_the_last_good_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.params"
    weights.save(path, {"a": np.ones(3, np.float32)})

    class Interrupting:
        def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        weights.save(path, {"a": np.zeros(3, np.float32), "b": Interrupting()})  # type: ignore[dict-item]
    assert weights.load(path)["a"].tolist() == [1, 1, 1]
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_bytes_of_a_stream_are_what_the_file_has(tmp_path: Path) -> None:
    from glueball.weights.params import write_params

    arrays = {"a": np.arange(5, dtype=np.float32)}
    stream = io.BytesIO()
    write_params(stream, arrays)
    weights.save(tmp_path / "a.params", arrays)
    assert (tmp_path / "a.params").read_bytes() == stream.getvalue()

"""MXNet's .params files: what MXNet writes is read, what is written MXNet reads, and damage is always noticed."""

from __future__ import annotations

import importlib.util
import io
import random
import struct
import subprocess
import sys
from pathlib import Path

import hypothesis
import hypothesis.extra.numpy as numpy_strategies
import numpy as np
import pytest
from hypothesis import strategies

from glueball import weights
from glueball.errors import WeightsError
from glueball.weights.params import parse_params, read_params, write_params

MXNET_DTYPES = ["float32", "float64", "float16", "uint8", "int32", "int8", "int64", "bool"]

# Run apart: the oracle must not depend on Glueball's own preparation of MXNet, nor on the selected backend.
ORACLE = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np
for name in ("bool", "int", "float", "object", "complex", "str"):
    if name not in np.__dict__:
        setattr(np, name, __builtins__.__dict__[name])
import mxnet as mx
folder = sys.argv[1]
made = np.load(folder + "/arrays.npz")
arrays = {name: mx.nd.array(made[name], dtype=made[name].dtype) for name in made.files if made[name].dtype != bool}
mx.nd.save(folder + "/named.params", arrays)
mx.nd.save(folder + "/list.params", list(arrays.values()))
mx.nd.save(folder + "/empty.params", {})
mx.nd.save(folder + "/rows.params", {"rows": mx.nd.sparse.row_sparse_array(
    (np.arange(6, dtype="float32").reshape(2, 3), [1, 3]), shape=(5, 3))})
mx.nd.save(folder + "/csr.params", {"csr": mx.nd.sparse.csr_matrix(
    ([5.0, 6.0, 7.0, 8.0], [0, 2, 1, 2], [0, 2, 3, 4]), shape=(3, 4))})
mx.nd.save(folder + "/csr_from_dense.params", {"csr": mx.nd.sparse.csr_matrix(np.diag([1.0, 2.0, 3.0]))})
mx.nd.save(folder + "/csr_zero.params", {"csr": mx.nd.sparse.zeros("csr", (2, 3))})
with mx.util.np_shape(True):
    mx.nd.save(folder + "/numpy.params", {
        name: mx.nd.array(made[name], dtype=made[name].dtype) for name in made.files} | {
        "scalar": mx.nd.ones(()), "none": mx.nd.zeros((0, 3))})
    ours = mx.nd.load(folder + "/ours_numpy.params")
    np.savez(folder + "/read_numpy.npz", **{name: array.asnumpy() for name, array in ours.items()})
np.savez(folder + "/read.npz", **{name: array.asnumpy() for name, array in mx.nd.load(folder + "/ours.params").items()})
"""


def sample_arrays() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(7)
    arrays = {
        f"Gewicht_ü.{index}": (generator.normal(size=(3, 5)) * 50).astype(dtype)
        for index, dtype in enumerate(MXNET_DTYPES)
    }
    return arrays | {"vector": np.arange(7, dtype=np.float32), "four.axes": np.ones((1, 2, 3, 4), np.float16)}


def without_bool(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in arrays.items() if array.dtype != bool}


def assert_same(received: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(received) == list(expected)
    for name, array in expected.items():
        assert received[name].dtype == array.dtype, name
        assert received[name].shape == array.shape, name
        np.testing.assert_array_equal(received[name], array, err_msg=name)


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which MXNet itself has written and read files."""
    if importlib.util.find_spec("mxnet") is None:
        pytest.skip("mxnet, the oracle for its own format, is not installed")
    folder = tmp_path_factory.mktemp("oracle")
    np.savez(folder / "arrays.npz", **sample_arrays())
    weights.save(folder / "ours.params", without_bool(sample_arrays()))
    numpy_arrays = {"scalar": np.float32(2.5), "none": np.zeros((0, 3), np.float32), "flag": np.array([True, False])}
    weights.save(folder / "ours_numpy.params", numpy_arrays)
    done = subprocess.run([sys.executable, "-c", ORACLE, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_reads_what_mxnet_writes(oracle: Path) -> None:
    assert_same(weights.load(oracle / "named.params"), without_bool(sample_arrays()))


def test_a_list_is_numbered(oracle: Path) -> None:
    expected = {str(index): array for index, array in enumerate(without_bool(sample_arrays()).values())}
    assert_same(weights.load(oracle / "list.params"), expected)


def test_reads_numpy_shapes(oracle: Path) -> None:
    received = weights.load(oracle / "numpy.params")
    expected = sample_arrays() | {"scalar": np.float32(1), "none": np.zeros((0, 3), np.float32)}
    assert_same(received, {name: np.asarray(array) for name, array in expected.items()})


def test_reads_sparse_arrays_as_dense(oracle: Path) -> None:
    rows = np.zeros((5, 3), np.float32)
    rows[[1, 3]] = np.arange(6).reshape(2, 3)
    assert_same(weights.load(oracle / "rows.params"), {"rows": rows})
    csr = np.array([[5, 0, 6, 0], [0, 7, 0, 0], [0, 0, 8, 0]], np.float32)
    assert_same(weights.load(oracle / "csr.params"), {"csr": csr})
    np.testing.assert_array_equal(weights.load(oracle / "csr_from_dense.params")["csr"], np.diag([1, 2, 3]))
    np.testing.assert_array_equal(weights.load(oracle / "csr_zero.params")["csr"], np.zeros((2, 3)))


def test_mxnet_reads_what_is_written(oracle: Path) -> None:
    with np.load(oracle / "read.npz") as read:
        assert_same({name: read[name] for name in read.files}, without_bool(sample_arrays()))
    with np.load(oracle / "read_numpy.npz") as read:
        assert read["scalar"].shape == ()
        assert read["scalar"] == 2.5
        assert read["none"].shape == (0, 3)
        assert read["flag"].tolist() == [True, False]


def test_writes_the_same_bytes_as_mxnet(oracle: Path, tmp_path: Path) -> None:
    assert (oracle / "ours.params").read_bytes() == (oracle / "named.params").read_bytes()
    weights.save(tmp_path / "empty.params", {})
    assert (tmp_path / "empty.params").read_bytes() == (oracle / "empty.params").read_bytes()
    with open(tmp_path / "list.params", "wb") as file:
        write_params(file, list(without_bool(sample_arrays()).values()))
    assert (tmp_path / "list.params").read_bytes() == (oracle / "list.params").read_bytes()


def test_writes_the_same_bytes_as_mxnet_in_numpy_shapes(oracle: Path, tmp_path: Path) -> None:
    weights.save(tmp_path / "numpy.params", weights.load(oracle / "numpy.params"))
    assert (tmp_path / "numpy.params").read_bytes() == (oracle / "numpy.params").read_bytes()


def container(*arrays: bytes, names: tuple[bytes, ...] = (), count: int | None = None) -> bytes:
    content = struct.pack("<QQQ", 0x112, 0, len(arrays) if count is None else count) + b"".join(arrays)
    return content + struct.pack("<Q", len(names)) + b"".join(struct.pack("<Q", len(name)) + name for name in names)


def parse(content: bytes) -> dict[str, np.ndarray]:
    return parse_params(memoryview(bytearray(content)), "w.params")


def test_reads_all_versions() -> None:
    values = np.array([[1, 2, 3], [4, 5, 6]], np.float32)
    tail = struct.pack("<iii", 1, 0, 0) + values.tobytes()
    version_1 = struct.pack("<Iiqq", 0xF993FAC8, 2, 2, 3) + tail
    version_2 = struct.pack("<Iiiqq", 0xF993FAC9, 0, 2, 2, 3) + tail
    version_3 = struct.pack("<Iiiqq", 0xF993FACA, 0, 2, 2, 3) + tail
    legacy = struct.pack("<III", 2, 2, 3) + tail
    received = parse(container(version_1, version_2, version_3, legacy, names=(b"1", b"2", b"3", b"0")))
    assert list(received) == ["1", "2", "3", "0"]
    for array in received.values():
        np.testing.assert_array_equal(array, values)


def test_arrays_on_a_gpu_and_unknown_shapes_are_read() -> None:
    on_gpu = struct.pack("<Iiiq", 0xF993FAC9, 0, 1, 2) + struct.pack("<iiiff", 2, 3, 0, 1.0, 2.0)
    never_filled = struct.pack("<Iii", 0xF993FAC9, 0, 0)
    half_known = struct.pack("<Iiiqq", 0xF993FAC9, 0, 2, 0, 4)
    unknown = struct.pack("<Iii", 0xF993FACA, 0, -1)
    received = parse(container(on_gpu, never_filled, half_known, unknown, struct.pack("<I", 0)))
    assert [array.shape for array in received.values()] == [(2,), (0,), (0, 4), (0,), (0,)]


def test_bfloat16_becomes_float32() -> None:
    values = np.array([1.0, -2.5, 3.140625, float("inf")], np.float32)
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    array = struct.pack("<Iiiqiii", 0xF993FAC9, 0, 1, 4, 1, 0, 12) + bits.tobytes()
    assert_same(parse(container(array)), {"0": values})


def test_arrays_are_aligned_writable_and_leave_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "odd.params"
    weights.save(path, {"odd": np.zeros(3, np.int8), "after": np.arange(4, dtype=np.float64)})
    before = path.read_bytes()
    for array in weights.load(path).values():
        assert array.flags.aligned
        array[:] = 9
    assert path.read_bytes() == before


def test_a_file_may_be_replaced_while_its_arrays_are_used(tmp_path: Path) -> None:
    path = tmp_path / "weights.params"
    weights.save(path, {"a": np.ones(10_000, np.float32)})
    loaded = weights.load(path)
    weights.save(path, {"a": np.zeros(10, np.float32)})
    assert loaded["a"].sum() == 10_000
    weights.save(path, loaded)
    assert weights.load(path)["a"].sum() == 10_000


def small_file() -> bytes:
    rows = struct.pack("<Iiiqqiqq", 0xF993FAC9, 1, 2, 1, 2, 2, 3, 2) + struct.pack("<iiiiiq", 1, 0, 0, 6, 1, 1)
    rows += struct.pack("<ff", 1.0, 2.0) + struct.pack("<q", 2)
    dense = struct.pack("<Iiiqiii", 0xF993FAC9, 0, 1, 2, 1, 0, 0) + struct.pack("<ff", 1.0, 2.0)
    flags = struct.pack("<Iiiqiii", 0xF993FACA, 0, 1, 3, 1, 0, 7) + b"\x01\x00\x01"
    csr = struct.pack("<Iiiqiqq", 0xF993FAC9, 2, 1, 1, 2, 2, 2)
    csr += struct.pack("<iiiiiqiiq", 1, 0, 0, 6, 1, 3, 6, 1, 1) + struct.pack("<fqqqq", 5.0, 0, 1, 1, 1)
    return container(dense, rows, flags, csr, names=(b"dense", b"rows", b"flags", b"csr"))


def test_the_small_file_is_right() -> None:
    received = parse(small_file())
    assert received["rows"].tolist() == [[0, 0], [0, 0], [1, 2]]
    assert received["csr"].tolist() == [[0, 5], [0, 0]]
    assert received["flags"].tolist() == [True, False, True]


def test_every_cut_is_noticed(tmp_path: Path) -> None:
    content = small_file()
    path = tmp_path / "cut.params"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(WeightsError, match=r"cut\.params"):
            read_params(path)


def test_a_cut_names_the_array() -> None:
    content = container(struct.pack("<Iiiqiii", 0xF993FAC9, 0, 1, 2, 1, 0, 0) + struct.pack("<ff", 1.0, 2.0))
    with pytest.raises(WeightsError, match=r"cut short in array 1 of 1: .* needs 8 bytes at offset 56, 3 are left"):
        parse(content[: 24 + 32 + 3])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cut short"),
        (struct.pack("<QQQQ", 0x113, 0, 0, 0), "expected 0x112"),
        (b"PK\x03\x04" + bytes(40), "zip archive"),
        (b"\x80\x04\x95" + bytes(40), "pickle"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (container() + b"x", "1 bytes follow"),
        (container(count=1 << 60), "announces"),
        (container(struct.pack("<Iii", 0xF993FAC9, 5, 1)), "storage type 5"),
        (container(struct.pack("<Iiiq", 0xF993FAC9, 0, 1, -4)), "negative"),
        (container(struct.pack("<Iii", 0xF993FAC9, 0, 1000)), "1000 axes"),
        (container(struct.pack("<Iiiqiii", 0xF993FAC9, 0, 1, 1, 1, 0, 99) + bytes(8)), "dtype code 99"),
        (container(struct.pack("<Iiiqqiii", 0xF993FAC9, 0, 2, 1 << 62, 1 << 62, 1, 0, 0)), "cut short"),
        (container(struct.pack("<Iiiqqqiii", 0xF993FACA, 0, 3, 0, 1 << 62, 1 << 62, 1, 0, 0)), "NumPy cannot hold"),
        (container(struct.pack("<Iiiqiii", 0xF993FAC9, 0, 1, 1, 1, 0, 7) + b"\x02"), "other than 0 and 1"),
        (container(names=(b"a",)), "1 names for 0 arrays"),
        (container(struct.pack("<I", 0), struct.pack("<I", 0), names=(b"a", b"a")), "have the name 'a'"),
        (container(struct.pack("<I", 0), names=(b"\xff",)), "UTF-8"),
    ],
)
def test_damage_is_explained(content: bytes, message: str) -> None:
    with pytest.raises(WeightsError, match=message):
        parse(content)


def test_a_sparse_bomb_is_refused() -> None:
    rows = struct.pack("<Iiiqqiqq", 0xF993FAC9, 1, 2, 0, 1 << 20, 2, 1 << 30, 1 << 20)
    rows += struct.pack("<iiiiiq", 1, 0, 0, 6, 1, 0)
    with pytest.raises(WeightsError, match="tostype"):
        parse(container(rows))


def test_random_damage_raises_weights_error_or_reads(tmp_path: Path) -> None:
    """2,000 mutations: flipped bytes, cuts, insertions and numbers set to extremes."""
    random_numbers = random.Random(20_191_010)
    original = small_file()
    extremes = [struct.pack("<Q", value) for value in (0, 1, 0xFF, 1 << 31, (1 << 63) - 1, (1 << 64) - 1)]
    read = 0
    for _ in range(2000):
        content = bytearray(original)
        for _ in range(random_numbers.randint(1, 3)):
            place = random_numbers.randrange(len(content))
            action = random_numbers.randrange(4)
            if action == 0:
                content[place] ^= 1 << random_numbers.randrange(8)
            elif action == 1:
                del content[place : place + random_numbers.randint(1, 16)]
            elif action == 2:
                content[place:place] = random_numbers.randbytes(random_numbers.randint(1, 16))
            else:
                content[place : place + 8] = random_numbers.choice(extremes)
        try:
            arrays = parse(bytes(content))
        except WeightsError:
            continue
        read += 1
        # A sparse array may grow up to the floor of 1 MiB; nothing else may exceed the file.
        assert sum(array.nbytes for array in arrays.values()) <= 3 << 20
    assert 0 < read < 2000


def test_memory_stays_bounded_whatever_is_announced(tmp_path: Path) -> None:
    """Files that announce up to 2^62 elements per axis, read where the process may not have more than 4 GiB."""
    pytest.importorskip("resource", reason="limits of memory need POSIX")
    script = """
import resource, struct, sys
from glueball.errors import WeightsError
from glueball.weights.params import parse_params
limit = 4 << 30
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
refused = 0
for ndim in range(1, 5):
    for length in (1 << 20, 1 << 31, 1 << 40, 1 << 62):
        for storage in (0, 1, 2):
            header = struct.pack("<QQQIi", 0x112, 0, 1, 0xF993FAC9, storage)
            if storage:
                header += struct.pack("<iq", 1, length)
            header += struct.pack(f"<i{ndim}q", ndim, *[length] * ndim) + struct.pack("<iii", 1, 0, 0)
            header += struct.pack("<iiq", 6, 1, length) * storage + bytes(64)
            try:
                parse_params(memoryview(bytearray(header)), "w")
            except WeightsError:
                refused += 1
print(refused)
"""
    environment = {"PYTHONPATH": ":".join(sys.path), "PATH": "", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 48


def test_dtypes_that_mxnet_lacks_are_all_named(tmp_path: Path) -> None:
    arrays = {"good": np.zeros(1, np.float32), "short": np.zeros(1, np.int16), "complex": np.zeros(1, np.complex64)}
    with pytest.raises(WeightsError, match=r"short \(int16\), complex \(complex64\)"):
        weights.save(tmp_path / "w.params", arrays)
    assert list(tmp_path.iterdir()) == []


@hypothesis.settings(max_examples=100, deadline=None, database=None)
@hypothesis.given(
    arrays=strategies.dictionaries(
        strategies.text(max_size=8).filter(lambda text: text.encode("utf-8", "ignore").decode() == text),
        numpy_strategies.arrays(
            dtype=strategies.sampled_from(MXNET_DTYPES), shape=numpy_strategies.array_shapes(min_dims=0, min_side=0)
        ),
        max_size=4,
    )
)
def test_whatever_is_written_is_read_back(arrays: dict[str, np.ndarray]) -> None:
    file = io.BytesIO()
    write_params(file, arrays)
    assert_same(parse(file.getvalue()), arrays)


def test_strided_and_big_endian_arrays_are_written_right(tmp_path: Path) -> None:
    arrays = {
        "strided": np.arange(24, dtype=np.float32).reshape(4, 6)[::2, ::-3],
        "fortran": np.asfortranarray(np.arange(6, dtype=np.int32).reshape(2, 3)),
        "big": np.arange(5, dtype=">f8"),
    }
    weights.save(tmp_path / "w.params", arrays)
    received = weights.load(tmp_path / "w.params")
    for name, array in arrays.items():
        np.testing.assert_array_equal(received[name], array)


def test_names_may_hold_any_text(tmp_path: Path) -> None:
    # Names may hold anything that UTF-8 can, among it what other formats would trip over.
    names = ['quote"', "new\nline", "", "ключ", "a" * 5000]
    weights.save(tmp_path / "w.params", {name: np.zeros(1, np.float32) for name in names})
    assert list(weights.load(tmp_path / "w.params")) == names

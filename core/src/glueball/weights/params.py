"""MXNet's ``.params`` files (lists of NDArrays) in pure Python, without MXNet.

All numbers are little-endian. A file is ``u64 0x112, u64 0, u64 n``, n arrays, ``u64 names``, and each name as ``u64
length`` + UTF-8; names is n, or 0 for a plain list. An array begins with a u32 that tells its version:

========== ============== ========================================================================
0xF993FAC9 MXNet 1.x      i32 storage, i32 ndim, i64 per axis, i32 device, i32 number, i32 dtype, data
0xF993FACA NumPy shapes   the same; only this version has scalars and axes of length 0
0xF993FAC8 MXNet 0.11     i32 ndim, i64 per axis, i32 device, i32 number, i32 dtype, data
otherwise  older          the u32 is ndim itself, then u32 per axis, and on as above
========== ============== ========================================================================

Dense arrays are views of the mapped file: opening a file of any size costs next to nothing, and pages are read when
they are used. The mapping is private, so the views can be written to and the file never changes.
Every length is checked against what is left of the file before anything is allocated.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Mapping, Sequence
from math import prod
from typing import BinaryIO

import numpy as np

from glueball.errors import WeightsError

FILE_MAGIC = 0x112
VERSION_1 = 0xF993FAC8
VERSION_2 = 0xF993FAC9
VERSION_3 = 0xF993FACA

_DENSE, _ROW_SPARSE, _CSR = 0, 1, 2

_BFLOAT16 = 12
_DTYPES: dict[int, np.dtype] = {
    0: np.dtype("<f4"),
    1: np.dtype("<f8"),
    2: np.dtype("<f2"),
    3: np.dtype("u1"),
    4: np.dtype("<i4"),
    5: np.dtype("i1"),
    6: np.dtype("<i8"),
    7: np.dtype("bool"),
    8: np.dtype("<i2"),
    9: np.dtype("<u2"),
    10: np.dtype("<u4"),
    11: np.dtype("<u8"),
    _BFLOAT16: np.dtype("<u2"),
}
# MXNet 1.9.1 knows no NumPy type for the codes 8 to 11 and would fail on them, so that they are read but never written.
_CODES = {dtype: code for code, dtype in _DTYPES.items() if code <= 7}

# What NumPy 1 can hold; NumPy 2 can hold 64, and nothing has more than 8.
_LARGEST_NDIM = 32

# A few bytes can announce a sparse array of any size; a weight file has no use for such a thing.
_LARGEST_GROWTH = 10
_ALWAYS_ALLOWED = 1 << 20


def read_params(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a ``.params`` file by name; those of a plain list are named "0", "1", ...

    bfloat16 becomes float32, sparse arrays become dense, an array that was never filled becomes an empty one.

    Raises:
        WeightsError: the file is not of this format, is damaged or cut short (the message says at which array).
        OSError: the file cannot be read.
    """
    return parse_params(map_file(path), os.fspath(path))


def map_file(path: str | os.PathLike[str]) -> memoryview:
    """The file's bytes, writable in memory without changing the file."""
    with open(path, "rb") as file:
        # An empty file cannot be mapped, and Windows does not let a mapped file be replaced by a newer one.
        if os.name == "nt" or os.fstat(file.fileno()).st_size == 0:
            return memoryview(bytearray(file.read()))
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY))


def parse_params(content: memoryview, source: str) -> dict[str, np.ndarray]:
    """What ``read_params`` does, for bytes in memory; ``source`` names them in errors."""
    reader = _Reader(content, source)
    magic = reader.unsigned64("the file's magic number")
    if magic != FILE_MAGIC:
        raise WeightsError(_explain_magic(content, source))
    reader.unsigned64("the reserved field")
    count = reader.unsigned64("the number of arrays")
    # The smallest array there is takes 4 bytes.
    if count * 4 > reader.remaining:
        raise WeightsError(
            f"{source} is damaged or cut short: it announces {count} arrays, but only {reader.remaining} bytes follow. "
            "Get the file again."
        )
    arrays = []
    for index in range(count):
        reader.place = f"in array {index + 1} of {count}"
        arrays.append(_read_array(reader))
    reader.place = "in the names after the arrays"
    names = _read_names(reader, count)
    if reader.remaining:
        raise WeightsError(
            f"{source} is damaged: {reader.remaining} bytes follow after the last name, expected none. "
            "Get the file again."
        )
    return dict(zip(names, arrays, strict=True))


def write_params(file: BinaryIO, arrays: Mapping[str, np.ndarray] | Sequence[np.ndarray]) -> None:
    """Writes arrays byte for byte as ``mxnet.nd.save`` does; a sequence is written as a list without names.

    Where a scalar or an axis of length 0 occurs, all arrays are written in the version with NumPy shapes, as MXNet
    does under ``np_shape``; reading such a file with MXNet needs ``np_shape``, too.

    Raises:
        WeightsError: MXNet has no such dtype (all such arrays are named).
        OSError: the file cannot be written, for example since the disk is full.
    """
    if isinstance(arrays, Mapping):
        names = [name.encode("utf-8") for name in arrays]
        values = [np.asarray(value) for value in arrays.values()]
        labels = list(arrays)
    else:
        names = []
        values = [np.asarray(value) for value in arrays]
        labels = [str(index) for index in range(len(values))]
    values = [value.astype(value.dtype.newbyteorder("<"), copy=False) for value in values]
    unfit = [
        f"{label} ({value.dtype})" for label, value in zip(labels, values, strict=True) if value.dtype not in _CODES
    ]
    if unfit:
        supported = ", ".join(dtype.name for dtype in _CODES)
        raise WeightsError(
            f"MXNet's .params format cannot hold {', '.join(unfit)}; it holds {supported}. "
            "Convert these arrays, or save as .safetensors."
        )
    version = VERSION_3 if any(value.size == 0 or value.ndim == 0 for value in values) else VERSION_2
    file.write(struct.pack("<QQQ", FILE_MAGIC, 0, len(values)))
    for value in values:
        # Device 1, number 0 is the CPU: where an array lived is no property of the weights.
        axes = (value.ndim, *value.shape, 1, 0, _CODES[value.dtype])
        file.write(struct.pack(f"<Iii{value.ndim}qiii", version, _DENSE, *axes))
        # As bytes, since memoryview knows no float16; without a copy where the array is contiguous already.
        file.write(np.asarray(value, order="C").reshape(-1).view(np.uint8).data)
    file.write(struct.pack("<Q", len(names)))
    for name in names:
        file.write(struct.pack("<Q", len(name)) + name)


class _Reader:
    """A position in the bytes that never goes past their end."""

    def __init__(self, content: memoryview, source: str) -> None:
        self.content = content
        self.source = source
        self.position = 0
        self.place = "in its header"

    @property
    def remaining(self) -> int:
        return len(self.content) - self.position

    def error(self, text: str) -> WeightsError:
        return WeightsError(f"{self.source} is damaged {self.place}: {text}. Get the file again.")

    def take(self, size: int, what: str) -> memoryview:
        if size > self.remaining:
            raise WeightsError(
                f"{self.source} is cut short {self.place}: {what} needs {size} bytes at offset {self.position}, "
                f"{self.remaining} are left. Get the file again."
            )
        self.position += size
        return self.content[self.position - size : self.position]

    def numbers(self, layout: str, what: str) -> tuple[int, ...]:
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout), what))

    def unsigned64(self, what: str) -> int:
        return self.numbers("Q", what)[0]

    def ndim(self, value: int, what: str) -> int:
        if not 0 <= value <= _LARGEST_NDIM:
            raise self.error(f"{what} has {value} axes, expected 0 to {_LARGEST_NDIM}")
        return value

    def shape(self, what: str) -> tuple[int, ...]:
        ndim = self.ndim(self.numbers("i", f"the number of axes of {what}")[0], what)
        shape = self.numbers(f"{ndim}q", f"the shape of {what}")
        if any(length < 0 for length in shape):
            raise self.error(f"{what} has shape {shape}, expected no negative length")
        return shape

    def dtype(self, what: str) -> int:
        code = self.numbers("i", f"the dtype of {what}")[0]
        if code not in _DTYPES:
            raise self.error(f"{what} has dtype code {code}, expected one of {', '.join(map(str, sorted(_DTYPES)))}")
        return code

    def values(self, shape: tuple[int, ...], code: int, what: str) -> np.ndarray:
        dtype = _DTYPES[code]
        content = self.take(prod(shape) * dtype.itemsize, f"{what} of shape {shape} and dtype {dtype.name}")
        try:
            values = np.frombuffer(content, dtype).reshape(shape)
        except ValueError as error:
            raise self.error(f"{what} has shape {shape}, which NumPy cannot hold ({error})") from error
        if code == _BFLOAT16:
            return widen_bfloat16(values)
        if dtype == np.bool_ and np.any(values.view(np.uint8) > 1):
            # NumPy takes any byte but 0 and 1 in a bool array for granted and computes nonsense.
            raise self.error(f"{what} is of dtype bool and holds bytes other than 0 and 1")
        # Views at odd addresses are slow in NumPy and refused elsewhere; they only occur after 1- or 2-byte dtypes.
        return values if values.flags.aligned else values.copy()


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """float32 from the bit patterns of bfloat16 (uint16), exactly: the latter is its upper half."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _read_array(reader: _Reader) -> np.ndarray:
    version = reader.numbers("I", "the version of the array")[0]
    storage = _DENSE
    if version in (VERSION_2, VERSION_3):
        storage = reader.numbers("i", "the storage type")[0]
    if storage in (_ROW_SPARSE, _CSR) and version == VERSION_2:
        return _read_sparse(reader, storage)
    if storage != _DENSE:
        raise reader.error(f"the array has storage type {storage}, expected 0 (dense), 1 (row_sparse) or 2 (csr)")
    if version == VERSION_3:
        return _read_numpy_shape(reader)
    if version in (VERSION_1, VERSION_2):
        shape = reader.shape("the array")
    else:
        # Before MXNet 0.11 there was no version, and the shape began with its 32-bit number of axes.
        ndim = reader.ndim(version, "the array (or its version)")
        shape = reader.numbers(f"{ndim}I", "the shape of the array")
    # In these versions a length of 0 means "not known yet": such an array was never filled, and nothing follows.
    if prod(shape) == 0 or not shape:
        return _empty(reader, shape)
    reader.numbers("ii", "the device")
    return reader.values(shape, reader.dtype("the array"), "the array")


def _read_numpy_shape(reader: _Reader) -> np.ndarray:
    ndim = reader.numbers("i", "the number of axes of the array")[0]
    # -1 says here what 0 says in the older versions: not known yet.
    if ndim == -1:
        return _empty(reader, ())
    shape = reader.numbers(f"{reader.ndim(ndim, 'the array')}q", "the shape of the array")
    if any(length < -1 for length in shape):
        raise reader.error(f"the array has shape {shape}, expected no negative length")
    if -1 in shape:
        return _empty(reader, tuple(max(length, 0) for length in shape))
    reader.numbers("ii", "the device")
    return reader.values(shape, reader.dtype("the array"), "the array")


def _empty(reader: _Reader, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.empty(shape or (0,), np.float32)
    except ValueError as error:
        raise reader.error(f"the array has shape {shape}, which NumPy cannot hold ({error})") from error


def _read_sparse(reader: _Reader, storage: int) -> np.ndarray:
    kind = "row_sparse" if storage == _ROW_SPARSE else "csr"
    stored_shape = reader.shape(f"the stored values of the {kind} array")
    shape = reader.shape(f"the {kind} array")
    if prod(shape) == 0 or not shape:
        return _empty(reader, shape)
    reader.numbers("ii", "the device")
    code = reader.dtype("the array")
    indices = []
    for what in ("the row numbers",) if storage == _ROW_SPARSE else ("the row starts", "the column numbers"):
        index_code = reader.dtype(what)
        if _DTYPES[index_code].kind not in "iu" or index_code == _BFLOAT16:
            raise reader.error(f"{what} have dtype code {index_code}, expected an integer dtype")
        indices.append((what, index_code, reader.shape(what)))
    if storage == _CSR:
        # MXNet leaves 0 here for a matrix made from a dense one; the column numbers tell how many values follow.
        stored_shape = indices[1][2]
    values = reader.values(stored_shape, code, "the stored values")
    index_arrays = [reader.values(index_shape, index_code, what) for what, index_code, index_shape in indices]

    dense_size = prod(shape) * values.dtype.itemsize
    if dense_size > max(_ALWAYS_ALLOWED, _LARGEST_GROWTH * len(reader.content)):
        raise WeightsError(
            f"{reader.source} holds {reader.place.removeprefix('in ')} as {kind} of shape {shape}: {dense_size} bytes "
            f"as a dense array, more than {_LARGEST_GROWTH} times the file. If it is meant so, save it dense with "
            "MXNet: array.tostype('default')."
        )
    if storage == _ROW_SPARSE:
        return _dense_from_rows(reader, shape, values, index_arrays[0])
    return _dense_from_csr(reader, shape, values, *index_arrays)


def _dense_from_rows(reader: _Reader, shape: tuple[int, ...], values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    if rows.ndim != 1 or values.shape != (len(rows), *shape[1:]):
        raise reader.error(
            f"the row_sparse array of shape {shape} stores values of shape {values.shape} for {rows.shape} row numbers"
        )
    if len(rows) and (int(rows.min()) < 0 or int(rows.max()) >= shape[0]):
        raise reader.error(f"a row number lies outside of 0 to {shape[0] - 1}")
    dense = np.zeros(shape, values.dtype)
    dense[rows] = values
    return dense


def _dense_from_csr(
    reader: _Reader, shape: tuple[int, ...], values: np.ndarray, starts: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    if len(shape) != 2 or values.ndim != 1 or columns.shape != values.shape or starts.ndim != 1:
        raise reader.error(
            f"the csr array of shape {shape} stores {values.shape} values, {columns.shape} column numbers and "
            f"{starts.shape} row starts"
        )
    dense = np.zeros(shape, values.dtype)
    # MXNet writes no row starts at all for a matrix without any value.
    if len(values) == 0 and len(starts) in (0, shape[0] + 1):
        return dense
    lengths: np.ndarray = np.diff(starts.astype(np.int64))
    if len(lengths) != shape[0] or int(starts[0]) != 0 or int(starts[-1]) != len(values) or np.any(lengths < 0):
        raise reader.error(f"the row starts do not divide {len(values)} values into {shape[0]} rows")
    if int(columns.min()) < 0 or int(columns.max()) >= shape[1]:
        raise reader.error(f"a column number lies outside of 0 to {shape[1] - 1}")
    dense[np.repeat(np.arange(shape[0]), lengths), columns] = values
    return dense


def _read_names(reader: _Reader, count: int) -> list[str]:
    announced = reader.unsigned64("the number of names")
    if announced == 0:
        return [str(index) for index in range(count)]
    if announced != count:
        raise reader.error(f"there are {announced} names for {count} arrays, expected as many or none")
    names = []
    for index in range(count):
        reader.place = f"in name {index + 1} of {count}"
        length = reader.unsigned64("the length of the name")
        try:
            names.append(str(reader.take(length, "the name"), "utf-8"))
        except UnicodeDecodeError as error:
            raise reader.error(f"the name is no UTF-8 text ({error})") from error
    if len(set(names)) != count:
        twice = next(name for index, name in enumerate(names) if name in names[:index])
        raise reader.error(f"two arrays have the name {twice!r}")
    return names


def _explain_magic(content: memoryview, source: str) -> str:
    start = bytes(content[:8])
    received = f"{int.from_bytes(start, 'little'):#x}"
    message = f"{source} is not a .params file: it begins with {received}, expected {FILE_MAGIC:#x}."
    if start.startswith(b"PK"):
        return (
            f"{message} It is a zip archive. If it came from GluonCV's store, unpack the .params file in it; if "
            "MXNet 2 wrote it (an .npz), save it with MXNet 1 or as .safetensors."
        )
    if start.startswith(b"\x80"):
        return f"{message} It seems to be a Python pickle, which can run code when opened. Save it as .safetensors."
    if bytes(content[:256]).lstrip()[:1] == b"<":
        return f"{message} It is a web page: the download failed. Get the file again."
    return f"{message} Get the file again, or name the file by its true format."


__all__ = ["map_file", "parse_params", "read_params", "widen_bfloat16", "write_params"]

"""IDX files: how MNIST and its successors keep arrays (http://yann.lecun.com/exdb/mnist, section "file format").

Two zero bytes, a byte for the type, a byte for the number of axes, a big-endian 32-bit length for each axis, then the
values, big-endian. A file may be compressed by gzip. The header's promise is held against the size of the file, or 100
times that where it is compressed, before memory is asked for.
"""

from __future__ import annotations

import io
import os
import zlib

import numpy as np

from glueball.archives import unpacked_limit
from glueball.errors import DataError, OptionError
from glueball.files import atomic_write

TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def parse_idx(data: bytes, name: str = "IDX data") -> np.ndarray:
    """The array in the bytes of an IDX file, compressed or not, in this machine's byte order.

    Raises:
        DataError: the bytes are no IDX file, or more or fewer than its header says.
    """
    if data[:2] == b"\x1f\x8b":
        return _parse(_Gzip(data, name), unpacked_limit(len(data)), name)
    return _parse(io.BytesIO(data), len(data), name)


class _Gzip:
    """Reads a gzip file of one or more members, never more of it than was asked for."""

    def __init__(self, data: bytes, name: str) -> None:
        self._rest = data
        self._name = name
        self._decompressor = zlib.decompressobj(31)

    def read(self, size: int) -> bytes:
        parts: list[bytes] = []
        while size > 0:
            if self._decompressor.eof:
                self._rest = self._decompressor.unused_data.lstrip(b"\0")
                if not self._rest:
                    break
                self._decompressor = zlib.decompressobj(31)
            try:
                part = self._decompressor.decompress(self._rest, size)
            except zlib.error as error:
                raise DataError(f"{self._name}: the compressed data is damaged: {error}.") from error
            self._rest = self._decompressor.unconsumed_tail
            if not part and not self._decompressor.eof and not self._rest:
                raise DataError(f"{self._name}: the compressed data is cut short.")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def finish(self) -> None:
        """Reads on to the checksum, which zlib compares."""
        if self.read(1):
            raise DataError(f"{self._name}: there are more values than the header says.")
        if not self._decompressor.eof:
            raise DataError(f"{self._name}: the compressed data is cut short.")


def _parse(source: io.BytesIO | _Gzip, limit: int, name: str) -> np.ndarray:
    start = source.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in TYPES or not 1 <= start[3] <= 32:
        raise DataError(
            f"{name}: not an IDX file. It starts with 00 00, a type (08, 09, 0b to 0e) and the number of axes. "
            f"Received: {start.hex(' ') or 'nothing'}."
        )
    lengths = source.read(4 * start[3])
    if len(lengths) < 4 * start[3]:
        raise DataError(f"{name}: the file ends within its header.")
    shape = tuple(int(length) for length in np.frombuffer(lengths, ">u4"))
    dtype = np.dtype(TYPES[start[2]])
    size = dtype.itemsize
    for length in shape:
        size *= length
    if size > limit:
        raise DataError(f"{name}: the header announces shape {shape}, {size:,} bytes; the file cannot hold them.")
    values = source.read(size)
    if len(values) < size:
        raise DataError(f"{name}: the header announces {size:,} bytes of values, the file has {len(values):,}.")
    if isinstance(source, _Gzip):
        source.finish()
    elif source.read(1):
        raise DataError(f"{name}: there are more values than the header's shape {shape} says.")
    try:
        return np.frombuffer(values, dtype).reshape(shape).astype(dtype.newbyteorder("="))
    except ValueError as error:
        # An axis of length 0 leaves the others free to be anything.
        raise DataError(f"{name}: the header announces shape {shape}, which NumPy cannot hold ({error}).") from error


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """The array in an IDX file, compressed or not.

    Raises:
        DataError: the file cannot be read, or is not what its header says.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise DataError(f"{os.fspath(path)}: cannot be read: {error.strerror or error}.") from error
    return parse_idx(data, os.fspath(path))


def format_idx(array: np.ndarray) -> bytes:
    """The bytes of an IDX file that holds ``array``.

    Raises:
        OptionError: the format has no such type or number of axes.
    """
    codes = {np.dtype(name).newbyteorder("="): code for code, name in TYPES.items()}
    code = codes.get(array.dtype.newbyteorder("="))
    if code is None or not 1 <= array.ndim <= 32:
        raise OptionError(
            f"IDX holds uint8, int8, int16, int32, float32 or float64 with 1 to 32 axes, not {array.dtype}."
        )
    header = bytes([0, 0, code, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    return header + np.ascontiguousarray(array, np.dtype(TYPES[code])).tobytes()


def write_idx(path: str | os.PathLike[str], array: np.ndarray) -> None:
    """Writes an IDX file, compressed if its name ends with .gz."""
    data = format_idx(array)
    if os.fspath(path).endswith(".gz"):
        compressor = zlib.compressobj(wbits=31)
        data = compressor.compress(data) + compressor.flush()
    with atomic_write(path) as file:
        file.write(data)

"""Scalars as TensorBoard event files, written by hand: two small formats do not justify a dependency.

An event file is a sequence of TFRecords (length, its checksum, data, its checksum; little endian, masked CRC-32C), each
holding one ``Event`` protocol buffer (tensorflow/core/util/event.proto).
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from glueball.engine.writing import writing

_CRC32C_POLYNOMIAL = 0x82F63B78  # Castagnoli, reflected


def _table() -> tuple[int, ...]:
    values = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (_CRC32C_POLYNOMIAL if byte & 1 else 0)
        values.append(byte)
    return tuple(values)


_TABLE = _table()


def crc32c(data: bytes) -> int:
    """CRC-32C of ``data`` (RFC 3720, appendix B.4)."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def masked_crc32c(data: bytes) -> int:
    """The checksum as TFRecord stores it: rotated, so that a checksum of data that holds checksums stays strong."""
    value = crc32c(data)
    return ((value >> 15 | value << 17) + 0xA282EAD8) & 0xFFFFFFFF


def record(data: bytes) -> bytes:
    """One TFRecord around ``data``."""
    length = struct.pack("<Q", len(data))
    return length + struct.pack("<I", masked_crc32c(length)) + data + struct.pack("<I", masked_crc32c(data))


def read_records(data: bytes) -> Iterator[bytes]:
    """The contents of the TFRecords in ``data``.

    Raises:
        ValueError: a checksum is wrong or the last record is cut short.
    """
    position = 0
    while position < len(data):
        header = data[position : position + 12]
        if len(header) < 12 or struct.unpack("<I", header[8:])[0] != masked_crc32c(header[:8]):
            raise ValueError(f"damaged record header at byte {position}")
        (length,) = struct.unpack("<Q", header[:8])
        content = data[position + 12 : position + 12 + length]
        checksum = data[position + 12 + length : position + 16 + length]
        if len(checksum) < 4 or struct.unpack("<I", checksum)[0] != masked_crc32c(content):
            raise ValueError(f"damaged record at byte {position}")
        yield content
        position += 16 + length


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _bytes_field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _event(wall_time: float, step: int, payload: bytes) -> bytes:
    # Event: wall_time = 1 (double), step = 2 (int64), file_version = 3 (string), summary = 5.
    return b"\x09" + struct.pack("<d", wall_time) + b"\x10" + _varint(step) + payload


def scalar_event(wall_time: float, step: int, values: Mapping[str, float]) -> bytes:
    """An ``Event`` with one ``Summary.Value`` (tag = 1, simple_value = 2) for each scalar."""
    summary = b"".join(
        _bytes_field(1, _bytes_field(1, tag.encode()) + b"\x15" + struct.pack("<f", value))
        for tag, value in values.items()
    )
    return _event(wall_time, step, _bytes_field(5, summary))


def _header() -> bytes:
    return record(_event(time.time(), 0, _bytes_field(3, b"brain.Event:2")))


class EventWriter:
    """Appends scalars to the event file of a run; a resumed run goes on in the same file."""

    def __init__(self, folder: Path) -> None:
        existing = sorted(folder.glob("events.out.tfevents.*"))
        self.path = (
            existing[-1]
            if existing
            else folder / (f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}")
        )
        header = _header()
        self._header_size = len(header)
        with writing(self.path):
            self._file = open(self.path, "ab")  # noqa: SIM115 - closed by close()
            if self._file.tell() < self._header_size:  # a new file, or one that a full disk cut short
                try:
                    self._file.truncate(0)
                    self._file.seek(0)
                    self._file.write(header)
                    self._file.flush()
                except OSError:
                    self.close()
                    raise

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """Adds the scalars of one step and hands them to the system, so that TensorBoard can follow."""
        with writing(self.path):
            self._file.write(record(scalar_event(time.time(), step, values)))
            self._file.flush()

    def size(self) -> int:
        """Bytes so far: what a checkpoint remembers."""
        return self._file.tell()

    def truncate(self, size: int) -> None:
        """Drops what was written after a checkpoint, because the resumed run writes it again; the header stays."""
        size = max(size, self._header_size)
        if size < self._file.tell():
            with writing(self.path):
                self._file.truncate(size)
            self._file.seek(size)

    def close(self) -> None:
        # As in the log: only what could not be written, and was reported, is still in the buffer.
        with contextlib.suppress(OSError):
            self._file.close()

"""Record files: many samples in one file, each found by its offset (.rec), with a table of the offsets (.idx).

The format is dmlc's RecordIO, as MXNet's im2rec and ``mxnet.recordio`` write and read it. A record is a magic number, a
32-bit word that holds the length (29 bits) and a flag (3 bits), the bytes, and zeros up to a multiple of four. Where
the magic number itself occurs in the data at a multiple of four, it is left out and the record is divided there (flag
1 first, 2 middle, 3 last part; 0 undivided), so that a reader can find the next record after damage.

Reads name their position (``os.pread``), so that threads and forked processes may share a file without a lock.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import attrs
import numpy as np

from glueball.data import images
from glueball.data.dataset import Dataset
from glueball.errors import DataError, OptionError
from glueball.files import atomic_write

MAGIC = 0xCED7230A
MAX_LENGTH = (1 << 29) - 1
"""Most bytes in one part of a record."""

_MAGIC_BYTES = struct.pack("<I", MAGIC)
_PART = struct.Struct("<II")
_HEADER = struct.Struct("<IfQQ")


# ----------------------------------------------------------------------------------------------------------------------
# What a record holds


@attrs.frozen(eq=False)
class Header:
    """What MXNet puts in front of a picture or any other payload in a record."""

    label: float | np.ndarray = 0.0
    """A number, or a float32 vector."""
    id: int = 0
    id2: int = 0


def pack(header: Header, payload: bytes) -> bytes:
    """A record's bytes of a header and what follows it."""
    if isinstance(header.label, (int, float, np.generic)):
        return _HEADER.pack(0, float(header.label), header.id, header.id2) + payload
    label = np.ascontiguousarray(header.label, "<f4").reshape(-1)
    return _HEADER.pack(label.size, 0.0, header.id, header.id2) + label.tobytes() + payload


def unpack(record: bytes, name: str = "record") -> tuple[Header, bytes]:
    """The header and the payload of a record's bytes.

    Raises:
        DataError: the record is shorter than its header says.
    """
    if len(record) < _HEADER.size:
        raise DataError(f"{name}: {len(record)} bytes are too few for a header of {_HEADER.size} bytes.")
    count, number, identity, identity2 = _HEADER.unpack_from(record)
    end = _HEADER.size + 4 * count
    if end > len(record):
        raise DataError(
            f"{name}: the header announces {count} labels, but only {len(record) - _HEADER.size} bytes follow."
        )
    label: float | np.ndarray = number
    if count:
        label = np.frombuffer(record, "<f4", count, _HEADER.size).astype(np.float32)
    return Header(label, identity, identity2), record[end:]


def pack_image(header: Header, image: np.ndarray, format: str = "jpg", quality: int = 95) -> bytes:
    """A record's bytes of a header and a picture (height, width, 3), encoded as jpg or png."""
    return pack(header, images.encode(image, format, quality))


def unpack_image(record: bytes, name: str = "record") -> tuple[Header, np.ndarray]:
    """The header and the decoded picture of a record's bytes."""
    header, payload = unpack(record, name)
    return header, images.decode(payload, name=name)


# ----------------------------------------------------------------------------------------------------------------------
# Writing


def _index_path(path: Path) -> Path:
    return path.with_suffix(".idx")


class RecordWriter:
    """Writes a record file and its table of offsets; both appear under their names when it is closed without an error.

    Args:
        path: the .rec file.
        index_path: the .idx file; default: next to it, with the suffix .idx.

    Example:
        >>> with RecordWriter("pictures.rec") as writer:  # doctest: +SKIP
        ...     writer.write(pack_image(Header(label=3), picture))
    """

    def __init__(self, path: str | os.PathLike[str], index_path: str | os.PathLike[str] | None = None) -> None:
        self._path = Path(path)
        self._index_path = Path(index_path) if index_path is not None else _index_path(self._path)
        self._stack = contextlib.ExitStack()
        # The table is closed, and so renamed, last: a table never describes a file that is not there yet.
        self._index: BinaryIO = self._stack.enter_context(atomic_write(self._index_path))
        self._file: BinaryIO = self._stack.enter_context(atomic_write(self._path))
        self._position = 0
        self._keys: set[int] = set()
        self._open = True

    def write(self, record: bytes, key: int | None = None) -> int:
        """Appends a record and gives its offset; ``key`` is its name in the table, by default its number.

        Raises:
            OptionError: the key is taken, the writer is closed, or the record is longer than the format allows.
        """
        if not self._open:
            raise OptionError(f"{self._path}: the writer is closed.")
        key = len(self._keys) if key is None else int(key)
        if key in self._keys:
            raise OptionError(f"{self._path}: there is a record of key {key} already.")
        offset = self._position
        parts = _divide(record)
        if any(len(part) > MAX_LENGTH for part in parts):
            raise OptionError(f"{self._path}: a record of {len(record):,} bytes is longer than {MAX_LENGTH:,}.")
        for number, part in enumerate(parts):
            last = number == len(parts) - 1
            flag = 0 if len(parts) == 1 else 1 if number == 0 else 3 if last else 2
            data = _PART.pack(MAGIC, flag << 29 | len(part)) + part + bytes(-len(part) % 4)
            self._file.write(data)
            self._position += len(data)
        self._index.write(f"{key}\t{offset}\n".encode())
        self._keys.add(key)
        return offset

    def close(self) -> None:
        """Completes both files."""
        if self._open:
            self._open = False
            self._stack.close()

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._open:
            self._open = False
            self._stack.__exit__(kind, error, trace)

    def __del__(self) -> None:
        # A writer that was forgotten leaves no file: what it holds may lack its end.
        if getattr(self, "_open", False):
            self._open = False
            with contextlib.suppress(GeneratorExit):
                self._stack.__exit__(GeneratorExit, GeneratorExit(), None)


def _divide(record: bytes) -> list[bytes]:
    """The parts between the magic numbers that lie at multiples of four."""
    parts: list[bytes] = []
    start = search = 0
    while (found := record.find(_MAGIC_BYTES, search)) >= 0:
        if found % 4:
            search = found + 1
            continue
        parts.append(record[start:found])
        start = search = found + 4
    parts.append(record[start:])
    return parts


# ----------------------------------------------------------------------------------------------------------------------
# Reading


class RecordFile:
    """Reads a record file by position or by key.

    Args:
        path: the .rec file.
        index_path: its table; default: next to it, with the suffix .idx. Without a table the file is scanned once and
            the keys are 0, 1, 2, ...

    Raises:
        DataError: the file is missing, or the table or the file is damaged.
    """

    def __init__(self, path: str | os.PathLike[str], index_path: str | os.PathLike[str] | None = None) -> None:
        self.path = Path(path)
        self._descriptor = -1
        self._lock = threading.Lock()
        self._open()
        try:
            table = Path(index_path) if index_path is not None else _index_path(self.path)
            if index_path is not None and not table.is_file():
                raise DataError(f"{table}: the table of {self.path} is missing; leave index_path out to scan the file.")
            keys, offsets = self._read_table(table) if table.is_file() else self._scan()
        except BaseException:
            self.close()
            raise
        self.keys: list[int] = keys
        """The keys in the order of the table."""
        self._offsets = np.array(offsets, np.int64)
        self._places = None if keys == list(range(len(keys))) else {key: place for place, key in enumerate(keys)}

    def _open(self) -> None:
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror or error}.") from error
        self._size = os.fstat(self._descriptor).st_size

    def _read_table(self, table: Path) -> tuple[list[int], list[int]]:
        keys: list[int] = []
        offsets: list[int] = []
        try:
            lines = table.read_text("ascii").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{table}: not a table of offsets: {error}.") from error
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                key, offset = (int(word) for word in line.split("\t"))
            except ValueError:
                raise DataError(
                    f"{table}, line {number}: expected 'key<tab>offset'. Received: {line[:60]!r}."
                ) from None
            if not 0 <= offset <= self._size - _PART.size or offset % 4:
                raise DataError(
                    f"{table}, line {number}: offset {offset:,} is no place in {self.path}, which has {self._size:,} "
                    "bytes. The file is cut short or the table belongs to another one; without a table the file is "
                    "scanned."
                )
            keys.append(key)
            offsets.append(offset)
        if len(set(keys)) < len(keys):
            raise DataError(f"{table}: a key occurs twice.")
        return keys, offsets

    def _scan(self) -> tuple[list[int], list[int]]:
        offsets: list[int] = []
        position = 0
        while position < self._size:
            offsets.append(position)
            *_, (_, _, position) = self._parts(position)
        return list(range(len(offsets))), offsets

    def _read_at(self, size: int, offset: int) -> bytes:
        if hasattr(os, "pread"):
            data = os.pread(self._descriptor, size, offset)
            # A single call may give less than 2 GB parts or be cut by a signal on network file systems.
            while 0 < len(data) < size and (more := os.pread(self._descriptor, size - len(data), offset + len(data))):
                data += more
            return data
        with self._lock:
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, size)

    def _parts(self, offset: int) -> Iterator[tuple[int, int, int]]:
        """(start, length, where the next part or record starts) of each part of the record at ``offset``."""
        position, first = offset, True
        while True:
            word = self._read_at(_PART.size, position)
            if len(word) < _PART.size:
                raise DataError(f"{self.path}: the file ends within the record at byte {offset:,}; it is cut short.")
            magic, flag_and_length = _PART.unpack(word)
            flag, length = flag_and_length >> 29, flag_and_length & MAX_LENGTH
            if magic != MAGIC or (flag not in (0, 1) if first else flag not in (2, 3)):
                raise DataError(
                    f"{self.path}: no record starts at byte {offset:,} (magic {magic:#010x} and flag {flag} at byte "
                    f"{position:,}). The file is damaged or its .idx belongs to another one; without the .idx the file "
                    "is scanned."
                )
            start = position + _PART.size
            position = start + length + -length % 4
            if start + length > self._size:
                raise DataError(
                    f"{self.path}: the record at byte {offset:,} needs {start + length:,} bytes, the file has "
                    f"{self._size:,}; it is cut short."
                )
            yield start, length, position
            if flag in (0, 3):
                return
            first = False

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, place: int) -> bytes:
        """The record at a place in the table.

        Raises:
            DataError: the record is damaged.
        """
        if self._descriptor < 0:
            raise OptionError(f"{self.path}: the file is closed.")
        offset = int(self._offsets[place])
        return _MAGIC_BYTES.join(self._read_at(length, start) for start, length, _ in self._parts(offset))

    def read(self, key: int) -> bytes:
        """The record of a key.

        Raises:
            DataError: there is no such key, or the record is damaged.
        """
        place = (key if 0 <= key < len(self) else None) if self._places is None else self._places.get(key)
        if place is None:
            raise DataError(f"{self.path}: no record has key {key}.")
        return self[place]

    def head(self, place: int, size: int) -> bytes:
        """Up to ``size`` first bytes of the record's first part, without reading the rest."""
        start, length, _ = next(self._parts(int(self._offsets[place])))
        return self._read_at(min(size, length), start)

    def __iter__(self) -> Iterator[bytes]:
        for place in range(len(self)):
            yield self[place]

    def describe(self, place: int) -> str:
        """The record in words."""
        return f"{self.path}, record {self.keys[place]}"

    def close(self) -> None:
        """Closes the file."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_descriptor", -1) >= 0:
            self.close()

    def __getstate__(self) -> dict[str, Any]:
        # A worker process opens the file itself.
        return {name: value for name, value in self.__dict__.items() if name not in ("_descriptor", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._descriptor = -1
        self.__dict__.update(state)
        self._lock = threading.Lock()
        self._open()


class RecordFileDataset(Dataset):
    """The records of a file as bytes, in the order of its table."""

    def __init__(self, path: str | os.PathLike[str], index_path: str | os.PathLike[str] | None = None) -> None:
        self._file = RecordFile(path, index_path)

    def __getitem__(self, index: int) -> Any:
        return self._file[index]

    def __len__(self) -> int:
        return len(self._file)

    def describe(self, index: int) -> str:
        return self._file.describe(index)


class ImageRecordDataset(RecordFileDataset):
    """Pictures of a record file as im2rec writes it: samples (picture, label).

    Args:
        path, index_path: as ``RecordFile``.
        label: "class" gives a single label as int64, "float" as float32. Several labels are a float32 vector.
    """

    def __init__(
        self, path: str | os.PathLike[str], index_path: str | os.PathLike[str] | None = None, *, label: str = "class"
    ) -> None:
        if label not in ("class", "float"):
            raise OptionError(f"label is class or float. Received: {label!r}.")
        super().__init__(path, index_path)
        self._label = label

    def _convert(self, label: float | np.ndarray, index: int) -> Any:
        if isinstance(label, np.ndarray):
            if label.size > 1:
                return label
            label = float(label[0])
        if self._label == "float":
            return np.float32(label)
        # NaN and infinity fail the first comparison.
        if not abs(label) < 1 << 63 or label != int(label):
            raise DataError(f'{self.describe(index)}: label {label} is no class; read such labels with label="float".')
        return np.int64(label)

    def __getitem__(self, index: int) -> Any:
        header, payload = unpack(self._file[index], self.describe(index))
        return images.decode(payload, name=self.describe(index)), self._convert(header.label, index)

    def labels(self) -> np.ndarray | None:
        labels = []
        for index in range(len(self)):
            # 24 bytes of header and, as im2rec may write even one label as a vector, four more.
            head = self._file.head(index, _HEADER.size + 4)
            if len(head) < _HEADER.size + 4:
                head = self._file[index]  # divided within its header
            if len(head) >= _HEADER.size and _HEADER.unpack_from(head)[0] > 1:
                return None
            labels.append(self._convert(unpack(head, self.describe(index))[0].label, index))
        return np.array(labels)

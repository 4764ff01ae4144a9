"""safetensors files: written by the safetensors library, read as views of the mapped file.

Reading is our own since the library's NumPy side knows no bfloat16 and copies every array. The format is ``u64
length``, a JSON header of that length that gives each array's dtype, shape and bytes, and the bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from math import prod
from typing import Any

import numpy as np
from safetensors.numpy import save as serialize

from glueball.errors import WeightsError
from glueball.weights.params import FILE_MAGIC, map_file, widen_bfloat16

_BFLOAT16 = "BF16"
_DTYPES: dict[str, np.dtype] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    _BFLOAT16: np.dtype("<u2"),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("bool"),
    "C64": np.dtype("<c8"),
}
_METADATA = "__metadata__"

# The limit that the safetensors library sets as well: a larger header is an attack, not a model.
_LARGEST_HEADER = 100_000_000


def read_safetensors(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name, in the order of their bytes; bfloat16 becomes float32.

    Raises:
        WeightsError: the file is not of this format, is damaged or cut short, or has a dtype that NumPy lacks.
        OSError: the file cannot be read.
    """
    return parse_safetensors(map_file(path), os.fspath(path))


def parse_safetensors(content: memoryview, source: str) -> dict[str, np.ndarray]:
    """What ``read_safetensors`` does, for bytes in memory; ``source`` names them in errors."""
    header, data = _split(content, source)
    arrays = {}
    expected_begin = 0
    for name, dtype_name, shape, begin, end in sorted(_entries(header, source), key=lambda entry: entry[3:]):
        dtype = _DTYPES[dtype_name]
        # Holes or overlaps would let two programs see different weights in one file.
        if begin != expected_begin or end - begin != prod(shape) * dtype.itemsize:
            raise _damaged(source, f"array {name!r} of shape {shape} and dtype {dtype_name} has bytes {begin} to {end}")
        if end > len(data):
            raise WeightsError(
                f"{source} is cut short: array {name!r} ends at byte {end} of the data, {len(data)} are there. "
                "Get the file again."
            )
        expected_begin = end
        arrays[name] = _array(data[begin:end], dtype_name, shape, name, source)
    if expected_begin != len(data):
        raise _damaged(source, f"{len(data) - expected_begin} bytes follow after the last array")
    return arrays


def read_metadata(path: str | os.PathLike[str]) -> dict[str, str]:
    """The free text entries of a safetensors file's header; empty where it has none."""
    header, _ = _split(map_file(path), os.fspath(path))
    metadata = header.get(_METADATA) or {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _damaged(os.fspath(path), "its metadata is not a mapping of text to text")
    return metadata


def encode_safetensors(arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file.

    Raises:
        WeightsError: safetensors has no such dtype (all such arrays are named).
    """
    values = {name: np.asarray(value) for name, value in arrays.items()}
    supported = {dtype for name, dtype in _DTYPES.items() if name != _BFLOAT16}
    unfit = [
        f"{name} ({value.dtype})"
        for name, value in values.items()
        if value.dtype.kind == "O" or value.dtype.newbyteorder("<") not in supported
    ]
    if unfit:
        raise WeightsError(
            f"The safetensors format cannot hold {', '.join(unfit)}; it holds "
            f"{', '.join(sorted(dtype.name for dtype in supported))}. Convert these arrays."
        )
    if _METADATA in values:
        raise WeightsError(f"No array can be called {_METADATA!r} in a safetensors file. Rename it.")
    contiguous = {name: np.asarray(value, order="C") for name, value in values.items()}
    return serialize(contiguous, metadata=dict(metadata) if metadata else None)


def _damaged(source: str, text: str) -> WeightsError:
    return WeightsError(f"{source} is damaged: {text}. Get the file again.")


def _split(content: memoryview, source: str) -> tuple[dict[str, Any], memoryview]:
    length = int.from_bytes(content[:8], "little")
    # The magic number could be the length of a header, but no header begins with the zeros that follow it there.
    if length == FILE_MAGIC and bytes(content[8:16]) == bytes(8):
        raise WeightsError(
            f"{source} is named as a safetensors file and holds MXNet's .params format (it begins with "
            f"{FILE_MAGIC:#x}). Rename it so that it ends in .params."
        )
    if len(content) < 8 or length > min(len(content) - 8, _LARGEST_HEADER):
        raise WeightsError(
            f"{source} is not a safetensors file or is cut short: its first 8 bytes announce a header of {length} "
            f"bytes, {max(len(content) - 8, 0)} follow. Get the file again."
        )
    try:
        header = json.loads(bytes(content[8 : 8 + length]), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise WeightsError(
            f"{source} is not a safetensors file or is damaged: its header is no JSON ({error}). Get the file again."
        ) from error
    if not isinstance(header, dict):
        raise _damaged(source, "its header is not a JSON object")
    return header, content[8 + length :]


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _entries(header: dict[str, Any], source: str) -> list[tuple[str, str, tuple[int, ...], int, int]]:
    entries = []
    unknown = []
    for name, entry in header.items():
        if name == _METADATA:
            continue
        if not name.isprintable() and any("\ud800" <= character <= "\udfff" for character in name):
            raise _damaged(source, f"the name {name!r} of an array holds half a surrogate pair")
        try:
            dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        except (TypeError, KeyError, ValueError) as error:
            raise _damaged(
                source, f"the header's entry of array {name!r} lacks dtype, shape or data_offsets"
            ) from error
        if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)) or len(shape) > 32:
            raise _damaged(source, f"array {name!r} has shape {shape} and bytes {begin} to {end}")
        if not isinstance(dtype, str) or dtype not in _DTYPES:
            unknown.append(f"{name} ({dtype})")
        else:
            entries.append((name, dtype, shape, begin, end))
    if unknown:
        shown = ", ".join(unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise WeightsError(
            f"{source} has arrays of dtypes that cannot be read here: {shown}; expected {', '.join(_DTYPES)}. "
            "Convert them to one of these with the library that wrote the file."
        )
    return entries


def _array(content: memoryview, dtype_name: str, shape: tuple[int, ...], name: str, source: str) -> np.ndarray:
    try:
        values = np.frombuffer(content, _DTYPES[dtype_name]).reshape(shape)
    except (ValueError, OverflowError) as error:
        raise _damaged(source, f"array {name!r} has shape {shape}, which NumPy cannot hold ({error})") from error
    if dtype_name == _BFLOAT16:
        return widen_bfloat16(values)
    if dtype_name == "BOOL" and np.any(values.view(np.uint8) > 1):
        raise _damaged(source, f"array {name!r} is of dtype BOOL and holds bytes other than 0 and 1")
    return values if values.flags.aligned else values.copy()

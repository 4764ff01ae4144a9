"""What processes of one run tell each other, as bytes: JSON for structure, safetensors for arrays, nothing pickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from glueball.errors import TrainingError

_LENGTH = 8
_KINDS = "biuf"
_TAG = "__kind__"


def encode(content: Any) -> bytes:
    """``content`` as bytes: None, truth values, numbers, texts, lists, tuples, mappings by text, and arrays of numbers.

    Raises:
        TrainingError: it holds something else.
    """
    arrays: dict[str, np.ndarray] = {}
    structure = json.dumps(_plain(content, arrays)).encode()
    return len(structure).to_bytes(_LENGTH, "big") + structure + (save(arrays) if arrays else b"")


def decode(data: bytes) -> Any:
    """The inverse of ``encode``; numbers of NumPy come back as Python's."""
    end = _LENGTH + int.from_bytes(data[:_LENGTH], "big")
    rest = data[end:]
    return _restored(json.loads(data[_LENGTH:end]), load(rest) if rest else {})


def _plain(value: Any, arrays: dict[str, np.ndarray]) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, float)):
        return value  # NaN and infinity pass: Python reads what it wrote
    if isinstance(value, np.generic) and value.dtype.kind in _KINDS:
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in _KINDS:
        name = str(len(arrays))
        arrays[name] = np.asarray(value, order="C")
        return {_TAG: "array", "name": name}
    if isinstance(value, tuple):
        return {_TAG: "tuple", "items": [_plain(item, arrays) for item in value]}
    if isinstance(value, list):
        return [_plain(item, arrays) for item in value]
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {_TAG: "mapping", "items": {key: _plain(item, arrays) for key, item in value.items()}}
    raise TrainingError(
        f"A value of type {type(value).__name__} cannot be sent to another process. Expected numbers, texts, arrays of "
        "numbers, and lists, tuples and mappings of them."
    )


def _restored(value: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    if isinstance(value, list):
        return [_restored(item, arrays) for item in value]
    if not isinstance(value, dict):
        return value
    if value[_TAG] == "array":
        return arrays[value["name"]]
    if value[_TAG] == "tuple":
        return tuple(_restored(item, arrays) for item in value["items"])
    return {key: _restored(item, arrays) for key, item in value["items"].items()}

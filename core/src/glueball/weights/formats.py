"""Which format a weight file has: its suffix says so, and only formats that cannot run code are opened."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from glueball.errors import WeightsError
from glueball.files import atomic_write
from glueball.weights.params import read_params, write_params
from glueball.weights.safetensors_file import encode_safetensors, read_safetensors

SUFFIXES = (".params", ".safetensors")
_PICKLES = (".pth", ".pt", ".bin", ".ckpt", ".pkl", ".pickle", ".pdparams", ".tar")


def load(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays of a weight file by name, in the file's order.

    Arrays are views of the mapped file where the format allows: cheap to open, read from disk when used, writable
    without changing the file. Names are the file's own; ``load_into`` brings them into a network's form. ``~`` at the
    start of the path is the home folder.

    Raises:
        WeightsError: no such file, a suffix other than .params and .safetensors, a pickle (never opened, since that
            can run code), or a damaged file.
    """
    path = _expanded(path)
    _check_suffix(path, "read")
    if not path.is_file():
        problem = "is a folder" if path.is_dir() else "does not exist"
        raise WeightsError(f"The weight file {path} {problem}. Expected: the path of a .params or .safetensors file.")
    return read_params(path) if path.suffix.lower() == ".params" else read_safetensors(path)


def save(
    path: str | os.PathLike[str], arrays: Mapping[str, np.ndarray], *, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a weight file, in the format of its suffix, at once or not at all.

    ``metadata`` is free text for the header of a .safetensors file.

    Raises:
        WeightsError: a suffix other than .params and .safetensors, a dtype that the format lacks, or metadata for
            .params, which has no place for it.
        OSError: the file cannot be written, for example since the disk is full; an older file of that name is intact.
    """
    path = _expanded(path)
    _check_suffix(path, "written")
    if not all(isinstance(name, str) for name in arrays):
        raise WeightsError(
            f"Names of arrays must be text. Received: {[n for n in arrays if not isinstance(n, str)][:5]}"
        )
    if path.suffix.lower() == ".params":
        if metadata:
            raise WeightsError(f"{path}: a .params file has no place for metadata. Save as .safetensors.")
        with atomic_write(path) as file:
            write_params(file, arrays)
        return
    content = encode_safetensors(arrays, metadata)
    with atomic_write(path) as file:
        file.write(content)


def _expanded(path: str | os.PathLike[str]) -> Path:
    # Unlike Path.expanduser, this leaves the home folder of a user who does not exist as it is: a file that is missing.
    return Path(os.path.expanduser(path))


def _check_suffix(path: Path, verb: str) -> None:
    suffix = path.suffix.lower()
    if suffix in SUFFIXES:
        return
    if suffix in _PICKLES:
        raise WeightsError(
            f"{path} is a Python pickle by its suffix and is never {verb}: opening one can run any code. "
            "Convert it once, in a place that you trust it in: "
            'safetensors.torch.save_file(torch.load(path, weights_only=True), "weights.safetensors").'
        )
    raise WeightsError(f"{path} has the suffix {suffix!r}; weight files can be {' or '.join(SUFFIXES)}.")

"""GluonNLP's .npz files: ``unknown_token``, ``idx_to_token`` and ``idx_to_vec`` in one zip archive.

Files that GluonNLP wrote are read (see ``strings`` for how that goes without unpickling); files that are written here
are read by GluonNLP and by ``numpy.load(allow_pickle=False)``.
"""

from __future__ import annotations

import io
import os
import zipfile
from typing import IO

import numpy as np
from tqdm import tqdm

from glueball.archives import LARGEST, ZipArchive
from glueball.errors import DataError
from glueball.files import atomic_write
from glueball_nlp_embedding_lm.embedding.formats.strings import read_header, read_strings, write_strings
from glueball_nlp_embedding_lm.embedding.formats.table import Contents, TokenIndex

_PIECE = 1 << 22
_MEMBERS = ("unknown_token", "idx_to_token", "idx_to_vec")


def read_npz(path: str | os.PathLike[str]) -> Contents:
    """Reads a .npz file as it is.

    Raises:
        DataError: the file is damaged, holds other arrays, more or fewer vectors than tokens, numbers that are not
            finite, or a token twice.
    """
    name = os.fspath(path)
    with ZipArchive(path) as archive:
        absent = [member for member in _MEMBERS if f"{member}.npy" not in archive.members]
        if absent:
            raise DataError(
                f"{name} is no file of GluonNLP's TokenEmbedding: it has no {', '.join(absent)}. "
                f"Received: {', '.join(list(archive.members)[:8])}."
            )
        # The vectors say how many tokens there can be: an array of text may honestly unpack to any size, since each
        # token takes as much as the longest.
        with archive.open("idx_to_vec.npy") as file:
            count = _vector_count(file, archive.members["idx_to_vec.npy"].file_size, f"{name}/idx_to_vec")
        unknown = _strings(archive, "unknown_token", 1)
        tokens = _strings(archive, "idx_to_token", count)
        with archive.open("idx_to_vec.npy") as file:
            vectors = _read_vectors(file, f"{name}/idx_to_vec", len(tokens))
    # An empty text stands for None.
    unknown_token = (unknown[0] if unknown else "") or None
    index = TokenIndex()
    index.update(zip(tokens, range(len(tokens)), strict=True))
    if len(index) != len(tokens):
        twice = next(token for position, token in enumerate(tokens) if index[token] != position)
        raise DataError(f"{name} has the token {twice!r} more than once. Expected each token once.")
    if unknown_token is not None:
        if unknown_token not in index:
            raise DataError(f"{name} names {unknown_token!r} as its unknown token, which is not among its tokens.")
        index.unknown_index = index[unknown_token]
    return Contents(tokens, index, vectors, unknown_token, unknown_token is not None)


def _strings(archive: ZipArchive, member: str, count: int) -> list[str]:
    file_name = f"{member}.npy"
    with archive.open(file_name, LARGEST) as file:
        size = archive.members[file_name].file_size
        return read_strings(file, size, f"{archive.place}/{member}", most=count, most_bytes=archive.limit)


def _vector_count(file: IO[bytes], size: int, name: str) -> int:
    """How many vectors the header announces, if the file can hold them."""
    shape, dtype = read_header(file, name)
    if dtype.kind != "f" or len(shape) != 2:
        raise DataError(
            f"{name}: expected floating-point vectors of shape (number of tokens, dimension). Received: {dtype}, shape "
            f"{shape}."
        )
    if shape[0] * max(shape[1] * dtype.itemsize, 1) <= size:
        return shape[0]
    raise DataError(f"{name}: the header announces shape {shape} of {dtype}, the file has {size:,} bytes.")


def _read_vectors(file: IO[bytes], name: str, count: int) -> np.ndarray:
    shape, dtype = read_header(file, name)
    if shape[0] != count:
        raise DataError(f"{name}: expected {count} vectors, one for each token. Received: shape {shape}.")
    dimension = shape[1]
    vectors = np.empty((count, dimension), np.float32)
    row_bytes = dimension * dtype.itemsize
    rows = max(_PIECE // max(row_bytes, 1), 1)
    with tqdm(total=count, desc=os.path.basename(os.path.dirname(name)), disable=None, leave=False) as bar:
        for start in range(0, count, rows):
            wanted = min(rows, count - start)
            content = file.read(wanted * row_bytes)
            if len(content) < wanted * row_bytes:
                raise DataError(f"{name} is cut short: {start} of {count} vectors are there.")
            piece = np.frombuffer(content, dtype).reshape(wanted, dimension)
            with np.errstate(over="ignore", invalid="ignore"):
                target = vectors[start : start + wanted]
                target[...] = piece
            if not np.isfinite(target).all():
                row = start + int(np.flatnonzero(~np.isfinite(target).all(axis=1))[0])
                raise DataError(f"{name}: the vector at index {row} has values that are not finite in float32.")
            bar.update(wanted)
    # Reading to the end makes zipfile compare the checksum.
    if file.read(1):
        raise DataError(f"{name}: there are more values than the header's shape {shape} says.")
    return vectors


def write_npz(
    path: str | os.PathLike[str], tokens: list[str], vectors: np.ndarray, unknown_token: str | None, compress: bool
) -> None:
    """Writes a .npz file; it takes its name when it is complete.

    Raises:
        DataError: a token ends with a zero character.
        OSError: the folder cannot be written or the disk is full; what was at ``path`` before is still there.
    """
    compression = zipfile.ZIP_DEFLATED if compress else zipfile.ZIP_STORED
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", compression) as archive:
        with archive.open(_info("unknown_token", compression), "w") as member:
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.array(unknown_token or ""), allow_pickle=False)
            member.write(buffer.getvalue())
        with archive.open(_info("idx_to_token", compression), "w", force_zip64=True) as member:
            write_strings(member, tokens)
        with archive.open(_info("idx_to_vec", compression), "w", force_zip64=True) as member:
            values = np.ascontiguousarray(vectors, "<f4")
            header = {"descr": "<f4", "fortran_order": False, "shape": values.shape}
            np.lib.format.write_array_header_1_0(member, header)  # type: ignore[arg-type]
            rows = max(_PIECE // max(values.shape[1] * 4, 1), 1)
            for start in range(0, len(values), rows):
                member.write(values[start : start + rows].tobytes())


def _info(member: str, compression: int) -> zipfile.ZipInfo:
    # A fixed time: the same vectors make the same file.
    info = zipfile.ZipInfo(f"{member}.npy", (1980, 1, 1, 0, 0, 0))
    info.compress_type = compression
    info.external_attr = 0o644 << 16
    return info

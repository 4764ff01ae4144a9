"""Checkpoints: one folder each, complete or absent, verified when loaded.

A checkpoint is written into a temporary folder, every file is synced, and one rename makes it visible: a crash at any
moment leaves the earlier checkpoints as they were. ``state.json`` holds the size and the SHA-256 of the other files and
a digest of itself, so damage that happens later is noticed too, and the one before is used instead. Arrays are
safetensors; nothing is pickled.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from safetensors.numpy import save_file

from glueball.engine.writing import cure
from glueball.errors import CheckpointError, WeightsError
from glueball.files import sync_directory, write_text
from glueball.weights.safetensors_file import read_safetensors

logger = logging.getLogger("glueball.engine")

FORMAT = 1
"""Version of the layout below; a reader refuses what it does not know."""

_STATE = "state.json"
_BEST = "best.json"
_NAME = re.compile(r"(\d{6,})-epoch-(\d+)-step-(\d+)")
_TEMPORARY = ".writing-"


@attrs.frozen(kw_only=True)
class Checkpoint:
    """Everything that a run needs to go on as if it had never stopped."""

    state: Mapping[str, Any]
    """What JSON can hold: position, loader, log offsets, best values, metrics so far."""
    weights: Mapping[str, np.ndarray]
    """Structural name -> values."""
    optimizer: Mapping[str, np.ndarray]
    """The state of the training step."""
    random: Mapping[str, np.ndarray]
    """The states of random generators."""
    path: Path | None = None


_ARRAY_FILES = ("weights", "optimizer", "random")


class CheckpointFolder:
    """The checkpoints of one run: saves, finds, verifies and prunes them."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder = folder
        self.keep = keep

    def clean(self) -> None:
        """Removes what a killed process was writing; only the holder of the run's lock may call it."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name.startswith(_TEMPORARY):
                    shutil.rmtree(path, ignore_errors=True)

    def paths(self) -> list[Path]:
        """The checkpoints, oldest first."""
        if not self.folder.is_dir():
            return []
        found = [path for path in self.folder.iterdir() if _NAME.fullmatch(path.name) and path.is_dir()]
        return sorted(found, key=lambda path: int(path.name.split("-", 1)[0]))

    def best(self) -> Path | None:
        """The checkpoint with the best monitored metric, if there is one."""
        try:
            name = json.loads((self.folder / _BEST).read_text(encoding="utf-8"))["checkpoint"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None
        # A name, not a way: a folder elsewhere is no checkpoint of this run.
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            return None
        path = self.folder / name
        return path if path.is_dir() else None

    def save(self, checkpoint: Checkpoint, *, epoch: int, step: int, is_best: bool = False) -> Path:
        """Writes a checkpoint and then removes those beyond ``keep`` (never the best one).

        Raises:
            CheckpointError: it could not be written, mostly because the disk is full; the earlier ones are untouched.
        """
        try:
            path = self._write(checkpoint, epoch, step)
        except Exception as error:
            # safetensors reports a full disk as an error class of its own, with the system's words in its message.
            if not isinstance(error, OSError) and type(error).__name__ != "SafetensorError":
                raise
            raise CheckpointError(self._failure(error)) from error
        if is_best:
            with contextlib.suppress(OSError):  # losing the mark costs a hint, not the run
                write_text(self.folder / _BEST, json.dumps({"checkpoint": path.name}) + "\n")
        self._prune()
        return path

    def load_last(self) -> Checkpoint | None:
        """The newest checkpoint that is whole; damaged ones are skipped with a warning. None if there are none at all.

        Raises:
            CheckpointError: there are checkpoints, and each of them is damaged.
        """
        problems = []
        for path in reversed(self.paths()):
            try:
                checkpoint = load_checkpoint(path)
            except CheckpointError as error:
                problems.append(str(error))
                logger.warning("%s Using the one before.", error)
                continue
            return checkpoint
        if problems:
            raise CheckpointError(
                f"None of the {len(problems)} checkpoints in {self.folder} can be used:\n  " + "\n  ".join(problems)
            )
        return None

    def _write(self, checkpoint: Checkpoint, epoch: int, step: int) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = self.paths()
        serial = int(paths[-1].name.split("-", 1)[0]) + 1 if paths else 1
        target = self.folder / f"{serial:06d}-epoch-{epoch:04d}-step-{step:09d}"
        temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY, dir=self.folder))
        try:
            files = {}
            for name in _ARRAY_FILES:
                file = temporary / f"{name}.safetensors"
                # Not ascontiguousarray, which would give a scalar a dimension.
                arrays = {key: np.asarray(value, order="C") for key, value in getattr(checkpoint, name).items()}
                save_file(arrays, file)
                _sync(file)
                files[file.name] = {"bytes": file.stat().st_size, "sha256": _sha256(file)}
            content = {"format": FORMAT, "files": files, "state": checkpoint.state}
            text = json.dumps({**content, "digest": _digest(content)}, indent=1)
            with open(temporary / _STATE, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o755)
            sync_directory(temporary)
            os.rename(temporary, target)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync_directory(self.folder)
        return target

    def _prune(self) -> None:
        best = self.best()
        for path in self.paths()[: -self.keep]:
            if path != best:
                # Renamed first: a folder that is half deleted must not look like a checkpoint.
                doomed = path.with_name(f"{_TEMPORARY}deleting-{path.name}")
                with contextlib.suppress(OSError):
                    os.rename(path, doomed)
                    shutil.rmtree(doomed, ignore_errors=True)

    def _failure(self, error: Exception) -> str:
        paths = self.paths()
        last = f"The last good one is {paths[-1]}." if paths else "There is no earlier one."
        return f"A checkpoint could not be written to {self.folder}: {error}. {last} {cure(error)}"


def load_checkpoint(path: Path) -> Checkpoint:
    """Reads and verifies one checkpoint.

    Raises:
        CheckpointError: a file is missing or differs from what was written; the message names it.
    """
    try:
        content = json.loads((path / _STATE).read_text(encoding="utf-8"))
        digest = content.pop("digest")
        files, state, version = content["files"], content["state"], content["format"]
        if not isinstance(files, dict) or not isinstance(state, dict):
            raise TypeError("its files and its state are no objects")
    except (OSError, ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
        raise CheckpointError(f"Checkpoint {path} is damaged: its {_STATE} cannot be read ({error}).") from error
    if version != FORMAT:
        raise CheckpointError(
            f"Checkpoint {path} has format {version}; this version of Glueball reads format {FORMAT}. "
            f"Use the version that wrote it."
        )
    if digest != _digest(content):
        raise CheckpointError(f"Checkpoint {path} is damaged: {_STATE} was changed after it was written.")
    arrays = {}
    for name in _ARRAY_FILES:
        file = path / f"{name}.safetensors"
        expected = files.get(file.name)
        if not isinstance(expected, dict):
            raise CheckpointError(f"Checkpoint {path} is damaged: its {_STATE} does not tell what {file.name} was.")
        try:
            size, received = file.stat().st_size, _sha256(file)
        except OSError as error:
            raise CheckpointError(f"Checkpoint {path} is damaged: {file.name} cannot be read ({error}).") from error
        if size != expected.get("bytes") or received != expected.get("sha256"):
            raise CheckpointError(
                f"Checkpoint {path} is damaged: {file.name} has {size} bytes and SHA-256 {received[:16]}..., "
                f"written were {expected.get('bytes')} bytes and {str(expected.get('sha256'))[:16]}...."
            )
        try:
            # Copied: the step writes to what it gets, and a checkpoint that is pruned must not stay mapped.
            arrays[name] = {key: value.copy() for key, value in read_safetensors(file).items()}
        except WeightsError as error:
            raise CheckpointError(f"Checkpoint {path} is damaged: {error}") from error
    return Checkpoint(state=state, path=path, **arrays)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

"""Where a run keeps its files, and the lock that keeps a second process out of it.

RUN/checkpoints/             what a resumed run needs
RUN/weights/{best,last}.safetensors
RUN/recipe.json              what was asked for
RUN/run.json                 what prediction needs: task, model, classes, preprocessing
RUN/environment.json         what it ran on
RUN/log.jsonl                one JSON object a line
RUN/events.out.tfevents.*    the same for TensorBoard
RUN/curves.png, RUN/predictions.png, or .html where there are no pictures to show
RUN/profile.json             where the time of the steps went, when that was asked for

A cross-validation has a folder too, with recipe.json, cross_validation.json and a run folder for each fold
(``glueball.engine.cross_validation``).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from glueball.engine.writing import cure, writing
from glueball.errors import OptionError, TrainingError
from glueball.files import remove_unfinished, write_text

_LOCK = ".lock"
# What a run writes. --overwrite removes these and nothing else: a mistyped --out must not cost anybody their files.
_OWN_FILES = (
    "recipe.json",
    "run.json",
    "environment.json",
    "log.jsonl",
    "curves.png",
    "predictions.png",
    "predictions.html",
    "profile.json",
)
_FOLD = re.compile(r"fold-\d{2,}")
_OWN_FOLDERS = ("checkpoints", "weights", "bad_batches")
_REMOVING = ".removing-"


class VanishedFolderError(TrainingError):
    """The folder of a run is no longer there, or is another one, while the run writes to it."""


class RunFolder:
    """The folder of one run, locked while a trainer uses it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._lock: Any = None
        self._made: list[Path] = []

    checkpoints = property(lambda self: self.path / "checkpoints")
    weights = property(lambda self: self.path / "weights")
    recipe = property(lambda self: self.path / "recipe.json")
    description = property(lambda self: self.path / "run.json")
    environment = property(lambda self: self.path / "environment.json")
    log = property(lambda self: self.path / "log.jsonl")
    curves = property(lambda self: self.path / "curves.png")
    predictions = property(lambda self: self.path / "predictions.png")
    profile = property(lambda self: self.path / "profile.json")
    cross_validation = property(lambda self: self.path / "cross_validation.json")

    def fold(self, number: int) -> RunFolder:
        """The folder of a fold, counted from 1."""
        return RunFolder(self.path / f"fold-{number:02d}")

    def is_used(self) -> bool:
        """Whether the folder holds anything besides a lock."""
        return self.path.is_dir() and any(item.name != _LOCK for item in self.path.iterdir())

    def open(self, *, resume: bool, overwrite: bool) -> None:
        """Creates or takes over the folder and locks it. What is in it stays: see ``remove_run``.

        Raises:
            OptionError: the folder has content and neither ``resume`` nor ``overwrite`` says what to do with it.
            TrainingError: another process trains in it, or it cannot be written.
        """
        if self.path.exists() and not self.path.is_dir():
            raise OptionError(f"A run needs a folder. {self.path} is a file; choose another with --out.")
        if self.is_used() and not resume and not overwrite:
            hint = "--resume goes on with it, " if self.recipe.exists() else ""
            raise OptionError(
                f"The run folder {self.path} is not empty. {hint}--overwrite starts anew in it, "
                f"--out takes another folder."
            )
        self._made = [folder for folder in (self.path, *self.path.parents) if not folder.exists()]
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._take_lock()
            self._clean()
        except OSError as error:
            self.close()
            raise TrainingError(
                f"The run folder {self.path} cannot be written: {error}. Choose another with --out. Or: {cure(error)}"
            ) from error

    def check(self) -> None:
        """Whoever is about to write asks first: a folder that was removed must not come back with half of a run in it.

        Raises:
            VanishedFolderError: the folder that ``open`` locked is gone, or another one has taken its place.
        """
        if self._lock is None or _is_at(self._lock, self.path / _LOCK):
            return
        # Somebody may have removed the lock alone.
        with contextlib.suppress(OSError):
            if self.recipe.exists() and not (self.path / _LOCK).exists():
                return
        raise VanishedFolderError(
            f"The run folder {self.path} is gone: it was removed, moved or unmounted while the run went on. What was "
            "in it (checkpoints, weights, log) can only come back from where it was moved, or from a backup."
        )

    def close(self) -> None:
        """Gives the lock back. An attempt that failed before it wrote anything leaves no trace."""
        if self._lock is not None:
            with contextlib.suppress(OSError):  # Windows removes no open file; a lock that stays harms nobody
                if _is_at(self._lock, self.path / _LOCK):
                    (self.path / _LOCK).unlink()
            self._lock.close()
            self._lock = None
        with contextlib.suppress(OSError):  # the first folder that is not empty ends it
            for folder in self._made:
                folder.rmdir()
        self._made = []

    def write_json(self, path: Path, content: Any) -> None:
        """Writes readable JSON under a temporary name and renames it.

        Raises:
            VanishedFolderError: as ``check``.
        """
        self.check()
        with writing(path):
            write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    def read_json(self, path: Path) -> Any:
        """Reads what ``write_json`` wrote.

        Raises:
            OptionError: the file is missing or not JSON, so the folder is no run (or no longer one).
        """
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            if path != self.cross_validation and self.cross_validation.exists():
                raise OptionError(
                    f"{self.path} holds a cross-validation: every fold has a run of its own. Name one of them, such as "
                    f"{self.fold(1).path}."
                ) from None
            raise OptionError(
                f"{self.path} is not the folder of a run: it has no {path.name}. "
                f"Expected the folder that `glueball train` wrote (--out)."
            ) from None
        except (OSError, ValueError, RecursionError) as error:
            raise OptionError(f"{path} cannot be read: {error}") from error

    def remove_run(self, keep: RunFolder | None = None) -> None:
        """Removes the run or the cross-validation in the folder, and nothing that somebody else put there.

        Args:
            keep: a fold's folder that its own trainer has opened, and will clear itself.

        Raises:
            TrainingError: another process trains a fold; then nothing is removed.
        """
        with contextlib.ExitStack() as locks:
            # Only beside the file that says so are such folders folds of ours.
            folds = self._folds() if self.cross_validation.exists() else []
            others = [fold for fold in folds if keep is None or fold.path != keep.path]
            for fold in others:
                fold.open(resume=True, overwrite=False)
                locks.callback(fold._remove_if_empty)
                locks.callback(fold.close)
            for fold in others:
                fold._remove_own()
            self.cross_validation.unlink(missing_ok=True)
            self._remove_own()

    def _folds(self) -> list[RunFolder]:
        found = [path for path in sorted(self.path.iterdir()) if _FOLD.fullmatch(path.name) and path.is_dir()]
        return [RunFolder(path) for path in found if (path / "recipe.json").exists()]

    def _remove_if_empty(self) -> None:
        with contextlib.suppress(OSError):
            self.path.rmdir()

    def _remove_own(self) -> None:
        # Folders first, and each by one rename: a process that is killed here must not leave a part of the old run that
        # --resume would go on with, or weights that it would take for its own.
        for name in _OWN_FOLDERS:
            if (self.path / name).is_dir():
                doomed = self.path / f"{_REMOVING}{name}"
                os.rename(self.path / name, doomed)
                shutil.rmtree(doomed)
        for name in _OWN_FILES:
            (self.path / name).unlink(missing_ok=True)
        for events in self.path.glob("events.out.tfevents.*"):
            events.unlink()

    def _clean(self) -> None:
        """Removes what a killed process was writing or removing; only the holder of the lock may."""
        for name in (*_OWN_FILES, self.cross_validation.name):
            remove_unfinished(self.path / name)
        for name in _OWN_FOLDERS:
            for path in (self.path / name).glob(".*.tmp"):
                path.unlink(missing_ok=True)
            shutil.rmtree(self.path / f"{_REMOVING}{name}", ignore_errors=True)

    def _take_lock(self) -> None:
        while True:
            # The lock lives as long as the file is open. Without a buffer, a full disk cannot hit while it is closed.
            file: Any = open(self.path / _LOCK, "a+b", buffering=0)  # noqa: SIM115
            try:
                _lock_file(file)
            except OSError:
                file.seek(0)
                owner = file.read().decode(errors="replace").strip()
                file.close()
                raise TrainingError(
                    f"Another process{f' ({owner})' if owner else ''} trains in {self.path}. "
                    f"Wait for it, stop it, or take another folder with --out."
                ) from None
            if _is_at(file, self.path / _LOCK):
                break
            file.close()
        # The system releases the lock when this process ends, however it ends: no stale locks.
        self._lock = file
        with contextlib.suppress(OSError):  # on a full disk it holds all the same, only without a name
            file.truncate(0)
            file.write(f"process {os.getpid()}\n".encode())


def _is_at(file: Any, path: Path) -> bool:
    """Whether the open file is still the one at ``path``: its last owner removes a lock, and may just have done so."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:  # it is not there, or what it was on is not
        return False


def _lock_file(file: Any) -> None:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

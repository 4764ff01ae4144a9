"""The moments of a run at which it can be killed, by name and number, and the SIGKILL itself.

``Moments.install`` wraps the engine's own functions in a process that is about to train. From then on the process knows
in which phase of a run it is, writes that to memory that its parent shares, and counts every moment it passes: before
and after each step, each batch of a validation, each line of a log, and each call that changes a file or makes it safe.
A ``Plan`` names one of these moments, and there the process sends itself SIGKILL: nothing is flushed, closed or caught.
"""

from __future__ import annotations

import mmap
import os
import signal
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import attrs
import numpy as np

PHASES = (
    "start-up",
    "waiting for data",
    "first step",
    "step",
    "last step",
    "validation",
    "logging",
    "saving a checkpoint",
    "saving weights",
    "finishing",
    "around folds",
    "after the end",
)
"""What a run is doing. "logging" is between a line of the log and the checkpoint that knows of it."""

_FILE_OPERATIONS = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir", "chmod")


@attrs.frozen
class Plan:
    """The moment to die at: the ``count``-th time that ``label`` is passed in ``phase``."""

    phase: str
    label: str
    count: int


class Board:
    """One number in memory that is shared with forked children: the phase that they are in."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self.phase = PHASES[0]

    @property
    def phase(self) -> str:
        return PHASES[struct.unpack_from("<q", self._memory)[0]]

    @phase.setter
    def phase(self, name: str) -> None:
        struct.pack_into("<q", self._memory, 0, PHASES.index(name))


def kill() -> None:
    """Ends this process as ``kill -9`` does."""
    os.kill(os.getpid(), signal.SIGKILL)
    threading.Event().wait()  # the signal may need a moment


class Moments:
    """Counts the moments of this process, and kills it at the planned one."""

    def __init__(self, board: Board, plan: Plan | None = None) -> None:
        self.board = board
        self.plan = plan
        self.counts: Counter[tuple[str, str]] = Counter()
        self.base = PHASES[0]
        self._within: list[str] = []

    @property
    def phase(self) -> str:
        return self._within[-1] if self._within else self.base

    def settle(self, phase: str) -> None:
        """What the process does whenever it does nothing more special."""
        self.base = phase
        self.board.phase = self.phase

    @contextmanager
    def within(self, phase: str | None) -> Iterator[None]:
        """A part of the run that is a phase of its own; None stays in the present one."""
        if phase is None:
            yield
            return
        self._within.append(phase)
        self.board.phase = phase
        try:
            yield
        finally:
            self._within.pop()
            self.board.phase = self.phase

    def comes(self, label: str) -> bool:
        """Counts a moment; whether it is the one to die at. Of the main thread only, whose moments come in order."""
        if threading.current_thread() is not threading.main_thread():
            return False
        key = (self.phase, label)
        self.counts[key] += 1
        return self.plan is not None and self.plan == Plan(*key, self.counts[key])

    def at(self, label: str) -> None:
        """Passes a moment, or dies at it."""
        if self.comes(label):
            kill()

    # ------------------------------------------------------------------------------------------------------------------
    # Wrapping
    # ------------------------------------------------------------------------------------------------------------------

    def around(
        self, owner: Any, name: str, label: str, phase: str | Callable[..., str] | None = None, after: str | None = None
    ) -> None:
        """Makes ``owner.name`` pass a moment before and after it; ``after`` is the phase that then begins."""
        real = getattr(owner, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return real(*arguments, **options)
            with self.within(phase(*arguments) if callable(phase) else phase):
                self.at(f"before {label}")
                value = real(*arguments, **options)
                self.at(f"after {label}")
            if after is not None:
                self.settle(after)
            return value

        setattr(owner, name, wrapped)

    def torn(self, owner: Any, name: str, label: str, half: Callable[..., None]) -> None:
        """Makes ``owner.name`` pass a moment at which only half of what it writes is there; ``half`` writes that."""
        real = getattr(owner, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            if self.comes(f"half of {label}"):
                half(real, *arguments, **options)
                kill()
            return real(*arguments, **options)

        setattr(owner, name, wrapped)

    def install_files(self) -> None:
        """The calls that change files, wherever they are made."""
        from glueball.engine import checkpoint

        for operation in _FILE_OPERATIONS:
            self.around(os, operation, operation)
        self.torn(checkpoint, "save_file", "a file of arrays", _half_of_arrays)
        self.around(checkpoint, "save_file", "a file of arrays")

    def install(self) -> None:
        """All moments of a run. The run also writes the indices of each batch that it steps on into its log."""
        import resume_families

        from glueball.engine import cross_validation, logs, measures, prefetch, run_folder, tensorboard, trainer

        self.install_files()
        plain: tuple[tuple[Any, str, str], ...] = (
            (run_folder.RunFolder, "open", "opening the folder"),
            (run_folder.RunFolder, "write_json", "a JSON file"),
            (trainer.Trainer, "_build_network", "building the network"),
            (trainer.Trainer, "_restore", "restoring"),
            (trainer.Trainer, "_begin", "the first line"),
            (logs.RunLog, "truncate", "cutting the log"),
            (prefetch.Prefetcher, "_next", "a batch comes"),
            (resume_families.Recorded, "complete_batch", "the batch is complete"),
            (measures.Measurements, "add", "the results are noted"),
        )
        for owner, name, label in plain:
            self.around(owner, name, label)
        self.torn(logs.JsonLog, "write", "a line", _half_of_line)
        self.torn(tensorboard.EventWriter, "write", "an event", _half_of_event)
        phases: tuple[tuple[Any, str, str, str | None], ...] = (
            (logs.JsonLog, "write", "a line", None),
            (tensorboard.EventWriter, "write", "an event", None),
            (trainer.Trainer, "_evaluate", "validation", "validation"),
            (trainer.Trainer, "_log_interval", "an interval", "logging"),
            (trainer.Trainer, "_close_epoch", "closing the epoch", "logging"),
            (trainer.Trainer, "_save", "a checkpoint", "saving a checkpoint"),
            (trainer.Trainer, "_save_weights", "weights", "saving weights"),
            (trainer.Trainer, "_finish", "finishing", "finishing"),
            (cross_validation._CrossValidation, "_write", "the results", "around folds"),
            (cross_validation._CrossValidation, "_take_over", "taking the folder over", "around folds"),
        )
        for owner, name, label, phase in phases:
            self.around(owner, name, label, phase)
        self.around(trainer.Trainer, "_prepare", "preparing", after="waiting for data")
        self.around(trainer.Trainer, "fit", "the run", after="after the end")
        self.around(cross_validation._CrossValidation, "_train", "a fold", after="around folds")
        _note_indices(trainer.Trainer)
        self.around(trainer.Trainer, "_train_batch", "the step", _step_phase)
        _tick_in_validation(trainer, self)


def _step_phase(trainer: Any, *arguments: Any) -> str:
    progress = trainer._progress
    if progress.epoch == 0 and progress.batch == 0:
        return "first step"
    is_last = progress.epoch == trainer.recipe.epochs - 1 and progress.batch >= len(trainer._loader) - 1
    return "last step" if is_last else "step"


def _note_indices(trainer: Any) -> None:
    """After each step a line of the log: which samples it was made of, and the checksum of all that it saw."""
    real = trainer._train_batch

    def noting(self: Any, loaded: Any) -> None:
        place = {"epoch": self._progress.epoch + 1, "batch": self._progress.batch}
        real(self, loaded)
        checksum = 0
        for array in loaded.host:
            checksum = zlib.crc32(np.ascontiguousarray(array).tobytes(), checksum)
        samples = len(self._loader.dataset)
        self._log.event("seen", **place, of=samples, indices=loaded.host[-1].tolist(), checksum=checksum)

    trainer._train_batch = noting


def _tick_in_validation(trainer: Any, moments: Moments) -> None:
    real = trainer.evaluate

    def evaluating(*arguments: Any, tick: Callable[[], None] | None = None, **options: Any) -> Any:
        def passing() -> None:
            moments.at("a batch is measured")
            if tick is not None:
                tick()

        return real(*arguments, tick=passing, **options)

    trainer.evaluate = evaluating


def _half_of_arrays(save: Callable[..., None], arrays: Any, path: Any) -> None:
    save(arrays, path)
    os.truncate(path, os.path.getsize(path) // 2)


def _half_of_line(write: Callable[..., None], log: Any, event: str, values: Any) -> None:
    log._file.write(b'{"event": "' + event.encode()[: len(event) // 2])
    log._file.flush()


def _half_of_event(write: Callable[..., None], events: Any, step: int, values: Any) -> None:
    from glueball.engine import tensorboard

    content = tensorboard.record(tensorboard.scalar_event(0.0, step, values))
    events._file.write(content[: len(content) // 2])
    events._file.flush()

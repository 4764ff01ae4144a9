"""Kills during saving: a child does nothing but save checkpoints, is killed, and the last checkpoint must be whole.

Every checkpoint is a function of its number, so that the parent can tell to the last bit whether what it loads is what
was saved. Each child goes on in the folder that the killed one left.
"""

from __future__ import annotations

import functools
import mmap
import struct
from collections import Counter
from pathlib import Path
from random import Random
from typing import Any

import attrs
import numpy as np
from resume_moments import Board, Moments, Plan
from resume_server import fork_and_wait

from glueball.engine.checkpoint import Checkpoint, CheckpointFolder
from glueball.errors import CheckpointError

_PHASE = "saving a checkpoint"
_SAVES = 4
"""A child that is not killed saves so many times."""


@attrs.define
class Totals:
    """What came of the kills."""

    trials: int = 0
    kills: int = 0
    by_moment: Counter[str] = attrs.field(factory=Counter)
    unloadable: int = 0
    """Kills after which no checkpoint could be loaded although one had been saved."""
    wrong: int = 0
    """Kills after which a checkpoint was loaded that is not what was saved, or an older one than it should be."""
    problems: list[str] = attrs.field(factory=list)


class _Numbers:
    """In shared memory: the number of the checkpoint that is being saved, and of the last one that is."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def __getitem__(self, place: int) -> int:
        value: int = struct.unpack_from("<q", self._memory, 8 * place)[0]
        return value

    def __setitem__(self, place: int, number: int) -> None:
        struct.pack_into("<q", self._memory, 8 * place, number)


def checkpoint(number: int, size: int) -> Checkpoint:
    """The checkpoint of a number: about 12 ``size`` bytes."""
    random = np.random.default_rng(number)
    count = np.array(number, np.int64)
    weights: dict[str, np.ndarray] = {"weight": random.standard_normal((size, 1)).astype(np.float32), "count": count}
    optimizer: dict[str, np.ndarray] = {"momentum/weight": random.standard_normal(size), "updates": count}
    state = {"number": number, "progress": {"history": [{"epoch": n, "loss": float(n)} for n in range(number % 30)]}}
    return Checkpoint(state=state, weights=weights, optimizer=optimizer, random={"keys": np.arange(624)})


def _unlike(loaded: Checkpoint, number: int, size: int) -> list[str]:
    expected = checkpoint(number, size)
    found = [] if loaded.state == expected.state else ["state"]
    for part in ("weights", "optimizer", "random"):
        one, other = getattr(expected, part), getattr(loaded, part)
        same = one.keys() == other.keys() and all(
            one[key].dtype == other[key].dtype and np.array_equal(one[key], other[key]) for key in one
        )
        found += [] if same else [part]
    return found


def kill_while_saving(folder: Path, kills: int, seed: int) -> Totals:
    """Kills children until ``kills`` of them died while they saved; half at named moments, half at random times."""
    random = Random(seed)
    totals = Totals()
    board, numbers = Board(), _Numbers()
    moments: list[tuple[str, int]] = []
    seconds = 0.0
    while totals.kills < kills:
        # Some folders are new, so that the first checkpoint of all is hit too.
        run = folder / f"run-{random.randrange(12):02d}-{totals.trials // 60:03d}"
        size, keep = random.choice((300, 3_000, 30_000)), random.choice((1, 2, 3))
        before = _last_number(run)
        numbers[0] = numbers[1] = before
        job = _Saving(run, numbers, before, keep, sizes=_sizes(run, size), best=random.random() < 0.5)
        options: dict[str, Any] = {}
        plan = None
        if moments and random.random() < 0.5:
            label, often = random.choice(moments)
            plan = Plan(_PHASE, label, random.randint(1, often))
        elif moments:
            options["after"] = random.uniform(0.0, 1.1 * seconds)
        board.phase = "start-up"
        reply = fork_and_wait(functools.partial(job, Moments(board, plan)), board, **options)
        totals.trials += 1
        if "error" in reply:
            totals.problems.append(f"trial {totals.trials}: {reply['error']}")
            break
        if not reply["killed"]:
            # The first child of all tells which moments there are.
            moments = [(label, often) for phase, label, often in reply["counts"] if phase == _PHASE]
            seconds = max(seconds, reply["seconds"])
        elif numbers[0] > before:
            totals.kills += 1
            totals.by_moment[plan.label if plan is not None else "at a random time"] += 1
        _check(job, numbers, totals)
    return totals


def _sizes(run: Path, size: int) -> int:
    """The size of a run's checkpoints is decided once."""
    run.mkdir(parents=True, exist_ok=True)
    note = run / "size"
    if not note.exists():
        note.write_text(str(size))
    return int(note.read_text())


def _last_number(run: Path) -> int:
    found = CheckpointFolder(run / "checkpoints").load_last()
    return 0 if found is None else int(found.state["number"])


@attrs.frozen
class _Saving:
    """What a child does."""

    run: Path
    numbers: _Numbers
    first: int
    keep: int
    sizes: int
    best: bool

    def __call__(self, moments: Moments) -> dict[str, Any]:
        moments.install_files()
        moments.settle(_PHASE)
        folder = CheckpointFolder(self.run / "checkpoints", keep=self.keep)
        folder.clean()  # as a run does that takes over what a killed one left
        for number in range(self.first + 1, self.first + 1 + _SAVES):
            made = checkpoint(number, self.sizes)
            self.numbers[0] = number
            folder.save(made, epoch=number, step=number, is_best=self.best and number % 3 == 0)
            self.numbers[1] = number
        return {"counts": [[*key, count] for key, count in moments.counts.items()]}


def _check(job: _Saving, numbers: _Numbers, totals: Totals) -> None:
    begun, finished = numbers[0], numbers[1]
    folder = CheckpointFolder(job.run / "checkpoints", keep=job.keep)
    try:
        loaded = folder.load_last()
    except CheckpointError as error:
        totals.unloadable += 1
        totals.problems.append(f"trial {totals.trials}: {error}")
        return
    if loaded is None:
        if finished:
            totals.unloadable += 1
            totals.problems.append(f"trial {totals.trials}: checkpoint {finished} is gone")
        return
    number = int(loaded.state["number"])
    # The one that was being saved is there or not, never half; the one before must not be lost.
    wrong = [] if number in (begun, finished) else [f"number {number}, expected {begun} or {finished}"]
    wrong += _unlike(loaded, number, job.sizes)
    damaged = [path.name for path in folder.paths() if _is_damaged(path)]
    wrong += [f"{name} looks like a checkpoint and is none" for name in damaged]
    if wrong:
        totals.wrong += 1
        totals.problems.append(f"trial {totals.trials}: {', '.join(wrong)}")


def _is_damaged(path: Path) -> bool:
    from glueball.engine.checkpoint import load_checkpoint

    try:
        load_checkpoint(path)
    except CheckpointError:
        return True
    return False

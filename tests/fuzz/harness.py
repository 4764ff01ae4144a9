"""Runs a reader over many damaged files and holds it to its promise.

Each input must give an answer that the target finds right, or an error of ``glueball.errors``. Anything else is a
failure: another exception or a warning that is not meant for users, a crash, more than ``CPU_SECONDS`` of the
processor's time, or more memory than ``10 * input + constant``. Memory is measured in three ways:

- Always: RLIMIT_AS lets the process grow by ``ADDRESS_SPACE`` at most, so that a large allocation fails even where
  nothing is written to it, and the high-water mark of the resident memory (getrusage) may rise by ``10 * input +
  RESIDENT`` in a block of inputs.
- For one input in ``TRACED_EVERY``: tracemalloc, which counts what Python and NumPy allocate, must stay below
  ``10 * input + TRACED``.

Inputs run in blocks, each in a process of its own, which is forked: a crash costs one block, whose input is known from
memory that is shared with the parent, and the rest of the block goes on behind it.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import mmap
import os
import resource
import signal
import struct
import sys
import tempfile
import time
import traceback
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path

import attrs
from mutation import Mutation, Parts, generator

from glueball.errors import GlueballError

CPU_SECONDS = 10.0
STALLED_SECONDS = 180.0
"""Without a new input for so long, a block is killed: code in C that does not end cannot be interrupted."""
ADDRESS_SPACE = 256 << 20
RESIDENT = 16 << 20
TRACED = 16 << 20
TRACED_EVERY = 128
BLOCK = 20_000
MOST_FAILURES = 20
"""Failures of a block after which it is not worth going on."""

_PROGRESS = struct.Struct("<qqq")  # index, accepted, rejected


class HangError(BaseException):
    """An input took too long. No Exception, so that no reader swallows it."""


@attrs.define(eq=False)
class Target:
    """A reader and how to damage its files.

    ``read(parts, folder)`` reads an input and checks what comes out; it may write into ``folder``, which is empty at
    first and the same for all inputs. ``memory`` is what it may use beyond the usual constants, with the reason in
    ``because``.
    """

    name: str
    mutation: Mutation
    read: Callable[[Parts, Path], None]
    memory: int = 0
    because: str = ""

    def make(self, seed: int, index: int) -> Parts:
        """The input of a number."""
        return self.mutation(generator(seed, self.name, index))


@attrs.define
class Totals:
    """What became of the inputs."""

    inputs: int = 0
    accepted: int = 0
    rejected: int = 0
    seconds: float = 0.0
    failures: list[str] = attrs.field(factory=list)

    def add(self, other: Totals) -> None:
        self.inputs += other.inputs
        self.accepted += other.accepted
        self.rejected += other.rejected
        self.seconds += other.seconds
        self.failures += other.failures


def check_corpus(target: Target, folder: Path) -> None:
    """Every sample of the corpus must be read: a target whose samples are refused tests nothing."""
    for number, parts in enumerate(target.mutation.corpus):
        try:
            target.read(parts, folder)
        except BaseException as error:
            raise AssertionError(f"{target.name}: sample {number} of the corpus is refused: {error}") from error


def quiet_warnings() -> None:
    """Warnings meant for users are answers; all others are failures."""
    warnings.simplefilter("error")
    warnings.simplefilter("ignore", UserWarning)


def _on_alarm(number: int, frame: object) -> None:
    raise HangError(f"more than {CPU_SECONDS:.0f} seconds of processor time")


def run_one(target: Target, parts: Parts, folder: Path, *, traced: bool = False) -> tuple[bool, str]:
    """(whether the input was accepted, what is wrong with that or nothing)."""
    size = sum(map(len, parts))
    accepted, problem = False, ""
    if traced:
        tracemalloc.start()
    signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)
    try:
        target.read(parts, folder)
        accepted = True
    except GlueballError as error:
        if not str(error).strip():
            problem = f"{type(error).__name__} without a message"
    except BaseException:
        problem = traceback.format_exc(limit=-6)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        if traced:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            limit = 10 * size + TRACED + target.memory
            if peak > limit and not problem:
                problem = f"{peak:,} bytes were allocated for an input of {size:,} bytes, expected at most {limit:,}"
    return accepted, problem


def save(target: Target, seed: int, index: int, parts: Parts, problem: str, failures: Path) -> str:
    """Keeps an input that failed; gives a line that names it."""
    failures.mkdir(parents=True, exist_ok=True)
    name = f"{target.name}-{seed}-{index}"
    for number, part in enumerate(parts):
        (failures / f"{name}.{number}").write_bytes(part)
    (failures / f"{name}.txt").write_text(problem, encoding="utf-8", errors="backslashreplace")
    last = problem.strip().splitlines()[-1] if problem.strip() else problem
    return f"{name}: {last[:300]}"


def _child(target: Target, seed: int, start: int, stop: int, shared: mmap.mmap, report: int, failures: Path) -> None:
    quiet_warnings()
    arm()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A crash is told by the parent, in a line.
    faulthandler.disable()
    found = accepted = rejected = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=fast_folder()) as name:
        folder = Path(name)
        for parts in target.mutation.corpus:
            run_one(target, parts, folder)
        with open("/proc/self/statm", encoding="ascii") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        allowed = used + ADDRESS_SPACE + target.memory
        resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
        gc.collect()
        gc.freeze()
        base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for index in range(start, stop):
            _PROGRESS.pack_into(shared, 0, index, accepted, rejected)
            parts = target.make(seed, index)
            is_accepted, problem = run_one(target, parts, folder, traced=index % TRACED_EVERY == 0)
            grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base) * 1024
            size = sum(map(len, parts))
            if grown > 10 * size + RESIDENT + target.memory:
                base += grown // 1024
                problem = problem or f"the resident memory grew by {grown:,} bytes for an input of {size:,} bytes"
            if problem:
                found += 1
                # At once: a crash later in the block must not take it along.
                line = save(target, seed, index, parts, problem, failures)
                os.write(report, json.dumps({"failure": line}).encode() + b"\n")
                if found >= MOST_FAILURES:
                    break
            elif is_accepted:
                accepted += 1
            else:
                rejected += 1
        else:
            index = stop - 1
    os.write(report, json.dumps({"stop": index + 1, "accepted": accepted, "rejected": rejected}).encode() + b"\n")


def fast_folder() -> str | None:
    """Where files live in memory, if there is such a place."""
    return "/dev/shm" if os.path.isdir("/dev/shm") and os.access("/dev/shm", os.W_OK) else None


def run_block(target: Target, seed: int, start: int, stop: int, failures: Path) -> Totals:
    """The inputs from ``start`` to ``stop`` in a process of their own, or in several if it crashes."""
    totals = Totals()
    begin = time.monotonic()
    while start < stop and len(totals.failures) < MOST_FAILURES:
        shared = mmap.mmap(-1, _PROGRESS.size)
        _PROGRESS.pack_into(shared, 0, start, 0, 0)
        source, sink = os.pipe()
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.close(source)
                _child(target, seed, start, stop, shared, sink, failures)
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(sink)
        how = _wait(child, shared)
        content = b""
        while piece := os.read(source, 1 << 16):
            content += piece
        os.close(source)
        lines = [json.loads(line) for line in content.splitlines()]
        totals.failures += [line["failure"] for line in lines if "failure" in line]
        result = next((line for line in lines if "stop" in line), None)
        if result is not None:
            totals.accepted += result["accepted"]
            totals.rejected += result["rejected"]
            totals.inputs += result["stop"] - start
            start = stop
        else:
            index, accepted, rejected = _PROGRESS.unpack_from(shared, 0)
            totals.failures.append(save(target, seed, index, target.make(seed, index), how, failures))
            totals.accepted += accepted
            totals.rejected += rejected
            totals.inputs += index + 1 - start
            start = index + 1
        shared.close()
    totals.seconds = time.monotonic() - begin
    return totals


def _wait(child: int, shared: mmap.mmap) -> str:
    """Waits for a block; how it ended, in words."""
    last, since = -1, time.monotonic()
    pause = 0.002
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            return f"the process crashed: {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        (index, _, _) = _PROGRESS.unpack_from(shared, 0)
        if index != last:
            last, since = index, time.monotonic()
        elif time.monotonic() - since > STALLED_SECONDS:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return f"the process hung: no answer for {STALLED_SECONDS:.0f} seconds"
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def arm() -> None:
    """Lets the alarm of ``run_one`` ring in this process."""
    signal.signal(signal.SIGPROF, _on_alarm)

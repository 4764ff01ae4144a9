"""Fuzzes the readers for long: ``python tests/fuzz/run.py --count 1000000 --state build/fuzz``.

Inputs are numbered, so a run that was stopped goes on where it was, and any input can be made again from the seed, the
target and its number (``--replay params:12345``). Totals are kept in ``totals-<seed>.json`` in the folder of the state,
inputs that fail in ``failures`` there.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

import attrs

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import harness
from harness import Target, Totals

SEED = 20260721


def all_targets() -> dict[str, Callable[[], Target]]:
    """Target -> what makes it, for all that is installed."""
    import targets_core

    found = dict(targets_core.TARGETS)
    if find_spec("glueball_cv_classification"):
        import targets_cv

        found |= targets_cv.TARGETS
    if find_spec("glueball_nlp_embedding_lm"):
        import targets_nlp

        found |= targets_nlp.TARGETS
    return found


def build(name: str) -> Target:
    """A target, of which every sample is read without an error first."""
    # Samples are made with random numbers; they must be the same on every day.
    random.seed(0)
    target = all_targets()[name]()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        harness.check_corpus(target, Path(folder))
    return target


def fuzz(target: Target, seed: int, start: int, stop: int, failures: Path) -> Totals:
    """The inputs of a target from ``start`` to ``stop``, block by block."""
    totals = Totals()
    while start < stop and len(totals.failures) < harness.MOST_FAILURES:
        end = min(start + harness.BLOCK, stop)
        totals.add(harness.run_block(target, seed, start, end, failures))
        start = end
    return totals


def _load(path: Path) -> dict[str, Totals]:
    if not path.exists():
        return {}
    return {name: Totals(**value) for name, value in json.loads(path.read_text("utf-8")).items()}


def _store(path: Path, totals: dict[str, Totals]) -> None:
    temporary = path.with_suffix(".new")
    temporary.write_text(json.dumps({name: attrs.asdict(value) for name, value in totals.items()}, indent=1), "utf-8")
    os.replace(temporary, path)


def replay(target: Target, seed: int, index: int) -> int:
    """Reads one input again, in this process, with its error shown."""
    parts = target.make(seed, index)
    print(f"{target.name}, seed {seed}, input {index}: {', '.join(f'{len(part)} bytes' for part in parts)}")
    harness.quiet_warnings()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        harness.arm()
        accepted, problem = harness.run_one(target, parts, Path(folder), traced=True)
    print(problem or ("accepted" if accepted else "refused with one of our errors"))
    return bool(problem)


def table(totals: dict[str, Totals], seed: int) -> str:
    """The totals as Markdown."""
    lines = ["| reader | inputs | right answers | our errors | failures | inputs/s |", "|---|---:|---:|---:|---:|---:|"]
    for name, one in totals.items():
        speed = one.inputs / one.seconds if one.seconds else 0
        lines.append(
            f"| {name} | {one.inputs:,} | {one.accepted:,} | {one.rejected:,} | {len(one.failures)} | {speed:,.0f} |"
        )
    total = sum(one.inputs for one in totals.values())
    lines.append(f"| all | {total:,} | | | {sum(len(one.failures) for one in totals.values())} | |")
    return "\n".join(lines)


def report(totals: dict[str, Totals], seed: int) -> str:
    """The totals as a page that says how they came about."""
    import numpy as np

    versions = [f"Python {platform.python_version()}", f"NumPy {np.__version__}"]
    for name in ("pillow", "simplejpeg", "opencv-python-headless", "sentencepiece"):
        with contextlib.suppress(PackageNotFoundError):
            versions.append(f"{name} {version(name)}")
    fewest = min((one.inputs for one in totals.values()), default=0)
    return (
        "# Damaged files for every reader\n\n"
        f"Made by `python tests/fuzz/run.py --state ... --report ...` on {time.strftime('%Y-%m-%d')}; seed {seed}. "
        f"{', '.join(versions)}; {platform.machine()}, {platform.system()}.\n\n"
        "Each input gave a right answer or one of our errors, within 10 seconds of the processor's time and 10 times "
        "its size plus 16 MiB of memory; see docs/security.md for how that is measured. Inputs are numbered: any "
        f"of them can be read again (`--replay`). The fewest for a reader: {fewest:,}; the goal of the long run: "
        "1,000,000. Inputs/s is what one process at the lowest priority reached on a busy machine.\n\n"
        f"{table(totals, seed)}\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--count", type=int, default=1_000_000, help="inputs for each target")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--target", action="append", help="only this one (may be repeated)")
    parser.add_argument("--state", type=Path, default=None, help="folder of totals and failures; default: no resuming")
    parser.add_argument("--replay", metavar="TARGET:NUMBER", help="read one input again")
    parser.add_argument("--list", action="store_true", help="print the names of the targets")
    parser.add_argument("--json", type=Path, help="write the totals there as well")
    parser.add_argument("--report", type=Path, help="write a page about them; with --count 0, of what was done before")
    chosen = parser.parse_args(arguments)
    names = chosen.target or list(all_targets())
    if chosen.list:
        print("\n".join(names))
        return 0
    if chosen.replay:
        name, _, number = chosen.replay.partition(":")
        return replay(build(name), chosen.seed, int(number))
    folder = chosen.state or Path(tempfile.mkdtemp(prefix="fuzz-failures-"))
    folder.mkdir(parents=True, exist_ok=True)
    record = folder / f"totals-{chosen.seed}.json"
    totals = _load(record) if chosen.state else {}
    print(f"seed {chosen.seed}; inputs that fail are kept in {folder / 'failures'}", flush=True)
    targets = {name: build(name) for name in names}
    # In rounds, so that a run that is stopped early has seen all readers alike.
    pending = True
    while pending:
        pending = False
        for name, target in targets.items():
            done = totals.setdefault(name, Totals())
            if done.inputs >= chosen.count or len(done.failures) >= harness.MOST_FAILURES:
                continue
            pending = True
            stop = min(done.inputs + harness.BLOCK, chosen.count)
            part = fuzz(target, chosen.seed, done.inputs, stop, folder / "failures")
            # What follows the last failure that was counted is skipped, not repeated.
            part.inputs = stop - done.inputs
            done.add(part)
            _store(record, totals)
            for failure in part.failures:
                print(f"FAILED {failure}", flush=True)
            stamp = time.strftime("%H:%M:%S")
            print(f"{stamp} {name}: {done.inputs:,} inputs, {len(done.failures)} failures", flush=True)
    shown = {name: totals[name] for name in names}
    print(table(shown, chosen.seed))
    if chosen.json:
        _store(chosen.json, shown)
    if chosen.report:
        chosen.report.write_text(report(shown, chosen.seed), "utf-8")
    if not chosen.state and not any(one.failures for one in shown.values()):
        record.unlink(missing_ok=True)
        folder.rmdir()
    return 1 if any(one.failures for one in shown.values()) else 0


if __name__ == "__main__":
    sys.exit(main())

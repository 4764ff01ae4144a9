"""Kills runs at random moments, resumes them, and compares them to the last bit with runs that were never stopped.

``python tests/resume/run.py --output benchmarks/results/resume_torch.json`` takes about fifteen minutes of one core.
The backend is the one that GLUEBALL_BACKEND names. Ends with status 1 if anything is not exact.
"""

from __future__ import annotations

import argparse
import math
import os
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import attrs

HERE = Path(__file__).resolve().parent
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy's would start threads when it is imported, and this process forks
sys.path[:0] = [str(HERE), str(HERE.parent / "core"), str(HERE.parents[1] / "benchmarks")]

import report  # type: ignore[import-not-found] # noqa: E402 - found by the path above
import resume_draws  # noqa: E402
import resume_families  # noqa: E402
import resume_saving  # noqa: E402
import resume_traces  # noqa: E402
from resume_moments import PHASES  # noqa: E402
from resume_server import Server  # noqa: E402

FAMILIES = ("points", "pictures", "texts")
MOST_KILLS = 8
"""Of one run; then it is left to end."""


@attrs.define
class Totals:
    """What came of all runs."""

    runs: int = 0
    kills: Counter[str] = attrs.field(factory=Counter)
    """Phase -> kills."""
    features: Counter[str] = attrs.field(factory=Counter)
    """Feature -> runs that had it."""
    loading: Counter[str] = attrs.field(factory=Counter)
    """Workers at the moment of a kill."""
    changes_of_loading: int = 0
    """Resumptions with other workers than before."""
    killed_runs: int = 0
    steps: int = 0
    """Batches whose samples were accounted for, in runs that were killed."""
    slowest_orphan: float = 0.0
    problems: list[str] = attrs.field(factory=list)


def trial(number: int, seed: int, servers: Sequence[Server], folder: Path, totals: Totals) -> None:
    """Draws a configuration, runs it in peace, kills and resumes it, and compares."""
    random = Random(f"{seed}/{number}")
    supports = servers[0].about["supports"]
    drawn = resume_draws.draw(random, FAMILIES, supports)
    straight, killed = folder / "straight", folder / "killed"
    job: dict[str, Any] = {
        "family": drawn.family,
        "folder": str(folder.parent),
        "folds": drawn.folds,
        "precision": drawn.precision,
    }
    first = servers[number % 2]
    options = {"compile": drawn.compile}
    whole = first.run(**job, out=str(straight), changes={**drawn.changes, **drawn.loading()}, options=options)
    name = f"run {number} ({', '.join(drawn.features)})"
    if "error" in whole:
        totals.runs += 1
        totals.problems.append(f"{name} failed in peace: {whole['error']}\n{whole.get('traceback', '')}")
        return
    wanted, kills, loading = random.randint(2, MOST_KILLS), 0, drawn.loading()
    for attempt in range(2 * MOST_KILLS):
        if attempt and random.random() < 0.5:
            before, loading = loading, resume_draws.draw_loading(random)
            totals.changes_of_loading += loading != before
        death = {}
        if kills < wanted and attempt < 2 * MOST_KILLS - 1:
            is_new = not any(killed.rglob("checkpoints/*-epoch-*"))
            death = resume_draws.draw_plan(random, whole["counts"], whole["seconds"], kills, is_new)
        server = servers[random.randrange(2)]
        reply = server.run(
            **job, **death, out=str(killed), changes={**drawn.changes, **loading}, options={**options, "resume": True}
        )
        if "error" in reply:
            totals.runs += 1
            totals.problems.append(
                f"{name} failed when resumed after {kills} kills: {reply['error']}\n{reply.get('traceback', '')}"
            )
            return
        if reply["orphans"] is None:
            totals.problems.append(f"{name}: worker processes of a run that was killed in {reply['phase']} went on")
        totals.slowest_orphan = max(totals.slowest_orphan, reply["orphans"] or 0.0)
        if not reply["killed"]:
            break
        kills += 1
        totals.kills[reply["phase"]] += 1
        kind = {"thread": "threads", "process": "processes"}[loading["worker_type"]]
        totals.loading[f"{loading['workers']} {kind}" if loading["workers"] else "no workers"] += 1
    found = resume_traces.differences(straight, killed, drawn.folds)
    if reply.get("result") != whole["result"]:
        found.append(f"result: {whole['result']} and {reply.get('result')}")
    for run in _runs(killed, drawn.folds):
        found += resume_traces.not_once(run, **drawn.seen())
        totals.steps += sum(line["event"] == "seen" for line in resume_traces.log_lines(run))
    totals.runs += 1
    totals.killed_runs += kills > 0
    totals.features.update({*drawn.features, "compiled" if drawn.compile else "not compiled"})
    if found:
        totals.problems.append(f"{name} after {kills} kills: " + "; ".join(found[:6]))


def _runs(out: Path, folds: int | None) -> list[Path]:
    return [out / f"fold-{number:02d}" for number in range(1, folds + 1)] if folds else [out]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="a .json for the figures; the table goes into the .md beside it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=int, default=260, help="how many configurations are drawn (default: 260)")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="draw no more after so many (default: no limit)"
    )
    parser.add_argument("--first", type=int, default=0, help="the first of them, to repeat one")
    parser.add_argument("--saving-kills", type=int, default=1000, help="kills during saving alone (default: 1000)")
    parser.add_argument("--keep", type=Path, help="a folder for everything, which is then left there")
    given = parser.parse_args()
    folder = given.keep or Path(tempfile.mkdtemp(prefix="glueball-resume-"))
    folder.mkdir(parents=True, exist_ok=True)
    totals, begin = Totals(), time.monotonic()
    try:
        # First, because this process may have no threads when it forks.
        saving = resume_saving.kill_while_saving(folder / "saving", given.saving_kills, given.seed)
        print(f"{saving.kills} kills during saving: {saving.unloadable} unloadable, {saving.wrong} wrong", flush=True)
        resume_families.write_files(folder)
        with (
            Server(list(FAMILIES), hash_seed=1, log=folder / "server-1.log") as one,
            Server(list(FAMILIES), hash_seed=2, log=folder / "server-2.log") as two,
        ):
            for number in range(given.first, given.first + given.runs):
                if time.monotonic() - begin > 60 * given.minutes:
                    print(f"Time is up after {totals.runs} runs.", flush=True)
                    break
                place = folder / f"run-{number:04d}"
                place.mkdir()
                before = len(totals.problems)
                trial(number, given.seed, (one, two), place, totals)
                for problem in totals.problems[before:]:
                    print(problem, flush=True)
                if len(totals.problems) == before and given.keep is None:
                    shutil.rmtree(place)
                if (number + 1) % 20 == 0:
                    print(f"{totals.runs} runs, {sum(totals.kills.values())} kills", flush=True)
            about = one.about
    finally:
        if given.keep is None:
            shutil.rmtree(folder, ignore_errors=True)
    _report(totals, saving, about, given)
    if totals.problems or saving.problems:
        raise SystemExit(1)


def _report(totals: Totals, saving: resume_saving.Totals, about: dict[str, Any], given: argparse.Namespace) -> None:
    exact = totals.runs - len(totals.problems)
    kills = sum(totals.kills.values())
    usage = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu = sum(item.ru_utime + item.ru_stime for item in usage)
    refused = [f"{name}: {reason}" for name, reason in about["supports"].items() if reason is not None]
    lines = [
        f"{totals.runs} runs, {totals.killed_runs} of them killed, {kills} times: **{exact} of {totals.runs} are "
        f"identical** with the run that was never stopped; {totals.steps} batches were accounted for. "
        f"{totals.changes_of_loading} resumptions with other workers than before. After a kill, worker processes ended "
        f"within {totals.slowest_orphan:.1f} s.",
        "",
        f"Seed {given.seed}, {cpu / 60:.0f} minutes of CPU time.",
        "",
        *report.table(["Killed while", "kills"], [[phase, str(totals.kills[phase])] for phase in PHASES]),
        "",
        *report.table(["Killed with", "kills"], [[name, str(n)] for name, n in sorted(totals.loading.items())]),
        "",
        *report.table(["Runs with", "runs"], [[name, str(n)] for name, n in sorted(totals.features.items())]),
        "",
        f"{saving.kills} kills during saving alone: {saving.unloadable} left no checkpoint that loads, {saving.wrong} "
        "left one that is not what was saved.",
        "",
        *report.table(["Killed in a save", "kills"], [[name, str(n)] for name, n in sorted(saving.by_moment.items())]),
        "",
        "Compared are the log, TensorBoard's events, both weight files, the whole last checkpoint (weights, optimiser, "
        "averages, random states, position, history), run.json, recipe.json and cross_validation.json. May differ: the "
        "times of log lines and events, seconds, and the length of the files that hold them.",
        *(["", "Precisions that this CPU is refused: " + "; ".join(refused) + "."] if refused else []),
        *(["", *(f"* {problem}" for problem in [*totals.problems, *saving.problems])]),
    ]
    report.finish(
        given.output,
        title=f"Kill -9 and resume on {about['backend']}",
        script="tests/resume/run.py",
        where=report.machine(["glueball-core", "mxnet", "torch", "numpy", "safetensors"]),
        document={
            "backend": about["backend"],
            "seed": given.seed,
            "totals": attrs.asdict(totals),
            "saving": attrs.asdict(saving),
            "cpu_seconds": cpu,
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
        },
        lines=lines,
        goals=[
            report.Goal("kills of whole runs", kills, 500),
            report.Goal("runs that are not identical", len(totals.problems), 0, more_is_better=False),
            report.Goal("kills during saving", saving.kills, 1000),
            report.Goal(
                "kills after which the last checkpoint does not load or is wrong",
                saving.unloadable + saving.wrong,
                0,
                more_is_better=False,
            ),
        ],
    )


if __name__ == "__main__":
    main()

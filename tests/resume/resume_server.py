"""A warm process that trains in forked children and kills them: ``Server`` starts one and talks to it.

Importing a backend takes seconds, a run of the proof a fraction of one. The server imports everything, but lets the
backend compute nothing: a fork copies no threads, so there must be none. Each run is then a child of its own, with its
own memory, open files and lock, and its death is a real one.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

HERE = Path(__file__).resolve().parent
HANGS_AFTER = 300.0
"""Seconds after which a run is taken to hang."""

_SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)


class Server:
    """A server process of its own.

    Args:
        families: "points", "pictures", "texts"; the last two need their distributions.
        hash_seed: PYTHONHASHSEED; a run must not depend on the order of sets.
    """

    def __init__(self, families: list[str], hash_seed: int = 0, log: Path | None = None) -> None:
        environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed), "OMP_NUM_THREADS": "1"}
        environment["OPENBLAS_NUM_THREADS"] = "1"  # NumPy's would start threads when it is imported
        self._errors: Any = subprocess.DEVNULL if log is None else open(log, "ab")  # noqa: SIM115 - closed by close()
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "resume_server.py"), *families],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
        )
        self.about = self._receive()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def run(self, **job: Any) -> dict[str, Any]:
        """Runs a job in a child and says how it ended.

        Args:
            job: ``family``, ``folder`` (with the texts), ``out``, ``changes`` and ``options`` of the trainer say what
                is trained; ``folds`` cross-validates; ``precision`` allows one that the backend would refuse for
                slowness; ``plan`` (phase, label, count) or ``after`` (seconds) kill it.

        Returns:
            ``killed``, the ``phase`` then, ``seconds``; ``orphans``: seconds that worker processes outlived it;
            ``counts``: the moments that it passed, and its ``result``; or its ``error``.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._receive()

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"The server ended with {self._process.wait()}; its log says why.")
        reply: dict[str, Any] = json.loads(line)
        return reply

    def close(self) -> None:
        """Ends the server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        if self._errors is not subprocess.DEVNULL:
            self._errors.close()


# ----------------------------------------------------------------------------------------------------------------------
# In the server
# ----------------------------------------------------------------------------------------------------------------------


def _serve(families: list[str], replies: Any) -> None:
    import resume_moments

    # Worker processes of a killed run become the server's children, so that it sees them end.
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    with _catalogue(families) as about:
        board = resume_moments.Board()
        # Before the first fork: MXNet stops its own threads before each fork and starts them again behind it.
        threads = len(os.listdir("/proc/self/task"))
        if threads > 1:
            raise RuntimeError(f"{threads} threads run before the first fork; a child would wait for them forever.")
        _import_what_runs_import(families, board)
        print(json.dumps(about), file=replies, flush=True)
        for line in sys.stdin:
            job = json.loads(line)
            board.phase = resume_moments.PHASES[0]
            print(
                json.dumps(fork_and_wait(functools.partial(train, job, board), board, job.get("after"))), file=replies
            )
            replies.flush()


@contextlib.contextmanager
def _catalogue(families: list[str]) -> Iterator[dict[str, Any]]:
    """What there is to train, and what the backend can do here."""
    import engine_toy
    import resume_families

    from glueball import backend
    from glueball.engine import Trainer
    from glueball.testing import isolated_catalog

    plugins: dict[str, Any] = {"toy": engine_toy.ToyPlugin(), "resume": resume_families.Families()}
    distributions = {"pictures": "cv_classification", "texts": "nlp_embedding_lm"}
    installed = [name for family, name in distributions.items() if family in families]
    # Pictures of curves take longer than the training, and nothing reads them again.
    Trainer._draw_curves = lambda self: None  # type: ignore[method-assign]
    with isolated_catalog(plugins, installed=installed):
        selected = backend.current()
        supports = {name: selected.supports_precision(name, "cpu") for name in ("float32", "bfloat16", "float16")}
        yield {"backend": selected.name, "supports": supports}


def _import_what_runs_import(families: list[str], board: Any) -> None:
    """Much is imported when it is first used. Children use it, and the server imports the same modules afterwards."""
    import resume_families

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        resume_families.write_files(folder)
        for family in families:
            out = str(folder / family)
            options: dict[str, Any] = {"compile": False}
            job = {"family": family, "folder": name, "out": out, "changes": {"epochs": 1}, "options": options}
            before = set(sys.modules)

            def scout(job: Mapping[str, Any] = job, before: set[str] = before) -> dict[str, Any]:
                train(job, board)
                return {"modules": [module for module in sys.modules if module not in before]}

            found = fork_and_wait(scout, board)
            if "error" in found:
                raise RuntimeError(f"A run of {family} fails: {found['error']}\n{found.get('traceback', '')}")
            for module in found["modules"]:
                with contextlib.suppress(ImportError):  # names that a module made up for itself
                    importlib.import_module(module)


def fork_and_wait(work: Callable[[], Any], board: Any, after: float | None = None) -> dict[str, Any]:
    """Does ``work`` in a child and waits for its end, and for that of the processes that it started."""
    reader, writer = os.pipe()
    begin = time.monotonic()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _in_child(work, writer)
    os.close(writer)
    with contextlib.suppress(OSError):  # the child does it too; whoever is first
        os.setpgid(child, child)
    limit = HANGS_AFTER if after is None else after
    answer, hangs = _Answer(reader), False
    if not answer.is_complete(begin + limit):
        hangs = after is None
        os.kill(child, signal.SIGKILL)
        answer.is_complete(time.monotonic() + 5)
    phase = board.phase
    _, status = os.waitpid(child, 0)
    killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    seconds = time.monotonic() - begin
    os.close(reader)
    reply: dict[str, Any] = {"killed": killed, "phase": phase, "seconds": seconds, "orphans": _wait_for_orphans(child)}
    if hangs:
        return {**reply, "error": f"it did not end within {limit:g} seconds, in {phase}"}
    try:
        said = json.loads(answer.content)
    except ValueError:
        return reply if killed else {**reply, "error": f"it ended with status {status} and said nothing"}
    # A child that was killed after it had said all has ended as well.
    return {**reply, **said, "killed": False}


def _in_child(work: Callable[[], Any], writer: int) -> NoReturn:
    status = 1
    try:
        os.setpgid(0, 0)
        # What the server reads and writes is not the run's.
        nothing = os.open(os.devnull, os.O_RDWR)
        os.dup2(nothing, 0)
        os.dup2(2, 1)
        try:
            answer = work()
        except BaseException as error:
            answer = {"error": f"{type(error).__name__}: {error}", "traceback": traceback.format_exc()}
        content = json.dumps(answer).encode()
        while content:
            content = content[os.write(writer, content) :]
        status = 0
    finally:
        os._exit(status)


class _Answer:
    """What the child says before it ends."""

    def __init__(self, reader: int) -> None:
        self._reader = reader
        self.content = b""

    def is_complete(self, deadline: float) -> bool:
        """Reads until the child has ended; False if it has not by then."""
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._reader], [], [], left)[0]:
                return False
            part = os.read(self._reader, 1 << 16)
            if not part:
                return True
            self.content += part


def _wait_for_orphans(group: int) -> float | None:
    """Seconds until the last process of the group ended; None if one never did (it is killed then)."""
    begin = time.monotonic()
    while time.monotonic() < begin + 20:
        try:
            pid, _ = os.waitpid(-group, os.WNOHANG)
        except ChildProcessError:
            return time.monotonic() - begin
        if pid == 0:
            time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    return None


def train(job: Mapping[str, Any], board: Any) -> dict[str, Any]:
    """One run, in the child: its result and the moments that it passed."""
    import resume_families
    import resume_moments

    from glueball import backend
    from glueball.engine import Trainer, cross_validate

    if job.get("precision"):
        selected: Any = type(backend.current())
        refused = selected.supports_precision

        def supports(self: Any, precision: str, device: str) -> str | None:
            return None if precision == job["precision"] else refused(self, precision, device)

        selected.supports_precision = supports
    plan = resume_moments.Plan(*job["plan"]) if job.get("plan") else None
    moments = resume_moments.Moments(board, plan)
    moments.install()
    recipe = resume_families.recipe(job["family"], Path(job["folder"]), job["changes"])
    options = {"quiet": True, "device": "cpu", **job["options"]}
    if job.get("folds"):
        folded = cross_validate(recipe, job["folds"], job["out"], **options)
        result = {"n": folded.n, "mean": dict(folded.mean)}
    else:
        whole = Trainer(recipe, job["out"], **options).fit()
        result = {"ended": whole.ended, "best_epoch": whole.best_epoch, "metrics": dict(whole.metrics)}
    return {"result": result, "counts": [[*key, count] for key, count in moments.counts.items()]}


if __name__ == "__main__":
    sys.path.insert(0, str(HERE))
    sys.path.insert(0, str(HERE.parent / "core"))
    # Imported under its own name too: what a worker process unpickles must not lie in __main__.
    own = os.dup(1)
    os.dup2(2, 1)  # what a library prints must not reach the pipe
    _serve(sys.argv[1:], os.fdopen(own, "w"))

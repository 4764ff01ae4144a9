"""``--processes N``: the same command in N processes of this machine, which train together.

They find each other as those of any launcher do, by variables of the environment; see ``glueball.engine.processes``.
Under a launcher (torchrun, srun, horovodrun, ``glueball launch``) no option is needed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from glueball.errors import OptionError

_LAUNCHERS = ("RANK", "WORLD_SIZE", "HOROVOD_RANK", "HOROVOD_SIZE", "SLURM_PROCID", "DMLC_ROLE")
_THREADS = "OMP_NUM_THREADS"


def are_to_be_started(count: int | None) -> bool:
    """Whether this process is to start others and wait for them, instead of training itself.

    One process is alone, whatever a launcher says: variables of one (of a shell within an allocation of Slurm) are
    taken away.

    Raises:
        OptionError: the number makes no sense, or contradicts the launcher that started this process.
    """
    from glueball.engine.processes import from_environment

    if count is None:
        return False
    if count < 1:
        raise OptionError(f"--processes is a number from 1. Received: {count}.")
    if count == 1:
        for name in _LAUNCHERS:
            os.environ.pop(name, None)
        return False
    launch = from_environment()
    if launch is None:
        return True
    if launch.size != count:
        raise OptionError(
            f"--processes {count} contradicts the launcher ({launch.kind}) that started this process as one of "
            f"{launch.size}. Leave --processes out: the launcher's number counts."
        )
    return False


def start(count: int, words: Sequence[str]) -> int:
    """Runs ``glueball`` with ``words`` in ``count`` processes; the first failure, or a signal, ends all.

    Returns the exit status: that of the first process that failed by itself, 0 if none did.
    """
    from glueball import backend
    from glueball.cli.launch import Job, run_jobs

    command = [sys.executable, "-m", "glueball", *words]
    # Processes that each take all cores only get into each other's way.
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = {} if _THREADS in os.environ else {_THREADS: str(max(1, cores // count))}
    jobs = []
    helpers: dict[str, int] = {}
    for number, environment in enumerate(backend.current().local_processes(count)):
        role = environment.get("DMLC_ROLE", "worker")
        trains = role == "worker"
        helpers[role] = helpers.get(role, -1) + 1
        name = f"rank {number}" if trains else f"{role} {helpers[role]}"
        jobs.append(Job(name=name, command=command, environment={**threads, **environment}, trains=trains))
    return run_jobs(jobs)

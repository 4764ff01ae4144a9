"""How a process finds out that it is one of several that train together.

Nobody has to say so on the command line: launchers leave their traces in the environment. torchrun sets RANK and
WORLD_SIZE, horovodrun HOROVOD_RANK and HOROVOD_SIZE, srun SLURM_PROCID and SLURM_NTASKS, and launchers of MXNet's
parameter server DMLC_ROLE and DMLC_NUM_WORKER. ``glueball train --processes`` sets the same variables as they do, so
that there is one way in. What is done with them, joining a process group, is the backend's matter.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from glueball.backend.base import ROLES, Launch
from glueball.errors import OptionError

__all__ = ["Launch", "first_host", "from_environment"]

# Slurm gives no port. One that follows from the number of the job is the same on all nodes, and rarely another job's.
_SLURM_FIRST_PORT = 15000
_SLURM_PORTS = 20000


def from_environment(environment: Mapping[str, str] | None = None) -> Launch | None:
    """What the launcher that started this process says; None where there was none.

    Variables of several launchers may be there at once, as torchrun within an allocation of Slurm: those of the inner
    one count. ``environment``: instead of this process's own.

    Raises:
        OptionError: variables of a launcher are there, but one is missing or has a value that makes no sense.
    """
    variables = os.environ if environment is None else environment
    for readable, read in (
        (_has(variables, "DMLC_ROLE"), _dmlc),
        (_has(variables, "HOROVOD_RANK", "HOROVOD_SIZE"), _horovod),
        (_has(variables, "RANK", "WORLD_SIZE"), _torchrun),
        (_is_slurm_task(variables), _slurm),
    ):
        if readable:
            return read(variables)
    return None


def _has(variables: Mapping[str, str], *names: str) -> bool:
    return all(variables.get(name) for name in names)


def _torchrun(variables: Mapping[str, str]) -> Launch:
    size = _number(variables, "WORLD_SIZE", at_least=1)
    rank = _number(variables, "RANK", below=size)
    if size > 1 and not _has(variables, "MASTER_ADDR", "MASTER_PORT"):
        raise OptionError(
            f"RANK={rank} and WORLD_SIZE={size} say that this is one of {size} processes, but MASTER_ADDR and "
            "MASTER_PORT do not say where they meet. Start them with torchrun, or with glueball train --processes; to "
            "train alone, unset RANK and WORLD_SIZE."
        )
    return Launch(
        kind="torchrun",
        rank=rank,
        size=size,
        local_rank=_number(variables, "LOCAL_RANK", default=rank),
        local_size=_optional(variables, "LOCAL_WORLD_SIZE"),
        address=variables.get("MASTER_ADDR"),
        port=_optional(variables, "MASTER_PORT"),
    )


def _horovod(variables: Mapping[str, str]) -> Launch:
    size = _number(variables, "HOROVOD_SIZE", at_least=1)
    rank = _number(variables, "HOROVOD_RANK", below=size)
    return Launch(
        kind="horovod",
        rank=rank,
        size=size,
        local_rank=_number(variables, "HOROVOD_LOCAL_RANK", default=rank),
        local_size=_optional(variables, "HOROVOD_LOCAL_SIZE"),
        address=variables.get("HOROVOD_GLOO_RENDEZVOUS_ADDR"),
        port=_optional(variables, "HOROVOD_GLOO_RENDEZVOUS_PORT"),
    )


def _dmlc(variables: Mapping[str, str]) -> Launch:
    role = variables["DMLC_ROLE"]
    if role not in ROLES:
        raise OptionError(f"DMLC_ROLE is one of {', '.join(ROLES)}. Received: {role!r}.")
    size = _number(variables, "DMLC_NUM_WORKER", at_least=1)
    rank = _optional(variables, "DMLC_WORKER_ID") if role == "worker" else None
    return Launch(
        kind="dmlc",
        rank=rank,
        size=size,
        local_rank=_number(variables, "DMLC_LOCAL_RANK", default=0 if rank is None else rank),
        local_size=_optional(variables, "DMLC_LOCAL_SIZE"),
        address=variables.get("DMLC_PS_ROOT_URI"),
        port=_optional(variables, "DMLC_PS_ROOT_PORT"),
        role=role,
    )


def _is_slurm_task(variables: Mapping[str, str]) -> bool:
    """Whether srun started this process: in the shell of an allocation the same variables say what could be started."""
    if not _has(variables, "SLURM_PROCID", "SLURM_NTASKS") or variables["SLURM_NTASKS"] == "1":
        return False
    return variables.get("SLURM_JOB_NAME") not in ("bash", "interactive")


def _slurm(variables: Mapping[str, str]) -> Launch:
    size = _number(variables, "SLURM_NTASKS", at_least=1)
    if variables.get("SLURM_STEP_NUM_TASKS"):  # a step may have fewer tasks than its job
        size = _number(variables, "SLURM_STEP_NUM_TASKS", at_least=1)
    address, port = variables.get("MASTER_ADDR"), _optional(variables, "MASTER_PORT")
    if address is None:
        nodes = variables.get("SLURM_STEP_NODELIST") or variables.get("SLURM_JOB_NODELIST") or "localhost"
        address = first_host(nodes)
    if port is None:
        job = _number(variables, "SLURM_JOB_ID", default=0) + _number(variables, "SLURM_STEP_ID", default=0)
        port = _SLURM_FIRST_PORT + job % _SLURM_PORTS
    return Launch(
        kind="slurm",
        rank=_number(variables, "SLURM_PROCID", below=size),
        size=size,
        local_rank=_number(variables, "SLURM_LOCALID", default=0),
        address=address,
        port=port,
    )


def first_host(nodes: str) -> str:
    """The first host of Slurm's short form of a list: "node[03-07,9],gpu1" begins with node03."""
    head = re.match(r"(?P<name>[^,\[]*)(?:\[(?P<numbers>[^\]]*)\](?P<rest>[^,]*))?", nodes)
    assert head is not None  # every part of it may be empty
    if head["numbers"] is None:
        return head["name"]
    return head["name"] + re.split(r"[,-]", head["numbers"])[0] + head["rest"]


def _number(
    variables: Mapping[str, str], name: str, *, default: int | None = None, at_least: int = 0, below: int | None = None
) -> int:
    text = variables.get(name) or ("" if default is None else str(default))
    value = int(text) if re.fullmatch(r"\d{1,9}", text.strip()) else -1
    if value < at_least or (below is not None and value >= below):
        limits = f"of at least {at_least}" if below is None else f"from {at_least} to {below - 1}"
        raise OptionError(
            f"The launcher's variable {name} is an integer {limits}. Received: {variables.get(name)!r}. Unset the "
            "variables of a launcher that did not start this process."
        )
    return value


def _optional(variables: Mapping[str, str], name: str) -> int | None:
    return _number(variables, name) if variables.get(name) else None

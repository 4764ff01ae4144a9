"""How the processes of MXNet's parameter server, and of Horovod, are started.

Launchers set the variables below: ``glueball launch``, ``glueball train --processes``, and MXNet's own tools/launch.py
the same ones. Imports no library, so that a launcher does not pay for one.
"""

from __future__ import annotations

import importlib.util
import socket
import sys

from glueball.errors import BackendError


def free_port(host: str) -> int:
    """A port of this machine that nobody listens at now."""
    with socket.create_server((host, 0)) as probe:
        return int(probe.getsockname()[1])


def horovod_launcher() -> list[str]:
    """The words that start horovodrun.

    Raises:
        BackendError: Horovod is not installed.
    """
    if importlib.util.find_spec("horovod") is None:
        raise BackendError(
            "Horovod is not installed. Build it with HOROVOD_WITH_MXNET=1 pip install --no-build-isolation "
            "horovod==0.28.1, or leave --by horovod out: KVStore is part of MXNet."
        )
    return [sys.executable, "-m", "glueball.backend.mxnet.horovodrun"]


def default_servers(workers: int) -> int:
    """How many servers add up the gradients of ``workers`` on one machine: one takes what two workers send."""
    return max(1, workers // 2)


def kvstore_environments(
    workers: int, *, address: str, port: int, servers: int | None = None, local: bool = True
) -> list[dict[str, str]]:
    """Variables of the workers, in their order, then of the servers, then of the scheduler.

    Args:
        address, port: where the scheduler listens.
        servers: how many; ``default_servers`` by default.
        local: all processes are on this machine and talk through ``address`` alone.
    """
    count = default_servers(workers) if servers is None else servers
    shared = {
        "DMLC_PS_ROOT_URI": address,
        "DMLC_PS_ROOT_PORT": str(port),
        "DMLC_NUM_WORKER": str(workers),
        "DMLC_NUM_SERVER": str(count),
    }
    if local:
        shared |= {"DMLC_NODE_HOST": address, "DMLC_LOCAL_SIZE": str(workers)}
    environments = [{**shared, "DMLC_ROLE": "worker", "DMLC_WORKER_ID": str(rank)} for rank in range(workers)]
    if local:
        environments = [{**item, "DMLC_LOCAL_RANK": item["DMLC_WORKER_ID"]} for item in environments]
    environments += [{**shared, "DMLC_ROLE": "server", "DMLC_SERVER_ID": str(number)} for number in range(count)]
    return [*environments, {**shared, "DMLC_ROLE": "scheduler"}]

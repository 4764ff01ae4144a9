"""``glueball launch``: starts the processes of MXNet's KVStore or of Horovod, here or on other machines.

What MXNet's tools/launch.py does, which needs a submodule that its wheels lack. Each process gets the DMLC_* variables
that say what it is; a glueball command then does the rest. Output comes with the name of its process, but that of
worker 0, which has the screen to itself. The first one that fails ends all others, and one Ctrl-C reaches all once.
"""

from __future__ import annotations

import argparse
import ctypes
import os
import random
import shlex
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Any

import attrs

from glueball.cli.table import counted
from glueball.errors import OptionError

_EPILOG = """examples:
  glueball launch -n 4 train digits                      four workers and two servers on this machine
  glueball launch -n 4 -s 1 train digits --epochs 3      with one server
  glueball launch -n 4 --by horovod train digits         the same by Horovod, if it is installed
  glueball launch -n 8 -H machines train digits          on the machines of a file, a name and perhaps a number a line
  glueball launch -n 2 -H a,b --print train digits       only say what to start where
  glueball launch -n 2 -- python my_script.py            any program that trains with glueball

A machine is reached by ssh, without a password, and needs the same folders as this one. All of them must be able to
reach each other on any port, and nobody else should: neither KVStore nor Horovod asks who calls.
"""

SECONDS_TO_END = 12.0
"""How long processes may take to end by themselves when one has failed: they hear of it from one another."""
_SECONDS_TO_SAVE = 30.0
_SECONDS_TO_LEAVE = 20.0
_POLL_SECONDS = 0.1

# With this status a process ends because another one did.
_STATUS_LOST = 3
# Variables that go to other machines. They have their own of everything else.
_PASSED = ("GLUEBALL_", "MXNET_", "PS_", "OMP_", "PYTHONPATH", "PYTHONHASHSEED", "CUDA_VISIBLE_DEVICES")


def add_parser(subparsers: Any) -> None:
    """Adds the subcommand."""
    parser = subparsers.add_parser(
        "launch",
        help="start the processes of a job on MXNet, here or on other machines",
        description="Starts a command several times, so that the processes train together on MXNet.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("-n", "--workers", metavar="N", type=_positive, required=True, help="processes that train")
    parser.add_argument(
        "-s", "--servers", metavar="N", type=_positive, help="processes that add up gradients (default: half of -n)"
    )
    parser.add_argument("--by", choices=("kvstore", "horovod"), default="kvstore", help="what carries the gradients")
    parser.add_argument(
        "-H", "--hosts", metavar="HOSTS", help="machines as a:2,b:2 or a file of lines (default: this machine)"
    )
    parser.add_argument("--interface", metavar="NAME", help="the network interface of the machines, such as eth0")
    parser.add_argument("--port", metavar="PORT", type=_positive, help="where the scheduler listens (default: any)")
    parser.add_argument(
        "--env", action="append", default=[], metavar="NAME[=VALUE]", help="pass a variable on to other machines, too"
    )
    parser.add_argument("--ssh", default="ssh", metavar="COMMAND", help="what reaches other machines (default: ssh)")
    parser.add_argument("--print", dest="only_print", action="store_true", help="print the commands, start nothing")
    parser.add_argument(
        "words", nargs=argparse.REMAINDER, metavar="COMMAND", help="train RECIPE ..., or any other program"
    )


def run(arguments: argparse.Namespace) -> int:
    """Starts all, waits for them, and returns the status of the first one that failed, or 0."""
    words = arguments.words[1:] if arguments.words[:1] == ["--"] else arguments.words
    if not words:
        raise OptionError("What should be launched? For instance: glueball launch -n 2 train digits")
    hosts = read_hosts(arguments.hosts) if arguments.hosts else []
    if arguments.by == "horovod":
        return _run_horovod(arguments, full_command(words), hosts)
    jobs = kvstore_jobs(
        full_command(words),
        arguments.workers,
        servers=arguments.servers,
        hosts=hosts,
        interface=arguments.interface,
        port=arguments.port,
        passed=[*_named(arguments.env)],
        ssh=shlex.split(arguments.ssh),
    )
    if arguments.only_print:
        for job in jobs:
            print(f"{job.name}{f' on {job.host}' if job.host else ''}: {job.shown()}")
        return 0
    return run_jobs(jobs)


def full_command(words: Sequence[str]) -> list[str]:
    """The command that the words stand for: one of glueball's, run by this Python, or any other program."""
    from glueball.cli import COMMANDS

    rest = list(words[1:]) if words[0] == "glueball" else list(words)
    if words[0] == "glueball" or words[0] in COMMANDS:
        return [sys.executable, "-m", "glueball", *rest]
    return [sys.executable, *rest[1:]] if words[0] in ("python", "python3") else rest


# ----------------------------------------------------------------------------------------------------------------------
# Which processes
# ----------------------------------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Job:
    """One process to be started."""

    name: str
    """"worker 0", "server 1", ...: what its output and its end are called."""
    command: Sequence[str]
    environment: Mapping[str, str] = attrs.field(factory=dict)
    """What is added to this process's environment."""
    trains: bool = True
    """False for servers and schedulers, which end when those that train have."""
    host: str | None = None
    """The other machine; None for this one."""
    ssh: Sequence[str] = ("ssh",)
    passed: Sequence[str] = ()
    """Names of variables that go to the other machine besides ``environment``."""

    def shown(self) -> str:
        """The command as one would type it on its machine."""
        variables = dict(self.environment)
        if self.host is not None:
            variables = {name: os.environ[name] for name in _to_pass(self.passed)} | variables
        assignments = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
        return f"env {assignments} {shlex.join(self.command)}" if assignments else shlex.join(self.command)

    def words(self) -> list[str]:
        """What to start on this machine."""
        if self.host is None:
            return list(self.command)
        # A terminal over there ends the process when the connection breaks, and takes Ctrl-C for it.
        terminal = ["-tt"] if Path(self.ssh[0]).name == "ssh" else []
        return [*self.ssh, *terminal, self.host, f"cd {shlex.quote(os.getcwd())} && exec {self.shown()}"]


def kvstore_jobs(
    command: Sequence[str],
    workers: int,
    *,
    servers: int | None = None,
    hosts: Sequence[tuple[str, int]] = (),
    interface: str | None = None,
    port: int | None = None,
    passed: Sequence[str] = (),
    ssh: Sequence[str] = ("ssh",),
) -> list[Job]:
    """The workers, servers and the scheduler of one job of MXNet's KVStore, all of which run ``command``.

    Args:
        hosts: (machine, how many workers it takes at a time); the scheduler is on the first one.

    Raises:
        OptionError: a machine has no address, or those named cannot reach one that is called localhost.
    """
    from glueball.backend import launching

    local = all(_is_local(host) for host, _ in hosts)
    address = "127.0.0.1" if local else _address(hosts[0][0])
    if not local and address.startswith("127."):
        raise OptionError(
            f"Other machines cannot reach {hosts[0][0]!r}, which is {address}. Name this machine by an address that "
            "they know."
        )
    if port is None:
        port = launching.free_port(address) if local else random.SystemRandom().randint(20000, 39999)
    environments = launching.kvstore_environments(workers, address=address, port=port, servers=servers, local=local)
    places = [host for host, slots in hosts for _ in range(slots)] or [""]
    numbers: dict[str, int] = {}
    jobs = []
    for environment in environments:
        role = environment["DMLC_ROLE"]
        number = numbers[role] = numbers.get(role, -1) + 1
        host = places[number % len(places)]
        if interface is not None:
            environment = {**environment, "DMLC_INTERFACE": interface}
        elif not local:
            environment = {**environment, "DMLC_NODE_HOST": _address(host)}
        jobs.append(
            Job(
                name=role if role == "scheduler" else f"{role} {number}",
                command=command,
                environment=environment,
                trains=role == "worker",
                host=None if local or _is_local(host) else host,
                ssh=ssh,
                passed=passed,
            )
        )
    return jobs


def read_hosts(text: str) -> list[tuple[str, int]]:
    """Machines and how many workers each takes at a time.

    ``text`` is a list such as ``a:2,b``, or names a file of lines such as ``a``, ``a:2`` or ``a slots=2``.

    Raises:
        OptionError: there is none, or a number is none.
    """
    path = Path(text).expanduser()
    if path.is_file():
        lines = [line.partition("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines()]
    else:
        lines = [part.strip() for part in text.split(",")]
    hosts = []
    for line in filter(None, lines):
        name, _, slots = line.replace(" slots=", ":").replace(" ", ":").partition(":")
        if slots and not (slots.isdecimal() and int(slots)):
            raise OptionError(f"--hosts takes machines such as a:2,b or a file of them. Received: {line!r}.")
        hosts.append((name, int(slots or 1)))
    if not hosts:
        raise OptionError(f"--hosts names no machine. Received: {text!r}.")
    return hosts


def _is_local(host: str) -> bool:
    return host in ("", "localhost", "127.0.0.1", socket.gethostname())


def _address(host: str) -> str:
    try:
        return str(socket.getaddrinfo(host or "localhost", None, socket.AF_INET, socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        raise OptionError(f"The machine {host!r} has no address that this one knows: {error}.") from error


def _named(options: Sequence[str]) -> list[str]:
    """Names of variables; ``NAME=VALUE`` sets one here, from where all processes have it."""
    for option in options:
        name, equals, value = option.partition("=")
        if equals:
            os.environ[name] = value
        elif name not in os.environ:
            raise OptionError(f"--env {name}: there is no such variable here. Give its value: --env {name}=VALUE.")
    return [option.partition("=")[0] for option in options]


def _to_pass(further: Sequence[str]) -> list[str]:
    return [name for name in os.environ if name.startswith(_PASSED) or name in further]


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"expected a number from 1, received {value}")
    return value


# ----------------------------------------------------------------------------------------------------------------------
# Running them
# ----------------------------------------------------------------------------------------------------------------------


def run_jobs(jobs: Sequence[Job]) -> int:
    """Runs processes until all are done; the first failure, or a signal, ends all.

    Returns the exit status of the first one that failed by itself, and not because of another one; 0 if none did.
    """
    return _Run(jobs).wait()


@attrs.define
class _Running:
    job: Job
    process: subprocess.Popen[bytes]
    status: int | None = None
    """The exit status, as a shell has it; None while it runs."""


class _Run:
    def __init__(self, jobs: Sequence[Job]) -> None:
        self._signal: int | None = None
        # Before the first process: a signal in between must not leave one behind.
        self._previous = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        self._running: list[_Running] = []
        self._readers: list[threading.Thread] = []
        self._lock = threading.Lock()
        try:
            for job in jobs:
                self._running.append(_Running(job, _start(job, inherits=job is jobs[0])))
        except OSError as error:
            self._send(signal.SIGKILL)
            self._restore_handlers()
            raise OptionError(f"{job.words()[0]!r} cannot be started: {error.strerror or error}.") from error
        for item in self._running:
            for stream, target in ((item.process.stdout, sys.stdout), (item.process.stderr, sys.stderr)):
                if stream is not None:
                    reader = threading.Thread(target=self._pass_on, args=(item.job.name, stream, target), daemon=True)
                    reader.start()
                    self._readers.append(reader)

    def wait(self) -> int:
        try:
            return self._wait()
        finally:
            self._send(signal.SIGKILL)
            self._restore_handlers()
            for reader in self._readers:
                reader.join(1.0)

    def _restore_handlers(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _wait(self) -> int:
        failed: list[_Running] = []
        sent: int | None = None
        deadline: float | None = None
        killing = False
        while True:
            for item in self._running:
                if item.status is None and item.process.poll() is not None:
                    code = item.process.returncode
                    item.status = code if code >= 0 else 128 - code
                    if item.status and not (sent and item.job.trains):
                        failed.append(item)
                        if len(failed) == 1:
                            self._say(f"{item.job.name} {_ending(code)}; the others are ended")
                            deadline = time.monotonic() + SECONDS_TO_END
            alive = [item for item in self._running if item.status is None]
            if not alive:
                break
            if self._signal is not None and self._signal != sent:
                sent = self._signal
                self._send(sent, only_training=True)
                deadline = time.monotonic() + _SECONDS_TO_SAVE
            if not any(item.job.trains for item in alive) and (failed or deadline is None):
                if failed:  # there is nobody left to serve
                    self._send(signal.SIGKILL)
                deadline = time.monotonic() + _SECONDS_TO_LEAVE
            if deadline is not None and time.monotonic() > deadline:
                self._send(signal.SIGKILL if killing else signal.SIGTERM)
                killing, deadline = True, time.monotonic() + 5.0
            time.sleep(_POLL_SECONDS)
        if sent is not None:
            ended = [item.status for item in self._running if item.job.trains and item.status]
            return ended[0] if ended else 0
        # A process that ends because of another one may be the first that we see.
        own = [item for item in failed if item.status != _STATUS_LOST and item.job.trains] or failed
        return int(own[0].status or 0) if own else 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._signal = number

    def _send(self, number: int, only_training: bool = False) -> None:
        for item in self._running:
            if item.process.poll() is not None or (only_training and not item.job.trains):
                continue
            if item.job.host is not None and number == signal.SIGINT and item.process.stdin is not None:
                # To the terminal over there; a signal would end ssh alone.
                item.process.stdin.write(b"\x03")
                item.process.stdin.flush()
            elif number == signal.SIGKILL:
                os.killpg(item.process.pid, number)
            else:
                # Not to its group: workers that load data must live until the process that trains has saved.
                item.process.send_signal(number)

    def _pass_on(self, name: str, stream: IO[bytes], target: IO[str]) -> None:
        for line in stream:
            with self._lock:
                target.write(f"[{name}] {line.decode(errors='backslashreplace').rstrip()}\n")
                target.flush()

    def _say(self, sentence: str) -> None:
        with self._lock:
            sys.stderr.write(f"glueball: {sentence}.\n")
            sys.stderr.flush()


def _start(job: Job, inherits: bool) -> subprocess.Popen[bytes]:
    output = None if inherits else subprocess.PIPE
    return subprocess.Popen(
        job.words(),
        env={**os.environ, **job.environment},
        stdin=subprocess.DEVNULL if job.host is None else subprocess.PIPE,
        stdout=output,
        stderr=output,
        # A group of its own: the terminal's Ctrl-C comes through us, once.
        start_new_session=True,
        preexec_fn=_end_with_parent,
    )


def _end_with_parent() -> None:
    """A launcher that is killed cannot end what it started; Linux can (PR_SET_PDEATHSIG)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))


def _ending(code: int) -> str:
    if code >= 0:
        return f"ended with status {code}"
    return f"was ended by {signal.Signals(-code).name}"


# ----------------------------------------------------------------------------------------------------------------------
# Horovod
# ----------------------------------------------------------------------------------------------------------------------


def _run_horovod(arguments: argparse.Namespace, command: list[str], hosts: Sequence[tuple[str, int]]) -> int:
    """Horovod's own launcher, in a process that can import MXNet, which it does in order to ask what was built."""
    from glueball.backend import launching

    words = [*launching.horovod_launcher(), "--gloo", "-np", str(arguments.workers)]
    if hosts:
        words += ["-H", ",".join(f"{name}:{slots}" for name, slots in hosts)]
    if arguments.interface:
        words += ["--network-interfaces", arguments.interface]
    if arguments.only_print:
        print(shlex.join([*words, *command]))
        return 0
    _named(arguments.env)
    return run_jobs([Job(name=f"Horovod with {counted(arguments.workers, 'worker')}", command=[*words, *command])])

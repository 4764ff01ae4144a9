"""``glueball launch``: which processes are started where, and how they end together; none of them trains here."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from glueball import cli
from glueball.cli import launch
from glueball.cli.launch import Job, full_command, kvstore_jobs, read_hosts
from glueball.errors import OptionError

# Started as a program of its own: signals are for it, and not for the tests.
RUN = """
import json, sys
from glueball.cli.launch import Job, run_jobs
sys.exit(run_jobs([Job(**job) for job in json.loads(sys.argv[1])]))
"""
OBEDIENT = "trap 'echo saved; exit 130' INT; trap 'echo saved; exit 143' TERM; echo ready; while :; do sleep 0.1; done"


def start(*jobs: Job) -> subprocess.Popen[str]:
    import json

    described = [{"name": job.name, "command": list(job.command), "trains": job.trains} for job in jobs]
    return subprocess.Popen(
        [sys.executable, "-c", RUN, json.dumps(described)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def shell(name: str, script: str, trains: bool = True) -> Job:
    return Job(name=name, command=["sh", "-c", script], trains=trains)


def finish(process: subprocess.Popen[str], seconds: float = 60) -> str:
    try:
        return process.communicate(timeout=seconds)[0]
    finally:
        process.kill()
        process.wait()


def test_output_has_the_name_of_its_process() -> None:
    process = start(shell("worker 0", "echo first"), shell("worker 1", "echo second; echo third >&2"))
    said = finish(process)
    assert process.returncode == 0
    assert sorted(said.splitlines()) == ["[worker 1] second", "[worker 1] third", "first"]


def test_the_first_failure_ends_all_and_gives_the_status() -> None:
    begin = time.monotonic()
    process = start(
        shell("worker 0", "exec sleep 100"),
        shell("worker 1", "echo 'what went wrong' >&2; exit 7"),
        # Deaf to SIGTERM, as a process inside a library may be.
        shell("server 0", "trap '' TERM; sleep 100 & wait; sleep 100", trains=False),
    )
    said = finish(process)
    assert process.returncode == 7, said
    assert "[worker 1] what went wrong" in said
    assert "glueball: worker 1 ended with status 7; the others are ended." in said
    assert time.monotonic() - begin < 30


def test_the_status_is_that_of_the_process_that_failed_by_itself() -> None:
    process = start(shell("worker 0", "exit 3"), shell("worker 1", "sleep 1; kill -KILL $$"))
    said = finish(process)
    assert process.returncode == 128 + signal.SIGKILL
    assert "worker 1 was ended by SIGKILL" not in said  # one sentence is enough
    assert "worker 0 ended with status 3" in said


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_signal_lets_all_save(number: signal.Signals, status: int) -> None:
    process = start(
        shell("worker 0", OBEDIENT),
        shell("worker 1", OBEDIENT),
        # Serves until it is not needed any more, whatever signals come.
        shell("server 0", "trap '' INT TERM; echo serving; sleep 1; echo served", trains=False),
    )
    assert process.stdout is not None
    lines = [process.stdout.readline().strip() for _ in range(3)]
    assert sorted(lines) == ["[server 0] serving", "[worker 1] ready", "ready"]
    process.send_signal(number)
    said = finish(process)
    assert process.returncode == status, said
    assert sorted(said.splitlines()) == ["[server 0] served", "[worker 1] saved", "saved"]


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells children of their parent's death")
def test_nothing_outlives_a_launcher_that_is_killed() -> None:
    process = start(shell("worker 0", "echo $$; exec sleep 100"))
    assert process.stdout is not None
    child = int(process.stdout.readline())
    process.kill()
    process.wait()
    process.stdout.close()
    for _ in range(200):
        if not Path(f"/proc/{child}").exists() or ") Z " in Path(f"/proc/{child}/stat").read_text():
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    raise AssertionError("the process goes on")


def test_a_program_that_does_not_exist_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT)
    assert cli.main(["launch", "-n", "1", "--", "no-such-program"]) == 2
    assert signal.getsignal(signal.SIGINT) == before
    assert "'no-such-program' cannot be started: No such file or directory." in capsys.readouterr().err


def test_commands() -> None:
    own = [sys.executable, "-m", "glueball"]
    assert full_command(["train", "digits"]) == [*own, "train", "digits"]
    assert full_command(["glueball", "train", "digits"]) == [*own, "train", "digits"]
    assert full_command(["python", "mine.py", "-v"]) == [sys.executable, "mine.py", "-v"]
    assert full_command(["./mine", "train"]) == ["./mine", "train"]


def test_processes_of_one_machine() -> None:
    jobs = kvstore_jobs(["train"], 4)
    assert [job.name for job in jobs] == [
        *(f"worker {number}" for number in range(4)),
        "server 0",
        "server 1",
        "scheduler",
    ]
    assert [job.trains for job in jobs] == [True] * 4 + [False] * 3
    assert {job.environment["DMLC_NODE_HOST"] for job in jobs} == {"127.0.0.1"}  # nobody else can call
    assert len({job.environment["DMLC_PS_ROOT_PORT"] for job in jobs}) == 1
    assert [job.environment.get("DMLC_LOCAL_RANK") for job in jobs[:4]] == ["0", "1", "2", "3"]


def test_processes_of_several_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = {"a": "10.0.0.1", "b": "10.0.0.2"}
    monkeypatch.setattr(launch, "_address", addresses.__getitem__)
    monkeypatch.setenv("GLUEBALL_BACKEND", "mxnet")
    monkeypatch.setenv("MY_SECRET", "hidden")
    jobs = kvstore_jobs(
        ["train it"], 3, servers=2, hosts=[("a", 2), ("b", 1)], port=12345, passed=["MY_NAME"], ssh=["ssh", "-p", "22"]
    )
    assert [job.host for job in jobs] == ["a", "a", "b", "a", "a", "a"]
    assert [job.environment["DMLC_NODE_HOST"] for job in jobs] == ["10.0.0.1"] * 2 + ["10.0.0.2"] + ["10.0.0.1"] * 3
    assert {job.environment["DMLC_PS_ROOT_URI"] for job in jobs} == {"10.0.0.1"}
    *start, there, remote = jobs[2].words()
    assert (start, there) == (["ssh", "-p", "22", "-tt"], "b")
    assert remote.startswith(f"cd {os.getcwd()} && exec env ")
    assert remote.endswith(" 'train it'")
    assert "DMLC_WORKER_ID=2" in remote
    assert "GLUEBALL_BACKEND=mxnet" in remote
    assert "MY_SECRET" not in remote
    assert "DMLC_INTERFACE=eth1" in kvstore_jobs(["x"], 1, hosts=[("a", 1)], interface="eth1")[0].shown()


def test_other_machines_are_reached_by_a_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that stands for ssh runs what it gets on this machine."""
    stand_in = tmp_path / "reach"
    stand_in.write_text('#!/bin/sh\necho "to $1"\nexec sh -c "$2"\n')
    stand_in.chmod(0o755)
    monkeypatch.setattr(launch, "_address", lambda host: "10.0.0.1")
    monkeypatch.setenv("MY_NAME", "a name; with $signs")
    jobs = kvstore_jobs(
        ["sh", "-c", 'echo "$DMLC_ROLE $MY_NAME"'], 1, hosts=[("far", 1)], ssh=[str(stand_in)], passed=["MY_NAME"]
    )
    said = [subprocess.run(job.words(), capture_output=True, text=True, check=True).stdout for job in jobs]
    assert said == [f"to far\n{role} a name; with $signs\n" for role in ("worker", "server", "scheduler")]


def test_machines_are_read_from_words_and_files(tmp_path: Path) -> None:
    assert read_hosts("a:2, b") == [("a", 2), ("b", 1)]
    file = tmp_path / "machines"
    file.write_text("# ours\na slots=2\nb:3\n\nc  # slow\n")
    assert read_hosts(str(file)) == [("a", 2), ("b", 3), ("c", 1)]
    with pytest.raises(OptionError, match="Received: 'a:many'"):
        read_hosts("a:many")
    with pytest.raises(OptionError, match="names no machine"):
        read_hosts(",")


def test_mistakes_are_sentences(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli.main(["launch", "-n", "2"]) == 2
    assert "What should be launched?" in capsys.readouterr().err
    assert cli.main(["launch", "-n", "2", "--env", "NO_SUCH", "train", "digits"]) == 2
    assert "--env NO_SUCH: there is no such variable here" in capsys.readouterr().err
    monkeypatch.setattr(launch, "_is_local", lambda host: False)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: [(0, 0, 0, "", ("127.0.1.1", 0))])
    assert cli.main(["launch", "-n", "2", "-H", "me,you", "--print", "train", "digits"]) == 2
    assert "Other machines cannot reach 'me', which is 127.0.1.1" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["launch", "-n", "0", "train", "digits"])
    assert "expected a number from 1" in capsys.readouterr().err


def test_print_starts_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        cli.main(["launch", "-n", "2", "-s", "1", "--port", "12345", "--print", "train", "digits", "--epochs", "1"])
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["worker 0", "worker 1", "server 0", "scheduler"]
    assert all("DMLC_PS_ROOT_PORT=12345" in line for line in lines)
    assert all(line.endswith("-m glueball train digits --epochs 1") for line in lines)

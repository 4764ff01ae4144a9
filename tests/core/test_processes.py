"""Several processes train as one: the same losses, metrics and decisions, one set of files, and one end for all."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import processes_jobs
import pytest

from glueball import backend, weights
from glueball.engine.checkpoint import CheckpointFolder

HERE = Path(__file__).parent
TOLERANCE = 1e-5


def environments(count: int) -> list[dict[str, str]]:
    selected = backend.current()
    if not hasattr(selected, "local_processes"):
        pytest.skip(f"the backend {selected.name} starts no processes yet")
    return selected.local_processes(count)


def start(words: list[str], count: int = 2) -> list[subprocess.Popen[str]]:
    """Processes that train together; helpers of the backend come last."""
    base = {**os.environ, "OMP_NUM_THREADS": "1", "GLUEBALL_BACKEND": backend.current().name}
    return [
        subprocess.Popen(
            [sys.executable, *words],
            env={**base, **environment},
            cwd=HERE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for environment in environments(count)
    ]


def finish(processes: list[subprocess.Popen[str]], count: int = 2, seconds: float = 150) -> list[str]:
    """Waits for the processes that train; what each of them said."""
    try:
        return [process.communicate(timeout=seconds)[0] for process in processes[:count]]
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def together(folder: Path, jobs: list[dict[str, Any]], count: int = 2) -> list[Any]:
    """Makes the runs of ``jobs`` in ``count`` processes; the results of rank 0, which are those of all."""
    (folder / "jobs.json").write_text(json.dumps(jobs))
    processes = start(["processes_jobs.py", str(folder / "jobs.json"), str(folder / "results")], count)
    outputs = finish(processes, count)
    assert [process.returncode for process in processes[:count]] == [0] * count, "\n".join(outputs)
    results = [json.loads((folder / f"results-{rank}.json").read_text()) for rank in range(count)]
    assert all(result == results[0] for result in results)
    return results[0]


def job(folder: Path, name: str, kind: str, **settings: Any) -> dict[str, Any]:
    return {"out": str(folder / name), "kind": kind, **settings}


KINDS: dict[str, dict[str, Any]] = {
    "pictures": {"kind": "pictures", "changes": {"epochs": 8}},
    "texts": {"kind": "texts", "changes": {"epochs": 5}},
    # 91 = 9 · 10 + 1 samples; with two batches for each update the last one of an epoch has half of them.
    "accumulated": {"kind": "points", "changes": {"count": 91, "batch_size": 10, "last_batch": "keep", "epochs": 6}},
    "unmerged": {"kind": "points", "changes": {"metrics": ["mean_of_batches", "median", "toy_accuracy"]}},
    "damaged": {"kind": "points", "changes": {"at": 5, "on_bad_sample": "skip", "accumulate": 1}},
    "not_finite": {"kind": "points", "changes": {"poison": 5, "nan_policy": "skip", "accumulate": 1}},
}
STOPPED_AFTER = 16


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of runs by one process and by two, and of some that changed from one to two and back."""
    folder = tmp_path_factory.mktemp("runs")
    results: dict[str, Any] = {}
    for name, settings in KINDS.items():
        results[f"{name}-alone"] = processes_jobs.run(job(folder, f"{name}-alone", **settings))
    for name in ("pictures", "accumulated"):
        processes_jobs.run(job(folder, f"{name}-grew", **KINDS[name], stop_after=STOPPED_AFTER))
    jobs = [job(folder, f"{name}-together", **settings) for name, settings in KINDS.items()]
    for name in ("pictures", "accumulated"):
        jobs.append(job(folder, f"{name}-grew", **KINDS[name], options={"resume": True}))
        # The signal reaches one of the processes; all stop at the same step.
        jobs.append(job(folder, f"{name}-shrank", **KINDS[name], stop_after=STOPPED_AFTER, rank=1))
        jobs.append(job(folder, f"{name}-again", **KINDS[name], stop_after=STOPPED_AFTER, rank=1))
        jobs.append(job(folder, f"{name}-again", **KINDS[name], options={"resume": True}))
    for item, result in zip(jobs, together(folder, jobs), strict=True):
        results[f"{Path(item['out']).name}{' resumed' if item.get('options') else ''}"] = result
    for name in ("pictures", "accumulated"):
        settings = {**KINDS[name], "options": {"resume": True}}
        results[f"{name}-shrank resumed"] = processes_jobs.run(job(folder, f"{name}-shrank", **settings))
    (folder / "all.json").write_text(json.dumps(results))
    return folder


def log_of(out: Path, event: str) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == event]


def losses(out: Path) -> np.ndarray:
    return np.array([line["step_loss"] for line in log_of(out, "step")])


def assert_close(one: Path, other: Path) -> None:
    """The same losses of the first 50 steps, and the same metrics after each epoch."""
    first, second = losses(one), losses(other)
    assert len(first) == len(second) >= 24
    np.testing.assert_allclose(second[:50], first[:50], rtol=TOLERANCE)
    for mine, theirs in zip(log_of(one, "epoch"), log_of(other, "epoch"), strict=True):
        for name, value in mine.items():
            if name.startswith(("train_", "validation_")):
                # Weights drift apart by rounding, slowly; metrics that count agree all the same.
                assert theirs[name] == pytest.approx(value, rel=1e-4), name


@pytest.mark.parametrize("name", KINDS)
def test_two_processes_are_as_one(runs: Path, name: str) -> None:
    assert_close(runs / f"{name}-alone", runs / f"{name}-together")


@pytest.mark.parametrize("name", ["pictures", "texts", "accumulated"])
def test_fifty_steps_are_compared(runs: Path, name: str) -> None:
    assert len(losses(runs / f"{name}-together")) >= 50


@pytest.mark.parametrize("name", ["pictures", "accumulated"])
@pytest.mark.parametrize("change", ["grew", "shrank"])
def test_a_run_goes_on_with_another_number_of_processes(runs: Path, name: str, change: str) -> None:
    results = json.loads((runs / "all.json").read_text())
    if change == "shrank":
        assert results[f"{name}-shrank"] == {"stopped": 143}
    assert results[f"{name}-{change} resumed"]["ended"] == "done"
    assert_close(runs / f"{name}-alone", runs / f"{name}-{change}")


@pytest.mark.parametrize("name", ["pictures", "accumulated"])
def test_two_processes_that_were_stopped_go_on_exactly(runs: Path, name: str) -> None:
    results = json.loads((runs / "all.json").read_text())
    assert results[f"{name}-again"] == {"stopped": 143}
    one, other = runs / f"{name}-together", runs / f"{name}-again"
    np.testing.assert_array_equal(losses(one), losses(other))
    states = [CheckpointFolder(out / "checkpoints").load_last() for out in (one, other)]
    for part in ("weights", "optimizer", "random"):
        first, second = (getattr(state, part) for state in states)
        assert first.keys() == second.keys()
        for key in first:
            np.testing.assert_array_equal(first[key], second[key], err_msg=f"{part} {key}")


def test_one_process_writes(runs: Path) -> None:
    out = runs / "pictures-together"
    start, *more = log_of(out, "start")
    assert not more
    assert start["processes"] == 2
    assert len(list(out.glob("events.out.tfevents.*"))) == 1
    assert len(log_of(out, "epoch")) == 8


def test_the_random_state_of_each_process_is_kept(runs: Path) -> None:
    checkpoint = CheckpointFolder(runs / "pictures-together" / "checkpoints").load_last()
    assert checkpoint is not None
    own = [name for name in checkpoint.random if name.startswith("rank1.")]
    assert len(own) == len(checkpoint.random) / 2
    alone = CheckpointFolder(runs / "pictures-alone" / "checkpoints").load_last()
    assert alone is not None
    assert not any(name.startswith("rank") for name in alone.random)


def test_metrics_that_cannot_be_merged_have_the_value_of_one_process(runs: Path) -> None:
    results = json.loads((runs / "all.json").read_text())
    alone, both = results["unmerged-alone"]["metrics"], results["unmerged-together"]["metrics"]
    assert set(alone) == {"mean_of_batches", "median", "accuracy"}
    assert both == pytest.approx(alone, rel=1e-4)
    assert both["accuracy"] == alone["accuracy"]


def test_all_leave_out_the_batch_that_is_not_finite_for_one(runs: Path) -> None:
    skipped = [log_of(runs / f"not_finite-{which}", "skipped_batch") for which in ("alone", "together")]
    places = [[(line["epoch"], line["batch"]) for line in lines] for lines in skipped]
    assert places[0] == places[1]
    assert len(places[0]) == 3  # once in each epoch


def test_damaged_samples_are_counted_once(runs: Path) -> None:
    counted = [log_of(runs / f"damaged-{which}", "skipped_samples") for which in ("alone", "together")]
    assert [line["samples"] for line in counted[0]] == [line["samples"] for line in counted[1]] == [1, 1, 1]


def test_weights_of_both_are_close(runs: Path) -> None:
    one, other = (
        weights.load(runs / f"texts-{which}" / "weights" / "last.safetensors") for which in ("alone", "together")
    )
    for name, values in one.items():
        np.testing.assert_allclose(other[name], values, rtol=1e-3, atol=1e-5, err_msg=name)
    # No gradient reaches them in either: nothing decays or moves.
    np.testing.assert_array_equal(one["spare.weight"], other["spare.weight"])


# ----------------------------------------------------------------------------------------------------------------------
# When one of them ends
# ----------------------------------------------------------------------------------------------------------------------

# What `glueball train --processes 2` does, with the toy's recipe.
LAUNCH = """
import sys
from glueball import backend
from glueball.cli.launch import Job, run_jobs
environments = backend.current().local_processes(2)
jobs = []
for number, environment in enumerate(environments):
    trains = environment.get("DMLC_ROLE", "worker") == "worker"
    name = f"rank {number}" if trains else f"helper {number}"
    jobs.append(Job(name=name, command=[sys.executable, *sys.argv[1:]], environment=environment, trains=trains))
sys.exit(run_jobs(jobs))
"""


def launch(folder: Path, jobs: list[dict[str, Any]]) -> tuple[int, str, float]:
    """Exit status, output and seconds of two processes that one launcher started."""
    environments(2)
    (folder / "jobs.json").write_text(json.dumps(jobs))
    words = ["processes_jobs.py", str(folder / "jobs.json"), str(folder / "results")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLUEBALL_BACKEND": backend.current().name}
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", LAUNCH, *words], cwd=HERE, env=environment, capture_output=True, text=True, timeout=150
    )
    return done.returncode, done.stdout + done.stderr, time.monotonic() - begin


def test_a_killed_process_ends_all(tmp_path: Path) -> None:
    # Sample 5 belongs to one of the two, and it never comes back from it.
    changes = {"at": 5, "dies": True, "accumulate": 1}
    status, output, _ = launch(tmp_path, [job(tmp_path, "run", "points", changes=changes)])
    assert status == 137, output
    assert "was ended by SIGKILL" in output
    assert not list(tmp_path.glob("results-*.json"))


def test_an_error_of_one_process_ends_all_and_is_shown(tmp_path: Path) -> None:
    status, output, _ = launch(tmp_path, [job(tmp_path, "run", "points", changes={"at": 5, "accumulate": 1})])
    assert status not in (0, 3), output
    assert "this point is damaged" in output
    assert "ended with status" in output


def test_a_signal_to_the_launcher_saves_and_ends_all(tmp_path: Path) -> None:
    environments(2)
    changes = {"pause": 0.01, "epochs": 500, "accumulate": 1}
    (tmp_path / "jobs.json").write_text(json.dumps([job(tmp_path, "run", "points", changes=changes)]))
    words = ["processes_jobs.py", str(tmp_path / "jobs.json"), str(tmp_path / "results")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLUEBALL_BACKEND": backend.current().name}
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCH, *words],
        cwd=HERE,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    log = tmp_path / "run" / "log.jsonl"
    end = time.monotonic() + 120
    try:
        while not (log.exists() and log.read_text().count('"step"') > 5):
            assert launcher.poll() is None, launcher.communicate()[0]
            assert time.monotonic() < end
            time.sleep(0.1)
        launcher.terminate()
        output = launcher.communicate(timeout=60)[0]
    finally:
        launcher.kill()
        launcher.wait()
    for rank in range(2):
        assert json.loads((tmp_path / f"results-{rank}.json").read_text()) == [{"stopped": 143}], output
    checkpoint = CheckpointFolder(tmp_path / "run" / "checkpoints").load_last()
    assert checkpoint is not None
    assert checkpoint.state["progress"]["batch"] or checkpoint.state["progress"]["epoch"]


def test_a_script_of_ones_own(tmp_path: Path) -> None:
    processes = start(["processes_script.py", str(tmp_path)])
    outputs = finish(processes)
    assert [process.returncode for process in processes[:2]] == [0, 0], "\n".join(outputs)
    said = [json.loads((tmp_path / f"said-{rank}.json").read_text()) for rank in range(2)]
    assert said[0] == said[1]
    # The best weights are those of the only epoch.
    assert said[0]["measured"] == pytest.approx(said[0]["metrics"])
    assert said[0]["answers"] == [1, 3]

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import engine_toy
import numpy as np
import pytest

from glueball import backend, weights
from glueball.data import DataLoader
from glueball.engine import Component, DataSpec, Trainer
from glueball.engine.checkpoint import CheckpointFolder
from glueball.engine.prefetch import Prefetcher
from glueball.errors import CheckpointError, GlueballError, OptionError, TrainingError
from glueball.testing import isolated_catalog

CLEAN = {"dropout": 0.0}


def test_the_toy_is_learned_and_everything_is_left_behind(tmp_path: Path) -> None:
    trainer, result = engine_toy.run(tmp_path / "run", {"epochs": 6}, draw=True)
    assert result.metrics["accuracy"] >= 0.9
    for name in ("recipe.json", "run.json", "environment.json", "log.jsonl", "weights/best.safetensors"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    # Core alone brings nothing that draws; then the log says so.
    can_draw = any(find_spec(name) is not None for name in ("matplotlib", "PIL"))
    assert (tmp_path / "run" / "curves.png").exists() == can_draw
    assert ("no_curves" in (tmp_path / "run" / "log.jsonl").read_text()) != can_draw
    assert list((tmp_path / "run").glob("events.out.tfevents.*"))
    description = json.loads((tmp_path / "run" / "run.json").read_text())
    assert description["best"]["epoch"] == result.best_epoch
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["backend"]["name"] == backend.current().name
    # The network that fit leaves has the best weights.
    best = weights.load(tmp_path / "run" / "weights" / "best.safetensors")
    for name, value in backend.current().get_arrays(trainer.network).items():
        np.testing.assert_array_equal(value, best[name])
    with isolated_catalog({"toy": engine_toy.ToyPlugin()}):
        assert trainer.evaluate("validation") == pytest.approx(dict(result.metrics))
        # "test" falls back to the validation data.
        assert trainer.evaluate() == pytest.approx(dict(result.metrics))


def test_two_runs_of_one_seed_are_equal_and_another_seed_is_not(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        engine_toy.run(tmp_path / name, {"epochs": 1, "seed": seed})
    one, two, three = (weights.load(tmp_path / name / "weights" / "last.safetensors") for name in "abc")
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert not all(np.array_equal(one[name], three[name]) for name in one)


def test_every_sample_is_seen_once_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    real = Trainer._train_batch

    def spy(self: Trainer, loaded: Any) -> None:
        seen.append(loaded.host[0])
        real(self, loaded)

    monkeypatch.setattr(Trainer, "_train_batch", spy)
    monkeypatch.setattr(engine_toy.Points, "fetch", lambda self, index, random=None: (self._points[index], 0))
    engine_toy.run(tmp_path / "run", {"epochs": 1, "last_batch": "keep", "batch_size": 10})
    points = np.concatenate(seen)
    np.testing.assert_array_equal(np.sort(points[:, 0]), np.sort(engine_toy.Points()._points[:, 0]))


def test_the_schedule_reaches_the_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    real = Trainer._train_batch

    def spy(self: Trainer, loaded: Any) -> None:
        rates.append(self._schedule(self._progress.step))
        real(self, loaded)

    monkeypatch.setattr(Trainer, "_train_batch", spy)
    engine_toy.run(tmp_path / "run", {"epochs": 2})
    assert len(rates) == 24
    assert rates[0] == pytest.approx(0.05 / 3)
    # Two batches make one update, so the rate changes with every other batch.
    assert rates[0] == rates[1] != rates[2]
    assert 0 < rates[-1] < 0.005


def test_patience_ends_early(tmp_path: Path) -> None:
    _, result = engine_toy.run(
        tmp_path / "run", {"epochs": 40, "patience": 2, "learning_rate": 1e-9, "ema_decay": None}
    )
    assert result.ended == "no gain"
    assert result.epochs < 40


def test_validation_now_and_then_and_at_the_end(tmp_path: Path) -> None:
    engine_toy.run(tmp_path / "run", {"epochs": 5, "validate_every": 2})
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if "validation_accuracy" in line] == [2, 4, 5]


def test_without_validation_data_the_last_weights_count(tmp_path: Path) -> None:
    _, result = engine_toy.run(tmp_path / "run", {"epochs": 2, "data": DataSpec(train=Component(name="points"))})
    assert result.best_epoch is None
    assert set(result.metrics) == {"loss", "accuracy"}
    assert not (tmp_path / "run" / "weights" / "best.safetensors").exists()


def test_monitoring_a_metric_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"monitor='top7' is no metric of this run\. Measured: accuracy"):
        engine_toy.run(tmp_path / "run", {"epochs": 1, "monitor": "top7"})


# ----------------------------------------------------------------------------------------------------------------------
# Losses that are not finite
# ----------------------------------------------------------------------------------------------------------------------


def test_a_bad_loss_is_an_error_with_the_batch_saved(tmp_path: Path) -> None:
    with pytest.raises(
        TrainingError, match=r"(?s)In epoch 1, batch \d+, the .* (is nan|not finite)\..*nan_policy=skip"
    ):
        engine_toy.run(tmp_path / "run", {"poison": 5})
    # MXNet's ReLU takes NaN for 0, so the loss may show it one step late: the batch before is saved too.
    saved = [weights.load(path) for path in sorted((tmp_path / "run" / "bad_batches").iterdir())]
    assert any(not np.isfinite(arrays["input0"]).all() for arrays in saved)
    assert saved[-1]["input1"].shape == (8,)


def test_skipping_trains_on_as_if_the_batch_had_not_been_there(tmp_path: Path) -> None:
    expected = []
    for epoch in range(3):
        loader = DataLoader(engine_toy.Points(poison=5), 8, shuffle=True, last_batch="discard")
        loader.set_epoch(epoch)
        expected += [[epoch, at] for at, (points, _) in enumerate(loader) if not np.isfinite(points).all()]
    _, result = engine_toy.run(tmp_path / "run", {"poison": 5, "nan_policy": "skip"})
    assert result.ended == "done"
    assert result.metrics["accuracy"] > 0.6
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    last = CheckpointFolder(tmp_path / "run" / "checkpoints").load_last()
    assert last is not None
    # The point is in one batch of each of the three epochs, and exactly that batch is left out.
    for saved in last.state["progress"]["bad_batches"]:
        assert saved in expected
    assert [epoch for epoch, _ in last.state["progress"]["bad_batches"]] == [0, 1, 2]
    assert all(np.isfinite(value).all() for value in last.weights.values())
    assert [line["step"] for line in lines if line["event"] == "epoch"] == [6, 12, 18]


def test_stopping_keeps_the_last_good_weights(tmp_path: Path) -> None:
    _, result = engine_toy.run(tmp_path / "run", {"poison": 5, "nan_policy": "stop"})
    assert result.ended == "bad numbers"
    last = weights.load(tmp_path / "run" / "weights" / "last.safetensors")
    assert all(np.isfinite(value).all() for value in last.values())


# ----------------------------------------------------------------------------------------------------------------------
# Disks, devices, data
# ----------------------------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_leaves_a_run_that_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from glueball.engine import checkpoint

    real, calls = checkpoint.save_file, 0

    def fill(arrays: Any, path: Path) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:  # the second array file of the second checkpoint
            raise OSError(28, "No space left on device")
        real(arrays, path)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", fill)
        with pytest.raises(CheckpointError, match=r"No space left.*The last good one is .*000001-epoch-0001.*--resume"):
            engine_toy.run(tmp_path / "run", {})
    _, result = engine_toy.run(tmp_path / "run", {}, resume=True)
    assert result.epochs == 3


def test_unknown_devices_and_precisions(tmp_path: Path) -> None:
    with isolated_catalog({"toy": engine_toy.ToyPlugin()}):
        with pytest.raises(OptionError, match=r"Available: .*cpu"):
            Trainer(engine_toy.recipe(), tmp_path, device="cuda:7")
        if backend.current().supports_precision("float16", "cpu") is not None:
            with pytest.raises(OptionError, match="precision=float16 is of no use on cpu"):
                Trainer(engine_toy.recipe(precision="float16"), tmp_path, device="cpu")
        trainer = Trainer(engine_toy.recipe(precision="auto"), tmp_path, device="cpu")
        assert trainer.precision in ("float32", "bfloat16")


def test_empty_data(tmp_path: Path) -> None:
    with pytest.raises(GlueballError, match="no samples"):
        engine_toy.run(tmp_path / "run", {"data": DataSpec(train=Component(name="points", options={"count": 0}))})


def test_errors_of_the_loader_reach_the_caller_and_the_thread_ends() -> None:
    def batches() -> Any:
        yield (np.zeros(2),)
        raise TrainingError("a worker died")

    with Prefetcher(batches(), lambda array: array) as prefetcher, pytest.raises(TrainingError, match="a worker died"):
        list(prefetcher)
    assert not prefetcher._thread.is_alive()


def test_a_prefetcher_can_be_left_early_and_reports_its_place() -> None:
    taken = 0

    def batches() -> Any:
        nonlocal taken
        for taken in range(1, 1000):
            yield (np.array([taken]),)

    with Prefetcher(batches(), lambda array: array * 10, state=lambda: taken, depth=3) as prefetcher:
        iterator = iter(prefetcher)
        first, second = next(iterator), next(iterator)
    assert (first.loader_state, second.loader_state) == (1, 2)
    assert second.device[0] == 20
    assert taken < 10

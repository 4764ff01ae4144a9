"""``glueball bench``: what it measures, in a process for each model, and the figure; never how fast anything is."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from synthetic_distributions import install

from glueball import backend, cli
from glueball.catalog.discovery import Source
from glueball.catalog.entries import Entry
from glueball.cli import bench, bench_chart
from glueball.engine import model_speed
from glueball.errors import OptionError
from glueball.testing import isolated_catalog

PLUGIN = """
from glueball.plugin import Weights, hookimpl

def _weights(top1):
    return {"roses": Weights(file="rose-00000000.params", sha1="0" * 40, metrics={"top1": top1, "top5": 99.0})}

@hookimpl
def register_models(register):
    for name, options, top1 in (("rose_small", 4, 60.5), ("rose_large", 16, 71.25)):
        register(
            name, "bench_targets:rose", task="image_classification", input_shape=(3, 8, 8), classes=5,
            bench_options={"channels": options}, weights=_weights(top1),
        )
    register(
        "words", "bench_targets:words", task="text_classification", classes=2, test_inputs=("tokens", "length"),
        test_input_shape=(4,), test_options={"vocab_size": 9}, bench_input_shape=(12,),
        bench_options={"vocab_size": 50},
    )
    register("pair", "bench_targets:pair", task="pairing", input_shape=(6,))
    register("broken", "bench_targets:broken", task="image_classification", input_shape=(3, 8, 8))
    register("shapeless", "bench_targets:rose", task="image_classification")
    register("killed", "bench_targets:killed", task="image_classification", input_shape=(3, 8, 8))
"""

TARGETS = """
import os
import signal

from glueball import nn


def rose(channels=2, classes=5):
    print("a library that prints")
    network = nn.HybridSequential()
    network.add(nn.Conv2D(channels, 3), nn.BatchNorm(), nn.Activation("relu"), nn.Dense(classes))
    return network


class Words(nn.HybridBlock):
    def __init__(self, vocab_size, classes):
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, 4)
        self.output = nn.Dense(classes)

    def hybrid_forward(self, F, token_ids, valid_length):
        mean = F.mean(self.embedding(token_ids), axis=1)
        return F.broadcast_mul(self.output(mean), F.reshape(valid_length, (-1, 1)))


def words(vocab_size, classes=2):
    return Words(vocab_size, classes)


class Pair(nn.HybridBlock):
    def __init__(self):
        super().__init__()
        self.one = nn.Dense(3)
        self.other = nn.Dense(2)

    def hybrid_forward(self, F, data):
        return self.one(data), [self.other(data)]


def pair():
    return Pair()


def broken(classes=5):
    raise RuntimeError("first line\\nthe flower is wilted")


def killed(classes=5):
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def garden(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A plugin that is found here and in the processes that measure."""
    site = tmp_path / "site"
    site.mkdir()
    install(
        site,
        "glueball-bench-garden",
        plugin="bench_garden",
        module="bench_garden_module",
        code=PLUGIN,
        files={"bench_targets.py": TARGETS},
    )
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("GLUEBALL_BACKEND", backend.current().name)
    monkeypatch.delenv("GLUEBALL_PLUGINS", raising=False)
    source = Source("bench_garden", "bench_garden_module", "glueball-bench-garden", "1.0")
    with isolated_catalog(sources=[source]):
        yield
    for name in ("bench_garden_module", "bench_targets"):
        sys.modules.pop(name, None)


SHORT = ("--seconds", "0", "--batch-size", "2", "--device", "cpu", "--precision", "float32")


def call(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    status = cli.main(["bench", *words, *SHORT])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


@pytest.mark.usefixtures("garden")
def test_models_are_measured_in_both_modes(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "rose_large", "words", "--json")
    rows = json.loads(out)
    assert status == 0, rows
    assert [(row["model"], row["mode"]) for row in rows] == [
        ("rose_large", "inference"),
        ("rose_large", "training"),
        ("words", "inference"),
        ("words", "training"),
    ]
    for row in rows:
        assert row["backend"] == backend.current().name
        assert (row["device"], row["precision"], row["batch_size"]) == ("cpu", "float32", 2)
        assert 0 < row["slowest"] <= row["samples_per_second"] <= row["fastest"]
        assert row["turns"] == 5
        assert row["memory"] is None or row["memory"] >= 0
    rose, words = rows[0], rows[2]
    # 16 filters of 3 x 3 x 3 with bias, two numbers of the normalisation each, and a dense layer on 16 x 6 x 6.
    assert rose["parameters"] == 16 * 28 + 16 * 2 + 16 * 36 * 5 + 5
    assert rose["input_shape"] == [3, 8, 8]
    assert rose["published"] == {"weights": "roses", "metric": "top1", "value": 71.25}
    assert words["parameters"] == 50 * 4 + 4 * 2 + 2
    assert words["input_shape"] == [12]
    assert words["published"] is None


@pytest.mark.usefixtures("garden")
def test_the_table_names_its_conditions(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "measured", model_speed.answer)
    status, out, _ = call(capsys, "rose_small", "--modes", "inference")
    assert status == 0
    heading, row = out.splitlines()[1:3]  # after what the model's library has printed in this process
    assert heading.split()[:3] == ["MODEL", "MODE", "SAMPLES/S"]
    assert row.split()[:2] == ["rose_small", "inference"]
    assert "top1 60.5, roses" in out
    assert f"On {backend.current().name}, cpu, in float32, with batches of 2" in out


@pytest.mark.usefixtures("garden")
def test_models_that_return_several_arrays_are_trained_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "measured", model_speed.answer)
    status, out, _ = call(capsys, "pair", "--json", "--modes", "training")
    assert status == 0
    assert json.loads(out)[0]["parameters"] == 6 * 3 + 3 + 6 * 2 + 2


@pytest.mark.usefixtures("garden")
def test_a_model_that_fails_is_a_line_and_not_the_end(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "measured", model_speed.answer)
    status, out, err = call(capsys, "broken", "shapeless", "rose_small", "--modes", "inference")
    assert status == 1
    assert "rose_small" in out
    assert "broken in inference was not measured: RuntimeError: the flower is wilted" in err
    assert "shapeless in inference was not measured: The model 'shapeless' states neither bench_input_shape" in err


@pytest.mark.usefixtures("garden")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals")
def test_a_process_that_is_killed_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, "killed", "--modes", "inference", "--json")
    assert status == 1
    assert "ended by signal 9" in json.loads(out)[0]["error"]


def test_a_process_that_says_nothing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent:
        returncode = 3

        def __init__(self, *words: Any, **options: Any) -> None: ...

        def communicate(self, text: str) -> tuple[str, str]:
            return "", "Traceback\nMemoryError: no room\n"

        def poll(self) -> int:
            return 3

    monkeypatch.setattr(subprocess, "Popen", Silent)
    assert bench.measured({"name": "x"}) == {"error": "its process ended with status 3: MemoryError: no room"}


@pytest.mark.usefixtures("garden")
def test_an_interrupt_ends_the_process_that_measures(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    class Endless:
        def __init__(self, *words: Any, **options: Any) -> None: ...

        def communicate(self, text: str) -> tuple[str, str]:
            raise KeyboardInterrupt

        def poll(self) -> None:
            return None

        def kill(self) -> None:
            ended.append("killed")

        def wait(self) -> None:
            ended.append("waited for")

    monkeypatch.setattr(subprocess, "Popen", Endless)
    assert cli.main(["bench", "rose_small"]) == 130
    assert ended == ["killed", "waited for"]


@pytest.mark.usefixtures("garden")
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rose_smal2"], "No model fits 'rose_smal2'. Did you mean 'rose_small'"),
        (["rose_small", "--plot", "figure.jpg"], "ends in .png, .svg, .pdf"),
        (["rose_small", "--plot", "nowhere/figure.png"], "in a folder that exists"),
        (["--task", "image_classificatoin"], "Did you mean 'image_classification'"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_runs(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "measured", lambda request: pytest.fail("something was measured"))
    status, _, err = call(capsys, *words)
    assert status == 2
    assert message in err


@pytest.mark.usefixtures("garden")
@pytest.mark.parametrize(
    "words", [["--batch-size", "0"], ["--batch-size", "x"], ["--seconds", "-1"], ["--warm-up", "inf"]]
)
def test_numbers_are_checked(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        cli.main(["bench", "rose_small", *words])
    assert exit_info.value.code == 2
    assert "is expected. Received" in capsys.readouterr().err


@pytest.mark.usefixtures("garden")
def test_plot_without_matplotlib_says_how_to_install_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(bench, "measured", lambda request: pytest.fail("something was measured"))
    status, _, err = call(capsys, "rose_small", "--plot", str(tmp_path / "figure.png"))
    assert status == 2
    assert 'pip install "glueball-core[plots]"' in err


def test_without_models_nothing_is_measured(capsys: pytest.CaptureFixture[str]) -> None:
    with isolated_catalog():
        assert cli.main(["bench"]) == 0
    assert "there are no models to measure" in capsys.readouterr().err


def answers(request: dict[str, Any]) -> dict[str, Any]:
    size = {"rose_small": 1, "rose_large": 4}.get(request["name"], 2)
    return {
        "model": request["name"],
        "mode": request["mode"],
        "backend": "torch",
        "device": "cpu",
        "precision": "float32",
        "batch_size": request["batch_size"],
        "input_shape": [3, 8, 8],
        "samples_per_second": 100.0 / size,
        "slowest": 90.0 / size,
        "fastest": 110.0 / size,
        "turns": 5,
        "parameters": 10 * size,
        "memory": size << 24,
    }


@pytest.mark.usefixtures("garden")
@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_plot_draws_models_with_published_results(
    ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(bench, "measured", answers)
    drawn: list[bench_chart.Circle] = []
    draw = bench_chart.draw

    def remember(circles: Any, path: Path, *, x_label: str) -> None:
        drawn.extend(circles)
        assert "inference on torch, cpu, float32, batches of 2" in x_label
        draw(circles, path, x_label=x_label)

    monkeypatch.setattr(bench_chart, "draw", remember)
    path = tmp_path / f"figure.{ending}"
    status, _, err = call(capsys, "rose_small", "rose_large", "words", "--plot", str(path))
    assert status == 0
    assert [(circle.label, circle.x, circle.y, circle.memory) for circle in drawn] == [
        ("rose_small", 100.0, 60.5, 16.0),
        ("rose_large", 25.0, 71.25, 64.0),
    ]
    assert {circle.family for circle in drawn} == {"bench_targets"}
    assert path.read_bytes()[:5] == {"png": b"\x89PNG\r", "svg": b"<?xml", "pdf": b"%PDF-"}[ending]
    assert "not in the figure, because no accuracy is published with their weights: words" in err


@pytest.mark.usefixtures("garden")
def test_plot_of_nothing_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(bench, "measured", answers)
    path = tmp_path / "figure.png"
    assert call(capsys, "words", "--plot", str(path))[0] == 0
    assert not path.exists()


def test_area_of_a_circle_stands_for_the_memory() -> None:
    assert bench_chart.radius(400.0, 1600.0) * 2 == pytest.approx(bench_chart.radius(1600.0, 1600.0))


def test_names_cover_neither_each_other_nor_the_edge() -> None:
    random = np.random.default_rng(0)
    centers = [(float(x), float(y)) for x, y in random.uniform(40, 360, (14, 2))]
    radii = [float(size) for size in random.uniform(3, 12, 14)]
    sizes = [(45.0, 9.0)] * 14
    frame = (0.0, 0.0, 400.0, 400.0)
    boxes = bench_chart.place_labels(centers, radii, sizes, frame)
    for index, box in enumerate(boxes):
        assert (box[2] - box[0], box[3] - box[1]) == pytest.approx((45.0, 9.0))
        assert bench_chart.overlap(box, frame) == pytest.approx(45.0 * 9.0)
        assert all(bench_chart.overlap(box, other) == 0 for other in boxes[:index])


def test_inputs_are_of_the_size_that_the_model_is_used_with() -> None:
    texts = {"test_inputs": ("tokens", "length"), "test_input_shape": (4,), "test_options": {"vocab_size": 9}}
    entry = Entry(
        "model", "words", "a:b", "p", "d", {**texts, "bench_input_shape": (300,), "bench_options": {"vocab_size": 70}}
    )
    (tokens, lengths), options = model_speed.inputs_for(entry, 5)
    assert (tokens.shape, tokens.dtype, options) == ((5, 300), np.int32, {"vocab_size": 70})
    assert 60 < tokens.max() < 70
    assert lengths.tolist() == [300.0] * 5

    (tokens, _), options = model_speed.inputs_for(Entry("model", "words", "a:b", "p", "d", texts), 2)
    assert (tokens.shape, options) == ((2, 4), {"vocab_size": 9})

    pictures = {"input_shape": (3, 8, 8), "test_input_shape": (3, 4, 4)}
    (data,), options = model_speed.inputs_for(Entry("model", "rose", "a:b", "p", "d", pictures), 2)
    assert (data.shape, data.dtype, options) == ((2, 3, 8, 8), np.float32, {})


@pytest.mark.usefixtures("garden")
def test_an_unknown_mode_is_refused() -> None:
    with pytest.raises(OptionError, match=r"mode is one of inference, training\. Received: 'sleeping'"):
        model_speed.measure("rose_small", "sleeping")


@pytest.mark.usefixtures("garden")
def test_training_changes_the_weights_that_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def timed(run: Any, synchronize: Any, seconds: float, warm_up: float) -> tuple[list[float], int]:
        before = [backend.current().numpy(item.data()).copy() for item in seen[0].values()]
        run()
        synchronize()
        after = [backend.current().numpy(item.data()) for item in seen[0].values()]
        assert any(not np.array_equal(one, other) for one, other in zip(before, after, strict=True))
        return [0.5, 0.25, 1.0], 3

    current = backend.current()
    parameters = type(current).parameters

    def remember(self: Any, network: Any) -> Any:
        found = parameters(self, network)
        if any(item.shape == (4, 3, 3, 3) for item in found.values()):
            seen[:] = [found]
        return found

    monkeypatch.setattr(type(current), "parameters", remember)
    monkeypatch.setattr(model_speed, "_timed", timed)
    speed = model_speed.measure("rose_small", "training", batch_size=2, device="cpu", precision="float32")
    assert (speed.samples_per_second, speed.slowest, speed.fastest) == (12.0, 6.0, 24.0)


def test_turns_are_long_enough_to_be_timed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(model_speed.time, "perf_counter", lambda: now[0])
    runs = []

    def run() -> None:
        runs.append(now[0])
        now[0] += 0.03

    turns, batches = model_speed._timed(run, lambda: None, seconds=1.0, warm_up=0.5)
    assert batches == 4
    assert turns == pytest.approx([0.12] * 9)
    assert len(runs) == 17 + 9 * 4

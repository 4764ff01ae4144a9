"""What a run leaves behind for people and tools: event files, logs and curves."""

from __future__ import annotations

import builtins
import gc
import json
import struct
from pathlib import Path
from typing import Any

import pytest

from glueball.engine import chart, curves
from glueball.engine.logs import RunLog
from glueball.engine.tensorboard import crc32c, read_records, record


def test_crc32c_has_the_check_value_of_the_standard() -> None:
    # RFC 3720, appendix B.4
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(bytes(32)) == 0x8A9136AA


def fields(message: bytes) -> dict[int, list[Any]]:
    """A protocol buffer by field number; enough of the format to read back what was written."""
    found: dict[int, list[Any]] = {}
    position = 0

    def varint() -> int:
        nonlocal position
        value = shift = 0
        while True:
            byte = message[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    while position < len(message):
        key = varint()
        number, wire = key >> 3, key & 7
        if wire == 0:
            item: Any = varint()
        elif wire == 1:
            item = struct.unpack("<d", message[position : position + 8])[0]
            position += 8
        elif wire == 5:
            item = struct.unpack("<f", message[position : position + 4])[0]
            position += 4
        else:
            length = varint()
            item = message[position : position + length]
            position += length
        found.setdefault(number, []).append(item)
    return found


def scalars(path: Path) -> list[tuple[int, dict[str, float]]]:
    events = [fields(content) for content in read_records(path.read_bytes())]
    assert events[0][3] == [b"brain.Event:2"]
    result = []
    for event in events[1:]:
        (summary,) = event[5]
        values = [fields(value) for value in fields(summary)[1]]
        result.append((event[2][0], {value[1][0].decode(): value[2][0] for value in values}))
    return result


def test_event_files_hold_the_scalars(tmp_path: Path) -> None:
    log = RunLog(tmp_path, tmp_path / "log.jsonl", quiet=True)
    log.scalars("step", 300, {"train_loss": 0.5, "learning_rate": 0.25})
    log.scalars("step", 100_000, {"train_loss": 2.0})
    log.close()
    (path,) = tmp_path.glob("events.out.tfevents.*")
    assert scalars(path) == [(300, {"train/loss": 0.5, "learning_rate": 0.25}), (100_000, {"train/loss": 2.0})]


def test_only_the_parts_of_a_run_make_groups_of_tags(tmp_path: Path) -> None:
    log = RunLog(tmp_path, tmp_path / "log.jsonl", quiet=True)
    names = ("step_loss", "learning_rate", "train_top_5", "validation_loss", "trainable_share", "train_")
    log.scalars("step", 1, dict.fromkeys(names, 1.0))
    log.close()
    (path,) = tmp_path.glob("events.out.tfevents.*")
    tags = ["step_loss", "learning_rate", "train/top_5", "validation/loss", "trainable_share", "train_"]
    assert list(scalars(path)[0][1]) == tags


def test_a_new_run_keeps_the_header_of_its_event_file(tmp_path: Path) -> None:
    log = RunLog(tmp_path, tmp_path / "log.jsonl", quiet=True)
    log.truncate({"log": 0, "events": 0})
    log.scalars("step", 1, {"train_loss": 0.5})
    log.close()
    (path,) = tmp_path.glob("events.out.tfevents.*")
    assert scalars(path) == [(1, {"train/loss": 0.5})]
    # A full disk may have cut the header itself short.
    path.write_bytes(path.read_bytes()[:20])
    log = RunLog(tmp_path, tmp_path / "log.jsonl", quiet=True)
    log.scalars("step", 2, {"train_loss": 0.25})
    log.close()
    assert scalars(path) == [(2, {"train/loss": 0.25})]


def test_tensorboard_itself_reads_the_file(tmp_path: Path) -> None:
    loader = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard")
    log = RunLog(tmp_path, tmp_path / "log.jsonl", quiet=True)
    log.scalars("step", 7, {"train_loss": 0.5})
    log.close()
    reader = loader.EventAccumulator(str(tmp_path))
    reader.Reload()
    (event,) = reader.Scalars("train/loss")
    assert (event.step, event.value) == (7, 0.5)


def test_damaged_records_are_noticed() -> None:
    data = bytearray(record(b"content") * 2)
    data[-6] ^= 1
    with pytest.raises(ValueError, match="damaged record"):
        list(read_records(bytes(data)))
    with pytest.raises(ValueError, match="damaged record"):
        list(read_records(record(b"content")[:-1]))


def test_logs_go_back_to_a_checkpoint_and_on(tmp_path: Path) -> None:
    log = RunLog(tmp_path, tmp_path / "log.jsonl", quiet=True)
    log.scalars("step", 1, {"train_loss": 1.0})
    sizes = log.sizes()
    log.scalars("step", 2, {"train_loss": float("nan")})
    log.close()
    log = RunLog(tmp_path, tmp_path / "log.jsonl", quiet=True)
    log.truncate(sizes)
    log.scalars("step", 2, {"train_loss": 0.5})
    log.close()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["step"], line["train_loss"]) for line in lines] == [(1, 1.0), (2, 0.5)]
    (path,) = tmp_path.glob("events.out.tfevents.*")
    assert [step for step, _ in scalars(path)] == [1, 2]


def test_numbers_that_json_lacks_become_text(tmp_path: Path) -> None:
    log = RunLog(tmp_path, tmp_path / "log.jsonl", quiet=True)
    log.event("bad", loss=float("inf"))
    log.close()
    assert json.loads((tmp_path / "log.jsonl").read_text(), parse_constant=pytest.fail)["loss"] == "inf"


HISTORY = [
    {
        "epoch": epoch,
        "train_loss": 2 / epoch,
        "validation_loss": 2.2 / epoch,
        "train_accuracy": 1 - 1 / epoch,
        "learning_rate": 0.1 / epoch,
    }
    for epoch in range(1, 9)
]


def test_panels_show_training_and_validation_together() -> None:
    panels = curves.panels(HISTORY)
    assert [panel.title for panel in panels] == ["loss", "accuracy", "learning rate"]
    assert [series.label for series in panels[0].series] == ["training", "validation"]
    assert not panels[0].logarithmic
    wild = [{"epoch": 1, "train_loss": 300.0}, {"epoch": 2, "train_loss": 0.5}]
    assert curves.panels(wild)[0].logarithmic


@pytest.mark.parametrize("draw", [curves.draw, lambda rows, path: chart.draw(curves.panels(rows), path)])
def test_curves_are_drawn(tmp_path: Path, draw: Any) -> None:
    image_module = pytest.importorskip("PIL.Image", reason="needs Pillow")
    path = tmp_path / "curves.png"
    assert draw(HISTORY, path) is None
    with image_module.open(path) as picture:
        colors = {color for _, color in picture.convert("RGB").getcolors(1 << 24)}
    wanted = tuple(int(chart.COLORS[0][start : start + 2], 16) for start in (1, 3, 5))
    assert any(max(abs(a - b) for a, b in zip(color, wanted, strict=True)) < 12 for color in colors)


def test_drawing_curves_leaves_nothing_behind(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    figures = []

    def count() -> int:
        from matplotlib.figure import Figure

        # Not isinstance, which asks every object for its class: some warn when they are asked anything.
        return sum(type(item) is Figure for item in gc.get_objects())

    gc.disable()
    try:
        for _ in range(3):
            curves.draw(HISTORY, tmp_path / "curves.png")
            figures.append(count())
    finally:
        gc.enable()
    assert figures == [0, 0, 0]


def test_curves_of_constant_and_missing_values(tmp_path: Path) -> None:
    pytest.importorskip("PIL.Image", reason="needs Pillow")
    rows = [{"epoch": 1, "train_loss": float("nan"), "learning_rate": 0.1}]
    chart.draw(curves.panels(rows), tmp_path / "one.png")
    assert (tmp_path / "one.png").stat().st_size > 1000


def test_without_a_drawing_library_the_reason_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    reason = curves.draw(HISTORY, tmp_path / "curves.png")
    assert reason is not None
    assert "Pillow" in reason
    assert not (tmp_path / "curves.png").exists()


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3, 250), (0.9801, 0.9804), (1e-6, 2e-6)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    ticks = chart.round_ticks(low, high)
    assert 2 <= len(ticks) <= 7
    assert all(low - 1e-9 * (high - low) <= tick <= high + 1e-9 * (high - low) for tick in ticks)


def test_core_needs_no_drawing_library_to_import(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    real = builtins.__import__

    def refuse(name: str, *args: Any) -> Any:
        if name.split(".")[0] in ("PIL", "matplotlib"):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", refuse)
    importlib.reload(chart)
    importlib.reload(curves)

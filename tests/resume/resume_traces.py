"""What a run leaves behind, read so that two runs can be compared to the last bit.

Compared are the log, TensorBoard's events, the weights, the whole state of the last checkpoint, the description and the
recipe. Left out is what the clock decides and nothing else: ``time`` and ``seconds`` in the log, the wall time of
TensorBoard's events, ``progress.seconds`` in a checkpoint, and the lengths of the two files in bytes (times are written
with more digits or fewer); from a recipe ``workers`` and ``worker_type``, which may change on the way.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from glueball.engine.checkpoint import CheckpointFolder
from glueball.engine.tensorboard import read_records

_WALL_TIME_BYTES = 9
"""How an event begins: a tag and a double."""

_MAY_CHANGE = ("workers", "worker_type")
_MAY_LIE_THERE = re.compile(
    r"recipe\.json|run\.json|environment\.json|log\.jsonl|cross_validation\.json|events\.out\.tfevents\..*|fold-\d\d"
    r"|weights|checkpoints|bad_batches|best\.safetensors|last\.safetensors|best\.json|\d{6}-epoch-\d+-step-\d+"
    r"|(weights|optimizer|random)\.safetensors|state\.json|epoch-\d+-batch-\d+\.safetensors"
)


def log_lines(out: Path) -> list[dict[str, Any]]:
    """The log without what the clock decides."""
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{key: value for key, value in line.items() if key not in ("time", "seconds")} for line in lines]


def events(out: Path) -> list[bytes]:
    """TensorBoard's events without their wall times; the first one, the header, holds nothing else."""
    files = sorted(out.glob("events.out.tfevents.*"))
    return [record[_WALL_TIME_BYTES:] for file in files for record in read_records(file.read_bytes())]


def trace(out: Path) -> dict[str, Any]:
    """Everything that two runs must have in common, by name."""
    last = CheckpointFolder(out / "checkpoints").load_last()
    assert last is not None
    assert last.path is not None
    state = json.loads(json.dumps(last.state))
    del state["progress"]["seconds"], state["files"]
    recipe = json.loads((out / "recipe.json").read_text(encoding="utf-8"))
    content = {
        "log": log_lines(out),
        "events": events(out),
        "state": state,
        "recipe": {key: value for key, value in recipe.items() if key not in _MAY_CHANGE},
        "run.json": json.loads((out / "run.json").read_text(encoding="utf-8")),
    }
    for path in [*sorted((out / "weights").glob("*.safetensors")), *sorted(last.path.glob("*.safetensors"))]:
        content[f"{path.parent.name.split('-')[0]}/{path.name}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    # By what they are, not by how many were written before.
    return {re.sub(r"^\d+/", "checkpoint/", name): value for name, value in content.items()}


def differences(straight: Path, killed: Path, folds: int | None = None) -> list[str]:
    """Where a run that was killed and resumed differs from the one that never stopped; empty if nowhere."""
    found = [f"left behind: {path.relative_to(killed)}" for path in _strange(killed)]
    pairs = [(straight, killed, "")]
    if folds:
        pairs = [(straight / f"fold-{n:02d}", killed / f"fold-{n:02d}", f"fold {n}: ") for n in range(1, folds + 1)]
        found += _unlike(_cross_validation(straight), _cross_validation(killed), "")
    for one, other, prefix in pairs:
        found += _unlike(trace(one), trace(other), prefix)
    return found


def _cross_validation(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "cross_validation.json").read_text(encoding="utf-8"))
    for item in content["results"]:
        del item["seconds"]
    return content


def _unlike(one: dict[str, Any], other: dict[str, Any], prefix: str) -> list[str]:
    return [
        f"{prefix}{name}: {_first_difference(one.get(name), other.get(name))}"
        for name in dict.fromkeys([*one, *other])
        if one.get(name) != other.get(name)
    ]


def _first_difference(one: Any, other: Any) -> str:
    if isinstance(one, list) and isinstance(other, list):
        place = next((n for n, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
        if place is None:
            return f"{len(one)} and {len(other)} entries"
        return f"entry {place}: {one[place]} and {other[place]}"
    if isinstance(one, dict) and isinstance(other, dict):
        return "; ".join(f"{key}: {one.get(key)} and {other.get(key)}" for key in one if one.get(key) != other.get(key))
    return f"{one} and {other}"


def _strange(folder: Path) -> Iterable[Path]:
    """What a killed process was writing and nobody has removed."""
    return [path for path in sorted(folder.rglob("*")) if not _MAY_LIE_THERE.fullmatch(path.name)]


def not_once(out: Path, *, left_out: frozenset[int] = frozenset(), discard: int = 0, some: bool = False) -> list[str]:
    """Whether each sample reached exactly one step of each epoch, by the log's lines "seen"; empty if so.

    A checkpoint remembers how long the log was, and a resumed run cuts it there: what is left are the steps from which
    the final weights came, whichever process made them.

    Args:
        left_out: samples that cannot be read.
        discard: the batch size, where a last batch that is not full is discarded.
        some: a batch was left out for its numbers; then only that none is seen twice.
    """
    epochs: dict[int, list[dict[str, Any]]] = {}
    for line in log_lines(out):
        if line["event"] == "seen":
            epochs.setdefault(line["epoch"], []).append(line)
    found = []
    for epoch, lines in epochs.items():
        indices = [index for line in lines for index in line["indices"]]
        expected = set(range(lines[0]["of"])) - left_out
        missing = len(expected) % discard if discard else 0
        twice = sorted({index for index in indices if indices.count(index) > 1})
        if twice:
            found.append(f"epoch {epoch} saw samples twice: {twice}")
        if not set(indices) <= expected or (not some and len(indices) != len(expected) - missing):
            found.append(f"epoch {epoch} saw {len(indices)} of {len(expected)} samples, expected all but {missing}")
        batches = [line["batch"] for line in lines]
        if batches != sorted(set(batches)):
            found.append(f"epoch {epoch} has its batches in the order {batches}")
    return found or ([] if epochs or some else ["no step was noted"])

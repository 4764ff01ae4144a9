"""What a run tells: ``log.jsonl``, TensorBoard events and the console, fed from one place.

A checkpoint remembers how long the files were. A resumed run cuts them there, so that a log never tells a step twice.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from glueball.engine.tensorboard import EventWriter
from glueball.engine.writing import writing


class JsonLog:
    """One JSON object a line, handed to the system at once so that it can be followed with ``tail -f``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with writing(path):
            self._file = open(path, "ab")  # noqa: SIM115 - closed by close()

    def write(self, event: str, values: Mapping[str, Any]) -> None:
        line = {"event": event, **{key: _finite(value) for key, value in values.items()}, "time": round(time.time(), 3)}
        with writing(self.path):
            self._file.write(json.dumps(line, ensure_ascii=False).encode() + b"\n")
            self._file.flush()

    def size(self) -> int:
        return self._file.tell()

    def truncate(self, size: int) -> None:
        if size < self._file.tell():
            with writing(self.path):
                self._file.truncate(size)
            self._file.seek(size)

    def sync(self) -> None:
        with writing(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        # Every line was flushed; what is still in the buffer failed to be written, and that was reported.
        with contextlib.suppress(OSError):
            self._file.close()


def _finite(value: Any) -> Any:
    # JSON has no NaN; a reader in another language would choke on Python's.
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _tag(name: str) -> str:
    # Only these two are parts of a run; the first word of learning_rate is not.
    part, _, quantity = name.partition("_")
    return f"{part}/{quantity}" if quantity and part in ("train", "validation") else name


def say(message: str) -> None:
    """A sentence on the console, above the progress bars if there are any."""
    from tqdm import tqdm

    tqdm.write(message, file=sys.stderr)


class RunLog:
    """Writes every event to all the places where somebody may look for it."""

    def __init__(self, folder: Path, log: Path, *, quiet: bool) -> None:
        self._json = JsonLog(log)
        try:
            self._events = EventWriter(folder)
        except OSError:
            self._json.close()
            raise
        self.quiet = quiet

    def event(self, event: str, **values: Any) -> None:
        """Something that happened once; for the log file only."""
        self._json.write(event, values)

    def scalars(self, event: str, step: int, scalars: Mapping[str, float], **values: Any) -> None:
        """Measurements at a step: to the log file and to TensorBoard, which groups ``train/loss`` with its like."""
        self._json.write(event, {"step": step, **values, **scalars})
        self._events.write(step, {_tag(name): value for name, value in scalars.items()})

    def say(self, message: str) -> None:
        """A sentence for the person at the console, above the progress bar if there is one."""
        if not self.quiet:
            say(message)

    def sizes(self) -> dict[str, int]:
        """What a checkpoint remembers."""
        self._json.sync()
        return {"log": self._json.size(), "events": self._events.size()}

    def truncate(self, sizes: Mapping[str, int]) -> None:
        """Back to what the files held at a checkpoint."""
        self._json.truncate(sizes["log"])
        self._events.truncate(sizes["events"])

    def close(self) -> None:
        self._json.close()
        self._events.close()

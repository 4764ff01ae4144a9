"""Where the time of training steps goes: ``Trainer(profile=True)``, ``glueball train --profile``.

One clock, read where a part of a step ends and the next one begins, so that the parts add up to the whole and nothing
is counted twice. Devices work behind the host (MXNet even on the CPU), so the device is waited for before the clock is
read. That costs time: a run that is profiled is slower than one that is not, and computes the same numbers. A run that
is not profiled reads no clock and waits for nothing.

Batches are loaded and brought to the device by a thread, beside the step. What that takes is a second list: it is no
part of a step unless the step has to wait for it.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

STEP_PARTS = {
    "data": "waiting for the next batch",
    "forward": "forward pass and loss",
    "backward": "backward pass",
    "optimizer": "update of the weights",
    "logging": "metrics, progress bar and log",
    "checkpoint": "checkpoints within the epoch",
}
"""What the seconds of a step are spent on, in the order of a step."""

BACKGROUND_PARTS = {
    "loading": "making a batch",
    "to_device": "bringing it to the device",
}
"""What is done beside the step, for each batch."""

_COPIES = 5


class StepProfile:
    """Adds up what the parts of steps take.

    Args:
        synchronize: waits until the device has done everything that was asked of it.
        warm_up: first steps that do not count: they compile, allocate and choose algorithms.
        clock: seconds.
    """

    def __init__(
        self,
        synchronize: Callable[[], None],
        *,
        warm_up: int = 3,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._synchronize = synchronize
        self._clock = clock
        self._to_ignore = warm_up
        self._last = clock()
        self._step: dict[str, float] = dict.fromkeys(STEP_PARTS, 0.0)
        self._steps: dict[str, array[float]] = {part: array("d") for part in STEP_PARTS}
        self._background: dict[str, array[float]] = {part: array("d") for part in BACKGROUND_PARTS}
        self._copying = 0.0
        self._copies: array[float] = array("d")
        self._batch: Sequence[np.ndarray] = ()

    def begin(self) -> None:
        """The first step of an epoch begins: what lies between two epochs is no part of a step."""
        self._synchronize()
        self._step = dict.fromkeys(STEP_PARTS, 0.0)
        self._last = self._clock()

    def mark(self, part: str) -> None:
        """A part ends here; it began at the mark before."""
        self._synchronize()
        now = self._clock()
        self._step[part] += now - self._last
        self._last = now

    def end_step(self) -> None:
        """The step is complete."""
        if self._to_ignore:
            self._to_ignore -= 1
        else:
            for part, seconds in self._step.items():
                self._steps[part].append(seconds)
        self._step = dict.fromkeys(STEP_PARTS, 0.0)

    def background(
        self, batches: Iterable[Any], to_device: Callable[[np.ndarray], Any]
    ) -> tuple[Iterator[Any], Callable[[np.ndarray], Any]]:
        """The same batches and the same copying, timed; both for one thread, which may be another than the steps'."""
        return self._timed(batches), self._timed_copy(to_device)

    def end_epoch(self, to_device: Callable[[np.ndarray], Any]) -> None:
        """Times a few copies of the last batch while the device has nothing else to do.

        A copy in the background returns on accelerators before it is done, so that its own time says little there.
        """
        self._synchronize()
        for _ in range(_COPIES if self._batch else 0):
            start = self._clock()
            copies = [to_device(values) for values in self._batch]
            self._synchronize()
            self._copies.append(self._clock() - start)
            del copies
        self._batch = ()

    @property
    def steps(self) -> int:
        """How many steps count."""
        return len(self._steps["data"])

    def summary(self) -> dict[str, Any]:
        """All figures in terms that JSON knows: milliseconds a step, and shares of the whole step.

        ``parts`` and ``background`` map each part to its ``mean`` and ``median``, parts of a step to their ``share``
        too; ``step`` is the whole step. ``to_device_alone`` is the median of bringing a batch to the idle device.
        Without a step that counts all figures are None.
        """
        whole = float(sum(sum(times) for times in self._steps.values()))
        parts = {}
        for part, times in self._steps.items():
            parts[part] = {**_figures(times), "share": sum(times) / whole if whole else None}
        totals = array("d", map(sum, zip(*self._steps.values(), strict=True)))
        return {
            "unit": "ms",
            "steps": self.steps,
            "step": _figures(totals),
            "parts": parts,
            "background": {part: _figures(times) for part, times in self._background.items()},
            "to_device_alone": _figures(self._copies)["median"],
        }

    def rows(self) -> list[tuple[str, str, str, str]]:
        """The summary as a table: part, mean and median in milliseconds, share of the step; no rows without steps."""
        if not self.steps:
            return []
        found = self.summary()
        rows = [
            (words, _text(found["parts"][part]["mean"]), _text(found["parts"][part]["median"]),
             f"{found['parts'][part]['share']:.1%}")
            for part, words in STEP_PARTS.items()
            if part != "checkpoint" or any(self._steps[part])
        ]  # fmt: skip
        rows.append(("whole step", _text(found["step"]["mean"]), _text(found["step"]["median"]), "100.0%"))
        for part, words in BACKGROUND_PARTS.items():
            figures = found["background"][part]
            rows.append((f"beside it: {words}", _text(figures["mean"]), _text(figures["median"]), "-"))
        return rows

    def _timed(self, batches: Iterable[Any]) -> Iterator[Any]:
        iterator = iter(batches)
        try:
            while True:
                start = self._clock()
                try:
                    batch = next(iterator)
                except StopIteration:
                    return
                self._background["loading"].append(self._clock() - start)
                self._copying, self._batch = 0.0, batch
                yield batch
                self._background["to_device"].append(self._copying)
        finally:
            close = getattr(iterator, "close", None)
            if close is not None:  # worker pools of the loader end with its iterator
                close()

    def _timed_copy(self, to_device: Callable[[np.ndarray], Any]) -> Callable[[np.ndarray], Any]:
        def copy(values: np.ndarray) -> Any:
            start = self._clock()
            result = to_device(values)
            self._copying += self._clock() - start
            return result

        return copy


def _figures(seconds: Sequence[float]) -> dict[str, float | None]:
    """Mean and median in milliseconds."""
    if not len(seconds):
        return {"mean": None, "median": None}
    return {"mean": 1000 * float(np.mean(seconds)), "median": 1000 * float(np.median(seconds))}


def _text(milliseconds: float | None) -> str:
    return "-" if milliseconds is None else f"{milliseconds:.2f}"

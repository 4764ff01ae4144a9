"""What happens when memory runs out: a sentence that helps, or the same batch in smaller parts.

With ``on_out_of_memory="halve"`` a batch that does not fit is computed in two parts, four, eight, ... whose gradients
are summed before the update: the mean over the whole batch, with less of it in memory at a time. Nothing of the attempt
that failed stays: running statistics, waiting gradients and random state are put back (``TrainingStep.undo``), and
where the update itself failed, the run goes back to its last checkpoint.

Only what looks at a batch as a whole is not the same afterwards: batch normalisation takes its statistics over the
parts, and dropout draws other numbers.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from glueball.backend.base import StepOutput, TrainingStep
from glueball.engine.recipe import Recipe
from glueball.errors import BackendError, GlueballError, OptionError

_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


ONE_PROCESS = "on_out_of_memory=halve works in runs of one process only; in this run memory that runs out is an error."


class BackToCheckpoint(Exception):  # noqa: N818 - a signal between two parts of the trainer, not an error that users see
    """Memory ran out within an update, so that only the last checkpoint is known to be whole."""

    goes_on = True
    """For ``Prefetcher``: the loader will be used again."""


class MicroBatches:
    """A training step that computes every batch in ``parts`` parts, and looks like one that computes it whole.

    ``step`` accumulates ``parts`` times as many calls as the recipe says. Its state is given and taken in whole
    batches, so that a checkpoint does not depend on the number of parts.
    """

    def __init__(self, step: TrainingStep, parts: int, backend: Any) -> None:
        self._step = step
        self._parts = parts
        self._backend = backend

    @property
    def mark(self) -> Callable[[str], None]:
        return self._step.mark

    @mark.setter
    def mark(self, mark: Callable[[str], None]) -> None:
        self._step.mark = mark

    def __call__(self, batch: Sequence[Any], learning_rate: float, weight: float = 1.0) -> StepOutput:
        """Runs one batch, part by part.

        Raises:
            OptionError: the arrays of the batch, or the outputs, do not have one row for each sample.
        """
        rows = _rows(batch)
        done: list[tuple[int, StepOutput]] = []
        for part, count in divided(batch, rows, self._parts):
            share = weight * count * self._parts / rows
            # An argument that changes nothing is not given: compiled steps round the product, too.
            output = self._step(part, learning_rate) if share == 1.0 else self._step(part, learning_rate, weight=share)
            done.append((count, output))
        real = [(count, output) for count, output in done if count]
        loss = real[0][1].loss * (real[0][0] / rows)
        for count, output in real[1:]:
            loss = loss + output.loss * (count / rows)
        last = done[-1][1]
        return StepOutput(loss=loss, outputs=self._joined(real), updated=last.updated, gradient_norm=last.gradient_norm)

    def _joined(self, done: Sequence[tuple[int, StepOutput]]) -> tuple[Any, ...]:
        for count, output in done:
            for array in output.outputs:
                if not array.shape or array.shape[0] != count:
                    raise OptionError(
                        "The training graph gives an output that has no row for each sample (its shape is "
                        f"{tuple(array.shape)} for {count} samples), so its batches cannot be computed in parts. Leave "
                        "on_out_of_memory=halve out, and choose a smaller batch_size with accumulate."
                    )
        if len(done) == 1:
            return done[0][1].outputs
        columns = zip(*(output.outputs for _, output in done), strict=True)
        return tuple(self._backend.ops.concat(*column, dim=0) for column in columns)

    def keep(self) -> Any:
        return self._step.keep()

    def undo(self, kept: Any) -> bool:
        return self._step.undo(kept)

    def flush(self, learning_rate: float) -> bool:
        return self._step.flush(learning_rate)

    def skipped_updates(self) -> int:
        return self._step.skipped_updates()

    def ema_weights(self) -> AbstractContextManager[None]:
        return self._step.ema_weights()

    def ema_parameters(self) -> dict[str, np.ndarray]:
        return self._step.ema_parameters()

    def state_dict(self) -> dict[str, np.ndarray]:
        return _scaled(self._step.state_dict(), lambda value: value / self._parts)

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        self._step.load_state_dict(_scaled(state, lambda value: value * self._parts))

    def __getattr__(self, name: str) -> Any:
        # What a backend's step offers besides the contract.
        return getattr(self._step, name)


def _scaled(state: Mapping[str, np.ndarray], scale: Callable[[Any], Any]) -> dict[str, np.ndarray]:
    """The state with the waiting calls and their summed gradients scaled; exactly, as parts are powers of two."""
    return {
        name: np.asarray(scale(value), dtype=value.dtype)
        if name == "pending" or name.startswith("gradient/")
        else value
        for name, value in state.items()
    }


def _rows(batch: Sequence[Any]) -> int:
    counts = {int(array.shape[0]) if array.shape else 0 for array in batch}
    if len(counts) != 1 or 0 in counts:
        raise OptionError(
            "The arrays of a batch do not have one row for each sample (their shapes are "
            f"{', '.join(str(tuple(array.shape)) for array in batch)}), so it cannot be computed in parts. Leave "
            "on_out_of_memory=halve out, and choose a smaller batch_size with accumulate."
        )
    return counts.pop()


def divided(batch: Sequence[Any], rows: int, parts: int) -> Iterator[tuple[tuple[Any, ...], int]]:
    """``parts`` parts of a batch and how many samples each holds, which differ by one at most.

    Where there are fewer rows than parts, the first row stands in for those that are missing, with a count of 0.
    """
    size, rest = divmod(rows, parts)
    start = 0
    for number in range(parts):
        count = size + (number < rest)
        part = slice(start, start + count) if count else slice(0, 1)
        yield tuple(array[part] for array in batch), count
        start += count


class PredictInParts:
    """``predict(*arrays)``, in two parts, four, ... where memory runs out: at inference no sample sees another one."""

    def __init__(self, predict: Callable[..., Any], backend: Any, device: str) -> None:
        self.predict = predict
        self.parts = 1
        self._backend = backend
        self._device = device
        self._tried: set[tuple[int, Any]] = set()

    def __call__(self, *arrays: Any) -> Any:
        shapes = tuple(tuple(array.shape) for array in arrays)
        while True:
            try:
                result = self._in_parts(arrays)
                if (self.parts, shapes) not in self._tried:
                    # MXNet fails when its device gets there, not when it is asked.
                    self._backend.synchronize(self._device)
                    self._tried.add((self.parts, shapes))
                return result
            except Exception as error:
                if not self._backend.is_out_of_memory(error) or 2 * self.parts > _rows(arrays):
                    raise
            # Outside of the handler, which keeps the arrays of the attempt alive.
            self.parts *= 2
            self._backend.release_memory(self._device)

    def _in_parts(self, arrays: Sequence[Any]) -> Any:
        if self.parts == 1:
            return self.predict(*arrays)
        done = [self.predict(*part) for part, count in divided(arrays, _rows(arrays), self.parts) if count]
        if isinstance(done[0], (list, tuple)):
            return tuple(self._backend.ops.concat(*column, dim=0) for column in zip(*done, strict=True))
        return self._backend.ops.concat(*done, dim=0)


# ----------------------------------------------------------------------------------------------------------------------
# In words
# ----------------------------------------------------------------------------------------------------------------------


def reason(error: BaseException) -> str:
    """What the library says, in a line. MXNet shows where in its own source something failed before it says what."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    return (lines[-1] if lines[0].startswith("Traceback") else lines[0]).rstrip(".")


def ran_out(error_reason: str, backend: Any, device: str, doing: str) -> str:
    """That memory ran out, where, how much there is, and at what; two sentences."""
    return f"Memory ran out on {device}{_size(backend, device)} {doing}. The library says: {error_reason}."


@contextmanager
def explained(backend: Any, device: str, doing: str, cure: str) -> Iterator[None]:
    """Within it, a library that has no memory left is one error, with the cure.

    Raises:
        BackendError: memory ran out.
    """
    try:
        yield
    except Exception as error:
        if isinstance(error, GlueballError) or not backend.is_out_of_memory(error):
            raise
        raise BackendError(f"{ran_out(reason(error), backend, device, doing)} {cure}") from error


def cures(recipe: Recipe, backend: Any, device: str, precision: str, at_once: int, *, can_halve: bool) -> str:
    """What needs less memory.

    Args:
        at_once: how many samples were computed at once.
        can_halve: whether on_out_of_memory=halve would help; several processes cannot do it.
    """
    lower = precision == "float32" and backend.supports_precision("bfloat16", device) is None
    other = "smaller inputs or a smaller model" + (", or --set precision=bfloat16" if lower else "")
    if at_once <= 1:
        return f"Not even one sample at a time fits. Less is needed by {other}."
    half = at_once // 2
    smaller = f"--set batch_size={half} --set accumulate={recipe.accumulate * recipe.batch_size // half}"
    if not can_halve or recipe.on_out_of_memory == "halve":
        return f"A smaller batch needs less, and accumulation keeps the global batch: {smaller}. So do {other}."
    return (
        f"A smaller batch needs less, and accumulation keeps the global batch: {smaller}; "
        f"--set on_out_of_memory=halve finds out by itself what fits, and can be given with --resume. So do {other}."
    )


def _size(backend: Any, device: str) -> str:
    total, used = backend.memory_size(device), backend.memory(device)
    if total is None:
        total = host_memory()
    if total is None:
        return ""
    most = f", of which {used / 2**30:.1f} GiB were in use at most" if used else ""
    return f" ({total / 2**30:.1f} GiB{most})"


def host_memory() -> int | None:
    """Bytes that this process may use: those of the machine, or of its container if that has fewer."""
    limits = []
    try:
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return None
    for path in _CGROUP_LIMITS:
        try:
            limits.append(int(Path(path).read_text()))
        except (OSError, ValueError):
            continue  # another system, or no limit
    return min(limits)

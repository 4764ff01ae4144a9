"""What a run of several processes does together: one writes and speaks, all decide the same, and all end together.

The trainer asks a ``Ranks`` wherever that matters. For a run of one process it answers at once and exchanges nothing.

What every process may see differently (a signal, a loss that is not finite, a clock, a file) is settled by an exchange
at a point that all reach, before anybody acts on it: a process that acted alone would leave the others waiting.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from glueball.data.sharing import SharedBatch
from glueball.engine import measures, processes, random_state, shared_metrics
from glueball.engine.checkpoint import Checkpoint, CheckpointFolder
from glueball.engine.logs import RunLog
from glueball.engine.measures import BadNumbers, Mean, Measurements, Waiting
from glueball.engine.messages import decode, encode
from glueball.engine.run_folder import RunFolder
from glueball.engine.shared_metrics import SharedMetric
from glueball.engine.signals import SignalGuard, StopRequest
from glueball.errors import CheckpointError, GlueballError, LostProcessError, OptionError

logger = logging.getLogger("glueball.engine")

Value = TypeVar("Value")

# Signals are asked for about this often: an exchange in every step would cost small models much.
_AGREEMENT_SECONDS = 0.25
_MAX_STEPS_BETWEEN = 100

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Ranks:
    """The processes of a run. ``group`` None: this process is alone."""

    def __init__(self, group: Any = None) -> None:
        self.group = group
        self.rank: int = 0 if group is None else group.rank
        self.size: int = 1 if group is None else group.size
        self._countdown = 0
        self._calls = 0
        self._since = time.monotonic()

    @classmethod
    def join(cls, backend: Any) -> Ranks:
        """The processes that the environment tells of; waits until all are there.

        Raises:
            OptionError: the launcher is unknown to the backend, or its variables make no sense.
            TrainingError: the others did not come.
        """
        launch = processes.from_environment()
        if launch is None or (launch.size == 1 and launch.kind != "dmlc"):
            return cls()
        group = backend.process_group(launch)
        return cls(group if group.size > 1 else None)

    @property
    def is_alone(self) -> bool:
        """Whether there is one process only."""
        return self.group is None

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that writes and speaks."""
        return self.rank == 0

    # ------------------------------------------------------------------------------------------------------------------
    # Exchanges: called by all processes at the same points
    # ------------------------------------------------------------------------------------------------------------------

    def lead(self, action: Callable[[], Value]) -> Value:
        """What ``action`` gives in rank 0, for all; only rank 0 runs it. See ``messages.encode`` for what it may give.

        Raises:
            LostProcessError: it failed in rank 0, where its own error is raised.
        """
        if self.is_alone:
            return action()
        if self.is_first:
            try:
                result = action()
                message = encode({"failed": False, "result": result})
            except BaseException:
                self.group.broadcast(encode({"failed": True}))
                raise
            self.group.broadcast(message)
            return result
        answer = decode(self.group.broadcast(None))
        if answer["failed"]:
            raise LostProcessError("The first process of the run has ended with an error, which is shown there.")
        return answer["result"]  # type: ignore[no-any-return]

    def any(self, own: bool) -> bool:
        """Whether it is true in any process."""
        if self.is_alone:
            return own
        return bool(self.group.all_reduce([np.array(int(own), np.int64)])[0])

    def total(self, own: int) -> int:
        """The sum over all processes."""
        if self.is_alone:
            return own
        return int(self.group.all_reduce([np.array(own, np.int64)])[0])

    def gather(self, own: Any) -> list[Any]:
        """What each process gives, in their order, for all."""
        if self.is_alone:
            return [own]
        return [decode(part) for part in self.group.gather(encode(own))]

    def check_same(self, facts: Mapping[str, str]) -> None:
        """Makes sure that all processes are about to train the same thing.

        Raises:
            OptionError: they are not; the message says what differs.
        """
        if self.is_alone:
            return
        answers = self.gather(dict(facts))
        for name in facts:
            values = [answer[name] for answer in answers]
            other = next((rank for rank, value in enumerate(values) if value != values[0]), None)
            if other is not None:
                raise OptionError(
                    f"The processes of the run do not agree on its {name}. Rank 0: {values[0]}. Rank {other}: "
                    f"{values[other]}. Start all of them with the same command, code and data."
                )

    # ------------------------------------------------------------------------------------------------------------------
    # Signals
    # ------------------------------------------------------------------------------------------------------------------

    def signal_guard(self) -> SignalGuard:
        """What notes signals; with several processes it raises none by itself once there is something to save."""
        return SignalGuard() if self.is_alone else _SharedSignals()

    def agree_to_stop(self, signals: SignalGuard, *, at_last: bool = False) -> None:
        """Between two steps: stops all processes at the same place when one of them has got a signal.

        Most calls exchange nothing; ``at_last``: this one does.

        Raises:
            StopRequest: in all processes.
        """
        if self.is_alone:
            return
        self._calls += 1
        if self._countdown > 1 and not at_last:
            self._countdown -= 1
            return
        elapsed = time.monotonic() - self._since
        fitting = int(_AGREEMENT_SECONDS * self._calls / max(elapsed, 1e-6))
        proposal = min(max(fitting, 1), _MAX_STEPS_BETWEEN) if self.is_first else 0
        own = [int(signals.received == number) for number in _SIGNALS]
        answer = self.group.all_reduce([np.array([*own, proposal], np.int64)])[0]
        self._countdown, self._calls, self._since = int(answer[-1]), 0, time.monotonic()
        for number, count in zip(_SIGNALS, answer, strict=False):
            if count:
                signals.received = int(number)
                raise StopRequest(int(number))

    def begin_phase(self) -> None:
        """Before steps that may take another time than those before."""
        self._countdown, self._calls, self._since = 0, 0, time.monotonic()

    @contextlib.contextmanager
    def telling_failures(self) -> Iterator[None]:
        """An error within it is told to the other processes, which end too."""
        try:
            yield
        except BaseException as error:
            if not self.is_alone and not isinstance(error, (LostProcessError, SystemExit, GeneratorExit)):
                text = str(error) or type(error).__name__
                self.group.fail(text if isinstance(error, GlueballError) else f"{type(error).__name__}: {text}")
            raise

    # ------------------------------------------------------------------------------------------------------------------
    # Files and the console: rank 0's alone
    # ------------------------------------------------------------------------------------------------------------------

    def device(self, device: str | None, available: Sequence[str]) -> str | None:
        """The device of this process: of GPUs, the one with its number on this machine.

        Raises:
            OptionError: there are fewer GPUs than processes on this machine.
        """
        if self.is_alone or device not in (None, "gpu", "cuda"):
            return device
        gpus = [name for name in available if name.startswith("cuda:")]
        if not gpus:
            return device
        own = f"cuda:{self.group.local_rank}"
        if own not in gpus:
            raise OptionError(
                f"Process {self.group.local_rank} on this machine has no GPU of its own; there are {len(gpus)}. Start "
                f"{len(gpus)} processes here, or train on CPUs with --device cpu."
            )
        return own

    def folder(self, path: str | os.PathLike[str]) -> RunFolder:
        """The run folder; in other processes than rank 0 one that reads only."""
        return RunFolder(path) if self.is_alone else _SharedFolder(path, self)

    def checkpoints(self, folder: Path, keep: int) -> CheckpointFolder:
        """The checkpoints: rank 0 writes and reads them, and all get what it read."""
        return CheckpointFolder(folder, keep) if self.is_alone else _SharedCheckpoints(folder, keep, self)

    def log(self, folder: Path, log: Path, *, quiet: bool) -> Any:
        """The log of the run; in other processes than rank 0 one that says nothing."""
        return RunLog(folder, log, quiet=quiet) if self.is_first else _Silence()

    # ------------------------------------------------------------------------------------------------------------------
    # Data
    # ------------------------------------------------------------------------------------------------------------------

    def share(self, loader: Any) -> Any:
        """Makes the loader load this process's samples only.

        Raises:
            OptionError: it cannot be shared.
        """
        if self.is_alone or loader is None:
            return loader
        if not hasattr(loader, "share"):
            raise OptionError(
                f"The task's loader, a {type(loader).__name__}, cannot be shared among processes. Expected a "
                "glueball.data.DataLoader, or a method share(index, count) like its own. Train with one process."
            )
        loader.share(self.rank, self.size)
        return loader

    def counts(self, batch: Any, *, may_be_smaller: bool) -> tuple[int, int]:
        """How many samples of this process and of all are in a batch.

        Args:
            may_be_smaller: damaged samples are left out, which only their process knows.
        """
        if not isinstance(batch, SharedBatch):
            return len(batch[0]), len(batch[0])
        own = len(batch.positions)
        return own, self.total(own) if may_be_smaller else batch.total

    def whole_progress(self, progress: dict[str, Any]) -> dict[str, Any]:
        """The progress for a checkpoint: damaged samples are counted where they are loaded, and told of all."""
        loader = progress["loader"]
        if self.is_alone or loader is None:
            return progress
        return {**progress, "loader": {**loader, "skipped": self.total(int(loader.get("skipped", 0)))}}

    def own_progress(self, progress: Mapping[str, Any]) -> dict[str, Any]:
        """The inverse of ``whole_progress``: rank 0 keeps the count for all."""
        loader = progress["loader"]
        if self.is_first or loader is None:
            return dict(progress)
        return {**progress, "loader": {**loader, "skipped": 0}}

    # ------------------------------------------------------------------------------------------------------------------
    # Metrics
    # ------------------------------------------------------------------------------------------------------------------

    def measurements(
        self, metrics: Sequence[Any], to_numpy: Callable[[Any], np.ndarray], update: Callable[..., None]
    ) -> Measurements:
        """The training loss and metrics, over the samples of all processes."""
        if self.is_alone:
            return Measurements(metrics, to_numpy, update)
        return _SharedMeasurements(self, shared_metrics.shared(metrics), to_numpy, update)

    def load_measurements(self, measurements: Measurements, state: Mapping[str, Any]) -> None:
        """Makes measurements go on from a checkpoint, of whatever number of processes.

        Raises:
            CheckpointError: the checkpoint was written with another list of metrics.
        """
        if self.is_alone and "ranks" in state:
            measurements.reset()
            load_parts(measurements, state["ranks"])
        else:
            measurements.load_state(state)

    def metrics(self, metrics: Sequence[Any]) -> Sequence[Any]:
        """Metrics to update with this process's samples; ``metric_values`` tells their values."""
        return metrics if self.is_alone else shared_metrics.shared(metrics)

    def metric_values(self, metrics: Sequence[Any]) -> dict[str, float]:
        """The values over the samples of all processes, the same in each to the last bit."""
        if self.is_alone:
            return measures.values(metrics)
        states = self.gather([metric.state() for metric in metrics])

        def merged() -> dict[str, float]:
            parts = zip(metrics, zip(*states, strict=True), strict=True)
            return measures.values([shared_metrics.merge(metric.metric, list(part)) for metric, part in parts])

        return self.lead(merged)

    # ------------------------------------------------------------------------------------------------------------------
    # Random numbers
    # ------------------------------------------------------------------------------------------------------------------

    def separate_random_numbers(self, seed: int, step: int = 0) -> None:
        """Gives every process but the first a stream of its own: dropout must not drop the same in all."""
        if self.rank:
            random_state.seed_everything(_derived(seed, self.rank, step))

    def capture_random(self, backend: Any) -> dict[str, np.ndarray]:
        """The random states of all processes, for a checkpoint: rank 0's under their own names."""
        own = random_state.capture(backend)
        if self.is_alone:
            return own
        parts = self.gather(own)
        result = dict(parts[0])
        for rank, part in enumerate(parts[1:], start=1):
            result.update({f"{_of_rank(rank)}{name}": value for name, value in part.items()})
        return result

    def restore_random(self, backend: Any, state: Mapping[str, np.ndarray], seed: int, step: int) -> None:
        """Puts this process's state back; one that had none then gets a stream derived from (seed, rank, step)."""
        prefix = _of_rank(self.rank) if self.rank else ""
        own = {
            name[len(prefix) :]: value
            for name, value in state.items()
            if name.startswith(prefix) and (prefix or not name.startswith("rank"))
        }
        if own:
            random_state.restore(backend, own)
        else:
            self.separate_random_numbers(seed, step)


def _of_rank(rank: int) -> str:
    return f"rank{rank}."


def _derived(seed: int, rank: int, step: int) -> int:
    return int(np.random.SeedSequence([seed, rank, step]).generate_state(1)[0])


class _SharedSignals(SignalGuard):
    """Signals are answered where all processes agree to; only before the first step each answers for itself."""

    def check(self) -> None:
        if self._raises:
            super().check()


class _SharedFolder(RunFolder):
    """Rank 0 has the folder; the others know its path."""

    def __init__(self, path: Any, ranks: Ranks) -> None:
        super().__init__(path)
        self._ranks = ranks

    def open(self, *, resume: bool, overwrite: bool) -> None:
        self._ranks.lead(lambda: super(_SharedFolder, self).open(resume=resume, overwrite=overwrite))

    def check(self) -> None:
        if self._ranks.is_first:
            super().check()

    def close(self) -> None:
        if self._ranks.is_first:
            super().close()

    def write_json(self, path: Path, content: Any) -> None:
        if self._ranks.is_first:
            super().write_json(path, content)

    def remove_run(self, keep: RunFolder | None = None) -> None:
        if self._ranks.is_first:
            super().remove_run(keep)


class _SharedCheckpoints(CheckpointFolder):
    """Rank 0 writes and reads; what it read goes to all, who need not see its files."""

    def __init__(self, folder: Path, keep: int, ranks: Ranks) -> None:
        super().__init__(folder, keep)
        self._ranks = ranks

    def clean(self) -> None:
        if self._ranks.is_first:
            super().clean()

    def save(self, checkpoint: Checkpoint, *, epoch: int, step: int, is_best: bool = False) -> Path:
        if not self._ranks.is_first:
            return self.folder
        return super().save(checkpoint, epoch=epoch, step=step, is_best=is_best)

    def load_last(self) -> Checkpoint | None:
        found = self._ranks.lead(self._read_last)
        if found is None:
            return None
        return Checkpoint(**{**found, "path": Path(found["path"]) if found["path"] else None})

    def _read_last(self) -> dict[str, Any] | None:
        checkpoint = super().load_last()
        if checkpoint is None:
            return None
        return {
            "state": dict(checkpoint.state),
            "weights": dict(checkpoint.weights),
            "optimizer": dict(checkpoint.optimizer),
            "random": dict(checkpoint.random),
            "path": str(checkpoint.path) if checkpoint.path else "",
        }


class _Silence:
    """The log of a process that is not the first: takes everything and says nothing."""

    quiet = True

    def event(self, event: str, **values: Any) -> None: ...

    def scalars(self, event: str, step: int, scalars: Mapping[str, float], **values: Any) -> None: ...

    def say(self, message: str) -> None: ...

    def sizes(self) -> dict[str, int]:
        return {}

    def truncate(self, sizes: Mapping[str, int]) -> None: ...

    def close(self) -> None: ...


class _SharedMeasurements(Measurements):
    """Reads what this process has, and exchanges it where all processes ask: at log points and when they save."""

    def __init__(
        self,
        ranks: Ranks,
        metrics: Sequence[SharedMetric],
        to_numpy: Callable[[Any], np.ndarray],
        update: Callable[..., None],
    ) -> None:
        super().__init__(metrics, to_numpy, self._update_at)
        self._ranks = ranks
        self._update_task = update
        self._shared = metrics
        self._bad: BadNumbers | None = None

    def add(self, step: Waiting) -> None:
        try:
            super().add(step)
        except BadNumbers as bad:
            # This process alone has read so early, because much was waiting. All will hear of it at the next log point.
            self._bad = self._bad or bad

    def _update_at(self, metrics: Sequence[Any], host: tuple[np.ndarray, ...], outputs: tuple[np.ndarray, ...]) -> None:
        positions = host.positions if isinstance(host, SharedBatch) else tuple(range(len(host[0])))
        shared_metrics.at(metrics, (self.reading, positions))
        self._update_task(metrics, host, outputs)

    def read(self) -> None:
        try:
            super().read()
        except BadNumbers as bad:
            self._bad = self._bad or bad
        own, self._bad = self._bad, None
        found = self._ranks.gather(None if own is None else [own.batch_index, own.what])
        first = min(((item[0], rank, item[1]) for rank, item in enumerate(found) if item is not None), default=None)
        if first is None:
            return
        index, rank, what = first
        steps = own.steps if own is not None and own.batch_index == index else ()
        raise BadNumbers(f"{what} in the process of rank {rank}", index, steps)

    def end_interval(self) -> float:
        self.interval_loss, own = Mean(), self.interval_loss
        return self._merged(own)

    def values(self) -> dict[str, float]:
        return {"loss": self._merged(self.epoch_loss), **self._ranks.metric_values(self.metrics)}

    def reset(self) -> None:
        super().reset()
        self._bad = None

    def _merged(self, mean: Mean) -> float:
        return self._ranks.lead(_same_mean(self._ranks.gather([mean.total, mean.weight])))

    def state(self) -> dict[str, Any]:
        own = {
            "epoch_loss": [self.epoch_loss.total, self.epoch_loss.weight],
            "interval_loss": [self.interval_loss.total, self.interval_loss.weight],
            "metrics": [shared_metrics.to_json(metric.state()) for metric in self._shared],
        }
        return {"ranks": self._ranks.gather(own)}

    def load_state(self, state: Mapping[str, Any]) -> None:
        self.reset()
        if "ranks" not in state:  # of a run with one process
            if self._ranks.is_first:
                plain = [metric.metric for metric in self._shared]
                self.epoch_loss = Mean(*state["epoch_loss"])
                self.interval_loss = Mean(*state["interval_loss"])
                measures.load_metric_states(plain, state["metrics"])
            return
        parts = state["ranks"]
        if len(parts) == self._ranks.size:
            parts = [parts[self._ranks.rank]]
        elif not self._ranks.is_first:
            return
        load_parts(self, parts)


def _same_mean(parts: Sequence[Sequence[float]]) -> Callable[[], float]:
    return lambda: Mean(sum(total for total, _ in parts), sum(weight for _, weight in parts)).value


def load_parts(measurements: Measurements, parts: Sequence[Mapping[str, Any]]) -> None:
    """Makes measurements, of one process or of one of several, go on from what several had.

    Raises:
        CheckpointError: the checkpoint was written with another list of metrics.
    """
    for name in ("epoch_loss", "interval_loss"):
        totals = [part[name] for part in parts]
        setattr(measurements, name, Mean(sum(total for total, _ in totals), sum(weight for _, weight in totals)))
    metrics = list(measurements.metrics)
    if any(len(part["metrics"]) != len(metrics) for part in parts):
        raise CheckpointError(
            f"The checkpoint holds {len(parts[0]['metrics'])} metrics, the recipe has {len(metrics)}."
        )
    for number, metric in enumerate(metrics):
        states = [shared_metrics.from_json(part["metrics"][number]) for part in parts]
        if isinstance(metric, SharedMetric):
            shared_metrics.take_over(metric, states)
        else:
            metric.reset()
            metrics[number] = shared_metrics.merge(metric, states)
    measurements.metrics = metrics


__all__ = ["Ranks", "load_parts"]

"""``Trainer``: runs a recipe, and leaves a folder from which the run can go on, be measured and be used.

The loop is short because its parts know their business: ``Measurements`` what waits on the device, ``Prefetcher`` what
comes next, ``CheckpointFolder`` what is safe, ``SignalGuard`` who wants to stop. The host never waits for the device
between two log points.
"""

from __future__ import annotations

import gc
import json
import logging
import math
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from glueball import catalog
from glueball.backend.base import unmarked
from glueball.engine import bad_samples, curves, environment, memory, random_state, rescue, specification, writing
from glueball.engine.checkpoint import Checkpoint
from glueball.engine.evaluation import evaluate
from glueball.engine.load import read_description
from glueball.engine.logs import say
from glueball.engine.measures import BadNumbers, Waiting, are_finite
from glueball.engine.prefetch import LoadedBatch, Prefetcher
from glueball.engine.progress import Progress
from glueball.engine.ranks import Ranks
from glueball.engine.recipe import Recipe
from glueball.engine.run_folder import VanishedFolderError
from glueball.engine.schedules import Schedule
from glueball.engine.signals import StopRequest, end_process
from glueball.engine.step_profile import StepProfile
from glueball.engine.task import Task
from glueball.errors import CheckpointError, DataError, GlueballError, OptionError, TrainingError

logger = logging.getLogger("glueball.engine")

RUN_FORMAT = 1
"""Version of ``run.json``."""

_CURVES_EVERY_SECONDS = 20.0
# matplotlib takes a second or so for a picture: short epochs must not be spent on drawing.
_CURVES_SHARE = 0.01
_MAX_BAD_BATCHES = 20
# Fields that may differ between a stopped run and its resumption: they change no number that is computed.
HARMLESS = (
    "workers",
    "worker_type",
    "loader_timeout",
    "log_every",
    "checkpoint_every",
    "keep_checkpoints",
    "nan_policy",
    "on_out_of_memory",
)
# Nor does this one, once there is a checkpoint: its weights replace those that the run began with.
_FIRST_WEIGHTS = "model.pretrained"


@attrs.frozen(kw_only=True)
class TrainingResult:
    """What ``fit`` returns."""

    metrics: Mapping[str, float]
    """The validation metrics of the best epoch (without validation data: the training metrics of the last)."""
    best_epoch: int | None
    epochs: int
    """Finished epochs."""
    seconds: float
    out: Path
    """The run folder."""
    ended: str
    """Why training ended: "done", "no gain" (patience) or "bad numbers"."""
    last_metrics: Mapping[str, float] = attrs.field(factory=dict)
    """As ``metrics``, of the last epoch: what was not chosen by the data that it was measured on."""
    skipped: int = 0
    """Training samples that were left out as damaged, counted in every epoch."""


class Trainer:
    """Trains, measures and uses one recipe.

    Args:
        recipe: what to do; ``recipe.override({...})`` changes it.
        out: the run folder; ``runs/<recipe>`` by default.
        device: "cpu", "cuda:0", ...; the backend's best one by default.
        resume: go on with the run in ``out`` from its last good checkpoint (or begin, if there is none).
        overwrite: remove the run in ``out`` and begin anew.
        allow_changes: resume although the recipe has changed since.
        quiet: no progress bar and no sentences on the console.
        compile: compile the training step where the backend can.
        profile: time the parts of each step (``self.profile``, and profile.json in the folder after each epoch); the
            device is waited for after each part, so the run is slower, with the same numbers.

    Raises:
        OptionError: the folder is in use, the device does not exist, or the precision does not work on it.
    """

    def __init__(
        self,
        recipe: Recipe,
        out: str | os.PathLike[str] | None = None,
        *,
        device: str | None = None,
        resume: bool = False,
        overwrite: bool = False,
        allow_changes: bool = False,
        quiet: bool = False,
        compile: bool = True,
        profile: bool = False,
    ) -> None:
        from glueball import backend
        from glueball.named import get_task

        self.recipe = recipe
        self.backend = backend.current()
        self._ranks = Ranks.join(self.backend)
        self.device = checked_device(self.backend, self._ranks.device(device, self.backend.devices()))
        self.precision = choose_precision(self.backend, recipe.precision, self.device)
        self.folder = self._ranks.folder(Path("runs") / recipe.name if out is None else out)
        self.task: Task = get_task(recipe.task, recipe=recipe)
        self.quiet = quiet or not self._ranks.is_first
        self._resume, self._overwrite, self._allow_changes = resume, overwrite, allow_changes
        self._compile = compile
        self.profile = StepProfile(lambda: self.backend.synchronize(self.device)) if profile else None
        self._mark = unmarked if self.profile is None else self.profile.mark
        self._signals = self._ranks.signal_guard()
        self._checkpoints = self._ranks.checkpoints(self.folder.checkpoints, recipe.keep_checkpoints)
        self._progress = Progress()
        self._validation_loader: Any = None
        self._predict: Any = None
        self._measuring: memory.PredictInParts | None = None
        self._network: Any = None
        self._step: Any = None
        self._loader: Any = None
        self._log: Any = None
        self._first_weights: bool | str | None = None
        # While a replay looks for the batch that did damage: (epoch, batch) where the damage had shown.
        self._looking_until: tuple[int, int] | None = None
        self._curves_due = 0.0
        # Where the newest checkpoint was taken; None before there is anything to save.
        self._saved_at: tuple[int, ...] | None = None
        self._has_begun = False
        # Whether the network holds the best weights instead of the last ones.
        self._is_over = False

    # ------------------------------------------------------------------------------------------------------------------
    # What callers use
    # ------------------------------------------------------------------------------------------------------------------

    @property
    def rank(self) -> int:
        """The number of this process among those that train together; 0, the first one, alone writes and speaks."""
        return self._ranks.rank

    @property
    def network(self) -> Any:
        """The network that is trained, or was."""
        if self._network is None:
            self._build_network(self.task.build_network)
        return self._network

    def fit(self) -> TrainingResult:
        """Trains to the end of the recipe.

        SIGINT and SIGTERM save a checkpoint first; then SIGINT becomes KeyboardInterrupt and SIGTERM exit status 143.

        Raises:
            TrainingError: a loss or weight is not finite under the policy "raise"; the batch is saved and named. Or
                a file could not be written (full disk), the folder has vanished, another process trains in it, a
                worker died or hangs, or memory ran out.
            CheckpointError: a checkpoint could not be written, those present cannot be used, or the last one does not
                fit the recipe or the backend.
            OptionError: the folder is not empty, the recipe or the precision differs from that of the run to resume,
                or the model cannot take the data.
            DataError: a sample cannot be made.
        """
        if self._resume and self.folder.cross_validation.exists():
            raise OptionError(
                f"{self.folder.path} holds a cross-validation, not a single run. Go on with all of it (--folds, or "
                f"cross_validate), or with one of its folds (--out {self.folder.fold(1).path})."
            )
        stop: int | None = None
        with self._signals, self._ranks.telling_failures():
            self.folder.open(resume=self._resume, overwrite=self._overwrite)
            try:
                with self._explained_failures(), self._explained_memory():
                    try:
                        self._prepare()
                        self._run()
                        self._signals.check()
                        self._ranks.agree_to_stop(self._signals, at_last=True)
                    except StopRequest as request:
                        stop = request.number
                        self._stop(stop)
            finally:
                self._close()
        if stop is not None:
            end_process(stop)
        return self._result()

    def evaluate(self, split: str = "test") -> dict[str, float]:
        """Metrics of the current weights on a split of the recipe's data.

        Raises:
            OptionError: the recipe names no data for the split.
        """
        loader = self._ranks.share(self.task.loader(split, training=False))
        if loader is None:
            raise OptionError(f"The recipe {self.recipe.name!r} names no {split} data.")
        return self._evaluate(loader, split)

    def predict(self, *inputs: np.ndarray) -> Any:
        """What the network says about a batch of preprocessed inputs, as NumPy."""
        return self._predict_arrays(*inputs)

    # ------------------------------------------------------------------------------------------------------------------
    # Before the first step
    # ------------------------------------------------------------------------------------------------------------------

    def _build_network(self, build: Callable[[], Any]) -> None:
        random_state.seed_everything(self.recipe.seed)
        self.task.set_device(self.device)
        network = self.backend.to_device(build(), self.device)
        inputs = self.task.example_inputs()
        try:
            # Layers that learn their input size from the first batch need one before anything can be saved or restored.
            network(*(self._to_device(array) for array in inputs))
            self.backend.synchronize(self.device)
        except (RuntimeError, ValueError) as error:
            if isinstance(error, GlueballError) or self.backend.is_out_of_memory(error):
                raise
            raise OptionError(_misfit(self.recipe.model.name, inputs, error)) from error
        self._network = network

    def _prepare(self) -> None:
        """Whatever can be refused is tried before the folder is touched: a mistyped word must not cost a good run."""
        self._checkpoints.clean()
        with self._signals.at_once():
            checkpoint = self._build()
        self._before_writing()
        self._log = self._ranks.log(self.folder.path, self.folder.log, quiet=self.quiet)
        self._log.truncate({"log": 0, "events": 0} if checkpoint is None else checkpoint.state["files"])
        self.folder.write_json(self.folder.recipe, self._recipe_to_write())
        self.folder.write_json(self.folder.environment, environment.describe(self.backend, self.device))
        self._write_description()
        self._has_begun = True
        if checkpoint is None:
            self._begin()
        else:
            self._say_where_it_goes_on(checkpoint)

    def _build(self) -> Checkpoint | None:
        """Everything that a step needs, as it was at the checkpoint that is returned; writes nothing."""
        recipe = self.recipe
        checkpoint = self._checkpoints.load_last() if self._resume else None
        self._check_recipe(checkpoint)
        if checkpoint is not None:
            self._check_machine(checkpoint)
            self._adopt_description()
        self._build_network(self.task.build_network if checkpoint is None else self.task.build_fresh_network)
        self._ranks.separate_random_numbers(recipe.seed)
        self._loader = self._ranks.share(self.task.loader("train", training=True))
        if self._loader is None or not len(self._loader):
            raise OptionError(f"The recipe {recipe.name!r} has no training data.")
        self._batch_transform = self.task.batch_transform()
        self._validation_loader = self._ranks.share(self.task.loader("validation", training=False))
        self._check_others()
        steps_per_epoch = math.ceil(len(self._loader) / recipe.accumulate)
        self._schedule = Schedule(
            recipe.schedule, recipe.learning_rate, steps_per_epoch * recipe.epochs, steps_per_epoch
        )
        self._step = self._new_step()
        self._measurements = self._ranks.measurements(
            self.task.build_metrics(training=True), self.backend.numpy, self.task.update_metrics
        )
        self._measurements.reset()
        if checkpoint is not None:
            self._restore(checkpoint)
        return checkpoint

    def _check_others(self) -> None:
        """Several processes train one model on one order of samples, or they would wait for each other for ever."""
        if self._ranks.is_alone:
            return
        shapes = {name: tuple(item.shape) for name, item in self.backend.parameters(self._network).items()}
        validation = self._validation_loader
        self._ranks.check_same(
            {
                "recipe": json.dumps(self.recipe.to_dict(), sort_keys=True),
                "backend": f"{self.backend.name} {self.backend.version()}",
                "precision": self.precision,
                "number of training samples and batches": f"{len(self._loader.dataset)}, {len(self._loader)}",
                "number of validation samples": str(None if validation is None else len(validation.dataset)),
                "network": json.dumps(shapes),
            }
        )

    def _before_writing(self) -> None:
        """The moment before the folder changes."""
        if self._overwrite and not self._resume:
            self.folder.remove_run()

    def _new_step(self) -> Any:
        from glueball.backend.base import StepOptions

        recipe = self.recipe
        options = StepOptions(
            optimizer=recipe.optimizer,
            rules=recipe.parameter_rules(),
            precision=self.precision,
            accumulate=recipe.accumulate * self._progress.micro_batches,
            clip_norm=recipe.clip_norm,
            ema_decay=recipe.ema_decay,
            compile=self._compile,
            recoverable=self._halves,
            sync_batch_norm=recipe.sync_batch_norm,
        )
        graph = self.task.training_graph(self._network)
        others = {} if self._ranks.is_alone else {"group": self._ranks.group}
        step = self.backend.training_step(self._network, graph, options, self.device, **others)
        step.mark = self._mark
        parts = self._progress.micro_batches
        return step if parts == 1 else memory.MicroBatches(step, parts, self.backend)

    def _check_recipe(self, checkpoint: Checkpoint | None) -> None:
        """A run goes on with the recipe that it began with, or says what would change."""
        if not (self._resume and self.folder.recipe.exists()):
            return
        old = self.folder.read_json(self.folder.recipe)
        harmless = HARMLESS if checkpoint is None else (*HARMLESS, _FIRST_WEIGHTS)
        changes = [
            line
            for line in specification.differences(old, self.recipe.to_dict())
            if not line.startswith(tuple(f"{name}:" for name in harmless))
        ]
        if changes and not self._allow_changes:
            raise OptionError(
                f"The recipe is not the one that the run in {self.folder.path} began with:\n  "
                + "\n  ".join(changes)
                + "\nResume with the same options, or accept the changes with --allow-changes."
            )

        model = old.get("model") if isinstance(old, Mapping) else None
        if checkpoint is not None and isinstance(model, Mapping):
            self._first_weights = model.get("pretrained")

    def _recipe_to_write(self) -> dict[str, Any]:
        """The recipe with the first weights that the run really had, however it was resumed."""
        plain = self.recipe.to_dict()
        if self._first_weights is not None:
            plain["model"]["pretrained"] = self._first_weights
        return plain

    def _check_machine(self, checkpoint: Checkpoint) -> None:
        """A run goes on on the backend and in the precision that it began with."""
        began_on, began_in = checkpoint.state["backend"], checkpoint.state["precision"]
        if began_on != self.backend.name:
            raise CheckpointError(
                f"The run in {self.folder.path} was trained on {began_on} and cannot go on on {self.backend.name}: "
                f"optimiser and random states mean nothing there. Set GLUEBALL_BACKEND={began_on}, or start anew from "
                f"{self.folder.weights} with --pretrained."
            )
        if began_in == self.precision or self.recipe.precision != "auto":
            return  # a precision that is asked for by name is part of the recipe, and was compared with it
        reason = self.backend.supports_precision(began_in, self.device)
        if reason is None:
            self.precision = began_in
        elif not self._allow_changes:
            raise OptionError(
                f"The run in {self.folder.path} began in {began_in}, which {self.device} does not support here "
                f"({reason}); it would go on in {self.precision}, and not as it would have. Resume it where "
                f"{began_in} is supported, or accept {self.precision} with --allow-changes."
            )

    @property
    def _halves(self) -> bool:
        # Where one process of several runs out of memory, the others are in the middle of an exchange with it.
        return self.recipe.on_out_of_memory == "halve" and self._ranks.is_alone

    def _adopt_description(self) -> None:
        def read() -> Mapping[str, Any] | None:
            try:
                return read_description(self.folder)
            except (DataError, OptionError):
                return None  # a missing or damaged run.json is written again, from the data

        description = self._ranks.lead(read)
        if description is not None:
            self.task.adopt(description)

    def _say_where_it_goes_on(self, checkpoint: Checkpoint) -> None:
        progress = self._progress
        self._log.say(
            f"Resuming {self.folder.path} from epoch {progress.epoch + 1}, batch {progress.batch} "
            f"({checkpoint.path.name if checkpoint.path else ''})"
        )
        if progress.ended == "no gain":
            self._log.say(
                f"It has ended: {progress.without_gain} validations without gain. A larger patience goes on "
                f"(--set patience=... --allow-changes)."
            )

    def _begin(self) -> None:
        recipe = self.recipe
        self._log.event(
            "start",
            recipe=recipe.name,
            model=recipe.model.name,
            backend=self.backend.name,
            device=self.device,
            precision=self.precision,
            batches=len(self._loader),
            batch_size=recipe.batch_size,
            **({} if self._ranks.is_alone else {"processes": self._ranks.size, "reduced_by": self._ranks.group.kind}),
        )
        parameters = sum(int(np.prod(item.shape)) for item in self.backend.parameters(self._network).values())
        self._log.say(
            f"Training {recipe.model.name} ({parameters:,} values) by recipe {recipe.name} on {self.backend.name} "
            f"{self.device} in {self.precision}: {recipe.epochs} epochs of {len(self._loader)} batches of "
            f"{recipe.batch_size}"
            + ("" if self._ranks.is_alone else f", shared by {self._ranks.size} processes ({self._ranks.group.kind})")
        )
        notes = [] if self._halves or recipe.on_out_of_memory != "halve" else [memory.ONE_PROCESS]
        for sentence in [*notes, *self.task.remarks()]:
            self._log.say(sentence)
            self._log.event("remark", text=sentence)
        if recipe.nan_policy in ("skip", "stop") or self._halves:
            self._save()  # these policies go back to a checkpoint, so there must be one before the first step

    # ------------------------------------------------------------------------------------------------------------------
    # The loop
    # ------------------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        progress, recipe = self._progress, self.recipe
        while progress.ended is None and progress.epoch < recipe.epochs:
            try:
                with self._clock():
                    self._train_epoch()
                    row = self._end_epoch()
                self._close_epoch(row)
            except BadNumbers as bad:
                self._handle_bad_numbers(bad)
            except memory.BackToCheckpoint:
                self._go_back_for_memory()
            progress = self._progress
        if progress.ended is None:
            progress.ended = "done"
        self._finish()

    def _train_epoch(self) -> None:
        progress = self._progress
        self.task.set_epoch(progress.epoch)
        transform = self.task.batch_transform()
        if transform != self._batch_transform:
            # Workers hold a copy of the transform; a recipe whose mixing ends early gets a new loader there.
            self._loader.close()
            self._loader, self._batch_transform = self._ranks.share(self.task.loader("train", training=True)), transform
        self._loader.set_epoch(progress.epoch)
        # After the last batch there is nothing to load: such a run was stopped before or during its validation.
        if progress.batch < len(self._loader):
            if progress.loader is not None:
                self._loader.load_state_dict(progress.loader)
            self._train_batches()
        if self._step.flush(self._schedule(progress.step)):
            progress.step += 1

    def _train_batches(self) -> None:
        progress, recipe = self._progress, self.recipe
        bad = {batch for epoch, batch in progress.bad_batches if epoch == progress.epoch}
        batches = bad_samples.with_cure(self._loader, recipe)
        to_device: Callable[[np.ndarray], Any] = self._to_device
        if self.profile is not None:
            batches, to_device = self.profile.background(batches, to_device)
            self.profile.begin()
        prefetcher = Prefetcher(
            batches,
            to_device,
            state=self._loader.state_dict,
            check=self._signals.check,
            timeout=bad_samples.patience(recipe),
            hanging=bad_samples.hanging(self._loader),
        )
        title = f"epoch {progress.epoch + 1}/{recipe.epochs}"
        self._ranks.begin_phase()
        with prefetcher, self._bar(title, len(self._loader), progress.batch) as bar:
            for loaded in self._saving_on_failure(prefetcher):
                self._mark("data")
                if progress.batch in bad:
                    progress.batch += 1
                    progress.loader = loaded.loader_state
                    continue
                self._train_batch(loaded)
                self._look_for_damage()
                bar.update()
                if progress.batch % recipe.log_every == 0:
                    self._log_interval(bar)
                self._mark("logging")
                if recipe.checkpoint_every and progress.batch % recipe.checkpoint_every == 0:
                    self._save()
                    self._mark("checkpoint")
                if self.profile is not None:
                    self.profile.end_step()
                if progress.batch % recipe.accumulate == 0:
                    # Between two updates: what waits in the middle of an accumulation would be rounded otherwise.
                    self._ranks.agree_to_stop(self._signals)
        if self.profile is not None:
            self.profile.end_epoch(self._to_device)
        progress.batch = len(self._loader)
        if progress.loader is not None:
            # Batches at the end of which nothing was left were never delivered, and are counted all the same.
            progress.loader = {**progress.loader, "skipped": self._loader.skipped}

    def _train_batch(self, loaded: LoadedBatch) -> None:
        progress = self._progress
        batch = self.task.complete_batch(loaded.device)
        own, total = self._ranks.counts(loaded.host, may_be_smaller=self.recipe.on_bad_sample == "skip")
        output = self._run_step(batch) if self._ranks.is_alone else self._run_share(batch, own, total)
        if own:
            self._measurements.add(Waiting(progress.batch, loaded.host, output.loss, output.outputs))
        progress.batch += 1
        progress.samples += total
        progress.loader = loaded.loader_state
        progress.step += bool(output.updated)

    def _run_share(self, batch: Sequence[Any], own: int, total: int) -> Any:
        """This process's part of a step of several; ``own`` of the ``total`` samples are here."""
        return self._step(batch, self._schedule(self._progress.step), weight=own * self._ranks.size / max(total, 1))

    def _run_step(self, batch: Sequence[Any]) -> Any:
        rate = self._schedule(self._progress.step)
        if not self._halves:
            return self._step(batch, rate)
        while True:
            kept = self._step.keep()
            try:
                return self._step(batch, rate)
            except Exception as error:
                if not self.backend.is_out_of_memory(error):
                    raise
                reason = memory.reason(error)
            # Outside of the handler, which keeps the arrays of the attempt alive.
            self._halve(int(batch[0].shape[0]), kept, reason)

    def _log_interval(self, bar: Any) -> None:
        progress = self._progress
        self.folder.check()
        self._measurements.read()
        loss = self._measurements.end_interval()
        bar.set_postfix(loss=f"{loss:.4f}", refresh=False)
        self._log.scalars(
            "step",
            progress.step,
            {"step_loss": loss, "learning_rate": self._schedule(progress.step)},
            epoch=progress.epoch + 1,
            batch=progress.batch,
        )

    def _end_epoch(self) -> dict[str, Any]:
        """Training metrics of the epoch, and validation if it is due: the epoch's row of the history."""
        progress, recipe = self._progress, self.recipe
        self._measurements.read()
        trained = {f"train_{name}": value for name, value in self._measurements.values().items()}
        row: dict[str, Any] = {"epoch": progress.epoch + 1, **trained}
        row["learning_rate"] = self._schedule(max(0, progress.step - 1))
        due = (progress.epoch + 1) % recipe.validate_every == 0 or progress.epoch + 1 == recipe.epochs
        if self._validation_loader is not None and due:
            # By the epoch and not by how often this process has measured: a resumed run draws the same random numbers.
            self._validation_loader.set_epoch(progress.epoch)
            try:
                with self._step.ema_weights():
                    measured = self._evaluate(self._validation_loader, "validation")
                    row.update({f"validation_{name}": value for name, value in measured.items()})
                    self._tell_skipped(self._ranks.total(self._validation_loader.skipped), "validation")
                    self._judge(measured)
            except (DataError, TrainingError) as error:
                if isinstance(error, VanishedFolderError) or not self._ranks.is_alone:
                    raise
                raise self._after_saving(error) from error
        return row

    def _judge(self, measured: Mapping[str, float]) -> None:
        """Keeps the weights if they are the best so far; counts how long they have not been."""
        progress, recipe = self._progress, self.recipe
        name = recipe.monitor or next(iter(measured))
        if name not in measured:
            raise OptionError(f"monitor={name!r} is no metric of this run. Measured: {', '.join(measured)}.")
        value, sign = measured[name], -1.0 if name in self.task.lower_is_better() else 1.0
        loss = measured.get("loss")
        gained = progress.best is None or sign * value > sign * progress.best
        tied = value == progress.best and loss is not None and loss < (progress.best_loss or 0.0)
        if gained or tied:
            progress.best, progress.best_loss, progress.best_epoch = value, loss, progress.epoch + 1
            self._save_weights("best")
        if gained:
            progress.without_gain = 0
        else:
            progress.without_gain += 1
            progress.ended = self._verdict()

    def _verdict(self) -> str | None:
        """Whether patience has run out."""
        patience = self.recipe.patience
        return "no gain" if patience is not None and self._progress.without_gain >= patience else None

    def _close_epoch(self, row: dict[str, Any]) -> None:
        progress = self._progress
        # Here and not before the validation: what is told twice, or never, is told wrong by a run that stopped in it.
        skipped = int(progress.loader.get("skipped", 0)) if progress.loader else 0
        skipped = self._ranks.total(skipped)
        self._tell_skipped(skipped, "training")
        progress.skipped += skipped
        progress.history.append(row)
        measured = {key: value for key, value in row.items() if key not in ("epoch", "learning_rate")}
        self._log.scalars("epoch", progress.step, measured, epoch=row["epoch"], seconds=round(progress.seconds, 2))
        self._log.say(_sentence(row, progress.seconds, self.recipe.epochs))
        is_best = progress.best_epoch == row["epoch"]
        progress.epoch += 1
        progress.batch, progress.loader = 0, None
        self._measurements.reset()
        self._save(is_best=is_best)
        if self.profile is not None:
            self._write_profile(self.profile)
        if time.monotonic() > self._curves_due:
            self._draw_curves()

    def _write_profile(self, profile: StepProfile) -> None:
        described = {"backend": self.backend.name, "device": self.device, "precision": self.precision}
        self.folder.write_json(self.folder.profile, {**described, **profile.summary()})

    def _finish(self) -> None:
        progress = self._progress
        with self._step.ema_weights():
            self._save_weights("last")
        self._signals.check()
        self._draw_curves()
        counted = {"skipped_samples": progress.skipped} if progress.skipped else {}
        self._log.event("end", reason=progress.ended, best=progress.best, best_epoch=progress.best_epoch, **counted)
        self._load_best_weights()
        self._write_description()
        self._signals.check()
        self._draw_predictions()

    # ------------------------------------------------------------------------------------------------------------------
    # When something comes between
    # ------------------------------------------------------------------------------------------------------------------

    def _stop(self, number: int) -> None:
        progress = self._progress
        name = "Ctrl-C" if number == signal.SIGINT else "SIGTERM"
        if not self._has_begun:
            if not self.quiet:
                say(f"Stopped by {name} before the first step; there was nothing to save.")
            return
        try:
            # After the last epoch the network holds the best weights, and everything else is saved.
            if self._position() != self._saved_at:
                self._save()
        except BadNumbers as bad:
            # Such weights must not replace the good ones of the last checkpoint.
            self._log.say(f"Stopped by {name}; {bad.what}, so the checkpoint before stays the last one.")
            return
        self._draw_curves()
        where = f"in epoch {progress.epoch + 1} after {progress.batch} batches"
        if progress.ended is not None or progress.epoch >= self.recipe.epochs:
            where = "after the last epoch"
        self._log.say(f"Stopped by {name} {where}. Everything is saved in {self.folder.path}; --resume goes on.")

    def _saving_on_failure(self, batches: Iterable[LoadedBatch]) -> Iterator[LoadedBatch]:
        """The batches; where the next one cannot be made, what is trained so far is saved first."""
        iterator = iter(batches)
        while True:
            try:
                loaded = next(iterator)
            except StopIteration:
                return
            except (DataError, TrainingError) as error:
                raise self._after_saving(error) from error
            yield loaded

    def _after_saving(self, error: DataError | TrainingError) -> GlueballError:
        kind = DataError if isinstance(error, DataError) else TrainingError
        return kind(f"{str(error).rstrip('.')}. {self._save_so_far()}".rstrip())

    def _save_so_far(self) -> str:
        """A checkpoint between two steps, for a run that cannot go on; what came of it, as a sentence."""
        try:
            if not self._ranks.is_alone:
                return self._last_checkpoint()  # the others are in their next step
            if self._progress.samples and self._position() != self._saved_at:
                self._save()
        except (BadNumbers, OSError, GlueballError) as error:
            logger.warning("No checkpoint could be saved before the end: %s", error)
        last = self._checkpoints.paths()
        return f"Everything before is saved in {last[-1]}; --resume goes on there." if last else ""

    def _last_checkpoint(self) -> str:
        last = self._checkpoints.paths()
        return f"Last good checkpoint: {last[-1]}; --resume goes on there." if last else ""

    def _tell_skipped(self, skipped: int, data: str) -> None:
        """At the end of a pass through data: how many samples were left out of it as damaged."""
        if not skipped:
            return
        epoch = self._progress.epoch + 1
        self._log.event("skipped_samples", epoch=epoch, data=data, samples=skipped)
        self._log.say(
            f"epoch {epoch}: {skipped} damaged sample{'' if skipped == 1 else 's'} of the {data} data left out"
        )

    def _halve(self, rows: int, kept: Any, reason: str) -> None:
        """After a step of ``rows`` samples that did not fit: everything as before it, computed in twice as many parts.

        Raises:
            TrainingError: there is nothing left to halve.
            memory.BackToCheckpoint: the step had begun to change the weights.
        """
        progress = self._progress
        at_once = -(-rows // progress.micro_batches)
        if at_once == 1:
            raise TrainingError(self._memory_sentence(reason, at_once))
        is_undone = self._step.undo(kept)
        # Before the first step there is no state, and what a failed attempt made of it may be half of one.
        state = self._step.state_dict() if is_undone and progress.samples else None
        progress.micro_batches *= 2
        self._step = None
        gc.collect()  # network, graph and step refer to each other
        self.backend.release_memory(self.device)
        where = {"epoch": progress.epoch + 1, "batch": progress.batch}
        if not is_undone:
            raise memory.BackToCheckpoint
        self._step = self._new_step()
        if state is not None:
            self._step.load_state_dict(state)
        self._tell_halved(**where, rows=rows, reason=reason)

    def _tell_halved(self, epoch: int, batch: int, rows: int, reason: str) -> None:
        parts = self._progress.micro_batches
        self._log.event("out_of_memory", epoch=epoch, batch=batch, micro_batches=parts, samples=rows, reason=reason)
        self._log.say(
            f"Memory ran out in epoch {epoch}, batch {batch}: batches of {rows} are computed in {parts} parts from now "
            f"on, with the same updates. Batch normalisation sees the parts."
        )

    def _go_back_for_memory(self) -> None:
        checkpoint = self._checkpoints.load_last()
        if checkpoint is None:
            raise CheckpointError("Memory ran out within an update, and there is no checkpoint to go back to.")
        epoch, batch = self._progress.epoch + 1, self._progress.batch
        self._step = self._new_step()
        self._restore(checkpoint)
        self._log.truncate(checkpoint.state["files"])
        self._log.say(f"Memory ran out within an update; going back to {checkpoint.path}.")
        self._tell_halved(epoch, batch, self.recipe.batch_size, "within an update")

    def _memory_sentence(self, reason: str, at_once: int | None = None) -> str:
        progress, recipe = self._progress, self.recipe
        rows = at_once or -(-recipe.batch_size // progress.micro_batches)
        doing = f"in epoch {progress.epoch + 1} after {progress.batch} batches, with batches of {recipe.batch_size}"
        if rows != recipe.batch_size:
            doing += f" computed {rows} at a time"
        last = self._checkpoints.paths()
        saved = f" Last good checkpoint: {last[-1]}." if last else ""
        ran_out = memory.ran_out(reason, self.backend, self.device, doing)
        cures = memory.cures(recipe, self.backend, self.device, self.precision, rows, can_halve=self._ranks.is_alone)
        return f"{ran_out} {cures}{saved}"

    @contextmanager
    def _explained_memory(self) -> Iterator[None]:
        """One error for every way in which a library says that memory ran out."""
        try:
            yield
        except Exception as error:
            if isinstance(error, GlueballError) or not self.backend.is_out_of_memory(error):
                raise
            raise TrainingError(self._memory_sentence(memory.reason(error))) from error

    def _handle_bad_numbers(self, bad: BadNumbers) -> None:
        """Raises, stops, or goes back to the last checkpoint and leaves out the batch that did the damage.

        Everything is deterministic: replaying from a checkpoint without a batch is the run that never saw it. Which
        batch it was, a first replay finds out, which looks at all numbers after every step up to where it showed.
        """
        progress, recipe = self._progress, self.recipe
        place = (progress.epoch, bad.batch_index)
        saved = self._save_bad_batches(bad)
        what = f"In epoch {place[0] + 1}, batch {place[1]}, {bad.what}."
        if recipe.nan_policy == "raise" or len(progress.bad_batches) >= _MAX_BAD_BATCHES:
            last = self._checkpoints.paths()
            raise TrainingError(
                f"{what} {saved}Last good checkpoint: {last[-1] if last else 'none yet'}. A smaller learning rate, "
                f"gradient clipping (--set clip_norm=1) or a longer warm-up often help; --set nan_policy=skip leaves "
                f"such batches out."
            )
        checkpoint = self._checkpoints.load_last()
        if checkpoint is None:
            raise CheckpointError(f"{what} There is no checkpoint to go back to.")
        is_found = self._looking_until is not None
        bad_batches = [*progress.bad_batches, list(place)] if is_found else progress.bad_batches
        # A step that has run cannot go back to the state before its first update; a new one can.
        self._step = self._new_step()
        self._restore(checkpoint)
        self._log.truncate(checkpoint.state["files"])
        if recipe.nan_policy == "stop":
            self._progress.ended = "bad numbers"
            self._log.say(f"{what} Stopping with the weights of {checkpoint.path}.")
            return
        self._progress.bad_batches = bad_batches
        if is_found:
            self._log.event("skipped_batch", epoch=place[0] + 1, batch=place[1], reason=bad.what)
            self._log.say(f"{what} Leaving it out. {saved}")
        else:
            self._looking_until = place
            self._log.say(f"{what} Going back to the last checkpoint to find the batch that did it.")

    def _look_for_damage(self) -> None:
        """After a step of a replay: raises BadNumbers if any number is damaged; ends where the damage had shown."""
        progress = self._progress
        if self._looking_until is None:
            return
        if (progress.epoch, progress.batch - 1) > self._looking_until:
            self._looking_until = None
            return
        last = self._measurements.last()
        self._measurements.read()
        for arrays in (self.backend.get_arrays(self._network), self._step.state_dict()):
            if not are_finite(arrays):
                raise BadNumbers("the weights are not finite", progress.batch - 1, last)

    def _save_bad_batches(self, bad: BadNumbers) -> str:
        """Writes the batches where the damage showed; returns a sentence that says where they are."""
        from glueball.weights import save

        folder = self.folder.path / "bad_batches"
        for step in bad.steps:
            part = "" if self._ranks.is_alone else f"-rank-{self._ranks.rank:04d}"
            path = folder / f"epoch-{self._progress.epoch + 1:04d}-batch-{step.batch_index:06d}{part}.safetensors"
            with writing.writing(path):
                save(path, {f"input{index}": np.asarray(array) for index, array in enumerate(step.host)})
        return f"The batch and the one before it are saved in {folder}. " if bad.steps else ""

    # ------------------------------------------------------------------------------------------------------------------
    # Saving and restoring
    # ------------------------------------------------------------------------------------------------------------------

    def _position(self) -> tuple[int, ...]:
        progress = self._progress
        return progress.epoch, progress.batch, progress.step, progress.samples

    def _save(self, *, is_best: bool = False) -> None:
        self.folder.check()
        checkpoint = self._make_checkpoint()
        progress = self._progress
        self._checkpoints.save(checkpoint, epoch=progress.epoch, step=progress.step, is_best=is_best)
        self._saved_at = self._position()

    def _make_checkpoint(self) -> Checkpoint:
        self._measurements.read()
        progress = self._progress
        weights = self.backend.get_arrays(self._network)
        if self._ranks.any(not are_finite(weights)):
            # A bad last batch shows in no loss before the next one; such weights must not become the last checkpoint.
            raise BadNumbers("the weights are not finite", progress.batch - 1)
        state = {
            "progress": self._ranks.whole_progress(progress.to_dict()),
            "measurements": self._measurements.state(),
            "files": self._log.sizes(),
            "backend": self.backend.name,
            "precision": self.precision,
        }
        return Checkpoint(
            state=state,
            weights=weights,
            optimizer=self._step.state_dict(),
            random=self._ranks.capture_random(self.backend),
        )

    def _restore(self, checkpoint: Checkpoint) -> None:
        """Takes a checkpoint's state over; writes nothing.

        Raises:
            CheckpointError: it belongs to another network, optimiser, data set or seed.
        """
        state = checkpoint.state
        shapes = {name: np.shape(array) for name, array in self.backend.get_arrays(self._network).items()}
        saved = {name: np.shape(array) for name, array in checkpoint.weights.items()}
        if shapes != saved:
            lines = [
                f"{name}: checkpoint {saved.get(name, 'has none')}, network {shapes.get(name, 'has none')}"
                for name in dict.fromkeys([*saved, *shapes])
                if saved.get(name) != shapes.get(name)
            ]
            raise CheckpointError(
                f"Checkpoint {checkpoint.path} is of another network than the recipe's {self.recipe.model.name!r}; "
                f"{len(lines)} arrays differ:\n  " + "\n  ".join(lines[:5]) + "\nResume with the model and the classes "
                "that the run began with, or begin another run with --out."
            )
        progress = Progress.from_dict(self._ranks.own_progress(state["progress"]))
        # What did not fit once is not tried again: neither after a resume nor in a replay.
        parts = max(progress.micro_batches, self._progress.micro_batches) if self._ranks.is_alone else 1
        progress.micro_batches = parts
        if parts != self._progress.micro_batches:
            self._progress.micro_batches = parts
            self._step = self._new_step()
        if progress.loader is not None:
            self._loader.load_state_dict(progress.loader)
        self._ranks.load_measurements(self._measurements, state["measurements"])
        self._step.load_state_dict(checkpoint.optimizer)
        self.backend.set_arrays(self._network, checkpoint.weights)
        self._ranks.restore_random(self.backend, checkpoint.random, self.recipe.seed, progress.step)
        self._progress = progress
        self._saved_at = self._position()
        # The patience of today decides, not that of the day when the run ended.
        progress.ended = self._verdict()

    def _save_weights(self, name: str) -> None:
        from glueball.weights import save

        self.folder.check()
        path = self.folder.weights / f"{name}.safetensors"
        arrays = self.backend.get_arrays(self._network)
        if self._ranks.is_first:
            with writing.writing(path):
                save(path, arrays, metadata=self.task.weights_metadata())

    def _load_best_weights(self) -> None:
        """After training the network holds the weights that are worth using."""
        from glueball.weights import load

        self._is_over = True
        best = self.folder.weights / "best.safetensors"

        def read() -> dict[str, np.ndarray]:
            return dict(load(best if best.exists() else self.folder.weights / "last.safetensors"))

        self.backend.set_arrays(self._network, self._ranks.lead(read))

    def _write_description(self) -> None:
        progress = self._progress
        best = progress.best_epoch
        row = next((item for item in progress.history if item["epoch"] == best), None)
        self.folder.write_json(
            self.folder.description,
            {
                "format": RUN_FORMAT,
                "task": self.recipe.task,
                "recipe": self.recipe.name,
                "backend": self.backend.name,
                **self.task.describe(),
                "best": row,
                "ended": progress.ended,
            },
        )

    # ------------------------------------------------------------------------------------------------------------------
    # Small things
    # ------------------------------------------------------------------------------------------------------------------

    def _to_device(self, array: np.ndarray) -> Any:
        return self.backend.array(array, self.device)

    def _predictor(self) -> Any:
        """The backend's predictor with the weights of this moment: a compiled one may hold copies."""
        if self._predict is None:
            self._predict = self.backend.predictor(
                self.network, device=self.device, precision=self.precision, compile=self._compile
            )
        else:
            self._predict.refresh()
        return self._predict

    def _predict_arrays(self, *inputs: np.ndarray) -> Any:
        outputs = self._predictor()(*(self._to_device(array) for array in inputs))
        if isinstance(outputs, (list, tuple)):
            return tuple(self.backend.numpy(output) for output in outputs)
        return self.backend.numpy(outputs)

    def _evaluate(self, loader: Any, title: str) -> dict[str, float]:
        predict = self._predictor()
        if self._halves:
            predict = self._measuring = self._measuring or memory.PredictInParts(predict, self.backend, self.device)
            predict.predict = self._predict
        self._ranks.begin_phase()
        with self._bar(title, len(loader), 0) as bar:

            def tick() -> None:
                bar.update()
                self._ranks.agree_to_stop(self._signals)

            return evaluate(
                self.task,
                predict,
                loader,
                self.backend,
                self.device,
                check=self._signals.check,
                tick=tick,
                ranks=self._ranks,
            )

    def _bar(self, title: str, total: int, initial: int) -> Any:
        from tqdm import tqdm

        return tqdm(
            total=total, initial=initial, desc=title, unit="batch", leave=False, disable=True if self.quiet else None
        )

    @contextmanager
    def _explained_failures(self) -> Iterator[None]:
        """One error for every file of the run that the system does not let us write, with what is safe."""
        try:
            yield
        except VanishedFolderError as error:
            raise TrainingError(f"{error} {self._rescue()}") from error
        except OSError as error:
            self._check_presence(error)
            if not writing.belongs_to_run(error, self.folder.path):
                raise
            paths = self._checkpoints.paths()
            last = f"The last good checkpoint is {paths[-1]}." if paths else "There is no checkpoint yet."
            raise TrainingError(f"{writing.sentence(error)} {last} {writing.cure(error)}") from error

    def _check_presence(self, error: OSError) -> None:
        """A file that cannot be written has its reason where the whole folder is gone."""
        try:
            self.folder.check()
        except VanishedFolderError as gone:
            raise TrainingError(f"{gone} {self._rescue()}") from error

    def _rescue(self) -> str:
        """What becomes of the training when its folder has vanished, as a sentence."""
        if not self._ranks.is_alone or not self._has_begun or not self._progress.samples or self._is_over:
            return ""
        try:
            checkpoint = self._make_checkpoint()
        except BadNumbers as bad:
            return f"There is nothing to save beside it: {bad.what}."
        progress = self._progress
        return rescue.attempt(
            self.folder, checkpoint, self._recipe_to_write(), epoch=progress.epoch, step=progress.step
        )

    @contextmanager
    def _clock(self) -> Iterator[None]:
        start = time.monotonic()
        try:
            yield
        finally:
            self._progress.seconds += time.monotonic() - start

    def _draw_curves(self) -> None:
        start = time.monotonic()
        self._curves_due = start + _CURVES_EVERY_SECONDS
        self.folder.check()
        if not self._ranks.is_first:
            return
        try:
            problem = curves.draw(self._progress.history, self.folder.curves, self.recipe.name)
        except OSError as error:
            problem = _warn_of_picture(self.folder.curves, error)
        if problem is not None and self._progress.history:
            self._log.event("no_curves", reason=problem)
            self._log.say(f"No curves.png: {problem}.")
        taken = time.monotonic() - start
        self._curves_due = start + max(_CURVES_EVERY_SECONDS, taken / _CURVES_SHARE)

    def _draw_predictions(self) -> None:
        self.folder.check()
        if not self._ranks.is_first:
            return
        try:
            problem = self.task.draw_predictions(self.predict, self.folder.predictions)
        except OSError as error:
            problem = _warn_of_picture(self.folder.predictions, error)
        if problem is not None:
            self._log.event("no_predictions", reason=problem)

    def _result(self) -> TrainingResult:
        progress = self._progress
        rows = {row["epoch"]: row for row in progress.history}
        row = rows.get(progress.best_epoch or progress.epoch, {})
        part = "validation_" if progress.best_epoch else "train_"

        def measured(row: Mapping[str, Any]) -> dict[str, float]:
            return {key[len(part) :]: value for key, value in row.items() if key.startswith(part)}

        return TrainingResult(
            metrics=measured(row),
            last_metrics=measured(progress.history[-1] if progress.history else {}),
            best_epoch=progress.best_epoch,
            epochs=progress.epoch,
            seconds=progress.seconds,
            out=self.folder.path,
            ended=progress.ended or "",
            skipped=progress.skipped,
        )

    def _close(self) -> None:
        for loader in (self._loader, self._validation_loader):
            if loader is not None:
                loader.close()
        if self._log is not None:
            self._log.close()
        self.folder.close()


def checked_device(backend: Any, device: str | None) -> str:
    """The device that was asked for, or the backend's best one.

    Raises:
        OptionError: there is no such device here.
    """
    available = backend.devices()
    if device is None:
        return str(available[0])
    wanted = {"gpu": "cuda:0", "cuda": "cuda:0"}.get(device, device)
    if wanted not in available:
        raise OptionError(f"There is no device {device!r} for {backend.name} here. Available: {', '.join(available)}.")
    return wanted


def choose_precision(backend: Any, precision: str, device: str) -> str:
    """ "auto" is bfloat16 where the device gains by it, otherwise float32.

    Raises:
        OptionError: the precision that was asked for does not work on the device.
    """
    if precision == "auto":
        return "bfloat16" if backend.supports_precision("bfloat16", device) is None else "float32"
    reason = backend.supports_precision(precision, device)
    if reason is not None:
        raise OptionError(f"precision={precision} is of no use on {device}: {reason}. Use precision=auto or float32.")
    return precision


def _misfit(model: str, inputs: Sequence[np.ndarray], error: Exception) -> str:
    """Why a model failed at the first sample, as far as one can tell from outside: mostly the size of a picture."""
    received = ", ".join(str(array.shape[1:]) for array in inputs)
    expected = ""
    with suppress(GlueballError):  # a task may build networks that no catalogue knows
        shape = catalog.current().find("model", model).metadata.get("input_shape")
        expected = f"It is registered for {tuple(shape)}. " if shape is not None else ""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # MXNet shows where in its own source a check failed before it says which one.
    reason = lines[-1].strip() if lines[0].startswith("Traceback") else lines[0]
    return (
        f"The model {model!r} fails on the first sample of the data: {reason.rstrip('.')}. Received: one sample of "
        f"shape {received}. {expected}Change the size that the recipe's transforms make, or take another model with "
        f"--model."
    )


def _warn_of_picture(path: Path, error: OSError) -> str:
    # Numbers and weights are safe elsewhere; a picture must not cost the end of a run.
    reason = error.strerror or str(error)
    logger.warning("%s could not be drawn: %s. Training goes on without it.", path, reason)
    return reason


def _sentence(row: Mapping[str, Any], seconds: float, epochs: int) -> str:
    parts = [f"epoch {row['epoch']:>{len(str(epochs))}}/{epochs}"]
    for part, label in (("train_", "training"), ("validation_", "validation")):
        values = [
            f"{key[len(part) :].replace('_', ' ')} {value:.4f}" for key, value in row.items() if key.startswith(part)
        ]
        if values:
            parts.append(f"{label}: {', '.join(values)}")
    return " | ".join([*parts, f"{seconds:.0f} s"])

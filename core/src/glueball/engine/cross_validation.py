"""``cross_validate``: a recipe trained once for each fold of its data, every fold a run of its own.

RUN/cross_validation.json    what came of each fold, their mean and standard deviation
RUN/recipe.json              what was asked for
RUN/fold-01/, RUN/fold-02/   ordinary run folders

What is reported of a fold is the last epoch, on the data that were held out of its training. The best epoch would be
chosen by those same data, and a number that was chosen is too good.

Nothing here knows how data are divided: the task does (``Task.fold``).
"""

from __future__ import annotations

import gc
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs

from glueball.engine import specification, writing
from glueball.engine.ranks import Ranks
from glueball.engine.recipe import Recipe
from glueball.engine.run_folder import RunFolder
from glueball.engine.signals import SignalGuard, StopRequest, end_process
from glueball.engine.trainer import HARMLESS, Trainer, TrainingResult
from glueball.errors import DataError, OptionError, TrainingError

FORMAT = 1
"""Version of ``cross_validation.json``."""

MEASURED = "the last epoch of each fold, on the data held out of its training"
"""What the numbers are, in words; part of the file, so that nobody takes them for something else."""

FAILED = "bad numbers"
"""How a fold ends that did not train to its end; it has no part in the means."""


@attrs.frozen(kw_only=True)
class FoldResult:
    """What came of one fold."""

    fold: int
    """Counted from 1."""
    metrics: Mapping[str, float]
    """Of the last epoch, on the data held out."""
    epochs: int
    """Finished epochs: patience may have ended the fold before the recipe would."""
    ended: str
    """Why training ended: "done", "no gain" (patience) or "bad numbers"."""
    seconds: float
    out: Path
    """The run folder of the fold."""


@attrs.frozen(kw_only=True)
class CrossValidationResult:
    """What ``cross_validate`` returns."""

    folds: tuple[FoldResult, ...]
    mean: Mapping[str, float]
    """Metric -> mean over the folds that trained to their end, each fold counted once, whatever its size."""
    standard_deviation: Mapping[str, float]
    """Metric -> sample standard deviation over the same folds (divided by n - 1); NaN for a single fold."""
    n: int
    """How many folds trained to their end."""
    seconds: float
    out: Path
    rank: int = 0
    """The number of this process among those that trained together."""


def cross_validate(
    recipe: Recipe,
    folds: int,
    out: str | os.PathLike[str] | None = None,
    *,
    device: str | None = None,
    resume: bool = False,
    overwrite: bool = False,
    allow_changes: bool = False,
    quiet: bool = False,
    compile: bool = True,
) -> CrossValidationResult:
    """Trains ``recipe`` once for each fold, the data of that fold held out, and measures the last epoch of each.

    Every fold begins with the same seed and new weights. SIGINT and SIGTERM save the running fold first; then SIGINT
    becomes KeyboardInterrupt and SIGTERM exit status 143.

    Args:
        recipe: what to do; its task divides the data (``Task.fold``).
        folds: how many, at least 2.
        out: the folder that holds the folds; ``runs/<recipe>`` by default.
        device, quiet, compile: as for ``Trainer``.
        resume: go on where it stopped: finished folds are not repeated, the running one goes on exactly.
        overwrite: remove the cross-validation, or the run, that is in ``out`` and begin anew.
        allow_changes: resume although the recipe has changed; the changes are written down beside the results.

    Raises:
        OptionError: fewer than two folds, a task or data that have none, a folder that is not empty or holds another
            cross-validation, or whatever ``Trainer`` refuses.
        DataError: the data cannot be divided or read, or cross_validation.json is damaged.
        TrainingError, CheckpointError: as ``Trainer.fit``; the folds that were finished before are safe.
    """
    if isinstance(folds, bool) or not isinstance(folds, int) or folds < 2:
        raise OptionError(f"A cross-validation needs at least 2 folds. Received: {folds!r}.")
    from glueball import backend

    ranks = Ranks.join(backend.current())
    path = Path("runs") / recipe.name if out is None else out
    run = _CrossValidation(recipe, folds, ranks.folder(path), ranks)
    run.settings = {
        "device": device,
        "resume": resume,
        "overwrite": overwrite,
        "allow_changes": allow_changes,
        "quiet": quiet or not ranks.is_first,
        "compile": compile,
    }
    return run.fit()


def stored_folds(out: str | os.PathLike[str]) -> int | None:
    """The number of folds of the cross-validation in a folder; None where there is none.

    Raises:
        DataError: its cross_validation.json is damaged.
        OptionError: another version of Glueball wrote it.
    """
    folder = RunFolder(out)
    return int(_read(folder)["folds"]) if folder.cross_validation.exists() else None


class _CrossValidation:
    """One call of ``cross_validate``."""

    settings: dict[str, Any]

    def __init__(self, recipe: Recipe, folds: int, folder: RunFolder, ranks: Ranks) -> None:
        self.recipe, self.folds, self.folder = recipe, folds, folder
        self._ranks = ranks
        self.results: dict[int, FoldResult] = {}
        self.changes: list[dict[str, Any]] = []
        self._is_ours = False

    # ------------------------------------------------------------------------------------------------------------------
    # The way through
    # ------------------------------------------------------------------------------------------------------------------

    def fit(self) -> CrossValidationResult:
        guard = self._ranks.signal_guard()
        stop: int | None = None
        self.folder.open(resume=self.settings["resume"], overwrite=self.settings["overwrite"])
        try:
            with guard, self._ranks.telling_failures(), self._explained_failures():
                try:
                    self._run(guard)
                except StopRequest as request:
                    stop = request.number
                    self._say(
                        f"Stopped between two folds. Everything is saved in {self.folder.path}; --resume goes on."
                    )
        finally:
            self.folder.close()
        if stop is not None:
            end_process(stop)
        return self._result()

    def _run(self, guard: SignalGuard) -> None:
        from tqdm import tqdm

        if self.settings["resume"]:
            self._take_up_together()
        recipes = self._fold_recipes(guard)
        if self.recipe.patience is not None:
            self._say(
                "patience ends each fold by the data that it is measured on, so the numbers will be somewhat too good; "
                "--set patience=none avoids that."
            )
        finished = [number for number in recipes if number in self.results]
        if finished:
            self._say(f"Resuming {self.folder.path}: {len(finished)} of {self.folds} folds are finished.")
        disable = True if self.settings["quiet"] else None
        with tqdm(
            total=self.folds, initial=len(finished), desc="folds", unit="fold", leave=False, disable=disable
        ) as bar:
            for number, recipe in recipes.items():
                if number in self.results:
                    continue
                guard.check()
                self._ranks.agree_to_stop(guard, at_last=True)
                self._say(f"Fold {number} of {self.folds}")
                result = self._train(number, recipe)
                self.results[number] = result
                self._write()
                self._say(f"Fold {number} of {self.folds} ({result.ended}): {_values(result.metrics)}")
                bar.update()

    def _fold_recipes(self, guard: SignalGuard) -> dict[int, Recipe]:
        """Every fold's recipe, made before the first one trains: what cannot be divided shows at once."""
        from glueball.engine.load import task_class

        task = task_class(self.recipe.task)
        recipes = {}
        for number in range(1, self.folds + 1):
            guard.check()
            recipe = task.fold(self.recipe, number - 1, self.folds)
            if recipe.data.validation is None:
                raise OptionError(
                    f"The task {self.recipe.task!r} holds no data out of fold {number}: what its fold() returns has no "
                    "data.validation. Report it to the plugin's author."
                )
            recipes[number] = recipe
        return recipes

    def _train(self, number: int, recipe: Recipe) -> FoldResult:
        trainer = _FoldTrainer(recipe, self.folder.fold(number).path, **self.settings)
        trainer.take_over = self._take_over
        result = trainer.fit()
        # A network, its optimiser and its loaders refer to each other, and the next fold needs their memory.
        del trainer
        gc.collect()
        return _fold_result(number, result)

    # ------------------------------------------------------------------------------------------------------------------
    # The folder
    # ------------------------------------------------------------------------------------------------------------------

    def _take_up_together(self) -> None:
        """``_take_up`` in the process that has the folder, and what it found for all."""

        def take_up() -> dict[str, Any]:
            self._take_up()
            return {"changes": self.changes, "results": [plain(self.results[fold]) for fold in sorted(self.results)]}

        found = self._ranks.lead(take_up)
        self.changes = list(found["changes"])
        self.results = {item["fold"]: _restored(item, self.folder) for item in found["results"]}

    def _take_up(self) -> None:
        """Finds what is there to go on with; writes nothing."""
        folder = self.folder
        if folder.description.exists():
            raise OptionError(
                f"{folder.path} holds a single run and no cross-validation, so there is nothing to resume. Leave "
                "--folds out to go on with the run, or take another folder with --out."
            )
        # Without the file (it was damaged and removed) the folders of the folds tell how far each of them is.
        nothing: dict[str, Any] = {"folds": self.folds, "results": [], "changes": []}
        content = _read(folder) if folder.cross_validation.exists() else nothing
        if content["folds"] != self.folds:
            raise OptionError(
                f"The cross-validation in {folder.path} has {content['folds']} folds. Received: {self.folds}. Resume "
                "with the same number, or begin another one with --out."
            )
        if not folder.recipe.exists():
            return
        changes = [
            line
            for line in specification.differences(folder.read_json(folder.recipe), self.recipe.to_dict())
            if not line.startswith(tuple(f"{name}:" for name in HARMLESS))
        ]
        if changes and not self.settings["allow_changes"]:
            raise OptionError(
                f"The recipe is not the one that the cross-validation in {folder.path} began with:\n  "
                + "\n  ".join(changes)
                + "\nResume with the same options, or accept the changes with --allow-changes."
            )
        self.changes = list(content["changes"])
        results = {item["fold"]: _restored(item, folder) for item in content["results"]}
        if changes:
            # Every fold goes through its trainer once more: one that has had its epochs ends at once, as it did.
            self.changes.append({"folds_finished_before": sorted(results), "changes": changes})
            self._say(
                f"The recipe has changed after {len(results)} of {self.folds} folds; this is noted beside the results."
            )
        else:
            self.results = results

    def _take_over(self, fold: RunFolder) -> None:
        """The folder becomes this cross-validation's, once all that can be refused was tried on a fold."""
        if self._is_ours:
            return
        if self.settings["overwrite"] and not self.settings["resume"]:
            self.folder.remove_run(keep=fold)
        # In this order: after a crash between the two, results of another recipe are not taken for this one's.
        self._write()
        self.folder.write_json(self.folder.recipe, self.recipe.to_dict())
        self._is_ours = True

    def _write(self) -> None:
        result = self._result()
        self.folder.write_json(
            self.folder.cross_validation,
            {
                "format": FORMAT,
                "recipe": self.recipe.name,
                "folds": self.folds,
                "complete": len(result.folds) == self.folds,
                "measured": MEASURED,
                "n": result.n,
                "mean": finite(result.mean),
                "standard_deviation": finite(result.standard_deviation),
                "results": [plain(item) for item in result.folds],
                "changes": self.changes,
            },
        )

    # ------------------------------------------------------------------------------------------------------------------
    # Small things
    # ------------------------------------------------------------------------------------------------------------------

    def _result(self) -> CrossValidationResult:
        folds = tuple(self.results[number] for number in sorted(self.results))
        whole = [item for item in folds if item.ended != FAILED]
        names = list(dict.fromkeys(name for item in whole for name in item.metrics))
        columns = {name: [item.metrics.get(name, math.nan) for item in whole] for name in names}
        return CrossValidationResult(
            folds=folds,
            mean={name: mean(column) for name, column in columns.items()},
            standard_deviation={name: standard_deviation(column) for name, column in columns.items()},
            n=len(whole),
            seconds=sum(item.seconds for item in folds),
            out=self.folder.path,
            rank=self._ranks.rank,
        )

    def _say(self, message: str) -> None:
        if not self.settings["quiet"]:
            from tqdm import tqdm

            tqdm.write(message, file=sys.stderr)

    @contextmanager
    def _explained_failures(self) -> Iterator[None]:
        """As the trainer's own: a full disk may hit the files above the folds, too."""
        try:
            yield
        except OSError as error:
            if not writing.belongs_to_run(error, self.folder.path):
                raise
            raise TrainingError(
                f"{writing.sentence(error)} What the {len(self.results)} finished folds left is safe in their folders. "
                f"{writing.cure(error)}"
            ) from error


class _FoldTrainer(Trainer):
    """Trains one fold, and tells when it begins to write: until then, the folder of the whole stays as it was."""

    take_over: Callable[[RunFolder], None]

    def _before_writing(self) -> None:
        self.take_over(self.folder)
        super()._before_writing()


def _fold_result(number: int, result: TrainingResult) -> FoldResult:
    return FoldResult(
        fold=number,
        metrics=dict(result.last_metrics),
        epochs=result.epochs,
        ended=result.ended,
        seconds=result.seconds,
        out=result.out,
    )


def mean(values: Sequence[float]) -> float:
    """The mean; NaN of nothing, or where a value is NaN."""
    return math.fsum(values) / len(values) if values else math.nan


def standard_deviation(values: Sequence[float]) -> float:
    """The sample standard deviation, whose squares are divided by one less than their number; NaN below two values."""
    if len(values) < 2:
        return math.nan
    center = mean(values)
    return math.sqrt(math.fsum((value - center) ** 2 for value in values) / (len(values) - 1))


# ----------------------------------------------------------------------------------------------------------------------
# As JSON
# ----------------------------------------------------------------------------------------------------------------------


def plain(result: FoldResult) -> dict[str, Any]:
    """A fold's result in terms that JSON knows; its folder by its name, so that the whole may be moved."""
    return {
        "fold": result.fold,
        "folder": result.out.name,
        "epochs": result.epochs,
        "ended": result.ended,
        "seconds": round(result.seconds, 2),
        "metrics": finite(result.metrics),
    }


def finite(values: Mapping[str, float]) -> dict[str, float | None]:
    """JSON has no word for NaN and infinity; null stands for them."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}


def _restored(item: Mapping[str, Any], folder: RunFolder) -> FoldResult:
    return FoldResult(
        fold=item["fold"],
        metrics={name: math.nan if value is None else value for name, value in item["metrics"].items()},
        epochs=item["epochs"],
        ended=item["ended"],
        seconds=item["seconds"],
        out=folder.path / item["folder"],
    )


def _read(folder: RunFolder) -> dict[str, Any]:
    """What ``cross_validation.json`` says, checked.

    Raises:
        DataError: it is not what a cross-validation writes.
        OptionError: another version of Glueball wrote it.
    """
    path = folder.cross_validation
    content = folder.read_json(path)
    try:
        version = content["format"]
        if version != FORMAT:
            raise OptionError(
                f"{path} has format {version!r}; this version of Glueball reads {FORMAT}. "
                f"Use the version that wrote it."
            )
        results = [_restored(item, folder) for item in content["results"]]
        numbers = [item.fold for item in results]
        # Also that the numbers are numbers: means are made of them.
        total = math.fsum(value for item in results for value in item.metrics.values() if not math.isnan(value))
        if not isinstance(content["folds"], int) or not isinstance(content["changes"], list) or math.isnan(total):
            raise TypeError("a value has another type than it should")
        if len(set(numbers)) != len(numbers) or not set(numbers) <= set(range(1, content["folds"] + 1)):
            raise ValueError(f"the folds {numbers} are not some of {content['folds']}")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, OptionError):
            raise
        what = f"it lacks {error}" if isinstance(error, KeyError) else str(error)
        raise DataError(
            f"{path} is not what a cross-validation writes: {what}. Restore it, or remove it: --resume then finds what "
            "the folds left in their own folders."
        ) from error
    return dict(content)


def _values(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())

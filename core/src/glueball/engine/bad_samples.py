"""What to do when a batch cannot be made, said where the engine hands such an error on.

The loader knows the sample and its file; only the engine knows the recipe's options that help.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from glueball.engine.recipe import Recipe
from glueball.errors import DataError, TrainingError

_SLACK_SECONDS = 30.0


def with_cure(batches: Iterable[Any], recipe: Recipe) -> Iterator[Any]:
    """The batches; an error about a sample, a worker that hangs or a lack of memory gets the cure added.

    Raises:
        DataError: a sample or a batch could not be made.
        TrainingError: a worker died or hangs, or there was no memory for a batch.
    """
    from glueball.data.dataloader import LoaderTimeoutError

    try:
        yield from batches
    except LoaderTimeoutError as error:
        raise too_slow(error.what, error.timeout) from error
    except MemoryError as error:
        raise TrainingError(
            f"Memory ran out while data were loaded. {str(error).rstrip('.')}. Fewer workers or smaller batches need "
            f"less: --set workers={recipe.workers // 2} --set batch_size={max(1, recipe.batch_size // 2)} "
            f"--set accumulate={2 * recipe.accumulate}"
        ) from error
    except DataError as error:
        if recipe.on_bad_sample == "skip":
            raise
        raise DataError(
            f"{str(error).rstrip('.')}. If a file is damaged, delete or repair it, or train with "
            f"--set on_bad_sample=skip, which leaves such samples out."
        ) from error


def too_slow(what: str, timeout: float) -> TrainingError:
    """The error for a batch that does not come."""
    return TrainingError(
        f"{what} If that is normal for this data, allow more time: --set loader_timeout={10 * timeout:g}"
    )


def patience(recipe: Recipe) -> float:
    """Seconds that the trainer waits for a batch: workers are watched by their loader, which knows more."""
    return recipe.loader_timeout + (_SLACK_SECONDS if recipe.workers else 0.0)


def hanging(loader: Any) -> Callable[[float], TrainingError]:
    """For ``Prefetcher``: the error that names what ``loader`` works on."""

    def error(seconds: float) -> TrainingError:
        busy = loader.working_on() if hasattr(loader, "working_on") else ()
        where = f"; it hangs at {', '.join(busy)}" if busy else ""
        return too_slow(f"The loader gave no batch for {seconds:g} seconds{where}.", seconds)

    return error

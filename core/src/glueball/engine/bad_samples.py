"""What to do about a sample that cannot be made, said where the engine hands such an error on.

The loader knows the sample and its file; only the engine knows the recipe's option that leaves such samples out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from glueball.engine.recipe import Recipe
from glueball.errors import DataError


def with_cure(batches: Iterable[Any], recipe: Recipe) -> Iterator[Any]:
    """The batches; an error about a sample gets the cure added.

    Raises:
        DataError: a sample or a batch could not be made.
    """
    try:
        yield from batches
    except DataError as error:
        if recipe.on_bad_sample == "skip":
            raise
        raise DataError(
            f"{str(error).rstrip('.')}. If a file is damaged, delete or repair it, or train with "
            f"--set on_bad_sample=skip, which leaves such samples out."
        ) from error

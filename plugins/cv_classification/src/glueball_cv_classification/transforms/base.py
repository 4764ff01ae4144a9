"""What a transform is: a frozen description that turns one picture into another.

A transform holds parameters only, so that it can be compared, printed, sent to a worker, and kept beside the weights of
a trained network (``to_dict`` / ``from_dict``). Randomness comes in with the call: ``transform(image, random)`` draws
from the generator it is given and from nowhere else, which is what makes batches independent of workers.

Pictures are (height, width, channels), RGB, uint8 until the step that makes a tensor of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np

from glueball.errors import OptionError

Size = int | tuple[int, int]
"""One number for a square, or (height, width)."""


class Transform:
    """The base of all transforms; subclasses are frozen attrs classes."""

    is_random: ClassVar[bool] = False
    """Whether the call draws random numbers. Presets answer for their steps."""

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        """The transformed picture; the given one is left as it is.

        ``random`` is what a random transform draws from. Without one it draws from fresh entropy, for trying things
        out: a loader always gives one.
        """
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """Name and parameters in plain values, for JSON."""
        fields = attrs.fields(type(self))  # type: ignore[arg-type]
        return {
            "transform": type(self).__name__,
            **{field.name: _plain(getattr(self, field.name)) for field in fields if field.init},
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Transform):
        return value.to_dict()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    return value


def generator(random: np.random.Generator | None) -> np.random.Generator:
    """The given generator, or a fresh one."""
    return np.random.default_rng() if random is None else random


# ----------------------------------------------------------------------------------------------------------------------
# Converters and validators of parameters


def pair(size: Size | Sequence[int]) -> tuple[int, int]:
    """A size as (height, width).

    Raises:
        OptionError: it is no number and no pair of numbers, or not positive.
    """
    values = (size, size) if isinstance(size, (int, np.integer)) else tuple(size)
    if len(values) != 2 or not all(isinstance(side, (int, np.integer)) and side > 0 for side in values):
        raise OptionError(f"Expected a size: a positive number, or (height, width). Received: {size!r}.")
    return int(values[0]), int(values[1])


def size_or_pair(size: Size | Sequence[int]) -> Size:
    """A size that stays one number where it is given as one."""
    return pair(size)[0] if isinstance(size, (int, np.integer)) else pair(size)


def numbers(values: float | Iterable[float]) -> tuple[float, ...]:
    """One number or several as a tuple of floats."""
    if isinstance(values, (int, float, np.number)):
        return (float(values),)
    return tuple(float(value) for value in values)


def within(lowest: float, highest: float) -> Any:
    """A validator: the number lies in [lowest, highest]."""

    def check(instance: Any, attribute: Any, value: float) -> None:
        if not lowest <= value <= highest:
            raise OptionError(
                f"{type(instance).__name__}: expected {attribute.name} from {lowest} to {highest}. Received: {value!r}."
            )

    return check


def ordered_range(lowest: float, highest: float = float("inf")) -> Any:
    """A validator: a pair (low, high) with lowest < low <= high <= highest."""

    def check(instance: Any, attribute: Any, value: tuple[float, ...]) -> None:
        if len(value) != 2 or not lowest < value[0] <= value[1] <= highest:
            raise OptionError(
                f"{type(instance).__name__}: expected {attribute.name} as (low, high) above {lowest}"
                f"{'' if highest == float('inf') else f' and up to {highest}'}. Received: {value!r}."
            )

    return check


# ----------------------------------------------------------------------------------------------------------------------
# Composition


class Fusable(Transform):
    """A step that can be merged with its neighbours into one pass over the pixels."""

    def fuse(self, run: Sequence[Transform]) -> Transform | None:
        """One transform for ``run`` (which starts with this step), or None where these do not merge."""
        raise NotImplementedError


def _as_tuple(steps: Iterable[Transform]) -> tuple[Transform, ...]:
    return tuple(steps)


@attrs.frozen
class Compose(Transform):
    """Steps one after the other. Neighbours that can be done in one pass over the pixels are."""

    steps: tuple[Transform, ...] = attrs.field(converter=_as_tuple)
    _fused: tuple[Transform, ...] = attrs.field(init=False, repr=False, eq=False)

    @_fused.default
    def _fuse(self) -> tuple[Transform, ...]:
        return tuple(_fused(self.steps))

    @property
    def is_random(self) -> bool:  # type: ignore[override]
        return any(step.is_random for step in self.steps)

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        if random is None and self.is_random:
            random = generator(random)
        for step in self._fused:
            image = step(image, random)
        return image


def _fused(steps: Sequence[Transform]) -> Iterator[Transform]:
    at = 0
    while at < len(steps):
        step = steps[at]
        run = list(itertools.takewhile(lambda other: isinstance(other, Fusable), steps[at:]))
        length = 1
        if isinstance(step, Fusable):
            # The longest run that merges wins.
            for end in range(len(run), 1, -1):
                merged = step.fuse(run[:end])
                if merged is not None:
                    step, length = merged, end
                    break
        yield step
        at += length

"""Many names of parameters in few lines, and none of them lost.

``features.5.{0-2}.bn{1-3}.{gamma,beta}`` stands for the 18 names that one gets by taking every choice in every bracket,
and for no other: an error that cuts its list short hides the one line that matters.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_Choices = tuple[tuple[str, ...], ...]
"""A name in pieces: for each piece the texts that may stand there."""


def compressed(names: Iterable[str]) -> list[str]:
    """Patterns that together stand for exactly ``names``, in the order in which the names begin."""
    patterns: list[_Choices] = [tuple((piece,) for piece in _pieces(name)) for name in dict.fromkeys(names)]
    # From the last piece to the first: leaves of one layer, then layers of one block, then blocks.
    for place in range(1, max((len(pattern) for pattern in patterns), default=0) + 1):
        patterns = _merged(patterns, -place)
    return ["".join(_written(choices) for choices in pattern) for pattern in patterns]


def _pieces(name: str) -> list[str]:
    """Numbers, what stands between them, and the attribute at the end."""
    path, dot, leaf = name.rpartition(".")
    # Empty pieces are kept: odd places hold the numbers.
    return [*re.split(r"(\d+)", path + dot), leaf] if dot else re.split(r"(\d+)", leaf)


def _merged(patterns: list[_Choices], place: int) -> list[_Choices]:
    """Patterns that differ in one piece alone become one."""
    groups: dict[tuple[int, _Choices, _Choices], list[str]] = {}
    for pattern in patterns:
        if len(pattern) < -place:
            groups[len(pattern), pattern, ()] = []
            continue
        position = len(pattern) + place
        choices = groups.setdefault((len(pattern), pattern[:position], pattern[position + 1 :]), [])
        choices += [one for one in pattern[position] if one not in choices]
    return [
        (*before, tuple(choices), *after) if length >= -place else before
        for (length, before, after), choices in groups.items()
    ]


def _written(choices: tuple[str, ...]) -> str:
    if len(choices) == 1:
        return choices[0]
    # Numbers with leading zeros are no numbers to count from.
    if not all(re.fullmatch("0|[1-9][0-9]*", choice) for choice in choices):
        return "{" + ",".join(choices) + "}"
    runs: list[list[int]] = []
    for number in sorted(map(int, choices)):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    # Two neighbours read better with a comma.
    return "{" + ",".join(f"{run[0]}-{run[-1]}" if len(run) > 2 else ",".join(map(str, run)) for run in runs) + "}"

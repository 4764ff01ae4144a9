"""Whose name is whose: the key dialects of Gluon's weight files, brought to a network's structural names.

- structural: the path of attributes, ``features.4.0.body.0.weight`` (``save_parameters``);
- flat: global names, ``resnetv1b0_layers1_conv0_weight`` (``ParameterDict.save``, older and pruned files), whose prefix
  depends on how many such networks the saving program had made before, or was left out;
- exported: flat names marked ``arg:`` or ``aux:`` (``export``), where symbols say ``moving_mean`` for ``running_mean``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

import attrs

# What torch's wrappers for several GPUs and for compilation put before every name.
_WRAPPERS = ("module.", "_orig_mod.")


@attrs.frozen(kw_only=True)
class Assignment:
    """Which name of a file fills which parameter."""

    dialect: str
    """"structural", "flat" or "exported"."""
    found: Mapping[str, str]
    """Structural name -> name in the file."""
    unexpected: tuple[str, ...]
    """Names in the file that fill nothing."""


def assign(file_names: Iterable[str], parameters: Mapping[str, str], prefix: str = "") -> Assignment:
    """Reads a file's names in the dialect that fills the most parameters.

    ``parameters`` maps each structural name to the parameter's global name, ``prefix`` is the network's own part of the
    global names.
    """
    names = list(file_names)
    exported = any(name.startswith(("arg:", "aux:")) for name in names)
    keys = {_canonical(name.removeprefix("arg:").removeprefix("aux:") if exported else name): name for name in names}
    structural = {name: _canonical(name) for name in parameters}
    flat = {name: _canonical(global_name) for name, global_name in parameters.items()}
    relative = {name: global_name.removeprefix(prefix) for name, global_name in flat.items()}

    best: dict[str, str] = {}
    best_dialect = "structural"
    for dialect, expected in _readings(keys, structural, flat, relative):
        found = {name: keys[key] for name, key in expected.items() if key in keys}
        # The first reading wins a tie: it is the one that needs the fewest assumptions.
        if len(found) > len(best):
            best, best_dialect = found, dialect
        if len(best) == len(parameters):
            break
    used = set(best.values())
    return Assignment(
        dialect="exported" if exported else best_dialect,
        found=best,
        unexpected=tuple(name for name in names if name not in used),
    )


def _canonical(name: str) -> str:
    """One spelling for BatchNorm's statistics: symbols say moving_mean, Gluon's blocks say running_mean."""
    return re.sub(r"(^|[._])moving_(mean|var)$", r"\1running_\2", name)


def _readings(
    keys: Mapping[str, str], structural: Mapping[str, str], flat: Mapping[str, str], relative: Mapping[str, str]
) -> Iterable[tuple[str, dict[str, str]]]:
    """Every way to spell the parameters that may fit the file: (dialect, structural name -> key)."""
    yield "structural", dict(structural)
    yield "flat", dict(flat)
    for prefix in _likely_prefixes(keys, relative.values()):
        yield "flat", {name: prefix + key for name, key in relative.items()}
    for wrapper in _WRAPPERS:
        if any(key.startswith(wrapper) for key in keys):
            yield "structural", {name: wrapper + key for name, key in structural.items()}
    if any("." in key for key in keys):
        return
    # Blocks made outside of a name_scope are numbered through the whole program: only the order of numbers is theirs.
    renumbered_file = {new: old for old, new in renumber(keys).items()}
    renumbered_network = renumber(set(flat.values()))
    if set(renumbered_file) == set(renumbered_network.values()):
        yield "flat", {name: renumbered_file[renumbered_network[key]] for name, key in flat.items()}


def _likely_prefixes(keys: Iterable[str], relative_names: Iterable[str]) -> list[str]:
    """What may stand before the relative names in the file, the most frequent first."""
    # Long names say most: a bare "weight" would make a prefix of every other name.
    probes = sorted(set(relative_names), key=len, reverse=True)[:8]
    counted = Counter(key[: len(key) - len(probe)] for key in keys for probe in probes if key.endswith(probe))
    return [prefix for prefix, _ in counted.most_common(8) if prefix == "" or prefix.endswith("_")]


def renumber(names: Iterable[str]) -> dict[str, str]:
    """Flat names with their counters replaced by ranks: dense7_weight, dense9_weight become dense0_, dense1_.

    Two sets of names that become equal belong to networks of the same structure.
    """
    segments = {name: tuple(name.split("_")) for name in names}
    numbers: dict[tuple[tuple[str, ...], str], set[int]] = {}
    for path in segments.values():
        for depth, segment in enumerate(path):
            base, number = _split_counter(segment)
            if number is not None:
                numbers.setdefault((path[:depth], base), set()).add(number)
    ranks = {key: {number: rank for rank, number in enumerate(sorted(found))} for key, found in numbers.items()}
    renumbered = {}
    for name, path in segments.items():
        parts = []
        for depth, segment in enumerate(path):
            base, number = _split_counter(segment)
            parts.append(segment if number is None else f"{base}{ranks[path[:depth], base][number]}")
        renumbered[name] = "_".join(parts)
    return renumbered


def _split_counter(segment: str) -> tuple[str, int | None]:
    found = re.fullmatch(r"(.*?[^\d])(\d{1,9})", segment)
    return (found[1], int(found[2])) if found else (segment, None)

"""Names of torchvision's and timm's checkpoints, brought to the structural names of our models.

Both libraries keep the layouts that Gluon has (convolutions OIHW, dense layers (out, in)), so that only names differ:
BatchNorm says weight and bias for gamma and beta and counts its batches, and each architecture names its parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import attrs

# The parts of a network, (pattern, replacement) in order, applied to the path of each module. A table is tried on every
# network, and the one that fills the most parameters with the right shapes is taken: no table needs to be asked for.
_RENAMES: dict[str, tuple[tuple[str, str], ...]] = {
    # torchvision's and timm's ResNet (arXiv:1512.03385) is what GluonCV calls v1b: the same names.
    "resnet": (),
}


@attrs.frozen(kw_only=True)
class Renamed:
    """Which key of a torch checkpoint fills which of our parameters."""

    found: Mapping[str, str]
    unexpected: tuple[str, ...]


def from_torch(keys: Iterable[str], parameters: Mapping[str, Any]) -> Renamed:
    """Reads ``keys`` as those of a torch checkpoint of one of the known architectures.

    ``parameters`` maps structural names to anything. Counters of batches are neither used nor unexpected.
    """
    names = [key for key in keys if not key.endswith(".num_batches_tracked")]
    normalised = {name.removeprefix("module.").removeprefix("_orig_mod."): name for name in names}
    norms = {key.rpartition(".")[0] for key in normalised if key.endswith(".running_mean")}
    best: dict[str, str] = {}
    for rules in _RENAMES.values():
        found = {}
        for key, name in normalised.items():
            ours = _rename(key, norms, rules)
            if ours in parameters:
                found[ours] = name
        if len(found) > len(best):
            best = found
    used = set(best.values())
    return Renamed(found=best, unexpected=tuple(name for name in names if name not in used))


def _rename(key: str, norms: set[str], rules: tuple[tuple[str, str], ...]) -> str:
    module, _, leaf = key.rpartition(".")
    if module in norms:
        leaf = {"weight": "gamma", "bias": "beta"}.get(leaf, leaf)
    for pattern, replacement in rules:
        module = re.sub(pattern, replacement, module)
    return f"{module}.{leaf}" if module else leaf

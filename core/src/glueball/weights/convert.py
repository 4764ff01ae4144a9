"""Names of torchvision's and timm's checkpoints, brought to the structural names of our models.

Both libraries keep the layouts that Gluon has (convolutions OIHW, dense layers (out, in), channels before pixels where
a picture is flattened), so that only names differ: BatchNorm says weight and bias for gamma and beta and counts its
batches, and each architecture names its parts. Nobody has to say which architecture a file is of: the table that fills
the most parameters is taken, and shapes are compared afterwards as for any file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

Rules = tuple[tuple[str, "str | Callable[[re.Match[str]], str]"], ...]
"""(pattern, replacement): the first pattern that matches the whole path of a module renames it."""


def _vgg(dense: int) -> Rules:
    """arXiv:1409.1556: the convolutions agree; the dense layers follow them in one sequence, from index ``dense``."""
    return (
        (r"classifier\.0", f"features.{dense}"),
        (r"classifier\.3", f"features.{dense + 2}"),
        (r"classifier\.6", "output"),
    )


# The stem has the indices 0 to 3; dense blocks and transitions take turns from 4 to 10, and 11 is the last norm.
def _densenet_block(found: re.Match[str]) -> str:
    part = {"norm1": "0", "conv1": "2", "norm2": "3", "conv2": "5"}[found[3].replace(".", "")]
    return f"features.{2 + 2 * int(found[1])}.{int(found[2]) - 1}.1.{part}"


def _densenet_transition(found: re.Match[str]) -> str:
    return f"features.{3 + 2 * int(found[1])}.{ {'norm': 0, 'conv': 2}[found[2]] }"


def _mobilenet_block(found: re.Match[str]) -> str:
    # The first block does not widen, so that its projection has the place that depthwise convolutions have elsewhere.
    parts = {"0.0": 0, "0.1": 1, "1": 3, "2": 4} if found[1] == "1" else {}
    parts = parts or {"0.0": 0, "0.1": 1, "1.0": 3, "1.1": 4, "2": 6, "3": 7}
    return f"features.{int(found[1]) + 2}.out.{parts.get(found[2], found[2])}"


_TABLES: dict[str, Rules] = {
    # arXiv:1512.03385: what GluonCV calls v1b, and timm's deep stems (c, d, s), have the same names in all three.
    "resnet": (),
    **{f"vgg, dense layers from {dense}": _vgg(dense) for dense in (21, 25, 29, 31, 35, 37, 44, 53)},
    # arXiv:1404.5997. Gluon's convolutions hold their activation, torchvision's are followed by it.
    "alexnet": (
        (r"features\.3", "features.2"),
        (r"features\.6", "features.4"),
        (r"features\.8", "features.5"),
        (r"features\.10", "features.6"),
        (r"classifier\.1", "features.9"),
        (r"classifier\.4", "features.11"),
        (r"classifier\.6", "output"),
    ),
    # arXiv:1602.07360
    "squeezenet": (
        (r"features\.(\d+)\.squeeze", r"features.\1.0.0"),
        (r"features\.(\d+)\.expand1x1", r"features.\1.1.0.0"),
        (r"features\.(\d+)\.expand3x3", r"features.\1.1.1.0"),
        (r"classifier\.1", "output.0"),
    ),
    # arXiv:1608.06993; "norm.1" is how torchvision's older files spell "norm1".
    "densenet": (
        (r"features\.conv0", "features.0"),
        (r"features\.norm0", "features.1"),
        (r"features\.denseblock(\d)\.denselayer(\d+)\.((?:norm|conv)\.?[12])", _densenet_block),
        (r"features\.transition(\d)\.(norm|conv)", _densenet_transition),
        (r"features\.norm5", "features.11"),
        (r"classifier", "output"),
    ),
    # arXiv:1801.04381. The classifiers differ: torchvision's has a bias, GluonCV's is a convolution without one, so
    # that only what lies before it can be taken over (allow_missing and ignore_extra).
    "mobilenetv2": (
        (r"features\.0\.([01])", r"features.\1"),
        (r"features\.18\.0", "features.20"),
        (r"features\.18\.1", "features.21"),
        (r"features\.(\d+)\.conv\.([\d.]+)", _mobilenet_block),
    ),
}


@attrs.frozen(kw_only=True)
class Renamed:
    """Which key of a torch checkpoint fills which of our parameters."""

    table: str
    found: Mapping[str, str]
    """Structural name -> name in the file."""
    unexpected: tuple[str, ...]


def from_torch(names: Iterable[str], parameters: Mapping[str, Any]) -> Renamed:
    """Reads ``names`` as those of a torch checkpoint of one of the known architectures.

    ``parameters`` maps the network's structural names to anything. Counters of batches are neither used nor unexpected.
    """
    kept = [name for name in names if not name.endswith(".num_batches_tracked")]
    keys = {name.removeprefix("module.").removeprefix("_orig_mod."): name for name in kept}
    norms = {key.rpartition(".")[0] for key in keys if key.endswith(".running_mean")}
    best = Renamed(table="none", found={}, unexpected=tuple(kept))
    for table, rules in _TABLES.items():
        renamed = {_rename(key, norms, rules): name for key, name in keys.items()}
        found = {name: renamed[name] for name in parameters if name in renamed}
        if len(found) > len(best.found):
            used = set(found.values())
            best = Renamed(table=table, found=found, unexpected=tuple(name for name in kept if name not in used))
    return best


def _rename(key: str, norms: set[str], rules: Rules) -> str:
    module, _, leaf = key.rpartition(".")
    if module in norms:
        leaf = {"weight": "gamma", "bias": "beta"}.get(leaf, leaf)
    for pattern, replacement in rules:
        found = re.fullmatch(pattern, module)
        if found:
            module = found.expand(replacement) if isinstance(replacement, str) else replacement(found)
            break
    return f"{module}.{leaf}" if module else leaf

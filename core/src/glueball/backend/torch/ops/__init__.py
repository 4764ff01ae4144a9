"""The functions of the dialect on tensors: what ``glueball.ops`` and ``F`` hand on."""

from __future__ import annotations

import sys
from types import ModuleType

from glueball.backend.torch.ops import (  # noqa: F401 - importing a file registers its functions
    contrib,
    creation,
    elementwise,
    indexing,
    layers,
    losses,
    pooling,
    random,
    reduction,
    shape,
)
from glueball.backend.torch.ops.registry import OPERATORS, build

# The files that define the functions share names with some of them (random) or would shadow nothing (shape): what
# users see in this namespace is the dialect alone.
for _name in ("contrib", "creation", "elementwise", "indexing", "layers", "losses", "pooling", "random", "reduction"):
    globals().pop(_name, None)
globals().pop("shape", None)

build(sys.modules[__name__], None)
TRAINING = build(ModuleType("glueball.backend.torch.ops.TRAINING"), True)
"""``F`` of a block in training mode."""
INFERENCE = build(ModuleType("glueball.backend.torch.ops.INFERENCE"), False)
"""``F`` of a block in inference mode."""


def __dir__() -> list[str]:
    return sorted({name.partition(".")[0] for name in OPERATORS})

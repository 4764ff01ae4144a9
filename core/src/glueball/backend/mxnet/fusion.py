"""oneDNN's fused operators on the CPU: convolution, BatchNorm, activation and sum in one.

MXNet 1.9.1 partitions graphs for them, but also swallows an operator whose result is needed elsewhere: the other users
are then given the activated values, or a buffer that is gone. Pre-activation networks (arXiv:1603.05027) are made of
that. So such a result is first passed through an operator that ends the pattern. It costs a pass over memory, and
stands only where the partitioner would go on.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glueball.backend.mxnet.graphs import Entry, GraphRewriter

_ACTIVATIONS = frozenset({"Activation", "LeakyReLU", "clip"})

# Operator -> what the partitioner would join to it.
_JOINED_TO: Mapping[str, frozenset[str]] = {
    "Convolution": _ACTIVATIONS | {"BatchNorm", "elemwise_add"},
    "BatchNorm": _ACTIVATIONS | {"elemwise_add"},
    "elemwise_add": _ACTIVATIONS,
    "FullyConnected": _ACTIVATIONS | {"abs", "exp", "sqrt", "square"},
}


class _Shared(GraphRewriter):
    def rewrite(self, old: int, node: dict[str, Any]) -> Entry:
        entry = self.keep(old, node)
        users = self.users[old, 0]
        if len(users) > 1 and not _JOINED_TO.get(node["op"], frozenset()).isdisjoint(users):
            # The partitioner removes plain copies before it looks; this one it takes for something that matters.
            return self.after(entry, "BlockGrad", "shared")
        return entry


def fused(symbol: Any) -> Any:
    """The graph with fused operators; for inference only."""
    # This is the partitioner that executors use; HybridBlock.optimize_for of 1.9.1 leaves such graphs as they are.
    return _Shared(symbol).run().get_backend_symbol("MKLDNN")

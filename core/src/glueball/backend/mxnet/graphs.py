"""Graphs of MXNet in their JSON form, rewritten node by node in topological order."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import mxnet as mx

Entry = list[int]
"""(node, output, version), as MXNet's JSON names an array of the graph."""

HEAD = "head"
"""Stands among the users of an array that is a result of the graph."""


class GraphRewriter:
    """Copies a graph; subclasses say what becomes of each node in ``rewrite`` and of each output in ``head``."""

    def __init__(self, symbol: Any) -> None:
        self._graph: dict[str, Any] = json.loads(symbol.tojson(remove_amp_cast=False))
        self._nodes: list[dict[str, Any]] = []
        # Old node -> what takes the place of its first output, and the new node that has its further ones.
        self._first: dict[int, Entry] = {}
        self._kept: dict[int, int] = {}
        # Output of the old graph -> the operators that take it; HEAD where it is a result of the graph.
        self.users: dict[tuple[int, int], list[str]] = defaultdict(list)
        for node in self._graph["nodes"]:
            for source, output, *_ in node["inputs"]:
                self.users[source, output].append(node["op"])
        for source, output, *_ in self._graph["heads"]:
            self.users[source, output].append(HEAD)

    def run(self) -> Any:
        """The new symbol."""
        for old, node in enumerate(self._graph["nodes"]):
            inputs = [self._find(entry) for entry in node["inputs"]]
            self._first[old] = self.rewrite(old, {**node, "inputs": inputs})
        heads = [self.head(self._find(entry)) for entry in self._graph["heads"]]
        graph = {
            "nodes": self._nodes,
            "arg_nodes": [index for index, node in enumerate(self._nodes) if node["op"] == "null"],
            "node_row_ptr": list(range(len(self._nodes) + 1)),
            "heads": heads,
            "attrs": self._graph.get("attrs", {}),
        }
        return mx.sym.load_json(json.dumps(graph))

    def rewrite(self, old: int, node: dict[str, Any]) -> Entry:
        """The entry that takes the place of the first output of ``node``, whose inputs are those of the new graph."""
        return self.keep(old, node)

    def head(self, entry: Entry) -> Entry:
        return entry

    def keep(self, old: int, node: dict[str, Any]) -> Entry:
        """Adds ``node`` as what the old one has become."""
        entry = self.add(node)
        self._kept[old] = entry[0]
        return entry

    def add(self, node: dict[str, Any]) -> Entry:
        self._nodes.append(node)
        return [len(self._nodes) - 1, 0, 0]

    def after(self, entry: Entry, operator: str, suffix: str, **attributes: str) -> Entry:
        """Adds an operator of one input, named after its source."""
        source, output, _ = entry
        name = f"{self._nodes[source]['name']}_{output}_{suffix}"
        return self.add({"op": operator, "name": name, "attrs": attributes, "inputs": [entry]})

    def _find(self, entry: list[int]) -> Entry:
        source, output, *_ = entry
        return self._first[source] if output == 0 else [self._kept[source], output, 0]


class _WithoutDropout(GraphRewriter):
    def rewrite(self, old: int, node: dict[str, Any]) -> Entry:
        if node["op"] == "Dropout" and node.get("attrs", {}).get("mode", "training") == "training":
            return list(node["inputs"][0])
        return self.keep(old, node)


def without_dropout(symbol: Any) -> Any:
    """The graph for inference, where dropout that belongs to training passes everything on."""
    return _WithoutDropout(symbol).run()


def last_line(error: Exception) -> str:
    """What an error of MXNet says, without the places in its source that stand before it."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].removeprefix("MXNetError: ").rstrip(".")

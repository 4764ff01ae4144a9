"""Metrics over several processes, with the value that one process would give.

Metrics whose sums add (``glueball.metrics.Metric``, or any with ``state_dict``, ``load_state_dict`` and ``merge``) take
in what their process sees, and are merged when a value is asked for. All others cannot be merged: a mean of means, an
area under a curve. For them each process notes what ``update`` was given, and rank 0 shows all of it to the metric,
batch by batch and sample by sample in the order of one process. That costs memory for the predictions of an epoch, and
is right for every metric.
"""

from __future__ import annotations

import base64
import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from glueball.engine.messages import decode, encode
from glueball.errors import TrainingError
from glueball.metrics import Metric as SumMetric
from glueball.metrics import MetricList

Place = tuple[int, tuple[int, ...]]
"""Number of a batch, and where in it the samples of this process are."""


class SharedMetric:
    """A metric of one process among several; ``update`` and ``reset`` as ever, values by ``merged_values`` alone."""

    def __init__(self, metric: Any) -> None:
        self.metric = metric
        self.place: Place = (0, ())
        """Of the samples that come next."""
        self.calls: list[tuple[Place, tuple[Any, ...], dict[str, Any]]] = []
        """What ``update`` was given, where the metric cannot be merged."""
        self.is_noting = not all(hasattr(metric, name) for name in ("merge", "state_dict", "load_state_dict"))
        # A metric that keeps more than its sums, and does not say how that is merged, is found out at the first update.
        self._is_suspect = not self.is_noting and _inherits_merge(metric)

    def update(self, *arguments: Any, **options: Any) -> None:
        """Takes in a batch."""
        if self.is_noting:
            self._note(arguments, options)
            return
        if not self._is_suspect:
            self.metric.update(*arguments, **options)
            return
        before = _beside_sums(self.metric)
        untouched = copy.deepcopy(self.metric)
        self.metric.update(*arguments, **options)
        self._is_suspect = False
        if not _same(before, _beside_sums(self.metric)):
            self.metric, self.is_noting = untouched, True
            self._note(arguments, options)

    def reset(self) -> None:
        """Begins anew."""
        self.calls = []
        self.metric.reset()

    def get(self) -> Any:
        """Refuses: the value of one process's samples is nobody's question.

        Raises:
            TrainingError: always.
        """
        raise TrainingError(f"The metric {_name(self.metric)} holds one process's share; only merged values are right.")

    def state(self) -> dict[str, Any]:
        """What this process has, for messages."""
        if self.is_noting:
            return {"calls": [(place, tuple(arguments), options) for place, arguments, options in self.calls]}
        return {"sums": dict(self.metric.state_dict())}

    def _note(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        self.calls.append((self.place, copy.deepcopy(arguments), copy.deepcopy(options)))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["metric"], name)


def shared(metrics: Sequence[Any]) -> list[SharedMetric]:
    """The metrics for a run of several processes."""
    return [SharedMetric(metric) for metric in metrics]


def at(metrics: Sequence[Any], place: Place) -> None:
    """Says where the samples of the next update are."""
    for metric in metrics:
        if isinstance(metric, SharedMetric):
            metric.place = place


def merge(metric: Any, states: Sequence[Mapping[str, Any]]) -> Any:
    """A copy of ``metric`` that has seen what all processes have seen.

    Args:
        metric: rank 0's own; one that cannot be merged may have seen what no state tells, before a run was resumed.
        states: of all processes, in the order of their ranks.

    Raises:
        TrainingError: one process could add its sums and another could not.
    """
    merged = copy.deepcopy(metric)
    if any("calls" in state for state in states):
        if any("sums" in state and _has_seen(merged, state["sums"]) for state in states):
            raise TrainingError(
                f"The metric {_name(metric)} keeps more than its sums, but not with every batch; so it cannot be "
                "merged over processes. Give it merge(), or measure with one process."
            )
        for arguments, options in _in_order([call for state in states for call in state.get("calls", ())]):
            merged.update(*arguments, **options)
        return merged
    merged.reset()
    empty = copy.deepcopy(merged)
    for state in states:
        other = copy.deepcopy(empty)
        other.load_state_dict(state["sums"])
        merged.merge(other)
    return merged


def _in_order(calls: Sequence[Any]) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """One call for each batch, with the samples in the order that they have in it."""
    batches: dict[tuple[int, int], list[Any]] = {}
    # Several calls for one batch (a metric that is shown two things) are told apart by their number.
    seen: dict[tuple[int, tuple[int, ...]], int] = {}
    for (batch, positions), arguments, options in calls:
        place = (batch, tuple(positions))
        seen[place] = number = seen.get(place, -1) + 1
        batches.setdefault((batch, number), []).append((place[1], tuple(arguments), options))
    result = []
    for key in sorted(batches):
        parts = sorted(batches[key], key=lambda part: part[0])
        result.extend(_joined(parts))
    return result


def _joined(parts: list[Any]) -> list[tuple[tuple[Any, ...], dict[str, Any]]]:
    """Parts of a batch as one call; as several where they cannot be put together."""
    if len(parts) == 1:
        return [parts[0][1:]]
    order = np.argsort([place for positions, *_ in parts for place in positions], kind="stable")
    try:
        arguments = tuple(_joined_values(values, order) for values in zip(*[part[1] for part in parts], strict=True))
        options = {name: _joined_values([part[2][name] for part in parts], order) for name in parts[0][2]}
    except (TypeError, ValueError, KeyError):
        return [(arguments, options) for _, arguments, options in parts]
    return [(arguments, options)]


def _joined_values(values: Sequence[Any], order: np.ndarray) -> Any:
    first = values[0]
    if isinstance(first, np.ndarray) and first.ndim:
        whole = np.concatenate(values)
        if len(whole) != len(order):
            # Several rows for each sample, in the order of the samples.
            views, rest = divmod(len(whole), len(order))
            if rest:
                raise ValueError("the rows are no multiple of the samples")
            return whole.reshape(len(order), views, *whole.shape[1:])[order].reshape(whole.shape)
        return whole[order]
    if isinstance(first, (list, tuple)):
        items = [item for value in values for item in value]
        if len(items) != len(order):
            raise ValueError("the items are not one for each sample")
        return type(first)(items[place] for place in order)
    if all(type(value) is type(first) and value == first for value in values):
        return first
    raise TypeError("neither arrays nor lists, and not the same everywhere")


def _has_seen(metric: Any, sums: Mapping[str, Any]) -> bool:
    empty = copy.deepcopy(metric)
    empty.reset()
    return not _same(dict(empty.state_dict()), dict(sums))


def _inherits_merge(metric: Any) -> bool:
    if isinstance(metric, MetricList):
        return any(_inherits_merge(item) for item in metric.metrics)
    return isinstance(metric, SumMetric) and type(metric).merge is SumMetric.merge


def _beside_sums(metric: Any) -> Any:
    if isinstance(metric, MetricList):
        return [_beside_sums(item) for item in metric.metrics]
    return copy.deepcopy({name: value for name, value in vars(metric).items() if name != "sums"})


def _same(first: Any, second: Any) -> bool:
    if type(first) is not type(second):
        return False
    if isinstance(first, np.ndarray):
        return first.shape == second.shape and bool(np.array_equal(first, second, equal_nan=first.dtype.kind == "f"))
    if isinstance(first, dict):
        return first.keys() == second.keys() and all(_same(first[key], second[key]) for key in first)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(_same, first, second))
    if hasattr(first, "__dict__") and not callable(first):
        return _same(vars(first), vars(second))
    return bool(first == second) or first is second


def _name(metric: Any) -> str:
    return str(getattr(metric, "name", type(metric).__name__))


# ----------------------------------------------------------------------------------------------------------------------
# In checkpoints
# ----------------------------------------------------------------------------------------------------------------------


def to_json(state: Mapping[str, Any]) -> Any:
    """``SharedMetric.state`` in terms that JSON knows."""
    return base64.b64encode(encode(state)).decode()


def from_json(text: Any) -> Any:
    """The inverse of ``to_json``."""
    return decode(base64.b64decode(text))


def take_over(metric: SharedMetric, states: Sequence[Mapping[str, Any]]) -> None:
    """Makes ``metric`` go on from what processes had seen: its own earlier self, or all of another number of them."""
    metric.reset()
    if any("calls" in state for state in states):
        metric.is_noting, metric._is_suspect = True, False
        metric.calls = [tuple(call) for state in states for call in state.get("calls", ())]
        return
    metric.metric = merge(metric.metric, states)

"""Batch normalisation whose statistics are those of all processes, as one process with the whole batch would have them.

MXNet has none: the one in its ``contrib`` joins the devices of one process. So the traced graph of a training step is
rewritten: every BatchNorm becomes an operator in Python, which sends a mean, a second moment and a count for each
channel, merges those of all processes (Chan, Golub and LeVeque: Updating formulae and a pairwise algorithm for
computing sample variances, 1979), and sums two numbers for each channel on the way back. That is two small messages for
a layer and a step; the numbers are those of one process up to rounding.
"""

from __future__ import annotations

import itertools
import weakref
from typing import TYPE_CHECKING, Any

import mxnet as mx
import numpy as np

from glueball.backend.mxnet.graphs import Entry, GraphRewriter

if TYPE_CHECKING:
    from glueball.backend.mxnet.processes import MXNetProcessGroup

_OPERATOR = "glueball_synchronized_batch_norm"

COUNTS = "samples_count"
"""The input of a rewritten graph that is 1, or 0 for a batch that is a stand-in and must not count."""

_WHOLE = {"axis": "0", "begin": "0", "end": "None"}

# Attributes of a graph are texts; an operator finds its process group by a number.
_groups: weakref.WeakValueDictionary[int, MXNetProcessGroup] = weakref.WeakValueDictionary()
_numbers = itertools.count()


def synchronized(symbol: Any, group: MXNetProcessGroup, channels: dict[str, int]) -> tuple[Any, int]:
    """The graph with synchronised batch normalisation, which has the further input ``COUNTS``; how many were replaced.

    Args:
        channels: how many each layer has, by the name of its gamma.
    """
    rewriter = _Synchronization(symbol, group, channels)
    return rewriter.run(), rewriter.replaced


def register(group: MXNetProcessGroup) -> int:
    """A number by which the operators of a graph find the group."""
    number = next(_numbers)
    _groups[number] = group
    return number


class _Synchronization(GraphRewriter):
    def __init__(self, symbol: Any, group: MXNetProcessGroup, channels: dict[str, int]) -> None:
        super().__init__(symbol)
        self._group, self._channels = group, channels
        self._number = register(group)
        self._counts: Entry | None = None
        self.replaced = 0

    def rewrite(self, old: int, node: dict[str, Any]) -> Entry:
        attributes = node.get("attrs", {})
        if node["op"] != "BatchNorm" or attributes.get("use_global_stats", "False") in ("True", "1"):
            return self.keep(old, node)
        if self._counts is None:
            self._counts = self.add({"op": "null", "name": COUNTS, "attrs": {"__dtype__": "0"}, "inputs": []})
        data, gamma, beta, *running = node["inputs"]
        channels = self._channels[self._nodes[gamma[0]]["name"]]
        name = node["name"]
        for part, size in (("forward", self._group.size * (2 * channels + 1)), ("backward", 2 * channels)):
            self._group.prepare(f"{name} {part}", mx.nd.zeros((size,)))
        self.replaced += 1
        # For an operator in Python MXNet copies arrays that oneDNN keeps in a layout of its own into the usual one, and
        # frees the copies before it runs. A slice of everything, which oneDNN has no kernel for and which is never
        # made in place, takes and leaves usual arrays: before the operator, and on the way back behind it.
        data = self.after(data, "slice_axis", f"to_{name}", **_WHOLE)
        normalized = self.add(
            {
                "op": "Custom",
                "name": name,
                "attrs": {
                    "op_type": _OPERATOR,
                    "group": str(self._number),
                    "layer": name,
                    # MXNet's own defaults, for what a graph does not say.
                    "eps": attributes.get("eps", "0.001"),
                    "momentum": attributes.get("momentum", "0.9"),
                    "fix_gamma": attributes.get("fix_gamma", "True"),
                    "axis": attributes.get("axis", "1"),
                },
                "inputs": [data, gamma, beta, self._counts, *running],
            }
        )
        return self.keep(old, {"op": "slice_axis", "name": f"{name}_whole", "attrs": _WHOLE, "inputs": [normalized]})


class _SynchronizedBatchNorm(mx.operator.CustomOp):  # type: ignore[misc]
    def __init__(
        self, group: MXNetProcessGroup, layer: str, epsilon: float, momentum: float, fix_gamma: bool, axis: int
    ) -> None:
        super().__init__()
        self._group, self._layer = group, layer
        self._epsilon, self._momentum, self._fix_gamma, self._axis = epsilon, momentum, fix_gamma, axis

    def forward(self, is_train: bool, req: Any, in_data: Any, out_data: Any, aux: Any) -> None:
        data, gamma, beta, counts = in_data
        running_mean, running_var = aux
        if is_train:
            mean, variance, number = self._statistics(data, counts)
            running_mean[:] = self._momentum * running_mean + (1 - self._momentum) * mean
            running_var[:] = self._momentum * running_var + (1 - self._momentum) * variance
        else:
            mean, variance, number = running_mean, running_var, mx.nd.ones((1,), ctx=data.context)
        inverse = 1 / mx.nd.sqrt(variance + self._epsilon)
        scale = inverse if self._fix_gamma else inverse * gamma
        output = mx.nd.broadcast_mul(mx.nd.broadcast_sub(data, self._shaped(mean, data)), self._shaped(scale, data))
        self.assign(out_data[0], req[0], mx.nd.broadcast_add(output, self._shaped(beta, data)))
        for place, value in ((1, mean), (2, inverse), (3, number)):
            self.assign(out_data[place], req[place], value)

    def backward(self, req: Any, out_grad: Any, in_data: Any, out_data: Any, in_grad: Any, aux: Any) -> None:
        data, gamma, _, counts = in_data
        gradient, (_, mean, inverse, number) = out_grad[0], out_data
        centered = mx.nd.broadcast_sub(data, self._shaped(mean, data))
        for_beta = mx.nd.sum(gradient, axis=self._axis, exclude=True)
        for_gamma = mx.nd.sum(gradient * centered, axis=self._axis, exclude=True) * inverse
        channels = for_beta.size
        sums = mx.nd.concat(for_beta, for_gamma, dim=0)
        own = sums.copy()
        self._group.sum_inside(f"{self._layer} backward", sums)
        sums = mx.nd.broadcast_div(sums, number)
        # dx = gamma / s * (dy - mean(dy) - (x - m) / s * mean(dy * (x - m) / s)), with means over all processes.
        pull = self._shaped(sums[channels:] * inverse, data)
        change = mx.nd.broadcast_sub(gradient, self._shaped(sums[:channels], data))
        change = change - mx.nd.broadcast_mul(centered, pull)
        # A stand-in had no part in the statistics, so that nothing flows back to it through them.
        change = mx.nd.broadcast_mul(change, counts.reshape((1,) * data.ndim))
        scale = inverse if self._fix_gamma else inverse * gamma
        self.assign(in_grad[0], req[0], mx.nd.broadcast_mul(change, self._shaped(scale, data)))
        # The parameters' own gradients are summed over the processes with all others, by the training step.
        self.assign(in_grad[1], req[1], mx.nd.zeros_like(gamma) if self._fix_gamma else own[channels:])
        self.assign(in_grad[2], req[2], own[:channels])
        self.assign(in_grad[3], req[3], mx.nd.zeros((1,), ctx=data.context))

    def _statistics(self, data: Any, counts: Any) -> tuple[Any, Any, Any]:
        """Mean and biased variance of each channel over all processes, and over how many values they are."""
        channels = data.shape[self._axis]
        mean = mx.nd.mean(data, axis=self._axis, exclude=True)
        variance = mx.nd.mean(
            mx.nd.square(mx.nd.broadcast_sub(data, self._shaped(mean, data))), axis=self._axis, exclude=True
        )
        values = data.size // channels
        row = mx.nd.concat(mx.nd.full((1,), values, ctx=data.context), mean, variance * values, dim=0)
        table = mx.nd.zeros((self._group.size, 2 * channels + 1), ctx=data.context)
        table[self._group.rank] = mx.nd.broadcast_mul(row, counts)
        flat = table.reshape((-1,))
        self._group.sum_inside(f"{self._layer} forward", flat)
        number, means, deviations = table[:, :1], table[:, 1 : channels + 1], table[:, channels + 1 :]
        total = mx.nd.sum(number).reshape((1,))
        merged = mx.nd.broadcast_div(mx.nd.sum(mx.nd.broadcast_mul(means, number), axis=0), total)
        between = mx.nd.broadcast_mul(mx.nd.square(mx.nd.broadcast_sub(means, merged.reshape((1, -1)))), number)
        return merged, mx.nd.broadcast_div(mx.nd.sum(deviations + between, axis=0), total), total

    def _shaped(self, values: Any, data: Any) -> Any:
        """A value for each channel, in the shape that meets ``data``."""
        shape = [1] * data.ndim
        shape[self._axis] = -1
        return values.reshape(shape)


@mx.operator.register(_OPERATOR)
class _SynchronizedBatchNormProperty(mx.operator.CustomOpProp):  # type: ignore[misc]
    def __init__(self, group: str, layer: str, eps: str, momentum: str, fix_gamma: str, axis: str) -> None:
        super().__init__(need_top_grad=True)
        self._arguments = (_groups[int(group)], layer, float(eps), float(momentum), fix_gamma in ("True", "1"))
        self._axis = int(axis)

    def list_arguments(self) -> list[str]:
        return ["data", "gamma", "beta", "counts"]

    def list_auxiliary_states(self) -> list[str]:
        return ["running_mean", "running_var"]

    def list_outputs(self) -> list[str]:
        return ["output", "mean", "inverse_deviation", "number"]

    def infer_shape(self, in_shape: Any) -> Any:
        channels = [in_shape[0][self._axis]]
        return [in_shape[0], channels, channels, [1]], [in_shape[0], channels, channels, [1]], [channels, channels]

    def infer_type(self, in_type: Any) -> Any:
        return [np.float32] * 4, [np.float32] * 4, [np.float32] * 2

    def create_operator(self, ctx: Any, in_shapes: Any, in_dtypes: Any) -> _SynchronizedBatchNorm:
        axis = self._axis % len(in_shapes[0])
        return _SynchronizedBatchNorm(*self._arguments, axis)

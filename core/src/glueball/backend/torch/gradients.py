"""Gradients summed over processes while the backward pass still runs.

As torch's DistributedDataParallel does it: gradients are gathered in buckets, in the order in which the backward pass
makes them, and each full bucket is reduced at once, beside the rest of the pass. DistributedDataParallel itself is not
used, because it decides too much. It must wrap the forward pass, whichever of its forms runs (this step chooses between
an eager and a compiled one while it trains); it waits for parameters that no gradient reaches, unless it searches the
graph for them in every step; and it leaves zeros where a parameter took no part, which weight decay and momentum would
then move. Here hooks on the parameters are all there is, every bucket says for each parameter whether it had a gradient
anywhere, and what had none stays as in one process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import torch
from torch import Tensor, distributed

from glueball.backend.torch.processes import lost_processes

FIRST_BUCKET_BYTES = 1 << 20
"""The first bucket is small, so that the exchange begins early (as in DistributedDataParallel, arXiv:2006.15704)."""
BUCKET_BYTES = 25 << 20

_REDUCER = "glueball_reducer"


@attrs.define(eq=False)
class _Bucket:
    parameters: list[Tensor]
    flat: Tensor
    """All gradients, and for each parameter how many processes have one."""
    views: list[Tensor]
    """The places of the gradients in it, in the parameters' own layouts."""
    flags: Tensor
    missing: int = 0
    """Parameters whose gradient is still to come."""
    is_complete: bool = False
    """Whether this process had a gradient for every parameter."""
    work: Any = None


class GradientReducer:
    """Sums the gradients of ``parameters`` over all processes.

    ``begin`` before a backward pass whose gradients are to be summed, ``finish`` after it; without them backward passes
    only add up what this process has.
    """

    def __init__(self, parameters: Sequence[Tensor]) -> None:
        self._buckets: list[_Bucket] = []
        self._bucket_of: dict[Tensor, _Bucket] = {}
        # The last layers have their gradients first.
        for part in _parts(list(reversed(parameters))):
            bucket = _bucket(part)
            self._buckets.append(bucket)
            self._bucket_of.update(dict.fromkeys(part, bucket))
        for parameter in parameters:
            # A step that takes another's place: the old hooks would keep its buckets alive.
            earlier = getattr(parameter, _REDUCER, None)
            if earlier is not None:
                earlier.close()
            setattr(parameter, _REDUCER, self)
        self._handles = [parameter.register_post_accumulate_grad_hook(self._ready) for parameter in parameters]
        self._next = 0
        self._is_reducing = False

    def close(self) -> None:
        """Takes the hooks away, and gives the memory of the buckets back."""
        for handle in self._handles:
            handle.remove()
        for parameter in self._bucket_of:
            setattr(parameter, _REDUCER, None)
        self._handles, self._buckets, self._bucket_of = [], [], {}

    def begin(self) -> None:
        """From here on gradients are summed as they come."""
        for bucket in self._buckets:
            bucket.missing, bucket.work = len(bucket.parameters), None
        self._next, self._is_reducing = 0, True

    def abandon(self) -> None:
        """After a backward pass that failed."""
        self._is_reducing = False

    def finish(self) -> None:
        """Reduces what is left, waits, and leaves the sums as the parameters' gradients.

        Raises:
            LostProcessError: another process is gone.
        """
        with lost_processes():
            while self._next < len(self._buckets):
                self._launch(self._buckets[self._next])
            for bucket in self._buckets:
                bucket.work.wait()
        self._is_reducing = False
        for bucket in self._buckets:
            # Reading the flags waits for the device; where this process had every gradient, none is without one.
            had = [1.0] * len(bucket.parameters) if bucket.is_complete else bucket.flags.tolist()
            for parameter, view, count in zip(bucket.parameters, bucket.views, had, strict=True):
                parameter.grad = view if count else None

    def _ready(self, parameter: Tensor) -> None:
        if not self._is_reducing:
            return
        self._bucket_of[parameter].missing -= 1
        # In the order of the buckets on every process, whatever order their backward passes take.
        while self._next < len(self._buckets) and self._buckets[self._next].missing == 0:
            self._launch(self._buckets[self._next])

    @torch.no_grad()
    def _launch(self, bucket: _Bucket) -> None:
        self._next += 1
        gradients = [parameter.grad for parameter in bucket.parameters]
        present = [gradient for gradient in gradients if gradient is not None]
        bucket.is_complete = len(present) == len(gradients)
        if bucket.is_complete:
            bucket.flags.fill_(1.0)
        else:
            bucket.flags.copy_(torch.tensor([float(gradient is not None) for gradient in gradients]))
        places = []
        for view, gradient in zip(bucket.views, gradients, strict=True):
            if gradient is not None:
                places.append(view)
            else:
                view.zero_()
        if places:
            # A gradient that was reduced before, and to which more was added since, is in its place already.
            torch._foreach_copy_(places, present)
        for parameter, view in zip(bucket.parameters, bucket.views, strict=True):
            if parameter.grad is not None:
                parameter.grad = view  # frees the memory of the gradient itself
        with lost_processes():
            bucket.work = distributed.all_reduce(bucket.flat, async_op=True)


def _parts(parameters: list[Tensor]) -> list[list[Tensor]]:
    """Parameters of one bucket each: neighbours of one type on one device."""
    parts: list[list[Tensor]] = []
    size, limit = 0, FIRST_BUCKET_BYTES
    for parameter in parameters:
        bytes_needed = parameter.numel() * parameter.element_size()
        kind = (parameter.dtype, parameter.device)
        is_same = bool(parts) and (parts[-1][0].dtype, parts[-1][0].device) == kind
        if not is_same or size + bytes_needed > limit:
            if parts and is_same:
                limit = BUCKET_BYTES
            parts.append([])
            size = 0
        parts[-1].append(parameter)
        size += bytes_needed
    return parts


def _bucket(parameters: list[Tensor]) -> _Bucket:
    total = sum(parameter.numel() for parameter in parameters)
    flat = torch.zeros(total + len(parameters), dtype=parameters[0].dtype, device=parameters[0].device)
    views, offset = [], 0
    for parameter in parameters:
        place = flat[offset : offset + parameter.numel()]
        views.append(_in_layout_of(parameter, place))
        offset += parameter.numel()
    return _Bucket(parameters=parameters, flat=flat, views=views, flags=flat[total:])


def _in_layout_of(parameter: Tensor, place: Tensor) -> Tensor:
    """``place`` seen as the parameter is laid out: channels_last stays channels_last."""
    expected = 1
    for stride, size in sorted(zip(parameter.stride(), parameter.shape, strict=True)):
        if size > 1 and stride != expected:
            return place.view(parameter.shape)  # overlapping or with gaps: any dense layout will do
        expected *= size
    return torch.as_strided(place, parameter.shape, parameter.stride(), place.storage_offset())


@torch.no_grad()
def broadcast_from_first(tensors: Sequence[Tensor]) -> None:
    """Gives every process the values of rank 0."""
    _in_pieces(tensors, lambda flat: distributed.broadcast(flat, 0))


@torch.no_grad()
def average(tensors: Sequence[Tensor], weight: float) -> None:
    """Replaces floating-point tensors by their mean over the processes; one of weight 0 only receives it."""
    if not tensors:
        return
    total = torch.full((1,), weight, dtype=torch.float32, device=tensors[0].device)
    with lost_processes():
        distributed.all_reduce(total)
    scale = 1.0 / max(float(total), 1.0)

    def reduce(flat: Tensor) -> None:
        flat.mul_(weight * scale)
        distributed.all_reduce(flat)

    _in_pieces(tensors, reduce)


def _in_pieces(tensors: Sequence[Tensor], exchange: Callable[[Tensor], Any]) -> None:
    """Calls ``exchange`` with one vector for all tensors of a type and device, and puts what it becomes back."""
    kinds: dict[Any, list[Tensor]] = {}
    for tensor in tensors:
        kinds.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for part in kinds.values():
        flat = torch.cat([tensor.detach().reshape(-1) for tensor in part])
        with lost_processes():
            exchange(flat)
        offset = 0
        for tensor in part:
            tensor.copy_(flat[offset : offset + tensor.numel()].view(tensor.shape))
            offset += tensor.numel()


__all__ = ["GradientReducer", "average", "broadcast_from_first"]

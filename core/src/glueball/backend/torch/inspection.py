"""Looking at a network (summary) and taking it out of Glueball (export)."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from glueball.backend.torch.autograd import predict_mode
from glueball.backend.torch.block import Block, HybridBlock, structural_parameters
from glueball.errors import OptionError
from glueball.files import atomic_write

logger = logging.getLogger(__name__)


def _shape_text(value: Any) -> str:
    if isinstance(value, Tensor):
        return str(tuple(value.shape))
    if isinstance(value, (list, tuple)):
        return ", ".join(_shape_text(one) for one in value)
    return type(value).__name__


def _own_tensors(module: torch.nn.Module) -> Iterator[Tensor | None]:
    """What a module computes with itself: its own tensors, and those of children that can only hold them."""
    yield from module._parameters.values()
    yield from module._buffers.values()
    for child in module.children():
        if isinstance(child, Block) and type(child).forward is Block.forward:
            yield from _own_tensors(child)


def print_summary(network: Block, *inputs: Any) -> None:
    """Runs the network once in inference mode and prints what each block gave and holds.

    Shared parameters are counted once, where they are met first.
    """
    rows: list[tuple[str, str, int]] = []
    counted: set[int] = set()
    trained = shared = total = 0
    handles = []

    def remember(module: torch.nn.Module, arguments: Any, output: Any) -> None:
        nonlocal trained, shared, total
        number = 0
        for tensor in _own_tensors(module):
            if tensor is None:
                continue
            if id(tensor) in counted:
                shared += tensor.numel()
                continue
            counted.add(id(tensor))
            number += tensor.numel()
            trained += tensor.numel() if tensor.requires_grad else 0
        total += number
        index = len(rows)
        rows.append((f"{type(module).__name__}-{index}", _shape_text(output), number))

    def watch(module: torch.nn.Module) -> None:
        for child in module.children():
            watch(child)
        handles.append(module.register_forward_hook(remember))

    compiled, network._compiled_call_impl = network._compiled_call_impl, None
    watch(network)
    try:
        with predict_mode(), torch.no_grad():
            network(*inputs)
    finally:
        for handle in handles:
            handle.remove()
        network._compiled_call_impl = compiled
    line = "{:>28}  {:>36}  {:>14}"
    print("-" * 82)
    print(line.format("Layer (type)", "Output Shape", "Param #"))
    print("=" * 82)
    print(line.format("Input", ", ".join(str(tuple(np.shape(one))) for one in inputs), 0))
    for name, shape, number in rows:
        print(line.format(name, shape, number))
    print("=" * 82)
    print(f"Parameters in forward computation graph, duplicate included\n   Total params: {total + shared}")
    print(f"   Trainable params: {trained}\n   Non-trainable params: {total - trained}")
    print(f"Shared params in forward computation graph: {shared}\nUnique parameters in model: {total}")
    print("-" * 82)


class _InferenceOnly(torch.nn.Module):
    """What is exported: the network with nothing of ours around it, under the names of its own parameters."""

    def __init__(self, network: HybridBlock) -> None:
        super().__init__()
        self.network = network

    def forward(self, *inputs: Tensor) -> Any:
        return self.network(*inputs)


def export_network(
    network: HybridBlock, path: str | os.PathLike[str], epoch: int, inputs: tuple[Any, ...] | None
) -> tuple[str, str]:
    """Writes the graph and the parameters; see ``HybridBlock.export``."""
    from glueball import weights

    if inputs is None:
        shapes = network.__dict__.get("_last_inputs")
        if shapes is None:
            raise OptionError(
                "export needs to know the inputs: hybridize the network and call it once before, as in Gluon, or give "
                "inputs=(example, ...)."
            )
        device = network._device()
        inputs = tuple(torch.zeros(shape, dtype=dtype, device=device) for shape, dtype in shapes)
    tensors = tuple(torch.from_numpy(one) if isinstance(one, np.ndarray) else one for one in inputs)
    modes = {module: module.training for module in network.modules()}
    compiled, network._compiled_call_impl = network._compiled_call_impl, None
    try:
        network.eval()
        with torch.no_grad():
            network(*tensors)
            # Any batch size: the first axis of every input that has more than one axis, and vectors as long as that
            # (lengths). torch.export specialises axes of size 0 and 1, so the example gets two samples.
            size = next((one.shape[0] for one in tensors if one.dim() > 1), None)
            counts = [one.dim() > 1 or (one.dim() == 1 and one.shape[0] == size) for one in tensors]
            batched = tuple(
                torch.cat([one, one]) if counted and one.shape[0] == 1 else one
                for one, counted in zip(tensors, counts, strict=True)
            )
            batch = torch.export.Dim("batch", min=1)
            dynamic = (tuple({0: batch} if counted else None for counted in counts),)
            program = torch.export.export(_InferenceOnly(network), batched, dynamic_shapes=dynamic)
    finally:
        network._compiled_call_impl = compiled
        for module, training in modes.items():
            module.training = training
    stem = os.fspath(path)
    graph_file, parameter_file = f"{stem}-{epoch:04d}.pt2", f"{stem}-{epoch:04d}.params"
    buffer = io.BytesIO()
    torch.export.save(program, buffer)
    with atomic_write(graph_file) as file:
        file.write(buffer.getvalue())
    weights.save(
        parameter_file, {name: one.data().detach().cpu().numpy() for name, one in structural_parameters(network, "")}
    )
    logger.info("Wrote the graph to %s (torch.export) and the parameters to %s", graph_file, parameter_file)
    return graph_file, parameter_file

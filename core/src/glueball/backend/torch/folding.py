"""A network's inference graph with BatchNorm folded into the convolutions before it.

The network is traced with ``torch.fx``: layers and functions of the dialect are single nodes, the blocks around them
disappear. A convolution whose only user is a BatchNorm then takes its place with scaled weights:
``gamma / √(var + ε) · (conv(x) − mean) + beta`` is again a convolution. The network itself is never changed.
"""

from __future__ import annotations

import functools
import threading
from collections import Counter
from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import fx

from glueball.backend.torch import autograd, ops
from glueball.backend.torch.layers.convolution import _Convolution
from glueball.backend.torch.layers.normalization import BatchNorm
from glueball.backend.torch.ops import registry

# Layers that are one node of the graph; every other block is traced through.
_LEAF_PACKAGES = ("glueball.backend.torch.layers.", "torch.nn.")

# Tracing exchanges the functions that blocks get as F, which are global.
_lock = threading.Lock()


class FoldedConvolution(torch.nn.Module):
    """A convolution and the BatchNorm behind it, with the weights that both have when ``refresh`` is called."""

    def __init__(self, convolution: _Convolution, normalization: BatchNorm, dtype: torch.dtype) -> None:
        super().__init__()
        # Past nn.Module.__setattr__: the sources belong to the network and are no children of this module.
        self.__dict__["_sources"] = (convolution, normalization)
        self._dtype = dtype
        self._versions: tuple[Any, ...] = ()
        self._function = convolution._function
        self._arguments = (
            convolution._strides,
            convolution._padding,
            convolution._dilation,
            convolution._groups,
        )
        self.refresh()

    @torch.no_grad()
    def refresh(self) -> None:
        """Takes over weights that have changed; does next to nothing where they have not."""
        tensors = self._source_tensors()
        versions = tuple((id(tensor), tensor._version, tensor.data_ptr()) for tensor in tensors if tensor is not None)
        if versions == self._versions:
            return
        self._versions = versions
        weight, bias, gamma, beta, mean, variance = tensors
        normalization = self.__dict__["_sources"][1]
        assert weight is not None
        assert mean is not None
        assert variance is not None
        scale = torch.rsqrt(variance.double() + normalization._epsilon)
        if normalization._scale and gamma is not None:
            scale = scale * gamma.double()
        shift = -mean.double() if bias is None else bias.double() - mean.double()
        shift = shift * scale
        if beta is not None:
            shift = shift + beta.double()
        folded = weight.double() * scale.reshape(-1, *[1] * (weight.ndim - 1))
        memory_format = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
        self.weight = folded.to(self._dtype).contiguous(memory_format=memory_format)
        self.bias = shift.to(self._dtype)

    def _source_tensors(self) -> tuple[torch.Tensor | None, ...]:
        convolution, normalization = self.__dict__["_sources"]
        return (
            convolution._parameters["weight"],
            convolution._parameters.get("bias"),
            normalization._parameters["gamma"],
            normalization._parameters["beta"],
            normalization._buffers["running_mean"],
            normalization._buffers["running_var"],
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self._function(x, self.weight, self.bias, *self._arguments)


class _Inputs(torch.nn.Module):
    """The network on one tuple of inputs: a block's ``*inputs`` have no names that tracing could use."""

    def __init__(self, network: torch.nn.Module, count: int) -> None:
        super().__init__()
        self.network = network
        self.count = count

    def forward(self, inputs: Any) -> Any:
        return self.network(*(inputs[index] for index in range(self.count)))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: torch.nn.Module, module_qualified_name: str) -> bool:
        return type(m).__module__.startswith(_LEAF_PACKAGES) and not _is_container(m)


def _is_container(module: torch.nn.Module) -> bool:
    # Concurrent, Sequential and the like hold other layers; a convolution's activation is its own.
    return not isinstance(module, _Convolution) and any(True for _ in module.children())


def fold(network: torch.nn.Module, inputs: int, dtype: torch.dtype) -> tuple[fx.GraphModule, list[FoldedConvolution]]:
    """The graph of ``network`` on a tuple of ``inputs`` arrays, and the folded convolutions in it.

    What is not folded shares its parameters with the network. Raises whatever tracing raises for a network whose Python
    code depends on its inputs.
    """
    root = _Inputs(network, inputs)
    with _lock, autograd.predict_mode():
        known = ops.INFERENCE
        ops.INFERENCE = _traceable()
        try:
            graph = _Tracer().trace(root)
        finally:
            ops.INFERENCE = known
    modules = dict(root.named_modules())
    uses = Counter(id(modules[str(node.target)]) for node in graph.nodes if node.op == "call_module")
    replaced: dict[str, torch.nn.Module] = {}
    for node in list(graph.nodes):
        if node.op != "call_module" or not isinstance(modules[str(node.target)], BatchNorm):
            continue
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) != 1:
            continue
        convolution, normalization = modules[str(before.target)], modules[str(node.target)]
        assert isinstance(normalization, BatchNorm)
        if not isinstance(convolution, _Convolution) or not _can_fold(convolution, normalization):
            continue
        if uses[id(convolution)] != 1 or uses[id(normalization)] != 1:
            continue
        name = f"folded{len(replaced)}"
        replaced[name] = FoldedConvolution(convolution, normalization, dtype)
        with graph.inserting_before(before):
            fused = graph.call_module(name, before.args)
        node.replace_all_uses_with(fused)
        graph.erase_node(node)
        graph.erase_node(before)
    for name, module in replaced.items():
        root.add_module(name, module)
    graph_module = fx.GraphModule(root, graph)
    return graph_module, [module for module in replaced.values() if isinstance(module, FoldedConvolution)]


def _can_fold(convolution: _Convolution, normalization: BatchNorm) -> bool:
    hooks = convolution._forward_hooks or convolution._forward_pre_hooks
    hooks = hooks or normalization._forward_hooks or normalization._forward_pre_hooks
    return not (
        hooks
        or convolution._transposed
        or convolution._channels_last
        or convolution.act is not None
        or normalization._axis != 1
    )


def _traceable() -> ModuleType:
    """The functions of inference mode, each of which becomes one node where it meets a traced value."""
    module = registry.build(ModuleType("glueball.backend.torch.ops.TRACED"), False)
    for name in registry.OPERATORS:
        *path, last = name.split(".")
        namespace: Any = module
        for part in path:
            namespace = getattr(namespace, part)
        setattr(namespace, last, _as_node(getattr(namespace, last)))
    return module


def _as_node(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def as_node(*arguments: Any, **keywords: Any) -> Any:
        found: list[fx.Proxy] = []
        fx.node.map_aggregate(
            (arguments, keywords), lambda value: found.append(value) if isinstance(value, fx.Proxy) else None
        )
        if not found:
            return function(*arguments, **keywords)
        return found[0].tracer.create_proxy("call_function", function, arguments, keywords)

    return as_node

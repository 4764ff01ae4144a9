"""Gluon's blocks as PyTorch modules.

A block is a ``torch.nn.Module`` in every respect (``state_dict``, ``to``, hooks, DDP, torch.compile, any module as a
child) and a Gluon block in name: ``prefix`` and ``name_scope``, ``params``, ``collect_params``, ``initialize`` with
shapes that the first forward pass tells, ``hybridize``, ``save_parameters``. Its ``state_dict`` keys are Gluon's
structural names, which is what official weight files hold.

Blocks start in inference mode, other than PyTorch's modules: a model that is fetched to predict must not drop out.
Inside the scopes of ``glueball.autograd`` the scope decides, outside ``module.training``. Modules of PyTorch within a
block know their own flag only.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from glueball.backend.torch import ops
from glueball.backend.torch.autograd import scope_training
from glueball.backend.torch.compat import compile_options
from glueball.backend.torch.ops.arguments import shareable, torch_dtype
from glueball.backend.torch.parameter import Constant, Parameter, ParameterDict, as_device


class _Naming(threading.local):
    """The open name scope of this thread, and the counters of names outside of every scope."""

    def __init__(self) -> None:
        self.scope: NameScope | None = None
        self.counters: dict[str, int] = {}


_naming = _Naming()


class NameScope:
    """Names the blocks and parameters that are made within: ``conv0_``, ``conv1_``, ... under the owner's prefix."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self._counters: dict[str, int] = {}
        self._outer: list[NameScope | None] = []

    @staticmethod
    def resolve(prefix: str | None, params: ParameterDict | None, hint: str) -> tuple[str, ParameterDict]:
        """Prefix and parameters of a new block whose kind is ``hint``."""
        scope = _naming.scope
        counters = _naming.counters if scope is None else scope._counters
        if prefix is None:
            number = counters.get(hint, 0)
            counters[hint] = number + 1
            prefix = f"{hint}{number}_"
        if params is not None:
            dictionary = ParameterDict(params.prefix, params)
        elif scope is None:
            dictionary = ParameterDict(prefix)
        else:
            parent = scope._block.params
            dictionary = ParameterDict(parent.prefix + prefix, parent._shared)
        return (prefix if scope is None else scope._block.prefix + prefix), dictionary

    def __enter__(self) -> NameScope:
        self._outer.append(_naming.scope)
        # A block with an empty prefix opens no scope: its children are named as its siblings are.
        if self._block._has_scope:
            _naming.scope = self
        return self

    def __exit__(self, *exception: object) -> None:
        _naming.scope = self._outer.pop()


def _convert(value: Any, device: torch.device | None, dtype: torch.dtype | None) -> Any:
    """NumPy arrays as tensors on ``device``, floating ones in ``dtype``; everything else as it is.

    Without a ``dtype`` to follow float64 becomes float32.
    """
    if isinstance(value, np.ndarray):
        tensor = torch.from_numpy(shareable(value))
        if not tensor.is_floating_point():
            return tensor.to(device)
        return tensor.to(device, dtype or (torch.float32 if tensor.dtype == torch.float64 else None))
    if isinstance(value, (list, tuple)) and any(isinstance(one, np.ndarray) for one in value):
        return type(value)(_convert(one, device, dtype) for one in value)
    return value


def _holds_array(values: tuple[Any, ...]) -> bool:
    for value in values:
        if isinstance(value, np.ndarray) or (isinstance(value, (list, tuple)) and _holds_array(tuple(value))):
            return True
    return False


class Block(torch.nn.Module):
    """The base of all layers and models; subclasses write ``forward(self, *inputs)``."""

    _compiled_call_impl: Any
    """torch.nn.Module's own: what torch.compile made of this module."""

    def __init__(self, prefix: str | None = None, params: ParameterDict | None = None) -> None:
        super().__init__()
        self.training = False
        self._has_scope = prefix != ""
        self._prefix, self._params = NameScope.resolve(prefix, params, self._alias())
        self._scope = NameScope(self)
        # Attribute name -> handle, in the order of assignment.
        self._handles: dict[str, Parameter] = {}
        self._hybrid = False

    def _alias(self) -> str:
        """What global names call this kind of block."""
        return type(self).__name__.lower()

    # -- names ----------------------------------------------------------------------------------------------------

    @property
    def prefix(self) -> str:
        """What stands before the global names of this block's parameters."""
        return self._prefix

    @property
    def name(self) -> str:
        """The prefix without its last underscore."""
        return self._prefix[:-1] if self._prefix.endswith("_") else self._prefix

    @property
    def params(self) -> ParameterDict:
        """This block's own parameters (not its children's) by global name; ``params.get`` makes one."""
        return self._params

    @property
    def _children(self) -> dict[str, Any]:
        return self._modules

    def name_scope(self) -> NameScope:
        """``with self.name_scope():`` names what is made within after this block."""
        return self._scope

    # -- children and parameters ----------------------------------------------------------------------------------

    def register_child(self, block: torch.nn.Module, name: str | None = None) -> None:
        """Adds a child under ``name``, or under the number of children so far."""
        self.add_module(str(len(self._modules)) if name is None else name, block)

    def add_module(self, name: str, module: torch.nn.Module | None) -> None:
        """Adds a child; one of PyTorch's takes this block's mode, so that a new network as a whole predicts."""
        if module is not None and not isinstance(module, Block):
            module.train(self.training)
        super().add_module(name, module)

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, torch.nn.Module) and not isinstance(value, Block) and "_modules" in self.__dict__:
            value.train(self.training)
        if isinstance(value, Parameter):
            if "_handles" not in self.__dict__:
                raise AttributeError(f"Call super().__init__() before assigning the parameter {name!r}.")
            self._modules.pop(name, None)
            self._parameters.pop(name, None)
            self._buffers.pop(name, None)
            self._handles[name] = value
            value.attach(self, name)
            # In __dict__, so that self.weight is the handle, as in Gluon, while _parameters holds the tensor.
            self.__dict__[name] = value
            return
        handles = self.__dict__.get("_handles")
        if handles is not None and name in handles:
            handle = handles[name]
            if isinstance(value, (Tensor, torch.nn.Module)) or value is None:
                # A plain torch parameter, or nothing, takes the handle's place.
                del handles[name]
                self.__dict__.pop(name, None)
                self._parameters.pop(name, None)
                self._buffers.pop(name, None)
                if handle._owner is self:
                    handle._owner = None
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in self._handles:
            del self._handles[name]
            self.__dict__.pop(name, None)
            self._parameters.pop(name, None)
            self._buffers.pop(name, None)
            return
        super().__delattr__(name)

    def _own_parameters(self) -> Iterator[tuple[str, Parameter]]:
        yield from self._handles.items()
        # Tensors that a user registered the torch way have no handle; they get one for the asking.
        for values, differentiable in ((self._parameters, True), (self._buffers, False)):
            for name, tensor in values.items():
                if tensor is not None and name not in self._handles and name not in self._non_persistent_buffers_set:
                    yield name, adopt(self, name, self._prefix + name, differentiable)

    def notice_initialized(self) -> None:
        """One of the block's own parameters got its first values."""

    def _collect_params_with_prefix(self, prefix: str = "") -> dict[str, Parameter]:
        """Parameters by structural name, a shared one under each of its names: the keys of weight files, in order."""
        return dict(structural_parameters(self, prefix))

    def collect_params(self, select: str | None = None) -> ParameterDict:
        """Parameters of this block and all below by global name; ``select`` is a regular expression on those names."""
        collected = ParameterDict(self._params.prefix)
        collected._parameters.update(self._params._parameters)
        for name, parameter in structural_parameters(self, ""):
            known = collected._parameters.setdefault(parameter.name, parameter)
            if known is not parameter and known.tensor is not parameter.tensor:
                # Two blocks of one prefix (GluonCV has some): keep both apart by the structural name.
                collected._parameters[f"{parameter.name}@{name}"] = parameter
        return collected if select is None else collected.select(select)

    def initialize(
        self,
        init: Any = None,
        ctx: Any = None,
        verbose: bool = False,
        force_reinit: bool = False,
        *,
        device: Any = None,
    ) -> None:
        """Fills every parameter that has no values yet: by its own initialiser, or by ``init`` (default Uniform(0.07)).

        Parameters of unknown shape are filled in the first forward pass. ``device`` (or ``ctx``) is where they go.
        """
        target = device if device is not None else ctx
        for name, parameter in structural_parameters(self, ""):
            # Modules of PyTorch have initialised themselves, and know better how.
            if not parameter.is_foreign:
                parameter.initialize(None, None, init, force_reinit, device=target, structural_name=name)
        if target is not None:
            self.to(as_device(target))

    def save_parameters(self, filename: str | os.PathLike[str], deduplicate: bool = False) -> None:
        """Writes all parameters by structural name; the file's suffix chooses the format (glueball.weights.save)."""
        from glueball import weights

        arrays: dict[str, np.ndarray] = {}
        seen: set[int] = set()
        for name, parameter in self._collect_params_with_prefix().items():
            tensor = parameter.data()
            if deduplicate and id(tensor) in seen:
                continue
            seen.add(id(tensor))
            values = tensor.detach().cpu()
            arrays[name] = (values.float() if values.dtype == torch.bfloat16 else values).numpy()
        weights.save(filename, arrays)

    def load_parameters(
        self,
        filename: str | os.PathLike[str],
        ctx: Any = None,
        allow_missing: bool = False,
        ignore_extra: bool = False,
        cast_dtype: bool = False,
        dtype_source: str = "current",
        *,
        device: Any = None,
    ) -> None:
        """Reads parameters from a file (glueball.weights.load_into); ``cast_dtype`` converts other data types.

        Raises:
            WeightsError: the file is damaged or does not fit the network; the message names each parameter.
        """
        from glueball import weights

        weights.load_into(self, filename, allow_missing=allow_missing, ignore_extra=ignore_extra, cast_dtype=cast_dtype)
        target = device if device is not None else ctx
        if target is not None:
            self.to(as_device(target))

    # -- running --------------------------------------------------------------------------------------------------

    def __call__(self, *arguments: Any, **keywords: Any) -> Any:
        if torch.compiler.is_compiling():
            return super().__call__(*arguments, **keywords)
        if _holds_array(arguments):
            device, dtype = self._device(), self._floating_dtype()
            arguments = tuple(_convert(value, device, dtype) for value in arguments)
        if self._hybrid:
            # export() asks for the shapes, as in Gluon.
            self.__dict__["_last_inputs"] = [
                (tuple(value.shape), value.dtype) for value in arguments if isinstance(value, Tensor)
            ]
        if self._hybrid and self._compiled_call_impl is not None and self._has_uninitialized():
            # Parameters get their shapes in the first pass, which therefore runs eagerly, children included.
            compiled, self._compiled_call_impl = self._compiled_call_impl, None
            try:
                return super().__call__(*arguments, **keywords)
            finally:
                self._compiled_call_impl = compiled
        return super().__call__(*arguments, **keywords)

    def _device(self) -> torch.device | None:
        for tensor in self.parameters():
            return tensor.device
        for tensor in self.buffers():
            return tensor.device
        return None

    def _floating_dtype(self) -> torch.dtype | None:
        """What ``cast`` made of the network: the data type of its first floating parameter."""
        found = [(name, one.dtype) for name, one in self.named_parameters() if one.dtype.is_floating_point]
        # Normalisation stays in float32 when the network is cast to half precision, so others are asked first.
        found.sort(key=lambda one: one[0].endswith(("gamma", "beta")))
        return found[0][1] if found else None

    def _has_uninitialized(self) -> bool:
        # Once everything has values it stays so; the answer is kept, because the question is asked at every call.
        if self.__dict__.get("_all_initialized", False):
            return False
        found = any(is_lazy(tensor) for tensor in self.parameters()) or any(is_lazy(one) for one in self.buffers())
        if not found:
            self.__dict__["_all_initialized"] = True
        return found

    def forward(self, *arguments: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define forward(self, *inputs)")

    def hybridize(self, active: bool = True, **flags: Any) -> None:
        """Compiles with torch.compile from the second call on; ``active=False`` runs eagerly again.

        ``backend``, ``mode``, ``dynamic``, ``fullgraph`` and ``options`` go to torch.compile. Gluon's ``static_alloc``,
        ``static_shape`` and the like are taken and need nothing: the compiler plans memory anyway. A plain Block
        passes the call on to its children.
        """
        for child in self._modules.values():
            if isinstance(child, Block):
                child.hybridize(active, **flags)

    def cast(self, dtype: Any) -> None:
        """Converts the parameters of all blocks below to a floating data type."""
        for child in self._modules.values():
            if isinstance(child, Block):
                child.cast(dtype)
            elif child is not None:
                child.to(torch_dtype(dtype))
        for parameter in self._handles.values():
            if parameter.tensor.dtype.is_floating_point:
                parameter.cast(dtype)

    def reset_ctx(self, ctx: Any) -> None:
        """Moves the block to a device."""
        self.to(as_device(ctx))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        # torch exchanges buffers where it moves parameters in place. Handles and blocks that share a buffer hold on to
        # the tensor itself, so the new values go into the old object.
        before = dict(self._buffers)
        result = super()._apply(fn, recurse)
        for name, old in before.items():
            new = self._buffers[name]
            if old is not None and new is not None and new is not old and not is_lazy(old):
                try:
                    old.data = new
                except (RuntimeError, TypeError):
                    continue  # to the meta device and back: kinds of tensors that cannot take each other's values
                self._buffers[name] = old
        return result

    # -- looking --------------------------------------------------------------------------------------------------

    def summary(self, *inputs: Any) -> None:
        """Prints each layer with its output shape and number of parameters, as one forward pass on ``inputs`` shows."""
        from glueball.backend.torch.inspection import print_summary

        print_summary(self, *inputs)

    def __repr__(self) -> str:
        return torch.nn.Module.__repr__(self)


class HybridBlock(Block):
    """A block written as ``hybrid_forward(self, F, *inputs, **parameters)``.

    ``F`` holds the functions of the dialect; the block's own parameters arrive as keyword arguments under the names
    they were assigned to.
    """

    def __init__(self, prefix: str | None = None, params: ParameterDict | None = None) -> None:
        super().__init__(prefix=prefix, params=params)
        self._may_wait = False

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if isinstance(value, Parameter):
            self.__dict__["_may_wait"] = True

    def forward(self, *inputs: Any) -> Any:
        if self._may_wait:
            self._finish_waiting_parameters(inputs)
        training = scope_training()
        if training is None:
            training = self.training
        functions = ops.TRAINING if training else ops.INFERENCE
        if not self._handles:
            return self.hybrid_forward(functions, *inputs)
        parameters = {}
        for name in self._handles:
            tensor = self._parameters.get(name)
            parameters[name] = self._buffers[name] if tensor is None else tensor
        return self.hybrid_forward(functions, *inputs, **parameters)

    def hybrid_forward(self, F: Any, *inputs: Any, **parameters: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__} must define hybrid_forward(self, F, *inputs, **parameters)")

    def notice_initialized(self) -> None:
        self.__dict__["_may_wait"] = any(not parameter.is_initialized for parameter in self._handles.values())

    def infer_shape(self, *inputs: Any) -> None:
        """Sets the shapes of this block's own parameters (not its children's) from its inputs.

        Layers with parameters of unknown shape override it. For everything else the base does nothing.
        """

    @torch.compiler.disable
    def _finish_waiting_parameters(self, inputs: tuple[Any, ...]) -> None:
        waiting = [parameter for parameter in self._handles.values() if not parameter.is_initialized]
        if waiting:
            if any(not parameter._has_known_shape() for parameter in waiting):
                self.infer_shape(*inputs)
            device = next((value.device for value in inputs if isinstance(value, Tensor)), None)
            for parameter in waiting:
                if device is not None and parameter._deferred is not None:
                    parameter._move_lazy(device)
                parameter.finish_deferred_initialization()
        self.__dict__["_may_wait"] = False

    def hybridize(self, active: bool = True, **flags: Any) -> None:
        known = ("backend", "mode", "dynamic", "fullgraph", "options")
        self._hybrid = active
        if active:
            chosen = {key: value for key, value in flags.items() if key in known}
            self.compile(**compile_options(), **chosen)
        else:
            self._compiled_call_impl = None
            super().hybridize(False)

    def export(
        self, path: str | os.PathLike[str], epoch: int = 0, *, inputs: tuple[Any, ...] | None = None
    ) -> tuple[str, str]:
        """Writes ``path-0000.pt2`` (torch.export, inference mode) and ``path-0000.params``; returns both names.

        ``inputs`` are example inputs; without them the shapes of the last call after ``hybridize()`` are taken. The
        ``.pt2`` file runs without Glueball: ``torch.export.load(...).module()(x)``.

        Raises:
            OptionError: it was not called after ``hybridize()`` and no ``inputs`` are given.
        """
        from glueball.backend.torch.inspection import export_network

        return export_network(self, path, epoch, inputs)


class Sequential(Block):
    """Blocks that are called one after the other. ``net[2]``, ``net[1:3]``, ``len(net)`` and iteration work."""

    def add(self, *blocks: torch.nn.Module) -> None:
        """Appends blocks, under the names "0", "1", ..."""
        for block in blocks:
            self.register_child(block)

    def forward(self, x: Any, *arguments: Any) -> Any:
        return _run_in_turn(self._modules.values(), x, arguments)

    def __getitem__(self, key: Any) -> Any:
        return _sequence_item(self, key)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())


class HybridSequential(HybridBlock):
    """``Sequential`` that can be compiled and be part of a HybridBlock."""

    def add(self, *blocks: torch.nn.Module) -> None:
        """Appends blocks, under the names "0", "1", ..."""
        for block in blocks:
            self.register_child(block)

    def forward(self, x: Any, *arguments: Any) -> Any:
        return _run_in_turn(self._modules.values(), x, arguments)

    def __getitem__(self, key: Any) -> Any:
        return _sequence_item(self, key)

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())


def _run_in_turn(blocks: Iterable[Any], x: Any, arguments: tuple[Any, ...]) -> Any:
    is_ours = False
    for block in blocks:
        if is_ours and not arguments and _can_overwrite(block):
            x = block.overwrite(x)  # spares an array as large as x, and the time to fill it
        else:
            x = block(x, *arguments)
        arguments = ()
        if isinstance(x, (tuple, list)):
            arguments = tuple(x[1:])
            x = x[0]
        is_ours = _gives_new_array(block)
    return (x, *arguments) if arguments else x


def _gives_new_array(block: Any) -> bool:
    """Whether nobody but the caller has the block's output, not even the gradient of the block itself.

    Only classes that say so of themselves: a subclass may keep its output.
    """
    return type(block).__dict__.get("gives_new_array", False) and not (block._forward_hooks or _has_global_hooks())


def _can_overwrite(block: Any) -> bool:
    return (
        "overwrite" in type(block).__dict__
        and block.can_overwrite()
        and not (block._forward_hooks or block._forward_pre_hooks or _has_global_hooks())
    )


def _has_global_hooks() -> bool:
    module = torch.nn.modules.module
    return bool(module._global_forward_hooks or module._global_forward_pre_hooks)


def _sequence_item(sequence: Any, key: Any) -> Any:
    blocks = list(sequence._modules.values())[key]
    if not isinstance(key, slice):
        return blocks
    part = type(sequence)(prefix=sequence._prefix)
    part.add(*blocks)
    part.training = sequence.training
    return part


def adopt(module: torch.nn.Module, attribute: str, name: str, differentiable: bool) -> Parameter:
    """A handle on a tensor that a module holds without one."""
    tensor = (module._parameters if differentiable else module._buffers)[attribute]
    assert tensor is not None
    handle = Parameter.__new__(Parameter)
    handle.name = name
    handle.lr_mult = handle.wd_mult = 1.0
    handle.init = None
    handle.allow_deferred_init = True
    handle.differentiable = differentiable
    handle.grad_stype = "default"
    handle._shape = None if is_lazy(tensor) else tuple(tensor.shape)
    handle._deferred = None
    handle._tensor = tensor
    handle._owner, handle._attribute = module, attribute
    handle._holders = []
    handle.is_foreign = True
    handle._grad_req = "write" if differentiable and tensor.requires_grad else "null"
    return handle


def structural_parameters(
    module: torch.nn.Module, prefix: str, names: str | None = None
) -> Iterator[tuple[str, Parameter]]:
    """(structural name, handle) of a module and all below; ``names`` is the global prefix of foreign modules."""
    if prefix:
        prefix += "."
    if isinstance(module, Block):
        names = module._prefix
        for name, parameter in module._own_parameters():
            yield prefix + name, parameter
    else:
        names = names or ""
        for values, differentiable in ((module._parameters, True), (module._buffers, False)):
            for name, tensor in values.items():
                if tensor is not None and name not in module._non_persistent_buffers_set:
                    yield prefix + name, adopt(module, name, names + name, differentiable)
    for name, child in module._modules.items():
        if child is not None:
            yield from structural_parameters(child, prefix + name, f"{names}{name}_")


__all__ = [
    "Block",
    "Constant",
    "HybridBlock",
    "HybridSequential",
    "NameScope",
    "Parameter",
    "ParameterDict",
    "Sequential",
    "structural_parameters",
]

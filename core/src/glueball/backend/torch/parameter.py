"""Gluon's parameters as handles on torch's.

A handle carries what Gluon knows about a parameter (global name, initialiser, multipliers, ``grad_req``, a shape that
may still be partly unknown); the values live in the module's ``_parameters`` (trained) or ``_buffers`` (running
statistics, constants), where every PyTorch tool looks for them. Until the shape is known and the parameter is
initialised the tensor there is torch's own ``UninitializedParameter`` or ``UninitializedBuffer``, which becomes a
regular one in place: whoever shares it, shares it still.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter, is_lazy

from glueball import init as initializers
from glueball.backend.torch.ops.arguments import dtype_name, shareable, torch_dtype
from glueball.errors import BackendError, OptionError

GRAD_REQS = ("write", "add", "null")


class DeferredInitializationError(BackendError):
    """Values were asked of a parameter whose shape is not known before the first forward pass."""


def as_device(device: Any) -> torch.device:
    """A device from its name, itself, or a list of one; None is torch's default device."""
    if isinstance(device, (list, tuple)):
        if len(device) != 1:
            raise OptionError(
                f"Expected one device; received {list(device)}. Several devices are driven by one process each "
                "(torchrun)."
            )
        device = device[0]
    return torch.get_default_device() if device is None else torch.device(device)


def merge_shapes(name: str, known: Sequence[int] | None, given: Sequence[int]) -> tuple[int, ...]:
    """A shape that agrees with both, where 0 (and -1) stands for unknown.

    Raises:
        OptionError: the shapes contradict each other.
    """
    if known is None:
        return tuple(given)
    if len(known) != len(given) or any(
        old > 0 and new > 0 and old != new for old, new in zip(known, given, strict=True)
    ):
        raise OptionError(
            f"Parameter {name!r}: expected a shape that agrees with {tuple(known)} (0 is unknown); "
            f"received {tuple(given)}."
        )
    return tuple(new if new > 0 else old for old, new in zip(known, given, strict=True))


class _WaitingBuffer(UninitializedBuffer):
    """PyTorch's uninitialised buffer, which alone among its lazy tensors cannot be copied with its network."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        if id(self) not in memo:
            memo[id(self)] = type(self)(False, self.data.device, self.data.dtype)  # type: ignore
        return memo[id(self)]


class Parameter:
    """One parameter of a block. Functions of torch take it in place of its tensor.

    ``grad_req`` "write" and "add" are trained, "null" is not. ``shape`` may hold zeros for sizes that the first forward
    pass tells. ``lr_mult`` and ``wd_mult`` scale learning rate and weight decay.
    """

    is_foreign = False
    """Whether the tensor belongs to a module that is no block."""

    def __init__(
        self,
        name: str,
        grad_req: str = "write",
        shape: Any = None,
        dtype: Any = "float32",
        lr_mult: float = 1.0,
        wd_mult: float = 1.0,
        init: Any = None,
        allow_deferred_init: bool = False,
        differentiable: bool = True,
        stype: str = "default",
        grad_stype: str = "default",
    ) -> None:
        if stype != "default":
            raise OptionError(f"Parameter {name!r}: the torch backend has dense parameters only; received {stype!r}.")
        self.name = name
        self.lr_mult = lr_mult
        self.wd_mult = wd_mult
        self.init = init
        self.allow_deferred_init = allow_deferred_init
        self.differentiable = differentiable
        self.grad_stype = grad_stype
        self._shape: tuple[int, ...] | None = (
            None if shape is None else (shape,) if isinstance(shape, int) else tuple(shape)
        )
        # What initialize() asked for while the shape was unknown: (structural name, default initialiser).
        self._deferred: tuple[str, Any] | None = None
        self._owner: torch.nn.Module | None = None
        self._attribute = ""
        # Every block that holds the parameter, shared ones included, to be told when it gets its values.
        self._holders: list[Any] = []
        kind = torch_dtype(dtype)
        self._tensor: Tensor = (
            UninitializedParameter(kind.is_floating_point, None, kind)  # type: ignore[call-arg, arg-type]
            if differentiable
            else _WaitingBuffer(False, None, kind)  # type: ignore[call-arg, arg-type]
        )
        self._grad_req = ""
        self.grad_req = grad_req

    # -- where the values are -------------------------------------------------------------------------------------

    def attach(self, owner: torch.nn.Module, attribute: str) -> None:
        """Puts the tensor into the module, where torch expects it; the first owner is asked for it from then on."""
        tensor = self.tensor
        if self.differentiable:
            owner._parameters[attribute] = tensor  # type: ignore[assignment]
        else:
            owner._buffers[attribute] = tensor
            owner._non_persistent_buffers_set.discard(attribute)
        if self._owner is None:
            self._owner, self._attribute = owner, attribute
        self._holders.append(owner)

    @property
    def tensor(self) -> Tensor:
        """The tensor, initialised or not; what the owning module holds, should a tool have exchanged it."""
        if self._owner is not None:
            values = self._owner._parameters if self.differentiable else self._owner._buffers
            held = values.get(self._attribute)
            if held is not None:
                return held
        return self._tensor

    @property
    def is_initialized(self) -> bool:
        """Whether there are values."""
        return not is_lazy(self.tensor)

    # -- what Gluon knows -----------------------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...] | None:
        """The shape, with 0 for what is not known yet."""
        tensor = self.tensor
        return self._shape if is_lazy(tensor) else tuple(tensor.shape)

    @shape.setter
    def shape(self, shape: Sequence[int]) -> None:
        self._shape = merge_shapes(self.name, self.shape, tuple(shape))

    @property
    def dtype(self) -> str:
        """Name of the data type."""
        return dtype_name(self.tensor.dtype)

    @dtype.setter
    def dtype(self, dtype: Any) -> None:
        self.cast(dtype)

    @property
    def grad_req(self) -> str:
        """ "write" (the gradient is overwritten), "add" (accumulated) or "null" (none)."""
        return self._grad_req

    @grad_req.setter
    def grad_req(self, grad_req: str) -> None:
        if grad_req not in GRAD_REQS:
            raise OptionError(f"Parameter {self.name!r}: expected grad_req write, add or null; received {grad_req!r}.")
        self._grad_req = grad_req if self.differentiable else "null"
        tensor = self.tensor
        if tensor.dtype.is_floating_point:
            tensor.requires_grad = self._grad_req != "null"
        if self._grad_req == "null" and not is_lazy(tensor):
            tensor.grad = None
        tensor.gluon_grad_req = self._grad_req  # type: ignore[attr-defined]

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        # Copies of tensors lose their attributes; autograd.backward asks for this one.
        self._tensor.gluon_grad_req = self._grad_req  # type: ignore[attr-defined]

    def _has_known_shape(self) -> bool:
        return self._shape is not None and all(size > 0 for size in self._shape)

    # -- values ---------------------------------------------------------------------------------------------------

    def initialize(
        self,
        init: Any = None,
        ctx: Any = None,
        default_init: Any = None,
        force_reinit: bool = False,
        *,
        device: Any = None,
        structural_name: str | None = None,
    ) -> None:
        """Fills the parameter by ``init``, its own initialiser or ``default_init``, or as soon as its shape is known.

        Raises:
            OptionError: the shape is unknown and the parameter was not made with ``allow_deferred_init``.
        """
        if self.is_initialized and not force_reinit:
            return
        name = structural_name or self.name
        if init is not None:
            self.init = init
        target = device if device is not None else ctx
        if not self.is_initialized and target is not None:
            self._move_lazy(as_device(target))
        if not self.is_initialized and not self._has_known_shape():
            if not self.allow_deferred_init:
                raise OptionError(
                    f"Cannot initialise the parameter {self.name!r}: its shape {self._shape} is not known. Give the "
                    "number of inputs (in_channels, in_units), or make it with allow_deferred_init=True."
                )
            self._deferred = (name, default_init)
            return
        self._fill(name, default_init)

    def _move_lazy(self, device: torch.device) -> None:
        tensor = self.tensor
        if tensor.device != device:
            tensor.data = tensor.data.to(device)

    def _fill(self, name: str, default_init: Any) -> None:
        shape = self.shape
        assert shape is not None
        self.set_data(initializers.initial_value(name, shape, own=self.init, default=default_init))

    def finish_deferred_initialization(self) -> None:
        """Fills a parameter that waited for its shape.

        Raises:
            DeferredInitializationError: the shape is still unknown.
            BackendError: ``initialize`` was never called.
        """
        if self.is_initialized:
            return
        if self._deferred is None:
            raise BackendError(self._missing_message())
        if not self._has_known_shape():
            raise DeferredInitializationError(
                f"The shape of the parameter {self.name!r} is still {self._shape} after looking at the inputs. A block "
                "with parameters of its own must give their full shape, or set it in infer_shape(self, *inputs)."
            )
        name, default_init = self._deferred
        self._fill(name, default_init)

    def _missing_message(self) -> str:
        if self._deferred is not None:
            return (
                f"The parameter {self.name!r} has no values yet, because its shape {self._shape} becomes known in the "
                "first forward pass. Call the network once on an example, or give in_channels / in_units."
            )
        return (
            f"The parameter {self.name!r} has not been initialised. Call initialize() on the network, or load "
            "weights, before its first use."
        )

    def data(self, ctx: Any = None) -> Tensor:
        """The values, as the tensor that is trained.

        Raises:
            DeferredInitializationError: there are none before the first forward pass tells the shape.
            BackendError: there are none because nobody initialised it.
        """
        tensor = self.tensor
        if is_lazy(tensor):
            # Two kinds, as in Gluon: a deferred parameter needs nothing but an input.
            raise (BackendError if self._deferred is None else DeferredInitializationError)(self._missing_message())
        return tensor

    def list_data(self) -> list[Tensor]:
        """[data()], for code that was written for several devices in one process."""
        return [self.data()]

    def grad(self, ctx: Any = None) -> Tensor:
        """The gradient; zeros where no backward pass wrote one yet.

        Raises:
            OptionError: ``grad_req`` is "null", so there is none.
        """
        tensor = self.data()
        if self._grad_req == "null":
            raise OptionError(f"The parameter {self.name!r} has no gradient, because its grad_req is 'null'.")
        return torch.zeros_like(tensor) if tensor.grad is None else tensor.grad

    def list_grad(self) -> list[Tensor]:
        """[grad()], for code that was written for several devices in one process."""
        return [self.grad()]

    def zero_grad(self) -> None:
        """Sets the gradient to zero."""
        tensor = self.tensor
        if tensor.grad is not None:
            tensor.grad.zero_()

    def set_data(self, data: Any) -> None:
        """Copies values in; they settle the shape if it was unknown. Keeps data type and device.

        Raises:
            OptionError: the shape contradicts the known one.
        """
        values = data.detach() if isinstance(data, Tensor) else torch.from_numpy(shareable(np.array(data, copy=True)))
        tensor = self.tensor
        with torch.no_grad():
            if is_lazy(tensor):
                shape = merge_shapes(self.name, self._shape, tuple(values.shape))
                if values.dim() == 0 or 0 not in values.shape:
                    self._shape = shape
                tensor.materialize(tuple(values.shape))  # type: ignore[union-attr]
                self._deferred = None
                for holder in self._holders:
                    holder.notice_initialized()
                tensor.requires_grad_(self._grad_req != "null" and tensor.dtype.is_floating_point)
            elif tuple(tensor.shape) != tuple(values.shape):
                raise OptionError(
                    f"Parameter {self.name!r}: expected values of shape {tuple(tensor.shape)}; "
                    f"received {tuple(values.shape)}."
                )
            tensor.copy_(values)

    def cast(self, dtype: Any) -> None:
        """Converts to another data type."""
        kind = torch_dtype(dtype)
        tensor = self.tensor
        if tensor.dtype == kind:
            return
        tensor.data = tensor.data.to(kind)
        tensor.grad = None

    def reset_ctx(self, ctx: Any) -> None:
        """Moves the values to a device."""
        tensor = self.tensor
        tensor.data = tensor.data.to(as_device(ctx))
        tensor.grad = None

    def list_ctx(self) -> list[str]:
        """[the device]."""
        return [str(self.tensor.device)]

    # -- in place of the tensor -----------------------------------------------------------------------------------

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        def unwrap(value: Any) -> Any:
            if isinstance(value, Parameter):
                return value.data()
            if isinstance(value, (list, tuple)):
                return type(value)(unwrap(one) for one in value)
            return value

        return function(*unwrap(tuple(arguments)), **{key: unwrap(one) for key, one in (keywords or {}).items()})

    def __getattr__(self, name: str) -> Any:
        # requires_grad, device, numel, ...: tools that find the handle where torch has a tensor.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.tensor, name)

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.name} (shape={self.shape}, dtype={self.dtype})"


class Constant(Parameter):
    """A parameter that is never trained and always holds ``value``; it is saved with the others."""

    def __init__(self, name: str, value: Any) -> None:
        array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
        if array.dtype == np.float64:
            array = array.astype(np.float32)
        self.value = array
        super().__init__(name, grad_req="null", shape=array.shape, dtype=array.dtype, differentiable=False)

    def _has_known_shape(self) -> bool:
        return True

    def _fill(self, name: str, default_init: Any) -> None:
        self.set_data(self.value)


class ParameterDict:
    """Parameters by global name. ``get`` finds or makes one under the prefix; ``shared`` is searched first."""

    def __init__(self, prefix: str = "", shared: ParameterDict | None = None) -> None:
        self._prefix = prefix
        self._shared = shared
        self._parameters: dict[str, Parameter] = {}

    @property
    def prefix(self) -> str:
        """What stands before the names of parameters that ``get`` makes."""
        return self._prefix

    def _find(self, name: str) -> Parameter | None:
        if name in self._parameters:
            return self._parameters[name]
        if self._shared is not None:
            found = self._shared._find(name)
            if found is not None:
                self._parameters[name] = found
                return found
        return None

    def get(self, name: str, **keywords: Any) -> Parameter:
        """The parameter ``prefix + name``: an existing or shared one, else a new ``Parameter(name, **keywords)``.

        Raises:
            OptionError: it exists with a shape or data type that contradicts the keywords.
        """
        name = self._prefix + name
        found = self._find(name)
        if found is None:
            found = self._parameters[name] = Parameter(name, **keywords)
            return found
        for key, value in keywords.items():
            if key == "shape" and value is not None:
                found.shape = (value,) if isinstance(value, int) else value
            elif key == "dtype" and torch_dtype(value) != found.tensor.dtype:
                raise OptionError(
                    f"Parameter {name!r}: expected data type {dtype_name(torch_dtype(value))}; the shared one has "
                    f"{found.dtype}."
                )
        return found

    def get_constant(self, name: str, value: Any = None) -> Constant:
        """The constant ``prefix + name``, made from ``value`` if there is none yet.

        Raises:
            OptionError: there is none and no value, or one with other values.
        """
        name = self._prefix + name
        found = self._find(name)
        if found is None:
            if value is None:
                raise OptionError(f"No constant {name!r} exists; give a value to make it.")
            found = self._parameters[name] = Constant(name, value)
        if not isinstance(found, Constant):
            raise OptionError(f"{name!r} is a parameter, not a constant.")
        if value is not None and not np.array_equal(np.asarray(value, dtype=found.value.dtype), found.value):
            raise OptionError(f"The constant {name!r} exists with other values.")
        return found

    def update(self, other: ParameterDict) -> None:
        """Adds all of ``other``.

        Raises:
            OptionError: both have different parameters of one name.
        """
        for name, parameter in other.items():
            if self._parameters.setdefault(name, parameter) is not parameter:
                raise OptionError(f"Two different parameters are both named {name!r}; give the blocks other prefixes.")

    def initialize(
        self,
        init: Any = None,
        ctx: Any = None,
        verbose: bool = False,
        force_reinit: bool = False,
        *,
        device: Any = None,
    ) -> None:
        """Initialises all parameters; their global names key the random streams here."""
        for parameter in self.values():
            parameter.initialize(None, ctx, init, force_reinit, device=device)

    def setattr(self, name: str, value: Any) -> None:
        """Sets an attribute (``grad_req``, ``lr_mult``, ...) of every parameter."""
        for parameter in self.values():
            setattr(parameter, name, value)

    def zero_grad(self) -> None:
        """Sets all gradients to zero."""
        for parameter in self.values():
            parameter.zero_grad()

    def reset_ctx(self, ctx: Any) -> None:
        """Moves all parameters to a device."""
        for parameter in self.values():
            parameter.reset_ctx(ctx)

    def list_ctx(self) -> list[str]:
        """All devices in use."""
        return sorted({device for parameter in self.values() for device in parameter.list_ctx()})

    def select(self, pattern: str) -> ParameterDict:
        """Those whose global name matches a regular expression from its start."""
        compiled = re.compile(pattern)
        selected = ParameterDict(self._prefix)
        selected._parameters = {name: one for name, one in self.items() if compiled.match(name)}
        return selected

    def items(self) -> Any:
        return self._parameters.items()

    def keys(self) -> Any:
        return self._parameters.keys()

    def values(self) -> Any:
        return self._parameters.values()

    def __getitem__(self, name: str) -> Parameter:
        return self._parameters[name]

    def __contains__(self, name: object) -> bool:
        return name in self._parameters

    def __iter__(self) -> Iterator[str]:
        return iter(self._parameters)

    def __len__(self) -> int:
        return len(self._parameters)

    def __repr__(self) -> str:
        lines = "".join(f"\n  {parameter!r}" for parameter in self.values())
        return f"{type(self).__name__} {self._prefix!r} ({lines}\n)"

"""One training step on PyTorch: channels_last, autocast, fused updates, compiled where that is measured to gain.

The model knows of none of it: weights of convolutions and batches of pictures are laid out channels_last (names, shapes
and checkpoints stay NCHW), the forward pass runs under autocast, and the modules are in training mode within the step
only, so that a network that is called between two steps predicts, as on MXNet.

Whether ``torch.compile`` gains depends on the model and the machine, and compiling takes from seconds to minutes. So on
GPUs it is tried once training has lasted long enough for the trial to be cheap by comparison, against the same number
of eager steps, and the faster way is kept. The trial begins at a step number that is a power of two, so that timing
noise hardly moves it, and its outcome is part of the state: a resumed run computes the same way as the run that it
continues. On CPUs the step stays eager: there the time goes into oneDNN's convolutions, which compiling leaves as they
are (measured on residual blocks: no gain for 40 seconds of compiling), and a choice by the clock could make two runs of
one seed differ in the last bits.
"""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import numpy as np
import torch

from glueball.backend.base import StepOptions, StepOutput, unmarked
from glueball.backend.optimizers import assign_grad_req, check_state, ema_decay, resolve
from glueball.backend.torch import autograd
from glueball.backend.torch.compat import compile_options
from glueball.backend.torch.optimizers import TorchOptimizer
from glueball.backend.torch.together import Together
from glueball.errors import TrainingError

if TYPE_CHECKING:
    from glueball.backend.base import ProcessGroup
    from glueball.backend.torch.backend import TorchBackend

_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchTrainingStep:
    """See ``glueball.backend.base.TrainingStep``."""

    def __init__(
        self,
        backend: TorchBackend,
        network: Any,
        graph: Any,
        options: StepOptions,
        device: str,
        group: ProcessGroup | None = None,
    ) -> None:
        self._backend = backend
        self._network = network
        self._graph = graph
        self._options = options
        self._device = backend.device(device)
        self.mark: Callable[[str], None] = unmarked
        self._parameters = backend.parameters(network)
        self._treatments = resolve(self._parameters, options.rules)
        for name, treatment in self._treatments.items():
            # torch adds to gradients of its own accord; this step decides when they are cleared.
            assign_grad_req(self._parameters[name], "write" if treatment.trainable else "null")
        graph.to(self._device)
        network.to(self._device)
        self._modules = [module for root in (graph, network) for module in root.modules()]
        self._optimizer: TorchOptimizer | None = None
        self._averages: dict[str, torch.Tensor] = {}
        self._channels_last = False
        self._updates = 0
        self._pending = 0
        self._is_updating = False
        self._scaler = LossScaler(options, self._device) if options.precision == "float16" else None
        self._together = None if group is None else Together(group, options)
        self._compilation = CompileChoice(
            self._run,
            options.compile and self._device.type != "cpu",
            self._device,
            None if self._together is None else self._together.agree,
        )

    def __call__(self, batch: Sequence[Any], learning_rate: float, weight: float = 1.0) -> StepOutput:
        if self._optimizer is None:
            self._prepare(batch)
        arrays = tuple(self._on_device(value) for value in batch)
        statistics = self.keep().buffers if self._together is None and weight == 0.0 else []
        if self._together is None:
            with self._training():
                loss, *outputs = self._compilation(arrays)
        else:
            with self._training(), self._together.forward(weight):
                loss, *outputs = self._compilation(arrays)
        self.mark("forward")
        scaled = loss if self._scaler is None else self._scaler.scaled(loss)
        if self._together is None:
            (scaled if weight == 1.0 else scaled * weight).backward()
        else:
            self._together.backward(scaled, weight, reduce=self._pending + 1 >= self._options.accumulate)
        _put_back(statistics)
        self.mark("backward")
        self._pending += 1
        norm, updated = None, self._pending >= self._options.accumulate
        if updated:
            norm = self._update(learning_rate)
        self.mark("optimizer")
        detached = tuple(output.detach() if isinstance(output, torch.Tensor) else output for output in outputs)
        return StepOutput(loss=loss.detach(), outputs=detached, updated=updated, gradient_norm=norm)

    def flush(self, learning_rate: float) -> bool:
        if self._pending == 0:
            return False
        if self._together is not None:
            self._together.reduce()
        self._update(learning_rate)
        return True

    def keep(self) -> _Kept:
        buffers = {id(buffer): buffer for module in self._modules for buffer in module._buffers.values()}
        gradients = None
        if self._pending and self._optimizer is not None:
            parameters = self._optimizer.parameters.values()
            gradients = [None if item.grad is None else item.grad.detach().clone() for item in parameters]
        return _Kept(
            random=self._backend.random_state(),
            buffers=[(buffer, buffer.detach().clone()) for buffer in buffers.values() if buffer is not None],
            gradients=gradients,
            pending=self._pending,
        )

    @torch.no_grad()
    def undo(self, kept: _Kept) -> bool:
        if self._is_updating:
            return False
        _put_back(kept.buffers)
        if self._optimizer is not None:
            parameters = list(self._optimizer.parameters.values())
            for parameter, gradient in zip(parameters, kept.gradients or [None] * len(parameters), strict=True):
                parameter.grad = gradient
        self._pending = kept.pending
        self._backend.set_random_state(kept.random)
        return True

    def skipped_updates(self) -> int:
        return 0 if self._scaler is None else self._scaler.skipped()

    @contextlib.contextmanager
    def ema_weights(self) -> Iterator[None]:
        if not self._averages:
            yield
            return
        tensors = {name: self._tensor(name) for name in self._averages}
        kept = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        with torch.no_grad():
            for name, tensor in tensors.items():
                tensor.copy_(self._averages[name])
        try:
            yield
        finally:
            with torch.no_grad():
                for name, tensor in tensors.items():
                    tensor.copy_(kept[name])

    def ema_parameters(self) -> dict[str, np.ndarray]:
        return {name: self._backend.numpy(average).copy() for name, average in self._averages.items()}

    def state_dict(self) -> dict[str, np.ndarray]:
        state = {
            "updates": np.array(self._update_count(), dtype=np.int64),
            "pending": np.array(self._pending, dtype=np.int64),
            "compiled": np.array(self._compilation.choice, dtype=np.int64),
        }
        if self._scaler is not None:
            state.update(self._scaler.state_dict())
        if self._optimizer is not None:
            for moment, tensors in self._optimizer.state.items():
                for name, tensor in tensors.items():
                    state[f"{moment}/{name}"] = self._backend.numpy(tensor).copy()
            if self._pending:
                if self._together is not None:
                    self._together.reduce()
                for name, parameter in self._optimizer.parameters.items():
                    if parameter.grad is not None:
                        state[f"gradient/{name}"] = self._backend.numpy(parameter.grad).copy()
                if self._together is not None:
                    self._together.spread(list(self._optimizer.parameters.values()))
        for name, average in self._averages.items():
            state[f"average/{name}"] = self._backend.numpy(average).copy()
        return state

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        expected: dict[str, tuple[int, ...]] = dict.fromkeys(("updates", "pending", "compiled"), ())
        if self._scaler is not None:
            expected.update(dict.fromkeys(self._scaler.state_dict(), ()))
        # A state that was taken before the first step has no moments and averages yet.
        begun = any("/" in name for name in state) or self._optimizer is not None
        if begun:
            self._prepare(None)
            assert self._optimizer is not None
            shapes = {name: tuple(tensor.shape) for name, tensor in self._optimizer.parameters.items()}
            expected.update({f"{kind}/{name}": shapes[name] for kind in self._optimizer.state for name in shapes})
            expected.update({f"average/{name}": tuple(value.shape) for name, value in self._averages.items()})
            # Only parameters that the graph uses have a gradient that waits.
            expected.update({f"gradient/{name}": shapes[name] for name in shapes if f"gradient/{name}" in state})
        check_state(expected, state)
        self._updates = int(state["updates"])
        self._pending = int(state["pending"])
        self._compilation.choice = int(state["compiled"])
        if self._scaler is not None:
            self._scaler.load_state_dict(state, self._updates)
        if not begun:
            return
        assert self._optimizer is not None
        with torch.no_grad():
            for moment, tensors in self._optimizer.state.items():
                for name, tensor in tensors.items():
                    tensor.copy_(torch.from_numpy(np.array(state[f"{moment}/{name}"])))
            for name, parameter in self._optimizer.parameters.items():
                parameter.grad = None
                if f"gradient/{name}" in state:
                    parameter.grad = torch.empty_like(parameter)
                    parameter.grad.copy_(torch.from_numpy(np.array(state[f"gradient/{name}"])))
            if self._together is not None and self._pending:
                self._together.spread(list(self._optimizer.parameters.values()))
            for name, average in self._averages.items():
                average.copy_(torch.from_numpy(np.array(state[f"average/{name}"])))
        self._optimizer.set_count(self._updates)

    def _tensor(self, name: str) -> torch.Tensor:
        tensor: torch.Tensor = self._parameters[name].data()
        return tensor

    def _on_device(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            value = self._backend.array(value, str(self._device))
        elif value.device != self._device:
            value = value.to(self._device, non_blocking=True)
        if self._channels_last and value.ndim == 4 and value.is_floating_point():
            value = value.contiguous(memory_format=torch.channels_last)
        return value

    @contextlib.contextmanager
    def _training(self) -> Iterator[None]:
        """Training mode for every module, Gluon's and torch's own, and what it was before on the way out."""
        modes = [module.training for module in self._modules]
        for module in self._modules:
            # Past nn.Module.__setattr__, which would take longer than a small model's forward pass.
            module.__dict__["training"] = True
        try:
            with autograd.record():
                yield
        finally:
            for module, mode in zip(self._modules, modes, strict=True):
                module.__dict__["training"] = mode

    def _run(self, *batch: Any) -> tuple[Any, ...]:
        dtype = _DTYPES.get(self._options.precision)
        with torch.autocast(self._device.type, dtype=dtype, enabled=dtype is not None):
            result = self._graph(*batch)
        loss, *outputs = result if isinstance(result, (list, tuple)) else (result,)
        # The mean of a long vector of losses must not be taken in 16 bits.
        return (loss.float().mean(), *outputs)

    def _prepare(self, batch: Sequence[Any] | None) -> None:
        """Settles deferred shapes and the memory layout, then makes the optimiser and the averages."""
        if self._optimizer is not None:
            return
        if batch is not None and any(not parameter.is_initialized for parameter in self._parameters.values()):
            # In inference mode, so that the running statistics see this batch once only.
            with torch.no_grad(), autograd.predict_mode():
                self._graph(*(self._on_device(value) for value in batch))
        unknown = [name for name, parameter in self._parameters.items() if not parameter.is_initialized]
        if unknown:
            raise TrainingError(
                f"{len(unknown)} parameters have no values yet ({', '.join(unknown[:3])}, ...): initialise the "
                "network, or load its weights, before its training state."
            )
        self._modules = [module for root in (self._graph, self._network) for module in root.modules()]
        trainable = {}
        for name, treatment in self._treatments.items():
            tensor = self._tensor(name)
            if tensor.ndim == 4:
                self._channels_last = True
                tensor.data = tensor.data.contiguous(memory_format=torch.channels_last)
            if treatment.trainable:
                tensor.grad = None
                trainable[name] = tensor
        if self._together is not None:
            tensors = {name: self._tensor(name) for name in self._treatments}
            self._together.prepare(tensors, list(trainable.values()), self._modules)
        self._optimizer = TorchOptimizer(self._options.optimizer, trainable, self._treatments)
        if self._options.ema_decay is not None:
            for name in self._treatments:
                tensor = self._tensor(name)
                if tensor.is_floating_point():
                    self._averages[name] = tensor.detach().clone(memory_format=torch.preserve_format)

    @torch.no_grad()
    def _update(self, learning_rate: float) -> Any:
        assert self._optimizer is not None
        self._is_updating = True
        parameters = [tensor for tensor in self._optimizer.parameters.values() if tensor.grad is not None]
        gradients = [tensor.grad for tensor in parameters if tensor.grad is not None]
        count, self._pending = self._pending, 0
        norm, found_inf = None, None
        factor: Any = 1.0 / count
        if gradients and (self._options.clip_norm is not None or self._scaler is not None):
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
            if self._scaler is not None:
                factor = factor / self._scaler.scale
                found_inf = self._scaler.found_inf(norm)
            norm = norm * factor
            if self._options.clip_norm is not None:
                factor = factor * torch.clamp(self._options.clip_norm / torch.clamp(norm, min=1e-30), max=1.0)
        if isinstance(factor, torch.Tensor) or factor != 1.0:
            torch._foreach_mul_(gradients, factor)
        skip = False
        if self._scaler is not None and found_inf is not None:
            self._scaler.update(found_inf)
            if not self._optimizer.skips_on_device:
                # These update with plain tensor operations, which only the host can leave out.
                skip = bool(found_inf.item())
        if not skip:
            if found_inf is None or not self._optimizer.skips_on_device:
                self._updates += 1
            self._optimizer.update(learning_rate, self._updates, found_inf if self._optimizer.skips_on_device else None)
            self._average(None if skip else found_inf)
        for tensor in parameters:
            tensor.grad = None
        self._is_updating = False
        return norm if self._options.clip_norm is not None else None

    def _average(self, found_inf: torch.Tensor | None) -> None:
        if not self._averages:
            return
        assert self._options.ema_decay is not None
        averages = list(self._averages.values())
        weights = [self._tensor(name) for name in self._averages]
        if found_inf is None or self._scaler is None:
            torch._foreach_lerp_(averages, weights, 1.0 - ema_decay(self._options.ema_decay, self._updates))
            return
        # The host does not know whether this update was skipped: number and weight are computed on the device.
        number = self._scaler.updates
        decay = torch.clamp((1.0 + number) / (10.0 + number), max=self._options.ema_decay)
        differences = torch._foreach_sub(weights, averages)
        torch._foreach_mul_(differences, (1.0 - decay) * (1.0 - found_inf))
        torch._foreach_add_(averages, differences)

    def _update_count(self) -> int:
        return self._updates if self._scaler is None else int(self._scaler.updates.item())


@attrs.frozen
class _Kept:
    """What ``TorchTrainingStep.keep`` gives."""

    random: dict[str, np.ndarray]
    buffers: list[tuple[torch.Tensor, torch.Tensor]]
    gradients: list[torch.Tensor | None] | None
    """None where no gradients wait."""
    pending: int


@torch.no_grad()
def _put_back(buffers: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> None:
    for buffer, values in buffers:
        buffer.copy_(values)


class LossScaler:
    """A loss scale that lives on the device, halved by an overflow and doubled after many updates without one."""

    def __init__(self, options: StepOptions, device: torch.device) -> None:
        self._interval = options.loss_scale_growth_interval
        self.scale = torch.full((), options.initial_loss_scale, dtype=torch.float32, device=device)
        self._growth = torch.zeros((), dtype=torch.float32, device=device)
        self._skipped = torch.zeros((), dtype=torch.float32, device=device)
        self.updates = torch.zeros((), dtype=torch.float32, device=device)
        """Updates that were not skipped."""

    def scaled(self, loss: torch.Tensor) -> torch.Tensor:
        return loss * self.scale

    def found_inf(self, norm: torch.Tensor) -> torch.Tensor:
        """1 where a gradient is not finite, which makes the norm of all of them not finite."""
        return (~torch.isfinite(norm)).float()

    def update(self, found_inf: torch.Tensor) -> None:
        self._skipped += found_inf
        self.updates += 1.0 - found_inf
        self._growth = (self._growth + 1.0) * (1.0 - found_inf)
        grown = (self._growth >= self._interval).float()
        self._growth = self._growth * (1.0 - grown)
        self.scale = torch.clamp(self.scale * (1.0 + grown) * (1.0 - 0.5 * found_inf), min=1.0)

    def skipped(self) -> int:
        return int(self._skipped.item())

    def state_dict(self) -> dict[str, np.ndarray]:
        return {
            "loss_scale": np.array(self.scale.item(), dtype=np.float64),
            "loss_scale_growth": np.array(self._growth.item(), dtype=np.int64),
            "skipped": np.array(self._skipped.item(), dtype=np.int64),
        }

    def load_state_dict(self, state: Mapping[str, np.ndarray], updates: int) -> None:
        self.scale.fill_(float(state["loss_scale"]))
        self._growth.fill_(float(state["loss_scale_growth"]))
        self._skipped.fill_(float(state["skipped"]))
        self.updates.fill_(float(updates))


class CompileChoice:
    """Runs a function eagerly until a trial has shown that its compiled form is faster on this model and machine."""

    UNDECIDED, EAGER, COMPILED = -1, 0, 1
    # What rank 0 tells the others to do; the last one plus a choice ends the trial.
    UNMEASURED, MEASURED_EAGER, MEASURED_COMPILED, SETTLED = 0, 1, 2, 10

    # Seconds of training before the trial: a run that ends sooner could not win back what compiling costs.
    PATIENCE = 5.0
    FIRST_TRIAL = 64
    MEASURED = 5
    # The first compiled calls compile the forward and the backward pass and warm up.
    WARMUP = 3
    # A gain below this is not worth a second way to round.
    NEEDED_GAIN = 1.05

    def __init__(
        self,
        function: Callable[..., Any],
        enabled: bool,
        device: torch.device,
        agree: Callable[[int, bool], int] | None = None,
    ) -> None:
        self._function = function
        self._device = device
        # With other processes the clock of the first one decides for all: agree(code of rank 0, whether I failed).
        self._agree = agree
        self._failed = False
        self._compiled: Callable[..., Any] | None = None
        self._shapes: Any = None
        self._calls = 0
        self._begin: float | None = None
        self._trial: list[tuple[str, float]] | None = None
        self._previous: tuple[str, float] | None = None
        self.choice = self.UNDECIDED if enabled else self.EAGER

    def __call__(self, batch: tuple[Any, ...]) -> Any:
        if self.choice == self.EAGER:
            return self._function(*batch)
        shapes = tuple((tuple(value.shape), value.dtype) for value in batch)
        if self.choice == self.COMPILED:
            # Another shape (a last, smaller batch) would compile anew, for minutes: eager it is.
            self._shapes = self._shapes or shapes
            return self._run_compiled(batch) if shapes == self._shapes else self._function(*batch)
        self._calls += 1
        if self._begin is None:
            self._begin = time.perf_counter()
        if self._trial is None:
            due = self._calls >= self.FIRST_TRIAL and self._calls & (self._calls - 1) == 0
            if not due or not self._same(time.perf_counter() - self._begin >= self.PATIENCE):
                return self._function(*batch)
            self._trial, self._shapes = [], shapes
        if self._agree is not None:
            return self._try_together(batch, shapes == self._shapes, self._agree)
        if shapes != self._shapes:
            self._previous = None
            return self._function(*batch)
        return self._try(batch)

    def _same(self, own: bool) -> bool:
        return own if self._agree is None else self._agree(int(own), False) == 1

    def _try_together(self, batch: tuple[Any, ...], has_shape: bool, agree: Callable[[int, bool], int]) -> Any:
        """One step of the trial in every process: what rank 0 measures and decides, all do."""
        code = agree(self._next_of_trial() if has_shape else self.UNMEASURED, self._failed)
        if code < 0 or code == self.SETTLED + self.EAGER:
            self.choice = self.EAGER
        elif code == self.SETTLED + self.COMPILED:
            self.choice = self.COMPILED
        wanted = code == self.SETTLED + self.COMPILED or code == self.MEASURED_COMPILED
        if not has_shape or code == self.UNMEASURED:
            self._previous = None
        elif self.choice == self.UNDECIDED:
            self._previous = ("compiled" if wanted else "eager", time.perf_counter())
        return self._run_compiled(batch) if wanted and has_shape else self._function(*batch)

    def _next_of_trial(self) -> int:
        assert self._trial is not None
        self._note_time()
        eager = [seconds for kind, seconds in self._trial if kind == "eager"]
        compiled = [seconds for kind, seconds in self._trial if kind == "compiled"]
        if len(compiled) >= self.WARMUP + self.MEASURED:
            return self.SETTLED + self._verdict(eager, compiled)
        return self.MEASURED_EAGER if len(eager) < self.MEASURED else self.MEASURED_COMPILED

    def _note_time(self) -> None:
        assert self._trial is not None
        self._synchronize()
        now = time.perf_counter()
        if self._previous is not None:
            self._trial.append((self._previous[0], now - self._previous[1]))

    def _verdict(self, eager: list[float], compiled: list[float]) -> int:
        faster = min(compiled[self.WARMUP :]) * self.NEEDED_GAIN < min(eager)
        return self.COMPILED if faster else self.EAGER

    def _try(self, batch: tuple[Any, ...]) -> Any:
        """One step of the trial: from the start of one call to that of the next is a whole step with its backward."""
        code = self._next_of_trial()
        if code >= self.SETTLED:
            self.choice = code - self.SETTLED
            return self._run_compiled(batch) if self.choice == self.COMPILED else self._function(*batch)
        kind = "eager" if code == self.MEASURED_EAGER else "compiled"
        self._previous = (kind, time.perf_counter())
        return self._function(*batch) if kind == "eager" else self._run_compiled(batch)

    def _run_compiled(self, batch: tuple[Any, ...]) -> Any:
        try:
            if self._compiled is None:
                self._compiled = torch.compile(self._function, dynamic=False, **compile_options())
            return self._compiled(*batch)
        except Exception as error:
            if isinstance(error, torch.cuda.OutOfMemoryError):
                raise  # eagerly it would take more
            # What fails eagerly too is no matter of compiling, and its own error is the clearer one.
            result = self._function(*batch)
            self._failed = True
            if self._agree is None:
                self.choice = self.EAGER
            first_line = str(error).strip().splitlines()[:1] or [""]
            warnings.warn(
                f"The training step runs without torch.compile: {type(error).__name__}: {first_line[0]}",
                RuntimeWarning,
                stacklevel=5,
            )
            return result

    def _synchronize(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)

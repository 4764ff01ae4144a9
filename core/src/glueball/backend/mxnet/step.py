"""One training step on MXNet: network, loss and mean in one hybridized graph, fused updates, nothing read back.

The graph is compiled once for each shape of a batch (``static_alloc``, ``static_shape``), so that a smaller last batch
has a plan of its own and does not throw away that of the full ones. The loss, the gradient norm and every output stay
on the device; only float16 reads one flag per update, since MXNet's kernels cannot skip an update by themselves.

One thing to know of MXNet 1.9.1: a graph with static shapes updates BatchNorm's running statistics in its backward pass
without declaring that to the engine. Whoever reads them must wait for the gradients, which are declared.
"""

from __future__ import annotations

import contextlib
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import attrs
import mxnet as mx
import numpy as np
from mxnet import gluon

from glueball.backend.base import StepOptions, StepOutput, unmarked
from glueball.backend.mxnet import device as devices_module
from glueball.backend.mxnet.graphs import last_line
from glueball.backend.mxnet.optimizers import MXNetOptimizer, average_into
from glueball.backend.mxnet.others import Others
from glueball.backend.mxnet.precision import converted
from glueball.backend.optimizers import assign_grad_req, check_state, ema_decay, resolve
from glueball.errors import BackendError, TrainingError

if TYPE_CHECKING:
    from glueball.backend.mxnet.backend import MXNetBackend
    from glueball.backend.mxnet.processes import MXNetProcessGroup

# Shapes of batches that get a static plan of their own; batches of further shapes (padded text) share a dynamic one.
_STATIC_PLANS = 4

# One error can show once for each array that depends on it.
_MAX_ERRORS = 1000

_RANDOM_OPERATORS = ("random_", "sample_", "shuffle")


class _MeanLoss(gluon.HybridBlock):
    """(mean loss, outputs) of a graph: what is compiled as one."""

    def __init__(self, graph: Any) -> None:
        super().__init__(prefix="", params=None)
        self.graph = graph

    def hybrid_forward(self, F: Any, *batch: Any) -> Any:
        result = self.graph(*batch)
        loss, *outputs = result if isinstance(result, (list, tuple)) else [result]
        return [F.mean(loss), *outputs]


class MXNetTrainingStep:
    """See ``glueball.backend.base.TrainingStep``."""

    def __init__(
        self,
        backend: MXNetBackend,
        network: Any,
        graph: Any,
        options: StepOptions,
        device: str,
        group: MXNetProcessGroup | None = None,
    ) -> None:
        self._backend = backend
        self._network = network
        self._graph = graph
        self._options = options
        self._context = devices_module.context(device)
        self.mark: Callable[[str], None] = unmarked
        if options.precision != "float32":
            reason = backend.supports_precision(options.precision, device)
            if reason is not None:
                raise BackendError(f"Cannot train in {options.precision} on {device}: {reason}. Use float32.")
            if not isinstance(graph, gluon.HybridBlock):
                raise self._no_such_precision("it is no HybridBlock, so that no casts can be put into its graph")
        self._parameters = backend.parameters(network)
        self._treatments = resolve(self._parameters, options.rules)
        for name, treatment in self._treatments.items():
            grad_req = ("add" if options.accumulate > 1 else "write") if treatment.trainable else "null"
            assign_grad_req(self._parameters[name], grad_req)
        backend.to_device(graph, device)
        backend.to_device(network, device)
        self._runners: dict[Any, Any] = {}
        self._compile = options.compile and isinstance(graph, gluon.HybridBlock)
        # Whether the batch at hand is the first one of a graph in lower precision, whose kernels may be missing.
        self._is_tried = False
        self._draws_random: bool | None = None
        self._optimizer: MXNetOptimizer | None = None
        self._active: list[int] | None = None
        self._averages: dict[str, Any] = {}
        self._updates = 0
        self._pending = 0
        self._is_updating = False
        self._skipped = 0
        self._scaling = options.precision == "float16"
        self._loss_scale = float(options.initial_loss_scale)
        self._growth = 0
        self._others = None if group is None else Others(group, backend, network, graph, options)

    def __call__(self, batch: Sequence[Any], learning_rate: float, weight: float = 1.0) -> StepOutput:
        arrays = [self._on_device(value) for value in batch]
        if self._draws_random is not False:
            self._backend.next_random_stream()
        if self._others is not None:
            self._others.begin(weight, self._context)
        statistics = self.keep().statistics if self._others is None and weight == 0.0 else {}
        with mx.autograd.record():
            loss, *outputs = self._forward(arrays)
        self._prepare()
        self.mark("forward")
        scale = weight * (self._loss_scale if self._scaling else 1.0)
        if scale != 1.0:
            loss.backward(mx.nd.full(loss.shape, scale, ctx=self._context))
        else:
            loss.backward()
        if self._is_tried:
            self._finish_trial()
        if self._options.recoverable:
            mx.nd.waitall()  # before the update: an error of the passes must not be found in the weights later
        if self._others is not None:
            self._others.end(weight)
        self._put_back(statistics)
        self.mark("backward")
        self._pending += 1
        norm, updated = None, self._pending >= self._options.accumulate
        if updated:
            norm = self._update(learning_rate)
        self.mark("optimizer")
        return StepOutput(loss=loss.detach(), outputs=tuple(outputs), updated=updated, gradient_norm=norm)

    def flush(self, learning_rate: float) -> bool:
        if self._pending == 0:
            return False
        self._update(learning_rate)
        return True

    def keep(self) -> _Kept:
        # Also for the running statistics, as in MXNetBackend.get_arrays.
        mx.nd.waitall()
        statistics = {
            name: parameter.data(self._context).copy()
            for name, parameter in self._parameters.items()
            if not parameter._differentiable and parameter._data is not None
        }
        waiting = self._pending and self._optimizer is not None
        kept = _Kept(
            random=self._backend.random_state(),
            statistics=statistics,
            gradients=[gradient.copy() for gradient in self._gradients] if waiting else None,
            pending=self._pending,
        )
        mx.nd.waitall()
        return kept

    def undo(self, kept: _Kept) -> bool:
        _settle()
        if self._is_updating:
            return False
        self._put_back(kept.statistics)
        if self._optimizer is not None:
            if kept.gradients is None:
                self._reset_gradients()
            else:
                for gradient, values in zip(self._gradients, kept.gradients, strict=True):
                    gradient[:] = values
            if self._active is None and kept.gradients is None:
                # A backward pass that was cut short has marked some of the weights that the graph uses, not all.
                for weight in self._weights:
                    weight._fresh_grad = False
        self._pending = kept.pending
        self._backend.set_random_state(kept.random)
        mx.nd.waitall()
        return True

    def _put_back(self, statistics: Mapping[str, Any]) -> None:
        if statistics:
            mx.nd.waitall()  # a compiled graph writes them in its backward pass without telling the engine
        for name, values in statistics.items():
            self._parameters[name].set_data(values)

    def skipped_updates(self) -> int:
        return self._skipped

    @contextlib.contextmanager
    def ema_weights(self) -> Iterator[None]:
        if not self._averages:
            yield
            return
        mx.nd.waitall()  # for the running statistics, as in MXNetBackend.get_arrays
        kept = {name: self._parameters[name].data(self._context).copy() for name in self._averages}
        for name, average in self._averages.items():
            self._parameters[name].set_data(average)
        try:
            yield
        finally:
            for name, values in kept.items():
                self._parameters[name].set_data(values)

    def ema_parameters(self) -> dict[str, np.ndarray]:
        return {name: average.asnumpy() for name, average in self._averages.items()}

    def state_dict(self) -> dict[str, np.ndarray]:
        state = {
            "updates": np.array(self._updates, dtype=np.int64),
            "pending": np.array(self._pending, dtype=np.int64),
            "skipped": np.array(self._skipped, dtype=np.int64),
            "loss_scale": np.array(self._loss_scale, dtype=np.float64),
            "loss_scale_growth": np.array(self._growth, dtype=np.int64),
        }
        if self._others is not None and self._pending:
            self._others.share_waiting(self._gradients)
        if self._optimizer is not None:
            state["momentum_scale"] = np.array(self._optimizer.momentum_scale, dtype=np.float64)
            state["active"] = np.zeros(len(self._weights), dtype=np.uint8)
            state["active"][self._find_active()] = 1
            for moment, flat in self._optimizer.state.items():
                for name, view in zip(self._optimizer.names, flat.views, strict=True):
                    state[f"{moment}/{name}"] = view.asnumpy()
            if self._pending:
                for name, gradient in zip(self._optimizer.names, self._gradients, strict=True):
                    state[f"gradient/{name}"] = gradient.asnumpy()
        for name, average in self._averages.items():
            state[f"average/{name}"] = average.asnumpy()
        return state

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        expected: dict[str, tuple[int, ...]] = dict.fromkeys(
            ("updates", "pending", "skipped", "loss_scale", "loss_scale_growth"), ()
        )
        # A state that was taken before the first step has no moments yet.
        begun = "momentum_scale" in state
        if begun:
            self._prepare()
            assert self._optimizer is not None
            expected["momentum_scale"] = ()
            expected["active"] = (len(self._weights),)
            shapes = {name: tuple(self._parameters[name].shape) for name in self._optimizer.names}
            kinds = [*self._optimizer.state, *(["gradient"] if int(state.get("pending", 0)) else [])]
            expected.update({f"{kind}/{name}": shapes[name] for kind in kinds for name in shapes})
            expected.update({f"average/{name}": tuple(value.shape) for name, value in self._averages.items()})
        check_state(expected, state)
        self._updates = int(state["updates"])
        self._pending = int(state["pending"])
        self._skipped = int(state["skipped"])
        self._loss_scale = float(state["loss_scale"])
        self._growth = int(state["loss_scale_growth"])
        if not begun:
            return
        assert self._optimizer is not None
        self._optimizer.momentum_scale = float(state["momentum_scale"])
        active = [int(index) for index in np.flatnonzero(state["active"])]
        self._active = active or None
        for moment, flat in self._optimizer.state.items():
            for name, view in zip(self._optimizer.names, flat.views, strict=True):
                view[:] = mx.nd.array(state[f"{moment}/{name}"], ctx=self._context)
        for name, gradient in zip(self._optimizer.names, self._gradients, strict=True):
            if self._pending:
                gradient[:] = mx.nd.array(state[f"gradient/{name}"], ctx=self._context)
        for name, average in self._averages.items():
            average[:] = mx.nd.array(state[f"average/{name}"], ctx=self._context)

    def _on_device(self, value: Any) -> Any:
        if isinstance(value, np.ndarray):
            return self._backend.array(value, self._context)
        return value if value.ctx == self._context else value.as_in_context(self._context)

    def _forward(self, batch: list[Any]) -> list[Any]:
        lowered = self._options.precision != "float32"
        # What the graph takes besides the batch, where batch normalisation is over all processes.
        further = [] if self._others is None else self._others.further_inputs()
        if not (self._compile or lowered or further):
            return self._eager(batch)
        key: Any = tuple((value.shape, str(value.dtype)) for value in batch)
        if key not in self._runners and len(self._runners) >= _STATIC_PLANS:
            key = None
        runner = self._runners.get(key)
        if runner is not None:
            return runner(*batch, *further)
        first = not self._runners
        try:
            runner = self._compiled(batch, static_shape=key is not None)
            result = runner(*batch, *further)
        except Exception as error:
            if not (first or lowered) or further or self._backend.is_out_of_memory(error):
                raise
            # What fails eagerly too is no matter of compiling, and its own error is the clearer one.
            result = self._eager(batch)
            if lowered:
                raise self._no_such_precision(last_line(error)) from error
            self._compile = False
            warnings.warn(
                f"The training step runs without compilation: {type(error).__name__}: {error}",
                RuntimeWarning,
                stacklevel=4,
            )
            return result
        self._runners[key] = runner
        self._is_tried = lowered
        if self._draws_random is None and getattr(runner, "_cached_graph", None):
            self._draws_random = _draws_random(runner._cached_graph[1])
            if not self._draws_random:
                # A resumed run, whose first step finds this out again, must not count one stream more.
                self._backend.return_random_stream()
        return result

    def _eager(self, batch: list[Any]) -> list[Any]:
        result = self._graph(*batch)
        loss, *outputs = result if isinstance(result, (list, tuple)) else [result]
        return [loss.mean(), *outputs]

    def _compiled(self, batch: list[Any], static_shape: bool) -> Any:
        runner: Any = _MeanLoss(self._graph)
        if self._others is not None and self._others.synchronizes:
            runner = self._others.synchronized(runner, batch)
        elif self._options.precision != "float32":
            # Casts stand around the operators that gain; the weights stay float32 and are cast in the graph.
            runner = converted(runner, batch, self._options.precision, self._graph.collect_params())
        runner.hybridize(static_alloc=self._compile, static_shape=self._compile and static_shape)
        return runner

    def _finish_trial(self) -> None:
        """Waits for the first batch of a graph in lower precision: what has no kernel fails here, not some time on."""
        self._is_tried = False
        try:
            mx.nd.waitall()
        except mx.MXNetError as error:
            if self._backend.is_out_of_memory(error):
                raise
            raise self._no_such_precision(last_line(error)) from error

    def _no_such_precision(self, reason: str) -> BackendError:
        return BackendError(
            f"The network cannot be trained in {self._options.precision} on MXNet: {reason}. "
            "Use float32 (--set precision=float32)."
        )

    def _prepare(self) -> None:
        """Makes the optimiser and the averages, once the first forward pass has settled all shapes."""
        if self._optimizer is not None:
            return
        names = [name for name, treatment in self._treatments.items() if treatment.trainable]
        unknown = [name for name in names if self._parameters[name]._data is None]
        if unknown:
            raise TrainingError(
                f"{len(unknown)} parameters have no values yet ({', '.join(unknown[:3])}, ...): initialise the "
                "network, or load its weights, before its training state."
            )
        self._weights = [self._parameters[name].data(self._context) for name in names]
        for weight in self._weights:
            weight._fresh_grad = False
        self._gradients = [self._parameters[name].grad(self._context) for name in names]
        self._reset_gradients()
        # What the optimiser takes: this process's gradients, or their sums over all processes.
        self._totals = self._gradients if self._others is None else self._others.totals(self._weights)
        self._optimizer = MXNetOptimizer(self._options.optimizer, names, self._weights, self._totals, self._treatments)
        if self._options.ema_decay is not None:
            for name in self._treatments:
                values = self._parameters[name].data(self._context)
                if values.dtype == np.float32:
                    self._averages[name] = values.copy()

    def _update(self, learning_rate: float) -> Any:
        assert self._optimizer is not None
        self._is_updating = True
        norm = self._update_weights(learning_rate)
        if self._options.recoverable:
            mx.nd.waitall()
        self._is_updating = False
        return norm

    def _update_weights(self, learning_rate: float) -> Any:
        assert self._optimizer is not None
        self._active = self._find_active()
        gradients = [self._totals[index] for index in self._active]
        factor = 1.0 / self._pending
        if self._others is not None:
            self._others.reduce(self._gradients, self._pending)
            factor /= self._others.size
        self._pending = 0
        if self._scaling:
            factor /= self._loss_scale
            if not self._gradients_are_finite(gradients):
                self._skipped += 1
                self._growth = 0
                self._loss_scale = max(self._loss_scale / 2.0, 1.0)
                self._reset_gradients()
                return None
            self._growth += 1
            if self._growth >= self._options.loss_scale_growth_interval:
                self._growth = 0
                self._loss_scale *= 2.0
        norm = None
        if self._options.clip_norm is not None and gradients:
            norm = mx.nd.sqrt(mx.nd.sum(mx.nd.multi_sum_sq(*gradients, num_arrays=len(gradients)))) * factor
            coefficient = mx.nd.minimum(self._options.clip_norm / mx.nd.maximum(norm, 1e-30), 1.0)
            for gradient in gradients:
                mx.nd.broadcast_mul(gradient, coefficient.reshape((1,) * gradient.ndim), out=gradient)
        self._updates += 1
        self._optimizer.update(self._active, learning_rate, factor, self._updates)
        if self._options.accumulate > 1:
            self._reset_gradients()
        if self._averages and gradients:
            assert self._options.ema_decay is not None
            decay = ema_decay(self._options.ema_decay, self._updates)
            weights = [self._parameters[name].data(self._context) for name in self._averages]
            # A number that takes all gradients to compute, for kernels that must not begin before they are there.
            token = mx.nd.multi_sum_sq(*gradients, num_arrays=len(gradients))
            average_into(list(self._averages.values()), weights, decay, token)
        return norm

    def _find_active(self) -> list[int]:
        """The weights that the graph uses: the others keep a stale gradient, and MXNet marks those that it wrote."""
        if self._active:
            return self._active
        return [index for index, weight in enumerate(self._weights) if weight._fresh_grad]

    def _gradients_are_finite(self, gradients: list[Any]) -> bool:
        return bool(mx.nd.multi_all_finite(*gradients, num_arrays=len(gradients)).asscalar())

    def _reset_gradients(self) -> None:
        if self._gradients:
            mx.nd.reset_arrays(*self._gradients, num_arrays=len(self._gradients))


@attrs.frozen
class _Kept:
    """What ``MXNetTrainingStep.keep`` gives."""

    random: dict[str, np.ndarray]
    statistics: dict[str, Any]
    gradients: list[Any] | None
    """None where no gradients wait."""
    pending: int


def _settle() -> None:
    """Waits until MXNet has handed out every error that it found while it worked."""
    for _ in range(_MAX_ERRORS):
        try:
            mx.nd.waitall()
        except mx.MXNetError:
            continue
        return


def _draws_random(symbol: Any) -> bool:
    """Whether a graph draws random numbers; one that does not needs no stream, and seeding MXNet is not free."""
    for node in json.loads(symbol.tojson())["nodes"]:
        operator, attributes = node["op"], node.get("attrs", {})
        if operator == "Dropout" and float(attributes.get("p", 0.5)) > 0:
            return True
        if operator == "RNN" and float(attributes.get("p", 0)) > 0:
            return True
        if operator == "LeakyReLU" and attributes.get("act_type") == "rrelu":
            return True
        if any(word in operator for word in _RANDOM_OPERATORS):
            return True
    return False

"""The contract that every backend fulfils.

The engine, the weights and the command line see a backend through this protocol alone, so that no code outside
``backend/`` asks which library runs. What models are written in (layers, functions, losses) is listed in
``glueball.backend.dialect``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, Protocol

import attrs
import numpy as np

Array = Any
"""An array of the backend: ``mxnet.nd.NDArray`` or ``torch.Tensor``."""

PRECISIONS = ("float32", "bfloat16", "float16")
OPTIMIZERS = ("sgd", "nag", "adam", "adamw", "rmsprop", "lamb", "lars")
LAUNCH_KINDS = ("torchrun", "horovod", "slurm", "dmlc")
ROLES = ("worker", "server", "scheduler")


@attrs.frozen(kw_only=True)
class OptimizerSpec:
    """What turns gradients into updates. ``glueball.backend.optimizers`` states each update as a formula.

    The learning rate is no part of it: the engine's schedule gives it at every step.
    """

    name: str = attrs.field(default="sgd", validator=attrs.validators.in_(OPTIMIZERS))
    momentum: float = 0.9
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    rho: float = 0.9
    weight_decay: float = 0.0
    trust_coefficient: float = 0.001


@attrs.frozen(kw_only=True)
class ParameterRule:
    """How the parameters whose structural name matches ``pattern`` (a regular expression, searched) are trained.

    Rules are applied in order; multipliers of several matching rules multiply, ``trainable=False`` freezes.
    """

    pattern: str
    lr_mult: float = 1.0
    wd_mult: float = 1.0
    trainable: bool = True


@attrs.frozen(kw_only=True)
class StepOptions:
    """Everything that decides what one training step does to the weights."""

    optimizer: OptimizerSpec = attrs.field(factory=OptimizerSpec)
    rules: tuple[ParameterRule, ...] = ()
    precision: str = attrs.field(default="float32", validator=attrs.validators.in_(PRECISIONS))
    accumulate: int = attrs.field(default=1, validator=attrs.validators.ge(1))
    clip_norm: float | None = None
    """Largest global L2 norm of all gradients together; larger ones are scaled down (arXiv:1211.5063)."""
    ema_decay: float | None = None
    """Decay of the exponential moving average of the weights; None keeps none. Warm-up: min(decay, (1+t)/(10+t))."""
    initial_loss_scale: float = 2.0**16
    loss_scale_growth_interval: int = 2000
    compile: bool = True
    """Compile the whole step (mxnet: hybridize; torch: torch.compile where it gains). False runs eagerly."""
    recoverable: bool = False
    """Show every failure in the call that causes it, so that ``undo`` can take it back. MXNet then waits for the device
    in each call; PyTorch's allocator fails at once anyway."""
    sync_batch_norm: bool = True
    """With several processes: batch normalisation takes its statistics over the samples of all of them, as one process
    with the whole batch would. False: over a process's own samples, and the running statistics are averaged."""


@attrs.frozen(kw_only=True)
class StepOutput:
    """What one call of a training step gives back; everything stays on the device until it is read."""

    loss: Array
    """The mean loss of this micro-batch, a scalar array, not scaled by the loss scale."""
    outputs: tuple[Array, ...]
    """What the graph returned after its loss."""
    updated: bool
    """Whether this call completed an accumulation and updated the weights (also True when an overflow skipped it)."""
    gradient_norm: Array | None
    """Global L2 norm before clipping, when ``clip_norm`` is set and this call updated."""


def unmarked(part: str) -> None:
    """What a training step calls at the end of each part while nobody measures it."""


@attrs.frozen(kw_only=True)
class Launch:
    """What the environment says about this process and the others."""

    kind: str = attrs.field(validator=attrs.validators.in_(LAUNCH_KINDS))
    """Whose variables they are: "torchrun", "horovod", "slurm" or "dmlc"."""
    rank: int | None
    """The number of this process among all, from 0. None where only the others can tell (dmlc), and for helpers."""
    size: int
    """How many processes train."""
    local_rank: int
    """The number of this process among those on this machine."""
    local_size: int | None = None
    """How many there are on this machine; None where that is not said."""
    address: str | None = None
    """The host that the others meet at, and its port."""
    port: int | None = None
    role: str = attrs.field(default="worker", validator=attrs.validators.in_(ROLES))
    """What this process is for: "worker" trains; "server" and "scheduler" are of MXNet's parameter server."""


class ProcessGroup(Protocol):
    """The processes of one training run, as the engine sees them: small messages, always of the same kind on all ranks.

    Gradients do not go through here: the training step reduces them by the library's own means. Every method is called
    by all ranks, in the same order. Where another rank is gone, each raises ``LostProcessError``.
    """

    rank: int
    size: int
    local_rank: int
    """The number of this process among those on this machine: which GPU is its own."""
    kind: str
    """What carries the gradients: "gloo", "nccl", "horovod" or "kvstore"."""

    def all_reduce(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """The sums over all ranks, the same on each to the last bit; float64, float32 and int64 stay what they are."""

    def broadcast(self, data: bytes | None, root: int = 0) -> bytes:
        """The bytes of rank ``root``; what the others give is not looked at."""

    def gather(self, data: bytes) -> list[bytes]:
        """The bytes of all ranks, in their order, on every rank. They may differ in length."""

    def barrier(self) -> None:
        """Waits until all ranks are here."""

    def fail(self, message: str) -> None:
        """Tells the others, as far as that can be done, that this rank ends with an error. Not collective."""

    def close(self) -> None:
        """Takes leave; the group cannot be used afterwards. A second call does nothing."""


class TrainingStep(Protocol):
    """Forward, backward and update of one network on one device.

    ``graph(*batch)`` must return ``(loss, *outputs)``; a loss vector is averaged over the batch. With ``accumulate=n``
    every n-th call updates with the mean gradient of the n calls.

    With a process group all ranks make the same calls, each with its own part of the batch, and update with the mean of
    their gradients, so that the weights are the same on all ranks after every update. ``state_dict``,
    ``load_state_dict``, ``ema_weights`` and ``flush`` are called by all ranks too: gradients that wait for the rest of
    an accumulation are replaced by their mean over the ranks when a state is taken, and every rank loads the same one.
    """

    mark: Callable[[str], None]
    """Called with "forward", "backward" and "optimizer" when that part of a call has been asked of the device;
    ``unmarked`` until somebody who measures steps sets another."""

    def __call__(self, batch: Sequence[Array], learning_rate: float, weight: float = 1.0) -> StepOutput:
        """Runs one micro-batch; ``batch`` holds arrays on the step's device.

        The loss and the outputs that it returns are of this rank's samples alone, and unweighted.

        Args:
            weight: what the loss of this rank counts for in the mean over the ranks: its samples times the number of
                ranks, divided by the samples of all of them. 0: the batch is a stand-in on a rank that has no samples;
                then neither its gradients nor its statistics of batch normalisation count.
        """

    def keep(self) -> Any:
        """What a call changes before it updates the weights: running statistics, waiting gradients, random state."""

    def undo(self, kept: Any) -> bool:
        """After a call that failed: puts back what ``keep`` gave before it. The call counts as never made.

        Needs ``StepOptions.recoverable``. False: the call failed in its update, so that some weights may have changed.
        """

    def flush(self, learning_rate: float) -> bool:
        """Updates with the gradients that wait for the rest of an accumulation (end of an epoch); False if none do."""

    def skipped_updates(self) -> int:
        """How many updates were skipped because float16 gradients overflowed."""

    def ema_weights(self) -> AbstractContextManager[None]:
        """Within it the network holds the averaged weights (does nothing where no average is kept)."""

    def ema_parameters(self) -> dict[str, np.ndarray]:
        """The averaged weights by structural name; empty where no average is kept."""

    def state_dict(self) -> dict[str, np.ndarray]:
        """Optimiser moments, step counts, loss scale, average and waiting gradients: all that a resumed run needs."""

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Puts a state back; raises CheckpointError naming every entry that is missing, unknown or of another shape."""


class Backend(Protocol):
    """A deep-learning library behind Glueball's dialect."""

    name: str
    nn: ModuleType
    """Layers: ``HybridBlock``, ``Conv2D``, ... (glueball.nn)."""
    ops: ModuleType
    """Functions on arrays, eagerly: what ``F`` is in ``hybrid_forward`` (glueball.ops)."""
    loss: ModuleType
    """Losses as blocks (glueball.loss)."""
    rnn: ModuleType
    """Recurrent layers: ``LSTM``, ... (glueball.rnn)."""
    autograd: ModuleType
    """record, pause, train_mode, predict_mode, is_training, is_recording, backward (glueball.autograd)."""

    def version(self) -> str:
        """Version of the library, for logs and ``glueball doctor``."""

    def devices(self) -> list[str]:
        """Usable devices, best first: ``["cuda:0", "cpu"]``."""

    def describe_device(self, device: str) -> str:
        """The device in words, for logs."""

    def array(self, data: np.ndarray, device: str | None = None, dtype: str | None = None) -> Array:
        """A copy of ``data`` on the device (default: the first of ``devices()``); float64 becomes float32."""

    def numpy(self, array: Array) -> np.ndarray:
        """The values as NumPy; bfloat16 becomes float32."""

    def synchronize(self, device: str | None = None) -> None:
        """Waits until everything that was asked of the device is done."""

    def memory(self, device: str) -> int | None:
        """Bytes in use on an accelerator at their highest; None for the CPU."""

    def memory_size(self, device: str) -> int | None:
        """Bytes that an accelerator has; None for the CPU."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether the error means that there was no memory left, on the device or on the host."""

    def release_memory(self, device: str) -> None:
        """Gives memory that the library keeps for later use back to the device."""

    def seed(self, seed: int) -> None:
        """Seeds every random generator of the library (dropout and the like)."""

    def random_state(self) -> dict[str, np.ndarray]:
        """The state of those generators, so that ``set_random_state`` continues their streams."""

    def set_random_state(self, state: Mapping[str, np.ndarray]) -> None: ...

    def parameters(self, network: Any) -> dict[str, Any]:
        """Structural name -> Parameter (``shape``, ``dtype``, ``grad_req``, ``data()``, ``set_data()``); file order."""

    def get_arrays(self, network: Any) -> dict[str, np.ndarray]:
        """Structural name -> values of every initialised parameter."""

    def set_arrays(self, network: Any, arrays: Mapping[str, np.ndarray]) -> None:
        """Sets parameters by structural name; names and shapes must fit (glueball.weights checks and explains)."""

    def to_device(self, network: Any, device: str) -> Any:
        """Moves the network's parameters; returns the network."""

    def supports_precision(self, precision: str, device: str) -> str | None:
        """None when the device computes in ``precision`` at a gain; otherwise the reason why not."""

    def process_group(self, launch: Launch) -> ProcessGroup:
        """Joins the other processes of the run; waits for them.

        Raises:
            OptionError: this backend cannot join the way in which the processes were started; the message says which
                way it can.
            TrainingError: the others did not come.
        """

    def local_processes(self, count: int) -> list[dict[str, str]]:
        """The environment variables of the processes that ``glueball train --processes count`` starts on this machine.

        First those of the ranks, in their order, then those of helpers (schedulers, servers) if there are any, whose
        ``Launch.role`` is not "worker".
        """

    def training_step(
        self, network: Any, graph: Any, options: StepOptions, device: str, group: ProcessGroup | None = None
    ) -> TrainingStep:
        """A step that trains ``network`` inside ``graph``, a HybridBlock ``graph(*batch) -> (loss, *outputs)``.

        Args:
            group: the processes that train together; their weights become those of rank 0. None trains alone.
        """

    def predictor(
        self, network: Any, *, device: str, precision: str = "float32", compile: bool = True
    ) -> Callable[..., Any]:
        """``predict(*arrays) -> outputs`` in inference mode, compiled and fused as far as the backend can."""

"""MXNet behind the contract of ``glueball.backend.base``."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import mxnet as mx
import numpy as np

from glueball.backend import out_of_memory, processor
from glueball.backend.mxnet import device as devices_module
from glueball.errors import BackendError

if TYPE_CHECKING:
    from glueball.backend.base import Array, Launch, ProcessGroup, StepOptions, TrainingStep

# SplitMix64's increment and mask: they spread (seed, counter) over the 31 bits that MXNet takes as a seed.
_GOLDEN_GAMMA = 0x9E3779B97F4A7C15
_MASK = (1 << 64) - 1


class MXNetBackend:
    """Apache MXNet 1.9.1."""

    name = "mxnet"

    def __init__(self) -> None:
        self._seed = 0
        self._draws = 0

    @property
    def nn(self) -> ModuleType:
        return importlib.import_module("glueball.backend.mxnet.nn")

    @property
    def ops(self) -> ModuleType:
        return importlib.import_module("glueball.backend.mxnet.ops")

    @property
    def loss(self) -> ModuleType:
        return importlib.import_module("glueball.backend.mxnet.loss")

    @property
    def rnn(self) -> ModuleType:
        return importlib.import_module("glueball.backend.mxnet.rnn")

    @property
    def autograd(self) -> ModuleType:
        return importlib.import_module("glueball.backend.mxnet.autograd")

    def version(self) -> str:
        return str(mx.__version__)

    def devices(self) -> list[str]:
        return devices_module.devices()

    def describe_device(self, device: str) -> str:
        return devices_module.describe(device)

    def array(self, data: np.ndarray, device: str | None = None, dtype: str | None = None) -> Array:
        values = np.asarray(data)
        if dtype is None and values.dtype == np.float64:
            values = values.astype(np.float32)
        if dtype == "bfloat16":
            values = values.astype(np.float32)
            return _to_bfloat16(mx.nd.array(values, ctx=devices_module.context(device), dtype=np.float32))
        if dtype is not None:
            values = values.astype(dtype)
        elif values.dtype in (np.uint16, np.uint32, np.uint64):
            values = values.astype(np.int64)  # MXNet has no unsigned integers beyond one byte
        return mx.nd.array(values, ctx=devices_module.context(device), dtype=values.dtype)

    def numpy(self, array: Array) -> np.ndarray:
        if isinstance(array, np.ndarray):
            return array
        if array.dtype == _BFLOAT16:
            array = mx.nd.cast(array, dtype="float32")
        try:
            return array.asnumpy()
        except mx.MXNetError as error:
            _explain_loss(error)
            raise

    def synchronize(self, device: str | None = None) -> None:
        mx.nd.waitall()

    def memory(self, device: str) -> int | None:
        context = devices_module.context(device)
        if context.device_type == "cpu":
            return None
        free, total = mx.context.gpu_memory_info(context.device_id)
        return int(total - free)

    def memory_size(self, device: str) -> int | None:
        context = devices_module.context(device)
        if context.device_type == "cpu":
            return None
        return int(mx.context.gpu_memory_info(context.device_id)[1])

    def is_out_of_memory(self, error: BaseException) -> bool:
        return out_of_memory.says_so(error)  # MXNetError is a RuntimeError

    def release_memory(self, device: str) -> None:
        context = devices_module.context(device)
        if context.device_type != "cpu":
            context.empty_cache()

    def seed(self, seed: int) -> None:
        self._seed = int(seed)
        self._draws = 0
        mx.random.seed(self._stream_seed())

    def random_state(self) -> dict[str, np.ndarray]:
        """(seed, number of streams drawn): MXNet gives no access to its generators' states.

        Every training step that draws random numbers starts a stream of its own (``next_random_stream``), so that
        these two numbers are all that there is to continue from, at step boundaries.
        """
        return {"mxnet": np.array([self._seed, self._draws], dtype=np.int64)}

    def set_random_state(self, state: Mapping[str, np.ndarray]) -> None:
        if "mxnet" not in state:
            raise BackendError(f"A random state of backend 'mxnet' holds 'mxnet'; received {sorted(state)}.")
        self._seed, self._draws = (int(value) for value in state["mxnet"])
        mx.random.seed(self._stream_seed())

    def next_random_stream(self) -> None:
        """Seeds MXNet for the next training step from (seed, count)."""
        self._draws += 1
        mx.random.seed(self._stream_seed())

    def return_random_stream(self) -> None:
        """Takes ``next_random_stream`` back, where it turned out that the step draws nothing."""
        self._draws -= 1

    def _stream_seed(self) -> int:
        # SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
        mixed = (self._seed * _GOLDEN_GAMMA + self._draws + 1) * _GOLDEN_GAMMA & _MASK
        mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
        mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & _MASK
        return (mixed ^ (mixed >> 31)) & 0x7FFFFFFF

    def parameters(self, network: Any) -> dict[str, Any]:
        return dict(network._collect_params_with_prefix())

    def get_arrays(self, network: Any) -> dict[str, np.ndarray]:
        # Compiled graphs write running statistics in the backward pass without telling the engine (see step.py), so
        # that reading them would not wait for the pass to end.
        mx.nd.waitall()
        return {
            name: self.numpy(parameter._reduce() if len(parameter.list_ctx()) > 1 else parameter.list_data()[0])
            for name, parameter in self.parameters(network).items()
            if parameter._data is not None
        }

    def set_arrays(self, network: Any, arrays: Mapping[str, np.ndarray]) -> None:
        parameters = self.parameters(network)
        for name, values in arrays.items():
            parameter = parameters[name]
            # A parameter that was never initialised lands on the CPU; to_device moves it.
            context = None if parameter._data is not None or parameter._deferred_init else [mx.cpu()]
            dtype = np.float32 if parameter.dtype in (None, _BFLOAT16) else np.dtype(parameter.dtype)
            data = mx.nd.array(np.asarray(values), ctx=mx.cpu(), dtype=dtype)
            if parameter.dtype == _BFLOAT16:
                data = _to_bfloat16(data)
            parameter._load_init(data, context)

    def to_device(self, network: Any, device: str) -> Any:
        context = devices_module.context(device)
        for parameter in self.parameters(network).values():
            if parameter._data is not None:
                if parameter.list_ctx() != [context]:
                    parameter.reset_ctx(context)
            elif parameter._deferred_init:
                parameter.reset_ctx(context)
        return network

    def supports_precision(self, precision: str, device: str) -> str | None:
        context = devices_module.context(device)
        if precision == "float32":
            return None
        if context.device_type == "cpu":
            if precision == "float16":
                return "MXNet has no float16 convolution or matrix product on the CPU"
            if not {"avx512_bf16", "amx_bf16"} & processor.flags():
                return "this CPU has no bfloat16 instructions (avx512_bf16 or amx_bf16)"
            return None
        if precision == "bfloat16":
            return "mxnet-cu112 1.9.1 has no bfloat16 kernels for GPUs; use float16"
        capability = devices_module._capabilities()[context.device_id]
        if capability < (7, 0):
            return f"compute capability {capability[0]}.{capability[1]} has no tensor cores: float16 gains nothing"
        return None

    def process_group(self, launch: Launch) -> ProcessGroup:
        from glueball.backend.mxnet import processes

        return processes.process_group(launch)

    def local_processes(self, count: int) -> list[dict[str, str]]:
        from glueball.backend.mxnet import processes

        return processes.local_processes(count)

    def training_step(
        self, network: Any, graph: Any, options: StepOptions, device: str, group: ProcessGroup | None = None
    ) -> TrainingStep:
        from glueball.backend.mxnet.step import MXNetTrainingStep

        return MXNetTrainingStep(self, network, graph, options, device, group)  # type: ignore[arg-type]

    def predictor(
        self, network: Any, *, device: str, precision: str = "float32", compile: bool = True
    ) -> Callable[..., Any]:
        from glueball.backend.mxnet.predictor import MXNetPredictor

        return MXNetPredictor(self, network, device=device, precision=precision, compile=compile)


# MXNet's stand-in for a dtype that NumPy lacks.
_BFLOAT16 = np.dtype([("bfloat16", np.uint16)])


def _explain_loss(error: Exception) -> None:
    """Raises LostProcessError where an operation failed because another process has ended, as Horovod's do."""
    if "Horovod has been shut down" in str(error):
        from glueball.backend.mxnet import processes

        processes.raise_lost(error)


def _to_bfloat16(array: Any) -> Any:
    return mx.nd.amp_cast(array, dtype=_BFLOAT16)


BACKEND = MXNetBackend()

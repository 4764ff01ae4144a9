"""PyTorch behind the contract of ``glueball.backend.base``."""

from __future__ import annotations

import importlib
import platform
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from glueball.backend import out_of_memory, processor
from glueball.backend.torch.ops.arguments import shareable
from glueball.errors import BackendError

if TYPE_CHECKING:
    from glueball.backend.base import Array, Launch, ProcessGroup, StepOptions, TrainingStep


class TorchBackend:
    """PyTorch 2."""

    name = "torch"

    @property
    def nn(self) -> ModuleType:
        return importlib.import_module("glueball.backend.torch.nn")

    @property
    def ops(self) -> ModuleType:
        return importlib.import_module("glueball.backend.torch.ops")

    @property
    def loss(self) -> ModuleType:
        return importlib.import_module("glueball.backend.torch.loss")

    @property
    def rnn(self) -> ModuleType:
        return importlib.import_module("glueball.backend.torch.rnn")

    @property
    def autograd(self) -> ModuleType:
        return importlib.import_module("glueball.backend.torch.autograd")

    def version(self) -> str:
        return str(torch.__version__)

    def devices(self) -> list[str]:
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        return [*(f"cuda:{index}" for index in range(count)), "cpu"]

    def describe_device(self, device: str) -> str:
        selected = self.device(device)
        if selected.type == "cuda":
            properties = torch.cuda.get_device_properties(selected)
            return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
        return processor.name()

    def device(self, device: str | torch.device | None) -> torch.device:
        """The device of a name; None is the best one.

        Raises:
            BackendError: the name is unknown or there is no such device, which torch would only say at the first use.
        """
        if device is None:
            return torch.device(self.devices()[0])
        try:
            selected = torch.device(device)
        except RuntimeError as error:
            raise BackendError(f"Unknown device. Expected one of {self.devices()}, received {device!r}.") from error
        if selected.type == "cpu":
            return torch.device("cpu")
        if selected.type == "cuda" and selected.index is None:
            selected = torch.device("cuda:0")
        if str(selected) not in self.devices():
            cure = ""
            if selected.type == "cuda" and torch.version.cuda is None:
                cure = " This PyTorch is a CPU build; install one with CUDA from pytorch.org."
            raise BackendError(f"Device {device!r} does not exist here. Usable: {self.devices()}.{cure}")
        return selected

    def array(self, data: np.ndarray, device: str | None = None, dtype: str | None = None) -> Array:
        values = np.asarray(data)
        # A copy in any case: torch would share the memory.
        tensor = torch.from_numpy(shareable(np.array(values, copy=True, order="C")))
        selected = self.device(device)
        if dtype is not None:
            tensor = tensor.to(getattr(torch, dtype))
        elif tensor.dtype == torch.float64:
            tensor = tensor.float()
        if selected.type == "cuda":
            return tensor.pin_memory().to(selected, non_blocking=True)
        return tensor

    def numpy(self, array: Array) -> np.ndarray:
        if isinstance(array, np.ndarray):
            return array
        array = array.detach()
        if array.dtype == torch.bfloat16:
            array = array.float()
        return np.ascontiguousarray(array.cpu().numpy())

    def synchronize(self, device: str | None = None) -> None:
        if torch.cuda.is_available() and (device is None or self.device(device).type == "cuda"):
            torch.cuda.synchronize(None if device is None else self.device(device))

    def memory(self, device: str) -> int | None:
        selected = self.device(device)
        return int(torch.cuda.max_memory_allocated(selected)) if selected.type == "cuda" else None

    def memory_size(self, device: str) -> int | None:
        selected = self.device(device)
        return int(torch.cuda.get_device_properties(selected).total_memory) if selected.type == "cuda" else None

    def is_out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, torch.cuda.OutOfMemoryError) or out_of_memory.says_so(error)

    def release_memory(self, device: str) -> None:
        if self.device(device).type == "cuda":
            torch.cuda.empty_cache()

    def seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def random_state(self) -> dict[str, np.ndarray]:
        state = {"torch": torch.get_rng_state().numpy().copy()}
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            for index, values in enumerate(torch.cuda.get_rng_state_all()):
                state[f"cuda:{index}"] = values.numpy().copy()
        return state

    def set_random_state(self, state: Mapping[str, np.ndarray]) -> None:
        if "torch" not in state:
            raise BackendError(f"A random state of backend 'torch' holds 'torch'; received {sorted(state)}.")
        torch.set_rng_state(torch.from_numpy(np.array(state["torch"], dtype=np.uint8)))
        for name, values in state.items():
            if name.startswith("cuda:") and name in self.devices():
                torch.cuda.set_rng_state(torch.from_numpy(np.array(values, dtype=np.uint8)), name)

    def parameters(self, network: Any) -> dict[str, Any]:
        from glueball.backend.torch.block import structural_parameters

        return dict(structural_parameters(network, ""))

    def get_arrays(self, network: Any) -> dict[str, np.ndarray]:
        return {
            name: self.numpy(parameter.data()).copy()
            for name, parameter in self.parameters(network).items()
            if parameter.is_initialized
        }

    def set_arrays(self, network: Any, arrays: Mapping[str, np.ndarray]) -> None:
        parameters = self.parameters(network)
        for name, values in arrays.items():
            parameters[name].set_data(values)

    def to_device(self, network: Any, device: str) -> Any:
        return network.to(self.device(device))

    def supports_precision(self, precision: str, device: str) -> str | None:
        if precision == "float32":
            return None
        selected = self.device(device)
        if selected.type == "cuda":
            capability = torch.cuda.get_device_capability(selected)
            needed = (8, 0) if precision == "bfloat16" else (7, 0)
            if capability >= needed:
                return None
            have = ".".join(map(str, capability))
            want = ".".join(map(str, needed))
            return f"{precision} needs compute capability {want}, this GPU has {have}"
        wanted = ("avx512_bf16", "amx_bf16") if precision == "bfloat16" else ("avx512_fp16", "amx_fp16")
        flags = processor.flags()
        if any(flag in flags for flag in wanted) or (platform.machine() == "aarch64" and "bf16" in flags):
            return None
        return f"this CPU has no {precision} instructions ({' or '.join(wanted)}): it would run many times slower"

    def process_group(self, launch: Launch) -> ProcessGroup:
        from glueball.backend.torch import processes

        return processes.join(launch)

    def local_processes(self, count: int) -> list[dict[str, str]]:
        from glueball.backend.torch import processes

        return processes.environments(count)

    def training_step(
        self, network: Any, graph: Any, options: StepOptions, device: str, group: ProcessGroup | None = None
    ) -> TrainingStep:
        from glueball.backend.torch.step import TorchTrainingStep

        return TorchTrainingStep(self, network, graph, options, device, group)

    def predictor(
        self, network: Any, *, device: str, precision: str = "float32", compile: bool = True
    ) -> Callable[..., Any]:
        from glueball.backend.torch.predictor import TorchPredictor

        return TorchPredictor(self, network, device=device, precision=precision, compile=compile)


BACKEND = TorchBackend()

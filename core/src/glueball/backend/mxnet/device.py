"""Devices: ``cpu`` and ``cuda:0`` on the outside, MXNet contexts on the inside."""

from __future__ import annotations

import functools
import re
import subprocess
import warnings
from typing import Any

import mxnet as mx

from glueball.backend import processor
from glueball.backend.mxnet import cuda
from glueball.errors import BackendError

_DEVICE = re.compile(r"(?:cuda|gpu):?(\d+)?")


def devices() -> list[str]:
    """Usable devices, best first; a GPU that MXNet has no code for is left out with one warning that says why."""
    usable: list[str] = []
    for index, capability in enumerate(_capabilities()):
        reason = cuda.unsupported_reason(capability)
        if reason is None:
            usable.append(f"cuda:{index}")
        else:
            _warn_once(f"Backend 'mxnet' cannot use cuda:{index}: {reason}")
    return [*usable, "cpu"]


def context(device: str | Any | None) -> Any:
    """The MXNet context of a device name; contexts are passed through, None is the best device.

    Raises:
        BackendError: the name is unknown, there is no such GPU, this MXNet is a CPU build, or the GPU is of a
            generation that mxnet-cu112 has no code for.
    """
    if isinstance(device, mx.Context):
        return device
    if device is None:
        return context(devices()[0])
    if device in ("cpu", "cpu:0"):
        return mx.cpu()
    match = _DEVICE.fullmatch(device)
    if match is None:
        raise BackendError(f"Unknown device. Expected one of {devices()}, received {device!r}.")
    index = int(match[1] or 0)
    capabilities = _capabilities()
    if index >= len(capabilities):
        found = f"{len(capabilities)} NVIDIA GPUs" if cuda.is_cuda_build() else "a CPU build of MXNet"
        cure = "" if cuda.is_cuda_build() else ' For NVIDIA GPUs: pip install "glueball-core[mxnet-cu112]".'
        raise BackendError(f"Device {device!r} does not exist here: found {found}. Usable: {devices()}.{cure}")
    reason = cuda.unsupported_reason(capabilities[index])
    if reason is not None:
        raise BackendError(f"Device {device!r} cannot be used by backend 'mxnet': {reason}")
    return mx.gpu(index)


def describe(device: str) -> str:
    """The device in words, for logs."""
    if context(device).device_type == "cpu":
        return processor.name()
    index = context(device).device_id
    try:
        output = subprocess.run(
            ["nvidia-smi", f"--id={index}", "--query-gpu=name,memory.total", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return "NVIDIA GPU"
    return output.strip() or "NVIDIA GPU"


@functools.cache
def _capabilities() -> tuple[tuple[int, int], ...]:
    """Compute capabilities of the GPUs that this build of MXNet could see; none for a CPU build."""
    return tuple(cuda.compute_capabilities()) if cuda.is_cuda_build() else ()


@functools.cache
def _warn_once(message: str) -> None:
    warnings.warn(message, RuntimeWarning, stacklevel=4)

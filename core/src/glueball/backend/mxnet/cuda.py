"""CUDA for mxnet-cu112 without a CUDA installation, and the question whether it can run on the GPU at hand.

mxnet-cu112 links against CUDA 11 and cuDNN 8, which come as wheels (``nvidia-*-cu11``). Their files lie in
``site-packages/nvidia/*/lib``, where the dynamic linker does not look; a library that is already in the process is
found by its soname, so they are loaded here, each after those that it needs.
"""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
from pathlib import Path

# Package below ``nvidia`` and the names of its libraries, in the order of dependency (cuDNN's front library opens the
# others by name, cusolver needs cublas and cusparse).
_LIBRARIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("cuda_runtime", ("libcudart.so",)),
    ("cuda_nvrtc", ("libnvrtc-builtins.so", "libnvrtc.so")),
    ("nvtx", ("libnvToolsExt.so",)),
    ("nvjitlink", ("libnvJitLink.so",)),
    ("cublas", ("libcublasLt.so", "libcublas.so")),
    ("cufft", ("libcufft.so",)),
    ("curand", ("libcurand.so",)),
    ("cusparse", ("libcusparse.so",)),
    ("cusolver", ("libcusolver.so",)),
    (
        "cudnn",
        (
            "libcudnn_ops_infer.so",
            "libcudnn_cnn_infer.so",
            "libcudnn_ops_train.so",
            "libcudnn_cnn_train.so",
            "libcudnn_adv_infer.so",
            "libcudnn_adv_train.so",
            "libcudnn.so",
        ),
    ),
    ("nccl", ("libnccl.so",)),
)

CAPABILITY_LIMIT = (9, 0)
"""First compute capability for which mxnet-cu112 holds no code: it was built for 5.0 to 8.6, and 8.9 runs 8.6 code."""

# Values of the driver's enum CUdevice_attribute.
_COMPUTE_CAPABILITY_MAJOR = 75
_COMPUTE_CAPABILITY_MINOR = 76

# Kept so that the libraries stay loaded as long as the process lives.
_handles: list[ctypes.CDLL] = []


def is_cuda_build() -> bool:
    """Whether the installed MXNet is a CUDA build, by its distribution's name."""
    from glueball.backend import distribution

    return (distribution("mxnet") or "").startswith("mxnet-cu")


def library_folders() -> dict[str, Path]:
    """Package name (``cublas``) -> folder of its libraries, for the NVIDIA wheels that are installed."""
    folders: dict[str, Path] = {}
    try:
        specification = importlib.util.find_spec("nvidia")
    except (ImportError, ValueError):
        specification = None
    roots = list(specification.submodule_search_locations or ()) if specification else []
    for name, _ in _LIBRARIES:
        for root in roots:
            folder = Path(root) / name / "lib"
            if folder.is_dir():
                folders.setdefault(name, folder)
    return folders


def preload() -> list[str]:
    """Loads the CUDA 11 libraries of the NVIDIA wheels; returns the paths, empty for a CPU build of MXNet.

    A library that does not load is left to MXNet: its import then fails and says which one is missing.
    """
    if not is_cuda_build():
        return []
    loaded: list[str] = []
    folders = library_folders()
    for package, names in _LIBRARIES:
        folder = folders.get(package)
        if folder is None:
            continue
        for name in names:
            path = _newest(folder, name, package)
            if path is None:
                continue
            try:
                _handles.append(ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL | os.RTLD_NOW))
            except OSError:
                continue
            loaded.append(str(path))
    return loaded


def _newest(folder: Path, name: str, package: str) -> Path | None:
    """The file of a library, whatever its version suffix; wheels for CUDA 12 in the same folder are passed over."""
    candidates = sorted(path for path in folder.glob(f"{name}*") if not path.name.endswith(".alt.so"))
    suffixes = _soname_suffixes(package)
    for suffix in suffixes:
        for path in candidates:
            if path.name == name + suffix:
                return path
    return candidates[-1] if candidates and not suffixes else None


def _soname_suffixes(package: str) -> tuple[str, ...]:
    """The major versions against which mxnet-cu112 is linked; more than one where NVIDIA numbers them apart."""
    return {
        "cuda_runtime": (".11.0",),
        "cuda_nvrtc": (".11.2", ".11.8"),
        "nvtx": (".1",),
        "nvjitlink": (),
        "cublas": (".11",),
        "cufft": (".10",),
        "curand": (".10",),
        "cusparse": (".11",),
        "cusolver": (".11",),
        "cudnn": (".8",),
        "nccl": (".2",),
    }[package]


def compute_capabilities() -> list[tuple[int, int]]:
    """Compute capability of every GPU, asked of the driver, which knows before any kernel could fail.

    Empty without a driver or a GPU.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []
    count = ctypes.c_int()
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    capabilities = []
    for index in range(count.value):
        device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        if driver.cuDeviceGet(ctypes.byref(device), index) != 0:
            continue
        driver.cuDeviceGetAttribute(ctypes.byref(major), _COMPUTE_CAPABILITY_MAJOR, device)
        driver.cuDeviceGetAttribute(ctypes.byref(minor), _COMPUTE_CAPABILITY_MINOR, device)
        capabilities.append((major.value, minor.value))
    return capabilities


def unsupported_reason(capability: tuple[int, int]) -> str | None:
    """Why mxnet-cu112 cannot run on a GPU of this compute capability, with the cure; None when it can."""
    if capability < CAPABILITY_LIMIT:
        return None
    major, minor = capability
    return (
        f"this GPU has compute capability {major}.{minor}, and mxnet-cu112 1.9.1 holds code for 5.0 to 8.9 only: every "
        "kernel would fail. Use the torch backend, which supports it: "
        'pip install "glueball-core[torch]" and GLUEBALL_BACKEND=torch; or stay on device "cpu".'
    )

"""What MXNet 1.9.1, the last release, needs to be imported by a current Python.

It was written for NumPy 1.x before 1.24 (``np.bool`` and its kin, put back here), and for a Python with distutils
(setuptools brings it back on 3.12 and later). NumPy 2 changed the C type promotion and array protocol that MXNet relies
on; no alias can cure that, so it is refused with the cure.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import warnings
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from glueball.errors import BackendError

# Names that NumPy 1.24 removed and that MXNet 1.9.1 looks up while it is imported.
_REMOVED_ALIASES = {
    "bool": bool,
    "int": int,
    "float": float,
    "complex": complex,
    "object": object,
    "str": str,
}


def import_library() -> ModuleType:
    """Imports mxnet on a current NumPy and Python, with its CUDA libraries loaded first where they are wheels.

    Raises:
        BackendError: NumPy 2 is installed; distutils is missing; or the import of mxnet itself fails, which is then
            the cause.
        SystemExit: this process was a server or a scheduler of MXNet's parameter server (DMLC_ROLE), and is done.
    """
    if "mxnet" in sys.modules:
        return sys.modules["mxnet"]
    _check_numpy()
    _provide_distutils()
    # vars() and not hasattr(): asking NumPy for a removed name emits a FutureWarning.
    for name, builtin in _REMOVED_ALIASES.items():
        if name not in vars(np):
            setattr(np, name, builtin)
    from glueball.backend.mxnet import cuda, roles

    preloaded = cuda.preload()
    role = os.environ.get("DMLC_ROLE", "")
    if role in roles.HELPERS:
        roles.serve(role)  # as the import would, which does not return either
    try:
        with warnings.catch_warnings():
            # mxnet.numpy.fallback asks NumPy for functions that moved away; mxnet.contrib imports old packages.
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", SyntaxWarning)
            module = importlib.import_module("mxnet")
    except Exception as error:
        # A half-imported package would make the second attempt fail with an unrelated message.
        for name in [name for name in sys.modules if name == "mxnet" or name.startswith("mxnet.")]:
            del sys.modules[name]
        raise BackendError(_explain(error, preloaded)) from error
    _modernize_scipy()
    return module


def _check_numpy() -> None:
    if int(np.__version__.split(".", 1)[0]) >= 2:
        raise BackendError(
            "Backend 'mxnet' cannot run with this NumPy: MXNet 1.9.1 expects NumPy 1.x (< 2), received NumPy "
            f'{np.__version__}. Install one that fits: pip install "numpy<2"  (or use the other backend: '
            'pip install "glueball-core[torch]", GLUEBALL_BACKEND=torch).'
        )


def _provide_distutils() -> None:
    if sys.version_info < (3, 12) or importlib.util.find_spec("distutils") is not None:
        return
    # setuptools carries a copy of distutils and installs it under the old name when it is imported.
    if importlib.util.find_spec("setuptools") is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            importlib.import_module("setuptools")
        if importlib.util.find_spec("distutils") is not None:
            return
    version = ".".join(map(str, sys.version_info[:2]))
    raise BackendError(
        f"Backend 'mxnet' needs distutils, which Python {version} no longer has and setuptools < 81 provides. "
        'Install it: pip install "setuptools<81"'
    )


def _modernize_scipy() -> None:
    """MXNet looks up ``scipy.sparse.csr.csr_matrix``, a path that SciPy will remove, for every array that it makes."""
    for name in ("mxnet.ndarray.utils", "mxnet.ndarray.sparse"):
        module: Any = sys.modules.get(name)
        sparse = getattr(module, "spsp", None)
        if isinstance(sparse, ModuleType):
            matrices = {kind: getattr(sparse, kind) for kind in ("csr_matrix", "coo_matrix")}
            module.spsp = SimpleNamespace(csr=SimpleNamespace(**matrices), **matrices)


def _explain(error: Exception, preloaded: list[str]) -> str:
    from glueball.backend import distribution

    message = (
        f"Backend 'mxnet' is installed (distribution {distribution('mxnet') or 'unknown'}) but cannot be imported: "
        f"{type(error).__name__}: {error}"
    )
    missing = str(error)
    if "libcuda.so.1" in missing:
        return message + "\nThe NVIDIA driver is missing: install it, or the CPU build: pip install mxnet==1.9.1"
    if ".so" in missing and any(word in missing for word in ("cublas", "cudnn", "cudart", "cufft", "curand", "nccl")):
        return message + '\nIts CUDA 11 libraries come as wheels: pip install "glueball-core[mxnet-cu112]"'
    return message + '\nReinstall it: pip install --force-reinstall "glueball-core[mxnet]"'

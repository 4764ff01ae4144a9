"""The door through which PyTorch comes in."""

from __future__ import annotations

import importlib
import inspect
from types import ModuleType

from glueball.errors import BackendError


def import_library() -> ModuleType:
    """Imports torch.

    Raises:
        BackendError: torch is installed but does not import; its own error is the cause.
    """
    try:
        return importlib.import_module("torch")
    except Exception as error:
        raise BackendError(
            f"Backend 'torch' is installed but cannot be imported: {type(error).__name__}: {error}\n"
            'Reinstall it: pip install --force-reinstall "glueball-core[torch]"'
        ) from error


def compile_options() -> dict[str, bool]:
    """Options that every call of ``torch.compile`` gets, as far as the installed version knows them.

    Networks share the code of the functions that are compiled, by which older versions count recompilations: there the
    ninth network of a process runs eagerly.
    """
    import torch

    known = inspect.signature(torch.compile).parameters
    return {"isolate_recompiles": True} if "isolate_recompiles" in known else {}

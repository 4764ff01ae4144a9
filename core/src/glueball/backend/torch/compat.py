"""The door through which PyTorch comes in."""

from __future__ import annotations

import importlib
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

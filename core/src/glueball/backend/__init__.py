"""Which deep-learning library runs the models: chosen once, at first use, and never both.

The choice is GLUEBALL_BACKEND if set, else the only library that is installed, else ``mxnet``. Libraries are looked for
with ``importlib.util.find_spec`` and only the chosen one is imported: MXNet and PyTorch in one process would fight over
OpenMP and CUDA libraries, and cost seconds that a program with one of them should not pay.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from glueball.errors import BackendError

if TYPE_CHECKING:
    from glueball.backend.base import Backend

__all__ = ["BACKENDS", "ProbeResult", "current", "distribution", "installed", "probe", "selected_name", "use"]

BACKENDS = ("mxnet", "torch")
"""Every backend that Glueball knows, in the order of preference."""

ENVIRONMENT_VARIABLE = "GLUEBALL_BACKEND"

# Distributions that install the module of each backend; the CUDA builds of MXNet are distributions of their own.
_DISTRIBUTIONS = {
    "mxnet": ("mxnet", "mxnet-cu112", "mxnet-cu110", "mxnet-cu102", "mxnet-native"),
    "torch": ("torch",),
}

_INSTALL = (
    'Install one of them:\n  pip install "glueball-core[mxnet]"   (or glueball-core[mxnet-cu112] for NVIDIA GPUs)\n'
    '  pip install "glueball-core[torch]"'
)

_lock = threading.RLock()
_selected: Backend | None = None
# What GLUEBALL_BACKEND held when the selection was made, to notice a change that comes too late.
_environment_at_selection: str | None = None


def current() -> Backend:
    """The backend of this process; the first call selects and imports it.

    Raises:
        BackendError: no backend is installed; the chosen one does not import (its own error is the cause); the name in
            GLUEBALL_BACKEND is unknown, or was changed after the selection.
    """
    selected = _selected
    if selected is not None:
        requested = os.environ.get(ENVIRONMENT_VARIABLE) or None
        if requested != _environment_at_selection and requested is not None and requested != selected.name:
            _raise_changed(selected.name, f"{ENVIRONMENT_VARIABLE} was set to {requested!r}", requested)
        return selected
    with _lock:
        if _selected is None:
            _select(_choose())
        assert _selected is not None
        return _selected


def use(name: str) -> Backend:
    """Selects a backend from a program, instead of GLUEBALL_BACKEND.

    Raises:
        BackendError: the name is unknown, the library is missing or broken, or another one was selected before.
    """
    with _lock:
        _check_name(name, "glueball.backend.use()")
        if _selected is not None:
            if _selected.name != name:
                _raise_changed(_selected.name, f"glueball.backend.use({name!r}) was called", name)
            return _selected
        _select(name)
        assert _selected is not None
        return _selected


def selected_name() -> str | None:
    """Name of the backend that this process uses; None before the first use."""
    return None if _selected is None else _selected.name


def installed() -> list[str]:
    """Names of the backends whose library is installed, working or not; imports nothing."""
    return [name for name in BACKENDS if _is_installed(name)]


def distribution(name: str) -> str | None:
    """The distribution that provides a backend's library (``mxnet``, ``mxnet-cu112``, ...); None if unrecorded."""
    for candidate in _DISTRIBUTIONS[name]:
        try:
            importlib.metadata.version(candidate)
        except importlib.metadata.PackageNotFoundError:
            continue
        return candidate
    return None


class ProbeResult(NamedTuple):
    """What ``probe`` found out about one backend."""

    name: str
    installed: bool
    distribution: str | None
    version: str | None
    devices: tuple[str, ...]
    """Usable devices, best first, as ``name: description``; empty when the backend does not work."""
    error: str | None
    """Why the backend does not work, with its own error as the last line; None when it works."""


_PROBE_PROGRAM = """
import json, sys, traceback, warnings
result = {"devices": [], "error": None, "version": None, "warnings": []}
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("default")
    try:
        from glueball import backend
        selected = backend.use(sys.argv[1])
        result["version"] = selected.version()
        result["devices"] = [f"{name}: {selected.describe_device(name)}" for name in selected.devices()]
    except BaseException as error:
        parts, cause = [str(error)], error.__cause__
        while cause is not None:
            parts.append(f"{type(cause).__name__}: {cause}")
            cause = cause.__cause__
        result["error"] = "\\n".join(parts)
sys.stdout.write("\\n" + json.dumps(result))
"""


def probe(name: str, timeout: float = 120.0) -> ProbeResult:
    """Tries a backend in a process of its own, so that a broken or crashing library cannot hurt this one.

    ``timeout`` is in seconds.
    """
    _check_name(name, "glueball.backend.probe()")
    found = distribution(name)
    if not _is_installed(name):
        return ProbeResult(name, False, None, None, (), f"The library of backend {name!r} is not installed. {_INSTALL}")
    environment = {key: value for key, value in os.environ.items() if key != ENVIRONMENT_VARIABLE}
    # The child must find what this process finds, even when its path was changed by the program.
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    try:
        process = subprocess.run(
            [sys.executable, "-c", _PROBE_PROGRAM, name],
            capture_output=True,
            text=True,
            timeout=timeout,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return ProbeResult(name, True, found, None, (), f"Importing {name} took longer than {timeout:g} seconds.")
    lines = process.stdout.strip().splitlines()
    try:
        report: dict[str, Any] = json.loads(lines[-1])
    except (IndexError, ValueError):
        ending = process.stderr.strip().splitlines()[-1:] or ["no message"]
        error = f"The process that imported {name} ended with status {process.returncode}: {ending[0]}"
        return ProbeResult(name, True, found, None, (), error)
    return ProbeResult(name, True, found, report["version"], tuple(report["devices"]), report["error"])


def _is_installed(name: str) -> bool:
    if name in sys.modules:
        return sys.modules[name] is not None
    try:
        specification = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    # A folder called "torch" or "mxnet" beside the program is a namespace package without an origin, not a library.
    return specification is not None and specification.origin is not None


def _choose() -> str:
    requested = os.environ.get(ENVIRONMENT_VARIABLE)
    if requested:
        _check_name(requested, ENVIRONMENT_VARIABLE)
        return requested
    found = installed()
    if not found:
        raise BackendError(
            f"No deep-learning library is installed: Glueball needs one of {', '.join(BACKENDS)}. {_INSTALL}"
        )
    return found[0]


def _check_name(name: str, source: str) -> None:
    if name in BACKENDS:
        return
    near = difflib.get_close_matches(str(name).lower(), [*BACKENDS, "pytorch"], n=1, cutoff=0.4)
    meant = ["torch" if match == "pytorch" else match for match in near]
    hint = f" Did you mean {meant[0]!r}?" if meant else ""
    found = installed()
    here = f"Installed: {', '.join(found)}." if found else f"None of them is installed. {_INSTALL}"
    raise BackendError(
        f"{source} names an unknown backend. Expected one of {list(BACKENDS)}, received {name!r}.{hint} {here}"
    )


def _select(name: str) -> None:
    global _selected, _environment_at_selection
    if not _is_installed(name):
        others = installed()
        alternative = f" Installed: {', '.join(others)}." if others else ""
        raise BackendError(f"Backend {name!r} was asked for, but its library is not installed.{alternative} {_INSTALL}")
    importlib.import_module(f"glueball.backend.{name}.compat").import_library()
    _selected = importlib.import_module(f"glueball.backend.{name}.backend").BACKEND
    _environment_at_selection = os.environ.get(ENVIRONMENT_VARIABLE) or None


def _raise_changed(selected: str, what: str, requested: str) -> NoReturn:
    raise BackendError(
        f"{what}, but this process already runs on backend {selected!r} and cannot change: both libraries in one "
        f"process would clash, and arrays of one mean nothing to the other. Start a new process with "
        f"{ENVIRONMENT_VARIABLE}={requested}."
    )

"""Whether a plugin keeps its promises.

The checks enumerate what the plugin registers, so that an entry added later is checked without anybody adding a test.
All problems are collected before anything is raised: an author wants the list, not the first line of it.
"""

from __future__ import annotations

import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import attrs

from glueball import catalog
from glueball.catalog.entries import KINDS, Entry, PluginInfo
from glueball.errors import BackendError, DataError, DownloadError, GlueballError, OptionError, PluginError

if TYPE_CHECKING:
    import numpy as np

    from glueball.backend.base import Backend

BATCH = 2
"""Samples in a batch of a check: with one, batch normalisation would see no variance in 1x1 maps."""

# Prints what importing the plugin's module loads that importing glueball.plugin did not, outside the standard library.
_LIGHT_IMPORT = """
import json, sys
import glueball.plugin
before = set(sys.modules)
import importlib
importlib.import_module(sys.argv[1])
loaded = sorted(
    name for name in set(sys.modules) - before
    if name.partition(".")[0] not in sys.stdlib_module_names
    and name.partition(".")[0] != sys.argv[1].partition(".")[0]
)
print(json.dumps(loaded))
"""


@attrs.define
class Report:
    """What the checks of one plugin found."""

    plugin: str
    checked: int = 0
    """How many single checks were made."""
    problems: list[str] = attrs.field(factory=list)
    """Promises that are not kept, as sentences; empty when all is well."""
    skipped: list[str] = attrs.field(factory=list)
    """What could not be checked here, and why."""

    def check(self, subject: str, action: Callable[[], str | None]) -> None:
        """Runs one check; ``action`` returns a problem or None, or raises."""
        self.checked += 1
        try:
            problem = action()
        except _Skip as reason:
            self.skipped.append(f"{subject}: {reason}")
        except Exception as error:  # whatever a plugin's code raises is a finding about the plugin
            self.problems.append(f"{subject}: raised {type(error).__name__}: {error}")
        else:
            if problem:
                self.problems.append(f"{subject}: {problem}")


class _Skip(Exception):  # noqa: N818 - it is no error
    """A check cannot be made here."""


def check_plugin(name: str, backend: str | None = None, *, pattern: str = "*") -> Report:
    """Demands that an installed plugin keeps its promises, on the current backend.

    - Importing its module is light: in a fresh process it loads the standard library, ``glueball.plugin`` and modules
      of its own package, nothing else.
    - Every target can be imported, and every model's task is known to some plugin.
    - Every model that runs on this backend is built and, on two random samples of ``test_input_shape`` (or
      ``input_shape``; ``test_inputs`` says what they are made of), gives finite outputs and gradients; saved and loaded
      into a second network, it gives the same. Texts that are padded further get the same answers.
    - Data sets, transforms, losses, metrics and recipes that need no arguments can be made. A data set whose files are
      not here counts as skipped, if its error names the place where they belong.

    Nothing is downloaded: GLUEBALL_OFFLINE is set meanwhile.

    Args:
        name: the plugin's name (the entry point's).
        backend: selects this backend first; None takes the current one.
        pattern: only entries whose names match, as shells match file names; for a test that must be quick.

    Raises:
        AssertionError: a promise is not kept; the message lists all of them.
        UnknownNameError: no such plugin is installed.
        BackendError: the backend cannot be used.
    """
    if backend is not None:
        from glueball import backend as backends

        backends.use(backend)
    report = examine_plugin(catalog.current().plugin(name), build=True, pattern=pattern)
    if report.problems:
        listed = "\n".join(f"- {problem}" for problem in report.problems)
        raise AssertionError(f"The plugin '{name}' breaks {len(report.problems)} promise(s):\n{listed}")
    return report


def examine_plugin(info: PluginInfo, *, build: bool = True, pattern: str = "*") -> Report:
    """The checks of ``check_plugin`` as a report; without ``build`` nothing is built and no backend is needed.

    Raises:
        BackendError: ``build`` is asked for and no backend can be used.
    """
    with _offline():
        return _examine(info, build, pattern)


def _examine(info: PluginInfo, build: bool, pattern: str) -> Report:
    report = Report(info.name)
    report.check("state", lambda: None if info.state == "active" else f"it is {info.state}: {info.reason}")
    if info.state != "active":
        return report
    report.check("light import", lambda: _heavy_imports(info.module.partition(":")[0]))
    current = catalog.current()
    tasks = {entry.name for entry in current.entries("task")}
    for entry in [entry for kind in KINDS for entry in current.entries(kind) if entry.plugin == info.name]:
        if not fnmatchcase(entry.name, pattern):
            continue
        subject = f"{entry.kind} '{entry.name}'"
        report.check(subject, lambda entry=entry: _resolves(entry))  # type: ignore[misc]
        if current.is_ambiguous(entry):
            report.check(subject, lambda entry=entry: _ambiguity(entry))  # type: ignore[misc]
        if entry.task is not None and entry.task not in tasks:
            report.skipped.append(f"{subject}: no installed plugin registers its task '{entry.task}'")
        if build:
            report.check(subject, lambda entry=entry: _builds(entry))  # type: ignore[misc]
    return report


@contextmanager
def _offline() -> Iterator[None]:
    """A check looks at what is here. Through the environment, so that threads and processes are told as well."""
    from glueball.weights.download import OFFLINE_VARIABLE

    before = os.environ.get(OFFLINE_VARIABLE)
    os.environ[OFFLINE_VARIABLE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[OFFLINE_VARIABLE]
        else:
            os.environ[OFFLINE_VARIABLE] = before


def _heavy_imports(module: str) -> str | None:
    if not re.fullmatch(r"[\w.]+", module) or module == "__main__":
        raise _Skip(f"'{module}' cannot be imported by name")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    process = subprocess.run(
        [sys.executable, "-c", _LIGHT_IMPORT, module], capture_output=True, text=True, env=environment, check=False
    )
    if process.returncode:
        ending = process.stderr.strip().splitlines()[-1:] or ["no message"]
        return f"importing '{module}' in a fresh process failed: {ending[0]}"
    loaded = json.loads(process.stdout.strip().splitlines()[-1])
    packages = sorted({name if name.startswith("glueball.") else name.partition(".")[0] for name in loaded})
    if packages:
        return (
            f"importing '{module}' loads {', '.join(packages)}. It may import the standard library, glueball.plugin "
            "and light modules of its own: move the rest to where targets are."
        )
    return None


def _resolves(entry: Entry) -> str | None:
    try:
        catalog.current().resolve(entry)
    except BackendError as error:
        raise _Skip(str(error)) from error
    except PluginError as error:
        return str(error)
    return None


def _ambiguity(entry: Entry) -> str | None:
    rivals = [
        other
        for other in catalog.current().entries(entry.kind)
        if other.name.casefold() == entry.name.casefold() and other.plugin != entry.plugin
    ]
    owners = " and ".join(f"'{rival.plugin}' (distribution {rival.distribution})" for rival in rivals)
    return f"the plugin {owners} offers the name too, so only '{entry.qualified_name}' can be used. Rename one."


def _builds(entry: Entry) -> str | None:
    supported = entry.metadata.get("backends")
    if supported is not None or entry.kind in ("model", "loss"):
        from glueball import backend as backends

        selected = backends.current()
        if supported is not None and selected.name not in supported:
            raise _Skip(f"it runs on {' and '.join(supported)}, and this is {selected.name}")
        if entry.kind == "model":
            return "; ".join(_model_problems(entry, selected)) or None
    if entry.kind == "task":
        return None
    from glueball.named import call_target

    target = catalog.current().resolve(entry)
    if _needs_arguments(target):
        raise _Skip("it needs arguments")
    try:
        made = call_target(entry, target, {})
    except (DataError, DownloadError, FileNotFoundError) as error:
        if entry.kind != "dataset":
            raise
        if not _PLACE.search(str(error)):
            return f"its data is not here, and its error names no place to put them: {error}"
        raise _Skip(f"its data is not here, and a check downloads nothing: {error}") from error
    missing = [name for name in _INTERFACES[entry.kind] if not hasattr(made, name)]
    if missing:
        return f"what it makes, {type(made).__name__}, has no {', '.join(missing)}"
    if entry.kind in ("transform", "loss") and not callable(made):
        return f"what it makes, {type(made).__name__}, cannot be called"
    return None


# A path from the root of a disk, or from the home folder; the slashes of an address follow its colon.
_PLACE = re.compile(r"""(?:^|[\s'"(])(?:~|[A-Za-z]:)?[/\\]\S""")

_INTERFACES: dict[str, tuple[str, ...]] = {
    "dataset": ("__len__", "__getitem__"),
    "transform": (),
    "loss": (),
    "metric": ("reset", "update", "get"),
    "recipe": (),
}


def _needs_arguments(target: Any) -> bool:
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(
        parameter.default is parameter.empty and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        for parameter in parameters
    )


def _arrays(outputs: Any) -> Iterator[Any]:
    """All arrays in nested tuples and lists, which detectors and the like return."""
    if isinstance(outputs, (tuple, list)):
        for output in outputs:
            yield from _arrays(output)
    else:
        yield outputs


def model_inputs(entry: Entry, batch: int = BATCH) -> list[np.ndarray]:
    """Random inputs of a model, by its ``test_inputs``; the same at every call.

    Raises:
        OptionError: the model states neither test_input_shape nor input_shape.
    """
    import numpy as np

    shape = entry.metadata.get("test_input_shape") or entry.metadata.get("input_shape")
    if shape is None:
        raise OptionError(f"The model '{entry.name}' states neither test_input_shape nor input_shape.")
    random = np.random.default_rng(0)
    makers: dict[str, Callable[[], np.ndarray]] = {
        "array": lambda: random.standard_normal((batch, *shape)).astype(np.float32),
        "tokens": lambda: random.integers(0, 8, (batch, *shape)).astype(np.int32),
        # Full length first, then shorter: what lies beyond it must not matter.
        "length": lambda: np.array([shape[0] - index % shape[0] for index in range(batch)], np.float32),
    }
    return [makers[name]() for name in entry.metadata.get("test_inputs", ("array",))]


def _model_problems(entry: Entry, backend: Backend) -> Iterator[str]:
    import tempfile
    from pathlib import Path

    import numpy as np

    from glueball.models import get_model

    try:
        arrays = model_inputs(entry)
    except OptionError as error:
        raise _Skip(str(error)) from error
    data = [backend.array(array) for array in arrays]
    options = dict(entry.metadata.get("test_options", {}))
    network: Any = get_model(entry.qualified_name, **options)

    with backend.autograd.record():
        loss = sum(((array * array).mean() for array in _arrays(network(*data))), start=0.0)
    loss.backward()  # type: ignore[union-attr, attr-defined]
    trained = {
        name: parameter for name, parameter in backend.parameters(network).items() if parameter.grad_req != "null"
    }
    gradients = {name: backend.numpy(parameter.grad()) for name, parameter in trained.items()}
    broken = [name for name, gradient in gradients.items() if not np.isfinite(gradient).all()]
    if broken:
        yield f"gradients are not finite: {', '.join(broken[:5])}"
    if not any(gradient.any() for gradient in gradients.values()):
        yield "no parameter gets a gradient"

    expected = [backend.numpy(array) for array in _arrays(network(*data))]
    if not all(np.isfinite(array).all() for array in expected):
        yield "outputs are not finite"
    if any(len(array) != BATCH for array in expected if array.ndim):
        yield f"an output's first axis is not the batch of {BATCH}: {[array.shape for array in expected]}"
    classes = entry.metadata.get("classes")
    if (entry.task or "").endswith("_classification") and classes is not None and expected[0].shape != (BATCH, classes):
        yield f"it states {classes} classes, and its output has the shape {expected[0].shape}"

    if {"tokens", "length"} <= set(entry.metadata.get("test_inputs", ())):
        # What lies beyond the length of a text is no part of it, however much of that there is.
        longer = [backend.array(np.pad(a, ((0, 0), (0, 3)), constant_values=5)) if a.ndim == 2 else a for a in arrays]
        padded = [backend.numpy(array) for array in _arrays(network(*longer))]
        if not all(np.allclose(one, other, rtol=1e-4, atol=1e-5) for one, other in zip(expected, padded, strict=True)):
            yield "answers depend on how far a batch of texts is padded"

    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".safetensors", ".params"):
            file = Path(folder) / f"weights{suffix}"
            network.save_parameters(str(file))
            loaded: Any = get_model(entry.qualified_name, **options)
            try:
                loaded.load_parameters(str(file))
            except GlueballError as error:
                yield f"its own {suffix} file does not load: {error}"
                continue
            again = [backend.numpy(array) for array in _arrays(loaded(*data))]
            if not all(
                np.allclose(one, other, rtol=1e-5, atol=1e-6) for one, other in zip(expected, again, strict=True)
            ):
                yield f"outputs differ after saving to {suffix} and loading"

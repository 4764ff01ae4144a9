"""Data sets, transforms, losses, metrics, tasks and recipes by name.

All of them are found and called in the same way, and nothing here knows what they are.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from glueball import catalog
from glueball.catalog.entries import Entry
from glueball.catalog.listing import select, usable_name
from glueball.catalog.suggestions import did_you_mean
from glueball.errors import BackendError, OptionError


def check_backend(entry: Entry) -> None:
    """Demands that the selected backend is one of those that ``entry`` was registered for.

    Raises:
        BackendError: it is not, or no backend is installed.
    """
    supported = entry.metadata.get("backends")
    if supported is None:
        return
    from glueball import backend  # imported late: most entries run on all backends and some need none

    selected = backend.current().name
    if selected not in supported:
        raise BackendError(
            f"The {entry.kind} '{entry.name}' of plugin '{entry.plugin}' runs on {' and '.join(supported)}, and the "
            f"selected backend is {selected}. Start again with GLUEBALL_BACKEND={supported[0]}"
        )


def _option_names(target: Callable[..., Any]) -> list[str]:
    try:
        parameters = inspect.signature(target).parameters.values()
    except (TypeError, ValueError):
        return []
    return [
        parameter.name
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]


def _unknown_option(entry: Entry, option: str, options: list[str]) -> OptionError:
    named = f"It takes: {', '.join(options)}." if options else "It takes no options."
    return OptionError(
        f"The {entry.kind} '{entry.name}' of plugin '{entry.plugin}' has no option '{option}'."
        f"{did_you_mean(option, options)} {named}"
    )


def _options_on_the_way(error: TypeError) -> list[str]:
    """Names of the parameters of every function between the call of a target and the one that refused an option."""
    names: dict[str, None] = {}
    traceback = error.__traceback__.tb_next if error.__traceback__ is not None else None
    while traceback is not None:
        code = traceback.tb_frame.f_code
        names.update(dict.fromkeys(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]))
        if traceback.tb_next is None:
            # The function that refused never began, so it has no frame: it is known by its name in the message.
            refusing: Any = None
            for depth, part in enumerate(str(error).partition("(")[0].split(".")):
                refusing = traceback.tb_frame.f_globals.get(part) if depth == 0 else getattr(refusing, part, None)
            if callable(refusing):
                names.update(dict.fromkeys(_option_names(refusing)))
        traceback = traceback.tb_next
    return [name for name in names if name not in ("self", "cls") and not name.startswith("_")]


def call_target(entry: Entry, target: Callable[..., Any], options: Mapping[str, Any]) -> Any:
    """Calls ``target(**options)``; what it says about options that it does not have is said in terms of the entry.

    Raises:
        OptionError: an option is unknown or a required one is missing.
    """
    try:
        signature = inspect.signature(target)
    except (TypeError, ValueError):  # some callables written in C have none
        signature = None
    if signature is not None:
        try:
            signature.bind(**options)
        except TypeError as error:
            names = _option_names(target)
            for option in options:
                if option not in names:
                    raise _unknown_option(entry, option, names) from None
            raise OptionError(
                f"The {entry.kind} '{entry.name}' of plugin '{entry.plugin}' cannot be built: {error}. "
                f"It takes: {', '.join(names)}."
            ) from None
    try:
        return target(**options)
    except TypeError as error:
        # Targets that hand **kwargs on only find out further down that nobody takes one of them.
        found = re.search(r"unexpected keyword argument '(\w+)'", str(error))
        if found is None or found.group(1) not in options:
            raise
        on_the_way = [name for name in _options_on_the_way(error) if name != found.group(1)]
        raise _unknown_option(entry, found.group(1), on_the_way) from error


def _get(kind: str, name: str, options: Mapping[str, Any]) -> Any:
    current = catalog.current()
    entry = current.find(kind, name)
    check_backend(entry)
    return call_target(entry, current.resolve(entry), options)


def _list(kind: str, pattern: str | re.Pattern[str] | None, **conditions: str | None) -> list[str]:
    current = catalog.current()
    return [usable_name(current, entry) for entry in select(current, kind, pattern, **conditions)]


def get_dataset(name: str, **options: Any) -> Any:
    """Opens the data set registered as ``name`` or ``plugin/name``: a ``glueball.data.Dataset`` of NumPy samples.

    ``options`` are those of the data set itself; ``glueball info NAME --options --kind dataset`` lists them.

    Raises:
        UnknownNameError: no active plugin offers it; the message gives near names and what to install.
        AmbiguousNameError: several plugins offer it; ask for ``plugin/name``.
        OptionError: it has no such option, or lacks one that it needs.
        BackendError: it does not run on the selected backend.
        PluginError: the plugin names an object that is not there or cannot be imported.
    """
    return _get("dataset", name, options)


def get_transform(name: str, **options: Any) -> Any:
    """Builds the transform registered as ``name`` or ``plugin/name``: a callable on samples.

    ``options`` are those of the transform itself; ``glueball info NAME --options --kind transform`` lists them.

    Raises:
        UnknownNameError: no active plugin offers it; the message gives near names and what to install.
        AmbiguousNameError: several plugins offer it; ask for ``plugin/name``.
        OptionError: it has no such option, or lacks one that it needs.
        BackendError: it does not run on the selected backend.
        PluginError: the plugin names an object that is not there or cannot be imported.
    """
    return _get("transform", name, options)


def get_loss(name: str, **options: Any) -> Any:
    """Builds the loss registered as ``name`` or ``plugin/name``, a block that gives one loss per sample.

    ``options`` are those of the loss itself; ``glueball info NAME --options --kind loss`` lists them.

    Raises:
        UnknownNameError: no active plugin offers it; the message gives near names and what to install.
        AmbiguousNameError: several plugins offer it; ask for ``plugin/name``.
        OptionError: it has no such option, or lacks one that it needs.
        BackendError: it does not run on the selected backend.
        PluginError: the plugin names an object that is not there or cannot be imported.
    """
    return _get("loss", name, options)


def get_metric(name: str, **options: Any) -> Any:
    """Builds the metric registered as ``name`` or ``plugin/name``: ``reset``, ``update(labels, predictions)``, ``get``.

    ``options`` are those of the metric itself; ``glueball info NAME --options --kind metric`` lists them.

    Raises:
        UnknownNameError: no active plugin offers it; the message gives near names and what to install.
        AmbiguousNameError: several plugins offer it; ask for ``plugin/name``.
        OptionError: it has no such option, or lacks one that it needs.
        BackendError: it does not run on the selected backend.
        PluginError: the plugin names an object that is not there or cannot be imported.
    """
    return _get("metric", name, options)


def get_task(name: str, **options: Any) -> Any:
    """Builds the task registered as ``name`` or ``plugin/name``: what ties a family of models to the engine.

    ``options`` are those of the task itself; ``glueball info NAME --options --kind task`` lists them.

    Raises:
        UnknownNameError: no active plugin offers it; the message gives near names and what to install.
        AmbiguousNameError: several plugins offer it; ask for ``plugin/name``.
        OptionError: it has no such option, or lacks one that it needs.
        BackendError: it does not run on the selected backend.
        PluginError: the plugin names an object that is not there or cannot be imported.
    """
    return _get("task", name, options)


def get_recipe(name: str, **options: Any) -> Any:
    """Builds the recipe registered as ``name`` or ``plugin/name``: what ``glueball train`` trains, and how.

    ``options`` are those of the recipe itself; ``glueball info NAME --options --kind recipe`` lists them.

    Raises:
        UnknownNameError: no active plugin offers it; the message gives near names and what to install.
        AmbiguousNameError: several plugins offer it; ask for ``plugin/name``.
        OptionError: it has no such option, or lacks one that it needs.
        BackendError: it does not run on the selected backend.
        PluginError: the plugin names an object that is not there or cannot be imported.
    """
    return _get("recipe", name, options)


def list_datasets(pattern: str | re.Pattern[str] | None = None, *, plugin: str | None = None) -> list[str]:
    """Names of the data sets that the active plugins offer; imports none of them.

    ``pattern`` and the conditions are those of ``list_models``.

    Raises:
        OptionError: the pattern cannot be read, or the plugin is not active.
        UnknownNameError: no such plugin is installed.
    """
    return _list("dataset", pattern, plugin=plugin)


def list_transforms(pattern: str | re.Pattern[str] | None = None, *, plugin: str | None = None) -> list[str]:
    """Names of the transforms that the active plugins offer; imports none of them.

    ``pattern`` and the conditions are those of ``list_models``.

    Raises:
        OptionError: the pattern cannot be read, or the plugin is not active.
        UnknownNameError: no such plugin is installed.
    """
    return _list("transform", pattern, plugin=plugin)


def list_losses(pattern: str | re.Pattern[str] | None = None, *, plugin: str | None = None) -> list[str]:
    """Names of the losses that the active plugins offer; imports none of them.

    ``pattern`` and the conditions are those of ``list_models``.

    Raises:
        OptionError: the pattern cannot be read, or the plugin is not active.
        UnknownNameError: no such plugin is installed.
    """
    return _list("loss", pattern, plugin=plugin)


def list_metrics(pattern: str | re.Pattern[str] | None = None, *, plugin: str | None = None) -> list[str]:
    """Names of the metrics that the active plugins offer; imports none of them.

    ``pattern`` and the conditions are those of ``list_models``.

    Raises:
        OptionError: the pattern cannot be read, or the plugin is not active.
        UnknownNameError: no such plugin is installed.
    """
    return _list("metric", pattern, plugin=plugin)


def list_tasks(pattern: str | re.Pattern[str] | None = None, *, plugin: str | None = None) -> list[str]:
    """Names of the tasks that the active plugins offer; imports none of them.

    ``pattern`` and the conditions are those of ``list_models``.

    Raises:
        OptionError: the pattern cannot be read, or the plugin is not active.
        UnknownNameError: no such plugin is installed.
    """
    return _list("task", pattern, plugin=plugin)


def list_recipes(
    pattern: str | re.Pattern[str] | None = None, *, task: str | None = None, plugin: str | None = None
) -> list[str]:
    """Names of the recipes that the active plugins offer; imports none of them.

    ``pattern`` and the conditions are those of ``list_models``.

    Raises:
        OptionError: the pattern cannot be read, or no plugin knows the task.
        UnknownNameError: no such plugin is installed.
    """
    return _list("recipe", pattern, task=task, plugin=plugin)

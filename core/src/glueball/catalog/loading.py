"""From an entry point to entries: all that a plugin registers, or a reason why nothing of it is kept.

pluggy finds the hooks and checks their arguments. The manager holds one plugin at a time, because every call's
``register`` belongs to one plugin, and so that a plugin which fails leaves nothing behind for the next.
"""

from __future__ import annotations

import contextlib
import sys
from typing import Any

import pluggy

from glueball import hookspecs
from glueball.catalog.discovery import Source
from glueball.catalog.entries import HOOKS, Entry, check_metadata, check_name, check_target
from glueball.catalog.suggestions import did_you_mean
from glueball.errors import PluginError
from glueball.plugin import PROJECT


class Registrar:
    """The ``register`` of one plugin: collects entries, and keeps them back until the plugin is through."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.entries: dict[tuple[str, str], Entry] = {}
        self.error: PluginError | None = None
        self._kind: str | None = None

    def open(self, kind: str | None) -> None:
        """From now on ``register`` adds entries of this kind; None closes it."""
        self._kind = kind

    def __call__(self, name: str, target: str, *, summary: str = "", **metadata: Any) -> None:
        try:
            self._register(name, target, {"summary": summary, **metadata} if summary else metadata)
        except PluginError as error:
            # Kept, so that a plugin which swallows it does not end up half-registered.
            self.error = self.error or error
            raise

    def _register(self, name: str, target: str, metadata: dict[str, Any]) -> None:
        kind = self._kind
        if kind is None:
            raise PluginError(
                f"register('{name}', ...) was called after the hooks were through. Call it inside the hook."
            )
        check_name(kind, name)
        check_target(kind, name, target)
        check_metadata(kind, name, metadata)
        key = (kind, name.casefold())
        if key in self.entries:
            first = self.entries[key]
            raise PluginError(
                f"The plugin registers {kind} '{name}' twice: with target '{first.target}', then with '{target}'. "
                "Names must differ in more than their case."
            )
        self.entries[key] = Entry(kind, name, target, self.source.name, self.source.distribution, metadata)


class _HookError(PluginError):
    """What is wrong with the hooks of a plugin; told without a traceback, which would show our own code."""


class _Manager(pluggy.PluginManager):
    """pluggy's manager, which looks closely at every attribute of a plugin; modules have many that cannot be hooks."""

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        return None if name.startswith("__") else super().parse_hookimpl_opts(plugin, name)


def new_manager() -> pluggy.PluginManager:
    """pluggy's manager with our hooks and no plugin."""
    manager = _Manager(PROJECT)
    manager.add_hookspecs(hookspecs)
    return manager


def _check_hooks(manager: pluggy.PluginManager, plugin: Any) -> None:
    """Catches the mistakes that would otherwise leave a hook uncalled in silence."""
    callers = manager.get_hookcallers(plugin) or []
    for caller in callers:
        if not caller.has_spec():
            raise _HookError(
                f"It implements '{caller.name}', which is no hook of Glueball."
                f"{did_you_mean(caller.name, HOOKS.values())} The hooks are {', '.join(HOOKS.values())}."
            )
    implemented = {caller.name for caller in callers}
    for hook in HOOKS.values():
        if hook not in implemented and callable(getattr(plugin, hook, None)):
            raise _HookError(
                f"Its function '{hook}' is not marked, so it would never be called. Put @hookimpl above it."
            )
    if not callers:
        raise _HookError(
            "It implements no hook. Mark at least one function with @hookimpl from glueball.plugin; the hooks are "
            f"{', '.join(HOOKS.values())}."
        )


def _quiet() -> contextlib.AbstractContextManager[Any]:
    """Within it, what a plugin prints goes to the error stream: standard output may be JSON that a program reads."""
    return contextlib.redirect_stdout(sys.stderr)


def load(source: Source, manager: pluggy.PluginManager) -> list[Entry]:
    """Imports a plugin and calls its hooks.

    Raises:
        PluginError: the plugin cannot be imported or registers what cannot be right; the message says why, the cause
            is what its code raised. Nothing that it registered is kept.
    """
    try:
        with _quiet():
            plugin = source.load()
    # SystemExit too: a script that ends the interpreter on import must not end every program that lists models.
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"Importing '{source.module}' raised {type(error).__name__}: {error}. {_cure(source, error)}"
        ) from error
    registrar = Registrar(source)
    try:
        manager.register(plugin, name=source.name)
        _check_hooks(manager, plugin)
        for kind, hook in HOOKS.items():
            registrar.open(kind)
            with _quiet():
                results = getattr(manager.hook, hook)(register=registrar)
            if registrar.error is not None:
                raise registrar.error
            if results:
                raise _HookError(
                    f"Its hook '{hook}' returned {results[0]!r}, and a hook returns nothing: call register(...) for "
                    "each entry, and do not yield."
                )
    except pluggy.PluginValidationError as error:
        raise PluginError(f"Its hooks do not fit: {error}. Write them as glueball.hookspecs shows.") from error
    except _HookError as error:
        raise PluginError(str(error)) from None
    except PluginError:
        raise
    except (Exception, SystemExit) as error:
        raise PluginError(
            f"Registering raised {type(error).__name__}: {error}. Report it to the plugin's author."
        ) from error
    finally:
        registrar.open(None)
        if manager.is_registered(plugin):
            manager.unregister(plugin)
    return list(registrar.entries.values())


def _cure(source: Source, error: BaseException) -> str:
    own = source.module.partition(":")[0].partition(".")[0]
    if isinstance(error, ModuleNotFoundError) and error.name and error.name.partition(".")[0] != own:
        return f"Install what it needs: pip install --force-reinstall {source.distribution}"
    return (
        f"Reinstall or upgrade it (pip install --upgrade {source.distribution}), or report it to the plugin's author."
    )


def failure_details(error: BaseException) -> str:
    """The traceback of what the plugin's code raised; empty where our own checks found the mistake."""
    import traceback  # imported late: only mistakes need it

    cause = error.__cause__
    return "".join(traceback.format_exception(type(cause), cause, cause.__traceback__)) if cause is not None else ""

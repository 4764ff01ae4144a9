"""From a name to an entry, and from an entry to the object that it names."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import Any

from glueball.catalog.entries import PLURALS, Entry, PluginInfo
from glueball.catalog.suggestions import did_you_mean
from glueball.errors import AmbiguousNameError, GlueballError, PluginError, UnknownNameError


def ambiguous(kind: str, name: str, candidates: Iterable[Entry]) -> AmbiguousNameError:
    """The error for a name that several plugins offer: both owners, both cures."""
    entries = sorted(candidates, key=lambda entry: entry.plugin)
    owners = " and ".join(f"'{entry.plugin}' (distribution {entry.distribution})" for entry in entries)
    choices = " or ".join(f"'{entry.qualified_name}'" for entry in entries)
    return AmbiguousNameError(
        f"The {kind} '{name}' is offered by the plugins {owners}, and none of them wins. "
        f"Ask for {choices}, or block one of the plugins: GLUEBALL_BLOCK_PLUGINS={entries[-1].plugin}"
    )


def unknown(kind: str | None, name: str, entries: Iterable[Entry], plugins: Iterable[PluginInfo]) -> UnknownNameError:
    """The error for a name that no active plugin offers: near names, and what could bring it.

    ``entries`` are those of the kind, or of all kinds where ``kind`` is None.
    """
    from glueball.catalog.families import family_of  # imported late: only mistakes need it

    known = [entry.name for entry in entries]
    infos = list(plugins)
    message = f"No plugin offers {'anything' if kind is None else f'a {kind}'} named '{name}'."
    prefix, slash, rest = name.partition("/")
    # In any case, as names are.
    plugin = next((info for info in infos if info.name.casefold() == prefix.casefold()), None) if slash else None
    if slash and plugin is None:
        message += f" No plugin '{prefix}' is installed.{did_you_mean(prefix, [info.name for info in infos])}"
    elif plugin is not None and plugin.state != "active":
        message += f" The plugin '{plugin.name}' is {plugin.state}: {plugin.reason}"
    else:
        message += did_you_mean(rest or name, known)
    unusable = sorted({info.name for info in infos if info.state in ("failed", "incompatible", "conflict")})
    if unusable:
        message += f" Plugins that could not be used: {', '.join(unusable)}; 'glueball plugins list' says why."
    family = family_of(prefix if slash else name)
    of_family = [info for info in infos if family is not None and info.name == family.plugin]
    if family is not None and not of_family:
        return UnknownNameError(
            f"{message} Such names come with {family.distribution} ({family.summary}): "
            f"pip install {family.distribution}"
        )
    for info in of_family:
        if info.state != "active" and info is not plugin:
            message += f" Such names come with the plugin '{info.name}' ({info.state}): {info.reason}"
    message += f" 'glueball list {PLURALS[kind]}' shows all {len(known)}." if kind is not None else ""
    return UnknownNameError(message)


def resolve(entry: Entry) -> Any:
    """Imports the target of ``entry``.

    Raises:
        PluginError: the target is not there, or its module cannot be imported; the cause is what was raised.
        GlueballError: what the module itself raised, such as BackendError where no backend is installed.
    """
    module_name, _, path = entry.target.partition(":")
    owner = f"{entry.kind} '{entry.name}' of plugin '{entry.plugin}' (distribution {entry.distribution})"
    try:
        value: Any = import_module(module_name)
    except GlueballError:
        raise
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is not None and (module_name == missing or module_name.startswith(f"{missing}.")):
            cure = "The plugin names a module that it does not have: report it to its author."
        elif missing is not None:
            cure = f"Install what it needs: pip install --force-reinstall {entry.distribution}"
        else:
            cure = f"Upgrade it (pip install --upgrade {entry.distribution}) or report it to its author."
        raise PluginError(
            f"The {owner} cannot be used: importing '{module_name}' raised {type(error).__name__}: {error}. {cure}"
        ) from error
    for part in path.split("."):
        try:
            value = getattr(value, part)
        except AttributeError as error:
            raise PluginError(
                f"The {owner} cannot be used: '{module_name}' has no '{path}'."
                f"{did_you_mean(part, [name for name in dir(value) if not name.startswith('_')])}"
                " Report it to the plugin's author."
            ) from error
    if not callable(value):
        raise PluginError(
            f"The {owner} cannot be used: its target '{entry.target}' is {value!r}, and not callable. "
            "Report it to the plugin's author."
        )
    return value

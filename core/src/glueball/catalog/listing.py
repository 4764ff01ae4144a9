"""Choosing among entries: what the ``list_*`` functions and ``glueball list`` have in common."""

from __future__ import annotations

import re
from fnmatch import translate

from glueball.catalog.catalog import Catalog
from glueball.catalog.entries import Entry
from glueball.catalog.suggestions import did_you_mean
from glueball.errors import OptionError


def compiled(pattern: str | re.Pattern[str]) -> re.Pattern[str]:
    """A regular expression to search names with, whatever way the pattern is written.

    A compiled pattern and a text that begins with ``^`` are regular expressions; a text with ``*``, ``?`` or ``[`` is
    matched as shells match file names; any other text is looked for anywhere in the name. Case does not count.

    Raises:
        OptionError: the regular expression cannot be compiled.
    """
    if isinstance(pattern, re.Pattern):
        return pattern
    try:
        if pattern.startswith("^"):
            return re.compile(pattern, re.IGNORECASE)
        if any(sign in pattern for sign in "*?["):
            return re.compile(rf"\A{translate(pattern)}", re.IGNORECASE)
    except re.error as error:
        raise OptionError(
            f"pattern must be a regular expression where it begins with '^': {error}. Received: {pattern!r}"
        ) from error
    return re.compile(re.escape(pattern), re.IGNORECASE)


def select(
    catalog: Catalog,
    kind: str,
    pattern: str | re.Pattern[str] | None = None,
    *,
    task: str | None = None,
    plugin: str | None = None,
    pretrained: bool | str | None = None,
) -> list[Entry]:
    """The entries of a kind that fit every condition, by name.

    Raises:
        OptionError: the pattern cannot be read, or no entry of the kind and no plugin knows such a task.
        UnknownNameError: no such plugin is installed.
    """
    entries = catalog.entries(kind)
    if plugin is not None:
        info = catalog.plugin(plugin)
        wanted = plugin.casefold()
        entries = [one for one in entries if wanted in (one.plugin.casefold(), one.distribution.casefold())]
        if info.state != "active":
            raise OptionError(f"The plugin '{plugin}' offers nothing, it is {info.state}: {info.reason}")
    if task is not None:
        known = {entry.name for entry in catalog.entries("task")}
        known |= {entry.task for entry in catalog.entries(kind) if entry.task is not None}
        if task not in known:
            raise OptionError(
                f"task must be a task that some plugin knows.{did_you_mean(task, known)} "
                f"Known: {', '.join(sorted(known)) or 'none'}. Received: {task!r}"
            )
        entries = [entry for entry in entries if entry.task == task]
    if pretrained is not None:
        if isinstance(pretrained, str):
            entries = [entry for entry in entries if pretrained in entry.weights]
        else:
            entries = [entry for entry in entries if bool(entry.weights) == pretrained]
    if pattern is not None:
        expression = compiled(pattern)
        entries = [entry for entry in entries if expression.search(entry.name)]
    return entries


def usable_name(catalog: Catalog, entry: Entry) -> str:
    """The shortest name that finds ``entry``: its own, or ``plugin/name`` where another plugin has the same."""
    return entry.qualified_name if catalog.is_ambiguous(entry) else entry.name

"""Which plugins are installed: the entry points of the group ``glueball.plugins``.

Through importlib-metadata, with two detours for speed. Of every distribution only ``entry_points.txt`` is read, and it
is parsed only where it holds the group: parsing what 600 distributions say about themselves takes seconds, reading it
takes milliseconds. Of the core metadata only the header's lines are read, without the e-mail parser. Which of two
distributions with one name counts is importlib-metadata's own decision: the first on ``sys.path``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import attrs

from glueball.catalog.compatibility import normalized

if TYPE_CHECKING:
    from importlib_metadata import Distribution

GROUP = "glueball.plugins"


@attrs.frozen
class Source:
    """One entry point: where a plugin would be imported from."""

    name: str
    module: str
    """``"package.module"``, or ``"package.module:attribute"`` for an object that carries the hooks."""
    distribution: str
    version: str = ""
    requirements: tuple[str, ...] = ()
    location: str = ""
    loaded: Any = attrs.field(default=None, eq=False, repr=False)
    """A plugin that is there already and not imported: tests and notebooks register objects."""

    def load(self) -> Any:
        """Imports what the entry point names. Whatever the plugin's code raises passes through."""
        if self.loaded is not None:
            return self.loaded
        from importlib import import_module

        module, _, attribute = self.module.partition(":")
        loaded: Any = import_module(module.strip())
        for part in attribute.split("[")[0].strip().split("."):
            if part:
                loaded = getattr(loaded, part)
        return loaded


def _headers(text: str) -> dict[str, list[str]]:
    """Fields of core metadata up to the description, keys in lower case."""
    fields: dict[str, list[str]] = {}
    values: list[str] = []
    for line in text.splitlines():
        if not line.strip():
            break
        if line[0] in " \t" and values:
            values[-1] += f" {line.strip()}"
            continue
        key, _, value = line.partition(":")
        values = fields.setdefault(key.strip().lower(), [])
        values.append(value.strip())
    return fields


def _metadata(distribution: Distribution) -> dict[str, list[str]]:
    return _headers(
        # The same files, in the same order, as importlib-metadata tries; the last is an egg-info that is a file.
        distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or distribution.read_text("") or ""
    )


def _sources_of(distribution: Distribution, fields: dict[str, list[str]]) -> Iterator[Source]:
    for entry_point in distribution.entry_points:
        if entry_point.group == GROUP:
            yield Source(
                name=entry_point.name,
                module=entry_point.value,
                distribution=fields["name"][0],
                version=fields.get("version", [""])[0],
                requirements=tuple(fields.get("requires-dist", ())),
                location=os.fspath(distribution.locate_file("")),  # type: ignore[arg-type]
            )


def installed_sources() -> list[Source]:
    """Every entry point of the group on ``sys.path``, by plugin name and then by distribution.

    A distribution that is on the path twice (an editable one next to a built one, a folder listed twice) counts once;
    a copy that is shadowed by an earlier one of the same name does not count, whatever it offers.
    """
    import importlib_metadata

    found: dict[str, list[Source]] = {}
    for candidate in importlib_metadata.distributions():
        text = candidate.read_text("entry_points.txt")
        if not text or GROUP not in text:
            continue
        fields = _metadata(candidate)
        if not fields.get("name"):
            continue  # What an interrupted installation left behind; nothing could import it by a name either.
        key = normalized(fields["name"][0])
        if key in found:
            continue
        winner = importlib_metadata.distribution(fields["name"][0])
        if winner.read_text("entry_points.txt") != text:
            fields = _metadata(winner)
        found[key] = list(_sources_of(winner, fields)) if fields.get("name") else []
    return sorted_sources(source for sources in found.values() for source in sources)


def sorted_sources(sources: Iterable[Source]) -> list[Source]:
    """The sources in the order in which they are loaded: nothing may depend on the order of folders on the disk."""
    return sorted(sources, key=lambda source: (source.name, source.distribution))

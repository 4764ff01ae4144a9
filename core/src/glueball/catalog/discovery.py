"""Which plugins are installed: core's own module, and the entry points of the group ``glueball.plugins``.

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

if TYPE_CHECKING:
    from importlib_metadata import Distribution

GROUP = "glueball.plugins"

CORE = "core"
"""The name under which core itself offers what belongs to no one family."""


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
    built_in: bool = False
    """Core's own: always there, whatever is selected, and nobody else can have its name."""

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


def _entry_points(text: str) -> Iterator[tuple[str, str]]:
    """Names and values of the group in ``entry_points.txt``, read as importlib-metadata reads it."""
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif line and not line.startswith("#") and section == GROUP:
            name, _, value = line.partition("=")
            yield name.strip(), value.strip()


def _name(distribution: Distribution) -> str:
    """The name as it is compared. importlib-metadata takes it from the folder's name where it can, without reading."""
    name = getattr(distribution, "_normalized_name", None) or distribution.metadata["Name"] or ""
    return str(name).replace("_", "-")


def _effective_distributions() -> Iterable[Distribution]:
    """Of each name the first distribution on ``sys.path``: an earlier one shadows all later ones."""
    import importlib_metadata

    first: dict[str, Distribution] = {}
    for distribution in importlib_metadata.distributions():
        name = _name(distribution)
        # A folder without metadata is what an interrupted installation left behind, and shadows nothing.
        if name not in first or not _metadata(first[name]).get("name"):
            first[name] = distribution
    return first.values()


def own_source() -> Source:
    """What core itself offers. No entry point: it must be there even where metadata is stale or missing."""
    import glueball

    folder = os.path.dirname(os.path.dirname(os.path.abspath(glueball.__file__)))
    version = glueball.__version__
    return Source(CORE, "glueball.builtin.plugin", "glueball-core", version, location=folder, built_in=True)


def installed_sources() -> list[Source]:
    """Core's own source and every entry point of the group on ``sys.path``, by plugin name and then by distribution.

    A distribution that is on the path twice (an editable one next to a built one, a folder listed twice) counts once;
    a copy that is shadowed by an earlier one of the same name does not count, whatever it offers.
    """
    found = [own_source()]
    for distribution in _effective_distributions():
        text = distribution.read_text("entry_points.txt")
        if not text or GROUP not in text:
            continue
        fields = _metadata(distribution)
        if not fields.get("name"):
            continue
        found += [
            Source(
                name=name,
                module=value,
                distribution=fields["name"][0],
                version=fields.get("version", [""])[0],
                requirements=tuple(fields.get("requires-dist", ())),
                location=os.fspath(distribution.locate_file("")),  # type: ignore[arg-type]
            )
            for name, value in _entry_points(text)
        ]
    return sorted_sources(found)


def sorted_sources(sources: Iterable[Source]) -> list[Source]:
    """The sources in the order in which they are loaded: nothing may depend on the order of folders on the disk."""
    return sorted(sources, key=lambda source: (source.name, source.distribution))

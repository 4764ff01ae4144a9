"""Which of the installed plugins the user wants, from the environment."""

from __future__ import annotations

import os
from collections.abc import Iterable

import attrs

from glueball.catalog.compatibility import normalized
from glueball.catalog.discovery import Source
from glueball.catalog.suggestions import did_you_mean

ONLY = "GLUEBALL_PLUGINS"
BLOCK = "GLUEBALL_BLOCK_PLUGINS"
STRICT = "GLUEBALL_STRICT_PLUGINS"


def _names(variable: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in os.environ.get(variable, "").split(",") if name.strip())


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() not in ("", "0", "false", "no", "off")


@attrs.frozen
class Selection:
    """Names of plugins, or of the distributions that bring them: only those can tell two plugins of one name apart."""

    only: tuple[str, ...] | None = None
    """Load these alone; None loads all, an empty tuple none."""
    block: tuple[str, ...] = ()
    strict: bool = False
    """Raise where a plugin cannot be used, instead of reporting it."""

    @classmethod
    def from_environment(cls) -> Selection:
        """GLUEBALL_PLUGINS (set but empty: none), GLUEBALL_BLOCK_PLUGINS, GLUEBALL_STRICT_PLUGINS."""
        return cls(
            only=_names(ONLY) if ONLY in os.environ else None,
            block=_names(BLOCK),
            strict=_is_on(STRICT),
        )

    def reason_to_block(self, source: Source) -> str | None:
        """Why ``source`` is not wanted; None when it is, as core's own always is: recipes count on its metrics."""
        if source.built_in or (self.only is None and not self.block):
            return None
        own = {source.name, normalized(source.distribution)}
        if any(name in own or normalized(name) == normalized(source.distribution) for name in self.block):
            return f"{BLOCK} names it. Take it out of {BLOCK} to use it."
        if self.only is None or any(
            name in own or normalized(name) == normalized(source.distribution) for name in self.only
        ):
            return None
        listed = ",".join((*self.only, source.name))
        return f"{ONLY} does not name it. Set {ONLY}={listed} to use it, or unset {ONLY} to use all."

    def problems(self, sources: Iterable[Source]) -> list[str]:
        """Names in the variables that have no effect: they fit no installed plugin, or block what is always there."""
        if not self.only and not self.block:
            return []
        sources = list(sources)
        known = {name for source in sources for name in (source.name, source.distribution)}
        compared = {normalized(name) for name in known} | known
        always = {name for source in sources if source.built_in for name in (source.name, source.distribution)}
        return [
            f"{BLOCK} names '{name}', which is a part of Glueball itself and stays. Take it out of {BLOCK}."
            for name in self.block
            if name in always or normalized(name) in map(normalized, always)
        ] + [
            f"{variable} names '{name}', but no such plugin is installed.{did_you_mean(name, known)}"
            for variable, names in ((ONLY, self.only or ()), (BLOCK, self.block))
            for name in names
            if name not in compared and normalized(name) not in compared
        ]

"""The catalogue: every name that the active plugins offer.

Nothing is scanned before the first question, everything is scanned once, and a plugin that cannot be used is reported
and skipped: one broken plugin must not take the others' names away.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from glueball.catalog.compatibility import unmet_requirement
from glueball.catalog.discovery import Source, installed_sources, sorted_sources
from glueball.catalog.entries import KINDS, Entry, PluginInfo, State
from glueball.catalog.resolution import ambiguous, resolve, unknown
from glueball.catalog.selection import Selection
from glueball.catalog.suggestions import did_you_mean
from glueball.errors import PluginError, UnknownNameError


class _Contents:
    """The result of one scan; never changed afterwards, so that readers need no lock."""

    def __init__(self, plugins: list[PluginInfo], entries: list[Entry], problems: list[str]) -> None:
        self.plugins = plugins
        self.problems = problems
        self.by_kind: dict[str, list[Entry]] = {kind: [] for kind in KINDS}
        self.by_name: dict[tuple[str, str], list[Entry]] = {}
        for entry in entries:
            self.by_kind[entry.kind].append(entry)
            for name in (entry.name, entry.qualified_name):
                self.by_name.setdefault((entry.kind, name.casefold()), []).append(entry)
        for of_kind in self.by_kind.values():
            of_kind.sort(key=lambda entry: (entry.name.casefold(), entry.plugin))


class Catalog:
    """What plugins offer, by kind and name.

    ``sources`` gives the plugins to look at, ``selection`` those that are wanted; both are asked at the first question
    and not before.
    """

    def __init__(
        self,
        sources: Callable[[], Iterable[Source]] = installed_sources,
        selection: Callable[[], Selection] = Selection.from_environment,
    ) -> None:
        self._sources = sources
        self._selection = selection
        self._contents: _Contents | None = None
        self._lock = threading.RLock()
        self._scanning = False

    def entries(self, kind: str) -> list[Entry]:
        """All entries of a kind by name, those with ambiguous names too.

        Raises:
            UnknownNameError: there is no such kind.
        """
        return list(self._scanned().by_kind[self._checked(kind)])

    def find(self, kind: str, name: str) -> Entry:
        """The entry for ``name`` or ``plugin/name``, in any case.

        Raises:
            UnknownNameError: no active plugin offers it; the message gives near names and what to install.
            AmbiguousNameError: several plugins offer it; ``plugin/name`` tells them apart.
            PluginError: GLUEBALL_STRICT_PLUGINS is set and a plugin cannot be used.
        """
        contents = self._scanned()
        found = contents.by_name.get((self._checked(kind), str(name).casefold()), [])
        if len(found) == 1:
            return found[0]
        if found:
            raise ambiguous(kind, name, found)
        raise unknown(kind, str(name), contents.by_kind[kind], contents.plugins)

    def is_ambiguous(self, entry: Entry) -> bool:
        """Whether another plugin offers the same name, so that only the qualified one can be used."""
        return len(self._scanned().by_name[entry.kind, entry.name.casefold()]) > 1

    def resolve(self, entry: Entry) -> Any:
        """Imports the one object that ``entry`` names (``glueball.catalog.resolution.resolve`` says what it raises)."""
        return resolve(entry)

    def plugins(self) -> list[PluginInfo]:
        """All installed plugins by name, with their states."""
        return list(self._scanned().plugins)

    def plugin(self, name: str) -> PluginInfo:
        """One installed plugin, by its name or its distribution's, in any case.

        Raises:
            UnknownNameError: it is not installed.
            AmbiguousNameError: never; of two distributions that claim the name, the first is given.
        """
        plugins = self._scanned().plugins
        for info in plugins:
            if name.casefold() in (info.name.casefold(), info.distribution.casefold()):
                return info
        raise UnknownNameError(
            f"No plugin '{name}' is installed.{did_you_mean(name, [info.name for info in plugins])}"
            f" Installed: {', '.join(sorted({info.name for info in plugins})) or 'none'}."
        )

    def problems(self) -> list[str]:
        """What is wrong with the selection itself: names in the environment that fit no plugin."""
        return list(self._scanned().problems)

    def refresh(self) -> None:
        """Forgets the scan, so that the next question looks again at what is installed and selected."""
        import importlib

        with self._lock:
            importlib.invalidate_caches()
            self._contents = None

    @staticmethod
    def _checked(kind: str) -> str:
        if kind not in KINDS:
            raise UnknownNameError(
                f"There is no kind of entry '{kind}'.{did_you_mean(str(kind), KINDS)} The kinds are {', '.join(KINDS)}."
            )
        return kind

    def _scanned(self) -> _Contents:
        contents = self._contents
        if contents is not None:
            return contents
        with self._lock:
            if self._contents is None:
                if self._scanning:
                    raise PluginError(
                        "A plugin asks the catalogue for a name while the catalogue is asking the plugin for its. "
                        "Register names and addresses only; look others up when they are used."
                    )
                self._scanning = True
                try:
                    self._contents = self._scan()
                finally:
                    self._scanning = False
            return self._contents

    def _scan(self) -> _Contents:
        from glueball import __version__
        from glueball.catalog.loading import failure_details, load, new_manager

        selection = self._selection()
        sources = sorted_sources(self._sources())
        problems = selection.problems(sources)
        if selection.strict and problems:
            raise PluginError(problems[0])
        claims: dict[str, list[Source]] = {}
        for source in sources:
            if selection.reason_to_block(source) is None:
                claims.setdefault(source.name, []).append(source)
        manager = new_manager()
        plugins: list[PluginInfo] = []
        entries: list[Entry] = []
        for source in sources:
            registered: list[Entry] = []
            error: PluginError | None = None
            state: State = "active"
            reason = selection.reason_to_block(source) or ""
            if reason:
                state = "blocked"
            elif source.built_in:
                registered = load(source, manager)
            elif any(rival.built_in for rival in claims[source.name]):
                state, reason = "conflict", _reserved(source)
            elif len(claims[source.name]) > 1:
                state, reason = "conflict", _conflict(source, claims[source.name])
            elif requirement := unmet_requirement(source.requirements, __version__):
                state = "incompatible"
                reason = (
                    f"{source.distribution} {source.version} requires '{requirement}', and glueball-core {__version__} "
                    f"is installed. Upgrade what is older: pip install --upgrade {source.distribution} glueball-core"
                )
            else:
                try:
                    registered = load(source, manager)
                except PluginError as failure:
                    state, reason, error = "failed", str(failure), failure
            if selection.strict and state not in ("active", "blocked"):
                raise PluginError(
                    f"The plugin '{source.name}' of {source.distribution} is {state}: {reason} "
                    "(Raised because GLUEBALL_STRICT_PLUGINS is set.)"
                ) from error
            entries += registered
            kinds = [entry.kind for entry in registered]
            plugins.append(
                PluginInfo(
                    name=source.name,
                    distribution=source.distribution,
                    version=source.version,
                    module=source.module,
                    state=state,
                    reason=reason,
                    details=failure_details(error) if error is not None else "",
                    counts={kind: kinds.count(kind) for kind in KINDS if kind in kinds},
                    location=source.location,
                )
            )
        return _Contents(plugins, entries, problems)


def _reserved(source: Source) -> str:
    return (
        f"The distribution {source.distribution} claims the plugin name '{source.name}', which is Glueball's own, so "
        f"it is not used. Uninstall it (pip uninstall {source.distribution}), or ask its author for another name."
    )


def _conflict(source: Source, rivals: list[Source]) -> str:
    others = " and ".join(sorted({rival.distribution for rival in rivals} - {source.distribution}))
    if not others:
        return (
            f"The distribution {source.distribution} claims the plugin name '{source.name}' more than once. "
            "Report it to its author."
        )
    return (
        f"The distributions {source.distribution} and {others} both claim the plugin name '{source.name}', so neither "
        f"is used. Uninstall one (pip uninstall {source.distribution}), or block one by the name of its distribution: "
        f"GLUEBALL_BLOCK_PLUGINS={source.distribution}"
    )

"""A catalogue for one test, whatever is installed on the machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from glueball import catalog
from glueball.catalog import Catalog
from glueball.catalog.discovery import Source, installed_sources, own_source
from glueball.catalog.selection import Selection

DISTRIBUTION = "glueball-isolated-tests"
"""The distribution that plugins given as objects seem to come from."""


@contextmanager
def isolated_catalog(
    plugins: Mapping[str, Any] | None = None,
    *,
    installed: bool | Sequence[str] = False,
    sources: Sequence[Source] = (),
    selection: Selection | None = None,
) -> Iterator[Catalog]:
    """Within it, ``glueball.get_model`` and all others see these plugins alone, whatever the environment selects.

    Losses and metrics that core itself registers are there too, as everywhere.

    Args:
        plugins: name of a plugin -> the module or object that carries its hooks.
        installed: True adds all installed plugins, names add these.
        sources: further plugins as discovery would find them.
        selection: what GLUEBALL_PLUGINS and its like would select; all by default.

    Example::

        class Flowers:
            @hookimpl
            def register_models(self, register):
                register("flowernet", "flowers.models:flowernet", task="image_classification")


        with isolated_catalog({"flowers": Flowers()}):
            assert glueball.list_models() == ["flowernet"]
    """

    def all_sources() -> list[Source]:
        found = [
            Source(name, getattr(plugin, "__name__", type(plugin).__qualname__), DISTRIBUTION, "0", loaded=plugin)
            for name, plugin in (plugins or {}).items()
        ]
        found += [own_source(), *sources]
        if installed:
            found += [
                source
                for source in installed_sources()
                if not source.built_in and (installed is True or source.name in installed)
            ]
        return found

    chosen = Selection() if selection is None else selection
    with catalog.replaced(Catalog(all_sources, lambda: chosen)) as current:
        yield current

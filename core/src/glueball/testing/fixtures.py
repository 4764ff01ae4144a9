"""The same as pytest fixtures: put ``pytest_plugins = ["glueball.testing.fixtures"]`` into ``conftest.py``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from glueball import testing
from glueball.catalog import Catalog


@pytest.fixture
def isolated_catalog() -> Iterator[Callable[..., Catalog]]:
    """Puts a catalogue in place until the test ends; takes what ``glueball.testing.isolated_catalog`` takes.

    Example::

        def test_flowernet_is_found(isolated_catalog):
            isolated_catalog({"flowers": Flowers()})
            assert glueball.list_models() == ["flowernet"]
    """
    with ExitStack() as stack:
        yield lambda *arguments, **options: stack.enter_context(testing.isolated_catalog(*arguments, **options))

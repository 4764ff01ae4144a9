"""What a plugin's author tests with.

``check_plugin("name")`` holds a plugin to its promises; ``isolated_catalog`` gives a test a catalogue of its own, and
``glueball.testing.fixtures`` the same as pytest fixtures. pytest itself is only needed for the fixtures.
"""

from __future__ import annotations

from glueball.testing.checks import Report, check_plugin, examine_plugin
from glueball.testing.isolation import isolated_catalog

__all__ = ["Report", "check_plugin", "examine_plugin", "isolated_catalog"]

"""Installed distributions for tests: folders with metadata and modules, as an installer would leave them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

MODEL = """
from glueball.plugin import hookimpl

@hookimpl
def register_models(register):
    register("{model}", "{module}_targets:build", task="image_classification", summary="Synthetic.")
"""

TARGETS = """
def build(**options):
    return options
"""


def install(
    folder: Path,
    distribution: str,
    *,
    plugin: str | None = None,
    code: str | None = None,
    model: str | None = None,
    module: str | None = None,
    version: str = "1.0",
    requires: Sequence[str] = (),
    entry_points: str | None = None,
    files: Mapping[str, str] | None = None,
) -> str:
    """Puts a distribution into ``folder``; with ``plugin`` it is one of Glueball's. Returns the module's name.

    The plugin's module holds ``code``, or registers one model called ``model``.
    """
    stem = distribution.replace("-", "_")
    name = module or f"{stem}_module"
    info = folder / f"{stem}-{version}.dist-info"
    info.mkdir(parents=True)
    header = ["Metadata-Version: 2.1", f"Name: {distribution}", f"Version: {version}"]
    header += [f"Requires-Dist: {requirement}" for requirement in requires]
    (info / "METADATA").write_text("\n".join(header) + "\n\nA description.\nRequires-Dist: not-a-header\n")
    if entry_points is None and plugin is not None:
        entry_points = f"[console_scripts]\nsomething = {name}:main\n\n[glueball.plugins]\n{plugin} = {name}\n"
    if entry_points is not None:
        (info / "entry_points.txt").write_text(entry_points)
    if plugin is not None or code is not None:
        (folder / f"{name}.py").write_text(code if code is not None else MODEL.format(model=model, module=name))
        (folder / f"{name}_targets.py").write_text(TARGETS)
    for path, content in (files or {}).items():
        (folder / path).write_text(content)
    return name

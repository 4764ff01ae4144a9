"""What a run ran on, so that a result can be explained later. Names, versions and sizes; no user names."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any

_DISTRIBUTIONS = ("glueball-core", "numpy", "safetensors", "pillow", "simplejpeg", "opencv-python-headless")


def describe(backend: Any, device: str) -> dict[str, Any]:
    """Versions, processor, device and threads, in terms that JSON knows."""
    from glueball import catalog
    from glueball.backend import processor

    versions = {}
    for name in _DISTRIBUTIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "backend": {"name": backend.name, "version": backend.version()},
        "device": {"name": device, "description": backend.describe_device(device)},
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor.name(),
        "cores": _cores(),
        "versions": versions,
        "plugins": {item.name: item.version for item in catalog.current().plugins() if item.state == "active"},
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }


def _cores() -> int:
    # What this process may use; a container or taskset often allows fewer than the machine has.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1

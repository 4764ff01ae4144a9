"""The CPU: its name, and the instruction sets that decide which precision pays."""

from __future__ import annotations

import functools
import platform
import re
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")


def name() -> str:
    """The CPU in words, as far as the system tells."""
    return _field("model name") or platform.processor() or platform.machine()


def flags() -> frozenset[str]:
    """Instruction sets as Linux names them (``avx512_bf16``, ``amx_bf16``; on ARM ``bf16``); empty where unknown."""
    return frozenset(_field("flags|Features").split())


@functools.cache
def _field(key: str) -> str:
    """The first core's value of a line of ``/proc/cpuinfo``; empty where there is none."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.search(rf"^(?:{key})[ \t]*:[ \t]*(.*)$", text, re.MULTILINE)
    return found[1].strip() if found else ""

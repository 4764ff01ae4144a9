"""What somebody may have meant who asked for a name that is not there."""

from __future__ import annotations

import re
from collections.abc import Iterable


def _letters(name: str) -> str:
    """The name without separators: ``resnet50v1b`` should find ``resnet50_v1b``."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def near_names(name: str, known: Iterable[str], limit: int = 5) -> list[str]:
    """The known names that look like ``name``, best first: the same letters, then continued, then similar."""
    from difflib import get_close_matches  # imported late: only mistakes need it

    by_letters: dict[str, str] = {}
    for candidate in known:
        by_letters.setdefault(_letters(candidate), candidate)
    asked = _letters(name)
    if not asked:
        return []
    found = [by_letters[asked]] if asked in by_letters else []
    if len(asked) >= 3:
        # Short names in long ones only count where they begin the name: 'vgg' should not find 'ssd_512_vgg16_atrous'.
        found += sorted(known_name for letters, known_name in by_letters.items() if letters.startswith(asked))
    found += [by_letters[letters] for letters in get_close_matches(asked, by_letters, n=limit, cutoff=0.7)]
    return list(dict.fromkeys(found))[:limit]


def did_you_mean(name: str, known: Iterable[str], limit: int = 3) -> str:
    """A sentence with a leading space, such as `` Did you mean 'resnet18_v1b'?``, or nothing."""
    near = near_names(name, known, limit)
    return f" Did you mean {' or '.join(repr(candidate) for candidate in near)}?" if near else ""

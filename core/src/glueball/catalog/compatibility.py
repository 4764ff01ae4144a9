"""Whether a plugin fits this core, by the requirement that its distribution states.

The requirement is read before the plugin is imported: code that was written for another core should not run at all,
and installers read the same line, so there is one statement and not two that drift apart.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

CORE = "glueball-core"

# Nearly every requirement is this plain; `packaging` knows the whole of PEP 440 and PEP 508, but importing it costs
# more than reading all plugins does.
_CLAUSE = r"([<>]=?|[!=]=)(\d+(?:\.\d+)*)"
_PLAIN = re.compile(rf"[a-z_.-]+(?:\[[a-z0-9_.,-]*\])?((?:{_CLAUSE},)*{_CLAUSE})?")


def normalized(name: str) -> str:
    """The name of a distribution as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _release(version: str) -> tuple[int, ...] | None:
    """The numbers of a final release without trailing zeros; None for any other version."""
    if not re.fullmatch(r"\d+(\.\d+)*", version):
        return None
    numbers = [int(part) for part in version.split(".")]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def _fits_plainly(requirement: str, version: str) -> bool | None:
    """The answer for plain requirements and final releases; None where it takes all of PEP 440."""
    found = _PLAIN.fullmatch(requirement.lower().replace(" ", ""))
    core = _release(version)
    if found is None or core is None:
        return None
    for operator, number in re.findall(_CLAUSE, found.group(1) or ""):
        bound = _release(number) or ()
        fits = {
            ">=": core >= bound,
            "<=": core <= bound,
            ">": core > bound,
            "<": core < bound,
            "==": core == bound,
            "!=": core != bound,
        }[operator]
        if not fits:
            return False
    return True


def unmet_requirement(requirements: Iterable[str], version: str) -> str | None:
    """The first requirement on glueball-core that ``version`` does not meet; None when all are met.

    Requirements that only hold for an extra or for another Python or system do not count. One that cannot be read
    counts as unmet, because nobody can know what it asks for.
    """
    for requirement in requirements:
        # The first question is cheap and answers for nearly all.
        if (
            "glueball" not in requirement.lower()
            or normalized(re.split(r"[\s\[(<>=!~;@]", requirement.strip(), maxsplit=1)[0]) != CORE
        ):
            continue
        fits = _fits_plainly(requirement, version)
        if fits is None:
            from packaging.requirements import InvalidRequirement, Requirement

            try:
                parsed = Requirement(requirement)
            except InvalidRequirement:
                return requirement
            if parsed.marker is not None and not parsed.marker.evaluate({"extra": ""}):
                continue
            # A pre-release of core that was installed on purpose is judged by its number alone.
            fits = parsed.specifier.contains(version, prereleases=True)
        if not fits:
            return requirement
    return None

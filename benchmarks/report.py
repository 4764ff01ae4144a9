"""What the benchmarks share: where figures were taken, whether goals are met, and a table beside the raw figures."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any


@dataclasses.dataclass(frozen=True)
class Goal:
    """A figure and what is wanted of it."""

    text: str
    value: float
    wanted: float
    more_is_better: bool = True

    @property
    def is_met(self) -> bool:
        return self.value >= self.wanted if self.more_is_better else self.value <= self.wanted

    def __str__(self) -> str:
        sign = ">=" if self.more_is_better else "<="
        return f"{'met' if self.is_met else 'NOT MET'}: {self.text} = {self.value:.2f} (goal {sign} {self.wanted:g})"


def machine(distributions: Iterable[str] = ()) -> dict[str, Any]:
    """Where and with what figures are taken; ``distributions`` are named with their versions where installed."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": model,
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": versions(distributions),
    }


def versions(distributions: Iterable[str]) -> dict[str, str]:
    """The versions of those that are installed here."""
    found = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table: the first column is text, the others are figures."""
    rule = "| --- |" + " ---: |" * (len(header) - 1)
    return [f"| {' | '.join(header)} |", rule, *(f"| {' | '.join(row)} |" for row in rows)]


def finish(
    output: Path | None,
    *,
    title: str,
    script: str,
    where: Mapping[str, Any],
    document: Mapping[str, Any],
    lines: Sequence[str],
    goals: Sequence[Goal] = (),
) -> None:
    """Prints table and goals; with ``output`` (a .json) the raw figures go there, the table into the .md beside it."""
    text = [*lines, *(["", *(f"* {goal}" for goal in goals)] if goals else [])]
    print("\n".join(text))
    if output is None:
        return
    output.parent.mkdir(parents=True, exist_ok=True)
    met = {goal.text: {**dataclasses.asdict(goal), "is_met": goal.is_met} for goal in goals}
    whole = {**where, **document, "goals": met}
    output.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
    names = ", ".join(f"{name} {version}" for name, version in where["versions"].items())
    place = f"{where['cpu']}, {where['cores']} cores, Python {where['python']}, {where['date'][:10]}. {names}."
    head = [f"# {title}", "", f"Made by `{script}`.", place, ""]
    output.with_suffix(".md").write_text("\n".join([*head, *text]) + "\n", encoding="utf-8")

"""``curves.png``: loss, metrics and learning rate over the epochs of a run."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from glueball.engine import chart
from glueball.engine.chart import COLORS, Panel, Series
from glueball.files import atomic_write


def panels(history: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """One panel for each quantity of the history's rows, training and validation in the same one.

    Rows are what the trainer keeps of each epoch: ``{"epoch": 1, "train_loss": 0.9, "validation_loss": 1.1, ...}``.
    """
    quantities: list[str] = []
    for row in history:
        for name in row:
            quantity = name.split("_", 1)[1] if name.startswith(("train_", "validation_")) else ""
            if quantity and quantity not in quantities:
                quantities.append(quantity)
    result = []
    for quantity in quantities:
        series = []
        for part in ("train", "validation"):
            rows = [row for row in history if f"{part}_{quantity}" in row]
            if rows:
                series.append(
                    Series(
                        label="training" if part == "train" else part,
                        x=[row["epoch"] for row in rows],
                        y=[row[f"{part}_{quantity}"] for row in rows],
                        markers=len(rows) <= 40,
                    )
                )
        logarithmic = quantity == "loss" and _spans_decades(series)
        result.append(Panel(title=quantity.replace("_", " "), series=series, logarithmic=logarithmic))
    rates = [row for row in history if "learning_rate" in row]
    if rates:
        line = Series(
            label="learning rate", x=[row["epoch"] for row in rates], y=[row["learning_rate"] for row in rates]
        )
        result.append(Panel(title="learning rate", series=[line]))
    return result


def _spans_decades(series: Sequence[Series]) -> bool:
    # A first validation before batch statistics have settled can be a hundred times the last one.
    values = [y for line in series for _, y in chart.finite_points(line)]
    return bool(values) and min(values) > 0 and max(values) > 30 * min(values)


def draw(history: Sequence[Mapping[str, Any]], path: Path, title: str = "") -> str | None:
    """Draws the history with matplotlib if it is installed, otherwise with Pillow.

    Returns:
        None, or why nothing was drawn.
    """
    if not history:
        return "there is no epoch to draw yet"
    if importlib.util.find_spec("matplotlib") is not None:
        _draw_with_matplotlib(panels(history), path, title)
        # What a figure is made of refers to itself in circles. Python looks for such the more seldom the more objects
        # there are, and beside a network every drawing would keep some megabytes for a long time.
        gc.collect()
    elif importlib.util.find_spec("PIL") is not None:
        chart.draw(panels(history), path)
    else:
        return "neither matplotlib nor Pillow is installed (pip install pillow)"
    return None


def _draw_with_matplotlib(drawn: Sequence[Panel], path: Path, title: str) -> None:
    # Figure without pyplot: no global state, no window system, safe in any thread.
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    columns = min(3, len(drawn))
    rows = -(-len(drawn) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.4 * rows), dpi=110, layout="constrained")
    for index, panel in enumerate(drawn):
        axes = figure.add_subplot(rows, columns, index + 1)
        for number, series in enumerate(panel.series):
            marker = "o" if series.markers or len(series.x) == 1 else None
            color = COLORS[number % len(COLORS)]
            axes.plot(series.x, series.y, color=color, marker=marker, markersize=3.5, label=series.label)
        axes.set_title(panel.title, loc="left", fontsize=11, fontweight="bold")
        axes.set_xlabel(panel.x_label)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True, min_n_ticks=1))
        if panel.logarithmic:
            axes.set_yscale("log")
        axes.grid(axis="y", color="#e4e7eb")
        axes.spines[["top", "right"]].set_visible(False)
        if len(panel.series) > 1:
            axes.legend(frameon=True, edgecolor="#e4e7eb")
    if title:
        figure.suptitle(title, fontsize=12)
    with atomic_write(path) as file:
        figure.savefig(file, format="png")

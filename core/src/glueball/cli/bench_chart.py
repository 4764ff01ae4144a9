"""The figure of ``glueball bench --plot``: speed against accuracy, a circle for each model, as large as its memory.

Figure 1 of the GluonCV paper (arXiv:1907.04433) shows models this way. Names stand beside their circles where there is
room: each is tried at some places around its circle, and takes the one where it covers least.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from glueball.engine.chart import COLORS, round_ticks
from glueball.files import atomic_write

_LARGEST = 24.0
"""Radius of the circle of the largest memory, in points."""
_SMALLEST = 2.5
_FONT = 8.0
_RINGS = (2.0, 9.0, 18.0, 30.0)
"""How far from its circle a name may stand, in points; from the second on a line leads back."""
_DIRECTIONS = 16
_COLORS = (*COLORS, "#c9a227", "#1b9e9e", "#a0522d", "#e377c2")

Box = tuple[float, float, float, float]
"""Left, bottom, right, top."""


@attrs.frozen(kw_only=True)
class Circle:
    """One model."""

    panel: str
    """What ``y`` is: circles with the same share a pair of axes."""
    label: str
    family: str
    """Circles of a family share a colour."""
    x: float
    y: float
    memory: float
    """MiB; the circle's area."""


def radius(memory: float, largest: float) -> float:
    """The radius in points of a circle whose area stands for ``memory``."""
    return max(_SMALLEST, _LARGEST * math.sqrt(memory / largest))


def overlap(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)


def place_labels(
    centers: Sequence[tuple[float, float]],
    radii: Sequence[float],
    sizes: Sequence[tuple[float, float]],
    frame: Box,
) -> list[Box]:
    """Where the names go: a box for each, of its size, that covers as little as can be of circles, names and the edge.

    Args:
        centers, radii: the circles.
        sizes: width and height of each name.
        frame: what the names must stay in.
    """
    squares = [
        (x - size * 0.9, y - size * 0.9, x + size * 0.9, y + size * 0.9)
        for (x, y), size in zip(centers, radii, strict=True)
    ]
    boxes: dict[int, Box] = {}
    # Small circles first: a name can stand on a large one if it has to, but hides a small one.
    for index in sorted(range(len(centers)), key=lambda number: radii[number]):
        best, best_cost = None, math.inf
        for ring, distance in enumerate(_RINGS):
            for step in range(_DIRECTIONS):
                box = _around(centers[index], radii[index] + distance, sizes[index], 2 * math.pi * step / _DIRECTIONS)
                outside = (box[2] - box[0]) * (box[3] - box[1]) - overlap(box, frame)
                cost = 50.0 * outside + 8.0 * ring
                cost += sum(20.0 * overlap(box, placed) for placed in boxes.values())
                cost += sum(
                    (1.0 if number == index else 4.0) * overlap(box, square) for number, square in enumerate(squares)
                )
                if cost < best_cost:
                    best, best_cost = box, cost
        assert best is not None
        boxes[index] = best
    return [boxes[index] for index in range(len(centers))]


def _around(center: tuple[float, float], distance: float, size: tuple[float, float], angle: float) -> Box:
    """A box whose nearest point to the centre lies at the distance, in the direction of the angle."""
    (x, y), (width, height) = center, size
    cosine, sine = math.cos(angle), math.sin(angle)
    # Straight above and below it stands in the middle, to the sides beside.
    left = x + distance * cosine - width * (1.0 - cosine) / 2
    bottom = y + distance * sine - height * (1.0 - sine) / 2
    return left, bottom, left + width, bottom + height


def draw(circles: Sequence[Circle], path: Path, *, x_label: str) -> None:
    """Draws the figure; the format is that of the file's ending."""
    # Figure without pyplot: no global state, no window system.
    from matplotlib.figure import Figure

    panels = list(dict.fromkeys(circle.panel for circle in circles))
    families = sorted({circle.family for circle in circles})
    colors = {family: _COLORS[index % len(_COLORS)] for index, family in enumerate(families)}
    largest = max(circle.memory for circle in circles)
    figure = Figure(figsize=(9.0, 6.0 * len(panels)), dpi=150, layout="constrained")
    for index, panel in enumerate(panels):
        axes = figure.add_subplot(len(panels), 1, index + 1)
        shown = [circle for circle in circles if circle.panel == panel]
        _prepare_axes(axes, shown, panel, x_label)
        for family in families:
            members = [circle for circle in shown if circle.family == family]
            axes.scatter(
                [circle.x for circle in members],
                [circle.y for circle in members],
                # scatter takes the area of the square around the circle, in points squared.
                s=[(2 * radius(circle.memory, largest)) ** 2 for circle in members],
                color=colors[family],
                alpha=0.45,
                edgecolor=colors[family],
                linewidth=1.0,
                zorder=2,
            )
        _draw_legends(axes, [family for family in families if any(c.family == family for c in shown)], colors, largest)
        figure.draw_without_rendering()  # settles where things are
        _draw_names(figure, axes, shown, largest)
    with atomic_write(path) as file:
        figure.savefig(file, format=path.suffix.lower().lstrip("."))


def _prepare_axes(axes: Any, circles: Sequence[Circle], panel: str, x_label: str) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    rates = [circle.x for circle in circles]
    values = [circle.y for circle in circles]
    axes.set_xscale("log")
    axes.set_xlim(min(rates) / 1.5, max(rates) * 1.7)
    margin = max(1.0, (max(values) - min(values)) * 0.1)
    axes.set_ylim(min(values) - margin, max(values) + margin)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(x_label)
    axes.set_ylabel(panel)
    axes.grid(color="#e4e7eb", zorder=0)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_legends(axes: Any, families: Sequence[str], colors: dict[str, str], largest: float) -> None:
    from matplotlib.lines import Line2D

    def handle(color: str, size: float) -> Line2D:
        return Line2D([], [], marker="o", linestyle="", markersize=size, markerfacecolor=color, markeredgecolor=color)

    kinds = axes.legend(
        [handle(colors[family], 7.0) for family in families],
        families,
        loc="upper left",
        bbox_to_anchor=(1.01, 1.0),
        frameon=False,
        fontsize=_FONT,
    )
    axes.add_artist(kinds)
    sizes = [tick for tick in round_ticks(0.0, largest, 3) if tick > 0] or [largest]
    # matplotlib takes every entry to be as high as its text; these are as high as their circles.
    room = radius(sizes[-1], largest) / _FONT
    axes.legend(
        [handle("#b8bec6", 2 * radius(size, largest)) for size in sizes],
        [f"{size:g} MiB" for size in sizes],
        loc="lower left",
        bbox_to_anchor=(1.01, 0.0),
        frameon=False,
        fontsize=_FONT,
        title="memory",
        title_fontsize=_FONT,
        labelspacing=max(0.5, 2.0 * room - 0.8),
        handletextpad=max(0.8, room - 0.2),
        borderpad=max(0.5, room),
    )


def _draw_names(figure: Any, axes: Any, circles: Sequence[Circle], largest: float) -> None:
    # Everything in points, which is what sizes of circles and letters are given in.
    points = 72.0 / figure.dpi
    pixels = axes.transData.transform([(circle.x, circle.y) for circle in circles])
    centers = [(float(x) * points, float(y) * points) for x, y in pixels]
    radii = [radius(circle.memory, largest) for circle in circles]
    renderer = figure.canvas.get_renderer() if hasattr(figure.canvas, "get_renderer") else figure._get_renderer()
    sizes = []
    for circle in circles:
        text = axes.text(0.5, 0.5, circle.label, fontsize=_FONT)
        extent = text.get_window_extent(renderer)
        sizes.append((extent.width * points, extent.height * points))
        text.remove()
    window = axes.get_window_extent(renderer)
    frame = (window.x0 * points, window.y0 * points, window.x1 * points, window.y1 * points)
    for circle, center, size, box in zip(
        circles, centers, radii, place_labels(centers, radii, sizes, frame), strict=True
    ):
        middle = ((box[0] + box[2]) / 2 - center[0], (box[1] + box[3]) / 2 - center[1])
        far = math.hypot(max(box[0] - center[0], center[0] - box[2], 0), max(box[1] - center[1], center[1] - box[3], 0))
        axes.annotate(
            circle.label,
            (circle.x, circle.y),
            xytext=middle,
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=_FONT,
            zorder=4,
            arrowprops={"arrowstyle": "-", "color": "#8b949e", "linewidth": 0.6, "shrinkA": 0.0, "shrinkB": size * 0.8}
            if far > size + _RINGS[1] - 1.0
            else None,
        )

"""Line charts drawn with Pillow alone, for machines without matplotlib: axes, round ticks, grid, legend.

Everything is drawn at three times its size and scaled down, which smooths the lines that Pillow draws jagged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from glueball.files import atomic_write

if TYPE_CHECKING:
    from PIL import Image, ImageDraw

COLORS = ("#4269d0", "#e07b39", "#3a9d5d", "#c4425b", "#8a63d2", "#6b6b6b")
"""Told apart by people with the common colour deficiencies too, in this order."""

_INK, _FAINT, _GRID = "#24292f", "#57606a", "#e4e7eb"
_SCALE = 3
_WIDTH, _HEIGHT = 460, 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 16, 34, 44


@attrs.frozen(kw_only=True)
class Series:
    """One line; ``markers`` draws its points too."""

    label: str
    x: Sequence[float]
    y: Sequence[float]
    markers: bool = False


@attrs.frozen(kw_only=True)
class Panel:
    """One pair of axes."""

    title: str
    series: Sequence[Series]
    x_label: str = "epoch"
    logarithmic: bool = False


def finite_points(series: Series) -> list[tuple[float, float]]:
    """The points that can be drawn."""
    return [
        (float(x), float(y)) for x, y in zip(series.x, series.y, strict=True) if math.isfinite(x) and math.isfinite(y)
    ]


def round_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About ``count`` round numbers that lie between ``low`` and ``high``."""
    if not high > low:
        return [low]
    rough = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1.0, 2.0, 2.5, 5.0, 10.0) if factor * magnitude >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def draw(panels: Sequence[Panel], path: Path) -> None:
    """Draws the panels side by side (three in a row) into a PNG file."""
    from PIL import Image

    columns = min(3, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    picture = Image.new("RGB", (columns * _WIDTH * _SCALE, rows * _HEIGHT * _SCALE), "white")
    for index, panel in enumerate(panels):
        picture.paste(_draw_panel(panel), (index % columns * _WIDTH * _SCALE, index // columns * _HEIGHT * _SCALE))
    picture = picture.resize((columns * _WIDTH, rows * _HEIGHT), Image.Resampling.LANCZOS)
    with atomic_write(path) as file:
        picture.save(file, format="PNG", optimize=True)


class _Axes:
    """From data to pixels of the enlarged panel."""

    def __init__(self, panel: Panel) -> None:
        self.logarithmic = panel.logarithmic
        points = [point for series in panel.series for point in finite_points(series)]
        if self.logarithmic:
            points = [(x, math.log10(y)) for x, y in points if y > 0]
        xs = [x for x, _ in points] or [0.0, 1.0]
        ys = [y for _, y in points] or [0.0, 1.0]
        self.x_low, self.x_high = _padded(min(xs), max(xs), 0.02)
        self.y_low, self.y_high = _padded(min(ys), max(ys), 0.06)

    def x(self, value: float) -> float:
        width = _WIDTH - _LEFT - _RIGHT
        return _SCALE * (_LEFT + width * (value - self.x_low) / (self.x_high - self.x_low))

    def y(self, value: float) -> float:
        height = _HEIGHT - _TOP - _BOTTOM
        position = math.log10(value) if self.logarithmic else value
        return _SCALE * (_TOP + height * (1.0 - (position - self.y_low) / (self.y_high - self.y_low)))

    def x_ticks(self) -> list[float]:
        ticks = round_ticks(self.x_low, self.x_high, 6)
        whole = [tick for tick in ticks if float(tick).is_integer()]
        return whole or ticks

    def y_ticks(self) -> list[float]:
        if not self.logarithmic:
            return round_ticks(self.y_low, self.y_high, 5)
        decades = [10.0**exponent for exponent in range(math.ceil(self.y_low), math.floor(self.y_high) + 1)]
        return decades if len(decades) >= 2 else [10.0**tick for tick in round_ticks(self.y_low, self.y_high, 4)]


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    extent = high - low
    if extent <= 0:
        extent = abs(high) or 1.0
        return low - extent / 2, high + extent / 2
    return low - extent * share, high + extent * share


def _font(size: int, bold: bool = False) -> Any:
    from PIL import ImageFont

    for name in ("DejaVuSans-Bold.ttf",) if bold else ("DejaVuSans.ttf",):
        try:
            return ImageFont.truetype(name, size * _SCALE)
        except OSError:
            continue
    try:
        return ImageFont.load_default(size * _SCALE)
    except TypeError:  # Pillow before 10.1 has one small bitmap font only
        return ImageFont.load_default()


def _label(value: float) -> str:
    if value == 0:
        return "0"
    return f"{value:.0e}" if abs(value) < 1e-3 or abs(value) >= 1e5 else f"{value:.4g}"


def _draw_panel(panel: Panel) -> Image.Image:
    from PIL import Image, ImageDraw

    image = Image.new("RGB", (_WIDTH * _SCALE, _HEIGHT * _SCALE), "white")
    canvas = ImageDraw.Draw(image)
    axes = _Axes(panel)
    small, title = _font(11), _font(13, bold=True)
    left, right = _LEFT * _SCALE, (_WIDTH - _RIGHT) * _SCALE
    top, bottom = _TOP * _SCALE, (_HEIGHT - _BOTTOM) * _SCALE

    for tick in axes.y_ticks():
        y = axes.y(tick)
        canvas.line([(left, y), (right, y)], fill=_GRID, width=_SCALE)
        _text(canvas, (left - 7 * _SCALE, y), _label(tick), small, anchor="rm")
    for tick in axes.x_ticks():
        x = axes.x(tick)
        canvas.line([(x, bottom), (x, bottom + 4 * _SCALE)], fill=_FAINT, width=_SCALE)
        _text(canvas, (x, bottom + 7 * _SCALE), _label(tick), small, anchor="mt")
    canvas.line([(left, top), (left, bottom), (right, bottom)], fill=_FAINT, width=_SCALE)
    _text(canvas, (left, 16 * _SCALE), panel.title, title, anchor="lm", fill=_INK)
    _text(canvas, ((left + right) / 2, bottom + 24 * _SCALE), panel.x_label, small, anchor="mt")

    for color, series in zip(_cycle(len(panel.series)), panel.series, strict=True):
        points = [point for point in finite_points(series) if not axes.logarithmic or point[1] > 0]
        pixels = [(axes.x(x), axes.y(y)) for x, y in points]
        if len(pixels) > 1:
            canvas.line(pixels, fill=color, width=2 * _SCALE, joint="curve")
        if series.markers or len(pixels) == 1:
            radius = 2.5 * _SCALE
            for x, y in pixels:
                canvas.ellipse([x - radius, y - radius, x + radius, y + radius], fill=color)
    if len(panel.series) > 1:
        _draw_legend(image, panel, axes, small)
    return image


def _cycle(count: int) -> list[str]:
    return [COLORS[index % len(COLORS)] for index in range(count)]


def _text(
    canvas: ImageDraw.ImageDraw, position: tuple[float, float], text: str, font: Any, *, anchor: str, fill: str = _FAINT
) -> None:
    try:
        canvas.text(position, text, font=font, fill=fill, anchor=anchor)
    except ValueError:  # bitmap fonts know no anchors
        canvas.text(position, text, font=font, fill=fill)


def _draw_legend(image: Image.Image, panel: Panel, axes: _Axes, font: Any) -> None:
    """In the corner that hides the fewest points."""
    from PIL import ImageDraw

    canvas = ImageDraw.Draw(image)
    width = max(canvas.textlength(series.label, font=font) for series in panel.series) + 36 * _SCALE
    height = (16 * len(panel.series) + 8) * _SCALE
    left, right = (_LEFT + 8) * _SCALE, (_WIDTH - _RIGHT - 8) * _SCALE - width
    top, bottom = (_TOP + 4) * _SCALE, (_HEIGHT - _BOTTOM - 8) * _SCALE - height
    points = [
        (axes.x(x), axes.y(y))
        for series in panel.series
        for x, y in finite_points(series)
        if not axes.logarithmic or y > 0
    ]

    def hidden(corner: tuple[float, float]) -> int:
        return sum(corner[0] <= x <= corner[0] + width and corner[1] <= y <= corner[1] + height for x, y in points)

    x, y = min([(right, top), (right, bottom), (left, top), (left, bottom)], key=hidden)
    canvas.rounded_rectangle([x, y, x + width, y + height], 4 * _SCALE, fill="white", outline=_GRID, width=_SCALE)
    for row, (color, series) in enumerate(zip(_cycle(len(panel.series)), panel.series, strict=True)):
        middle = y + (12 + 16 * row) * _SCALE
        canvas.line([(x + 8 * _SCALE, middle), (x + 26 * _SCALE, middle)], fill=color, width=2 * _SCALE)
        _text(canvas, (x + 32 * _SCALE, middle), series.label, font, anchor="lm", fill=_INK)

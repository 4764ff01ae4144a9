"""A sheet of pictures with what the network says about them, drawn by Pillow.

Each tile shows the picture, the predicted class with its probability and, where it is known, the true class; tiles with
a wrong answer have a red frame and say what would have been right.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from glueball.errors import OptionError
from glueball.files import atomic_write

_RIGHT, _WRONG, _INK, _FAINT, _TRACK = "#2f855a", "#c53030", "#1f2933", "#616e7c", "#e4e7eb"
_TILE, _GAP, _TEXT, _TOP = 144, 14, 46, 52
_FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"format": "PNG", "optimize": True},
    ".jpg": {"format": "JPEG", "quality": 92},
    ".jpeg": {"format": "JPEG", "quality": 92},
}


@attrs.frozen(kw_only=True)
class Tile:
    """One picture of the sheet."""

    image: np.ndarray
    """uint8 of shape (height, width, 3 or 1)."""
    predicted: str
    probability: float
    """Between 0 and 1."""
    expected: str | None = None
    """The true class; None where nobody knows it."""

    @property
    def is_wrong(self) -> bool:
        return self.expected is not None and self.expected != self.predicted


def draw(tiles: Sequence[Tile], path: str | os.PathLike[str], title: str, columns: int = 8) -> None:
    """Draws the tiles in a grid into a file.

    Raises:
        OptionError: the suffix of the file is neither .png nor .jpg (or .jpeg), so its format is not known.
    """
    saving = _FORMATS.get(Path(path).suffix.lower())
    if saving is None:
        raise OptionError(f"Pictures are drawn as {', '.join(_FORMATS)}. Received: {path}. Change the suffix.")
    columns = max(1, min(columns, len(tiles)))
    rows = max(1, -(-len(tiles) // columns))
    # A sheet of one or two tiles still has room for its title.
    width = max(columns * (_TILE + _GAP) + _GAP, 420)
    height = _TOP + rows * (_TILE + _TEXT + _GAP) + _GAP
    sheet = Image.new("RGB", (width, height), "white")
    canvas = ImageDraw.Draw(sheet)
    canvas.text(
        (_GAP, _TOP // 2), _fitted(canvas, title, _font(17), width - 2 * _GAP), fill=_INK, font=_font(17), anchor="lm"
    )
    for index, tile in enumerate(tiles):
        left = _GAP + index % columns * (_TILE + _GAP)
        top = _TOP + index // columns * (_TILE + _TEXT + _GAP)
        _draw_tile(sheet, canvas, tile, left, top)
    with atomic_write(path) as file:
        sheet.save(file, **saving)


def _draw_tile(sheet: Image.Image, canvas: ImageDraw.ImageDraw, tile: Tile, left: int, top: int) -> None:
    color = _FAINT if tile.expected is None else _WRONG if tile.is_wrong else _RIGHT
    sheet.paste(_thumbnail(tile.image), (left, top))
    if tile.is_wrong:
        canvas.rectangle([left - 3, top - 3, left + _TILE + 2, top + _TILE + 2], outline=_WRONG, width=3)
    # The bar under the picture is the probability.
    bar = top + _TILE + 4
    canvas.rectangle([left, bar, left + _TILE - 1, bar + 3], fill=_TRACK)
    canvas.rectangle([left, bar, left + round((_TILE - 1) * min(1.0, max(0.0, tile.probability))), bar + 3], fill=color)
    share = f"{tile.probability:.0%}"
    share_width = canvas.textlength(share, font=_font(13))
    label = _fitted(canvas, tile.predicted, _font(13), _TILE - share_width - 6)
    canvas.text((left, bar + 9), label, fill=color if tile.is_wrong else _INK, font=_font(13))
    canvas.text((left + _TILE, bar + 9), share, fill=_FAINT, font=_font(13), anchor="ra")
    if tile.is_wrong:
        canvas.text(
            (left, bar + 25), _fitted(canvas, f"is {tile.expected}", _font(12), _TILE), fill=_WRONG, font=_font(12)
        )


def _thumbnail(image: np.ndarray) -> Image.Image:
    """The whole picture inside the square, on grey; small pictures are enlarged without smoothing."""
    values = np.asarray(image)
    if values.ndim == 3 and values.shape[2] == 1:
        values = values[:, :, 0]
    picture = Image.fromarray(values).convert("RGB")
    scale = _TILE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    resampling = Image.Resampling.NEAREST if scale >= 3 else Image.Resampling.LANCZOS
    picture = picture.resize(size, resampling)
    square = Image.new("RGB", (_TILE, _TILE), "#f1f3f5")
    square.paste(picture, ((_TILE - size[0]) // 2, (_TILE - size[1]) // 2))
    return square


def _fitted(canvas: ImageDraw.ImageDraw, text: str, font: Any, width: float) -> str:
    """The text, cut with an ellipsis where it does not fit."""
    if canvas.textlength(text, font=font) <= width:
        return text
    while text and canvas.textlength(text + "…", font=font) > width:
        text = text[:-1]
    return text.rstrip() + "…"


@cache
def _font(size: int) -> Any:
    try:
        return ImageFont.truetype("DejaVuSans.ttf", size)  # knows more alphabets than Pillow's own
    except OSError:
        return ImageFont.load_default(size)

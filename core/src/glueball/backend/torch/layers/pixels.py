"""Reflection padding and sub-pixel shuffles."""

from __future__ import annotations

from typing import Any

import torch

from glueball.backend.torch.block import HybridBlock
from glueball.errors import OptionError


class ReflectionPad2D(HybridBlock):
    """Pads height and width by reflection; ``padding`` is one number or MXNet's eight (before, after per axis)."""

    def __init__(self, padding: Any = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        widths = (0, 0, 0, 0, padding, padding, padding, padding) if isinstance(padding, int) else tuple(padding)
        if len(widths) != 8:
            raise OptionError(f"ReflectionPad2D: expected one number or eight; received {padding!r}.")
        self._padding = widths

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.pad(x, mode="reflect", pad_width=self._padding)


class _PixelShuffle(HybridBlock):
    """(batch, channels · factors, *space) -> (batch, channels, *(space · factor)) (arXiv:1609.05158)."""

    def __init__(self, factor: Any, ndim: int) -> None:
        super().__init__()
        self._factors = (int(factor),) * ndim if isinstance(factor, int) else tuple(int(one) for one in factor)
        if len(self._factors) != ndim:
            raise OptionError(f"{type(self).__name__}: expected {ndim} factors; received {factor!r}.")

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        ndim = len(self._factors)
        if ndim == 2 and self._factors[0] == self._factors[1]:
            return torch.pixel_shuffle(x, self._factors[0])
        batch, space = x.shape[0], x.shape[2:]
        x = x.reshape(batch, -1, *self._factors, *space)
        order = [0, 1]
        for axis in range(ndim):
            order += [2 + ndim + axis, 2 + axis]
        sizes = [size * factor for size, factor in zip(space, self._factors, strict=True)]
        return x.permute(order).reshape(batch, x.shape[1], *sizes)

    def extra_repr(self) -> str:
        return str(self._factors)


class PixelShuffle1D(_PixelShuffle):
    """(batch, factor · channels, width) -> (batch, channels, factor · width)."""

    def __init__(self, factor: Any) -> None:
        super().__init__(factor, 1)


class PixelShuffle2D(_PixelShuffle):
    """(batch, factor² · channels, height, width) -> (batch, channels, factor · height, factor · width)."""

    def __init__(self, factor: Any) -> None:
        super().__init__(factor, 2)


class PixelShuffle3D(_PixelShuffle):
    """(batch, factor³ · channels, depth, height, width) -> (batch, channels, ... each times its factor)."""

    def __init__(self, factor: Any) -> None:
        super().__init__(factor, 3)

"""Pooling layers. ``ceil_mode`` is MXNet's convention "full": a last window may start in the padding."""

from __future__ import annotations

from typing import Any

from glueball.backend.torch.block import HybridBlock
from glueball.backend.torch.ops.arguments import spatial
from glueball.backend.torch.ops.layers import is_channels_last


class _Pooling(HybridBlock):
    """What all of them share. Subclasses hand in the number of spatial axes."""

    def __init__(
        self,
        ndim: int,
        pool_type: str,
        pool_size: Any,
        strides: Any,
        padding: Any,
        layout: str,
        ceil_mode: bool = False,
        global_pool: bool = False,
        count_include_pad: bool | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        kernel = spatial(pool_size, ndim, 1)
        self._options = {
            "kernel": kernel,
            "stride": kernel if strides is None else spatial(strides, ndim, 1),
            "pad": spatial(padding, ndim, 0),
            "pool_type": pool_type,
            "global_pool": global_pool,
            "pooling_convention": "full" if ceil_mode else "valid",
            "count_include_pad": count_include_pad,
            "layout": layout if is_channels_last(layout) else None,
        }

    def _alias(self) -> str:
        return "pool"

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.Pooling(x, **self._options)

    def extra_repr(self) -> str:
        shown = ("kernel", "stride", "pad", "pooling_convention", "global_pool")
        return ", ".join(f"{key}={self._options[key]}" for key in shown)


class MaxPool1D(_Pooling):
    """Largest element of each window of (batch, channels, width)."""

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: Any = 0,
        layout: str = "NCW",
        ceil_mode: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(1, "max", pool_size, strides, padding, layout, ceil_mode, **kwargs)


class MaxPool2D(_Pooling):
    """Largest element of each window of (batch, channels, height, width)."""

    def __init__(
        self,
        pool_size: Any = (2, 2),
        strides: Any = None,
        padding: Any = 0,
        layout: str = "NCHW",
        ceil_mode: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(2, "max", pool_size, strides, padding, layout, ceil_mode, **kwargs)


class MaxPool3D(_Pooling):
    """Largest element of each window of (batch, channels, depth, height, width)."""

    def __init__(
        self,
        pool_size: Any = (2, 2, 2),
        strides: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        layout: str = "NCDHW",
        **kwargs: Any,
    ) -> None:
        super().__init__(3, "max", pool_size, strides, padding, layout, ceil_mode, **kwargs)


class AvgPool1D(_Pooling):
    """Mean of each window of (batch, channels, width). ``count_include_pad`` counts padding."""

    def __init__(
        self,
        pool_size: Any = 2,
        strides: Any = None,
        padding: Any = 0,
        layout: str = "NCW",
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            1, "avg", pool_size, strides, padding, layout, ceil_mode, count_include_pad=count_include_pad, **kwargs
        )


class AvgPool2D(_Pooling):
    """Mean of each window of (batch, channels, height, width). ``count_include_pad`` counts padding."""

    def __init__(
        self,
        pool_size: Any = (2, 2),
        strides: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        layout: str = "NCHW",
        count_include_pad: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            2, "avg", pool_size, strides, padding, layout, ceil_mode, count_include_pad=count_include_pad, **kwargs
        )


class AvgPool3D(_Pooling):
    """Mean of each window of (batch, channels, depth, height, width). ``count_include_pad`` counts padding."""

    def __init__(
        self,
        pool_size: Any = (2, 2, 2),
        strides: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        layout: str = "NCDHW",
        count_include_pad: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            3, "avg", pool_size, strides, padding, layout, ceil_mode, count_include_pad=count_include_pad, **kwargs
        )


class GlobalMaxPool1D(_Pooling):
    """Largest element of each channel of (batch, channels, width); the spatial axes stay with size 1."""

    def __init__(self, layout: str = "NCW", **kwargs: Any) -> None:
        super().__init__(1, "max", 1, None, 0, layout, ceil_mode=True, global_pool=True, **kwargs)


class GlobalMaxPool2D(_Pooling):
    """Largest element of each channel of (batch, channels, height, width); the spatial axes stay with size 1."""

    def __init__(self, layout: str = "NCHW", **kwargs: Any) -> None:
        super().__init__(2, "max", 1, None, 0, layout, ceil_mode=True, global_pool=True, **kwargs)


class GlobalMaxPool3D(_Pooling):
    """Largest element of each channel of (batch, channels, depth, height, width); the spatial axes stay with size 1."""

    def __init__(self, layout: str = "NCDHW", **kwargs: Any) -> None:
        super().__init__(3, "max", 1, None, 0, layout, ceil_mode=True, global_pool=True, **kwargs)


class GlobalAvgPool1D(_Pooling):
    """Mean of each channel of (batch, channels, width); the spatial axes stay with size 1."""

    def __init__(self, layout: str = "NCW", **kwargs: Any) -> None:
        super().__init__(1, "avg", 1, None, 0, layout, ceil_mode=True, global_pool=True, **kwargs)


class GlobalAvgPool2D(_Pooling):
    """Mean of each channel of (batch, channels, height, width); the spatial axes stay with size 1."""

    def __init__(self, layout: str = "NCHW", **kwargs: Any) -> None:
        super().__init__(2, "avg", 1, None, 0, layout, ceil_mode=True, global_pool=True, **kwargs)


class GlobalAvgPool3D(_Pooling):
    """Mean of each channel of (batch, channels, depth, height, width); the spatial axes stay with size 1."""

    def __init__(self, layout: str = "NCDHW", **kwargs: Any) -> None:
        super().__init__(3, "avg", 1, None, 0, layout, ceil_mode=True, global_pool=True, **kwargs)

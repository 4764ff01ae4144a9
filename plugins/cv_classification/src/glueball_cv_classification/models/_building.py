"""What several families share: how their normalisation layers and convolutions are made.

Parameter files fix the position of every child and the scope of every name, so these helpers open no name scopes of
their own: layers take their names from the scope that is open where a helper is called.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from glueball import nn

NormMaker = Callable[..., Any]
"""Makes a normalisation layer: ``norm(in_channels=64)``, with further keywords of that layer."""


def norm_maker(norm_layer: type | None, norm_kwargs: Mapping[str, Any] | None) -> NormMaker:
    """A maker of normalisation layers; ``norm_layer=None`` stands for ``nn.BatchNorm``.

    ``norm_kwargs`` win over what the architecture asks for.
    """
    layer = nn.BatchNorm if norm_layer is None else norm_layer
    # GroupNorm takes its channels from its first input.
    takes_channels = "in_channels" in inspect.signature(layer).parameters

    def norm(in_channels: int = 0, **kwargs: Any) -> Any:
        if takes_channels:
            kwargs["in_channels"] = in_channels
        return layer(**{**kwargs, **(norm_kwargs or {})})

    return norm


def last_gamma_initializer(last_gamma: bool) -> str:
    """Initialiser of the scale that closes a residual branch.

    With zeros every residual block starts as the identity, which trains better with large batches (arXiv:1706.02677,
    section 5.1).
    """
    return "zeros" if last_gamma else "ones"


def pointwise(channels: int, in_channels: int, strides: int = 1, use_bias: bool = False) -> Any:
    """A 1x1 convolution."""
    return nn.Conv2D(channels, kernel_size=1, strides=strides, use_bias=use_bias, in_channels=in_channels)


def conv3x3(channels: int, in_channels: int, strides: int = 1, dilation: int = 1) -> Any:
    """A 3x3 convolution without bias whose padding keeps the size at stride 1."""
    return nn.Conv2D(
        channels,
        kernel_size=3,
        strides=strides,
        padding=dilation,
        dilation=dilation,
        use_bias=False,
        in_channels=in_channels,
    )

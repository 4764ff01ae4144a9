"""SqueezeNet 1.0 and its cheaper revision 1.1 (arXiv:1602.07360)."""

from __future__ import annotations

from typing import Any

from glueball import nn
from glueball.errors import OptionError

# Squeeze widths of the fire modules (each branch of the expansion is four times as wide); None is a pooling.
_LAYOUTS: dict[str, tuple[int | None, ...]] = {
    "1.0": (None, 16, 16, 32, None, 32, 48, 48, 64, None, 64),
    "1.1": (None, 16, 16, None, 32, 32, None, 48, 48, 64, 64),
}


def _convolution(channels: int, kernel_size: int, in_channels: int, padding: int = 0) -> Any:
    layers = nn.HybridSequential(prefix="")
    layers.add(
        nn.Conv2D(channels, kernel_size=kernel_size, padding=padding, in_channels=in_channels), nn.Activation("relu")
    )
    return layers


def _fire(squeeze: int, in_channels: int) -> Any:
    """A 1x1 convolution that squeezes, then 1x1 and 3x3 convolutions side by side: 8 * squeeze channels."""
    expansion = nn.HybridConcurrent(axis=1, prefix="")
    module = nn.HybridSequential(prefix="")
    # The order of creation numbers the layers: squeeze, 1x1, 3x3.
    module.add(_convolution(squeeze, 1, in_channels))
    expansion.add(_convolution(4 * squeeze, 1, squeeze), _convolution(4 * squeeze, 3, squeeze, padding=1))
    module.add(expansion)
    return module


class SqueezeNet(nn.HybridBlock):
    """data: (batch, 3, height, width), at least 17x17 -> (batch, classes)

    The last average runs over the whole map, whatever its size (13x13 for a picture of 224x224).

    Args:
        version: "1.0" or "1.1".
        classes: Size of the output.
        dropout: Rate of the dropout before the classifier.

    Raises:
        OptionError: The paper has no such version.
    """

    def __init__(self, version: str, classes: int = 1000, dropout: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if version not in _LAYOUTS:
            raise OptionError(
                f"There is no SqueezeNet {version!r}. Expected one of {', '.join(map(repr, _LAYOUTS))}. "
                "Give one of these as `version`."
            )
        channels, kernel_size = (96, 7) if version == "1.0" else (64, 3)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            self.features.add(nn.Conv2D(channels, kernel_size=kernel_size, strides=2), nn.Activation("relu"))
            for squeeze in _LAYOUTS[version]:
                if squeeze is None:
                    self.features.add(nn.MaxPool2D(pool_size=3, strides=2, ceil_mode=True))
                else:
                    self.features.add(_fire(squeeze, channels))
                    channels = 8 * squeeze
            self.features.add(nn.Dropout(dropout))
            self.output = nn.HybridSequential(prefix="")
            self.output.add(
                nn.Conv2D(classes, kernel_size=1, in_channels=channels),
                nn.Activation("relu"),
                nn.GlobalAvgPool2D(),
                nn.Flatten(),
            )

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


def squeezenet1_0(classes: int = 1000, **kwargs: Any) -> SqueezeNet:
    """SqueezeNet 1.0; keywords of ``SqueezeNet``."""
    return SqueezeNet("1.0", classes=classes, **kwargs)


def squeezenet1_1(classes: int = 1000, **kwargs: Any) -> SqueezeNet:
    """SqueezeNet 1.1; keywords of ``SqueezeNet``."""
    return SqueezeNet("1.1", classes=classes, **kwargs)

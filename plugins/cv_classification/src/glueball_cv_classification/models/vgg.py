"""VGG with 11 to 19 layers, with or without batch normalisation (arXiv:1409.1556, table 1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glueball import init, nn


class VGG(nn.HybridBlock):
    """Stages of 3x3 convolutions, each closed by a 2x2 pooling, and three dense layers.

    data: (batch, 3, height, width), at least 32x32 -> (batch, classes). The first dense layer has as many inputs as the
    first picture that the network sees asks for (25088 with 224x224), and official weights fix them.

    Args:
        layers: Convolutions of each stage.
        channels: Channels of each stage.
        classes: Size of the output.
        batch_norm: Normalise after every convolution.
        dropout: Rate of the two dropout layers.
    """

    def __init__(
        self,
        layers: Sequence[int],
        channels: Sequence[int],
        classes: int = 1000,
        batch_norm: bool = False,
        dropout: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            in_channels = 0
            for num_convolutions, width in zip(layers, channels, strict=True):
                for _ in range(num_convolutions):
                    self.features.add(
                        nn.Conv2D(
                            width,
                            kernel_size=3,
                            padding=1,
                            in_channels=in_channels,
                            # Keeps the gradients' variance through plain stacks (arXiv:1502.01852, section 2.2).
                            weight_initializer=init.Xavier(rnd_type="gaussian", factor_type="out", magnitude=2),
                        )
                    )
                    if batch_norm:
                        self.features.add(nn.BatchNorm(in_channels=width))
                    self.features.add(nn.Activation("relu"))
                    in_channels = width
                self.features.add(nn.MaxPool2D(pool_size=2, strides=2))
            self.features.add(
                _dense(4096, activation="relu"),
                nn.Dropout(dropout),
                _dense(4096, activation="relu", in_units=4096),
                nn.Dropout(dropout),
            )
            self.output = _dense(classes, in_units=4096)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


def _dense(units: int, **kwargs: Any) -> Any:
    # The paper's own initialisation, section 3.1: variance 1e-4, zero biases.
    return nn.Dense(units, weight_initializer=init.Normal(0.01), **kwargs)


_CHANNELS = (64, 128, 256, 512, 512)
_LAYERS_11 = (1, 1, 2, 2, 2)
_LAYERS_13 = (2, 2, 2, 2, 2)
_LAYERS_16 = (2, 2, 3, 3, 3)
_LAYERS_19 = (2, 2, 4, 4, 4)


def vgg11(classes: int = 1000, **kwargs: Any) -> VGG:
    """VGG-11; keywords of ``VGG``."""
    return VGG(_LAYERS_11, _CHANNELS, classes=classes, **kwargs)


def vgg13(classes: int = 1000, **kwargs: Any) -> VGG:
    """VGG-13; keywords of ``VGG``."""
    return VGG(_LAYERS_13, _CHANNELS, classes=classes, **kwargs)


def vgg16(classes: int = 1000, **kwargs: Any) -> VGG:
    """VGG-16; keywords of ``VGG``."""
    return VGG(_LAYERS_16, _CHANNELS, classes=classes, **kwargs)


def vgg19(classes: int = 1000, **kwargs: Any) -> VGG:
    """VGG-19; keywords of ``VGG``."""
    return VGG(_LAYERS_19, _CHANNELS, classes=classes, **kwargs)


def vgg11_bn(classes: int = 1000, **kwargs: Any) -> VGG:
    """VGG-11 with batch normalisation; keywords of ``VGG``."""
    return VGG(_LAYERS_11, _CHANNELS, classes=classes, **{"batch_norm": True, **kwargs})


def vgg13_bn(classes: int = 1000, **kwargs: Any) -> VGG:
    """VGG-13 with batch normalisation; keywords of ``VGG``."""
    return VGG(_LAYERS_13, _CHANNELS, classes=classes, **{"batch_norm": True, **kwargs})


def vgg16_bn(classes: int = 1000, **kwargs: Any) -> VGG:
    """VGG-16 with batch normalisation; keywords of ``VGG``."""
    return VGG(_LAYERS_16, _CHANNELS, classes=classes, **{"batch_norm": True, **kwargs})


def vgg19_bn(classes: int = 1000, **kwargs: Any) -> VGG:
    """VGG-19 with batch normalisation; keywords of ``VGG``."""
    return VGG(_LAYERS_19, _CHANNELS, classes=classes, **{"batch_norm": True, **kwargs})

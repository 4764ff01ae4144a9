"""A network in Glueball's dialect, which is Gluon's: written once, it runs on MXNet and on PyTorch."""

from __future__ import annotations

from typing import Any

from glueball import nn


class ResidualBlock(nn.HybridBlock):
    """Two 3x3 convolutions and a shortcut (arXiv:1512.03385, figure 2).

    Input and output: (batch, channels, height, width); a stride of 2 halves height and width.
    """

    def __init__(self, channels: int, strides: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.body = nn.HybridSequential(prefix="")
            self.body.add(
                nn.Conv2D(channels, kernel_size=3, strides=strides, padding=1, use_bias=False),
                nn.BatchNorm(),
                nn.Activation("relu"),
                nn.Conv2D(channels, kernel_size=3, padding=1, use_bias=False),
                nn.BatchNorm(),
            )
            self.shortcut = nn.HybridSequential(prefix="shortcut_")
            self.shortcut.add(nn.Conv2D(channels, kernel_size=1, strides=strides, use_bias=False), nn.BatchNorm())

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        # F holds the functions of the backend. Besides them only operators on arrays of one shape are portable:
        # methods of arrays (x.mean(), x.reshape()) differ between backends.
        return F.Activation(self.body(x) + self.shortcut(x), act_type="relu")


class ShapeNet(nn.HybridBlock):
    """Two residual stages and a classifier.

    Input: (batch, 3, height, width), any height and width from 8. Output: scores of (batch, classes).
    """

    def __init__(self, classes: int = 3, channels: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            self.features.add(ResidualBlock(channels, strides=2))
            self.features.add(ResidualBlock(2 * channels, strides=2))
            self.features.add(nn.GlobalAvgPool2D())
            self.output = nn.Dense(classes)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


def shape_net(classes: int = 3, **kwargs: Any) -> ShapeNet:
    """What ``glueball.get_model("shape_net")`` calls; keywords of ``ShapeNet``."""
    return ShapeNet(classes=classes, **kwargs)

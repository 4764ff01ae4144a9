"""AlexNet in its one-tower form (arXiv:1404.5997)."""

from __future__ import annotations

from typing import Any

from glueball import nn


class AlexNet(nn.HybridBlock):
    """Five convolutions and three dense layers.

    data: (batch, 3, height, width), at least 63x63 -> (batch, classes). The first dense layer has as many inputs as the
    first picture that the network sees asks for (9216 with 224x224), and official weights fix them.

    Args:
        classes: Size of the output.
        dropout: Rate of the two dropout layers.
    """

    def __init__(self, classes: int = 1000, dropout: float = 0.5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            self.features.add(
                nn.Conv2D(64, kernel_size=11, strides=4, padding=2, activation="relu"),
                nn.MaxPool2D(pool_size=3, strides=2),
                nn.Conv2D(192, kernel_size=5, padding=2, activation="relu", in_channels=64),
                nn.MaxPool2D(pool_size=3, strides=2),
                nn.Conv2D(384, kernel_size=3, padding=1, activation="relu", in_channels=192),
                nn.Conv2D(256, kernel_size=3, padding=1, activation="relu", in_channels=384),
                nn.Conv2D(256, kernel_size=3, padding=1, activation="relu", in_channels=256),
                nn.MaxPool2D(pool_size=3, strides=2),
                nn.Flatten(),
                nn.Dense(4096, activation="relu"),
                nn.Dropout(dropout),
                nn.Dense(4096, activation="relu", in_units=4096),
                nn.Dropout(dropout),
            )
            self.output = nn.Dense(classes, in_units=4096)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


def alexnet(classes: int = 1000, **kwargs: Any) -> AlexNet:
    """AlexNet (arXiv:1404.5997); keywords of ``AlexNet``."""
    return AlexNet(classes=classes, **kwargs)

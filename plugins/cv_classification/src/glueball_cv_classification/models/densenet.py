"""DenseNet: every layer of a block sees the outputs of all layers before it (arXiv:1608.06993)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from glueball import nn
from glueball_cv_classification.models._building import NormMaker, conv3x3, norm_maker, pointwise


def _dense_layer(in_channels: int, growth_rate: int, bn_size: int, dropout: float, norm: NormMaker) -> Any:
    """Appends ``growth_rate`` channels to its input."""
    width = bn_size * growth_rate
    new_features = nn.HybridSequential(prefix="")
    new_features.add(
        norm(in_channels=in_channels),
        nn.Activation("relu"),
        pointwise(width, in_channels),
        norm(in_channels=width),
        nn.Activation("relu"),
        conv3x3(growth_rate, width),
    )
    if dropout:
        new_features.add(nn.Dropout(dropout))
    layer = nn.HybridConcurrent(axis=1, prefix="")
    layer.add(nn.Identity(), new_features)
    return layer


def _transition(in_channels: int, channels: int, norm: NormMaker) -> Any:
    """Halves height and width and reduces the channels."""
    layers = nn.HybridSequential(prefix="")
    layers.add(
        norm(in_channels=in_channels),
        nn.Activation("relu"),
        pointwise(channels, in_channels),
        nn.AvgPool2D(pool_size=2, strides=2),
    )
    return layers


class DenseNet(nn.HybridBlock):
    """data: (batch, 3, height, width), at least 29x29 -> (batch, classes)

    The last average runs over the whole map, whatever its size (7x7 for a picture of 224x224).

    Args:
        num_init_features: Channels of the stem.
        growth_rate: Channels that each layer adds.
        block_config: Layers of each block.
        bn_size: Width of the 1x1 convolutions in multiples of the growth rate.
        dropout: Dropout rate at the end of each layer.
        classes: Size of the output.
        norm_layer: Class of the normalisation layers, ``nn.BatchNorm`` by default.
        norm_kwargs: Further keywords for it.
    """

    def __init__(
        self,
        num_init_features: int,
        growth_rate: int,
        block_config: Sequence[int],
        bn_size: int = 4,
        dropout: float = 0.0,
        classes: int = 1000,
        norm_layer: type | None = None,
        norm_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm = norm_maker(norm_layer, norm_kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            self.features.add(
                nn.Conv2D(num_init_features, kernel_size=7, strides=2, padding=3, use_bias=False),
                norm(in_channels=num_init_features),
                nn.Activation("relu"),
                nn.MaxPool2D(pool_size=3, strides=2, padding=1),
            )
            channels = num_init_features
            for index, num_layers in enumerate(block_config):
                if index > 0:
                    self.features.add(_transition(channels, channels // 2, norm))
                    channels //= 2
                stage = nn.HybridSequential(prefix=f"stage{index + 1}_")
                with stage.name_scope():
                    for _ in range(num_layers):
                        stage.add(_dense_layer(channels, growth_rate, bn_size, dropout, norm))
                        channels += growth_rate
                self.features.add(stage)
            self.features.add(
                norm(in_channels=channels),
                nn.Activation("relu"),
                nn.GlobalAvgPool2D(),
                nn.Flatten(),
            )
            self.output = nn.Dense(classes, in_units=channels)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


def densenet121(classes: int = 1000, **kwargs: Any) -> DenseNet:
    """DenseNet-121, growth rate 32; keywords of ``DenseNet``."""
    return DenseNet(64, 32, (6, 12, 24, 16), classes=classes, **kwargs)


def densenet161(classes: int = 1000, **kwargs: Any) -> DenseNet:
    """DenseNet-161, growth rate 48; keywords of ``DenseNet``."""
    return DenseNet(96, 48, (6, 12, 36, 24), classes=classes, **kwargs)


def densenet169(classes: int = 1000, **kwargs: Any) -> DenseNet:
    """DenseNet-169, growth rate 32; keywords of ``DenseNet``."""
    return DenseNet(64, 32, (6, 12, 32, 32), classes=classes, **kwargs)


def densenet201(classes: int = 1000, **kwargs: Any) -> DenseNet:
    """DenseNet-201, growth rate 32; keywords of ``DenseNet``."""
    return DenseNet(64, 32, (6, 12, 48, 32), classes=classes, **kwargs)

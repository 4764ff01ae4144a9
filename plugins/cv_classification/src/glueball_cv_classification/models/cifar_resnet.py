"""Residual networks for pictures of 32x32 pixels (arXiv:1512.03385, section 4.2; v2: arXiv:1603.05027).

Three stages of 16, 32 and 64 channels with n basic blocks each make 6n + 2 weighted layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from glueball import nn
from glueball_cv_classification.models._building import conv3x3, norm_maker
from glueball_cv_classification.models.resnet import BasicBlockV1, BasicBlockV2, residual_stage


class CIFARBasicBlockV2(BasicBlockV2):
    """Pre-activation block whose strided shortcut sees the raw input, as in the network of the official weights.

    data: (batch, in_channels, height, width) -> (batch, channels, height / stride, width / stride). Arguments as of
    ``BasicBlockV2``.
    """

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        shortcut = x if self.downsample is None else self.downsample(x)
        hidden = F.Activation(self.bn1(x), act_type="relu")
        hidden = F.Activation(self.bn2(self.conv1(hidden)), act_type="relu")
        return self.conv2(hidden) + shortcut


class CIFARResNetV1(nn.HybridBlock):
    """data: (batch, 3, height, width), as small as 4x4 -> (batch, classes)

    Args:
        block: ``BasicBlockV1``.
        layers: Blocks of each stage.
        channels: Channels of the stem and of each stage: one more than ``layers``.
        classes: Size of the output.
        norm_layer: Class of the normalisation layers, ``nn.BatchNorm`` by default.
        norm_kwargs: Further keywords for it.
    """

    def __init__(
        self,
        block: type,
        layers: Sequence[int],
        channels: Sequence[int],
        classes: int = 10,
        norm_layer: type | None = None,
        norm_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm = norm_maker(norm_layer, norm_kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            # No ReLU follows the stem's normalisation: the official weights were trained without it.
            self.features.add(conv3x3(channels[0], 0), norm(in_channels=channels[0]))
            _add_stages(self.features, block, layers, channels, norm_layer, norm_kwargs)
            self.features.add(nn.GlobalAvgPool2D())
            self.output = nn.Dense(classes, in_units=channels[-1])

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


class CIFARResNetV2(nn.HybridBlock):
    """The same with pre-activation blocks; the raw picture is normalised without scale and offset.

    data: (batch, 3, height, width), as small as 4x4 -> (batch, classes). Arguments as of ``CIFARResNetV1``,
    with ``CIFARBasicBlockV2``.
    """

    def __init__(
        self,
        block: type,
        layers: Sequence[int],
        channels: Sequence[int],
        classes: int = 10,
        norm_layer: type | None = None,
        norm_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm = norm_maker(norm_layer, norm_kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            self.features.add(norm(scale=False, center=False), conv3x3(channels[0], 0))
            _add_stages(self.features, block, layers, channels, norm_layer, norm_kwargs)
            self.features.add(
                norm(in_channels=channels[-1]),
                nn.Activation("relu"),
                nn.GlobalAvgPool2D(),
                nn.Flatten(),
            )
            self.output = nn.Dense(classes, in_units=channels[-1])

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


def _add_stages(
    features: Any,
    block: type,
    layers: Sequence[int],
    channels: Sequence[int],
    norm_layer: type | None,
    norm_kwargs: Mapping[str, Any] | None,
) -> None:
    for index, num_blocks in enumerate(layers):
        features.add(
            residual_stage(
                block,
                num_blocks,
                channels[index + 1],
                stride=1 if index == 0 else 2,
                in_channels=channels[index],
                index=index + 1,
                norm_layer=norm_layer,
                norm_kwargs=norm_kwargs,
            )
        )


_CHANNELS = (16, 16, 32, 64)


def cifar_resnet20_v1(classes: int = 10, **kwargs: Any) -> CIFARResNetV1:
    """CIFAR ResNet-20 v1 (arXiv:1512.03385); keywords of ``CIFARResNetV1``."""
    return CIFARResNetV1(BasicBlockV1, (3, 3, 3), _CHANNELS, classes=classes, **kwargs)


def cifar_resnet56_v1(classes: int = 10, **kwargs: Any) -> CIFARResNetV1:
    """CIFAR ResNet-56 v1 (arXiv:1512.03385); keywords of ``CIFARResNetV1``."""
    return CIFARResNetV1(BasicBlockV1, (9, 9, 9), _CHANNELS, classes=classes, **kwargs)


def cifar_resnet110_v1(classes: int = 10, **kwargs: Any) -> CIFARResNetV1:
    """CIFAR ResNet-110 v1 (arXiv:1512.03385); keywords of ``CIFARResNetV1``."""
    return CIFARResNetV1(BasicBlockV1, (18, 18, 18), _CHANNELS, classes=classes, **kwargs)


def cifar_resnet20_v2(classes: int = 10, **kwargs: Any) -> CIFARResNetV2:
    """CIFAR ResNet-20 v2 (arXiv:1603.05027); keywords of ``CIFARResNetV2``."""
    return CIFARResNetV2(CIFARBasicBlockV2, (3, 3, 3), _CHANNELS, classes=classes, **kwargs)


def cifar_resnet56_v2(classes: int = 10, **kwargs: Any) -> CIFARResNetV2:
    """CIFAR ResNet-56 v2 (arXiv:1603.05027); keywords of ``CIFARResNetV2``."""
    return CIFARResNetV2(CIFARBasicBlockV2, (9, 9, 9), _CHANNELS, classes=classes, **kwargs)


def cifar_resnet110_v2(classes: int = 10, **kwargs: Any) -> CIFARResNetV2:
    """CIFAR ResNet-110 v2 (arXiv:1603.05027); keywords of ``CIFARResNetV2``."""
    return CIFARResNetV2(CIFARBasicBlockV2, (18, 18, 18), _CHANNELS, classes=classes, **kwargs)

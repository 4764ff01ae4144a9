"""Residual networks as first published: v1 (arXiv:1512.03385) and pre-activation v2 (arXiv:1603.05027).

Two habits of the original files are kept, since the official weights were trained with them: a v1 bottleneck strides in
its first 1x1 convolution and gives both 1x1 convolutions a bias; v2 normalises the raw picture with a batch norm whose
scale and offset are fixed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from glueball import nn
from glueball_cv_classification.models._building import conv3x3, last_gamma_initializer, norm_maker, pointwise


class BasicBlockV1(nn.HybridBlock):
    """Two 3x3 convolutions and a shortcut, added before the last ReLU.

    data: (batch, in_channels, height, width) -> (batch, channels, height / stride, width / stride)

    Args:
        channels: Channels of the output.
        stride: Stride of the first convolution.
        downsample: Whether the shortcut is a strided 1x1 convolution; otherwise it is the input itself.
        in_channels: Channels of the input.
        last_gamma: Start as the identity, see ``last_gamma_initializer``.
        norm_layer: Class of the normalisation layers, ``nn.BatchNorm`` by default.
        norm_kwargs: Further keywords for it.
    """

    def __init__(
        self,
        channels: int,
        stride: int,
        downsample: bool = False,
        in_channels: int = 0,
        last_gamma: bool = False,
        norm_layer: type | None = None,
        norm_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm = norm_maker(norm_layer, norm_kwargs)
        self.body = nn.HybridSequential(prefix="")
        self.body.add(
            conv3x3(channels, in_channels, stride),
            norm(in_channels=channels),
            nn.Activation("relu"),
            conv3x3(channels, channels),
            norm(in_channels=channels, gamma_initializer=last_gamma_initializer(last_gamma)),
        )
        self.downsample = None
        if downsample:
            self.downsample = nn.HybridSequential(prefix="")
            self.downsample.add(pointwise(channels, in_channels, stride), norm(in_channels=channels))

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.Activation(self.body(x) + shortcut, act_type="relu")


class BottleneckV1(nn.HybridBlock):
    """A 1x1 convolution that narrows (and strides), a 3x3 one, a 1x1 one that widens, and a shortcut.

    data: (batch, in_channels, height, width) -> (batch, channels, height / stride, width / stride); the inner width is
    a quarter of ``channels``. Arguments as of ``BasicBlockV1``.
    """

    def __init__(
        self,
        channels: int,
        stride: int,
        downsample: bool = False,
        in_channels: int = 0,
        last_gamma: bool = False,
        norm_layer: type | None = None,
        norm_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm = norm_maker(norm_layer, norm_kwargs)
        width = channels // 4
        self.body = nn.HybridSequential(prefix="")
        self.body.add(
            pointwise(width, in_channels, stride, use_bias=True),
            norm(in_channels=width),
            nn.Activation("relu"),
            conv3x3(width, width),
            norm(in_channels=width),
            nn.Activation("relu"),
            pointwise(channels, width, use_bias=True),
            norm(in_channels=channels, gamma_initializer=last_gamma_initializer(last_gamma)),
        )
        self.downsample = None
        if downsample:
            self.downsample = nn.HybridSequential(prefix="")
            self.downsample.add(pointwise(channels, in_channels, stride), norm(in_channels=channels))

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.Activation(self.body(x) + shortcut, act_type="relu")


class BasicBlockV2(nn.HybridBlock):
    """Two 3x3 convolutions, each after its normalisation and ReLU; nothing follows the addition.

    data: (batch, in_channels, height, width) -> (batch, channels, height / stride, width / stride). Arguments as of
    ``BasicBlockV1``; a strided shortcut sees the activated input (arXiv:1603.05027, section 4.1).
    """

    def __init__(
        self,
        channels: int,
        stride: int,
        downsample: bool = False,
        in_channels: int = 0,
        last_gamma: bool = False,
        norm_layer: type | None = None,
        norm_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm = norm_maker(norm_layer, norm_kwargs)
        self.bn1 = norm(in_channels=in_channels)
        self.conv1 = conv3x3(channels, in_channels, stride)
        self.bn2 = norm(in_channels=channels, gamma_initializer=last_gamma_initializer(last_gamma))
        self.conv2 = conv3x3(channels, channels)
        self.downsample = pointwise(channels, in_channels, stride) if downsample else None

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        activated = F.Activation(self.bn1(x), act_type="relu")
        shortcut = x if self.downsample is None else self.downsample(activated)
        hidden = F.Activation(self.bn2(self.conv1(activated)), act_type="relu")
        return self.conv2(hidden) + shortcut


class BottleneckV2(nn.HybridBlock):
    """Pre-activation bottleneck; its stride is in the 3x3 convolution.

    data: (batch, in_channels, height, width) -> (batch, channels, height / stride, width / stride). Arguments as of
    ``BasicBlockV2``.
    """

    def __init__(
        self,
        channels: int,
        stride: int,
        downsample: bool = False,
        in_channels: int = 0,
        last_gamma: bool = False,
        norm_layer: type | None = None,
        norm_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm = norm_maker(norm_layer, norm_kwargs)
        width = channels // 4
        self.bn1 = norm(in_channels=in_channels)
        self.conv1 = pointwise(width, in_channels)
        self.bn2 = norm(in_channels=width)
        self.conv2 = conv3x3(width, width, stride)
        self.bn3 = norm(in_channels=width, gamma_initializer=last_gamma_initializer(last_gamma))
        self.conv3 = pointwise(channels, width)
        self.downsample = pointwise(channels, in_channels, stride) if downsample else None

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        activated = F.Activation(self.bn1(x), act_type="relu")
        shortcut = x if self.downsample is None else self.downsample(activated)
        hidden = F.Activation(self.bn2(self.conv1(activated)), act_type="relu")
        hidden = F.Activation(self.bn3(self.conv2(hidden)), act_type="relu")
        return self.conv3(hidden) + shortcut


def residual_stage(
    block: type,
    num_blocks: int,
    channels: int,
    stride: int,
    in_channels: int,
    index: int,
    last_gamma: bool = False,
    norm_layer: type | None = None,
    norm_kwargs: Mapping[str, Any] | None = None,
) -> Any:
    """``num_blocks`` blocks, the first of which changes size and channels; their names begin with ``stage<index>_``."""
    options = {"last_gamma": last_gamma, "norm_layer": norm_layer, "norm_kwargs": norm_kwargs, "prefix": ""}
    stage = nn.HybridSequential(prefix=f"stage{index}_")
    with stage.name_scope():
        changes_shape = stride != 1 or channels != in_channels
        stage.add(block(channels, stride, changes_shape, in_channels=in_channels, **options))
        for _ in range(num_blocks - 1):
            stage.add(block(channels, 1, False, in_channels=channels, **options))
    return stage


class ResNetV1(nn.HybridBlock):
    """A residual network with post-activation blocks.

    data: (batch, 3, height, width) -> (batch, classes)

    Args:
        block: ``BasicBlockV1`` or ``BottleneckV1``.
        layers: Blocks of each stage.
        channels: Channels of the stem and of each stage: one more than ``layers``.
        classes: Size of the output.
        thumbnail: For pictures of about 32 pixels: the stem is one 3x3 convolution that keeps the size.
        last_gamma: Every block starts as the identity, see ``last_gamma_initializer``.
        norm_layer: Class of the normalisation layers, ``nn.BatchNorm`` by default.
        norm_kwargs: Further keywords for it.
    """

    def __init__(
        self,
        block: type,
        layers: Sequence[int],
        channels: Sequence[int],
        classes: int = 1000,
        thumbnail: bool = False,
        last_gamma: bool = False,
        norm_layer: type | None = None,
        norm_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm = norm_maker(norm_layer, norm_kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            if thumbnail:
                self.features.add(conv3x3(channels[0], 0))
            else:
                self.features.add(
                    nn.Conv2D(channels[0], kernel_size=7, strides=2, padding=3, use_bias=False),
                    norm(in_channels=channels[0]),
                    nn.Activation("relu"),
                    nn.MaxPool2D(pool_size=3, strides=2, padding=1),
                )
            for index, num_blocks in enumerate(layers):
                self.features.add(
                    residual_stage(
                        block,
                        num_blocks,
                        channels[index + 1],
                        stride=1 if index == 0 else 2,
                        in_channels=channels[index],
                        index=index + 1,
                        last_gamma=last_gamma,
                        norm_layer=norm_layer,
                        norm_kwargs=norm_kwargs,
                    )
                )
            self.features.add(nn.GlobalAvgPool2D())
            self.output = nn.Dense(classes, in_units=channels[-1])

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


class ResNetV2(nn.HybridBlock):
    """A residual network with pre-activation blocks.

    data: (batch, 3, height, width) -> (batch, classes). Arguments as of ``ResNetV1``, with ``BasicBlockV2`` or
    ``BottleneckV2``.
    """

    def __init__(
        self,
        block: type,
        layers: Sequence[int],
        channels: Sequence[int],
        classes: int = 1000,
        thumbnail: bool = False,
        last_gamma: bool = False,
        norm_layer: type | None = None,
        norm_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm = norm_maker(norm_layer, norm_kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            self.features.add(norm(scale=False, center=False))
            if thumbnail:
                self.features.add(conv3x3(channels[0], 0))
            else:
                self.features.add(
                    nn.Conv2D(channels[0], kernel_size=7, strides=2, padding=3, use_bias=False),
                    norm(in_channels=channels[0]),
                    nn.Activation("relu"),
                    nn.MaxPool2D(pool_size=3, strides=2, padding=1),
                )
            for index, num_blocks in enumerate(layers):
                self.features.add(
                    residual_stage(
                        block,
                        num_blocks,
                        channels[index + 1],
                        stride=1 if index == 0 else 2,
                        in_channels=channels[index],
                        index=index + 1,
                        last_gamma=last_gamma,
                        norm_layer=norm_layer,
                        norm_kwargs=norm_kwargs,
                    )
                )
            self.features.add(
                norm(in_channels=channels[-1]),
                nn.Activation("relu"),
                nn.GlobalAvgPool2D(),
                nn.Flatten(),
            )
            self.output = nn.Dense(classes, in_units=channels[-1])

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


_NARROW = (64, 64, 128, 256, 512)
_WIDE = (64, 256, 512, 1024, 2048)


def resnet18_v1(classes: int = 1000, **kwargs: Any) -> ResNetV1:
    """ResNet-18 v1 (arXiv:1512.03385); keywords of ``ResNetV1``."""
    return ResNetV1(BasicBlockV1, (2, 2, 2, 2), _NARROW, classes=classes, **kwargs)


def resnet34_v1(classes: int = 1000, **kwargs: Any) -> ResNetV1:
    """ResNet-34 v1 (arXiv:1512.03385); keywords of ``ResNetV1``."""
    return ResNetV1(BasicBlockV1, (3, 4, 6, 3), _NARROW, classes=classes, **kwargs)


def resnet50_v1(classes: int = 1000, **kwargs: Any) -> ResNetV1:
    """ResNet-50 v1 (arXiv:1512.03385); keywords of ``ResNetV1``."""
    return ResNetV1(BottleneckV1, (3, 4, 6, 3), _WIDE, classes=classes, **kwargs)


def resnet101_v1(classes: int = 1000, **kwargs: Any) -> ResNetV1:
    """ResNet-101 v1 (arXiv:1512.03385); keywords of ``ResNetV1``."""
    return ResNetV1(BottleneckV1, (3, 4, 23, 3), _WIDE, classes=classes, **kwargs)


def resnet152_v1(classes: int = 1000, **kwargs: Any) -> ResNetV1:
    """ResNet-152 v1 (arXiv:1512.03385); keywords of ``ResNetV1``."""
    return ResNetV1(BottleneckV1, (3, 8, 36, 3), _WIDE, classes=classes, **kwargs)


def resnet18_v2(classes: int = 1000, **kwargs: Any) -> ResNetV2:
    """ResNet-18 v2 (arXiv:1603.05027); keywords of ``ResNetV2``."""
    return ResNetV2(BasicBlockV2, (2, 2, 2, 2), _NARROW, classes=classes, **kwargs)


def resnet34_v2(classes: int = 1000, **kwargs: Any) -> ResNetV2:
    """ResNet-34 v2 (arXiv:1603.05027); keywords of ``ResNetV2``."""
    return ResNetV2(BasicBlockV2, (3, 4, 6, 3), _NARROW, classes=classes, **kwargs)


def resnet50_v2(classes: int = 1000, **kwargs: Any) -> ResNetV2:
    """ResNet-50 v2 (arXiv:1603.05027); keywords of ``ResNetV2``."""
    return ResNetV2(BottleneckV2, (3, 4, 6, 3), _WIDE, classes=classes, **kwargs)


def resnet101_v2(classes: int = 1000, **kwargs: Any) -> ResNetV2:
    """ResNet-101 v2 (arXiv:1603.05027); keywords of ``ResNetV2``."""
    return ResNetV2(BottleneckV2, (3, 4, 23, 3), _WIDE, classes=classes, **kwargs)


def resnet152_v2(classes: int = 1000, **kwargs: Any) -> ResNetV2:
    """ResNet-152 v2 (arXiv:1603.05027); keywords of ``ResNetV2``."""
    return ResNetV2(BottleneckV2, (3, 8, 36, 3), _WIDE, classes=classes, **kwargs)

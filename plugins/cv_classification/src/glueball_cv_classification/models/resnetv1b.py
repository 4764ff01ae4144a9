"""ResNet v1b and its descendants v1c, v1d, v1e and v1s ("bag of tricks", arXiv:1812.01187).

v1b strides in the 3x3 convolution of a bottleneck instead of the first 1x1 one (section 4.2, B). v1c replaces the 7x7
stem by three 3x3 convolutions (C), v1d also pools before the shortcut's 1x1 convolution instead of striding in it (D).
v1e is v1d, and v1s is v1c, with a stem of twice the width.

``dilated=True`` keeps the resolution of the last two stages at 1/8 of the picture by dilation (arXiv:1511.07122), which
segmentation needs; it changes no parameter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from glueball import nn
from glueball_cv_classification.models._building import (
    NormMaker,
    conv3x3,
    last_gamma_initializer,
    norm_maker,
    pointwise,
)


class BasicBlockV1b(nn.HybridBlock):
    """Two 3x3 convolutions and a shortcut, added before the last ReLU.

    data: (batch, in_channels, height, width) -> (batch, planes, height / strides, width / strides)

    Args:
        planes: Channels of the output.
        strides: Stride of the first convolution.
        dilation: Dilation of the first convolution.
        downsample: The block that fits the shortcut to the output; None where it fits already.
        previous_dilation: Dilation of the second convolution.
        norm_layer: Class of the normalisation layers, ``nn.BatchNorm`` by default.
        norm_kwargs: Further keywords for it.
        last_gamma: Start as the identity, see ``last_gamma_initializer``.
        in_channels: Channels of the input.
    """

    expansion = 1

    def __init__(
        self,
        planes: int,
        strides: int = 1,
        dilation: int = 1,
        downsample: Any = None,
        previous_dilation: int = 1,
        norm_layer: type | None = None,
        norm_kwargs: Mapping[str, Any] | None = None,
        last_gamma: bool = False,
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm = norm_maker(norm_layer, norm_kwargs)
        self.conv1 = conv3x3(planes, in_channels, strides, dilation)
        self.bn1 = norm(in_channels=planes)
        self.conv2 = conv3x3(planes, planes, dilation=previous_dilation)
        self.bn2 = norm(in_channels=planes, gamma_initializer=last_gamma_initializer(last_gamma))
        self.downsample = downsample

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.Activation(self.bn1(self.conv1(x)), act_type="relu")
        x = self.bn2(self.conv2(x))
        return F.Activation(x + shortcut, act_type="relu")


class BottleneckV1b(nn.HybridBlock):
    """1x1, 3x3 and 1x1 convolutions and a shortcut; the 3x3 one strides.

    data: (batch, in_channels, height, width) -> (batch, 4 * planes, height / strides, width / strides). Arguments as of
    ``BasicBlockV1b``; ``previous_dilation`` has no use here.
    """

    expansion = 4

    def __init__(
        self,
        planes: int,
        strides: int = 1,
        dilation: int = 1,
        downsample: Any = None,
        previous_dilation: int = 1,
        norm_layer: type | None = None,
        norm_kwargs: Mapping[str, Any] | None = None,
        last_gamma: bool = False,
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm = norm_maker(norm_layer, norm_kwargs)
        channels = planes * self.expansion
        self.conv1 = pointwise(planes, in_channels)
        self.bn1 = norm(in_channels=planes)
        self.conv2 = conv3x3(planes, planes, strides, dilation)
        self.bn2 = norm(in_channels=planes)
        self.conv3 = pointwise(channels, planes)
        self.bn3 = norm(in_channels=channels, gamma_initializer=last_gamma_initializer(last_gamma))
        self.downsample = downsample

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        shortcut = x if self.downsample is None else self.downsample(x)
        x = F.Activation(self.bn1(self.conv1(x)), act_type="relu")
        x = F.Activation(self.bn2(self.conv2(x)), act_type="relu")
        x = self.bn3(self.conv3(x))
        return F.Activation(x + shortcut, act_type="relu")


class ResNetV1b(nn.HybridBlock):
    """data: (batch, 3, height, width) -> (batch, classes)

    The stages are attributes (``layer1`` to ``layer4``), so that a detector or a segmentation network can tap them.

    Args:
        block: ``BasicBlockV1b`` or ``BottleneckV1b``.
        layers: Blocks of each of the four stages.
        classes: Size of the output.
        dilated: Keep the third and fourth stage at 1/8 of the picture's size.
        norm_layer: Class of the normalisation layers, ``nn.BatchNorm`` by default.
        norm_kwargs: Further keywords for it.
        last_gamma: Every block starts as the identity, see ``last_gamma_initializer``.
        deep_stem: Three 3x3 convolutions instead of one 7x7.
        stem_width: Channels of the deep stem; the stages begin with twice as many.
        avg_down: Average before the shortcut's convolution instead of striding in it.
        final_drop: Dropout rate before the classifier.
        use_global_stats: Normalise by the running statistics in training too.
    """

    def __init__(
        self,
        block: type,
        layers: Sequence[int],
        classes: int = 1000,
        dilated: bool = False,
        norm_layer: type | None = None,
        norm_kwargs: Mapping[str, Any] | None = None,
        last_gamma: bool = False,
        deep_stem: bool = False,
        stem_width: int = 32,
        avg_down: bool = False,
        final_drop: float = 0.0,
        use_global_stats: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._norm_layer = norm_layer
        self._norm_kwargs = {**(norm_kwargs or {}), **({"use_global_stats": True} if use_global_stats else {})}
        self._last_gamma = last_gamma
        self._avg_down = avg_down
        norm = norm_maker(norm_layer, self._norm_kwargs)
        strides = (1, 2, 1, 1) if dilated else (1, 2, 2, 2)
        dilations = (1, 1, 2, 4) if dilated else (1, 1, 1, 1)
        with self.name_scope():
            if deep_stem:
                channels = 2 * stem_width
                self.conv1 = _deep_stem(stem_width, norm)
            else:
                channels = 64
                self.conv1 = nn.Conv2D(channels, kernel_size=7, strides=2, padding=3, use_bias=False)
            self.bn1 = norm(in_channels=channels)
            self.relu = nn.Activation("relu")
            self.maxpool = nn.MaxPool2D(pool_size=3, strides=2, padding=1)
            for index in range(4):
                planes = 64 * 2**index
                stage = self._stage(index + 1, block, layers[index], planes, channels, strides[index], dilations[index])
                setattr(self, f"layer{index + 1}", stage)
                channels = planes * block.expansion  # type: ignore[attr-defined]
            self.avgpool = nn.GlobalAvgPool2D()
            self.flat = nn.Flatten()
            self.drop = nn.Dropout(final_drop) if final_drop > 0 else None
            self.fc = nn.Dense(classes, in_units=channels)

    def _stage(
        self, index: int, block: type, num_blocks: int, planes: int, in_channels: int, strides: int, dilation: int
    ) -> Any:
        channels = planes * block.expansion  # type: ignore[attr-defined]
        downsample = None
        if strides != 1 or in_channels != channels:
            downsample = self._downsample(index, channels, in_channels, strides, pooled=self._avg_down)
        options = {
            "norm_layer": self._norm_layer,
            "norm_kwargs": self._norm_kwargs,
            "last_gamma": self._last_gamma,
            "previous_dilation": dilation,
            "prefix": "",
        }
        # The first block of a stage sees the features of the stage before, so it still works on that one's grid.
        first_dilation = max(dilation // 2, 1)
        stage = nn.HybridSequential(prefix=f"layers{index}_")
        with stage.name_scope():
            stage.add(block(planes, strides, first_dilation, downsample, in_channels=in_channels, **options))
            for _ in range(num_blocks - 1):
                stage.add(block(planes, 1, dilation, in_channels=channels, **options))
        return stage

    def _downsample(self, index: int, channels: int, in_channels: int, strides: int, pooled: bool) -> Any:
        norm = norm_maker(self._norm_layer, self._norm_kwargs)
        downsample = nn.HybridSequential(prefix=f"down{index}_")
        with downsample.name_scope():
            if pooled and strides > 1:
                # Windows that reach over the border average what they see, so that odd sizes lose nothing.
                pool = nn.AvgPool2D(pool_size=strides, strides=strides, ceil_mode=True, count_include_pad=False)
                downsample.add(pool, pointwise(channels, in_channels))
            elif pooled:
                # A window of one pixel changes nothing; the child only keeps the positions of the others.
                downsample.add(nn.Identity(), pointwise(channels, in_channels))
            else:
                downsample.add(pointwise(channels, in_channels, strides))
            downsample.add(norm(in_channels=channels))
        return downsample

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        x = self.flat(self.avgpool(x))
        if self.drop is not None:
            x = self.drop(x)
        return self.fc(x)


def _deep_stem(width: int, norm: NormMaker) -> Any:
    """Three 3x3 convolutions that see as far as one 7x7; the last one's normalisation is the network's ``bn1``."""
    stem = nn.HybridSequential(prefix="")
    stem.add(
        conv3x3(width, 0, strides=2),
        norm(in_channels=width),
        nn.Activation("relu"),
        conv3x3(width, width),
        norm(in_channels=width),
        nn.Activation("relu"),
        conv3x3(2 * width, width),
    )
    return stem


def _v1b(block: type, layers: Sequence[int], classes: int, **kwargs: Any) -> ResNetV1b:
    return ResNetV1b(block, layers, classes=classes, **{"prefix": "resnetv1b_", **kwargs})


def _v1c(layers: Sequence[int], classes: int, **kwargs: Any) -> ResNetV1b:
    options = {"prefix": "resnetv1c_", "deep_stem": True, **kwargs}
    return ResNetV1b(BottleneckV1b, layers, classes=classes, **options)


def _v1d(layers: Sequence[int], classes: int, **kwargs: Any) -> ResNetV1b:
    options = {"prefix": "resnetv1d_", "deep_stem": True, "avg_down": True, **kwargs}
    return ResNetV1b(BottleneckV1b, layers, classes=classes, **options)


def _v1e(layers: Sequence[int], classes: int, **kwargs: Any) -> ResNetV1b:
    options = {"prefix": "resnetv1e_", "deep_stem": True, "avg_down": True, "stem_width": 64, **kwargs}
    return ResNetV1b(BottleneckV1b, layers, classes=classes, **options)


def _v1s(layers: Sequence[int], classes: int, **kwargs: Any) -> ResNetV1b:
    options = {"prefix": "resnetv1s_", "deep_stem": True, "stem_width": 64, **kwargs}
    return ResNetV1b(BottleneckV1b, layers, classes=classes, **options)


_LAYERS_18 = (2, 2, 2, 2)
_LAYERS_34 = _LAYERS_50 = (3, 4, 6, 3)
_LAYERS_101 = (3, 4, 23, 3)
_LAYERS_152 = (3, 8, 36, 3)


def resnet18_v1b(classes: int = 1000, **kwargs: Any) -> ResNetV1b:
    """ResNet-18 v1b; keywords of ``ResNetV1b``."""
    return _v1b(BasicBlockV1b, _LAYERS_18, classes, **kwargs)


def resnet34_v1b(classes: int = 1000, **kwargs: Any) -> ResNetV1b:
    """ResNet-34 v1b; keywords of ``ResNetV1b``."""
    return _v1b(BasicBlockV1b, _LAYERS_34, classes, **kwargs)


def resnet50_v1b(classes: int = 1000, **kwargs: Any) -> ResNetV1b:
    """ResNet-50 v1b; keywords of ``ResNetV1b``."""
    return _v1b(BottleneckV1b, _LAYERS_50, classes, **kwargs)


def resnet101_v1b(classes: int = 1000, **kwargs: Any) -> ResNetV1b:
    """ResNet-101 v1b; keywords of ``ResNetV1b``."""
    return _v1b(BottleneckV1b, _LAYERS_101, classes, **kwargs)


def resnet152_v1b(classes: int = 1000, **kwargs: Any) -> ResNetV1b:
    """ResNet-152 v1b; keywords of ``ResNetV1b``."""
    return _v1b(BottleneckV1b, _LAYERS_152, classes, **kwargs)


def resnet50_v1c(classes: int = 1000, **kwargs: Any) -> ResNetV1b:
    """ResNet-50 v1c (deep stem of 32 channels); keywords of ``ResNetV1b``."""
    return _v1c(_LAYERS_50, classes, **kwargs)


def resnet101_v1c(classes: int = 1000, **kwargs: Any) -> ResNetV1b:
    """ResNet-101 v1c (deep stem of 32 channels); keywords of ``ResNetV1b``."""
    return _v1c(_LAYERS_101, classes, **kwargs)


def resnet152_v1c(classes: int = 1000, **kwargs: Any) -> ResNetV1b:
    """ResNet-152 v1c (deep stem of 32 channels); keywords of ``ResNetV1b``."""
    return _v1c(_LAYERS_152, classes, **kwargs)


def resnet50_v1d(classes: int = 1000, **kwargs: Any) -> ResNetV1b:
    """ResNet-50 v1d (deep stem of 32 channels, averaging shortcuts); keywords of ``ResNetV1b``."""
    return _v1d(_LAYERS_50, classes, **kwargs)


def resnet101_v1d(classes: int = 1000, **kwargs: Any) -> ResNetV1b:
    """ResNet-101 v1d (deep stem of 32 channels, averaging shortcuts); keywords of ``ResNetV1b``."""
    return _v1d(_LAYERS_101, classes, **kwargs)


def resnet152_v1d(classes: int = 1000, **kwargs: Any) -> ResNetV1b:
    """ResNet-152 v1d (deep stem of 32 channels, averaging shortcuts); keywords of ``ResNetV1b``."""
    return _v1d(_LAYERS_152, classes, **kwargs)


def resnet50_v1e(classes: int = 1000, **kwargs: Any) -> ResNetV1b:
    """ResNet-50 v1e (deep stem of 64 channels, averaging shortcuts); keywords of ``ResNetV1b``."""
    return _v1e(_LAYERS_50, classes, **kwargs)


def resnet101_v1e(classes: int = 1000, **kwargs: Any) -> ResNetV1b:
    """ResNet-101 v1e (deep stem of 64 channels, averaging shortcuts); keywords of ``ResNetV1b``."""
    return _v1e(_LAYERS_101, classes, **kwargs)


def resnet152_v1e(classes: int = 1000, **kwargs: Any) -> ResNetV1b:
    """ResNet-152 v1e (deep stem of 64 channels, averaging shortcuts); keywords of ``ResNetV1b``."""
    return _v1e(_LAYERS_152, classes, **kwargs)


def resnet50_v1s(classes: int = 1000, **kwargs: Any) -> ResNetV1b:
    """ResNet-50 v1s (deep stem of 64 channels); keywords of ``ResNetV1b``."""
    return _v1s(_LAYERS_50, classes, **kwargs)


def resnet101_v1s(classes: int = 1000, **kwargs: Any) -> ResNetV1b:
    """ResNet-101 v1s (deep stem of 64 channels); keywords of ``ResNetV1b``."""
    return _v1s(_LAYERS_101, classes, **kwargs)


def resnet152_v1s(classes: int = 1000, **kwargs: Any) -> ResNetV1b:
    """ResNet-152 v1s (deep stem of 64 channels); keywords of ``ResNetV1b``."""
    return _v1s(_LAYERS_152, classes, **kwargs)

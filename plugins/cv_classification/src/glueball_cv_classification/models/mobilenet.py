"""MobileNet v1 (arXiv:1704.04861) and v2 (arXiv:1801.04381)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from glueball import nn
from glueball_cv_classification.models._building import NormMaker, norm_maker, pointwise


def _depthwise(channels: int, strides: int) -> Any:
    return nn.Conv2D(
        channels,
        kernel_size=3,
        strides=strides,
        padding=1,
        groups=channels,
        use_bias=False,
        in_channels=channels,
    )


class ReLU6(nn.HybridBlock):
    """min(max(x, 0), 6): few bits hold its whole range."""

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return F.clip(x, 0, 6)


class MobileNet(nn.HybridBlock):
    """Depthwise separable convolutions in one flat list of layers.

    data: (batch, 3, height, width) -> (batch, classes)

    Args:
        multiplier: Factor on the width of every layer.
        classes: Size of the output.
        norm_layer: Class of the normalisation layers, ``nn.BatchNorm`` by default.
        norm_kwargs: Further keywords for it.
    """

    # (channels, stride) of each separable convolution: arXiv:1704.04861, table 1.
    _LAYOUT = (
        (64, 1),
        (128, 2),
        (128, 1),
        (256, 2),
        (256, 1),
        (512, 2),
        (512, 1),
        (512, 1),
        (512, 1),
        (512, 1),
        (512, 1),
        (1024, 2),
        (1024, 1),
    )

    def __init__(
        self,
        multiplier: float = 1.0,
        classes: int = 1000,
        norm_layer: type | None = None,
        norm_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm = norm_maker(norm_layer, norm_kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            in_channels = int(32 * multiplier)
            self.features.add(
                nn.Conv2D(in_channels, kernel_size=3, strides=2, padding=1, use_bias=False),
                norm(in_channels=in_channels),
                nn.Activation("relu"),
            )
            for width, strides in self._LAYOUT:
                channels = int(width * multiplier)
                self.features.add(
                    _depthwise(in_channels, strides),
                    norm(in_channels=in_channels),
                    nn.Activation("relu"),
                    pointwise(channels, in_channels),
                    norm(in_channels=channels),
                    nn.Activation("relu"),
                )
                in_channels = channels
            self.features.add(nn.GlobalAvgPool2D(), nn.Flatten())
            self.output = nn.Dense(classes, in_units=in_channels)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


class LinearBottleneck(nn.HybridBlock):
    """Widens by a factor, convolves depthwise, narrows again without a non-linearity.

    data: (batch, in_channels, height, width) -> (batch, channels, height / stride, width / stride)

    Args:
        in_channels: Channels of the input.
        channels: Channels of the output.
        expansion: How much wider the inner layers are; with 1 there is no widening convolution.
        stride: Stride of the depthwise convolution.
        norm: Maker of normalisation layers.
    """

    def __init__(
        self, in_channels: int, channels: int, expansion: int, stride: int, norm: NormMaker, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._has_shortcut = stride == 1 and in_channels == channels
        width = in_channels * expansion
        with self.name_scope():
            self.out = nn.HybridSequential()
            if expansion != 1:
                self.out.add(pointwise(width, in_channels), norm(in_channels=width), ReLU6())
            self.out.add(
                _depthwise(width, stride),
                norm(in_channels=width),
                ReLU6(),
                pointwise(channels, width),
                norm(in_channels=channels),
            )

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        out = self.out(x)
        return out + x if self._has_shortcut else out


class MobileNetV2(nn.HybridBlock):
    """Inverted residuals with linear bottlenecks; the classifier is a 1x1 convolution without bias.

    data: (batch, 3, height, width) -> (batch, classes). Arguments as of ``MobileNet``.
    """

    # (expansion, channels, blocks, stride of the first block): arXiv:1801.04381, table 2.
    _LAYOUT = (
        (1, 16, 1, 1),
        (6, 24, 2, 2),
        (6, 32, 3, 2),
        (6, 64, 4, 2),
        (6, 96, 3, 1),
        (6, 160, 3, 2),
        (6, 320, 1, 1),
    )

    def __init__(
        self,
        multiplier: float = 1.0,
        classes: int = 1000,
        norm_layer: type | None = None,
        norm_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        norm = norm_maker(norm_layer, norm_kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="features_")
            with self.features.name_scope():
                in_channels = int(32 * multiplier)
                self.features.add(
                    nn.Conv2D(in_channels, kernel_size=3, strides=2, padding=1, use_bias=False),
                    norm(in_channels=in_channels),
                    ReLU6(),
                )
                for expansion, width, num_blocks, first_stride in self._LAYOUT:
                    channels = int(width * multiplier)
                    for index in range(num_blocks):
                        stride = first_stride if index == 0 else 1
                        self.features.add(LinearBottleneck(in_channels, channels, expansion, stride, norm))
                        in_channels = channels
                # Narrow networks keep the full width here (arXiv:1801.04381, section 6.1.1).
                last_channels = int(1280 * max(multiplier, 1.0))
                self.features.add(
                    pointwise(last_channels, in_channels),
                    norm(in_channels=last_channels),
                    ReLU6(),
                    nn.GlobalAvgPool2D(),
                )
            self.output = nn.HybridSequential(prefix="output_")
            with self.output.name_scope():
                classifier = nn.Conv2D(
                    classes, kernel_size=1, use_bias=False, in_channels=last_channels, prefix="pred_"
                )
                self.output.add(classifier, nn.Flatten())

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(self.features(x))


def mobilenet1_0(classes: int = 1000, **kwargs: Any) -> MobileNet:
    """MobileNet v1 of full width; keywords of ``MobileNet``."""
    return MobileNet(1.0, classes=classes, **kwargs)


def mobilenet0_75(classes: int = 1000, **kwargs: Any) -> MobileNet:
    """MobileNet v1 of 3/4 width; keywords of ``MobileNet``."""
    return MobileNet(0.75, classes=classes, **kwargs)


def mobilenet0_5(classes: int = 1000, **kwargs: Any) -> MobileNet:
    """MobileNet v1 of half width; keywords of ``MobileNet``."""
    return MobileNet(0.5, classes=classes, **kwargs)


def mobilenet0_25(classes: int = 1000, **kwargs: Any) -> MobileNet:
    """MobileNet v1 of quarter width; keywords of ``MobileNet``."""
    return MobileNet(0.25, classes=classes, **kwargs)


def mobilenetv2_1_0(classes: int = 1000, **kwargs: Any) -> MobileNetV2:
    """MobileNet v2 of full width; keywords of ``MobileNetV2``."""
    return MobileNetV2(1.0, classes=classes, **kwargs)


def mobilenetv2_0_75(classes: int = 1000, **kwargs: Any) -> MobileNetV2:
    """MobileNet v2 of 3/4 width; keywords of ``MobileNetV2``."""
    return MobileNetV2(0.75, classes=classes, **kwargs)


def mobilenetv2_0_5(classes: int = 1000, **kwargs: Any) -> MobileNetV2:
    """MobileNet v2 of half width; keywords of ``MobileNetV2``."""
    return MobileNetV2(0.5, classes=classes, **kwargs)


def mobilenetv2_0_25(classes: int = 1000, **kwargs: Any) -> MobileNetV2:
    """MobileNet v2 of quarter width; keywords of ``MobileNetV2``."""
    return MobileNetV2(0.25, classes=classes, **kwargs)

"""Convolutions and transposed convolutions in one to three dimensions.

weight: (channels, in_channels / groups, *kernel); transposed: (in_channels, channels / groups, *kernel). Layouts with
the channels last move them to the end of the weight too, as in MXNet.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from glueball.backend.torch.block import HybridBlock
from glueball.backend.torch.layers.activations import Activation
from glueball.backend.torch.ops.arguments import spatial
from glueball.backend.torch.ops.layers import _CONVOLUTIONS, _TRANSPOSED, is_channels_last
from glueball.errors import OptionError

_LAYOUTS = {1: ("NCW", "NWC"), 2: ("NCHW", "NHWC"), 3: ("NCDHW", "NDHWC")}


class _Convolution(HybridBlock):
    """What all six share. Subclasses hand in the number of spatial axes."""

    def __init__(
        self,
        ndim: int,
        channels: int,
        kernel_size: Any,
        strides: Any,
        padding: Any,
        dilation: Any,
        groups: int,
        layout: str,
        in_channels: int,
        activation: str | None,
        use_bias: bool,
        weight_initializer: Any,
        bias_initializer: Any,
        output_padding: Any = None,
        prefix: str | None = None,
        params: Any = None,
    ) -> None:
        super().__init__(prefix=prefix, params=params)
        if layout not in _LAYOUTS[ndim]:
            raise OptionError(
                f"{type(self).__name__}: expected layout {' or '.join(_LAYOUTS[ndim])}; received {layout!r}."
            )
        if channels % groups:
            raise OptionError(
                f"{type(self).__name__}: groups must divide channels; received channels={channels}, groups={groups}."
            )
        self._channels = channels
        self._in_channels = in_channels
        self._kernel = spatial(kernel_size, ndim, 1)
        self._strides = spatial(strides, ndim, 1)
        self._padding = spatial(padding, ndim, 0)
        self._dilation = spatial(dilation, ndim, 1)
        self._groups = groups
        self._layout = layout
        self._channels_last = is_channels_last(layout)
        self._transposed = output_padding is not None
        self._output_padding = spatial(output_padding, ndim, 0)
        self._function = (_TRANSPOSED if self._transposed else _CONVOLUTIONS)[ndim]
        with self.name_scope():
            self.weight = self.params.get(
                "weight", shape=self._weight_shape(in_channels), init=weight_initializer, allow_deferred_init=True
            )
            self.bias = (
                self.params.get("bias", shape=(channels,), init=bias_initializer, allow_deferred_init=True)
                if use_bias
                else None
            )
            self.act = None if activation is None else Activation(activation, prefix=activation + "_")

    def _alias(self) -> str:
        return "conv"

    def _weight_shape(self, in_channels: int) -> tuple[int, ...]:
        if self._transposed:
            first, second = in_channels, self._channels // self._groups
        else:
            first, second = self._channels, in_channels // self._groups
        return (first, *self._kernel, second) if self._channels_last else (first, second, *self._kernel)

    def infer_shape(self, x: Tensor, *others: Any) -> None:
        self.weight.shape = self._weight_shape(x.shape[-1 if self._channels_last else 1])

    def hybrid_forward(self, F: Any, x: Any, weight: Any, bias: Any = None) -> Any:
        if self._channels_last:
            x, weight = x.movedim(-1, 1), weight.movedim(-1, 1)
        if self._transposed:
            x = self._function(
                x, weight, bias, self._strides, self._padding, self._output_padding, self._groups, self._dilation
            )
        else:
            x = self._function(x, weight, bias, self._strides, self._padding, self._dilation, self._groups)
        if self._channels_last:
            x = x.movedim(1, -1)
        return x if self.act is None else self.act(x)

    def extra_repr(self) -> str:
        shape = tuple(self.weight.shape or ())
        known = shape[0] if self._transposed else shape[-1 if self._channels_last else 1] * self._groups
        text = f"{known or None} -> {self._channels}, kernel_size={self._kernel}, stride={self._strides}"
        if any(self._padding):
            text += f", padding={self._padding}"
        if any(one != 1 for one in self._dilation):
            text += f", dilation={self._dilation}"
        if any(self._output_padding):
            text += f", output_padding={self._output_padding}"
        if self._groups != 1:
            text += f", groups={self._groups}"
        return text if self.bias is not None else text + ", bias=False"


class Conv1D(_Convolution):
    """Convolution of (batch, channels, width)."""

    def __init__(
        self,
        channels: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        layout: str = "NCW",
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            1,
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            in_channels,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            **kwargs,
        )


class Conv2D(_Convolution):
    """Convolution of (batch, channels, height, width)."""

    def __init__(
        self,
        channels: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: Any = (0, 0),
        dilation: Any = (1, 1),
        groups: int = 1,
        layout: str = "NCHW",
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            2,
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            in_channels,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            **kwargs,
        )


class Conv3D(_Convolution):
    """Convolution of (batch, channels, depth, height, width)."""

    def __init__(
        self,
        channels: int,
        kernel_size: Any,
        strides: Any = (1, 1, 1),
        padding: Any = (0, 0, 0),
        dilation: Any = (1, 1, 1),
        groups: int = 1,
        layout: str = "NCDHW",
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            3,
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            in_channels,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            **kwargs,
        )


class Conv1DTranspose(_Convolution):
    """Transposed convolution of (batch, channels, width): the gradient of Conv1D as a layer."""

    def __init__(
        self,
        channels: int,
        kernel_size: Any,
        strides: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        layout: str = "NCW",
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            1,
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            in_channels,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            output_padding,
            **kwargs,
        )


class Conv2DTranspose(_Convolution):
    """Transposed convolution of (batch, channels, height, width): the gradient of Conv2D as a layer."""

    def __init__(
        self,
        channels: int,
        kernel_size: Any,
        strides: Any = (1, 1),
        padding: Any = (0, 0),
        output_padding: Any = (0, 0),
        dilation: Any = (1, 1),
        groups: int = 1,
        layout: str = "NCHW",
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            2,
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            in_channels,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            output_padding,
            **kwargs,
        )


class Conv3DTranspose(_Convolution):
    """Transposed convolution of (batch, channels, depth, height, width): the gradient of Conv3D as a layer."""

    def __init__(
        self,
        channels: int,
        kernel_size: Any,
        strides: Any = (1, 1, 1),
        padding: Any = (0, 0, 0),
        output_padding: Any = (0, 0, 0),
        dilation: Any = (1, 1, 1),
        groups: int = 1,
        layout: str = "NCDHW",
        activation: str | None = None,
        use_bias: bool = True,
        weight_initializer: Any = None,
        bias_initializer: Any = "zeros",
        in_channels: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            3,
            channels,
            kernel_size,
            strides,
            padding,
            dilation,
            groups,
            layout,
            in_channels,
            activation,
            use_bias,
            weight_initializer,
            bias_initializer,
            output_padding,
            **kwargs,
        )

"""Layers as functions: convolution, dense, normalisation, dropout, embedding, upsampling."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from glueball.backend.torch.ops import statistics
from glueball.backend.torch.ops.arguments import spatial, torch_dtype
from glueball.backend.torch.ops.depthwise import conv2d
from glueball.backend.torch.ops.registry import operator
from glueball.backend.torch.ops.shape import flatten as flatten_samples
from glueball.errors import OptionError

_CONVOLUTIONS = {1: functional.conv1d, 2: conv2d, 3: functional.conv3d}
_TRANSPOSED = {1: functional.conv_transpose1d, 2: functional.conv_transpose2d, 3: functional.conv_transpose3d}


def is_channels_last(layout: str | None) -> bool:
    """Whether a layout such as NHWC has its channels at the end."""
    return layout is not None and layout.endswith("C")


@operator("Convolution")
def convolution(
    data: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    kernel: Any = (),
    stride: Any = (),
    dilate: Any = (),
    pad: Any = (),
    num_filter: int | None = None,
    num_group: int = 1,
    workspace: int = 1024,
    no_bias: bool = False,
    cudnn_tune: str | None = None,
    cudnn_off: bool = False,
    layout: str | None = None,
) -> Tensor:
    """Cross-correlation of data: (batch, channels, *space) with weight: (num_filter, channels/num_group, *kernel).

    Layouts with channels last (NWC, NHWC, NDHWC) take weights (num_filter, *kernel, channels/num_group).
    """
    ndim = data.dim() - 2
    last = is_channels_last(layout)
    if last:
        data, weight = data.movedim(-1, 1), weight.movedim(-1, 1)
    result = _CONVOLUTIONS[ndim](
        data,
        weight,
        None if no_bias else bias,
        spatial(stride, ndim, 1),
        spatial(pad, ndim, 0),
        spatial(dilate, ndim, 1),
        num_group,
    )
    return result.movedim(1, -1) if last else result


@operator("Deconvolution")
def deconvolution(
    data: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    kernel: Any = (),
    stride: Any = (),
    dilate: Any = (),
    pad: Any = (),
    adj: Any = (),
    target_shape: Any = (),
    num_filter: int | None = None,
    num_group: int = 1,
    workspace: int = 512,
    no_bias: bool = True,
    cudnn_tune: str | None = None,
    cudnn_off: bool = False,
    layout: str | None = None,
) -> Tensor:
    """Transposed convolution. weight: (channels, num_filter/num_group, *kernel).

    ``target_shape`` sets the spatial output shape and replaces ``pad`` and ``adj``.
    """
    ndim = data.dim() - 2
    last = is_channels_last(layout)
    if last:
        data, weight = data.movedim(-1, 1), weight.movedim(-1, 1)
    strides, dilation = spatial(stride, ndim, 1), spatial(dilate, ndim, 1)
    padding, extra = spatial(pad, ndim, 0), spatial(adj, ndim, 0)
    target = spatial(target_shape, ndim, 0)
    if any(target):
        # MXNet splits what is too much between the two sides; an odd rest is given back on the right by adj.
        surplus = [
            strides[axis] * (data.shape[2 + axis] - 1)
            + dilation[axis] * (weight.shape[2 + axis] - 1)
            + 1
            - target[axis]
            for axis in range(ndim)
        ]
        if min(surplus) < 0:
            raise OptionError(f"Deconvolution: target_shape {target} is larger than what the kernel can reach.")
        extra = tuple(one % 2 for one in surplus)
        padding = tuple((one + 1) // 2 for one in surplus)
    result = _TRANSPOSED[ndim](data, weight, None if no_bias else bias, strides, padding, extra, num_group, dilation)
    return result.movedim(1, -1) if last else result


@operator("FullyConnected")
def fully_connected(
    data: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    num_hidden: int | None = None,
    no_bias: bool = False,
    flatten: bool = True,
) -> Tensor:
    """data · weightᵀ + bias. weight: (num_hidden, features); ``flatten`` joins all axes but the first before."""
    if flatten and data.dim() != 2:
        data = flatten_samples(data)
    return functional.linear(data, weight, None if no_bias else bias)


@operator("Embedding")
def embedding(
    data: Tensor,
    weight: Tensor,
    input_dim: int | None = None,
    output_dim: int | None = None,
    dtype: Any = "float32",
    sparse_grad: bool = False,
) -> Tensor:
    """Rows of weight: (input_dim, output_dim) by index; an index beyond either end takes the row at that end."""
    return functional.embedding(data.long().clamp(0, weight.shape[0] - 1), weight, sparse=sparse_grad)


@operator("Dropout", modal=True)
def dropout(
    data: Tensor, p: float = 0.5, mode: str = "training", axes: Any = (), cudnn_off: bool = False, *, _training: bool
) -> Tensor:
    """Zeroes elements with probability p and scales the others by 1/(1-p); ``axes`` share one decision each."""
    if mode not in ("training", "always"):
        raise OptionError(f"Dropout: expected mode 'training' or 'always'; received {mode!r}.")
    if p <= 0 or not (_training or mode == "always"):
        return data
    if not axes:
        return functional.dropout(data, p, True)
    shared = (axes,) if isinstance(axes, int) else tuple(axes)
    shape = [1 if axis in shared or axis - data.dim() in shared else size for axis, size in enumerate(data.shape)]
    return data * functional.dropout(data.new_ones(shape), p, True)


@operator("BatchNorm", modal=True)
def batch_norm(
    data: Tensor,
    gamma: Tensor,
    beta: Tensor,
    moving_mean: Tensor,
    moving_var: Tensor,
    eps: float = 1e-3,
    momentum: float = 0.9,
    fix_gamma: bool = True,
    use_global_stats: bool = False,
    output_mean_var: bool = False,
    axis: int = 1,
    cudnn_off: bool = False,
    min_calib_range: float | None = None,
    max_calib_range: float | None = None,
    *,
    _training: bool,
) -> Any:
    """Batch normalisation (arXiv:1502.03167) with MXNet's statistics.

    In training mode the running statistics move by ``1 - momentum`` towards the batch's mean and biased variance
    (PyTorch's own move towards the unbiased one). MXNet does so in the backward pass, here it happens in the forward
    pass: once per step either way.
    """
    axis %= data.dim()
    if axis != 1:
        data = data.movedim(axis, 1)
    scale = None if fix_gamma else gamma
    # A batch without samples has no statistics, and nothing to normalise: the running ones stay.
    training = _training and not use_global_stats and data.numel() > 0
    shared_mean = shared_variance = None
    if statistics.is_shared() and _training and not use_global_stats:
        # Whatever this process has: the others wait for what it says.
        result, shared_mean, shared_variance = statistics.normalize(
            data, scale, beta, moving_mean, moving_var, eps=eps, momentum=momentum
        )
    elif not training:
        result = functional.batch_norm(data, moving_mean, moving_var, scale, beta, False, 0.0, eps)
    else:
        count = data.numel() // data.shape[1]
        if count > 1:
            # torch adds (1-momentum) * unbiased variance. With k = (count-1)/count the biased form is
            # momentum * old + (1-momentum) * k * unbiased = k * (momentum * old / k + (1-momentum) * unbiased),
            # so dividing by k before and multiplying after keeps torch's fused kernel at the cost of tiny ones. The
            # kernel gets a copy, because autograd holds on to what it was given.
            correction = (count - 1) / count
            scaled = moving_var / correction
            result = functional.batch_norm(data, moving_mean, scaled, scale, beta, True, 1.0 - momentum, eps)
            torch.mul(scaled, correction, out=moving_var)
        else:
            # One value per channel: its mean is itself and its variance 0, which torch refuses to normalise.
            with torch.no_grad():
                moving_mean.lerp_(data.detach().reshape(-1).to(moving_mean.dtype), 1.0 - momentum)
                moving_var.mul_(momentum)
            result = (data - data) + beta.reshape((1, -1) + (1,) * (data.dim() - 2))
    if axis != 1:
        result = result.movedim(1, axis)
    if output_mean_var:
        if shared_mean is not None and shared_variance is not None:
            mean, variance = shared_mean, shared_variance
        elif training:
            dims = [one for one in range(data.dim()) if one != 1]
            variance, mean = torch.var_mean(data.float(), dims, correction=0)
        else:
            mean, variance = moving_mean, moving_var
        # What MXNet calls var here is the reciprocal standard deviation.
        return [result, mean, torch.rsqrt(variance + eps)]
    return result


@operator("LayerNorm")
def layer_norm(
    data: Tensor, gamma: Tensor, beta: Tensor, axis: int = -1, eps: float = 1e-5, output_mean_var: bool = False
) -> Any:
    """Normalises along one axis (arXiv:1607.06450); gamma, beta: (size of that axis,).

    ``output_mean_var`` also gives mean and standard deviation, in which the axis has size 1.
    """
    moved = data if axis in (-1, data.dim() - 1) else data.movedim(axis, -1)
    result = functional.layer_norm(moved, (moved.shape[-1],), gamma, beta, eps)
    if moved is not data:
        result = result.movedim(-1, axis)
    if output_mean_var:
        variance, mean = torch.var_mean(data, axis, correction=0, keepdim=True)
        return [result, mean, torch.sqrt(variance + eps)]
    return result


@operator("GroupNorm")
def group_norm(
    data: Tensor, gamma: Tensor, beta: Tensor, num_groups: int = 1, eps: float = 1e-5, output_mean_var: bool = False
) -> Any:
    """Normalises groups of channels (arXiv:1803.08494). data: (batch, channels, ...); gamma, beta: (num_groups,).

    MXNet scales and shifts whole groups, where the paper and PyTorch do so with each channel; gamma and beta of shape
    (channels,) do that here too.
    """
    if gamma.shape[0] != data.shape[1]:
        channels = data.shape[1] // num_groups
        gamma, beta = gamma.repeat_interleave(channels), beta.repeat_interleave(channels)
    result = functional.group_norm(data, num_groups, gamma, beta, eps)
    if output_mean_var:
        grouped = data.reshape(data.shape[0], num_groups, -1)
        variance, mean = torch.var_mean(grouped, -1, correction=0)
        return [result, mean, torch.sqrt(variance + eps)]
    return result


@operator("InstanceNorm")
def instance_norm(data: Tensor, gamma: Tensor, beta: Tensor, eps: float = 1e-3) -> Tensor:
    """Normalises every channel of every sample over space (arXiv:1607.08022). gamma, beta: (channels,)."""
    # group_norm with one channel a group takes any number of spatial elements, also one, where instance_norm refuses.
    return functional.group_norm(data, data.shape[1], gamma, beta, eps)


@operator("L2Normalization")
def l2_normalization(data: Tensor, eps: float = 1e-10, mode: str = "instance") -> Tensor:
    """data / sqrt(sum of squares + eps), summed over the sample ("instance"), channels or space ("spatial")."""
    dims: Sequence[int]
    if mode == "instance":
        dims = range(1, data.dim())
    elif mode == "channel":
        dims = (1,)
    elif mode == "spatial":
        dims = range(2, data.dim())
    else:
        raise OptionError(f"L2Normalization: expected mode 'instance', 'channel' or 'spatial'; received {mode!r}.")
    return data / torch.sqrt(data.square().sum(tuple(dims), keepdim=True) + eps)


@operator("LRN")
def local_response_normalization(
    data: Tensor, alpha: float = 1e-4, beta: float = 0.75, knorm: float = 2, nsize: int | None = None
) -> Tensor:
    """Local response normalisation over ``nsize`` neighbouring channels (AlexNet)."""
    if nsize is None:
        raise OptionError("LRN needs nsize, the number of channels to normalise over.")
    return functional.local_response_norm(data, nsize, alpha, beta, knorm)


@operator("UpSampling")
def upsampling(
    *data: Tensor,
    scale: int | None = None,
    num_filter: int = 0,
    sample_type: str = "nearest",
    multi_input_mode: str = "concat",
    num_args: int | None = None,
    workspace: int = 512,
) -> Tensor:
    """Repeats pixels ``scale`` times. Several inputs are all brought to the first one's size, then joined or added.

    ``num_args``, the number of inputs, may be given as MXNet's older code does.
    """
    if num_args is not None and num_args != len(data):
        raise OptionError(f"UpSampling: num_args is the number of inputs, {len(data)}; received {num_args}.")
    if scale is None:
        raise OptionError("UpSampling needs scale, the factor by which height and width grow.")
    if sample_type == "bilinear":
        if len(data) != 2:
            raise OptionError("UpSampling: sample_type 'bilinear' takes two inputs, data and weight.")
        kernel, padding = 2 * scale - scale % 2, (scale - 1 + scale % 2) // 2
        del kernel
        return functional.conv_transpose2d(
            data[0], data[1], None, scale, padding if scale > 1 else 0, 0, data[0].shape[1]
        )
    if sample_type != "nearest":
        raise OptionError(f"UpSampling: expected sample_type 'nearest' or 'bilinear'; received {sample_type!r}.")
    height, width = data[0].shape[2] * scale, data[0].shape[3] * scale
    scaled = [functional.interpolate(one, size=(height, width), mode="nearest") for one in data]
    if len(scaled) == 1:
        return scaled[0]
    if multi_input_mode == "sum":
        return torch.stack(scaled).sum(0)
    return torch.cat(scaled, 1)


@operator("Activation")
def activation(data: Tensor, act_type: str | None = None) -> Tensor:
    """relu, sigmoid, tanh, softrelu (log(1 + exp x)) or softsign, by name."""
    if act_type == "relu":
        return functional.relu(data)
    if act_type == "sigmoid":
        return torch.sigmoid(data)
    if act_type == "tanh":
        return torch.tanh(data)
    if act_type == "softrelu":
        return functional.softplus(data)
    if act_type == "softsign":
        return functional.softsign(data)
    raise OptionError(
        f"Activation: expected act_type relu, sigmoid, tanh, softrelu or softsign; received {act_type!r}."
    )


@operator("LeakyReLU", modal=True)
def leaky_relu(
    data: Tensor,
    gamma: Tensor | None = None,
    act_type: str = "leaky",
    slope: float = 0.25,
    lower_bound: float = 0.125,
    upper_bound: float = 0.334,
    *,
    _training: bool,
) -> Tensor:
    """The relatives of relu: leaky, elu, selu, gelu, prelu (slopes gamma: (1,) or (channels,)), rrelu."""
    if act_type == "leaky":
        return functional.leaky_relu(data, slope)
    if act_type == "elu":
        return functional.elu(data, slope)
    if act_type == "selu":
        return functional.selu(data)
    if act_type == "gelu":
        return functional.gelu(data)
    if act_type == "prelu":
        if gamma is None:
            raise OptionError("LeakyReLU: act_type 'prelu' needs gamma, the slopes.")
        return functional.prelu(data, gamma)
    if act_type == "rrelu":
        return functional.rrelu(data, lower_bound, upper_bound, _training)
    raise OptionError(f"LeakyReLU: expected act_type leaky, elu, selu, gelu, prelu or rrelu; received {act_type!r}.")


def _cast_to(data: Tensor, dtype: Any) -> Tensor:
    return data if dtype is None else data.to(torch_dtype(dtype))


@operator("softmax")
def softmax(
    data: Tensor,
    length: Tensor | None = None,
    axis: int = -1,
    temperature: float | None = None,
    dtype: Any = None,
    use_length: bool = False,
) -> Tensor:
    """Softmax along an axis. ``length``: the shape of data without that axis; elements from there on become 0."""
    data = _cast_to(data, dtype)
    if temperature is not None:
        data = data / temperature
    if not use_length or length is None:
        return torch.softmax(data, axis)
    shape = [1] * data.dim()
    shape[axis] = data.shape[axis]
    positions = torch.arange(data.shape[axis], device=data.device).reshape(shape)
    outside = positions >= length.unsqueeze(axis)
    # A row without any element would be 0/0; MXNet gives zeros.
    return torch.softmax(data.masked_fill(outside, torch.finfo(data.dtype).min), axis).masked_fill(outside, 0.0)


@operator("log_softmax")
def log_softmax(
    data: Tensor, axis: int = -1, temperature: float | None = None, dtype: Any = None, use_length: bool = False
) -> Tensor:
    """Logarithm of the softmax."""
    data = _cast_to(data, dtype)
    return torch.log_softmax(data if temperature is None else data / temperature, axis)


@operator("softmin")
def softmin(
    data: Tensor, axis: int = -1, temperature: float | None = None, dtype: Any = None, use_length: bool = False
) -> Tensor:
    """Softmax of the negative."""
    data = _cast_to(data, dtype)
    return torch.softmax(-data if temperature is None else -data / temperature, axis)

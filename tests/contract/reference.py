"""What each function of the dialect computes, in NumPy and float64: the judge when two backends disagree.

Written from the definitions, not from a backend: loops over windows where a library has kernels. Each reference is
registered with the cases that it is asked for, odd shapes and edge cases among them. Gradients are the central
differences of the reference, unless a function defines its gradient itself (``gradient``).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

Array = Any


@attrs.frozen
class Case:
    """One call: inputs by position (arrays and numbers) and options by name."""

    inputs: tuple[Any, ...]
    options: dict[str, Any]
    differentiable: tuple[int, ...]
    """Which inputs are compared by gradient."""
    training: bool
    skip: dict[str, str]
    """Backend -> why it is not asked."""
    skip_gradient: dict[str, str]
    """Backend -> why its gradient is not asked."""


@attrs.frozen
class Reference:
    """A function of the dialect in NumPy."""

    function: Callable[..., Any]
    cases: tuple[Case, ...]
    gradient: Callable[..., Sequence[Array]] | None = None
    """(inputs, options, head gradients) -> gradients of the inputs, where the function defines its own."""


REFERENCES: dict[str, Reference] = {}

EXEMPT = {
    "Dropout": "random; test_random.py holds its mode, scale, rate and axes",
    "random.uniform": "random; test_random.py compares moments and range",
    "random.normal": "random; test_random.py compares moments",
    "random.uniform_like": "random; test_random.py compares moments and range",
    "random.normal_like": "random; test_random.py compares moments",
}
"""Functions without a reference, with the reason."""


def case(
    *inputs: Any,
    only: Sequence[int] | None = None,
    training: bool = False,
    skip: Any = None,
    skip_gradient: Any = None,
    **options: Any,
) -> Case:
    """A case whose float inputs are all differentiated, or those in ``only``."""
    # Backends get float32: what a case adds to its arrays must not be lost there.
    inputs = tuple(
        value.astype(np.float32).astype(np.float64)
        if isinstance(value, np.ndarray) and value.dtype == np.float64
        else value
        for value in inputs
    )
    floats = tuple(
        index for index, value in enumerate(inputs) if isinstance(value, np.ndarray) and value.dtype == np.float64
    )
    return Case(inputs, options, floats if only is None else tuple(only), training, skip or {}, skip_gradient or {})


def reference(*names: str, cases: Sequence[Case], gradient: Any = None) -> Callable[..., Any]:
    """Registers a function as the reference of one or several names."""

    def register(function: Callable[..., Any]) -> Callable[..., Any]:
        for name in names:
            assert name not in REFERENCES, name
            REFERENCES[name] = Reference(function, tuple(cases), gradient)
        return function

    return register


# -- inputs -----------------------------------------------------------------------------------------------------------


def normal(*shape: int, seed: int = 0) -> Array:
    """Normal numbers that are exact in float32, so that both sides start from the same."""
    drawn = np.random.Generator(
        np.random.Philox(key=[seed, sum(size * 31**place for place, size in enumerate(shape))])
    ).standard_normal(shape)
    return drawn.astype(np.float32).astype(np.float64)


def distinct(*shape: int, seed: int = 0, low: float = -2.0, high: float = 2.0) -> Array:
    """Numbers of which no two are close, none near an integer or a half: no kink, tie or jump is met."""
    size = int(np.prod(shape))
    order = np.random.Generator(np.random.Philox(key=[seed, size])).permutation(size)
    values = low + (high - low) * (order + 0.5) / size
    for point in np.arange(math.floor(low), math.ceil(high) + 0.5, 0.5):
        values = np.where(np.abs(values - point) < 0.02, point + 0.02 + 0.001 * order / size, values)
    return values.reshape(shape).astype(np.float32).astype(np.float64)


def positive(*shape: int, seed: int = 0) -> Array:
    """Numbers from 0.2 to 3."""
    return distinct(*shape, seed=seed, low=0.2, high=3.0)


def whole(values: Any, dtype: str = "float32") -> Array:
    """Whole numbers that are indices, lengths or labels: never differentiated."""
    return np.asarray(values, dtype=dtype)


def as_tuple(value: Any, ndim: int, default: int) -> tuple[int, ...]:
    if value is None or (not isinstance(value, int) and len(value) == 0):
        return (default,) * ndim
    return (value,) * ndim if isinstance(value, int) else tuple(value)


# -- convolution ------------------------------------------------------------------------------------------------------


def correlate(data: Array, weight: Array, stride: Any, pad: Any, dilate: Any, groups: int) -> Array:
    ndim = data.ndim - 2
    padded = np.pad(data, [(0, 0), (0, 0), *((one, one) for one in pad)])
    kernel = weight.shape[2:]
    space = [
        (padded.shape[2 + axis] - dilate[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1 for axis in range(ndim)
    ]
    channels, filters = data.shape[1] // groups, weight.shape[0] // groups
    result = np.zeros((data.shape[0], weight.shape[0], *space))
    for group in range(groups):
        source = padded[:, group * channels : (group + 1) * channels]
        part = weight[group * filters : (group + 1) * filters]
        for position in itertools.product(*(range(size) for size in kernel)):
            window = tuple(
                slice(
                    position[axis] * dilate[axis],
                    position[axis] * dilate[axis] + (space[axis] - 1) * stride[axis] + 1,
                    stride[axis],
                )
                for axis in range(ndim)
            )
            taken = source[(slice(None), slice(None), *window)]
            result[:, group * filters : (group + 1) * filters] += np.einsum(
                "bc...,fc->bf...", taken, part[(slice(None), slice(None), *position)]
            )
    return result


@reference(
    "Convolution",
    cases=[
        case(normal(2, 3, 7), normal(4, 3, 3), normal(4), kernel=(3,), num_filter=4, stride=(2,), pad=(1,)),
        case(normal(2, 3, 6, 5), normal(4, 3, 3, 2), normal(4), kernel=(3, 2), num_filter=4),
        case(normal(1, 4, 7, 6), normal(6, 2, 3, 3), kernel=(3, 3), num_filter=6, num_group=2, no_bias=True,
             stride=(2, 1), pad=(1, 2), dilate=(1, 2)),
        case(normal(2, 3, 5, 5), normal(3, 1, 3, 3), normal(3), kernel=(3, 3), num_filter=3, num_group=3, pad=(2, 0)),
        case(normal(1, 2, 3, 4, 5), normal(3, 2, 2, 3, 2), normal(3), kernel=(2, 3, 2), num_filter=3, pad=(1, 1, 0),
             stride=(1, 2, 2)),
    ],
)  # fmt: skip
def convolution(data: Array, weight: Array, bias: Array | None = None, **options: Any) -> Array:
    ndim = data.ndim - 2
    result = correlate(
        data,
        weight,
        as_tuple(options.get("stride"), ndim, 1),
        as_tuple(options.get("pad"), ndim, 0),
        as_tuple(options.get("dilate"), ndim, 1),
        options.get("num_group", 1),
    )
    return result if bias is None else result + bias.reshape((1, -1) + (1,) * ndim)


@reference(
    "Deconvolution",
    cases=[
        case(normal(2, 3, 5), normal(3, 2, 4), normal(2), kernel=(4,), num_filter=2, stride=(2,), pad=(1,),
             no_bias=False),
        case(normal(1, 4, 4, 3), normal(4, 2, 3, 3), kernel=(3, 3), num_filter=4, num_group=2, stride=(2, 3),
             pad=(1, 0), adj=(1, 2)),
        case(normal(1, 3, 3, 4), normal(3, 2, 3, 2), kernel=(3, 2), num_filter=2, dilate=(2, 1)),
        case(normal(1, 2, 4, 4), normal(2, 3, 4, 4), kernel=(4, 4), num_filter=3, stride=(2, 2), target_shape=(8, 7),
             skip={"mxnet": "has no kernel for target_shape on the CPU"}),
    ],
)  # fmt: skip
def deconvolution(data: Array, weight: Array, bias: Array | None = None, **options: Any) -> Array:
    ndim = data.ndim - 2
    stride, dilate = as_tuple(options.get("stride"), ndim, 1), as_tuple(options.get("dilate"), ndim, 1)
    pad, adjust = as_tuple(options.get("pad"), ndim, 0), as_tuple(options.get("adj"), ndim, 0)
    groups, kernel = options.get("num_group", 1), weight.shape[2:]
    full = [stride[axis] * (data.shape[2 + axis] - 1) + dilate[axis] * (kernel[axis] - 1) + 1 for axis in range(ndim)]
    size = [full[axis] - 2 * pad[axis] + adjust[axis] for axis in range(ndim)]
    if options.get("target_shape"):
        size = list(options["target_shape"])
        pad = tuple((full[axis] - size[axis] + 1) // 2 for axis in range(ndim))
    filters, channels = weight.shape[1], data.shape[1] // groups
    # Every input element stamps the kernel into an output with room for what is cut off afterwards.
    canvas = np.zeros((data.shape[0], filters * groups, *(one + 8 for one in full)))
    for group in range(groups):
        source = data[:, group * channels : (group + 1) * channels]
        part = weight[group * channels : (group + 1) * channels]
        for position in itertools.product(*(range(one) for one in kernel)):
            places = tuple(
                slice(
                    position[axis] * dilate[axis],
                    position[axis] * dilate[axis] + (data.shape[2 + axis] - 1) * stride[axis] + 1,
                    stride[axis],
                )
                for axis in range(ndim)
            )
            canvas[(slice(None), slice(group * filters, (group + 1) * filters), *places)] += np.einsum(
                "bc...,cf->bf...", source, part[(slice(None), slice(None), *position)]
            )
    result = canvas[(slice(None), slice(None), *(slice(pad[axis], pad[axis] + size[axis]) for axis in range(ndim)))]
    return result if bias is None else result + bias.reshape((1, -1) + (1,) * ndim)


@reference(
    "FullyConnected",
    cases=[
        case(normal(3, 5), normal(4, 5), normal(4), num_hidden=4),
        case(normal(2, 3, 2), normal(4, 6), num_hidden=4, no_bias=True),
        case(normal(2, 3, 5), normal(4, 5), normal(4), num_hidden=4, flatten=False),
    ],
)
def fully_connected(data: Array, weight: Array, bias: Array | None = None, **options: Any) -> Array:
    if options.get("flatten", True):
        data = data.reshape(data.shape[0], -1)
    result = data @ weight.T
    return result if bias is None else result + bias


@reference(
    "Embedding",
    cases=[
        case(whole([[0, 2], [3, 1]]), normal(4, 3), input_dim=4, output_dim=3),
        case(whole([-1, 9, 2, 2], "int32"), normal(4, 3), input_dim=4, output_dim=3),
    ],
)
def embedding(data: Array, weight: Array, **options: Any) -> Array:
    return weight[np.clip(data.astype(np.int64), 0, len(weight) - 1)]


# -- pooling ----------------------------------------------------------------------------------------------------------

_LOWEST = float(np.finfo(np.float32).min)

_POOLING = [
    case(distinct(1, 2, 5, 6), kernel=(2, 2), stride=(2, 2), pool_type="max"),
    case(distinct(1, 2, 5, 6), kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max"),
    case(distinct(1, 2, 6, 5), kernel=(3, 2), stride=(2, 2), pool_type="max", pooling_convention="full"),
    case(distinct(1, 1, 6, 6), kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="max", pooling_convention="full"),
    case(distinct(2, 1, 5, 6), kernel=(3, 2), stride=(2, 3), pad=(1, 0), pool_type="avg"),
    case(distinct(2, 1, 5, 6), kernel=(3, 3), stride=(2, 2), pad=(1, 1), pool_type="avg", count_include_pad=False),
    case(distinct(1, 1, 6, 7), kernel=(3, 3), stride=(2, 3), pad=(1, 1), pool_type="avg", pooling_convention="full"),
    case(distinct(1, 1, 6, 7), kernel=(3, 3), stride=(2, 3), pad=(1, 1), pool_type="avg", pooling_convention="full",
         count_include_pad=False),
    # The last window starts in the padding: PyTorch's ceil_mode would drop it. In "max" it holds nothing at all.
    case(distinct(1, 1, 3, 3), kernel=(2, 2), stride=(2, 2), pad=(1, 1), pool_type="avg", pooling_convention="full"),
    case(distinct(1, 1, 3, 3), kernel=(2, 2), stride=(2, 2), pad=(1, 1), pool_type="avg", pooling_convention="full",
         count_include_pad=False),
    case(distinct(1, 1, 3, 3), only=(), kernel=(2, 2), stride=(2, 2), pad=(1, 1), pool_type="max",
         pooling_convention="full"),
    case(distinct(1, 2, 4, 5), kernel=(2, 2), stride=(1, 2), pool_type="sum"),
    case(positive(1, 2, 4, 5), kernel=(2, 2), stride=(2, 2), pool_type="lp", p_value=2),
    case(positive(1, 2, 4, 5), kernel=(2, 2), pool_type="lp", p_value=3),
    case(distinct(2, 3, 7), kernel=(3,), stride=(2,), pool_type="max"),
    case(distinct(2, 3, 7), kernel=(2,), stride=(3,), pad=(1,), pool_type="avg"),
    case(distinct(1, 2, 4, 3, 5), kernel=(2, 2, 2), stride=(2, 1, 2), pool_type="max", pooling_convention="full"),
    case(distinct(1, 2, 4, 3, 5), kernel=(2, 3, 2), stride=(2, 1, 2), pad=(1, 1, 0), pool_type="avg"),
    case(distinct(2, 3, 4, 5), kernel=(1, 1), global_pool=True, pool_type="max"),
    case(distinct(2, 3, 4, 5), kernel=(1, 1), global_pool=True, pool_type="avg"),
    case(distinct(2, 3, 6), kernel=(1,), global_pool=True, pool_type="avg"),
    case(distinct(1, 2, 7), kernel=(2,), stride=(2,), pool_type="max", pooling_convention="same",
         skip={"mxnet": "reads a second axis that 1-D pooling has not, and allows 1-D only"}),
]  # fmt: skip


@reference("Pooling", cases=_POOLING)
def pooling(data: Array, **options: Any) -> Array:
    ndim, kind = data.ndim - 2, options.get("pool_type", "max")
    space = data.shape[2:]
    if options.get("global_pool"):
        axes = tuple(range(2, data.ndim))
        return {"max": np.max, "avg": np.mean, "sum": np.sum}[kind](data, axis=axes, keepdims=True)
    kernel, stride = as_tuple(options["kernel"], ndim, 1), as_tuple(options.get("stride"), ndim, 1)
    pad, convention = as_tuple(options.get("pad"), ndim, 0), options.get("pooling_convention", "valid")
    counts = []
    for axis in range(ndim):
        reach = space[axis] + 2 * pad[axis] - kernel[axis]
        if convention == "valid":
            counts.append(reach // stride[axis] + 1)
        elif convention == "full":
            counts.append(math.ceil(reach / stride[axis]) + 1)
        else:
            counts.append(math.ceil((space[axis] + 2 * pad[axis]) / stride[axis]))
    result = np.zeros((*data.shape[:2], *counts))
    for place in itertools.product(*(range(count) for count in counts)):
        inside, elements = [slice(None), slice(None)], 1
        for axis in range(ndim):
            start = place[axis] * stride[axis] - pad[axis]
            # Beyond the padding on the far side nothing counts.
            elements *= min(start + kernel[axis], space[axis] + pad[axis]) - start
            inside.append(slice(max(start, 0), max(min(start + kernel[axis], space[axis]), 0)))
        window = data[tuple(inside)].reshape(*data.shape[:2], -1)
        if not options.get("count_include_pad", True):
            elements = max(window.shape[-1], 1)
        if kind == "max":
            value = window.max(-1) if window.shape[-1] else np.full(data.shape[:2], _LOWEST)
        elif kind == "lp":
            value = (window ** options["p_value"]).sum(-1) ** (1 / options["p_value"])
        else:
            value = window.sum(-1) / (elements if kind == "avg" else 1)
        result[(slice(None), slice(None), *place)] = value
    return result


@reference(
    "UpSampling",
    cases=[
        case(normal(1, 2, 3, 2), scale=2, sample_type="nearest"),
        case(normal(2, 1, 2, 2), scale=3, sample_type="nearest"),
        case(normal(1, 2, 4, 4), normal(1, 1, 2, 2), scale=2, sample_type="nearest"),
        case(normal(1, 2, 4, 4), normal(1, 2, 2, 2), scale=2, sample_type="nearest", multi_input_mode="sum"),
        case(normal(1, 2, 4, 4), normal(1, 1, 2, 2), scale=2, sample_type="nearest", num_args=2),
    ],
)
def upsampling(*data: Array, **options: Any) -> Array:
    height = data[0].shape[2] * options["scale"]
    grown = [one.repeat(height // one.shape[2], 2).repeat(height // one.shape[2], 3) for one in data]
    return sum(grown) if options.get("multi_input_mode") == "sum" else np.concatenate(grown, 1)


# -- normalisation ----------------------------------------------------------------------------------------------------


def _normalize(data: Array, axes: Any, eps: float) -> Array:
    mean = data.mean(axes, keepdims=True)
    return (data - mean) / np.sqrt(data.var(axes, keepdims=True) + eps)


def _channel(values: Array, ndim: int, axis: int = 1) -> Array:
    shape = [1] * ndim
    shape[axis] = -1
    return values.reshape(shape)


_STATISTICS = (normal(3, seed=4), positive(3, seed=5))


@reference(
    "BatchNorm",
    cases=[
        case(normal(2, 3, 4, 5), positive(3), normal(3), *_STATISTICS, only=(0, 1, 2), training=True, fix_gamma=False),
        case(normal(2, 3, 4, 5), positive(3), normal(3), *_STATISTICS, only=(0, 1, 2), fix_gamma=False, eps=1e-5),
        case(normal(4, 3), positive(3), normal(3), *_STATISTICS, only=(0, 2), training=True),
        case(normal(2, 4, 3), positive(3), normal(3), *_STATISTICS, only=(0, 1, 2), training=True, fix_gamma=False,
             axis=2),
        case(normal(2, 3, 4), positive(3), normal(3), *_STATISTICS, only=(0, 1, 2), training=True, fix_gamma=False,
             use_global_stats=True),
    ],
)  # fmt: skip
def batch_norm(data: Array, gamma: Array, beta: Array, mean: Array, variance: Array, **options: Any) -> Array:
    axis, eps = options.get("axis", 1), options.get("eps", 1e-3)
    if options["training"] and not options.get("use_global_stats"):
        others = tuple(one for one in range(data.ndim) if one != axis)
        normalized = _normalize(data, others, eps)
    else:
        normalized = (data - _channel(mean, data.ndim, axis)) / np.sqrt(_channel(variance, data.ndim, axis) + eps)
    if options.get("fix_gamma", True):
        gamma = np.ones_like(gamma)
    return normalized * _channel(gamma, data.ndim, axis) + _channel(beta, data.ndim, axis)


@reference(
    "LayerNorm",
    cases=[
        case(normal(3, 6), positive(6), normal(6)),
        case(normal(2, 3, 4), positive(4), normal(4), axis=-1, eps=1e-2),
        case(normal(2, 3, 4), positive(3), normal(3), axis=1),
        case(normal(3, 6), positive(6), normal(6), output_mean_var=True,
             skip_gradient={"mxnet": "takes the gradients of mean and deviation for zero"}),
        case(normal(2, 3, 4), positive(3), normal(3), axis=1, output_mean_var=True,
             skip_gradient={"mxnet": "takes the gradients of mean and deviation for zero"}),
    ],
)  # fmt: skip
def layer_norm(data: Array, gamma: Array, beta: Array, **options: Any) -> Any:
    axis, eps = options.get("axis", -1), options.get("eps", 1e-5)
    result = _normalize(data, axis, eps) * _channel(gamma, data.ndim, axis) + _channel(beta, data.ndim, axis)
    if not options.get("output_mean_var"):
        return result
    # What MXNet calls var is the standard deviation.
    return [result, data.mean(axis, keepdims=True), np.sqrt(data.var(axis, keepdims=True) + eps)]


@reference(
    "GroupNorm",
    cases=[
        case(normal(2, 6, 3, 2), positive(3), normal(3), num_groups=3),
        case(normal(2, 4, 5), positive(1), normal(1), num_groups=1, eps=1e-3),
    ],
)
def group_norm(data: Array, gamma: Array, beta: Array, **options: Any) -> Array:
    grouped = data.reshape(data.shape[0], options["num_groups"], -1)
    # One gamma and one beta for a group, not for a channel.
    normalized = _normalize(grouped, 2, options.get("eps", 1e-5))
    return (normalized * gamma.reshape(1, -1, 1) + beta.reshape(1, -1, 1)).reshape(data.shape)


@reference(
    "InstanceNorm",
    cases=[case(normal(2, 3, 4, 2), positive(3), normal(3)), case(normal(2, 3, 5), positive(3), normal(3), eps=1e-5)],
)
def instance_norm(data: Array, gamma: Array, beta: Array, **options: Any) -> Array:
    normalized = _normalize(data, tuple(range(2, data.ndim)), options.get("eps", 1e-3))
    return normalized * _channel(gamma, data.ndim) + _channel(beta, data.ndim)


@reference(
    "L2Normalization",
    cases=[
        case(normal(2, 3, 4)),
        case(normal(2, 3, 4, 2), mode="channel", eps=1e-2),
        case(normal(2, 3, 4, 2), mode="spatial", eps=1e-5),
    ],
)
def l2_normalization(data: Array, **options: Any) -> Array:
    mode = options.get("mode", "instance")
    axes = {"instance": range(1, data.ndim), "channel": (1,), "spatial": range(2, data.ndim)}[mode]
    return data / np.sqrt((data**2).sum(tuple(axes), keepdims=True) + options.get("eps", 1e-10))


@reference(
    "LRN",
    cases=[
        case(normal(1, 5, 2, 3), nsize=3, alpha=0.1),
        case(normal(2, 6, 2, 2), nsize=5, alpha=0.2, beta=0.5, knorm=1),
    ],
)
def local_response(data: Array, **options: Any) -> Array:
    size = options["nsize"]
    squares = np.pad(data**2, [(0, 0), (size // 2, size // 2), (0, 0), (0, 0)])
    total = sum(squares[:, shift : shift + data.shape[1]] for shift in range(size))
    return data / (options.get("knorm", 2) + options["alpha"] / size * total) ** options.get("beta", 0.75)


# -- activations ------------------------------------------------------------------------------------------------------

_erf = np.vectorize(math.erf)


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def softmax_of(x: Array, axis: int) -> Array:
    powers = np.exp(x - x.max(axis, keepdims=True))
    return powers / powers.sum(axis, keepdims=True)


_ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": sigmoid,
    "tanh": np.tanh,
    "softrelu": lambda x: np.log1p(np.exp(x)),
    "softsign": lambda x: x / (1 + np.abs(x)),
}


@reference("Activation", cases=[case(distinct(3, 5), act_type=kind) for kind in _ACTIVATIONS])
def activation(data: Array, act_type: str) -> Array:
    return _ACTIVATIONS[act_type](data)


@reference(
    "LeakyReLU",
    cases=[
        case(distinct(3, 5), act_type="leaky", slope=0.1),
        case(distinct(3, 5)),
        case(distinct(3, 5), act_type="elu", slope=0.7),
        case(distinct(3, 5), act_type="selu", skip_gradient={"mxnet": "multiplies by a wrong slope below 0"}),
        case(distinct(3, 5), act_type="gelu"),
        case(distinct(2, 3, 4), positive(3), act_type="prelu"),
        case(distinct(2, 3, 4), positive(1), act_type="prelu"),
    ],
)
def leaky_relu(data: Array, gamma: Array | None = None, act_type: str = "leaky", slope: float = 0.25) -> Array:
    if act_type == "gelu":
        return data * 0.5 * (1 + _erf(data / math.sqrt(2)))
    if act_type == "selu":
        scale, alpha = 1.0507009873554805, 1.6732632423543772
        return scale * np.where(data > 0, data, alpha * np.expm1(data))
    if act_type == "elu":
        return np.where(data > 0, data, slope * np.expm1(data))
    if act_type == "prelu":
        assert gamma is not None
        return np.where(data > 0, data, _channel(gamma, data.ndim) * data)
    return np.where(data > 0, data, slope * data)


@reference("hard_sigmoid", cases=[case(distinct(3, 5, low=-4, high=4)), case(distinct(3, 5), alpha=0.5, beta=0.3)])
def hard_sigmoid(data: Array, alpha: float = 0.2, beta: float = 0.5) -> Array:
    return np.clip(alpha * data + beta, 0, 1)


@reference(
    "softmax",
    cases=[
        case(normal(3, 5)),
        case(normal(2, 3, 4), axis=1, temperature=2.0),
        case(normal(3, 5), whole([2, 5, 1], "int32"), use_length=True),
    ],
)
def softmax(
    data: Array, length: Array | None = None, axis: int = -1, temperature: float = 1.0, **options: Any
) -> Array:
    if length is None:
        return softmax_of(data / temperature, axis)
    inside = np.arange(data.shape[-1]) < length[..., None]
    powers = np.where(inside, np.exp(data / temperature), 0)
    return powers / powers.sum(-1, keepdims=True)


@reference("log_softmax", cases=[case(normal(3, 5)), case(normal(2, 3, 4), axis=1, temperature=0.5)])
def log_softmax(data: Array, axis: int = -1, temperature: float = 1.0) -> Array:
    return np.log(softmax_of(data / temperature, axis))


@reference("softmin", cases=[case(normal(3, 5)), case(normal(2, 3, 4), axis=0)])
def softmin(data: Array, axis: int = -1) -> Array:
    return softmax_of(-data, axis)


# -- losses and gradients ---------------------------------------------------------------------------------------------


def _softmax_output_gradient(inputs: Any, options: Any, heads: Any) -> list[Array]:
    data, label = inputs
    axis = 1 if options.get("multi_output") else data.ndim - 1
    probability = softmax_of(data, axis)
    classes = data.shape[axis]
    index = label.astype(np.int64)
    target = np.moveaxis(np.eye(classes)[np.clip(index, 0, classes - 1)], -1, axis)
    alpha = options.get("smooth_alpha", 0.0)
    target = target * (1 - alpha) + (1 - target) * alpha / (classes - 1)
    gradient = probability - target
    kept = np.ones(index.shape, bool)
    if options.get("use_ignore"):
        kept = index != options["ignore_label"]
        gradient = gradient * np.expand_dims(kept, axis)
    gradient = gradient * options.get("grad_scale", 1.0)
    if options.get("normalization") == "batch":
        gradient = gradient / data.shape[0]
    if options.get("normalization") == "valid":
        gradient = gradient / kept.sum()
    return [gradient]


@reference(
    "SoftmaxOutput",
    cases=[
        case(normal(3, 5), whole([0, 4, 2])),
        case(normal(3, 5), whole([0, 4, 2]), grad_scale=0.5, normalization="batch", smooth_alpha=0.1),
        case(normal(2, 4, 3), whole([[0, 1, 3], [2, 2, 0]]), multi_output=True, use_ignore=True, ignore_label=2,
             normalization="valid"),
    ],
    gradient=_softmax_output_gradient,
)  # fmt: skip
def softmax_output(data: Array, label: Array, **options: Any) -> Array:
    return softmax_of(data, 1 if options.get("multi_output") else data.ndim - 1)


@reference("softmax_cross_entropy", cases=[case(normal(4, 3), whole([0, 2, 1, 1]))])
def softmax_cross_entropy(data: Array, label: Array) -> Array:
    logarithms = np.log(softmax_of(data, 1))
    return -logarithms[np.arange(len(label)), label.astype(int)].sum(keepdims=True)


@reference("smooth_l1", cases=[case(distinct(4, 5), scalar=1.0), case(distinct(4, 5), scalar=2.0)])
def smooth_l1(data: Array, scalar: float = 1.0) -> Array:
    near = np.abs(data) < 1 / scalar**2
    return np.where(near, 0.5 * (scalar * data) ** 2, np.abs(data) - 0.5 / scalar**2)


@reference("make_loss", cases=[case(normal(3, 2))], gradient=lambda inputs, options, heads: [np.ones_like(inputs[0])])
def make_loss(data: Array) -> Array:
    return data


@reference(
    "BlockGrad",
    "stop_gradient",
    # test_functions.py looks at the gradient that does not pass.
    cases=[case(normal(3, 2), only=())],
)
def stop_gradient(data: Array) -> Array:
    return data


@reference("identity", cases=[case(normal(3, 2))])
def identity(data: Array) -> Array:
    return data


# -- shape ------------------------------------------------------------------------------------------------------------


@reference("Flatten", "flatten", cases=[case(normal(2, 3, 4)), case(normal(2, 3))])
def flatten(data: Array) -> Array:
    return data.reshape(len(data), -1)


def _with_shape(result: tuple[int, ...], *shape: int, **options: Any) -> Case:
    """A case of reshape with the shape that must come out, worked out by hand."""
    return case(normal(*shape), **options, expected=result)


@reference(
    "reshape",
    "Reshape",
    cases=[
        _with_shape((4, 6), 2, 3, 4, shape=(4, 6)),
        _with_shape((6, 4), 2, 3, 4, shape=(-1, 4)),
        _with_shape((2, 12), 2, 3, 4, shape=(0, -1)),
        _with_shape((2, 4, 3), 2, 3, 4, shape=(0, 4, -1)),
        _with_shape((2, 3, 4), 2, 3, 4, shape=(-2,)),
        _with_shape((2, 3, 4, 1, 1), 2, 3, 4, shape=(-2, 1, 1)),
        _with_shape((6, 4), 2, 3, 4, shape=(-3, 4)),
        _with_shape((6, 20), 2, 3, 4, 5, shape=(-3, -3)),
        _with_shape((2, 12), 2, 3, 4, shape=(0, -3)),
        _with_shape((6, 4), 2, 3, 4, shape=(-3, -2)),
        _with_shape((1, 2, 3, 4), 2, 3, 4, shape=(-4, 1, 2, -2)),
        _with_shape((2, 1, 3, 4), 2, 3, 4, shape=(2, -4, -1, 3, -2)),
        _with_shape((2, 3, 2, 4), 2, 6, 4, shape=(0, -4, 3, -1, 0)),
        # reverse reads from the right: what is worked out from the left would be (40, 5) for the first.
        _with_shape((50, 4), 10, 5, 4, shape=(-1, 0), reverse=True),
        _with_shape((5, 8), 8, 5, shape=(-1, 8), reverse=True),
    ],
)
def reshape(data: Array, expected: tuple[int, ...], **options: Any) -> Array:
    return data.reshape(expected)


@reference(
    "reshape_like",
    cases=[
        case(normal(2, 6), normal(3, 4), only=(0,)),
        case(normal(30, 7), normal(15, 2, 4), only=(0,), lhs_begin=0, lhs_end=1, rhs_begin=0, rhs_end=2),
        case(normal(2, 12), normal(5, 3, 4), only=(0,), lhs_begin=1, lhs_end=None, rhs_begin=-2, rhs_end=None),
    ],
)
def reshape_like(lhs: Array, rhs: Array, **options: Any) -> Array:
    if not options:
        return lhs.reshape(rhs.shape)
    middle = rhs.shape[slice(options["rhs_begin"], options["rhs_end"])]
    last = lhs.ndim if options["lhs_end"] is None else options["lhs_end"]
    return lhs.reshape((*lhs.shape[: options["lhs_begin"]], *middle, *lhs.shape[last:]))


@reference("transpose", cases=[case(normal(2, 3, 4)), case(normal(2, 3, 4), axes=(1, 2, 0))])
def transpose(data: Array, axes: Any = None) -> Array:
    return data.transpose(axes)


@reference("expand_dims", cases=[case(normal(2, 3), axis=1), case(normal(2, 3), axis=-1), case(normal(2), axis=0)])
def expand_dims(data: Array, axis: int) -> Array:
    return np.expand_dims(data, axis)


@reference(
    "squeeze",
    cases=[
        case(normal(1, 3, 1)),
        case(normal(1, 3, 1), axis=0),
        case(normal(1, 3, 1, 2), axis=(0, 2)),
        case(normal(1, 1)),
    ],
)
def squeeze(data: Array, axis: Any = None) -> Array:
    return np.atleast_1d(np.squeeze(data, axis))


@reference("swapaxes", "SwapAxis", cases=[case(normal(2, 3, 4), dim1=0, dim2=2), case(normal(2, 3, 4), dim1=1, dim2=2)])
def swapaxes(data: Array, dim1: int, dim2: int) -> Array:
    return data.swapaxes(dim1, dim2)


@reference("shape_array", cases=[case(normal(2, 3, 4), only=())])
def shape_array(data: Array) -> Array:
    return np.array(data.shape, dtype=np.int64)


@reference("size_array", cases=[case(normal(2, 3, 4), only=())])
def size_array(data: Array) -> Array:
    return np.array([data.size], dtype=np.int64)


@reference("depth_to_space", cases=[case(normal(2, 8, 2, 3), block_size=2)])
def depth_to_space(data: Array, block_size: int) -> Array:
    batch, channels, height, width = data.shape
    result = np.zeros((batch, channels // block_size**2, height * block_size, width * block_size))
    for row, column in itertools.product(range(block_size), repeat=2):
        first = (row * block_size + column) * result.shape[1]
        result[:, :, row::block_size, column::block_size] = data[:, first : first + result.shape[1]]
    return result


@reference("space_to_depth", cases=[case(normal(2, 2, 4, 6), block_size=2)])
def space_to_depth(data: Array, block_size: int) -> Array:
    parts = [
        data[:, :, row::block_size, column::block_size]
        for row, column in itertools.product(range(block_size), repeat=2)
    ]
    return np.concatenate(parts, 1)


# -- cutting and joining ----------------------------------------------------------------------------------------------


@reference(
    "slice",
    cases=[
        case(normal(4, 5), begin=(1, 0), end=(3, 4)),
        case(normal(4, 5), begin=(None, -3), end=(None, None)),
        case(normal(4, 5, 2), begin=(0, 1), end=(4, 5), step=(2, 3)),
        case(normal(4, 5), begin=(None, 3), end=(None, 0), step=(1, -1)),
    ],
)
def slice_leading(data: Array, begin: Any, end: Any, step: Any = ()) -> Array:
    steps = step or (None,) * len(begin)
    return data[tuple(slice(*bounds) for bounds in zip(begin, end, steps, strict=True))]


@reference(
    "slice_axis",
    cases=[
        case(normal(4, 5), axis=1, begin=1, end=3),
        case(normal(4, 5), axis=-1, begin=-3, end=None),
        case(normal(4, 5, 2), axis=0, begin=1, end=-1),
    ],
)
def slice_axis(data: Array, axis: int, begin: int, end: int | None) -> Array:
    return np.moveaxis(np.moveaxis(data, axis, 0)[begin:end], 0, axis)


@reference(
    "slice_like",
    cases=[
        case(normal(4, 5), normal(2, 3), only=(0,)),
        case(normal(4, 5, 6), normal(9, 3, 2), only=(0,), axes=(1, -1)),
    ],
)
def slice_like(data: Array, shape_like: Array, axes: Any = None) -> Array:
    for axis in range(data.ndim) if axes is None else axes:
        data = np.moveaxis(np.moveaxis(data, axis, 0)[: shape_like.shape[axis]], 0, axis)
    return data


@reference(
    "split",
    "SliceChannel",
    cases=[
        case(normal(2, 6, 3), num_outputs=3),
        case(normal(4, 3), num_outputs=2, axis=0),
        case(normal(2, 3, 4), num_outputs=3, axis=1, squeeze_axis=True),
        case(normal(2, 3), num_outputs=1),
    ],
)
def split(data: Array, num_outputs: int, axis: int = 1, squeeze_axis: bool = False) -> Any:
    parts = np.split(data, num_outputs, axis)
    if squeeze_axis:
        parts = [part.squeeze(axis) for part in parts]
    return parts[0] if num_outputs == 1 else parts


@reference("concat", "Concat", cases=[case(normal(2, 3), normal(2, 4)), case(normal(2, 3), normal(1, 3), dim=0)])
def concat(*data: Array, dim: int = 1) -> Array:
    return np.concatenate(data, dim)


@reference("stack", cases=[case(normal(2, 3), normal(2, 3, seed=1)), case(normal(2, 3), normal(2, 3, seed=1), axis=2)])
def stack(*data: Array, axis: int = 0) -> Array:
    return np.stack(data, axis)


@reference(
    "tile", cases=[case(normal(2, 3), reps=(2, 1)), case(normal(2, 3), reps=(2, 1, 3)), case(normal(2, 3), reps=(2,))]
)
def tile(data: Array, reps: Any) -> Array:
    return np.tile(data, reps)


@reference("repeat", cases=[case(normal(2, 3), repeats=2), case(normal(2, 3), repeats=3, axis=1)])
def repeat(data: Array, repeats: int, axis: int | None = None) -> Array:
    return np.repeat(data, repeats, axis)


_PADS = [
    case(normal(1, 2, 3, 4), mode="constant", pad_width=(0, 0, 0, 0, 1, 0, 2, 1), constant_value=1.5),
    case(normal(1, 2, 3, 4), mode="edge", pad_width=(0, 0, 0, 0, 1, 2, 3, 1)),
    case(normal(1, 2, 3, 4), mode="reflect", pad_width=(0, 0, 0, 0, 2, 1, 3, 2)),
]


@reference("pad", "Pad", cases=_PADS)
def pad(data: Array, mode: str, pad_width: Any, constant_value: float = 0.0) -> Array:
    pairs = [pad_width[index : index + 2] for index in range(0, len(pad_width), 2)]
    extra = {"constant_values": constant_value} if mode == "constant" else {}
    return np.pad(data, pairs, mode=mode, **extra)  # type: ignore[call-overload]


@reference("reverse", "flip", cases=[case(normal(3, 4), axis=1), case(normal(3, 4, 2), axis=(0, 2))])
def flip(data: Array, axis: Any) -> Array:
    return np.flip(data, axis)


# -- broadcasting -----------------------------------------------------------------------------------------------------


@reference(
    "broadcast_like",
    cases=[
        case(normal(1, 3), normal(4, 3), only=(0,)),
        case(normal(1, 2, 1), normal(5, 7), only=(0,), lhs_axes=(0, 2), rhs_axes=(1, 0)),
    ],
)
def broadcast_like(lhs: Array, rhs: Array, lhs_axes: Any = None, rhs_axes: Any = None) -> Array:
    shape = list(lhs.shape)
    for left, right in zip(lhs_axes or range(lhs.ndim), rhs_axes or range(rhs.ndim), strict=True):
        shape[left] = rhs.shape[right]
    return np.broadcast_to(lhs, shape)


@reference(
    "broadcast_axis",
    "broadcast_axes",
    cases=[case(normal(2, 1, 3), axis=1, size=4), case(normal(1, 2, 1), axis=(0, 2), size=(3, 2))],
)
def broadcast_axis(data: Array, axis: Any, size: Any) -> Array:
    shape = list(data.shape)
    for one, wanted in zip(np.atleast_1d(axis), np.atleast_1d(size), strict=True):
        shape[one] = wanted
    return np.broadcast_to(data, shape)


@reference("broadcast_to", cases=[case(normal(2, 1, 3), shape=(2, 4, 3)), case(normal(2, 1, 3), shape=(0, 2, 0))])
def broadcast_to(data: Array, shape: Any) -> Array:
    return np.broadcast_to(data, [new or old for old, new in zip(data.shape, shape, strict=True)])


_PAIR = [
    case(distinct(2, 3, 4), distinct(3, 1, seed=7)[None] + 0.003),
    case(distinct(2, 3), distinct(2, 3, seed=9) + 0.003),
]
_POSITIVE_PAIR = [case(positive(2, 3, 4), positive(1, 3, 1, seed=1) + 0.003)]
_ARITHMETIC: dict[tuple[str, ...], tuple[Any, list[Case]]] = {
    ("broadcast_add", "broadcast_plus"): (np.add, _PAIR),
    ("broadcast_sub", "broadcast_minus"): (np.subtract, _PAIR),
    ("broadcast_mul",): (np.multiply, _PAIR),
    ("broadcast_maximum",): (np.maximum, _PAIR),
    ("broadcast_minimum",): (np.minimum, _PAIR),
    ("broadcast_power",): (np.power, _POSITIVE_PAIR),
    ("broadcast_hypot",): (np.hypot, _PAIR),
}
for _names, (_function, _cases) in _ARITHMETIC.items():
    reference(*_names, cases=_cases)(lambda lhs, rhs, function=_function: function(lhs, rhs))


@reference(
    "broadcast_div",
    cases=[*_POSITIVE_PAIR, case(whole([7, -7, 9], "int64"), whole([2, 2, -4], "int64"))],
)
def broadcast_div(lhs: Array, rhs: Array) -> Array:
    if lhs.dtype.kind == "i":
        # As in C: towards zero.
        return np.trunc(lhs / rhs).astype(lhs.dtype)
    return lhs / rhs


@reference(
    "broadcast_mod",
    cases=[
        case(distinct(2, 3, low=-7, high=7), positive(1, 3), only=()),
        case(normal(4), whole([2, -2, 0, 3]), only=()),
    ],
)
def broadcast_mod(lhs: Array, rhs: Array) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(rhs == 0, 0, np.mod(lhs, rhs))


_COMPARED = [
    case(whole([[1, 2, 3], [0, 2, 5]]), whole([[1, 0, 4]])),
    case(whole([[1, 2], [3, 2]], "int32"), whole([[1, 3], [3, 1]], "int32")),
]
_COMPARISONS = {
    "broadcast_equal": np.equal,
    "broadcast_not_equal": np.not_equal,
    "broadcast_greater": np.greater,
    "broadcast_greater_equal": np.greater_equal,
    "broadcast_lesser": np.less,
    "broadcast_lesser_equal": np.less_equal,
    "broadcast_logical_and": np.logical_and,
    "broadcast_logical_or": np.logical_or,
    "broadcast_logical_xor": np.logical_xor,
}
for _name, _function in _COMPARISONS.items():
    reference(_name, cases=_COMPARED)(lambda lhs, rhs, function=_function: function(lhs, rhs).astype(lhs.dtype))

_SAME = [case(normal(2, 3, seed=1), positive(2, 3, seed=2))]
for _name, _function in {
    "elemwise_add": np.add,
    "elemwise_sub": np.subtract,
    "elemwise_mul": np.multiply,
    "elemwise_div": np.divide,
}.items():
    reference(_name, cases=_SAME)(lambda lhs, rhs, function=_function: function(lhs, rhs))


@reference(
    "add_n", "ElementWiseSum", cases=[case(normal(2, 3), normal(2, 3, seed=1), normal(2, 3, seed=2)), case(normal(2))]
)
def add_n(*args: Array) -> Array:
    return np.sum(args, axis=0)


@reference(
    "where",
    cases=[
        case(whole([[1, 0, -1], [0, 2, 0]]), normal(2, 3), normal(2, 3, seed=1)),
        # A condition with one element a sample chooses whole samples.
        case(whole([0, 1]), normal(2, 3), normal(2, 3, seed=1)),
    ],
)
def where(condition: Array, x: Array, y: Array) -> Array:
    chosen = condition != 0
    return np.where(chosen.reshape(chosen.shape + (1,) * (x.ndim - chosen.ndim)), x, y)


_NUMBERS = [
    case(distinct(2, 3), distinct(2, 3, seed=9) + 0.003),
    case(distinct(2, 3), 0.25),
    case(0.25, distinct(2, 3)),
]
reference("maximum", cases=_NUMBERS)(lambda lhs, rhs: np.maximum(lhs, rhs))
reference("minimum", cases=_NUMBERS)(lambda lhs, rhs: np.minimum(lhs, rhs))
reference(
    "power",
    cases=[
        case(positive(2, 3), normal(2, 3)),
        case(positive(2, 3), 2.5),
        case(2.0, normal(2, 3)),
        case(normal(2, 3), 2),
    ],
)(lambda base, exp: np.power(base, exp))


# -- element by element -----------------------------------------------------------------------------------------------

_ANY, _ABOVE_ZERO = [case(distinct(3, 7))], [case(positive(3, 7))]
_HALVES = whole([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.0, 1.2, -1.7])
_ROUNDED = [case(_HALVES), case(distinct(3, 4))]
_UNARY: dict[str, tuple[Any, list[Case]]] = {
    "relu": (lambda x: np.maximum(x, 0), _ANY),
    "sigmoid": (sigmoid, _ANY),
    "tanh": (np.tanh, _ANY),
    "softsign": (lambda x: x / (1 + np.abs(x)), _ANY),
    "abs": (np.abs, _ANY),
    "sign": (np.sign, [*_ANY, case(whole([0.0, -0.0, 3.0]))]),
    "negative": (np.negative, _ANY),
    "reciprocal": (np.reciprocal, _ABOVE_ZERO),
    "floor": (np.floor, _ROUNDED),
    "ceil": (np.ceil, _ROUNDED),
    # Halves go away from zero in round and down in rint.
    "round": (lambda x: np.sign(x) * np.floor(np.abs(x) + 0.5), _ROUNDED),
    "rint": (lambda x: np.ceil(x - 0.5), _ROUNDED),
    "trunc": (np.trunc, _ROUNDED),
    "fix": (np.trunc, _ROUNDED),
    "exp": (np.exp, _ANY),
    "expm1": (np.expm1, [*_ANY, case(whole([1e-4, -1e-5]))]),
    "log": (np.log, _ABOVE_ZERO),
    "log2": (np.log2, _ABOVE_ZERO),
    "log10": (np.log10, _ABOVE_ZERO),
    "log1p": (np.log1p, [*_ABOVE_ZERO, case(whole([1e-4, -1e-5]))]),
    "sqrt": (np.sqrt, _ABOVE_ZERO),
    "rsqrt": (lambda x: 1 / np.sqrt(x), _ABOVE_ZERO),
    "cbrt": (np.cbrt, _ANY),
    "square": (np.square, _ANY),
    "erf": (_erf, _ANY),
    "sin": (np.sin, _ANY),
    "cos": (np.cos, _ANY),
    "tan": (np.tan, [case(distinct(3, 5, low=-1.4, high=1.4))]),
    "arctan": (np.arctan, _ANY),
    "logical_not": (lambda x: (x == 0).astype(x.dtype), [case(whole([0.0, 2.0, -1.0]))]),
}
for _name, (_function, _cases) in _UNARY.items():
    reference(_name, cases=_cases)(lambda data, function=_function: function(data))


@reference("clip", cases=[case(distinct(3, 7), a_min=-0.875, a_max=0.75)])
def clip(data: Array, a_min: float, a_max: float) -> Array:
    return np.clip(data, a_min, a_max)


@reference(
    "cast",
    "Cast",
    cases=[case(_HALVES, dtype="int32"), case(whole([1, 2], "int32"), dtype="float32"), case(_HALVES, dtype="float16")],
)
def cast(data: Array, dtype: str) -> Array:
    return data.astype(dtype)


# -- reductions -------------------------------------------------------------------------------------------------------

_REDUCTIONS = [
    case(distinct(2, 3, 4)),
    case(distinct(2, 3, 4), axis=1),
    case(distinct(2, 3, 4), axis=(0, 2), keepdims=True),
    case(distinct(2, 3, 4), axis=(0, -1)),
    case(distinct(2, 3, 4), axis=1, exclude=True),
    case(distinct(5), axis=0),
]
for _name, _function in {"sum": np.sum, "mean": np.mean, "max": np.max, "min": np.min, "prod": np.prod}.items():

    def _reduce(
        data: Array, axis: Any = None, keepdims: bool = False, exclude: bool = False, function: Any = _function
    ) -> Array:
        if exclude:
            axis = tuple(one for one in range(data.ndim) if one not in np.atleast_1d(axis) % data.ndim)
        result = np.atleast_1d(function(data, axis=axis, keepdims=keepdims))
        return result if data.dtype.kind == "f" else np.trunc(result).astype(data.dtype)

    _integers = [case(whole([[1, 2], [4, 4]], "int32"))] if _name in ("sum", "mean") else []
    reference(_name, cases=[*_REDUCTIONS, *_integers])(_reduce)


@reference(
    "norm",
    cases=[
        case(distinct(2, 3, 4)),
        case(distinct(2, 3, 4), ord=1, axis=1),
        case(distinct(2, 3, 4), axis=(1, 2), keepdims=True),
    ],
)
def norm(data: Array, ord: int = 2, axis: Any = None, keepdims: bool = False) -> Array:
    total = (np.abs(data) ** ord).sum(axis, keepdims=keepdims)
    return np.atleast_1d(total ** (1 / ord))


_TIES = whole([[3, 1, 3, 2], [0, 5, 5, 1]])
_EXTREME = [case(_TIES), case(_TIES, axis=1), case(_TIES, axis=0, keepdims=True), case(_TIES, axis=-1)]


@reference("argmax", cases=_EXTREME)
def argmax(data: Array, axis: int | None = None, keepdims: bool = False) -> Array:
    return np.atleast_1d(np.argmax(data, axis, keepdims=keepdims)).astype(np.float64)


@reference("argmin", cases=_EXTREME)
def argmin(data: Array, axis: int | None = None, keepdims: bool = False) -> Array:
    return np.atleast_1d(np.argmin(data, axis, keepdims=keepdims)).astype(np.float64)


# -- sorting and indexing ---------------------------------------------------------------------------------------------


def _order(data: Array, axis: int | None, ascending: bool) -> tuple[Array, Array, int]:
    """Data, the stable order along the axis, and the axis; equal elements keep their order in both directions."""
    if axis is None:
        data, axis = data.reshape(-1), 0
    return data, np.argsort(data if ascending else -data, axis, kind="stable"), axis


@reference(
    "sort",
    cases=[
        # MXNet knows no gradient where the axis is None or left out: it hands an empty text on.
        case(distinct(3, 4), axis=-1),
        case(distinct(3, 4), skip_gradient={"mxnet": "has no gradient without axis"}),
        case(distinct(3, 4), axis=0, is_ascend=False),
        case(distinct(3, 4), axis=None, skip_gradient={"mxnet": "has no gradient without axis"}),
    ],
)
def sort(data: Array, axis: int | None = -1, is_ascend: bool = True) -> Array:
    data, order, axis = _order(data, axis, is_ascend)
    return np.take_along_axis(data, order, axis)


@reference(
    "argsort",
    cases=[
        case(_TIES),
        case(_TIES, is_ascend=False),
        case(_TIES, axis=0, dtype="int32"),
        case(_TIES, axis=None),
    ],
)
def argsort(data: Array, axis: int | None = -1, is_ascend: bool = True, dtype: str = "float32") -> Array:
    return _order(data, axis, is_ascend)[1].astype(np.float64 if dtype == "float32" else dtype)


@reference(
    "topk",
    cases=[
        case(_TIES, k=2),
        case(_TIES, k=2, ret_typ="value"),
        case(_TIES, k=3, ret_typ="both", is_ascend=True, dtype="int32"),
        case(_TIES, k=2, ret_typ="mask"),
        case(_TIES, k=1, axis=0),
        case(_TIES, k=2, axis=None),
        case(distinct(3, 5), k=2, ret_typ="value"),
    ],
)
def topk(
    data: Array,
    axis: int | None = -1,
    k: int = 1,
    ret_typ: str = "indices",
    is_ascend: bool = False,
    dtype: str = "float32",
) -> Any:
    flat, order, axis = _order(data, axis, is_ascend)
    chosen = np.take(order, range(k), axis)
    values, indices = np.take_along_axis(flat, chosen, axis), chosen.astype(np.float64 if dtype == "float32" else dtype)
    if ret_typ == "mask":
        mask = np.zeros_like(flat)
        np.put_along_axis(mask, chosen, 1, axis)
        return mask.reshape(data.shape)
    return {"indices": indices, "value": values, "both": [values, indices]}[ret_typ]


def _bounded(index: Array, size: int, mode: str) -> Array:
    whole_numbers = index.astype(np.int64)
    return whole_numbers % size if mode == "wrap" else np.clip(whole_numbers, 0, size - 1)


@reference(
    "pick",
    cases=[
        case(normal(3, 4), whole([0, 3, 1])),
        # Beyond the ends: the index is clipped, so that a label of -1 takes the first element.
        case(normal(3, 4), whole([-1, 9, 1])),
        case(normal(3, 4), whole([-1, 9, 1]), mode="wrap"),
        case(normal(2, 3, 4), whole([[0, 1, 1, 0], [1, 0, 1, 0], [0, 0, 0, 1]]), axis=0, keepdims=True),
        case(normal(2, 3, 4), whole([[[0], [3], [1]], [[2], [2], [0]]]), axis=2),
    ],
)
def pick(data: Array, index: Array, axis: int = -1, keepdims: bool = False, mode: str = "clip") -> Array:
    places = _bounded(index, data.shape[axis], mode)
    if places.ndim < data.ndim:
        places = np.expand_dims(places, axis)
    result = np.take_along_axis(data, places, axis)
    return result if keepdims else result.squeeze(axis)


@reference(
    "take",
    cases=[
        case(normal(4, 3), whole([[0, 3], [-1, 9]])),
        case(normal(4, 3), whole([-1, 4], "int32"), axis=1, mode="wrap"),
        case(normal(2, 3, 4), whole([2, 0]), axis=-1),
    ],
)
def take(a: Array, indices: Array, axis: int = 0, mode: str = "clip") -> Array:
    return np.take(a, _bounded(indices, a.shape[axis], mode), axis)


@reference(
    "batch_take",
    cases=[case(normal(3, 4), whole([0, 3, 1], "int32"), skip_gradient={"mxnet": "has no gradient of it"})],
)
def batch_take(a: Array, indices: Array) -> Array:
    return a[np.arange(len(a)), indices]


@reference(
    "one_hot",
    cases=[
        case(whole([0, 2, -1, 7]), depth=3),
        case(whole([[0], [1]], "int32"), depth=2, on_value=2.0, off_value=-1.0, dtype="int32"),
    ],
)
def one_hot(indices: Array, depth: int, on_value: float = 1.0, off_value: float = 0.0, dtype: str = "float32") -> Array:
    result = np.where(indices.astype(np.int64)[..., None] == np.arange(depth), on_value, off_value)
    return result if dtype == "float32" else result.astype(dtype)


@reference(
    "gather_nd",
    cases=[
        case(normal(3, 4), whole([[0, 2, 1], [3, 0, 0]])),
        case(normal(3, 4, 2), whole([[0, 2, 0], [3, 0, 3]], "int32")),
    ],
)
def gather_nd(data: Array, indices: Array) -> Array:
    return data[tuple(indices.astype(np.int64))]


@reference("scatter_nd", cases=[case(normal(3), whole([[0, 2, 1], [3, 0, 1]]), shape=(3, 4))])
def scatter_nd(data: Array, indices: Array, shape: Any) -> Array:
    result = np.zeros(shape)
    result[tuple(indices.astype(np.int64))] = data
    return result


_SEQUENCES = [
    case(normal(4, 2, 3), skip_gradient={"mxnet": "reads lengths that are not there, and may crash"}),
    case(normal(4, 2, 3), whole([1, 3]), use_sequence_length=True),
]
_BATCH_FIRST = case(normal(2, 4, 3), whole([1, 3]), use_sequence_length=True, axis=1)


def _time_first(data: Array, options: Any) -> Array:
    return data.swapaxes(0, 1) if options.get("axis", 0) == 1 else data


@reference(
    "SequenceMask",
    cases=[*_SEQUENCES, _BATCH_FIRST, case(normal(4, 2), whole([0, 4]), use_sequence_length=True, value=-1.0)],
)
def sequence_mask(data: Array, length: Array | None = None, **options: Any) -> Array:
    if length is None:
        return data
    moved = _time_first(data, options).copy()
    for sample, size in enumerate(length.astype(int)):
        moved[size:, sample] = options.get("value", 0.0)
    return _time_first(moved, options)


@reference("SequenceReverse", cases=_SEQUENCES)
def sequence_reverse(data: Array, length: Array | None = None, **options: Any) -> Array:
    if length is None:
        return data[::-1]
    result = data.copy()
    for sample, size in enumerate(length.astype(int)):
        result[:size, sample] = data[:size, sample][::-1]
    return result


@reference("SequenceLast", cases=[*_SEQUENCES, _BATCH_FIRST])
def sequence_last(data: Array, length: Array | None = None, **options: Any) -> Array:
    moved = _time_first(data, options)
    if length is None:
        return moved[-1]
    return np.stack([moved[size - 1, sample] for sample, size in enumerate(length.astype(int))])


# -- products ---------------------------------------------------------------------------------------------------------


@reference(
    "dot",
    cases=[
        case(normal(2, 3), normal(3, 4)),
        case(normal(3, 2), normal(3, 4), transpose_a=True),
        case(normal(2, 3), normal(4, 3), transpose_b=True),
        case(normal(3), normal(3, seed=1)),
        case(normal(2, 2, 3), normal(3, 2, 4)),
    ],
)
def dot(lhs: Array, rhs: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    left, right = (lhs.T if transpose_a else lhs), (rhs.T if transpose_b else rhs)
    return np.atleast_1d(np.tensordot(left, right, 1))


@reference(
    "batch_dot",
    cases=[
        case(normal(2, 3, 4), normal(2, 4, 5)),
        case(normal(2, 4, 3), normal(2, 4, 5), transpose_a=True),
        case(normal(2, 3, 4), normal(2, 5, 4), transpose_b=True),
    ],
)
def batch_dot(lhs: Array, rhs: Array, transpose_a: bool = False, transpose_b: bool = False) -> Array:
    left, right = (lhs.swapaxes(1, 2) if transpose_a else lhs), (rhs.swapaxes(1, 2) if transpose_b else rhs)
    return left @ right


# -- recurrent layers: no functions of the dialect, but judged like them; test_recurrent_values.py ---------------------


def _sigmoid(values: Array) -> Array:
    return 1 / (1 + np.exp(-values))


def recurrent_step(mode: str, x: Array, state: Sequence[Array], weights: Sequence[Array]) -> list[Array]:
    """The states after one step of one sample: [h], or [h, c] of an LSTM, of which h is the output.

    A fifth of the weights projects an LSTM's h.
    """
    i2h_weight, h2h_weight, i2h_bias, h2h_bias, *projection = weights
    read, kept = i2h_weight @ x + i2h_bias, h2h_weight @ state[0] + h2h_bias
    if mode == "lstm":
        i, f, g, o = np.split(read + kept, 4)
        cell = _sigmoid(f) * state[1] + _sigmoid(i) * np.tanh(g)
        hidden = _sigmoid(o) * np.tanh(cell)
        return [projection[0] @ hidden if projection else hidden, cell]
    if mode == "gru":
        (read_r, read_z, read_n), (kept_r, kept_z, kept_n) = np.split(read, 3), np.split(kept, 3)
        reset, update = _sigmoid(read_r + kept_r), _sigmoid(read_z + kept_z)
        return [(1 - update) * np.tanh(read_n + reset * kept_n) + update * state[0]]
    return [np.tanh(read + kept) if mode == "rnn_tanh" else np.maximum(read + kept, 0)]


def recurrent_layers(
    mode: str,
    data: Array,
    states: Sequence[Array],
    weights: Sequence[Sequence[Array]],
    lengths: Sequence[int] | None = None,
    directions: int = 1,
) -> list[Array]:
    """[outputs, *states] of a stack, each sample on its own and without its padding. data: (time, batch, channels).

    states: (layers * directions, batch, hidden) each; weights: i2h_weight, h2h_weight, i2h_bias, h2h_bias for each.
    """
    time, batch = data.shape[:2]
    hidden = states[0].shape[2]
    ended = [state.copy() for state in states]
    outputs = np.zeros((time, batch, hidden * directions))
    for sample in range(batch):
        length = time if lengths is None else int(lengths[sample])
        below = data[:length, sample]
        for layer in range(len(weights) // directions):
            above = np.zeros((length, hidden * directions))
            for direction in range(directions):
                index = layer * directions + direction
                state = [one[index, sample] for one in states]
                for step in range(length) if direction == 0 else reversed(range(length)):
                    state = recurrent_step(mode, below[step], state, weights[index])
                    above[step, direction * hidden : (direction + 1) * hidden] = state[0]
                for kept, one in zip(ended, state, strict=True):
                    kept[index, sample] = one
            below = above
        outputs[:length, sample] = below
    return [outputs, *ended]


# -- new arrays -------------------------------------------------------------------------------------------------------

reference("zeros_like", cases=[case(normal(2, 3), only=()), case(whole([1], "int32"))])(
    lambda data: np.zeros_like(data)
)
reference("ones_like", cases=[case(normal(2, 3), only=()), case(whole([1], "int32"))])(lambda data: np.ones_like(data))
reference("zeros", cases=[case(shape=(2, 3)), case(shape=(2,), dtype="int32")])(
    lambda shape, dtype="float64": np.zeros(shape, dtype)
)
reference("ones", cases=[case(shape=(2, 3)), case(shape=(2,), dtype="int32")])(
    lambda shape, dtype="float64": np.ones(shape, dtype)
)
reference("full", cases=[case(shape=(2, 3), val=1.5)])(lambda shape, val: np.full(shape, val))


@reference(
    "arange", cases=[case(5), case(1, 4), case(2.0, 0.0, -0.5), case(0, 3, 1, repeat=2), case(0, 3, dtype="int32")]
)
def arange(start: float, stop: float | None = None, step: float = 1, repeat: int = 1, dtype: str = "float64") -> Array:
    first, last = (0, start) if stop is None else (start, stop)
    return np.arange(first, last, step).repeat(repeat).astype(dtype)


@reference("linspace", cases=[case(0.0, 1.0, 5), case(-1.0, 2.0, 4, endpoint=False)])
def linspace(start: float, stop: float, num: int, endpoint: bool = True) -> Array:
    return np.linspace(start, stop, num, endpoint)


# -- contrib ----------------------------------------------------------------------------------------------------------


def _resize_axis(data: Array, axis: int, size: int, align: bool) -> Array:
    old = data.shape[axis]
    if align:
        places = np.arange(size) * ((old - 1) / (size - 1) if size > 1 else 0.0)
    else:
        places = np.maximum((np.arange(size) + 0.5) * old / size - 0.5, 0.0)
    low = np.minimum(places.astype(int), old - 1)
    high = np.minimum(low + 1, old - 1)
    shape = [1] * data.ndim
    shape[axis] = size
    part = (places - low).reshape(shape)
    return np.take(data, low, axis) * (1 - part) + np.take(data, high, axis) * part


_TO_SIZE: dict[str, Callable[[int], int]] = {
    "to_even_down": lambda size: size // 2 * 2,
    "to_even_up": lambda size: -(-size // 2) * 2,
    "to_odd_down": lambda size: size - 1 + size % 2,
    "to_odd_up": lambda size: size + 1 - size % 2,
}


@reference(
    "contrib.BilinearResize2D",
    cases=[
        case(normal(1, 2, 3, 4), height=5, width=7),
        case(normal(1, 1, 5, 4), height=3, width=4),
        case(normal(1, 2, 3, 4), height=5, width=6, align_corners=False),
        case(normal(1, 2, 3, 4), normal(1, 1, 6, 2), only=(0,), mode="like"),
        case(normal(1, 1, 4, 5), scale_height=2.0, scale_width=0.5, mode="odd_scale"),
        *(case(normal(1, 1, 3, 4), mode=mode) for mode in _TO_SIZE),
    ],
)
def bilinear_resize(data: Array, like: Array | None = None, **options: Any) -> Array:
    mode, old = options.get("mode", "size"), data.shape[2:]
    if like is not None:
        size = like.shape[2:]
    elif mode == "odd_scale":
        scales = (options["scale_height"], options["scale_width"])
        size = tuple(
            int(one * scale) if one % 2 == 0 else int((one - 1) * scale) + 1
            for one, scale in zip(old, scales, strict=True)
        )
    elif mode in _TO_SIZE:
        size = tuple(_TO_SIZE[mode](one) for one in old)
    else:
        size = (options["height"], options["width"])
    align = options.get("align_corners", True)
    return _resize_axis(_resize_axis(data, 2, size[0], align), 3, size[1], align)


@reference(
    "contrib.AdaptiveAvgPooling2D",
    cases=[
        case(normal(2, 2, 5, 7)),
        case(normal(1, 2, 5, 7), output_size=3),
        case(normal(1, 2, 6, 4), output_size=(4, 2)),
    ],
)
def adaptive_average_pooling(data: Array, output_size: Any = 1) -> Array:
    rows, columns = as_tuple(output_size, 2, 1)
    height, width = data.shape[2:]
    result = np.zeros((*data.shape[:2], rows, columns))
    for row, column in itertools.product(range(rows), range(columns)):
        down = slice(row * height // rows, -(-(row + 1) * height // rows))
        right = slice(column * width // columns, -(-(column + 1) * width // columns))
        result[:, :, row, column] = data[:, :, down, right].mean((2, 3))
    return result


@reference(
    "contrib.arange_like",
    cases=[
        case(normal(2, 3), only=()),
        case(normal(2, 3), only=(), axis=1),
        case(normal(2, 4), only=(), start=1.0, step=2.0, repeat=2),
    ],
)
def arange_like(data: Array, start: float = 0, step: float = 1, repeat: int = 1, axis: int | None = None) -> Array:
    count = data.size if axis is None else data.shape[axis]
    values = start + step * (np.arange(count) // repeat)
    return (values.reshape(data.shape) if axis is None else values).astype(np.float64)


@reference("contrib.div_sqrt_dim", cases=[case(normal(2, 3, 5))])
def div_sqrt_dim(data: Array) -> Array:
    return data / np.sqrt(data.shape[-1])

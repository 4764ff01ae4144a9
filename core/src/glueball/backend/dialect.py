"""The dialect in which models are written: every layer, function, loss and initialiser with its exact signature.

The names, parameters and numeric semantics are those of MXNet 1.9.1's Gluon, because the official weights were trained
with them and a generation of users knows them. A backend offers each entry; ``tests/contract`` compares signatures with
these tables and values with a NumPy reference, and fails for an entry that has no reference.

To add to the dialect, write a line into a table here, the function into each backend and its reference into
``tests/contract/reference.py``.

The tables are text because a signature is easiest to read, compare and extend in the form in which it is written.
They are parsed with ``ast``, never evaluated.

Conventions
    - A parameter with a default that follows an optional one and is still required (``num_filter``) has None here.
    - Shapes are tuples; ``()`` stands for "one on every axis" in ``stride`` and ``dilate`` and for "nothing" in
      ``pad`` and ``axes``. An integer is taken for every axis.
    - ``workspace``, ``cudnn_tune``, ``cudnn_off``, ``num_filter`` of UpSampling and the like steer MXNet's kernels; the
      torch backend takes and ignores them.
    - Two parameters that every MXNet function also takes, ``name`` and ``out``, are no part of the dialect.
    - Functions that compare give 0 and 1 in the data type of their input, index-like results (argmax, argsort, topk)
      are float32 unless ``dtype`` says otherwise, as in MXNet.
    - Python's operators are each library's own, and differ in two results. ``x > y`` is bool on torch and of x's data
      type on MXNet: as a condition of ``where`` and as a factor either will do; elsewhere use ``broadcast_greater(x,
      y)`` and the like, or ``cast(x > 0, dtype="float32")``. ``x / y`` of integers is float32 on torch and an integer,
      rounded towards zero, on MXNet: use ``broadcast_div``, or cast before.
    - In ``hybrid_forward`` use these functions and Python's operators on arrays of equal shapes (or with a number);
      methods of arrays differ between backends. Broadcasting is always asked for by name (``broadcast_add``).
"""

from __future__ import annotations

import ast
import inspect
from types import MappingProxyType
from typing import Any

Parameter = inspect.Parameter


def parse_signature(text: str) -> tuple[str, inspect.Signature]:
    """Reads ``"name(data, axis=-1)"``; dots in the name and literal defaults are allowed.

    Raises:
        SyntaxError: the text is no such call form.
        ValueError: a default is not a literal.
    """
    name, bracket, parameters = text.strip().partition("(")
    if not bracket:
        raise SyntaxError(f"expected 'name(parameters)', received {text!r}")
    function = ast.parse(f"def signature({parameters}: pass").body[0]
    assert isinstance(function, ast.FunctionDef)
    arguments = function.args
    positional: list[tuple[ast.arg, Any]] = [
        (argument, Parameter.POSITIONAL_ONLY) for argument in arguments.posonlyargs
    ]
    positional += [(argument, Parameter.POSITIONAL_OR_KEYWORD) for argument in arguments.args]
    without_default = len(positional) - len(arguments.defaults)
    found = []
    for index, (argument, kind) in enumerate(positional):
        default: Any = Parameter.empty
        if index >= without_default:
            default = ast.literal_eval(arguments.defaults[index - without_default])
        found.append(Parameter(argument.arg, kind, default=default))
    if arguments.vararg is not None:
        found.append(Parameter(arguments.vararg.arg, Parameter.VAR_POSITIONAL))
    for argument, expression in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
        default = Parameter.empty if expression is None else ast.literal_eval(expression)
        found.append(Parameter(argument.arg, Parameter.KEYWORD_ONLY, default=default))
    if arguments.kwarg is not None:
        found.append(Parameter(arguments.kwarg.arg, Parameter.VAR_KEYWORD))
    return name, inspect.Signature(found)


def _table(text: str) -> MappingProxyType[str, inspect.Signature]:
    entries: dict[str, inspect.Signature] = {}
    for line in text.splitlines():
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        name, signature = parse_signature(line)
        if name in entries:
            raise ValueError(f"the dialect lists {name!r} twice")
        entries[name] = signature
    return MappingProxyType(entries)


OPS = _table(
    """
# Layers as functions. BatchNorm updates moving_mean and moving_var (biased variance) in training mode.
Convolution(data, weight, bias=None, kernel=(), stride=(), dilate=(), pad=(), num_filter=None, num_group=1, workspace=1024, no_bias=False, cudnn_tune=None, cudnn_off=False, layout=None)
Deconvolution(data, weight, bias=None, kernel=(), stride=(), dilate=(), pad=(), adj=(), target_shape=(), num_filter=None, num_group=1, workspace=512, no_bias=True, cudnn_tune=None, cudnn_off=False, layout=None)
FullyConnected(data, weight, bias=None, num_hidden=None, no_bias=False, flatten=True)
Embedding(data, weight, input_dim=None, output_dim=None, dtype="float32", sparse_grad=False)
Dropout(data, p=0.5, mode="training", axes=(), cudnn_off=False)
Pooling(data, kernel=(), pool_type="max", global_pool=False, cudnn_off=False, pooling_convention="valid", stride=(), pad=(), p_value=None, count_include_pad=None, layout=None)
UpSampling(*data, scale=None, num_filter=0, sample_type="nearest", multi_input_mode="concat", num_args=None, workspace=512)

# Normalisation
BatchNorm(data, gamma, beta, moving_mean, moving_var, eps=1e-3, momentum=0.9, fix_gamma=True, use_global_stats=False, output_mean_var=False, axis=1, cudnn_off=False, min_calib_range=None, max_calib_range=None)
LayerNorm(data, gamma, beta, axis=-1, eps=1e-5, output_mean_var=False)
GroupNorm(data, gamma, beta, num_groups=1, eps=1e-5, output_mean_var=False)
InstanceNorm(data, gamma, beta, eps=1e-3)
L2Normalization(data, eps=1e-10, mode="instance")
LRN(data, alpha=1e-4, beta=0.75, knorm=2, nsize=None)

# Activations
Activation(data, act_type=None)
LeakyReLU(data, gamma=None, act_type="leaky", slope=0.25, lower_bound=0.125, upper_bound=0.334)
relu(data)
sigmoid(data)
hard_sigmoid(data, alpha=0.2, beta=0.5)
tanh(data)
softsign(data)
softmax(data, length=None, axis=-1, temperature=None, dtype=None, use_length=False)
log_softmax(data, axis=-1, temperature=None, dtype=None, use_length=False)
softmin(data, axis=-1, temperature=None, dtype=None, use_length=False)

# Losses as functions, and what stops or starts a gradient. SoftmaxOutput injects its own gradient and ignores the one
# that arrives from above unless out_grad is set, as MXNet's does.
SoftmaxOutput(data, label, grad_scale=1.0, ignore_label=-1.0, multi_output=False, use_ignore=False, preserve_shape=False, normalization="null", out_grad=False, smooth_alpha=0.0)
softmax_cross_entropy(data, label)
smooth_l1(data, scalar=1.0)
make_loss(data)
BlockGrad(data)
stop_gradient(data)
identity(data)

# Shape. The codes of reshape: 0 copies an axis, -1 is inferred, -2 copies the rest, -3 merges two axes, -4 splits one.
Flatten(data)
flatten(data)
reshape(data, shape=(), reverse=False, target_shape=(), keep_highest=False)
Reshape(data, shape=(), reverse=False, target_shape=(), keep_highest=False)
reshape_like(lhs, rhs, lhs_begin=None, lhs_end=None, rhs_begin=None, rhs_end=None)
transpose(data, axes=())
expand_dims(data, axis=None)
squeeze(data, axis=None)
swapaxes(data, dim1=0, dim2=0)
SwapAxis(data, dim1=0, dim2=0)
shape_array(data)
size_array(data)
depth_to_space(data, block_size=None)
space_to_depth(data, block_size=None)

# Cutting and joining. split with num_outputs=1 gives one array, otherwise a list.
slice(data, begin=None, end=None, step=())
slice_axis(data, axis=None, begin=None, end=None)
slice_like(data, shape_like, axes=())
split(data, num_outputs=None, axis=1, squeeze_axis=False)
SliceChannel(data, num_outputs=None, axis=1, squeeze_axis=False)
concat(*data, dim=1)
Concat(*data, dim=1)
stack(*data, axis=0)
tile(data, reps=None)
repeat(data, repeats=None, axis=None)
pad(data, mode=None, pad_width=None, constant_value=0.0)
Pad(data, mode=None, pad_width=None, constant_value=0.0)
reverse(data, axis=None)
flip(data, axis=None)

# Broadcasting to a shape
broadcast_like(lhs, rhs, lhs_axes=None, rhs_axes=None)
broadcast_axis(data, axis=(), size=())
broadcast_axes(data, axis=(), size=())
broadcast_to(data, shape=())

# Two arrays, broadcast against each other
broadcast_add(lhs, rhs)
broadcast_plus(lhs, rhs)
broadcast_sub(lhs, rhs)
broadcast_minus(lhs, rhs)
broadcast_mul(lhs, rhs)
broadcast_div(lhs, rhs)
broadcast_mod(lhs, rhs)
broadcast_power(lhs, rhs)
broadcast_maximum(lhs, rhs)
broadcast_minimum(lhs, rhs)
broadcast_hypot(lhs, rhs)
broadcast_equal(lhs, rhs)
broadcast_not_equal(lhs, rhs)
broadcast_greater(lhs, rhs)
broadcast_greater_equal(lhs, rhs)
broadcast_lesser(lhs, rhs)
broadcast_lesser_equal(lhs, rhs)
broadcast_logical_and(lhs, rhs)
broadcast_logical_or(lhs, rhs)
broadcast_logical_xor(lhs, rhs)

# Two arrays of one shape, or several
elemwise_add(lhs, rhs)
elemwise_sub(lhs, rhs)
elemwise_mul(lhs, rhs)
elemwise_div(lhs, rhs)
add_n(*args)
ElementWiseSum(*args)
where(condition, x, y)

# An array or a number on either side; MXNet names the parameters differently in nd and sym, so they are positional.
maximum(lhs, rhs, /)
minimum(lhs, rhs, /)
power(base, exp, /)

# One array, element by element
abs(data)
sign(data)
negative(data)
reciprocal(data)
floor(data)
ceil(data)
round(data)
rint(data)
trunc(data)
fix(data)
exp(data)
expm1(data)
log(data)
log2(data)
log10(data)
log1p(data)
sqrt(data)
rsqrt(data)
cbrt(data)
square(data)
erf(data)
sin(data)
cos(data)
tan(data)
arctan(data)
logical_not(data)
clip(data, a_min=None, a_max=None)
cast(data, dtype=None)
Cast(data, dtype=None)

# Reductions
sum(data, axis=None, keepdims=False, exclude=False)
mean(data, axis=None, keepdims=False, exclude=False)
max(data, axis=None, keepdims=False, exclude=False)
min(data, axis=None, keepdims=False, exclude=False)
prod(data, axis=None, keepdims=False, exclude=False)
norm(data, ord=2, axis=None, out_dtype=None, keepdims=False)
argmax(data, axis=None, keepdims=False)
argmin(data, axis=None, keepdims=False)

# Sorting and indexing. Indices beyond the end are clipped (pick, take, Embedding), never an error.
sort(data, axis=-1, is_ascend=True)
argsort(data, axis=-1, is_ascend=True, dtype="float32")
topk(data, axis=-1, k=1, ret_typ="indices", is_ascend=False, dtype="float32")
pick(data, index, axis=-1, keepdims=False, mode="clip")
take(a, indices, axis=0, mode="clip")
batch_take(a, indices)
one_hot(indices, depth=None, on_value=1.0, off_value=0.0, dtype="float32")
gather_nd(data, indices)
scatter_nd(data, indices, shape=None)
SequenceMask(data, sequence_length=None, use_sequence_length=False, value=0.0, axis=0)
SequenceReverse(data, sequence_length=None, use_sequence_length=False, axis=0)
SequenceLast(data, sequence_length=None, use_sequence_length=False, axis=0)

# Products
dot(lhs, rhs, transpose_a=False, transpose_b=False, forward_stype=None)
batch_dot(lhs, rhs, transpose_a=False, transpose_b=False, forward_stype=None)

# New arrays. Inside a model prefer the ones that follow an input (ones_like, arange_like): they know its device.
zeros_like(data)
ones_like(data)
zeros(shape, *, dtype=None)
ones(shape, *, dtype=None)
full(shape, val, *, dtype=None)
arange(start, stop=None, step=1.0, repeat=1, *, dtype="float32")
linspace(start, stop, num, endpoint=True, *, dtype="float32")

# Random arrays, from the stream of glueball.seed. random.*_like follow the shape, data type and device of an input.
random.uniform(low=0, high=1, shape=(1,), dtype="float32")
random.normal(loc=0, scale=1, shape=(1,), dtype="float32")
random.uniform_like(data, low=0.0, high=1.0)
random.normal_like(data, loc=0.0, scale=1.0)

# contrib. BilinearResize2D aligns corners unless told otherwise.
contrib.BilinearResize2D(data, like=None, height=1, width=1, scale_height=None, scale_width=None, mode="size", align_corners=True)
contrib.AdaptiveAvgPooling2D(data, output_size=())
contrib.arange_like(data, start=0.0, step=1.0, repeat=1, ctx="", axis=None)
contrib.div_sqrt_dim(data)
"""  # noqa: E501 - a signature stays on one line
)
"""Functions: what ``F`` is in ``hybrid_forward`` and what ``glueball.ops`` hands on."""


LAYERS = _table(
    """
# Blocks and containers
Block(prefix=None, params=None)
HybridBlock(prefix=None, params=None)
Sequential(prefix=None, params=None)
HybridSequential(prefix=None, params=None)
Lambda(function, prefix=None)
HybridLambda(function, prefix=None)
Concurrent(axis=-1, prefix=None, params=None)
HybridConcurrent(axis=-1, prefix=None, params=None)
Identity(prefix=None, params=None)

# Dense layers
Dense(units, activation=None, use_bias=True, flatten=True, dtype="float32", weight_initializer=None, bias_initializer="zeros", in_units=0, **kwargs)
Embedding(input_dim, output_dim, dtype="float32", weight_initializer=None, sparse_grad=False, **kwargs)
Flatten(**kwargs)
Dropout(rate, axes=(), **kwargs)

# Activations
Activation(activation, **kwargs)
LeakyReLU(alpha, **kwargs)
PReLU(alpha_initializer=..., in_channels=1, **kwargs)
ELU(alpha=1.0, **kwargs)
SELU(**kwargs)
GELU(**kwargs)
Swish(beta=1.0, **kwargs)
SiLU(**kwargs)

# Normalisation
BatchNorm(axis=1, momentum=0.9, epsilon=1e-5, center=True, scale=True, use_global_stats=False, beta_initializer="zeros", gamma_initializer="ones", running_mean_initializer="zeros", running_variance_initializer="ones", in_channels=0, **kwargs)
SyncBatchNorm(in_channels=0, num_devices=None, momentum=0.9, epsilon=1e-5, center=True, scale=True, use_global_stats=False, beta_initializer="zeros", gamma_initializer="ones", running_mean_initializer="zeros", running_variance_initializer="ones", **kwargs)
LayerNorm(axis=-1, epsilon=1e-5, center=True, scale=True, beta_initializer="zeros", gamma_initializer="ones", in_channels=0, prefix=None, params=None)
GroupNorm(num_groups=1, epsilon=1e-5, center=True, scale=True, beta_initializer="zeros", gamma_initializer="ones", prefix=None, params=None)
InstanceNorm(axis=1, epsilon=1e-5, center=True, scale=False, beta_initializer="zeros", gamma_initializer="ones", in_channels=0, **kwargs)

# Convolution
Conv1D(channels, kernel_size, strides=1, padding=0, dilation=1, groups=1, layout="NCW", activation=None, use_bias=True, weight_initializer=None, bias_initializer="zeros", in_channels=0, **kwargs)
Conv2D(channels, kernel_size, strides=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1, layout="NCHW", activation=None, use_bias=True, weight_initializer=None, bias_initializer="zeros", in_channels=0, **kwargs)
Conv3D(channels, kernel_size, strides=(1, 1, 1), padding=(0, 0, 0), dilation=(1, 1, 1), groups=1, layout="NCDHW", activation=None, use_bias=True, weight_initializer=None, bias_initializer="zeros", in_channels=0, **kwargs)
Conv1DTranspose(channels, kernel_size, strides=1, padding=0, output_padding=0, dilation=1, groups=1, layout="NCW", activation=None, use_bias=True, weight_initializer=None, bias_initializer="zeros", in_channels=0, **kwargs)
Conv2DTranspose(channels, kernel_size, strides=(1, 1), padding=(0, 0), output_padding=(0, 0), dilation=(1, 1), groups=1, layout="NCHW", activation=None, use_bias=True, weight_initializer=None, bias_initializer="zeros", in_channels=0, **kwargs)
Conv3DTranspose(channels, kernel_size, strides=(1, 1, 1), padding=(0, 0, 0), output_padding=(0, 0, 0), dilation=(1, 1, 1), groups=1, layout="NCDHW", activation=None, use_bias=True, weight_initializer=None, bias_initializer="zeros", in_channels=0, **kwargs)

# Pooling
MaxPool1D(pool_size=2, strides=None, padding=0, layout="NCW", ceil_mode=False, **kwargs)
MaxPool2D(pool_size=(2, 2), strides=None, padding=0, layout="NCHW", ceil_mode=False, **kwargs)
MaxPool3D(pool_size=(2, 2, 2), strides=None, padding=0, ceil_mode=False, layout="NCDHW", **kwargs)
AvgPool1D(pool_size=2, strides=None, padding=0, layout="NCW", ceil_mode=False, count_include_pad=True, **kwargs)
AvgPool2D(pool_size=(2, 2), strides=None, padding=0, ceil_mode=False, layout="NCHW", count_include_pad=True, **kwargs)
AvgPool3D(pool_size=(2, 2, 2), strides=None, padding=0, ceil_mode=False, layout="NCDHW", count_include_pad=True, **kwargs)
GlobalMaxPool1D(layout="NCW", **kwargs)
GlobalMaxPool2D(layout="NCHW", **kwargs)
GlobalMaxPool3D(layout="NCDHW", **kwargs)
GlobalAvgPool1D(layout="NCW", **kwargs)
GlobalAvgPool2D(layout="NCHW", **kwargs)
GlobalAvgPool3D(layout="NCDHW", **kwargs)

# Pixels
ReflectionPad2D(padding=0, **kwargs)
PixelShuffle1D(factor)
PixelShuffle2D(factor)
PixelShuffle3D(factor)

# Parameters
Parameter(name, grad_req="write", shape=None, dtype="float32", lr_mult=1.0, wd_mult=1.0, init=None, allow_deferred_init=False, differentiable=True, stype="default", grad_stype="default")
Constant(name, value)
ParameterDict(prefix="", shared=None)
"""  # noqa: E501 - a signature stays on one line
)
"""Classes of ``glueball.nn`` with the parameters of their constructors. ``...`` is a default that is an object."""


RECURRENT = _table(
    """
# Stacks of layers over whole sequences. With use_sequence_length=True among kwargs they take lengths as third input.
RNN(hidden_size, num_layers=1, activation="relu", layout="TNC", dropout=0, bidirectional=False, i2h_weight_initializer=None, h2h_weight_initializer=None, i2h_bias_initializer="zeros", h2h_bias_initializer="zeros", input_size=0, dtype="float32", **kwargs)
LSTM(hidden_size, num_layers=1, layout="TNC", dropout=0, bidirectional=False, input_size=0, i2h_weight_initializer=None, h2h_weight_initializer=None, i2h_bias_initializer="zeros", h2h_bias_initializer="zeros", projection_size=None, h2r_weight_initializer=None, state_clip_min=None, state_clip_max=None, state_clip_nan=False, dtype="float32", **kwargs)
GRU(hidden_size, num_layers=1, layout="TNC", dropout=0, bidirectional=False, input_size=0, i2h_weight_initializer=None, h2h_weight_initializer=None, i2h_bias_initializer="zeros", h2h_bias_initializer="zeros", dtype="float32", **kwargs)

# One step as a block: cell(inputs, states) gives (output, states); cell.unroll goes over sequences.
RNNCell(hidden_size, activation="tanh", i2h_weight_initializer=None, h2h_weight_initializer=None, i2h_bias_initializer="zeros", h2h_bias_initializer="zeros", input_size=0, prefix=None, params=None)
LSTMCell(hidden_size, i2h_weight_initializer=None, h2h_weight_initializer=None, i2h_bias_initializer="zeros", h2h_bias_initializer="zeros", input_size=0, prefix=None, params=None, activation="tanh", recurrent_activation="sigmoid")
GRUCell(hidden_size, i2h_weight_initializer=None, h2h_weight_initializer=None, i2h_bias_initializer="zeros", h2h_bias_initializer="zeros", input_size=0, prefix=None, params=None)
"""  # noqa: E501 - a signature stays on one line
)
"""Classes of ``glueball.rnn``: ``layer(inputs[, states[, sequence_length]])`` and ``cell(inputs, states)``."""


LOSSES = _table(
    """
Loss(weight, batch_axis, **kwargs)
SoftmaxCrossEntropyLoss(axis=-1, sparse_label=True, from_logits=False, weight=None, batch_axis=0, **kwargs)
SoftmaxCELoss(axis=-1, sparse_label=True, from_logits=False, weight=None, batch_axis=0, **kwargs)
SigmoidBinaryCrossEntropyLoss(from_sigmoid=False, weight=None, batch_axis=0, **kwargs)
SigmoidBCELoss(from_sigmoid=False, weight=None, batch_axis=0, **kwargs)
L1Loss(weight=None, batch_axis=0, **kwargs)
L2Loss(weight=1.0, batch_axis=0, **kwargs)
KLDivLoss(from_logits=True, axis=-1, weight=None, batch_axis=0, **kwargs)
HuberLoss(rho=1, weight=None, batch_axis=0, **kwargs)
HingeLoss(margin=1, weight=None, batch_axis=0, **kwargs)
SquaredHingeLoss(margin=1, weight=None, batch_axis=0, **kwargs)
LogisticLoss(weight=None, batch_axis=0, label_format="signed", **kwargs)
TripletLoss(margin=1, weight=None, batch_axis=0, **kwargs)
CosineEmbeddingLoss(weight=None, batch_axis=0, margin=0, **kwargs)
PoissonNLLLoss(weight=None, from_logits=True, batch_axis=0, compute_full=False, **kwargs)
"""
)
"""Classes of ``glueball.loss``: blocks ``loss(prediction, label, sample_weight=None) -> (batch,)``."""


AUTOGRAD = _table(
    """
record(train_mode=True)
pause(train_mode=False)
train_mode()
predict_mode()
is_recording()
is_training()
set_recording(is_recording)
set_training(train_mode)
backward(heads, head_grads=None, retain_graph=False, train_mode=True)
grad(heads, variables, head_grads=None, retain_graph=None, create_graph=False, train_mode=True)
"""
)
"""Functions of ``glueball.autograd``."""


INITIALIZERS = _table(
    """
Zero()
One()
Constant(value)
Uniform(scale=0.07)
Normal(sigma=0.01)
Orthogonal(scale=1.414, rand_type="uniform")
Xavier(rnd_type="uniform", factor_type="avg", magnitude=3)
MSRAPrelu(factor_type="avg", slope=0.25)
Bilinear()
Mixed(patterns, initializers)
"""
)
"""Classes of ``glueball.init``, in NumPy for both backends."""

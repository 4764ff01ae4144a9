"""Blocks: names, parameters, deferred shapes, sharing, modes, files, compiling. The same on both backends."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from glueball import autograd, backend, init, nn, ops, rnn
from glueball.errors import BackendError, GlueballError, OptionError

DATA = np.random.Generator(np.random.Philox(5)).standard_normal((2, 3, 8, 8)).astype(np.float32)
NAMES = [
    "features.0.weight",
    "features.1.gamma",
    "features.1.beta",
    "features.1.running_mean",
    "features.1.running_var",
    "output.weight",
    "output.bias",
]
GLOBAL_NAMES = [
    "conv0_weight",
    "batchnorm0_gamma",
    "batchnorm0_beta",
    "batchnorm0_running_mean",
    "batchnorm0_running_var",
    "dense0_weight",
    "dense0_bias",
]


class Net(nn.HybridBlock):  # type: ignore[misc, name-defined]
    """A network in the way in which the official models are written."""

    def __init__(self, classes: int = 5, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.features = nn.HybridSequential(prefix="")
            with self.features.name_scope():
                self.features.add(
                    nn.Conv2D(4, 3, use_bias=False),
                    nn.BatchNorm(scale=False, center=False),
                    nn.Activation("relu"),
                    nn.GlobalAvgPool2D(),
                )
            self.output = nn.Dense(classes)

    def hybrid_forward(self, F: Any, x: Any) -> Any:
        return self.output(F.Flatten(self.features(x)))


def made(**keywords: Any) -> Any:
    net = Net(**keywords)
    net.initialize(init.Xavier())
    return net


def values(array: Any) -> np.ndarray:
    return backend.current().numpy(array)


def on_torch() -> Any:
    return pytest.importorskip("torch") if backend.current().name == "torch" else pytest.skip("a tool of PyTorch")


# -- names ------------------------------------------------------------------------------------------------------------


def test_structural_names() -> None:
    assert list(backend.current().parameters(Net())) == NAMES


def test_global_names_count_by_kind_within_the_scope() -> None:
    net = Net()
    assert re.fullmatch(r"net\d+_", net.prefix)
    assert net.name == net.prefix[:-1]
    assert list(net.collect_params()) == [net.prefix + name for name in GLOBAL_NAMES]
    assert list(Net(prefix="resnet_").collect_params()) == ["resnet_" + name for name in GLOBAL_NAMES]


def test_siblings_and_nested_scopes_are_numbered() -> None:
    net = nn.HybridSequential(prefix="a_")
    with net.name_scope():
        inner = nn.HybridSequential(prefix="stage1_")
        with inner.name_scope():
            inner.add(nn.Conv2D(2, 1), nn.Conv2D(2, 1), nn.Conv2DTranspose(2, 1))
        net.add(inner, nn.Conv2D(2, 1), nn.Dense(2), nn.Dense(2))
    assert [name for name in net.collect_params() if name.endswith("weight")] == [
        "a_stage1_conv0_weight",
        "a_stage1_conv1_weight",
        "a_stage1_conv2_weight",
        "a_conv0_weight",
        "a_dense0_weight",
        "a_dense1_weight",
    ]


def test_selection_by_global_name() -> None:
    selected = made(prefix="n_").collect_params(".*_weight|.*gamma")
    assert list(selected) == ["n_conv0_weight", "n_batchnorm0_gamma", "n_dense0_weight"]


# -- parameters -------------------------------------------------------------------------------------------------------


def test_shapes_are_told_by_the_first_pass() -> None:
    net = made()
    weight = net.features[0].weight
    assert tuple(weight.shape) == (4, 0, 3, 3)
    with pytest.raises(Exception, match=r"(?i)conv0_weight.*(first forward|forward pass|not been initialized)"):
        weight.data()
    assert net(DATA).shape == (2, 5)
    assert tuple(weight.shape) == (4, 3, 3, 3)


def test_a_network_must_be_initialized() -> None:
    with pytest.raises(RuntimeError, match=r"not been initiali[sz]ed"):
        Net()(DATA)


@pytest.mark.parametrize("make", [Net, made], ids=["never initialised", "shapes unknown"])
def test_a_network_without_values_is_not_saved(make, tmp_path) -> None:
    """A file that lacks parameters would look like a good one until somebody needs it."""
    with pytest.raises(RuntimeError, match=r"(?i)(not been initiali[sz]ed|were not initialized|first forward)"):
        make().save_parameters(str(tmp_path / "half.params"))
    assert not (tmp_path / "half.params").exists()


def test_fixed_gamma_is_kept_saved_and_counts_as_one() -> None:
    net = made()
    net(DATA)
    layer = net.features[1]
    assert layer.gamma.grad_req == layer.beta.grad_req == "null"
    before = values(net(DATA))
    layer.gamma.set_data(backend.current().array(np.full(4, 7.0)))
    np.testing.assert_array_equal(values(net(DATA)), before)
    layer.beta.set_data(backend.current().array(np.full(4, 7.0)))
    assert (values(net(DATA)) != before).any()


def test_gradients_are_overwritten_or_added() -> None:
    net = made()
    net(DATA)

    def gradient() -> np.ndarray:
        with autograd.record():
            output = net(DATA)
        autograd.backward(output)
        return values(net.output.weight.grad()).copy()

    once = gradient()
    np.testing.assert_array_equal(gradient(), once)
    net.output.weight.grad_req = "add"
    net.output.weight.zero_grad()
    gradient()
    np.testing.assert_allclose(gradient(), 2 * once, rtol=1e-6)
    net.output.weight.grad_req = "null"
    with pytest.raises(Exception, match=r"(?i)grad"):
        net.output.weight.grad()


def test_multipliers_and_initializer_of_one_parameter() -> None:
    net = Net()
    for parameter in net.output.collect_params().values():
        parameter.lr_mult, parameter.wd_mult = 10.0, 0.0
    net.output.weight.init = init.Constant(0.5)
    net.initialize()
    net(DATA)
    parameters = backend.current().parameters(net)
    assert parameters["output.bias"].lr_mult == 10.0
    assert parameters["output.weight"].wd_mult == 0.0
    assert (values(parameters["output.weight"].data()) == 0.5).all()


def test_shared_parameters_are_one() -> None:
    first = nn.Dense(3, prefix="shared_")
    second = nn.Dense(3, params=first.params)
    net = nn.HybridSequential()
    net.add(first, second)
    net.initialize(init.Xavier())
    net(np.ones((1, 3), dtype=np.float32))
    assert len(list(net.collect_params())) == 2
    assert list(backend.current().parameters(net)) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    first.weight.set_data(backend.current().array(np.eye(3)))
    np.testing.assert_array_equal(values(second.weight.data()), np.eye(3))


def test_sharing_checks_the_shape() -> None:
    first = nn.Dense(3, in_units=4, prefix="checked_")
    with pytest.raises((AssertionError, GlueballError), match=r"checked_weight"):
        nn.Dense(3, in_units=5, params=first.params)


def test_initialize_keeps_what_has_values() -> None:
    net = made()
    net(DATA)
    before = values(net.output.weight.data()).copy()
    net.output = nn.Dense(2)
    net.output.initialize(init.Constant(1.0))
    net(DATA)
    kept = values(net.features[0].weight.data()).copy()
    net.initialize(init.Constant(3.0), force_reinit=True)
    assert before.shape == (5, 4)
    assert (values(net.features[0].weight.data()) == 3).all()
    assert (kept != 3).any()


def test_a_new_head_takes_the_old_ones_place() -> None:
    net = made()
    net(DATA)
    net.output = nn.Dense(10)
    net.output.initialize()
    assert net(DATA).shape == (2, 10)
    assert list(backend.current().parameters(net)) == NAMES


# -- containers -------------------------------------------------------------------------------------------------------


def test_sequential_is_a_sequence() -> None:
    features = made().features
    assert len(features) == 4
    assert [type(layer).__name__ for layer in features] == ["Conv2D", "BatchNorm", "Activation", "GlobalAvgPool2D"]
    assert features[-1] is features[3]
    part = features[:2]
    assert len(part) == 2
    assert part[0] is features[0]
    assert type(part) is type(features)


def test_blocks_that_are_not_hybrid() -> None:
    both = nn.Concurrent(axis=1)
    both.add(nn.Lambda(lambda x: x * 2), nn.Lambda("relu"))
    net = nn.Sequential()
    net.add(both, nn.Flatten())
    net.initialize()
    data = np.array([[-1.0, 2.0]], dtype=np.float32)
    np.testing.assert_array_equal(values(net(data)), [[-2, 4, 0, 2]])


def test_arrays_of_numpy_are_taken() -> None:
    net = made()
    assert values(net(DATA.astype(np.float64))).dtype == np.float32
    embedding = nn.Embedding(4, 2)
    embedding.initialize()
    assert embedding(np.array([[1, 3]])).shape == (1, 2, 2)


# -- modes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deferred", [False, True])
def test_arrays_of_numpy_follow_a_cast(deferred: bool) -> None:
    net = made()
    if not deferred:
        net(DATA)
    net.cast("float64")
    for kind in (np.float16, np.float32, np.float64):
        found = backend.current().numpy(net(DATA.astype(kind)))
        assert found.dtype == np.float64
    net.cast("float32")
    assert backend.current().numpy(net(DATA.astype(np.float64))).dtype == np.float32


@pytest.mark.filterwarnings("error")
def test_arrays_of_numpy_in_any_layout_are_taken() -> None:
    net = made()
    expected = backend.current().numpy(net(DATA))
    read_only = DATA.copy()
    read_only.flags.writeable = False
    others = {
        "read-only": read_only,
        "big-endian": DATA.astype(">f4"),
        "big-endian float64": DATA.astype(">f8"),
        "backwards": DATA[::-1].copy()[::-1],
        "Fortran": np.asfortranarray(DATA),
        "broadcast": np.broadcast_to(DATA, DATA.shape),
    }
    for name, data in others.items():
        before = data.copy()
        np.testing.assert_allclose(backend.current().numpy(net(data)), expected, atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(data, before)


def test_one_pass_settles_what_other_tools_ask_for() -> None:
    """docs/dialect.md promises it to users of DistributedDataParallel."""
    is_lazy = on_torch().nn.parameter.is_lazy
    net = made()
    assert any(is_lazy(one) for one in net.parameters())
    with autograd.pause():
        net(DATA[:1])
    assert not any(is_lazy(one) for one in [*net.parameters(), *net.buffers()])


def test_integers_of_numpy_stay_integers() -> None:
    net = nn.Embedding(5, 3)
    net.initialize()
    expected = backend.current().numpy(net(np.array([[1, 4]], np.int64)))
    for kind in ("int32", ">i8", "uint8", "uint16", ">u4"):
        np.testing.assert_array_equal(backend.current().numpy(net(np.array([[1, 4]], kind))), expected)


@pytest.mark.skipif(backend.current().name == "mxnet", reason="MXNet takes 0 for a size that is not known yet")
def test_a_batch_without_samples() -> None:
    net = nn.HybridSequential()
    net.add(nn.Conv2D(4, 3), nn.BatchNorm(), nn.MaxPool2D(), nn.Flatten(), nn.Dense(6, activation="relu"), nn.Dense(2))
    net.initialize()
    empty = DATA[:0]
    assert tuple(net(empty).shape) == (0, 2)  # shapes that were not known are told by it, too
    assert tuple(net(DATA).shape) == (2, 2)
    before = backend.current().get_arrays(net)
    with autograd.record():
        result = net(backend.current().array(empty)).sum()
    autograd.backward(result)
    for name, values in backend.current().get_arrays(net).items():
        np.testing.assert_array_equal(values, before[name], err_msg=name)
        assert np.isfinite(values).all()
    dense = nn.Dense(3)
    dense.initialize()
    assert tuple(dense(np.zeros((0, 2, 5), np.float32)).shape) == (0, 3)
    array = backend.current().array(np.zeros((0, 4, 3, 2), np.float32))
    for codes, shape in (((0, -1), (0, 24)), ((-1, 12, 2), (0, 12, 2)), ((0, 2, -1, 2), (0, 2, 6, 2))):
        assert tuple(ops.reshape(array, shape=codes).shape) == shape


def test_a_new_network_predicts() -> None:
    net = made()
    net(DATA)
    statistics = values(net.features[1].running_mean.data()).copy()
    net(DATA)
    np.testing.assert_array_equal(values(net.features[1].running_mean.data()), statistics)
    assert not autograd.is_training()


def test_scopes_nest() -> None:
    assert (autograd.is_recording(), autograd.is_training()) == (False, False)
    with autograd.record():
        assert (autograd.is_recording(), autograd.is_training()) == (True, True)
        with autograd.pause():
            assert (autograd.is_recording(), autograd.is_training()) == (False, False)
        with autograd.predict_mode():
            assert (autograd.is_recording(), autograd.is_training()) == (True, False)
    with autograd.train_mode():
        assert (autograd.is_recording(), autograd.is_training()) == (False, True)
    assert (autograd.is_recording(), autograd.is_training()) == (False, False)


def test_gradients_are_also_returned() -> None:
    parameter = nn.Parameter("x", shape=(3,), init="ones")
    parameter.initialize()
    with autograd.record():
        output = parameter.data() * parameter.data()
    found = autograd.grad([output], [parameter.data()])
    np.testing.assert_array_equal(values(found[0]), [2, 2, 2])


# -- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".params", ".safetensors"])
def test_parameters_travel_through_files(tmp_path: Path, suffix: str) -> None:
    net = made()
    expected = values(net(DATA))
    path = tmp_path / f"net{suffix}"
    net.save_parameters(path)
    other = Net()
    other.load_parameters(path)
    np.testing.assert_allclose(values(other(DATA)), expected, rtol=1e-6)


def test_summary_shows_every_layer(capsys: pytest.CaptureFixture[str]) -> None:
    net = made()
    net.summary(DATA)
    printed = capsys.readouterr().out
    assert "Conv2D" in printed
    assert "Dense" in printed
    # 4·3·3·3 of the convolution, 4·4 of the normalisation, 5·4+5 of the head.
    assert str(108 + 16 + 25) in printed


def test_cast_keeps_statistics_in_float32() -> None:
    net = made()
    net(DATA)
    net.cast("float16")
    kinds = {name: np.dtype(one.dtype) for name, one in backend.current().parameters(net).items()}
    assert kinds["features.0.weight"] == np.float16
    assert kinds["features.1.running_var"] == np.float32


@pytest.mark.parametrize("make", [made, lambda: nn.Dense(2, in_units=3), lambda: rnn.LSTM(2, input_size=3)])
def test_a_cast_to_bfloat16_works_or_names_what_does(make: Any) -> None:
    net = make()
    if backend.current().name == "torch":
        net.cast("bfloat16")
        kinds = {str(one.dtype) for one in backend.current().parameters(net).values()}
        assert any("bfloat16" in kind for kind in kinds)
        return
    with pytest.raises(BackendError, match=r'bfloat16.*Leave the network in float32.*precision="bfloat16"'):
        net.cast("bfloat16")
    assert {np.dtype(one.dtype) for one in backend.current().parameters(net).values()} == {np.dtype(np.float32)}


def test_a_cast_to_no_data_type_is_refused() -> None:
    with pytest.raises(OptionError, match="float8"):
        made().cast("float8")


# -- PyTorch's own tools ----------------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiles_without_a_break() -> None:
    torch = on_torch()
    net = made()
    data = torch.from_numpy(DATA)
    # Also before the first eager call, once every parameter has its shape.
    ready = nn.HybridSequential()
    ready.add(nn.Conv2D(4, 3, in_channels=3), nn.BatchNorm(in_channels=4), nn.MaxPool2D(2, 2, ceil_mode=True))
    ready.initialize()
    torch.compile(ready, fullgraph=True, backend="eager")(data)
    net(DATA)
    compiled = torch.compile(net, fullgraph=True, backend="aot_eager", dynamic=False)
    expected = net(data)
    torch.testing.assert_close(compiled(data), expected)
    moved = net.features[1].running_mean.data().clone()
    with autograd.record():
        compiled(data).sum().backward()
    # The compiled network followed the scope: its statistics moved, and moved as much as eagerly.
    assert not torch.equal(net.features[1].running_mean.data(), moved)
    torch.testing.assert_close(compiled(data), net(data))


def test_hybridize_waits_for_shapes_and_returns() -> None:
    net = made()
    flags = {"backend": "eager"} if backend.current().name == "torch" else {}
    net.hybridize(**flags)
    first = values(net(DATA))
    np.testing.assert_allclose(values(net(DATA)), first, rtol=1e-5, atol=1e-6)
    net.hybridize(False)
    np.testing.assert_allclose(values(net(DATA)), first, rtol=1e-5, atol=1e-6)


def test_many_networks_are_compiled() -> None:
    """All blocks share the code of __call__, whose recompilations PyTorch counts."""
    torch = on_torch()
    for size in range(12):
        net = nn.HybridSequential()
        net.add(*(nn.Activation("relu") for _ in range(size + 1)))
        net.hybridize(fullgraph=True, backend="eager")
        net(torch.zeros(2))


def test_state_dict_has_structural_names() -> None:
    torch = on_torch()
    net = made()
    net(DATA)
    assert sorted(net.state_dict()) == sorted(NAMES)
    other = made()
    other(DATA)
    other.load_state_dict(net.state_dict())
    torch.testing.assert_close(other(DATA), net(DATA))


def test_deep_copies_are_apart_and_whole() -> None:
    torch = on_torch()
    import copy

    net = made()
    net(DATA)
    other = copy.deepcopy(net)
    torch.testing.assert_close(other(DATA), net(DATA))
    other.output.weight.set_data(np.zeros((5, 4), dtype=np.float32))
    assert net.output.weight.data().abs().sum() > 0
    assert other.output.weight.data() is dict(other.named_parameters())["output.weight"]
    waiting = made()
    waiting.output.weight.grad_req = "add"
    other = copy.deepcopy(waiting)
    assert other(DATA).shape == (2, 5)
    for _ in range(2):
        with autograd.record():
            output = other(DATA)
        autograd.backward(output)
    # The bias was written twice, the weight's two equal gradients were added.
    np.testing.assert_allclose(values(other.output.bias.grad()), 2.0)
    single = torch.autograd.grad(other(DATA).sum(), other.output.weight.data())[0]
    assert (other.output.weight.grad() - single).abs().max() > 1e-3


def test_modules_of_pytorch_are_children() -> None:
    torch = on_torch()

    class Mixed(nn.HybridBlock):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.stem = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
            self.head = nn.Dense(2)

        def hybrid_forward(self, F: Any, x: Any) -> Any:
            return self.head(self.stem(x))

    net = Mixed()
    net.initialize()
    assert not net.stem[1].training
    assert net(DATA).shape == (2, 2)
    names = list(backend.current().parameters(net))
    assert names[:4] == ["stem.0.weight", "stem.0.bias", "stem.1.weight", "stem.1.bias"]
    outer = torch.nn.Sequential(net, torch.nn.ReLU()).train()
    assert net.stem[1].training
    assert outer(torch.from_numpy(DATA)).min() >= 0


def test_module_train_reaches_layers_and_functions() -> None:
    torch = on_torch()

    class Dropping(nn.HybridBlock):  # type: ignore[misc, name-defined]
        def hybrid_forward(self, F: Any, x: Any) -> Any:
            return F.Dropout(x, p=0.5)

    net, data = Dropping(), torch.ones(200)
    assert (net(data) == 1).all()
    net.train()
    assert (net(data) == 0).any()
    # A scope outranks the flag.
    with autograd.predict_mode():
        assert (net(data) == 1).all()


def test_shared_statistics_stay_shared_when_moved() -> None:
    torch = on_torch()
    first = nn.BatchNorm(in_channels=2, prefix="norm_")
    second = nn.BatchNorm(in_channels=2, params=first.params)
    net = nn.HybridSequential()
    net.add(first, second)
    net.initialize()
    net.to(torch.float64)
    assert first.running_mean.data() is second.running_mean.data()
    assert first.running_mean.data().dtype == torch.float64
    assert first.running_mean.data() is dict(net.named_buffers(remove_duplicate=False))["1.running_mean"]


def test_functions_of_pytorch_take_parameters() -> None:
    torch = on_torch()
    layer = nn.Dense(2, in_units=3, weight_initializer=init.Constant(2.0))
    layer.initialize()
    assert torch.sum(layer.weight).item() == 12
    assert layer.weight.requires_grad
    assert layer.weight.numel() == 6


def test_export_runs_without_glueball(tmp_path: Path) -> None:
    torch = on_torch()
    net = made()
    net.hybridize(backend="eager")
    expected = net(DATA)
    graph, weights = net.export(tmp_path / "net", epoch=3)
    assert (Path(graph).name, Path(weights).name) == ("net-0003.pt2", "net-0003.params")
    exported = torch.export.load(graph).module()
    torch.testing.assert_close(exported(torch.from_numpy(DATA)), expected)
    assert exported(torch.zeros(5, 3, 8, 8)).shape == (5, 5)
    assert Path(weights).stat().st_size > 0


def test_export_asks_for_inputs(tmp_path: Path) -> None:
    on_torch()
    with pytest.raises(GlueballError, match="hybridize the network and call it once"):
        made().export(tmp_path / "net")


def test_running_variance_is_biased() -> None:
    layer = nn.BatchNorm(momentum=0.75, in_channels=1)
    layer.initialize()
    with autograd.record():
        output = layer(np.arange(4, dtype=np.float32).reshape(4, 1))
    autograd.backward(output)
    values(output)
    # 0.75 · 1 + 0.25 · 1.25, where PyTorch's own layer would take the unbiased 1.667.
    np.testing.assert_allclose(values(layer.running_var.data()), [0.75 + 0.25 * 1.25], rtol=1e-6)
    np.testing.assert_allclose(values(layer.running_mean.data()), [0.25 * 1.5], rtol=1e-6)


def test_one_value_per_channel_normalizes_to_beta() -> None:
    on_torch()  # MXNet agrees, after which its oneDNN kernel may divide by 0 in the gradient.
    layer = nn.BatchNorm(in_channels=2, beta_initializer=init.Constant(3.0))
    layer.initialize()
    with autograd.record():
        output = layer(np.ones((1, 2), dtype=np.float32))
    np.testing.assert_array_equal(values(output), [[3, 3]])

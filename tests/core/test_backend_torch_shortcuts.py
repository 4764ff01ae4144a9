"""Two shortcuts of the torch backend: they save time and memory, and nobody may see them in a value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from glueball import backend

if backend.current().name != "torch":
    pytest.skip("they are shortcuts of torch", allow_module_level=True)

import torch

from glueball import nn
from glueball.backend.torch.ops import depthwise


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation"),
    [
        ((8, 8), (3, 3), (2, 2), (1, 1), (1, 1)),
        ((9, 7), (3, 3), (2, 2), (1, 1), (1, 1)),
        ((9, 10), (5, 3), (3, 2), (2, 0), (1, 1)),
        ((12, 11), (3, 3), (2, 1), (2, 2), (2, 2)),
        ((8, 8), (1, 1), (2, 2), (0, 0), (1, 1)),
        ((7, 7), (2, 2), (4, 4), (0, 0), (1, 1)),
    ],
)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_strided_depthwise_gradients(
    size: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...],
    dilation: tuple[int, ...],
    memory_format: Any,
) -> None:
    torch.manual_seed(0)
    data = torch.randn(2, 16, *size).to(memory_format=memory_format)
    weight, bias = torch.randn(16, 1, *kernel), torch.randn(16)
    results = []
    for convolve in (depthwise.conv2d, torch.nn.functional.conv2d):
        leaves = [array.bfloat16().requires_grad_() for array in (data, weight, bias)]
        output = convolve(*leaves, stride, padding, dilation, 16)
        assert (convolve is depthwise.conv2d) == ("Strided" in str(output.grad_fn.next_functions[0][0]))
        output.backward(torch.linspace(-1, 1, output.numel()).bfloat16().view(output.shape))
        results.append([output.detach(), *(leaf.grad for leaf in leaves)])
    for ours, reference in zip(*results, strict=True):
        assert ours.shape == reference.shape
        torch.testing.assert_close(ours.float(), reference.float(), rtol=2**-7, atol=2**-6)


def test_strided_depthwise_under_autocast_and_twice_differentiable() -> None:
    torch.manual_seed(0)
    data, weight = torch.randn(2, 16, 8, 8, requires_grad=True), torch.randn(16, 1, 3, 3, requires_grad=True)
    geometry = ((2, 2), (1, 1), (1, 1), 16)
    with torch.autocast("cpu", torch.bfloat16):
        output = depthwise.conv2d(data, weight, None, *geometry)
    assert output.dtype == torch.bfloat16
    (gradient,) = torch.autograd.grad(output.float().square().sum(), data, create_graph=True)
    assert gradient.dtype == torch.float32
    (second,) = torch.autograd.grad(gradient.square().sum(), weight)

    reference = torch.nn.functional.conv2d(data, weight, None, *geometry)
    (wanted,) = torch.autograd.grad(reference.square().sum(), data, create_graph=True)
    (wanted_second,) = torch.autograd.grad(wanted.square().sum(), weight)
    torch.testing.assert_close(gradient, wanted, rtol=0.05, atol=0.3)
    assert (second - wanted_second).norm() < 0.03 * wanted_second.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_other_precisions_and_inference_take_the_ordinary_way(dtype: torch.dtype) -> None:
    data, weight = torch.randn(1, 4, 8, 8, dtype=dtype, requires_grad=True), torch.randn(4, 1, 3, 3, dtype=dtype)
    output = depthwise.conv2d(data, weight, None, (2, 2), (1, 1), (1, 1), 4)
    assert "Convolution" in str(output.grad_fn)
    with torch.no_grad():
        low = depthwise.conv2d(data.bfloat16(), weight.bfloat16(), None, (2, 2), (1, 1), (1, 1), 4)
    assert low.grad_fn is None


def _network() -> Any:
    network = nn.HybridSequential()
    network.add(nn.Conv2D(4, 3, in_channels=2), nn.BatchNorm(in_channels=4), nn.Activation("relu"), nn.Dense(3))
    network.initialize()
    network(torch.zeros(1, 2, 6, 6))
    return network


def test_relu_after_batch_norm_overwrites_and_changes_no_value() -> None:
    torch.manual_seed(0)
    network, data = _network(), torch.randn(4, 2, 6, 6)
    results = []
    seen: list[torch.Tensor] = []

    def watch(module: Any, inputs: Any, output: torch.Tensor) -> None:
        seen.append(output)

    for is_watched in (False, True):
        network.train()
        network.zero_grad()
        network[1].running_mean.set_data(np.zeros(4, np.float32))
        network[1].running_var.set_data(np.ones(4, np.float32))
        # Whoever watches the layer must find what it gave, so the shortcut is not taken.
        handles = [network[1].register_forward_hook(watch)] if is_watched else []
        network(data).square().sum().backward()
        results.append([parameter.grad.clone() for parameter in network.parameters()])
        for handle in handles:
            handle.remove()
    assert float(seen[0].detach().min()) < 0
    for ours, reference in zip(*results, strict=True):
        assert torch.equal(ours, reference)


def test_only_the_output_of_a_batch_norm_is_overwritten() -> None:
    """A layer whose gradient needs its own output, or whose output is its input, keeps it."""

    class Keeping(nn.BatchNorm):
        def forward(self, *inputs: Any) -> Any:
            self.kept = super().forward(*inputs)
            return self.kept

    data = torch.randn(4, 2, 6, 6)
    network = nn.HybridSequential()
    network.add(nn.Identity(), nn.Activation("relu"), Keeping(in_channels=2), nn.Activation("relu"))
    network.initialize()
    network.train()
    before = data.clone()
    network(data)
    assert torch.equal(data, before)
    assert float(network[2].kept.detach().min()) < 0
    network = nn.HybridSequential()
    network.add(nn.BatchNorm(in_channels=2), nn.Activation("sigmoid"), nn.Activation("relu"))
    network.initialize()
    network.train()
    leaf = data.clone().requires_grad_()
    network(leaf).sum().backward()
    assert leaf.grad is not None

"""Losses: against NumPy on the selected backend, and against Gluon's and GluonCV's own where these are installed."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import glueball
from glueball import autograd, backend
from glueball.builtin import losses
from glueball.errors import OptionError

CLASSES = 7
RANDOM = np.random.default_rng(1)
SCORES = RANDOM.normal(0, 3, (9, CLASSES)).astype(np.float32)
LABELS = RANDOM.integers(0, CLASSES, 9)
SOFT = RANDOM.dirichlet(np.ones(CLASSES), 9).astype(np.float32)


def log_softmax(scores: np.ndarray) -> np.ndarray:
    scores = scores.astype(np.float64) - scores.max(axis=1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def cross_entropy(scores: np.ndarray, labels: np.ndarray, smoothing: float = 0.0) -> np.ndarray:
    targets = np.eye(CLASSES)[labels] if labels.ndim == 1 else labels.astype(np.float64)
    targets = (1 - smoothing) * targets + smoothing / CLASSES
    return -(targets * log_softmax(scores)).sum(axis=1)


def computed(loss: Any, *arrays: np.ndarray) -> np.ndarray:
    selected = backend.current()
    return selected.numpy(loss(*(selected.array(array) for array in arrays)))


def mxnet() -> ModuleType:
    """MXNet, imported through Glueball, which puts back what it needs of NumPy."""
    if backend.current().name != "mxnet":
        pytest.skip("compares with MXNet, which is not the selected backend (GLUEBALL_BACKEND=mxnet)")
    return importlib.import_module("mxnet")


def test_registered_losses_are_found() -> None:
    assert glueball.list_losses(plugin="core") == ["distillation", "softmax_cross_entropy"]
    loss = glueball.get_loss("softmax_cross_entropy", label_smoothing=0.1)
    assert np.allclose(computed(loss, SCORES, LABELS), cross_entropy(SCORES, LABELS, 0.1), rtol=1e-5)
    assert isinstance(glueball.get_loss("distillation"), losses.DistillationSoftmaxCrossEntropyLoss)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("labels", [LABELS, SOFT], ids=["sparse", "soft"])
def test_cross_entropy(labels: np.ndarray, smoothing: float) -> None:
    loss = losses.SoftmaxCrossEntropy(sparse_label=labels.ndim == 1, label_smoothing=smoothing)
    expected = cross_entropy(SCORES, labels, smoothing)
    assert computed(loss, SCORES, labels).shape == (9,)
    assert np.allclose(computed(loss, SCORES, labels), expected, rtol=1e-5)
    weights = np.arange(9, dtype=np.float32)
    assert np.allclose(computed(loss, SCORES, labels, weights), expected * weights, rtol=1e-5)


@pytest.mark.parametrize("hard_weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_distillation(temperature: float, hard_weight: float) -> None:
    loss = losses.DistillationSoftmaxCrossEntropyLoss(temperature, hard_weight, label_smoothing=0.1)
    soft = temperature**2 * cross_entropy(SCORES / temperature, SOFT)
    expected = (1 - hard_weight) * soft + hard_weight * cross_entropy(SCORES, LABELS, 0.1)
    assert np.allclose(computed(loss, SCORES, LABELS, SOFT), expected, rtol=1e-5)


def test_gradient_is_probability_minus_target() -> None:
    selected = backend.current()
    loss = losses.SoftmaxCrossEntropy(label_smoothing=0.1)
    scores = selected.array(SCORES)
    if hasattr(scores, "attach_grad"):
        scores.attach_grad()
    else:
        scores.requires_grad_()
    with autograd.record():
        value = loss(scores, selected.array(LABELS))
    autograd.backward([value])
    targets = 0.9 * np.eye(CLASSES)[LABELS] + 0.1 / CLASSES
    assert np.allclose(selected.numpy(scores.grad), np.exp(log_softmax(SCORES)) - targets, atol=1e-6)


def test_large_scores_stay_finite() -> None:
    huge = np.array([[1e4, -1e4] + [0.0] * (CLASSES - 2)], np.float32)
    assert computed(losses.SoftmaxCrossEntropy(), huge, np.array([1]))[0] == pytest.approx(2e4)
    assert computed(losses.SoftmaxCrossEntropy(), huge, np.array([0]))[0] == pytest.approx(0.0, abs=1e-5)


def test_losses_are_hybridized_without_a_change() -> None:
    for loss, arrays in (
        (losses.SoftmaxCrossEntropy(label_smoothing=0.1), (SCORES, LABELS)),
        (losses.DistillationSoftmaxCrossEntropyLoss(2.0, 0.5), (SCORES, LABELS, SOFT)),
    ):
        expected = computed(loss, *arrays)
        if backend.current().name == "mxnet":
            # On PyTorch this starts a compiler, which takes longer than all other tests here; the engine's tests do.
            loss.hybridize()
        assert np.allclose(computed(loss, *arrays), expected, rtol=1e-6)


def test_impossible_options_are_refused() -> None:
    with pytest.raises(OptionError, match="label_smoothing from 0 to 1"):
        losses.SoftmaxCrossEntropy(label_smoothing=1.5)
    with pytest.raises(OptionError, match="temperature above 0"):
        losses.DistillationSoftmaxCrossEntropyLoss(temperature=0)
    with pytest.raises(OptionError, match="hard_weight from 0 to 1"):
        losses.DistillationSoftmaxCrossEntropyLoss(hard_weight=-0.1)


@pytest.mark.parametrize("labels", [LABELS, SOFT], ids=["sparse", "soft"])
def test_cross_entropy_is_gluons(labels: np.ndarray) -> None:
    mx = mxnet()
    theirs = mx.gluon.loss.SoftmaxCrossEntropyLoss(sparse_label=labels.ndim == 1)
    expected = theirs(mx.nd.array(SCORES), mx.nd.array(labels)).asnumpy()
    ours = losses.SoftmaxCrossEntropy(sparse_label=labels.ndim == 1)
    assert np.allclose(computed(ours, SCORES, labels), expected, rtol=1e-6)


@pytest.mark.parametrize(("temperature", "hard_weight"), [(1, 0.5), (20, 0.5), (2.5, 0), (3, 1)])
def test_distillation_is_gluoncvs(temperature: float, hard_weight: float) -> None:
    mx = mxnet()
    if importlib.util.find_spec("gluoncv") is None:
        pytest.skip("compares with GluonCV, which is not installed")
    with warnings.catch_warnings():
        # It tells which of the two libraries it was written for are missing.
        warnings.simplefilter("ignore")
        module = importlib.import_module("gluoncv.loss")
    theirs = module.DistillationSoftmaxCrossEntropyLoss(temperature, hard_weight)
    expected = theirs(mx.nd.array(SCORES), mx.nd.array(LABELS), mx.nd.array(SOFT)).asnumpy()
    ours = losses.DistillationSoftmaxCrossEntropyLoss(temperature, hard_weight)
    assert np.allclose(computed(ours, SCORES, LABELS, SOFT), expected, rtol=1e-5)

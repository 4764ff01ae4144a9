"""GluonCV's side of the sweep: builds a model, makes up its weights, writes what it computes.

For a request {"model", "inference_size", "calibration_size", "train_size", "batch", "folder"} it writes into ``folder``
two files of GluonCV, ``inference.params`` and ``training.params``, and ``record.npz`` with the input and output of
inference (``inference_data``, ``inference_output``) and, for each precision, of a training step: ``train_data``,
``train_label``, ``<precision>:loss``, the gradient of every parameter (``<precision>:gradient:<key>``) and the running
statistics after the step (``<precision>:statistic:<key>``).

Runs in an environment with mxnet 1.9.1 and gluoncv 0.10.5.post0, and imports nothing of Glueball.
"""

from __future__ import annotations

import importlib.metadata
import os
import sys
import warnings
import zlib
from typing import Any

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from workers import serve

warnings.filterwarnings("ignore")
for _name in ("bool", "int", "float", "object", "str", "complex"):
    # MXNet 1.9.1 uses aliases that NumPy has dropped since.
    if _name not in vars(np):
        setattr(np, _name, __builtins__.__dict__[_name])

import gluoncv  # noqa: E402 - only after the aliases
import mxnet as mx  # noqa: E402


def _blocks(block: Any) -> list[Any]:
    found = [block]
    for child in block._children.values():
        found += _blocks(child)
    return found


def _random_parameters(network: Any, random: np.random.Generator) -> None:
    """Weights that keep activations near 1 through rectified layers (arXiv:1502.01852), the rest near usual values."""
    for key, parameter in network._collect_params_with_prefix().items():
        shape = parameter.shape
        if key.endswith("weight"):
            values = random.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape)
        elif key.endswith(("gamma", "running_var")):
            values = random.uniform(0.7, 1.3, shape)
        else:
            values = random.normal(0, 0.1, shape)
        parameter.set_data(mx.nd.array(values))


def _calibrate(network: Any, data: Any, random: np.random.Generator) -> None:
    """Running statistics near those of ``data``, but not equal to them: arbitrary ones let deep networks explode."""
    norms = [block for block in _blocks(network) if isinstance(block, mx.gluon.nn.BatchNorm)]
    if not norms:
        return
    momenta = [norm._kwargs["momentum"] for norm in norms]
    for norm in norms:
        norm._kwargs["momentum"] = 0.0
    with mx.autograd.record():
        output = network(data)
    output.backward()
    for norm, momentum in zip(norms, momenta, strict=True):
        norm._kwargs["momentum"] = momentum
        mean, variance = norm.running_mean.data().asnumpy(), norm.running_var.data().asnumpy()
        deviation = np.sqrt(variance + 1e-5)
        norm.running_mean.set_data(mx.nd.array(mean + 0.1 * deviation * random.normal(size=mean.shape)))
        norm.running_var.set_data(mx.nd.array((variance + 1e-5) * random.uniform(0.8, 1.25, mean.shape)))
        # MXNet writes ones over a gamma that is fixed; the file shall hold something else, which no reader may use.
        if norm.gamma.grad_req == "null":
            norm.gamma.set_data(mx.nd.array(random.uniform(0.5, 2.0, mean.shape)))


def _network(model: str, size: tuple[int, ...], random: np.random.Generator) -> Any:
    """The model with random weights, as pictures of ``size`` (channels, height, width) shape it."""
    network = gluoncv.model_zoo.get_model(model, pretrained=False)
    network.initialize(mx.init.Zero())
    network.infer_shape(mx.nd.zeros((1, *size)))
    for block in _blocks(network):
        if isinstance(block, mx.gluon.nn.Dropout):
            block._rate = 0.0  # no two libraries draw the same mask
    for parameter in network.collect_params().values():
        parameter._finish_deferred_init()
    _random_parameters(network, random)
    return network


def _training_step(network: Any, data: np.ndarray, label: np.ndarray, precision: str) -> dict[str, np.ndarray]:
    with mx.autograd.record():
        output = network(mx.nd.array(data, dtype=precision))
        loss = mx.gluon.loss.SoftmaxCrossEntropyLoss()(output, mx.nd.array(label, dtype=precision))
    loss.backward()
    record = {f"{precision}:loss": loss.asnumpy()}
    for key, parameter in network._collect_params_with_prefix().items():
        if parameter.grad_req != "null":
            record[f"{precision}:gradient:{key}"] = parameter.grad().asnumpy()
        elif "running" in key:
            record[f"{precision}:statistic:{key}"] = parameter.data().asnumpy()
    return record


def _handle(request: dict[str, Any]) -> dict[str, Any]:
    random = np.random.default_rng(zlib.crc32(request["model"].encode()))
    batch, folder = request["batch"], request["folder"]
    data = random.normal(size=(batch, *request["inference_size"])).astype(np.float32)
    network = _network(request["model"], request["inference_size"], random)
    calibration = random.normal(size=(batch, *request["calibration_size"]))
    _calibrate(network, mx.nd.array(calibration), random)
    network.save_parameters(os.path.join(folder, "inference.params"))
    record = {"inference_data": data, "inference_output": network(mx.nd.array(data)).asnumpy()}

    data = random.normal(size=(batch, *request["train_size"])).astype(np.float32)
    label = random.integers(0, record["inference_output"].shape[1], batch).astype(np.float32)
    network = _network(request["model"], request["train_size"], random)
    path = os.path.join(folder, "training.params")
    network.save_parameters(path)
    record.update({"train_data": data, "train_label": label})
    record.update(_training_step(network, data, label, "float32"))
    network.load_parameters(path)
    network.cast("float64")
    record.update(_training_step(network, data, label, "float64"))
    np.savez(os.path.join(folder, "record.npz"), **record)
    return {"gluoncv": importlib.metadata.version("gluoncv"), "mxnet": mx.__version__}


if __name__ == "__main__":
    serve(_handle)

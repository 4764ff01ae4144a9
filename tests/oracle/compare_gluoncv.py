"""Glueball's side of the sweep: reads GluonCV's file and compares what it computes, on the selected backend.

A request {"model", "folder"} is answered with the largest deviations from ``record.npz``; ``run.py`` holds the bounds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from workers import serve

import glueball
from glueball import autograd, catalog, loss

# A bias before a batch norm has a gradient of exactly zero, of which each library computes other rounding errors.
# Errors are therefore relative to the tensor's own norm, or to this fraction of the mean gradient where that is larger.
_NEGLIGIBLE = 1e-3


def _relative(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference over largest value."""
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def _norm(values: np.ndarray) -> float:
    return float(np.linalg.norm(values.ravel().astype(np.float64)))


def _network(entry: Any, path: str, has_dropout: bool) -> Any:
    options = {"dropout": 0.0} if has_dropout else {}
    network = catalog.current().resolve(entry)(**options)
    network.load_parameters(path)
    return network


def _training_step(
    network: Any, file: Mapping[str, np.ndarray], expected: Mapping[str, np.ndarray], precision: str
) -> dict[str, Any]:
    """Deviations of one step; keys begin with ``precision``."""
    backend = glueball.backend.current()
    data = backend.array(expected["train_data"], dtype=precision)
    label = backend.array(expected["train_label"], dtype=precision)
    with autograd.record():
        losses = loss.SoftmaxCrossEntropyLoss()(network(data), label)
    autograd.backward(losses)

    parameters = backend.parameters(network)
    prefix = f"{precision}:gradient:"
    gradients = {key.removeprefix(prefix): value for key, value in expected.items() if key.startswith(prefix)}
    total = sum(_norm(value) ** 2 for value in gradients.values())
    mean = np.sqrt(total / sum(value.size for value in gradients.values()))
    worst, worst_name, squared_error = 0.0, "", 0.0
    for name, value in gradients.items():
        difference = _norm(backend.numpy(parameters[name].grad()) - value)
        squared_error += difference**2
        error = difference / max(_norm(value), _NEGLIGIBLE * mean * np.sqrt(value.size))
        if not error <= worst:  # also where it is not a number
            worst, worst_name = error, name

    arrays = backend.get_arrays(network)
    prefix = f"{precision}:statistic:"
    statistics = {key.removeprefix(prefix): value for key, value in expected.items() if key.startswith(prefix)}
    # MXNet updates running statistics in the backward pass, and none runs through a batch norm on the raw picture that
    # learns nothing itself (the first layer of the v2 networks): there its statistics stay at their first values for
    # ever, while on torch they are those of the pictures. What GluonCV did not update is therefore not compared.
    errors = [
        _relative(arrays[name], value)
        for name, value in statistics.items()
        if not np.array_equal(value, file[name].astype(value.dtype))
    ]
    return {
        f"{precision}_loss_error": _relative(backend.numpy(losses), expected[f"{precision}:loss"]),
        f"{precision}_gradient_error": float(np.sqrt(squared_error / total)),
        f"{precision}_worst_gradient_error": worst,
        f"{precision}_worst_gradient": worst_name,
        f"{precision}_statistics_error": max(errors, default=0.0),
    }


def _handle(request: dict[str, Any]) -> dict[str, Any]:
    backend = glueball.backend.current()
    entry = catalog.current().find("model", request["model"])
    folder = request["folder"]
    with np.load(os.path.join(folder, "record.npz")) as record:
        expected = dict(record)

    path = os.path.join(folder, "inference.params")
    network = _network(entry, path, request["has_dropout"])
    output = backend.numpy(network(expected["inference_data"]))
    names = list(backend.parameters(network))
    answer = {
        "tensors": len(names),
        "keys_equal": names == list(glueball.weights.load(path)),
        "output_error": _relative(output, expected["inference_output"]),
        "output_scale": float(np.abs(expected["inference_output"]).max()),
        "backend": f"{backend.name} {backend.version()}",
    }
    path = os.path.join(folder, "training.params")
    file = glueball.weights.load(path)
    for precision in ("float32", "float64"):
        network = _network(entry, path, request["has_dropout"])
        network.cast(precision)
        answer.update(_training_step(network, file, expected, precision))
    return answer


if __name__ == "__main__":
    serve(_handle)

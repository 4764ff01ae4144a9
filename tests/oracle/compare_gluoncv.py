"""Glueball's side of the sweep: reads GluonCV's file and compares what it computes, on the selected backend.

A request {"model", "folder"} is answered with the largest deviations from ``record.npz``; ``run.py`` holds the bounds.
"""

from __future__ import annotations

import os
import sys
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


def _handle(request: dict[str, Any]) -> dict[str, Any]:
    backend = glueball.backend.current()
    entry = catalog.current().find("model", request["model"])
    options = {"dropout": 0.0} if request["has_dropout"] else {}
    path = os.path.join(request["folder"], "model.params")
    file = glueball.weights.load(path)
    keys = list(file)

    network = catalog.current().resolve(entry)(**options)
    network.load_parameters(path)
    parameters = backend.parameters(network)
    with np.load(os.path.join(request["folder"], "record.npz")) as record:
        expected = dict(record)

    output = backend.numpy(network(expected["inference_data"]))

    data, label = backend.array(expected["train_data"]), backend.array(expected["train_label"])
    with autograd.record():
        losses = loss.SoftmaxCrossEntropyLoss()(network(data), label)
    autograd.backward(losses)

    gradients = {key: value for key, value in expected.items() if key.startswith("gradient:")}
    total = sum(_norm(value) ** 2 for value in gradients.values())
    mean = np.sqrt(total / sum(value.size for value in gradients.values()))
    worst, worst_key, squared_error = 0.0, "", 0.0
    for key, value in gradients.items():
        name = key.removeprefix("gradient:")
        difference = _norm(backend.numpy(parameters[name].grad()) - value)
        squared_error += difference**2
        error = difference / max(_norm(value), _NEGLIGIBLE * mean * np.sqrt(value.size))
        if not error <= worst:  # also where it is not a number
            worst, worst_key = error, name

    arrays = backend.get_arrays(network)
    # MXNet updates running statistics in the backward pass, and none runs through a batch norm on the raw picture that
    # learns nothing itself (the first layer of the v2 networks): there its statistics stay at their first values for
    # ever, while on torch they are those of the pictures. What GluonCV did not update is therefore not compared.
    updated = {
        key.removeprefix("statistic:"): value
        for key, value in expected.items()
        if key.startswith("statistic:") and not np.array_equal(value, file[key.removeprefix("statistic:")])
    }
    statistics = [_relative(arrays[name], value) for name, value in updated.items()]
    return {
        "tensors": len(parameters),
        "keys_equal": list(parameters) == keys,
        "output_error": _relative(output, expected["inference_output"]),
        "output_scale": float(np.abs(expected["inference_output"]).max()),
        "loss_error": _relative(backend.numpy(losses), expected["train_loss"]),
        "gradient_error": float(np.sqrt(squared_error / total)),
        "worst_gradient_error": worst,
        "worst_gradient": worst_key,
        "statistics_error": max(statistics, default=0.0),
        "backend": f"{backend.name} {backend.version()}",
    }


if __name__ == "__main__":
    serve(_handle)

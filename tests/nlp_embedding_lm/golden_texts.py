"""What the golden files of text classifiers have in common: the texts, what is computed of them, and how it is kept."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from glueball import autograd, backend, loss

FOLDER = Path(__file__).parent / "golden"

VOCAB, WIDTH, CLASSES = 23, 8, 4


def texts() -> tuple[np.ndarray, np.ndarray]:
    """Token ids (6, 9) and lengths: full, shorter than the widest filter, of one word, and empty."""
    ids = np.random.default_rng(3).integers(0, VOCAB, (6, 9)).astype(np.int32)
    return ids, np.array([9, 6, 4, 2, 1, 0], np.float32)


def computed(build: Callable[[str], Any], variants: Iterable[str]) -> dict[str, np.ndarray]:
    """``variant/logits`` and ``variant/gradient/parameter`` of every variant, in inference mode (nothing dropped)."""
    selected, results = backend.current(), {}
    ids, lengths = (selected.array(array) for array in texts())
    labels = selected.array(np.array([0, 1, 2, 3, 0, 1], np.float32))
    for variant in variants:
        network = build(variant)
        with autograd.record(train_mode=False):
            logits = network(ids, lengths)
            losses = loss.SoftmaxCrossEntropyLoss()(logits, labels)
        autograd.backward(losses)
        results[f"{variant}/logits"] = selected.numpy(logits)
        for name, parameter in selected.parameters(network).items():
            if parameter.grad_req != "null":
                results[f"{variant}/gradient/{name}"] = selected.numpy(parameter.grad())
    return results


def write(name: str, arrays: dict[str, np.ndarray]) -> None:
    """Writes ``golden/name.npz``."""
    FOLDER.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    path = FOLDER / f"{name}.npz"
    path.write_bytes(buffer.getvalue())
    print(f"{path}: {len(buffer.getvalue()):,} bytes")

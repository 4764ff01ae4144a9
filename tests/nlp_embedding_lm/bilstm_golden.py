"""Writes what the selected backend computes for the bi-LSTM classifier, for the other backend to be held against.

    GLUEBALL_BACKEND=mxnet python tests/nlp_embedding_lm/bilstm_golden.py

writes ``golden/bilstm_mxnet.npz`` and, as the backend saves them, the weights in ``golden/bilstm_mxnet.params``; all
four files are committed.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

import glueball
from glueball import autograd, backend, loss

FOLDER = Path(__file__).parent / "golden"

VOCAB, CLASSES = 23, 4
OPTIONS = {"vocab_size": VOCAB, "embed_size": 8, "classes": CLASSES, "hidden_size": 5, "attention_units": 6}

VARIANTS: dict[str, dict[str, Any]] = {"plain": {}, "hops": {"hops": 3}, "deep": {"num_layers": 2, "hops": 2}}


def build(variant: str) -> Any:
    """The network with weights that depend on nothing but the names of its parameters."""
    glueball.seed(5)
    return glueball.get_model("bilstm_attention", **OPTIONS, **VARIANTS[variant])


def texts() -> tuple[np.ndarray, np.ndarray]:
    """Token ids (6, 9) and lengths, from all to none."""
    ids = np.random.default_rng(3).integers(0, VOCAB, (6, 9)).astype(np.int32)
    return ids, np.array([9, 6, 4, 2, 1, 0], np.float32)


def compute() -> dict[str, np.ndarray]:
    """``variant/logits`` and ``variant/gradient/parameter`` of every variant, in inference mode (nothing dropped)."""
    selected, results = backend.current(), {}
    ids, lengths = (selected.array(array) for array in texts())
    labels = selected.array(np.array([0, 1, 2, 3, 0, 1], np.float32))
    for variant in VARIANTS:
        network = build(variant)
        with autograd.record(train_mode=False):
            logits = network(ids, lengths)
            losses = loss.SoftmaxCrossEntropyLoss()(logits, labels)
        autograd.backward(losses)
        results[f"{variant}/logits"] = selected.numpy(logits)
        for name, parameter in selected.parameters(network).items():
            results[f"{variant}/gradient/{name}"] = selected.numpy(parameter.grad())
    return results


def main() -> None:
    name = backend.current().name
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **compute())  # type: ignore[arg-type]
    (FOLDER / f"bilstm_{name}.npz").write_bytes(buffer.getvalue())
    build("deep").save_parameters(FOLDER / f"bilstm_{name}.params")
    print(f"{len(buffer.getvalue()):,} bytes")


if __name__ == "__main__":
    main()

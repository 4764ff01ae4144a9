"""Writes what the selected backend computes for the text classifiers, for the other backend to be held against.

    GLUEBALL_BACKEND=mxnet python tests/nlp_embedding_lm/model_golden.py

writes ``golden/mxnet.npz``. Both files are committed; ``test_text_models.py`` compares the running backend with each.
Weights come from Glueball's initialisers, which give both backends the same numbers.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

import glueball
from glueball import autograd, backend, loss

FOLDER = Path(__file__).parent / "golden"

VOCAB, WIDTH, CLASSES = 23, 8, 4

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{
        f"textcnn {mode}": ("textcnn", {"mode": mode, "num_filters": 6})
        for mode in ("rand", "static", "non-static", "multichannel")
    },
    "textcnn narrow": ("textcnn", {"wide": False, "num_filters": 6}),
    "textcnn filters": ("textcnn", {"num_filters": (3, 5), "filter_sizes": (1, 2)}),
    "fasttext": ("fasttext_classifier", {}),
    "fasttext buckets": ("fasttext_classifier", {"buckets": 7}),
}
"""Name -> (model, options)."""


def build(variant: str) -> Any:
    """The network with weights that depend on nothing but the names of its parameters."""
    name, options = VARIANTS[variant]
    glueball.seed(5)
    return glueball.get_model(name, vocab_size=VOCAB, embed_size=WIDTH, classes=CLASSES, **options)


def texts() -> tuple[np.ndarray, np.ndarray]:
    """Token ids (6, 9) and lengths: full, shorter than the widest filter, of one word, and empty."""
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
            if parameter.grad_req != "null":
                results[f"{variant}/gradient/{name}"] = selected.numpy(parameter.grad())
    return results


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **compute())
    path = FOLDER / f"{backend.current().name}.npz"
    path.write_bytes(buffer.getvalue())
    print(f"{path}: {len(buffer.getvalue()):,} bytes")


if __name__ == "__main__":
    main()

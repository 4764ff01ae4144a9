"""Writes what the selected backend computes for the text classifiers, for the other backend to be held against.

    GLUEBALL_BACKEND=mxnet python tests/nlp_embedding_lm/model_golden.py

writes ``golden/mxnet.npz``. Both files are committed; ``test_text_models.py`` compares the running backend with each.
Weights come from Glueball's initialisers, which give both backends the same numbers.
"""

from __future__ import annotations

from typing import Any

import golden_texts
import numpy as np
from golden_texts import CLASSES, FOLDER, VOCAB, WIDTH, texts

import glueball
from glueball import backend

__all__ = ["CLASSES", "FOLDER", "VARIANTS", "VOCAB", "WIDTH", "build", "compute", "texts"]

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


def compute() -> dict[str, np.ndarray]:
    """``golden_texts.computed`` of every variant."""
    return golden_texts.computed(build, VARIANTS)


if __name__ == "__main__":
    golden_texts.write(backend.current().name, compute())

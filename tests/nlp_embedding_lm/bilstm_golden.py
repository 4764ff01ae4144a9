"""Writes what the selected backend computes for the bi-LSTM classifier, for the other backend to be held against.

    GLUEBALL_BACKEND=mxnet python tests/nlp_embedding_lm/bilstm_golden.py

writes ``golden/bilstm_mxnet.npz`` and, as the backend saves them, the weights in ``golden/bilstm_mxnet.params``; all
four files are committed.
"""

from __future__ import annotations

from typing import Any

import golden_texts
import numpy as np
from golden_texts import CLASSES, FOLDER, VOCAB, WIDTH, texts

import glueball
from glueball import backend

__all__ = ["FOLDER", "OPTIONS", "VARIANTS", "VOCAB", "build", "compute", "texts"]

OPTIONS = {"vocab_size": VOCAB, "embed_size": WIDTH, "classes": CLASSES, "hidden_size": 5, "attention_units": 6}

VARIANTS: dict[str, dict[str, Any]] = {"plain": {}, "hops": {"hops": 3}, "deep": {"num_layers": 2, "hops": 2}}


def build(variant: str) -> Any:
    """The network with weights that depend on nothing but the names of its parameters."""
    glueball.seed(5)
    return glueball.get_model("bilstm_attention", **OPTIONS, **VARIANTS[variant])


def compute() -> dict[str, np.ndarray]:
    """``golden_texts.computed`` of every variant."""
    return golden_texts.computed(build, VARIANTS)


if __name__ == "__main__":
    golden_texts.write(f"bilstm_{backend.current().name}", compute())
    build("deep").save_parameters(FOLDER / f"bilstm_{backend.current().name}.params")

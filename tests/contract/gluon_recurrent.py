"""Writes what recurrent layers of plain Gluon save and compute, for both backends to read and reproduce.

    python tests/contract/gluon_recurrent.py        (with the mxnet backend installed)

writes ``golden/gluon_<layer>.params`` by Gluon's own ``save_parameters``, and inputs and outputs into
``golden/gluon_recurrent.npz``. Nothing of Glueball has a part in it but the door through which MXNet comes in.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from reference import normal

FOLDER = Path(__file__).parent / "golden"

LAYERS: dict[str, tuple[str, dict[str, Any]]] = {
    "rnn": ("RNN", {"hidden_size": 3, "num_layers": 2}),
    "rnn_tanh_both": ("RNN", {"hidden_size": 3, "activation": "tanh", "bidirectional": True}),
    "lstm": ("LSTM", {"hidden_size": 3, "num_layers": 2}),
    "lstm_both": ("LSTM", {"hidden_size": 3, "num_layers": 2, "bidirectional": True}),
    "gru": ("GRU", {"hidden_size": 3}),
    "gru_both": ("GRU", {"hidden_size": 3, "num_layers": 2, "bidirectional": True}),
}
"""File name -> class and options."""

DATA = normal(5, 2, 4).astype(np.float32)


def main() -> None:
    from glueball.backend.mxnet.compat import import_library

    import_library()
    import mxnet as mx
    from mxnet.gluon import rnn

    arrays: dict[str, np.ndarray] = {"data": DATA}
    for name, (kind, options) in LAYERS.items():
        mx.random.seed(len(name))
        layer = getattr(rnn, kind)(**options, i2h_bias_initializer=mx.init.Normal(0.5))
        layer.initialize(mx.init.Normal(0.5))
        outputs, states = layer(mx.nd.array(DATA), layer.begin_state(2, func=mx.nd.ones))
        layer.save_parameters(str(FOLDER / f"gluon_{name}.params"))
        arrays[f"{name}/outputs"] = outputs.asnumpy()
        arrays.update({f"{name}/state{index}": one.asnumpy() for index, one in enumerate(states)})
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    (FOLDER / "gluon_recurrent.npz").write_bytes(buffer.getvalue())
    print(f"{len(LAYERS)} layers, {len(arrays)} arrays")


if __name__ == "__main__":
    main()

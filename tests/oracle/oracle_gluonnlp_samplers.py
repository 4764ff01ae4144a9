"""GluonNLP's side of the comparison of samplers: runs its classes on the lengths of a request; nothing of Glueball.

A request {"kind", "options", "epochs", ...} is answered with what the sampler or batchify function gives.
"""

from __future__ import annotations

import os
import random
import sys
import warnings
from typing import Any

import gluonnlp
import mxnet
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from workers import serve


def _batches(sampler: Any, epochs: int) -> list[Any]:
    """The batches of each epoch; a batch is a list of indices, or of such lists."""
    plain = []
    for _ in range(epochs):
        plain.append(
            [
                [[int(i) for i in part] if isinstance(part, list) else int(part) for part in batch]
                if isinstance(batch, list)
                else int(batch)
                for batch in sampler
            ]
        )
    return plain


def _lengths(values: list[Any]) -> list[Any]:
    return [tuple(value) if isinstance(value, list) else value for value in values]


def handle(request: dict[str, Any]) -> dict[str, Any]:
    data = gluonnlp.data
    warnings.simplefilter("ignore")
    np.random.seed(request["seed"])
    random.seed(request["seed"])
    kind, options, epochs = request["kind"], dict(request["options"]), request["epochs"]
    if kind == "versions":
        return {"gluonnlp": gluonnlp.__version__, "mxnet": mxnet.__version__}
    if kind == "pad":
        samples = [np.array(value, request["dtype"]) if request["dtype"] else value for value in request["samples"]]
        padded, lengths = data.batchify.Pad(ret_length=True, **options)(samples)
        return {
            "values": padded.asnumpy().tolist(),
            "dtype": str(padded.asnumpy().dtype),
            "lengths": lengths.asnumpy().tolist(),
        }
    if kind == "split":
        sampler = data.SplitSampler(**options)
    elif kind == "SortedSampler":
        sampler = data.SortedSampler(_lengths(request["lengths"]), **options)
    elif kind == "SortedBucketSampler":
        sampler = data.SortedBucketSampler(_lengths(request["lengths"]), **options)
    else:
        scheme, *arguments = options.pop("bucket_scheme")
        if "bucket_keys" in options:
            options["bucket_keys"] = _lengths(options["bucket_keys"])
        sampler = data.FixedBucketSampler(
            _lengths(request["lengths"]), bucket_scheme=getattr(data, scheme)(*arguments), **options
        )
    answer = {"length": len(sampler), "batches": _batches(sampler, epochs)}
    if kind == "FixedBucketSampler":
        answer["stats"] = sampler.stats()
    return answer


if __name__ == "__main__":
    serve(handle)

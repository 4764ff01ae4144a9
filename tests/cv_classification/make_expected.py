"""Writes ``expected_parameters.json.gz``: the parameters of the official weight files, by model.

    python tests/cv_classification/make_expected.py INVENTORY

INVENTORY is a gzipped JSON of models, each with "class" and "params" (structural name, shape, global name, grad_req,
...) as dumped from GluonCV 0.10.5.post0. Only models that are registered here are kept, and only these facts: for each
model the class, the prefix of global names ("#" stands for the count of instances), and for each parameter its
structural name, shape, global name without the prefix, and grad_req.
"""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path

from glueball import catalog

OUTPUT = Path(__file__).with_name("expected_parameters.json.gz")


def _prefix(first_name: str, class_name: str) -> tuple[str, int]:
    """The prefix as a pattern, and its length in ``first_name``."""
    prefix = first_name[: first_name.index("_") + 1]
    hint = class_name.lower()
    # Blocks without a fixed prefix are called by their class and a running number.
    counted = prefix.startswith(hint) and prefix[len(hint) : -1].isdigit()
    return (f"{hint}#_" if counted else prefix), len(prefix)


def main() -> None:
    with gzip.open(sys.argv[1], "rt", encoding="utf-8") as file:
        inventory = json.load(file)
    expected = {}
    for entry in catalog.current().entries("model"):
        if entry.plugin != "cv_classification":
            continue
        found = inventory[entry.name]
        prefix, length = _prefix(found["params"][0][2], found["class"])
        rows = [[key, shape, name[length:], grad_req] for key, shape, name, grad_req, _ in found["params"]]
        expected[entry.name] = {"class": found["class"], "prefix": prefix, "parameters": rows}
    text = json.dumps(expected, separators=(",", ":"), sort_keys=True)
    # No time stamp: the same inventory gives the same bytes.
    OUTPUT.write_bytes(gzip.compress(text.encode(), mtime=0))
    print(f"{len(expected)} models, {OUTPUT.stat().st_size} bytes")


if __name__ == "__main__":
    main()

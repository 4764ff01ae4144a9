"""How fast weight files are read and written: ours against MXNet's own functions and the safetensors library.

    python benchmarks/weights.py [--megabytes 100] [--repeats 7] [--output FILE]

"read" ends with every value in memory of its own, as ``mxnet.nd.load`` leaves it; "open" is what
``glueball.weights.load`` does before anything is used. The file lies in the page cache: what is timed is the program,
not the disk. Writing is another matter: ours waits until the disk has the file and then gives it its name, which the
peers do not, so that their times are no goal. Peers that are not installed are left out. Programs take turns, and the
median counts.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import report
import safetensors
import safetensors.numpy

from glueball import weights


def make_arrays(megabytes: int) -> dict[str, np.ndarray]:
    """float32 arrays as a deep network has them: many small ones, some large."""
    generator = np.random.default_rng(0)
    arrays: dict[str, np.ndarray] = {}
    shapes = [(64,), (64,), (256, 64, 1, 1), (256,), (512, 512, 3, 3), (1000, 2048)]
    size = 0
    while size < megabytes << 20:
        shape = shapes[len(arrays) % len(shapes)]
        array = generator.normal(size=shape).astype(np.float32)
        arrays[f"features.{len(arrays)}.weight"] = array
        size += array.nbytes
    return arrays


def copied(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array.copy() for name, array in arrays.items()}


def contestants(folder: Path, arrays: dict[str, np.ndarray]) -> dict[str, tuple[str, Callable[[], object]]]:
    """Name -> (what it is compared with, what is timed)."""
    params, tensors = folder / "w.params", folder / "w.safetensors"
    weights.save(params, arrays)
    weights.save(tensors, arrays)
    made: dict[str, tuple[str, Callable[[], object]]] = {
        "open .params, ours": ("read .params, mxnet", lambda: weights.load(params)),
        "read .params, ours": ("read .params, mxnet", lambda: copied(weights.load(params))),
        "open .safetensors, ours": ("read .safetensors, library", lambda: weights.load(tensors)),
        "read .safetensors, ours": ("read .safetensors, library", lambda: copied(weights.load(tensors))),
        "read .safetensors, library": ("", lambda: safetensors.numpy.load_file(tensors)),
        "write .params, ours": ("write .params, mxnet", lambda: weights.save(folder / "o.params", arrays)),
        "write .safetensors, ours": (
            "write .safetensors, library",
            lambda: weights.save(folder / "o.safetensors", arrays),
        ),
        "write .safetensors, library": ("", lambda: safetensors.numpy.save_file(arrays, folder / "p.safetensors")),
    }
    if importlib.util.find_spec("mxnet") is not None:
        from glueball import backend

        backend.use("mxnet")
        import mxnet as mx

        on_mxnet = {name: mx.nd.array(array) for name, array in arrays.items()}

        def read() -> None:
            # MXNet loads lazily in its engine: the time is over when all arrays are there.
            mx.nd.load(str(params))
            mx.nd.waitall()

        def write() -> None:
            mx.nd.save(str(folder / "m.params"), on_mxnet)
            mx.nd.waitall()

        made["read .params, mxnet"] = ("", read)
        made["write .params, mxnet"] = ("", write)
    return made


def measure(timed: dict[str, tuple[str, Callable[[], object]]], repeats: int) -> dict[str, float]:
    """Median seconds of each contestant; all take turns in every round, after one round that does not count."""
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for round_number in range(repeats + 1):
        for name, (_, run) in timed.items():
            start = time.perf_counter()
            result = run()
            elapsed = time.perf_counter() - start
            del result
            if round_number:
                seconds[name].append(elapsed)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        timed = contestants(Path(folder), make_arrays(arguments.megabytes))
        medians = measure(timed, arguments.repeats)
    rows = []
    for name, (peer, _) in timed.items():
        ratio = medians[peer] / medians[name] if peer in medians else None
        rows.append((name, f"{1000 * medians[name]:.2f}", "" if ratio is None else f"{ratio:.2f}"))
    report.finish(
        arguments.output,
        title=f"Reading and writing {arguments.megabytes} MB of weights",
        script="benchmarks/weights.py",
        where=report.machine(("glueball-core", "numpy", "safetensors", "mxnet")),
        document={"megabytes": arguments.megabytes, "seconds": medians},
        lines=report.table(("", "ms", "peer / ours"), rows),
    )


if __name__ == "__main__":
    main()

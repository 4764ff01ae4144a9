"""Padding and speed of batches of texts: our samplers and batchify functions against GluonNLP's.

    python benchmarks/sampling.py [--data movie_reviews.zip] [--oracle-python PYTHON] [--rounds 5] [--output FILE]

All of them make padded batches of the token ids of the film reviews in ``movie_reviews.zip`` (Pang and Lee's 2,000, as
NLTK hands them out; found below GLUEBALL_DATA unless named), cut at white space. A batch has 32 texts, or about as many
tokens as 32 texts of average length have. Each contestant runs in a process of its own with one thread; they take
turns, and the median of the rounds counts, the best of several epochs in each round: order, padding and all. Seconds
are those of the processor, all threads of the process together, so that a busy machine changes little. Tokens are those
of the texts, not padding. GluonNLP's contestants run where ``--oracle-python`` names an environment that has
gluonnlp and mxnet. The last table is the time to construct a sampler for a million lengths and to get the first batch.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import report

BATCH = 32
BUCKETS = 10
EPOCHS = 5
MANY = 1_000_000


def read_texts(archive: Path) -> list[np.ndarray]:
    """The token ids of each text, int32, in the order of the archive."""
    vocabulary: dict[str, int] = {}
    texts = []
    with zipfile.ZipFile(archive) as opened:
        for name in sorted(opened.namelist()):
            if name.endswith(".txt"):
                tokens = opened.read(name).decode("utf-8", "replace").split()
                texts.append(np.array([vocabulary.setdefault(token, len(vocabulary)) for token in tokens], np.int32))
    return [text for text in texts if len(text)]


def find_archive() -> Path | None:
    """``movie_reviews.zip`` somewhere below GLUEBALL_DATA."""
    root = os.environ.get("GLUEBALL_DATA")
    return next(iter(sorted(Path(root).rglob("movie_reviews.zip"))), None) if root else None


def average_budget(lengths: list) -> int:
    return BATCH * sum(lengths) // len(lengths)


def our_samplers() -> dict[str, Callable[[list], Iterable[Any]]]:
    from glueball import data

    return {
        "random": lambda lengths: data.BatchSampler(data.RandomSampler(len(lengths)), BATCH),
        "fixed buckets": lambda lengths: data.FixedBucketSampler(lengths, BATCH, BUCKETS, shuffle=True),
        "fixed buckets, average length": lambda lengths: data.FixedBucketSampler(
            lengths, average_budget(lengths), BUCKETS, shuffle=True, use_average_length=True
        ),
        "sorted buckets": lambda lengths: data.SortedBucketSampler(lengths, BATCH, mult=10, shuffle=True),
        # The budget holds after padding, and the longest text has to fit.
        "token budget": lambda lengths: data.TokenBudgetSampler(
            lengths, max(average_budget(lengths), max(lengths)), shuffle=True
        ),
    }


def gluonnlp_samplers() -> dict[str, Callable[[list], Iterable[Any]]]:
    import gluonnlp
    from mxnet import gluon

    data = gluonnlp.data
    return {
        "random": lambda lengths: gluon.data.BatchSampler(gluon.data.RandomSampler(len(lengths)), BATCH, "keep"),
        "fixed buckets": lambda lengths: data.FixedBucketSampler(lengths, BATCH, BUCKETS, shuffle=True),
        "fixed buckets, average length": lambda lengths: data.FixedBucketSampler(
            lengths, average_budget(lengths), BUCKETS, shuffle=True, use_average_length=True
        ),
        "sorted buckets": lambda lengths: data.SortedBucketSampler(lengths, BATCH, mult=10, shuffle=True),
    }


def batchifier(library: str) -> tuple[Callable[[list], Any], Callable[[Any], tuple[int, int]]]:
    """What makes a batch, and what tells its padded and its real number of tokens."""
    if library == "ours":
        from glueball.data import batchify

        return batchify.Pad(pad_value=0, return_length=True), lambda batch: (batch[0].size, int(batch[1].sum()))
    import gluonnlp

    pad = gluonnlp.data.batchify.Pad(pad_val=0, ret_length=True)
    return pad, lambda batch: (batch[0].size, int(batch[1].asnumpy().sum()))


def run_contestant(library: str, name: str, path: str) -> None:
    """In the contestant's own process: prints its tokens a second, padding share and number of batches."""
    warnings.simplefilter("ignore")
    with np.load(path, allow_pickle=False) as file:
        flat, lengths = file["flat"], file["lengths"].tolist()
    texts = np.split(flat, np.cumsum(lengths)[:-1])
    samplers = our_samplers() if library == "ours" else gluonnlp_samplers()
    sampler = samplers[name](lengths)
    make, count = batchifier(library)
    padded = real = batches = largest = 0
    best = float("inf")
    for epoch in range(EPOCHS):
        if hasattr(sampler, "set_epoch"):
            sampler.set_epoch(epoch)
        seconds = 0.0
        start = time.process_time()
        for indices in sampler:
            batch = make([texts[index] for index in indices])
            # Counting is none of the contestant's work.
            seconds += time.process_time() - start
            size, tokens = count(batch)
            padded, real, batches, largest = padded + size, real + tokens, batches + 1, max(largest, size)
            start = time.process_time()
        best = min(best, seconds + time.process_time() - start)
    assert real == EPOCHS * sum(lengths)
    print(json.dumps({"rate": real / EPOCHS / best, "padding": 1 - real / padded, "batches": batches / EPOCHS,
                      "largest": largest}))  # fmt: skip


def run_construction(library: str) -> None:
    """In a process of its own: prints the seconds that samplers of a million lengths take."""
    warnings.simplefilter("ignore")
    lengths = np.clip(np.random.RandomState(0).lognormal(5.5, 0.6, MANY), 1, 3000).astype(np.int64).tolist()
    samplers = our_samplers() if library == "ours" else gluonnlp_samplers()
    seconds = {}
    for name, make in samplers.items():
        start = time.process_time()
        next(iter(make(lengths)))
        seconds[name] = time.process_time() - start
    print(json.dumps(seconds))


def run(python: str, *arguments: str) -> Any:
    done = subprocess.run(
        [python, __file__, *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Prints the tables; with --output, writes JSON and a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="movie_reviews.zip; default: found below GLUEBALL_DATA")
    parser.add_argument("--oracle-python", help="interpreter that has gluonnlp and mxnet")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--contestant", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--construct", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contestant:
        run_contestant(*arguments.contestant)
        return
    if arguments.construct:
        run_construction(arguments.construct)
        return
    archive = arguments.data or find_archive()
    if archive is None or not archive.is_file():
        parser.error("movie_reviews.zip is needed: name it with --data, or a folder above it with GLUEBALL_DATA")
    texts = read_texts(archive)
    lengths = [len(text) for text in texts]
    pythons = {"ours": sys.executable}
    if arguments.oracle_python:
        if shutil.which(arguments.oracle_python) is None:
            parser.error(
                f"there is no interpreter {arguments.oracle_python} (tox takes it from the variable NLP_PEER_PYTHON)"
            )
        pythons["GluonNLP"] = arguments.oracle_python
    contestants = [
        (library, name) for name in our_samplers() for library in pythons if library == "ours" or name != "token budget"
    ]
    results: dict[str, list[dict[str, float]]] = {f"{library}: {name}": [] for library, name in contestants}
    constructions: dict[str, list[dict[str, float]]] = {library: [] for library in pythons}
    with tempfile.TemporaryDirectory() as temporary:
        path = str(Path(temporary) / "texts.npz")
        np.savez(path, flat=np.concatenate(texts), lengths=np.array(lengths))
        for _ in range(arguments.rounds):
            for library, name in contestants:
                results[f"{library}: {name}"].append(run(pythons[library], "--contestant", library, name, path))
        for _ in range(min(arguments.rounds, 3)):
            for library, python in pythons.items():
                constructions[library].append(run(python, "--construct", library))
    rates = {name: statistics.median(found["rate"] for found in rounds) for name, rounds in results.items()}
    padding = {name: statistics.mean(found["padding"] for found in rounds) for name, rounds in results.items()}
    seconds = {
        library: {name: statistics.median(found[name] for found in rounds) for name in rounds[0]}
        for library, rounds in constructions.items()
    }
    goals = [
        report.Goal(
            f"padding of ours, {name} / ours, random", padding[f"ours: {name}"] / padding["ours: random"], 0.5, False
        )
        for name in our_samplers()
        if name != "random"
    ]
    for name in our_samplers():
        if f"GluonNLP: {name}" in rates:
            goals.append(
                report.Goal(
                    f"tokens/s, {name}: ours / GluonNLP", rates[f"ours: {name}"] / rates[f"GluonNLP: {name}"], 1.5
                )
            )
    goals += [
        report.Goal(f"seconds for a million lengths, {name}", taken, 3.0, False)
        for name, taken in seconds["ours"].items()
    ]
    where = report.machine(("glueball-core", "numpy"))
    if arguments.oracle_python:
        program = (
            "import importlib.metadata as m, json;"
            "print(json.dumps({'its ' + n: m.version(n) for n in ('gluonnlp', 'mxnet', 'numpy')}))"
        )
        found = subprocess.run([arguments.oracle_python, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
        where["versions"] |= json.loads(found.stdout)
    distribution = {
        "texts": len(lengths),
        "tokens": sum(lengths),
        "mean": float(np.mean(lengths)),
        "standard_deviation": float(np.std(lengths)),
        "shortest": min(lengths),
        "longest": max(lengths),
    }
    report.finish(
        arguments.output,
        title="Padded batches of texts",
        script="benchmarks/sampling.py",
        where=where,
        document={"lengths": distribution, "rounds": results, "construction_seconds": constructions},
        lines=[
            f"{len(lengths)} texts, {sum(lengths)} tokens; length {np.mean(lengths):.0f} +- {np.std(lengths):.0f}, "
            f"from {min(lengths)} to {max(lengths)}.",
            "",
            *report.table(
                ("sampler", "padding", "batches", "largest batch (elements)", "million tokens/s (processor)"),
                (
                    (
                        name,
                        f"{padding[name]:.1%}",
                        f"{rounds[0]['batches']:.0f}",
                        f"{max(found['largest'] for found in rounds)}",
                        f"{rates[name] / 1e6:.0f}",
                    )
                    for name, rounds in results.items()
                ),
            ),
            "",
            *report.table(
                ("sampler of a million lengths, first batch", "processor seconds"),
                (
                    (f"{library}: {name}", f"{taken:.2f}")
                    for name in our_samplers()
                    for library in pythons
                    for taken in [seconds[library].get(name)]
                    if taken is not None
                ),
            ),
        ],
        goals=goals,
    )


if __name__ == "__main__":
    main()

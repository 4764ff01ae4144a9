"""Our samplers for sequences of different length, and Pad, against GluonNLP's on the same lengths.

    python tests/oracle/compare_gluonnlp_samplers.py --oracle-python ENV_WITH_GLUONNLP/bin/python

Without shuffling, everything must be equal: bucket keys, samples and batch size of each bucket, every batch. With
shuffling the two draw other random numbers: number and sizes of the batches must be equal, and the padding share, over
many epochs, must not differ by more than chance explains. The table goes to
``benchmarks/results/oracle_gluonnlp_samplers.md``; the exit status is 1 when anything deviates.
"""

from __future__ import annotations

import argparse
import datetime
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import numpy as np

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from workers import Worker

from glueball import data
from glueball.errors import OptionError

HERE = Path(__file__).resolve().parent
RESULT = HERE.parents[1] / "benchmarks" / "results" / "oracle_gluonnlp_samplers.md"

EPOCHS = 150
MAX_DEVIATION = 4.0
"""Standard errors by which two means of a random padding share may differ."""

SCHEMES = (["ConstWidthBucket"], ["LinearWidthBucket"], ["ExpWidthBucket"], ["ExpWidthBucket", 1.5])


@attrs.define
class Row:
    """What came of all cases of one kind."""

    cases: int = 0
    deviations: list[str] = attrs.field(factory=list)
    refused: int = 0
    largest_difference: float = 0.0
    largest_deviation: float = 0.0


def _lengths(generator: np.random.Generator, number: int) -> list[Any]:
    """Lengths of one of eight distributions."""
    count = int(generator.choice([1, 7, 50, 300, 1500]))
    sources = np.clip(generator.lognormal(4, 0.8, count), 1, 900).astype(int)
    return [
        lambda: generator.integers(1, 100, count).tolist(),
        lambda: sources.tolist(),
        lambda: np.minimum(generator.zipf(1.6, count), 400).tolist(),
        lambda: generator.integers(20, 24, count).tolist(),  # fewer lengths than buckets
        lambda: [17] * count,
        lambda: [
            [int(source), int(max(1, source + shift))]
            for source, shift in zip(sources, generator.integers(-15, 16, count), strict=True)
        ],
        lambda: generator.integers(1, 60, (count, 2)).tolist(),
        lambda: generator.integers(1, 40, (count, 3)).tolist(),
    ][number % 8]()


def _fixed_options(generator: np.random.Generator, number: int, lengths: list[Any]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "batch_size": int(generator.integers(1, 65)),
        "num_buckets": int(generator.integers(1, 31)),
        "bucket_scheme": SCHEMES[number // 8 % len(SCHEMES)],
        "ratio": float(generator.choice([0, 0.3, 0.5, 1, 2.5])),
        "num_shards": int(generator.choice([0, 0, 1, 2, 3, 5])),
    }
    if number % 5 == 0:
        options |= {"use_average_length": True, "batch_size": int(generator.integers(1, 3000))}
    if number % 7 == 0:
        # Some samples as keys, in a random order and with repetitions, and one that all fit into.
        picked = generator.integers(0, len(lengths), 6)
        longest = np.max(lengths, axis=0)
        options["bucket_keys"] = [lengths[index] for index in picked] + [longest.tolist()]
    return options


def _ours(kind: str, lengths: Any, options: dict[str, Any], seed: int) -> Any:
    options = dict(options)
    if "bucket_scheme" in options:
        scheme, *arguments = options["bucket_scheme"]
        options["bucket_scheme"] = getattr(data, scheme)(*arguments)
    if kind == "split":
        return data.SplitSampler(seed=seed, **options)
    if options.get("shuffle"):
        options["seed"] = seed
    return getattr(data, kind)(lengths, **options)


def _epochs(sampler: Any, count: int) -> list[list[Any]]:
    found = []
    for epoch in range(count):
        sampler.set_epoch(epoch)
        found.append(list(sampler))
    return found


def _flat(batches: list[Any]) -> Iterator[list[int]]:
    for batch in batches:
        if isinstance(batch[0], list):
            yield from batch
        else:
            yield batch


def _compare_exactly(oracle: Worker, kind: str, lengths: Any, options: dict[str, Any], row: Row) -> None:
    row.cases += 1
    try:
        sampler = _ours(kind, lengths, options, 0)
    except OptionError as error:
        # GluonNLP's groups of shards are not full then, or it fails in the middle.
        if "cannot be dealt out" not in str(error):
            raise
        row.refused += 1
        return
    theirs = oracle.ask({"kind": kind, "lengths": lengths, "options": options, "epochs": 1, "seed": 0})
    mine = {"length": len(sampler), "batches": _epochs(sampler, 1)}
    if kind == "FixedBucketSampler":
        mine["stats"] = sampler.stats()
    if mine != theirs:
        row.deviations.append(f"{kind} {options}: {', '.join(key for key in mine if mine[key] != theirs[key])}")


def _compare_padding(oracle: Worker, kind: str, lengths: Any, options: dict[str, Any], row: Row, seed: int) -> None:
    options = {**options, "shuffle": True}
    row.cases += 1
    try:
        sampler = _ours(kind, lengths, options, seed)
    except OptionError as error:
        if "cannot be dealt out" not in str(error):
            raise
        row.refused += 1
        return
    epochs = {
        "ours": _epochs(sampler, EPOCHS),
        "theirs": oracle.ask({"kind": kind, "lengths": lengths, "options": options, "epochs": EPOCHS, "seed": seed})[
            "batches"
        ],
    }
    sizes = {
        side: [sorted(len(batch) for batch in _flat(batches)) for batches in found] for side, found in epochs.items()
    }
    # Which batches the last group of shards repeats is random, and so are the sizes then.
    is_random = options.get("num_shards", 0) > 1
    found_odd = []
    if [list(map(len, found)) for found in sizes.values()] != [[len(sizes["ours"][0])] * EPOCHS] * 2:
        found_odd.append("numbers of batches")
    elif not is_random and sizes["ours"] != sizes["theirs"]:
        found_odd.append("sizes of batches")
    shares = {
        side: np.array([data.padding_share(lengths, _flat(batches)) for batches in found])
        for side, found in epochs.items()
    }
    difference = abs(shares["ours"].mean() - shares["theirs"].mean())
    chance = float(np.sqrt(sum(share.var(ddof=1) / EPOCHS for share in shares.values())))
    deviation = float(difference / chance) if chance > 1e-12 else (0.0 if difference < 1e-12 else np.inf)
    row.largest_difference = max(row.largest_difference, float(difference))
    row.largest_deviation = max(row.largest_deviation, deviation)
    if not deviation <= MAX_DEVIATION:
        found_odd.append(f"padding shares {shares['ours'].mean()} and {shares['theirs'].mean()}")
    if found_odd:
        row.deviations.append(f"{kind} {options}: {', '.join(found_odd)}")


def _compare_splits(oracle: Worker, row: Row) -> None:
    """Parts are other samples here and there; their sizes and what they cover together are not."""
    for length in (5, 24, 101):
        for num_parts in (1, 2, 5):
            for even_size in (False, True):
                for repeat in (1, 3):
                    row.cases += 1
                    counts = []
                    for part in range(num_parts):
                        options = {
                            "length": length,
                            "num_parts": num_parts,
                            "part_index": part,
                            "even_size": even_size,
                            "repeat": repeat,
                        }
                        request = {"kind": "split", "lengths": None, "options": options, "epochs": 1, "seed": 1}
                        counts.append((_epochs(_ours("split", None, options, 1), 1)[0], oracle.ask(request)))
                    mine = sorted(len(order) for order, _ in counts)
                    theirs = sorted(answer["length"] for _, answer in counts)
                    covered = [
                        set().union(*orders)
                        for orders in ([order for order, _ in counts], [answer["batches"][0] for _, answer in counts])
                    ]
                    if mine != theirs or covered != [set(range(length))] * 2:
                        row.deviations.append(f"SplitSampler {length}, {num_parts}, {even_size}, {repeat}")


def _compare_pads(oracle: Worker, row: Row) -> None:
    generator = np.random.default_rng(3)
    for number in range(80):
        row.cases += 1
        axis = number % 2
        dtype = [None, "int32", "float32", "uint8", "int64"][number % 5]
        shapes = [[3, 4] for _ in range(generator.integers(1, 6))]
        for shape in shapes:
            shape[axis] = int(generator.integers(1, 9))
        samples = [generator.integers(0, 99, shape).tolist() for shape in shapes]
        options: dict[str, Any] = {
            "axis": axis - 2 if number % 3 == 0 else axis,
            "pad_val": number % 4,
            "round_to": [None, 1, 4][number % 3],
        }
        if number % 6 == 0:
            options["dtype"] = "float32"
        request = {
            "kind": "pad",
            "samples": samples,
            "dtype": dtype,
            "options": options,
            "epochs": 0,
            "seed": 0,
        }
        theirs = oracle.ask(request)
        values, lengths = data.batchify.Pad(ret_length=True, **options)(
            [np.array(sample, dtype) if dtype else sample for sample in samples]
        )
        # Lists of Python's integers become float32 there and stay integers here.
        same_type = str(values.dtype) == theirs["dtype"] or (dtype is None and "dtype" not in options)
        if values.tolist() != theirs["values"] or lengths.tolist() != theirs["lengths"] or not same_type:
            row.deviations.append(f"Pad {options} of {dtype}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--oracle-python", required=True, help="interpreter that has gluonnlp 0.10.0 and mxnet")
    parser.add_argument("--cases", type=int, default=192, help="cases without shuffling; with it, fewer")
    parser.add_argument("--output", type=Path, default=RESULT)
    arguments = parser.parse_args()
    # Removed buckets and unused options are what the cases are about.
    logging.getLogger("glueball.data").setLevel(logging.ERROR)
    oracle = Worker(arguments.oracle_python, str(HERE / "oracle_gluonnlp_samplers.py"), {"OMP_NUM_THREADS": "1"})
    versions = oracle.ask({"kind": "versions", "options": {}, "epochs": 0, "seed": 0})
    exact: dict[str, Row] = {}
    padding: dict[str, Row] = {}
    generator = np.random.default_rng(1)
    for number in range(arguments.cases):
        lengths = _lengths(generator, number)
        options = _fixed_options(generator, number, lengths)
        name = f"FixedBucketSampler, {options['bucket_scheme'][0]}"
        if "bucket_keys" in options:
            name = "FixedBucketSampler, bucket_keys"
        elif "use_average_length" in options:
            name = "FixedBucketSampler, use_average_length"
        _compare_exactly(oracle, "FixedBucketSampler", lengths, options, exact.setdefault(name, Row()))
        is_reversed = bool(number % 3)
        _compare_exactly(
            oracle, "SortedSampler", lengths, {"reverse": is_reversed}, exact.setdefault("SortedSampler", Row())
        )
        sorting = {"batch_size": options["batch_size"], "mult": int(generator.integers(1, 20)), "reverse": is_reversed}
        _compare_exactly(
            oracle, "SortedBucketSampler", lengths, sorting, exact.setdefault("SortedBucketSampler", Row())
        )
        # Means of few samples are no statistics.
        if generator.random() < 0.4 and len(lengths) >= 50:
            _compare_padding(oracle, "FixedBucketSampler", lengths, options, padding.setdefault(name, Row()), number)
            row = padding.setdefault("SortedBucketSampler", Row())
            _compare_padding(oracle, "SortedBucketSampler", lengths, sorting, row, number)
    _compare_splits(oracle, exact.setdefault("SplitSampler: sizes and coverage of the parts", Row()))
    _compare_pads(oracle, exact.setdefault("batchify.Pad: values, types and lengths", Row()))
    oracle.close()

    lines = [
        "# Samplers for sequences of different length against GluonNLP",
        "",
        "Made by `tests/oracle/compare_gluonnlp_samplers.py`.",
        f"GluonNLP {versions['gluonnlp']} on MXNet {versions['mxnet']}; {datetime.date.today().isoformat()}.",
        "",
        "Without shuffling: cases in which keys, counts, batch sizes, the words of `stats()`, number of batches and",
        "every batch are equal. Refused: fewer batches than shards, where GluonNLP's groups are not full.",
        "",
        "| what | cases | equal | refused |",
        "| --- | ---: | ---: | ---: |",
        *(
            f"| {name} | {row.cases} | {row.cases - row.refused - len(row.deviations)} | {row.refused} |"
            for name, row in sorted(exact.items())
        ),
        "",
        f"With shuffling: number and sizes of the batches are equal; padding share, mean of {EPOCHS} epochs.",
        "",
        "| what | cases | agree | refused | largest difference of the share | in standard errors (bound "
        f"{MAX_DEVIATION:g}) |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {name} | {row.cases} | {row.cases - row.refused - len(row.deviations)} | {row.refused} "
            f"| {row.largest_difference:.5f} | {row.largest_deviation:.1f} |"
            for name, row in sorted(padding.items())
        ),
    ]
    print("\n".join(lines))
    deviations = [text for row in (*exact.values(), *padding.values()) for text in row.deviations]
    print("\n".join(["", f"{len(deviations)} deviations", *deviations[:20]]))
    arguments.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(bool(deviations))


if __name__ == "__main__":
    sys.exit(main())

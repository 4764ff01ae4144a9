"""Seconds per training epoch of TextCNN on TREC and MR, on both backends, beside GluonNLP's text classification.

    python benchmarks/text_speed.py --oracle-python PYTHON --mxnet-python PYTHON --torch-python PYTHON [--data FOLDER]
        [--rounds N] [--minutes M] [--output FILE]

Ours are the recipes textcnn-trec and textcnn-mr with random first vectors of 300, run by the engine as a user runs
them, in float32 and in the precision that the recipe chooses by itself. An epoch is loading, training steps, loss and
training metrics; validation and checkpoint, which GluonNLP's side does not do, are in a column of their own.

GluonNLP's is ``gluonnlp.model.ConvolutionalEncoder`` with 100 filters of the widths 3, 4 and 5 on vectors of 300,
dropout, one dense layer, hybridised, fed by gluon's ``DataLoader``: once with every text padded to the longest one of
the data set by ``PadSequence``, as its script for text classification does, and once in our buckets by its
``FixedBucketSampler``, which shows how much of the difference is padding. It gets the token ids that ours trains on
and the optimiser of our recipe: Adam with the rate 0.001, gradients clipped to a norm of 3, batches of 50. One thing
differs in its favour: its filters see no positions before the first and after the last word.

Each contestant is a process with one thread that waits while the others have their turn: first an epoch to warm up,
which is not counted, then one epoch in each round. The median of the rounds counts: seconds of the clock, or, where
the machine did other work meanwhile, those of the process's CPU.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import report

# With the part of --minutes that has passed when they are through: MR has twice as many texts, twice as long.
DATASETS = {"trec": 0.3, "mr": 1.0}
GOALS = {"mxnet": 1.0, "torch": 1.5}
BATCH = 50
LEARNING_RATE, CLIP_NORM = 1e-3, 3.0
EMBED_SIZE, FILTERS, WIDTHS = 300, 100, (3, 4, 5)
TO_LONGEST, IN_BUCKETS = "padded to the longest", "in buckets"
# A process that waits for a core has more seconds of the clock than of its CPU.
SHARED = 1.1


def recipe_for(dataset: str, precision: str) -> Any:
    import glueball

    return glueball.get_recipe(f"textcnn-{dataset}", mode="rand").override({"precision": precision})


def export(dataset: str, path: Path) -> None:
    """The training texts of the recipe as token ids, for GluonNLP's side."""
    from glueball.named import get_task

    recipe = recipe_for(dataset, "float32")
    if (recipe.batch_size, recipe.learning_rate, recipe.clip_norm, recipe.optimizer.name) != (
        BATCH,
        LEARNING_RATE,
        CLIP_NORM,
        "adam",
    ):
        raise SystemExit(f"The recipe {recipe.name} has changed: GluonNLP's side would train with other settings.")
    task: Any = get_task(recipe.task, recipe=recipe)
    texts = task.dataset("train", training=True)
    samples = [texts[index] for index in range(len(texts))]
    np.savez(
        path,
        ids=np.concatenate([ids for ids, _ in samples]),
        lengths=[len(ids) for ids, _ in samples],
        labels=[label for _, label in samples],
        keys=task.length_keys,
        vocabulary=len(task.pipeline.vocab),
        padding=task.pipeline.padding_id,
    )


class Turns:
    """A contestant's side of the turns: waits for a line, and answers with the seconds that its epoch took."""

    def wait(self) -> None:
        if not sys.stdin.readline():
            raise SystemExit(0)
        self._start = self._now()

    def _now(self) -> tuple[float, float]:
        return time.perf_counter(), time.process_time()

    def split(self) -> dict[str, float]:
        """Seconds since the last split, or since the turn began."""
        before, self._start = self._start, self._now()
        return {"clock": self._start[0] - before[0], "cpu": self._start[1] - before[1]}

    def answer(self, **figures: Any) -> None:
        print(json.dumps(figures), flush=True)


def our_side(dataset: str, precision: str) -> None:
    """In a process of its own: the engine, held up before each epoch until it is its turn."""
    from glueball.engine import Trainer

    turns = Turns()

    class TurnTaker(Trainer):
        def _train_epoch(self) -> None:
            turns.wait()
            super()._train_epoch()
            # What the engine reads after an epoch: the last losses and metrics. Everything has been computed then.
            self._measurements.read()
            self.backend.synchronize(self.device)
            self._trained = turns.split()

        def _close_epoch(self, row: dict[str, Any]) -> None:
            super()._close_epoch(row)
            turns.answer(
                training=self._trained,
                rest=turns.split(),
                loss=row.get("train_loss"),
                batches=len(self._loader),
                precision=self.precision,
            )

        def _draw_curves(self) -> None:
            """Every twenty seconds of a run, however long its epochs are: no part of an epoch."""

    with tempfile.TemporaryDirectory() as out:
        # More epochs than there are turns: the process ends while it waits.
        recipe = recipe_for(dataset, precision).override({"epochs": "1000"})
        TurnTaker(recipe, out, overwrite=True, quiet=True, device="cpu").fit()


def gluonnlp_side(padding: str, path: Path) -> None:
    """In a process of its own: GluonNLP's network and data pipeline, an epoch in each turn."""
    import gluonnlp as nlp
    import mxnet as mx
    from mxnet import autograd, gluon

    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    lengths = arrays["lengths"].tolist()
    texts = [part.tolist() for part in np.split(arrays["ids"], np.cumsum(lengths)[:-1])]
    labels = arrays["labels"].astype("float32")
    # Its convolutions take no text that is shorter than their widest filter.
    keys = [max(int(key), max(WIDTHS)) for key in arrays["keys"]]
    pad_value = int(arrays["padding"])
    if padding == TO_LONGEST:
        pad = nlp.data.PadSequence(max(max(lengths), max(WIDTHS)), pad_val=pad_value)
        padded = [pad(text) for text in texts]
        order: dict[str, Any] = {"batch_size": BATCH, "shuffle": True}
    else:
        fitting = [next(key for key in keys if length <= key) for length in lengths]
        pads = {key: nlp.data.PadSequence(key, pad_val=pad_value) for key in keys}
        padded = [pads[key](text) for key, text in zip(fitting, texts)]  # noqa: B905 (its Python is 3.8)
        order = {"batch_sampler": nlp.data.FixedBucketSampler(fitting, BATCH, bucket_keys=keys, shuffle=True)}
    samples = gluon.data.SimpleDataset([(np.array(ids, "float32"), label) for ids, label in zip(padded, labels)])  # noqa: B905
    loader = gluon.data.DataLoader(samples, **order)

    class SentimentNet(gluon.HybridBlock):
        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.embedding = gluon.nn.Embedding(int(arrays["vocabulary"]), EMBED_SIZE)
                self.encoder = nlp.model.ConvolutionalEncoder(
                    embed_size=EMBED_SIZE,
                    num_filters=(FILTERS,) * len(WIDTHS),
                    ngram_filter_sizes=WIDTHS,
                    conv_layer_activation="relu",
                    num_highway=None,
                )
                self.output = gluon.nn.HybridSequential()
                self.output.add(gluon.nn.Dropout(0.5), gluon.nn.Dense(len(set(labels.tolist()))))

        def hybrid_forward(self, F: Any, token_ids: Any) -> Any:
            return self.output(self.encoder(self.embedding(token_ids)))

    mx.random.seed(0)
    network = SentimentNet()
    network.initialize(mx.init.Xavier())
    network.hybridize(static_alloc=True)
    criterion = gluon.loss.SoftmaxCELoss()
    parameters = list(network.collect_params().values())
    trainer = gluon.Trainer(network.collect_params(), "adam", {"learning_rate": LEARNING_RATE})
    turns = Turns()
    is_warm = False
    while True:
        turns.wait()
        total, batches, seen = 0.0, 0, set()
        for token_ids, label in loader:
            # Warming up takes twenty batches, and all shapes: nothing else changes from batch to batch.
            if not is_warm and batches >= 20 and token_ids.shape in seen:
                continue
            seen.add(token_ids.shape)
            with autograd.record():
                loss = criterion(network(token_ids.T), label).mean()
            loss.backward()
            trainer.allreduce_grads()
            nlp.utils.clip_grad_global_norm(parameters, CLIP_NORM, check_isfinite=False)
            trainer.update(1)
            total, batches = total + float(loss.asscalar()), batches + 1
        mx.nd.waitall()
        is_warm = True
        turns.answer(training=turns.split(), loss=total / batches, batches=batches, precision="float32")


class Contestant:
    """A process that trains when it is told to; ``rounds`` holds its answers."""

    def __init__(self, python: str, words: tuple[str, ...], backend: str | None, data: Path | None) -> None:
        environment = dict(os.environ)
        if backend is not None:
            environment["GLUEBALL_BACKEND"] = backend
        if data is not None:
            environment["GLUEBALL_DATA"] = str(data)
        self.rounds: list[dict[str, Any]] = []
        self._command = " ".join([python, __file__, *words])
        self._process = subprocess.Popen(
            [python, __file__, *words], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def turn(self) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # it has failed, which the next line finds
            self._process.stdin.write("epoch\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith('{"training"'):
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise SystemExit(f"{self._command} ended with status {self._process.wait()}")

    def end(self) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()


def measure(arguments: argparse.Namespace, dataset: str, end: float, folder: Path) -> dict[str, Any]:
    """All contestants on one data set, in turns."""
    from tqdm import tqdm

    path = folder / f"{dataset}.npz"
    pythons = {"mxnet": arguments.mxnet_python, "torch": arguments.torch_python}
    environment = {**os.environ, "GLUEBALL_BACKEND": "torch"}
    if arguments.data is not None:
        environment["GLUEBALL_DATA"] = str(arguments.data)
    subprocess.run([pythons["torch"], __file__, "--export", dataset, str(path)], env=environment, check=True)
    contestants: dict[str, Contestant] = {}
    taken = 0.0
    try:
        # The peer stands between ours, so that a change of the machine's load meets both.
        for precision in ("float32", "auto"):
            for backend, python in pythons.items():
                words = ("--our-side", dataset, precision)
                contestants[f"{backend} {precision}"] = Contestant(python, words, backend, arguments.data)
            padding = TO_LONGEST if precision == "float32" else IN_BUCKETS
            words = ("--gluonnlp-side", padding, str(path))
            contestants[f"GluonNLP, {padding}"] = Contestant(arguments.oracle_python, words, None, None)
        for number in tqdm(range(arguments.rounds + 1), desc=dataset, unit="round", file=sys.stderr):
            start = time.monotonic()
            if number > 1 and start + taken > end:
                break
            for contestant in contestants.values():
                answer = contestant.turn()
                if number:
                    contestant.rounds.append(answer)
            taken = time.monotonic() - start
    finally:
        for contestant in contestants.values():
            contestant.end()
    with np.load(path, allow_pickle=False) as file:
        sizes = {"texts": len(file["lengths"]), "longest": int(file["lengths"].max()),
                 "mean_length": float(file["lengths"].mean()), "vocabulary": int(file["vocabulary"])}  # fmt: skip
    return {**sizes, "contestants": {name: contestant.rounds for name, contestant in contestants.items()}}


def median(rounds: list[dict[str, Any]], part: str, kind: str) -> float:
    return statistics.median(answer[part][kind] for answer in rounds)


def peer_versions(python: str) -> dict[str, str]:
    program = (
        "import importlib.metadata as m, json;"
        "print(json.dumps({'its ' + n: m.version(n) for n in ('gluonnlp', 'mxnet', 'numpy')}))"
    )
    found = subprocess.run([python, "-c", program], stdout=subprocess.PIPE, text=True, check=True)
    versions: dict[str, str] = json.loads(found.stdout)
    return versions


def our_versions(arguments: argparse.Namespace) -> dict[str, str]:
    program = (
        "import report, json; print(json.dumps(report.versions(['glueball-core', 'glueball-nlp-embedding-lm', '{}'])))"
    )
    versions: dict[str, str] = {}
    for backend, python in (("mxnet", arguments.mxnet_python), ("torch", arguments.torch_python)):
        command = [python, "-c", program.format(backend)]
        found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parent)
        versions.update(json.loads(found.stdout))
    return versions


def write(arguments: argparse.Namespace, results: dict[str, Any], versions: dict[str, str]) -> None:
    """The tables and goals."""
    everything = [rounds for result in results.values() for rounds in result["contestants"].values()]
    waited = max(median(rounds, "training", "clock") / median(rounds, "training", "cpu") for rounds in everything)
    kind = "cpu" if waited > SHARED else "clock"
    lines: list[str] = []
    goals = []
    for dataset, result in results.items():
        peers = {name: rounds for name, rounds in result["contestants"].items() if name.startswith("GluonNLP")}
        longest, buckets = (
            median(peers[f"GluonNLP, {padding}"], "training", kind) for padding in (TO_LONGEST, IN_BUCKETS)
        )
        rows: list[tuple[str, ...]] = []
        for name, rounds in result["contestants"].items():
            taken = median(rounds, "training", kind)
            rest = f"{median(rounds, 'rest', kind):.2f}" if "rest" in rounds[0] else "-"
            precision = rounds[-1]["precision"]
            label = name if name in peers else f"glueball on {name.split()[0]}"
            rows.append(
                (
                    f"{label}, {precision}",
                    str(rounds[-1]["batches"]),
                    f"{median(rounds, 'training', 'cpu'):.2f}",
                    f"{median(rounds, 'training', 'clock'):.2f}",
                    rest,
                    f"{longest / taken:.2f}",
                    f"{buckets / taken:.2f}",
                )
            )
        for backend, wanted in GOALS.items():
            faster = longest / median(result["contestants"][f"{backend} float32"], "training", kind)
            text = f"{dataset.upper()}, float32, epochs per second: glueball on {backend} / GluonNLP"
            goals.append(report.Goal(text, faster, wanted))
        number = len(result["contestants"]["torch float32"])
        lines += [
            f"{dataset.upper()}: {result['texts']} training texts of {result['mean_length']:.1f} words on average and "
            f"{result['longest']} at most, {result['vocabulary']} tokens; "
            f"{f'median of {number} epochs' if number > 1 else 'one epoch'} after the first.",
            "",
            *report.table(
                (
                    "contestant",
                    "batches",
                    "CPU seconds",
                    "seconds",
                    "validation and checkpoint",
                    "speed / GluonNLP, padded to the longest",
                    "speed / GluonNLP, in buckets",
                ),
                rows,
            ),
            "",
        ]
    if kind == "cpu":
        lines.append(
            f"The machine did other work meanwhile (up to {waited:.2f} seconds of the clock for one of the CPU), so "
            "speeds are compared by CPU seconds, all threads of a process together."
        )
    else:
        lines.append("Speeds are compared by seconds of the clock.")
    lines += [
        "Each process has one thread for computing; Adam, batches of 50, vectors of 300, dropout.",
        "Ours masks the padding, and each of its filters of w words sees 2(w - 1) positions more, around the text; "
        "GluonNLP's does neither.",
    ]
    where = report.machine()
    where["versions"] = versions
    report.finish(
        arguments.output,
        title="Seconds per training epoch of TextCNN",
        script="benchmarks/text_speed.py",
        where=where,
        document={"compared_by": kind, "clock_per_cpu_second": waited, "datasets": results},
        lines=lines,
        goals=goals,
    )


def main() -> None:
    """Prints the tables; with --output, writes JSON and a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--oracle-python", help="interpreter that has gluonnlp 0.10.0 and mxnet")
    parser.add_argument("--mxnet-python", help="interpreter that has glueball-core[mxnet] and the text plugin")
    parser.add_argument("--torch-python", help="interpreter that has glueball-core[torch] and the text plugin")
    parser.add_argument("--data", type=Path, help="folder with the data sets (default: where Glueball looks for them)")
    parser.add_argument("--rounds", type=int, default=3, help="counted epochs of each contestant (default: 3)")
    parser.add_argument(
        "--minutes", type=float, default=float("inf"), help="fewer rounds, at least 1, if they take longer"
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--export", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--our-side", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--gluonnlp-side", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.export:
        export(arguments.export[0], Path(arguments.export[1]))
        return
    if arguments.our_side:
        our_side(*arguments.our_side)
        return
    if arguments.gluonnlp_side:
        gluonnlp_side(arguments.gluonnlp_side[0], Path(arguments.gluonnlp_side[1]))
        return
    if not (arguments.oracle_python and arguments.mxnet_python and arguments.torch_python):
        parser.error("--oracle-python, --mxnet-python and --torch-python are needed")
    for python in (arguments.oracle_python, arguments.mxnet_python, arguments.torch_python):
        if shutil.which(python) is None:
            parser.error(f"there is no interpreter {python} (tox takes GluonNLP's from the variable NLP_PEER_PYTHON)")
    versions = {**our_versions(arguments), **peer_versions(arguments.oracle_python)}
    begun = time.monotonic()
    results = {}
    with tempfile.TemporaryDirectory() as temporary:
        for dataset, share in DATASETS.items():
            end = begun + 60 * arguments.minutes * share
            results[dataset] = measure(arguments, dataset, end, Path(temporary))
    write(arguments, results, versions)


if __name__ == "__main__":
    main()

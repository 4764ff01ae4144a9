"""Vocabularies, counters and sequences next to GluonNLP's own, on random input.

    python tests/oracle/compare_gluonnlp_vocab.py --oracle-python ENV_WITH_GLUONNLP/bin/python [--cases 500] [--seed 0]

runs in an environment of Glueball and asks GluonNLP 0.10.0 in its own. Compared are: the index that a vocabulary gets
from a counter and from wanted indices, looking up, the JSON form in both directions (also that of versions before 0.7
and the damaged one), attached embeddings, ``Counter.discard``, ``slice_sequence``, clipping and padding, and the hashes
of n-grams. The table goes to ``benchmarks/results/oracle_gluonnlp_vocab.md``; the exit status is 1 when anything
deviates.

Where Glueball differs on purpose, the table says how often, and ``_ON_PURPOSE`` why.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import os
import random
import sys
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from workers import Worker, serve

RESULT = Path(__file__).resolve().parents[2] / "benchmarks" / "results" / "oracle_gluonnlp_vocab.md"

_ON_PURPOSE = {
    "shared unknown": "a special token equal to the unknown token is refused; GluonNLP builds a damaged index of it",
    "short overlap": "GluonNLP loses the elements of a sequence that is not longer than the overlap, even when it pads",
}


# ----------------------------------------------------------------------------------------------------------------------
# GluonNLP's side


def _oracle() -> None:
    import numpy as np

    warnings.filterwarnings("ignore")
    for name in ("bool", "int", "float", "object", "str", "complex"):
        # MXNet 1.9.1 uses aliases that NumPy has dropped since.
        if name not in vars(np):
            setattr(np, name, getattr(__import__("builtins"), name))
    import gluonnlp
    import mxnet

    def build(counter: dict[str, int] | None, options: dict[str, Any]) -> Any:
        return gluonnlp.Vocab(None if counter is None else gluonnlp.data.Counter(counter), **options)

    def one(request: dict[str, Any]) -> Any:
        kind = request["kind"]
        if kind == "build":
            vocab = build(request["counter"], request["options"])
            return json.loads(vocab.to_json())
        if kind == "look up":
            vocab = build(request["counter"], request["options"])
            return [vocab[request["tokens"]], vocab.to_tokens(request["indices"])]
        if kind == "read":
            return json.loads(gluonnlp.Vocab.from_json(request["json"]).to_json())
        if kind == "embed":
            vocab = build(request["counter"], request["options"])
            embeddings = [
                gluonnlp.embedding.TokenEmbedding(
                    unknown_token=each["unknown_token"],
                    idx_to_token=each["tokens"],
                    idx_to_vec=mxnet.nd.array(each["vectors"]),
                )
                for each in request["embeddings"]
            ]
            vocab.set_embedding(*embeddings)
            return vocab.embedding.idx_to_vec.asnumpy().tolist()
        if kind == "discard":
            return gluonnlp.data.Counter(request["counter"]).discard(request["min_freq"], "<unk>")
        if kind == "slice":
            return gluonnlp.data.slice_sequence(**request["options"])
        if kind == "clip":
            return gluonnlp.data.ClipSequence(request["length"])(request["sequence"])
        if kind == "pad":
            return gluonnlp.data.PadSequence(request["length"], 7, request["clip"])(request["sequence"])
        if kind == "n-grams":
            function = gluonnlp.vocab.create_subword_function(
                "NGramHashes", num_subwords=request["buckets"], ngrams=request["ngrams"], special_tokens={"<unk>"}
            )
            return [sorted(int(each) for each in word) for word in function(request["words"])]
        if kind == "bytes":
            return [list(word) for word in gluonnlp.vocab.create_subword_function("ByteSubwords")(request["words"])]
        raise ValueError(kind)

    def handle(request: dict[str, Any]) -> dict[str, Any]:
        answers = []
        for case in request["cases"]:
            try:
                answers.append({"result": one(case)})
            except Exception as error:  # what GluonNLP refuses, in whatever way, is an answer too
                answers.append({"refused": f"{type(error).__name__}: {error}"})
        return {"answers": answers}

    serve(handle)


# ----------------------------------------------------------------------------------------------------------------------
# Our side


def _ours(request: dict[str, Any]) -> Any:
    import numpy as np

    from glueball_nlp_embedding_lm import sequences, subwords
    from glueball_nlp_embedding_lm.counting import Counter, slice_sequence
    from glueball_nlp_embedding_lm.embedding import TokenEmbedding
    from glueball_nlp_embedding_lm.vocab import Vocab

    kind = request["kind"]
    if kind in ("build", "look up", "embed"):
        vocab = Vocab(request["counter"], **request["options"])
        if kind == "build":
            return json.loads(vocab.to_json())
        if kind == "look up":
            return [vocab[request["tokens"]], vocab.to_tokens(request["indices"])]
        vocab.set_embedding(
            *(
                TokenEmbedding(
                    unknown_token=each["unknown_token"],
                    idx_to_token=each["tokens"],
                    idx_to_vec=np.array(each["vectors"], np.float32),
                )
                for each in request["embeddings"]
            )
        )
        return vocab.embedding.idx_to_vec.tolist()
    if kind == "read":
        return json.loads(Vocab.from_json(request["json"]).to_json())
    if kind == "discard":
        return Counter(request["counter"]).discard(request["min_freq"], "<unk>")
    if kind == "slice":
        return slice_sequence(**request["options"])
    if kind == "clip":
        return sequences.ClipSequence(request["length"])(request["sequence"])
    if kind == "pad":
        return sequences.PadSequence(request["length"], 7, request["clip"])(request["sequence"])
    if kind == "n-grams":
        function = subwords.NGramHashes(request["buckets"], request["ngrams"], special_tokens={"<unk>"})
        return [sorted(word.tolist()) for word in function(request["words"])]
    return [word.tolist() for word in subwords.ByteSubwords()(request["words"])]


_TOKENS = ["a", "b", "B", "é", "世界", "", " ", "a b", '"', "\n", "<unk>", "<pad>", "<bos>", "<eos>", "<m>", "r"]


def _random_vocab(draw: random.Random) -> dict[str, Any]:
    counter = {token: draw.randint(0, 4) for token in draw.sample(_TOKENS, draw.randint(0, len(_TOKENS)))}
    options: dict[str, Any] = {}
    if draw.random() < 0.3:
        options["max_size"] = draw.randint(1, 6)
    if draw.random() < 0.3:
        options["min_freq"] = draw.choice([1, 2, 3, 1.5])
    if draw.random() < 0.2:
        options["unknown_token"] = draw.choice([None, "[UNK]", "a"])
    for name in ("padding_token", "bos_token", "eos_token", "mask_token", "cls_token"):
        if draw.random() < 0.3:
            options[name] = draw.choice([None, "<pad>", "<m>", "a", "<eos>"])
    if draw.random() < 0.3:
        options["reserved_tokens"] = draw.sample(["r", "s", "a", "<pad>"], draw.randint(0, 3))
    if draw.random() < 0.3:
        options["token_to_idx"] = {
            token: draw.randint(-1, 12) if draw.random() < 0.2 else place
            for token, place in zip(
                draw.sample(["a", "b", "<pad>", "<eos>", "<unk>"], 3), draw.sample(range(8), 3), strict=True
            )
        }
    return {"counter": None if draw.random() < 0.1 else counter, "options": options}


def _old_json(draw: random.Random) -> str:
    """A file as GluonNLP 0.6 wrote it: special tokens beside the index, and a damaged index where two are the same."""
    special = {
        name: draw.choice([None, "<pad>", "<s>", "</s>"]) for name in ("padding_token", "bos_token", "eos_token")
    }
    idx_to_token = ["<unk>", *(token for token in special.values() if token is not None), "a", "b"]
    return json.dumps(
        {
            "idx_to_token": idx_to_token,
            "token_to_idx": {token: place for place, token in enumerate(idx_to_token)},
            "reserved_tokens": [token for token in special.values() if token is not None] or None,
            "unknown_token": "<unk>",
            **special,
        }
    )


def _random_case(draw: random.Random) -> dict[str, Any]:
    kind = draw.choice(
        ["build", "build", "build", "look up", "embed", "discard", "slice", "clip", "pad", "n-grams", "bytes"]
    )
    if kind == "build":
        return {"kind": kind, **_random_vocab(draw)}
    if kind == "look up":
        return {
            "kind": kind,
            **_random_vocab(draw),
            "tokens": draw.choices(_TOKENS, k=5) if draw.random() < 0.8 else "a",
            "indices": [draw.randint(0, 5) for _ in range(4)] if draw.random() < 0.8 else 2,
        }
    if kind == "embed":
        embeddings = []
        for _ in range(draw.randint(1, 3)):
            tokens = ["<unk>", *draw.sample(["a", "b", "<pad>", "é", "other"], draw.randint(1, 5))]
            width = draw.randint(1, 3)
            vectors = [[draw.randint(-9, 9) for _ in range(width)] for _ in tokens]
            embeddings.append({"unknown_token": "<unk>", "tokens": tokens, "vectors": vectors})
        # With the unknown token elsewhere or none, GluonNLP gives the first token the vector of unknown ones.
        counter = dict.fromkeys(draw.sample(["a", "b", "é", "c"], 3), 1)
        return {"kind": kind, "counter": counter, "options": {"mask_token": "<m>"}, "embeddings": embeddings}
    if kind == "discard":
        return {"kind": kind, "counter": _random_vocab(draw)["counter"] or {}, "min_freq": draw.randint(0, 4)}
    if kind == "slice":
        length = draw.randint(1, 6)
        options = {"sequence": list(range(draw.randint(0, 20))), "length": length, "pad_val": -1}
        return {
            "kind": kind,
            "options": {**options, "pad_last": draw.random() < 0.5, "overlap": draw.randrange(length)},
        }
    if kind in ("clip", "pad"):
        sequence = [draw.randint(0, 9) for _ in range(draw.randint(0, 8))]
        return {"kind": kind, "sequence": sequence, "length": draw.randint(1, 8), "clip": draw.random() < 0.5}
    words = ["".join(draw.choices("abcéü世😀-", k=draw.randint(1, 9))) for _ in range(4)] + ["<unk>"]
    if kind == "bytes":
        return {"kind": kind, "words": words}
    return {
        "kind": kind,
        "words": words,
        "buckets": draw.choice([7, 1000, 2_000_000]),
        "ngrams": draw.choice([[3, 4, 5, 6], [2], [3, 5]]),
    }


def _expected_difference(case: dict[str, Any]) -> str | None:
    options = case.get("options", {})
    if case["kind"] in ("build", "look up"):
        unknown = options.get("unknown_token", "<unk>")
        named = {name: token for name, token in options.items() if name.endswith("_token") and name != "unknown_token"}
        tokens = [*named.values(), *({"<pad>", "<bos>", "<eos>"} if len(named) < 5 else ())]
        return "shared unknown" if unknown is not None and unknown in tokens else None
    if case["kind"] == "slice" and options["pad_last"] and len(options["sequence"]) <= options["overlap"]:
        return "short overlap"
    return None


def _answer(case: dict[str, Any]) -> dict[str, Any]:
    from glueball.errors import GlueballError

    try:
        return {"result": json.loads(json.dumps(_ours(case)))}
    except GlueballError as error:
        return {"refused": f"{type(error).__name__}: {error}"}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--oracle-python", help="the interpreter that has gluonnlp 0.10.0")
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULT)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve or os.environ.get("GLUEBALL_ORACLE_SIDE"):
        _oracle()
        return 0
    if not options.oracle_python:
        parser.error("--oracle-python is needed")
    warnings.filterwarnings("ignore", message="The vocabulary was written by a version of GluonNLP")
    draw = random.Random(options.seed)
    cases = [_random_case(draw) for _ in range(options.cases)]
    cases += [{"kind": "read", "json": _old_json(draw)} for _ in range(options.cases // 10)]
    worker = Worker(options.oracle_python, os.path.abspath(__file__), {"GLUEBALL_ORACLE_SIDE": "1"})
    compared: collections.Counter[str] = collections.Counter()
    failures: list[str] = []

    def compare(some: list[dict[str, Any]], label: str | None = None) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        answers = worker.ask({"cases": some})["answers"]
        ours = [_answer(case) for case in some]
        for case, theirs, mine in zip(some, answers, ours, strict=True):
            name = label or case["kind"]
            same = ("refused" in theirs) == ("refused" in mine) and theirs.get("result") == mine.get("result")
            reason = None if same else _expected_difference(case)
            if reason is not None:
                compared[f"  differs on purpose: {_ON_PURPOSE[reason]}"] += 1
            elif same:
                compared[f"{name}: {'both refuse' if 'refused' in mine else 'equal'}"] += 1
            else:
                failures.append(f"{name}: {json.dumps(case)}\n  GluonNLP: {theirs}\n  Glueball: {mine}")
        return list(zip(answers, ours, strict=True))

    both = compare(cases)
    # Each side reads what the other wrote.
    built = [
        pair
        for case, pair in zip(cases, both, strict=True)
        if case["kind"] == "build" and all("result" in one for one in pair)
    ]
    compare(
        [{"kind": "read", "json": json.dumps(theirs["result"])} for theirs, _ in built], "both read GluonNLP's file"
    )
    compare([{"kind": "read", "json": json.dumps(mine["result"])} for _, mine in built], "both read Glueball's file")
    worker.close()
    lines = [
        "# Vocabularies, counters and sequences against GluonNLP",
        "",
        "Made by `tests/oracle/compare_gluonnlp_vocab.py`.",
        f"GluonNLP 0.10.0; {options.cases} random cases, seed {options.seed}; {datetime.date.today().isoformat()}.",
        "",
        "| what | cases |",
        "| --- | ---: |",
        *(
            f"| {name.strip()} | {count} |"
            for name, count in sorted(compared.items(), key=lambda item: item[0].strip())
        ),
        f"| deviations | {len(failures)} |",
    ]
    print("\n".join(lines))
    options.output.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for failure in failures[:10]:
        print(failure)
    print(f"{len(failures)} deviations" if failures else "no deviation")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

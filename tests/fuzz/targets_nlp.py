"""What the plugin for texts reads."""

from __future__ import annotations

import base64
import functools
import gzip
import io
import json
import pickle
import random
import struct
import tempfile
import zipfile
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from containers import TAR_TOKENS, ZIP_TOKENS, make_tar, make_zip, sum_tar, sum_zip
from harness import Target
from mutation import Mutation, Parts, mutate_json
from targets_core import _JSON_TOKENS, _json_mutator

from glueball_nlp_embedding_lm.datasets.decoding import published_lines
from glueball_nlp_embedding_lm.datasets.json_pairs import read_pairs
from glueball_nlp_embedding_lm.datasets.text_file import TextFile
from glueball_nlp_embedding_lm.datasets.trees import open_tree
from glueball_nlp_embedding_lm.embedding import TokenEmbedding
from glueball_nlp_embedding_lm.embedding.evaluation_sets import AnalogySet, SimilaritySet
from glueball_nlp_embedding_lm.pipeline import TextPipeline
from glueball_nlp_embedding_lm.tokenizers import from_description
from glueball_nlp_embedding_lm.tokenizers.sentencepiece import SentencePieceTokenizer
from glueball_nlp_embedding_lm.vocab import Vocab

_draw = np.random.default_rng(0)
_WORDS = ["the", "of", "naïve", "字典", "</s>", "a b", "x", "<unk>"]


# ----------------------------------------------------------------------------------------------------------------------
# Vectors


def _check_embedding(embedding: TokenEmbedding) -> None:
    vectors = embedding.idx_to_vec
    assert vectors is not None
    assert vectors.dtype == np.float32
    assert vectors.shape == (len(embedding), embedding.dimension)
    assert np.isfinite(vectors).all()
    assert len(set(embedding.idx_to_token)) == len(embedding)
    for place, token in list(enumerate(embedding.idx_to_token))[:20]:
        assert embedding.token_to_idx[token] == place


def _read_vectors(parts: Parts, folder: Path, name: str = "vectors", format: str | None = None) -> TokenEmbedding:
    path = folder / name
    path.write_bytes(parts[0])
    embedding = TokenEmbedding.from_file(path, format=format)
    _check_embedding(embedding)
    return embedding


def _pack(rng: random.Random, parts: Parts) -> Parts:
    """Damage inside of what is compressed without damage."""
    if parts[0][:2] in (b"\x1f\x8b", b"PK") or rng.random() < 0.8:
        return parts
    return (gzip.compress(parts[0], 1),) if rng.random() < 0.5 else (make_zip({"vectors.txt": parts[0]}),)


_NUMBERS = _draw.normal(size=(len(_WORDS), 4)).round(4)
_LINES = "".join(f"{word} {' '.join(map(str, row))}\n" for word, row in zip(_WORDS, _NUMBERS, strict=True)).encode()
_TEXT_TOKENS = [
    b" ",
    b"\n",
    b"\r\n",
    b"\t",
    b"  ",
    b"\x85",
    b"\0",
    b"-",
    b".",
    b"e",
    b"E5",
    b"nan",
    b"inf",
    b"\xff",
    b"<unk> ",
    b"8 4\n",
]
_TEXT_TOKENS += [
    b"-9223372036854775808.5",
    b"1000000 1000000\n",
    b"-" + b"9" * 25 + b".5",
    b"0." + b"0" * 30 + b"1",
    b"1.7976931348623157e308",
]


def _read_text_vectors(parts: Parts, folder: Path) -> None:
    embedding = _read_vectors(parts, folder, format="text")
    content = parts[0]
    if content[:2] in (b"\x1f\x8b", b"PK"):
        return
    # The vector of a line that has just a token and as many numbers is what Python makes of the numbers.
    seen: set[str] = {"<unk>"}
    for line in content.split(b"\n"):
        words = line.rstrip().split(b" ")
        if len(words) != embedding.dimension + 1:  # type: ignore[operator]
            continue
        try:
            token = words[0].decode()
            values = [float(word) for word in words[1:] if b"_" not in word]
        except ValueError:
            continue
        if token in seen or token not in embedding or len(values) < len(words) - 1:
            continue
        seen.add(token)
        with np.errstate(over="ignore"):
            expected = np.array(values).astype(np.float32)
        if np.isfinite(expected).all() and b"\0" not in line:
            np.testing.assert_allclose(embedding[token], expected, rtol=2e-7, atol=0)


def _embedding_text() -> Target:
    corpus = [_LINES, b"8 4\n" + _LINES, b"1 -2 3\nthe 4 5\n", _LINES.replace(b"\n", b" \r\n"), b"a 1\nb 2\nc 3\n"]
    corpus += [b"".join(b"w%d -1.%d 2.5 -3e-2\n" % (at, at) for at in range(30))]
    packed = [gzip.compress(_LINES), make_zip({"v.txt": _LINES}), make_zip({"v.txt": _LINES}, zipfile.ZIP_STORED)]
    return Target(
        "embedding_text",
        Mutation([(one,) for one in corpus + packed], _TEXT_TOKENS, finish=_pack),
        _read_text_vectors,
    )


def _word2vec(ending: bytes) -> bytes:
    rows = [
        word.replace(" ", "_").encode() + b" " + row.astype("<f4").tobytes() + ending
        for word, row in zip(_WORDS, _NUMBERS, strict=True)
    ]
    return b"8 4\n" + b"".join(rows)


def _embedding_word2vec() -> Target:
    corpus = [_word2vec(b"\n"), _word2vec(b""), gzip.compress(_word2vec(b"\n")), make_zip({"v.bin": _word2vec(b"")})]
    tokens = [
        b"8 4\n",
        b"9 4\n",
        b"1000000000 4\n",
        b"8 1048576\n",
        b"1 1000000\n",
        b" ",
        b"\n",
        b"\xff\xff\xc0\x7f",
        b"0 0\n",
    ]
    return Target(
        "embedding_word2vec",
        Mutation([(one,) for one in corpus], tokens, finish=_pack),
        lambda parts, folder: _read_vectors(parts, folder, format="word2vec") and None,
    )


def _fasttext(
    words: list[str],
    matrix: np.ndarray,
    *,
    minn: int = 2,
    maxn: int = 3,
    bucket: int = 5,
    labels: tuple[str, ...] = (),
    is_old: bool = False,
    version: int = 12,
    model: int = 2,
    pruned: dict[int, int] | None = None,
) -> bytes:
    parts = [] if is_old else [struct.pack("<2i", 793712314, version)]
    parts.append(struct.pack("<12id", matrix.shape[1], 5, 5, 1, 5, 1, 2, model, bucket, minn, maxn, 100, 1e-4))
    parts.append(struct.pack("<3iq", len(words) + len(labels), len(words), len(labels), 1000))
    if not is_old:
        parts.append(struct.pack("<q", -1 if pruned is None else len(pruned)))
    for kind, names in enumerate((words, labels)):
        parts += [name.encode() + struct.pack("<xqb", 7, kind) for name in names]
    parts += [struct.pack("<2i", *pair) for pair in (pruned or {}).items()]
    if not is_old:
        parts.append(b"\0")
    parts += [struct.pack("<2q", *matrix.shape), matrix.astype("<f4").tobytes(), struct.pack("<?2q", False, 0, 0)]
    return b"".join(parts)


def _read_fasttext(parts: Parts, folder: Path) -> None:
    embedding = _read_vectors(parts, folder, "model.bin", "fasttext")
    for word in ("the", "unseen", "字", "", "x" * 50):
        vector = embedding.unknown_lookup[word]  # type: ignore[index]
        assert vector.shape == (embedding.dimension,)


def _embedding_fasttext() -> Target:
    words = [word for word in _WORDS if word != "a b"]
    matrix = _draw.normal(size=(len(words) + 5, 3))
    corpus = [
        _fasttext(words, matrix),
        _fasttext(words, matrix, is_old=True),
        _fasttext(words, matrix[: len(words)], bucket=0, maxn=0),
        _fasttext(words, matrix, labels=("__label__a",), model=3),
        _fasttext(words, matrix[: len(words) + 2], pruned={0: 0, 3: 1}),
        gzip.compress(_fasttext(words, matrix)),
    ]
    tokens = [
        struct.pack("<i", 793712314),
        struct.pack("<2i", 793712314, 11),
        b"\0",
        struct.pack("<q", -1),
        struct.pack("<q", 1 << 40),
    ]
    return Target("embedding_fasttext", Mutation([(one,) for one in corpus], tokens, finish=_pack), _read_fasttext)


def _npy(array: np.ndarray, protocol: int = 2) -> bytes:
    buffer = io.BytesIO()
    if array.dtype == object:
        np.lib.format.write_array_header_1_0(buffer, np.lib.format.header_data_from_array_1_0(array))
        pickle.dump(array, buffer, protocol=protocol)
    else:
        np.lib.format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


_NPZ = ("unknown_token.npy", "idx_to_token.npy", "idx_to_vec.npy")


def _npz_members(kind: Any, vectors: np.ndarray, protocol: int = 2) -> tuple[bytes, bytes, bytes]:
    tokens = np.array(_WORDS, dtype=kind)
    return _npy(np.array("<unk>")), _npy(tokens, protocol), _npy(vectors)


def _read_npz(parts: Parts, folder: Path) -> None:
    """Three parts are the members; one is the archive as a whole."""
    if len(parts) == 3:
        parts = (make_zip(dict(zip(_NPZ, parts, strict=True)), zipfile.ZIP_STORED),)
    path = folder / "vectors.npz"
    path.write_bytes(parts[0])
    for embedding in (TokenEmbedding.from_file(path), TokenEmbedding.deserialize(path)):
        _check_embedding(embedding)


_NPY_TOKENS = [
    b"\x93NUMPY\x01\0",
    b"\x93NUMPY\x02\0",
    b"\x93NUMPY\x03\0",
    b"'<U0'",
    b"'|O'",
    b"'<f4'",
    b"'<f2'",
    b"'>f8'",
    b"'<f16'",
    b"'|V8'",
]
_NPY_TOKENS += [
    b"(8,)",
    b"(8, 4)",
    b"()",
    b"(99999999999,)",
    b"(-1,)",
    b"(8, 0)",
    b"True",
    b"'fortran_order'",
    b"[('a','<f4')]",
    b"(" * 100,
    b"'<U1000000'",
]
_NPY_TOKENS += [
    b"cos\nsystem\n",
    b"\x8c\x01a",
    b"]",
    b"(",
    b"e",
    b"h\0",
    b"q\0",
    b"\x94",
    b"R",
    b"b",
    b".",
    b"\x8d" + b"\xff" * 8,
    b"X\xff\xff\xff\xff",
]


def _embedding_npy() -> Target:
    """The arrays inside of .npz files."""
    vectors = _NUMBERS.astype("f4")
    corpus = [_npz_members(str, vectors), _npz_members(str, vectors.astype(">f8"))]
    corpus += [_npz_members(object, vectors.astype("f2"), protocol) for protocol in (2, 3, 4, 5)]
    return Target("embedding_npy", Mutation(corpus, _NPY_TOKENS), _read_npz)


def _embedding_npz() -> Target:
    """.npz files as archives."""
    members = dict(zip(_NPZ, _npz_members(object, _NUMBERS.astype("f4")), strict=True))
    corpus = [(make_zip(members, compression),) for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)]
    return Target("embedding_npz", Mutation(corpus, ZIP_TOKENS, finish=sum_zip), _read_npz)


# ----------------------------------------------------------------------------------------------------------------------
# Archives


def _read_tree(suffix: str) -> Callable[[Parts, Path], None]:
    def read(parts: Parts, folder: Path) -> None:
        path = folder / f"corpus{suffix}"
        path.write_bytes(parts[0])
        tree = open_tree(path)
        names = tree.names()
        assert len(set(names)) == len(names)
        for name in names[:3]:
            content = tree.read(name)
            assert dict(tree.read_all([name]))[name] == content
        assert {item.name for item in folder.iterdir()} == {path.name}

    return read


def _zip_tree() -> Target:
    members = {"a/neg.txt": b"bad film\n" * 20, "a/pos.txt": b"good\n", "../outside.txt": b"x"}
    kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
    return Target(
        "zip_tree",
        Mutation([(make_zip(members, kind),) for kind in kinds], ZIP_TOKENS, finish=sum_zip),
        _read_tree(".zip"),
    )


def _tar_tree() -> Target:
    members = {"a/neg.txt": b"bad film\n" * 20, "./a/pos.txt": b"good\n", "../outside.txt": b"x"}
    corpus = [(make_tar(members, mode, format),) for mode in ("w", "w:gz", "w:xz", "w:bz2") for format in (1, 2)]
    return Target("tar_tree", Mutation(corpus, TAR_TOKENS, finish=sum_tar), _read_tree(".tar"))


# ----------------------------------------------------------------------------------------------------------------------
# Vocabularies, tokenisers, pipelines


def _read_vocabulary(parts: Parts, folder: Path) -> None:
    vocab = Vocab.from_json(parts[0])
    again = Vocab.from_json(vocab.to_json())
    assert again.idx_to_token == vocab.idx_to_token
    assert again.token_to_idx == vocab.token_to_idx
    assert vocab.unknown_token is None or vocab["no such token"] == vocab[vocab.unknown_token]
    for index, token in enumerate(vocab.idx_to_token[:20]):
        assert vocab.to_tokens(index) == token


def _vocabulary() -> Target:
    from collections import Counter

    plain = json.loads(Vocab(Counter(_WORDS), reserved_tokens=["<sep>"]).to_json())
    bare = json.loads(
        Vocab(Counter("abc"), unknown_token=None, padding_token=None, bos_token=None, eos_token=None).to_json()
    )
    old = {**plain, "padding_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}
    del old["identifiers_to_tokens"]
    corpus = [(json.dumps(one).encode(),) for one in (plain, bare, old)]
    words = ("<pad>", "<unk>", "padding_token", "mask_token", "unknown_token", "idx_to_token", "__class__", "to_json")
    return Target("vocabulary", Mutation(corpus, _JSON_TOKENS, [_json_mutator(words)]), _read_vocabulary)


@functools.cache
def _pieces(model_type: str, rules: str = "") -> bytes:
    """A trained model; ``rules`` are lines of its own for normalising, as the program takes them."""
    sentences = ["the film is strangely unmoving", "a really good cast", "strange moments, strange film"] * 5
    model = io.BytesIO()
    with tempfile.NamedTemporaryFile("w", suffix=".tsv", encoding="utf-8") as file:
        file.write(rules)
        file.flush()
        options = {"normalization_rule_tsv": file.name} if rules else {"normalization_rule_name": "identity"}
        _train(sentences, model, model_type, options)
    return model.getvalue()


def _train(sentences: list[str], model: io.BytesIO, model_type: str, options: dict[str, str]) -> None:
    import sentencepiece

    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences),
        model_writer=model,
        model_type=model_type,
        minloglevel=2,
        num_threads=1,
        hard_vocab_limit=False,
        vocab_size=40,
        **options,
    )


def _read_pieces(parts: Parts, folder: Path) -> None:
    tokenizer = SentencePieceTokenizer(model=parts[0])
    tokens = tokenizer("a strange film, 字")
    assert all(isinstance(token, str) for token in tokens)
    assert isinstance(tokenizer.detokenizer()(tokens), str)
    if tokenizer._trained.model_type in (1, 2):
        drawing = SentencePieceTokenizer(model=parts[0], num_best=-1, alpha=0.5)
        drawn = drawing("a strange film, 字", np.random.default_rng(0))
        assert all(isinstance(token, str) for token in drawn)


def _sentencepiece() -> Target:
    corpus = [(_pieces(kind),) for kind in ("unigram", "bpe", "char")]
    # With a table of its own for normalising, which is a trie whose places lead anywhere when damaged.
    corpus += [(_pieces("unigram", "FF21\t41\n41 300\tC0\n61\t62\n"),)] * 2
    tokens = [
        b"\n\x0e\n",
        b"\x15\0\0\0\0",
        b"\x15\0\0\xc0\x7f",
        b"\x18\x02",
        b"\x18\x03",
        b"\x18\x05",
        b"\x18\x06",
        b"\xff" * 10,
        b"<0x41>",
        b"\x12\x02",
    ]
    return Target(
        "sentencepiece",
        Mutation(corpus, tokens),
        _read_pieces,
        16 << 20,
        "the library keeps a model and its own tables; it is C++, which counts on its own",
    )


def _read_tokenizer(parts: Parts, folder: Path) -> None:
    try:
        description = json.loads(parts[0])
    except (ValueError, RecursionError):
        return
    tokenizer = from_description(description)
    assert from_description(tokenizer.describe()) == tokenizer
    assert all(isinstance(token, str) for token in tokenizer("It isn't so, is it?"))


def _tokenizers() -> Target:
    descriptions: list[dict[str, Any]] = [
        {"name": "whitespace", "lower": True},
        {"name": "basic", "lower": False, "split_hyphens": True},
        {"name": "kim", "lower": True},
        {
            "name": "sentencepiece",
            "model": base64.b64encode(_pieces("unigram")).decode(),
            "num_best": 0,
            "alpha": 1.0,
            "lower": False,
        },
    ]
    # Their dictionaries are loaded once, before the memory is measured.
    descriptions += [
        {"name": name} for name, library in (("moses", "sacremoses"), ("jieba", "jieba")) if find_spec(library)
    ]
    corpus = [(json.dumps(one).encode(),) for one in descriptions]
    words = ("basic", "kim", "moses", "jieba", "sentencepiece", "name", "path", "lower", "model", "self")
    return Target(
        "tokenizers", Mutation(corpus, [b"{}", b'"name"', b"null"], [_json_mutator(words)]), _read_tokenizer, 16 << 20,
        "as sentencepiece",
    )  # fmt: skip


def _hash_tokens(rng: random.Random, parts: Parts) -> Parts:
    import hashlib

    try:
        content = json.loads(parts[0])
        tokens = content["vocabulary"]["tokens"]
        content["vocabulary"]["sha256"] = hashlib.sha256(json.dumps(list(tokens)).encode()).hexdigest()
        return (json.dumps(content).encode(),)
    except (ValueError, TypeError, KeyError, RecursionError):
        return parts


def _read_pipeline(parts: Parts, folder: Path) -> None:
    try:
        description = json.loads(parts[0])
    except (ValueError, RecursionError):
        return
    pipeline = TextPipeline.from_description(description)
    ids = pipeline("the film isn't good")
    assert ids.dtype == np.int32
    assert ids.ndim == 1
    assert not len(ids) or 0 <= int(ids.min()) <= int(ids.max()) < len(pipeline.vocab) + pipeline.buckets


def _pipeline() -> Target:
    tokens = ["<unk>", "<pad>", "the", "film", "good"]
    description = {
        "tokenizer": {"name": "basic", "lower": True, "split_hyphens": True},
        "lower": False,
        "max_length": 50,
        "ngrams": 2,
        "buckets": 100,
        "vocabulary": {"sha256": "", "unknown_token": "<unk>", "padding_token": "<pad>", "tokens": tokens},
    }
    corpus = [_hash_tokens(random.Random(0), (json.dumps(description).encode(),))]
    return Target(
        "pipeline", Mutation(corpus, _JSON_TOKENS, [_json_mutator(tuple(tokens))], _hash_tokens), _read_pipeline
    )


# ----------------------------------------------------------------------------------------------------------------------
# Texts and labels

_TABLES = (".tsv", ".csv", ".jsonl", ".json", ".txt")
_TABLE_TOKENS = [
    b"\t",
    b",",
    b";",
    b'"',
    b'""',
    b"\n",
    b"\r\n",
    b"\r",
    b"\0",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\x85",
    b"\xff",
    b"label",
    b"text",
]
_TABLE_TOKENS += [
    b"__label__",
    b"nan",
    b"true",
    b"True",
    b"1.0",
    b"[" * 3000,
    b'{"text": "a", "label": 1}\n',
    b"\\ud83d",
    b"1e400",
    b"null",
]


def _read_table(parts: Parts, folder: Path) -> None:
    """The second part says by which suffix the file goes."""
    suffix = _TABLES[parts[1][0] % len(_TABLES)] if parts[1] else ".tsv"
    name = f"texts{suffix}" + (".gz" if parts[0][:2] == b"\x1f\x8b" else "")
    path = folder / name
    path.write_bytes(parts[0])
    data = TextFile(path)
    path.unlink()
    assert len(data) == len(data.texts) == len(data.labels())
    assert len(data.classes) >= 2
    assert all(isinstance(text, str) for text in data.texts)
    labels = data.labels()
    assert 0 <= int(labels.min()) <= int(labels.max()) < len(data.classes)


def _text_tables() -> Target:
    samples = [(f"a really {word} film, number {at}", word) for at in range(3) for word in ("good", "bad")]
    lines = "".join(f"{text}\t{label}\n" for text, label in samples)
    quoted = "text,label\n" + "".join(f'"{text}",{label}\n' for text, label in samples)
    objects = [{"text": text, "label": label} for text, label in samples]
    fasttext = "".join(f"__label__{label} {text}\n" for text, label in samples)
    numbered = "".join(f"{at % 2}.0\t{text}\n" for at, (text, _) in enumerate(samples))
    corpus = [
        (lines.encode(), b"\0"),
        (("sentence\tsentiment\n" + lines).encode(), b"\0"),
        (quoted.encode(), b"\1"),
        ("".join(json.dumps(one) + "\n" for one in objects).encode(), b"\2"),
        (json.dumps(objects).encode(), b"\3"),
        (json.dumps(samples).encode(), b"\3"),
        (fasttext.encode(), b"\4"),
        (numbered.encode(), b"\0"),
        (gzip.compress(lines.encode()), b"\0"),
    ]

    def pack(rng: random.Random, parts: Parts) -> Parts:
        packed = parts[0][:2] == b"\x1f\x8b" or rng.random() < 0.9
        return parts if packed else (gzip.compress(parts[0], 1), parts[1])

    def mutate(rng: random.Random, parts: Parts) -> Parts:
        value = mutate_json(rng, [dict(one) for one in objects], ("text", "label", "good", 1, 1.0, True))
        if rng.random() < 0.5 and isinstance(value, list):
            return "".join(json.dumps(one) + "\n" for one in value).encode(), b"\2"
        return json.dumps(value).encode(), b"\3"

    def tables_stay_tables(rng: random.Random, parts: Parts) -> Parts:
        return mutation.any_part(rng, parts)[0], parts[1]

    mutation = Mutation(corpus, _TABLE_TOKENS, [mutate, tables_stay_tables, tables_stay_tables], pack)
    return Target("text_tables", mutation, _read_table)


def _read_corpora(parts: Parts, folder: Path) -> None:
    if parts[1] and parts[1][0] % 2:
        pairs = read_pairs(parts[0], "x.json")
        assert json.loads(json.dumps(pairs)) == [list(pair) for pair in pairs]
        return
    lines = published_lines(parts[0], "x.txt")
    assert all("\n" not in line for line in lines)


def _corpora() -> Target:
    corpus = [
        (json.dumps([["a film", 1], ["naïve", 0]]).encode(), b"\1"),
        (b"DESC:manner How did it\nENTY:cremat What\n", b"\0"),
        ("naïve \u2013 café\n".encode(), b"\0"),
        ("naïve\x85 caf\xe9\n".encode("latin-1"), b"\0"),
    ]
    return Target("corpora", Mutation(corpus, [*_JSON_TOKENS, b"\x81", b"\xc3", b"\r\n"]), _read_corpora)


def _read_evaluation(parts: Parts, folder: Path) -> None:
    path = folder / "set.txt"
    path.write_bytes(parts[0])
    kind = SimilaritySet if not parts[1] or parts[1][0] % 2 else AnalogySet
    found = kind.from_file(path)
    assert len(found) > 0


def _evaluation_sets() -> Target:
    corpus = [
        (b"# scores\ntiger cat 7.35\ncar train 6.31\n", b"\1"),
        (b"tiger\tcat\t7.35\ncar\ttrain\t6\n", b"\1"),
        (b": capital\nAthens Greece Baghdad Iraq\n: family\nboy girl king queen\n", b"\0"),
    ]
    return Target(
        "evaluation_sets",
        Mutation(corpus, [b"\t", b" ", b"\n", b"#", b":", b"nan", b"\xff", b"\0", b"\x85"]),
        _read_evaluation,
    )


TARGETS: dict[str, Callable[[], Target]] = {
    "embedding_text": _embedding_text,
    "embedding_word2vec": _embedding_word2vec,
    "embedding_fasttext": _embedding_fasttext,
    "embedding_npy": _embedding_npy,
    "embedding_npz": _embedding_npz,
    "zip_tree": _zip_tree,
    "tar_tree": _tar_tree,
    "vocabulary": _vocabulary,
    "sentencepiece": _sentencepiece,
    "tokenizers": _tokenizers,
    "pipeline": _pipeline,
    "text_tables": _text_tables,
    "corpora": _corpora,
    "evaluation_sets": _evaluation_sets,
}

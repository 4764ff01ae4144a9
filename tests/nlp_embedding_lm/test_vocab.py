"""Vocabularies: the index that GluonNLP gives, its files, and errors for everything else.

``tests/oracle/compare_gluonnlp_vocab.py`` compares with GluonNLP itself; what it writes is kept here as text.
"""

from __future__ import annotations

import copy
import json
import pickle
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glueball.errors import DataError, GlueballError, OptionError
from glueball_nlp_embedding_lm.counting import Counter, count_tokens
from glueball_nlp_embedding_lm.embedding import TokenEmbedding
from glueball_nlp_embedding_lm.vocab import UnknownTokenError, Vocab

COUNTER = Counter({"a": 3, "b": 2, "c": 2, "d": 1, "<pad>": 9})

# Written by gluonnlp 0.10.0: Vocab(COUNTER, reserved_tokens=["r"], mask_token="<m>", cls_token=None).
GLUONNLP_JSON = (
    '{"idx_to_token": ["<unk>", "<m>", "<pad>", "<bos>", "<eos>", "r", "a", "b", "c", "d"], "token_to_idx": {"<unk>": 0'
    ', "<m>": 1, "<pad>": 2, "<bos>": 3, "<eos>": 4, "r": 5, "a": 6, "b": 7, "c": 8, "d": 9}, "reserved_tokens": ["<m>"'
    ', "<pad>", "<bos>", "<eos>", "r"], "unknown_token": "<unk>", "identifiers_to_tokens": {"mask_token": "<m>", '
    '"cls_token": null, "padding_token": "<pad>", "bos_token": "<bos>", "eos_token": "<eos>"}}'
)
# In the form of GluonNLP 0.6, with the index that it damaged: <eos> has the rows 2 and 3 and the index 3.
DAMAGED_JSON = json.dumps(
    {
        "idx_to_token": ["<unk>", "<pad>", "<eos>", "<eos>", "a"],
        "token_to_idx": {"<unk>": 0, "<pad>": 1, "<eos>": 3, "a": 4},
        "reserved_tokens": ["<pad>", "<eos>", "<eos>"],
        "unknown_token": "<unk>",
        "padding_token": "<pad>",
        "bos_token": "<eos>",
        "eos_token": "<eos>",
    }
)


# ----------------------------------------------------------------------------------------------------------------------
# Building


def test_order() -> None:
    vocab = Vocab(COUNTER, reserved_tokens=["r", "c"], mask_token="<m>")
    assert vocab.idx_to_token == ["<unk>", "<m>", "<pad>", "<bos>", "<eos>", "r", "c", "a", "b", "d"]
    assert vocab.reserved_tokens == ["<m>", "<pad>", "<bos>", "<eos>", "r", "c"]
    assert Vocab(COUNTER, None, 2).idx_to_token[4:] == ["a", "b", "c"]
    assert Vocab(COUNTER, max_size=2).idx_to_token[4:] == ["a", "b"]
    assert Vocab().idx_to_token == ["<unk>", "<pad>", "<bos>", "<eos>"]
    assert Vocab({"b": 1, "a": 1}, padding_token=None, bos_token=None, eos_token=None).idx_to_token == [
        "<unk>",
        "a",
        "b",
    ]


@settings(deadline=None)
@given(
    st.dictionaries(st.text("abB<>é世", max_size=3), st.integers(-1, 4)),
    st.none() | st.integers(1, 5),
    st.integers(1, 4),
    st.sampled_from([None, "<unk>"]),
)
def test_what_is_in_it(counter: dict[str, int], max_size: int | None, min_freq: int, unknown_token: str | None) -> None:
    vocab = Vocab(counter, max_size, min_freq, unknown_token, mask_token="a")
    special = ([] if unknown_token is None else [unknown_token]) + ["a", "<pad>", "<bos>", "<eos>"]
    assert vocab.idx_to_token[: len(special)] == special
    taken = list(vocab.idx_to_token[len(special) :])
    wanted = [token for token, count in counter.items() if count >= min_freq and token not in special]
    assert taken == sorted(wanted, key=lambda token: (-counter[token], token))[:max_size]
    assert vocab.to_tokens(list(range(len(vocab)))) == vocab.idx_to_token
    assert vocab[vocab.idx_to_token] == list(range(len(vocab)))
    again = Vocab.from_json(vocab.to_json())
    assert again == vocab
    assert again.to_json() == vocab.to_json()


def test_special_tokens_are_attributes() -> None:
    vocab = Vocab(COUNTER, bos_token=None, eos_token="a", mask_token="<m>", cls_token=None)
    assert (vocab.padding_token, vocab.bos_token, vocab.eos_token) == ("<pad>", None, "a")
    assert (vocab.mask_token, vocab.cls_token) == ("<m>", None)
    assert vocab.idx_to_token == ["<unk>", "<m>", "<pad>", "a", "b", "c", "d"]
    with pytest.raises(AttributeError, match=r"no attribute 'sep_token'.*mask_token"):
        _ = vocab.sep_token
    # Two roles, one token.
    assert Vocab(padding_token="<eos>").idx_to_token == ["<unk>", "<eos>", "<bos>"]


def test_wanted_indices() -> None:
    wanted = {"a": 0, "<pad>": 5}
    vocab = Vocab(COUNTER, token_to_idx=wanted)
    assert vocab.idx_to_token == ["a", "b", "<bos>", "<eos>", "<unk>", "<pad>", "c", "d"]
    assert vocab["nobody knows it"] == vocab["<unk>"] == 4
    assert vocab.token_to_idx["nobody knows it"] == 4
    assert wanted == {"a": 0, "<pad>": 5}
    assert Vocab(COUNTER, token_to_idx={token: np.int64(place) for token, place in wanted.items()}) == vocab


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_size": 0}, "max_size is a whole number of at least 1"),
        ({"max_size": 1.5}, "max_size"),
        ({"max_size": True}, "max_size"),
        ({"min_freq": 0}, "min_freq is a number above 0"),
        ({"min_freq": float("nan")}, "min_freq"),
        ({"min_freq": "2"}, "min_freq"),
        ({"unknown_token": ""}, "unknown_token is a string of at least one character"),
        ({"padding_token": 0}, "padding_token is a string"),
        ({"padding_token": "<unk>"}, "padding_token and unknown_token are both '<unk>'"),
        ({"mask": "<m>"}, "does not end in '_token'"),
        ({"_x_token": "<m>"}, "cannot be the name of an attribute"),
        ({"a b_token": "<m>"}, "cannot be the name of an attribute"),
        ({"mask_token": 3}, "mask_token is a string"),
        ({"reserved_tokens": ["x", "x"]}, "several times: 'x'"),
        ({"reserved_tokens": ["<pad>"]}, "'<pad>' is in reserved_tokens and is the padding_token"),
        ({"reserved_tokens": ["<unk>"]}, "is the unknown_token"),
        ({"reserved_tokens": "r"}, "Received a text: 'r'"),
        ({"reserved_tokens": [1]}, "reserved_tokens are strings"),
        ({"token_to_idx": {"q": 0}}, "names 'q', which would not be in the vocabulary"),
        ({"token_to_idx": {"a": 0, "b": 0}}, "each index once. Given to several tokens: 0"),
        ({"token_to_idx": {"a": -1}}, "integers from 0 to 7 for a vocabulary of 8 tokens. Received: -1 for 'a'"),
        ({"token_to_idx": {"a": 8}}, "Received: 8"),
        ({"token_to_idx": {"a": True}}, "Received: True"),
        ({"counter": ["a", "b"]}, "expects a counter"),
        ({"counter": {1: 1}}, "holds strings. Received: 1"),
        ({"counter": {"a": "1"}}, "a number for each token. Received for 'a': '1'"),
        ({"counter": {"a": float("nan")}}, "Received for 'a': nan"),
    ],
)
def test_arguments_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionError, match=message.replace("(", r"\(")):
        Vocab(**{"counter": COUNTER, **options})


# ----------------------------------------------------------------------------------------------------------------------
# Looking up


def test_looking_up() -> None:
    vocab = Vocab(COUNTER)
    assert vocab["a"] == vocab("a") == vocab.to_indices("a") == 4
    for tokens in (["b", "zz"], ("b", "zz"), np.array(["b", "zz"]), iter(["b", "zz"])):
        assert vocab[tokens] == [5, 0]
    assert vocab(["a"]) == vocab.to_indices(["a"]) == [4]
    assert vocab[[]] == []
    assert vocab.to_tokens(4) == vocab.to_tokens(np.int32(4)) == "a"
    assert vocab.to_tokens([0, 4]) == vocab.to_tokens(np.array([0, 4])) == ["<unk>", "a"]
    assert "a" in vocab
    assert "zz" not in vocab
    assert 4 not in vocab
    assert len(vocab) == 8
    assert list(vocab) == vocab.idx_to_token
    assert "size=8" in repr(vocab)
    with pytest.raises(TypeError):
        vocab.token_to_idx["a"] = 3  # type: ignore[index]


def test_unknown_tokens_without_an_unknown_token() -> None:
    vocab = Vocab(COUNTER, unknown_token=None)
    assert vocab["a"] == 3
    for look_up in (lambda: vocab["zz"], lambda: vocab[["a", "zz"]], lambda: vocab.token_to_idx["zz"]):
        with pytest.raises(
            UnknownTokenError, match=r"^'zz' is not in the vocabulary, and the vocabulary has no"
        ) as caught:
            look_up()
        assert isinstance(caught.value, KeyError)
        assert isinstance(caught.value, DataError)
    assert vocab.token_to_idx.get("zz") is None


@pytest.mark.parametrize("wrong", [3, None, [1], [["a"]], [None], b"a", {"a": 1}.values()])
@pytest.mark.parametrize("unknown_token", [None, "<unk>"])
def test_what_is_no_token_is_no_unknown_token(wrong: Any, unknown_token: str | None) -> None:
    with pytest.raises(DataError, match="A vocabulary looks up"):
        Vocab(COUNTER, unknown_token=unknown_token)[wrong]


@pytest.mark.parametrize("wrong", [8, -1, 1.0, "a", None, True, [8], [0, -1], [1.0], np.array([1.0]), [[1]], ["a"]])
def test_indices_that_are_none(wrong: Any) -> None:
    with pytest.raises(DataError, match="integers from 0 to 7"):
        Vocab(COUNTER).to_tokens(wrong)


def test_a_million_tokens_in_well_under_a_second() -> None:
    generator = np.random.default_rng(0)
    words = [f"word{number}" for number in range(50_000)]
    vocab = Vocab(count_tokens(words))
    # A tenth is unknown.
    tokens = [f"word{number}" for number in generator.integers(0, 55_000, 1_000_000)]
    start = time.process_time()
    indices = vocab[tokens]
    assert time.process_time() - start < 0.7
    places = {token: place for place, token in enumerate(vocab.idx_to_token)}
    assert indices == [places.get(token, 0) for token in tokens]


def test_copies_and_workers() -> None:
    vocab = Vocab(COUNTER, unknown_token=None, mask_token="<m>")
    for again in (pickle.loads(pickle.dumps(vocab)), copy.deepcopy(vocab), copy.copy(vocab)):
        assert again == vocab
        assert again.mask_token == "<m>"
        assert again["a"] == vocab["a"]
        with pytest.raises(UnknownTokenError):
            again["zz"]
    assert vocab != Vocab(COUNTER)
    assert vocab != "vocab"


# ----------------------------------------------------------------------------------------------------------------------
# Files


def test_gluonnlp_file() -> None:
    vocab = Vocab(COUNTER, reserved_tokens=["r"], mask_token="<m>", cls_token=None)
    assert vocab.to_json() == GLUONNLP_JSON
    assert Vocab.from_json(GLUONNLP_JSON) == vocab
    assert Vocab.from_json(GLUONNLP_JSON.encode()) == vocab


def test_file_of_old_versions() -> None:
    data = json.loads(GLUONNLP_JSON)
    old = {**data, **data.pop("identifiers_to_tokens")}
    del old["identifiers_to_tokens"]
    assert Vocab.from_json(json.dumps(old)).mask_token == "<m>"
    data = json.loads(DAMAGED_JSON)
    data.update(idx_to_token=["<unk>", "a"], token_to_idx={"<unk>": 0, "a": 1}, reserved_tokens=None)
    data.update(padding_token=None, bos_token=None, eos_token=None)
    vocab = Vocab.from_json(json.dumps(data))
    assert vocab == Vocab({"a": 1}, padding_token=None, bos_token=None, eos_token=None)
    assert vocab.reserved_tokens == []
    assert '"reserved_tokens": null' in vocab.to_json()


def test_damaged_file_keeps_its_rows() -> None:
    with pytest.warns(UserWarning, match="gave a token several rows .*'<eos>'"):
        vocab = Vocab.from_json(DAMAGED_JSON)
    assert len(vocab) == 5, "as many as the weights have rows"
    assert vocab.idx_to_token == ["<unk>", "<pad>", "<eos>", "<eos>", "a"]
    assert vocab["<eos>"] == 3
    assert vocab.to_tokens([2, 3]) == ["<eos>", "<eos>"]
    assert (vocab.padding_token, vocab.bos_token, vocab.eos_token) == ("<pad>", "<eos>", "<eos>")
    assert vocab.reserved_tokens == ["<pad>", "<eos>"]
    with pytest.warns(UserWarning, match="several rows"):
        assert Vocab.from_json(vocab.to_json()) == vocab
    with pytest.raises(DataError, match="several rows"):
        vocab.set_embedding(TokenEmbedding(idx_to_token=["a"], idx_to_vec=np.ones((1, 1), np.float32)))


def changed(**members: Any) -> str:
    data = {**json.loads(GLUONNLP_JSON), **members}
    return json.dumps({name: value for name, value in data.items() if value is not ...})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected as JSON"),
        ("{", "expected as JSON"),
        (b"\xff{}", "expected as JSON"),
        ("[" * 100_000, "expected as JSON"),
        ("1" * 10_000, "expected as JSON|is an object"),
        ("[]", "is an object. Received: \\[\\]"),
        ("{}", "has a member 'idx_to_token'. This one has: none"),
        (changed(idx_to_token=...), "has a member 'idx_to_token'"),
        (changed(token_to_idx=...), "has a member 'token_to_idx'"),
        (changed(unknown_token=...), "has a member 'unknown_token'"),
        (changed(idx_to_token={}), "idx_to_token of a vocabulary is a JSON array"),
        (changed(token_to_idx=[]), "token_to_idx of a vocabulary is a JSON object"),
        (changed(idx_to_token=["<unk>", 5]), "idx_to_token holds strings. Received at 1: 5"),
        (changed(idx_to_token=["<unk>"]), "integers from 0 to 0 for 1 tokens. Received for '<m>': 1"),
        (changed(token_to_idx={"<unk>": 0}), "holds '<m>', '<pad>', .* and 4 more, which token_to_idx lacks"),
        (changed(token_to_idx={"<unk>": 1}), "gives '<unk>' the index 1, where idx_to_token has '<m>'"),
        (changed(token_to_idx={"<unk>": True}), "Received for '<unk>': True"),
        (changed(token_to_idx={"<unk>": 0.0}), "Received for '<unk>': 0.0"),
        (changed(token_to_idx={"<unk>": -10}), "Received for '<unk>': -10"),
        ('{"idx_to_token": ["a"], "token_to_idx": {"a": 0, "a": 0}}', "Named several times: 'a'"),
        (changed(unknown_token="zz"), "unknown_token of the vocabulary is 'zz', which is not among its tokens"),
        (changed(unknown_token=0), "unknown_token of a vocabulary is a string or null"),
        (changed(reserved_tokens="r"), "reserved_tokens of a vocabulary is a JSON array"),
        (changed(reserved_tokens=["zz"]), "reserved_tokens of the vocabulary has 'zz'"),
        (changed(reserved_tokens=["r", "r"]), "'r' several times"),
        (changed(reserved_tokens=[["r"]]), "reserved_tokens of the vocabulary has"),
        (changed(identifiers_to_tokens=[]), "identifiers_to_tokens of a vocabulary is a JSON object"),
        (changed(identifiers_to_tokens={"mask": "<m>"}), "has 'mask', which does not end in '_token'"),
        (changed(identifiers_to_tokens={"unknown_token": "<m>"}), "is the name of something else"),
        (changed(identifiers_to_tokens={"__class___token": "<m>"}), "cannot be the name of an attribute"),
        (changed(identifiers_to_tokens={"mask_token": "zz"}), "mask_token of the vocabulary is 'zz'"),
        (changed(identifiers_to_tokens={"mask_token": {}}), "mask_token of a vocabulary is a string or null"),
        (changed(padding_token="<eos>"), "says twice what padding_token is: '<eos>', and '<pad>'"),
    ],
)
def test_damaged_text_is_no_vocabulary(text: str | bytes, message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        Vocab.from_json(text)
    path = tmp_path / "words.vocab"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(DataError, match=r"words\.vocab: "):
        Vocab.load(path)


def sound(vocab: Vocab) -> bool:
    """Whether all that a vocabulary promises is so."""
    tokens = vocab.idx_to_token
    special = [vocab.unknown_token, *vocab._identifiers_to_tokens.values(), *vocab.reserved_tokens]
    return (
        all(tokens[place] == token for token, place in vocab.token_to_idx.items())
        and set(tokens) == set(vocab.token_to_idx)
        and all(token is None or token in vocab for token in special)
        and len(set(vocab.reserved_tokens)) == len(vocab.reserved_tokens)
    )


_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 11)
    | st.floats()
    | st.sampled_from(["<unk>", "<pad>", "r", "a", "x", ""])
)
_JSON = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["<unk>", "<pad>", "r", "a", "mask_token", "x_token", "unknown_token", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
_MEMBERS = [
    "idx_to_token",
    "token_to_idx",
    "reserved_tokens",
    "unknown_token",
    "identifiers_to_tokens",
    "padding_token",
    "mask_token",
]


def read_or_refused(text: str | bytes) -> Vocab | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            vocab = Vocab.from_json(text)
        except DataError:
            return None
        assert sound(vocab)
        assert Vocab.from_json(vocab.to_json()) == vocab
    return vocab


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_random_json_is_a_sound_vocabulary_or_an_error(data: st.DataObject) -> None:
    members = json.loads(GLUONNLP_JSON)
    for _ in range(data.draw(st.integers(1, 3))):
        name = data.draw(st.sampled_from(_MEMBERS))
        target = members.get(name)
        if isinstance(target, (list, dict)) and target and data.draw(st.booleans()):
            place = data.draw(st.sampled_from(sorted(target) if isinstance(target, dict) else range(len(target))))
            target[place] = data.draw(_JSON)
        elif data.draw(st.integers(0, 4)):
            members[name] = data.draw(_JSON)
        else:
            members.pop(name, None)
    read_or_refused(json.dumps(members))


@settings(deadline=None)
@given(st.binary(max_size=40) | st.text(max_size=40) | _JSON.map(json.dumps))
def test_any_text_is_refused(text: str | bytes) -> None:
    assert read_or_refused(text) is None


@settings(deadline=None)
@given(st.lists(st.sampled_from(["<unk>", "a", "b", "c", ""]), max_size=6), st.data())
def test_small_files(tokens: list[str], data: st.DataObject) -> None:
    """Files that are right more often than not, damaged ones among them."""
    index = {
        token: data.draw(st.sampled_from([i for i, other in enumerate(tokens) if other == token])) for token in tokens
    }
    members = {
        "idx_to_token": tokens,
        "token_to_idx": index,
        "unknown_token": data.draw(st.sampled_from([None, *tokens])),
    }
    vocab = read_or_refused(json.dumps(members))
    assert vocab is not None
    assert vocab.idx_to_token == tokens
    assert dict(vocab.token_to_idx) == index


def test_save_and_load(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "words.vocab"
    vocab = Vocab({"é": 1, "\ud800": 2, "\n": 1, "\x00": 1, '"': 1})
    vocab.save(path)
    assert Vocab.load(path) == vocab
    assert Vocab.load(str(path)) == vocab
    # An editor's mark at the beginning is no damage.
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert Vocab.load(path) == vocab
    with pytest.raises(OSError, match="nowhere"):
        Vocab.load(tmp_path / "nowhere")
    assert [each.name for each in path.parent.iterdir()] == ["words.vocab"]


# ----------------------------------------------------------------------------------------------------------------------
# Embeddings


def embedding(tokens: list[str], vectors: list[list[float]], **options: Any) -> TokenEmbedding:
    return TokenEmbedding(idx_to_token=tokens, idx_to_vec=np.array(vectors, np.float32), **options)


def test_embeddings_side_by_side() -> None:
    vocab = Vocab({"a": 2, "b": 1})
    one = embedding(["<unk>", "a", "<pad>", "other"], [[9, 9], [1, 2], [5, 6], [0, 1]])
    other = embedding(["b", "[UNK]"], [[3], [7]], unknown_token="[UNK]")
    vocab.set_embedding(one, other)
    # <unk>, <pad>, <bos>, <eos>, a, b: the unknown token of each is its own, wherever it stands.
    expected = [[9, 9, 7], [5, 6, 7], [9, 9, 7], [9, 9, 7], [1, 2, 7], [9, 9, 3]]
    assert vocab.embedding.idx_to_vec.tolist() == expected
    assert vocab.embedding.idx_to_vec.dtype == np.float32
    assert vocab.embedding.idx_to_token == vocab.idx_to_token
    assert vocab.embedding.unknown_token == vocab.unknown_token
    assert vocab.embedding[["zz", "a"]].tolist() == [[9, 9, 7], [1, 2, 7]]
    assert pickle.loads(pickle.dumps(vocab)).embedding == vocab.embedding
    vocab.set_embedding(None)
    assert vocab.embedding is None


def test_embedding_without_a_vector_for_unknown_tokens() -> None:
    words = embedding(["a", "b"], [[1], [3]], unknown_token=None)
    vocab = Vocab({"a": 1, "b": 1}, reserved_tokens=["r"])
    vocab.set_embedding(words)
    assert vocab.embedding.idx_to_vec.tolist() == [[0], [0], [0], [0], [0], [1], [3]]
    vocab = Vocab({"a": 1, "c": 1, "d": 1})
    with pytest.raises(DataError, match="lacks 'c', 'd' and has no vector for unknown tokens"):
        vocab.set_embedding(words)
    assert vocab.embedding is None
    with_ngrams = embedding(
        ["a"], [[1]], unknown_token=None, unknown_lookup={"c": np.array([5.0]), "d": np.array([6.0])}
    )
    vocab.set_embedding(with_ngrams)
    assert vocab.embedding.idx_to_vec.tolist() == [[0], [0], [0], [0], [1], [5], [6]]


def test_vocabulary_without_an_unknown_token_takes_embeddings() -> None:
    vocab = Vocab({"a": 1, "c": 1}, unknown_token=None, padding_token=None, bos_token=None, eos_token=None)
    vocab.set_embedding(embedding(["<unk>", "a"], [[9], [1]]))
    assert vocab.embedding.idx_to_vec.tolist() == [[1], [9]]
    assert vocab.embedding.idx_to_token == ["a", "c"]


def test_what_is_no_embedding() -> None:
    vocab = Vocab({"a": 1})
    words = embedding(["a"], [[1]])
    for wrong in ((), (None, words), (words, None), ([words],), (np.ones((5, 2)),), (TokenEmbedding(),)):
        with pytest.raises(OptionError, match="set_embedding expects"):
            vocab.set_embedding(*wrong)
    assert issubclass(OptionError, GlueballError)
    assert vocab.embedding is None

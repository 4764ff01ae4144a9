"""TokenEmbedding: looking up, setting, comparing, saving."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

from glueball.errors import DataError, OptionError
from glueball_nlp_embedding_lm.embedding import TokenEmbedding, UnknownTokenError

ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


def make(**options) -> TokenEmbedding:
    return TokenEmbedding(**{"idx_to_token": ["a", "b", "c"], "idx_to_vec": ROWS, **options})


def test_the_unknown_token_is_put_in_front():
    embedding = make()
    assert embedding.idx_to_token == ["<unk>", "a", "b", "c"]
    assert embedding.idx_to_vec.tolist() == [[0, 0], [0, 1], [2, 3], [4, 5]]
    assert embedding.idx_to_vec.dtype == np.float32
    assert embedding.unknown_token == "<unk>"
    assert len(embedding) == 4
    assert embedding.dimension == 2
    assert embedding.token_to_idx == {"<unk>": 0, "a": 1, "b": 2, "c": 3}
    assert embedding.token_to_idx["nothing"] == 0
    assert "nothing" not in embedding
    assert "b" in embedding


def test_a_given_vector_of_the_unknown_token_stays_where_it_is():
    embedding = make(unknown_token="b", init_unknown_vec=None)
    assert embedding.idx_to_token == ["a", "b", "c"]
    assert embedding["nothing"].tolist() == [2, 3]
    assert embedding.idx_to_vec is ROWS or np.shares_memory(embedding.idx_to_vec, ROWS)


def test_init_unknown_vec_makes_the_row():
    shapes = []

    def init(shape):
        shapes.append(shape)
        return np.full(shape, 7.0)

    assert make(init_unknown_vec=init)["?"].tolist() == [7, 7]
    assert shapes == [(1, 2)]
    with pytest.raises(DataError, match=r"has the shape \(2,\), expected \(1, 2\)"):
        make(init_unknown_vec=lambda shape: np.zeros(shape[1]))
    with pytest.raises(DataError, match="init_unknown_vec is None"):
        make(init_unknown_vec=None)


def test_look_up():
    embedding = make()
    assert embedding["b"].shape == (2,)
    found = embedding[["c", "nothing", "a", "c"]]
    assert found.tolist() == [[4, 5], [0, 0], [0, 1], [4, 5]]
    assert found.dtype == np.float32
    assert embedding[[]].shape == (0, 2)
    assert embedding[("a",)].tolist() == [[0, 1]]
    # What is handed out is a copy: the table changes by setting only.
    found[:] = 9
    embedding["a"][:] = 9
    assert embedding["a"].tolist() == [0, 1]


def test_without_unknown_token_there_is_an_error():
    embedding = make(unknown_token=None)
    assert embedding.idx_to_token == ["a", "b", "c"]
    with pytest.raises(UnknownTokenError, match=r"token 'x' has no vector.*one of its 3 tokens"):
        embedding[["a", "x"]]
    with pytest.raises(KeyError):
        embedding["x"]
    with pytest.raises(KeyError):
        embedding.token_to_idx["x"]


class Letters:
    """A lookup that knows tokens of capital letters."""

    def __init__(self, dimension=2):
        self.dimension = dimension

    def __contains__(self, token):
        return token.isupper()

    def __getitem__(self, token):
        return np.full(self.dimension, len(token), np.float64)


def test_unknown_lookup():
    embedding = make(unknown_lookup=Letters())
    assert embedding[["A", "a", "?", "BCD"]].tolist() == [[1, 1], [0, 1], [0, 0], [3, 3]]
    assert embedding["AB"].tolist() == [2, 2]
    assert "AB" not in embedding
    strict = make(unknown_token=None, unknown_lookup=Letters())
    assert strict[["A", "a"]].tolist() == [[1, 1], [0, 1]]
    with pytest.raises(UnknownTokenError, match="'x'"):
        strict[["A", "x"]]
    with pytest.raises(DataError, match=r"unknown_lookup\['A'\] has the shape \(3,\), expected \(2,\)"):
        make(unknown_lookup=Letters(3))["A"]
    # A mapping will do, and a token of the table is never asked of it.
    assert make(unknown_lookup={"a": [8, 8], "x": [9, 9]})[["a", "x"]].tolist() == [[0, 1], [9, 9]]


def test_empty_embedding():
    embedding = TokenEmbedding(allow_extend=True)
    assert embedding.idx_to_token == ["<unk>"]
    assert embedding.idx_to_vec is None
    assert embedding.dimension is None
    with pytest.raises(DataError, match="is empty"):
        embedding["a"]
    embedding[["a", "b"]] = ROWS[:2]
    assert embedding.idx_to_token == ["<unk>", "a", "b"]
    assert embedding.idx_to_vec.tolist() == [[0, 0], [0, 1], [2, 3]]
    with_lookup = TokenEmbedding(unknown_lookup=Letters())
    assert with_lookup[["A", "BB"]].tolist() == [[1, 1], [2, 2]]
    with pytest.raises(UnknownTokenError):
        with_lookup["a"]


def test_set():
    embedding = make()
    embedding["a"] = [7, 8]
    embedding[["c", "<unk>"]] = np.array([[1, 2], [3, 4]])
    embedding[["b"]] = np.array([5, 6])
    assert embedding.idx_to_vec.tolist() == [[3, 4], [7, 8], [5, 6], [1, 2]]
    with pytest.raises(UnknownTokenError, match="allow_extend=True, or name '<unk>' itself"):
        embedding[["a", "new"]] = np.zeros((2, 2))
    for wrong in (np.zeros(3), np.zeros((2, 2)), np.zeros((1, 2, 1)), 1.0):
        with pytest.raises(DataError, match="Expected vectors of shape"):
            embedding["a"] = wrong
    for wrong in ([np.nan, 0], [1e300, 0]):
        with pytest.raises(DataError, match="not finite"):
            embedding["a"] = wrong
    with pytest.raises(DataError, match="real numbers"):
        embedding["a"] = ["x", "y"]
    with pytest.raises(OptionError, match="Tokens are texts"):
        embedding[[3]] = np.zeros((1, 2))
    # Nothing of the above left a trace.
    assert embedding.idx_to_vec.tolist() == [[3, 4], [7, 8], [5, 6], [1, 2]]
    assert len(embedding) == 4


def test_extend():
    embedding = make(allow_extend=True)
    expected = {"<unk>": [0, 0], "a": [0, 1], "b": [2, 3], "c": [4, 5]}
    for number in range(40):
        embedding[f"t{number}"] = [number, -number]
        expected[f"t{number}"] = [number, -number]
        assert embedding.idx_to_vec.shape == (len(expected), 2)
    # The last vector of a token counts; known and new ones may be mixed.
    embedding[["x", "a", "x"]] = np.array([[1, 1], [2, 2], [3, 3]])
    expected.update(x=[3, 3], a=[2, 2])
    assert embedding.idx_to_token == list(expected)
    assert embedding.idx_to_vec.tolist() == list(expected.values())
    assert embedding[list(expected)].tolist() == list(expected.values())


def test_a_read_only_array_is_not_written_to():
    rows = ROWS.copy()
    rows.flags.writeable = False
    embedding = make(unknown_token=None, idx_to_vec=rows)
    embedding["a"] = [9, 9]
    assert embedding["a"].tolist() == [9, 9]
    assert rows[0].tolist() == [0, 1]


def test_equality():
    assert make() == make()
    assert make() != make(unknown_token=None)
    assert make() != make(idx_to_vec=ROWS + 1)
    assert make() != make(idx_to_token=["a", "c", "b"])
    assert TokenEmbedding() == TokenEmbedding()
    assert TokenEmbedding() != make()
    assert make() != "a"
    with pytest.raises(TypeError, match="unhashable"):
        hash(make())


def test_copies_keep_the_unknown_token():
    for copied in (copy.deepcopy(make()), pickle.loads(pickle.dumps(make()))):
        assert copied == make()
        assert copied.token_to_idx["nothing"] == 0
        copied["a"] = [9, 9]
    assert make()["a"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"idx_to_vec": None}, OptionError, "belong together"),
        ({"idx_to_token": None}, OptionError, "belong together"),
        ({"idx_to_token": ["a", "b"]}, DataError, r"shape \(2, dimension\).*\(3, 2\)"),
        ({"idx_to_vec": ROWS[0]}, DataError, r"Received: \(2,\)"),
        ({"idx_to_token": ["a", "b", "a"]}, DataError, "'a' more than once"),
        ({"idx_to_token": ["a", "b", 3]}, OptionError, "Tokens are texts. Received: 3"),
        ({"idx_to_token": "abc"}, OptionError, "Split it first"),
        ({"idx_to_vec": np.full((3, 2), np.inf)}, DataError, "not finite"),
        ({"unknown_token": ""}, OptionError, "text or None"),
        ({"unknown_token": 3}, OptionError, "text or None"),
    ],
)
def test_wrong_arguments(options, error, message):
    with pytest.raises(error, match=message):
        make(**options)


@pytest.mark.parametrize("compress", [True, False])
@pytest.mark.parametrize("unknown_token", ["<unk>", None, "b"])
def test_serialize(tmp_path, compress, unknown_token):
    embedding = TokenEmbedding(
        unknown_token=unknown_token,
        idx_to_token=["a", "b", "naïve 字", "with space", "\ud800"],
        idx_to_vec=np.random.default_rng(0).normal(size=(5, 3)),
    )
    embedding.serialize(tmp_path / "vectors", compress=compress)
    read = TokenEmbedding.deserialize(tmp_path / "vectors.npz")
    assert read == embedding
    assert read.token_to_idx == embedding.token_to_idx
    # Any program reads it, and without unpickling.
    with np.load(tmp_path / "vectors.npz", allow_pickle=False) as arrays:
        assert arrays["idx_to_token"].tolist() == embedding.idx_to_token
        assert str(arrays["unknown_token"]) == (unknown_token or "")
        np.testing.assert_array_equal(arrays["idx_to_vec"], embedding.idx_to_vec)


def test_serialize_is_reproducible_and_keeps_options(tmp_path):
    make().serialize(tmp_path / "a.npz")
    make().serialize(tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    read = TokenEmbedding.deserialize(tmp_path / "a.npz", allow_extend=True, unknown_lookup=Letters())
    read["new"] = [1, 1]
    assert read[["new", "A"]].tolist() == [[1, 1], [1, 1]]
    with pytest.warns(UserWarning, match="unknown_lookup is not saved"):
        read.serialize(tmp_path / "c.npz")


def test_serialize_refuses_what_it_cannot_keep(tmp_path):
    with pytest.raises(DataError, match="cannot be saved"):
        TokenEmbedding().serialize(tmp_path / "a.npz")
    make().serialize(tmp_path / "a.npz")
    before = (tmp_path / "a.npz").read_bytes()
    with pytest.raises(DataError, match="zero character"):
        make(idx_to_token=["a", "b", "c\0"]).serialize(tmp_path / "a.npz")
    assert (tmp_path / "a.npz").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]

"""Files of vectors: every form, and what each does with broken ones."""

from __future__ import annotations

import gzip
import io
import pickle  # writes here what must be read without it
import random
import struct
import warnings
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glueball.errors import DataError, OptionError
from glueball_nlp_embedding_lm.embedding import TokenEmbedding
from glueball_nlp_embedding_lm.embedding.formats import fasttext as fasttext_format
from glueball_nlp_embedding_lm.embedding.formats import text as text_format
from glueball_nlp_embedding_lm.embedding.formats import word2vec as word2vec_format
from glueball_nlp_embedding_lm.embedding.formats.strings import read_strings

GLOVE = "the 0.5 -1.25 2.0\n, 1.0 2.0 3.0\nna\u00efve -0.125 7.5 0.0\n"


def write(folder, content, name="vectors.txt"):
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def read(folder, content, **options):
    return TokenEmbedding.from_file(write(folder, content), **options)


# Text.


def test_glove(tmp_path):
    embedding = read(tmp_path, GLOVE)
    assert embedding.idx_to_token == ["<unk>", "the", ",", "na\u00efve"]
    assert embedding.idx_to_vec.tolist() == [[0, 0, 0], [0.5, -1.25, 2], [1, 2, 3], [-0.125, 7.5, 0]]
    assert embedding.idx_to_vec.dtype == np.float32
    assert embedding["nothing"].tolist() == [0, 0, 0]
    assert read(tmp_path, GLOVE, unknown_token=None).idx_to_token == ["the", ",", "na\u00efve"]
    ones = read(tmp_path, GLOVE, init_unknown_vec=np.ones)
    assert ones.idx_to_vec[0].tolist() == [1, 1, 1]


@pytest.mark.parametrize("ending", ["\n", " \n", "\r\n", " \r\n", "\t\n"])
@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("final", [True, False])
def test_line_ends_and_headers(tmp_path, ending, header, final):
    content = ("3 3\n" if header else "") + GLOVE.replace("\n", ending)
    if not final:
        content = content.removesuffix(ending)
    assert read(tmp_path, content) == read(tmp_path, GLOVE)


@pytest.mark.parametrize("delimiter", ["\t", ",", ";", "||", "\u00a0"])
def test_delimiters(tmp_path, delimiter):
    content = GLOVE.replace("\n, ", "\ncomma ").replace(" ", delimiter)
    embedding = read(tmp_path, content, elem_delim=delimiter)
    assert embedding.idx_to_vec.tolist() == read(tmp_path, GLOVE).idx_to_vec.tolist()
    assert embedding.idx_to_token == ["<unk>", "the", "comma", "na\u00efve"]
    spaced = content.replace(delimiter, delimiter + " ")
    assert read(tmp_path, spaced, elem_delim=delimiter).idx_to_vec.tolist() == embedding.idx_to_vec.tolist()


def test_the_unknown_token_in_the_file_comes_first(tmp_path):
    embedding = read(tmp_path, GLOVE + "<unk> 9.0 9.0 9.0\nlast 1.0 1.0 1.0\n", init_unknown_vec=None)
    assert embedding.idx_to_token == ["<unk>", "the", ",", "na\u00efve", "last"]
    assert embedding["nothing"].tolist() == [9, 9, 9]
    assert embedding["last"].tolist() == [1, 1, 1]
    other = read(tmp_path, GLOVE, unknown_token="the")
    assert other.idx_to_token == ["the", ",", "na\u00efve"]
    assert other["nothing"].tolist() == [0.5, -1.25, 2]
    with pytest.raises(DataError, match="init_unknown_vec is None"):
        read(tmp_path, GLOVE, init_unknown_vec=None)


def test_tokens_that_look_like_something_else(tmp_path):
    # A token may hold spaces (GloVe 840B), be a number, a no-break space (fastText), or look like a header.
    content = "a 1.0 2.0\n. . . 3.0 4.0\nat name@domain.com 5.0 6.0\n12 7.0 8.0\n\u00a0 9.0 1.0\n\u2028 2.0 3.0\n"
    embedding = read(tmp_path, content)
    assert embedding.idx_to_token[1:] == ["a", ". . .", "at name@domain.com", "12", "\u00a0", "\u2028"]
    assert embedding["at name@domain.com"].tolist() == [5, 6]
    # One number to a line: a first line of two integers is a token with its number.
    embedding = read(tmp_path, "7 3\n8 4\n9 5\n")
    assert embedding.idx_to_token == ["<unk>", "7", "8", "9"]
    assert embedding["7"].tolist() == [3]


def reference(content: str) -> dict[str, list[float]]:
    lines = [line.split(" ") for line in content.removesuffix("\n").split("\n")]
    return {line[0]: np.array([float(value) for value in line[1:]], np.float32).tolist() for line in lines}


NUMBERS = st.one_of(
    st.floats(-(2.0**100), 2.0**100, width=32).map(repr),
    st.floats(-10, 10).map(lambda value: f"{value:.5f}"),
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from([".5", "5.", "-.25", "+1.5", "1e-5", "-0.0", "0.00000000000000000000000001", "9007199254740993.0"]),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.lists(NUMBERS, min_size=3, max_size=3), min_size=1, max_size=12))
def test_numbers_are_what_float_reads(tmp_path_factory, rows):
    content = "".join(f"t{number} {' '.join(row)}\n" for number, row in enumerate(rows))
    embedding = read(tmp_path_factory.mktemp("numbers"), content, unknown_token=None)
    expected = reference(content)
    assert embedding.idx_to_token == list(expected)
    assert embedding.idx_to_vec.tolist() == list(expected.values())


def test_many_blocks(tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    content = "".join(
        f"token{number} {' '.join(f'{value:.6g}' for value in generator.normal(size=7))}\n" for number in range(500)
    )
    expected = reference(content)
    for block in (100, 997, 1 << 20):
        monkeypatch.setattr(text_format, "_BLOCK", block)
        embedding = read(tmp_path, content, unknown_token=None)
        assert embedding.idx_to_token == list(expected)
        assert embedding.idx_to_vec.tolist() == list(expected.values())


# Text that is broken. The lines that are right, in this order, whatever stands between them:
GOOD = {"a": [1.0, 2.0, 3.0], "b": [4.0, 5.0, 6.0], "c": [7.0, 8.0, 9.0], "d": [1.5, 2.5, 3.5]}
GOOD_LINES = [f"{token} {' '.join(map(str, row))}".encode() for token, row in GOOD.items()]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"x 1.0 2.0", r"1 with another number of values \(the first: line 2, 'x'\)"),
        (b"x 1.0 2.0 3.0 4.0", r"1 with another number of values \(the first: line 2, 'x'\)"),
        (b"x", "1 with another number of values"),
        (b" 1.0 2.0 3.0", r"1 without a token \(the first: line 2\)"),
        (b"x 1.0 two 3.0", r"1 whose values are not finite numbers \(the first: line 2, 'x'\)"),
        (b"x 1.0 nan 3.0", "not finite numbers"),
        (b"x 1.0 inf 3.0", "not finite numbers"),
        (b"x 1.0 1e39 3.0", "not finite numbers"),
        (b"x 1.0 1_0 3.0", "not finite numbers"),
        (b"x 1.0 0x10 3.0", "not finite numbers"),
        (b"x 1.0-2.0  3.0", "not finite numbers"),
        (b"x . 1.0-2.0 3.0", "not finite numbers"),
        (b"x 1.0\t2.0 . 3.0", "not finite numbers"),
        (b"x 1.0.0 2.0 3", "not finite numbers"),
        (b"x -.5 - 3.0", "not finite numbers"),
        (b"x\xff 1.0 2.0 3.0", r"1 whose token is not in the encoding \(the first: line 2"),
        (b"a 3.0 2.0 1.0", r"1 whose token came before \(the first: line 2, 'a'\)"),
    ],
)
@pytest.mark.parametrize("header", [False, True])
def test_broken_lines_are_skipped_with_a_warning(tmp_path, line, message, header):
    lines = [GOOD_LINES[0], line, *GOOD_LINES[1:]]
    content = b"\n".join(lines) + b"\n"
    if header:
        content = b"5 3\n" + content
        message = message.replace("line 2", "line 3")
    with pytest.warns(UserWarning, match=message) as caught:
        embedding = read(tmp_path, content, unknown_token=None)
    assert len(caught) == 1
    assert "1 of 5 lines were skipped" in str(caught[0].message)
    assert caught[0].filename == __file__
    assert dict(zip(embedding.idx_to_token, embedding.idx_to_vec.tolist(), strict=True)) == GOOD


def test_a_warning_counts(tmp_path):
    lines = [*GOOD_LINES, b"x 1.0", b"a 1.0 1.0 1.0", b"y 1.0", b"", b"b 1.0 1.0 1.0"]
    with pytest.warns(UserWarning, match="skipped") as caught:
        read(tmp_path, b"\n".join(lines))
    assert str(caught[0].message).endswith(
        "vectors.txt: 4 of 8 lines were skipped: 2 with another number of values (the first: line 5, 'x'); "
        "2 whose token came before (the first: line 6, 'a')."
    )


def test_the_first_line_may_be_the_broken_one(tmp_path):
    with pytest.warns(UserWarning, match=r"the first: line 1, 'x'"):
        embedding = read(tmp_path, b"x 1.0 2.0\n" + b"\n".join(GOOD_LINES), unknown_token=None)
    assert embedding.idx_to_token == list(GOOD)


def test_a_wrong_header_is_named(tmp_path):
    with pytest.warns(UserWarning, match="the header announces 9 vectors, the file has 4"):
        embedding = read(tmp_path, b"9 3\n" + b"\n".join(GOOD_LINES))
    assert len(embedding) == 5
    with pytest.raises(DataError, match="0 can be read as a token and 7 numbers"):
        read(tmp_path, b"4 7\n" + b"\n".join(GOOD_LINES))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "Received: nothing"),
        (b"\n\n\n", "expected lines of a token and numbers"),
        (b"word\n", "expected lines of a token and numbers"),
        (b"0 50\n", "0 can be read"),
        (b"a b c\nd e f\n", "0 can be read"),
        (b"a,1.0,2.0\nb,1.0,2.0\n", "elem_delim"),
        (b"1 99999999999\n", "expected lines of a token and numbers"),
        (b"the quick brown\nfox 1 2\nis here now\nand there too\n", "of 4 lines, 1 can be read"),
        (bytes(range(256)) * 50, "can be read|expected lines"),
    ],
)
def test_what_is_no_text_of_vectors(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, content, format="text")


def test_one_endless_line(tmp_path, monkeypatch):
    monkeypatch.setattr(text_format, "_LONGEST_LINE", 1000)
    monkeypatch.setattr(text_format, "_BLOCK", 100)
    with pytest.raises(DataError, match="no line ends within"):
        read(tmp_path, b"1" * 5000)


def test_encodings(tmp_path):
    path = write(tmp_path, GLOVE.encode("latin-1"))
    assert TokenEmbedding.from_file(path, encoding="latin-1") == read(tmp_path, GLOVE)
    for encoding in ("utf-16", "klingon"):
        with pytest.raises(OptionError, match="encoding"):
            TokenEmbedding.from_file(path, encoding=encoding)


@settings(deadline=None, max_examples=200)
@given(st.randoms(use_true_random=False))
def test_damage_never_passes_unnoticed(tmp_path_factory, chance: random.Random):
    """Bytes changed, removed or added: what is read without a word is what float reads of the same lines."""
    content = bytearray("".join(f"t{number} 1.25 -2.5 {number}.75\n" for number in range(9)).encode())
    for _ in range(chance.randint(1, 3)):
        at = chance.randrange(len(content))
        kind = chance.randrange(3)
        if kind == 0:
            content[at] = chance.choice(b" .-+e\n\t\r\0x9\xff")
        elif kind == 1:
            del content[at]
        else:
            content.insert(at, chance.choice(b" .-+e\n\t\r\0x9\xff"))
    path = write(tmp_path_factory.mktemp("damage"), bytes(content))
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        try:
            embedding = TokenEmbedding.from_file(path, unknown_token=None)
        except DataError:
            return
    expected: dict[str, list[float]] = {}
    for line in bytes(content).split(b"\n"):
        parts = line.rstrip().split(b" ")
        try:
            with np.errstate(over="ignore"):
                values = np.array([float(part) for part in parts[-3:]], np.float32).tolist()
            token = b" ".join(parts[:-3]).decode()
        except ValueError:
            continue
        expected.setdefault(token, values)
    for token, row in zip(embedding.idx_to_token, embedding.idx_to_vec.tolist(), strict=True):
        assert expected[token] == row


# Packed files.


def zipped(members, compression=zipfile.ZIP_DEFLATED):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def test_gzip_and_zip(tmp_path):
    expected = read(tmp_path, GLOVE)
    assert read(tmp_path, gzip.compress(GLOVE.encode())) == expected
    assert read(tmp_path, zipped({"vectors.txt": GLOVE})) == expected
    two = zipped({"glove.1d.txt": "a 1.0\n", "folder/glove.3d.txt": GLOVE})
    assert read(tmp_path, two, member="folder/glove.3d.txt") == expected
    with pytest.raises(DataError, match=r"holds 2 files: glove.1d.txt, folder/glove.3d.txt.*member="):
        read(tmp_path, two)
    with pytest.raises(DataError, match="member='nothing'"):
        read(tmp_path, two, member="nothing")
    with pytest.raises(DataError, match="is not a zip archive"):
        read(tmp_path, GLOVE, member="nothing")


@pytest.mark.parametrize("pack", [lambda data: gzip.compress(data), lambda data: zipped({"a.txt": data})])
def test_damaged_packed_files(tmp_path, pack):
    content = pack("".join(f"token{number} {number}.5 1.0\n" for number in range(2000)).encode())
    for damaged in (content[: len(content) // 2], content[:-200], content[:300] + bytes(60) + content[360:]):
        with pytest.raises(DataError, match=r"cannot be read|damaged"):
            read(tmp_path, damaged)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="cannot be read: No such file"):
        TokenEmbedding.from_file(tmp_path / "nothing.txt")
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        TokenEmbedding.from_file(tmp_path)


def test_wrong_options(tmp_path):
    path = write(tmp_path, GLOVE)
    for delimiter in ("", "\n", "-", "1", "x"):
        with pytest.raises(OptionError, match="elem_delim"):
            TokenEmbedding.from_file(path, elem_delim=delimiter)
    with pytest.raises(OptionError, match="No such format: 'vec'"):
        TokenEmbedding.from_file(path, format="vec")
    with pytest.raises(OptionError, match="text or None"):
        TokenEmbedding.from_file(path, unknown_token="")


# GluonNLP's .npz.

TOKENS = ["<unk>", "a", "naïve", "字", ""]
VECTORS = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)


def npz(folder, tokens=None, vectors=VECTORS, unknown="<unk>", **others):
    path = folder / "vectors.npz"
    tokens = np.array(TOKENS, dtype=object) if tokens is None else tokens
    np.savez_compressed(path, unknown_token=np.array(unknown), idx_to_token=tokens, idx_to_vec=vectors, **others)
    return path


@pytest.mark.parametrize("dtype", [object, np.str_, ">U9"])
def test_npz_as_gluonnlp_writes_it(tmp_path, dtype):
    path = npz(tmp_path, np.array(TOKENS, dtype=dtype))
    for embedding in (TokenEmbedding.deserialize(path), TokenEmbedding.from_file(path)):
        assert embedding.idx_to_token == TOKENS
        np.testing.assert_array_equal(embedding.idx_to_vec, VECTORS)
        assert embedding["nothing"].tolist() == VECTORS[0].tolist()


def test_npz_of_bytes_and_other_floats(tmp_path):
    path = npz(tmp_path, np.array([token.encode() for token in TOKENS]), VECTORS.astype(">f8"))
    embedding = TokenEmbedding.deserialize(path)
    assert embedding.idx_to_token == TOKENS
    np.testing.assert_array_equal(embedding.idx_to_vec, VECTORS)
    half = TokenEmbedding.deserialize(npz(tmp_path, vectors=VECTORS.astype(np.float16)))
    assert half.idx_to_vec.dtype == np.float32


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_way_in_which_numpy_pickles_strings(protocol):
    long = "x" * 300  # longer than a one-byte length
    for strings in (TOKENS, [f"token{number}" for number in range(3000)], [long, long, "a", long], ["\ud800"], []):
        array = np.array(strings, dtype=object)
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, np.lib.format.header_data_from_array_1_0(array))
        pickle.dump(array, buffer, protocol=protocol)
        size = buffer.tell()
        buffer.seek(0)
        assert read_strings(buffer, size, "test") == strings


def test_a_pickle_of_python_2():
    # numpy.save of np.array(['a', u'\xe9'], dtype='O') as Python 2 wrote it, protocol 2.
    state = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nq\x01cnumpy\nndarray\nq\x02K\x00\x85q\x03U\x01bq\x04\x87q\x05Rq"
        b"\x06(K\x01K\x02\x85q\x07cnumpy\ndtype\nq\x08U\x02O8q\tK\x00K\x01\x87q\nRq\x0b(K\x03U\x01|q\x0cNNNJ\xff\xff\xff"
        b"\xffJ\xff\xff\xff\xffK?tq\rb\x89]q\x0e(U\x01aq\x0fX\x02\x00\x00\x00\xc3\xa9q\x10etq\x11b."
    )
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": (2,)})
    buffer.write(state)
    size = buffer.tell()
    buffer.seek(0)
    assert read_strings(buffer, size, "test") == ["a", "\xe9"]


class Evil:
    """What unpickling would run."""

    def __reduce__(self):
        return eval, ("__import__('builtins').print('unpickled')",)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (np.array(["a", Evil()], dtype=object), "which arrays of strings do not need.*nothing in it has been run"),
        (np.array(["a", None], dtype=object), "expected strings only. Received: 'None'"),
        (np.array(["a", 3], dtype=object), "expected strings only. Received: '3'"),
        (np.array(["a", 1.5], dtype=object), "does not occur in arrays of strings"),
        (np.array([["a"], ["b"]], dtype=object), "expected a list of strings"),
        (np.array([1, 2]), "expected strings. Received: values of type int64"),
        (np.array([b"a", b"\xff"]), "not UTF-8"),
        (np.array(["a", "a"]), "the token 'a' more than once"),
        (np.array(["a", "b"]), "names '<unk>' as its unknown token"),
        (np.array(["<unk>", "b", "c"]), "announces 3 strings, expected at most 2"),
    ],
)
def test_npz_with_wrong_tokens(tmp_path, capsys, tokens, message):
    path = npz(tmp_path, tokens, VECTORS[:2])
    with pytest.raises(DataError, match=message):
        TokenEmbedding.from_file(path)
    assert "unpickled" not in capsys.readouterr().out


@settings(deadline=None, max_examples=300)
@given(st.randoms(use_true_random=False))
def test_damaged_pickles_are_refused_or_give_strings(chance: random.Random):
    array = np.array(["alpha", "beta", "gamma"], dtype=object)
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, allow_pickle=True)
    content = bytearray(buffer.getvalue())
    for _ in range(chance.randint(1, 4)):
        content[chance.randrange(128, len(content))] = chance.randrange(256)
    if chance.random() < 0.3:
        del content[chance.randrange(128, len(content)) :]
    try:
        strings = read_strings(io.BytesIO(bytes(content)), len(content), "test")
    except DataError:
        return
    assert len(strings) == 3
    assert all(type(string) is str for string in strings)


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        (np.zeros((5, 4), np.int32), "expected floating-point vectors"),
        (np.zeros(5, np.float32), r"shape \(5,\)"),
        (np.full((5, 4), np.nan, np.float32), "index 0 has values that are not finite"),
        (np.full((5, 4), 1e300), "index 0 has values that are not finite"),
        (np.asfortranarray(VECTORS), "column-major"),
    ],
)
def test_npz_with_wrong_vectors(tmp_path, vectors, message):
    with pytest.raises(DataError, match=message):
        TokenEmbedding.from_file(npz(tmp_path, vectors=vectors))


def test_npz_without_its_arrays(tmp_path):
    path = tmp_path / "vectors.npz"
    np.savez(path, idx_to_vec=VECTORS)
    with pytest.raises(DataError, match="it has no unknown_token, idx_to_token"):
        TokenEmbedding.from_file(path)


def test_npz_cut_short_or_lying(tmp_path):
    path = npz(tmp_path)
    content = path.read_bytes()
    for damaged in (content[:-50], content[:200], content[:4]):
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"damaged|cannot be read"):
            TokenEmbedding.from_file(path)
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "<f4", "fortran_order": False, "shape": (5, 1 << 40)})
    with zipfile.ZipFile(npz(tmp_path)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    path.write_bytes(zipped({**members, "idx_to_vec.npy": buffer.getvalue()}))
    with pytest.raises(DataError, match="the header announces shape"):
        TokenEmbedding.from_file(path)


def test_npz_with_another_unknown_token(tmp_path):
    path = npz(tmp_path)
    renamed = TokenEmbedding.from_file(path, unknown_token="<oov>")
    assert renamed.idx_to_token == ["<oov>", *TOKENS[1:]]
    assert renamed["nothing"].tolist() == VECTORS[0].tolist()
    without = TokenEmbedding.from_file(path, unknown_token=None)
    assert without.idx_to_token == TOKENS[1:]
    assert without.idx_to_vec.tolist() == VECTORS[1:].tolist()
    with pytest.raises(DataError, match="'a' is another of its tokens"):
        TokenEmbedding.from_file(path, unknown_token="a")
    # A file that has none.
    path = npz(tmp_path, unknown="")
    assert TokenEmbedding.deserialize(path).unknown_token is None
    assert TokenEmbedding.from_file(path, unknown_token=None).idx_to_token == TOKENS
    moved = TokenEmbedding.from_file(path, unknown_token="字")
    assert moved.idx_to_token == ["字", "a", "naïve", "<unk>", ""]
    assert moved["nothing"].tolist() == VECTORS[3].tolist()
    assert moved["<unk>"].tolist() == VECTORS[0].tolist()
    added = TokenEmbedding.from_file(path, unknown_token="<oov>", init_unknown_vec=np.ones)
    assert added.idx_to_token == ["<oov>", *TOKENS]
    assert added["nothing"].tolist() == [1, 1, 1, 1]


# word2vec's binary form.


def word2vec(vectors: dict[bytes, list[float]], ending: bytes = b"\n", header: bytes | None = None) -> bytes:
    dimension = len(next(iter(vectors.values())))
    parts = [b"%d %d\n" % (len(vectors), dimension) if header is None else header]
    parts += [token + b" " + np.array(row, "<f4").tobytes() + ending for token, row in vectors.items()]
    return b"".join(parts)


RANDOM = np.random.default_rng(2).normal(size=(400, 5)).astype(np.float32)
WORDS = {f"wörd{number}".encode(): row.tolist() for number, row in enumerate(RANDOM)}


@pytest.mark.parametrize("ending", [b"\n", b""])
@pytest.mark.parametrize("block", [64, 1 << 20])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, lambda content: zipped({"vectors.bin": content})])
def test_word2vec_binary(tmp_path, monkeypatch, ending, block, pack):
    monkeypatch.setattr(word2vec_format, "_BLOCK", block)
    embedding = read(tmp_path, pack(word2vec(WORDS, ending)), unknown_token=None)
    assert embedding.idx_to_token == [token.decode() for token in WORDS]
    np.testing.assert_array_equal(embedding.idx_to_vec, RANDOM)


def test_binary_and_text_are_told_apart(tmp_path):
    generator = np.random.default_rng(3)
    for dimension in (1, 2, 3, 50, 3000):
        rows = {b"token%d" % number: generator.normal(size=dimension).round(3) for number in range(9)}
        text = b"9 %d\n" % dimension + b"".join(
            token + b" " + " ".join(map(str, row)).encode() + b"\n" for token, row in rows.items()
        )
        expected = np.array(list(rows.values()), np.float32)
        for content in (text, word2vec(rows), word2vec(rows, b"")):
            np.testing.assert_array_equal(read(tmp_path, content, unknown_token=None).idx_to_vec, expected)
    comma = b"2 2\na,1.0,2.0\nb,3.0,4.0\n"
    assert read(tmp_path, comma, elem_delim=",", unknown_token=None).idx_to_vec.tolist() == [[1, 2], [3, 4]]


def test_word2vec_binary_with_broken_records(tmp_path):
    vectors = {**WORDS, b"": [0.0] * 5, b"bad\xff": [1.0] * 5, b"nan": [np.nan] * 5}
    content = word2vec(vectors, header=b"405 5\n") + word2vec(
        {b"w\xc3\xb6rd3": [0.0] * 5, b"last": [1.0] * 5}, header=b""
    )
    with pytest.warns(UserWarning, match="4 of 405 records were skipped") as caught:
        embedding = read(tmp_path, content, unknown_token=None)
    for reason in (
        "1 without a token (the first: record 401)",
        "1 whose token is not in the encoding (the first: record 402",
        "1 whose values are not finite numbers (the first: record 403, 'nan')",
        "1 whose token came before (the first: record 404, 'wörd3')",
    ):
        assert reason in str(caught[0].message)
    np.testing.assert_array_equal(embedding.idx_to_vec, np.concatenate([RANDOM, np.ones((1, 5))]))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (word2vec(WORDS)[:-30], "is cut short|the header announces"),
        (word2vec(WORDS)[:3000], r"announces 400 vectors of 5 values, the file has 3,000 bytes"),
        (gzip.compress(word2vec(WORDS)[:3000]), r"is cut short: the header announces 400 vectors, \d+ are there"),
        (word2vec(WORDS, header=b"999999999999 5\n"), "announces 999,999,999,999 vectors"),
        (gzip.compress(word2vec(WORDS, header=b"999999999999 5\n")), "cut short"),
        (word2vec(WORDS, header=b"400 0\n"), "of 0 values"),
        (word2vec(WORDS, header=b"400\n"), "expected a first line"),
        (b"9 5\n" + b"x" * 200_000, "record 1 has no token"),
    ],
)
def test_word2vec_binary_that_lies(tmp_path, content, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, content, format="word2vec")


def test_word2vec_binary_with_more_than_announced(tmp_path):
    with pytest.warns(UserWarning, match="announces 10 vectors; what follows them was not read"):
        embedding = read(tmp_path, word2vec(WORDS, header=b"10 5\n"))
    assert len(embedding) == 11


# fastText's models.


def fnv1a(data: bytes) -> int:
    """32-bit FNV-1a, with bytes taken as signed numbers as fastText does."""
    value = 2166136261
    for byte in data:
        value ^= byte if byte < 128 else byte + 0xFFFFFF00
        value = value * 16777619 % (1 << 32)
    return value


def test_the_reference_hash():
    # Test vectors of the hash's authors.
    assert fnv1a(b"") == 0x811C9DC5
    assert fnv1a(b"foobar") == 0xBF9CF968


def ngrams(word: str, minn: int, maxn: int) -> list[bytes]:
    spelt = f"<{word}>"
    found = []
    for start in range(len(spelt)):
        for length in range(minn, maxn + 1):
            gram = spelt[start : start + length]
            is_bracket = length == 1 and start in (0, len(spelt) - 1)
            if len(gram) == length and not is_bracket:
                found.append(gram.encode())
    return found


def fasttext(
    words,
    matrix,
    *,
    minn=3,
    maxn=6,
    bucket=50,
    labels=(),
    is_old=False,
    version=12,
    model=2,
    pruned=None,
    is_compressed=False,
) -> bytes:
    parts = [] if is_old else [struct.pack("<2i", 793712314, version)]
    parts.append(struct.pack("<12id", matrix.shape[1], 5, 5, 1, 5, 1, 2, model, bucket, minn, maxn, 100, 1e-4))
    parts.append(struct.pack("<3iq", len(words) + len(labels), len(words), len(labels), 1000))
    if not is_old:
        parts.append(struct.pack("<q", -1 if pruned is None else len(pruned)))
    for kind, names in enumerate((words, labels)):
        parts += [(name if isinstance(name, bytes) else name.encode()) + struct.pack("<xqb", 7, kind) for name in names]
    parts += [struct.pack("<2i", *pair) for pair in (pruned or {}).items()]
    if not is_old:
        parts.append(struct.pack("<?", is_compressed))
    parts += [struct.pack("<2q", *matrix.shape), matrix.astype("<f4").tobytes(), struct.pack("<?2q", False, 0, 0)]
    return b"".join(parts)


FT_WORDS = ["</s>", "hello", "a", "naïveté", "字典字典", "\U0001f600x", "the", "hello!"]
FT_OTHERS = ["hell", "unseen", "典字", "é", "b", "\U0001f600\U0001f601", "x" * 60]


def expected_vector(word, words, matrix, minn, maxn, bucket, whole=("</s>",)):
    rows = [matrix[words.index(word)]] if word in words else []
    if maxn and word not in whole:
        rows += [matrix[len(words) + fnv1a(gram) % bucket] for gram in ngrams(word, minn, maxn)]
    return np.mean(np.array(rows, np.float64), axis=0) if rows else np.zeros(matrix.shape[1])


@pytest.mark.parametrize(("minn", "maxn"), [(3, 6), (1, 2), (2, 2), (1, 1), (0, 3), (5, 20), (0, 0)])
@pytest.mark.parametrize("is_old", [False, True])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_fasttext(tmp_path, minn, maxn, is_old, pack):
    bucket = 50 if maxn else 0
    matrix = np.random.default_rng(4).normal(size=(len(FT_WORDS) + bucket, 6)).astype(np.float32)
    content = fasttext(FT_WORDS, matrix, minn=minn, maxn=maxn, bucket=bucket, is_old=is_old)
    embedding = read(tmp_path, pack(content))
    assert embedding.idx_to_token == ["<unk>", *FT_WORDS]
    whole = () if is_old else ("</s>",)
    arguments = (FT_WORDS, matrix, max(minn, 1), maxn, bucket, whole)
    for words in (FT_WORDS, FT_OTHERS):
        expected = np.stack([expected_vector(word, *arguments) for word in words])
        np.testing.assert_allclose(embedding[words], expected, atol=1e-6)
        np.testing.assert_allclose(embedding.unknown_lookup[words], expected, atol=1e-6)
        for word, row in zip(words, expected, strict=True):
            np.testing.assert_allclose(embedding.unknown_lookup[word], row, atol=1e-6)
            has_rows = word in FT_WORDS or bool(maxn and ngrams(word, max(minn, 1), maxn))
            assert (word in embedding.unknown_lookup) is has_rows
    # A word without n-grams is unknown.
    assert embedding["\ud800"].tolist() == [0] * 6
    assert 3 not in embedding.unknown_lookup


def test_fasttext_in_small_pieces(tmp_path, monkeypatch):
    matrix = np.random.default_rng(4).normal(size=(len(FT_WORDS) + 50, 6)).astype(np.float32)
    whole = read(tmp_path, fasttext(FT_WORDS, matrix))
    monkeypatch.setattr(fasttext_format, "_WORDS_AT_ONCE", 3)
    monkeypatch.setattr(fasttext_format, "_GATHERED_BYTES", 100)
    pieces = read(tmp_path, fasttext(FT_WORDS, matrix))
    np.testing.assert_array_equal(pieces.idx_to_vec, whole.idx_to_vec)
    np.testing.assert_array_equal(pieces[FT_OTHERS], whole[FT_OTHERS])


def test_fasttext_lookup_goes_to_other_processes(tmp_path):
    matrix = np.random.default_rng(4).normal(size=(len(FT_WORDS) + 50, 6)).astype(np.float32)
    for pack in (bytes, gzip.compress):
        embedding = read(tmp_path, pack(fasttext(FT_WORDS, matrix)))
        state = pickle.dumps(embedding)
        # A model that lies in a file as it is does not travel; its copy maps the file.
        assert pack is not bytes or len(pickle.dumps(embedding.unknown_lookup)) < 400
        np.testing.assert_array_equal(pickle.loads(state)[FT_OTHERS], embedding[FT_OTHERS])


def test_fasttext_classifiers(tmp_path):
    matrix = np.random.default_rng(4).normal(size=(len(FT_WORDS) + 50, 6)).astype(np.float32)
    labelled = read(tmp_path, fasttext(FT_WORDS, matrix, labels=["__label__a", "__label__b"], model=3))
    assert labelled == read(tmp_path, fasttext(FT_WORDS, matrix))
    # Version 11 wrote the default n-grams for classifiers, which have none.
    none = read(tmp_path, fasttext(FT_WORDS, matrix, version=11, model=3), unknown_token=None)
    np.testing.assert_array_equal(none.idx_to_vec, matrix[: len(FT_WORDS)])
    assert "unseen" not in none.unknown_lookup


def test_fasttext_with_pruned_ngrams(tmp_path):
    matrix = np.random.default_rng(4).normal(size=(len(FT_WORDS) + 2, 6)).astype(np.float32)
    grams = ngrams("unseen", 3, 6)
    kept = {fnv1a(grams[0]) % 5000: 1, fnv1a(grams[5]) % 5000: 0}
    embedding = read(tmp_path, fasttext(FT_WORDS, matrix, bucket=5000, pruned=kept))
    np.testing.assert_allclose(embedding["unseen"], matrix[-2:].mean(axis=0), atol=1e-6)
    assert "other" not in embedding.unknown_lookup
    none = read(tmp_path, fasttext(FT_WORDS, matrix, bucket=5000, pruned={}))
    assert "unseen" not in none.unknown_lookup
    with pytest.raises(DataError, match="a row that is not in the matrix"):
        read(tmp_path, fasttext(FT_WORDS, matrix, bucket=5000, pruned={3: 2}))


def test_fasttext_words_that_are_no_text(tmp_path):
    words = [*FT_WORDS, b"cut\xc3", b""]
    matrix = np.random.default_rng(4).normal(size=(len(words) + 50, 6)).astype(np.float32)
    with pytest.warns(
        UserWarning, match=r"1 whose token is not in the encoding \(the first: word 9.*1 without a token"
    ):
        embedding = read(tmp_path, fasttext(words, matrix))
    assert embedding.idx_to_token == ["<unk>", *FT_WORDS]
    # The rows of n-grams are counted behind all words, usable or not.
    expected = expected_vector("unseen", words, matrix, 3, 6, 50)
    np.testing.assert_allclose(embedding["unseen"], expected, atol=1e-6)


def test_damaged_fasttext_models(tmp_path):
    matrix = np.random.default_rng(4).normal(size=(len(FT_WORDS) + 50, 6)).astype(np.float32)
    content = fasttext(FT_WORDS, matrix)
    for end in (*range(20, 300, 7), len(content) - 60):
        with pytest.raises(DataError, match="cut short"):
            read(tmp_path, content[:end], format="fasttext")
    for options, message in (
        ({"is_compressed": True}, r"compressed fastText model \(.ftz\)"),
        ({"version": 13}, "version 13, expected at most 12"),
        ({"bucket": 51}, "expected a matrix of 59 rows"),
        ({"model": 9}, "its arguments make no sense"),
    ):
        with pytest.raises(DataError, match=message):
            read(tmp_path, fasttext(FT_WORDS, matrix, **options))
    with pytest.raises(DataError, match="more than once"):
        read(tmp_path, fasttext([*FT_WORDS[:-1], "the"], matrix))
    with pytest.raises(DataError, match="no fastText model"):
        read(tmp_path, GLOVE * 5, format="fasttext")

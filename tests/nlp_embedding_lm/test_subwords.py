"""Bytes and hashed n-grams: against loops that follow fastText's definition, and against its own answers."""

from __future__ import annotations

import itertools
import pickle
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glueball.errors import DataError, OptionError
from glueball_nlp_embedding_lm.subwords import ByteSubwords, NGramHashes, WordNGrams, hash_words

WORDS = st.lists(
    st.text(st.one_of(st.sampled_from("ab<>-é世😀\u0301"), st.characters(codec="utf-8")), max_size=12), max_size=6
)

# The answers of gensim 4.4's ft_hash_bytes, and of fastText 0.9.2's get_subwords (without the word's own row) with
# 2,000,000 buckets.
HASHES = {"": 2166136261, "a": 3826002220, "hello": 1335831723, "</s>": 3617362777, "über": 238904527,
          "世界": 3253334463, "😀": 604031496}  # fmt: skip
NGRAMS_3_TO_6 = {
    "to": [818294, 1520984, 1798126],
    "word": [1390033, 506905, 1510087, 755963, 1355467, 406269, 754425, 874912, 270522, 569831],
    "über": [1793082, 1664269, 716781, 820905, 255527, 904527, 1599331, 485366, 900056, 742840],
    "世界": [1748749, 595913, 999187],
    "😀!": [1429945, 70533, 1311471],
    "a": [1087600],
}
NGRAMS_1_TO_2 = {
    "to": [454941, 111267, 1836708, 667934, 600544],
    "word": [122084, 888886, 867611, 667934, 1699588, 776981, 707683, 1669363, 160823],
    "über": [811388, 934730, 1223928, 335077, 383232, 891744, 1359446, 776981, 274353],
    "世界": [1521211, 1298821, 1334463, 924159, 572243],
    "😀!": [934818, 31496, 403467, 802540, 1492630],
    "a": [1008750, 2220, 1614806],
}
# Read off the sentence vectors of a fastText 0.9.2 classifier whose rows are one-hot: with 97 buckets, in no order.
WORD_NGRAMS = {
    (2, "hello über world </s>"): [68, 69, 85],
    (3, "a b a b </s>"): [15, 24, 41, 41, 53, 56, 62],
}


def fnv(text: bytes) -> int:
    value = 2166136261
    for byte in text:
        value ^= byte if byte < 128 else 0xFFFFFF00 | byte
        value = value * 16777619 % 2**32
    return value


def ngrams(word: str, sizes: tuple[int, ...], buckets: int) -> list[int]:
    marked = f"<{word}>"
    found = []
    for first in range(len(marked)):
        for size in sizes:
            if first + size > len(marked) or (size == 1 and first in (0, len(marked) - 1)):
                continue
            found.append(fnv(marked[first : first + size].encode()) % buckets)
    return found


def word_ngrams(tokens: list[str], n: int, buckets: int) -> list[int]:
    signed = [value - 2**32 if value >= 2**31 else value for value in (fnv(token.encode()) for token in tokens)]
    found = []
    for first in range(len(tokens)):
        value = signed[first]
        for other in signed[first + 1 : first + n]:
            value = (value * 116049371 + other) % 2**64
            found.append(value % buckets)
    return found


def test_fasttext_gives_the_same() -> None:
    assert hash_words(list(HASHES)).tolist() == list(HASHES.values())
    for sizes, expected in (((3, 4, 5, 6), NGRAMS_3_TO_6), ((1, 2), NGRAMS_1_TO_2)):
        found = NGramHashes(2_000_000, sizes)(list(expected))
        assert dict(zip(expected, [word.tolist() for word in found], strict=True)) == expected
    for (n, text), expected in WORD_NGRAMS.items():
        assert sorted(WordNGrams(97, n)(text.split()).tolist()) == expected


@settings(deadline=None)
@given(WORDS)
def test_hashes_of_words(words: list[str]) -> None:
    hashes = hash_words(words)
    assert hashes.dtype == np.uint32
    assert hashes.tolist() == [fnv(word.encode()) for word in words]


@settings(deadline=None)
@given(WORDS, st.sets(st.integers(1, 7), min_size=1), st.sampled_from([1, 7, 2_000_000, 2**32 - 1]))
def test_ngrams(words: list[str], sizes: set[int], buckets: int) -> None:
    function = NGramHashes(buckets, sizes)
    expected = [ngrams(word, tuple(sorted(sizes)), buckets) for word in words]
    found = function(words)
    assert [word.tolist() for word in found] == expected
    assert all(word.dtype == np.int64 for word in found)
    indices, counts = function.flat(words)
    assert indices.tolist() == list(itertools.chain.from_iterable(expected))
    assert counts.tolist() == [len(word) for word in expected]


def test_ngrams_of_special_tokens_and_back() -> None:
    function = NGramHashes(1000, (3,), ["<unk>", "the"])
    assert [len(word) for word in function(["the", "then", "<unk>"])] == [0, 4, 0]
    assert function.subwords_to_indices(["<th", "n>"]) == [fnv(b"<th") % 1000, fnv(b"n>") % 1000]
    with pytest.raises(OptionError, match="no inverse"):
        function.indices_to_subwords([1])
    assert len(function) == 1000
    assert pickle.loads(pickle.dumps(function)) == function


@settings(deadline=None)
@given(
    st.lists(st.lists(st.text("abé", max_size=3), max_size=40), max_size=4),
    st.integers(1, 8),
    st.sampled_from([1, 97, 2**31]),
)
def test_word_ngrams(texts: list[list[str]], n: int, buckets: int) -> None:
    function = WordNGrams(buckets, n)
    expected = [word_ngrams(tokens, n, buckets) for tokens in texts]
    assert [function(tokens).tolist() for tokens in texts] == expected
    indices, counts = function.flat(texts)
    assert indices.tolist() == list(itertools.chain.from_iterable(expected))
    assert counts.tolist() == [len(found) for found in expected]
    assert indices.dtype == counts.dtype == np.int64


def test_bytes() -> None:
    function = ByteSubwords()
    assert [word.tolist() for word in function(["hé", ""])] == [[104, 195, 169], []]
    assert len(function) == 256
    assert function.indices_to_subwords([104]) == function.subwords_to_indices([104]) == [104]


@pytest.mark.parametrize("function", [hash_words, ByteSubwords(), NGramHashes(10), WordNGrams(10)])
def test_words_that_are_none(function: object) -> None:
    assert callable(function)
    for wrong in ("text", ["\ud800"], [1, 2], [["a"], ["b"]]):
        with pytest.raises(DataError):
            function(wrong)


def test_options_that_cannot_be() -> None:
    for sizes in ((), (0,), ("3",), (True,)):
        with pytest.raises(OptionError, match="ngrams are whole numbers"):
            NGramHashes(10, sizes)
    for size in (0, 1.5, True):
        with pytest.raises(OptionError, match="num_subwords"):
            NGramHashes(size)  # type: ignore[arg-type]
        with pytest.raises(OptionError, match="num_buckets"):
            WordNGrams(size)  # type: ignore[arg-type]
    with pytest.raises(OptionError, match="special_tokens is a list"):
        NGramHashes(10, special_tokens="<unk>")


def test_many_words_take_no_loop_in_python() -> None:
    words = [f"word{number}" for number in range(20_000)]
    start = time.process_time()
    _, counts = NGramHashes(2_000_000).flat(words)
    taken = time.process_time() - start
    start = time.process_time()
    expected = [len(ngrams(word, (3, 4, 5, 6), 2_000_000)) for word in words[:1000]]
    loop = (time.process_time() - start) * 20
    assert counts[:1000].tolist() == expected
    assert taken < loop / 3, f"{taken:.2f} s, and a loop {loop:.2f} s"

"""Counting tokens and cutting data, against plain Python and GluonNLP's documented results."""

from __future__ import annotations

import collections
import doctest
import importlib
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glueball.data import ArrayDataset, SimpleDataset
from glueball.errors import DataError, OptionError
from glueball_nlp_embedding_lm import counting
from glueball_nlp_embedding_lm.counting import Counter, Splitter, count_tokens, slice_sequence, train_valid_split

WORDS = st.lists(st.text("abAB", max_size=2))


@settings(deadline=None)
@given(WORDS, WORDS, st.booleans())
def test_counts(first: list[str], second: list[str], to_lower: bool) -> None:
    expected = collections.Counter(token.lower() if to_lower else token for token in first + second)
    counter = count_tokens(iter(first), to_lower)
    assert isinstance(counter, Counter)
    assert count_tokens(second, to_lower, counter) is counter
    assert counter == expected


@settings(deadline=None)
@given(WORDS, st.integers(0, 4))
def test_discard_keeps_the_sum(tokens: list[str], min_freq: int) -> None:
    counter = count_tokens(tokens)
    before = dict(counter)
    kept = counter.discard(min_freq, "<unk>")
    assert counter == before
    assert sum(kept.values()) == len(tokens)
    assert {token: count for token, count in before.items() if count >= min_freq} == {
        token: count for token, count in kept.items() if token != "<unk>"
    }
    assert counter.discard(1, "b")["b"] == before.get("b", 0), "an unknown token that was counted itself"


def test_tokens_that_cannot_be_counted() -> None:
    with pytest.raises(DataError, match="Received a text: 'a b'"):
        count_tokens("a b")
    counter = count_tokens(["a"])
    for wrong in (["a", 1], [["a"]], [None]):
        for to_lower in (False, True):
            with pytest.raises(DataError, match="expects strings"):
                count_tokens(wrong, to_lower, counter)  # type: ignore[arg-type]
    assert counter == {"a": 1}


def test_concat_sequence() -> None:
    assert counting.concat_sequence([["a"], (), ["b", "c"]]) == ["a", "b", "c"]


@settings(deadline=None)
@given(st.integers(0, 30), st.integers(1, 7), st.data(), st.booleans())
def test_slices(count: int, length: int, data: st.DataObject, pad_last: bool) -> None:
    overlap = data.draw(st.integers(0, length - 1))
    sequence = list(range(count))
    slices = slice_sequence(sequence, length, pad_last, -1, overlap)
    assert all(len(part) == length for part in slices)
    for before, after in itertools.pairwise(slices):
        assert before[length - overlap :] == after[:overlap]
    seen = [number for part in slices for number in part if number >= 0]
    if pad_last:
        assert sorted(set(seen)) == sequence, "nothing is lost"
        assert sum(part[-1] == -1 for part in slices) <= 1
        # Each slice but the first brings something new.
        assert all(max(after) > max(before) for before, after in itertools.pairwise(slices))
    else:
        assert sorted(set(seen)) == sequence[: max(seen, default=-1) + 1]
        assert count - (max(seen, default=-1) + 1) < (length - overlap if slices else length)
    np.testing.assert_array_equal(
        np.array(slices).reshape(-1, length),
        np.array(slice_sequence(np.array(sequence), length, pad_last, -1, overlap)).reshape(-1, length),
    )


def test_slices_that_cannot_be() -> None:
    with pytest.raises(OptionError, match="length of at least 1"):
        slice_sequence([1], 0)
    with pytest.raises(OptionError, match="overlap from 0 to length - 1 = 1"):
        slice_sequence([1], 2, overlap=2)


def test_train_and_valid_are_all_of_it_and_reproducible() -> None:
    train, valid = train_valid_split(range(100), 0.1)
    assert (len(train), len(valid)) == (90, 10)
    assert sorted([*train, *valid]) == list(range(100))
    assert list(train_valid_split(SimpleDataset(range(100)), 0.1)[1]) == list(valid)
    assert list(train_valid_split(range(100), 0.1, seed=1)[1]) != list(valid)
    labels = np.repeat([0, 1], [80, 20])
    for stratify in (labels, labels.tolist(), True):
        _, valid = train_valid_split(ArrayDataset(np.arange(100), labels), 0.1, stratify)
        assert np.bincount([label for _, label in valid]).tolist() == [8, 2]
    with pytest.raises(OptionError, match="between 0 and 1"):
        train_valid_split(range(10), 1.5)


def test_splitters() -> None:
    assert counting.line_splitter("a b\n\nc\n") == ["a b", "", "c"]
    assert counting.whitespace_splitter(" a  b\n") == ["a", "b"]
    assert Splitter()(" a  b\n") == ["a", "b"]
    assert Splitter(" ")("a  b") == ["a", "", "b"]
    with pytest.raises(OptionError, match="at least one character"):
        Splitter("")


@pytest.mark.parametrize("module", ["counting", "sequences", "subwords", "tokenizers.basic", "vocab"])
def test_examples_of_the_documentation(module: str) -> None:
    results = doctest.testmod(importlib.import_module(f"glueball_nlp_embedding_lm.{module}"))
    assert results.attempted > 0
    assert results.failed == 0

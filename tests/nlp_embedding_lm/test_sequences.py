"""Clipping, padding, truncating together, and putting together."""

from __future__ import annotations

import math
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glueball.errors import DataError, OptionError
from glueball_nlp_embedding_lm.sequences import ClipSequence, PadSequence, concat_with_separators, truncate_equal


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 10), st.booleans())
def test_clip_and_pad(sequence: list[int], length: int, clip: bool) -> None:
    before = list(sequence)
    assert ClipSequence(length)(sequence) == ClipSequence(length)(tuple(sequence)) == sequence[:length]
    padded = PadSequence(length, -1, clip)(sequence)
    kept = sequence[:length] if clip else sequence
    assert padded == kept + [-1] * (length - len(kept))
    assert padded is not sequence, "nobody changes the given list by way of the result"
    assert sequence == before
    array = np.array(sequence, np.int16).reshape(-1, 1) * np.ones((1, 3), np.int16)
    result = PadSequence(length, -1, clip)(array)
    assert result.dtype == np.int16
    np.testing.assert_array_equal(result, np.array(padded).reshape(-1, 1) * np.ones((1, 3), int))
    np.testing.assert_array_equal(ClipSequence(length)(array), array[:length])


def test_tokens_are_padded_with_tokens() -> None:
    assert PadSequence(3, "<pad>")(["a"]) == ["a", "<pad>", "<pad>"]
    assert PadSequence(3, "x")(np.array(["ab"])).tolist() == ["ab", "x", "x"]


def test_what_an_array_cannot_hold_is_no_padding() -> None:
    for array, value in (
        (np.zeros(1, np.uint8), -1),
        (np.zeros(1, np.uint8), 256),
        (np.zeros(1, np.int32), 0.5),
        (np.zeros(1, np.int32), math.nan),
        (np.zeros(1, np.int32), "<pad>"),
        (np.array(["ab"]), "<pad>"),
        (np.zeros(1, np.float32), "x"),
    ):
        with pytest.raises(DataError, match="cannot hold"):
            PadSequence(2, value)(array)
        assert len(PadSequence(1, value)(array)) == 1, "nothing to fill up, nothing to object to"
    assert PadSequence(2, 0.1)(np.zeros(1, np.float32)).tolist() == [0.0, float(np.float32(0.1))]
    assert math.isnan(PadSequence(2, math.nan)(np.zeros(1, np.float32))[1])


def test_bad_arguments() -> None:
    for kind in (ClipSequence, PadSequence):
        for length in (0, -1, 1.5, True):
            with pytest.raises(OptionError, match="length as a whole number of at least 1"):
                kind(length)
        for sequence in ("text", None, 3, np.float32(1)):
            with pytest.raises(DataError, match="a list, a tuple or an array"):
                kind(2)(sequence)
        assert pickle.loads(pickle.dumps(kind(2))) == kind(2)


def by_popping(lengths: list[int], max_length: int) -> list[int]:
    lengths = list(lengths)
    while sum(lengths) > max_length:
        longest = max(lengths)
        last = max(place for place, length in enumerate(lengths) if length == longest)
        lengths[last] -= 1
    return lengths


@settings(deadline=None)
@given(st.lists(st.integers(0, 9), max_size=5), st.integers(0, 40))
def test_truncate_equal(lengths: list[int], max_length: int) -> None:
    sequences = [list(range(length)) for length in lengths]
    cut = truncate_equal(sequences, max_length)
    assert cut == [list(range(length)) for length in by_popping(lengths, max_length)]
    assert [len(sequence) for sequence in sequences] == lengths


def test_truncate_keeps_types_and_refuses_negative_lengths() -> None:
    first, second = truncate_equal([("a", "b", "c"), np.arange(3)], 3)  # type: ignore[list-item]
    assert first == ("a", "b")
    assert second.tolist() == [0]  # type: ignore[attr-defined]
    with pytest.raises(OptionError, match="at least 0"):
        truncate_equal([[1]], -1)


def test_concat_with_separators() -> None:
    result = concat_with_separators([["how", "?"], ["so"]], [["[SEP]"], ["[SEP]", "!"]], ["[CLS]"])
    assert result.tokens == ["[CLS]", "how", "?", "[SEP]", "so", "[SEP]", "!"]
    assert result.segment_ids == [0, 0, 0, 0, 1, 1, 1]
    assert result.is_special == [1, 0, 0, 1, 0, 1, 1]
    assert concat_with_separators([[1], [], [2]]) == ([1, 2], [0, 2], [0, 0])
    assert concat_with_separators([]) == ([], [], [])
    with pytest.raises(OptionError, match="a separator for each of 2 sequences"):
        concat_with_separators([[1], [2]], [[0]])
    for separators in ([["s"], "[SEP]"], [["s"], 5]):
        with pytest.raises(OptionError, match="lists of elements"):
            concat_with_separators([["a"], ["b"]], separators)  # type: ignore[arg-type]

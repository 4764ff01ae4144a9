"""Batchify functions."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from glueball.data import DataLoader, SimpleDataset, batchify
from glueball.errors import DataError, OptionError


def test_stack_types():
    stack = batchify.Stack()
    assert stack([1, 2]).dtype == np.int64
    assert stack([1.0, 2.0]).dtype == np.float32
    assert stack([np.float64(1), np.float64(2)]).dtype == np.float64
    assert stack([np.zeros((2, 3), np.uint8)] * 4).shape == (4, 2, 3)
    assert batchify.Stack(np.int32)([1, 2]).dtype == np.int32
    assert stack([np.int32(1), np.float32(2)]).dtype == np.result_type(np.int32, np.float32)


def test_the_type_of_a_batch_does_not_depend_on_the_order_of_its_samples():
    for samples in ([1, 2.5], [2.5, 1], [True, 2.5], [[1, 2], [2.5, 1]], [(1,), [2.5]]):
        assert batchify.Stack()(samples).dtype == np.float32
        assert batchify.Pad()([[1], [2.5, 3]]).dtype == np.float32
    assert [batch.dtype for batch in DataLoader(SimpleDataset([1, 2.5, 2.5, 1]), 2)] == [np.float32] * 2
    # Somebody who chose a type keeps it.
    for samples in ([1.0, np.float64(2)], [np.float64(2), 1.0], [[np.float64(1)], [2.0]], [np.array(1.0), 2.0]):
        assert batchify.Stack()(samples).dtype == np.float64
    assert batchify.Stack(np.float64)([1, 2.5]).dtype == np.float64
    assert batchify.Stack()([1, 2]).dtype == np.int64


def test_stack_names_the_sample_that_does_not_fit():
    with pytest.raises(DataError, match=r"\(2,\) at 0 and \(3,\) at 1"):
        batchify.Stack()([np.zeros(2), np.zeros(3)])
    with pytest.raises(DataError, match="Element 1"):
        batchify.Stack()([1, object()])
    with pytest.raises(DataError, match="no samples"):
        batchify.Stack()([])


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=6),
    st.sampled_from([0, 1, -1, -2]),
    st.sampled_from([None, 1, 4]),
    st.sampled_from([0, -1, 7]),
)
def test_pad_holds_every_sample_and_nothing_else(sizes, axis, round_to, value):
    generator = np.random.default_rng(0)
    place = axis % 2
    samples = [generator.integers(10, 99, (size, 3) if place == 0 else (3, size)) for size in sizes]
    out, lengths = batchify.Pad(axis, value, return_length=True, round_to=round_to)(samples)
    longest = max(sizes) if round_to is None else -(-max(sizes) // round_to) * round_to
    assert out.shape == (len(sizes), *((longest, 3) if place == 0 else (3, longest)))
    assert lengths.dtype == np.int32
    assert lengths.tolist() == sizes
    for row, sample, size in zip(out, samples, sizes, strict=True):
        row = row if place == 0 else row.T
        np.testing.assert_array_equal(row[:size], sample if place == 0 else sample.T)
        assert (row[size:] == value).all()


@given(st.lists(hnp.array_shapes(min_dims=2, max_dims=2, max_side=5), min_size=1, max_size=4))
def test_pad_several_axes(shapes):
    out, lengths = batchify.Pad((0, 1), return_length=True)([np.ones(shape) for shape in shapes])
    assert lengths.tolist() == [list(shape) for shape in shapes]
    assert out.sum() == sum(a * b for a, b in shapes)


def test_pad_understands_gluonnlp_names_and_says_what_is_wrong():
    out, lengths = batchify.Pad(axis=0, pad_val=-1, ret_length=True)([[1, 2, 3], [4]])
    assert out.tolist() == [[1, 2, 3], [4, -1, -1]]
    assert lengths.tolist() == [3, 1]
    with pytest.raises(DataError, match="axis 1 the samples must agree"):
        batchify.Pad()([np.zeros((2, 2)), np.zeros((2, 3))])
    with pytest.raises(DataError, match="one rank"):
        batchify.Pad()([np.zeros(2), np.zeros((2, 3))])
    with pytest.raises(OptionError, match="2 axes"):
        batchify.Pad(axis=2)([np.zeros((2, 2))])
    with pytest.raises(OptionError, match="round_to"):
        batchify.Pad(round_to=0)


def test_tuple_list_dict_and_named_tuple():
    samples = [([1, 2], 0, "a"), ([3], 1, "b")]
    padded, labels, names = batchify.Tuple(batchify.Pad(), batchify.Stack(), batchify.List())(samples)
    assert padded.tolist() == [[1, 2], [3, 0]]
    assert labels.tolist() == [0, 1]
    assert names == ["a", "b"]
    assert batchify.Tuple([batchify.Stack(), batchify.Stack()])([(1, 2)])[1].tolist() == [2]
    result = batchify.Dict({"x": batchify.Stack()})([{"x": 1, "y": 2}, {"x": 3}])
    assert result["x"].tolist() == [1, 3]
    pair = collections.namedtuple("pair", "a b")
    named = batchify.NamedTuple(pair, {"b": batchify.List(), "a": batchify.Stack()})([pair(1, "x")])
    assert type(named) is pair
    assert named.b == ["x"]
    with pytest.raises(DataError, match="has 2 elements"):
        batchify.Tuple(batchify.Stack())([(1, 2)])
    with pytest.raises(DataError, match="lacks"):
        batchify.Dict({"x": batchify.Stack()})([{"y": 2}])
    with pytest.raises(OptionError, match="needs functions"):
        batchify.NamedTuple(pair, {"a": batchify.Stack()})


def test_default_follows_the_sample():
    images, info = batchify.default_batchify([(np.zeros((2, 2)), {"id": 1, "name": "a"})] * 3)
    assert images.shape == (3, 2, 2)
    assert info["id"].tolist() == [1, 1, 1]
    assert info["name"] == ["a"] * 3
    assert batchify.default_batchify([True, False]).dtype == bool

"""Datasets and their views."""

from __future__ import annotations

import collections
import functools
import pickle

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glueball.data import ArrayDataset, SimpleDataset, streams
from glueball.errors import DataError, OptionError


class Jitter:
    is_random = True

    def __call__(self, number, random=None):
        random = random or np.random.default_rng()
        return number + random.random()


def _squares():
    return SimpleDataset(range(10)).transform(lambda number: number**2)


def test_transform_calls_with_the_elements_of_a_tuple():
    dataset = ArrayDataset(np.arange(4), np.arange(4) * 10)
    assert [dataset.transform(lambda a, b: a + b)[index] for index in range(4)] == [0, 11, 22, 33]
    assert dataset.transform_first(lambda a: -a)[3] == (-3, 30)
    assert list(_squares()) == [number**2 for number in range(10)]


def test_transform_gives_a_function_of_one_argument_the_whole_tuple():
    pairs = SimpleDataset([([5, 6, 7], 0), ([8], 1)])
    assert list(pairs.transform(lambda x: len(x[0]))) == [3, 1]
    assert list(pairs.transform(lambda x, scale=2: (x, scale))) == list(pairs)  # it takes two, so it gets them
    assert list(pairs.transform(lambda *x: len(x))) == [2, 2]
    assert list(pairs.transform(functools.partial(lambda factor, x: factor * len(x[0]), 10))) == [30, 10]
    # One element is an argument as ever, and a sample that is no tuple too.
    assert list(SimpleDataset([(4,)]).transform(lambda x: x)) == [4]
    assert list(SimpleDataset([[[1, 2], 0], ([3], 1)]).transform(lambda x: len(x[0]))) == [2, 1]
    # A count of elements is hardly ever the length that is meant, and a picture's transform must not get its label.
    for odd in (len, Jitter(), lambda: 0, lambda a, b, c: 0):
        with pytest.raises(TypeError):
            list(pairs.transform(odd))


def test_transform_gives_the_whole_tuple_to_a_random_function_too():
    def longer(sample, random):
        return len(sample[0]) + random.integers(10)

    longer.is_random = True
    dataset = SimpleDataset([([5, 6, 7], 0)]).transform(longer)
    assert dataset.fetch(0, np.random.default_rng(3)) == 3 + np.random.default_rng(3).integers(10)


def test_transform_first_keeps_named_tuples():
    pair = collections.namedtuple("pair", "picture label")
    sample = SimpleDataset([pair(1, 2)]).transform_first(lambda value: value + 1)[0]
    assert type(sample) is pair
    assert sample == (2, 2)


def test_transform_is_lazy_unless_told_otherwise():
    calls = []
    dataset = SimpleDataset([1, 2]).transform(lambda value: calls.append(value) or value)
    assert calls == []
    eager = SimpleDataset([1, 2]).transform(lambda value: calls.append(value) or value, lazy=False)
    assert calls == [1, 2]
    assert list(eager) == list(dataset) == [1, 2]


def test_random_transforms_draw_from_the_stream_they_are_given():
    dataset = SimpleDataset([0.0, 0.0]).transform(Jitter()).transform(Jitter()).take(2)
    assert dataset.is_random
    assert not _squares().is_random
    first, again = (dataset.fetch(1, streams.stream(5, streams.SAMPLE, 2, 1)) for _ in range(2))
    assert first == again
    random = streams.stream(5, streams.SAMPLE, 2, 1)
    assert first == random.random() + random.random()
    assert first != dataset.fetch(1, streams.stream(5, streams.SAMPLE, 3, 1))
    assert dataset[0] != dataset[0]


def test_streams_do_not_meet():
    drawn = {
        tuple(streams.stream(seed, purpose, epoch, index).integers(2**60, size=3))
        for seed in (0, 1)
        for purpose in (streams.SAMPLE, streams.BATCH, streams.ORDER)
        for epoch in (0, 1, 2)
        for index in (0, 1, 2**40)
    }
    assert len(drawn) == 2 * 3 * 3 * 3
    with pytest.raises(OptionError, match="seed"):
        streams.stream(-1, streams.SAMPLE)


def test_filter_take_subset_and_sample():
    even = _squares().filter(lambda number: number % 2 == 0)
    assert list(even) == [0, 4, 16, 36, 64]
    assert list(pickle.loads(pickle.dumps(SimpleDataset([1, 2, 3]).filter(lambda n: n > 1)))) == [2, 3]
    assert list(_squares().take(3)) == [0, 1, 4]
    assert len(_squares().take(99)) == 10
    assert list(_squares().subset([3, 3, 0])) == [9, 9, 0]
    assert list(_squares().sample(range(8, 10))) == [64, 81]
    for indices in ([10], [-1], [0.5]):
        with pytest.raises(OptionError, match="subset"):
            _squares().subset(indices)
    with pytest.raises(OptionError, match="take"):
        _squares().take(-1)


@given(st.integers(0, 50), st.integers(1, 9))
def test_shards_partition(length, num_shards):
    parts = [list(SimpleDataset(range(length)).shard(num_shards, index)) for index in range(num_shards)]
    assert [sample for part in parts for sample in part] == list(range(length))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_shard_refuses_an_index_beyond():
    with pytest.raises(OptionError, match="index=3, num_shards=3"):
        _squares().shard(3, 3)


@settings(deadline=None)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=60), st.floats(0.05, 0.95), st.integers(0, 99))
def test_split_partitions_and_keeps_the_classes_shares(labels, fraction, seed):
    dataset = ArrayDataset(np.arange(len(labels)), np.array(labels))
    first, second = dataset.split(fraction, seed, stratify=True)
    assert sorted(sample[0] for part in (first, second) for sample in part) == list(range(len(labels)))
    assert len(first)
    assert len(second)
    again, _ = dataset.split(fraction, seed, stratify=labels)
    assert [sample[0] for sample in first] == [sample[0] for sample in again]
    counts = collections.Counter(labels)
    mine = collections.Counter(first.labels().tolist())
    if max(counts.values()) > 1:
        for label, count in counts.items():
            assert abs(mine[label] - fraction * count) <= 1
            assert count < 2 or 0 < mine[label] < count


def test_split_depends_on_the_seed_and_says_what_is_wrong():
    dataset = SimpleDataset(range(100))
    assert len(dataset.split(0.8)[0]) == 80
    assert list(dataset.split(0.5, seed=1)[0]) != list(dataset.split(0.5, seed=2)[0])
    with pytest.raises(OptionError, match="fraction"):
        dataset.split(1.0)
    with pytest.raises(OptionError, match="classes"):
        dataset.split(0.5, stratify=True)
    with pytest.raises(OptionError, match="100 samples"):
        dataset.split(0.5, stratify=[1, 2])
    with pytest.raises(DataError, match="cannot be split"):
        SimpleDataset([1]).split(0.5)


def test_array_dataset_demands_one_length():
    with pytest.raises(OptionError, match=r"\[3, 4\]"):
        ArrayDataset(np.zeros(3), np.zeros(4))
    with pytest.raises(OptionError, match="at least one"):
        ArrayDataset()
    assert ArrayDataset([5, 6])[1] == 6
    assert ArrayDataset(np.zeros((3, 2)), np.zeros((3, 2), int)).labels() is None

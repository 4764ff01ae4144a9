"""Samplers: orders that are a function of (seed, epoch)."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glueball.data import (
    BatchSampler,
    FilterSampler,
    IntervalSampler,
    RandomSampler,
    SequentialSampler,
    SplitSampler,
)
from glueball.errors import CheckpointError, OptionError


def test_sequential_filter_and_interval():
    assert list(SequentialSampler(3)) == [0, 1, 2]
    assert list(SequentialSampler("abc", start=5)) == [5, 6, 7]
    assert list(FilterSampler(str.isupper, "aBcD")) == [1, 3]
    assert list(IntervalSampler(7, 3)) == [0, 3, 6, 1, 4, 2, 5]
    once = IntervalSampler(7, 3, rollover=False)
    assert list(once) == [0, 3, 6]
    assert len(once) == 3
    with pytest.raises(OptionError, match="interval"):
        IntervalSampler(3, 4)


def test_random_order_is_a_function_of_seed_and_epoch():
    sampler = RandomSampler(50, seed=3)
    first = list(sampler)
    assert sorted(first) == list(range(50))
    assert list(sampler) == first
    sampler.set_epoch(1)
    second = list(sampler)
    assert second != first
    resumed = RandomSampler(50, seed=3)
    resumed.load_state_dict(sampler.state_dict())
    assert list(resumed) == second
    assert list(RandomSampler(50, seed=4)) != first
    with pytest.raises(CheckpointError, match="seed 3"):
        RandomSampler(50, seed=4).load_state_dict(sampler.state_dict())


def test_draws_with_replacement():
    sampler = RandomSampler(5, replacement=True, num_samples=100)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == 100
    assert set(drawn) == set(range(5))
    with pytest.raises(OptionError, match="replacement"):
        RandomSampler(5, num_samples=3)


@given(st.integers(0, 40), st.integers(1, 7), st.booleans(), st.booleans())
def test_split_covers_everything(length, num_parts, even, shuffle):
    parts = [SplitSampler(length, num_parts, part, even=even, shuffle=shuffle, seed=9) for part in range(num_parts)]
    lists = [list(part) for part in parts]
    assert [len(part) for part in parts] == [len(part) for part in lists]
    visited = list(itertools.chain(*lists))
    assert set(visited) == set(range(length))
    if even:
        assert len({len(part) for part in parts}) == 1
    else:
        assert len(visited) == length


def test_processes_together_make_the_batches_of_one():
    whole = list(BatchSampler(SplitSampler(24, seed=2), 8))
    halves = [list(BatchSampler(SplitSampler(24, 2, part, seed=2), 4)) for part in (0, 1)]
    assert [set(a + b) for a, b in zip(*halves, strict=True)] == [set(batch) for batch in whole]


@pytest.mark.parametrize(("last_batch", "sizes"), [("keep", [4, 4, 2]), ("discard", [4, 4]), ("rollover", [4, 4])])
def test_last_batch(last_batch, sizes):
    sampler = BatchSampler(SequentialSampler(10), 4, last_batch)
    assert [len(batch) for batch in sampler] == sizes
    assert len(sampler) == len(sizes)


@given(st.integers(1, 12), st.integers(1, 9), st.integers(0, 6))
def test_rollover_goes_on_from_any_epoch(length, batch_size, epochs):
    """The batches of all epochs together are the concatenated orders, and an epoch can be computed on its own."""
    together: list[int] = []
    for epoch in range(epochs + 1):
        fresh = BatchSampler(RandomSampler(length, seed=1), batch_size, "rollover")
        fresh.set_epoch(epoch)
        batches = list(fresh)
        assert len(batches) == len(fresh)
        together += itertools.chain(*batches)
    expected: list[int] = []
    for epoch in range(epochs + 1):
        order = RandomSampler(length, seed=1)
        order.set_epoch(epoch)
        expected += list(order)
    assert together == expected[: len(together)]
    assert len(expected) - len(together) == (epochs + 1) * length % batch_size


def test_batch_sampler_refuses_what_it_cannot_use():
    with pytest.raises(OptionError, match="batch_size"):
        BatchSampler([1], 0)
    with pytest.raises(OptionError, match="last_batch"):
        BatchSampler([1], 1, "drop")
    with pytest.raises(OptionError, match="part_index"):
        SplitSampler(5, 2, 2)

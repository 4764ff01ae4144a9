"""Samplers for sequences of different length, and what the loader and batchify functions make of their batches."""

from __future__ import annotations

import collections
import itertools
import logging
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import glueball as nlp
from glueball.data import (
    BatchSampler,
    ConstWidthBucket,
    DataLoader,
    ExpWidthBucket,
    FixedBucketSampler,
    LinearWidthBucket,
    RandomSampler,
    SimpleDataset,
    SortedBucketSampler,
    SortedSampler,
    SplitSampler,
    TokenBudgetSampler,
    batchify,
    padding_share,
)
from glueball.errors import CheckpointError, DataError, OptionError

SEQUENCES = [number * number * 31 % 97 + 3 for number in range(60)]
PAIRS = [(number * number * 31 % 97 + 3, number * 17 % 41 + 1) for number in range(60)]
FEW = [5, 1, 9, 3, 3, 7, 12, 2, 8, 1]

# What GluonNLP 0.10.0's samplers give for these lengths (num_buckets=6, batch_size=4, ratio=0.5): keys, samples of each
# bucket, batch sizes. tests/oracle/compare_gluonnlp_samplers.py compares many more.
GLUONNLP = [
    (SEQUENCES, ConstWidthBucket(), [19, 35, 51, 67, 83, 99], [13, 10, 9, 7, 9, 12], [10, 5, 4, 4, 4, 4]),
    (SEQUENCES, LinearWidthBucket(), [8, 18, 32, 50, 72, 99], [5, 6, 9, 11, 10, 19], [24, 11, 6, 4, 4, 4]),
    (SEQUENCES, ExpWidthBucket(), [15, 29, 44, 61, 79, 99], [11, 8, 8, 9, 11, 13], [13, 6, 4, 4, 4, 4]),
    (SEQUENCES, ExpWidthBucket(1.5), [8, 15, 25, 41, 64, 99], [5, 6, 5, 11, 10, 23], [24, 13, 7, 4, 4, 4]),
    (
        PAIRS,
        ConstWidthBucket(),
        [(19, 11), (35, 17), (51, 23), (67, 29), (83, 35), (99, 41)],
        [3, 7, 7, 11, 12, 20],
        [9, 5, 4, 4, 4, 4],
    ),
    (
        PAIRS,
        LinearWidthBucket(),
        [(8, 4), (18, 8), (32, 14), (50, 21), (72, 30), (99, 41)],
        [1, 2, 5, 7, 15, 30],
        [23, 10, 6, 4, 4, 4],
    ),
    (
        PAIRS,
        ExpWidthBucket(1.5),
        [(8, 3), (15, 6), (25, 10), (41, 17), (64, 26), (99, 41)],
        [1, 1, 3, 6, 13, 36],
        [25, 13, 8, 4, 4, 4],
    ),
]

lengths_strategy = st.one_of(
    st.lists(st.integers(1, 60), min_size=1, max_size=60),
    st.lists(st.tuples(st.integers(1, 60), st.integers(1, 30)), min_size=1, max_size=60),
)


def _all_samplers(seed=7):
    return [
        FixedBucketSampler(SEQUENCES, 4, shuffle=True, seed=seed),
        FixedBucketSampler(PAIRS, 4, num_buckets=4, ratio=0.5, shuffle=True, seed=seed),
        FixedBucketSampler(SEQUENCES, 4, shuffle=True, num_shards=3, seed=seed).shard(1),
        SortedBucketSampler(SEQUENCES, 4, mult=4, shuffle=True, seed=seed),
        TokenBudgetSampler(SEQUENCES, 300, shuffle=True, round_to=8, seed=seed),
    ]


@pytest.mark.parametrize(("lengths", "scheme", "keys", "counts", "sizes"), GLUONNLP)
def test_buckets_are_those_of_gluonnlp(lengths, scheme, keys, counts, sizes):
    sampler = FixedBucketSampler(lengths, 4, num_buckets=6, ratio=0.5, bucket_scheme=scheme)
    assert sampler.bucket_keys == keys
    assert sampler.bucket_counts == counts
    assert sampler.bucket_batch_sizes == sizes
    assert len(list(sampler)) == len(sampler) == sum(-(-c // s) for c, s in zip(counts, sizes, strict=True))


def test_batches_are_those_of_gluonnlp():
    assert list(FixedBucketSampler(FEW, 2, num_buckets=3)) == [[2, 6], [0, 5], [8], [1, 3], [4, 7], [9]]
    assert list(FixedBucketSampler(FEW, 2, num_buckets=3, num_shards=4)) == [
        [[2, 6], [0, 5], [8], [1, 3]],
        [[8], [1, 3], [4, 7], [9]],
    ]
    # (4, 4) leaves as much padding in (4, 5) as in (5, 4): the first key takes it.
    pairs, keys = [(3, 5), (4, 4), (1, 9), (9, 1), (2, 2)], [(5, 4), (9, 9), (4, 5)]
    sampler = FixedBucketSampler(pairs, 2, bucket_keys=keys)
    assert sampler.bucket_keys == [(4, 5), (9, 9)]
    assert list(sampler) == [[2, 3], [0, 1], [4]]
    assert list(SortedBucketSampler(FEW, 2, mult=2)) == [[2, 0], [3, 1], [6, 5], [4, 7], [8, 9]]
    assert list(SortedBucketSampler(FEW, 2, mult=2, reverse=False)) == [[1, 3], [0, 2], [7, 4], [5, 6], [9, 8]]
    assert list(SortedSampler(FEW)) == [6, 2, 8, 5, 0, 3, 4, 7, 1, 9]
    assert list(SortedSampler(FEW, reverse=False)) == [1, 9, 7, 3, 4, 0, 5, 8, 2, 6]


def test_stats_and_average_length():
    sampler = FixedBucketSampler(SEQUENCES, 100, num_buckets=6, use_average_length=True)
    assert sampler.stats() == (  # GluonNLP 0.10.0's words
        "FixedBucketSampler:\n"
        "  sample_num=60, batch_num=40\n"
        "  key=[19, 35, 51, 67, 83, 99]\n"
        "  cnt=[13, 10, 9, 7, 9, 12]\n"
        "  batch_size=[6, 3, 2, 1, 1, 1]"
    )


@given(lengths_strategy, st.integers(1, 9), st.integers(1, 12), st.sampled_from([0, 0.5, 2.0]), st.booleans())
def test_fixed_buckets_hold_every_sample_once(lengths, batch_size, num_buckets, ratio, shuffle):
    for scheme in (ConstWidthBucket(), LinearWidthBucket(), ExpWidthBucket(1.3)):
        sampler = FixedBucketSampler(
            lengths, batch_size, num_buckets, ratio=ratio, shuffle=shuffle, bucket_scheme=scheme, seed=1
        )
        batches = list(sampler)
        assert len(batches) == len(sampler)
        assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
        keys = np.array(sampler.bucket_keys).reshape(len(sampler.bucket_keys), -1)
        rows = np.array(lengths).reshape(len(lengths), -1)
        for batch in batches:
            # One bucket holds them all, and each of them prefers it.
            best = set()
            for index in batch:
                fits = (rows[index] <= keys).all(axis=1)
                padding = np.where(fits, (keys - rows[index]).sum(axis=1), 10**6)
                assert fits.any()
                best.add(int(padding.argmin()))
            assert len(best) == 1
            assert len(batch) <= sampler.bucket_batch_sizes[best.pop()]


@given(lengths_strategy, st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_shards(lengths, batch_size, num_shards, shuffle):
    options = {"shuffle": shuffle, "seed": 3}
    plain = list(FixedBucketSampler(lengths, batch_size, **options))
    if len(plain) < num_shards:
        with pytest.raises(OptionError, match="cannot be dealt out"):
            FixedBucketSampler(lengths, batch_size, num_shards=num_shards, **options)
        return
    sampler = FixedBucketSampler(lengths, batch_size, num_shards=num_shards, **options)
    groups = list(sampler)
    assert len(groups) == len(sampler)
    assert all(len(group) == num_shards for group in groups)
    # All batches in their order; only the last group repeats some.
    seen = [batch for group in groups[:-1] for batch in group]
    assert seen == plain[: len(seen)]
    assert groups[-1] == plain[-num_shards:]
    shards = [sampler.shard(rank) for rank in range(num_shards)]
    assert [list(group) for group in zip(*shards, strict=True)] == groups
    assert {len(shard) for shard in shards} == {len(sampler)}


def test_a_shard_has_its_own_epoch():
    sampler = FixedBucketSampler(SEQUENCES, 4, num_shards=2, shuffle=True)
    first, second = sampler.shard(0), sampler.shard(1)
    before = list(second)
    first.set_epoch(5)
    assert list(second) == before
    second.set_epoch(5)
    sampler.set_epoch(5)
    assert [list(group) for group in zip(first, second, strict=True)] == list(sampler)
    for index in (-1, 2, 0.5):
        with pytest.raises(OptionError, match="0 <= index < num_shards"):
            sampler.shard(index)


@given(
    lengths_strategy,
    st.integers(1, 200),
    st.sampled_from([None, 1, 3]),
    st.booleans(),
    st.sampled_from([None, 1, 8]),
    st.integers(0, 3),
)
def test_no_batch_exceeds_the_token_budget(lengths, max_tokens, max_samples, shuffle, round_to, epoch):
    rows = np.array(lengths).reshape(len(lengths), -1)
    rounded = -(-rows // (round_to or 1)) * (round_to or 1)
    sampler = TokenBudgetSampler(lengths, max_tokens, max_samples, shuffle, too_long="alone", round_to=round_to, seed=2)
    sampler.set_epoch(epoch)
    batches = list(sampler)
    assert len(batches) == len(sampler)
    assert sorted(itertools.chain(*batches)) == list(range(len(lengths)))
    for batch in batches:
        tokens = len(batch) * rounded[batch].max(axis=0).sum()
        assert tokens <= max_tokens or len(batch) == 1
        assert max_samples is None or len(batch) <= max_samples
    if (rounded.sum(axis=1) > max_tokens).any():
        first = int(np.flatnonzero(rounded.sum(axis=1) > max_tokens)[0])
        with pytest.raises(DataError, match=rf"Sample {first} has length .* max_tokens={max_tokens}"):
            TokenBudgetSampler(lengths, max_tokens, round_to=round_to)


def test_a_token_budget_is_used_up():
    """No batch could have taken the next sample as well; without shuffling, the longest come first."""
    for lengths in (SEQUENCES, PAIRS):
        rows = np.array(lengths).reshape(len(lengths), -1)
        batches = list(TokenBudgetSampler(lengths, 400))
        order = list(itertools.chain(*batches))
        assert [lengths[index] for index in order] == sorted(lengths, reverse=True)
        for batch, following in itertools.pairwise(batches):
            more = [*batch, following[0]]
            assert len(more) * rows[more].max(axis=0).sum() > 400


def test_a_padded_batch_has_the_size_that_was_counted():
    tokens = [np.arange(length) for length in SEQUENCES]
    loader = DataLoader(
        tokens,
        batch_sampler=TokenBudgetSampler(SEQUENCES, 512, shuffle=True, round_to=16),
        batchify=batchify.Pad(pad_value=-1, round_to=16),
    )
    sizes = [batch.size for batch in loader]
    assert max(sizes) <= 512
    assert min(sizes) > 256


def test_a_sample_beyond_the_budget_is_named():
    with pytest.raises(DataError, match=r"Sample 2 has length 9, .* 2 of 10 .* longest is sample 6 with length 12"):
        TokenBudgetSampler(FEW, 8)
    batches = list(TokenBudgetSampler(FEW, 8, too_long="alone"))
    assert batches[:2] == [[6], [2]]


def test_orders_are_a_function_of_seed_and_epoch():
    for sampler, again, other in zip(_all_samplers(), _all_samplers(), _all_samplers(8), strict=True):
        first = list(sampler)
        assert list(sampler) == first
        assert list(other) != first
        sampler.set_epoch(1)
        second = list(sampler)
        assert second != first
        # Not only the order of the batches, but who is in them.
        assert {frozenset(batch) for batch in second} != {frozenset(batch) for batch in first}
        again.load_state_dict(sampler.state_dict())
        assert list(again) == second
        with pytest.raises(CheckpointError, match="seed 7"):
            other.load_state_dict(sampler.state_dict())


def test_an_order_is_that_of_the_epoch_in_which_it_was_asked_for():
    for sampler in [*_all_samplers(), BatchSampler(RandomSampler(60, 1), 4)]:
        sampler.set_epoch(0)
        expected = list(sampler)
        iterator = iter(sampler)
        sampler.set_epoch(1)
        assert list(iterator) == expected


def test_two_passes_over_one_loader_at_once_have_their_own_orders():
    loader = DataLoader(range(60), 8, shuffle=True)
    expected = [np.concatenate(list(loader)).tolist() for _ in range(2)]
    loader.set_epoch(0)
    both = list(zip(loader, loader, strict=True))
    assert [np.concatenate(batches).tolist() for batches in zip(*both, strict=True)] == expected


def test_fixed_buckets_without_shuffling_are_the_same_each_epoch():
    for sampler in (FixedBucketSampler(FEW, 2), SortedBucketSampler(FEW, 2), TokenBudgetSampler(FEW, 24)):
        first = list(sampler)
        sampler.set_epoch(3)
        assert list(sampler) == first


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=50),
    st.integers(1, 6),
    st.sampled_from([1, 1.5, 3]),
    st.booleans(),
)
def test_sorted_buckets(keys, batch_size, mult, reverse):
    chunk = int(mult * batch_size)
    plain = SortedBucketSampler(keys, batch_size, mult, reverse)
    expected = []
    for begin in range(0, len(keys), chunk):
        indices = sorted(range(begin, min(begin + chunk, len(keys))), key=keys.__getitem__, reverse=reverse)
        expected += [indices[start : start + batch_size] for start in range(0, len(indices), batch_size)]
    assert list(plain) == expected
    assert len(plain) == len(expected)
    shuffled = SortedBucketSampler(keys, batch_size, mult, reverse, shuffle=True, seed=5)
    batches = list(shuffled)
    assert sorted(map(len, batches)) == sorted(map(len, expected))
    assert sorted(itertools.chain(*batches)) == list(range(len(keys)))
    for batch in batches:
        assert [keys[index] for index in batch] == sorted((keys[index] for index in batch), reverse=reverse)


def test_a_shuffled_chunk_is_cut_at_its_places_in_the_order():
    """Each chunk's batches, put together by key, are sorted: batches do not overlap within a chunk."""
    batches = list(SortedBucketSampler(SEQUENCES, 5, mult=4, shuffle=True, seed=1))
    assert [len(batch) for batch in batches] == [5] * 12
    for start in range(0, 12, 4):
        chunk = sorted(batches[start : start + 4], key=lambda batch: -SEQUENCES[batch[0]])
        keys = [SEQUENCES[index] for batch in chunk for index in batch]
        assert sorted(keys, reverse=True) == keys or len(set(keys)) < len(keys)
        bounds = [(max(SEQUENCES[i] for i in batch), min(SEQUENCES[i] for i in batch)) for batch in chunk]
        assert all(low >= high for (_, low), (high, _) in itertools.pairwise(bounds))


@pytest.mark.parametrize(
    "keys",
    [
        [3, 1, 2, 3, 1],
        [0.5, -1.0, float("inf"), 0.5],
        [(1, 2), (1, 1), (0, 9), (1, 2)],
        ["b", "a", "", "b"],
        [(1,), (1, 2), (0, 5, 5)],
        [2**80, 1, 2**70],
        np.array([5, 200, 7], np.uint8),
        np.array([[1, 2], [1, 1]]),
    ],
    ids=str,
)
@pytest.mark.parametrize("reverse", [False, True])
def test_any_keys_that_can_be_compared_are_sorted_as_python_sorts(keys, reverse):
    values = [tuple(key) if isinstance(key, np.ndarray) else key for key in keys]
    expected = sorted(range(len(values)), key=values.__getitem__, reverse=reverse)
    assert list(SortedSampler(keys, reverse)) == expected
    assert list(SortedSampler((key for key in keys), reverse)) == expected
    assert len(SortedSampler(keys)) == len(values)


def test_keys_without_an_order():
    for keys in ([1, "a"], [1j, 2j], 5, [None, None]):
        with pytest.raises(DataError):
            SortedSampler(keys)
    with pytest.raises(DataError, match="key of sample 1 is not a number"):
        SortedBucketSampler([1.0, float("nan")], 2)
    with pytest.raises(DataError, match="at least one"):
        SortedSampler([])


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        ([], "at least one sample"),
        ([3, 0, 2, 0], r"length 0 for sample 1 and for 1 more"),
        ([(2, 2), (2, 0)], r"length \(2, 0\) for sample 1\."),
        ([3, -1], "length -1 for sample 1"),
        ([3, 2.0], "2.0 for sample 1"),
        ([3, None], "None for sample 1"),
        ([3, (3, 4)], r"\(3, 4\) for sample 1"),
        ([(3, 4), (3,)], r"\(3,\) for sample 1"),
        ([(3, 4), (3, 4.5)], r"\(3, 4.5\) for sample 1"),
        (["two words", "here"], "'two words' for sample 0"),
        ([True, True], "True for sample 0"),
        ([2**70], "for sample 0"),
        ([()], r"\(\) for sample 0"),
        (np.array([1.0, 2.0]), r"1\.0\)? for sample 0"),
        (np.ones((2, 2, 2), int), "for sample 0"),
        (np.array([2**63 + 1], np.uint64), "no length"),
        (7, "not iterable"),
        (np.array(7), "could not be read"),
    ],
    ids=str,
)
@pytest.mark.parametrize("make", [lambda x: FixedBucketSampler(x, 2), lambda x: TokenBudgetSampler(x, 100)])
def test_lengths_that_cannot_be_used(lengths, message, make):
    with pytest.raises(DataError, match=message):
        make(lengths)


def test_lengths_of_many_kinds():
    expected = list(FixedBucketSampler(FEW, 2))
    dataset = SimpleDataset([["word"] * length for length in FEW])
    for lengths in (
        tuple(FEW),
        np.array(FEW, np.uint8),
        (length for length in FEW),
        dataset.transform(len),
        dataset.filter(len).transform(len),
        [np.int16(length) for length in FEW],
        [np.uint64(FEW[0]), *(np.int64(length) for length in FEW[1:])],  # no common integer type
        [np.array(length) for length in FEW],
    ):
        assert list(FixedBucketSampler(lengths, 2)) == expected
    pairs = [(3, 4), [5, 6], np.array([1, 2])]
    assert FixedBucketSampler(pairs, 2, num_buckets=1).bucket_keys == [(5, 6)]
    labelled = SimpleDataset([(["word"] * length, 1) for length in FEW])
    assert list(FixedBucketSampler(labelled.transform(lambda words, label: len(words)), 2)) == expected
    assert list(FixedBucketSampler(labelled.transform(lambda sample: len(sample[0])), 2)) == expected
    with pytest.raises(DataError, match=r"lambda tokens, label.*lambda sample: len\(sample\[0\]\)"):
        FixedBucketSampler(labelled.transform(len), 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 2.0}, "batch_size"),
        ({"num_buckets": 0}, "num_buckets"),
        ({"num_buckets": None}, "num_buckets"),
        ({"ratio": -0.1}, "ratio"),
        ({"ratio": float("nan")}, "ratio"),
        ({"ratio": "0.5"}, "ratio"),
        ({"num_shards": -1}, "num_shards"),
        ({"num_shards": 11}, "10 batches cannot be dealt out to 11 shards"),
        ({"seed": -1}, "seed"),
        ({"bucket_keys": []}, "at least one key"),
        ({"bucket_keys": [3, 0]}, "at least 1"),
        ({"bucket_keys": [3, 12.5]}, "Bucket keys"),
        ({"bucket_keys": [(3, 4)]}, r"keys such as \(3, 4\), lengths such as 5"),
        ({"bucket_scheme": lambda longest, shortest, count: []}, "at least one key"),
    ],
    ids=str,
)
def test_options_that_cannot_be_used(options, message):
    with pytest.raises(OptionError, match=message):
        FixedBucketSampler(FEW, **{"batch_size": 1, **options})


def test_other_options_that_cannot_be_used():
    for step in (0, 1, -1, float("inf"), float("nan"), "2", True):
        with pytest.raises(OptionError, match="bucket_len_step"):
            ExpWidthBucket(step)
    with pytest.raises(OptionError, match="finite width"):
        FixedBucketSampler(FEW, 2, 10_000, bucket_scheme=ExpWidthBucket(10.0))
    for mult in (0.5, float("inf"), float("nan"), "3", True):
        with pytest.raises(OptionError, match="mult"):
            SortedBucketSampler(FEW, 2, mult)
    with pytest.raises(OptionError, match="batch_size"):
        SortedBucketSampler(FEW, 0)
    for options in ({"max_tokens": 0}, {"max_tokens": 1.5}, {"max_samples": 0}, {"too_long": "drop"}, {"round_to": 0}):
        with pytest.raises(OptionError, match=next(iter(options))):
            TokenBudgetSampler(FEW, **{"max_tokens": 100, **options})


def test_a_sample_that_fits_no_bucket_is_named():
    with pytest.raises(DataError, match=r"Sample 2 has length 9 .* none of the buckets, like 1 others. Keys: \[3, 8\]"):
        FixedBucketSampler(FEW, 2, bucket_keys=[8, 3])
    with pytest.raises(DataError, match=r"Sample 1 has length \(1, 9\) and fits into none of the buckets\."):
        FixedBucketSampler([(1, 1), (1, 9), (9, 1)], 2, bucket_keys=[(9, 5)])


def test_empty_buckets_are_removed_and_told(caplog):
    with caplog.at_level(logging.INFO, "glueball.data"):
        assert FixedBucketSampler([1, 100], 2).bucket_keys == [10, 100]
        assert [record.levelname for record in caplog.records] == ["INFO"]
        FixedBucketSampler([1, 100], 2, bucket_keys=[1, 50, 100, 200])
        assert caplog.records[-1].levelname == "WARNING"
        assert "[50, 200]" in caplog.text
        FixedBucketSampler([1, 100], 2, bucket_keys=[100], ratio=1, use_average_length=True)
        assert "ratio=1" in caplog.text


def test_own_schemes():
    def powers(max_lengths, min_lengths, num_buckets):
        assert (max_lengths, min_lengths, num_buckets) == (12, 1, 10)
        assert type(max_lengths) is int
        return [2**number for number in range(1, 5)]

    assert FixedBucketSampler(FEW, 2, bucket_scheme=powers).bucket_keys == [2, 4, 8, 16]

    def whole(max_lengths, min_lengths, num_buckets):
        return [max_lengths]

    assert FixedBucketSampler(PAIRS, 2, bucket_scheme=whole).bucket_keys == [tuple(np.max(PAIRS, axis=0).tolist())]


def test_padding_share():
    assert padding_share([2, 4, 6], [[0, 1], [2]]) == 1 - 12 / 14
    assert padding_share([(2, 6), (4, 2)], [[0, 1]]) == 1 - 14 / 20
    with pytest.raises(DataError, match="no batches"):
        padding_share([1], [])
    share = {
        name: padding_share(SEQUENCES, sampler)
        for name, sampler in {
            "random": BatchSampler(RandomSampler(60), 4),
            "fixed": FixedBucketSampler(SEQUENCES, 4, shuffle=True),
            "sorted": SortedBucketSampler(SEQUENCES, 4, mult=5, shuffle=True),
            "budget": TokenBudgetSampler(SEQUENCES, 300, shuffle=True),
        }.items()
    }
    assert share["random"] > 0.25
    assert max(share["fixed"], share["sorted"], share["budget"]) < 0.15


def test_a_million_lengths_take_seconds():
    generator = np.random.default_rng(0)
    lengths = generator.lognormal(5, 0.6, 1_000_000).astype(np.int64) + 1
    pairs = np.stack([lengths, np.maximum(lengths + generator.integers(-20, 20, len(lengths)), 1)], axis=1)
    for make in (
        lambda: FixedBucketSampler(lengths, 64, 20, shuffle=True),
        lambda: FixedBucketSampler(pairs, 64, 20, shuffle=True),
        lambda: SortedBucketSampler(lengths, 64, shuffle=True),
        lambda: TokenBudgetSampler(lengths, 20_000, shuffle=True),
        lambda: TokenBudgetSampler(pairs, 20_000, shuffle=True),
    ):
        start = time.process_time()
        sampler = make()
        next(iter(sampler))
        assert time.process_time() - start < 10


def _token_ids():
    return SimpleDataset([(np.full(length, index), index % 2) for index, length in enumerate(SEQUENCES)])


def _loader(sampler, **options):
    pads = batchify.Tuple(batchify.Pad(pad_value=-1, return_length=True), batchify.Stack())
    return DataLoader(_token_ids(), batch_sampler=sampler, batchify=pads, **options)


def _contents(batches):
    return [tokens[:, 0].tolist() for (tokens, lengths), labels in batches]


@pytest.mark.parametrize(
    ("workers", "worker_type", "number"),
    [
        *((workers, "thread", number) for workers in (0, 2) for number in range(5)),
        # The order is computed before a process is asked, so that two samplers will do.
        (2, "process", 0),
        (2, "process", 4),
    ],
)
def test_a_loader_follows_the_sampler_and_resumes_exactly(workers, worker_type, number):
    sampler = _all_samplers()[number]
    epochs = []
    for epoch in range(2):
        sampler.set_epoch(epoch)
        epochs.append(list(sampler))
    assert epochs[0] != epochs[1]
    with _loader(_all_samplers()[number], workers=workers, worker_type=worker_type) as loader:
        assert len(loader) == len(epochs[0])
        assert _contents(loader) == epochs[0]
        iterator = iter(loader)
        batches = list(itertools.islice(iterator, 3))
        assert _contents(batches) == epochs[1][:3]
        for (tokens, lengths), labels in batches:
            assert lengths.tolist() == [SEQUENCES[index] for index in tokens[:, 0]]
            assert ((tokens >= 0).sum(axis=1) == lengths).all()
            assert labels.tolist() == (tokens[:, 0] % 2).tolist()
        state = loader.state_dict()
        iterator.close()
    with _loader(_all_samplers()[number], workers=workers, worker_type=worker_type) as loader:
        loader.load_state_dict(state)
        assert _contents(loader) == epochs[1][3:]
        loader.set_epoch(0)
        assert _contents(loader) == epochs[0]


def test_a_loader_does_not_resume_with_another_order():
    state = _loader(FixedBucketSampler(SEQUENCES, 4, shuffle=True, seed=1)).state_dict()
    with pytest.raises(CheckpointError, match="sampler_seed 1, this loader's sampler has 2"):
        _loader(FixedBucketSampler(SEQUENCES, 4, shuffle=True, seed=2)).load_state_dict(state)
    with pytest.raises(CheckpointError, match="sampler has None"):
        _loader([[0], [1]]).load_state_dict(state)
    del state["sampler_seed"]  # as it was saved before there were such samplers
    _loader(FixedBucketSampler(SEQUENCES, 4, shuffle=True, seed=2)).load_state_dict(state)


def test_a_loader_takes_one_shard_and_says_so():
    sampler = FixedBucketSampler(SEQUENCES, 4, num_shards=2)
    with pytest.raises(OptionError, match=r"batch_sampler=sampler.shard\(rank\)"):
        _loader(sampler)
    assert _contents(_loader(sampler.shard(1))) == [group[1] for group in sampler]
    for odd in ([[[0, 1], [2]]], [[0.0, 1.0]], [0, 1]):
        with pytest.raises(OptionError, match="lists of integers"):
            list(_loader(odd))


def test_a_loader_understands_gluon_names():
    function = batchify.Pad(pad_value=0)
    data = [[1, 2], [3]]
    with DataLoader(data, 2, batchify_fn=function, num_workers=1) as loader:
        assert [batch.tolist() for batch in loader] == [[[1, 2], [3, 0]]]
    with pytest.raises(OptionError, match="batchify and batchify_fn"):
        DataLoader(data, 2, batchify=function, batchify_fn=function)
    with pytest.raises(OptionError, match="workers and num_workers"):
        DataLoader(data, 2, workers=0, num_workers=1)
    with pytest.raises(OptionError, match="workers is an integer"):
        DataLoader(data, 2, num_workers=-1)


# Section 2.1 of "GluonCV and GluonNLP: Deep Learning in Computer Vision and Natural Language Processing" (JMLR 21,
# 2020), word for word but for the line of imports.
PAPER = """
batchify_fn = nlp.data.batchify.Tuple(nlp.data.batchify.Pad(), nlp.data.batchify.Stack())
train_sampler = nlp.data.FixedBucketSampler(lengths=train_data.transform(lambda x: len(x[0])), batch_size=64, num_buckets=10, shuffle=True)
train_dataloader = gluon.data.DataLoader(train_data, batchify_fn=batchify_fn, batch_sampler=train_sampler)
"""  # noqa: E501


@pytest.mark.parametrize("sample", ["[{}, {}]", "({}, {})"])  # GluonNLP's samples, and those of our data sets
def test_the_papers_snippet_works(sample):
    tokens, label = "[number] * (number % 90 + 1)", "number % 2"
    program = f"""
        import sys
        import glueball as nlp, glueball as gluon
        assert "numpy" not in sys.modules
        train_data = nlp.data.SimpleDataset([{sample.format(tokens, label)} for number in range(640)])
        {textwrap.indent(PAPER, " " * 8).strip()}
        seen = []
        for epoch in range(2):
            batches = list(train_dataloader)
            assert all((data.max(axis=1) % 2 == label).all() and len(label) <= 64 for data, label in batches)
            rows = [row for data, label in batches for row in data[:, 0].tolist()]
            assert sorted(rows) == list(range(640))
            padding = 1 - sum(int((data > 0).sum()) for data, _ in batches) / sum(data.size for data, _ in batches)
            assert padding < 0.25, padding
            seen.append(rows)
        assert seen[0] != seen[1]
        assert not {{"mxnet", "torch"}} & set(sys.modules)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("kind", [list, tuple])
def test_gluons_own_loader_takes_our_sampler_and_batchify_functions(kind):
    if nlp.backend.current().name != "mxnet":
        pytest.skip("Gluon's loader comes with MXNet")
    gluon = sys.modules["mxnet"].gluon
    data = [kind(([number] * (number % 90 + 1), number % 2)) for number in range(640)]
    names = {"nlp": nlp, "gluon": gluon, "train_data": nlp.data.SimpleDataset(data)}
    exec(PAPER, names)
    rows = [row for tokens, label in names["train_dataloader"] for row in tokens[:, 0].tolist()]
    assert sorted(rows) == list(range(640))


def test_split_sampler_understands_gluonnlp_names():
    assert list(SplitSampler(5, 2, 1, even_size=False, shuffle=False)) == [1, 3]
    assert list(SplitSampler(5, 2, 1, even_size=True, shuffle=False)) == list(SplitSampler(5, 2, 1, shuffle=False))
    with pytest.raises(OptionError, match="even and even_size"):
        SplitSampler(5, 2, even=True, even_size=True)
    with pytest.raises(OptionError, match="repeat"):
        SplitSampler(5, repeat=0)


@given(st.integers(1, 20), st.integers(1, 4), st.integers(1, 3), st.booleans(), st.booleans())
def test_split_sampler_repeats(length, num_parts, repeat, even, shuffle):
    options = {"even": even, "shuffle": shuffle, "seed": 4}
    once = [list(SplitSampler(length, num_parts, part, **options)) for part in range(num_parts)]
    for part in range(num_parts):
        sampler = SplitSampler(length, num_parts, part, repeat=repeat, **options)
        order = list(sampler)
        assert len(order) == len(sampler) == repeat * len(once[part])
        assert order[: len(once[part])] == once[part]
    parts = [list(SplitSampler(length, num_parts, part, repeat=repeat, **options)) for part in range(num_parts)]
    if not even:
        counts = collections.Counter(itertools.chain(*parts))
        assert counts == dict.fromkeys(range(length), repeat)


def test_repetitions_have_orders_of_their_own():
    order = list(SplitSampler(50, repeat=2, seed=1))
    assert order[:50] != order[50:]


def test_an_empty_sequence_does_not_change_the_type_of_a_batch():
    pad = batchify.Pad(pad_value=0)
    assert pad([[1, 2], []]).dtype == np.int64
    assert pad([[], [1, 2]]).tolist() == [[0, 0], [1, 2]]
    assert pad([[], np.array([1], np.int32)]).dtype == np.int32
    assert pad([np.array([], np.float64), [1, 2]]).dtype == np.float64  # somebody chose this type
    assert pad([[], []]).shape == (2, 0)


def test_pad_arguments_in_gluonnlps_order():
    out, lengths = batchify.Pad(0, 7, True, np.int32, 4)([[1, 2, 3], [4]])
    assert out.tolist() == [[1, 2, 3, 7], [4, 7, 7, 7]]
    assert out.dtype == np.int32
    assert lengths.tolist() == [3, 1]
    assert batchify.Pad(pad_val=None)([[1], [2, 3]]).tolist() == [[1, 0], [2, 3]]
    with pytest.raises(OptionError, match="return_length is True or False"):
        batchify.Pad(0, 0, np.int32)
    with pytest.raises(OptionError, match="pad_value and pad_val"):
        batchify.Pad(pad_value=1, pad_val=1)
    with pytest.raises(OptionError, match="return_length and ret_length"):
        batchify.Pad(return_length=False, ret_length=True)
    with pytest.raises(OptionError, match="round_to"):
        batchify.Pad(round_to=2.5)


@pytest.mark.parametrize(
    ("samples", "value"),
    [
        ([[1], [2, 3]], 0.5),
        ([[1], [2, 3]], float("-inf")),
        ([[1], [2, 3]], float("nan")),
        ([np.array([1], np.uint8)], -1),
        ([np.array([1], np.int8)], 128),
    ],
)
def test_a_padding_value_that_would_change_in_silence(samples, value):
    with pytest.raises(DataError, match="pad_value"):
        batchify.Pad(pad_value=value)(samples)
    assert batchify.Pad(pad_value=value, dtype=np.float32)([[1], [2, 3]]).dtype == np.float32


def test_samples_that_batchify_functions_cannot_take_apart():
    point = collections.namedtuple("point", "x y")
    swapped = collections.namedtuple("swapped", "y x")
    named = batchify.NamedTuple(point, [batchify.Stack(), batchify.Stack()])
    assert named([point(1, 2)]).y.tolist() == [2]
    for odd in (swapped(1, 2), (1, 2)):
        with pytest.raises(DataError, match="expects samples of type point"):
            named([point(1, 2), odd])
    with pytest.raises(DataError, match="int at 1"):
        batchify.Tuple(batchify.Stack(), batchify.Stack())([(1, 2), 3])
    with pytest.raises(DataError, match="tuple at 0"):
        batchify.Dict({"a": batchify.Stack()})([(1,)])
    for functions in ([batchify.Stack()], {}, {"a": 1}):
        with pytest.raises(OptionError, match="Dict expects"):
            batchify.Dict(functions)

"""Shares of batches: together they are the batch, whatever the number of processes, and nobody is left without one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from data_samples import Troubled
from hypothesis import given
from hypothesis import strategies as st

from glueball.data import ArrayDataset, DataLoader, FixedBucketSampler
from glueball.data.sharing import MIRROR, Share, SharedBatch
from glueball.errors import DataError, OptionError

WORKERS = [(0, "thread"), (2, "thread"), (2, "process")]


def shares(count: int, **options: Any) -> list[list[SharedBatch]]:
    """What each of ``count`` processes gets of two epochs of 23 samples."""
    result = []
    for index in range(count):
        loader = DataLoader(ArrayDataset(np.arange(23), 10 * np.arange(23)), **{"batch_size": 5, **options})
        with loader:
            loader.share(index, count)
            result.append([batch for _ in range(2) for batch in loader])
    return result


@given(st.integers(0, 40), st.integers(1, 9), st.booleans())
def test_shares_are_the_batch_once(total: int, count: int, mirrored: bool) -> None:
    parts = [Share(index, count, mirrored).positions(total) for index in range(count)]
    assert sorted(place for part in parts for place in part) == list(range(total))
    sizes = [len(part) for part in parts]
    assert max(sizes) - min(sizes) <= (2 if mirrored else 1)
    for part in parts:
        assert part == sorted(part)
        if mirrored:
            # Reversed, a share pairs its samples as the whole batch does.
            assert [total - 1 - place for place in reversed(part)] == part
        elif part:
            assert part == list(range(part[0], part[-1] + 1))


@pytest.mark.parametrize(("index", "count"), [(2, 2), (-1, 2), (0, 0)])
def test_there_is_no_such_share(index: int, count: int) -> None:
    with pytest.raises(OptionError, match=r"index|count"):
        Share(index, count)


@pytest.mark.parametrize(("workers", "worker_type"), WORKERS)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_processes_together_load_what_one_loads(workers: int, worker_type: str, count: int) -> None:
    options = {"shuffle": True, "seed": 3, "last_batch": "keep"}
    whole = shares(1, **options)[0]
    parts = shares(count, **options, workers=workers, worker_type=worker_type)
    assert {len(part) for part in parts} == {len(whole)}
    for position, expected in enumerate(whole):
        together: list[Any] = [None] * len(expected[0])
        for part in parts:
            batch = part[position]
            assert batch.total == len(expected[0])
            for place, number, label in zip(batch.positions, *batch, strict=False):
                assert together[place] is None
                together[place] = number
                assert label == 10 * number
        assert together == expected[0].tolist()


def test_each_sample_is_loaded_by_one_process_only() -> None:
    loaded: list[list[int]] = []
    for index in range(2):
        seen: list[int] = []

        class Watched(ArrayDataset):
            def fetch(self, index: int, random: Any = None, seen: list[int] = seen) -> Any:
                seen.append(index)
                return super().fetch(index, random)

        loader = DataLoader(Watched(np.arange(20)), 6, shuffle=True, last_batch="keep")
        loader.share(index, 2)
        list(loader)
        loaded.append(seen)
    assert sorted(loaded[0] + loaded[1]) == list(range(20))


def test_a_batch_too_small_for_all_has_stand_ins() -> None:
    # 23 samples in batches of 22 leave one over.
    parts = shares(2, batch_size=22)
    alone = [part[1] for part in parts]
    assert [batch.is_stand_in for batch in alone] == [True, False]
    assert alone[0].positions == ()
    for array in alone[0]:
        assert len(array) == 1
    assert alone[0][0] == alone[1][0]


def test_batches_of_a_batch_sampler_are_shared_too() -> None:
    lengths = [1, 9, 2, 8, 3, 7, 4, 6, 5]
    found: list[int] = []
    for index in range(2):
        loader = DataLoader(
            ArrayDataset(np.arange(9)), batch_sampler=FixedBucketSampler(lengths, 2, num_buckets=2, shuffle=True)
        )
        loader.share(index, 2)
        found += [int(number) for batch in loader if not batch.is_stand_in for number in batch[0]]
    assert sorted(found) == list(range(9))


def test_a_resumed_epoch_may_have_another_number_of_processes() -> None:
    def loader(index: int, count: int) -> DataLoader:
        made = DataLoader(ArrayDataset(np.arange(23)), 5, shuffle=True, seed=3)
        made.share(index, count)
        return made

    straight = [sorted(batch[0].tolist()) for batch in loader(0, 1)]
    two = [loader(index, 2) for index in range(2)]
    iterators = [iter(one) for one in two]
    seen = [sorted(np.concatenate([next(iterator)[0] for iterator in iterators]).tolist()) for _ in range(2)]
    states = [one.state_dict() for one in two]
    assert states[0] == states[1]
    three = [loader(index, 3) for index in range(3)]
    for one in three:
        one.load_state_dict(states[0])
    for parts in zip(*three, strict=True):
        seen.append(sorted(np.concatenate([part[0] for part in parts if not part.is_stand_in]).tolist()))
    assert seen == straight


class Reversed:
    """A batch transform that mixes as mixup does."""

    partner = MIRROR

    def __call__(self, batch: Any, random: np.random.Generator) -> Any:
        share = random.random()
        return (share * batch[0] + (1 - share) * batch[0][::-1], batch[1])


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("size", [7, 8])
def test_mirror_images_are_mixed_as_by_one_process(count: int, size: int) -> None:
    def batches(index: int, count: int) -> list[SharedBatch]:
        loader = DataLoader(
            ArrayDataset(np.arange(23.0), np.arange(23)), size, shuffle=True, batch_transform=Reversed()
        )
        loader.share(index, count)
        return list(loader)

    whole = batches(0, 1)
    parts = [batches(index, count) for index in range(count)]
    for position, expected in enumerate(whole):
        for part in parts:
            batch = part[position]
            if not batch.is_stand_in:
                np.testing.assert_array_equal(batch[0], expected[0][list(batch.positions)])


def test_damaged_samples_leave_all_processes_in_step() -> None:
    # The second batch is damaged as a whole, of the first only the share of one process.
    parts, loaders = [], []
    for index in range(2):
        loader = DataLoader(Troubled(16, "corrupt", at=(0, 1, 4, 5, 6, 7)), 4, on_error="skip")
        loader.share(index, 2)
        parts.append(list(loader))
        loaders.append(loader)
    assert [batch.is_stand_in for batch in parts[0]] == [True, False, False]
    assert [batch.is_stand_in for batch in parts[1]] == [False, False, False]
    assert [batch.positions for batch in parts[1]] == [(2, 3), (2, 3), (2, 3)]
    assert [loader.skipped for loader in loaders] == [4, 2]


def test_a_damaged_stand_in_is_an_error_unless_such_samples_are_left_out() -> None:
    loader = DataLoader(Troubled(1, "corrupt", at=(0,)), 1)
    loader.share(0, 2)
    with pytest.raises(DataError, match="Sample 0"):
        list(loader)

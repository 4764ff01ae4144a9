"""The DataLoader: the same batches whoever makes them, and every way in which making them can fail."""

from __future__ import annotations

import gc
import os
import pathlib
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest
from data_samples import Noise, Ragged, Surroundings, Troubled, scale

from glueball.data import ArrayDataset, DataLoader, RandomSampler, SimpleDataset, batchify
from glueball.errors import CheckpointError, DataError, OptionError, TrainingError

WORKERS = [(0, "thread"), (1, "thread"), (2, "thread"), (4, "thread"), (1, "process"), (2, "process")]


def _dataset():
    return ArrayDataset(np.arange(53 * 6, dtype=np.float32).reshape(53, 2, 3), np.arange(53)).transform_first(Noise())


def _loader(**options):
    return DataLoader(_dataset(), 8, shuffle=True, seed=4, batch_transform=scale, **options)


def _equal(ours, theirs):
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        for x, y in zip(a, b, strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)


def _threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("glueball-loader")]


def _children():
    """Process ids of this process's children, zombies included."""
    me, found = str(os.getpid()), []
    for entry in pathlib.Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                status = (entry / "stat").read_text()
                command = (entry / "cmdline").read_text()
            except OSError:
                continue
            if status.rpartition(")")[2].split()[1] == me and (not command or "glueball.data.child" in command):
                found.append(entry.name)
    return found


@pytest.mark.parametrize(("workers", "worker_type"), WORKERS)
def test_batches_do_not_depend_on_the_workers(workers, worker_type):
    reference = _loader()
    epochs = [list(reference), list(reference)]
    assert len(epochs[0]) == len(reference) == 7
    assert not np.array_equal(epochs[0][0][1], epochs[1][0][1])
    with _loader(workers=workers, worker_type=worker_type, prefetch=3) as loader:
        _equal(list(loader), epochs[0])
        _equal(list(loader), epochs[1])
        loader.set_epoch(0)
        _equal(list(loader), epochs[0])


@pytest.mark.parametrize(("workers", "worker_type"), [(0, "thread"), (2, "thread"), (2, "process")])
def test_resumes_in_the_middle_of_an_epoch(workers, worker_type):
    reference = _loader()
    epochs = [list(reference), list(reference)]
    with _loader(workers=workers, worker_type=worker_type) as loader:
        list(loader)
        iterator = iter(loader)
        _equal([next(iterator) for _ in range(3)], epochs[1][:3])
        state = loader.state_dict()
        assert state["epoch"] == 1
        assert state["position"] == 3
        assert loader.state_dict(position=2)["position"] == 2
        iterator.close()
        for set_epoch in (True, False):
            loader.load_state_dict(state)
            if set_epoch:
                loader.set_epoch(1)
            _equal(list(loader), epochs[1][3:])
        assert loader.state_dict()["epoch"] == 2
        loader.load_state_dict(state)
        loader.set_epoch(0)  # another epoch than the one that was interrupted begins at its beginning
        _equal(list(loader), epochs[0])


def test_resume_refuses_other_data():
    state = _loader().state_dict()
    with pytest.raises(CheckpointError, match="length"):
        DataLoader(range(3), 1, seed=4).load_state_dict(state)
    with pytest.raises(CheckpointError, match="seed"):
        DataLoader(range(53), 1).load_state_dict(state)


@pytest.mark.parametrize("worker_type", ["thread", "process"])
def test_leaving_early_and_starting_again(worker_type):
    with _loader(workers=2, worker_type=worker_type) as loader:
        for _ in range(3):
            for batch in loader:
                assert len(batch[1]) == 8
                break
        assert loader.epoch == 2
        assert len(list(loader)) == 7
        both = list(zip(loader, loader, strict=True))
        assert len(both) == 7


def test_processes_end_with_the_loader():
    before = len(_threads())
    loader = _loader(workers=2, worker_type="process")
    iterator = iter(loader)
    next(iterator)
    assert len(_children()) >= 1
    assert len(_threads()) == before + 2
    del loader, iterator
    gc.collect()
    assert _children() == []
    assert len(_threads()) == before


def test_close_is_final_for_the_workers_but_not_for_the_loader():
    loader = _loader(workers=1)
    first = list(loader)
    loader.close()
    loader.close()
    assert _threads() == []
    loader.set_epoch(0)
    _equal(list(loader), first)
    loader.close()


def test_arrays_outlive_their_loader_and_can_be_written_to():
    with _loader(workers=1, worker_type="process", prefetch=1) as loader:
        batches = list(loader)  # more than the loader lends, so some are copies
    gc.collect()
    _equal(batches, list(_loader()))
    for images, labels in batches:
        images[:] = 0
        labels += 1
    assert all((images == 0).all() for images, _ in batches)


def test_shared_memory_grows_and_is_used_again():
    pad = batchify.Tuple(batchify.Pad(), batchify.List())
    options = {"batchify": pad, "batch_size": 4, "shuffle": True, "seed": 1}
    with DataLoader(Ragged(), workers=1, worker_type="process", **options) as loader:
        for _ in range(3):
            for (images, names), (expected, expected_names) in zip(
                loader,
                DataLoader(Ragged(), **{**options, "sampler": _same_order(loader), "shuffle": False}),
                strict=True,
            ):
                np.testing.assert_array_equal(images, expected)
                assert names == expected_names


def _same_order(loader):
    order = RandomSampler(len(loader.dataset), 1)
    order.set_epoch(loader.epoch if loader.epoch else 0)
    # The loader's next epoch: one after its latest, or 0 before its first.
    order.set_epoch(loader.state_dict()["epoch"])
    return list(order)


def test_workers_are_other_processes_without_a_backend(capfd):
    import importlib

    backend = next((name for name in ("torch", "mxnet") if importlib.util.find_spec(name)), None)
    assert backend is not None
    with DataLoader(Surroundings(), 2, workers=1, worker_type="process") as loader:
        rows = np.concatenate(list(loader))
    assert os.getpid() not in rows[:, 0]
    assert not rows[:, 2].any()
    assert "printed by a sample" in capfd.readouterr().err
    with DataLoader(Surroundings(), 2, workers=1) as loader:
        assert (np.concatenate(list(loader))[:, 0] == os.getpid()).all()


@pytest.mark.parametrize(("workers", "worker_type"), [(0, "thread"), (2, "thread"), (2, "process")])
def test_a_corrupt_sample_is_named_or_skipped_and_counted(workers, worker_type, caplog):
    dataset = Troubled(12, "corrupt", at=(5, 8, 9, 10, 11))
    with DataLoader(dataset, 4, workers=workers, worker_type=worker_type) as loader:
        iterator = iter(loader)
        next(iterator)
        with pytest.raises(DataError, match=r"Sample 5 \(folder/5.jpg\) could not be made: the picture is cut short"):
            next(iterator)
    with DataLoader(dataset, 4, workers=workers, worker_type=worker_type, on_error="skip") as loader:
        batches = [batch[:, 0].tolist() for batch in loader]
        assert batches == [[0, 1, 2, 3], [4, 6, 7]]
        assert loader.skipped == 5
        assert "folder/5.jpg" in loader.skipped_samples[0]
        assert "folder/5.jpg" in caplog.text


@pytest.mark.parametrize(("workers", "worker_type"), [(0, "thread"), (1, "thread"), (1, "process")])
def test_a_mistake_is_never_skipped(workers, worker_type):
    with DataLoader(Troubled(9, "mistake"), 4, workers=workers, worker_type=worker_type, on_error="skip") as loader:
        with pytest.raises(DataError, match="TypeError: a mistake") as caught:
            list(loader)
        chain = [caught.value.__cause__]
        if worker_type == "process":
            assert "data_samples.py" in str(chain[0])
        else:
            assert isinstance(chain[0], TypeError)


def test_all_samples_corrupt_is_an_error():
    loader = DataLoader(Troubled(4, "corrupt", at=range(4)), 2, on_error="skip")
    with pytest.raises(DataError, match="All 4 samples"):
        list(loader)


def test_a_worker_that_dies_is_named_with_its_sample():
    with DataLoader(Troubled(40, "die"), 4, workers=2, worker_type="process") as loader:
        with pytest.raises(TrainingError, match=r"exit code 7 while it made sample 5 \(folder/5.jpg\)"):
            list(loader)
        loader.dataset.at = ()  # the workers that live on have their own copy; one that died is replaced
        loader.close()
        assert len(list(loader)) == 10


@pytest.mark.parametrize("worker_type", ["thread", "process"])
def test_a_worker_that_hangs_is_named_with_its_sample(worker_type, monkeypatch):
    if worker_type == "thread":
        # A thread cannot be ended from outside: this one has to go away by itself when the test is over.
        release = threading.Event()
        monkeypatch.setattr(time, "sleep", lambda seconds: release.wait(20))
    loader = DataLoader(Troubled(8, "hang"), 4, workers=1, worker_type=worker_type, timeout=2.0)
    with pytest.raises(TrainingError, match=r"no batch for 2 seconds; it hangs at sample 5 \(folder/5.jpg\)"):
        list(loader)
    if worker_type == "thread":
        release.set()
    loader.close()
    assert _children() == []


def test_what_cannot_be_sent_is_said_with_the_cure():
    loader = DataLoader(SimpleDataset([1]).transform(lambda value: value), 1, workers=1, worker_type="process")
    with pytest.raises(OptionError, match='worker_type="thread"'):
        list(loader)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "batch_size or batch_sampler"),
        ({"batch_size": 2, "batch_sampler": [[0]]}, "takes the place"),
        ({"batch_size": 2, "shuffle": True, "sampler": [0]}, "not both"),
        ({"batch_size": 0}, "at least 1"),
        ({"batch_size": 1, "workers": -1}, "workers"),
        ({"batch_size": 1, "worker_type": "fork"}, "worker_type is one of thread, process"),
        ({"batch_size": 1, "on_error": "ignore"}, "on_error"),
        ({"batch_size": 1, "prefetch": 0}, "prefetch"),
        ({"batch_size": 1, "timeout": 0}, "timeout"),
    ],
)
def test_options_that_cannot_be_used(options, message):
    with pytest.raises(OptionError, match=message):
        DataLoader([1, 2], **options)


def test_counts_are_integers():
    numpy_counts = {"batch_size": np.int64(1), "seed": np.int32(3), "workers": np.int8(1), "prefetch": np.int64(2)}
    with DataLoader([1, 2], **numpy_counts) as loader:
        assert len(list(loader)) == 2
        assert type(loader.state_dict()["seed"]) is int
    for name, value in (("batch_size", 2.0), ("seed", 1.5), ("seed", True), ("workers", 1.0), ("prefetch", "2")):
        with pytest.raises(OptionError, match=rf"{name} is an integer of at least \d. Received: {value!r}"):
            DataLoader([1, 2], **{"batch_size": 1, name: value})
    with pytest.raises(OptionError, match="epoch is an integer"):
        DataLoader([1, 2], 1).set_epoch(1.5)


def test_own_samplers_and_batch_samplers():
    assert [batch.tolist() for batch in DataLoader([5, 6, 7], 2, sampler=[2, 0])] == [[7, 5]]
    assert [batch.tolist() for batch in DataLoader([5, 6, 7], batch_sampler=[[2], [0, 1]])] == [[7], [5, 6]]
    assert len(DataLoader(range(10), 4, last_batch="discard")) == 2
    rolling = DataLoader(range(10), 4, last_batch="rollover")
    assert [len(list(rolling)) for _ in range(2)] == [2, 3]
    assert list(DataLoader([], 2)) == []


def _run(folder, text, *arguments, **options):
    script = folder / "script.py"
    script.write_text(textwrap.dedent(text))
    return subprocess.run(
        [sys.executable, "-W", "error", str(script), *arguments], capture_output=True, text=True, timeout=60, **options
    )


GUARDED = """
    import sys, numpy as np
    from glueball.data import DataLoader, SimpleDataset

    def double(value):
        return np.array([2 * value])

    {guard}
        loader = DataLoader(SimpleDataset(range(6)).transform(double), 3, workers=2, worker_type="process")
        print([batch[:, 0].tolist() for batch in loader])
"""


def test_functions_of_a_script_work_in_processes(tmp_path):
    done = _run(tmp_path, GUARDED.format(guard='if __name__ == "__main__":'))
    assert done.stdout.strip() == "[[0, 2, 4], [6, 8, 10]]", done.stderr
    # The interpreter ends without closing the loader, and nothing complains.
    assert done.stderr == ""


def test_a_script_without_a_guard_is_told_so(tmp_path):
    done = _run(tmp_path, GUARDED.format(guard="if True:"))
    assert done.returncode == 1
    assert "__main__" in done.stderr


def test_an_interactive_session_is_told_where_to_put_functions():
    text = textwrap.dedent(GUARDED.format(guard="if True:"))
    done = subprocess.run([sys.executable, "-"], input=text, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "interactive session" in done.stderr


def test_interrupt_ends_the_workers(tmp_path):
    text = """
        import os, signal, sys, threading, time
        sys.path.insert(0, sys.argv[1])
        from data_samples import Troubled
        from glueball.data import DataLoader

        if __name__ == "__main__":
            loader = DataLoader(Troubled(400, "hang"), 4, workers=2, worker_type="process")
            iterator = iter(loader)
            next(iterator)
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
            try:
                list(iterator)
            except KeyboardInterrupt:
                start = time.monotonic()
                loader.close()
                print("interrupted", time.monotonic() - start < 30)
    """
    done = _run(tmp_path, text, str(pathlib.Path(__file__).parent))
    assert done.stdout.strip() == "interrupted True", done.stderr
    assert "Traceback" not in done.stderr

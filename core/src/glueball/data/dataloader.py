"""Batches from a dataset, made by the caller, by threads or by processes: the same batches in the same order.

There is one implementation. The order of an epoch is a function of (seed, epoch), every sample draws from the stream
(seed, epoch, index) and every batch transform from (seed, epoch, position), so it does not matter who makes a batch.
Requests go into a queue; a worker thread takes one and makes the batch itself or asks its process for it; the loader
hands the results on in order, with at most ``prefetch`` of them ahead.

Threads suffice where samples are made by libraries that release the interpreter lock (decoding, resizing, NumPy on
large arrays); processes help where samples are made by Python code.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import queue
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from typing import Any

import numpy as np

from glueball.data.batchify import default_batchify
from glueball.data.dataset import SimpleDataset
from glueball.data.process import Parcel, WorkerProcess
from glueball.data.samplers import BatchSampler, RandomSampler, SequentialSampler, as_count, as_indices
from glueball.data.sharing import MIRROR, Share, SharedBatch
from glueball.data.work import Request, Result, Work
from glueball.errors import CheckpointError, DataError, OptionError, TrainingError

WORKER_TYPES = ("thread", "process")
ON_ERROR = ("raise", "skip")
MAX_REPORTS = 100
"""Skipped samples that are remembered one by one; all of them are counted."""

_logger = logging.getLogger("glueball.data")


class LoaderTimeoutError(TrainingError):
    """A batch took longer than it may; what was being made is named.

    Args:
        what: what happened, as a sentence.
        timeout: the seconds that were waited.
    """

    def __init__(self, what: str, timeout: float) -> None:
        super().__init__(f"{what} If that is normal for this data, raise timeout.")
        self.what = what
        self.timeout = timeout


class _Seat:
    """One worker thread's place: what it works on, and its process if it has one."""

    def __init__(self) -> None:
        self.request: Request | None = None
        self.index = -1
        self.process: WorkerProcess | None = None

    def report(self, index: int) -> None:
        self.index = index

    def current_index(self) -> int:
        return self.process.index if self.process is not None else self.index


_Job = tuple["Future[Result]", Request]


def _serve(
    jobs: queue.SimpleQueue[_Job | None], seat: _Seat, work: Work, start: Callable[[], WorkerProcess] | None
) -> None:
    """What a worker thread does until it is told to end."""
    try:
        while True:
            job = jobs.get()
            if job is None:
                return
            future, request = job
            del job
            if not future.set_running_or_notify_cancel():
                continue
            seat.request, seat.index = request, -1
            try:
                if start is None:
                    result = work(request, seat.report)
                else:
                    if seat.process is None:
                        seat.process = start()
                    result = seat.process(request)
            except BaseException as error:
                seat.request = None
                # One that died is replaced at the next request, so that the loader can be used again.
                if seat.process is not None and not seat.process.alive:
                    seat.process.close()
                    seat.process = None
                future.set_exception(error)
            else:
                seat.request = None
                future.set_result(result)
                del result
            # Nothing of a batch may be kept while waiting for the next request.
            del future, request
    finally:
        if seat.process is not None:
            seat.process.close()
            seat.process = None


class _Pool:
    """The worker threads of a loader; they outlive its epochs."""

    def __init__(self, work: Work, workers: int, worker_type: str, prefetch: int) -> None:
        self.owner = os.getpid()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._parcel = Parcel.pack(work) if worker_type == "process" else None
        # What the loader holds ready, what the caller works on, and some that it may keep.
        max_lent = prefetch + 4
        start = None
        if self._parcel is not None:
            start = functools.partial(WorkerProcess, self._parcel, work, max_lent)
        self.seats = [_Seat() for _ in range(workers)]
        self._threads = [
            threading.Thread(
                target=_serve, args=(self._jobs, seat, work, start), name=f"glueball-loader-{number}", daemon=True
            )
            for number, seat in enumerate(self.seats)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, request: Request) -> Future[Result]:
        future: Future[Result] = Future()
        self._jobs.put((future, request))
        return future

    def kill(self) -> None:
        """Ends all processes at once."""
        for seat in self.seats:
            process = seat.process
            if process is not None:
                process.kill()

    def close(self, grace: float = 2.0) -> None:
        """Lets the workers finish what they are at, at most ``grace`` seconds, and ends them."""
        if self.owner != os.getpid():
            return  # a forked child: threads and processes belong to the parent
        while True:
            try:
                job = self._jobs.get_nowait()
            except queue.Empty:
                break
            if job is not None:
                job[0].cancel()
        for _ in self._threads:
            self._jobs.put(None)
        deadline = time.monotonic() + grace
        current = threading.current_thread()
        threads = [thread for thread in self._threads if thread is not current]
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))
        if any(thread.is_alive() for thread in threads):
            self.kill()
            for thread in threads:
                if self._parcel is not None:
                    thread.join(5)
        if self._parcel is not None:
            self._parcel.close()


class DataLoader:
    """Iterates over a dataset in batches; each ``iter`` is one epoch.

    The epochs are counted: the first iteration is epoch 0 (or the one ``set_epoch`` names), each further one the next.

    Args:
        dataset: a Dataset, or any sequence.
        batch_size: samples in a batch.
        shuffle: a new order each epoch; False keeps the dataset's order.
        sampler: instead of ``shuffle``: an iterable of indices.
        batch_sampler: instead of ``batch_size``, ``shuffle``, ``sampler``, ``last_batch``: an iterable of index lists.
            Its ``set_epoch``, where it has one, is called before each epoch. One that shuffles has a seed of its own.
        last_batch: "keep", "discard" or "rollover" (see ``BatchSampler``).
        batchify: makes a batch of a list of samples; default: ``glueball.data.batchify.default_batchify``.
        workers: how many threads or processes make batches; 0, the default, makes them in the caller's thread, when
            asked for.
        worker_type: "thread" or "process". A process gets dataset, batchify and batch_transform by pickling.
        prefetch: how many batches are made ahead; default: 2 for each worker.
        seed: seed of the order and of all random transforms.
        batch_transform: ``batch_transform(batch, generator) -> batch``, for mixup and the like.
        on_error: "raise" stops at a sample that cannot be made; "skip" leaves damaged samples (DataError, OSError,
            ValueError) out of their batch, which is smaller then, logs and counts them. A mistake in the program (any
            other error) always stops.
        timeout: seconds to wait for one batch before the workers are taken to hang. Without workers nobody is left to
            notice; whoever iterates in a thread of their own can ask ``working_on``.
        batchify_fn, num_workers: Gluon's names of ``batchify`` and ``workers``.

    Raises:
        OptionError: an argument cannot be used, or contradicts another one.
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int | None = None,
        *,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        batch_sampler: Iterable[Sequence[int]] | None = None,
        last_batch: str | None = None,
        batchify: Callable[[Sequence[Any]], Any] | None = None,
        workers: int | None = None,
        worker_type: str = "thread",
        prefetch: int | None = None,
        seed: int = 0,
        batch_transform: Callable[..., Any] | None = None,
        on_error: str = "raise",
        timeout: float = 300.0,
        batchify_fn: Callable[[Sequence[Any]], Any] | None = None,
        num_workers: int | None = None,
    ) -> None:
        batchify = _either("batchify", batchify, "batchify_fn", batchify_fn)
        workers = _either("workers", workers, "num_workers", num_workers)
        _check_choice("worker_type", worker_type, WORKER_TYPES)
        _check_choice("on_error", on_error, ON_ERROR)
        workers = as_count("workers", 0 if workers is None else workers, at_least=0)
        prefetch = None if prefetch is None else as_count("prefetch", prefetch, at_least=1)
        seed = as_count("seed", seed, at_least=0)
        if not timeout > 0:
            raise OptionError(f"timeout is a positive number of seconds. Received: {timeout}.")
        self._dataset = dataset if hasattr(dataset, "fetch") else SimpleDataset(dataset)
        if batch_sampler is not None:
            if batch_size is not None or shuffle or sampler is not None or last_batch is not None:
                raise OptionError("batch_sampler takes the place of batch_size, shuffle, sampler and last_batch.")
            if getattr(batch_sampler, "num_shards", 0):
                raise OptionError(
                    f"A loader makes one batch at a time, but {type(batch_sampler).__name__} with num_shards="
                    f"{getattr(batch_sampler, 'num_shards', 0)} gives several. Each process makes a loader of its own "
                    "with batch_sampler=sampler.shard(rank)."
                )
            self._batch_sampler: Any = batch_sampler
        else:
            if batch_size is None:
                raise OptionError("DataLoader expects batch_size or batch_sampler.")
            if sampler is not None and shuffle:
                raise OptionError("A sampler has its own order; give sampler or shuffle=True, not both.")
            if sampler is None:
                length = len(self._dataset)
                sampler = RandomSampler(length, seed) if shuffle else SequentialSampler(length)
            self._batch_sampler = BatchSampler(sampler, batch_size, last_batch or "keep")
        self._work = Work(self._dataset, batchify or default_batchify, batch_transform, seed, on_error == "skip")
        self._workers = workers
        self._worker_type = worker_type
        self._prefetch = prefetch or 2 * workers
        self._share: Share | None = None
        self._seed = seed
        self._timeout = timeout
        self._pool: _Pool | None = None
        self._finalizer: weakref.finalize | None = None
        self._own_seat = _Seat()
        self._epoch = -1
        self._next_epoch = 0
        self._resume_at = 0
        self._position = 0
        self._finished = True
        self._skipped = 0
        self._resume_skipped = 0
        self._reports: list[str] = []

    @property
    def dataset(self) -> Any:
        """What the batches are made of."""
        return self._dataset

    @property
    def epoch(self) -> int:
        """The epoch of the latest iteration, or the one that comes next if there was none."""
        return self._epoch if self._epoch >= 0 else self._next_epoch

    @property
    def skipped(self) -> int:
        """How many samples of the latest epoch were left out because they are damaged."""
        return self._skipped

    @property
    def skipped_samples(self) -> tuple[str, ...]:
        """The first hundred of them: index, path and reason."""
        return tuple(self._reports)

    def working_on(self) -> tuple[str, ...]:
        """The samples that are being made at this moment, one for each busy worker, in words. For any thread."""
        pool = self._pool
        seats = [self._own_seat, *(pool.seats if pool is not None else [])]
        busy = [(seat.request, seat) for seat in seats]
        return tuple(self._place(request, seat.current_index()) for request, seat in busy if request is not None)

    def _place(self, request: Request, index: int) -> str:
        return self._work.name(index) if index >= 0 else f"one of samples {list(request.indices)}"

    def __len__(self) -> int:
        """The number of batches in an epoch (with ``on_error="skip"``: at most)."""
        return len(self._batch_sampler)

    def set_epoch(self, epoch: int) -> None:
        """Names the epoch of the next iteration. The position of a resumed epoch is kept if it is the same epoch."""
        epoch = as_count("epoch", epoch, at_least=0)
        if epoch != self._next_epoch:
            self._resume_at = self._resume_skipped = 0
        self._next_epoch = epoch
        self._set_sampler_epoch(epoch)

    def share(self, index: int, count: int) -> None:
        """From the next iteration on, the loader makes process ``index``'s share of each batch, of ``count`` shares.

        The order stays that of the whole, ``len`` too, and every process gets a batch at each position, a
        ``SharedBatch``: where a batch has no sample for this process, it holds a stand-in.

        Raises:
            OptionError: there is no process of that index.
        """
        mirrored = getattr(self._work.batch_transform, "partner", None) == MIRROR
        self._share = Share(index, count, mirrored)

    def _request(self, epoch: int, position: int, batch: Sequence[Any]) -> Request:
        indices = tuple(as_indices(batch))
        if self._share is None:
            return Request(epoch, position, indices)
        own = set(self._share.positions(len(indices)))
        return Request(
            epoch,
            position,
            tuple(index for place, index in enumerate(indices) if place in own),
            tuple(index for place, index in enumerate(indices) if place not in own),
        )

    def _shared(self, request: Request, result: Result) -> Any:
        if self._share is None:
            return result.batch
        total = len(request.indices) + len(request.stand_ins)
        left_out = {index for index, _ in result.skipped}
        positions = tuple(
            place
            for place, index in zip(self._share.positions(total), request.indices, strict=True)
            if index not in left_out
        )
        arrays = result.batch if isinstance(result.batch, (tuple, list)) else (result.batch,)
        return SharedBatch(arrays, positions, total)

    def _set_sampler_epoch(self, epoch: int) -> None:
        set_epoch = getattr(self._batch_sampler, "set_epoch", None)
        if set_epoch is not None:
            set_epoch(epoch)

    def state_dict(self, position: int | None = None) -> dict[str, int]:
        """Where the loader stands.

        Args:
            position: how many batches of the current epoch were used, when some that were taken from the loader still
                wait elsewhere; default: those taken.
        """
        epoch, reached = self._next_epoch, self._resume_at
        if not self._finished:
            epoch, reached = self._epoch, self._position if position is None else position
        return {
            "seed": self._seed,
            "epoch": epoch,
            "position": reached,
            "skipped": 0 if self._finished else self._skipped,
            "length": len(self._dataset),
            **self._sampler_state(),
        }

    def _sampler_state(self) -> dict[str, int]:
        """The seed of the order, where that is not the loader's, and the samples of a batch, where they are fixed."""
        found = {"sampler_seed": "seed", "batch_size": "batch_size"}
        values = {key: getattr(self._batch_sampler, name, None) for key, name in found.items()}
        return {key: int(value) for key, value in values.items() if isinstance(value, (int, np.integer))}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Makes the next iteration go on where ``state`` was taken.

        Raises:
            CheckpointError: the state belongs to a dataset of another length, to another seed, or to the middle of an
                epoch with batches of another size.
        """
        for key, mine in (("seed", self._seed), ("length", len(self._dataset))):
            if state.get(key) != mine:
                raise CheckpointError(
                    f"The data loader's state has {key} {state.get(key)}, this loader has {mine}: the order of the "
                    "samples would not go on as it was. Resume with the data and the seed of the run."
                )
        order = self._sampler_state()
        # States of earlier versions do not have it.
        if state.get("sampler_seed", order.get("sampler_seed")) != order.get("sampler_seed"):
            raise CheckpointError(
                f"The data loader's state has sampler_seed {state.get('sampler_seed')}, this loader's sampler has "
                f"{order.get('sampler_seed')}: the order of the samples would not go on as it was. Resume with a "
                "sampler of the same kind and seed."
            )
        # Within an epoch: the next one may have batches of any size.
        if int(state["position"]) and state.get("batch_size", order.get("batch_size")) != order.get("batch_size"):
            raise CheckpointError(
                f"The data loader's state is {state['position']} batches of {state.get('batch_size')} samples into an "
                f"epoch, this loader has batches of {order.get('batch_size')}: some samples would come twice or never. "
                "Finish the epoch with the batch size that it began with."
            )
        self._finished = True
        self._next_epoch = int(state["epoch"])
        self._resume_at = int(state["position"])
        self._resume_skipped = int(state.get("skipped", 0))
        self._set_sampler_epoch(self._next_epoch)

    def __iter__(self) -> Iterator[Any]:
        self._epoch, first = self._next_epoch, self._resume_at
        self._next_epoch, self._resume_at = self._epoch + 1, 0
        self._set_sampler_epoch(self._epoch)
        self._position, self._finished = first, False
        self._skipped, self._resume_skipped = self._resume_skipped, 0
        self._reports = []
        requests = (
            self._request(self._epoch, position, indices)
            for position, indices in enumerate(self._batch_sampler)
            if position >= first
        )
        return self._iterate(requests, self._epoch)

    def _iterate(self, requests: Iterator[Request], epoch: int) -> Iterator[Any]:
        delivered = self._position
        for request, result in self._results(requests):
            # A second iteration may have begun meanwhile; the state is that of the latest one.
            if self._epoch == epoch:
                self._position = request.position + 1
                self._count(result)
            if not result.empty:
                delivered += 1
                batch = self._shared(request, result)
                del result
                yield batch
                del batch
        if self._epoch == epoch:
            self._finished = True
        if delivered == 0 and self._skipped:
            raise DataError(f"All {self._skipped} samples were left out as damaged. The first one: {self._reports[0]}")

    def _count(self, result: Result) -> None:
        for _, reason in result.skipped:
            self._skipped += 1
            if len(self._reports) < MAX_REPORTS:
                self._reports.append(reason)
                _logger.warning("A damaged sample is left out: %s", reason)

    def _results(self, requests: Iterator[Request]) -> Iterator[tuple[Request, Result]]:
        if self._workers == 0:
            seat = self._own_seat
            for request in requests:
                seat.request, seat.index = request, -1
                try:
                    result = self._work(request, seat.report)
                finally:
                    seat.request = None
                yield request, result
                del result
            return
        pool = self._running_pool()
        waiting: deque[tuple[Request, Future[Result]]] = deque()

        def refill() -> None:
            for request in itertools.islice(requests, self._prefetch - len(waiting)):
                waiting.append((request, pool.submit(request)))

        try:
            refill()
            while waiting:
                request, future = waiting.popleft()
                result = self._wait(pool, request, future)
                del future
                # Before the batch goes out, so that the workers are busy while the caller is.
                refill()
                yield request, result
                del result
        finally:
            for _, future in waiting:
                future.cancel()

    def _wait(self, pool: _Pool, request: Request, future: Future[Result]) -> Result:
        try:
            return future.result(self._timeout)
        except FutureTimeoutError as error:
            if future.done():  # a TimeoutError of the sample itself
                raise
            busy = next((seat for seat in pool.seats if seat.request is request), None)
            where = self._place(request, busy.current_index() if busy is not None else -1)
            self._discard_pool()
            raise LoaderTimeoutError(
                f"A worker gave no batch for {self._timeout:g} seconds; it hangs at {where}.", self._timeout
            ) from error

    def _running_pool(self) -> _Pool:
        if self._pool is None or self._pool.owner != os.getpid():
            self._pool = _Pool(self._work, self._workers, self._worker_type, self._prefetch)
            self._finalizer = weakref.finalize(self, self._pool.close)
        return self._pool

    def _discard_pool(self) -> None:
        pool, self._pool = self._pool, None
        if self._finalizer is not None:
            self._finalizer.detach()
            self._finalizer = None
        if pool is not None:
            pool.kill()
            pool.close(grace=0)

    def close(self) -> None:
        """Ends the workers. The loader can be used again and starts new ones then."""
        self._pool = None
        if self._finalizer is not None:
            self._finalizer()
            self._finalizer = None

    def __enter__(self) -> DataLoader:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()


def _either(name: str, value: Any, other_name: str, other: Any) -> Any:
    if value is not None and other is not None:
        raise OptionError(f"{name} and {other_name} are two names of one option; give one of them.")
    return other if value is None else value


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise OptionError(f"{name} is one of {', '.join(choices)}. Received: {value!r}.")

"""What several processes need, piece by piece: who they are, what they tell each other, how their metrics merge."""

from __future__ import annotations

from typing import Any

import numpy as np
import processes_jobs
import pytest

from glueball.cli.processes import are_to_be_started
from glueball.engine import random_state, shared_metrics
from glueball.engine.measures import Measurements, Waiting
from glueball.engine.messages import decode, encode
from glueball.engine.processes import first_host, from_environment
from glueball.engine.ranks import Ranks, load_parts
from glueball.engine.signals import StopRequest
from glueball.errors import LostProcessError, OptionError, TrainingError
from glueball.metrics import F1, Accuracy, CrossEntropy, MetricList

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "8",
    "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "2",
    "MASTER_ADDR": "10.0.0.1",
    "MASTER_PORT": "29500",
}
SLURM = {
    "SLURM_PROCID": "5",
    "SLURM_NTASKS": "8",
    "SLURM_LOCALID": "1",
    "SLURM_JOB_ID": "4711",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NODELIST": "gpu[03-06,09]",
}


def test_nobody_launched_this_process() -> None:
    assert from_environment({}) is None
    assert from_environment({"RANK": "3"}) is None
    # The shell of an allocation, where Slurm says what could be started.
    assert from_environment({**SLURM, "SLURM_JOB_NAME": "interactive"}) is None
    assert from_environment({**SLURM, "SLURM_NTASKS": "1"}) is None


def test_torchrun() -> None:
    launch = from_environment(TORCHRUN)
    assert launch is not None
    assert (launch.kind, launch.rank, launch.size, launch.local_rank, launch.local_size) == ("torchrun", 3, 8, 1, 2)
    assert (launch.address, launch.port) == ("10.0.0.1", 29500)


def test_slurm() -> None:
    launch = from_environment(SLURM)
    assert launch is not None
    assert (launch.kind, launch.rank, launch.size, launch.local_rank) == ("slurm", 5, 8, 1)
    assert launch.address == "gpu03"
    # All tasks of a step meet at one port, and another step at another.
    assert launch.port == from_environment({**SLURM, "SLURM_PROCID": "0"}).port  # type: ignore[union-attr]
    assert launch.port != from_environment({**SLURM, "SLURM_STEP_ID": "3"}).port  # type: ignore[union-attr]
    step = from_environment({**SLURM, "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2"})
    assert step is not None
    assert step.size == 2


def test_the_inner_launcher_counts() -> None:
    launch = from_environment({**SLURM, **TORCHRUN})
    assert launch is not None
    assert launch.kind == "torchrun"


def test_horovod_and_dmlc() -> None:
    launch = from_environment({"HOROVOD_RANK": "1", "HOROVOD_SIZE": "4", "HOROVOD_LOCAL_RANK": "0"})
    assert launch is not None
    assert (launch.kind, launch.rank, launch.size, launch.local_rank) == ("horovod", 1, 4, 0)
    server = from_environment({"DMLC_ROLE": "server", "DMLC_NUM_WORKER": "2", "DMLC_PS_ROOT_PORT": "9091"})
    assert server is not None
    assert (server.kind, server.role, server.rank, server.size, server.port) == ("dmlc", "server", None, 2, 9091)


@pytest.mark.parametrize(
    "variables",
    [
        {**TORCHRUN, "RANK": "8"},
        {**TORCHRUN, "RANK": "-1"},
        {**TORCHRUN, "WORLD_SIZE": "many"},
        {key: value for key, value in TORCHRUN.items() if key != "MASTER_ADDR"},
        {"DMLC_ROLE": "king", "DMLC_NUM_WORKER": "2"},
        {"DMLC_ROLE": "worker"},
    ],
)
def test_variables_that_make_no_sense(variables: dict[str, str]) -> None:
    with pytest.raises(OptionError):
        from_environment(variables)


@pytest.mark.parametrize(
    ("nodes", "first"),
    [("node7", "node7"), ("a,b", "a"), ("node[01-03,09],gpu1", "node01"), ("rack[2,4]-ib", "rack2-ib")],
)
def test_first_host(nodes: str, first: str) -> None:
    assert first_host(nodes) == first


def test_processes_and_launchers(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*TORCHRUN, *SLURM, "HOROVOD_RANK", "DMLC_ROLE"):
        monkeypatch.delenv(name, raising=False)
    assert not are_to_be_started(None)
    assert are_to_be_started(2)
    with pytest.raises(OptionError, match="from 1"):
        are_to_be_started(0)
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    assert not are_to_be_started(8)
    with pytest.raises(OptionError, match="contradicts the launcher"):
        are_to_be_started(2)
    # One process is alone, whatever the environment says.
    assert not are_to_be_started(1)
    assert from_environment() is None


# ----------------------------------------------------------------------------------------------------------------------
# Messages
# ----------------------------------------------------------------------------------------------------------------------


def same(first: Any, second: Any) -> None:
    assert type(first) is type(second)
    if isinstance(first, np.ndarray):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            same(one, other)
    elif isinstance(first, dict):
        assert list(first) == list(second)
        for name in first:
            same(first[name], second[name])
    else:
        assert first == second or first != first


@pytest.mark.parametrize(
    "content",
    [
        None,
        [1, 2.5, "text", True, None, float("inf"), float("nan")],
        (1, ("a", [2])),
        {"a": {"b": np.arange(6, dtype=np.float32).reshape(2, 3)}, "c": [np.array(3, np.int64), np.zeros((0, 2))]},
        {"__kind__": "array", "name": "0"},
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.array([True, False]),
    ],
)
def test_messages_come_back(content: Any) -> None:
    same(decode(encode(content)), content)


@pytest.mark.parametrize("content", [object(), {1: 2}, np.array(["a"]), np.array([None]), {"a": {1, 2}}])
def test_what_cannot_be_sent(content: Any) -> None:
    with pytest.raises(TrainingError, match="cannot be sent"):
        encode(content)


# ----------------------------------------------------------------------------------------------------------------------
# Metrics
# ----------------------------------------------------------------------------------------------------------------------


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(4)
    return [(generator.integers(0, 3, size), generator.standard_normal((size, 3))) for size in (8, 8, 5, 1)]


def spread(metric: Any, count: int, strided: bool = False) -> Any:
    """The metric merged from ``count`` processes, each of which saw its part of each batch."""
    states = []
    for rank in range(count):
        own = shared_metrics.shared([metric()])
        for number, (labels, scores) in enumerate(batches()):
            rows = range(len(labels))
            places = [row for row in rows if (row % count if strided else row * count // len(labels)) == rank]
            if places:
                shared_metrics.at(own, (number, tuple(places)))
                own[0].update(labels[places], scores[places])
        states.append(decode(encode(own[0].state())))
        states[-1] = shared_metrics.from_json(shared_metrics.to_json(states[-1]))
    return shared_metrics.merge(metric(), states)


METRICS = [
    Accuracy,
    CrossEntropy,
    lambda: F1(classes=3),
    lambda: MetricList([Accuracy(), F1(classes=3)]),
    processes_jobs.MeanOfBatches,
    processes_jobs.Forgetful,
    lambda: MetricList([Accuracy(), processes_jobs.Forgetful()]),
]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("strided", [False, True])
def test_metrics_of_parts_are_those_of_the_whole(metric: Any, count: int, strided: bool) -> None:
    whole = metric()
    for labels, scores in batches():
        whole.update(labels, scores)
    names, expected = whole.get()
    merged_names, merged = spread(metric, count, strided).get()
    assert merged_names == names
    np.testing.assert_allclose(merged, expected, rtol=1e-12)


def test_one_processes_share_tells_no_value() -> None:
    metric = shared_metrics.shared([Accuracy()])[0]
    metric.update(np.array([0]), np.array([[1.0, 0.0]]))
    with pytest.raises(TrainingError, match="one process's share"):
        metric.get()


class Late(processes_jobs.Forgetful):
    """Keeps something beside its sums now and then, so that the first update does not give it away."""

    def update(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        if len(labels) < 4:
            self.seen += [1.0]
        self.add(count=len(labels))


def test_a_metric_that_notes_in_one_process_only_is_refused() -> None:
    own = shared_metrics.shared([Late(), Late()])
    own[0].update(np.zeros(8), np.zeros((8, 2)))
    own[1].update(np.zeros(2), np.zeros((2, 2)))
    with pytest.raises(TrainingError, match="cannot be"):
        shared_metrics.merge(Late(), [metric.state() for metric in own])


def test_measurements_of_two_go_on_in_one() -> None:
    def update(metrics: Any, host: Any, outputs: Any) -> None:
        for metric in metrics:
            metric.update(host[1], outputs[0])

    def taken_in(measurements: Measurements, part: slice) -> None:
        for number, (labels, scores) in enumerate(batches()):
            own = (scores[part], labels[part])
            if len(own[0]):
                measurements.add(Waiting(number, own, np.float32(scores[part].mean()), (scores[part],)))
        measurements.read()

    class Two:
        """A group whose other process is this one's twin: what one gathers, the other has gathered, too."""

        rank, size, kind = 0, 2, "test"

        def gather(self, data: bytes) -> list[bytes]:
            return [data, data]

        def broadcast(self, data: bytes | None, root: int = 0) -> bytes:
            return data or b""

        def all_reduce(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
            return [2 * array for array in arrays]

    made = [Accuracy(), processes_jobs.MeanOfBatches()]
    ranks = Ranks(Two())
    shared = ranks.measurements(made, np.asarray, update)
    shared.reset()
    taken_in(shared, slice(0, 4))
    state = shared.state()
    assert len(state["ranks"]) == 2
    alone = Measurements([Accuracy(), processes_jobs.MeanOfBatches()], np.asarray, update)
    Ranks().load_measurements(alone, state)
    assert alone.epoch_loss.value == pytest.approx(shared.epoch_loss.value)
    assert alone.epoch_loss.weight == 2 * shared.epoch_loss.weight
    assert alone.values()["accuracy"] == shared.values()["accuracy"]
    with pytest.raises(Exception, match="2 metrics"):
        load_parts(Measurements([Accuracy()], np.asarray, update), state["ranks"])


# ----------------------------------------------------------------------------------------------------------------------
# Ranks
# ----------------------------------------------------------------------------------------------------------------------


class Group:
    """One of several processes, with the answers of the others in it."""

    kind, local_rank = "test", 1

    def __init__(self, rank: int = 0, size: int = 2, answers: Any = ()) -> None:
        self.rank, self.size, self.answers, self.sent = rank, size, list(answers), []
        self.failure = ""

    def broadcast(self, data: bytes | None, root: int = 0) -> bytes:
        self.sent.append(data)
        return data if data is not None else self.answers.pop(0)

    def gather(self, data: bytes) -> list[bytes]:
        return [data, *self.answers]

    def all_reduce(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        self.sent.append(arrays)
        return [array + other for array, other in zip(arrays, self.answers.pop(0), strict=True)]

    def fail(self, message: str) -> None:
        self.failure = message


def test_one_process_exchanges_nothing() -> None:
    ranks = Ranks()
    assert ranks.is_alone
    assert ranks.is_first
    assert ranks.lead(lambda: 3) == 3
    assert ranks.gather("a") == ["a"]
    assert ranks.total(5) == 5
    assert ranks.any(True)
    guard = ranks.signal_guard()
    guard.received = 15
    ranks.agree_to_stop(guard)  # it answers for itself
    with pytest.raises(StopRequest):
        guard.check()


def test_the_first_process_leads() -> None:
    group = Group()
    assert Ranks(group).lead(lambda: {"a": 1}) == {"a": 1}
    other = Group(rank=1, answers=group.sent)
    assert Ranks(other).lead(lambda: pytest.fail("only rank 0 acts")) == {"a": 1}


def test_a_leader_that_fails_leaves_nobody_waiting() -> None:
    group = Group()
    with pytest.raises(OptionError):
        Ranks(group).lead(processes_fail)
    with pytest.raises(LostProcessError):
        Ranks(Group(rank=1, answers=group.sent)).lead(lambda: None)


def processes_fail() -> None:
    raise OptionError("the folder is not empty")


def test_a_signal_of_one_stops_all() -> None:
    ranks = Ranks(Group(answers=[[np.array([0, 1, 0])]]))
    guard = ranks.signal_guard()
    guard.check()
    with pytest.raises(StopRequest) as stopped:
        ranks.agree_to_stop(guard)
    assert stopped.value.number == 15


def test_signals_are_not_asked_for_in_every_step() -> None:
    group = Group(rank=1, answers=[[np.array([0, 0, 3])], [np.array([0, 0, 2])]])
    ranks = Ranks(group)
    guard = ranks.signal_guard()
    for _ in range(4):
        ranks.agree_to_stop(guard)
    assert len(group.sent) == 2
    # What rank 0 proposed counts, and this rank proposes nothing.
    assert group.sent[0][0].tolist() == [0, 0, 0]


def test_processes_must_be_about_to_train_the_same() -> None:
    with pytest.raises(OptionError, match=r"do not agree on its data.*Rank 1: 9"):
        Ranks(Group(answers=[encode({"recipe": "r", "data": "9"})])).check_same({"recipe": "r", "data": "8"})


def test_failures_are_told() -> None:
    group = Group()
    with pytest.raises(ValueError, match="broken"), Ranks(group).telling_failures():
        raise ValueError("broken")
    assert group.failure == "ValueError: broken"


def test_each_process_has_its_gpu() -> None:
    ranks = Ranks(Group())
    assert ranks.device(None, ["cuda:0", "cuda:1", "cpu"]) == "cuda:1"
    assert ranks.device("cuda", ["cuda:0", "cuda:1", "cpu"]) == "cuda:1"
    assert ranks.device(None, ["cpu"]) is None
    assert ranks.device("cpu", ["cuda:0", "cpu"]) == "cpu"
    with pytest.raises(OptionError, match="no GPU of its own"):
        ranks.device(None, ["cuda:0", "cpu"])


def test_processes_draw_different_numbers() -> None:
    drawn = []
    for rank in range(3):
        random_state.seed_everything(7)
        Ranks(Group(rank=rank, size=3)).separate_random_numbers(7)
        drawn.append(np.random.random())
    random_state.seed_everything(7)
    assert drawn[0] == np.random.random()
    assert len(set(drawn)) == 3

"""Metrics: their values against MXNet's and scikit-learn's, and what sums promise: order, merging, checkpoints."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import glueball
from glueball import backend, metrics
from glueball.engine.measures import load_metric_states, metric_states, values
from glueball.errors import CheckpointError, DataError, OptionError
from glueball.metrics import Metric, MetricList, ratio

CLASSES = 6
BUILDERS: dict[str, Callable[[], Metric]] = {
    "accuracy": metrics.Accuracy,
    "top_k_accuracy": lambda: metrics.TopKAccuracy(3),
    "cross_entropy": metrics.CrossEntropy,
    "rmse": lambda: metrics.RMSE(softmax=True),
    "confusion_matrix": lambda: metrics.ConfusionMatrix(CLASSES),
    "f1": lambda: metrics.F1(CLASSES),
}


def answers(count: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, count)
    scores = random.normal(size=(count, CLASSES)).astype(np.float32)
    scores[np.arange(count), labels] += 1
    return labels, scores


def test_every_registered_metric_has_a_builder() -> None:
    assert set(BUILDERS) == set(glueball.list_metrics(plugin="core"))


@pytest.mark.parametrize("name", BUILDERS)
def test_values_do_not_depend_on_how_samples_are_cut(name: str) -> None:
    labels, scores = answers()
    whole, cut, first, second = (BUILDERS[name]() for _ in range(4))
    whole.update(labels, scores)
    for start, end in ((0, 1), (1, 70), (70, 70), (70, 200)):
        cut.update(labels[start:end], scores[start:end])
    first.update(labels[:90], scores[:90])
    second.update(labels[90:], scores[90:])
    first.merge(second)
    assert cut.get()[1] == pytest.approx(whole.get()[1], rel=1e-12)
    assert first.get()[1] == pytest.approx(whole.get()[1], rel=1e-12)


@pytest.mark.parametrize("name", BUILDERS)
def test_metrics_go_through_checkpoints(name: str) -> None:
    labels, scores = answers()
    metric, resumed, copied = (BUILDERS[name]() for _ in range(3))
    metric.update(labels[:50], scores[:50])
    load_metric_states([resumed], metric_states([metric]))
    assert values([resumed]) == values([metric])
    for each in (metric, resumed):
        each.update(labels[50:], scores[50:])
    assert resumed.get() == metric.get()
    metric.reset()
    assert math.isnan(metric.get()[1])
    copied = resumed.copy()
    assert math.isnan(copied.get()[1])
    assert not math.isnan(resumed.get()[1])
    with pytest.raises(CheckpointError, match="does not belong"):
        metric.load_state_dict({"something": np.zeros(3)})


@pytest.mark.parametrize("name", ["accuracy", "top_k_accuracy", "cross_entropy", "confusion_matrix", "f1"])
def test_bad_arrays_are_refused(name: str) -> None:
    labels, scores = answers()
    for bad_labels, bad_scores, message in (
        (labels[:-1], scores, "label for each of 200"),
        (labels, scores[:, 0], r"\(batch, classes\)"),
        (labels + 1, scores, "from 0 to 5"),
        (labels - 1, scores, "from 0 to 5"),
    ):
        with pytest.raises(DataError, match=message):
            BUILDERS[name]().update(bad_labels, bad_scores)
    with pytest.raises(DataError, match="one shape"):
        metrics.RMSE().update(labels, scores[:, 0][:-1])


def test_values_are_mxnets() -> None:
    if backend.current().name != "mxnet":
        pytest.skip("compares with MXNet, which is not the selected backend (GLUEBALL_BACKEND=mxnet)")
    import mxnet as mx

    labels, scores = answers()
    probabilities = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)

    def theirs(metric: Any, predictions: np.ndarray) -> float:
        metric.update([mx.nd.array(labels)], [mx.nd.array(predictions)])
        return float(metric.get()[1])

    def ours(metric: Metric, predictions: np.ndarray) -> float:
        metric.update(labels, predictions)
        return float(metric.get()[1])

    assert ours(metrics.Accuracy(), scores) == theirs(mx.metric.Accuracy(), scores)
    for k in (1, 2, 5):
        expected = theirs(mx.metric.TopKAccuracy(k) if k > 1 else mx.metric.Accuracy(), scores)
        assert ours(metrics.TopKAccuracy(k), scores) == pytest.approx(expected)
    expected = theirs(mx.metric.CrossEntropy(), probabilities)
    assert ours(metrics.CrossEntropy(), scores) == pytest.approx(expected, rel=1e-5)
    assert ours(metrics.CrossEntropy(from_probabilities=True), probabilities) == pytest.approx(expected, rel=1e-5)
    one_hot = np.eye(CLASSES, dtype=np.float32)[labels]
    rmse = mx.metric.RMSE()
    rmse.update([mx.nd.array(one_hot)], [mx.nd.array(probabilities)])
    for truth in (labels, one_hot):
        metric = metrics.RMSE(softmax=True)
        metric.update(truth, scores)
        assert metric.get()[1] == pytest.approx(float(rmse.get()[1]), rel=1e-5)


@given(
    truth=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    guesses=st.lists(st.integers(0, 3), min_size=40, max_size=40),
)
@settings(max_examples=60, deadline=None)
def test_confusion_and_f1_are_scikit_learns(truth: list[int], guesses: list[int]) -> None:
    sklearn = pytest.importorskip("sklearn.metrics", reason="compares with scikit-learn, which is not installed")
    labels, taken = np.array(truth), np.array(guesses[: len(truth)])
    scores = np.eye(4)[taken]
    confusion, macro, micro = metrics.ConfusionMatrix(4), metrics.F1(4), metrics.F1(4, "micro")
    for metric in (confusion, macro, micro):
        metric.update(labels, scores)
    assert np.array_equal(confusion.matrix, sklearn.confusion_matrix(labels, taken, labels=range(4)))
    assert macro.get() == ("f1_macro", pytest.approx(sklearn.f1_score(labels, taken, average="macro")))
    assert micro.get() == ("f1_micro", pytest.approx(sklearn.f1_score(labels, taken, average="micro")))
    present = sorted(set(truth))
    recall = sklearn.recall_score(labels, taken, labels=present, average=None, zero_division=0)
    assert np.allclose(confusion.recall()[present], recall)
    assert confusion.get()[1] == pytest.approx(recall.mean())
    predicted = sorted(set(taken.tolist()))
    precision = sklearn.precision_score(labels, taken, labels=predicted, average=None, zero_division=0)
    assert np.allclose(confusion.precision()[predicted], precision)
    assert np.isnan(np.delete(confusion.precision(), predicted)).all()


def test_binary_f1() -> None:
    metric = metrics.F1(2, "binary")
    metric.update(np.array([1, 1, 0, 0, 1]), np.eye(2)[[1, 0, 0, 1, 1]])
    assert metric.get() == ("f1", pytest.approx(2 * 2 / (3 + 3)))
    with pytest.raises(OptionError, match="for 2 classes"):
        metrics.F1(3, "binary")
    with pytest.raises(OptionError, match="'weighted'"):
        metrics.F1(3, "weighted")
    with pytest.raises(OptionError, match="at least 2"):
        metrics.ConfusionMatrix(1)
    with pytest.raises(DataError, match="scores for 3 classes"):
        metrics.ConfusionMatrix(3).update(np.array([0]), np.zeros((1, 4)))


def test_top_k_counts_ties_once_and_nan_never() -> None:
    metric = metrics.TopKAccuracy(2)
    metric.update(np.arange(4), np.zeros((4, 4)))
    assert metric.get() == ("top2_accuracy", 0.5)
    metric.reset()
    metric.update(np.array([0]), np.full((1, 4), np.nan))
    assert metric.get()[1] == 0.0
    metric.reset()
    metric.update(np.array([1]), np.zeros((1, 2)))
    assert metric.get()[1] == 1.0
    with pytest.raises(OptionError, match="at least 1"):
        metrics.TopKAccuracy(0)


def test_soft_labels_count_as_their_class_or_as_they_are() -> None:
    labels, scores = answers(10)
    soft = np.eye(CLASSES)[labels] * 0.8 + 0.2 / CLASSES
    hard_metric, soft_metric = metrics.Accuracy(), metrics.Accuracy()
    hard_metric.update(labels, scores)
    soft_metric.update(soft, scores)
    assert hard_metric.get() == soft_metric.get()
    entropy = metrics.CrossEntropy()
    entropy.update(soft, scores)
    log_probabilities = scores - np.log(np.exp(scores.astype(float)).sum(axis=1, keepdims=True))
    assert entropy.get()[1] == pytest.approx(-(soft * log_probabilities).sum(axis=1).mean())


def test_ignored_labels_do_not_count() -> None:
    labels, scores = answers(20)
    marked = labels.copy()
    marked[::2] = -1
    metric, expected = metrics.Accuracy(ignore_labels=[-1]), metrics.Accuracy()
    metric.update(marked, scores)
    expected.update(labels[1::2], scores[1::2])
    assert metric.get() == expected.get()


def test_large_scores_do_not_overflow() -> None:
    metric = metrics.CrossEntropy()
    metric.update(np.array([0, 1]), np.array([[1000.0, -1000.0], [1000.0, -1000.0]]))
    assert metric.get()[1] == 1000.0
    certain = metrics.CrossEntropy(from_probabilities=True)
    certain.update(np.array([1]), np.array([[1.0, 0.0]]))
    assert math.isfinite(certain.get()[1])


def test_lists_feed_all_their_metrics() -> None:
    labels, scores = answers()
    both = MetricList([metrics.Accuracy(), metrics.TopKAccuracy(5)])
    other = both.copy()
    both.update(labels, scores)
    names, numbers = both.get()
    assert names == ["accuracy", "top5_accuracy"]
    assert numbers[0] < numbers[1]
    other.load_state_dict(both.state_dict())
    assert other.get() == both.get()
    other.merge(both)
    assert other.get() == both.get()
    assert len(list(other)) == len(other) == 2
    both.reset()
    assert all(math.isnan(value) for value in both.get()[1])
    with pytest.raises(OptionError, match="different names"):
        MetricList([metrics.Accuracy(), metrics.Accuracy()])
    with pytest.raises(OptionError, match="list of the same metrics"):
        other.merge(metrics.Accuracy())
    with pytest.raises(CheckpointError, match="other metrics"):
        other.load_state_dict({"accuracy.correct": np.zeros(())})


def test_metrics_merge_with_their_own_kind_only() -> None:
    with pytest.raises(OptionError, match="merges with its own kind"):
        metrics.Accuracy().merge(metrics.TopKAccuracy())
    with pytest.raises(OptionError, match="merges with its own kind"):
        metrics.ConfusionMatrix(3).merge(metrics.ConfusionMatrix(4))
    assert math.isnan(ratio(1, 0))


def test_a_metric_of_ones_own() -> None:
    class MeanLabel(Metric):
        def zeros(self) -> dict[str, np.ndarray]:
            return {"total": np.zeros(()), "count": np.zeros((), np.int64)}

        def update(self, labels: np.ndarray, predictions: np.ndarray) -> None:
            self.add(total=np.sum(labels), count=len(labels))

        def compute(self) -> dict[str, float]:
            return {self.name: ratio(self.sums["total"], self.sums["count"])}

    metric = MeanLabel("mean_label")
    metric.update(np.array([1, 2, 3]), np.zeros((3, 1)))
    assert metric.get() == ("mean_label", 2.0)
    assert repr(metric) == "MeanLabel(mean_label=2)"
    with pytest.raises(OptionError, match="needs a name"):
        MeanLabel("")
    with pytest.raises(NotImplementedError, match="zeros"):
        Metric("bare")

"""The plugin as its users meet it: installed, found by name."""

from __future__ import annotations

import numpy as np
import pytest

import glueball
from glueball.testing import check_plugin


def test_plugin_keeps_its_promises() -> None:
    report = check_plugin("template")
    assert report.checked >= 10
    assert not report.skipped or all("registers its task" in reason for reason in report.skipped)


def test_model_is_found_next_to_others() -> None:
    assert "shape_net" in glueball.list_models()
    assert glueball.list_models(plugin="template") == ["shape_net"]


def test_network_separates_the_shapes_by_channels_it_was_asked_for() -> None:
    network = glueball.get_model("shape_net", classes=5, channels=4)
    scores = network(np.zeros((2, 3, 32, 32), np.float32))
    assert tuple(scores.shape) == (2, 5)


def test_dataset_gives_every_class_and_the_same_pictures_again() -> None:
    shapes = glueball.get_dataset("shapes", length=6)
    assert [label for _, label in shapes] == [0, 1, 2, 0, 1, 2] == shapes.labels().tolist()
    np.testing.assert_array_equal(shapes[4][0], glueball.get_dataset("shapes", length=6)[4][0])
    with pytest.raises(IndexError, match="6 samples"):
        shapes[6]


def test_transform_follows_its_generator() -> None:
    shuffle = glueball.get_transform("channel_shuffle", probability=1.0)
    image = np.arange(12, dtype=np.uint8).reshape(2, 2, 3)
    once, again = (shuffle(image, random=np.random.default_rng(3)) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    np.testing.assert_array_equal(np.sort(once), image)


def test_focal_loss_without_focus_is_cross_entropy() -> None:
    from glueball import backend

    scores = np.array([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5]], np.float32)
    labels = np.array([0, 2], np.float32)
    probabilities = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    true = probabilities[[0, 1], [0, 2]]
    current = backend.current()
    for gamma in (0.0, 2.0):
        loss = glueball.get_loss("focal", gamma=gamma)
        values = current.numpy(loss(current.array(scores), current.array(labels)))
        # float32 on vectorised exponentials and logarithms: 1 - p loses a digit where p is near 1.
        np.testing.assert_allclose(values, -((1 - true) ** gamma) * np.log(true), rtol=1e-4)


def test_metric_counts_rare_classes_as_much_as_frequent_ones() -> None:
    metric = glueball.get_metric("mean_class_accuracy")
    metric.update(np.array([0, 0, 0, 1]), np.eye(2)[[0, 0, 0, 0]])
    assert metric.get() == ("mean_class_accuracy", 0.5)

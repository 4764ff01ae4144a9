"""What this distribution adds to Glueball.

Imported whenever somebody lists or looks up anything: only names and addresses here, and no import besides the standard
library and ``glueball.plugin``.
"""

from __future__ import annotations

from glueball.plugin import Register, hookimpl


@hookimpl
def register_models(register: Register) -> None:
    """One small network."""
    register(
        "shape_net",
        "glueball_plugin_template.models:shape_net",
        task="image_classification",
        input_shape=(3, 32, 32),
        test_input_shape=(3, 16, 16),
        classes=3,
        initializer="msraprelu",
        paper="arXiv:1512.03385",
        summary="A residual network of two stages for pictures of 32x32.",
    )


@hookimpl
def register_datasets(register: Register) -> None:
    """One data set that is drawn, so that it needs no files."""
    register("shapes", "glueball_plugin_template.datasets:Shapes", summary="Drawn squares, discs and crosses.")


@hookimpl
def register_transforms(register: Register) -> None:
    """One random transform."""
    register(
        "channel_shuffle",
        "glueball_plugin_template.transforms:ChannelShuffle",
        summary="Puts the colour channels into another order, at random.",
    )


@hookimpl
def register_losses(register: Register) -> None:
    """One loss."""
    register(
        "focal",
        "glueball_plugin_template.losses:FocalLoss",
        paper="arXiv:1708.02002",
        summary="Cross-entropy that turns to the samples which are still wrong.",
    )


@hookimpl
def register_metrics(register: Register) -> None:
    """One metric."""
    register(
        "mean_class_accuracy",
        "glueball_plugin_template.metrics:MeanClassAccuracy",
        summary="Accuracy within each class, averaged over the classes.",
    )

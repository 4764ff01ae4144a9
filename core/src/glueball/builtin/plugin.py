"""What core itself adds by name: a plugin that needs no entry point and that no selection leaves out.

Light, as every plugin's module: nothing here imports a backend or NumPy.
"""

from __future__ import annotations

from glueball.plugin import Register, hookimpl


@hookimpl
def register_losses(register: Register) -> None:
    """The losses of ``losses``."""
    for name, attribute, summary, paper in (
        ("softmax_cross_entropy", "SoftmaxCrossEntropy", "With label smoothing and soft labels.", "arXiv:1512.00567"),
        (
            "distillation",
            "DistillationSoftmaxCrossEntropyLoss",
            "From a teacher and labels at once.",
            "arXiv:1503.02531",
        ),
    ):
        register(name, f"glueball.builtin.losses:{attribute}", summary=summary, paper=paper)


@hookimpl
def register_metrics(register: Register) -> None:
    """The metrics of ``glueball.metrics``."""
    for name, attribute, summary in (
        ("accuracy", "Accuracy", "Share of samples whose highest score is right."),
        ("top_k_accuracy", "TopKAccuracy", "Share of samples whose class is among the k highest scores."),
        ("cross_entropy", "CrossEntropy", "Mean cross entropy of the softmax, in nats."),
        ("rmse", "RMSE", "Root of the mean squared difference to soft labels."),
        ("confusion_matrix", "ConfusionMatrix", "Who was taken for whom; its value is the mean recall."),
        ("f1", "F1", "Harmonic mean of precision and recall: macro, micro or binary."),
    ):
        register(name, f"glueball.metrics:{attribute}", summary=summary)

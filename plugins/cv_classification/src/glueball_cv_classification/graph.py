"""Network and loss in one block, so that the whole training step is compiled.

Built by a function, because blocks can only be defined once a backend is selected.
"""

from __future__ import annotations

from typing import Any

from glueball.engine import Recipe


def build(network: Any, recipe: Recipe, *, soft_labels: bool) -> Any:
    """A block ``graph(images, labels[, teacher's logits]) -> (loss for each sample, logits)``.

    ``soft_labels``: labels are probabilities of shape (batch, classes) instead of class numbers of shape (batch,).
    """
    from glueball import loss as losses
    from glueball import nn
    from glueball.named import get_loss

    if recipe.loss is not None:
        criterion = get_loss(recipe.loss.name, **recipe.loss.options)
    else:
        criterion = losses.SoftmaxCrossEntropyLoss(sparse_label=not soft_labels)

    class TrainingGraph(nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__(prefix="")
            with self.name_scope():
                self.network = network
                self.criterion = criterion

        def hybrid_forward(self, F: Any, images: Any, labels: Any) -> Any:
            logits = self.network(images)
            return self.criterion(logits, labels), logits

    if recipe.distillation is None:
        return TrainingGraph()

    temperature, hard_weight = recipe.distillation.temperature, recipe.distillation.hard_weight

    class DistillationGraph(TrainingGraph):
        """arXiv:1503.02531, section 2: T^2 keeps the gradient of the soft part as large as that of the hard one."""

        def __init__(self) -> None:
            super().__init__()
            with self.name_scope():
                self.soft_criterion = losses.SoftmaxCrossEntropyLoss(sparse_label=False)

        def hybrid_forward(self, F: Any, images: Any, labels: Any, teacher: Any) -> Any:  # type: ignore[override]
            logits = self.network(images)
            softened = F.softmax(teacher / temperature, axis=-1)
            soft = self.soft_criterion(logits / temperature, softened) * (temperature**2 * (1.0 - hard_weight))
            return self.criterion(logits, labels) * hard_weight + soft, logits

    return DistillationGraph()

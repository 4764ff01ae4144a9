"""Network and loss in one block, so that the whole training step is compiled.

Built by a function, because blocks can only be defined once a backend is selected.
"""

from __future__ import annotations

import inspect
from typing import Any

from glueball.engine import Component, Recipe
from glueball.errors import OptionError


def build(network: Any, recipe: Recipe, *, soft_labels: bool) -> Any:
    """A block ``graph(images, labels[, teacher's logits]) -> (loss for each sample, logits)``.

    ``soft_labels``: labels are probabilities of shape (batch, classes) instead of class numbers of shape (batch,).

    Raises:
        OptionError: the loss of the recipe cannot learn from such labels, or needs more than logits and labels.
    """
    from glueball import loss as losses
    from glueball import nn

    if recipe.loss is not None:
        criterion = _named_loss(recipe.loss, recipe, soft_labels=soft_labels)
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


def _named_loss(component: Component, recipe: Recipe, *, soft_labels: bool) -> Any:
    """The loss that a recipe names, told which kind of labels it will see."""
    from glueball import catalog
    from glueball.named import get_loss

    name, options = component.name, dict(component.options)
    current = catalog.current()
    takes_kind = "sparse_label" in inspect.signature(current.resolve(current.find("loss", name))).parameters
    given = options.get("sparse_label", not soft_labels if takes_kind else True)
    if soft_labels and given:
        settings = [field for field in ("label_smoothing", "mixup", "cutmix") if getattr(recipe, field)]
        way_out = "leave loss.options.sparse_label out" if takes_kind else "choose a loss with the option sparse_label"
        raise OptionError(
            f"{' and '.join(f'{field}={getattr(recipe, field):g}' for field in settings)} turn labels into "
            f"probabilities, and the loss {name!r} expects class numbers. "
            f"Set {', '.join(f'{field}=0' for field in settings)}, or {way_out}."
        )
    if not soft_labels and not given:
        raise OptionError(
            f"loss.options.sparse_label=false makes the loss {name!r} expect probabilities, and the labels of this "
            "recipe are class numbers. Leave that option out: it follows label_smoothing, mixup and cutmix."
        )
    if takes_kind:
        options["sparse_label"] = given
    criterion = get_loss(name, **options)
    needed = _inputs(criterion)
    if len(needed) > 2:
        raise OptionError(
            f"The loss {name!r} takes {', '.join(needed)}, and training has two of these to give: logits and labels. "
            "To learn from a teacher leave loss out and set distillation.teacher=NAME; otherwise choose another loss."
        )
    return criterion


def _inputs(criterion: Any) -> list[str]:
    """The arrays that a loss cannot do without."""
    is_block = hasattr(criterion, "hybrid_forward")
    parameters = list(
        inspect.signature(criterion.hybrid_forward if is_block else criterion.forward).parameters.values()
    )
    return [
        parameter.name
        for parameter in parameters[1 if is_block else 0 :]  # without F
        if parameter.default is parameter.empty
        and parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD)
    ]

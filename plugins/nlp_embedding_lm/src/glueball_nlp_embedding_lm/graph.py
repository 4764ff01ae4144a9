"""Network and loss in one block, so that the whole training step is compiled.

Built by a function, because blocks can only be defined once a backend is selected.
"""

from __future__ import annotations

from typing import Any

from glueball.engine import Recipe
from glueball.errors import OptionError


def build(network: Any, recipe: Recipe) -> Any:
    """A block ``graph(token_ids, valid_length, labels) -> (loss for each text, logits)``.

    Label smoothing (arXiv:1512.00567, section 7) is part of it: a share of every label goes to all classes alike.

    Raises:
        OptionError: the recipe asks for both a loss of its own and label smoothing.
    """
    from glueball import loss as losses
    from glueball import nn
    from glueball.named import get_loss

    smoothing = recipe.label_smoothing
    if recipe.loss is not None and smoothing:
        raise OptionError(
            f"label_smoothing={smoothing:g} is for the usual loss, and the recipe has the loss {recipe.loss.name!r}. "
            "Set label_smoothing=0, or leave loss out."
        )
    if recipe.loss is None:
        criterion = losses.SoftmaxCrossEntropyLoss()
    else:
        criterion = get_loss(recipe.loss.name, **recipe.loss.options)

    class TrainingGraph(nn.HybridBlock):
        def __init__(self) -> None:
            super().__init__(prefix="")
            with self.name_scope():
                self.network = network
                self.criterion = criterion

        def hybrid_forward(self, F: Any, token_ids: Any, valid_length: Any, labels: Any) -> Any:
            logits = self.network(token_ids, valid_length)
            loss = self.criterion(logits, labels)
            if smoothing:
                uniform = F.negative(F.mean(F.log_softmax(logits, axis=-1), axis=-1))
                loss = loss * (1.0 - smoothing) + uniform * smoothing
            return loss, logits

    return TrainingGraph()

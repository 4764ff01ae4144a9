"""What a trained classifier says about texts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import attrs
import numpy as np

from glueball.errors import DataError, OptionError

from .pipeline import PadTexts, TextPipeline

_BATCH = 64


@attrs.frozen
class Prediction:
    """One answer."""

    label: str
    """The class name."""
    probability: float
    """Between 0 and 1; over all classes they sum to 1."""
    index: int
    """The class number."""


class TextClassifier:
    """``classifier("What is a gluon ?", top=3)``: the most probable classes of one text, or of each of several.

    A text without a single known word, or without any, gets an answer too: what the network says about nothing.

    Args:
        predict: maps (token_ids, valid_length) on the device to logits on the device.
        to_device, to_numpy: of the backend.
        pipeline: what turns a text into ids.
        pad: makes batches of them.
        classes: class names in the order of the logits.
    """

    def __init__(
        self,
        predict: Callable[..., Any],
        to_device: Callable[[np.ndarray], Any],
        to_numpy: Callable[[Any], np.ndarray],
        pipeline: TextPipeline,
        pad: PadTexts,
        classes: Sequence[str],
    ) -> None:
        self.classes = tuple(classes)
        self.pipeline = pipeline
        self._predict, self._to_device, self._to_numpy = predict, to_device, to_numpy
        self._pad = pad

    def __call__(self, texts: str | Iterable[str], top: int = 5) -> Any:
        """The ``top`` most probable classes, best first.

        Returns:
            A list of ``Prediction`` for one text, a list of such lists for several.

        Raises:
            DataError: something is no text.
            OptionError: ``top`` is below 1.
        """
        if top < 1:
            raise OptionError(f"top is at least 1. Received: {top}.")
        single = isinstance(texts, str)
        answers = [self._best(row, top) for row in self.probabilities([texts] if isinstance(texts, str) else texts)]
        return answers[0] if single else answers

    def probabilities(self, texts: Iterable[str]) -> np.ndarray:
        """The probability of every class: float64 of shape (count, classes), in the order of the texts.

        Raises:
            DataError: something is no text.
        """
        if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
            raise DataError(f"Expected a list of texts. Received: {texts!r:.80}.")
        encoded = [self.pipeline(text) for text in texts]
        probabilities: np.ndarray = np.zeros((len(encoded), len(self.classes)))
        # Texts of one length together: little of a batch is padding.
        order = np.argsort([len(ids) for ids in encoded], kind="stable")
        for start in range(0, len(order), _BATCH):
            chosen = order[start : start + _BATCH]
            probabilities[chosen] = softmax(self._logits(*self._pad.pad([encoded[index] for index in chosen])))
        return probabilities

    def plain(self, answers: Sequence[Prediction]) -> list[dict[str, Any]]:
        """Answers in terms that JSON knows."""
        return [attrs.asdict(answer) for answer in answers]

    def text(self, answers: Sequence[Prediction]) -> str:
        """Answers for people, one a line."""
        width = max(len(answer.label) for answer in answers)
        return "\n".join(f"  {answer.label:<{width}}  {answer.probability:7.2%}" for answer in answers)

    def _logits(self, *batch: np.ndarray) -> np.ndarray:
        output = self._predict(*(self._to_device(array) for array in batch))
        if isinstance(output, (list, tuple)):
            output = output[0]
        return np.asarray(self._to_numpy(output), np.float64)

    def _best(self, probabilities: np.ndarray, top: int) -> list[Prediction]:
        order = np.argsort(-probabilities, kind="stable")[:top]
        return [Prediction(self.classes[index], float(probabilities[index]), int(index)) for index in order]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities along the last axis, in float64."""
    shifted = np.asarray(logits, np.float64)
    shifted = np.exp(shifted - shifted.max(axis=-1, keepdims=True))
    probabilities: np.ndarray = shifted / shifted.sum(axis=-1, keepdims=True)
    return probabilities

"""What a trained classifier says about pictures: files, arrays or Pillow images in, class names out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from glueball.data.images import decode
from glueball.errors import DataError, OptionError

_BATCH = 32


@attrs.frozen
class Prediction:
    """One answer."""

    label: str
    """The class name."""
    probability: float
    """Between 0 and 1; over all classes they sum to 1."""
    index: int
    """The class number."""


class ImageClassifier:
    """``classifier("cat.jpg", top=3)``: the most probable classes of one picture, or of each of several.

    Args:
        predict: maps a batch on the device to logits on the device.
        to_device, to_numpy: of the backend.
        transform: the evaluation transform; a picture (height, width, 3) uint8 to what the network sees.
        classes: class names in the order of the logits.
    """

    def __init__(
        self,
        predict: Callable[..., Any],
        to_device: Callable[[np.ndarray], Any],
        to_numpy: Callable[[Any], np.ndarray],
        transform: Callable[..., np.ndarray],
        classes: Sequence[str],
    ) -> None:
        self.classes = tuple(classes)
        self._predict, self._to_device, self._to_numpy = predict, to_device, to_numpy
        self._transform = transform

    def __call__(self, pictures: Any, top: int = 5) -> Any:
        """The ``top`` most probable classes, best first.

        Args:
            pictures: a path, a uint8 array of shape (height, width, 3) or (height, width), a Pillow image; or a list of
                such, or a uint8 array of shape (count, height, width, 3).

        Returns:
            A list of ``Prediction`` for one picture, a list of such lists for several.

        Raises:
            DataError: a picture cannot be read; the message names it.
            OptionError: ``top`` is below 1.
        """
        if top < 1:
            raise OptionError(f"top is at least 1. Received: {top}.")
        single = _is_single(pictures)
        items = [pictures] if single else list(pictures)
        answers: list[list[Prediction]] = []
        for start in range(0, len(items), _BATCH):
            probabilities = self.probabilities(items[start : start + _BATCH])
            answers.extend(self._best(row, top) for row in probabilities)
        return answers[0] if single else answers

    def probabilities(self, pictures: Iterable[Any]) -> np.ndarray:
        """The probability of every class: float64 of shape (count, classes)."""
        samples = [self._transform(read_picture(picture)) for picture in pictures]
        if not samples:
            return np.zeros((0, len(self.classes)))
        batch = np.stack(samples)
        crops = batch.shape[1] if batch.ndim == 5 else 1
        logits = self._logits(batch.reshape(-1, *batch.shape[-3:]))
        # Ten crops of a picture are ten opinions: their probabilities are averaged.
        return softmax(logits).reshape(len(samples), crops, -1).mean(axis=1)

    def draw(self, answers: Sequence[tuple[Any, Sequence[Prediction]]], path: str | os.PathLike[str]) -> None:
        """Draws pictures with their answers into a file; its suffix, .png or .jpg, decides the format."""
        from . import sheet

        tiles = [
            sheet.Tile(image=read_picture(picture), predicted=best[0].label, probability=best[0].probability)
            for picture, best in answers
        ]
        sheet.draw(tiles, path, f"{len(tiles)} picture{'s' if len(tiles) != 1 else ''}")

    def plain(self, answers: Sequence[Prediction]) -> list[dict[str, Any]]:
        """Answers in terms that JSON knows."""
        return [attrs.asdict(answer) for answer in answers]

    def text(self, answers: Sequence[Prediction]) -> str:
        """Answers for people, one a line."""
        width = max(len(answer.label) for answer in answers)
        return "\n".join(f"  {answer.label:<{width}}  {answer.probability:7.2%}" for answer in answers)

    def _logits(self, batch: np.ndarray) -> np.ndarray:
        output = self._predict(self._to_device(batch))
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


def read_picture(picture: Any) -> np.ndarray:
    """A picture as uint8 of shape (height, width, 3).

    Raises:
        DataError: the file is missing, damaged or no picture, or the array has another form.
    """
    if isinstance(picture, (str, os.PathLike)):
        try:
            content = Path(picture).read_bytes()
        except OSError as error:
            raise DataError(f"The picture {picture} cannot be read: {error.strerror or error}.") from error
        return decode(content, name=str(picture))
    # Pillow images give their pixels through the array interface; palettes and alpha need converting first.
    values = np.asarray(picture.convert("RGB") if hasattr(picture, "convert") else picture)
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim != 3 or values.dtype != np.uint8 or values.shape[2] not in (1, 3, 4):
        raise DataError(
            "A picture is a uint8 array of shape (height, width, 3) or (height, width). "
            f"Received: {values.dtype} of shape {values.shape}."
        )
    return np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values[:, :, :3]


def _is_single(pictures: Any) -> bool:
    if isinstance(pictures, (str, os.PathLike)) or hasattr(pictures, "convert"):
        return True
    return isinstance(pictures, np.ndarray) and pictures.ndim <= 3


def class_names(description: Mapping[str, Any]) -> list[str]:
    """A name for each output of a run's network."""
    names = [str(name) for name in description["classes"]]
    return output_names(names, description["model"]["classes"])


def output_names(classes: Sequence[str], outputs: int) -> list[str]:
    """The class names, and numbered ones for outputs that no class of the training data stands for."""
    return [*classes, *(f"class {index}" for index in range(len(classes), outputs))]

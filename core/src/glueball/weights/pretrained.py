"""Pretrained weights by tag or path, with a new last layer where the classes are others."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from glueball.errors import WeightsError
from glueball.weights.formats import SUFFIXES, load
from glueball.weights.matching import apply, check, class_axis, match
from glueball.weights.store import locate

if TYPE_CHECKING:
    from glueball.plugin import Weights

logger = logging.getLogger(__name__)


def load_pretrained(
    network: Any, entry: Any, pretrained: bool | str | os.PathLike[str], classes: int | None = None
) -> None:
    """Fills a network of the catalogue's ``entry`` with pretrained weights.

    ``pretrained`` is True (the model's first tag), a tag, or the path of a weight file. If ``classes`` is given and the
    file has another number of them, the parameters of the last layer, which are those whose first axis is the classes,
    stay as they were initialised; a log line says so.

    Raises:
        WeightsError: the model has no official weights or no such tag, there is no such file, or it does not fit.
        DownloadError: the official file is not on this machine and cannot be fetched.
    """
    path, official = _choose(entry, pretrained)
    arrays = load(path)
    found = match(network, arrays)
    if classes is not None and found.shapes:
        pair = class_axis(found.shapes)
        # Where the classes of the file are known, a misfit in anything else is not the head.
        known = official.classes if official is not None else None
        if pair is not None and pair[0] == classes and known in (None, pair[1]):
            head = [misfit.name for misfit in found.shapes]
            check(attrs.evolve(found, shapes=()), os.fspath(path))
            apply(network, found)
            logger.info(
                "%s: the weights of %s are for %d classes and the network has %d; newly initialised: %s",
                entry.name, path.name, pair[1], classes, ", ".join(head),
            )  # fmt: skip
            return
    check(found, os.fspath(path))
    apply(network, found)
    logger.info("%s: loaded %s", entry.name, path)


def _choose(entry: Any, pretrained: bool | str | os.PathLike[str]) -> tuple[Path, Weights | None]:
    official: Mapping[str, Weights] = entry.metadata.get("weights") or {}
    if pretrained is True:
        if not official:
            raise WeightsError(
                f"There are no official weights for {entry.name}. list_models(pretrained=True) lists the models that "
                "have some; pretrained='PATH' loads a file of your own."
            )
        weights = next(iter(official.values()))
        return locate(weights), weights
    text = os.fspath(pretrained)  # type: ignore[arg-type]
    for tag, weights in official.items():
        # GluonCV's users name weights by the first digits of their hash.
        if text in (tag, weights.sha1) or (len(text) >= 8 and weights.sha1.startswith(text)):
            return locate(weights), weights
    path = Path(text).expanduser()
    if path.exists() or path.suffix.lower() in SUFFIXES or len(path.parts) > 1:
        return path, None
    raise WeightsError(
        f"{entry.name} has no weights called {text!r}, and there is no such file. Expected: "
        f"{', '.join(map(repr, official)) or 'no tag, since it has no official weights'}, or the path of a weight file."
    )

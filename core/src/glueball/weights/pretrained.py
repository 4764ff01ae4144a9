"""Pretrained weights by tag or path, with a new last layer where the classes are others."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from glueball.errors import OptionError, WeightsError
from glueball.weights.formats import SUFFIXES, load
from glueball.weights.matching import Cures, Match, apply, check, class_axis, is_floating, match
from glueball.weights.store import locate

if TYPE_CHECKING:
    from glueball.plugin import Weights

logger = logging.getLogger(__name__)


def load_pretrained(
    network: Any, entry: Any, pretrained: bool | str | os.PathLike[str] | None, classes: int | None = None
) -> None:
    """Fills a network of the catalogue's ``entry`` with pretrained weights.

    ``pretrained`` is True (the model's first tag), a tag, or the path of a weight file; False and None load nothing.
    Floating data types are converted to the network's. If ``classes`` is given and the file has another number of them,
    the parameters of the last layer, which are those whose first axis is the classes, stay as they were initialised; a
    log line says so.

    Raises:
        OptionError: ``pretrained`` is none of these.
        WeightsError: the model has no official weights or no such tag, there is no such file, or it does not fit.
        DownloadError: the official file is not on this machine and cannot be fetched.
    """
    if pretrained is None or pretrained is False:
        return
    path, official = _choose(entry, pretrained)
    arrays = load(path)
    found = match(network, arrays)
    if classes is not None and found.shapes:
        pair = class_axis(found.shapes)
        # Where the classes of the file are known, a misfit in anything else is not the head.
        known = official.classes if official is not None else None
        if pair is not None and pair[0] == classes and known in (None, pair[1]):
            head = [misfit.name for misfit in found.shapes]
            _check(attrs.evolve(found, shapes=()), path, entry.name)
            apply(network, found)
            logger.info(
                "%s: the weights of %s are for %d classes and the network has %d; newly initialised: %s",
                entry.name, path.name, pair[1], classes, ", ".join(head),
            )  # fmt: skip
            return
    _check(found, path, entry.name)
    apply(network, found)
    logger.info("%s: loaded %s", entry.name, path)


def _check(found: Match, path: Path, name: str) -> None:
    """Demands a fit, where floating dtypes may differ; its advice is for callers who named the weights."""
    others = tuple(misfit for misfit in found.dtypes if not is_floating(misfit))

    # get_model and the command line have no leniency: a model that is asked for with weights must have all of them.
    def load_in_part(option: str) -> str:
        return f"get_model({name!r}).load_parameters({os.fspath(path)!r}, {option}=True) loads what fits"

    check(
        attrs.evolve(found, dtypes=others),
        os.fspath(path),
        cures=Cures(
            missing=load_in_part("allow_missing"),
            unexpected=load_in_part("ignore_extra"),
            dtypes="save the file with floating-point weights",
        ),
    )


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
    tags = ", ".join(map(repr, official))
    expected = f"{tags or 'no tag, since it has no official weights'}, or the path of a weight file"
    text = os.fspath(pretrained) if isinstance(pretrained, (str, os.PathLike)) else None
    if not isinstance(text, str):
        raise OptionError(f"pretrained must be True, False, {expected}. Received: {pretrained!r}.")
    if not text:
        raise WeightsError(
            f"pretrained is an empty text, which names no weights of {entry.name}. Expected: {expected}; or "
            "pretrained=False for none."
        )
    for tag, weights in official.items():
        # GluonCV's users name weights by the first digits of their hash.
        if text in (tag, weights.sha1) or (len(text) >= 8 and weights.sha1.startswith(text)):
            return locate(weights), weights
    path = Path(os.path.expanduser(text))
    if path.exists() or path.suffix.lower() in SUFFIXES or len(path.parts) > 1:
        return path, None
    raise WeightsError(f"{entry.name} has no weights called {text!r}, and there is no such file. Expected: {expected}.")

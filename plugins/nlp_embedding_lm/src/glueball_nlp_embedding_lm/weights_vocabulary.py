"""Which vocabulary and tokeniser the weights in a file belong to.

A row of an embedding means nothing without the word that it stands for, and rows of another vocabulary of the same size
load without a complaint. So a run's weight files carry how texts are read in their header, where it stays with them
wherever they are copied. Files of older runs are told by the ``run.json`` beside them.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any

from glueball.errors import DataError, OptionError, WeightsError

from .pipeline import TextPipeline

KEY = "glueball.text"
"""The entry of the header: ``TextPipeline.describe()`` as JSON."""

_SHOWN = 3
"""At most so many tokens that differ are shown."""

# How long a text may be is no part of it: that changes no word's row.
_READING = ("tokenizer", "lower", "ngrams", "buckets")


def metadata(pipeline: TextPipeline) -> dict[str, str]:
    """What the header of a weight file says of its texts."""
    return {KEY: json.dumps(pipeline.describe())}


def pipeline_of(source: str | os.PathLike[str]) -> TextPipeline:
    """How a run reads texts, from its folder or one of its weight files.

    Raises:
        OptionError: there is no such run or file, or it says nothing of texts.
        DataError: what it says is damaged.
        WeightsError: the file is damaged.
        PluginError: a library that the tokeniser needs is missing.
    """
    description = description_of(Path(source).expanduser())
    if description is None:
        raise OptionError(
            f"{os.fspath(source)} does not say how texts are read. Expected the folder of a run on texts, or a weight "
            "file of one."
        )
    return TextPipeline.from_description(description)


def description_of(path: Path) -> Mapping[str, Any] | None:
    """What ``TextPipeline.describe`` said when the weights were written; None where nobody wrote it down.

    Args:
        path: a run's folder, or a weight file.

    Raises:
        OptionError: it is a folder, and not that of a run, or there is nothing.
        DataError: the ``run.json`` is damaged.
        WeightsError: the file is damaged.
    """
    # Imported late: it leads to the whole engine, and most networks are built without a look at weights.
    from glueball.engine.load import read_description
    from glueball.engine.run_folder import RunFolder
    from glueball.weights.safetensors_file import read_metadata

    if path.suffix.lower() == ".safetensors" and path.is_file():
        written = read_metadata(path).get(KEY)
        if written is not None:
            return _parsed(written, path)
    beside = path if not path.is_file() else path.absolute().parent.parent
    folder = RunFolder(beside)
    if path.is_file() and not folder.description.is_file():
        return None
    found = read_description(folder).get("text")
    return found if isinstance(found, Mapping) else None


def _parsed(written: str, path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is damaged: {KEY!r} in its header is no JSON ({error}).") from error
    if not isinstance(found, dict):
        raise WeightsError(f"{path} is damaged: {KEY!r} in its header is no JSON object.")
    return found


def check(path: Path, pipeline: TextPipeline) -> None:
    """Demands that the weights in a file were trained with the words, in the order, that ``pipeline`` gives ids to.

    A file that does not say, such as one of another program, is taken as it is, with a warning.

    Raises:
        WeightsError: they were trained with others; the message shows the first that differ.
        DataError: what the file, or the run.json beside it, says is damaged.
    """
    description = description_of(path)
    if description is None:
        warnings.warn(
            f"{path} does not say which words its vectors stand for. It is taken to have this run's vocabulary of "
            f"{len(pipeline.vocab)} tokens, in the same order.",
            UserWarning,
            stacklevel=2,
        )
        return
    found = list(differences(description, pipeline.describe(), path))
    if found:
        raise WeightsError(
            f"The weights of {path} belong to texts that are read in another way:\n  "
            + "\n  ".join(found)
            + "\nCure: read texts as those weights do, with options.vocabulary (--vocabulary of the recipe "
            "text-classification), which takes that file or its run; train on the texts and with the options of that "
            "run; or leave --pretrained out."
        )


def differences(theirs: Mapping[str, Any], ours: Mapping[str, Any], path: Path) -> Iterator[str]:
    """Sentences on how ``theirs`` gives other ids to words than ``ours``; none where they agree.

    Raises:
        DataError: ``theirs`` lacks something.
    """
    try:
        reading = {name: theirs[name] for name in _READING}
        vocabulary = theirs["vocabulary"]
        tokens = vocabulary["tokens"]
        special = {name: vocabulary[name] for name in ("unknown_token", "padding_token")}
    except (KeyError, TypeError) as error:
        raise DataError(f"What {path} says of how texts are read is damaged: it lacks {error}.") from error
    if not isinstance(tokens, list):
        raise DataError(f"What {path} says of how texts are read is damaged: its tokens are no list.")
    known = ours["vocabulary"]["tokens"]
    if tokens != known:
        if len(tokens) != len(known):
            yield f"{len(tokens)} tokens in the file, {len(known)} here"
        pairs = enumerate(zip_longest(tokens, known))
        other = [(place, *pair) for place, pair in pairs if pair[0] != pair[1]]
        for place, token, own in other[:_SHOWN]:
            yield f"token {place}: {_quoted(token)} in the file, {_quoted(own)} here"
        if len(other) > _SHOWN:
            yield f"and {len(other) - _SHOWN} tokens more"
    for name, value in special.items():
        if value != ours["vocabulary"][name]:
            yield f"{name}: {value!r} in the file, {ours['vocabulary'][name]!r} here"
    for name, value in reading.items():
        if value != ours[name]:
            yield f"{name}: {_shown(value)} in the file, {_shown(ours[name])} here"


def _quoted(token: Any) -> str:
    return "nothing" if token is None else f"{token!r:.40}"


def _shown(value: Any) -> str:
    """A tokeniser by its options; of a model that is kept inside, its beginning is enough."""
    if not isinstance(value, Mapping):
        return repr(value)
    options = ", ".join(f"{name}={option!r:.30}" for name, option in value.items() if name != "name")
    return f"{value.get('name')}({options})"

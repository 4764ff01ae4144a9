"""Weights into networks: everything that does not fit is said at once, with the cure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from glueball import backend
from glueball.errors import WeightsError
from glueball.weights.convert import from_torch
from glueball.weights.formats import load
from glueball.weights.listing import compressed
from glueball.weights.names import Assignment, assign

_FLOATING = ("float16", "bfloat16", "float32", "float64")


@attrs.frozen(kw_only=True)
class ShapeMisfit:
    """A parameter whose shape in the network and in the file differ."""

    name: str
    expected: tuple[int, ...]
    received: tuple[int, ...]


@attrs.frozen(kw_only=True)
class Match:
    """What a file holds for a network, before anything is set."""

    dialect: str
    """How the file names its arrays: "structural", "flat", "exported" or "torch"."""
    arrays: Mapping[str, np.ndarray]
    """Structural name -> the file's array, where the shapes fit."""
    missing: tuple[str, ...]
    """Structural names of parameters that the file does not hold."""
    unexpected: tuple[str, ...]
    """Names in the file that the network does not have."""
    shapes: tuple[ShapeMisfit, ...]
    dtypes: tuple[tuple[str, str, str], ...]
    """(structural name, dtype of the network, dtype of the file)"""


class MisfitError(WeightsError):
    """A weight file does not fit a network. Its attributes hold all that the message lists, name by name."""

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    shapes: tuple[ShapeMisfit, ...] = ()
    dtypes: tuple[tuple[str, str, str], ...] = ()
    """(structural name, dtype of the network, dtype of the file)"""


@attrs.frozen(kw_only=True)
class Cures:
    """What the caller who loads can do about each kind of misfit."""

    missing: str = "allow_missing=True leaves missing parameters as they are"
    unexpected: str = "ignore_extra=True ignores unexpected arrays"
    dtypes: str = "cast_dtype=True converts the file's arrays"


def load_into(
    network: Any,
    path_or_arrays: str | os.PathLike[str] | Mapping[str, np.ndarray],
    *,
    allow_missing: bool = False,
    ignore_extra: bool = False,
    cast_dtype: bool = False,
    source: str | None = None,
) -> Match:
    """Sets the network's parameters from a weight file, or from arrays under any of the names that files use.

    A parameter whose shape is not known yet takes the file's. Nothing is set unless everything fits. ``source`` says
    in errors where the arrays came from.

    Returns:
        What was found, among it the names that were missing or unexpected and allowed to be so.

    Raises:
        WeightsError: the file cannot be read, or does not fit: every missing and unexpected name and every shape and
            dtype that differs is listed in one message, and in the attributes of the error, a MisfitError.
    """
    if isinstance(path_or_arrays, Mapping):
        arrays, source = path_or_arrays, source or "the given arrays"
    else:
        arrays, source = load(path_or_arrays), source or os.fspath(path_or_arrays)
    found = match(network, arrays)
    check(found, source, allow_missing=allow_missing, ignore_extra=ignore_extra, cast_dtype=cast_dtype)
    apply(network, found)
    return found


def match(network: Any, arrays: Mapping[str, np.ndarray]) -> Match:
    """Finds the array for each parameter and compares shapes and dtypes; sets nothing."""
    parameters = backend.current().parameters(network)
    global_names = {name: getattr(parameter, "name", name) for name, parameter in parameters.items()}
    assignment = assign(arrays, global_names, getattr(network, "prefix", "") or "")
    if len(assignment.found) < len(parameters):
        renamed = from_torch(arrays, parameters)
        if len(renamed.found) > len(assignment.found):
            assignment = Assignment(dialect="torch", found=renamed.found, unexpected=renamed.unexpected)

    fitting: dict[str, np.ndarray] = {}
    shapes = []
    dtypes = []
    for name, key in assignment.found.items():
        array = arrays[key]
        shape = parameters[name].shape
        if not _shape_fits(shape, array.shape):
            shapes.append(ShapeMisfit(name=name, expected=tuple(shape), received=array.shape))
            continue
        expected_dtype = _dtype_name(parameters[name].dtype)
        # bfloat16 leaves a file as float32, so that float32 is what fills a bfloat16 parameter.
        if array.dtype.name != expected_dtype and (array.dtype.name, expected_dtype) != ("float32", "bfloat16"):
            dtypes.append((name, expected_dtype, array.dtype.name))
        fitting[name] = array
    # A block that is reachable by two paths has one parameter under two names; either fills it.
    filled = {id(parameters[name]) for name in assignment.found}
    return Match(
        dialect=assignment.dialect,
        arrays=fitting,
        missing=tuple(name for name, parameter in parameters.items() if id(parameter) not in filled),
        unexpected=assignment.unexpected,
        shapes=tuple(shapes),
        dtypes=tuple(dtypes),
    )


def check(
    found: Match,
    source: str,
    *,
    allow_missing: bool = False,
    ignore_extra: bool = False,
    cast_dtype: bool = False,
    cures: Cures | None = None,
) -> None:
    """Raises MisfitError with everything in ``found`` that does not fit and is not allowed."""
    cures = cures or Cures()
    error = MisfitError()
    groups = []
    advice = []
    if found.missing and not allow_missing:
        error.missing = found.missing
        groups.append(_group("missing in the file", {"": found.missing}))
        advice.append(cures.missing)
    if found.unexpected and not ignore_extra:
        error.unexpected = found.unexpected
        groups.append(_group("unexpected in the file", {"": found.unexpected}))
        advice.append(cures.unexpected)
    if found.shapes:
        error.shapes = found.shapes
        alike: dict[str, list[str]] = {}
        for misfit in found.shapes:
            alike.setdefault(f": network {misfit.expected}, file {misfit.received}", []).append(misfit.name)
        groups.append(_group("of another shape", alike))
        advice.insert(0, _cure_for_shapes(found.shapes))
    if found.dtypes and not cast_dtype:
        error.dtypes = found.dtypes
        alike = {}
        for name, expected, received in found.dtypes:
            alike.setdefault(f": network {expected}, file {received}", []).append(name)
        groups.append(_group("of another dtype", alike))
        advice.append(cures.dtypes)
    if not groups:
        return
    if not found.arrays and not found.shapes:
        advice.insert(0, "no name fits at all: the file is of another model; build the model that it was saved from")
    error.args = (
        f"{source} does not fit the network.\n"
        + "\n".join(groups)
        # Several parameters may share one cure.
        + "\nCure: "
        + "; ".join(dict.fromkeys(advice))
        + ".",
    )
    raise error


def is_floating(dtype: tuple[str, str, str]) -> bool:
    """Whether a dtype misfit is between floating types, so that a conversion keeps what the weights mean."""
    return dtype[1] in _FLOATING and dtype[2] in _FLOATING


def apply(network: Any, found: Match) -> None:
    """Sets the parameters that ``found`` has arrays for, in the dtypes that the parameters have."""
    current = backend.current()
    received = {name: dtype for name, dtype, _ in found.dtypes}
    arrays = {
        name: array.astype(received[name]) if received.get(name, "bfloat16") != "bfloat16" else array
        for name, array in found.arrays.items()
    }
    current.set_arrays(network, arrays)


def class_axis(misfits: Sequence[ShapeMisfit]) -> tuple[int, int] | None:
    """(classes of the network, classes of the file), where that is all that the misfits differ in; otherwise None."""
    pairs = {(misfit.expected[0], misfit.received[0]) for misfit in misfits if misfit.expected and misfit.received}
    # Compared as matching does: a layer that waits for its input does not know all of its lengths yet.
    same_rest = all(_shape_fits(misfit.expected[1:], misfit.received[1:]) for misfit in misfits if misfit.expected)
    if len(pairs) != 1 or not same_rest or not all(misfit.expected and misfit.received for misfit in misfits):
        return None
    return pairs.pop()


def _cure_for_shapes(misfits: Sequence[ShapeMisfit]) -> str:
    pair = class_axis(misfits)
    # A table of vectors has a row for each token, not for each class.
    if pair is None or any("embedding" in misfit.name for misfit in misfits):
        return "build the network with the options that the file was saved with"
    expected, received = pair
    return (
        f"the file has {received} classes and the network {expected}: build it with classes={received}, or let "
        f"get_model(name, pretrained=..., classes={expected}) load all but the last layer"
    )


def _group(title: str, alike: Mapping[str, Sequence[str]]) -> str:
    """A heading, and all names: those with one remark behind them together, in as few lines as name all of them."""
    lines = [f"    {pattern}{remark}" for remark, names in alike.items() for pattern in compressed(names)]
    return "\n".join([f"  {sum(map(len, alike.values()))} {title}:", *lines])


def _shape_fits(expected: Sequence[int] | None, received: tuple[int, ...]) -> bool:
    """Whether the shapes agree in all lengths that the network knows yet (unknown ones are 0 or -1)."""
    if expected is None:
        return True
    return len(expected) == len(received) and all(
        known in (length, 0, -1) for known, length in zip(expected, received, strict=True)
    )


def _dtype_name(dtype: Any) -> str:
    try:
        return np.dtype(dtype).name
    except TypeError:
        # torch's dtypes and MXNet's bfloat16 are none of NumPy's.
        return str(dtype).removeprefix("torch.")

"""Models by name: built, initialised, with weights, ready to predict."""

from __future__ import annotations

import numbers
import os
import re
from typing import TYPE_CHECKING, Any

from glueball import catalog
from glueball.catalog.entries import Entry
from glueball.catalog.listing import select, usable_name
from glueball.errors import OptionError
from glueball.named import call_target, check_backend

if TYPE_CHECKING:
    from glueball.backend.torch.block import HybridBlock


def list_models(
    pattern: str | re.Pattern[str] | None = None,
    *,
    task: str | None = None,
    plugin: str | None = None,
    pretrained: bool | str | None = None,
) -> list[str]:
    """Names of the models that the active plugins offer; imports neither a backend nor a model.

    A name that two plugins offer is given as ``plugin/name``, once for each.

    Args:
        pattern: ``"resnet*_v1b"`` matches whole names as shells match file names, ``"resnet"`` is looked for anywhere
            in the name, ``"^resnet(18|34)"`` and compiled patterns are regular expressions. Case does not count.
        task: only models for this task, such as "image_classification".
        plugin: only models of this plugin.
        pretrained: True: only models with published weights; False: only those without; a tag: only with weights of
            this tag.

    Raises:
        OptionError: the pattern cannot be read, no plugin knows the task, or the plugin is not active.
        UnknownNameError: no such plugin is installed.
    """
    current = catalog.current()
    entries = select(current, "model", pattern, task=task, plugin=plugin, pretrained=pretrained)
    return [usable_name(current, entry) for entry in entries]


def get_model(
    name: str, pretrained: bool | str | os.PathLike[str] | None = False, classes: int | None = None, **options: Any
) -> HybridBlock:
    """Builds the model registered as ``name`` or ``plugin/name``, initialised and in inference mode.

    The weights of a model without ``pretrained`` depend on ``glueball.seed`` and on the names of its parameters only:
    they are the same on every backend. Layers whose shapes depend on the input (``Dense`` after a flattening, for one)
    take them from the first forward pass, so that one network serves any picture size; tools that need every shape
    before, such as DistributedDataParallel, need one pass first (docs/dialect.md).

    Args:
        name: one of ``list_models()``, in any case.
        pretrained: True loads the model's default weights, a tag those with this tag (``glueball info NAME`` lists
            them), a path any .params or .safetensors file, whose floating data types are converted to the network's.
            False and None load none.
        classes: how many classes to tell apart. Where the weights have another number, everything but the classifier
            is loaded, and the classifier stays freshly initialised.
        options: further options of the architecture.

    Raises:
        UnknownNameError: no active plugin offers the name; the message gives near names and what to install.
        AmbiguousNameError: several plugins offer it; ask for ``plugin/name``.
        OptionError: ``classes`` is no positive integer, ``pretrained`` is none of the above, or the model has no such
            option.
        BackendError: no backend can be used, or the model does not run on the selected one.
        WeightsError: there are no such weights, or the file does not fit the model.
        DownloadError: the weights are not in the cache and cannot be fetched; the message says which file to put where.
        PluginError: the plugin names an object that is not there or cannot be imported.
    """
    if classes is not None:
        # Counts often come from NumPy, whose integers are no int.
        if isinstance(classes, bool) or not isinstance(classes, numbers.Integral) or classes < 1:
            raise OptionError(f"classes must be a positive integer. Received: {classes!r}")
        classes = int(classes)
    if pretrained is None:
        pretrained = False
    if not isinstance(pretrained, (bool, str, os.PathLike)):
        raise OptionError(
            f"pretrained must be True, False, the tag of weights or the path of a weight file. Received: {pretrained!r}"
        )
    current = catalog.current()
    entry = current.find("model", name)
    check_backend(entry)
    width = classes if classes is not None else _classes_of_weights(entry, pretrained)
    network = call_target(entry, current.resolve(entry), options if width is None else {"classes": width, **options})
    _initialize(network, entry.metadata.get("initializer"))
    if pretrained is not False:
        from glueball import weights

        weights.load_pretrained(network, entry, pretrained, classes)
    return network


def _classes_of_weights(entry: Entry, pretrained: bool | str | os.PathLike[str]) -> int | None:
    """How many classes the asked weights have, where that is not what the model has anyway."""
    if pretrained is True:
        chosen = next(iter(entry.weights.values()), None)
    else:
        chosen = entry.weights.get(pretrained) if isinstance(pretrained, str) else None
    if chosen is None or chosen.classes == entry.metadata.get("classes"):
        return None
    return chosen.classes


def _is_initialized(parameter: Any) -> bool:
    """Whether the parameter has values, or will get them once an input shows its shape."""
    try:
        parameter.data()
    except RuntimeError as error:
        return "Deferred" in type(error).__name__
    return True


def _initialize(network: HybridBlock, initializer: str | None) -> None:
    """Gives first values to the parameters that have none; what the factory has set stays as it is."""
    from glueball import backend

    waiting = [not _is_initialized(parameter) for parameter in backend.current().parameters(network).values()]
    if all(waiting):
        network.initialize(initializer)
    elif any(waiting):
        import warnings

        with warnings.catch_warnings():
            # Gluon warns of every parameter that it leaves alone, and here that is the intention.
            warnings.simplefilter("ignore")
            network.initialize(initializer)

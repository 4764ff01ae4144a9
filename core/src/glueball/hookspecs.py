"""The hooks of a Glueball plugin: signatures and prose.

A plugin is an installed distribution with one entry point in the group ``glueball.plugins``::

    [project.entry-points."glueball.plugins"]
    flowers = "glueball_flowers.plugin"

which names a light module: it imports the standard library and ``glueball.plugin`` only. Each hook is called once, the
first time that anybody asks for anything by name, with a ``register`` bound to the plugin (``glueball.plugin.Register``
says what it takes). Entries hold the target's address, not the target: nothing heavy is imported until a name is used.

A complete distribution to copy lives in ``examples/glueball-plugin-template``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from glueball.plugin import Register

hookspec = pluggy.HookspecMarker("glueball")

# ----------------------------------------------------------------------------------------------------------------------
# What users build with
# ----------------------------------------------------------------------------------------------------------------------


@hookspec
def register_models(register: Register) -> None:
    """Registers models: what ``glueball.get_model`` builds and ``glueball.list_models`` lists.

    The target is called as ``target(classes=..., **options)``, both only where given, and returns an
    ``nn.HybridBlock``. Glueball initialises it, loads weights and puts it into inference mode.

    A complete plugin::

        # glueball_flowers/plugin.py
        from glueball.plugin import Weights, hookimpl


        @hookimpl
        def register_models(register):
            register(
                "flowernet",
                "glueball_flowers.models:flowernet",
                task="image_classification",
                input_shape=(3, 224, 224),
                test_input_shape=(3, 32, 32),
                classes=102,
                weights={
                    "flowers102": Weights(
                        file="flowernet-5f3c2a91.params",
                        sha1="5f3c2a91d0b84f6c9e7a1b2d3c4e5f60718293a4",
                        url=("https://example.org/weights/{file}",),
                        classes=102,
                        metrics={"top1": 97.1},
                    )
                },
                paper="arXiv:1512.03385",
                summary="A small residual network for flowers.",
            )
    """


@hookspec
def register_datasets(register: Register) -> None:
    """Registers data sets: what ``glueball.get_dataset`` opens and ``glueball.list_datasets`` lists.

    The target is called with the caller's keywords and returns a ``glueball.data.Dataset``, whose samples are NumPy
    arrays and plain Python values. It knows no backend.

    A complete plugin::

        # glueball_flowers/plugin.py
        from glueball.plugin import hookimpl


        @hookimpl
        def register_datasets(register):
            register("flowers102", "glueball_flowers.datasets:Flowers102", summary="8,189 pictures of 102 flowers.")
    """


@hookspec
def register_transforms(register: Register) -> None:
    """Registers transforms: what ``glueball.get_transform`` builds and ``glueball.list_transforms`` lists.

    The target is called with the caller's keywords and returns a callable on samples, ``transform(image)``, or
    ``transform(image, random)`` with a ``numpy.random.Generator`` where its attribute ``is_random`` is True.

    A complete plugin::

        # glueball_flowers/plugin.py
        from glueball.plugin import hookimpl


        @hookimpl
        def register_transforms(register):
            register("petal_jitter", "glueball_flowers.transforms:PetalJitter", summary="Moves hues as petals vary.")
    """


@hookspec
def register_losses(register: Register) -> None:
    """Registers losses: what ``glueball.get_loss`` builds and ``glueball.list_losses`` lists.

    The target is called with the caller's keywords and returns an ``nn.HybridBlock`` that maps predictions and labels
    to one loss per sample.

    A complete plugin::

        # glueball_flowers/plugin.py
        from glueball.plugin import hookimpl


        @hookimpl
        def register_losses(register):
            register("petal_loss", "glueball_flowers.losses:PetalLoss", paper="arXiv:1708.02002")
    """


@hookspec
def register_metrics(register: Register) -> None:
    """Registers metrics: what ``glueball.get_metric`` builds and ``glueball.list_metrics`` lists.

    The target is called with the caller's keywords and returns an object with ``reset()``, ``update(labels,
    predictions)`` on NumPy arrays, and ``get()``, which returns names and values.

    A complete plugin::

        # glueball_flowers/plugin.py
        from glueball.plugin import hookimpl


        @hookimpl
        def register_metrics(register):
            register("per_genus_accuracy", "glueball_flowers.metrics:PerGenusAccuracy", summary="Accuracy by genus.")
    """


# ----------------------------------------------------------------------------------------------------------------------
# What the engine runs
# ----------------------------------------------------------------------------------------------------------------------


@hookspec
def register_tasks(register: Register) -> None:
    """Registers tasks: what ties a family of models to the training engine (``glueball.engine``).

    The target is a class of tasks; its name here is what models and recipes give as ``task``.

    A complete plugin::

        # glueball_flowers/plugin.py
        from glueball.plugin import hookimpl


        @hookimpl
        def register_tasks(register):
            register("flower_dating", "glueball_flowers.task:FlowerDating", summary="When a flower was picked.")
    """


@hookspec
def register_recipes(register: Register) -> None:
    """Registers recipes: what ``glueball train NAME`` runs and ``glueball list recipes`` lists.

    The target is called without arguments and returns a recipe, a frozen object that names model, data, transforms,
    loss, metrics, optimiser and schedule.

    A complete plugin::

        # glueball_flowers/plugin.py
        from glueball.plugin import hookimpl


        @hookimpl
        def register_recipes(register):
            register(
                "flowers102",
                "glueball_flowers.recipes:flowers102",
                task="image_classification",
                summary="flowernet on Flowers-102 in 30 epochs.",
            )
    """

"""The training engine that all families share: recipes, tasks, the trainer, checkpoints and what a run leaves behind.

Nothing here knows a family or a backend. A family subclasses ``Task``; the backend gives the training step.
"""

from __future__ import annotations

from glueball.engine.cross_validation import CrossValidationResult, cross_validate
from glueball.engine.load import load
from glueball.engine.recipe import (
    Component,
    DataSpec,
    DistillationSpec,
    ModelSpec,
    Recipe,
    TransformSpec,
)
from glueball.engine.schedules import Schedule, ScheduleSpec
from glueball.engine.task import Task
from glueball.engine.trainer import Trainer

__all__ = [
    "Component",
    "CrossValidationResult",
    "DataSpec",
    "DistillationSpec",
    "ModelSpec",
    "Recipe",
    "Schedule",
    "ScheduleSpec",
    "Task",
    "Trainer",
    "TransformSpec",
    "cross_validate",
    "load",
]

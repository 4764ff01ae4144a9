"""Where a run stands: plain numbers and lists, because a checkpoint keeps all of it as JSON."""

from __future__ import annotations

from typing import Any

import attrs


@attrs.define(kw_only=True)
class Progress:
    """The position of a run and what it has found so far."""

    epoch: int = 0
    """Finished epochs: the index of the running one."""
    batch: int = 0
    """Batches of the running epoch that are done."""
    step: int = 0
    """Updates of the weights so far: the argument of the schedule."""
    samples: int = 0
    """Training samples so far."""
    seconds: float = 0.0
    """Time spent on training and validation, over all resumptions."""
    loader: Any = None
    """The state of the training loader after ``batch`` batches; None at the start of an epoch."""
    best: float | None = None
    """Best value of the monitored metric."""
    best_loss: float | None = None
    """The validation loss then, where one is measured: of equal metrics the one with less loss is better."""
    best_epoch: int | None = None
    without_gain: int = 0
    """Validations since the best one."""
    bad_batches: list[list[int]] = attrs.field(factory=list)
    """(epoch, batch) of every batch that is skipped because its loss was not finite."""
    skipped: int = 0
    """Training samples left out as damaged, over all finished passes through the data; each counts in every epoch."""
    micro_batches: int = 1
    """In how many parts a batch is computed, since memory ran out."""
    history: list[dict[str, Any]] = attrs.field(factory=list)
    """One row for each finished epoch: what ``curves.png`` shows."""
    ended: str | None = None
    """Why the run is over; None while it goes on."""

    def to_dict(self) -> dict[str, Any]:
        """In terms that JSON knows."""
        return attrs.asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Progress:
        """The inverse of ``to_dict``."""
        return cls(**data)

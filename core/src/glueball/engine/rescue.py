"""What can be saved of a run whose folder has vanished: a folder beside it, from which the run can go on.

Checkpoints, weights and log went with the old folder; what is trained is still in memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from glueball.engine.checkpoint import Checkpoint, CheckpointFolder
from glueball.engine.run_folder import RunFolder
from glueball.errors import GlueballError

_MAX_NAMES = 100


def rescue(lost: RunFolder, checkpoint: Checkpoint, recipe: Mapping[str, Any], *, epoch: int, step: int) -> Path:
    """Writes ``checkpoint`` and the recipe into a new run folder beside the lost one.

    The best weights are lost, so that the best epoch is sought anew among those to come.

    Returns:
        The new folder.

    Raises:
        OSError, GlueballError: nothing could be written there either.
    """
    folder = RunFolder(_free_name(lost.path))
    folder.open(resume=False, overwrite=False)
    try:
        progress = {**checkpoint.state["progress"], "best": None, "best_loss": None, "best_epoch": None}
        state = {**checkpoint.state, "progress": progress, "files": {"log": 0, "events": 0}}
        folder.write_json(folder.recipe, recipe)
        CheckpointFolder(folder.checkpoints).save(attrs.evolve(checkpoint, state=state), epoch=epoch, step=step)
    finally:
        folder.close()
    return folder.path


def attempt(lost: RunFolder, checkpoint: Checkpoint, recipe: Mapping[str, Any], *, epoch: int, step: int) -> str:
    """``rescue``, and what came of it as a sentence."""
    try:
        path = rescue(lost, checkpoint, recipe, epoch=epoch, step=step)
    except (OSError, GlueballError) as error:
        return f"What is trained so far could not be saved beside it either: {error}"
    return (
        f"What is trained so far is saved in {path}, without the best weights and the log of before: go on with "
        f"--resume --out {path}."
    )


def _free_name(path: Path) -> Path:
    absolute = path.absolute()
    # A whole disk that was unmounted: its folder is not made anew, where the files would hide below the next mount.
    if not absolute.parent.is_dir():
        raise FileNotFoundError(2, "No such file or directory", str(absolute.parent))
    for number in range(1, _MAX_NAMES):
        candidate = path.with_name(f"{absolute.name}.rescued" + (f"-{number}" if number > 1 else ""))
        if not candidate.exists():
            return candidate
    raise FileExistsError(17, "File exists", str(candidate))

"""A user's script, as torchrun runs it: the Python interface in several processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import processes_jobs

from glueball.engine import Trainer
from glueball.testing import isolated_catalog

if __name__ == "__main__":
    out = Path(sys.argv[1])
    with isolated_catalog({"processes": processes_jobs.ProcessesPlugin()}):
        recipe = processes_jobs.recipe("points", epochs=1)
        trainer = Trainer(recipe, out / "run", quiet=True, compile=False)
        result = trainer.fit()
        measured = trainer.evaluate("validation")
        answers = trainer.predict(processes_jobs.Points(count=4).fetch(0)[0][None])
    content = {"metrics": dict(result.metrics), "measured": measured, "answers": list(answers.shape)}
    (out / f"said-{trainer.rank}.json").write_text(json.dumps(content))

"""Long-lived helper processes of the sweep: one JSON request a line on stdin, one JSON answer a line on stdout.

Importing MXNet with GluonCV takes seconds, and no environment holds all the libraries: each side runs in an interpreter
of its own and serves one model after another.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping
from typing import Any

# Libraries print to stdout as they please; only lines with this mark are answers.
_MARK = "@answer "


def serve(handle: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answers requests until stdin ends; an exception becomes the answer's "error"."""
    for line in sys.stdin:
        try:
            answer = handle(json.loads(line))
        except Exception:
            answer = {"error": traceback.format_exc()}
        # Blocks and their parameters refer to each other: without this, networks pile up.
        gc.collect()
        print(_MARK + json.dumps(answer), flush=True)


class Worker:
    """A process that runs ``script`` and serves requests."""

    def __init__(self, python: str, script: str, environment: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [python, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one request; raises RuntimeError with the other side's traceback."""
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            if line.startswith(_MARK):
                answer = json.loads(line[len(_MARK) :])
                if "error" in answer:
                    raise RuntimeError(answer["error"])
                return answer
        raise RuntimeError(f"{process.args} ended with status {process.wait()} without an answer.")

    def close(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(timeout=60)
        if self._process.stdout is not None:
            self._process.stdout.close()

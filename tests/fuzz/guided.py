"""The same targets, guided by coverage: ``python tests/fuzz/guided.py params -runs=100000`` (needs atheris).

atheris changes inputs so that they reach new lines of the reader. It finds what blind damage needs long for, and is
slower for each input; unlike ``run.py`` it depends on its own history, so that a failing input is kept as a file.
"""

from __future__ import annotations

import os
import struct
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

with atheris.instrument_imports(include=["glueball", "glueball_cv_classification", "glueball_nlp_embedding_lm"]):
    import harness
    import run

    # Imports the readers, so that they are instrumented too.
    run.all_targets()


def packed(parts: tuple[bytes, ...]) -> bytes:
    """All parts of an input as one."""
    return b"".join(struct.pack("<I", len(part)) + part for part in parts[:-1]) + parts[-1]


def unpacked(data: bytes, count: int) -> tuple[bytes, ...]:
    """The inverse of ``packed``, for any bytes."""
    parts, at = [], 0
    for _ in range(count - 1):
        size = min(int.from_bytes(data[at : at + 4], "little"), len(data))
        parts.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    return (*parts, data[at:])


def main() -> None:
    """The command: a target, then options of libFuzzer."""
    name, *options = sys.argv[1:]
    target = run.build(name)
    count = len(target.mutation.corpus[0])
    harness.quiet_warnings()
    harness.arm()
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=harness.fast_folder()) as place:
        corpus, files = Path(place) / "corpus", Path(place) / "files"
        corpus.mkdir()
        files.mkdir()
        for number, parts in enumerate(target.mutation.corpus):
            (corpus / str(number)).write_bytes(packed(parts))

        def test(data: bytes) -> None:
            _, problem = harness.run_one(target, unpacked(data, count), files)
            if problem:
                raise RuntimeError(problem)

        atheris.Setup([sys.argv[0], str(corpus), "-max_len=65536", "-timeout=60", *options], test)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

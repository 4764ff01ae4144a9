"""What an installation brings: for each choice of families, the distributions and their size on the disk.

    python benchmarks/installed.py [--output benchmarks/results/installed.json]

Each choice gets a fresh virtual environment, into which pip installs it as a user would, without a backend: that one
is the user's own choice and larger than all the rest. Sizes are those of the files that pip recorded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import report
from tqdm import tqdm

ROOT = Path(__file__).resolve().parents[1]
CHOICES = {
    "core alone": ["core"],
    "cv_classification": ["core", "plugins/cv_classification"],
    "nlp_embedding_lm": ["core", "plugins/nlp_embedding_lm"],
    "both": ["core", "plugins/cv_classification", "plugins/nlp_embedding_lm"],
}
PICTURES = ("pillow", "opencv-python", "opencv-python-headless", "simplejpeg")
TEXTS = ("sentencepiece", "sacremoses", "jieba")

_MEASURE = """
import importlib.metadata as metadata, json
sizes = {}
for distribution in metadata.distributions():
    files = {file.locate() for file in distribution.files or ()}
    sizes[distribution.metadata["Name"].lower()] = sum(file.stat().st_size for file in files if file.is_file())
print(json.dumps(sizes))
"""


def sizes(sources: list[str]) -> dict[str, int]:
    """Bytes of every distribution that an installation of ``sources`` brings into an empty environment."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder, "bin", "python"))
        before = set(json.loads(subprocess.check_output([python, "-c", _MEASURE], text=True)))
        pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-compile"]
        subprocess.run([*pip, *(str(ROOT / source) for source in sources)], check=True)
        found: dict[str, int] = json.loads(subprocess.check_output([python, "-c", _MEASURE], text=True))
    return {name: size for name, size in sorted(found.items()) if name not in before}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results/installed.json"))
    arguments = parser.parse_args()
    found = {name: sizes(sources) for name, sources in tqdm(CHOICES.items(), desc="environments", file=sys.stderr)}
    rows = []
    for name, distributions in found.items():
        ours = sum(size for key, size in distributions.items() if key.startswith("glueball"))
        others = [key for key in distributions if not key.startswith("glueball")]
        rows.append([name, f"{ours / 1e6:.1f}", f"{sum(distributions.values()) / 1e6:.1f}", ", ".join(others)])
    foreign = len(set(found["nlp_embedding_lm"]) & set(PICTURES)) + len(set(found["cv_classification"]) & set(TEXTS))
    goals = [report.Goal("packages of the other kind that a family alone brings", foreign, 0, more_is_better=False)]
    lines = report.table(["installed", "Glueball, MB", "in all, MB", "other distributions"], rows)
    report.finish(
        arguments.output,
        title="What an installation brings",
        script="benchmarks/installed.py",
        where=report.machine(),
        document={"bytes": found},
        lines=lines,
        goals=goals,
    )


if __name__ == "__main__":
    main()

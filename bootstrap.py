#!/usr/bin/env python3
"""Sets up everything on a machine that has only Python, then runs the main job or the tests.

    python3 bootstrap.py quickstart     train a small ResNet on real digits and look at what it predicts
    python3 bootstrap.py test           every test of the default matrix

Standard library only. Packages go into virtual environments beside this file, never into the system's Python, so it
works for an unprivileged user and where system-wide installs are refused.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent
SUPPORTED = [(3, 10), (3, 11), (3, 12), (3, 13)]
# MXNet 1.9.1 needs NumPy 1, whose last release has wheels up to this Python.
NEWEST_FOR_MXNET = (3, 12)
# What `test` runs: both backends with everything installed, the built wheels, a stranger's plugin, lint.
# `tox list` shows the whole matrix, among it one cell for each plugin, backend and Python.
DEFAULT_MATRIX = ["lint", "all-mxnet", "all-torch", "wheel-mxnet", "template-mxnet"]


def say(text: str) -> None:
    print(f"bootstrap: {text}", flush=True)


def run(command: Sequence[str | os.PathLike[str]], **options: object) -> None:
    """Runs a command; its failure is ours, with its exit status."""
    try:
        subprocess.run([os.fspath(part) for part in command], check=True, cwd=ROOT, **options)  # type: ignore[call-overload]
    except subprocess.CalledProcessError as error:
        say(f"failed with status {error.returncode}: {' '.join(os.fspath(part) for part in command)}")
        raise SystemExit(error.returncode) from None


def supported_python(newest: tuple[int, int] = SUPPORTED[-1]) -> str:
    """This interpreter if it is supported, otherwise the newest supported one on the PATH."""
    usable = [version for version in SUPPORTED if version <= newest]
    if sys.version_info[:2] in usable:
        return sys.executable
    for major, minor in reversed(usable):
        found = shutil.which(f"python{major}.{minor}")
        # A launcher of a version manager can be on the PATH without the version behind it.
        if found and subprocess.run([found, "-c", ""], capture_output=True).returncode == 0:
            say(f"this is Python {platform.python_version()}; using {found}")
            return found
    names = ", ".join(f"{major}.{minor}" for major, minor in usable)
    raise SystemExit(
        f"bootstrap: this is Python {platform.python_version()}, supported are {names}, and none of them is on the "
        "PATH. Install one and run this command with it."
    )


def environment(folder: Path, python: str) -> Path:
    """Makes the virtual environment if it is not there or not whole, and returns its Python."""
    inside = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    if inside.exists() and subprocess.run([inside, "-m", "pip", "--version"], capture_output=True).returncode == 0:
        return inside
    if folder.exists():
        shutil.rmtree(folder)
    say(f"making the environment {folder.name}")
    made = subprocess.run([python, "-m", "venv", folder], capture_output=True, text=True)
    if made.returncode == 0:
        return inside
    # Debian splits venv off Python; virtualenv needs nothing of it, and --target touches no system folder.
    shutil.rmtree(folder, ignore_errors=True)
    tools = ROOT / "build" / "virtualenv"
    fetched = subprocess.run([python, "-m", "pip", "install", "-q", "--target", tools, "virtualenv"])
    if fetched.returncode == 0:
        run([python, "-m", "virtualenv", "-q", folder], env={**os.environ, "PYTHONPATH": str(tools)})
        return inside
    raise SystemExit(
        f"bootstrap: {python} has neither venv nor pip. Expected one of them; it said: "
        f"{(made.stderr or made.stdout).strip()[-300:]} Cure: install your system's python3-venv package."
    )


def mxnet_runs_here() -> bool:
    """Whether MXNet 1.9.1 has a wheel for this system, with a Python that is at hand."""
    if not (sys.platform == "linux" and platform.machine() == "x86_64"):
        return False
    try:
        supported_python(NEWEST_FOR_MXNET)
    except SystemExit:
        return False
    return True


def quickstart(arguments: argparse.Namespace) -> None:
    begin = time.monotonic()
    backend = arguments.backend or ("mxnet" if mxnet_runs_here() else "torch")
    python = environment(
        ROOT / f".venv-{backend}", supported_python(NEWEST_FOR_MXNET if backend == "mxnet" else SUPPORTED[-1])
    )
    say(f"installing Glueball with the {backend} backend")
    pip: list[str | os.PathLike[str]] = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    run([*pip, f"./core[{backend},plots]", "./plugins/cv_classification[digits]", "-c", f"constraints/{backend}.txt"])
    say(f"installed after {time.monotonic() - begin:.0f} s")
    glueball: list[str | os.PathLike[str]] = [python, "-m", "glueball"]
    variables = {**os.environ, "GLUEBALL_BACKEND": backend}
    run([*glueball, "train", "digits", "--out", arguments.out, "--overwrite"], env=variables)
    say(f"done in {time.monotonic() - begin:.0f} s; look at {arguments.out}/predictions.png and curves.png")


def test(arguments: argparse.Namespace) -> None:
    python = environment(ROOT / ".venv-tox", supported_python(NEWEST_FOR_MXNET))
    run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "tox>=4.20"])
    run([python, "-m", "tox", "run", "-e", ",".join(arguments.environments or DEFAULT_MATRIX)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True, metavar="quickstart | test")
    first = commands.add_parser("quickstart", help="install, then train, evaluate and draw on real digits")
    first.add_argument("--backend", choices=("mxnet", "torch"), help="default: mxnet where it runs, else torch")
    first.add_argument("--out", default="runs/digits", help="folder of the run (default: %(default)s)")
    first.set_defaults(call=quickstart)
    second = commands.add_parser("test", help="install, then run the tests")
    second.add_argument("environments", nargs="*", help="tox environments (default: " + " ".join(DEFAULT_MATRIX) + ")")
    second.set_defaults(call=test)
    arguments = parser.parse_args()
    arguments.call(arguments)


if __name__ == "__main__":
    main()

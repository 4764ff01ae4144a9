"""horovodrun in a process that can import MXNet, which horovodrun does in order to ask what was built.

``python -m glueball.backend.mxnet.horovodrun`` takes what horovodrun takes. horovodrun itself imports mxnet as it is,
which fails with a NumPy from 1.24 on, and then says that Gloo was not built.
"""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    """Runs horovodrun with this program's arguments."""
    from glueball import backend

    backend.use("mxnet")
    launch = importlib.import_module("horovod.runner.launch")
    sys.argv[0] = "horovodrun"
    launch.run_commandline()


# Horovod starts Python processes that import this file again.
if __name__ == "__main__":
    main()

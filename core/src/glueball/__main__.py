"""``python -m glueball``: the command line where the script ``glueball`` is not on the PATH."""

from __future__ import annotations

import sys

from glueball.cli import main

if __name__ == "__main__":
    sys.exit(main())

"""What all tests need."""

from __future__ import annotations

import signal

# Shells start jobs in the background with Ctrl-C ignored, and every child would inherit that; tests send it on purpose.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

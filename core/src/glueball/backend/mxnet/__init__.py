"""The dialect on Apache MXNet 1.9.1: thin, because MXNet already speaks it.

Nothing here imports MXNet before the backend is selected; ``compat`` is the only door through which it comes in.
"""

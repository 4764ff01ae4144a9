"""The layers of the dialect, one kind a file."""

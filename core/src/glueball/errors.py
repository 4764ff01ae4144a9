"""Every error that Glueball raises on purpose.

One root, so that a program can catch what Glueball says about its input apart from bugs. Each class also inherits the
built-in exception that a caller would expect, so that code which knows nothing of Glueball handles it rightly.
A message says what happened, what was expected, what was received, and the cure.
"""

from __future__ import annotations


class GlueballError(Exception):
    """The root of all errors below."""


class UnknownNameError(GlueballError, LookupError):
    """No plugin offers this name, or no such option exists."""

    # LookupError subclasses may print their argument as repr; ours are sentences.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class AmbiguousNameError(GlueballError, LookupError):
    """Two plugins offer the same name; only ``plugin/name`` can tell them apart."""


class PluginError(GlueballError, RuntimeError):
    """A plugin could not be imported, registered or resolved."""


class BackendError(GlueballError, RuntimeError):
    """No backend, a broken one, or one that cannot run what was asked."""


class OptionError(GlueballError, ValueError):
    """An option has a value that cannot be used."""


class DataError(GlueballError, ValueError):
    """Data on disk or in memory is not what the format or the data set promises."""


class WeightsError(GlueballError, ValueError):
    """A weight file is damaged, unknown, or does not fit the network."""


class CheckpointError(GlueballError, RuntimeError):
    """A checkpoint is damaged or belongs to another run."""


class DownloadError(GlueballError, OSError):
    """A file could not be fetched or does not have the expected hash."""


class TrainingError(GlueballError, RuntimeError):
    """Training cannot go on: the loss is not finite, memory ran out, a worker died."""


class LostProcessError(TrainingError):
    """Another process of the run has ended, so that this one cannot go on; the cause is there and not here."""

"""One seed for everything that is random in a process."""

from __future__ import annotations

import operator

from glueball.errors import OptionError


def seed(value: int) -> None:
    """Seeds the initialisers of networks and the selected backend's generators (dropout and the like).

    After it the same calls give the same numbers; networks start from the same weights on every backend. Data loaders
    and recipes have seeds of their own.

    Raises:
        OptionError: ``value`` is no integer from 0 to 2**63 - 1.
        BackendError: the selected backend cannot be used.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or not 0 <= number < 2**63:
        raise OptionError(f"A seed must be an integer from 0 to 2**63 - 1. Received: {value!r}")

    from glueball import backend, init

    init.set_seed(number)
    if backend.installed():
        backend.current().seed(number)

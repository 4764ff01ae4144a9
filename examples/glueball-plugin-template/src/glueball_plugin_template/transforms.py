"""A random transform: it says so, and takes the generator that the loader derives for each sample."""

from __future__ import annotations

import numpy as np

from glueball.errors import OptionError


class ChannelShuffle:
    """Puts the channels of a picture (height, width, channels) into another order with the given probability.

    Raises:
        OptionError: ``probability`` is not from 0 to 1.
    """

    is_random = True
    """Tells the loader to pass ``random``: the same seed gives the same pictures, whatever the number of workers."""

    def __init__(self, probability: float = 0.5) -> None:
        if not 0 <= probability <= 1:
            raise OptionError(f"probability must be from 0 to 1. Received: {probability!r}")
        self.probability = probability

    def __call__(self, image: np.ndarray, random: np.random.Generator | None = None) -> np.ndarray:
        generator = np.random.default_rng() if random is None else random
        if generator.random() >= self.probability:
            return image
        return image[..., generator.permutation(image.shape[-1])]

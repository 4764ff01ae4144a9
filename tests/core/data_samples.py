"""Datasets that the tests of the loader send to worker processes, which import this module to find them."""

from __future__ import annotations

import os
import sys
import threading
import time

import numpy as np

from glueball.data import Dataset
from glueball.errors import DataError

HEAVY = ("torch", "mxnet")


class Noise:
    """Adds a random number: shows which stream a sample draws from."""

    is_random = True

    def __call__(self, values, random=None):
        return (values + random.random(values.shape)).astype(np.float32)


def scale(batch, random):
    """A batch transform: shows which stream a batch draws from."""
    return batch[0] * np.float32(random.random()), batch[1]


class Troubled(Dataset):
    """Numbers, with trouble at index 5: raises, dies, hangs, or is a mistake in the program."""

    def __init__(self, length, trouble=None, at=(5,)):
        self.length, self.trouble, self.at = length, trouble, at

    def __len__(self):
        return self.length

    def describe(self, index):
        return f"folder/{index}.jpg"

    def __getitem__(self, index):
        if index in self.at:
            if self.trouble == "corrupt":
                raise DataError("the picture is cut short.")
            if self.trouble == "mistake":
                raise TypeError("a mistake")
            if self.trouble == "die":
                os._exit(7)
            if self.trouble == "hang":
                time.sleep(600)
        return np.full(3, index, np.int64)


class Surroundings(Dataset):
    """Samples that tell where they were made."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        print("printed by a sample")  # must not end up in the pipe
        return np.array([os.getpid(), threading.get_ident(), any(name in sys.modules for name in HEAVY)], np.int64)


class Ragged(Dataset):
    """Batches of very different sizes, so that shared memory has to grow."""

    is_random = True

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return self.fetch(index)

    def fetch(self, index, random=None):
        return np.full(index * index, index, np.float64), f"name {index}"

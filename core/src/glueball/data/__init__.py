"""Data: NumPy in, NumPy out, no backend (``glueball.data``).

Datasets and their views, samplers, batchify functions, the DataLoader, record files and pictures. Pillow, simplejpeg
and OpenCV are imported when a picture is decoded, not before.
"""

from __future__ import annotations

from glueball.data import batchify, images, streams
from glueball.data.dataloader import DataLoader
from glueball.data.dataset import ArrayDataset, Dataset, SimpleDataset
from glueball.data.samplers import (
    BatchSampler,
    FilterSampler,
    IntervalSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SplitSampler,
)

__all__ = [
    "ArrayDataset",
    "BatchSampler",
    "DataLoader",
    "Dataset",
    "FilterSampler",
    "IntervalSampler",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "SimpleDataset",
    "SplitSampler",
    "batchify",
    "images",
    "streams",
]

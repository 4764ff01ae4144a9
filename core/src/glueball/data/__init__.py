"""Data: NumPy in, NumPy out, no backend (``glueball.data``).

Datasets and their views, samplers, batchify functions, the DataLoader, record files and pictures. Pillow, simplejpeg
and OpenCV are imported when a picture is decoded, not before.
"""

from __future__ import annotations

from glueball.data import batchify, images, streams
from glueball.data.buckets import BucketScheme, ConstWidthBucket, ExpWidthBucket, FixedBucketSampler, LinearWidthBucket
from glueball.data.budget import TokenBudgetSampler
from glueball.data.dataloader import DataLoader
from glueball.data.dataset import ArrayDataset, Dataset, SimpleDataset
from glueball.data.folders import ImageFileDataset, ImageFolderDataset, ImageListDataset
from glueball.data.idx import read_idx, write_idx
from glueball.data.lengths import padding_share
from glueball.data.recordfile import ImageRecordDataset, RecordFile, RecordFileDataset, RecordWriter
from glueball.data.samplers import (
    BatchSampler,
    FilterSampler,
    IntervalSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SplitSampler,
)
from glueball.data.sorting import SortedBucketSampler, SortedSampler

__all__ = [
    "ArrayDataset",
    "BatchSampler",
    "BucketScheme",
    "ConstWidthBucket",
    "DataLoader",
    "Dataset",
    "ExpWidthBucket",
    "FilterSampler",
    "FixedBucketSampler",
    "ImageFileDataset",
    "ImageFolderDataset",
    "ImageListDataset",
    "ImageRecordDataset",
    "IntervalSampler",
    "LinearWidthBucket",
    "RandomSampler",
    "RecordFile",
    "RecordFileDataset",
    "RecordWriter",
    "Sampler",
    "SequentialSampler",
    "SimpleDataset",
    "SortedBucketSampler",
    "SortedSampler",
    "SplitSampler",
    "TokenBudgetSampler",
    "batchify",
    "images",
    "padding_share",
    "read_idx",
    "streams",
    "write_idx",
]

"""Data sets for image classification, one family a file.

Every one of them is a map-style ``glueball.data.Dataset`` whose samples are ``(image, label)``: a uint8 array of shape
(height, width, 3) in RGB and an int. Each has ``classes``, the class names in the order of the labels, ``labels()``,
all labels at once without touching a picture, and ``summary``, a sentence that says where the pictures came from and
how they were split.
"""

from __future__ import annotations

from .cifar import CIFAR10, CIFAR100
from .common import ArrayImageDataset, ImageClassificationDataset
from .digits import Digits
from .folder import ImageFolder
from .imagenet import ImageNet
from .mnist import MNIST, FashionMNIST
from .record import ImageRecord

__all__ = [
    "CIFAR10",
    "CIFAR100",
    "MNIST",
    "ArrayImageDataset",
    "Digits",
    "FashionMNIST",
    "ImageClassificationDataset",
    "ImageFolder",
    "ImageNet",
    "ImageRecord",
]

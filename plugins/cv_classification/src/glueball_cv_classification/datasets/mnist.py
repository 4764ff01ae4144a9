"""MNIST and its drop-in successors in the IDX format."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

import numpy as np

from glueball.data.idx import read_idx
from glueball.errors import DataError

from .common import (
    ArrayImageDataset,
    Source,
    checked_channels,
    checked_labels,
    dataset_folders,
    download_folder,
    fetch,
    is_train_split,
    missing,
    with_channels,
)


class MNIST(ArrayImageDataset):
    """70,000 handwritten digits of 28x28 pixels.

    Args:
        split: "train" (60,000) or "test" (10,000).
        root: the folder of the four IDX files (.gz or not), or the one above it; by default ``$GLUEBALL_DATA/mnist``,
            then the cache.
        channels: 3 for RGB with equal channels, 1 for grey.
        download: fetch what is missing.

    Raises:
        DataError: the files are damaged, or missing while ``download`` is off.
        DownloadError: the files are missing and could not be fetched.

    Source: LeCun et al., "Gradient-based learning applied to document recognition", 1998.
    """

    title: ClassVar[str] = "MNIST"
    folder: ClassVar[str] = "mnist"
    names: ClassVar[tuple[str, ...]] = tuple("0123456789")
    packaged: ClassVar[tuple[str, ...]] = ()
    hint: ClassVar[str] = ""
    mirror: ClassVar[str] = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset/mnist/"
    # Of the compressed files on the mirror; what a distribution packs anew has another hash and is not checked.
    hashes: ClassVar[dict[str, str]] = {
        "train-images-idx3-ubyte.gz": "6c95f4b05d2bf285e1bfb0e7960c31bd3b3f8a7d",
        "train-labels-idx1-ubyte.gz": "2a80914081dc54586dbdf242f9805a6b8d2a15fc",
        "t10k-images-idx3-ubyte.gz": "c3a25af1f52dad7f726cce8cacb138654b760d48",
        "t10k-labels-idx1-ubyte.gz": "763e7fa3757d93b0cdec073cef058b2004252c17",
    }

    def __init__(
        self,
        split: str = "train",
        root: str | os.PathLike[str] | None = None,
        *,
        channels: int = 3,
        download: bool = True,
    ) -> None:
        part = "train" if is_train_split(split) else "t10k"
        images_file, labels_file = self._files(part, root, download)
        grey, labels = read_idx(images_file), read_idx(labels_file)
        if grey.ndim != 3 or labels.ndim != 1 or grey.dtype != np.uint8:
            raise DataError(
                f"{images_file} and {labels_file} are no pictures with labels. Expected bytes of 3 dimensions, and "
                f"labels of 1. Received: {grey.dtype} of shape {grey.shape}, and labels of shape {labels.shape}."
            )
        super().__init__(
            with_channels(grey, checked_channels(channels)),
            checked_labels(labels, len(grey), len(self.names)),
            self.names,
            f"{'training' if part == 'train' else 'test'} part in {images_file.parent}",
        )

    @classmethod
    def _files(cls, part: str, root: str | os.PathLike[str] | None, download: bool) -> list[Path]:
        wanted = [f"{part}-images-idx3-ubyte.gz", f"{part}-labels-idx1-ubyte.gz"]
        folders = dataset_folders(cls.folder, root, cls.packaged)
        for folder in folders:
            # Other loaders keep what they unpacked in "raw".
            for place in (folder, folder / "raw"):
                found = [_plain_or_compressed(place, name) for name in wanted]
                if None not in found:
                    return [path for path in found if path is not None]
        sources = [Source(name, cls.mirror + name, cls.hashes[name]) for name in wanted]
        target = folders[0] if root is not None else download_folder(cls.folder)
        if not download:
            raise DataError(missing(cls.title, sources, target, folders, cls.hint))
        return fetch(cls.title, sources, target, folders, cls.hint)


def _plain_or_compressed(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / name.removesuffix(".gz")) if path.is_file()), None)


class FashionMNIST(MNIST):
    """70,000 articles of clothing of 28x28 pixels, 10 classes (arXiv:1708.07747).

    Takes MNIST's arguments; the folder is ``fashion-mnist``. Debian's package ``dataset-fashion-mnist`` is found where
    it is installed.
    """

    title = "Fashion-MNIST"
    folder = "fashion-mnist"
    names = (
        "T-shirt/top",
        "trouser",
        "pullover",
        "dress",
        "coat",
        "sandal",
        "shirt",
        "sneaker",
        "bag",
        "ankle boot",
    )
    packaged = ("/usr/share/datasets/fashion-mnist", "/usr/share/dataset-fashion-mnist")
    hint = "On Debian and Ubuntu the package dataset-fashion-mnist brings them (apt install dataset-fashion-mnist)."
    mirror = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset/fashion-mnist/"
    hashes = {  # noqa: RUF012 - annotated as ClassVar where it is declared
        "train-images-idx3-ubyte.gz": "0cf37b0d40ed5169c6b3aba31069a9770ac9043d",
        "train-labels-idx1-ubyte.gz": "236021d52f1e40852b06a4c3008d8de8aef1e40b",
        "t10k-images-idx3-ubyte.gz": "626ed6a7c06dd17c0eec72fa3be1740f146a2863",
        "t10k-labels-idx1-ubyte.gz": "17f9ab60e7257a1620f4ad76bbbaf857c3920701",
    }

"""ImageNet (ILSVRC 2012) as folders of synsets."""

from __future__ import annotations

import os
import re
from pathlib import Path

from glueball.errors import DataError

from .common import dataset_folders, is_train_split
from .folder import ImageFolder

SYNSET = re.compile(r"n\d{8}")
NAME_FILES = ("LOC_synset_mapping.txt", "synset_words.txt", "synsets.txt")


class ImageNet(ImageFolder):
    """1.28 million pictures in 1,000 classes, in ``train/<synset>/*.JPEG`` and ``val/<synset>/*.JPEG``.

    The classes are the folders, sorted by synset id, which is the order that official weights predict in. ``synsets``
    holds the ids; ``classes`` holds words where ``LOC_synset_mapping.txt`` or ``synset_words.txt`` (a line
    ``n01440764 tench, Tinca tinca`` for each) lies beside the folders, and the ids otherwise.

    Args:
        split: "train" or "val" (also "test").
        root: the folder with train and val, or the one above ``imagenet``; by default ``$GLUEBALL_DATA/imagenet``, then
            the cache.
        decode: as for ``ImageFolder``.

    Raises:
        DataError: the folders are not there or are not synsets. ImageNet's terms forbid fetching it automatically.

    Source: Russakovsky et al., arXiv:1409.0575.
    """

    def __init__(
        self, split: str = "train", root: str | os.PathLike[str] | None = None, *, decode: bool = True
    ) -> None:
        word = "train" if is_train_split(split) else "val"
        folders = dataset_folders("imagenet", root)
        place = next((folder for folder in folders if (folder / word).is_dir()), None)
        if place is None:
            raise DataError(
                f"ImageNet was not found in {', '.join(str(folder) for folder in folders)}.\n"
                "Its terms do not allow fetching it automatically: get ILSVRC2012_img_train.tar and "
                "ILSVRC2012_img_val.tar from https://image-net.org/download after registering, unpack them into "
                f"{folders[0]}/train/<synset>/ and {folders[0]}/val/<synset>/, or name their folder as root=."
            )
        # Only the part that is asked for is walked: listing all 1.3 million names takes minutes on network disks.
        super().__init__(place / word, "all", decode=decode)
        strangers = [name for name in self.classes if not SYNSET.fullmatch(name)]
        if strangers:
            raise DataError(
                f"{place / word} is not sorted into synsets. Expected folders such as n01440764. "
                f"Received: {', '.join(strangers[:5])}. Move each validation picture into the folder of its synset."
            )
        self.synsets = self.classes
        """The WordNet ids, in the order of the labels."""
        words = _read_names(place)
        self.classes = tuple(words.get(synset, synset) for synset in self.synsets)
        self.summary = f"{'training' if word == 'train' else 'validation'} part in {place / word}"


def _read_names(place: Path) -> dict[str, str]:
    for name in NAME_FILES:
        file = place / name
        if file.is_file():
            lines = file.read_text(encoding="utf-8").splitlines()
            pairs = [line.split(maxsplit=1) for line in lines if line.strip()]
            return {pair[0]: pair[-1].strip() for pair in pairs}
    return {}

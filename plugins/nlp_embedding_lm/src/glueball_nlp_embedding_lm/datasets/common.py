"""What the data sets share: splits, folds, places to look in, and errors that say which file belongs where."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import attrs
import numpy as np

from glueball.data import Dataset, streams
from glueball.errors import DataError, DownloadError, OptionError

from .json_pairs import read_pairs
from .trees import ARCHIVE_SUFFIXES, FolderTree, Tree, open_tree

logger = logging.getLogger(__name__)

TRAIN, VALIDATION, TEST, ALL, UNLABELLED = "train", "validation", "test", "all", "unsup"

SPLITS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training"), TRAIN),
    **dict.fromkeys(("validation", "val", "valid", "dev", "eval"), VALIDATION),
    TEST: TEST,
    ALL: ALL,
    **dict.fromkeys(("unsup", "unlabelled", "unsupervised"), UNLABELLED),
}
"""Every name that a split may be asked for by -> the split."""

DEFAULT_FOLDS = 10


def canonical_split(split: str) -> str:
    """The split that a name means.

    Raises:
        OptionError: it means none.
    """
    if split not in SPLITS:
        raise OptionError(
            f'Unknown split. Expected "train", "validation" (also "val", "dev"), "test" or "all". Received: '
            f"split={split!r}."
        )
    return SPLITS[split]


@attrs.frozen
class Division:
    """How the training part of a data set is divided further.

    ``fold`` leaves out one of ``folds`` parts: "validation" is that part and "train" the rest. ``holdout`` leaves out
    a share of every class as "validation". With both, "test" is the part of the fold and "validation" is held out of
    the rest, which is how cross-validation with early stopping is done (Kim 2014, section 3).

    Raises:
        OptionError: there is no such fold, or the share is not between 0 and 1.
    """

    fold: int | None = None
    folds: int = DEFAULT_FOLDS
    seed: int = 0
    holdout: float | None = None

    def __attrs_post_init__(self) -> None:
        if self.fold is not None and not (
            _is_integer(self.fold) and _is_integer(self.folds) and self.folds >= 2 and 0 <= self.fold < self.folds
        ):
            raise OptionError(
                f"Expected folds >= 2 and 0 <= fold < folds. Received: fold={self.fold!r}, folds={self.folds!r}."
            )
        if self.holdout is not None and not 0.0 < self.holdout < 1.0:
            raise OptionError(
                f"Expected a share above 0 and below 1 to hold out, or None. Received: holdout={self.holdout!r}."
            )

    @property
    def active(self) -> bool:
        """Whether anything is divided."""
        return self.fold is not None or self.holdout is not None

    def describe(self, split: str) -> str:
        """What ``split`` is, in words."""
        words = []
        in_fold = self.fold is not None and split == (TEST if self.holdout is not None else VALIDATION)
        if self.fold is not None:
            words.append(f"{'' if in_fold or split == TEST else 'without '}part {self.fold} of {self.folds}")
        if self.holdout is not None and not in_fold and split != TEST:
            words.append(
                f"{'the' if split == VALIDATION else 'without the'} {self.holdout:.0%} of every class held out"
            )
        return f"{', '.join(words)} (seed {self.seed})"


def _is_integer(value: object) -> bool:
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def fold_of_samples(labels: np.ndarray, folds: int, seed: int = 0) -> np.ndarray:
    """Which of ``folds`` stratified parts each sample belongs to: int64 of shape (len(labels),).

    The samples of each class are shuffled, the classes laid end to end, and dealt out in turn: both the parts and the
    share of each class in them differ by one sample at most. The order comes from raw Philox numbers, which NumPy
    promises never to change, so that the parts are the same on every machine.

    Raises:
        DataError: there are fewer samples than parts.
    """
    if len(labels) < folds:
        raise DataError(f"{len(labels)} samples cannot be divided into {folds} parts. Ask for fewer folds.")
    dealt = np.concatenate([_shuffled(labels, label, seed, 0) for label in np.unique(labels)])
    parts = np.empty(len(labels), np.int64)
    parts[dealt] = np.arange(len(labels)) % folds
    return parts


def held_out(labels: np.ndarray, share: float, seed: int = 0) -> np.ndarray:
    """Which samples belong to the held-out ``share`` of their class: bool of shape (len(labels),).

    Of a class with two samples or more at least one is held out and at least one is not; a lone sample is not.
    """
    mask: np.ndarray = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = _shuffled(labels, label, seed, 1)
        mask[members[: min(max(round(share * len(members)), 1), len(members) - 1)]] = True
    return mask


def _shuffled(labels: np.ndarray, label: int, seed: int, use: int) -> np.ndarray:
    members = np.flatnonzero(labels == label)
    random = streams.stream(seed, streams.ORDER, epoch=use, index=int(label))
    keys = random.bit_generator.random_raw(len(members))
    shuffled: np.ndarray = members[np.argsort(keys, kind="stable")]
    return shuffled


def divide(labels: np.ndarray, split: str, division: Division) -> np.ndarray:
    """The positions of ``split`` ("train", "validation" or "test") in a training part with these labels, ascending.

    Raises:
        DataError: fewer samples than folds, or a part would be empty.
    """
    kept: np.ndarray = np.ones(len(labels), bool)
    if division.fold is not None:
        in_fold = fold_of_samples(labels, division.folds, division.seed) == division.fold
        if split == TEST or (split == VALIDATION and division.holdout is None):
            return np.flatnonzero(in_fold)
        kept = ~in_fold
    if division.holdout is not None:
        positions = np.flatnonzero(kept)
        mask = held_out(labels[positions], division.holdout, division.seed)
        if not mask.any() or mask.all():
            raise DataError(
                f"{len(positions)} samples cannot be divided with holdout={division.holdout}: no class has two samples."
            )
        return np.asarray(positions[mask if split == VALIDATION else ~mask])
    return np.flatnonzero(kept)


@attrs.frozen
class Samples:
    """What a reader found."""

    texts: list[str]
    labels: np.ndarray
    """int64, (len(texts),); -1 for texts without a label."""
    place: str
    """The file or files that they came from."""
    lines: np.ndarray | None = None
    """The line of ``place`` on which each begins, where ``place`` is one file of lines."""
    note: str = ""
    """What the reader had to decide, for the summary."""


class TextClassificationDataset(Dataset):
    """The base of all data sets here: samples ``(text, label)`` in memory.

    Subclasses call ``_fill``.
    """

    classes: tuple[str, ...] = ()
    """Class names; a label is an index into them."""
    summary: str
    """Where the texts came from and how they were split, in a sentence."""
    split_name: str
    """The part that this is, by its canonical name."""
    root: Path
    """The folder or file in which it was found."""
    texts: list[str]
    """All texts, in order."""

    def _fill(self, samples: Samples, chosen: np.ndarray | None = None) -> None:
        """Takes the samples at ``chosen`` (default: all)."""
        if chosen is None or len(chosen) == len(samples.texts):
            self.texts, self._labels, self._lines = samples.texts, samples.labels, samples.lines
            self._numbers = None
        else:
            self.texts = [samples.texts[at] for at in chosen]
            self._labels = samples.labels[chosen]
            self._lines = None if samples.lines is None else samples.lines[chosen]
            self._numbers = chosen
        self._place = samples.place

    def labels(self) -> np.ndarray:
        """All labels, int64 of shape (len(self),)."""
        return self._labels

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> tuple[str, int]:
        count = len(self)
        if not -count <= index < count:
            raise IndexError(f"Index {index} is outside of a data set of {count} samples.")
        position = int(index) % count
        return self.texts[position], int(self._labels[position])

    def describe(self, index: int) -> str:
        """The file, and the line or the sample's number in it."""
        if self._lines is not None:
            return f"{self._place}, line {self._lines[index]}"
        return f"{self._place}, sample {index if self._numbers is None else self._numbers[index]}"

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} texts, {len(self.classes)} classes: {self.summary})"


@attrs.frozen
class Source:
    """A file that can be downloaded, with its hash; for an archive also the one file that it holds, with its own."""

    file: str
    url: str
    sha1: str
    member: str = ""
    member_sha1: str = ""


@attrs.frozen
class _Place:
    """A folder that is looked into."""

    folder: Path
    own: bool
    """Whether it is for this data set alone, so that names such as train.csv can be taken for its files."""


class PublishedDataset(TextClassificationDataset):
    """A data set with a name, an official division, and known forms on the disk.

    Args:
        split: one of ``parts``, or "validation" where ``fold`` or ``holdout`` makes that of the training part; default:
            "train", or "all" of a set that is not divided.
        root: the folder of the files in any of their forms, the one above it, or the archive itself; by default
            ``$GLUEBALL_DATA/<name>``, ``$GLUEBALL_DATA/text``, ``$GLUEBALL_DATA``, then the cache of downloads and
            GluonNLP's.
        fold: leave out this part of ``folds`` stratified parts of the training part: "train" is the rest, "validation"
            that part, which is also "test" where the set has no test part of its own.
        folds: how many parts.
        fold_seed: which parts; also which samples are held out.
        holdout: the share of every class that is held out of "train" as "validation". With ``fold``, it is held out of
            the rest, and the part of the fold is "test".
        download: fetch the official files when no form is there.

    Raises:
        OptionError: there is no such split or fold.
        DataError: the files are damaged, or missing while ``download`` is off.
        DownloadError: the files are missing and could not be fetched.
    """

    name: ClassVar[str]
    """As it is registered: also the name of its folder."""
    title: ClassVar[str]
    parts: ClassVar[tuple[str, ...]] = (TRAIN, TEST)
    counts: Mapping[str, int] = {}
    """Part -> how many samples it has officially."""
    sources: Mapping[str, Source] = {}
    """Part -> the official file."""
    archives: tuple[str, ...] = ()
    """Other archives in which it is handed around."""
    folders: tuple[str, ...] = ()
    """Folders that such archives unpack to."""
    foreign: ClassVar[str] = ""
    """The name of GluonNLP's folder."""
    hint: str = ""
    """What else would do, for the message about missing files."""

    def __init__(
        self,
        split: str | None = None,
        root: str | os.PathLike[str] | None = None,
        *,
        fold: int | None = None,
        folds: int = DEFAULT_FOLDS,
        fold_seed: int = 0,
        holdout: float | None = None,
        download: bool = True,
    ) -> None:
        division = Division(fold, folds, fold_seed, holdout)
        self.split_name = canonical_split(self.parts[0] if split is None else split)
        self._check(self.split_name, division)
        part, divided = self._plan(self.split_name, division)
        samples = self._locate(part, root, download)
        if (expected := self.counts.get(part)) is not None and len(samples.texts) != expected:
            logger.warning(
                "%s holds %d samples, expected %d as in %s", samples.place, len(samples.texts), expected, self.title
            )
        self._fill(samples, divide(samples.labels, self.split_name, division) if divided else None)
        words = "all" if part == ALL else f"{part} part"
        self.summary = f"{words} of {samples.place}"
        if divided:
            self.summary = (
                f"{self.split_name} split of {samples.place}, {division.describe(self.split_name)}: {len(self)} of "
                f"{len(samples.texts)} texts"
            )
        if samples.note:
            self.summary += f"; {samples.note}"

    def _check(self, split: str, division: Division) -> None:
        """Refuses what this data set in particular does not have, and chooses what depends on the split."""

    def _plan(self, split: str, division: Division) -> tuple[str, bool]:
        """The official part to read, and whether ``split`` is a piece of it.

        Raises:
            OptionError: there is no such split; the message says how to make it.
        """
        whole = ALL if ALL in self.parts else TRAIN
        if division.fold is not None and division.holdout is not None and TEST in self.parts:
            raise OptionError(
                f'{self.title} has a test part of its own, so "test" would have two meanings with both fold and '
                "holdout. Give one of them."
            )
        if division.holdout is not None and division.fold is None and VALIDATION in self.parts:
            raise OptionError(
                f"{self.title} has a validation part of its own; nothing needs to be held out. Leave holdout away."
            )
        if split in (TRAIN, VALIDATION) and division.active:
            return whole, True
        if split == TEST and TEST not in self.parts and division.fold is not None:
            return whole, True
        if split == ALL and division.active:
            raise OptionError(f'split="all" is not divided. Expected "train" or "validation" with {division}.')
        if split in self.parts:
            return split, False
        offered = ", ".join(f'"{part}"' for part in self.parts)
        cure = (
            'Give holdout=0.1 for a tenth of every class as "validation", or fold=0, folds=10 for cross-validation.'
            if split in (TRAIN, VALIDATION)
            else 'Give fold=0, folds=10 for cross-validation; "test" is then the part of the fold.'
            if split == TEST
            else ""
        )
        raise OptionError(f'{self.title} has no split "{split}". Expected one of: {offered}. {cure}'.rstrip())

    def _read(self, tree: Tree, part: str, own: bool) -> Samples | None:
        """The part as ``tree`` holds it, or None if it does not hold it. ``own``: the tree is this data set's alone."""
        raise NotImplementedError

    def _from_json(self, records: Sequence[tuple[str, int]], place: str, part: str) -> Samples:
        """Samples of GluonNLP's JSON: pairs of a text and a label.

        Raises:
            DataError: a label is not one of the classes.
        """
        labels = np.fromiter((label for _, label in records), np.int64, len(records))
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(self.classes):
            raise DataError(
                f"{place} holds labels from {labels.min()} to {labels.max()}, expected 0 to {len(self.classes) - 1}."
            )
        return Samples([text for text, _ in records], labels, place)

    def _locate(self, part: str, root: str | os.PathLike[str] | None, download: bool) -> Samples:
        places = self._places(root)
        for place in places:
            found = self._look(place, part)
            if found is not None:
                return found
        target = download_folder(self.name) if root is None else places[0].folder
        searched = [place.folder for place in places]
        source = self.sources.get(part)
        if source is None or not download:
            raise DataError(missing(self.title, source, target, searched, self.hint))
        fetch(self.title, source, target, searched, self.hint)
        found = self._look(_Place(target, own=True), part)
        if found is None:
            raise DataError(f"{target / source.file} does not hold {self.title}.")
        return found

    def _places(self, root: str | os.PathLike[str] | None) -> list[_Place]:
        if root is not None:
            given = Path(root).expanduser()
            if given.is_file():
                return [_Place(given, own=True)]
            # The folder itself may be that of several data sets: then it has one of its own inside.
            return [_Place(given / self.name, own=True), _Place(given, own=not (given / self.name).is_dir())]
        places = []
        if shared := os.environ.get("GLUEBALL_DATA"):
            folder = Path(shared).expanduser()
            places += [_Place(folder / self.name, True), _Place(folder / "text", False), _Place(folder, False)]
        places.append(_Place(download_folder(self.name), own=True))
        homes = [os.environ.get("MXNET_HOME"), os.path.join("~", ".mxnet")]
        places += [
            _Place(Path(home).expanduser() / "datasets" / (self.foreign or self.name), True) for home in homes if home
        ]
        return places

    def _look(self, place: _Place, part: str) -> Samples | None:
        """The part in any of its forms in one folder, which is also remembered as ``root``."""
        for tree, own, path in self._trees(place, part):
            found = self._read_json(tree, part, own) or self._read(tree, part, own)
            if found is not None:
                self.root = path
                return found
        return None

    def _trees(self, place: _Place, part: str) -> Sequence[tuple[Tree, bool, Path]]:
        folder = place.folder
        if folder.is_file():
            if folder.name.lower().endswith(ARCHIVE_SUFFIXES):
                return [(self._open_archive(folder, part), True, folder)]
            raise DataError(f"{folder} is neither a folder nor an archive ({', '.join(ARCHIVE_SUFFIXES)}).")
        if not folder.is_dir():
            return []
        trees: list[tuple[Tree, bool, Path]] = [(FolderTree(folder, deep=False), place.own, folder)]
        if (source := self.sources.get(part)) is not None and source.member and (folder / source.file).is_file():
            path = folder / source.file
            trees.append((self._open_archive(path, part), True, path))
        for name in self.folders:
            if (folder / name).is_dir():
                trees.append((FolderTree(folder / name), True, folder / name))
        for name in self.archives:
            if (folder / name).is_file():
                trees.append((self._open_archive(folder / name, part), True, folder / name))
        return trees

    def _open_archive(self, path: Path, part: str) -> Tree:
        source = self.sources.get(part)
        if source is not None and source.file == path.name:
            check_hash(path, source.sha1)
        return open_tree(path)

    def _read_json(self, tree: Tree, part: str, own: bool) -> Samples | None:
        """GluonNLP's form, under its official name or the one without a hash that its first releases used."""
        source = self.sources.get(part)
        if source is None:
            return None
        official = source.member or source.file
        plain = official.partition("-")[0].removesuffix(".json") + ".json"
        # A name such as train.json says nothing in a folder of many data sets.
        name = tree.find(*(one for one in (official, plain) if own or one != plain))
        if name is None:
            return None
        content = tree.read(name)
        place = tree.describe(name)
        if name.rpartition("/")[2] == official:
            check_content(content, source.member_sha1 or source.sha1, place)
        return self._from_json(read_pairs(content, place), place, part)


def download_folder(name: str) -> Path:
    """Where downloads of the data set ``name`` are kept."""
    # Imported lazily: reading what is on the disk needs no weight store.
    from glueball.weights.store import home

    return home() / "datasets" / name


def check_hash(path: Path, sha1: str) -> None:
    """Refuses a file that has an official name and another content.

    Raises:
        DataError: the hash is another one.
    """
    from glueball.weights.hashing import file_hash

    if (received := file_hash(path, sha1)) != sha1:
        raise DataError(_wrong_hash(os.fspath(path), sha1, received))


def check_content(content: bytes, sha1: str, place: str) -> None:
    """``check_hash`` of bytes."""
    import hashlib

    if (received := hashlib.sha1(content).hexdigest()) != sha1:
        raise DataError(_wrong_hash(place, sha1, received))


def _wrong_hash(place: str, expected: str, received: str) -> str:
    return (
        f"{place} does not have the hash of the official file and is not used. Expected: {expected}. Received: "
        f"{received}. It is left as it is; move or delete it to have it downloaded again."
    )


def fetch(title: str, source: Source, folder: Path, searched: Sequence[Path], hint: str = "") -> Path:
    """Downloads ``source`` into ``folder``, verified by SHA-1.

    Raises:
        DownloadError: the network is off (GLUEBALL_OFFLINE), the file could not be fetched, or has another hash; the
            message says where it was looked for, which file with which hash belongs where, and what else would do.
    """
    from glueball.weights.download import download_verified, is_offline

    target = folder / source.file
    try:
        if is_offline():
            raise DownloadError("GLUEBALL_OFFLINE is set")
        download_verified(source.url, target, source.sha1)
    except OSError as error:
        raise DownloadError(missing(title, source, folder, searched, hint, str(error))) from error
    return target


def missing(
    title: str, source: Source | None, folder: Path, searched: Sequence[Path], hint: str = "", reason: str = ""
) -> str:
    """The message for a data set that is not there."""
    lines = [f"{title} was not found in {', '.join(str(place) for place in searched)}."]
    if reason:
        lines.append(f"Downloading it failed: {reason}")
    if source is not None:
        lines.append(f"Put this file into {folder}, or name its folder as root=:")
        lines.append(f"  {source.file}  (sha1 {source.sha1}, {source.url})")
    else:
        lines.append(f"It is not fetched. Put its files into {folder}, or name their folder as root=:")
    if hint:
        lines.append(hint)
    return "\n".join(lines)

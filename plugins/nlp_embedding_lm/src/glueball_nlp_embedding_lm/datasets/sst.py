"""The Stanford Sentiment Treebank, in five classes and in two.

R. Socher et al., "Recursive deep models for semantic compositionality over a sentiment treebank", EMNLP 2013,
https://nlp.stanford.edu/sentiment/.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from glueball.errors import DataError, OptionError

from .common import DEFAULT_FOLDS, TEST, TRAIN, VALIDATION, Division, PublishedDataset, Samples
from .decoding import published_lines
from .polarity import source
from .trees import Tree

_FILES = {TRAIN: "train", VALIDATION: "dev", TEST: "test"}
_TOKEN = re.compile(r"[()]|[^\s()]+")
# How the Penn Treebank writes characters that mean something in its trees.
_ESCAPES = {"-LRB-": "(", "-RRB-": ")", "-LSB-": "[", "-RSB-": "]", "-LCB-": "{", "-RCB-": "}"}


class _SST(PublishedDataset):
    """What the two have in common."""

    parts = (TRAIN, VALIDATION, TEST)
    archives = ("trainDevTestTrees_PTB.zip",)
    folders = ("trees",)
    hint = "Stanford's trainDevTestTrees_PTB.zip, its folder trees, or stsa.fine.* and stsa.binary.* do as well."
    lines_name: ClassVar[str]
    """The files of lines "4 a text" are called stsa.<this>.<part>."""

    def __init__(
        self,
        split: str | None = None,
        root: str | os.PathLike[str] | None = None,
        *,
        phrases: bool = True,
        fold: int | None = None,
        folds: int = DEFAULT_FOLDS,
        fold_seed: int = 0,
        holdout: float | None = None,
        download: bool = True,
    ) -> None:
        self.phrases = phrases
        if not phrases:
            self.counts = {**self.counts, TRAIN: self.sentences}
            self.sources = {part: source for part, source in self.sources.items() if part != TRAIN}
            self.hint = "Its sentences are in Stanford's trainDevTestTrees_PTB.zip, its folder trees, or stsa.*.train."
        super().__init__(split, root, fold=fold, folds=folds, fold_seed=fold_seed, holdout=holdout, download=download)

    def _check(self, split: str, division: Division) -> None:
        if self.phrases and division.active:
            raise OptionError(
                f"The phrases of one sentence of {self.title} would fall into several parts. Divide its sentences: "
                "phrases=False."
            )

    sentences: ClassVar[int]
    """How many the training part has."""

    def label_of(self, sentiment: int) -> int | None:
        """The class of a sentiment from 0 to 4, or None for one that is left out."""
        raise NotImplementedError

    def _read_json(self, tree: Tree, part: str, own: bool) -> Samples | None:
        # GluonNLP's training part holds phrases and does not mark which are sentences.
        return None if part == TRAIN and not self.phrases else super()._read_json(tree, part, own)

    def _read(self, tree: Tree, part: str, own: bool) -> Samples | None:
        word = _FILES[part]
        lines = (f"stsa.{self.lines_name}.{word}",)
        if part == TRAIN and self.phrases:
            lines = (f"stsa.{self.lines_name}.phrases.{word}",)
        name = tree.find(*lines)
        if name is not None:
            return self._read_lines(tree, name)
        name = tree.find(f"trees/{word}.txt", *([f"{word}.txt"] if own else []))
        return None if name is None else self._read_trees(tree, name, part)

    def _read_lines(self, tree: Tree, name: str) -> Samples:
        place = tree.describe(name)
        texts, labels = [], []
        for number, line in enumerate(published_lines(tree.read(name), place), 1):
            label, _, text = line.partition(" ")
            if not (label.isdecimal() and int(label) < len(self.classes) and text.strip()):
                raise DataError(
                    f"{place}, line {number}: expected a class from 0 to {len(self.classes) - 1} and a text. Received: "
                    f"{line[:60]!r}."
                )
            texts.append(text.strip())
            labels.append(int(label))
        return Samples(texts, np.array(labels, np.int64), place, np.arange(1, len(texts) + 1))

    def _read_trees(self, tree: Tree, name: str, part: str) -> Samples:
        place = tree.describe(name)
        texts: list[str] = []
        labels: list[int] = []
        lines: list[int] = []
        seen: set[tuple[str, int]] = set()
        every = part == TRAIN and self.phrases
        for number, line in enumerate(published_lines(tree.read(name), place), 1):
            for text, sentiment in phrases_of(line, f"{place}, line {number}"):
                label = self.label_of(sentiment)
                if label is not None and not (every and (text, label) in seen):
                    texts.append(text)
                    labels.append(label)
                    lines.append(number)
                    seen.add((text, label))
                if not every:
                    break
        if every:
            # The official number is that of GluonNLP's files, whose authors chose among the phrases.
            self.counts = {}
        note = "each phrase of the trees once" if every else ""
        return Samples(texts, np.array(labels, np.int64), place, np.array(lines, np.int64), note)


class SST1(_SST):
    """Film reviews in five classes, from very negative to very positive.

    Read from GluonNLP's JSON, from Stanford's trees (``trainDevTestTrees_PTB.zip`` or its folder ``trees``), and from
    lines of a class and a text (``stsa.fine.phrases.train``, ``stsa.fine.train``, ``.dev``, ``.test``).

    Args:
        split: "train", "validation" (1,101 sentences; also "dev") or "test" (2,210).
        root: as for ``PublishedDataset``; the folder is ``sst1``.
        phrases: train on all phrases of the training sentences, too (156,817 texts in GluonNLP's JSON, which holds
            them all); otherwise on the 8,544 sentences alone.
        fold, folds, fold_seed, holdout, download: as for ``PublishedDataset``; a division needs ``phrases=False``.

    Raises:
        OptionError: there is no such split or fold, or phrases were to be divided.
        DataError: a file is damaged.
        DownloadError: the files are missing and could not be fetched.
    """

    name = "sst1"
    title = "SST-1"
    foreign = "sst-1"
    lines_name = "fine"
    classes = ("very negative", "negative", "neutral", "positive", "very positive")
    counts = {TRAIN: 156817, VALIDATION: 1101, TEST: 2210}  # noqa: RUF012 - replaced, never changed
    sentences = 8544
    sources = {  # noqa: RUF012
        TRAIN: source(
            "sst-1",
            "train-638f9352",
            "0a039010449772700c0e270c7095362403dc486a",
            "638f935251c0474e93d4aa50fda0c900faf02bba",
        ),
        VALIDATION: source(
            "sst-1",
            "dev-820ac954",
            "e4b7899ef5d37a6bf01d8ec1115ba20b8419b96f",
            "820ac954b14b4f7d947e25f7a99249618d7962ee",
        ),
        TEST: source(
            "sst-1",
            "test-ab593ae9",
            "d3736db56cdc7293c38435557697c2407652525d",
            "ab593ae9628f94af4f698654158ded1488b1de3b",
        ),
    }

    def label_of(self, sentiment: int) -> int | None:
        return sentiment


class SST2(_SST):
    """Film reviews, positive or negative: ``SST1`` without the neutral ones.

    Read as ``SST1`` is; the files of lines are ``stsa.binary.*``.

    Args:
        split: "train", "validation" (872 sentences; also "dev") or "test" (1,821).
        root: as for ``PublishedDataset``; the folder is ``sst2``.
        phrases: as for ``SST1``; 76,961 texts in GluonNLP's JSON, or 6,920 sentences.
        fold, folds, fold_seed, holdout, download: as for ``PublishedDataset``; a division needs ``phrases=False``.

    Raises: as for ``SST1``.
    """

    name = "sst2"
    title = "SST-2"
    foreign = "sst-2"
    lines_name = "binary"
    classes = ("negative", "positive")
    counts = {TRAIN: 76961, VALIDATION: 872, TEST: 1821}  # noqa: RUF012
    sentences = 6920
    sources = {  # noqa: RUF012
        TRAIN: source(
            "sst-2",
            "train-61f1f238",
            "f27a9ac6a7c9208fb7f024b45554da95639786b3",
            "61f1f23888652e11fb683ac548ed0be8a87dddb1",
        ),
        VALIDATION: source(
            "sst-2",
            "dev-65511587",
            "8c74911f0246bd88dc0ced2619f95f10db09dc98",
            "655115875d83387b61f9701498143724147a1fc9",
        ),
        TEST: source(
            "sst-2",
            "test-a39c1db6",
            "4b7f1648207ec5dffb4e4783cf1f48d6f36ba4db",
            "a39c1db6ecc3be20bf2563bf2440c3c06887a2df",
        ),
    }

    def label_of(self, sentiment: int) -> int | None:
        return None if sentiment == 2 else int(sentiment > 2)


def phrases_of(line: str, place: str) -> Iterator[tuple[str, int]]:
    """Text and sentiment of every subtree of "(3 (2 It) (4 works))", the whole first, then from left to right.

    Raises:
        DataError: the brackets do not match, or a sentiment is not a digit from 0 to 4.
    """
    tokens = _TOKEN.findall(line)
    words: list[str] = []
    # (sentiment, its first word) of the subtrees that are open, and where each found one belongs.
    open_ones: list[tuple[int, int, int]] = []
    found: list[tuple[str, int] | None] = []
    at = 0
    while at < len(tokens):
        token = tokens[at]
        if token == "(":
            sentiment = tokens[at + 1] if at + 1 < len(tokens) else ""
            if (not open_ones and found) or not (len(sentiment) == 1 and sentiment in "01234"):
                raise _bad_tree(line, place)
            open_ones.append((int(sentiment), len(words), len(found)))
            found.append(None)
            at += 1
        elif not open_ones:
            raise _bad_tree(line, place)
        elif token == ")":
            sentiment_of, first, slot = open_ones.pop()
            if first == len(words):
                raise _bad_tree(line, place)
            found[slot] = (" ".join(words[first:]), sentiment_of)
        else:
            words.append(_ESCAPES.get(token, token).replace("\\/", "/").replace("\\*", "*"))
        at += 1
    if open_ones or not found:
        raise _bad_tree(line, place)
    yield from (one for one in found if one is not None)


def _bad_tree(line: str, place: str) -> DataError:
    return DataError(f"{place}: expected a tree such as (3 (2 It) (4 works)). Received: {line[:60]!r}.")

"""TREC question classification.

X. Li and D. Roth, "Learning Question Classifiers", COLING 2002, https://cogcomp.seas.upenn.edu/Data/QA/QC/.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from glueball.errors import DataError

from .common import DEFAULT_FOLDS, TEST, TRAIN, PublishedDataset, Samples, Source
from .decoding import published_lines
from .trees import Tree

_REPOSITORY = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset/trec"

COARSE_CLASSES = ("DESC", "ENTY", "ABBR", "HUM", "LOC", "NUM")
# fmt: off
FINE_CLASSES = (
    "ABBR:abb", "ABBR:exp",
    "DESC:def", "DESC:desc", "DESC:manner", "DESC:reason",
    "ENTY:animal", "ENTY:body", "ENTY:color", "ENTY:cremat", "ENTY:currency", "ENTY:dismed", "ENTY:event", "ENTY:food",
    "ENTY:instru", "ENTY:lang", "ENTY:letter", "ENTY:other", "ENTY:plant", "ENTY:product", "ENTY:religion",
    "ENTY:sport", "ENTY:substance", "ENTY:symbol", "ENTY:techmeth", "ENTY:termeq", "ENTY:veh", "ENTY:word",
    "HUM:desc", "HUM:gr", "HUM:ind", "HUM:title",
    "LOC:city", "LOC:country", "LOC:mount", "LOC:other", "LOC:state",
    "NUM:code", "NUM:count", "NUM:date", "NUM:dist", "NUM:money", "NUM:ord", "NUM:other", "NUM:perc", "NUM:period",
    "NUM:speed", "NUM:temp", "NUM:volsize", "NUM:weight",
)
# fmt: on

_FILES = {TRAIN: ("train_5500.label", "train.txt"), TEST: ("TREC_10.label", "test.txt")}


class TREC(PublishedDataset):
    """5,952 questions by what they ask for: 6 coarse classes, or 50 fine ones.

    The labels are GluonNLP's: DESC 0, ENTY 1, ABBR 2, HUM 3, LOC 4, NUM 5; the fine classes are in alphabetical order.
    Read from GluonNLP's JSON (coarse only), from ``train_5500.label`` and ``TREC_10.label``, and from ``qc.zip`` of
    NLTK; all give the same texts. The one byte of the corpus that is no ASCII, 0xF0 in "sister city" (U+FFFD in
    GluonNLP's JSON), is read as the space that it stands for.

    Args:
        split: "train" (5,452) or "test" (500); "validation" with ``fold`` or ``holdout``.
        root: as for ``PublishedDataset``; the folder is ``trec``.
        fine: label with the 50 fine classes.
        fold, folds, fold_seed, holdout, download: as for ``PublishedDataset``.

    Raises:
        OptionError: there is no such split or fold.
        DataError: a file is damaged, or holds an unknown class.
        DownloadError: the files are missing and could not be fetched; GluonNLP's have no fine classes.
    """

    name = "trec"
    title = "TREC"
    counts = {TRAIN: 5452, TEST: 500}  # noqa: RUF012 - replaced, never changed
    sources = {  # noqa: RUF012
        TRAIN: Source(
            "train-1776132f.zip",
            f"{_REPOSITORY}/train-1776132f.zip",
            "337d3f43a56ec26f5773c6fc406ef19fb4cd3c92",
            "train-1776132f.json",
            "1776132fb2fc0ed2dc91b62f7817a4e071a3c7de",
        ),
        TEST: Source(
            "test-ff9ad0ce.zip",
            f"{_REPOSITORY}/test-ff9ad0ce.zip",
            "57f03aaee2651ca05f1f9fc5731ba7e9ad98e38a",
            "test-ff9ad0ce.json",
            "ff9ad0ceb44d8904663fee561804a8dd0edc1b15",
        ),
    }
    archives = ("qc.zip",)
    folders = ("qc",)
    hint = "NLTK's qc.zip, or train_5500.label and TREC_10.label of the University of Illinois, do as well."

    def __init__(
        self,
        split: str | None = None,
        root: str | os.PathLike[str] | None = None,
        *,
        fine: bool = False,
        fold: int | None = None,
        folds: int = DEFAULT_FOLDS,
        fold_seed: int = 0,
        holdout: float | None = None,
        download: bool = True,
    ) -> None:
        self.fine = fine
        self.classes = FINE_CLASSES if fine else COARSE_CLASSES
        if fine:
            # GluonNLP's files have the coarse classes alone.
            self.sources = {}
            self.hint = (
                "Its fine classes are in NLTK's qc.zip, or in train_5500.label and TREC_10.label of the University of "
                "Illinois."
            )
        super().__init__(split, root, fold=fold, folds=folds, fold_seed=fold_seed, holdout=holdout, download=download)

    def _from_json(self, records: Any, place: str, part: str) -> Samples:
        repaired = [(text.replace("sister\ufffdcity", "sister city"), label) for text, label in records]
        return super()._from_json(repaired, place, part)

    def _read(self, tree: Tree, part: str, own: bool) -> Samples | None:
        named, plain = _FILES[part]
        name = tree.find(named, plain) if own else tree.find(named)
        if name is None:
            return None
        place = tree.describe(name)
        texts: list[str] = []
        labels: list[int] = []
        index = {one: label for label, one in enumerate(self.classes)}
        content = tree.read(name).replace(b"sister\xf0city", b"sister city")
        for number, line in enumerate(published_lines(content, place), 1):
            # "DESC:manner How did serfdom develop ..."
            label, space, text = line.partition(" ")
            key = label if self.fine else label.partition(":")[0]
            if not space or ":" not in label or key not in index:
                raise DataError(
                    f"{place}, line {number}: expected CLASS:kind and a question, where CLASS is one of "
                    f"{', '.join(COARSE_CLASSES)}. Received: {line[:60]!r}."
                )
            texts.append(text.strip(" "))
            labels.append(index[key])
        return Samples(texts, np.array(labels, np.int64), place, np.arange(1, len(texts) + 1))

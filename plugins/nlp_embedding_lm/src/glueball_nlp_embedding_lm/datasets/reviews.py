"""Whole reviews of films: IMDB and the 2,000 of Pang and Lee.

A. Maas et al., "Learning word vectors for sentiment analysis", ACL 2011, https://ai.stanford.edu/~amaas/data/sentiment/;
B. Pang and L. Lee, "A sentimental education", ACL 2004, https://www.cs.cornell.edu/people/pabo/movie-review-data/.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from glueball.errors import DataError, OptionError

from .common import ALL, TEST, TRAIN, UNLABELLED, Division, PublishedDataset, Samples, Source
from .decoding import decode_published
from .trees import Tree

_REPOSITORY = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset/imdb"
_REVIEW = re.compile(r"(?:^|/)(train|test)/(neg|pos|unsup)/(\d+)_(\d+)\.txt$")
_TAGGED = re.compile(r"(?:^|/)(neg|pos)/(cv\d+_\d+\.txt)$")


class IMDB(PublishedDataset):
    """50,000 long film reviews, half of them to test on, and 50,000 without a label.

    Scores of 7 to 10 are positive, 1 to 4 negative. Read from GluonNLP's JSON and from Stanford's
    ``aclImdb_v1.tar.gz`` or its folder ``aclImdb``. Line breaks are left as they are (``<br />``).

    Args:
        split: "train" (25,000), "test" (25,000) or "unsup" (50,000 samples ``(text, -1)``, and no classes);
            "validation" with ``fold`` or ``holdout``.
        root: as for ``PublishedDataset``; the folder is ``imdb``.
        fold, folds, fold_seed, holdout, download: as for ``PublishedDataset``.

    Raises:
        OptionError: there is no such split or fold, or texts without labels were to be divided.
        DataError: a file is damaged, or a score does not belong to its class.
        DownloadError: the files are missing and could not be fetched.
    """

    name = "imdb"
    title = "IMDB"
    classes: tuple[str, ...] = ("negative", "positive")
    parts = (TRAIN, TEST, UNLABELLED)
    counts = {TRAIN: 25000, TEST: 25000, UNLABELLED: 50000}  # noqa: RUF012 - replaced, never changed
    sources = {  # noqa: RUF012
        part: Source(f"{part}.json", f"{_REPOSITORY}/{part}.json", sha1)
        for part, sha1 in (
            (TRAIN, "516a0ba06bca4e32ee11da2e129f4f871dff85dc"),
            (TEST, "7d59bd8899841afdc1c75242815260467495b64a"),
            (UNLABELLED, "f908a632b7e7d7ecf113f74c968ef03fadfc3c6c"),
        )
    }
    archives = ("aclImdb_v1.tar.gz", "aclImdb.zip")
    folders = ("aclImdb",)
    hint = "Stanford's aclImdb_v1.tar.gz, or its folder aclImdb, does as well."

    def _check(self, split: str, division: Division) -> None:
        if split == UNLABELLED:
            if division.active:
                raise OptionError("Texts without labels are not divided. Leave fold and holdout away.")
            self.classes = ()

    def _from_json(self, records: Any, place: str, part: str) -> Samples:
        scores = [score for _, score in records]
        return Samples([text for text, _ in records], _labels_of_scores(scores, part, place), place)

    def _read(self, tree: Tree, part: str, own: bool) -> Samples | None:
        folder = TRAIN if part == UNLABELLED else part
        found = []
        for name in tree.names():
            match = _REVIEW.search(name)
            if match and match[1] == folder and (match[2] == "unsup") == (part == UNLABELLED):
                found.append((match[2], int(match[3]), int(match[4]), name))
        if not found:
            return None
        found.sort()
        texts = _texts(tree, [name for *_, name in found])
        labels = _labels_of_scores([score for _, _, score, _ in found], part, tree.place)
        for (word, _, score, name), label in zip(found, labels, strict=True):
            if part != UNLABELLED and ("neg", "pos")[label] != word:
                raise DataError(f"{tree.describe(name)} has the score {score} and lies among the {word} reviews.")
        return Samples([texts[name] for *_, name in found], labels, f"{tree.place}, {folder}")


def _texts(tree: Tree, names: list[str]) -> dict[str, str]:
    return {name: decode_published(content, tree.describe(name)) for name, content in tree.read_all(names)}


def _labels_of_scores(scores: list[int], part: str, place: str) -> np.ndarray:
    array = np.array(scores, np.int64)
    if part == UNLABELLED:
        if array.any():
            raise DataError(f"{place} holds scores, expected 0 for every text without a label.")
        return np.full(len(array), -1, np.int64)
    wrong = (array < 1) | (array > 10) | (array == 5) | (array == 6)
    if wrong.any():
        at = int(np.flatnonzero(wrong)[0])
        raise DataError(f"{place}, sample {at}: expected a score of 1 to 4 or 7 to 10. Received: {array[at]}.")
    return (array > 5).astype(np.int64)


class MovieReviews(PublishedDataset):
    """2,000 long film reviews, 1,000 negative and 1,000 positive, tokenised, a sentence a line (version 2.0).

    Read from NLTK's ``movie_reviews.zip``, from Cornell's ``review_polarity.tar.gz``, and from their folders
    (``movie_reviews``, ``txt_sentoken``). The order is that of the file names, the negative ones first.

    Args:
        split: "all"; with ``fold`` or ``holdout`` also "train", "validation", "test".
        root: as for ``PublishedDataset``; the folder is ``movie_reviews``.
        fold, folds, fold_seed, holdout, download: as for ``PublishedDataset``.

    Raises:
        OptionError: there is no such split or fold.
        DataError: the files are missing or damaged. They are not fetched: nobody publishes their hash.
    """

    name = "movie_reviews"
    title = "Movie reviews"
    classes = ("negative", "positive")
    parts = (ALL,)
    counts = {ALL: 2000}  # noqa: RUF012
    archives = ("movie_reviews.zip", "review_polarity.tar.gz")
    folders = ("movie_reviews", "txt_sentoken")
    hint = (
        "NLTK's movie_reviews.zip, or Cornell's review_polarity.tar.gz "
        "(https://www.cs.cornell.edu/people/pabo/movie-review-data/)."
    )

    def _read(self, tree: Tree, part: str, own: bool) -> Samples | None:
        found = sorted((match[1], match[2], name) for name in tree.names() if (match := _TAGGED.search(name)))
        if not found:
            return None
        texts = _texts(tree, [name for *_, name in found])
        labels = np.array([word == "pos" for word, _, _ in found], np.int64)
        return Samples([texts[name] for *_, name in found], labels, tree.place)

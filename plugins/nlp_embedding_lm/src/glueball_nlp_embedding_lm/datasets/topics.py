"""The large sets of news, articles and reviews that fastText's classifier is measured on.

X. Zhang, J. Zhao and Y. LeCun, "Character-level convolutional networks for text classification", 2015,
arXiv:1509.01626. Each is a folder or archive ``<name>_csv`` with ``train.csv`` and ``test.csv``: the number of the
class from 1, then one to three fields of text, which are joined by a space here.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from typing import ClassVar

import numpy as np

from glueball.errors import DataError

from .common import TEST, TRAIN, PublishedDataset, Samples
from .decoding import decoded_lines
from .tables import LABEL_PREFIX, quoted_rows
from .trees import Tree

_NORMALISED = re.compile(r"__label__(\d+)\s*,?\s*(.*)", re.DOTALL)


class _Topics(PublishedDataset):
    """What they have in common.

    Read from ``<name>_csv.tar.gz``, its folder or a zip archive of it, and from ``<name>.train`` and ``<name>.test`` as
    the scripts of fastText and GluonNLP make them (normalised: lower case, spaces around punctuation, the order
    shuffled).

    Args:
        split: "train" or "test"; "validation" with ``fold`` or ``holdout``.
        root: as for ``PublishedDataset``.
        fold, folds, fold_seed, holdout, download: as for ``PublishedDataset``.

    Raises:
        OptionError: there is no such split or fold.
        DataError: the files are missing or damaged. They are not fetched: their authors published no hashes.
    """

    stem: ClassVar[str]
    """What their files are called: <stem>_csv."""
    fields: ClassVar[int]
    """How many columns of text there are."""
    escaped_newlines: ClassVar[bool] = False
    """Whether a backslash and an n in the texts stand for a newline."""

    def __init_subclass__(cls, **keywords: object) -> None:
        super().__init_subclass__(**keywords)
        cls.archives = tuple(f"{cls.stem}_csv{suffix}" for suffix in (".tar.gz", ".tgz", ".zip"))
        cls.folders = (f"{cls.stem}_csv",)
        cls.hint = (
            f"{cls.archives[0]} of X. Zhang (linked from fastText's classification-results.sh), or its train.csv and "
            "test.csv."
        )

    def _read(self, tree: Tree, part: str, own: bool) -> Samples | None:
        name = tree.find(f"{part}.csv") if own else None
        if name is not None:
            return self._samples(tree, name, self._rows_of_csv)
        name = tree.find(f"{self.stem}.{part}")
        return None if name is None else self._samples(tree, name, self._rows_of_fasttext)

    def _samples(self, tree: Tree, name: str, read: object) -> Samples:
        assert callable(read)
        place = tree.describe(name)
        texts: list[str] = []
        labels: list[int] = []
        lines: list[int] = []
        with contextlib.closing(tree.open(name)) as file:
            for number, label, text in read(decoded_lines(file, "utf-8", place), place):
                if not (label.isdecimal() and 1 <= int(label) <= len(self.classes)):
                    raise DataError(
                        f"{place}, line {number}: expected a class from 1 to {len(self.classes)}. Received: "
                        f"{label[:60]!r}."
                    )
                texts.append(text)
                labels.append(int(label) - 1)
                lines.append(number)
        return Samples(texts, np.array(labels, np.int64), place, np.array(lines, np.int64))

    def _rows_of_csv(self, lines: Iterable[str], place: str) -> Iterator[tuple[int, str, str]]:
        for number, cells in quoted_rows(lines, ",", place):
            if len(cells) != 1 + self.fields:
                raise DataError(
                    f"{place}, line {number}: expected a class and {self.fields} fields of text. Received: "
                    f"{len(cells)} columns."
                )
            text = " ".join(cells[1:])
            yield number, cells[0], text.replace("\\n", "\n") if self.escaped_newlines else text

    def _rows_of_fasttext(self, lines: Iterable[str], place: str) -> Iterator[tuple[int, str, str]]:
        for number, line in enumerate(lines, 1):
            match = _NORMALISED.fullmatch(line.strip())
            if match is None:
                raise DataError(
                    f"{place}, line {number}: expected {LABEL_PREFIX}<number> and a text. Received: {line[:60]!r}."
                )
            yield number, match[1], match[2]


class AGNews(_Topics):
    """AG's news: titles and descriptions of 120,000 + 7,600 articles, 4 topics."""

    name = "ag_news"
    title = "AG News"
    stem = "ag_news"
    fields = 2
    classes = ("World", "Sports", "Business", "Sci/Tech")
    counts = {TRAIN: 120000, TEST: 7600}  # noqa: RUF012 - replaced, never changed


class DBpedia(_Topics):
    """DBpedia: names and abstracts of 560,000 + 70,000 articles, 14 kinds of things."""

    name = "dbpedia"
    title = "DBpedia"
    stem = "dbpedia"
    fields = 2
    classes = (
        "Company",
        "EducationalInstitution",
        "Artist",
        "Athlete",
        "OfficeHolder",
        "MeanOfTransportation",
        "Building",
        "NaturalPlace",
        "Village",
        "Animal",
        "Plant",
        "Album",
        "Film",
        "WrittenWork",
    )
    counts = {TRAIN: 560000, TEST: 70000}  # noqa: RUF012


class SogouNews(_Topics):
    """Sogou news in Pinyin: 450,000 + 60,000 articles, 5 topics."""

    name = "sogou_news"
    title = "Sogou News"
    stem = "sogou_news"
    fields = 2
    classes = ("sports", "finance", "entertainment", "automobile", "technology")
    counts = {TRAIN: 450000, TEST: 60000}  # noqa: RUF012
    escaped_newlines = True


class YelpPolarity(_Topics):
    """Yelp reviews: 560,000 + 38,000, negative (1 or 2 stars) or positive (3 or 4)."""

    name = "yelp_polarity"
    title = "Yelp review polarity"
    stem = "yelp_review_polarity"
    fields = 1
    classes = ("negative", "positive")
    counts = {TRAIN: 560000, TEST: 38000}  # noqa: RUF012
    escaped_newlines = True


class YelpFull(_Topics):
    """Yelp reviews: 650,000 + 50,000, by their 1 to 5 stars."""

    name = "yelp_full"
    title = "Yelp review full"
    stem = "yelp_review_full"
    fields = 1
    classes = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
    counts = {TRAIN: 650000, TEST: 50000}  # noqa: RUF012
    escaped_newlines = True


class YahooAnswers(_Topics):
    """Yahoo! Answers: titles, questions and best answers, 1,400,000 + 60,000, 10 topics."""

    name = "yahoo_answers"
    title = "Yahoo! Answers"
    stem = "yahoo_answers"
    fields = 3
    classes = (
        "Society & Culture",
        "Science & Mathematics",
        "Health",
        "Education & Reference",
        "Computers & Internet",
        "Sports",
        "Business & Finance",
        "Entertainment & Music",
        "Family & Relationships",
        "Politics & Government",
    )
    counts = {TRAIN: 1400000, TEST: 60000}  # noqa: RUF012
    escaped_newlines = True


class AmazonPolarity(_Topics):
    """Amazon reviews: titles and texts of 3,600,000 + 400,000, negative (1 or 2 stars) or positive (4 or 5)."""

    name = "amazon_polarity"
    title = "Amazon review polarity"
    stem = "amazon_review_polarity"
    fields = 2
    classes = ("negative", "positive")
    counts = {TRAIN: 3600000, TEST: 400000}  # noqa: RUF012
    escaped_newlines = True


class AmazonFull(_Topics):
    """Amazon reviews: titles and texts of 3,000,000 + 650,000, by their 1 to 5 stars."""

    name = "amazon_full"
    title = "Amazon review full"
    stem = "amazon_review_full"
    fields = 2
    classes = ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
    counts = {TRAIN: 3000000, TEST: 650000}  # noqa: RUF012
    escaped_newlines = True

"""Data sets for text classification, one family a file.

Every one of them is a map-style ``glueball.data.Dataset`` whose samples are ``(text, label)``: a str and an int. Each
has ``classes``, the class names in the order of the labels, ``labels()``, all labels at once, ``texts``, all texts, and
``summary``, a sentence that says where the texts came from and how they were split. ``fold=i, folds=k`` makes
stratified parts for cross-validation of any of them, ``holdout=0.1`` a validation part.
"""

from __future__ import annotations

from .common import PublishedDataset, TextClassificationDataset
from .customer_reviews import CR
from .polarity import MPQA, MR, SUBJ
from .reviews import IMDB, MovieReviews
from .sst import SST1, SST2
from .text_file import TextFile
from .topics import (
    AGNews,
    AmazonFull,
    AmazonPolarity,
    DBpedia,
    SogouNews,
    YahooAnswers,
    YelpFull,
    YelpPolarity,
)
from .trec import TREC

__all__ = [
    "CR",
    "IMDB",
    "MPQA",
    "MR",
    "SST1",
    "SST2",
    "SUBJ",
    "TREC",
    "AGNews",
    "AmazonFull",
    "AmazonPolarity",
    "DBpedia",
    "MovieReviews",
    "PublishedDataset",
    "SogouNews",
    "TextClassificationDataset",
    "TextFile",
    "YahooAnswers",
    "YelpFull",
    "YelpPolarity",
]

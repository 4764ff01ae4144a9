"""Data sets for text classification, one family a file.

Every one of them is a map-style ``glueball.data.Dataset`` whose samples are ``(text, label)``: a str and an int. Each
has ``classes``, the class names in the order of the labels, ``labels()``, all labels at once, ``texts``, all texts, and
``summary``, a sentence that says where the texts came from and how they were split. ``fold=i, folds=k`` makes
stratified parts for cross-validation of any of them, ``holdout=0.1`` a validation part.
"""

from __future__ import annotations

from .common import TextClassificationDataset
from .polarity import MPQA, MR, SUBJ
from .text_file import TextFile
from .trec import TREC

__all__ = ["MPQA", "MR", "SUBJ", "TREC", "TextClassificationDataset", "TextFile"]

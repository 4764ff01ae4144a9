"""Sentences in two classes without an official division: MR, SUBJ, MPQA.

Results on them are means of ten-fold cross-validation. Sources: B. Pang and L. Lee, "Seeing stars", ACL 2005 (MR) and
"A sentimental education", ACL 2004 (SUBJ), https://www.cs.cornell.edu/people/pabo/movie-review-data/; J. Wiebe, T.
Wilson and C. Cardie, "Annotating expressions of opinions and emotions in language", 2005 (MPQA).
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from glueball.errors import DataError

from .common import ALL, PublishedDataset, Samples, Source
from .decoding import published_lines
from .trees import Tree

_REPOSITORY = "https://apache-mxnet.s3-accelerate.dualstack.amazonaws.com/gluon/dataset"


def source(folder: str, name: str, archive_sha1: str, json_sha1: str) -> Source:
    """GluonNLP's archive ``name``.zip, which holds ``name``.json."""
    return Source(f"{name}.zip", f"{_REPOSITORY}/{folder}/{name}.zip", archive_sha1, f"{name}.json", json_sha1)


class OneLineSentences(PublishedDataset):
    """Two files, one for each class, with one sentence a line; the sentences of class 1 come first, as in GluonNLP."""

    parts = (ALL,)
    files: ClassVar[tuple[tuple[str, ...], tuple[str, ...]]]
    """The names that the file of class 0 and that of class 1 go by."""

    def _read(self, tree: Tree, part: str, own: bool) -> Samples | None:
        found = [tree.find(*names) for names in self.files]
        if found == [None, None]:
            return None
        texts: list[str] = []
        labels: list[int] = []
        for label in (1, 0):
            name = found[label]
            if name is None:
                raise DataError(
                    f"{tree.place} holds {found[1 - label]} of {self.title} but not {self.files[label][0]}. Put it "
                    "beside it."
                )
            for number, line in enumerate(published_lines(tree.read(name), tree.describe(name)), 1):
                if not line.strip():
                    raise DataError(f"{tree.describe(name)}, line {number}: expected a sentence. Received: nothing.")
                texts.append(line.strip(" "))
                labels.append(label)
        return Samples(texts, np.array(labels, np.int64), tree.place)


class MR(OneLineSentences):
    """Sentence polarity: 5,331 negative and 5,331 positive sentences of film reviews.

    Read from GluonNLP's JSON, from ``rt-polarity.neg`` and ``rt-polarity.pos``, and from archives of them
    (``rt-polaritydata.tar.gz`` of Cornell in Windows-1252, ``sentence_polarity.zip`` of NLTK in UTF-8).

    Args:
        split: "all"; with ``fold`` or ``holdout`` also "train", "validation", "test".
        root: as for ``PublishedDataset``; the folder is ``mr``.
        fold, folds, fold_seed, holdout, download: as for ``PublishedDataset``.

    Raises:
        OptionError: there is no such split or fold.
        DataError: a file is damaged.
        DownloadError: the files are missing and could not be fetched.
    """

    name = "mr"
    title = "MR"
    classes = ("negative", "positive")
    counts = {ALL: 10662}  # noqa: RUF012 - replaced, never changed
    sources = {  # noqa: RUF012
        ALL: source(
            "mr",
            "all-7606efec",
            "0fcbaffe0bac94733e6497f700196585f03fa89e",
            "7606efec578d9613f5c38bf2cef8d3e4e6575b2c",
        )
    }
    archives = ("sentence_polarity.zip", "rt-polaritydata.tar.gz")
    folders = ("sentence_polarity", "rt-polaritydata")
    files = (("rt-polarity.neg", "rt-polarity.neg.txt"), ("rt-polarity.pos", "rt-polarity.pos.txt"))
    hint = "Cornell's rt-polaritydata.tar.gz, NLTK's sentence_polarity.zip, or rt-polarity.pos and .neg do as well."


class SUBJ(OneLineSentences):
    """Subjectivity: 5,000 objective sentences (plots) and 5,000 subjective ones (reviews).

    Read from GluonNLP's JSON, from ``plot.tok.gt9.5000`` and ``quote.tok.gt9.5000``, and from archives of them
    (``rotten_imdb.tar.gz`` of Cornell, ``subjectivity.zip`` of NLTK). GluonNLP calls class 1 positive: it is the
    subjective one.

    Args, Raises: as for ``MR``; the folder is ``subj``.
    """

    name = "subj"
    title = "SUBJ"
    classes = ("objective", "subjective")
    counts = {ALL: 10000}  # noqa: RUF012
    sources = {  # noqa: RUF012
        ALL: source(
            "subj",
            "all-9e7bd1da",
            "8b0d95c2fc885cc38e4ad776d7429183f3ef632b",
            "9e7bd1daa359c24abe1fac767d0e0af7bc114045",
        )
    }
    archives = ("subjectivity.zip", "rotten_imdb.tar.gz")
    folders = ("subjectivity", "rotten_imdb")
    files = (("plot.tok.gt9.5000",), ("quote.tok.gt9.5000",))
    hint = "Cornell's rotten_imdb.tar.gz, NLTK's subjectivity.zip, or plot.tok.gt9.5000 and quote.tok.gt9.5000 do too."


class MPQA(OneLineSentences):
    """Opinion polarity: 10,606 phrases of the news, 7,293 negative and 3,313 positive.

    Read from GluonNLP's JSON, and from ``mpqa.neg`` and ``mpqa.pos`` with one phrase a line, as SentEval has them.

    Args, Raises: as for ``MR``; the folder is ``mpqa``.
    """

    name = "mpqa"
    title = "MPQA"
    classes = ("negative", "positive")
    counts = {ALL: 10606}  # noqa: RUF012
    sources = {  # noqa: RUF012
        ALL: source(
            "mpqa",
            "all-bcbfeed8",
            "e07ae226cfe4713328eeb9660b261b9852ff5865",
            "bcbfeed8b8767a564bdc428486ef18c1ba4dc536",
        )
    }
    folders = ("MPQA",)
    files = (("mpqa.neg",), ("mpqa.pos",))
    hint = "mpqa.pos and mpqa.neg with one phrase a line do as well."

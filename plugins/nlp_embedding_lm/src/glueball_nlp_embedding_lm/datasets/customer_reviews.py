"""CR: sentences of customers' reviews of 14 products.

M. Hu and B. Liu, "Mining and summarizing customer reviews", KDD 2004 (five products), and X. Ding, B. Liu and P. Yu, "A
holistic lexicon-based approach to opinion mining", WSDM 2008 (nine more), https://www.cs.uic.edu/~liub/FBS/.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import attrs
import numpy as np

from .common import ALL, Samples
from .decoding import published_lines
from .polarity import OneLineSentences, source
from .trees import FolderTree, Tree, open_tree

# "phone[+3], radio[+]"; a few brackets are closed by others or not at all.
_OPINION = re.compile(r"\[([+-])(\d*)")
_NOTES = frozenset(("readme.txt", "readme"))


@attrs.define
class _Counts:
    """Sentences that were left out, by why."""

    without: int = 0
    balanced: int = 0
    unclear: int = 0

    def describe(self) -> str:
        return (
            f"left out: {self.without} sentences without an opinion, {self.balanced} whose opinions cancel out, "
            f"{self.unclear} that cannot be told from their annotations"
        )


class CR(OneLineSentences):
    """Customer reviews: sentences about cameras, players, telephones and the like, positive or negative.

    Read from GluonNLP's JSON (3,775 sentences), from ``custrev.neg`` and ``custrev.pos`` as SentEval has them, and from
    Hu and Liu's annotated reviews (``product_reviews_1.zip`` with 5 products and ``product_reviews_2.zip`` with 9, of
    NLTK, or folders of these names; both are needed).

    From the annotated reviews, the class of a sentence is the sign of the sum of its annotations: "size[+1],
    sturdy[+2]" is 3, "[+]" counts 1. Left out are titles, sentences without a signed annotation, sentences whose
    annotations add up to 0, and lines on which sentences and annotations are mixed up (a second "##", or a single "#").
    3,806 sentences remain, 2,429 of them positive: 31 more than in the published set, whose authors do not say how they
    chose. ``summary`` tells how many were left out.

    Args, Raises: as for ``MR``; the folder is ``cr``.
    """

    name = "cr"
    title = "CR"
    classes = ("negative", "positive")
    counts = {ALL: 3775}  # noqa: RUF012 - replaced, never changed
    sources = {  # noqa: RUF012
        ALL: source(
            "cr",
            "all-0c9633c6",
            "c662e2f9115d74e1fcc7c896fa3e2dc5ee7688e7",
            "0c9633c695d29b18730eddff965c850425996edf",
        )
    }
    folders = ("CR",)
    files = (("custrev.neg",), ("custrev.pos",))
    hint = "NLTK's product_reviews_1.zip and product_reviews_2.zip, both, or custrev.pos and custrev.neg do as well."
    annotated = ("product_reviews_1", "product_reviews_2")
    """The two halves: each a folder or a zip archive."""

    def _annotated(self, folder: Path) -> list[Tree] | None:
        trees: list[Tree] = []
        for name in self.annotated:
            if (folder / name).is_dir():
                trees.append(FolderTree(folder / name))
            elif (folder / f"{name}.zip").is_file():
                trees.append(open_tree(folder / f"{name}.zip"))
        return trees if len(trees) == len(self.annotated) else None

    def _read(self, tree: Tree, part: str, own: bool) -> Samples | None:
        found = super()._read(tree, part, own)
        if found is None and isinstance(tree, FolderTree) and (halves := self._annotated(tree.folder)) is not None:
            self.counts = {}
            return _read_annotated(halves, tree.place)
        return found


def _read_annotated(trees: Sequence[Tree], place: str) -> Samples:
    texts: list[str] = []
    labels: list[int] = []
    counts = _Counts()
    for tree in trees:
        products = [name for name in tree.names() if name.endswith(".txt") and _base(name) not in _NOTES]
        for name, content in tree.read_all(products):
            for line in published_lines(content, tree.describe(name)):
                polarity = _polarity(line, counts)
                if polarity is not None:
                    texts.append(line.partition("##")[2].strip())
                    labels.append(polarity)
    return Samples(
        texts, np.array(labels, np.int64), f"{' and '.join(tree.place for tree in trees)}", None, counts.describe()
    )


def _base(name: str) -> str:
    return name.rpartition("/")[2].lower()


def _polarity(line: str, counts: _Counts) -> int | None:
    """1 or 0, or None for a line that is no sentence of either class."""
    annotations, mark, text = line.partition("##")
    if not mark:
        # A title, a remark about the file, or nothing; an opinion here was to have been a sentence.
        if not line.startswith(("[t]", "*")) and _OPINION.search(line):
            counts.unclear += 1
        return None
    opinions = [int(strength or 1) * (1 if sign == "+" else -1) for sign, strength in _OPINION.findall(annotations)]
    if "##" in text or _OPINION.search(text):
        counts.unclear += 1
        return None
    if not opinions:
        counts.without += 1
        return None
    if not text.strip():
        counts.unclear += 1
        return None
    total = sum(opinions)
    if total == 0:
        counts.balanced += 1
        return None
    return int(total > 0)

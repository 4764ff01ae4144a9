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

# "phone[+3], radio[+]"; a few brackets are curly, or closed by another kind or not at all.
_OPINION = re.compile(r"[\[{]([+-])")
# The last of them, with its notes, ends the annotations of the few lines that lack the mark "##".
_CLOSED_OPINION = re.compile(r"\[[+-]\d*\](?:\[\w+\])*")
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

    From the annotated reviews, the class of a sentence is what most of its annotations are, of which each counts once,
    however strong: "size[+1], sturdy[+2], price[-3]" is positive. Left out are titles, sentences without a signed
    annotation, those with as many of one sign as of the other, and lines on which sentences are mixed up (a second
    "##", or an annotation within the text). A few lines have only one "#" or none before their text; they count. These
    are 3,775 sentences, 2,407 of them positive: as many as in the published set, whose authors do not say how they
    chose. (By the sum of the strengths there would be 3,806; without sentences of both signs, 3,757.) ``summary`` tells
    how many were left out.

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
                found = _sentence(line, counts)
                if found is not None:
                    texts.append(found[0])
                    labels.append(found[1])
    return Samples(
        texts, np.array(labels, np.int64), f"{' and '.join(tree.place for tree in trees)}", None, counts.describe()
    )


def _base(name: str) -> str:
    return name.rpartition("/")[2].lower()


def _sentence(line: str, counts: _Counts) -> tuple[str, int] | None:
    """A sentence and its class, 1 or 0; None for a line that is no sentence of either class."""
    annotations, mark, text = line.partition("##")
    if not mark:
        # A title, a remark about the file, or nothing; what has an opinion was to have been a sentence.
        last = None if line.startswith(("[t]", "*")) else _last(line)
        if last is None:
            return None
        annotations, text = line[:last], line[last:].lstrip(" #")
    text = text.strip()
    if "##" in text or _OPINION.search(text):
        counts.unclear += 1
        return None
    signs = _OPINION.findall(annotations)
    if not signs:
        counts.without += 1
        return None
    if not text:
        counts.unclear += 1
        return None
    majority = signs.count("+") - signs.count("-")
    if majority == 0:
        counts.balanced += 1
        return None
    return text, int(majority > 0)


def _last(line: str) -> int | None:
    """Where the last annotation of a line ends; None without any."""
    ends = [found.end() for found in _CLOSED_OPINION.finditer(line)]
    return ends[-1] if ends else None

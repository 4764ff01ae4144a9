"""The cleaning with which Kim prepared the sentences of his convolutional networks.

Kim, "Convolutional Neural Networks for Sentence Classification", EMNLP 2014, trained on texts cleaned by a few rules
that have come to be part of the benchmark (MR, SUBJ, CR, MPQA, TREC). Written anew from what they do.
"""

from __future__ import annotations

import re
from typing import ClassVar

import attrs

from glueball_nlp_embedding_lm.tokenizers.base import Tokenizer, check_text, flag

_OTHER_CHARACTERS = re.compile(r"[^A-Za-z0-9(),!?'`]")
_ENDINGS = re.compile(r"'s|'ve|n't|'re|'d|'ll")
_PUNCTUATION = re.compile(r"[,!()?]")


@attrs.frozen
class KimTokenizer(Tokenizer):
    """The rules of Kim (2014), in their order:

    1. Characters other than ASCII letters, digits and ``( ) , ! ? ' ``` become spaces.
    2. The endings ``'s 've n't 're 'd 'll`` are cut off from what is before them, wherever they occur. They are
       known in lower case only: ``DON'T`` stays whole.
    3. ``, ! ( ) ?`` become tokens of their own.
    4. All is put in lower case.

    His code writes brackets and question marks as ``\\(``, ``\\)``, ``\\?``, by an oversight in its replacement
    strings; here they are themselves, so that pretrained embeddings know them. Texts are cut in the same way.

    Args:
        lower: step 4. Kim left it out for TREC.
        tokenized: the text is tokenised already, as the Stanford Sentiment Treebank is: only steps 1 and 4.
    """

    name: ClassVar[str] = "kim"
    lower: bool = attrs.field(default=True, validator=flag)
    tokenized: bool = attrs.field(default=False, validator=flag)

    def __call__(self, text: str) -> list[str]:
        text = _OTHER_CHARACTERS.sub(" ", check_text(text))
        if not self.tokenized:
            # No end of one pattern is the beginning of another, so that one pass does what a pass for each would do.
            text = _PUNCTUATION.sub(r" \g<0> ", _ENDINGS.sub(r" \g<0>", text))
        return (text.lower() if self.lower else text).split()

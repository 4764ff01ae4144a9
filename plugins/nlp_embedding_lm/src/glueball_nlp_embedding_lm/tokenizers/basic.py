"""Words, numbers and punctuation of English text, by one regular expression.

The way of cutting is that of the Penn Treebank as spaCy and others refined it: contractions are split ("do n't"),
punctuation stands alone, and what is one thing for a reader stays one token: addresses, abbreviations, numbers,
ellipses. The rules are our own; they need no dictionary but for some abbreviations.

No character is lost or added: the tokens put together are the text without its white space. White space always
separates, and nothing on the other side of it matters, so that the tokens of a stretch can be remembered: most
stretches of a text have occurred before. Repetitions are written so that the time is linear in the length of the text.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from typing import ClassVar

import attrs

from glueball_nlp_embedding_lm.tokenizers.base import Tokenizer, check_text, flag

# Kept together with their full stop. Those with a capital are words without it, or ends of sentences ("jan", "gen").
_TITLES_AND_NAMES = (
    "Adm Apr Aug Ave Blvd Brig Bros Capt Cmdr Co Col Corp Cpl Dec Dept Dr Esq Feb Fr Gen Gov Hon Inc Jan Jr Jul Jun Lt "
    "Ltd Maj Messrs Mr Mrs Ms Mt Nov Oct Prof Rep Rev Sen Sept Sgt Sr St Ste Supt Univ"
)
_LOWER_CASE = "approx assn bros cf corp dept dr etc inc jr ltd mr mrs ms prof sgt sr vs"

# Cut off from their number; single letters are not, since 3G and 5k mean other things.
_UNITS = "km|cm|mm|nm|kg|mg|lbs?|oz|ft|mph|kb|mb|gb|tb|k?hz|mhz|ghz|px|dpi|am|pm"
_DOMAINS = "com|org|net|edu|gov|mil|info|biz"

# A stretch that is longer is hardly seen twice, and remembering it would cost memory.
_REMEMBERED_LENGTH = 64
_REMEMBERED = 1 << 16


@cache
def _expression(split_hyphens: bool) -> re.Pattern[str]:
    letters = f"[^\\W_]+(?:[{_marks()}][^\\W_]*)*"
    apostrophe = "['\u2019]"
    # An underscore is no part of a word where it stands at an end: _emphasis_.
    start, end = r"(?<![^\W_])", r"(?![^\W_])"
    stop = f"(?:n{apostrophe}t)?{end}"
    clitic = f"{apostrophe}(?i:s|re|ve|ll|d|m){end}"
    # Within a word: O'Brien, snake_case, F-16, and where hyphens do not split also well-known.
    hyphen = r"(?<=[^\W\d_])-(?=\d)" if split_hyphens else "-"
    inner = f"(?:_+|{apostrophe}(?!(?i:s|re|ve|ll|d|m){end})|{hyphen})"
    # What ends an address is rather the sentence's.
    address = r"""[^\s<>"]*[^\s<>".,;:!?'\u2019\u201d()\[\]{}]"""
    modifier = "[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]*"
    abbreviations = "|".join(
        sorted(f"{_TITLES_AND_NAMES} {_TITLES_AND_NAMES.upper()} {_LOWER_CASE}".split(), key=len, reverse=True)
    )
    # Which of a group stands first matters: the first that fits is taken.
    of_letters = (
        rf"(?:https?|ftp)://{address}",
        rf"www\.{address}",
        rf"[\w.+%-]{{1,64}}@(?:[^\W_][\w-]{{0,62}}\.){{1,8}}[^\W\d_]{{2,24}}{end}",
        rf"(?:[a-z0-9][a-z0-9-]{{0,62}}\.){{1,4}}(?:{_DOMAINS})(?:/(?:{address})?)?{end}",
        rf"\d+(?:[.,]\d+)*(?=(?i:{_UNITS}){end})",
        # With its ending: 3D, 20th, 1990s.
        rf"\d+(?:[.,:/]\d+)*(?:{letters})?",
        # U.S., e.g., a.m., degrees, and a name's initial.
        r"(?:[^\W\d_]\.){2,}",
        rf"[^\W\d_](?:\.[^\W\d_])+{end}",
        rf"(?:Ph\.D|M\.Sc|B\.Sc)\.?{end}",
        rf"[A-HJ-Z]\.{end}",
        rf"(?:{abbreviations})\.{end}",
        # Contractions. The second half stands before the first: "n't" must not be taken for a word.
        rf"(?i:n{apostrophe}t){end}",
        rf"(?i:can(?=not{stop})|gon(?=na{stop})|wan(?=na{stop})|got(?=ta{stop})|gim(?=me{stop})|lem(?=me{stop}))",
        rf"[^\W_]+?(?=(?i:n{apostrophe}t){end})",
        f"{letters}(?:{inner}{letters})*",
    )
    of_signs = (
        # Alone where the text was tokenised before.
        rf"(?<=\w){clitic}|\A{clitic}\Z",
        # Mentions and tags.
        rf"{start}[@#][^\W\d]\w*",
        # Faces and hearts.
        rf"{start}(?:[:;=]['\u2019]?[-o]?[()\[\]DPp/\\|]|</?3){end}",
        # Decades, and words whose first letters are left out.
        rf"{start}{apostrophe}(?:\d0s|(?i:em|tis|twas|til|cause|bout)){end}",
        rf"{start}\.\d+(?:{letters})?",
        # Ellipses, dashes and rules.
        r"\.{2,}",
        r"([-=*_~#])\1+",
        "[\U0001f1e6-\U0001f1ff]{2}",
        # Any other sign; a picture of several parts is one.
        f"\\S{modifier}(?:\u200d\\S{modifier})*",
    )
    return re.compile(rf"(?=[^\W_])(?:{'|'.join(of_letters)})|{'|'.join(of_signs)}")


def _marks() -> str:
    """What belongs to the letter before it and is no letter for ``\\w``: accents, vowel signs and joiners."""
    # Beyond U+FFFF are scripts of the past, and expressions that hold such characters are much slower.
    return "\u200c\u200d" + "".join(
        character
        for character in map(chr, range(0x300, 0x10000))
        if unicodedata.category(character).startswith("M") and not character.isalnum()
    )


def _cut(stretch: str, split_hyphens: bool, lower: bool) -> tuple[str, ...]:
    tokens = tuple(found.group() for found in _expression(split_hyphens).finditer(stretch))
    return tuple(token.lower() for token in tokens) if lower else tokens


_remembering_cut = lru_cache(_REMEMBERED)(_cut)


@attrs.frozen
class BasicTokenizer(Tokenizer):
    """The tokens of English text, in the manner of the Penn Treebank and spaCy.

    - Contractions and possessives are split: ``do n't``, ``ca n't``, ``it 's``, ``we 'll``, ``can not``, ``gon na``.
    - Punctuation and symbols are tokens of their own, but ellipses and dashes of several characters are one.
    - Web and e-mail addresses, ``@names``, ``#tags``, ``:-)``, numbers with their points (``1,000.50``, ``10:30``,
      ``1/2``), ``U.S.``, ``e.g.``, ``Ph.D.``, ``Mr.`` and the like are one token each.
    - Hyphenated words are split (``well - known``) but before a number (``F-16``), and numbers from their units
      (``10 km``).
    - Texts that were tokenised in this manner before stay as they are.

    White space is dropped; all other characters are kept, in their order.

    Args:
        lower: give tokens in lower case. The rules see the text as it is.
        split_hyphens: False keeps hyphenated words whole.

    Example:
        >>> BasicTokenizer()("Mr. O'Brien can't pay $1,000.50 by 10:30 a.m. (see http://example.org)...")
        ['Mr.', "O'Brien", 'ca', "n't", 'pay', '$', '1,000.50', 'by', '10:30', 'a.m.', '(', 'see', \
'http://example.org', ')', '...']
    """

    name: ClassVar[str] = "basic"
    lower: bool = attrs.field(default=False, validator=flag)
    split_hyphens: bool = attrs.field(default=True, validator=flag)

    def __call__(self, text: str) -> list[str]:
        tokens: list[str] = []
        for stretch in check_text(text).split():
            cut = _remembering_cut if len(stretch) <= _REMEMBERED_LENGTH else _cut
            tokens.extend(cut(stretch, self.split_hyphens, self.lower))
        return tokens

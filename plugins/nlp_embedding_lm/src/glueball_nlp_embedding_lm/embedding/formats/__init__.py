"""Files of vectors: one module for each form; ``read`` tells them apart."""

from __future__ import annotations

import codecs
import os

from glueball.errors import OptionError
from glueball_nlp_embedding_lm.embedding.formats.fasttext import is_fasttext, read_fasttext
from glueball_nlp_embedding_lm.embedding.formats.npz import read_npz
from glueball_nlp_embedding_lm.embedding.formats.opening import is_npz, opened
from glueball_nlp_embedding_lm.embedding.formats.table import Contents
from glueball_nlp_embedding_lm.embedding.formats.text import read_text
from glueball_nlp_embedding_lm.embedding.formats.word2vec import is_word2vec, read_word2vec

FORMATS = ("text", "word2vec", "fasttext", "npz")

_BEGINNING = 1 << 16


def read(
    path: str | os.PathLike[str],
    delimiter: str,
    encoding: str,
    format: str | None,
    member: str | None,
    unknown_token: str | None,
) -> Contents:
    """Reads a file of vectors; ``TokenEmbedding.from_file`` documents all of it."""
    if not delimiter or any(character.isalnum() or character in "\n\r.+-" for character in delimiter):
        raise OptionError(
            "elem_delim stands between token and numbers and is no part of numbers, such as ' '. "
            f"Received: {delimiter!r}."
        )
    try:
        if codecs.lookup(encoding) and "a 1\n".encode(encoding) != b"a 1\n":
            raise OptionError(f"The encoding of vectors must agree with ASCII. Received: {encoding!r}.")
    except LookupError as error:
        raise OptionError(f"No such encoding: {encoding!r}. Expected one such as 'utf-8'.") from error
    if format is not None and format not in FORMATS:
        raise OptionError(f"No such format: {format!r}. Expected one of {', '.join(FORMATS)}, or None.")
    if format == "npz" or (format is None and is_npz(path)):
        if member is not None:
            raise OptionError(f"An .npz file is read as a whole. Received: member={member!r}. Leave it out.")
        return read_npz(path)
    with opened(path, member) as source:
        if format is None:
            start = source.peek(_BEGINNING)
            format = (
                "fasttext"
                if is_fasttext(start)
                else "word2vec"
                if is_word2vec(start, delimiter.encode(encoding))
                else "text"
            )
        if format == "fasttext":
            return read_fasttext(source, encoding, unknown_token)
        if format == "word2vec":
            return read_word2vec(source, encoding, unknown_token)
        return read_text(source, delimiter, encoding, unknown_token)


__all__ = ["FORMATS", "Contents", "read"]

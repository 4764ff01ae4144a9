"""Published word vectors by name: GloVe's, word2vec's and fastText's, in the files that GluonNLP offered.

``sources.tsv`` has a line for each file: embedding, source, file, SHA-1; from GluonNLP 0.10.0's constants.
"""

from __future__ import annotations

import functools
from importlib import resources
from typing import Any, overload

import attrs

from glueball.errors import OptionError, UnknownNameError
from glueball_nlp_embedding_lm.embedding import official
from glueball_nlp_embedding_lm.embedding.official import MIRROR, OfficialFile
from glueball_nlp_embedding_lm.embedding.token_embedding import TokenEmbedding

DEFAULT_SOURCES = {
    "glove": "glove.6B.50d",
    "word2vec": "GoogleNews-vectors-negative300",
    "fasttext": "wiki.simple",
}


@attrs.frozen
class Source:
    """The files of one set of vectors."""

    vectors: OfficialFile
    ngrams: OfficialFile | None = None
    """fastText's model, with vectors of n-grams, where it was published."""


@functools.cache
def table() -> dict[str, dict[str, Source]]:
    """Embedding -> source -> files."""
    embeddings: dict[str, dict[str, Source]] = {name: {} for name in DEFAULT_SOURCES}
    text = resources.files(__package__).joinpath("sources.tsv").read_text("utf-8")
    for line in text.splitlines():
        embedding, name, file, sha1 = line.split("\t")
        found = OfficialFile(file, sha1, f"{MIRROR}embeddings/{embedding}/{file}")
        sources = embeddings[embedding]
        if file.endswith(".bin"):
            sources[name] = attrs.evolve(sources[name], ngrams=found)
        else:
            sources[name] = Source(found)
    return embeddings


@overload
def list_sources(name: None = None) -> dict[str, list[str]]: ...
@overload
def list_sources(name: str) -> list[str]: ...
def list_sources(name: str | None = None) -> dict[str, list[str]] | list[str]:
    """The names that ``create`` knows: of one embedding ("glove", "word2vec", "fasttext"), or of each.

    Raises:
        UnknownNameError: there is no such embedding.

    Example:
        >>> list_sources("word2vec")
        ['GoogleNews-vectors-negative300', 'freebase-vectors-skipgram1000', 'freebase-vectors-skipgram1000-en']
    """
    if name is None:
        return {embedding: sorted(sources) for embedding, sources in table().items()}
    return sorted(_sources(name))


def create(
    name: str, source: str | None = None, *, load_ngrams: bool = False, root: Any = None, **options: Any
) -> TokenEmbedding:
    """Published vectors, from this machine or downloaded; the file's full SHA-1 is checked before it is opened.

    The file is looked for in ``GLUEBALL_HOME/embedding/<name>``, ``MXNET_HOME/embedding/<name>`` and
    ``~/.mxnet/embedding/<name>``.

    Args:
        name: "glove", "word2vec" or "fasttext", in any case.
        source: one of ``list_sources(name)``; None: glove.6B.50d, GoogleNews-vectors-negative300 or wiki.simple.
        load_ngrams: fastText only: tokens that are not in the table get vectors from their n-grams. This needs a second
            file of gigabytes, which must stay where it is.
        root: a folder to look in (and download to) instead.
        options: those of ``TokenEmbedding``: unknown_token, init_unknown_vec, allow_extend, unknown_lookup.

    Raises:
        UnknownNameError: there is no such embedding or source.
        OptionError: n-grams are asked for where there are none, or together with ``unknown_lookup``.
        DownloadError: the file is not here and cannot be downloaded (the message says what to put where), or has
            another hash.
        DataError: see ``TokenEmbedding.from_file``.

    Example:
        >>> embedding = create("glove", source="glove.6B.50d")  # doctest: +SKIP
    """
    sources = _sources(name)
    embedding = name.lower()
    chosen = DEFAULT_SOURCES[embedding] if source is None else source
    if chosen not in sources:
        raise UnknownNameError(_unknown(f"source of {embedding}", chosen, sources, f"list_sources({embedding!r})"))
    files = sources[chosen]
    searched = official.folders("embedding", embedding, root)
    title = f"The embedding {embedding} {chosen}"
    if load_ngrams:
        if files.ngrams is None:
            with_ngrams = sum(1 for other in sources.values() if other.ngrams is not None)
            raise OptionError(
                f"No n-grams were published for {embedding} {chosen}. {with_ngrams} sources of {embedding} have them. "
                "Leave load_ngrams out."
            )
        if options.get("unknown_lookup") is not None:
            raise OptionError("load_ngrams and unknown_lookup were both given. Expected one of them.")
        # Imported late: most vectors need no model.
        from glueball_nlp_embedding_lm.embedding.formats.fasttext import read_model

        options["unknown_lookup"] = read_model(official.fetch(title, files.ngrams, searched))
    return TokenEmbedding.from_file(official.fetch(title, files.vectors, searched), format="npz", **options)


def _sources(name: str) -> dict[str, Source]:
    embeddings = table()
    if name.lower() not in embeddings:
        raise UnknownNameError(_unknown("embedding", name, embeddings, "list_sources()"))
    return embeddings[name.lower()]


def _unknown(kind: str, name: str, names: dict[str, Any], listing: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, names, 3)
    meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    return f"There is no {kind} {name!r}.{meant} All {len(names)} names: {listing}."

"""Word vectors: ``TokenEmbedding``, the files that it reads, published vectors by name, and how vectors are judged."""

from __future__ import annotations

from glueball_nlp_embedding_lm.embedding.evaluation import (
    AnalogyResult,
    SimilarityResult,
    WordEmbeddingAnalogy,
    WordEmbeddingSimilarity,
    evaluate_analogies,
    evaluate_similarity,
    list_evaluation_functions,
)
from glueball_nlp_embedding_lm.embedding.evaluation_sets import (
    EVALUATION_SETS,
    AnalogySet,
    SimilaritySet,
    evaluation_set,
)
from glueball_nlp_embedding_lm.embedding.formats.fasttext import FastTextVectors
from glueball_nlp_embedding_lm.embedding.sources import create, list_sources
from glueball_nlp_embedding_lm.embedding.token_embedding import UNKNOWN_TOKEN, TokenEmbedding, UnknownTokenError

__all__ = [
    "EVALUATION_SETS",
    "UNKNOWN_TOKEN",
    "AnalogyResult",
    "AnalogySet",
    "FastTextVectors",
    "SimilarityResult",
    "SimilaritySet",
    "TokenEmbedding",
    "UnknownTokenError",
    "WordEmbeddingAnalogy",
    "WordEmbeddingSimilarity",
    "create",
    "evaluate_analogies",
    "evaluate_similarity",
    "evaluation_set",
    "list_evaluation_functions",
    "list_sources",
]

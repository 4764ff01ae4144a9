"""Word vectors: ``TokenEmbedding``, the files that it reads, published vectors by name, and how vectors are judged."""

from __future__ import annotations

from glueball_nlp_embedding_lm.embedding.token_embedding import UNKNOWN_TOKEN, TokenEmbedding, UnknownTokenError

__all__ = ["UNKNOWN_TOKEN", "TokenEmbedding", "UnknownTokenError"]

"""Bags of embeddings (Joulin et al. 2016, arXiv:1607.01759): the mean of a text's vectors, and one dense layer.

N-grams of words, hashed into buckets, are further ids behind those of the vocabulary. The data pipeline makes them; the
network sees ids only.
"""

from __future__ import annotations

from typing import Any

from glueball import init, nn
from glueball.errors import OptionError

from .textcnn import check_sizes


class FastTextClassifier(nn.HybridBlock):
    """Embedding, mean over the tokens of the text, one dense layer.

    Input: token_ids (batch, length) int32 and valid_length (batch,) float32; the mean of no token is the zero vector.
    Output: logits (batch, classes).

    Args:
        vocab_size: number of tokens.
        embed_size: width of their vectors.
        classes: number of classes.
        buckets: ids for hashed n-grams, from ``vocab_size`` on.
        dropout: share of the mean's components that a training step leaves out; the paper has none.

    Raises:
        OptionError: a size is not positive, or ``buckets`` is negative.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_size: int = 100,
        classes: int = 2,
        buckets: int = 0,
        dropout: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_sizes(vocab_size=vocab_size, embed_size=embed_size)
        if isinstance(buckets, bool) or not isinstance(buckets, int) or buckets < 0:
            raise OptionError(f"buckets is an integer of at least 0. Received: {buckets!r}.")
        with self.name_scope():
            # The range of fastText's own first vectors.
            self.embedding = nn.Embedding(
                vocab_size + buckets, embed_size, weight_initializer=init.Uniform(1.0 / embed_size)
            )
            self.dropout = nn.Dropout(dropout)
            self.output = nn.Dense(classes, in_units=embed_size)

    def hybrid_forward(self, F: Any, token_ids: Any, valid_length: Any) -> Any:
        vectors = F.SequenceMask(self.embedding(token_ids), valid_length, use_sequence_length=True, axis=1)
        count = F.expand_dims(F.maximum(valid_length, 1.0), axis=1)
        return self.output(self.dropout(F.broadcast_div(F.sum(vectors, axis=1), count)))


def fasttext_classifier(vocab_size: int, embed_size: int = 100, classes: int = 2, **options: Any) -> FastTextClassifier:
    """What ``glueball.get_model("fasttext_classifier", vocab_size=...)`` calls; options of ``FastTextClassifier``."""
    return FastTextClassifier(vocab_size, embed_size, classes, **options)

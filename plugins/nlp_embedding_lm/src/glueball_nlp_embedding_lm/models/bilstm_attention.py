"""Bi-LSTM with self-attentive pooling (Lin et al. 2017, arXiv:1703.03130): where in a text to look is learned.

The paper's A = softmax(W2 · tanh(W1 · Hᵀ)) and M = A · H, equations (6) and (8), over the tokens of the text alone. Its
penalty on hops that look at the same places (section 2.2) and its hidden layer before the classes are not part of this.
"""

from __future__ import annotations

from typing import Any

from glueball import init, nn, rnn

from .textcnn import check_sizes

# What is added to the scores of padding: its weight is 0 in every data type, and the number is finite in each.
_NOWHERE = -1e4


class SelfAttentionPooling(nn.HybridBlock):
    """Weighted sums of a sequence, one for each hop; the weights of a hop add up to 1 over the sequence.

    Input: states (batch, length, width), zero beyond the sequence, and valid_length (batch,). Output:
    (batch, hops * width); zeros for a sequence of length 0.

    Args:
        units: width of the hidden layer that scores are made from.
        hops: how many sums.
        in_units: width of the states; 0 leaves it to the first input.
    """

    def __init__(self, units: int, hops: int, in_units: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        with self.name_scope():
            self.hidden = nn.Dense(units, activation="tanh", use_bias=False, flatten=False, in_units=in_units)
            self.score = nn.Dense(hops, use_bias=False, flatten=False, in_units=units)

    def hybrid_forward(self, F: Any, states: Any, valid_length: Any) -> Any:
        scores = self.score(self.hidden(states))
        inside = F.SequenceMask(
            F.ones_like(F.slice_axis(scores, axis=2, begin=0, end=1)), valid_length, use_sequence_length=True, axis=1
        )
        # Multiplied first, so that nothing of what stands in the padding is left.
        scores = F.broadcast_add(F.broadcast_mul(scores, inside), (1 - inside) * _NOWHERE)
        weights = F.softmax(scores, axis=1)
        return F.Flatten(F.batch_dot(weights, states, transpose_a=True))


class BiLSTMAttention(nn.HybridBlock):
    """Embedding, LSTM in both directions, self-attentive pooling, dropout, one dense layer.

    Input: token_ids (batch, length) int32 and valid_length (batch,) float32, which may be 0. Output: logits
    (batch, classes).

    Args:
        vocab_size: number of tokens.
        embed_size: width of their vectors.
        classes: number of classes.
        hidden_size: width of the LSTM in each direction.
        num_layers: layers of the LSTM.
        attention_units: width of the hidden layer of the attention.
        hops: how many places a text is looked at.
        dropout: share of the pooled features, and of what goes from one layer of the LSTM to the next, that a training
            step leaves out.

    Raises:
        OptionError: a size is not positive.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_size: int = 300,
        classes: int = 2,
        hidden_size: int = 100,
        num_layers: int = 1,
        attention_units: int = 64,
        hops: int = 1,
        dropout: float = 0.5,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_sizes(vocab_size=vocab_size, embed_size=embed_size, hidden_size=hidden_size, num_layers=num_layers)
        check_sizes(attention_units=attention_units, hops=hops)
        width = 2 * hidden_size
        with self.name_scope():
            self.embedding = nn.Embedding(vocab_size, embed_size, weight_initializer=init.Uniform(0.25))
            self.encoder = rnn.LSTM(
                hidden_size,
                num_layers,
                layout="NTC",
                dropout=dropout,
                bidirectional=True,
                input_size=embed_size,
                use_sequence_length=True,
            )
            self.pooling = SelfAttentionPooling(attention_units, hops, in_units=width)
            self.dropout = nn.Dropout(dropout)
            self.output = nn.Dense(classes, in_units=hops * width)

    def hybrid_forward(self, F: Any, token_ids: Any, valid_length: Any) -> Any:
        states = self.encoder(self.embedding(token_ids), None, valid_length)
        return self.output(self.dropout(self.pooling(states, valid_length)))


def bilstm_attention(vocab_size: int, embed_size: int = 300, classes: int = 2, **options: Any) -> BiLSTMAttention:
    """What ``glueball.get_model("bilstm_attention", vocab_size=...)`` calls; options of ``BiLSTMAttention``."""
    return BiLSTMAttention(vocab_size, embed_size, classes, **options)

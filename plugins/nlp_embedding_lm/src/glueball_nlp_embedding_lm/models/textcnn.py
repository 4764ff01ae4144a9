"""Convolutional networks for sentences (Kim 2014, arXiv:1408.5882).

Words become vectors, filters of several widths slide over them, and of each filter the highest answer within the text
counts. The parameters have the names and shapes of GluonNLP's network (``embedding.weight``,
``encoder._convs.0.0.weight``, ``output.1.bias``), so that its files load.

Kim rescales the rows of the last layer to a norm of at most 3 after each update. Zhang & Wallace (arXiv:1510.03820,
section 4.7) find that this hardly matters, and weight decay serves instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glueball import init, nn
from glueball.errors import OptionError

MODES = ("rand", "static", "non-static", "multichannel")


class ConvolutionalEncoder(nn.HybridBlock):
    """Filters over a sequence of vectors, ReLU, and the maximum over the windows that touch the text.

    Input: vectors (batch, length, width), zero beyond the text, and valid_length (batch,). Output: (batch, filters).

    Args:
        in_channels: width of the vectors.
        num_filters: filters of each width.
        filter_sizes: how many words each filter sees.
        wide: windows may begin before the first word and end after the last one, where the missing words count as
            zeros ("wide" convolution, arXiv:1404.2188), so that a filter can tell the beginning of a text and every
            word is seen by every weight. Without it a window lies within the text; a text shorter than the filter has
            one window, filled up with zeros.
    """

    def __init__(
        self, in_channels: int, num_filters: Sequence[int], filter_sizes: Sequence[int], wide: bool, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        self._filter_sizes = tuple(filter_sizes)
        self._wide = wide
        with self.name_scope():
            # The underscore and the second level are those of the published files.
            self._convs = nn.HybridSequential(prefix="")
            for channels, size in zip(num_filters, filter_sizes, strict=True):
                convolution = nn.HybridSequential(prefix="")
                convolution.add(nn.Conv1D(channels, size, padding=size - 1, in_channels=in_channels))
                self._convs.add(convolution)

    def hybrid_forward(self, F: Any, vectors: Any, valid_length: Any) -> Any:
        sequence = F.transpose(vectors, axes=(0, 2, 1))
        features = []
        for size, convolution in zip(self._filter_sizes, self._convs, strict=True):
            answers = convolution(sequence)
            if self._wide:
                windows = F.maximum(valid_length + (size - 1), 1.0)
            else:
                # A graph cannot ask whether a batch is shorter than the filter. Zeros on one side only, put there by
                # concat, take as long as these (2 to 15 % longer on PyTorch), and round differently on MXNet.
                answers = F.slice_axis(answers, axis=2, begin=size - 1, end=None)
                windows = F.maximum(valid_length - (size - 1), 1.0)
            # ReLU comes after the maximum: it is the same, and of far fewer numbers. What it makes of a window that is
            # set to zero, or of answers that are all below zero, is zero either way.
            inside = F.ones_like(F.squeeze(F.slice_axis(answers, axis=1, begin=0, end=1), axis=1))
            inside = F.SequenceMask(inside, windows, use_sequence_length=True, axis=1)
            features.append(F.relu(F.max(F.broadcast_mul(answers, F.expand_dims(inside, axis=1)), axis=2)))
        return F.concat(*features, dim=1)


class TextCNN(nn.HybridBlock):
    """Embedding, convolutions, maximum over time, dropout, one dense layer.

    Input: token_ids (batch, length) int32 and valid_length (batch,) float32, which may be 0. Output: logits
    (batch, classes).

    Args:
        vocab_size: number of tokens.
        embed_size: width of their vectors.
        classes: number of classes.
        mode: "rand" and "non-static" train the vectors, "static" leaves them as they are, "multichannel" has two of
            each token side by side, of which the second is trained. Where vectors come from is the caller's matter: set
            ``embedding.weight`` (and ``embedding_extend.weight``) before training.
        num_filters: filters of each width.
        filter_sizes: widths of the filters, in words.
        dropout: share of the features that a training step leaves out.
        wide: see ``ConvolutionalEncoder``.

    Raises:
        OptionError: the mode is unknown, or sizes are not positive.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_size: int = 300,
        classes: int = 2,
        mode: str = "non-static",
        num_filters: int | Sequence[int] = 100,
        filter_sizes: Sequence[int] = (3, 4, 5),
        dropout: float = 0.5,
        wide: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if mode not in MODES:
            raise OptionError(f"mode is one of {', '.join(MODES)}. Received: {mode!r}.")
        widths = tuple(filter_sizes)
        counts = (num_filters,) * len(widths) if isinstance(num_filters, int) else tuple(num_filters)
        check_sizes(vocab_size=vocab_size, embed_size=embed_size)
        if not widths or len(counts) != len(widths) or min(*widths, *counts) < 1:
            raise OptionError(
                "filter_sizes are positive widths, and num_filters is one number or one for each width. "
                f"Received: filter_sizes={filter_sizes!r}, num_filters={num_filters!r}."
            )
        channels = 2 if mode == "multichannel" else 1
        with self.name_scope():
            self.embedding = nn.Embedding(vocab_size, embed_size, weight_initializer=init.Uniform(0.25))
            if mode == "multichannel":
                self.embedding_extend = nn.Embedding(vocab_size, embed_size, weight_initializer=init.Uniform(0.25))
            else:
                self.embedding_extend = None
            self.encoder = ConvolutionalEncoder(channels * embed_size, counts, widths, wide)
            self.output = nn.HybridSequential(prefix="")
            self.output.add(nn.Dropout(dropout), nn.Dense(classes, in_units=sum(counts)))
        if mode in ("static", "multichannel"):
            self.embedding.weight.grad_req = "null"

    def hybrid_forward(self, F: Any, token_ids: Any, valid_length: Any) -> Any:
        vectors = self.embedding(token_ids)
        if self.embedding_extend is not None:
            vectors = F.concat(vectors, self.embedding_extend(token_ids), dim=2)
        vectors = F.SequenceMask(vectors, valid_length, use_sequence_length=True, axis=1)
        return self.output(self.encoder(vectors, valid_length))


def check_sizes(**sizes: int) -> None:
    """Demands positive integers.

    Raises:
        OptionError: one is none; the message names it.
    """
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            raise OptionError(f"{name} is a positive integer. Received: {size!r}.")


def textcnn(vocab_size: int, embed_size: int = 300, classes: int = 2, **options: Any) -> TextCNN:
    """What ``glueball.get_model("textcnn", vocab_size=...)`` calls; options of ``TextCNN``."""
    return TextCNN(vocab_size, embed_size, classes, **options)

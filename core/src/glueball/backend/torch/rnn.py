"""The recurrent layers of the dialect: what ``glueball.rnn`` hands on."""

from __future__ import annotations

from glueball.backend.torch.layers.cells import GRUCell, LSTMCell, RNNCell
from glueball.backend.torch.layers.recurrent import GRU, LSTM, RNN

__all__ = ["GRU", "LSTM", "RNN", "GRUCell", "LSTMCell", "RNNCell"]

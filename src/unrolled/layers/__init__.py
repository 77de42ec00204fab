"""Layers own tensors and time, for any cell: `outputs, state = layer(x, state, lengths)`. They know nothing of text."""

from unrolled.layers.bidirectional import Bidirectional
from unrolled.layers.dropout import Dropout
from unrolled.layers.linear import Linear
from unrolled.layers.recurrent import Recurrent
from unrolled.layers.stack import Stack

__all__ = ["Bidirectional", "Dropout", "Linear", "Recurrent", "Stack"]

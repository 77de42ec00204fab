"""A recurrent language model: embedding, recurrence, readout. What comes next, given all that came before."""

import json
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from unrolled.equations import Program
from unrolled.errors import UnrolledError
from unrolled.layers import Dropout, Linear, Recurrent

State = tuple[Any, ...]


class LanguageModel(nn.Module):
    """Token ids -> embedding -> `layers` recurrent layers -> readout y_t = W_hy h_t + b_y (Mikolov et al. 2010).

    From the second layer on, a layer's output is added to its input where both have one size (He et al. 2016), so
    that the readout reads the sum of all layers.

    `cell` is any Program, such as `unrolled.cells.gru`; `dropout` acts on what enters each recurrent layer and the
    readout. `sizes` are those that the cell names beside "input" and "hidden".
    """

    def __init__(
        self,
        cell: Program,
        vocabulary_size: int,
        embedding_size: int,
        hidden_size: int,
        layers: int = 1,
        dropout: float = 0.0,
        **sizes: int,
    ) -> None:
        super().__init__()
        if layers < 1 or vocabulary_size < 1 or embedding_size < 1:
            raise UnrolledError(
                f"a language model needs at least 1 layer, token and embedding feature; "
                f"{layers}, {vocabulary_size} and {embedding_size} came."
            )
        if not 0.0 <= dropout < 1.0:
            raise UnrolledError(f"dropout is a probability of at least 0 and below 1, not {dropout}.")
        table = torch.empty(vocabulary_size, embedding_size)
        if not table.is_meta:  # there torch would spend two seconds on imports to draw no numbers
            nn.init.normal_(table)
        self.embedding = nn.Embedding(vocabulary_size, embedding_size, _weight=table)
        self.dropout = Dropout(dropout)
        self.layers = nn.ModuleList()
        width = embedding_size
        for _ in range(layers):
            layer = Recurrent(cell, width, hidden_size, **sizes)
            self.layers.append(layer)
            width = layer.output_size
        self.readout = Linear(width, vocabulary_size)
        self.config = {
            "cell": cell.to_json(),
            "vocabulary_size": vocabulary_size,
            "embedding_size": embedding_size,
            "hidden_size": hidden_size,
            "layers": layers,
            "dropout": dropout,
            **sizes,
        }

    def forward(
        self, tokens: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Logits of the next token after each step.

        `tokens` (batch, time) int64, `state` as returned before or None, `lengths` (batch,) or None. Returns logits
        (batch, time, vocabulary) and the state after the last step.
        """
        if state is not None and len(state) != len(self.layers):
            raise UnrolledError(f"the state has {len(self.layers)} parts, one a layer; {len(state)} came.")
        h = self.embedding(tokens)
        after: list[State] = []
        for layer, before in zip(self.layers, state or [None] * len(self.layers), strict=True):
            outputs, own = layer(self.dropout(h)[0], before, lengths)
            h = h + outputs if after and h.shape == outputs.shape else outputs
            after.append(own)
        return self.readout(self.dropout(h)[0]), tuple(after)

    def loss(
        self, tokens: Tensor, targets: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Mean cross-entropy in nats per token of `targets` (batch, time), and the state after the last step.

        Steps past a row's length do not count.
        """
        logits, state = self(tokens, state, lengths)
        if lengths is not None:
            counted = lengths.unsqueeze(1) > tokens.new_tensor(range(tokens.shape[1]))
            logits, targets = logits[counted], targets[counted]
        return functional.cross_entropy(logits.flatten(0, -2), targets.flatten()), state

    def to_json(self) -> str:
        """All that is needed to build this model again, weights apart: sizes and the cell's equations."""
        return json.dumps(self.config)

    @staticmethod
    def from_json(text: str) -> "LanguageModel":
        """A model as `to_json` described it, with fresh weights. Raises UnrolledError if the text is damaged."""
        try:
            config = json.loads(text)
            return LanguageModel(Program.from_json(config.pop("cell")), **config)
        except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, OverflowError) as error:
            if isinstance(error, UnrolledError):
                raise
            raise UnrolledError(f"the model's description is damaged ({error!r}); use a good copy.") from error


def detached(state: Any) -> Any:
    """The same state, cut off from its history: where truncated backpropagation through time stops."""
    if isinstance(state, Tensor):
        return state.detach()
    return tuple(detached(part) for part in state)


def forgetful(state: Any, share: float) -> Any:
    """The same state with zeros in a random `share` of its rows, the same ones in all parts (Melis et al. 2018)."""
    first = state
    while not isinstance(first, Tensor):
        first = first[0]
    kept = (torch.rand(first.shape[0], 1, device=first.device) >= share).to(first.dtype)

    def thinned(part: Any) -> Any:
        return part * kept if isinstance(part, Tensor) else tuple(thinned(p) for p in part)

    return thinned(state)

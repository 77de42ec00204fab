"""A recurrent language model: embedding, recurrence, readout. What comes next, given all that came before."""

import json
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.engine import look_up
from unrolled.equations import Program
from unrolled.errors import UnrolledError
from unrolled.layers import Dropout, Linear, Recurrent
from unrolled.layers.readout_loss import readout_loss

State = tuple[Any, ...]


class LanguageModel(nn.Module):
    """Token ids -> embedding -> `layers` recurrent layers -> readout y_t = W_hy h_t + b_y (Mikolov et al. 2010).

    From the second layer on, a layer's output is added to its input where both have one size (He et al. 2016), so
    that the readout reads the sum of all layers.

    `cell` is any Program, such as `unrolled.cells.gru`; `dropout` acts on what enters each recurrent layer and the
    readout, the same in all steps of a call. `sizes` are those that the cell names beside "input" and "hidden".

    `members` such networks learn side by side, each from its own errors, and predict together by the mean of their
    logits (Hansen & Salamon 1990): what one of them learned by heart, the others outvote. They share b_y and nothing
    else: `layers` holds those of the first, then those of the second, the columns of embedding and W_hy likewise.
    """

    def __init__(
        self,
        cell: Program,
        vocabulary_size: int,
        embedding_size: int,
        hidden_size: int,
        layers: int = 1,
        dropout: float = 0.0,
        members: int = 1,
        **sizes: int,
    ) -> None:
        super().__init__()
        if min(layers, vocabulary_size, embedding_size, members) < 1:
            raise UnrolledError(
                f"a language model needs at least 1 layer, token, embedding feature and member; "
                f"{layers}, {vocabulary_size}, {embedding_size} and {members} came."
            )
        if not 0.0 <= dropout < 1.0:
            raise UnrolledError(f"dropout is a probability of at least 0 and below 1, not {dropout}.")
        table = torch.empty(vocabulary_size, members * embedding_size)
        if not table.is_meta:  # there torch would spend two seconds on imports to draw no numbers
            nn.init.normal_(table)
        self.embedding = nn.Embedding(vocabulary_size, members * embedding_size, _weight=table)
        self.dropout = Dropout(dropout, variational=True)
        self.members = members
        self.layers = nn.ModuleList()
        for _ in range(members):
            width = embedding_size
            for _ in range(layers):
                layer = Recurrent(cell, width, hidden_size, **sizes)
                self.layers.append(layer)
                width = layer.output_size
        self.readout = Linear(members * width, vocabulary_size)
        self.config = {
            "cell": cell.to_json(),
            "vocabulary_size": vocabulary_size,
            "embedding_size": embedding_size,
            "hidden_size": hidden_size,
            "layers": layers,
            "dropout": dropout,
            "members": members,
            **sizes,
        }

    def forward(
        self, tokens: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Logits of the next token after each step.

        `tokens` (batch, time) int64, `state` as returned before or None, `lengths` (batch,) or None. Returns logits
        (batch, time, vocabulary) and the state after the last step.
        """
        outputs, after = self._run(tokens, state, lengths)
        return self.readout(torch.cat(outputs, -1) / self.members if self.members > 1 else outputs[0]), after

    def loss(
        self, tokens: Tensor, targets: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """Mean cross-entropy in nats per token of `targets` (batch, time), and the state after the last step.

        Steps past a row's length do not count. Of several members it is the mean of the losses that each has alone.
        """
        outputs, after = self._run(tokens, state, lengths)
        counted = None if lengths is None else lengths.unsqueeze(1) > tokens.new_tensor(range(tokens.shape[1]))
        wanted = targets.flatten() if counted is None else targets[counted]
        losses = []
        for h, weight in zip(outputs, self.readout.weight.chunk(self.members, 1), strict=True):
            rows = h.flatten(0, 1) if counted is None else h[counted]
            losses.append(readout_loss(rows, weight, self.readout.bias, wanted))
        return torch.stack(losses).mean(), after

    def _run(self, tokens: Tensor, state: State | None, lengths: Tensor | None) -> tuple[list[Tensor], State]:
        """What each member gives to the readout, (batch, time, hidden), and the state of all layers."""
        if state is not None and len(state) != len(self.layers):
            raise UnrolledError(f"the state has {len(self.layers)} parts, one a layer; {len(state)} came.")
        states = state or [None] * len(self.layers)
        tables = self.embedding.weight.chunk(self.members, 1)
        outputs: list[Tensor] = []
        after: list[State] = []
        depth = len(self.layers) // self.members
        for number, (layer, before) in enumerate(zip(self.layers, states, strict=True)):
            if number % depth:
                below = outputs.pop()
                h, own = layer(self.dropout(below)[0], before, lengths)
                h = below + h if below.shape == h.shape else h
            elif self.training and self.dropout.p:
                h, own = layer(self.dropout(look_up(tables[number // depth], tokens))[0], before, lengths)
            else:
                h, own = layer(tables[number // depth], before, lengths, tokens)
            outputs.append(h)
            after.append(own)
        return [self.dropout(h)[0] for h in outputs], tuple(after)

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

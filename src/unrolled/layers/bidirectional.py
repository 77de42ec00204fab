"""Two layers over the same sequence, one from each end."""

from typing import Any

import torch
from torch import Tensor, nn

from unrolled.engine import reverse
from unrolled.errors import UnrolledError
from unrolled.layers.lengths import checked_lengths
from unrolled.layers.recurrent import Recurrent


class Bidirectional(nn.Module):
    """`Bidirectional(forwards, backwards)`: outputs stand side by side, the state is the pair of their states.

    The backward layer starts at each row's last step, so rows may have different lengths.
    Source: Schuster & Paliwal 1997.
    """

    def __init__(self, forwards: nn.Module, backwards: nn.Module) -> None:
        super().__init__()
        if forwards.input_size != backwards.input_size:
            raise UnrolledError(
                f"both directions read one input, but take {forwards.input_size} and {backwards.input_size} features."
            )
        self.forwards, self.backwards = forwards, backwards

    @property
    def input_size(self) -> int:
        """Features of one step of the input."""
        return int(self.forwards.input_size)  # type: ignore[arg-type]

    @property
    def output_size(self) -> int:
        """Features of one step of the output: those of both directions."""
        return int(self.forwards.output_size) + int(self.backwards.output_size)  # type: ignore[arg-type]

    def forward(
        self, x: Tensor, state: tuple[Any, Any] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[Any, Any]]:
        """`x` (batch, time, input) -> outputs (batch, time, output) and (forward state, backward state)."""
        if state is not None and len(state) != 2:
            raise UnrolledError(f"the state of a Bidirectional is (forward, backward); {len(state)} parts came.")
        lengths = checked_lengths(lengths, x) if x.dim() == 3 else lengths
        own, other = state or (None, None)
        ahead, own = self.forwards(x, own, lengths)
        if getattr(self.backwards.forward, "__func__", None) is Recurrent.forward:  # and not what somebody made of it
            back, other = self.backwards(x, other, lengths, backwards=True)
        else:
            back, other = self.backwards(reverse(x, lengths), other, lengths)
            back = reverse(back, lengths)
        return torch.cat([ahead, back], dim=-1), (own, other)

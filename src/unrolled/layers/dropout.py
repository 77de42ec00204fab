"""Dropout between layers, as a layer: it has no state of its own."""

import torch
from torch import Tensor, nn


class Dropout(nn.Module):
    """Zero each feature with probability `p` while training, and scale the others by 1 / (1 - p).

    Source: Srivastava et al. 2014; on the connections between layers only: Zaremba et al. 2014.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.drop = nn.Dropout(p)

    def forward(
        self, x: Tensor, state: tuple[()] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[()]]:
        """`x` (batch, time, feature) -> the same shape, and the empty state; `lengths` changes nothing."""
        del state, lengths
        return torch.as_tensor(self.drop(x)), ()

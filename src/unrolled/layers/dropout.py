"""Dropout between layers, as a layer: it has no state of its own."""

import torch
from torch import Tensor, nn

_LEVELS = 256  # a feature's fate is one random byte: eight of them cost what torch pays for one feature


class Dropout(nn.Module):
    """While training, zero each feature with probability `p` (in 256ths), and scale the others to make up for it.

    Source: Srivastava et al. 2014; on the connections between layers only: Zaremba et al. 2014.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(
        self, x: Tensor, state: tuple[()] | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, tuple[()]]:
        """`x` (batch, time, feature) -> the same shape, and the empty state; `lengths` changes nothing."""
        del state, lengths
        dropped = round(self.p * _LEVELS)
        if not self.training or dropped == 0 or x.numel() == 0:
            return x, ()
        if dropped == _LEVELS:
            return torch.zeros_like(x), ()
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        fate = words.view(torch.uint8)[: x.numel()].view(x.shape)
        return x * ((fate >= dropped) * (_LEVELS / (_LEVELS - dropped))).to(x.dtype), ()

    def extra_repr(self) -> str:
        """The probability, for printing."""
        return f"p={self.p}"

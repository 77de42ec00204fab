"""Dropout between layers, as a layer: it has no state of its own."""

from typing import Any

import torch
from torch import Tensor, nn

from unrolled.engine import engine_for
from unrolled.engine.followed import followed

_LEVELS = 256  # a feature's fate is one random byte: eight of them cost what torch pays for one feature


class Dropout(nn.Module):
    """While training, zero each feature with probability `p` (in 256ths), and scale the others to make up for it.

    Source: Srivastava et al. 2014; on the connections between layers only: Zaremba et al. 2014.
    `variational`: a feature is zero in all steps of a sequence or in none (Gal & Ghahramani 2016).
    """

    def __init__(self, p: float, variational: bool = False) -> None:
        super().__init__()
        self.p = p
        self.variational = variational

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
        if self.variational:
            return x * self._dropped(x.new_ones(x.shape[0], 1, *x.shape[2:]), dropped), ()
        return self._dropped(x, dropped), ()

    def _dropped(self, x: Tensor, dropped: int) -> Tensor:
        if engine_for(x)[0] == "native" and not followed((x,)):
            seed = int(torch.empty((), dtype=torch.int64).random_())
            kept: Tensor = _Dropped.apply(x, seed, dropped)  # type: ignore[no-untyped-call]
            return kept
        words = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        fate = words.view(torch.uint8)[: x.numel()].view(x.shape)
        return x * ((fate >= dropped) * (_LEVELS / (_LEVELS - dropped))).to(x.dtype)

    def extra_repr(self) -> str:
        """The probability, for printing."""
        return f"p={self.p}" + (", variational" if self.variational else "")


class _Dropped(torch.autograd.Function):
    """By the native engine, which makes the mask anew in the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, seed: int, dropped: int) -> Tensor:
        from unrolled.engine.native.around import dropout

        ctx.seed, ctx.dropped = seed, dropped
        return dropout(x.contiguous(), seed, dropped)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        return _Dropped.apply(gradient, ctx.seed, ctx.dropped), None, None  # type: ignore[no-untyped-call]

"""Rows of different lengths in one batch: checking the lengths, and reversal within them."""

import torch
from torch import Tensor

from unrolled.errors import UnrolledError


def checked_lengths(lengths: Tensor | None, x: Tensor) -> Tensor | None:
    """`lengths` as int64 on the device of `x` (batch, time, ...); raises UnrolledError if they do not fit `x`."""
    if lengths is None:
        return None
    lengths = torch.as_tensor(lengths, device=x.device)
    batch, time = x.shape[:2]
    if lengths.shape != (batch,) or lengths.is_floating_point() or lengths.dtype == torch.bool:
        raise UnrolledError(
            f"lengths must be {batch} whole numbers, one for each row of x; they are "
            f"{str(lengths.dtype).removeprefix('torch.')} of shape {tuple(lengths.shape)}."
        )
    if batch and (int(lengths.min()) < 0 or int(lengths.max()) > time):
        raise UnrolledError(
            f"lengths must lie between 0 and the {time} steps of x; they reach from "
            f"{int(lengths.min())} to {int(lengths.max())}."
        )
    return lengths.long()


def reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """`x` (batch, time, feature) with time reversed within each row's length; what lies past it stays in place."""
    if lengths is None:
        return x.flip(1)
    steps = torch.arange(x.shape[1], device=x.device).expand(x.shape[0], -1)
    ends = lengths.unsqueeze(1)
    source = torch.where(steps < ends, ends - 1 - steps, steps)
    return x.gather(1, source.unsqueeze(-1).expand_as(x))

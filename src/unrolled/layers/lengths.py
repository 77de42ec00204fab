"""Rows of different lengths in one batch: checking the lengths."""

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
    least, most = map(int, lengths.aminmax()) if batch else (0, 0)
    if least < 0 or most > time:
        raise UnrolledError(f"lengths must lie between 0 and the {time} steps of x; they reach from {least} to {most}.")
    return lengths.long()

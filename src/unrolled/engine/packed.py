"""Sequences of different lengths packed by step, longest first: the `data` of torch's PackedSequence.

`lengths` (batch,) are in descending order.
"""

import functools
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Lengths(NamedTuple):
    """The lengths of packed sequences, not to be written to, and their sum."""

    each: Tensor
    total: int


def lengths_of(active: Tensor) -> Lengths | None:
    """The lengths whose packed steps have so many rows, `active` (steps,), the `batch_sizes` of torch's PackedSequence;
    None if these do not descend to 1 or more."""
    return _lengths_of(active.to(torch.int64).numpy().tobytes())


@functools.lru_cache(maxsize=8)
def _lengths_of(active: bytes) -> Lengths | None:
    rows = np.frombuffer(active, np.int64)
    if len(rows) == 0 or rows[-1] < 1 or (rows[1:] > rows[:-1]).any():
        return None
    each = len(rows) - rows[::-1].searchsorted(np.arange(rows[0]), side="right")
    with torch.inference_mode(False):  # for calls that learn, too
        return Lengths(torch.from_numpy(each), int(rows.sum()))


def pad(steps: Tensor, lengths: Tensor) -> Tensor:
    """(sum of lengths, feature) as (batch, time, feature), zero past the end of a sequence."""
    batch, time = _sizes(lengths)
    padded = steps.new_zeros(batch * time, steps.shape[1])
    return padded.index_copy(0, _places(lengths), steps).view(batch, time, steps.shape[1])


def pack(padded: Tensor, lengths: Tensor) -> Tensor:
    """(batch, time, feature) as (sum of lengths, feature)."""
    return padded.flatten(0, 1).index_select(0, _places(lengths))


def reverse(x: Tensor, lengths: Tensor | None) -> Tensor:
    """`x`, (batch, time, feature) or packed, with time reversed within each row's length; what lies past it stays."""
    if lengths is None:
        return x.flip(1)
    if x.dim() == 2:
        row, step, starts = _steps(lengths)
        return x.index_select(0, starts[lengths[row] - 1 - step] + row)
    steps = torch.arange(x.shape[1], device=x.device).expand(x.shape[0], -1)
    ends = lengths.unsqueeze(1)
    source = torch.where(steps < ends, ends - 1 - steps, steps)
    return x.gather(1, source.unsqueeze(-1).expand_as(x))


def _sizes(lengths: Tensor) -> tuple[int, int]:
    return len(lengths), int(lengths[0]) if len(lengths) else 0


def _places(lengths: Tensor) -> Tensor:
    row, step, _ = _steps(lengths)
    return row * _sizes(lengths)[1] + step


def _steps(lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of each packed step its sequence and its number; and where the steps of each number begin."""
    active = (lengths.unsqueeze(1) > torch.arange(_sizes(lengths)[1], device=lengths.device)).sum(0)
    starts = active.cumsum(0) - active
    step = torch.arange(len(active), device=lengths.device).repeat_interleave(active)
    return torch.arange(len(step), device=lengths.device) - starts[step], step, starts

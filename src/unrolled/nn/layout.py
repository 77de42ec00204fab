"""Sequences as torch.nn has them, time first or packed, and as the engine takes them: (batch, time, feature)."""

from typing import Protocol

import torch
from torch import Tensor


class Layout(Protocol):
    """How steps become a batch of sequences and sequences become steps again; in reverse order where `backwards`."""

    @property
    def lengths(self) -> Tensor | None:
        """The steps of each sequence, (batch,); None where all are full."""

    def batch_of(self, steps: Tensor, backwards: bool) -> Tensor:
        """Steps as (batch, time, feature)."""

    def steps_of(self, batch: Tensor, backwards: bool) -> Tensor:
        """(batch, time, feature) as steps."""


class Full:
    """Steps are (time, batch, feature)."""

    lengths = None

    def batch_of(self, steps: Tensor, backwards: bool) -> Tensor:
        """As Layout."""
        return (steps.flip(0) if backwards else steps).transpose(0, 1)

    def steps_of(self, batch: Tensor, backwards: bool) -> Tensor:
        """As Layout."""
        steps = batch.transpose(0, 1)
        return steps.flip(0) if backwards else steps


class Packed:
    """Steps are the `data` (sum of lengths, feature) of a PackedSequence."""

    def __init__(self, batch_sizes: Tensor) -> None:
        self._time, self._batch = len(batch_sizes), int(batch_sizes[0])
        rows, times = torch.arange(self._batch), torch.arange(self._time)
        self.lengths = (batch_sizes > rows.unsqueeze(1)).sum(1)
        step = times.repeat_interleave(batch_sizes)
        row = torch.cat([rows[:size] for size in batch_sizes.tolist()])
        self._places = (row * self._time + step, row * self._time + self.lengths[row] - 1 - step)

    def batch_of(self, steps: Tensor, backwards: bool) -> Tensor:
        """As Layout."""
        padded = steps.new_zeros(self._batch * self._time, steps.shape[1])
        return padded.index_copy(0, self._places[backwards], steps).view(self._batch, self._time, steps.shape[1])

    def steps_of(self, batch: Tensor, backwards: bool) -> Tensor:
        """As Layout."""
        return batch.flatten(0, 1).index_select(0, self._places[backwards])

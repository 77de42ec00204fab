"""Sequences as torch.nn has them, time first or packed, and as the engine takes them: batch first or packed."""

import functools
from typing import Protocol

from torch import Tensor

from unrolled.engine import reversal


class Layout(Protocol):
    """How steps become a batch of sequences and sequences become steps again; in reverse order where `backwards`."""

    @property
    def lengths(self) -> Tensor | None:
        """The steps of each sequence, (batch,); None where all are full."""

    def batch_of(self, steps: Tensor, backwards: bool) -> Tensor:
        """Steps as (batch, time, feature) or packed."""

    def steps_of(self, batch: Tensor, backwards: bool) -> Tensor:
        """(batch, time, feature), or packed, as steps."""


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
    """Steps are the `data` (sum of lengths, feature) of a PackedSequence, which the engine takes as they are."""

    def __init__(self, lengths: Tensor) -> None:
        self.lengths = lengths

    def batch_of(self, steps: Tensor, backwards: bool) -> Tensor:
        """As Layout."""
        return steps.index_select(0, self._reversal) if backwards else steps

    def steps_of(self, batch: Tensor, backwards: bool) -> Tensor:
        """As Layout."""
        return batch.index_select(0, self._reversal) if backwards else batch

    @functools.cached_property
    def _reversal(self) -> Tensor:
        return reversal(self.lengths)

"""Where the rows of a batch of sequences lie in memory: packed by step, longest sequence first.

Step t holds only the sequences that are longer than t, so that all work and all memory are proportional to the sum of
the lengths. States have the rows of the start before those of the steps.
"""

import functools
import itertools
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from unrolled.errors import UnrolledError


@dataclass(frozen=True)
class Piece:
    """The steps from `first` to before `last`, whose packed rows are `rows` from `start` on."""

    first: int
    last: int
    start: int
    rows: int


@dataclass(frozen=True)
class Rows:
    """`order` sorts the batch (None: as it is); `active` (steps,) rows of each step; `starts` where they begin."""

    batch: int
    time: int
    order: np.ndarray | None
    lengths: np.ndarray | None  # in order
    active: np.ndarray
    starts: np.ndarray
    packed: bool = False  # the tensors of the caller too

    @functools.cached_property
    def total(self) -> int:
        """Rows of all steps together."""
        return int(self.active.sum())

    @functools.cached_property
    def key(self) -> tuple[object, ...]:
        """Other rows with the same key are the same."""
        lengths, order = (None if values is None else values.tobytes() for values in (self.lengths, self.order))
        return self.batch, self.time, lengths, order, self.packed

    def forward_tables(self, keep: bool) -> np.ndarray:
        """(3, steps): the rows of a step, of its previous states, of its new states.

        Without `keep` the states of two steps take turns in 2 x batch rows.
        """
        if keep:
            return self._kept_tables
        turn = np.arange(len(self.active)) % 2 * self.batch
        return np.stack([self.starts, turn, self.batch - turn])

    @functools.cached_property
    def _kept_tables(self) -> np.ndarray:
        following = self.batch + self.starts
        previous = np.concatenate([np.zeros(1, np.int64), following[:-1]])[: len(following)]
        return np.stack([self.starts, previous, following])

    def backward_tables(self, piece: Piece) -> np.ndarray:
        """(6, steps of the piece), last step first: as forward, where gradients of states are read and written, and the
        rows within the piece."""
        steps = slice(piece.first, piece.last)
        turn = (len(self.active) - 1 - np.arange(piece.first, piece.last)) % 2 * self.batch
        tables = [*self._kept_tables[:, steps], turn, self.batch - turn, self.starts[steps] - piece.start]
        return np.stack(tables)[:, ::-1]

    def pieces(self, rows: int) -> list["Piece"]:
        """All steps, from the last to the first, in pieces of about so many rows, or a step."""
        count = max(1, min(len(self.active), round(self.total / rows)))
        cuts = np.searchsorted(self.starts, self.total * np.arange(count + 1) // count)
        starts = [*self.starts.tolist(), self.total]
        bounds = list(itertools.pairwise(cuts.tolist()))[::-1]
        return [
            Piece(first, last, starts[first], starts[last] - starts[first]) for first, last in bounds if first < last
        ]

    def places(self, of_sequence: int, of_step: int) -> np.ndarray:
        """(total,): how far from the start of (batch, time, width) with these strides each packed row is.

        Where the caller's tensors are (rows, width), packed themselves, `of_sequence` is the distance of their rows.
        """
        if self.packed:
            places = np.arange(self.total) * of_sequence
        elif self.order is None:
            places = self._step * of_step + self._row * of_sequence
        else:
            places = self._step * of_step + self.order[self._row] * of_sequence
        return np.ascontiguousarray(places, np.int64)

    def step_places(self, of_sequence: int, of_step: int) -> np.ndarray:
        """(steps,): as `places`, of the first row of each step, where its other rows follow at one distance."""
        return np.asarray(self.starts * of_sequence if self.packed else np.arange(len(self.active)) * of_step)

    def dense(self, width: int, time_first: bool) -> tuple[int, int]:
        """The strides for `places` in a dense (batch, time, width), or (time, batch, width) if `time_first`."""
        return (width, self.batch * width) if time_first or self.packed else (self.time * width, width)

    def sorted_places(self, stride: int) -> np.ndarray:
        """(batch,): how far from the start of (batch, width) the sequences are, in order."""
        order = np.arange(self.batch) if self.order is None else self.order
        return np.ascontiguousarray(order * stride, np.int64)

    def last(self, keep: bool) -> np.ndarray:
        """(batch,): the rows of the states after each sequence's last step, in order."""
        row = np.arange(self.batch)
        if self.lengths is None:
            steps = len(self.active)
            return np.asarray(row + ((self.total if keep else steps % 2 * self.batch) if steps else 0))
        if keep:
            starts = np.concatenate([self.starts, np.zeros(1, np.int64)])
            return np.asarray(np.where(self.lengths > 0, self.batch + starts[self.lengths - 1], 0) + row)
        return np.asarray(self.lengths % 2 * self.batch + row)

    @functools.cached_property
    def previous(self) -> np.ndarray:
        """(total,): the row of the state before each packed row."""
        return np.asarray(np.repeat(self._kept_tables[1], self.active) + self._row)

    @functools.cached_property
    def _step(self) -> np.ndarray:
        return np.repeat(np.arange(len(self.active)), self.active)

    @functools.cached_property
    def _row(self) -> np.ndarray:
        return np.asarray(np.arange(self.total) - np.repeat(self.starts, self.active))


def rows_of(batch: int, time: int, lengths: Tensor | None) -> Rows:
    """The rows of a batch; `lengths` (batch,) whole numbers from 0 to `time`, None for full rows."""
    if lengths is None:
        return _full(batch, time)
    sorted_lengths, order = torch.sort(lengths.to(torch.int64), descending=True, stable=True)
    descending = sorted_lengths.numpy()
    steps = int(descending[0]) if batch else 0
    active = batch - np.searchsorted(descending[::-1], np.arange(steps), side="right")
    return Rows(batch, time, order.numpy(), descending, active.astype(np.int64), _starts(active))


def packed_rows(steps: Tensor, lengths: Tensor) -> Rows:
    """The rows of a batch whose `steps` (sum of lengths, size) are packed already; `lengths` (batch,) are descending.

    Raises UnrolledError if they are not, or are those of other steps.
    """
    if len(steps) != int(lengths.sum()) or bool((lengths[1:] > lengths[:-1]).any()):
        raise UnrolledError(
            f"packed steps come with descending lengths, whose sum is their number; "
            f"{len(steps)} steps came with lengths {lengths.tolist()}."
        )
    return replace(rows_of(len(lengths), int(lengths[0]) if len(lengths) else 0, lengths), order=None, packed=True)


@functools.lru_cache(maxsize=64)
def _full(batch: int, time: int) -> Rows:
    active = np.full(time if batch else 0, batch, np.int64)
    return Rows(batch, time, None, None, active, _starts(active))


def _starts(active: np.ndarray) -> np.ndarray:
    return np.asarray(np.cumsum(active) - active, np.int64)

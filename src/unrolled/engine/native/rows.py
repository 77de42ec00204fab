"""Where the rows of a batch of sequences lie in memory: packed by step, longest sequence first.

Step t holds only the sequences that are longer than t, so that all work and all memory are proportional to the sum of
the lengths. States have the rows of the start before those of the steps.
"""

import functools
import itertools
import math
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from unrolled.errors import UnrolledError

_PIECE = 1024  # rows whose gradients are at hand at a time: they stay in the last cache
_ZERO = np.zeros(1, np.int64)


class Frame(NamedTuple):
    """What a tape knows of the rows of a batch: what batches of other lengths have in common."""

    batch: int
    capacity: int  # at least the rows of all steps together
    ragged: bool
    ordered: bool  # the sequences are sorted for it
    packed: bool
    regular: bool  # in the caller's tensors the rows of a step lie at one distance from each other
    pieces: int  # in which the steps are taken backwards

    @property
    def piece_rows(self) -> int:
        """Rows of a piece, at most."""
        return min(self.capacity, -(-self.capacity // self.pieces) + self.batch)


def capacity_of(total: int) -> int:
    """So many rows, rounded up by an eighth at most, so that few capacities serve all batches."""
    step = 1 << max(total.bit_length() - 4, 0)
    return -(-total // step) * step


@dataclass(frozen=True)
class Piece:
    """The steps from `first` to before `last`, whose packed rows are `rows` from `start` on."""

    first: int
    last: int
    start: int
    rows: int


@dataclass(frozen=True, eq=False)
class Rows:
    """`order` sorts the batch (None: as it is); `active` (steps,) rows of each step; `starts` where they begin."""

    batch: int
    time: int
    order: np.ndarray | None
    lengths: np.ndarray | None  # in order
    active: np.ndarray
    starts: np.ndarray
    packed: bool = False  # the tensors of the caller too
    backwards: bool = False  # each sequence from its end to its start
    tables: dict[Any, Any] = field(default_factory=dict)
    """What tapes made of these rows, see `Recorded.of_rows`."""
    _found: dict[Any, np.ndarray] = field(default_factory=dict)

    @functools.cached_property
    def total(self) -> int:
        """Rows of all steps together."""
        return int(self.active.sum())

    @functools.cached_property
    def frame(self) -> Frame:
        """What a tape knows of them."""
        ragged, ordered = self.lengths is not None, self.order is not None
        regular, capacity = not ordered and not (self.packed and self.backwards), capacity_of(self.total)
        return Frame(self.batch, capacity, ragged, ordered, self.packed, regular, max(1, round(capacity / _PIECE)))

    def forward_tables(self, keep: bool) -> list[np.ndarray]:
        """(steps,) each: the rows of a step, of its previous states, of its new states.

        Without `keep` the states of two steps take turns in 2 x batch rows.
        """
        if keep:
            return [self.starts, self._states[:-1], self._states[1:]]
        turn = np.arange(len(self.active)) % 2 * self.batch
        return [self.starts, turn, self.batch - turn]

    @functools.cached_property
    def _states(self) -> np.ndarray:
        """(steps + 1,): the rows of the states before the first step, and after each."""
        return np.concatenate([_ZERO, self.starts + self.batch])

    def backward_tables(self, piece: Piece) -> list[np.ndarray]:
        """(steps of the piece,) each, last step first: as forward, where gradients of states are read and written, and
        the rows within the piece."""
        steps = slice(piece.first, piece.last)
        starts, turn = self.starts[steps], (len(self.active) - 1 - np.arange(piece.first, piece.last)) % 2 * self.batch
        states = [self._states[:-1][steps], self._states[1:][steps]]
        return [table[::-1] for table in (starts, *states, turn, self.batch - turn, starts - piece.start)]

    @property
    def first_turn(self) -> np.ndarray:
        """(batch,): where the gradients of the states before the first step are written."""
        return np.arange(self.batch) + len(self.active) % 2 * self.batch

    @functools.cached_property
    def pieces(self) -> list[Piece]:
        """All steps, from the last to the first, in as many pieces as the frame says, of about equal rows; some may be
        empty."""
        count = self.frame.pieces
        cuts = self.starts.searchsorted(self.total * np.arange(count + 1) // count).tolist()
        starts = [int(self.starts[cut]) if cut < len(self.starts) else self.total for cut in cuts]
        bounds = [*itertools.pairwise(zip(cuts, starts, strict=True))][::-1]
        return [Piece(first, last, start, end - start) for (first, start), (last, end) in bounds]

    def places(self, strides: tuple[int, ...], piece: Piece | None = None) -> np.ndarray:
        """(total,): how many units, see `unit_of`, each packed row is from the start of (batch, time, width) with these
        strides; or only those of a piece.

        Where the caller's tensors are (rows, width), packed themselves, the first stride is that of their rows.
        """
        unit = unit_of(strides)
        of_sequence, of_step = (stride // unit for stride in strides)
        key = ("places", of_sequence, of_step)
        if key not in self._found:
            self._found[key] = self._places(of_sequence, of_step)
        found: np.ndarray = self._found[key]
        return found if piece is None else found[piece.start : piece.start + piece.rows]

    def _places(self, of_sequence: int, of_step: int) -> np.ndarray:
        if self.packed and not self.backwards:
            return np.arange(self.total) * of_sequence
        step = np.arange(len(self.active)).repeat(self.active)
        row = np.arange(self.total) - self.starts[step]
        if self.backwards:
            step = (len(self.active) if self.lengths is None else self.lengths[row]) - 1 - step
        if self.packed:
            return np.asarray((self.starts[step] + row) * of_sequence)
        return np.asarray(step * of_step + (row if self.order is None else self.order[row]) * of_sequence)

    def step_places(self, of_sequence: int, of_step: int) -> np.ndarray:
        """(steps,): as `places`, of the first row of each step, where the frame is regular."""
        places = self.starts * of_sequence if self.packed else np.arange(len(self.active)) * of_step
        return places[::-1] if self.backwards else places

    def floats(self, width: int, of_sequence: int, of_step: int) -> int:
        """From the start to the end of (batch, time, width) with these strides, or of packed rows."""
        last = (
            (self.total - 1) * of_sequence
            if self.packed
            else (self.batch - 1) * of_sequence + (self.time - 1) * of_step
        )
        return last + width

    def dense(self, width: int, time_first: bool) -> tuple[int, int]:
        """The strides for `places` in a dense (batch, time, width), or (time, batch, width) if `time_first`."""
        return (width, self.batch * width) if time_first or self.packed else (self.time * width, width)

    @property
    def sequences(self) -> np.ndarray:
        """(batch,): the sequences in order."""
        return np.arange(self.batch) if self.order is None else self.order

    def last(self, keep: bool) -> np.ndarray:
        """(batch,): the rows of the states after each sequence's last step, in order."""
        lengths: np.ndarray | int = len(self.active) if self.lengths is None else self.lengths
        last: np.ndarray = np.arange(self.batch) + (self._states[lengths] if keep else lengths % 2 * self.batch)
        return last

    def previous(self, piece: Piece) -> np.ndarray:
        """(rows of the piece,): the row of the state before each of them."""
        steps = slice(piece.first, piece.last)
        distance = self._states[:-1][steps] - self.starts[steps]
        return np.asarray(np.arange(piece.start, piece.start + piece.rows) + distance.repeat(self.active[steps]))


def unit_of(strides: tuple[int, ...]) -> int:
    """The floats that `Rows.places` counts by: those from one row of a dense tensor to the next."""
    return math.gcd(*strides[:2]) or 1


def rows_of(batch: int, time: int, lengths: Tensor | None, backwards: bool = False) -> Rows:
    """The rows of a batch; `lengths` (batch,) whole numbers from 0 to `time`, None for full rows; `backwards`: each
    sequence from its end to its start."""
    if lengths is None:
        return _full(batch, time, backwards)
    return _ragged(time, lengths.to(torch.int64).numpy().tobytes(), backwards)


def packed_rows(steps: Tensor, lengths: Tensor, backwards: bool = False) -> Rows:
    """The rows of a batch whose `steps` (sum of lengths, size) are packed already; `lengths` (batch,) are descending.

    Raises UnrolledError if they are not, or are those of other steps.
    """
    rows = _packed(lengths.to(torch.int64).numpy().tobytes(), backwards)
    if rows is None or len(steps) != rows.total:
        raise UnrolledError(
            f"packed steps come with descending lengths, whose sum is their number; "
            f"{len(steps)} steps came with lengths {lengths.tolist()}."
        )
    return rows


@functools.lru_cache(maxsize=64)
def _full(batch: int, time: int, backwards: bool) -> Rows:
    active = np.full(time if batch else 0, batch, np.int64)
    return Rows(batch, time, None, None, active, _starts(active), False, backwards)


@functools.lru_cache(maxsize=4)  # lengths come again in the next layer and direction, hardly in the next batch
def _ragged(time: int, lengths: bytes, backwards: bool) -> Rows:
    given = np.frombuffer(lengths, np.int64)
    order = (-given).argsort(kind="stable")
    return _sorted(time, order, given[order], False, backwards)


@functools.lru_cache(maxsize=4)
def _packed(lengths: bytes, backwards: bool) -> Rows | None:
    """None if they are not descending."""
    given = np.frombuffer(lengths, np.int64)
    ordered = not (given[1:] > given[:-1]).any()
    return _sorted(int(given[0]) if len(given) else 0, None, given, True, backwards) if ordered else None


def _sorted(time: int, order: np.ndarray | None, lengths: np.ndarray, packed: bool, backwards: bool) -> Rows:
    steps = int(lengths[0]) if len(lengths) else 0
    active = len(lengths) - lengths[::-1].searchsorted(np.arange(steps), side="right")
    return Rows(len(lengths), time, order, lengths, active, _starts(active), packed, backwards)


def _starts(active: np.ndarray) -> np.ndarray:
    return np.asarray(active.cumsum() - active)

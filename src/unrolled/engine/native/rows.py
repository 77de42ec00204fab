"""Where the rows of a batch of sequences lie in memory: packed by step, longest sequence first.

Step t holds only the sequences that are longer than t, so that all work and all memory are proportional to the sum of
the lengths. States have the rows of the start before those of the steps.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unrolled.engine.native.arrays import Rows as Place
from unrolled.engine.native.arrays import copy
from unrolled.engine.native.workspace import cut, result


@dataclass(frozen=True)
class Extent:
    """How many rows there are: of the batch, and of all steps together."""

    batch: int
    total: int


@dataclass(frozen=True)
class Rows:
    """`order` sorts the batch (None: as it is); `active` (steps,) rows of each step; `starts` where they begin."""

    batch: int
    time: int
    order: np.ndarray | None
    lengths: np.ndarray | None  # in order
    active: np.ndarray
    starts: np.ndarray

    @functools.cached_property
    def total(self) -> int:
        """Rows of all steps together."""
        return int(self.active.sum())

    def forward_tables(self, keep: bool) -> np.ndarray:
        """(3, steps): the rows of a step, of its previous states, of its new states.

        Without `keep` the states of two steps take turns in 2 x batch rows.
        """
        steps = np.arange(len(self.active))
        if keep:
            following = self.batch + self.starts
            previous = np.concatenate([np.zeros(1, np.int64), following[:-1]])[: len(steps)]
        else:
            previous, following = steps % 2 * self.batch, (steps + 1) % 2 * self.batch
        return np.ascontiguousarray(np.stack([self.starts, previous, following]), np.int64)

    def backward_tables(self) -> np.ndarray:
        """(5, steps), last step first: as forward, then where gradients of states are read and written."""
        turn = np.arange(len(self.active)) % 2 * self.batch
        tables = self.forward_tables(keep=True)[:, ::-1]
        return np.ascontiguousarray(np.concatenate([tables, turn[None], self.batch - turn[None]]), np.int64)

    def pack(self, x: Tensor, array: Tensor) -> None:
        """(batch, time, size) into the first rows of `array`."""
        x = x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()
        place = Place.of_tensor(x, self._places(x.stride(0), x.stride(1)))
        copy(Place.of_array(array), place, self.total, x.shape[2], pad=True)

    def unpack(self, array: Tensor, width: int, first: int = 0) -> Tensor:
        """The rows of `array` from `first` on as a new (batch, time, width), zero past each length."""
        values = result(self.batch, self.time, width)
        if self.total < self.batch * self.time:
            values.zero_()
        place = Place.of_tensor(values, self._places(values.stride(0), values.stride(1)))
        copy(place, Place.of_array(array, first), self.total, width)
        return values

    def sort(self, state: Tensor, array: Tensor, first: int = 0) -> None:
        """(batch, size) into the rows of `array` from `first` on, longest sequence first."""
        state = state if state.stride(1) == 1 or state.shape[1] == 1 else state.contiguous()
        place = Place.of_tensor(state, None if self.order is None else self.order * state.stride(0))
        copy(Place.of_array(array, first), place, self.batch, state.shape[1], pad=True)

    def unsort(self, array: Tensor, width: int, index: np.ndarray | None = None, first: int = 0) -> Tensor:
        """The rows of `array` from `first` on, or those of `index`, as a new (batch, width): the inverse of `sort`."""
        state = torch.empty(self.batch, width)
        place = Place.of_tensor(state, None if self.order is None else self.order * width)
        copy(place, Place.of_array(array, first, index), self.batch, width)
        return state

    def final(self, states: Tensor, keep: bool, width: int) -> Tensor:
        """The states after each sequence's last step, of a state's array, new and in the order of the batch."""
        if self.lengths is None:
            steps = len(self.active)
            first = (self.total if keep else steps % 2 * self.batch) if steps else 0
            return self.unsort(states, width, first=first)
        row = np.arange(self.batch)
        if keep:
            starts = np.concatenate([self.starts, np.zeros(1, np.int64)])
            place = np.where(self.lengths > 0, self.batch + starts[self.lengths - 1], 0) + row
        else:
            place = self.lengths % 2 * self.batch + row
        return self.unsort(states, width, place)

    def previous(self, states: Tensor, width: int) -> Tensor:
        """An array whose first rows are the states before each packed row, of a state's kept array."""
        if self.lengths is None:
            return states
        first = self.forward_tables(keep=True)[1]
        array = cut(None, {"previous": (self.total, width)})["previous"]
        source = Place.of_array(states, index=np.repeat(first, self.active) + self._row)
        copy(Place.of_array(array), source, self.total, width)
        return array

    @functools.cached_property
    def _row(self) -> np.ndarray:
        return np.asarray(np.arange(self.total) - np.repeat(self.starts, self.active))

    def _places(self, of_sequence: int, of_step: int) -> np.ndarray:
        """(total,): where each packed row lies in memory with these strides."""
        if self.order is None:
            return _full_places(self.batch, len(self.active), of_sequence, of_step)
        step = np.repeat(np.arange(len(self.active)), self.active)
        return np.ascontiguousarray(self.order[self._row] * of_sequence + step * of_step, np.int64)


def rows_of(batch: int, time: int, lengths: Tensor | None) -> Rows:
    """The rows of a batch; `lengths` (batch,) whole numbers from 0 to `time`, None for full rows."""
    if lengths is None:
        return _full(batch, time)
    sorted_lengths, order = torch.sort(lengths.to(torch.int64), descending=True, stable=True)
    descending = sorted_lengths.numpy()
    steps = int(descending[0]) if batch else 0
    active = batch - np.searchsorted(descending[::-1], np.arange(steps), side="right")
    return Rows(batch, time, order.numpy(), descending, active.astype(np.int64), _starts(active))


@functools.lru_cache(maxsize=64)
def _full(batch: int, time: int) -> Rows:
    active = np.full(time if batch else 0, batch, np.int64)
    return Rows(batch, time, None, None, active, _starts(active))


@functools.lru_cache(maxsize=64)
def _full_places(batch: int, steps: int, of_sequence: int, of_step: int) -> np.ndarray:
    places = np.arange(steps)[:, None] * of_step + np.arange(batch)[None] * of_sequence
    return np.ascontiguousarray(places.reshape(-1), np.int64)


def _starts(active: np.ndarray) -> np.ndarray:
    return np.asarray(np.cumsum(active) - active, np.int64)

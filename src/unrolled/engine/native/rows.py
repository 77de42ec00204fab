"""Where the rows of a batch of sequences lie in memory: packed by step, longest sequence first.

Step t holds only the sequences that are longer than t, so that all work and all memory are proportional to the sum of
the lengths. States have the rows of the start before those of the steps.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from unrolled.engine.native.workspace import result


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
    order: Tensor | None
    lengths: np.ndarray | None  # in order
    active: np.ndarray
    starts: np.ndarray

    @property
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

    def pack(self, x: Tensor, memory: Tensor) -> None:
        """(batch, time, size) into (total, size) of `memory`."""
        memory = memory[:, : x.shape[2]]
        if self.order is None:
            memory.unflatten(0, (self.time, self.batch)).copy_(x.transpose(0, 1))  # type: ignore[no-untyped-call]
        else:
            memory.copy_(x.reshape(-1, x.shape[2]).index_select(0, self._places))

    def unpack(self, packed: Tensor) -> Tensor:
        """(total, size) to a new (batch, time, size), zero past each length."""
        if self.order is None:
            steps = packed.unflatten(0, (self.time, self.batch))  # type: ignore[no-untyped-call]
            return result(self.batch, self.time, packed.shape[1]).copy_(steps.transpose(0, 1))
        unpacked = result(self.batch * self.time, packed.shape[1]).zero_()
        unpacked.index_copy_(0, self._places, packed)
        return unpacked.view(self.batch, self.time, packed.shape[1])

    def sort(self, state: Tensor) -> Tensor:
        """(batch, size), longest sequence first."""
        return state if self.order is None else state.index_select(0, self.order)

    def unsort(self, state: Tensor) -> Tensor:
        """The inverse of `sort`, new."""
        if self.order is None:
            return state.clone(memory_format=torch.contiguous_format)
        return torch.empty_like(state).index_copy_(0, self.order, state)

    def final(self, states: Tensor, keep: bool, width: int) -> Tensor:
        """The states after each sequence's last step, of a state's memory, new and in the order of the batch."""
        states = states[:, :width]
        if self.lengths is None:
            steps = len(self.active)
            first = (self.total if keep else steps % 2 * self.batch) if steps else 0
            return self.unsort(states[first : first + self.batch])
        row = np.arange(self.batch)
        if keep:
            starts = np.concatenate([self.starts, np.zeros(1, np.int64)])
            place = np.where(self.lengths > 0, self.batch + starts[self.lengths - 1], 0) + row
        else:
            place = self.lengths % 2 * self.batch + row
        return self.unsort(states.index_select(0, torch.from_numpy(place)))

    def previous(self, states: Tensor) -> Tensor:
        """The state before each packed row (total, size), of a state's kept memory."""
        if self.lengths is None:
            return states[: self.total]
        first = self.forward_tables(keep=True)[1]
        return states.index_select(0, torch.from_numpy(np.repeat(first, self.active) + self._row))

    @functools.cached_property
    def _row(self) -> np.ndarray:
        return np.asarray(np.arange(self.total) - np.repeat(self.starts, self.active))

    @functools.cached_property
    def _places(self) -> Tensor:
        assert self.order is not None
        step = np.repeat(np.arange(len(self.active)), self.active)
        return self.order[torch.from_numpy(self._row)] * self.time + torch.from_numpy(step)


def rows_of(batch: int, time: int, lengths: Tensor | None) -> Rows:
    """The rows of a batch; `lengths` (batch,) whole numbers from 0 to `time`, None for full rows."""
    if lengths is None:
        return _full(batch, time)
    sorted_lengths, order = torch.sort(lengths.to(torch.int64), descending=True, stable=True)
    descending = sorted_lengths.numpy()
    steps = int(descending[0]) if batch else 0
    active = batch - np.searchsorted(descending[::-1], np.arange(steps), side="right")
    return Rows(batch, time, order, descending, active.astype(np.int64), _starts(active))


@functools.lru_cache(maxsize=64)
def _full(batch: int, time: int) -> Rows:
    active = np.full(time if batch else 0, batch, np.int64)
    return Rows(batch, time, None, None, active, _starts(active))


def _starts(active: np.ndarray) -> np.ndarray:
    return np.asarray(np.cumsum(active) - active, np.int64)

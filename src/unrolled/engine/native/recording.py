"""A cell's run of certain shapes as a tape: which arrays there are, and the calls in their order.

With a table the input of a step is a row of it, named by a token: what comes before the loop has the rows of the table.

Slots of a tape: "x", "index" (of each packed row the row of the table), "state NAME", "parameter NAME" and what comes
out of it, "outputs", "final NAME" and so on, are the caller's; "trace" is what a forward run leaves for the backward
one, a single piece of memory cut into arrays in a fixed order; "work" and "sums" are needed only while it is played.

Batches of other lengths share a tape: it knows their frame, and the tables of their rows are slots too, as are numbers,
which stand for themselves in the place of an address.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from unrolled.engine.native.arrays import Layout, tensor_rows
from unrolled.engine.native.compiled import CompiledCell
from unrolled.engine.native.library import BLOCK
from unrolled.engine.native.packs import Key, packed_places, record_packing
from unrolled.engine.native.plan import PARAMETER, SUM, Array, Plan
from unrolled.engine.native.rows import Frame, Rows, unit_of
from unrolled.engine.native.tape import Place, Tape

_CHUNK = 96  # rows of the input product that a thread takes at a time: they stay in its second cache
_WORTH_A_THREAD = 250_000  # multiply-adds that take longer than waking a thread and waiting for it
_WORTH_WAITING = 140_000  # and of a step than waiting for each other once or twice
_TILE = 8  # rows: fewer of them take nearly as long, for all weights must be read
_TABLES = 64  # sets of tables that are kept of the same rows
_NONE = np.zeros(0, np.int64)

Sizes = dict[str, tuple[int, int]]
Strides = Mapping[str, tuple[int, ...]]  # of the tensors in slots
Make = Callable[[Rows, Strides], "list[np.ndarray] | int"]  # a list is one table after the other


class Tables(NamedTuple):
    """Where tables lie, and numbers, by slot; and what holds them."""

    addresses: dict[str, int]
    memory: np.ndarray


@dataclass(frozen=True, eq=False)
class Recorded:
    """A tape, the matrices that its first call packs into its slot "packed", and the floats of its other memory."""

    tape: Tape
    matrices: tuple[Key, ...]
    work: int
    sums: int = 0
    written: frozenset[str] = frozenset()
    """The parameters whose gradients are put into their slots; to what is in the other slots they are added."""
    tables: Mapping[str, Make] = field(default_factory=dict)
    """What its other slots hold: tables and numbers that follow from the rows of a batch and the strides of tensors."""

    def of_rows(self, rows: Rows, strides: tuple[tuple[str, tuple[int, ...]], ...]) -> Tables:
        """The tables of these rows."""
        key = (self, strides)
        tables: Tables | None = rows.tables.get(key)
        if tables is None:
            if len(rows.tables) >= _TABLES:
                rows.tables.clear()
            tables = rows.tables[key] = self._tables(rows, dict(strides))
        return tables

    def _tables(self, rows: Rows, strides: Strides) -> Tables:
        found: dict[str, int] = {}
        first: dict[str, int] = {}
        parts, count = [_NONE], 0
        for slot, make in self.tables.items():
            made = make(rows, strides)
            if isinstance(made, int):
                found[slot] = made
                continue
            first[slot] = count
            parts += made
            count += sum(map(len, made))
        memory = np.concatenate(parts, dtype=np.int64, casting="no")
        start = memory.ctypes.data
        found.update((slot, start + memory.itemsize * at) for slot, at in first.items())
        return Tables(found, memory)


@functools.lru_cache(maxsize=256)
def trace_layout(cell: CompiledCell, batch: int, capacity: int, words: int | None = None) -> Layout:
    """The arrays of the trace for so many sequences, rows of all steps together, and rows of a table."""
    in_place = cell.forward(True).in_place
    needed = {*cell.carried_read, *in_place.values()}
    carried = [c for c in cell.hoisted.carried if words is not None or c in needed]
    before = dict.fromkeys([cell.input, *carried, *cell.kept_before])
    sizes = {name: (capacity if words is None else words, cell.width(name)) for name in before}
    sizes.update({name: (capacity, cell.width(name)) for name in cell.kept if name not in in_place})
    sizes.update({f"states {s}": (batch + capacity, cell.width(s)) for s in cell.states})
    return Layout("trace", sizes)


class Recorder:
    """A tape on which the run of a cell is recorded, and the arrays that it has so far, by name."""

    def __init__(self, cell: CompiledCell, frame: Frame, threads: int, words: int | None) -> None:
        """`words`: the rows of the table, if there is one."""
        self.cell, self.frame, self.threads, self.words = cell, frame, threads, words
        self.tape = Tape()
        self.tables: dict[str, Make] = {}
        vectors = [p.name for p in cell.program.parameters if len(p.shape) == 1]
        self.arrays = {name: Array(Place(f"parameter {name}"), 1) for name in vectors}
        self.given = frame.capacity if words is None else words
        """The rows of what comes before the loop, at most."""

    def table(self, slot: str, make: Make) -> Place:
        """A slot for what `make` finds out about the rows of a batch: arrays of int64, or a number."""
        self.tables[slot] = make
        return Place(slot)

    def total(self) -> Place:
        """The rows of all steps together."""
        return self.table("total", lambda rows, of: rows.total)

    def places(self, slot: str, number: int | None = None) -> Place:
        """The packed rows of a tensor (batch, time, width) of the caller, or those of a piece, as `unrolled_rows`."""
        if self.frame.packed and self.frame.regular and number is None:
            return tensor_rows(self.tape, slot, self.stride(slot))

        def make(rows: Rows, of: Strides) -> list[np.ndarray]:
            return [rows.places(of[slot], None if number is None else rows.pieces[number])]

        unit = self.table(f"unit of {slot}", lambda rows, of: unit_of(of[slot]))
        return tensor_rows(self.tape, slot, unit, self.table(f"places of {slot}, {number}", make))

    def sorted_places(self, slot: str, stride: int | None = None) -> Place:
        """The sequences of a tensor (batch, width) of the caller, in order, as `unrolled_rows`; `stride`: if always the
        same."""
        order = self.table("order", lambda rows, of: [rows.sequences]) if self.frame.ordered else None
        return tensor_rows(self.tape, slot, stride or self.stride(slot), order)

    def stride(self, slot: str) -> Place:
        """The first stride of a tensor of the caller."""
        return self.table(f"stride of {slot}", lambda rows, of: of[slot][0])

    def reaches(self, width: int) -> bool:
        """Whether instructions can reach the rows of a tensor of the caller themselves."""
        return self.frame.regular and width % BLOCK == 0 and self.frame.capacity > 0

    def outside(self, slot: str, width: int) -> Array:
        """A tensor (batch, time, width) of the caller, or its packed rows, as an array."""
        floats = self.table(f"floats of {slot}", lambda rows, of: rows.floats(width, *of[slot]))
        return Array(Place(slot), 0, floats, self.stride(slot))

    def missing(self, total: int, present: Sequence[str], plan: Plan) -> Sizes:
        """The arrays of a plan that are not `present`, sums and parameters apart: a row a sequence, or `total` rows."""
        return {
            name: (self.frame.batch if memory.table < 0 else total, plan.widths[name])
            for name, memory in plan.memory.items()
            if name not in present and memory not in (PARAMETER, SUM)
        }

    def pack(self, *plans: Plan) -> tuple[Key, ...]:
        """Record the packing of the matrices of the plans into the slot "packed" as the first call; which they are."""
        matrices = tuple(dict.fromkeys(key for plan in plans for key in plan.matrices))
        self._packed = packed_places(self.cell, matrices, "packed")
        record_packing(self.tape, self.cell, matrices, self.threads)
        return matrices

    def loop(self, plan: Plan, label: str, active: Callable[[Rows], np.ndarray], tables: Make) -> None:
        """Record a plan over time: `active` (steps,) rows of each step, `tables` (steps,) each where they are."""
        threads = threads_in_step(plan, self.frame.batch)
        index = (None, 0) if self.words is None else (Place("index"), self.total())
        if self.frame.capacity:
            self._run(plan, label, active, tables, threads, *index)

    def each_row(
        self, plan: Plan, label: str, bounds: Callable[[Rows], tuple[int, int]], most: int, tables: int
    ) -> None:
        """Record a plan that knows no time on rows, in chunks: `bounds` are the first and their number, at most `most`;
        its last table has the rows within them."""
        threads = min(self.threads, threads_for(plan, most))

        def chunks(rows: Rows) -> tuple[np.ndarray, list[np.ndarray]]:
            start, count = bounds(rows)
            chunk = max(1, min(_CHUNK, -(-count // threads)))
            within = np.arange(0, count, chunk)
            return np.minimum(chunk, count - within), [*[start + within] * max(tables - 1, 1), *[within] * (tables > 1)]

        if most:
            self._run(plan, label, lambda rows: chunks(rows)[0], lambda rows, of: chunks(rows)[1], threads, None, 0)

    def _run(
        self,
        plan: Plan,
        label: str,
        active: Callable[[Rows], np.ndarray],
        tables: Make,
        threads: int,
        index: Place | None,
        index_rows: Place | int,
    ) -> None:
        if not plan.stages:
            return
        arrays = {name: self.arrays[name] for name in plan.memory}
        steps = self.table(f"steps of {label}", lambda rows, of: len(active(rows)))
        rows_of_steps = self.table(f"rows of {label}", lambda rows, of: [active(rows)])
        offsets = self.table(f"tables of {label}", tables)
        threads = min(self.threads, threads)
        plan.record(self.tape, steps, rows_of_steps, offsets, arrays, self._packed, threads, index, index_rows)

    def finish(
        self, matrices: tuple[Key, ...], work: int, sums: int = 0, written: frozenset[str] = frozenset()
    ) -> Recorded:
        """What was recorded."""
        return Recorded(self.tape.finish(), matrices, work, sums, written, self.tables)


def threads_for(plan: Plan, rows: int) -> int:
    """As many threads as so many rows of the plan are worth, between waking and waiting once."""
    return 1 + int(rows) * plan.work // _WORTH_A_THREAD


def threads_in_step(plan: Plan, rows: int) -> int:
    """As many threads as are worth waiting for each other in every step of so many rows."""
    return 1 + max(int(rows), _TILE) * plan.work // _WORTH_WAITING

"""A cell's run of certain shapes as a tape: which arrays there are, and the calls in their order.

With a table the input of a step is a row of it, named by a token: what comes before the loop has the rows of the table.

Slots of a tape: "x", "index" and "offsets" (of each packed row the row of the table, and its
first float), "state NAME", "parameter NAME" and what comes out of it, "outputs", "final NAME" and so on, are
the caller's; "trace" is what a forward run leaves for the backward one, a single piece of memory cut into arrays in a
fixed order; "work" and "sums" are needed only while it is played.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unrolled.engine.native.arrays import Layout
from unrolled.engine.native.compiled import CompiledCell
from unrolled.engine.native.library import BLOCK
from unrolled.engine.native.packs import Key, packed_places
from unrolled.engine.native.plan import PARAMETER, SUM, Array, Plan
from unrolled.engine.native.rows import Piece, Rows
from unrolled.engine.native.tape import Place, Tape

_CHUNK = 96  # rows of the input product that a thread takes at a time: they stay in its second cache
_WORTH_A_THREAD = 250_000  # multiply-adds that take longer than waking a thread and waiting for it
_WORTH_WAITING = 140_000  # and of a step than waiting for each other once or twice
_TILE = 8  # rows: fewer of them take nearly as long, for all weights must be read

Sizes = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Recorded:
    """A tape, the matrices that it wants packed in its slot "packed", and the floats of its other memory."""

    tape: Tape
    matrices: tuple[Key, ...]
    work: int
    sums: int = 0
    written: frozenset[str] = frozenset()
    """The parameters whose gradients are put into their slots; to what is in the other slots they are added."""


@functools.lru_cache(maxsize=256)
def trace_layout(cell: CompiledCell, batch: int, total: int, words: int | None = None) -> Layout:
    """The arrays of the trace for so many sequences, rows of all steps together, and rows of a table."""
    in_place = cell.forward(True).in_place
    needed = {*cell.carried_read, *in_place.values()}
    carried = [c for c in cell.hoisted.carried if words is not None or c in needed]
    before = dict.fromkeys([cell.input, *carried, *cell.kept_before])
    sizes = {name: (total if words is None else words, cell.width(name)) for name in before}
    sizes.update({name: (total, cell.width(name)) for name in cell.kept if name not in in_place})
    sizes.update({f"states {s}": (batch + total, cell.width(s)) for s in cell.states})
    return Layout("trace", sizes)


class Recorder:
    """A tape on which the run of a cell is recorded, and the arrays that it has so far, by name."""

    def __init__(self, cell: CompiledCell, rows: Rows, threads: int, words: int | None) -> None:
        """`words`: the rows of the table, if there is one."""
        self.cell, self.rows, self.threads = cell, rows, threads
        self.tape = Tape()
        vectors = [p.name for p in cell.program.parameters if len(p.shape) == 1]
        self.arrays = {name: Array(Place(f"parameter {name}"), 1) for name in vectors}
        self.given = rows.total if words is None else words
        """The rows of what comes before the loop."""
        self._index = (None, 0) if words is None else (Place("index"), rows.total)

    def reaches(self, width: int) -> bool:
        """Whether instructions can reach the rows of a tensor of the caller themselves."""
        return self.rows.order is None and width % BLOCK == 0 and self.rows.total > 0

    def outside(self, slot: str, width: int, strides: tuple[int, int]) -> Array:
        """A tensor of the caller with these strides of batch and time, or of its packed rows, as an array."""
        rows, (of_sequence, of_step) = self.rows, strides
        last = (rows.batch - 1) * of_sequence + (rows.time - 1) * of_step
        return Array(Place(slot), (rows.total - 1) * of_sequence + width if rows.packed else last + width, of_sequence)

    def missing(self, total: int, present: Sequence[str], plan: Plan) -> Sizes:
        """The arrays of a plan that are not `present`, sums and parameters apart: a row a sequence, or `total` rows."""
        return {
            name: (self.rows.batch if memory.table < 0 else total, plan.widths[name])
            for name, memory in plan.memory.items()
            if name not in present and memory not in (PARAMETER, SUM)
        }

    def pack(self, *plans: Plan) -> tuple[Key, ...]:
        """The matrices of the plans, which the slot "packed" will have."""
        matrices = tuple(dict.fromkeys(key for plan in plans for key in plan.matrices))
        self._packed = packed_places(self.cell, matrices, "packed")
        return matrices

    def loop(self, plan: Plan, active: np.ndarray, tables: np.ndarray) -> None:
        """Record a plan over time: `active` (steps,) rows of each step, `tables` (tables, steps) where they are."""
        self._run(plan, active, tables, *self._index)

    def each_row(self, plan: Plan, piece: Piece, tables: int) -> None:
        """Record a plan that knows no time on the rows of a piece, in chunks; its last table has the rows within it."""
        chunk = max(1, min(_CHUNK, -(-piece.rows // self.threads)))
        within = np.arange(0, piece.rows, chunk, dtype=np.int64)
        offsets = np.stack([*[piece.start + within] * max(tables - 1, 1), *[within] * (tables > 1)])
        self._run(plan, np.minimum(chunk, piece.rows - within), offsets, None, 0)

    def _run(self, plan: Plan, active: np.ndarray, tables: np.ndarray, index: Place | None, index_rows: int) -> None:
        if plan.stages and len(active):
            places = {name: self.arrays[name] for name in plan.memory}
            worth = threads_for(plan, active.sum()) if plan.independent else threads_in_step(plan, active.max())
            threads = min(self.threads, worth)
            plan.record(self.tape, active, tables, places, self._packed, threads, index, index_rows)


def threads_for(plan: Plan, rows: int) -> int:
    """As many threads as so many rows of the plan are worth, between waking and waiting once."""
    return 1 + int(rows) * plan.work // _WORTH_A_THREAD


def threads_in_step(plan: Plan, rows: int) -> int:
    """As many threads as are worth waiting for each other in every step of so many rows."""
    return 1 + max(int(rows), _TILE) * plan.work // _WORTH_WAITING

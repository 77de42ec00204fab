"""Gradients of matrices outside the time loop: products over all rows of a piece of steps."""

from collections.abc import Callable
from typing import NamedTuple

from unrolled.engine.native import library
from unrolled.engine.native.arrays import array_rows, copy
from unrolled.engine.native.compiled import PASSING, Backward
from unrolled.engine.native.plan import Array
from unrolled.engine.native.recording import Recorder
from unrolled.engine.native.rows import Rows
from unrolled.engine.native.tape import Place
from unrolled.equations.derive import OuterProduct


class Part(NamedTuple):
    """Rows that are at hand: how many, and at most how many; the slot of the trace from the first of them on; and of a
    batch the first, and how many."""

    label: str
    rows: int | Place
    most: int
    trace: str
    bounds: Callable[[Rows], tuple[int, int]]


PREVIOUS = "previous"  # an array for the states before each row, where they do not lie in a row already


class MatrixGradients:
    """Records the gradients of a cell's matrices, piece by piece, into the slots "gradient NAME"."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        cell = recorder.cell
        self._parts = {p: [name for name, part in cell.parts.items() if part.parameter == p] for p in cell.columns}
        # Parts that are disjoint and make up the whole are written the first time, and no memory need be zero.
        self._disjoint = {
            p for p, names in self._parts.items() if sum(cell.parts[name].columns for name in names) == cell.columns[p]
        }
        self._begun = {name for p, names in self._parts.items() if p not in self._disjoint for name in names}

    @property
    def written(self) -> frozenset[str]:
        """The parameters whose gradients are written; to what is in the slots of the others they are added."""
        return frozenset(p for p in self._disjoint if self._begun.issuperset(self._parts[p]))

    def record(self, step: Backward, part: Part) -> None:
        """Record the outer products of a plan over the rows of a part."""
        for group in step.outer_products:
            vector, where = self._vector(step, part, group[0].vector)
            fresh: list[OuterProduct] = []
            again: list[OuterProduct] = []
            for term in group:
                (again if term.matrix in self._begun else fresh).append(term)
                self._begun.add(term.matrix)
            for accumulate, terms in enumerate((fresh, again)):
                if terms:
                    self._products(terms, vector, where, part.rows, accumulate)

    def _vector(self, step: Backward, part: Part, name: str) -> tuple[Array, Place]:
        """The array of a vector, and where its first row of the part lies."""
        recorder = self._recorder
        tape, cell = recorder.tape, recorder.cell
        array = recorder.arrays[name]
        if name in cell.states and recorder.frame.ragged:
            moved = recorder.arrays[PREVIOUS]
            source = array_rows(tape, array, index=Place(f"previous of {part.label}"))
            copy(tape, array_rows(tape, moved), source, part.rows, cell.width(name), False, recorder.threads)
            return moved, moved.place
        if step.plan.memory.get(name) == PASSING:
            return array, array.place
        new = name in cell.program.outputs and name not in (*cell.states, *cell.hoisted.carried)
        return array, Place(part.trace, array.place.offset).after(64 * recorder.frame.batch * new)

    def _products(
        self, terms: list[OuterProduct], vector: Array, where: Place, rows: int | Place, accumulate: int
    ) -> None:
        tape, cell, arrays = self._recorder.tape, self._recorder.cell, self._recorder.arrays
        matrices = [cell.parts[term.matrix] for term in terms]
        left = [arrays[term.gradient] for term in terms]
        tape.call(
            library.CALL_OUTER,
            len(terms),
            tape.put(*(array.place for array in left)),
            tape.put(*(array.rows for array in left)),
            where,
            *(vector.rows, matrices[0].rows, matrices[0].columns, rows),
            tape.put(*(Place(f"gradient {m.parameter}", 4 * m.first) for m in matrices)),
            tape.put(*(cell.columns[m.parameter] for m in matrices)),
            *(accumulate, cell.precision, self._recorder.threads),
        )

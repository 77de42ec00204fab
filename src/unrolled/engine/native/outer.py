"""Gradients of matrices outside the time loop: products over all rows of a piece of steps."""

from unrolled.engine.native import library
from unrolled.engine.native.arrays import array_rows, copy
from unrolled.engine.native.compiled import PASSING, Backward
from unrolled.engine.native.plan import Array
from unrolled.engine.native.recording import Recorder
from unrolled.engine.native.rows import Piece
from unrolled.engine.native.tape import Place
from unrolled.equations.derive import OuterProduct

PREVIOUS = "previous"  # an array for the states before each row, where they do not lie in a row already


class MatrixGradients:
    """Records the gradients of a cell's matrices, piece by piece, into the slots "gradient NAME"."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        cell = recorder.cell
        matrices = [p for p in cell.program.parameters if len(p.shape) == 2]
        self._columns = {p.name: cell.program.size(p.shape[1], cell.widths) for p in matrices}
        self._parts = {p: [name for name, part in cell.parts.items() if part.parameter == p] for p in self._columns}
        # Parts that are disjoint and make up the whole are written the first time, and no memory need be zero.
        self._disjoint = {
            p for p, names in self._parts.items() if sum(cell.parts[name].columns for name in names) == self._columns[p]
        }
        self._begun = {name for p, names in self._parts.items() if p not in self._disjoint for name in names}

    @property
    def written(self) -> frozenset[str]:
        """The parameters whose gradients are written; to what is in the slots of the others they are added."""
        return frozenset(p for p in self._disjoint if self._begun.issuperset(self._parts[p]))

    def record(self, part: Backward, piece: Piece) -> None:
        """Record the outer products of a plan over the rows of a piece."""
        for group in part.outer_products:
            vector, first = self._vector(part, piece, group[0].vector)
            fresh: list[OuterProduct] = []
            again: list[OuterProduct] = []
            for term in group:
                (again if term.matrix in self._begun else fresh).append(term)
                self._begun.add(term.matrix)
            for accumulate, terms in enumerate((fresh, again)):
                if terms:
                    self._products(terms, vector, first, piece.rows, accumulate)

    def _vector(self, part: Backward, piece: Piece, name: str) -> tuple[Array, int]:
        """The array of a vector, and the first row of the piece in it."""
        tape, cell, rows = self._recorder.tape, self._recorder.cell, self._recorder.rows
        array = self._recorder.arrays[name]
        if name in cell.states and rows.lengths is not None:
            moved = self._recorder.arrays[PREVIOUS]
            index = rows.previous[piece.start : piece.start + piece.rows]
            source = array_rows(tape, array, index=index)
            copy(tape, array_rows(tape, moved), source, piece.rows, cell.width(name), False, self._recorder.threads)
            return moved, 0
        if part.plan.memory.get(name) == PASSING:
            return array, 0
        new = name in cell.program.outputs and name not in (*cell.states, *cell.hoisted.carried)
        return array, piece.start + (rows.batch if new else 0)

    def _products(self, terms: list[OuterProduct], vector: Array, first: int, rows: int, accumulate: int) -> None:
        tape, cell, arrays = self._recorder.tape, self._recorder.cell, self._recorder.arrays
        matrices = [cell.parts[term.matrix] for term in terms]
        left = [arrays[term.gradient] for term in terms]
        tape.call(
            library.CALL_OUTER,
            len(terms),
            tape.put(*(array.place for array in left)),
            tape.put(*(array.rows for array in left)),
            vector.place.after(64 * first),
            *(vector.rows, matrices[0].rows, matrices[0].columns, rows),
            tape.put(*(Place(f"gradient {m.parameter}", 4 * m.first) for m in matrices)),
            tape.put(*(self._columns[m.parameter] for m in matrices)),
            *(accumulate, cell.precision, self._recorder.threads),
        )

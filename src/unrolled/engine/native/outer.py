"""Gradients of matrices outside the time loop: products over all rows of a piece of steps."""

from collections.abc import Mapping

from unrolled.engine.native.arrays import array_rows, copy
from unrolled.engine.native.compiled import PASSING, Backward, CompiledCell
from unrolled.engine.native.plan import Array
from unrolled.engine.native.rows import Piece, Rows
from unrolled.engine.native.tape import Place, Tape
from unrolled.equations.derive import OuterProduct

PREVIOUS = "previous"  # an array for the states before each row, where they do not lie in a row already


def record_outer_products(
    tape: Tape,
    cell: CompiledCell,
    part: Backward,
    rows: Rows,
    piece: Piece,
    arrays: Mapping[str, Array],
    widths: Mapping[str, int],
    begun: set[str],
    threads: int,
) -> None:
    """Put the gradients of the matrices into the slots "gradient NAME", or add those of matrices that have `begun`;
    `widths` are the columns of the parameters."""
    for group in part.outer_products:
        name = group[0].vector
        vector, first = arrays[name], 0
        if name in cell.states and rows.lengths is not None:
            vector = arrays[PREVIOUS]
            index = rows.previous()[piece.start : piece.start + piece.rows]
            source = array_rows(tape, arrays[name], index=index)
            copy(tape, array_rows(tape, vector), source, piece.rows, cell.width(name), False, threads)
        elif part.plan.memory.get(name) != PASSING:
            new = name in cell.program.outputs and name not in (*cell.states, *cell.hoisted.carried)
            first = piece.start + (rows.batch if new else 0)
        fresh: list[OuterProduct] = []
        again: list[OuterProduct] = []
        for term in group:
            (again if term.matrix in begun else fresh).append(term)
            begun.add(term.matrix)
        for accumulate, terms in enumerate((fresh, again)):
            if not terms:
                continue
            matrices = [cell.parts[term.matrix] for term in terms]
            left = [arrays[term.gradient] for term in terms]
            tape.call(
                "unrolled_outer",
                len(terms),
                tape.put(*(array.place for array in left)),
                tape.put(*(array.rows for array in left)),
                vector.place.after(64 * first),
                *(vector.rows, matrices[0].rows, matrices[0].columns, piece.rows),
                tape.put(*(Place(f"gradient {m.parameter}", 4 * m.first) for m in matrices)),
                tape.put(*(widths[m.parameter] for m in matrices)),
                *(accumulate, cell.precision, threads),
            )

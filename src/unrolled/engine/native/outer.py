"""Gradients of matrices after the time loop: one product over all rows, K = the sum of the lengths."""

from collections.abc import Mapping

from unrolled.engine.native.arrays import Array, array_rows, copy
from unrolled.engine.native.compiled import Backward, CompiledCell
from unrolled.engine.native.rows import Rows
from unrolled.engine.native.tape import Place, Tape

PREVIOUS = "previous"  # an array for the states before each row, where they do not lie in a row already


def record_outer_products(
    tape: Tape,
    cell: CompiledCell,
    part: Backward,
    rows: Rows,
    arrays: Mapping[str, Array],
    widths: Mapping[str, int],
    threads: int,
) -> None:
    """Add the gradients of the matrices to the slots "gradient NAME"; `widths` are the columns of the parameters."""
    for terms in part.outer_products:
        vector, first = _vector_rows(tape, cell, terms[0].vector, rows, arrays, threads)
        matrices = [cell.parts[term.matrix] for term in terms]
        left = [arrays[term.gradient] for term in terms]
        tape.call(
            "unrolled_outer",
            len(terms),
            tape.put(*(array.place for array in left)),
            tape.put(*(array.rows for array in left)),
            first,
            *(vector.rows, matrices[0].rows, matrices[0].columns, rows.total),
            tape.put(*(Place(f"gradient {m.parameter}", 4 * m.first) for m in matrices)),
            tape.put(*(widths[m.parameter] for m in matrices)),
            threads,
        )


def _vector_rows(
    tape: Tape, cell: CompiledCell, name: str, rows: Rows, arrays: Mapping[str, Array], threads: int
) -> tuple[Array, Place]:
    """The array with a vector's values at all packed rows (previous states, new ones, values of the steps), and where
    they begin."""
    array = arrays[name]
    if name in cell.states:
        if rows.lengths is None:
            return array, array.place
        gathered = arrays[PREVIOUS]
        source = array_rows(tape, array, index=rows.previous())
        copy(tape, array_rows(tape, gathered), source, rows.total, cell.width(name), False, threads)
        return gathered, gathered.place
    if name in cell.hoisted.carried or name not in cell.program.outputs:
        return array, array.place
    return array, array.place.after(64 * rows.batch)

"""Gradients of matrices after the time loop: one product over all rows, K = the sum of the lengths."""

from collections.abc import Mapping

import torch
from torch import Tensor

from unrolled.engine.native import library
from unrolled.engine.native.compiled import Backward, CompiledCell
from unrolled.engine.native.packs import columns_of
from unrolled.engine.native.rows import Rows
from unrolled.equations.derive import OuterProduct


def add_outer_products(
    cell: CompiledCell, part: Backward, rows: Rows, arrays: Mapping[str, Tensor], gradients: Mapping[str, Tensor]
) -> None:
    """Add the gradients of the matrices; those that multiply the same vector share a pass over it."""
    sharing: dict[tuple[str, torch.Size], list[OuterProduct]] = {}
    for term in part.outer_products:
        shape = columns_of(cell, term.matrix, gradients).shape
        sharing.setdefault((term.vector, shape), []).append(term)
    for (name, shape), terms in sharing.items():
        vector, first = _vector_rows(cell, name, rows, arrays)
        left = [arrays[term.gradient] for term in terms]
        results = [columns_of(cell, term.matrix, gradients) for term in terms]
        library.call(
            "unrolled_outer",
            len(terms),
            library.addresses([t.data_ptr() for t in left]),
            library.integers([t.shape[1] for t in left]),
            *(vector.data_ptr() + 4 * library.BLOCK * first, vector.shape[1], *shape, rows.total),
            library.addresses([t.data_ptr() for t in results]),
            library.integers([t.stride(0) for t in results]),
            torch.get_num_threads(),
        )


def _vector_rows(cell: CompiledCell, name: str, rows: Rows, arrays: Mapping[str, Tensor]) -> tuple[Tensor, int]:
    """The array with a vector's values at all packed rows (previous states, new ones, values of the steps), and the row
    at which they begin."""
    if name in cell.states:
        return rows.previous(arrays[name], cell.width(name)), 0
    if name in cell.hoisted.carried or name not in cell.program.outputs:
        return arrays[name], 0
    return arrays[name], rows.batch

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
        vector = _vector_rows(cell, name, rows, arrays)
        left = [arrays[term.gradient] for term in terms]
        results = [columns_of(cell, term.matrix, gradients) for term in terms]
        library.call(
            "unrolled_outer",
            len(terms),
            library.addresses([t.data_ptr() for t in left]),
            library.integers([t.stride(0) for t in left]),
            *(vector.data_ptr(), vector.stride(0), *shape, rows.total),
            library.addresses([t.data_ptr() for t in results]),
            library.integers([t.stride(0) for t in results]),
            torch.get_num_threads(),
        )


def _vector_rows(cell: CompiledCell, name: str, rows: Rows, arrays: Mapping[str, Tensor]) -> Tensor:
    """The values of a vector at all packed rows: previous states, new states, or an array of the steps."""
    if name in cell.states:
        return rows.previous(arrays[name])
    if name in cell.hoisted.carried or name not in cell.program.outputs:
        return arrays[name]
    return arrays[name][rows.batch :]

"""Weights in the panel form that the native products read."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from unrolled.engine.native import library
from unrolled.engine.native.compiled import CompiledCell
from unrolled.engine.native.plan import Buffer
from unrolled.engine.native.workspace import slab

Matrices = dict[tuple[str, bool], Buffer]


class Packs:
    """The packed matrices of one set of parameters, packed when first asked for."""

    def __init__(self, cell: CompiledCell, parameters: Mapping[str, Tensor]) -> None:
        self._cell = cell
        self._parameters = {name: p.detach() for name, p in parameters.items()}
        self._packed: dict[tuple[str, bool], Tensor] = {}

    def __getitem__(self, wanted: Iterable[tuple[str, bool]]) -> Matrices:
        wanted = list(wanted)
        if missing := [key for key in wanted if key not in self._packed]:
            self._pack(missing)
        return {key: Buffer(self._packed[key].data_ptr()) for key in wanted}

    def _pack(self, wanted: Sequence[tuple[str, bool]]) -> None:
        """Pack matrices, or their transposes, one after the other in one slab."""
        parts = [columns_of(self._cell, matrix, self._parameters) for matrix, _ in wanted]
        parts = [part.t() if transposed else part for part, (_, transposed) in zip(parts, wanted, strict=True)]
        sizes = [library.library().unrolled_packed_size(*part.shape) for part in parts]
        memory = torch.split(slab(sum(sizes)), sizes)
        self._packed.update(zip(wanted, memory, strict=True))
        matrices = (library.Matrix * len(parts))(
            *(
                library.Matrix(part.data_ptr(), *part.shape, *part.stride(), packed.data_ptr())
                for part, packed in zip(parts, memory, strict=True)
            )
        )
        library.call("unrolled_pack_all", matrices, len(parts), torch.get_num_threads())


_CACHED = 32  # sets of packed weights that are kept: the layers of a model, and then some
_cache: dict[tuple[int, ...], tuple[tuple[int, ...], Packs]] = {}


def packs_of(cell: CompiledCell, parameters: Mapping[str, Tensor]) -> Packs:
    """The packs of these parameters, kept from the last call if no weight has changed since.

    A change is seen by torch's version counter; one that goes round it (through `.data` or numpy) by a fingerprint.
    """
    matrices = [p for p in parameters.values() if p.dim() == 2]
    if any(p.is_inference() for p in matrices):  # they have no version counter
        return Packs(cell, parameters)
    key = (id(cell), *(p.data_ptr() for p in matrices))
    fingerprint = library.library().unrolled_fingerprint
    now = (*(p._version for p in matrices), *(fingerprint(p.data_ptr(), p.numel()) for p in matrices))
    found = _cache.pop(key, None)
    packs = found[1] if found is not None and found[0] == now else Packs(cell, parameters)
    _cache[key] = (now, packs)
    if len(_cache) > _CACHED:
        del _cache[next(iter(_cache))]
    return packs


def columns_of(cell: CompiledCell, matrix: str, parameters: Mapping[str, Tensor]) -> Tensor:
    """The view of a parameter (or of its gradient) that a matrix name of the hoisted program stands for."""
    columns = cell.hoisted.columns[matrix]
    first = sum(cell.program.size(d, cell.widths) for d in columns.before)
    width = cell.widths[columns.shape[1]]
    return parameters[columns.parameter][:, first : first + width]

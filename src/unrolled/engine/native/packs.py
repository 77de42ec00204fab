"""Weights in the panel form that the native products read."""

import functools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unrolled.engine.joined import addresses
from unrolled.engine.native import library
from unrolled.engine.native.compiled import CompiledCell, Part
from unrolled.engine.native.tape import Place, Tape
from unrolled.engine.native.workspace import slab

Key = tuple[str, bool]  # a matrix, and whether it is transposed


def packed_places(cell: CompiledCell, wanted: Sequence[Key], slot: str) -> dict[Key, Place]:
    """Where each matrix lies in the memory that `Packs.of` makes of the same list."""
    pieces, _ = _layout(cell, tuple(wanted))
    return {key: Place(slot, piece.offset) for key, piece in zip(wanted, pieces, strict=True)}


@dataclass(frozen=True)
class _Piece:
    part: Part
    transposed: bool
    rows: int
    columns: int
    offset: int  # bytes


@functools.lru_cache(maxsize=256)
def _layout(cell: CompiledCell, wanted: tuple[Key, ...]) -> tuple[list[_Piece], int]:
    """The matrices one after the other, and the floats of all."""
    pieces: list[_Piece] = []
    floats = 0
    for name, transposed in wanted:
        part = cell.parts[name]
        rows, columns = (part.columns, part.rows) if transposed else (part.rows, part.columns)
        pieces.append(_Piece(part, transposed, rows, columns, 4 * floats))
        floats += library.library().unrolled_packed_size(rows, columns, cell.precision)
    return pieces, floats


class Packs:
    """The packed matrices of one set of parameters, which may be joined, packed when first asked for."""

    def __init__(self, cell: CompiledCell, parameters: Mapping[str, Tensor]) -> None:
        self._cell = cell
        self._parameters = {name: p.detach() for name, p in parameters.items() if p.dim() == 2}
        self._packed: dict[tuple[Key, ...], Tensor] = {}

    def of(self, wanted: tuple[Key, ...]) -> Tensor:
        """These matrices packed one after the other."""
        if wanted not in self._packed:
            self._packed[wanted] = self._pack(wanted)
        return self._packed[wanted]

    def _pack(self, wanted: tuple[Key, ...]) -> Tensor:
        strides = tuple((key, *p.stride()) for key, p in self._parameters.items())
        tape, floats = _recorded(self._cell, wanted, strides, torch.get_num_threads(), threading.get_ident())
        memory = slab(floats)
        tape.place({"packed": memory.data_ptr(), **addresses("parameter", self._parameters)})
        tape.play()
        return memory


@functools.lru_cache(maxsize=256)
def _recorded(
    cell: CompiledCell, wanted: tuple[Key, ...], strides: tuple[tuple[str, int, int], ...], threads: int, _thread: int
) -> tuple[Tape, int]:
    """A tape of the packing, for each Python thread its own, and the floats of its slot "packed"."""
    pieces, floats = _layout(cell, wanted)
    of_parameter = {name: of_key for key, *of_key in strides for name in key.split()}
    words: list[int | Place] = []
    for piece in pieces:
        source = Place(f"parameter {piece.part.parameter}", 4 * piece.part.first)
        own = of_parameter[piece.part.parameter][:: -1 if piece.transposed else 1]
        words += source, piece.rows, piece.columns, *own, Place("packed", piece.offset)
    tape = Tape()
    tape.call(library.CALL_PACK, tape.put(*words), len(pieces), cell.precision, threads)
    return tape.finish(), floats


_CACHED = 32  # sets of packed weights that are kept: the layers of a model, and then some
_cache: dict[tuple[int, ...], tuple[tuple[int, ...], Packs]] = {}


def packs_of(cell: CompiledCell, parameters: Mapping[str, Tensor]) -> Packs:
    """The packs of these parameters, which may be joined, kept from the last call if no weight has changed since.

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

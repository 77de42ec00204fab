"""Weights in the panel form that the native products read."""

import functools
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
    """Where each matrix lies in the packed memory of the same list."""
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


def record_packing(tape: Tape, cell: CompiledCell, wanted: Sequence[Key], threads: int) -> None:
    """Record one call that packs the matrices of contiguous parameters in the slots "parameter NAME" into the slot
    "packed"."""
    pieces, _ = _layout(cell, tuple(wanted))
    words: list[int | Place] = []
    for piece in pieces:
        parameter = piece.part.parameter
        strides = (cell.columns[parameter], 1)[:: -1 if piece.transposed else 1]
        source = Place(f"parameter {parameter}", 4 * piece.part.first)
        words += source, piece.rows, piece.columns, *strides, Place("packed", piece.offset)
    tape.call(library.CALL_PACK, tape.put(*words), len(pieces), cell.precision, threads)


class Packs:
    """The packed matrices of one set of contiguous parameters, which may be joined."""

    def __init__(self, cell: CompiledCell, parameters: Mapping[str, Tensor]) -> None:
        self._cell = cell
        self._parameters = {name: p.detach() for name, p in parameters.items() if p.dim() == 2}
        self._packed: dict[tuple[Key, ...], Tensor] = {}
        self.addresses = addresses("parameter", self._parameters)
        """Where the matrices themselves are, by "parameter NAME"."""

    def find(self, wanted: tuple[Key, ...]) -> tuple[Tensor, bool]:
        """Memory for these matrices packed one after the other, and whether they are there; if not, who puts them there
        says so to `keep`."""
        packed = self._packed.get(wanted)
        return (slab(_layout(self._cell, wanted)[1]), False) if packed is None else (packed, True)

    def keep(self, wanted: tuple[Key, ...], packed: Tensor) -> None:
        """These matrices are packed now."""
        self._packed[wanted] = packed

    def of(self, wanted: tuple[Key, ...]) -> Tensor:
        """These matrices packed one after the other."""
        packed, there = self.find(wanted)
        if not there:
            tape = Tape()
            record_packing(tape, self._cell, wanted, torch.get_num_threads())
            tape.finish().place({"packed": packed.data_ptr(), **self.addresses})
            tape.play()
            self.keep(wanted, packed)
        return packed


_CACHED = 64  # sets of packed weights that are kept: the layers of a model, and then some
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

"""The engine's arrays: rows of blocks of 16 units, block by block.

Rows of one block are neighbours in memory, because they are worked on together: what a step touches of an array is a
few long stretches, which the processor fetches ahead, and no two rows share a place in the caches.
"""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from unrolled.engine.joined import names_of
from unrolled.engine.native import library
from unrolled.engine.native.plan import Array, blocks
from unrolled.engine.native.tape import Place, Tape
from unrolled.engine.native.workspace import zeros

_LINE = 64  # bytes of a cache line, and of a block of a row
_FLOAT = 4
# Between arrays: at equal distances from a page's start they would share the same few places in the caches, which
# made the backward loop of an LSTM (batch 32, hidden 256) take 11.5 ms in the place of 7.2 in every other process.
_GAP = 521 * _LINE

Sizes = Mapping[str, tuple[int, int]]


class Layout:
    """Arrays of (rows, width) one after the other in the memory of a slot."""

    def __init__(self, slot: str, sizes: Sizes) -> None:
        self.arrays: dict[str, Array] = {}
        size = 0
        for name, (rows, width) in sizes.items():
            self.arrays[name] = Array(Place(slot, size), _spread(rows))
            size += blocks(width) * _spread(rows) * _LINE + _GAP
        self.floats = size // _FLOAT


def _spread(rows: int) -> int:
    """At least `rows`: how many an array gets, so that its blocks do not begin at the same place in the caches."""
    return rows if rows < 64 else rows + (16 - rows) % 64


def of_vector(values: Tensor) -> Tensor:
    """A vector (width,) as memory that the engine can read: itself where possible, else a padded copy."""
    width = len(values)
    if width % library.BLOCK == 0 and values.is_contiguous() and values.data_ptr() % _LINE == 0:
        return values
    padded = zeros(blocks(width) * library.BLOCK)
    padded[:width] = values
    return padded


class Vectors(NamedTuple):
    """The vectors among the parameters as memory that the engine can read: where each lies, by "parameter NAME", and
    what holds it."""

    addresses: dict[str, int]
    held: list[Tensor]


def vectors_of(parameters: Mapping[str, Tensor]) -> Vectors:
    """The vectors among the parameters, which may be joined: themselves where possible, else padded copies."""
    found = Vectors({}, [])
    for key, value in parameters.items():
        if value.dim() == 2:
            continue
        names = names_of("parameter", key)
        width, address = value.numel() // len(names), value.data_ptr()
        if width % library.BLOCK == 0 and value.is_contiguous() and address % _LINE == 0:
            found.held.append(value.detach())  # the memory, wherever `value` may be by the backward pass
            step = _FLOAT * width
            found.addresses.update(zip(names, range(address, address + step * len(names), step), strict=True))
            continue
        for name, part in zip(names, value.chunk(len(names)), strict=True):
            found.held.append(of_vector(part))
            found.addresses[name] = found.held[-1].data_ptr()
    return found


def array_rows(tape: Tape, array: Array, first: int = 0, index: Place | None = None) -> Place:
    """The rows of an array from `first` on, or those of an index, as `unrolled_rows`."""
    return tape.put(array.place.after(first * _LINE), index, library.BLOCK, array.rows * library.BLOCK)


def tensor_rows(tape: Tape, slot: str, stride: int | Place, index: Place | None = None) -> Place:
    """The rows of a tensor `stride` floats apart, or those of an index, as `unrolled_rows`."""
    return tape.put(Place(slot), index, stride, library.BLOCK)


def copy(tape: Tape, to: Place, source: Place, rows: int | Place, width: int, pad: bool, threads: int) -> None:
    """Copy `rows` rows of `width` units; `pad`: with zeros up to a whole block."""
    tape.call(library.CALL_COPY, to, source, rows, width, int(pad), threads)


def add(tape: Tape, to: Place, source: Place, rows: int | Place, width: int, threads: int) -> None:
    """Add `rows` rows of `width` units to those of `to`, which may be the same."""
    tape.call(library.CALL_ADD, to, source, rows, width, threads)

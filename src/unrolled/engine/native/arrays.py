"""The engine's arrays as tensors (blocks, rows, 16), and copying rows between them and plain tensors (rows, width).

Rows of one block of 16 units are neighbours in memory, because they are worked on together: what a step touches of an
array is a few long stretches, which the processor fetches ahead, and no two rows share a place in the caches.
"""

import numpy as np
import torch
from torch import Tensor

from unrolled.engine.native import library
from unrolled.engine.native.plan import Buffer, blocks


def buffer(array: Tensor) -> Buffer:
    """The address and the rows of an array."""
    return Buffer(array.data_ptr(), array.shape[1])


def of_vector(values: Tensor) -> Tensor:
    """A vector (width,) as an array of one row; the same memory where that can be read in place."""
    width = len(values)
    if width % library.BLOCK == 0 and values.is_contiguous() and values.data_ptr() % 64 == 0:
        return values.view(-1, 1, library.BLOCK)
    padded = torch.zeros(blocks(width) * library.BLOCK)
    padded[:width] = values
    return padded.view(-1, 1, library.BLOCK)


def to_vector(row: Tensor, width: int) -> Tensor:
    """A row (blocks, 16) as a vector (width,)."""
    return row.reshape(-1)[:width]


class Rows:
    """Rows somewhere in memory, to be copied from or to."""

    def __init__(self, tensor: Tensor, offset: np.ndarray | None, row_stride: int, block_stride: int, first: int = 0):
        self._held = (tensor, offset)
        address = tensor.data_ptr() + 4 * first
        place = None if offset is None else offset.ctypes.data
        self.structure = library.Rows(address, place, row_stride, block_stride)

    @staticmethod
    def of_array(array: Tensor, first: int = 0, index: np.ndarray | None = None) -> "Rows":
        """The rows of an array from `first` on, or those of `index`."""
        offset = None if index is None else np.ascontiguousarray(index * library.BLOCK, np.int64)
        return Rows(array, offset, library.BLOCK, array.stride(0), first * library.BLOCK)

    @staticmethod
    def of_tensor(values: Tensor, offset: np.ndarray | None = None) -> "Rows":
        """The rows of a tensor whose last dimension is contiguous; `offset` says where, in floats."""
        return Rows(values, offset, values.stride(0), library.BLOCK)


def copy(to: Rows, source: Rows, rows: int, width: int, pad: bool = False) -> None:
    """Copy `rows` rows of `width` units; `pad`: with zeros up to a whole block."""
    threads = torch.get_num_threads()
    library.call("unrolled_copy_rows", to.structure, source.structure, rows, width, pad, threads)

"""Memory that runs use again. Fresh memory costs a page fault for every 4 KiB at its first touch, in each training step
anew; memory that was used before costs nothing, and in pages of 2 MiB it is found faster too.

A slab is free when nobody but the pool refers to it: a tensor on it holds a reference, and autograd frees what it saved
by letting go of it.
"""

import mmap
import sys
import threading

import torch
from torch import Tensor

_SMALL = 16_384  # floats below which the allocator of torch does as well
_LARGE = 262_144  # floats from which a result for the caller is worth a slab
_WAITING = 8  # free slabs that are kept for their next use, those of the sizes that were asked for last

# What torch.empty makes depends on torch's default type and device; the engine needs float32 on the CPU.
_LIKE = torch.empty(0, dtype=torch.float32, device="cpu")


def empty(*shape: int) -> Tensor:
    """An uninitialised tensor of float32 on the CPU."""
    return _LIKE.new_empty(shape)


def zeros(*shape: int) -> Tensor:
    """A tensor of float32 zeros on the CPU."""
    return _LIKE.new_zeros(shape)


def slab(floats: int) -> Tensor:
    """A 1-d tensor of so many floats, uninitialised; let go of it to give it back."""
    return empty(floats) if floats < _SMALL else _POOL.take(floats)


def result(*shape: int) -> Tensor:
    """An uninitialised tensor for the caller to keep."""
    floats = torch.Size(shape).numel()
    return empty(*shape) if floats < _LARGE else _POOL.take(floats).view(shape)


class _Pool:
    def __init__(self) -> None:
        self._slabs: dict[int, list[mmap.mmap]] = {}  # by their floats; the sizes asked for last come last
        self._lock = threading.Lock()

    def take(self, floats: int) -> Tensor:
        """The first `floats` of a slab that nobody uses."""
        # Ragged batches differ a little from step to step, so sizes are rounded up by at most an eighth. What of a slab
        # is never touched takes no memory.
        step = 1 << max(floats.bit_length() - 4, 0)
        size = -(-floats // step) * step
        with self._lock:
            same = self._slabs[size] = self._slabs.pop(size, [])
            for at in range(len(same)):
                if sys.getrefcount(same[at]) == _UNUSED:
                    return torch.frombuffer(same[at], dtype=torch.float32, count=floats)
            self._forget()
            same.append(_memory(4 * size))
            return torch.frombuffer(same[-1], dtype=torch.float32, count=floats)

    def _forget(self) -> None:
        waiting = 0
        for size in [*self._slabs][::-1]:
            same = self._slabs[size]
            for at in range(len(same))[::-1]:
                if sys.getrefcount(same[at]) == _UNUSED:
                    waiting += 1
                    if waiting > _WAITING:
                        del same[at]
            if not same and waiting > _WAITING:
                del self._slabs[size]


def _memory(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


_UNUSED = 2  # references to a slab in the pool while it is asked: the list's, and the one that asks
_POOL = _Pool()

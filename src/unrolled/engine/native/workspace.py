"""Memory that runs use again. Fresh memory costs a page fault for every 4 KiB at its first touch, in each training step
anew; memory that was used before costs nothing, and in pages of 2 MiB it is found faster too.

A slab is free when nobody but the pool refers to it: a tensor on it holds a reference, and autograd frees what it saved
by letting go of it.
"""

import functools
import math
import mmap
import sys
import threading

import torch
from torch import Tensor

_SMALL = 16_384  # floats below which the allocator of torch does as well
_LARGE = 262_144  # floats from which a result for the caller is worth a slab
_WAITING = 8  # free slabs that are kept for their next use, those that were taken last
# Ragged batches differ a little from step to step, so a slab may be larger than it need be. What of it is never touched
# takes no memory.
_ROOM = 1.5
_FLOAT = 4  # bytes

# What torch.empty makes depends on torch's default type and device; the engine needs float32 on the CPU.
_LIKE = torch.empty(0, dtype=torch.float32, device="cpu")


def empty(*shape: int) -> Tensor:
    """An uninitialised tensor of float32 on the CPU."""
    return _LIKE.new_empty(shape)


def zeros(*shape: int) -> Tensor:
    """A tensor of float32 zeros on the CPU."""
    return _LIKE.new_zeros(shape)


def nothing(*shape: int) -> Tensor:
    """Zeros that nobody may write to: everybody shares them."""
    return _nothing(shape) if math.prod(shape) < _SMALL else zeros(*shape)


@functools.lru_cache(maxsize=64)
def _nothing(shape: tuple[int, ...]) -> Tensor:
    with torch.inference_mode(False):
        return zeros(*shape)


def slab(floats: int) -> Tensor:
    """A 1-d tensor of so many floats, uninitialised; let go of it to give it back."""
    return empty(floats) if floats < _SMALL else _POOL.take(floats)


def result(*shape: int) -> Tensor:
    """An uninitialised tensor for the caller to keep."""
    floats = torch.Size(shape).numel()
    return empty(*shape) if floats < _LARGE else _POOL.take(floats).view(shape)


class _Pool:
    def __init__(self) -> None:
        self._slabs: list[mmap.mmap] = []  # those that were taken last come last
        self._lock = threading.Lock()

    def take(self, floats: int) -> Tensor:
        """The first `floats` of a slab that nobody uses."""
        size = _FLOAT * floats
        with self._lock:
            slabs, found, length = self._slabs, -1, int(size * _ROOM) + 1
            for at in range(len(slabs)):  # the smallest that is free and has room
                if size <= len(slabs[at]) < length and sys.getrefcount(slabs[at]) == _UNUSED:
                    found, length = at, len(slabs[at])
            if found < 0:
                self._forget()
                slabs.append(_memory(size + size // 8))
            else:
                slabs.append(slabs.pop(found))
            return torch.frombuffer(slabs[-1], dtype=torch.float32, count=floats)

    def _forget(self) -> None:
        free = [at for at in range(len(self._slabs)) if sys.getrefcount(self._slabs[at]) == _UNUSED]
        for at in free[:-_WAITING][::-1]:
            del self._slabs[at]


def _memory(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


_UNUSED = 2  # references to a slab in the pool while it is asked: the list's, and the one that asks
_POOL = _Pool()

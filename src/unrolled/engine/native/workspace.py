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
_WAITING = 8  # free slabs that are kept for their next use, the latest used first


def slab(floats: int) -> Tensor:
    """A 1-d tensor of so many floats, uninitialised; let go of it to give it back."""
    # Ragged batches differ a little from step to step, so a new slab is a little larger than asked for.
    return torch.empty(floats) if floats < _SMALL else _POOL.take(floats, floats // 8)


def result(*shape: int) -> Tensor:
    """An uninitialised tensor for the caller to keep, no larger than it must be."""
    floats = torch.Size(shape).numel()
    return torch.empty(shape) if floats < _LARGE else _POOL.take(floats, 0).view(shape)


class _Pool:
    def __init__(self) -> None:
        self._slabs: list[mmap.mmap] = []  # the latest used last
        self._lock = threading.Lock()

    def take(self, floats: int, spare: int) -> Tensor:
        with self._lock:
            least, most = 4 * floats, 4 * (floats + 2 * spare)
            free = [at for at in range(len(self._slabs)) if sys.getrefcount(self._slabs[at]) == _UNUSED]
            fitting = [at for at in free if least <= len(self._slabs[at]) <= most]
            chosen = min(fitting, key=lambda at: len(self._slabs[at])) if fitting else None
            memory = _memory(4 * (floats + spare)) if chosen is None else self._slabs[chosen]
            dropped = {chosen, *[at for at in free if at != chosen][:-_WAITING]}
            self._slabs = [s for at, s in enumerate(self._slabs) if at not in dropped] + [memory]
            return torch.frombuffer(memory, dtype=torch.float32, count=floats)


def _memory(size: int) -> mmap.mmap:
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return memory


_UNUSED = 2  # references to a slab in the pool while it is asked: the list's, and the one that asks
_POOL = _Pool()

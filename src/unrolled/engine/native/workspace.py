"""Memory that runs use again. Fresh memory costs a page fault for every 4 KiB at its first touch, in each training step
anew; memory that was used before costs nothing.

A slab is free when nobody but the pool holds its storage: autograd frees what it saved by letting go of it.
"""

import threading
from collections.abc import Mapping

import torch
from torch import Tensor

from unrolled.engine.native.plan import padded

_LINE = 16  # floats of a cache line: every array starts on one
_WAITING = 6  # free slabs that are kept for their next use, the latest used first


def slab(floats: int) -> Tensor:
    """A 1-d tensor of at least so many floats, uninitialised; let go of it to give it back."""
    return _POOL.take(floats)


def cut(memory: Tensor | None, arrays: Mapping[str, tuple[int, int]]) -> dict[str, Tensor]:
    """Arrays of (rows, width), padded, one after the other in `memory` (None: in a slab of their own)."""
    memory = slab(floats_of(arrays)) if memory is None else memory
    result: dict[str, Tensor] = {}
    first = 0
    for name, (rows, width) in arrays.items():
        result[name] = memory[first : first + rows * padded(width)].view(rows, padded(width))
        first += -(-rows * padded(width) // _LINE) * _LINE
    return result


def floats_of(arrays: Mapping[str, tuple[int, int]]) -> int:
    """The memory that `cut` needs."""
    return sum(-(-rows * padded(width) // _LINE) * _LINE for rows, width in arrays.values())


class _Pool:
    def __init__(self) -> None:
        self._slabs: list[torch.UntypedStorage] = []  # the latest used last
        self._lock = threading.Lock()

    def take(self, floats: int) -> Tensor:
        with self._lock:
            size = 4 * floats
            free = [s for s in self._slabs if _holders(s) == 1]
            fitting = [s for s in free if size <= s.nbytes() <= 2 * size + 65536]
            # Ragged batches differ a little from step to step, so a new slab is a little larger than asked for.
            storage = min(fitting, key=len) if fitting else torch.empty(floats + floats // 8 + 1).untyped_storage()
            dropped = {id(s) for s in [s for s in free if s is not storage][:-_WAITING]}
            self._slabs = [s for s in self._slabs if s is not storage and id(s) not in dropped] + [storage]
            empty: Tensor = torch.empty(0)
            return empty.set_(storage, 0, (floats,))  # type: ignore[call-overload,no-any-return]


def _holders(storage: torch.UntypedStorage) -> int:
    """How many hold the storage, this reference included."""
    return int(torch._C._storage_Use_Count(storage._cdata))


_POOL = _Pool()

"""Calls of the native library, recorded once and played with memory wherever it lies by then.

What Python would do between two calls, making structures out of names, sizes and tensors, costs as much as the products
of a small layer. So it is done when a shape is first seen; when a tape is played, the library writes addresses in their
places.
"""

import ctypes
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from unrolled.engine.native import library

_OWN = ""  # the slot of the tape's own memory


class Place(NamedTuple):
    """A place in memory: `offset` bytes after the address of a slot, which is known when the tape is played."""

    slot: str
    offset: int = 0

    def after(self, offset: int) -> "Place":
        """The place so many bytes further."""
        return Place(self.slot, self.offset + offset)


class Tape:
    """A list of calls; every structure they are given consists of 64-bit words."""

    def __init__(self) -> None:
        self._words: list[int] = []
        self._patches: list[tuple[int, Place]] = []
        self._arrays: list[tuple[int, np.ndarray]] = []
        self._calls: list[int | Place] = []  # pairs of a function and where its arguments are
        self._held: list[object] = []

    def put(self, *values: "int | Place | np.ndarray | None") -> Place:
        """A structure or list of these words. An array of 64-bit words, of which the tape gets a copy, stands for its
        address, None for no address."""
        words = self._words
        first = len(words)
        for value in values:
            if type(value) is int:  # as most are
                words.append(value)
                continue
            if isinstance(value, Place):
                self._patches.append((len(words), value))
                value = 0
            elif isinstance(value, np.ndarray):
                self._arrays.append((len(words), value))
                value = 0
            words.append(int(value or 0))
        return Place(_OWN, 8 * first)

    def hold(self, owner: object) -> None:
        """Keep what owns an address that was put."""
        self._held.append(owner)

    def call(self, function: int, *arguments: int | Place) -> None:
        """Record a call, of a function by its number in library.py, with all arguments but the message."""
        self._calls += function, self.put(*arguments)

    def finish(self) -> "Tape":
        """The tape, ready to be placed and played; nothing more can be recorded."""
        first_call = self.put(*self._calls).offset
        parts = [array.reshape(-1) for _, array in self._arrays]
        memory = self._memory = np.concatenate([np.array(self._words, np.int64), *parts], dtype=np.int64, casting="no")
        start = memory.ctypes.data
        at = start + 8 * len(self._words)
        for (word, _), part in zip(self._arrays, parts, strict=True):
            memory[word] = at
            at += 8 * len(part)
        self._slots = list(dict.fromkeys(place.slot for _, place in self._patches if place.slot != _OWN))
        self._number = {slot: at for at, slot in enumerate(self._slots)}
        patches: list[int] = []
        for word, (slot, offset) in self._patches:
            if slot == _OWN:
                memory[word] = start + offset
            else:
                patches += word, self._number[slot], offset
        self._patched = np.array(patches, np.int64)
        self._bases = (ctypes.c_int64 * len(self._slots))()
        sizes = (len(memory), self._patched.ctypes.data, len(patches) // 3, len(self._slots))
        self._list = np.array([start + first_call, len(self._calls) // 2, start, *sizes], np.int64)
        self._message = ctypes.create_string_buffer(library.MESSAGE)
        self._given = self._list.ctypes.data, ctypes.addressof(self._bases)
        return self

    def place(self, addresses: Mapping[str, int]) -> None:
        """Say where the slots lie from now on."""
        self._bases[:] = [addresses[slot] for slot in self._slots]

    def move(self, slot: str, address: int) -> None:
        """Say where one slot lies from now on."""
        self._bases[self._number[slot]] = address

    def play(self, first: int = 0) -> None:
        """Make the calls, in order, from the `first` on; raises as `library.check`."""
        calls, bases = self._given
        status = library.library().unrolled_play(calls, first, bases, self._message)
        library.check("a list of calls", status, self._message)

"""Calls of the native library, recorded once and played with memory wherever it lies by then.

What Python would do between two calls, making structures out of names, sizes and tensors, costs as much as the products
of a small layer. So it is done when a shape is first seen; to play a tape, addresses are written in their places.
"""

import ctypes
import functools
from collections.abc import Callable, Mapping
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
        self._calls: list[tuple[str, int, int]] = []  # function, and the words that are its arguments

    def put(self, *values: "int | Place | np.ndarray | None") -> Place:
        """A structure or list of these words. An array of 64-bit words, of which the tape gets a copy, stands for its
        address, None for no address."""
        words = self._words
        first = len(words)
        for value in values:
            kind = type(value)
            if kind is int:
                words.append(value)  # type: ignore[arg-type]
                continue
            if kind is Place:
                self._patches.append((len(words), value))  # type: ignore[arg-type]
            elif kind is np.ndarray:
                self._arrays.append((len(words), value))  # type: ignore[arg-type]
            words.append(0)
        return Place(_OWN, 8 * first)

    def call(self, function: str, *arguments: int | Place) -> None:
        """Record a call; the function gets the place for a message after `arguments`."""
        first = self.put(*arguments).offset // 8
        self._calls.append((function, first, first + len(arguments)))

    def finish(self) -> "Tape":
        """The tape, ready to be placed and played; nothing more can be recorded."""
        parts = [array.reshape(-1) for _, array in self._arrays]
        self._memory = np.concatenate([np.array([*self._words, 0], np.int64), *parts])
        self._view = self._memory.data  # quicker for a single word
        self._message = ctypes.create_string_buffer(library.MESSAGE)
        start = self._memory.ctypes.data
        at = start + 8 * (len(self._words) + 1)
        for (word, _), part in zip(self._arrays, parts, strict=True):
            self._memory[word] = at
            at += 8 * len(part)
        patches: list[tuple[int, Place]] = []
        for word, place in self._patches:
            if place.slot == _OWN:
                self._memory[word] = start + place.offset
            else:
                patches.append((word, place))
        self._slots = list(dict.fromkeys(place.slot for _, place in patches))
        number = {slot: at for at, slot in enumerate(self._slots)}
        self._where = np.array([word for word, _ in patches], np.int64)
        self._slot = np.array([number[place.slot] for _, place in patches], np.int64)
        self._offset = np.array([place.offset for _, place in patches], np.int64)
        words = self._memory[: len(self._words)].tolist()
        self._ready: list[tuple[str, Callable[..., int], list[int]]] = [
            (name, getattr(library.library(), name), words[first:last]) for name, first, last in self._calls
        ]
        patch_of = {word: number for number, (word, _) in enumerate(patches)}
        self._passed = [  # what a call is given as it is: its arguments, and of which patch each of them is
            (own, word - first, patch_of[word])
            for (_, _, own), (_, first, last) in zip(self._ready, self._calls, strict=True)
            for word in range(first, last)
            if word in patch_of
        ]
        return self

    def place(self, addresses: Mapping[str, int]) -> None:
        """Say where the slots lie from now on."""
        bases = np.array([addresses[slot] for slot in self._slots], np.int64)
        now = bases[self._slot] + self._offset
        self._memory[self._where] = now
        for arguments, at, patch in self._passed:
            arguments[at] = int(now[patch])

    def move(self, slot: str, address: int) -> None:
        """Say where one slot lies from now on, which no call is given as it is; after `place`."""
        for word, offset in self._of_slot[slot]:
            self._view[word] = address + offset

    @functools.cached_property
    def _of_slot(self) -> dict[str, list[tuple[int, int]]]:
        found: dict[str, list[tuple[int, int]]] = {slot: [] for slot in self._slots}
        for word, slot, offset in zip(self._where, self._slot, self._offset, strict=True):
            found[self._slots[slot]].append((int(word), int(offset)))
        return found

    def play(self) -> None:
        """Make the calls, in order; raises as `library.check`."""
        for name, function, arguments in self._ready:
            status = function(*arguments, self._message)
            if status != library.OK:
                library.check(name, status, self._message)

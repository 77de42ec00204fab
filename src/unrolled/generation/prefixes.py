"""Prompts that were read before start at once: the states of the latest ones are kept, by their tokens."""

from collections import OrderedDict

import numpy as np

from unrolled.errors import UnrolledError
from unrolled.generation.decoder import Decoder
from unrolled.generation.sampling import Sampling
from unrolled.generation.state import State


class Prefixes:
    """Starts texts of a model, reading only what no kept prompt begins with.

    model: what reads.
    most: so many states are kept, a few kilobytes each; the one used longest ago goes first.

    Errors: `UnrolledError` if `most` is below 1.
    """

    def __init__(self, model: Decoder, most: int = 64) -> None:
        if most < 1:
            raise UnrolledError(f"a cache of {most} prompts keeps nothing; ask for at least 1.")
        self.model, self._most = model, most
        self._kept: OrderedDict[bytes, State] = OrderedDict()

    def __len__(self) -> int:
        """How many prompts are kept."""
        return len(self._kept)

    def start(self, prompt: str = "", sampling: Sampling | None = None) -> State:
        """As `Decoder.start`: the same state, sooner. Errors as there."""
        tokens = self.model.tokens_of(prompt)
        whole = tokens.tobytes()
        known = max((key for key in self._kept if whole.startswith(key)), key=len, default=b"")
        state = self._kept[known].fork() if known else self.model.fresh()
        self.model.read_tokens(state, np.frombuffer(whole[len(known) :], np.int32))
        self._kept[whole] = state.fork()
        for key in (known, whole):
            if key in self._kept:
                self._kept.move_to_end(key)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        state.resample(sampling or Sampling())
        return state

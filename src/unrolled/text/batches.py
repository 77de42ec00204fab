"""Batches for truncated backpropagation through time: parallel streams through one long text."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import UnrolledError


class Batch(NamedTuple):
    """One training step."""

    inputs: NDArray[np.int64]
    """(rows, window) token ids."""
    targets: NDArray[np.int64]
    """(rows, window): the id that follows each input."""
    fresh: bool
    """True at the start of an epoch: the rows do not continue the step before, so begin from a zero state."""
    epoch: int
    """How many times the text was gone through before, from 0."""


@dataclass(frozen=True)
class Streams:
    """`batch_size` streams that go through `ids` side by side, `window` tokens a step, epoch after epoch.

    Row b of a step continues where row b of the step before ended, so the state can be carried over. Each
    epoch starts at another offset, drawn from `seed`, so that windows fall differently. A batch is a function
    of the step number alone: a run that continues at step k sees what it would have seen.

    ids: (tokens,), any integer type, typically mapped from disk; a step reads only its own slices.
    rank, world: of `world` processes, the one numbered `rank` gets batch_size / world rows of each batch.

    Errors: `UnrolledError` if the text is too short for one step, a number is out of its range, or `world`
    does not divide `batch_size`.

    >>> batch = Streams(np.arange(100), batch_size=2, window=3).batch(0)
    >>> batch.inputs.shape, bool((batch.targets == batch.inputs + 1).all()), batch.fresh
    ((2, 3), True, True)
    """

    ids: NDArray[np.integer[Any]]
    batch_size: int
    window: int
    seed: int = 0
    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        for name in ("batch_size", "window", "world"):
            _check(name, getattr(self, name), least=1)
        _check("seed", self.seed, least=0)
        if not 0 <= self.rank < self.world or self.batch_size % self.world:
            raise UnrolledError(
                f"A batch of {self.batch_size} rows cannot be shared by {self.world} processes "
                f"(this is number {self.rank} from 0). Choose a multiple of {self.world} rows."
            )
        if self.batch_size > largest_batch(len(self.ids), self.window):
            raise UnrolledError(
                f"The text has {len(self.ids)} tokens, but {self.batch_size} rows of {self.window} need "
                f"{self.batch_size * self.window + 1}. Use a batch of at most "
                f"{largest_batch(len(self.ids), self.window)} rows, a shorter window or more text."
            )

    @property
    def steps_per_epoch(self) -> int:
        """How many steps go once through the text; a window is spared for the offset if the text allows."""
        return max(1, (len(self.ids) - 1 - self.window) // (self.batch_size * self.window))

    def batch(self, step: int) -> Batch:
        """The batch of step number `step`, from 0, in (batch_size / world, window) arrays.

        Errors: `UnrolledError` if `step` is negative.
        """
        _check("step", step, least=0)
        epoch, step_in_epoch = divmod(step, self.steps_per_epoch)
        row_length = self.steps_per_epoch * self.window
        spare = len(self.ids) - 1 - self.batch_size * row_length
        offset = int(np.random.default_rng((self.seed, epoch)).integers(spare + 1))
        rows = self.batch_size // self.world
        begin = offset + step_in_epoch * self.window + self.rank * rows * row_length
        ids = np.asarray(self.ids)  # slicing a plain view is faster than slicing a memmap
        starts = range(begin, begin + rows * row_length, row_length)
        # (rows, window + 1): the targets are the inputs one token later.
        tokens = np.stack([ids[start : start + self.window + 1] for start in starts]).astype(np.int64)
        return Batch(tokens[:, :-1], tokens[:, 1:], fresh=step_in_epoch == 0, epoch=epoch)


def largest_batch(tokens: int, window: int) -> int:
    """How many rows of `window` tokens a text of `tokens` tokens fills; at least 1.

    Errors: `UnrolledError` if it does not fill one.

    >>> largest_batch(tokens=1843, window=128)
    14
    """
    _check("window", window, least=1)
    if tokens <= window:
        raise UnrolledError(
            f"The text has {tokens} tokens, but one window of {window} needs {window + 1}. "
            "Use a shorter window or more text."
        )
    return (tokens - 1) // window


def _check(name: str, value: int, least: int) -> None:
    if value < least:
        raise UnrolledError(f"{name} is {value}; it must be a whole number of at least {least}.")

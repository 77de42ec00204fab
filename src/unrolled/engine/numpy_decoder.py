"""The step of a model by numpy, where the native engine is not there: correct, and some ten times slower."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from unrolled.engine.numpy_step import execute
from unrolled.engine.step_parts import StepParts


class NumpyDecoder:
    """Reads tokens into states."""

    def __init__(self, parts: StepParts) -> None:
        self._parts = parts
        self.vocabulary_size = parts.width(parts.program.states[-1].name)
        self.state_size = sum(parts.state_widths)

    def read(
        self, states: Sequence[NDArray[np.float32]], tokens: NDArray[np.int32], *, every: bool = False
    ) -> NDArray[np.float32]:
        """Read `tokens` (rows, steps) into `states`, one (state_size,) array a row, which change.

        Returns the logits of what follows the last token, (rows, vocabulary); or after `every` token,
        (rows, steps, vocabulary).
        """
        parts = self._parts
        rows, steps = tokens.shape
        logits = np.empty((rows, steps if every else 1, self.vocabulary_size), np.float32)
        ends = np.cumsum([0, *parts.state_widths])
        names = [state.name for state in parts.program.states[:-1]]
        for row in range(rows):  # one by one, so that a row computes the same whoever is beside it
            vectors = [states[row][a:b].copy() for a, b in pairwise(ends)]
            for step in range(steps):
                inputs = {name: table[tokens[row, step]] for name, table in parts.tables.items()}
                given = {**inputs, **dict(zip(names, vectors, strict=True)), **parts.matrices, **parts.vectors}
                known = execute(parts.instructions, given)
                vectors = [known[name] for name in parts.program.outputs[:-1]]
                logits[row, step if every else 0] = known[parts.program.outputs[-1]]
            states[row][:] = np.concatenate(
                [np.broadcast_to(v, w) for v, w in zip(vectors, parts.state_widths, strict=True)]
            )
        return logits if every else logits[:, 0]

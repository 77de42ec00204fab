"""One pass over a text to judge a model: every token is a target exactly once."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import UnrolledError


class ValidationBatch(NamedTuple):
    """One step of the pass; row b continues row b of the batch before."""

    inputs: NDArray[np.int64]
    """(rows, time) token ids; 0 at and after a row's length."""
    targets: NDArray[np.int64]
    """(rows, time): the id that follows each input; 0 at and after a row's length."""
    lengths: NDArray[np.int64]
    """(rows,): how many tokens of each row count; at least 1. Less than `time` only in the last batch."""


def validation_batches(ids: NDArray[np.integer[Any]], batch_size: int, window: int) -> Iterator[ValidationBatch]:
    """Lays `ids` in `batch_size` streams and goes through them `window` tokens a step.

    Every token but the first is a target exactly once. Rows are the same through the pass, so state is
    carried over; there are fewer than `batch_size` if there are fewer targets. Rows differ in length by at
    most one token, and the last batch may be one token wider than `window`, so that no row ever comes empty.

    Errors: `UnrolledError` if there are fewer than 2 tokens, or a number is below 1.

    >>> [batch.lengths.tolist() for batch in validation_batches(np.arange(10), batch_size=2, window=3)]
    [[3, 3], [2, 1]]
    """
    if len(ids) < 2:
        raise UnrolledError(
            f"The validation text has {len(ids)} tokens, at least 2 are needed. Give more text or a larger share."
        )
    if batch_size < 1 or window < 1:
        raise UnrolledError(f"Validation needs a batch size and a window of at least 1, not {batch_size} and {window}.")
    return _walk(ids, min(batch_size, len(ids) - 1), window)


def _walk(ids: NDArray[np.integer[Any]], rows: int, window: int) -> Iterator[ValidationBatch]:
    shortest, longer_rows = divmod(len(ids) - 1, rows)
    row_lengths = shortest + (np.arange(rows) < longer_rows)
    row_starts = np.cumsum(row_lengths) - row_lengths
    for begin in range(0, shortest, window):
        last = begin + window >= shortest
        lengths = row_lengths - begin if last else np.full(rows, window)
        inputs = np.zeros((rows, int(lengths.max())), np.int64)
        targets = np.zeros_like(inputs)
        for row, (start, length) in enumerate(zip(row_starts + begin, lengths, strict=True)):
            inputs[row, :length] = ids[start : start + length]
            targets[row, :length] = ids[start + 1 : start + length + 1]
        yield ValidationBatch(inputs, targets, lengths)

"""How well a model predicts a text, token by token, in constant memory."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unrolled.engine.decoders import StepDecoder
from unrolled.text import Tokenizer, Told, validation_batches

# As in training: a text is read in parallel streams, of which each starts without a past; a short one in few.
_STREAMS, _WINDOW, _SHORTEST_STREAM = 16, 128, 1000
_LOGITS_AT_ONCE = 2_000_000  # 16 MB in float64


class TokenScore(NamedTuple):
    """A token, and what the model thought of it before it came."""

    token: int
    text: str
    """Bytes that are no whole character are U+FFFD."""
    nats: float
    """-ln p(token | those before it)."""
    rank: int
    """1 if no token was likelier."""
    entropy: float
    """In nats, of the whole distribution: how unsure the model was."""


def scores(engine: StepDecoder, tokenizer: Tokenizer, ids: NDArray[np.integer[Any]]) -> Iterator[TokenScore]:
    """The scores of all `ids` but the first, each after all those before it."""
    state = np.zeros(engine.state_size, np.float32)
    steps = max(1, min(256, _LOGITS_AT_ONCE // engine.vocabulary_size))
    for first in range(0, len(ids) - 1, steps):
        part = np.asarray(ids[first : first + steps + 1], np.int32)
        logits = engine.read([state], part[None, :-1], every=True)[0].astype(np.float64)
        targets = part[1:]
        own = np.take_along_axis(logits, targets[:, None], 1)
        ranks = 1 + np.count_nonzero(logits > own, axis=1)
        total = _log_sum(logits)
        probabilities = np.exp(logits - total[:, None])
        entropies = total - (probabilities * logits).sum(1)
        for token, nat, rank, entropy in zip(targets, total - own[:, 0], ranks, entropies, strict=True):
            yield TokenScore(int(token), tokenizer.decode([int(token)]), float(nat), int(rank), float(entropy))


def nats(engine: StepDecoder, ids: NDArray[np.integer[Any]], told: Told | None = None) -> float:
    """The sum over all `ids` but the first of -ln p(token | those before it), as training reports it."""
    streams = max(1, min(_STREAMS, len(ids) // _SHORTEST_STREAM))
    window = max(1, min(_WINDOW, _LOGITS_AT_ONCE // (streams * engine.vocabulary_size)))
    states = [np.zeros(engine.state_size, np.float32) for _ in range(streams)]
    total, done = 0.0, 0
    for inputs, targets, lengths in validation_batches(ids, streams, window):
        # Rows differ in length in the last batch only, after which no state is read any more.
        logits = engine.read(states[: len(inputs)], inputs.astype(np.int32), every=True).astype(np.float64)
        own = np.take_along_axis(logits, targets[..., None], 2)[..., 0]
        counted = np.arange(inputs.shape[1]) < lengths[:, None]
        total += float((_log_sum(logits) - own)[counted].sum())
        done += int(lengths.sum())
        if told is not None:
            told(done / (len(ids) - 1))
    return total


def _log_sum(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln sum exp of the last axis."""
    top = logits.max(-1)
    return np.asarray(top + np.log(np.exp(logits - top[..., None]).sum(-1)))

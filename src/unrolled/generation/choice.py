"""Logits to a token: the definition of right for sampling, which every faster one must reproduce.

All of it is float64. Sums run over their terms one by one, from the first to the last. Where two tokens are
equally likely, the one with the lower id comes first.
"""

import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from unrolled.errors import UnrolledError
from unrolled.generation.exponential import exponential
from unrolled.generation.sampling import Sampling
from unrolled.generation.splitmix import Random


class Candidates(NamedTuple):
    """The tokens that can still be chosen; never none."""

    ids: NDArray[np.int64]
    """(candidates,), ascending."""
    logits: NDArray[np.float64]
    """(candidates,): their logarithms of probability, up to a constant."""

    def only(self, kept: NDArray[Any]) -> "Candidates":
        """Those that `kept`, a mask or ascending positions, selects."""
        return Candidates(self.ids[kept], self.logits[kept])


def choose(logits: NDArray[Any], sampling: Sampling, recent: Collection[int], random: Random) -> int:
    """The id of the next token; takes exactly one number from `random`.

    The functions in `RULES` change or drop candidates, one after the other. Then, with the weights
    w = exp(logit) of those left, in the order of their ids, and u the random number, the first token is taken
    whose weights summed up to and including its own exceed u * sum(w).

    logits: (vocabulary,), finite.
    recent: the ids of the last `sampling.repetition_window` tokens, in any order.

    Errors: `UnrolledError` if `logits` is not one row of finite numbers.

    >>> choose(np.array([0.1, 2.0, 0.3]), Sampling(temperature=0), recent=[], random=Random(seed=0))
    1
    """
    candidates = Candidates(np.arange(np.size(logits)), finite(logits))
    for rule in RULES:
        candidates = rule(candidates, sampling, recent)
    # The largest u is 1 - 2**-53, for which u * total still rounds below total, so some sum exceeds it.
    sums = np.cumsum(exponential(candidates.logits))
    position = np.searchsorted(sums, random.uniform() * sums[-1], side="right")
    return int(candidates.ids[position])


def repetition_penalty(candidates: Candidates, sampling: Sampling, recent: Collection[int]) -> Candidates:
    """A recent token's logit is divided by the penalty if positive, else multiplied, once however often it came."""
    if sampling.repetition_penalty == 1:
        return candidates
    seen = np.isin(candidates.ids, list(recent))
    logits, penalty = candidates.logits.copy(), sampling.repetition_penalty
    logits[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
    return Candidates(candidates.ids, logits)


def temperature(candidates: Candidates, sampling: Sampling, _recent: Collection[int]) -> Candidates:
    """(logit - largest logit) / temperature; at temperature 0 only the token with the largest logit stays.

    The largest logit is 0 from here on, so its weight is exactly 1.
    """
    ids, logits = candidates
    shifted = logits - logits.max()
    if sampling.temperature == 0:
        return Candidates(ids, shifted).only(np.array([logits.argmax()]))
    # A tiny temperature makes minus infinity of all but the largest, which is what it means.
    with np.errstate(over="ignore"):
        return Candidates(ids, shifted / sampling.temperature)


def top_k(candidates: Candidates, sampling: Sampling, _recent: Collection[int]) -> Candidates:
    """The `top_k` candidates with the largest logits stay."""
    if not 0 < sampling.top_k < len(candidates.ids):
        return candidates
    return candidates.only(largest(candidates.logits, sampling.top_k))


def min_p(candidates: Candidates, sampling: Sampling, _recent: Collection[int]) -> Candidates:
    """Candidates with logit >= log(min_p) stay: those at least `min_p` times as likely as the likeliest."""
    if sampling.min_p == 0:
        return candidates
    return candidates.only(candidates.logits >= math.log(sampling.min_p))


def top_p(candidates: Candidates, sampling: Sampling, _recent: Collection[int]) -> Candidates:
    """The fewest likeliest candidates stay whose weights reach top_p * sum of all weights.

    The sum of all weights runs in the order of ids, the sum of the likeliest from the largest weight down.
    """
    if sampling.top_p == 1:
        return candidates
    weights = exponential(candidates.logits)
    needed = sampling.top_p * np.cumsum(weights)[-1]
    # Sorting a few of the likeliest is nearly always enough; if not, more of them.
    count = 64
    while True:
        positions = largest(weights, count)
        descending = positions[np.argsort(-weights[positions], kind="stable")]
        sums = np.cumsum(weights[descending])
        if sums[-1] >= needed or count >= len(weights):
            kept = descending[: np.searchsorted(sums, needed) + 1]
            return candidates.only(np.sort(kept))
        count *= 8


# To add a rule of sampling: a field with its range in `Sampling`, a function here, its place in this order.
RULES: tuple[Callable[[Candidates, Sampling, Collection[int]], Candidates], ...] = (
    repetition_penalty,
    temperature,
    top_k,
    min_p,
    top_p,
)


def largest(values: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """The positions of the `count` largest values, ascending; of equal values the first ones.

    >>> largest(np.array([3.0, 1.0, 3.0, 2.0, 3.0]), 2).tolist()
    [0, 2]
    """
    if count >= len(values):
        return np.arange(len(values))
    smallest_kept = np.partition(values, -count)[-count]
    kept = values > smallest_kept
    ties = np.flatnonzero(values == smallest_kept)
    kept[ties[: count - np.count_nonzero(kept)]] = True
    return np.flatnonzero(kept)


def finite(logits: NDArray[Any]) -> NDArray[np.float64]:
    """`logits` (vocabulary,) in float64. Raises UnrolledError if they are of another shape or not finite."""
    row = np.asarray(logits, np.float64)
    if row.ndim != 1 or not row.size:
        raise UnrolledError(f"A token is chosen from logits of shape (vocabulary,), but {row.shape} came.")
    bad = row.size - np.count_nonzero(np.isfinite(row))
    if bad:
        raise UnrolledError(
            f"{bad} of the model's {row.size} logits are not finite numbers, so no token can be chosen. "
            "Its training went astray: train again with a lower learning rate, or use an earlier checkpoint."
        )
    return row

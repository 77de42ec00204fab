"""Every rule against the formula one would write first, and the draw against probability."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from unrolled.errors import UnrolledError
from unrolled.generation import Sampling
from unrolled.generation.choice import RULES, Candidates, choose, largest
from unrolled.generation.splitmix import Random

# Few different values, so that equal logits are common, and also any.
any_logits = st.lists(st.sampled_from([-2.0, 0.0, 0.5, 3.0]) | st.floats(-50, 50), min_size=1, max_size=300)
shares = st.floats(0.001, 0.999)


def kept_by(name: str, logits: list[float], sampling: Sampling) -> list[int]:
    """The ids that one rule keeps; logits as the temperature leaves them, the largest 0."""
    rule = {rule.__name__: rule for rule in RULES}[name]
    row = np.array(logits) - max(logits)
    return rule(Candidates(np.arange(len(row)), row), sampling, []).ids.tolist()


def likeliest_first(logits: list[float]) -> list[int]:
    return sorted(range(len(logits)), key=lambda token: (-logits[token], token))


def test_the_order_of_the_rules() -> None:
    names = [rule.__name__ for rule in RULES]
    assert names == ["repetition_penalty", "temperature", "top_k", "min_p", "top_p"]


@given(any_logits, st.lists(st.integers(0, 400)), st.floats(0.01, 100))
def test_repetition_penalty(logits: list[float], recent: list[int], penalty: float) -> None:
    expected = list(logits)
    for token in set(recent) & set(range(len(logits))):
        expected[token] = logits[token] / penalty if logits[token] > 0 else logits[token] * penalty
    before = Candidates(np.arange(len(logits)), np.array(logits))
    after = RULES[0](before, Sampling(repetition_penalty=penalty), recent)
    assert after.logits.tolist() == expected
    assert after.ids.tolist() == before.ids.tolist()


@given(any_logits, st.floats(5e-324, 100))
def test_temperature(logits: list[float], temperature: float) -> None:
    before = Candidates(np.arange(len(logits)), np.array(logits))
    after = RULES[1](before, Sampling(temperature=temperature), [])
    assert after.logits.tolist() == [(logit - max(logits)) / temperature for logit in logits]


@given(any_logits, st.integers(1, 400))
def test_top_k(logits: list[float], k: int) -> None:
    shifted = (np.array(logits) - max(logits)).tolist()
    assert kept_by("top_k", logits, Sampling(top_k=k)) == sorted(likeliest_first(shifted)[:k])


@given(any_logits, shares)
def test_min_p(logits: list[float], share: float) -> None:
    limit = math.log(share)
    assert kept_by("min_p", logits, Sampling(min_p=share)) == [
        token for token, logit in enumerate(logits) if logit - max(logits) >= limit
    ]


@given(any_logits, shares)
def test_top_p(logits: list[float], share: float) -> None:
    weights = np.exp(np.array(logits) - max(logits)).tolist()
    needed = share * sum_in_order(weights)
    kept, reached = [], 0.0
    for token in likeliest_first(weights):
        kept.append(token)
        reached += weights[token]
        if reached >= needed:
            break
    assert kept_by("top_p", logits, Sampling(top_p=share)) == sorted(kept)


def test_a_min_p_of_1_keeps_the_likeliest_alone() -> None:
    assert kept_by("min_p", [1.0, 2.0, 2.0], Sampling(min_p=1)) == [1, 2]


def test_top_p_looks_as_far_as_it_must() -> None:
    assert len(kept_by("top_p", [0.0] * 32_000, Sampling(top_p=0.5))) == 16_000
    # Summed from the largest down, the weights do not quite reach this share of their sum in the order of ids.
    assert kept_by("top_p", [-1.0, 0.0, -30.0], Sampling(top_p=1 - 2**-53)) == [0, 1, 2]


@given(st.lists(st.floats(-5, 5) | st.integers(0, 3).map(float), min_size=1), st.integers(1, 60))
def test_largest(values: list[float], count: int) -> None:
    assert largest(np.array(values), count).tolist() == sorted(likeliest_first(values)[:count])


any_sampling = st.builds(
    Sampling,
    repetition_penalty=st.just(1.0) | st.floats(0.5, 2),
    temperature=st.floats(0.05, 5),
    top_k=st.integers(0, 40),
    min_p=st.just(0.0) | shares,
    top_p=st.just(1.0) | shares,
)


@given(any_logits, any_sampling, st.lists(st.integers(0, 20)), st.integers(0, 2**64 - 1))
def test_the_draw_is_the_inverse_of_the_summed_weights(
    logits: list[float], sampling: Sampling, recent: list[int], seed: int
) -> None:
    candidates = Candidates(np.arange(len(logits)), np.array(logits))
    for rule in RULES:
        candidates = rule(candidates, sampling, recent)
    weights = np.exp(candidates.logits).tolist()
    target = Random(seed).uniform() * sum_in_order(weights)
    beyond = [n for n in range(len(weights)) if sum_in_order(weights[: n + 1]) > target]
    assert choose(np.array(logits), sampling, recent, Random(seed)) == candidates.ids[beyond[0]]


@pytest.mark.parametrize(("uniform", "token"), [(0.0, 1), (0.49, 1), (0.5, 2), (1 - 2**-53, 2)])
def test_a_draw_on_the_border_takes_the_next_token_that_can_come(uniform: float, token: int) -> None:
    class Fixed(Random):
        def uniform(self) -> float:
            return uniform

    # The first and the last token are so unlikely that their weight is 0.
    logits = np.array([-1e6, 0.0, 0.0, -1e6])
    assert choose(logits, Sampling(), [], Fixed(0)) == token


def sum_in_order(weights: list[float]) -> float:
    # Not `sum`, which compensates for rounding from Python 3.12 on.
    total = 0.0
    for weight in weights:
        total += weight
    return total


@given(any_logits, st.integers(0, 2**64 - 1))
def test_temperature_0_takes_the_first_of_the_largest(logits: list[float], seed: int) -> None:
    assert choose(np.array(logits), Sampling(temperature=0), [], Random(seed)) == int(np.argmax(logits))


def test_temperature_0_obeys_the_repetition_penalty() -> None:
    greedy = Sampling(temperature=0, repetition_penalty=2)
    assert choose(np.array([3.0, 2.0]), greedy, [], Random(0)) == 0
    assert choose(np.array([3.0, 2.0]), greedy, [0], Random(0)) == 1


@pytest.mark.parametrize(
    ("sampling", "probability"),
    [
        (Sampling(temperature=1), lambda p: p),
        (Sampling(temperature=0.5), lambda p: p**2),
        (Sampling(temperature=1, top_k=3), lambda p: p * (p >= 0.16)),
        (Sampling(temperature=1, min_p=0.5), lambda p: p * (p >= 0.2)),
        (Sampling(temperature=1, top_p=0.75), lambda p: p * (p >= 0.16)),
    ],
)
def test_tokens_come_as_often_as_they_should(
    sampling: Sampling, probability: Callable[[NDArray[np.float64]], NDArray[np.float64]]
) -> None:
    given_probabilities = np.array([0.05, 0.4, 0.08, 0.16, 0.24, 0.07])
    logits = np.log(given_probabilities) + 3
    random = Random(seed=1)
    draws = 6_000
    counts = np.bincount([choose(logits, sampling, [], random) for _ in range(draws)], minlength=6)
    wanted = probability(given_probabilities)
    wanted = wanted / wanted.sum()
    assert counts[wanted == 0].sum() == 0
    expected = draws * wanted[wanted > 0]
    chi_square = ((counts[wanted > 0] - expected) ** 2 / expected).sum()
    # The 99.9th percentile of chi-square with 5 degrees of freedom, the most there are here.
    assert chi_square < 20.5


def test_golden_choices() -> None:
    logits = np.arange(1000) * 37 % 101 / 16  # every value many times, and exact on every machine
    random = Random(seed=42)
    sampling = Sampling(repetition_penalty=1.2, top_k=200, min_p=0.01, top_p=0.95)
    assert [choose(logits, sampling, range(64), random) for _ in range(8)] == [756, 218, 330, 382, 98, 876, 262, 816]


def test_one_random_number_per_choice() -> None:
    random = Random(seed=0)
    for sampling in (Sampling(temperature=0), Sampling(), Sampling(top_k=1), Sampling(top_p=0.1)):
        choose(np.array([1.0, 2.0]), sampling, [], random)
    assert random.counter == 4


def test_the_logits_given_are_not_changed() -> None:
    logits = np.arange(10.0)
    choose(logits, Sampling(repetition_penalty=2, top_k=4, min_p=0.1, top_p=0.9), [1, 9], Random(0))
    assert logits.tolist() == np.arange(10.0).tolist()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite(bad: float) -> None:
    with pytest.raises(UnrolledError, match=r"1 of the model's 3 logits are not finite numbers.*earlier checkpoint"):
        choose(np.array([0.0, bad, 1.0]), Sampling(), [], Random(0))


@pytest.mark.parametrize("shape", [(0,), (2, 3), ()])
def test_logits_of_another_shape(shape: tuple[int, ...]) -> None:
    with pytest.raises(UnrolledError, match=r"logits of shape \(vocabulary,\), but \(.*\) came"):
        choose(np.zeros(shape), Sampling(), [], Random(0))

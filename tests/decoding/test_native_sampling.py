"""The sampler of the native engine equals its definition in Python, token by token and to the last bit."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.engine.native.decoder import Job, choose
from unrolled.generation import Sampling
from unrolled.generation.choice import choose as defined_choose
from unrolled.generation.exponential import exponential
from unrolled.generation.splitmix import Random
from unrolled.generation.writing import settings_of

samplings = st.builds(
    Sampling,
    repetition_penalty=st.sampled_from([1.0, 0.01, 0.5, 1.2, 100.0]),
    repetition_window=st.integers(1, 40),
    temperature=st.sampled_from([0, 1e-300, 0.01, 0.8, 1.0, 3.0, 100.0]),
    top_k=st.sampled_from([0, 1, 2, 5, 40, 10**6, 10**30]),
    min_p=st.sampled_from([0.0, 1e-9, 0.05, 0.9, 1.0]),
    top_p=st.sampled_from([1.0, 0.999, 0.9, 0.5, 1e-9]),
    seed=st.integers(0, 2**64 - 1),
)
# Few different values, so that ties are common; and any values at all.
rows = st.one_of(
    st.lists(st.sampled_from([-3.0, -0.5, 0.0, 0.5, 3.0]), min_size=1, max_size=300),
    st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=50),
    st.integers(1, 3000).map(lambda n: (4 * np.random.default_rng(n).normal(size=n)).tolist()),
)


def native(logits, sampling, recent, counter):
    job = Job(np.zeros(0, np.float32), logits, np.array(recent, np.int32), 0, settings_of(sampling), counter)
    return choose(logits, job), job.counter


@given(row=rows, sampling=samplings, recent=st.lists(st.integers(0, 60), max_size=60), counter=st.integers(0, 2**40))
def test_any_logits_and_settings_give_the_same_tokens(row, sampling, recent, counter):
    logits = np.array(row, np.float32)
    random = Random(sampling.seed, counter)
    for _ in range(5):
        before = random.counter
        expected = defined_choose(logits, sampling, recent[-sampling.repetition_window :], random)
        assert native(logits, sampling, recent, before) == (expected, random.counter)


@pytest.mark.parametrize(
    "settings", [{}, {"top_k": 40}, {"top_p": 0.95}, {"top_k": 40, "top_p": 0.95}, {"min_p": 0.02}]
)
def test_a_large_vocabulary_gives_the_same_tokens(settings):
    random_logits = np.random.default_rng(0).normal(size=(20, 32_000)).astype(np.float32) * 3
    sampling = Sampling(**settings, seed=3)
    random = Random(sampling.seed)
    for logits in random_logits:
        before = random.counter
        assert native(logits, sampling, [], before)[0] == defined_choose(logits, sampling, [], random)


def test_small_numbers_count_as_they_do_in_python():
    logits = np.array([1e-45, 0.0, 3e-45], np.float32)  # below the normal numbers
    sampling = Sampling(temperature=0)
    assert native(logits, sampling, [], 0)[0] == 2


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_logits_that_are_not_finite_are_counted_and_nothing_is_chosen(bad):
    logits = np.array([0.0, bad, bad, 1.0], np.float32)
    job = Job(np.zeros(0, np.float32), logits, np.zeros(0, np.int32), 0, settings_of(Sampling()), 7)
    assert (choose(logits, job), job.bad_logits, job.counter) == (-1, 2, 7)


def test_the_exponential_is_exact_to_two_units_in_the_last_place():
    x = np.concatenate([-np.random.default_rng(0).exponential(30, 100_000), [0.0, -708.0, -1e-300]])
    expected = np.array([math.exp(value) for value in x])
    inside = x >= -708
    error = np.abs(exponential(x) - expected)[inside] / np.spacing(expected[inside])
    assert error.max() <= 2
    assert exponential(np.array([-np.inf, -708.1, 0.0])).tolist() == [0.0, 0.0, 1.0]

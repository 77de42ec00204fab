"""The step of a whole model, by numpy and by the native engine, against the model in torch."""

import numpy as np
import pytest
import torch
from decoding_models import KINDS, made, parts_of

from unrolled.cells import CELLS
from unrolled.engine.native.decoder import Job, NativeDecoder
from unrolled.equations import cell, tanh
from unrolled.generation import Sampling
from unrolled.generation.writing import settings_of


@cell
def delay(x, h, older, *, W, U, b):
    """A cell whose second state is handed on as it is, whose input meets a state, with a constant."""
    new = tanh(W @ [h, x] + U @ (older * 0.5) + b)
    return new, h


ROWS, STEPS = 3, 9
# Of the largest logit: the rounding of float32 sums of some hundred terms, through nine steps.
CLOSE = 2e-5


def tokens(vocabulary, rows=ROWS, steps=STEPS):
    return np.random.default_rng(0).integers(0, vocabulary, (rows, steps)).astype(np.int32)


def fresh(decoder, rows=ROWS):
    return [np.zeros(decoder.state_size, np.float32) for _ in range(rows)]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("program", [*CELLS.values(), delay], ids=lambda program: program.name)
@pytest.mark.parametrize(("hidden", "members"), [(5, 1), (40, 1), (5, 3)])
def test_logits_and_states_equal_those_of_torch(kind, program, hidden, members):
    text_model = made(program, hidden, layers=2, members=members)
    decoder = KINDS[kind](parts_of(text_model))
    ids = tokens(decoder.vocabulary_size)
    states = fresh(decoder)
    every = decoder.read(states, ids, every=True)
    with torch.no_grad():
        expected, state = text_model.model(torch.from_numpy(ids).long())
    assert np.abs(every - expected.numpy()).max() < CLOSE * expected.abs().max()
    flat = np.concatenate([part.numpy() for layer in state for part in layer], 1)
    assert np.abs(np.stack(states) - flat).max() < CLOSE * np.abs(flat).max()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("vocabulary", [65, 5000])  # folded into a table, and too large for that
def test_in_one_call_or_many_alone_or_together_every_bit_is_the_same(kind, vocabulary):
    decoder = KINDS[kind](parts_of(made(CELLS["lstm"], 450, vocabulary=vocabulary)))
    ids = tokens(decoder.vocabulary_size, rows=26)
    together = fresh(decoder, 26)
    logits = decoder.read(together, ids)
    for row in (0, 7, 25):
        (alone,) = fresh(decoder, 1)
        for step in range(STEPS):
            last = decoder.read([alone], ids[row : row + 1, step : step + 1])
        assert np.array_equal(alone, together[row])
        assert np.array_equal(last[0], logits[row])


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("program", [*CELLS.values(), delay], ids=lambda program: program.name)
def test_a_long_text_read_at_once_gives_the_bits_of_one_read_token_by_token(program, int8, monkeypatch):
    monkeypatch.setattr("unrolled.engine.native.decoder._WORTH_A_THREAD", 1)
    decoder = NativeDecoder(parts_of(made(program, 37, layers=3)), int8=int8)
    ids = tokens(decoder.vocabulary_size, steps=71)
    one_by_one = fresh(decoder)
    expected = np.stack([decoder.read(one_by_one, ids[:, s : s + 1]) for s in range(71)], axis=1)
    for decoder.threads in (1, 2, 3):
        for row in range(ROWS):
            (state,) = fresh(decoder, 1)
            assert np.array_equal(decoder.read([state], ids[row : row + 1], every=True)[0], expected[row])
            assert np.array_equal(state, one_by_one[row])
            (state,) = fresh(decoder, 1)
            assert np.array_equal(decoder.read([state], ids[row : row + 1])[0], expected[row, -1])
            assert np.array_equal(state, one_by_one[row])


@pytest.mark.parametrize("program", [CELLS["lstm"], CELLS["gru"]], ids=lambda program: program.name)
def test_the_number_of_threads_changes_no_bit(program):
    decoder = KINDS["native"](parts_of(made(program, 300, layers=2)))
    ids = tokens(decoder.vocabulary_size)
    results = []
    for decoder.threads in (1, 2, 3):
        states = fresh(decoder)
        results.append((decoder.read(states, ids, every=True), np.stack(states)))
    for logits, states in results[1:]:
        assert np.array_equal(logits, results[0][0])
        assert np.array_equal(states, results[0][1])


def test_a_stream_writes_the_same_whoever_is_beside_it():
    decoder = KINDS["native"](parts_of(made(CELLS["gru"], 70, layers=2)))
    random = np.random.default_rng(1)

    def jobs():
        return [
            Job(
                *(np.zeros(decoder.state_size, np.float32), random_logits.copy(), np.zeros(0, np.int32)),
                wanted,
                settings_of(Sampling(seed=seed, temperature=1.0, repetition_penalty=1.3, top_p=0.9)),
                0,
            )
            for seed, (wanted, random_logits) in enumerate(zip(wanted_tokens, all_logits, strict=True))
        ]

    wanted_tokens = [5, 0, 31, 12, 12, 1, 31]
    all_logits = random.normal(size=(7, decoder.vocabulary_size)).astype(np.float32)
    together = jobs()
    written = decoder.write(together)
    assert [len(line) for line in written] == wanted_tokens
    for job, other, line in zip(jobs(), together, written, strict=True):
        alone = np.concatenate([np.zeros(0, np.int32), *decoder.write([job])])
        assert alone.tolist() == line.tolist()
        assert np.array_equal(job.state, other.state)
        assert np.array_equal(job.logits, other.logits)
        assert job.counter == other.counter == job.wanted


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_stream_with_bad_logits_stops_and_the_others_go_on(bad):
    decoder = KINDS["native"](parts_of(made(CELLS["gru"], 20)))

    def job(value):
        logits = np.zeros(decoder.vocabulary_size, np.float32)
        logits[3] = value
        return Job(
            np.zeros(decoder.state_size, np.float32), logits, np.zeros(0, np.int32), 6, settings_of(Sampling()), 0
        )

    one, other, alone = job(bad), job(1.0), job(1.0)
    first, second = decoder.write([one, other])
    assert (len(first), one.bad_logits, one.counter) == (0, 1, 0)
    assert second.tolist() == decoder.write([alone])[0].tolist()
    assert not one.state.any()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_to_read_changes_nothing(kind):
    decoder = KINDS[kind](parts_of(made(CELLS["lstm"], 8)))
    assert decoder.read([], np.zeros((0, 3), np.int32)).shape == (0, decoder.vocabulary_size)

"""Tokens from states: many at once by the native engine, or one by one by the definition of right with numpy."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unrolled.engine.decoders import StepDecoder
from unrolled.engine.native.decoder import Job, NativeDecoder
from unrolled.errors import UnrolledError
from unrolled.generation.choice import choose
from unrolled.generation.sampling import Sampling
from unrolled.generation.splitmix import Random
from unrolled.generation.state import State

Tokens = NDArray[np.int32]


def write(engine: StepDecoder, states: Sequence[State], wanted: Sequence[int]) -> list[Tokens]:
    """So many tokens after each state, which read them; fewer where logits come that are not finite."""
    if not isinstance(engine, NativeDecoder):
        return [_write_one(engine, state, count) for state, count in zip(states, wanted, strict=True)]
    jobs = [job_of(state, count) for state, count in zip(states, wanted, strict=True)]
    written = engine.write(jobs)
    for state, job, tokens in zip(states, jobs, written, strict=True):
        state.counter = job.counter
        state.read(tokens)
    return written


def job_of(state: State, wanted: int) -> Job:
    """What the native engine needs to go on from `state`."""
    penalty = state.sampling.repetition_penalty != 1
    recent = state.recent[-state.sampling.repetition_window :] if penalty else state.recent[:0]
    return Job(state.vector, state.logits, recent, wanted, settings_of(state.sampling), state.counter)


def settings_of(sampling: Sampling) -> dict[str, float]:
    """The settings as the native engine takes them."""
    return {
        "repetition_penalty": float(sampling.repetition_penalty),
        "repetition_window": int(sampling.repetition_window),
        "temperature": float(sampling.temperature),
        "top_k": min(int(sampling.top_k), 2**62),
        "log_min_p": math.log(sampling.min_p) if sampling.min_p else -math.inf,
        "top_p": float(sampling.top_p),
        "seed": int(sampling.seed),
    }


def _write_one(engine: StepDecoder, state: State, wanted: int) -> Tokens:
    tokens = np.empty(wanted, np.int32)
    random = Random(state.sampling.seed, state.counter)
    for place in range(wanted):
        recent = state.recent[-state.sampling.repetition_window :].tolist()
        try:
            tokens[place] = choose(state.logits, state.sampling, recent, random)
        except UnrolledError:  # logits that are not finite, which who asked finds in the state
            return tokens[:place]
        state.counter = random.counter
        state.logits[:] = engine.read([state.vector], tokens[None, place : place + 1])[0]
        state.read(tokens[place : place + 1])
    return tokens

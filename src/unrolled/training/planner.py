"""From minutes to a plan: time a few steps of models of several sizes here, and take one that suits text and budget."""

import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from unrolled.equations import Program
from unrolled.text import Corpus, largest_batch
from unrolled.training.plan import Plan, Settings

DEFAULT_MINUTES = 5.0
# (hidden, layers), small to large.
_SHAPES = [(64, 1), (128, 1), (192, 2), (256, 2), (384, 2), (512, 2), (768, 2), (1024, 2)]
# A model learns well when it sees at least this many tokens per parameter in the time it has: of LSTMs trained on
# a megabyte of prose for 95 to 900 seconds, the best had seen 2.7 to 4 characters per parameter.
_TOKENS_PER_PARAMETER = 3.0
# The rate falls with the hidden size (Yang et al. 2021); docs/decisions/0007 has what was measured.
_RATE, _HIGHEST_RATE = 2.5, 0.015
_TIMING_SECONDS = 0.8
_VALIDATIONS = 10
_SAVE_SECONDS = 15.0


def make_plan(
    corpus: Corpus, cell: Program, settings: Settings, time_step: Callable[[Plan], float], processes: int = 1
) -> Plan:
    """Choose what `settings` leave open.

    `time_step(plan)` returns the seconds of one training step of that plan on this machine; it is called only if a
    choice depends on it. `processes` share each batch, whose rows are a multiple of it.
    """
    started = time.monotonic()
    plans = [_sized(corpus, cell, settings, hidden, layers, processes) for hidden, layers in _shapes(settings)]
    if settings.steps is not None:
        # Without a budget in minutes there is nothing to measure: sizes that suit the corpus alone.
        fitting = [plan for plan in plans if _parameters(plan) <= 2 * len(corpus.train.ids)] or plans[:1]
        plan, seconds = fitting[min(len(fitting) - 1, 3)], 0.05
        return _scheduled(corpus, settings, replace(plan, steps=settings.steps), seconds)
    budget = 60 * (settings.minutes or DEFAULT_MINUTES)
    chosen: tuple[Plan, float] | None = None
    for plan in plans:
        seconds = time_step(plan)
        tokens = budget / seconds * plan.batch * plan.window
        enough = tokens >= _TOKENS_PER_PARAMETER * _parameters(plan)
        small_text = _parameters(plan) > 8 * len(corpus.train.ids)
        if chosen is not None and (not enough or small_text):
            break
        chosen = (plan, seconds)
        if not enough or time.monotonic() - started > 0.1 * budget:
            break
    assert chosen is not None  # _shapes is never empty
    plan, seconds = chosen
    left = max(budget - (time.monotonic() - started), 0.5 * budget)
    # Reading validation text forward only costs about a third of training on it.
    validation = _VALIDATIONS * _validation_tokens(corpus, left / seconds * plan.batch * plan.window)
    left -= validation * seconds / (3 * plan.batch * plan.window)
    return _scheduled(corpus, settings, replace(plan, steps=max(1, int(0.97 * left / seconds))), seconds)


def seconds_per_step(plan: Plan, device: str) -> float:
    """The seconds of one training step, dropout included, measured on random tokens for about a second."""
    torch.manual_seed(plan.seed)
    model = replace(plan, dropout=plan.dropout or 0.1).model().to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    tokens = torch.randint(plan.vocabulary, (plan.batch, plan.window), device=device)
    times: list[float] = []
    while len(times) < 3 or sum(times) < _TIMING_SECONDS:
        start = time.perf_counter()
        torch.autograd.backward(model.loss(tokens, tokens)[0])
        torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
        optimizer.step()
        optimizer.zero_grad()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    times = sorted(times[1:])  # the first one warms up
    return times[len(times) // 2]


def _shapes(settings: Settings) -> list[tuple[int, int]]:
    shapes = [(settings.hidden or hidden, settings.layers or layers) for hidden, layers in _SHAPES]
    return list(dict.fromkeys(shapes))


def _parameters(plan: Plan) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in plan.model().parameters())


def _sized(corpus: Corpus, cell: Program, settings: Settings, hidden: int, layers: int, processes: int) -> Plan:
    tokens = len(corpus.train.ids)
    window = settings.window or max(1, min(64, (tokens - 1) // 4))
    batch = settings.batch or min(32, largest_batch(tokens, window))
    if settings.batch is None:
        batch = max(1, batch // processes) * processes
    return Plan(
        cell=cell.to_json(),
        vocabulary=corpus.tokenizer.vocabulary_size,
        embedding=settings.embedding or min(hidden, 128 if corpus.tokenizer.vocabulary_size < 1024 else 512),
        hidden=hidden,
        layers=layers,
        dropout=settings.dropout or 0.0,
        batch=batch,
        window=window,
        steps=1,
        learning_rate=settings.learning_rate or min(_HIGHEST_RATE, _RATE / hidden),
        warmup=1,
        weight_decay=0.01,
        clip=1.0,
        validate_every=1,
        validation_tokens=0,
        save_every=1,
        seed=settings.seed,
    )


def _validation_tokens(corpus: Corpus, training_tokens: float) -> int:
    """How much of the validation text each look reads: all looks together at most a fifth of the training."""
    return min(len(corpus.validation.ids), max(2000, int(0.2 * training_tokens / _VALIDATIONS)))


def _scheduled(corpus: Corpus, settings: Settings, plan: Plan, seconds: float) -> Plan:
    seen = plan.steps * plan.batch * plan.window
    epochs = seen / len(corpus.train.ids)
    # More passes over the same text need more noise: none up to 2 passes, 0.1 more with each doubling.
    dropout = min(0.5, max(0.0, 0.1 * math.log2(max(epochs, 1e-9) / 2)))
    return replace(
        plan,
        dropout=round(dropout, 2) if settings.dropout is None else settings.dropout,
        warmup=max(1, min(200, plan.steps // 20)),
        validate_every=max(1, math.ceil(plan.steps / _VALIDATIONS)),
        validation_tokens=_validation_tokens(corpus, seen),
        save_every=max(1, int(_SAVE_SECONDS / seconds)),
    )

"""From minutes to a plan: time a few steps of models of several sizes here, and take one that suits text and budget."""

import math
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from unrolled.engine import bf16_products
from unrolled.equations import Program
from unrolled.errors import UnrolledError
from unrolled.text import Corpus, largest_batch
from unrolled.training.plan import Plan, Settings

DEFAULT_MINUTES = 5.0
# (hidden, layers), small to large; the one that is timed first stands in the middle.
_SHAPES = [(64, 1), (128, 1), (192, 2), (256, 2), (384, 2), (512, 2), (768, 2), (1024, 2)]
_TIMED_FIRST = 3
# A network learns well when it sees at least this many tokens per multiplication that it makes for one.
_TOKENS_PER_MULTIPLICATION = 2.0
# The rate falls with the hidden size (Yang et al. 2021); docs/recipe.md has what was measured.
_RATE, _HIGHEST_RATE = 3.0, 0.015
# From this many passes over the text on there is dropout, so much more with each doubling.
_PASSES_WITHOUT_DROPOUT, _DROPOUT, _LARGEST_DROPOUT = 6.0, 0.15, 0.5
# If the minutes are good for many passes of one network, they go to several: the members of an ensemble. Two with four
# passes each are better than one with eight, three with eight better than six with four; docs/recipe.md has the runs.
_PASSES_FOR_TWO, _MOST_MEMBERS = 6.5, 8
# However often a small text is read, each of them takes about so many tokens to learn well.
_TOKENS_PER_MEMBER = 1_800_000
# Thirty times the usual: of a text that is read several times less is learned by heart.
_WEIGHT_DECAY = 0.3
_BATCH, _WINDOW = 32, 64
# Of a model that suits a few minutes, on two cores; only for the choice of the tokenizer.
_TOKENS_A_SECOND = 60_000
# Steps are timed until they are steady: the first ones also find memory. A large model must not take all the minutes.
_TIMED_STEPS, _TIMING_SECONDS, _LONGEST_TIMING = 10, 0.5, 2.0
_JUDGEMENTS = 12
_LARGEST_HELD_OUT = 10_000
_SAVE_SECONDS = 15.0


def tokens_to_read(settings: Settings, processes: int = 1, device: str = "cpu") -> float:
    """About how many tokens a training by `settings` reads, before anything is measured; infinite if steps are given,
    or for another device than the CPU, whose speed is not known.

    Then, as for the sizes, the choice is what suits the text alone.
    """
    if settings.steps is not None or device != "cpu":
        return math.inf
    cores = max(1.0, processes * torch.get_num_threads() / 2)  # in pairs, as the speed was measured
    return 60 * (settings.minutes or DEFAULT_MINUTES) * _TOKENS_A_SECOND * cores


def precision_for(wanted: str | None, device: str) -> str:
    """The precision of the products: as wanted, else bf16 on a CPU that has it: a step takes two thirds of the time.

    Raises UnrolledError if bf16 is wanted where it is not to be had.
    """
    can, reason = bf16_products(device)
    if wanted == "bfloat16" and not can:
        raise UnrolledError(f"there are no products in bf16 here: {reason}. Leave --precision out, or ask for float32.")
    return wanted or ("bfloat16" if can else "float32")


def make_plan(
    corpus: Corpus,
    cell: Program,
    settings: Settings,
    time_step: Callable[[Plan], float],
    processes: int = 1,
    started: float | None = None,
    device: str = "cpu",
) -> Plan:
    """Choose what `settings` leave open.

    `time_step(plan)` returns the seconds of one training step of that plan on this machine; it is called only if a
    choice depends on it. `processes` share each batch, whose rows are a multiple of it. The minutes count from
    `started` on time.monotonic(), from now if not said. The plan is for `device`.
    """
    precision = precision_for(settings.precision, device)
    started = time.monotonic() if started is None else started
    sized = [_sized(corpus, cell, settings, hidden, layers, processes) for hidden, layers in _shapes(settings)]
    plans = [replace(plan, precision=precision) for plan in sized]
    if settings.steps is not None:
        # Without a budget in minutes there is nothing to measure: sizes that suit the corpus alone.
        fitting = [plan for plan in plans if _parameters(plan) <= 3 * len(corpus.train.ids)] or plans[:1]
        plan = replace(fitting[min(len(fitting) - 1, _TIMED_FIRST)], members=settings.members or 1)
        return _scheduled(corpus, settings, plan, settings.steps, 0.05)
    budget = 60 * (settings.minutes or DEFAULT_MINUTES)
    plan = _largest(plans, corpus, settings, budget, time_step)
    seconds = time_step(plan)
    # However long the preparation took, something is left for the training.
    left = max(budget - (time.monotonic() - started), 0.5 * budget)
    # Reading text forward only costs about a third of training on it.
    reading = seconds / (3 * plan.batch * plan.window)
    left = max(left - reading * len(corpus.validation.ids), 0.25 * budget)
    steps = (left - reading * _JUDGEMENTS * plan.held_out) / seconds
    return replace(_scheduled(corpus, settings, plan, max(1, int(steps)), seconds), seconds=left)


def _largest(
    plans: list[Plan], corpus: Corpus, settings: Settings, budget: float, time_step: Callable[[Plan], float]
) -> Plan:
    """The largest of `plans` that can learn well in `budget` seconds, with as many members as suit it."""
    timed = plans[min(_TIMED_FIRST, len(plans) - 1)]
    measured = time_step(timed)
    best: Plan | None = None
    for plan in plans:
        parameters = _parameters(plan)
        seconds = measured * _work(plan) / _work(timed)
        tokens = budget / seconds * plan.batch * plan.window
        members = settings.members or _members(tokens / len(corpus.train.ids))
        few = tokens / members < _TOKENS_PER_MULTIPLICATION * _work(plan)
        if best and (few or parameters > 8 * len(corpus.train.ids)):
            break
        most = max(1, int(tokens / _TOKENS_PER_MEMBER))
        best = replace(plan, members=settings.members or min(members, most))
    assert best is not None
    return best


def _members(passes: float) -> int:
    """How many networks should share the time in which one would read the text `passes` times."""
    return max(1, min(_MOST_MEMBERS, math.floor(2 * math.sqrt(passes / _PASSES_FOR_TWO))))


def seconds_per_step(plan: Plan, device: str) -> float:
    """The seconds of one training step, dropout included, measured on random tokens for a second or two."""
    torch.manual_seed(plan.seed)
    model = replace(plan, dropout=plan.dropout or 0.1).model().to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    tokens = torch.randint(plan.vocabulary, (plan.batch, plan.window), device=device)
    times: list[float] = []
    while len(times) < 3 or sum(times) < (_TIMING_SECONDS if len(times) >= _TIMED_STEPS else _LONGEST_TIMING):
        start = time.perf_counter()
        with plan.products():
            loss, _ = model.loss(tokens, tokens)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), plan.clip)
        optimizer.step()
        optimizer.zero_grad()
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    latest = sorted(times[len(times) // 2 :])
    return latest[len(latest) // 2]


def _shapes(settings: Settings) -> list[tuple[int, int]]:
    shapes = [(settings.hidden or hidden, settings.layers or layers) for hidden, layers in _SHAPES]
    return list(dict.fromkeys(shapes))


def _parameters(plan: Plan) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in plan.model().parameters())


def _work(plan: Plan) -> int:
    """Multiplications for one token: every weight is used once, but of the embedding only a row is read."""
    return _parameters(plan) - plan.vocabulary * plan.embedding


def _embedding(vocabulary: int, hidden: int) -> int:
    """The features of a token: more than a layer of 192 has; for a large vocabulary as many as a large layer has."""
    return min(256 if vocabulary < 1024 else 512, max(256, hidden), 2 * hidden)


def _sized(corpus: Corpus, cell: Program, settings: Settings, hidden: int, layers: int, processes: int) -> Plan:
    held_out = max(2, min(len(corpus.train.ids) // 20, _LARGEST_HELD_OUT))
    tokens = len(corpus.train.ids) - held_out
    window = settings.window or max(1, min(_WINDOW, (tokens - 1) // 4))
    batch = settings.batch or min(_BATCH, largest_batch(tokens, window))
    if settings.batch is None:
        batch = max(1, batch // processes) * processes
    return Plan(
        cell=cell.to_json(),
        vocabulary=corpus.tokenizer.vocabulary_size,
        embedding=settings.embedding or _embedding(corpus.tokenizer.vocabulary_size, hidden),
        hidden=hidden,
        layers=layers,
        dropout=settings.dropout or 0.0,
        batch=batch,
        window=window,
        turns=((0, 0.0), (1, 1.0)),
        seconds=None,
        learning_rate=settings.learning_rate or min(_HIGHEST_RATE, _RATE / hidden),
        warmup=0.05,
        weight_decay=_WEIGHT_DECAY,
        clip=1.0,
        average=0.02,
        held_out=held_out,
        judge_every=1,
        save_every=1,
        seed=settings.seed,
    )


def _scheduled(corpus: Corpus, settings: Settings, plan: Plan, steps: int, seconds: float) -> Plan:
    epochs = steps * plan.batch * plan.window / (len(corpus.train.ids) - plan.held_out)
    # The more often a text is read, the more a model learns it by heart, and the more must be done against it.
    doublings = math.log2(max(epochs, 1e-9) / _PASSES_WITHOUT_DROPOUT)
    dropout = min(_LARGEST_DROPOUT, max(0.0, _DROPOUT * doublings))
    return replace(
        plan,
        turns=((0, 0.0), (steps, 1.0)),
        dropout=round(dropout, 2) if settings.dropout is None else settings.dropout,
        judge_every=max(1, math.ceil(steps / _JUDGEMENTS)),
        save_every=max(1, int(_SAVE_SECONDS / seconds)),
    )

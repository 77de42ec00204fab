"""The training loop: truncated backpropagation through time with carried state, and what keeps a run safe.

It yields events and prints nothing.
"""

import math
from collections.abc import Callable, Iterator

from unrolled.artifact import load
from unrolled.errors import UnrolledError
from unrolled.text import scored
from unrolled.training.evaluation import nats
from unrolled.training.events import Event, Finished, Planned, Progress, Recovered, Stopped, Validated
from unrolled.training.expectation import expected_bits_per_byte
from unrolled.training.meter import Meter
from unrolled.training.trainer import Run

_LOWEST_SCALE = 2.0**-8
_PROGRESS_SECONDS = 0.5
# A run whose end is off by more than the first share of its steps gets a new number of them where a checkpoint is due,
# by more than the second at once; they become at most so many times fewer or more.
_OFF, _FAR_OFF = 0.02, 0.1
_LARGEST_TURN = 8.0


def run_loop(run: Run, should_stop: Callable[[], bool]) -> Iterator[Event]:
    """Train to the end of the plan or until `should_stop()`; see `events.py` for what is yielded."""
    processes = run.processes
    parameters = sum(p.numel() for p in run.model.parameters())
    yield Planned(run.plan, run.corpus, parameters, run.step, expected_bits_per_byte(run.plan, run.corpus))
    safe = run.snapshot()
    if processes.first:
        safe.save(run.checkpoint)
    meter = Meter(run.step)
    while run.step < run.plan.steps:
        loss, norm = run.advance()
        if math.isfinite(norm):
            meter.add(loss, norm)
            done = run.step == run.plan.steps
            judging = done or run.step % run.plan.judge_every == 0
            if done or judging or meter.seconds() > _PROGRESS_SECONDS:
                yield _progress(run, meter, processes.mean(meter.loss()) if judging else meter.loss())
            stop, far_off = processes.shared((should_stop(), meter.settled and _is_off(run, meter, _FAR_OFF)))
            if judging:
                yield from _judge(run)
            if not (judging or stop or far_off or run.step % run.plan.save_every == 0):
                continue
            if run.is_finite():
                _turn(run, meter)
                safe = run.snapshot()
                if processes.first:
                    safe.save(run.checkpoint)
                if stop and not done:
                    yield Stopped(run.step, run.output)
                    return
                continue
        failed, scale = run.step, run.scale / 2
        if scale < _LOWEST_SCALE:
            raise UnrolledError(
                f"the loss is not finite at step {failed}, even at {scale:g} of the learning rate "
                f"{run.plan.learning_rate:g}; the last good model is kept. Lower --lr, or check the cell's equations."
            )
        run.go_to(safe)
        run.scale = scale
        meter = Meter(run.step)
        yield Recovered(failed, run.step, scale)
    yield from _finish(run)


def _progress(run: Run, meter: Meter, nats_per_token: float) -> Progress:
    plan, train = run.plan, run.corpus.train
    pace = meter.steps_per_second(run.step)
    report = Progress(
        step=run.step,
        steps=plan.steps,
        epoch=run.step / run.streams.steps_per_epoch,
        nats_per_token=nats_per_token,
        bits_per_byte=nats_per_token / math.log(2) * len(train.ids) / train.bytes,
        learning_rate=run.scale * plan.rate(run.step - 1),
        gradient_norm=meter.norm(),
        tokens_per_second=pace * plan.batch * plan.window,
        seconds_left=(plan.steps - run.step) / pace,
    )
    meter.next(run.step)
    return report


def _judge(run: Run) -> Iterator[Event]:
    # Every process reads the same text with the same weights, so all of them know the best without a word.
    with run.average.in_place():
        evaluation = run.judge()
        value = evaluation.nats_per_token
        best = math.isfinite(value) and (run.best is None or value < run.best)
        if best:
            run.best = value
            if run.processes.first:
                run.keep(evaluation)
    yield Validated(run.step, value, evaluation.bits_per_byte, best)


def _steps_left(run: Run, meter: Meter) -> float:
    """How many steps the rest of the time is good for; as planned if the run has no end in time."""
    left = run.plan.steps - run.step
    if run.plan.seconds is None or not left:
        return left
    wanted = (run.plan.seconds - run.seconds) * meter.steps_per_second(run.step)
    return max(left / _LARGEST_TURN, min(left * _LARGEST_TURN, wanted))


def _is_off(run: Run, meter: Meter, share: float) -> bool:
    return abs(_steps_left(run, meter) - (run.plan.steps - run.step)) > share * run.plan.steps


def _turn(run: Run, meter: Meter) -> None:
    """Change how many steps are left if the machine is not as fast as the plan says.

    The new plan is in the snapshot that is saved next, before any step follows it, so resuming stays exact.
    """
    if run.processes.shared(_is_off(run, meter, _OFF)):
        run.plan = run.plan.turned(run.step, max(1, round(run.processes.shared(_steps_left(run, meter)))))


def _finish(run: Run) -> Iterator[Event]:
    evaluation = None
    whole = run.corpus.validation
    if run.processes.first and len(whole.ids) > 1:
        best = load(run.output, run.processes.device)
        evaluation = scored(nats(best.model, whole.ids, run.processes.device), whole.ids, best.tokenizer, whole.bytes)
    yield Finished(
        step=run.step,
        output=run.output,
        nats_per_token=evaluation.nats_per_token if evaluation else None,
        bits_per_byte=evaluation.bits_per_byte if evaluation else None,
        seconds=run.seconds,
    )

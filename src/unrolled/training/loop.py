"""The training loop: truncated backpropagation through time with carried state, and what keeps a run safe.

It yields events and prints nothing. Every step is a function of the plan, the text and the step number, so a run
that goes on from a snapshot does bit for bit what it would have done.
"""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.artifact import TextModel, load, save
from unrolled.errors import UnrolledError
from unrolled.models import LanguageModel, detached
from unrolled.text import Corpus, Evaluation, Streams, scored
from unrolled.training.evaluation import nats
from unrolled.training.events import Event, Finished, Planned, Progress, Recovered, Stopped, Validated
from unrolled.training.plan import Plan
from unrolled.training.processes import Processes
from unrolled.training.snapshot import Record, Snapshot, capture, flat, nested, restore

_LOWEST_SCALE = 2.0**-8
_PROGRESS_SECONDS = 0.5


class _Objective(nn.Module):
    """The loss as a module, which is what DistributedDataParallel wraps."""

    def __init__(self, model: LanguageModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, tokens: Tensor, targets: Tensor, state: Any) -> tuple[Tensor, Any]:
        return self.model.loss(tokens, targets, state)


@dataclass
class Run:
    """One training run: its parts, and where it stands."""

    plan: Plan
    corpus: Corpus
    output: Path
    checkpoint: Path
    processes: Processes
    step: int = 0
    best: float | None = None
    scale: float = 1.0
    state: Any = None

    def __post_init__(self) -> None:
        plan, processes = self.plan, self.processes
        torch.manual_seed(plan.seed)
        self.model = plan.model().to(processes.device).train()
        matrices = [p for p in self.model.parameters() if p.dim() > 1]
        vectors = [p for p in self.model.parameters() if p.dim() <= 1]
        self.optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": plan.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            betas=(0.9, 0.99),
            fused=True,
        )
        objective = _Objective(self.model)
        self.objective: nn.Module = objective
        if processes.world > 1:
            self.objective = nn.parallel.DistributedDataParallel(objective)
        ids = self.corpus.train.ids
        self.streams = Streams(ids, plan.batch, plan.window, plan.seed, processes.rank, processes.world)

    def snapshot(self) -> Snapshot:
        """The run as it stands, with the carried state of all processes."""
        gathered = None if self.state is None else tuple(self.processes.gathered(t) for t in flat(self.state))
        record = Record(
            self.step, self.best, self.scale, self.plan.to_json(), self.corpus.fingerprint, torch.get_num_threads()
        )
        return Snapshot(record, capture(self.model, self.optimizer, gathered))

    def go_to(self, snapshot: Snapshot) -> None:
        """Continue from `snapshot`, in memory or from a file."""
        carried = restore(snapshot.tensors, self.model, self.optimizer)
        self.step, self.best = snapshot.record.step, snapshot.record.best
        self.scale = snapshot.record.learning_rate_scale
        self.state = None
        if carried:
            rows = [self.processes.own_rows(tensor).to(self.processes.device) for tensor in carried]
            with torch.no_grad():
                _, like = self.model(torch.zeros(rows[0].shape[0], 1, dtype=torch.int64, device=rows[0].device))
            self.state = nested(like, rows)

    def advance(self) -> tuple[float, float]:
        """One optimizer step; returns loss and gradient norm. Nothing changes if the gradient is not finite."""
        batch = self.streams.batch(self.step)
        inputs, targets = (torch.from_numpy(a).to(self.processes.device) for a in (batch.inputs, batch.targets))
        # Seeding each step makes dropout a function of the step, so no generator's state has to be saved.
        torch.manual_seed((self.plan.seed * 1_000_003 + self.step) * 4099 + self.processes.rank)
        loss, state = self.objective(inputs, targets, None if batch.fresh else self.state)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip))
        if math.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = self.scale * self.plan.rate(self.step)
            self.optimizer.step()
            self.state = detached(state)
            self.step += 1
        return float(loss.detach()), norm

    def validate(self, tokens: int) -> Evaluation | None:
        """Losses on the first `tokens` of the validation text; None if there is none."""
        ids = self.corpus.validation.ids[:tokens]
        if len(ids) < 2:
            return None
        whole = self.corpus.validation
        share = len(ids) / len(whole.ids)
        # Of a part of the text the bytes are not counted but taken in proportion.
        return scored(
            nats(self.model, ids, self.processes.device), ids, self.corpus.tokenizer, round(whole.bytes * share)
        )

    def is_finite(self) -> bool:
        """False if a weight is infinite or not a number: such a run is not worth saving."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.model.parameters())

    def keep(self, evaluation: Evaluation | None) -> None:
        """Write the model file: this is the best model so far."""
        notes: dict[str, object] = {"step": self.step, "steps": self.plan.steps, "corpus": self.corpus.fingerprint}
        if evaluation is not None:
            notes |= {"nats_per_token": evaluation.nats_per_token, "bits_per_byte": evaluation.bits_per_byte}
        save(self.output, TextModel(self.model, self.corpus.tokenizer, notes))


def run_loop(run: Run, should_stop: Callable[[], bool]) -> Iterator[Event]:
    """Train to the end of the plan or until `should_stop()`; see `events.py` for what is yielded."""
    plan, processes, corpus = run.plan, run.processes, run.corpus
    started = time.monotonic()
    parameters = sum(p.numel() for p in run.model.parameters())
    yield Planned(plan, corpus, parameters, run.step)
    safe = run.snapshot()
    if processes.first:
        safe.save(run.checkpoint)
    meter = _Meter(run.step)
    while run.step < plan.steps:
        loss, norm = run.advance()
        if math.isfinite(norm):
            meter.add(loss, norm)
            done = run.step == plan.steps
            judging = done or run.step % plan.validate_every == 0
            if done or judging or meter.seconds() > _PROGRESS_SECONDS:
                yield meter.report(run, processes.mean(meter.loss()) if judging else meter.loss())
            stop = processes.shared(should_stop())
            if judging:
                yield from _judge(run)
            if not (judging or stop or run.step % plan.save_every == 0):
                continue
            if run.is_finite():
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
                f"{plan.learning_rate:g}; the last good model is kept. Lower --lr, or check the cell's equations."
            )
        run.go_to(safe)
        run.scale = scale
        meter = _Meter(run.step)
        yield Recovered(failed, run.step, scale)
    yield from _finish(run, started)


def _judge(run: Run) -> Iterator[Event]:
    # Every process reads the same text with the same weights, so all of them know the best without a word.
    evaluation = run.validate(run.plan.validation_tokens)
    value = math.inf if evaluation is None else evaluation.nats_per_token
    best = evaluation is None or (math.isfinite(value) and (run.best is None or value < run.best))
    if best:
        run.best = None if evaluation is None else value
        if run.processes.first:
            run.keep(evaluation)
    if evaluation is not None:
        yield Validated(run.step, evaluation.nats_per_token, evaluation.bits_per_byte, best)


def _finish(run: Run, started: float) -> Iterator[Event]:
    evaluation = None
    if run.processes.first:
        run.model.load_state_dict(load(run.output, run.processes.device).model.state_dict())
        evaluation = run.validate(len(run.corpus.validation.ids))
    yield Finished(
        step=run.step,
        output=run.output,
        nats_per_token=evaluation.nats_per_token if evaluation else None,
        bits_per_byte=evaluation.bits_per_byte if evaluation else None,
        seconds=time.monotonic() - started,
    )


class _Meter:
    """Means since the last report, and the speed over the last reports."""

    def __init__(self, step: int) -> None:
        self._marks = [(time.monotonic(), step)]
        self._values: list[tuple[float, float]] = []

    def add(self, loss: float, norm: float) -> None:
        self._values.append((loss, norm))

    def seconds(self) -> float:
        return time.monotonic() - self._marks[-1][0]

    def loss(self) -> float:
        return sum(loss for loss, _ in self._values) / len(self._values)

    def report(self, run: Run, nats_per_token: float) -> Progress:
        """Where `run` stands; the next report's means begin here."""
        plan, train = run.plan, run.corpus.train
        rate = self._steps_per_second(run.step)
        report = Progress(
            step=run.step,
            steps=plan.steps,
            epoch=run.step / run.streams.steps_per_epoch,
            nats_per_token=nats_per_token,
            bits_per_byte=nats_per_token / math.log(2) * len(train.ids) / train.bytes,
            learning_rate=run.scale * plan.rate(run.step - 1),
            gradient_norm=sum(norm for _, norm in self._values) / len(self._values),
            tokens_per_second=rate * plan.batch * plan.window,
            seconds_left=(plan.steps - run.step) / rate,
        )
        self._marks = [*self._marks[-20:], (time.monotonic(), run.step)]
        self._values = []
        return report

    def _steps_per_second(self, step: int) -> float:
        """Steps a second over about the last twenty reports, validation included."""
        then, before = self._marks[0]
        return max(step - before, 1) / max(time.monotonic() - then, 1e-9)

"""One training run: its parts, where it stands, and the step that takes it on.

Every step is a function of the plan, the text and the step number, so a run that goes on from a snapshot does bit for
bit what it would have done.
"""

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from unrolled.artifact import TextModel, save
from unrolled.models import LanguageModel, detached, forgetful
from unrolled.text import Corpus, Evaluation, Streams, scored
from unrolled.training.averaging import Average
from unrolled.training.evaluation import nats
from unrolled.training.plan import Plan
from unrolled.training.processes import Processes
from unrolled.training.snapshot import Record, Snapshot, capture, flat, nested, restore

# Of the rows of a batch so many begin a step with a state of zeros: what a model that is asked out of the blue has.
_RESETS = 0.03


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
    seconds_before: float = 0.0
    """What earlier processes spent on this run up to the snapshot it goes on from."""

    def __post_init__(self) -> None:
        plan, processes = self.plan, self.processes
        self._started = time.monotonic()
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
        self.average = Average(self.model)
        # From the beginning: what the end of a text says is what the validation text after it goes on with.
        ids = self.corpus.train.ids[plan.held_out :]
        self.held_out = self.corpus.train.ids[: plan.held_out]
        self.streams = Streams(ids, plan.batch, plan.window, plan.seed, processes.rank, processes.world)

    @property
    def seconds(self) -> float:
        """What the run has taken up to now, earlier processes included."""
        return self.seconds_before + time.monotonic() - self._started

    def snapshot(self) -> Snapshot:
        """The run as it stands, with the carried state of all processes."""
        gathered = None if self.state is None else tuple(self.processes.gathered(t) for t in flat(self.state))
        record = Record(
            step=self.step,
            best=self.best,
            learning_rate_scale=self.scale,
            plan=self.plan.to_json(),
            fingerprint=self.corpus.fingerprint,
            threads=torch.get_num_threads(),
            seconds=self.seconds,
        )
        return Snapshot(record, capture(self.model, self.optimizer, self.average, gathered))

    def go_to(self, snapshot: Snapshot) -> None:
        """Continue from `snapshot`, in memory or from a file."""
        carried = restore(snapshot.tensors, self.model, self.optimizer, self.average)
        self.step, self.best = snapshot.record.step, snapshot.record.best
        self.scale = snapshot.record.learning_rate_scale
        self.plan = Plan.from_json(snapshot.record.plan)
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
        before = None if batch.fresh or self.state is None else forgetful(self.state, _RESETS)
        with self.plan.products():
            loss, state = self.objective(inputs, targets, before)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), self.plan.clip))
        if math.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = self.scale * self.plan.rate(self.step)
            self.optimizer.step()
            self.average.add(self.step, self.plan.horizon(self.step))
            self.state = detached(state)
            self.step += 1
        return float(loss.detach()), norm

    def judge(self) -> Evaluation:
        """The losses on the held-out text, for choosing among models; call with the average in place."""
        tokens = self.corpus.tokenizer
        size = sum(len(tokens.token_bytes(int(token))) for token in self.held_out)
        return scored(nats(self.model, self.held_out, self.processes.device), self.held_out, tokens, size)

    def is_finite(self) -> bool:
        """False if a weight is infinite or not a number: such a run is not worth saving."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.model.parameters())

    def keep(self, evaluation: Evaluation) -> None:
        """Write the model file, the best so far; call with the average in place."""
        notes: dict[str, object] = {
            "step": self.step,
            "steps": self.plan.steps,
            "corpus": self.corpus.fingerprint,
            "nats_per_token": evaluation.nats_per_token,
            "bits_per_byte": evaluation.bits_per_byte,
        }
        save(self.output, TextModel(self.model, self.corpus.tokenizer, notes))

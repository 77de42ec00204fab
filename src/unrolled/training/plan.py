"""The plan of a training run: every choice, made once at the start and saved with the run.

All that happens later is a function of the plan, the text and the step number, never of the clock: that is what
makes resuming exact.
"""

import json
import math
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from typing import Any

import torch

from unrolled.engine import bf16_products
from unrolled.equations import Program
from unrolled.errors import UnrolledError
from unrolled.models import LanguageModel

PRECISIONS = ("float32", "bfloat16")
_SHORT = {"fp32": "float32", "bf16": "bfloat16"}  # as plans said it before


@dataclass(frozen=True)
class Plan:
    """Sizes, schedule and seed of a run; `cell` is the cell's Program as JSON.

    A step trains on `batch` rows of `window` tokens. The rate follows the share of the run that is done, which grows
    evenly with the steps between `turns` from 0 to 1. The first `held_out` tokens of the training text are not
    trained on: they choose the best model.
    """

    cell: str
    vocabulary: int
    embedding: int
    hidden: int
    layers: int
    dropout: float
    batch: int
    window: int
    turns: tuple[tuple[int, float], ...]
    """(step, share of the run done): the start, where the machine's speed made the plan anew, and the end."""
    seconds: float | None
    """How long the run should take; None if its steps were given."""
    learning_rate: float
    warmup: float
    """The share of the run in which the rate rises."""
    weight_decay: float
    clip: float
    average: float
    """The share of the run over which the weights are averaged."""
    held_out: int
    judge_every: int
    save_every: int
    seed: int
    # What plans had before there was a choice stands behind the equals sign.
    members: int = 1
    precision: str = "float32"
    """Of the products of a training step: "float32" or "bfloat16"."""

    @property
    def program(self) -> Program:
        """The cell's equations."""
        return Program.from_json(self.cell)

    def model(self) -> LanguageModel:
        """A fresh model of these sizes; call after seeding torch."""
        return LanguageModel(
            self.program,
            self.vocabulary,
            self.embedding,
            self.hidden,
            layers=self.layers,
            dropout=self.dropout,
            members=self.members,
        )

    def products(self) -> AbstractContextManager[Any]:
        """Within it, products are in the plan's precision, as far as this machine has it."""
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision_here == "bfloat16")

    @property
    def precision_here(self) -> str:
        """The precision as far as this machine has it: a run may have begun on another."""
        return self.precision if bf16_products()[0] else "float32"

    @property
    def steps(self) -> int:
        """How many steps the run has."""
        return self.turns[-1][0]

    def share(self, step: int) -> float:
        """The share of the run that is done after `step` steps."""
        for (step_before, before), (step_after, after) in pairwise(self.turns):
            if step <= step_after:
                return before + (after - before) * (step - step_before) / (step_after - step_before)
        return 1.0

    def rate(self, step: int) -> float:
        """The learning rate of step number `step`, from 0: linear warm-up, then cosine (Loshchilov & Hutter 2017)."""
        share = self.share(step)
        if share < self.warmup:
            return self.learning_rate * min(1.0, self.share(step + 1) / self.warmup)
        decay = (share - self.warmup) / (1 - self.warmup)
        return self.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * decay)))

    def horizon(self, step: int) -> float:
        """Over how many steps the weights are averaged at step number `step`."""
        per_step = self.share(step + 1) - self.share(step)
        return self.average / max(per_step, 1e-12)

    def turned(self, step: int, steps_left: int) -> "Plan":
        """The same plan, but from `step` on with `steps_left` steps to the end."""
        before = tuple(turn for turn in self.turns if turn[0] < step)
        return replace(self, turns=(*before, (step, self.share(step)), (step + steps_left, 1.0)))

    def to_json(self) -> str:
        """The plan as JSON text."""
        return json.dumps(asdict(self))

    @staticmethod
    def from_json(text: str) -> "Plan":
        """The plan that `to_json` wrote."""
        fields = json.loads(text)
        precision = fields.get("precision", "float32")
        turns = tuple((step, share) for step, share in fields["turns"])
        return Plan(**fields | {"turns": turns, "precision": _SHORT.get(precision, precision)})


@dataclass(frozen=True)
class Settings:
    """What the user decides; None leaves a choice to the planner.

    `minutes` is the main dial and stands for `steps`, which it becomes once at the start.
    """

    minutes: float | None = None
    steps: int | None = None
    hidden: int | None = None
    layers: int | None = None
    members: int | None = None
    embedding: int | None = None
    batch: int | None = None
    window: int | None = None
    learning_rate: float | None = None
    dropout: float | None = None
    seed: int = 0
    precision: str | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "hidden", "layers", "members", "embedding", "batch", "window"):
            self._check(name, lambda value: isinstance(value, int) and value >= 1, "a whole number of at least 1")
        self._check("minutes", lambda value: 0 < value < math.inf, "a number above 0")
        self._check("learning_rate", lambda value: 0 < value < math.inf, "a number above 0")
        self._check("dropout", lambda value: 0 <= value < 1, "a probability of at least 0 and below 1")
        self._check("precision", lambda value: value in PRECISIONS, " or ".join(PRECISIONS))
        self._check("seed", lambda value: 0 <= value < 2**63, "a whole number from 0 to 2^63 - 1")
        if self.minutes is not None and self.steps is not None:
            raise UnrolledError("minutes and steps both say how long to train; give one of them.")

    def _check(self, name: str, good: Any, expected: str) -> None:
        value = getattr(self, name)
        if value is not None and not good(value):
            raise UnrolledError(f"{name.replace('_', ' ')} must be {expected}, not {value}.")

    def chosen(self) -> dict[str, Any]:
        """The settings that the user decided, by name."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) is not None}

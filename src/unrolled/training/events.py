"""What a training run tells while it goes on. The loop yields these and prints nothing; a door shows them."""

from dataclasses import dataclass
from pathlib import Path

from unrolled.text import Corpus
from unrolled.training.plan import Plan


@dataclass(frozen=True)
class Planned:
    """The run is about to start, or to go on, at `step` of `plan.steps`."""

    plan: Plan
    corpus: Corpus
    parameters: int
    step: int
    expected_bits_per_byte: float
    """A guess, see `expectation.py`."""


@dataclass(frozen=True)
class Progress:
    """Where the run stands: losses are means since the last event of this kind."""

    step: int
    steps: int
    epoch: float
    nats_per_token: float
    bits_per_byte: float
    learning_rate: float
    gradient_norm: float
    tokens_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Validated:
    """The held-out part of the training text was read; if the averaged weights are the `best` so far, they are kept."""

    step: int
    nats_per_token: float
    bits_per_byte: float
    best: bool


@dataclass(frozen=True)
class Recovered:
    """The gradient was not finite at `step`: the run went back to `back_to` and goes on at a lower rate."""

    step: int
    back_to: int
    learning_rate_scale: float


@dataclass(frozen=True)
class Stopped:
    """The run was asked to stop and is saved; resuming goes on at `step`."""

    step: int
    output: Path


@dataclass(frozen=True)
class Finished:
    """All steps are done; `output` holds the best model, judged on the validation text, which chose nothing."""

    step: int
    output: Path
    nats_per_token: float | None
    bits_per_byte: float | None
    seconds: float


Event = Planned | Progress | Validated | Recovered | Stopped | Finished

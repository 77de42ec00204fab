"""What a person sees of a run: a live panel on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import indent
from typing import Protocol

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from unrolled.artifact import load
from unrolled.cli.share_view import duration
from unrolled.generation import Sampling, generate
from unrolled.training import Event, Finished, Planned, Progress, Recovered, Stopped, Validated

_SAMPLE_CHARACTERS = 240
_SAMPLE_SECONDS = 15.0
_LINE_SECONDS = 10.0


class View(Protocol):
    """Shows the events of a run."""

    def show(self, event: Event) -> None:
        """Show one event."""


@contextmanager
def training_view(output: Path, resumed: bool) -> Iterator[View]:
    """The view that suits where the output goes; silent in all processes of torchrun but the first."""
    if os.environ.get("RANK", "0") != "0":
        yield _Silent()
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        yield _Lines(output, resumed)
        return
    panel = _Panel(console, output, resumed)
    try:
        yield panel
    finally:
        panel.close()


class _Silent:
    def show(self, event: Event) -> None:
        del event


class _Lines:
    """One line an event, for files and pipes."""

    def __init__(self, output: Path, resumed: bool) -> None:
        self._samples, self._resumed = _Samples(output), resumed
        self._last = time.monotonic()
        self._train = float("nan")

    def show(self, event: Event) -> None:
        if isinstance(event, Planned):
            for line in plan_lines(event, self._resumed):
                _say(line)
        elif isinstance(event, Progress):
            self._train = event.bits_per_byte
            if time.monotonic() - self._last > _LINE_SECONDS:
                self._last = time.monotonic()
                _say(progress_line(event))
        elif isinstance(event, Validated):
            best = ", the best so far" if event.best else ""
            _say(
                f"step {event.step}: validation {event.bits_per_byte:.3f} bits per byte "
                f"({event.nats_per_token:.4f} nats per token), train {self._train:.3f}{best}"
            )
            if event.best and self._samples.due():
                _say(indent(self._samples.text(), "    | ", lambda line: True))
        else:
            for line in closing_lines(event):
                _say(line)


class _Panel:
    """Bar, numbers and the newest sample, redrawn in place."""

    def __init__(self, console: Console, output: Path, resumed: bool) -> None:
        self._console, self._samples, self._resumed = console, _Samples(output), resumed
        self._bar = Bar(
            TextColumn("step {task.completed:,.0f} of {task.total:,.0f}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:3.0f} %"),
            TextColumn("{task.fields[left]}"),
            console=console,
            expand=True,
        )
        self._task = self._bar.add_task("", total=1, left="")
        self._train = self._validation = self._speed = "-"
        self._sample = ""
        self._live = Live(console=console, refresh_per_second=4, transient=True)

    def show(self, event: Event) -> None:
        if isinstance(event, Planned):
            for line in plan_lines(event, self._resumed):
                self._console.print(line, markup=False)
            self._bar.update(self._task, total=event.plan.steps, completed=event.step)
            self._live.start()
        elif isinstance(event, Progress):
            self._bar.update(self._task, completed=event.step, left=f"{duration(event.seconds_left)} left")
            self._train = f"{event.bits_per_byte:.3f}"
            self._speed = f"{event.tokens_per_second:,.0f}"
            self._live.update(self._table())
        elif isinstance(event, Validated):
            mark = " (best so far)" if event.best else ""
            self._validation = f"{event.bits_per_byte:.3f}{mark}"
            if event.best and self._samples.due():
                self._sample = self._samples.text()
            self._live.update(self._table())
        else:
            if isinstance(event, (Stopped, Finished)):
                self.close()
            for line in closing_lines(event):
                self._console.print(line, markup=False)

    def close(self) -> None:
        self._live.stop()

    def _table(self) -> Table:
        numbers = Table.grid(padding=(0, 3))
        numbers.add_row("bits per byte", f"train {self._train}", f"validation {self._validation}")
        numbers.add_row("speed", f"{self._speed} tokens/s", "")
        whole = Table.grid(expand=True)
        whole.add_row(self._bar)
        whole.add_row(numbers)
        if self._sample:
            whole.add_row(f"[dim]{escape(self._sample)}[/dim]")
        return whole


def plan_lines(event: Planned, resumed: bool) -> list[str]:
    """The choices of a run, for the user to read and override."""
    plan, corpus = event.plan, event.corpus
    passes = plan.steps * plan.batch * plan.window / len(corpus.train.ids)
    elsewhere = plan.precision_here != plan.precision  # the run began on another machine
    skipped = [f"skipped    {line}" for line in corpus.skipped]
    return [
        *skipped,
        f"text       {corpus.train.bytes:,} bytes to train on, {corpus.validation.bytes:,} to judge by; "
        f"{plan.vocabulary:,} tokens in the vocabulary"
        + (f", --tokenizer {corpus.tokenizer_name}" if corpus.tokenizer_name else ""),
        f"model      {plan.program.name}, --layers {plan.layers} --hidden {plan.hidden} --embedding {plan.embedding} "
        f"--members {plan.members} --dropout {plan.dropout:g}: {event.parameters:,} parameters",
        f"training   --steps {plan.steps} --batch {plan.batch} --window {plan.window} --lr {plan.learning_rate:.2g} "
        f"--seed {plan.seed} --precision {plan.precision}: {passes:.1f} passes over the text",
        *([f"precision  {plan.precision_here}, for this machine has no {plan.precision}"] if elsewhere else []),
        f"expected   {event.expected_bits_per_byte:.1f} bits per byte, give or take a quarter, for a text of this kind"
        + (f"; done in {duration(plan.seconds)}" if plan.seconds else ""),
        *([f"resuming at step {event.step}"] if resumed and event.step else []),
    ]


def progress_line(event: Progress) -> str:
    """One line for where the run stands."""
    return (
        f"step {event.step} of {event.steps}: train {event.bits_per_byte:.3f} bits per byte, "
        f"{event.tokens_per_second:,.0f} tokens/s, {duration(event.seconds_left)} left"
    )


def closing_lines(event: Event) -> list[str]:
    """What is left to say after a recovery, a stop or the end."""
    if isinstance(event, Recovered):
        return [
            f"step {event.step}: the gradient was not finite; back to step {event.back_to}, "
            f"now at {event.learning_rate_scale:g} of the learning rate"
        ]
    if isinstance(event, Stopped):
        return [f"stopped and saved at step {event.step}; go on with: unrolled train --resume -o {event.output}"]
    if isinstance(event, Finished):
        judged = "" if event.bits_per_byte is None else f": {event.bits_per_byte:.3f} bits per byte on validation"
        nats = "" if event.nats_per_token is None else f" ({event.nats_per_token:.4f} nats per token)"
        return [
            f"done in {duration(event.seconds)}{judged}{nats}",
            f"the best model is {event.output}; try: unrolled generate {event.output}",
        ]
    return []


class _Samples:
    """A little text of the model so far, now and then, always from the same seed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._last = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._last > _SAMPLE_SECONDS

    def text(self) -> str:
        self._last = time.monotonic()
        pieces = generate(load(self._path), characters=_SAMPLE_CHARACTERS, sampling=Sampling(seed=1))
        return "".join(pieces).replace("\r", "")


def _say(line: str) -> None:
    print(line, flush=True, file=sys.stdout)  # noqa: T201

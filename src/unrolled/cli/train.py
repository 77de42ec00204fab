"""`unrolled train`: from text files to a model file, with a view of the run."""

import signal
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer


def train(
    text: Annotated[list[str] | None, typer.Argument(help="Text files, folders, or - for standard input.")] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="The model file to write.")] = Path(
        "model.safetensors"
    ),
    minutes: Annotated[float | None, typer.Option("--minutes", "-m", help="How long to train; 5 if not said.")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimizer steps, instead of minutes.")] = None,
    cell: Annotated[str, typer.Option(help="A listed cell (see: unrolled cells), or file.py:name.")] = "mogrifier_lstm",
    hidden: Annotated[int | None, typer.Option(help="Hidden units of each layer.")] = None,
    layers: Annotated[int | None, typer.Option(help="Recurrent layers.")] = None,
    members: Annotated[int | None, typer.Option(help="Networks that learn side by side and predict together.")] = None,
    embedding: Annotated[int | None, typer.Option(help="Features of a token's embedding.")] = None,
    batch: Annotated[int | None, typer.Option(help="Streams of text side by side.")] = None,
    window: Annotated[int | None, typer.Option(help="Steps of backpropagation through time.")] = None,
    lr: Annotated[float | None, typer.Option(help="Highest learning rate.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Dropout between layers.")] = None,
    tokenizer: Annotated[str, typer.Option(help="auto, characters, bytes, bpe, or with a size: bpe:4000.")] = "auto",
    validation: Annotated[
        str, typer.Option(help="The share of the text to judge by, from its end; or a file of its own.")
    ] = "0.1",
    seed: Annotated[int, typer.Option(help="Start of all that is random.")] = 0,
    precision: Annotated[
        str | None, typer.Option(help="Of products: float32, or bfloat16, the faster one, where the processor has it.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, ...")] = "cpu",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with an earlier run for the same model file.")
    ] = False,
    tensorboard: Annotated[bool, typer.Option("--tensorboard", help="Also write metrics for TensorBoard.")] = False,
) -> None:
    """Train a language model on text; the best one so far is in the model file at any time."""
    started = time.monotonic()  # before the imports, which take their part of the minutes
    from unrolled.cli.find_cell import find_cell
    from unrolled.cli.long_run import end_among_others, forget_what_stays, keep_freed_memory
    from unrolled.cli.metrics import Metrics
    from unrolled.cli.training_view import training_view
    from unrolled.training import Settings, Stopped, run_folder
    from unrolled.training import train as run_training

    settings = Settings(minutes, steps, hidden, layers, members, embedding, batch, window, lr, dropout, seed, precision)
    keep_freed_memory()
    forget_what_stays()
    asked = _StopRequest()
    events = run_training(
        text or [],
        output,
        cell=find_cell(cell),
        settings=settings,
        tokenizer=tokenizer,
        validation=_share_or_path(validation),
        device=device,
        resume=resume,
        should_stop=asked.received,
        started=started,
    )
    metrics = Metrics(run_folder(output), tensorboard)
    stopped = False
    with asked, training_view(output, resumed=resume) as view, metrics:
        for event in events:
            metrics.write(event)
            view.show(event)
            stopped = isinstance(event, Stopped)
    end_among_others(130 if stopped else 0)
    if stopped:
        raise typer.Exit(130)


def _share_or_path(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


class _StopRequest:
    """Ctrl-C or a polite kill asks the run to save and stop; a second Ctrl-C ends it at once."""

    def __init__(self) -> None:
        self._received = False

    def received(self) -> bool:
        return self._received

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._received:
            raise KeyboardInterrupt
        self._received = True

    def __enter__(self) -> "_StopRequest":
        self._before = {number: signal.signal(number, self._on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_details: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

"""From text files to a trained model in one call: prepare the text, make or find the plan, run the loop."""

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from unrolled.cells import mogrifier_lstm
from unrolled.equations import Program
from unrolled.errors import UnrolledError
from unrolled.text import Corpus, Sources, Tokenizer, prepare
from unrolled.training.events import Event
from unrolled.training.loop import run_loop
from unrolled.training.plan import Plan, Settings
from unrolled.training.planner import make_plan, seconds_per_step, tokens_to_read
from unrolled.training.processes import Processes
from unrolled.training.snapshot import Snapshot
from unrolled.training.trainer import Run


def run_folder(output: str | Path) -> Path:
    """Where a run that makes the model file `output` keeps its text, checkpoint and metrics."""
    output = Path(output)
    return output.with_name(f"{output.stem}.run")


def train(
    sources: Sources,
    output: str | Path,
    *,
    cell: Program = mogrifier_lstm,
    settings: Settings | None = None,
    tokenizer: str | Tokenizer = "auto",
    validation: float | Sources = 0.1,
    device: str = "cpu",
    resume: bool = False,
    should_stop: Callable[[], bool] = lambda: False,
    started: float | None = None,
) -> Iterator[Event]:
    """Train a language model on text and keep the best one in the model file `output`.

    `sources` are text files, folders and "-" for standard input; `validation` is the share of the text kept from its
    end to judge by, or sources of its own. With `resume`, go on where an earlier run for the same `output` stopped;
    then `sources` may be empty, and plan and text are those of that run. Under torchrun all processes share the work.
    The minutes of `settings` count from `started` on time.monotonic(), from the call if not said.

    Yields events (see `unrolled.training.events`). Raises UnrolledError for what the user can mend.
    """
    output = Path(output)
    settings = settings or Settings()
    started = time.monotonic() if started is None else started
    _check_output(output)
    processes = Processes(_checked_device(device))
    try:
        folder = run_folder(output)
        checkpoint = folder / "checkpoint.safetensors"
        snapshot = Snapshot.load(checkpoint) if checkpoint.exists() else None
        if snapshot is not None and not resume and snapshot.record.step < Plan.from_json(snapshot.record.plan).steps:
            raise UnrolledError(
                f"{folder} holds an unfinished run (step {snapshot.record.step}). "
                f"Add --resume to go on with it, or delete that folder to start anew."
            )
        if resume and snapshot is not None:
            corpus = Corpus.open(folder / "corpus")
            _check_resumable(snapshot, corpus, folder)
            torch.set_num_threads(snapshot.record.threads)
            run = Run(Plan.from_json(snapshot.record.plan), corpus, output, checkpoint, processes)
            run.go_to(snapshot)
            run.seconds_before = snapshot.record.seconds
        else:
            if not sources:
                raise UnrolledError(
                    f"there is no run to resume in {folder}; name the text to train on."
                    if resume
                    else "there is no text to train on; name files, folders or - for standard input."
                )
            if processes.first:
                _prepare_or_leave_nothing(
                    sources, folder, tokenizer, validation, tokens_to_read(settings, processes.world, processes.device)
                )
            processes.shared(None)
            corpus = Corpus.open(folder / "corpus")
            plan = None
            if processes.first:
                plan = make_plan(
                    corpus,
                    cell,
                    settings,
                    lambda p: seconds_per_step(p, processes.device),
                    processes.world,
                    started,
                    processes.device,
                )
            plan = processes.shared(plan)
            assert plan is not None
            run = Run(plan, corpus, output, checkpoint, processes)
        yield from run_loop(run, should_stop)
        processes.wait()
    finally:
        processes.close()


def _prepare_or_leave_nothing(
    sources: Sources, folder: Path, tokenizer: str | Tokenizer, validation: float | Sources, to_read: float
) -> None:
    existed = folder.exists()
    try:
        prepare(sources, folder / "corpus", tokenizer=tokenizer, validation=validation, to_read=to_read)
    except UnrolledError:
        if not existed:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _check_output(output: Path) -> None:
    if output.suffix != ".safetensors":
        raise UnrolledError(
            f"the model file must end in .safetensors, {output} does not; try {output.stem}.safetensors."
        )
    if output.is_dir():
        raise UnrolledError(f"{output} is a folder; name a file for the model.")
    if not output.parent.is_dir():
        raise UnrolledError(f"the folder {output.parent} for the model does not exist; make it first.")


def _checked_device(device: str) -> str:
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UnrolledError(f"cannot use the device {device} here ({str(error).splitlines()[0]}); try cpu.") from None
    return device


def _check_resumable(snapshot: Snapshot, corpus: Corpus, folder: Path) -> None:
    if corpus.fingerprint != snapshot.record.fingerprint:
        raise UnrolledError(
            f"the text in {folder} is not the one this run was trained on; delete the folder and train anew."
        )

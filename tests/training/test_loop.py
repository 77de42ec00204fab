"""The training loop in this process: what it yields, what it keeps, and how it survives a broken weight."""

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from unrolled import UnrolledError, cells, load
from unrolled.text import prepare
from unrolled.training import (
    Finished,
    Planned,
    Progress,
    Recovered,
    Settings,
    Stopped,
    Validated,
    evaluate_files,
    train,
)
from unrolled.training.evaluation import nats
from unrolled.training.expectation import expected_bits_per_byte
from unrolled.training.loop import run_loop
from unrolled.training.planner import make_plan
from unrolled.training.processes import Processes
from unrolled.training.trainer import Run

SMALL = Settings(steps=30, hidden=16, layers=1, batch=4, window=16)


def never() -> bool:
    return False


def make_run(text_file: Path, folder: Path, settings: Settings = SMALL) -> Run:
    corpus = prepare(text_file, folder / "corpus")
    plan = make_plan(corpus, cells.gru, settings, lambda plan: 0.1)
    output, checkpoint = folder / "m.safetensors", folder / "checkpoint.safetensors"
    return Run(plan, corpus, output, checkpoint, Processes("cpu"))


def test_a_run_plans_progresses_validates_and_finishes_with_the_best_model(text_file: Path, tmp_path: Path) -> None:
    events = list(train(text_file, tmp_path / "m.safetensors", settings=SMALL))
    assert isinstance(events[0], Planned) and isinstance(events[-1], Finished)
    assert events[-1].step == 30
    validated = [event for event in events if isinstance(event, Validated)]
    best = min(validated, key=lambda event: event.nats_per_token)
    assert load(tmp_path / "m.safetensors").notes["step"] == best.step
    progress = [event for event in events if isinstance(event, Progress)]
    assert progress[-1].nats_per_token < progress[0].nats_per_token
    assert progress[-1].step == 30 and progress[-1].seconds_left == 0


def test_more_steps_and_a_simpler_text_are_expected_to_give_less_bits(text_file: Path, tmp_path: Path) -> None:
    run = make_run(text_file, tmp_path)
    longer = replace(run.plan, turns=((0, 0.0), (3000, 1.0)))
    assert 0 < expected_bits_per_byte(longer, run.corpus) < expected_bits_per_byte(run.plan, run.corpus) <= 8
    (tmp_path / "simple.txt").write_text("over and over again\n" * 1000)
    simple = prepare(tmp_path / "simple.txt", tmp_path / "simple")
    assert expected_bits_per_byte(longer, simple) < 0.5 * expected_bits_per_byte(longer, run.corpus)


def test_the_final_figure_is_that_of_the_model_file_on_the_validation_text(text_file: Path, tmp_path: Path) -> None:
    *_, last = train(text_file, tmp_path / "m.safetensors", settings=SMALL)
    assert isinstance(last, Finished) and last.nats_per_token is not None and last.bits_per_byte is not None
    text = text_file.read_bytes().decode()
    held_out = tmp_path / "held out.txt"
    held_out.write_bytes(text[int(0.9 * len(text)) :].encode())
    again = evaluate_files(load(tmp_path / "m.safetensors"), str(held_out))
    # float32 products may round differently where tensors lie differently in memory
    assert again.nats_per_token == pytest.approx(last.nats_per_token, rel=1e-6)
    assert again.bits_per_byte == pytest.approx(last.bits_per_byte, rel=1e-6)


def test_a_gradient_that_is_not_finite_takes_the_run_back_at_half_the_rate(text_file: Path, tmp_path: Path) -> None:
    run = make_run(text_file, tmp_path)
    events = []
    for event in run_loop(run, never):
        events.append(event)
        if isinstance(event, Validated) and event.step == 6 and run.scale == 1.0:
            with torch.no_grad():  # as a flipped bit in memory would
                run.model.readout.weight[0, 0] = math.nan
    recovered = [event for event in events if isinstance(event, Recovered)]
    assert [(event.step, event.back_to, event.learning_rate_scale) for event in recovered] == [(6, 3, 0.5)]
    assert isinstance(events[-1], Finished)
    assert all(torch.isfinite(parameter).all() for parameter in load(run.output).model.parameters())


def test_a_run_that_never_gets_finite_ends_with_advice(text_file: Path, tmp_path: Path) -> None:
    run = make_run(text_file, tmp_path, replace(SMALL, learning_rate=1e36))
    with pytest.raises(UnrolledError, match=r"the loss is not finite at step \d+.*Lower --lr"):
        list(run_loop(run, never))


def test_what_is_judged_and_kept_is_the_average_of_the_weights(text_file: Path, tmp_path: Path) -> None:
    run = make_run(text_file, tmp_path)
    run.plan = replace(run.plan, average=0.5)
    kept = 0
    for event in run_loop(run, never):
        if isinstance(event, Validated) and event.best:
            model = load(run.output).model
            assert all(torch.equal(model.state_dict()[name], mean) for name, mean in run.average.tensors().items())
            assert not torch.equal(model.readout.weight, run.model.readout.weight)
            total = event.nats_per_token * (len(run.held_out) - 1)
            assert nats(model, run.held_out) == pytest.approx(total, rel=1e-6)  # float32 products, as above
            kept += 1
    assert kept


def test_the_model_is_chosen_by_text_that_is_neither_trained_on_nor_the_validation_text(
    text_file: Path, tmp_path: Path
) -> None:
    run = make_run(text_file, tmp_path)
    whole = run.corpus.train.ids
    assert 0 < len(run.held_out) == run.plan.held_out < len(whole) / 10
    assert len(run.streams.ids) + len(run.held_out) == len(whole)
    assert list(run.held_out) == list(whole[: run.plan.held_out])


@pytest.mark.parametrize("seconds_a_step", [0.4, 1.0, 2.0])
def test_a_run_ends_in_time_on_a_machine_that_is_not_as_fast_as_planned(
    seconds_a_step: float, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = SimpleNamespace(now=0.0)
    clock.monotonic = lambda: clock.now
    monkeypatch.setattr("unrolled.training.trainer.time", clock)
    monkeypatch.setattr("unrolled.training.meter.time", clock)
    run = make_run(text_file, tmp_path)
    run.plan = replace(run.plan, seconds=30.0)  # its 30 steps would take a second each
    advance = run.advance

    def timed() -> tuple[float, float]:
        clock.now += seconds_a_step
        return advance()

    monkeypatch.setattr(run, "advance", timed)
    *_, last = run_loop(run, never)
    assert isinstance(last, Finished)
    assert last.seconds == pytest.approx(30, rel=0.1)
    assert run.plan.rate(run.step) == pytest.approx(0.01 * run.plan.learning_rate)


def test_a_stopped_run_is_saved_at_its_step(text_file: Path, tmp_path: Path) -> None:
    run = make_run(text_file, tmp_path)
    events = list(run_loop(run, lambda: run.step >= 7))
    assert isinstance(events[-1], Stopped) and events[-1].step == 7
    assert run.checkpoint.exists()


def test_resuming_a_finished_run_changes_nothing(text_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    list(train(text_file, path, settings=SMALL))
    before = path.read_bytes()
    *_, last = train([], path, resume=True)
    assert isinstance(last, Finished)
    assert path.read_bytes() == before


def test_a_damaged_checkpoint_is_a_clear_error(text_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    list(train(text_file, path, settings=SMALL))
    checkpoint = tmp_path / "m.run" / "checkpoint.safetensors"
    content = bytearray(checkpoint.read_bytes())
    content[-100] ^= 1
    checkpoint.write_bytes(content)
    with pytest.raises(UnrolledError, match=r"the checkpoint .* is damaged"):
        list(train([], path, resume=True))


def test_a_changed_text_in_the_run_folder_is_refused(text_file: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    list(train(text_file, path, settings=SMALL))
    mark = tmp_path / "m.run" / "corpus" / "corpus.json"
    mark.write_text(json.dumps(json.loads(mark.read_text()) | {"fingerprint": "0" * 64}))
    with pytest.raises(UnrolledError, match="is not the one this run was trained on"):
        list(train([], path, resume=True))


@pytest.mark.parametrize(
    ("sources", "output", "resume", "message"),
    [
        ([], "m.safetensors", False, "there is no text to train on"),
        ([], "m.safetensors", True, "there is no run to resume"),
        (["x"], "m.bin", False, r"must end in .safetensors, .* try m.safetensors"),
        (["x"], "nowhere/m.safetensors", False, "does not exist; make it first"),
    ],
)
def test_a_call_that_cannot_start_says_why(
    sources: list[str], output: str, resume: bool, message: str, tmp_path: Path
) -> None:
    with pytest.raises(UnrolledError, match=message):
        list(train(sources, tmp_path / output, resume=resume))


def test_a_device_that_is_not_there_is_a_clear_error(text_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UnrolledError, match="cannot use the device"):
        list(train(text_file, tmp_path / "m.safetensors", device="nonsense"))

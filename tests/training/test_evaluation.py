"""The figures of `evaluate` against the same computed token by token."""

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from unrolled import Decoder, UnrolledError, evaluate, load
from unrolled.text import Told
from unrolled.training import dynamic_nats, evaluate_files, learned_from


def nats_one_by_one(path: Path, text: str) -> tuple[float, int]:
    loaded = load(path)
    ids = loaded.tokenizer.encode(text)
    total, state = 0.0, None
    with torch.no_grad():
        for token, following in pairwise(ids):
            logits, state = loaded.model(torch.tensor([[token]]), state)
            total -= float(torch.log_softmax(logits[0, 0].double(), 0)[following])
    return total, len(ids) - 1


def test_one_stream_equals_the_sum_token_by_token(model_file: Path) -> None:
    text = "The network reads one character.\r\n字 🙂 unseen: ꙮ"
    total, tokens = nats_one_by_one(model_file, text)
    found = evaluate(load(model_file), text)
    assert found.tokens == tokens
    assert found.bytes == len(text.encode()) - 1
    # float32 logits, summed in batches instead of one at a time
    assert found.nats_per_token == pytest.approx(total / tokens, rel=1e-5)
    assert found.bits_per_byte == pytest.approx(total / math.log(2) / found.bytes, rel=1e-5)
    assert found.perplexity == pytest.approx(math.exp(total / tokens), rel=1e-4)


def test_files_and_text_give_the_same_figures(model_file: Path, tmp_path: Path) -> None:
    text = "a state that is carried\n" * 300
    (tmp_path / "t.txt").write_text(text)
    assert evaluate_files(load(model_file), tmp_path / "t.txt") == evaluate(load(model_file), text)


def test_evaluation_leaves_the_training_mode(model_file: Path) -> None:
    loaded = load(model_file)
    loaded.model.train()
    evaluate(loaded, "some text")
    assert loaded.model.training


def test_dynamic_evaluation_learns_a_text_that_repeats_and_leaves_the_model_as_it_was(model_file: Path) -> None:
    loaded = load(model_file)
    before = {name: weight.clone() for name, weight in loaded.model.state_dict().items()}
    text = "zq xj vw! " * 300
    static = evaluate(loaded, text)
    dynamic = evaluate(loaded, text, judge=dynamic_nats)
    assert dynamic.tokens == static.tokens
    assert dynamic.nats_per_token < 0.97 * static.nats_per_token
    assert all(torch.equal(weight, before[name]) for name, weight in loaded.model.state_dict().items())


def test_a_model_that_has_learned_from_a_text_predicts_it_better(model_file: Path) -> None:
    loaded = load(model_file)
    text = "zq xj vw! " * 300
    learned = replace(loaded, model=learned_from(loaded.model, loaded.tokenizer.encode(text)))
    assert evaluate(learned, text).nats_per_token < 0.95 * evaluate(loaded, text).nats_per_token


def test_dynamic_evaluation_judges_before_it_learns(model_file: Path) -> None:
    loaded, text = load(model_file), "The network reads"  # less than the first window
    static, dynamic = evaluate(loaded, text), evaluate(loaded, text, judge=dynamic_nats)
    assert dynamic.nats_per_token == pytest.approx(static.nats_per_token, rel=1e-6)


def test_who_waits_is_told_how_far_it_is(model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_text("The network reads a character. " * 60)
    loaded, decoder = load(model_file), Decoder.load(model_file)
    calls: list[Callable[[Told], object]] = [
        lambda told: evaluate_files(loaded, tmp_path / "t.txt", told=told),
        lambda told: evaluate_files(loaded, tmp_path / "t.txt", judge=dynamic_nats, told=told),
        lambda told: decoder.evaluate(tmp_path / "t.txt", told),
        lambda told: learned_from(loaded.model, loaded.tokenizer.encode("The network reads. " * 9), told=told),
    ]
    for call in calls:
        shares: list[float] = []
        call(shares.append)
        assert len(shares) > 1
        assert shares == sorted(shares)
        assert shares[-1] == 1.0


@pytest.mark.parametrize("text", ["", "a"])
def test_too_little_text_is_a_clear_error(model_file: Path, text: str) -> None:
    with pytest.raises(UnrolledError, match=f"the text has {len(text)} tokens; at least 2"):
        evaluate(load(model_file), text)

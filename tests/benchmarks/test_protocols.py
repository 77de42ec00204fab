"""How benchmarks judge: what they call the probability of characters is one."""

import math

import pytest
import torch
from benchmarks.protocols import Windows, carried, cold

from unrolled import LanguageModel, TextModel, cells
from unrolled.text import bpe_tokenizer, character_tokenizer

TEXT = "the other theme of the thesis " * 8
LETTERS = sorted(set(TEXT))


def judged(tokenizer):
    torch.manual_seed(0)
    model = LanguageModel(cells.lstm, tokenizer.vocabulary_size, 6, 10).double()
    torch.nn.init.normal_(model.readout.bias)
    return TextModel(model.eval(), tokenizer)


@pytest.mark.parametrize("start", ["t", "the", "othe"])
def test_characters_share_all_of_the_probability(start):
    text_model = judged(character_tokenizer(TEXT))
    others = set(range(text_model.tokenizer.vocabulary_size)) - set(
        text_model.tokenizer.encode("".join(LETTERS)).tolist()
    )
    with torch.no_grad():
        text_model.model.readout.bias[list(others)] = -1e9  # single bytes: no letter needs them
    windows = Windows(text_model)
    known = math.exp(-windows.nats([start]))
    # A sum of ten numbers of float64.
    assert sum(math.exp(-windows.nats([start + letter])) for letter in LETTERS) == pytest.approx(known, rel=1e-12)


@pytest.mark.parametrize("start", ["t", "the", "othe", "e th"])
def test_tokens_of_several_characters_never_get_more_than_there_is(start):
    text_model = judged(bpe_tokenizer(TEXT, 262))
    assert len(text_model.tokenizer.encode(TEXT)) < len(TEXT) / 2
    windows = Windows(text_model)
    everything = [chr(byte) for byte in range(128)]
    total = sum(math.exp(-windows.nats([start + letter])) for letter in everything)
    assert 0 < total <= 1 + 1e-12
    # One character after the given one has few ways to be cut: what is left out is little.
    assert len(start) > 1 or total > 0.3


def test_windows_and_streams_are_in_nats_for_each_character():
    text_model = judged(character_tokenizer(TEXT))
    with torch.no_grad():
        for weight in text_model.model.parameters():
            weight.zero_()
    assert cold(text_model, TEXT, windows=5, length=20) == pytest.approx(
        math.log(text_model.model.readout.out_features)
    )
    assert carried(text_model, TEXT) == pytest.approx(math.log(text_model.model.readout.out_features))

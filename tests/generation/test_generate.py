"""The stream against an oracle that keeps no state: it reads the whole text anew for every token."""

import subprocess
import sys
from codecs import getincrementaldecoder
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from unrolled import cells
from unrolled.artifact import TextModel, load, save
from unrolled.errors import UnrolledError
from unrolled.generation import Sampling, generate
from unrolled.generation.choice import choose
from unrolled.generation.splitmix import Random
from unrolled.models import LanguageModel
from unrolled.text import bpe_tokenizer, byte_tokenizer, character_tokenizer

TEXT = "Es war einmal ein süßes Mädchen, das hatte jedermann lieb. 敏捷的狐狸 🦊\n" * 3
TOKENIZERS = {
    "characters": character_tokenizer("ab \n"),
    "bpe": bpe_tokenizer(TEXT, 300),
    "bytes": byte_tokenizer(),
}


def untrained(tokenizer_name: str) -> TextModel:
    """Random weights, large enough for the text before to matter; float64, so that rounding does not."""
    tokenizer = TOKENIZERS[tokenizer_name]
    torch.manual_seed(0)
    model = LanguageModel(cells.vanilla, tokenizer.vocabulary_size, 8, 12, dropout=0.5).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3)
    return TextModel(model, tokenizer)


class Scripted(torch.nn.Module):
    """A model of bytes that says one line, whatever it reads; its state is how much it has said."""

    def __init__(self, line: bytes) -> None:
        super().__init__()
        self.line = line
        self.lengths_read: list[int] = []

    @property
    def text_model(self) -> Any:
        return TextModel(self, byte_tokenizer())

    def forward(self, tokens: torch.Tensor, state: Any = None, lengths: Any = None) -> Any:
        self.lengths_read.append(tokens.shape[1])
        said = 0 if state is None or tokens.shape[1] > 1 else state[0] + 1
        logits = torch.zeros(1, tokens.shape[1], 256)
        logits[0, -1, self.line[said % len(self.line)]] = 1000
        return logits, (said,)


MODELS = {name: untrained(name) for name in TOKENIZERS}
every_tokenizer = pytest.mark.parametrize("name", TOKENIZERS)


def ids_by_reading_all_again(text_model: TextModel, prompt: str, sampling: Sampling, count: int) -> list[int]:
    ids = text_model.tokenizer.encode(prompt).tolist()
    random = Random(sampling.seed)
    model = text_model.model.eval()
    for _ in range(count):
        with torch.no_grad():
            logits = model(torch.tensor([ids]))[0][0, -1].numpy()
        ids.append(choose(logits, sampling, ids[-sampling.repetition_window :], random))
    return ids[-count:]


def text_of(text_model: TextModel, ids: list[int]) -> str:
    """The text of `ids` all at once, without a last character that is incomplete."""
    text_bytes = b"".join(map(text_model.tokenizer.token_bytes, ids))
    return getincrementaldecoder("utf-8")("replace").decode(text_bytes)


@every_tokenizer
@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0),
        Sampling(temperature=1.2, seed=5),
        Sampling(top_k=9, top_p=0.9, min_p=0.01, repetition_penalty=1.5, repetition_window=7),
    ],
)
def test_the_stream_is_the_text_of_the_tokens(name: str, sampling: Sampling) -> None:
    expected = ids_by_reading_all_again(MODELS[name], "a süß 🦊", sampling, 40)
    pieces = list(generate(MODELS[name], "a süß 🦊", tokens=40, sampling=sampling))
    assert "".join(pieces) == text_of(MODELS[name], expected)
    assert all(pieces)


@pytest.mark.parametrize("length", [256, 257, 600])
def test_a_prompt_longer_than_a_chunk_is_read_as_if_at_once(length: int) -> None:
    prompt = "abc" * 200
    expected = ids_by_reading_all_again(MODELS["bytes"], prompt[:length], Sampling(), 3)
    assert "".join(generate(MODELS["bytes"], prompt[:length], tokens=3)) == text_of(MODELS["bytes"], expected)


@every_tokenizer
def test_without_a_prompt_the_text_begins_like_a_line(name: str) -> None:
    first, second = (list(generate(MODELS[name], prompt, tokens=20)) for prompt in ("", "\n"))
    assert first == second


def test_equal_seeds_give_equal_texts_and_others_others() -> None:
    texts = ["".join(generate(MODELS["bpe"], "Es", tokens=50, sampling=Sampling(seed=seed))) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]


def test_the_window_of_the_repetition_penalty_matters() -> None:
    samplings = [Sampling(repetition_penalty=5, repetition_window=window) for window in (1, 50)]
    first, second = ("".join(generate(MODELS["bpe"], "Es", tokens=50, sampling=sampling)) for sampling in samplings)
    assert first != second


@settings(deadline=None)
@given(
    st.text("abé", min_size=1, max_size=30),
    st.lists(st.text("abé", min_size=1, max_size=4), max_size=3),
    st.none() | st.integers(0, 40),
)
def test_stop_strings_and_limits_cut_the_unstopped_text(line: str, stop: list[str], characters: int | None) -> None:
    script = Scripted(line.encode())
    pieces = list(generate(script.text_model, "ab", tokens=len(script.line), characters=characters, stop=stop))
    stops = ((end, end - len(string)) for end in range(len(line) + 1) for string in stop if line[:end].endswith(string))
    assert "".join(pieces) == line[: min(stops, default=(0, None))[1]][:characters]
    assert all(pieces)


def test_without_a_limit_the_text_has_1000_characters() -> None:
    assert "".join(generate(Scripted("é".encode()).text_model)) == "é" * 1000


@every_tokenizer
def test_the_first_limit_reached_ends_the_text(name: str) -> None:
    long = "".join(generate(MODELS[name], "a", characters=90))
    assert len(long) == 90
    short = "".join(generate(MODELS[name], "a", tokens=20))
    assert long.startswith(short)
    assert "".join(generate(MODELS[name], "a", tokens=20, characters=90)) == short
    assert "".join(generate(MODELS[name], "a", tokens=20, characters=3)) == short[:3]
    assert list(generate(MODELS[name], "a", tokens=0)) == list(generate(MODELS[name], "a", characters=0)) == []


def test_a_character_that_the_limit_leaves_incomplete_is_left_out() -> None:
    fox = Scripted("🦊a".encode())
    texts = ["".join(generate(fox.text_model, "x", tokens=tokens)) for tokens in range(6)]
    assert texts == ["", "", "", "", "🦊", "🦊a"]


def test_every_token_is_read_once_and_nothing_before_it_again() -> None:
    script = Scripted(b"to be or not to be")
    prompt = "p" * 1000
    assert "".join(generate(script.text_model, prompt, tokens=18)) == "to be or not to be"
    assert script.lengths_read == [256, 256, 256, 232] + [1] * 17


def test_nothing_is_computed_after_a_limit_or_a_stop_string() -> None:
    for ending in ({"tokens": 6}, {"characters": 6}, {"stop": "to"}):
        script = Scripted(b"what to do")
        "".join(generate(script.text_model, "p", **ending))
        assert len(script.lengths_read) == (7 if "stop" in ending else 6)


def test_a_limit_of_characters_holds_for_text_held_back() -> None:
    assert "".join(generate(Scripted(b"aa").text_model, tokens=2, characters=1, stop="aab")) == "a"


def test_computing_starts_with_the_first_piece_and_pieces_come_at_once() -> None:
    script = Scripted(b"abc")
    stream = generate(script.text_model, "x")
    assert script.lengths_read == []
    assert next(stream) == "a"
    assert script.lengths_read == [1]


@pytest.mark.parametrize("training", [True, False])
def test_the_caller_can_train_the_model_between_two_pieces(training: bool) -> None:
    text_model = untrained("bytes")
    text_model.model.train(training)
    frozen = text_model.model.embedding.eval()
    steady = "".join(generate(MODELS["bytes"], "a", tokens=9))
    stream = generate(text_model, "a", tokens=9)
    text = next(stream)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert text_model.model.training == text_model.model.layers.training == training
    assert not frozen.training
    text_model.model.loss(torch.zeros(1, 2, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64))[0].backward()
    # Dropout would make another text.
    assert text + "".join(stream) == steady


def test_the_training_mode_comes_back_after_an_error() -> None:
    text_model = untrained("bytes")
    with torch.no_grad():
        text_model.model.readout.bias.fill_(torch.nan)
    text_model.model.train()
    stream = generate(text_model, "a")
    with pytest.raises(UnrolledError, match="256 of the model's 256 logits are not finite"):
        next(stream)
    assert text_model.model.training


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_of_other_types(dtype: torch.dtype) -> None:
    text_model = untrained("bytes")
    text_model.model.to(dtype)
    assert len("".join(generate(text_model, "a", characters=20))) == 20


def test_a_saved_model_writes_the_same_text(tmp_path: Path) -> None:
    text_model = untrained("characters")
    save(tmp_path / "model.safetensors", text_model)
    loaded = load(tmp_path / "model.safetensors")
    texts = ["".join(generate(model, "ab ?", characters=50)) for model in (text_model, loaded)]
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"tokens": -1}, f"tokens is -1; it must be a whole number from 0 to {sys.maxsize}."),
        ({"tokens": 10**30}, f"tokens is {10**30}; it must be a whole number"),
        ({"characters": 2.5}, "characters is 2.5; it must be a whole number from 0 to "),
        ({"stop": [""]}, "A stop string is ''; it must be text of at least one character."),
        ({"prompt": "\ud800"}, "half of a surrogate pair"),
    ],
)
def test_mistakes_are_told_at_the_call(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UnrolledError) as error:
        generate(MODELS["bytes"], **arguments)
    assert message in str(error.value)


def test_settings_are_made_without_loading_torch() -> None:
    program = "import sys; from unrolled.generation import Sampling, generate; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)

"""A model as a `Decoder`: the reference's text, in one piece or many, saved, forked, alone or in a crowd."""

import resource
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from decoding_models import made

from unrolled import Decoder, Sampling, State, UnrolledError, cells, generate, save
from unrolled.generation import Prefixes
from unrolled.text import bpe_tokenizer, byte_tokenizer

TEXT = "Es war einmal ein süßes Mädchen, das hatte jedermann lieb. 敏捷的狐狸 🦊\n" * 3
TOKENIZERS = {"characters": None, "bytes": byte_tokenizer(), "bpe": bpe_tokenizer(TEXT, 300)}
SAMPLING = Sampling(seed=5, temperature=1.1, repetition_penalty=1.2, repetition_window=9, top_p=0.98)
PROMPT = "Once upon a time"


@pytest.fixture(scope="module", params=TOKENIZERS)
def text_model(request):
    return made(cells.CELLS["lstm"], 24, layers=2, tokenizer=TOKENIZERS[request.param])


@pytest.fixture(scope="module", params=["native", "reference"])
def model(text_model, request):
    patch = pytest.MonkeyPatch()
    patch.setenv("UNROLLED_ENGINE", request.param)
    yield Decoder.of(text_model)
    patch.undo()


def text(model, state, **limits):
    return "".join(model.generate(state, **limits))


@pytest.mark.parametrize("stop", [(), ("e",), ("ab", "xyz", "�", "n")])
def test_the_text_is_that_of_the_definition_in_torch(model, text_model, stop):
    for characters in (0, 1, 7, 150):
        expected = "".join(generate(text_model, PROMPT, characters=characters, sampling=SAMPLING, stop=stop))
        assert text(model, model.start(PROMPT, SAMPLING), characters=characters, stop=stop) == expected
    for tokens in (0, 1, 40):
        expected = "".join(generate(text_model, "", tokens=tokens, sampling=SAMPLING, stop=stop))
        assert text(model, model.start("", SAMPLING), tokens=tokens, stop=stop) == expected


def test_in_pieces_saved_and_forked_it_is_the_same_text(model, tmp_path):
    whole = text(model, model.start(PROMPT, SAMPLING), characters=200)
    state = model.start(PROMPT, SAMPLING)
    parts = []
    for number, characters in enumerate([1, 2, 30, 5, 62, 100]):
        parts.append(text(model, state, characters=characters))
        if number % 2:
            state.save(tmp_path / "state")
            state = model.load_state(tmp_path / "state")
        else:
            other = state
            state = state.fork()
            text(model, other, characters=20)
    assert "".join(parts) == whole


def test_the_state_is_behind_the_last_piece_taken(model):
    state = model.start(PROMPT, SAMPLING)
    begun = ""
    pieces = model.generate(state, characters=200)
    while len(begun) < 50:
        begun += next(pieces)
    pieces.close()
    assert begun + text(model, state, characters=200 - len(begun)) == text(
        model, model.start(PROMPT, SAMPLING), characters=200
    )


CONTINUES = """
import sys, unrolled
model = unrolled.Decoder.load(sys.argv[1])
state = model.load_state(sys.argv[2])
sys.stdout.buffer.write("".join(model.generate(state, characters=80)).encode())
print("torch" in sys.modules, file=sys.stderr)
"""


def test_another_process_goes_on_exactly_and_without_torch(text_model, tmp_path):
    path = tmp_path / "model.safetensors"
    save(path, text_model)
    model = Decoder.load(path)
    state = model.start(PROMPT, SAMPLING)
    text(model, state, characters=33)
    state.save(tmp_path / "state")
    command = [sys.executable, "-c", CONTINUES, path, tmp_path / "state"]
    result = subprocess.run(command, capture_output=True, check=True)
    assert result.stdout.decode() == text(model, state, characters=80)
    assert result.stderr.decode().strip() == "False"
    assert (tmp_path / "state").stat().st_size < 8000


def test_reading_more_is_as_if_it_had_been_one_prompt(model):
    state = model.start("Once upon", SAMPLING)
    model.read(state, " a time")
    if model.tokenizer.vocabulary_size != 300:  # BPE cuts the whole differently
        assert text(model, state, characters=50) == text(model, model.start(PROMPT, SAMPLING), characters=50)


def test_many_streams_that_come_and_go_write_what_each_writes_alone(model):
    def started(number):
        sampling = Sampling(seed=number, temperature=0.5 + number % 4, top_k=number % 5 * 3, repetition_penalty=1.1)
        limits = {"tokens": 3 + 7 * number} if number % 2 else {"characters": 10 * number, "stop": ["e", "qu", "z\n"]}
        return model.start(PROMPT[: 1 + number], sampling), limits

    alone = {}
    for number in range(12):
        state, limits = started(number)
        alone[number] = text(model, state, **limits), state
    texts, states, under_way, waiting = {}, {}, {}, list(range(12))
    turn = 0
    while waiting or under_way:
        if waiting and turn % 2 == 0:
            number = waiting.pop()
            states[number], limits = started(number)
            under_way[number], texts[number] = model.stream(states[number], **limits), ""
        pieces = model.advance(list(under_way.values()), tokens=1 + turn % 5)
        for number, piece in zip(list(under_way), pieces, strict=True):
            texts[number] += piece
            if under_way[number].finished:
                del under_way[number]
        turn += 1
    for number, (expected, state) in alone.items():
        assert texts[number] == expected
        assert np.array_equal(states[number].vector, state.vector)
        assert states[number].counter == state.counter


def test_a_stream_that_is_dropped_midway_is_gone_and_the_others_go_on(model):
    kept = model.stream(model.start(PROMPT, SAMPLING), tokens=30)
    dropped = model.stream(model.start("a", SAMPLING), tokens=1000)
    begun = model.advance([kept, dropped], 10)[0]
    state = weakref.ref(dropped.state)
    del dropped
    assert state() is None
    rest = "".join(model.advance([kept], 10)[0] for _ in range(2))
    assert begun + rest == text(model, model.start(PROMPT, SAMPLING), tokens=30)


def test_a_state_of_another_model_is_refused(model, tmp_path):
    other = Decoder.of(made(cells.CELLS["gru"], 24))
    state = other.start(PROMPT)
    state.save(tmp_path / "state")
    message = f"this state is of another model ({other.hash[:12]}, not {model.hash[:12]}); load that model, or read the"
    for act in (model.generate, lambda state: model.read(state, "a"), model.stream):
        with pytest.raises(UnrolledError) as error:
            act(state)
        assert str(error.value).startswith(message)
    with pytest.raises(UnrolledError) as error:
        model.load_state(tmp_path / "state")
    assert str(error.value).startswith(f"{tmp_path / 'state'}: {message}")


def test_equal_models_have_equal_hashes_and_others_not(text_model, tmp_path):
    save(tmp_path / "model", text_model)
    assert Decoder.load(tmp_path / "model").hash == Decoder.of(text_model).hash
    text_model.notes["colour"] = "blue"
    assert Decoder.load(tmp_path / "model").hash == Decoder.of(text_model).hash
    other = made(cells.CELLS["lstm"], 24, layers=2, tokenizer=text_model.tokenizer, scale=2.1)
    assert Decoder.of(other).hash != Decoder.of(text_model).hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data[: len(data) // 2], "is no state file, or it is damaged or cut short ("),
        (lambda data: b"", "is no state file, or it is damaged or cut short ("),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "is damaged: its checksum is not that of its content."),
        (lambda data: data.replace(b'"counter":"0"', b'"counter":"7"'), "is damaged: its checksum is not"),
        (lambda data: data.replace(b"unrolled state", b"unrolled stale"), "is a safetensors file, but not a state;"),
        (lambda data: data.replace(b'"version":"1"', b'"version":"2"'), "has state version 2, this unrolled reads 1;"),
    ],
)
def test_a_damaged_state_file_is_refused_in_plain_words(tmp_path, change, message):
    path = tmp_path / "state"
    Decoder.of(made(cells.CELLS["gru"], 8)).start("a").save(path)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(UnrolledError) as error:
        State.load(path)
    assert str(error.value).startswith(f"{path} {message}")


def test_a_state_of_numbers_that_are_not_finite_is_refused_or_told(model, tmp_path):
    state = model.start(PROMPT, SAMPLING)
    for bad in (np.inf, np.nan):
        state.vector[5] = bad
        state.save(tmp_path / "state")
        with pytest.raises(
            UnrolledError, match=r"is damaged: it holds numbers that are not finite\. Read the text again"
        ):
            State.load(tmp_path / "state")
    with pytest.raises(UnrolledError, match=r"logits are not finite numbers, so no token can be"):
        text(model, state, characters=50)


def test_a_model_file_is_no_state_and_a_missing_one_says_how_to_make_it(tmp_path):
    save(tmp_path / "model", made(cells.CELLS["gru"], 8))
    with pytest.raises(UnrolledError, match=r"is a safetensors file, but not a state; make one with: unrolled gen"):
        State.load(tmp_path / "model")
    with pytest.raises(UnrolledError, match=r"does not exist; name a state file, as written by: unrolled gen"):
        State.load(tmp_path / "none")


@pytest.mark.parametrize("limits", [{"characters": -1}, {"tokens": -1}, {"tokens": 1.5}, {"stop": ""}])
def test_absurd_limits_are_refused_before_any_computing(model, limits):
    with pytest.raises(UnrolledError):
        model.generate(model.start(), **limits)


def test_weights_that_are_not_numbers_are_told(model, text_model):
    broken = made(cells.CELLS["lstm"], 24, layers=2, tokenizer=text_model.tokenizer)
    broken.model.readout.bias.data[3] = float("nan")
    decoder = Decoder.of(broken)
    with pytest.raises(UnrolledError, match=r"^1 of the model's \d+ logits are not finite numbers, so no token can be"):
        text(decoder, decoder.start(PROMPT))
    good = model.stream(model.start(PROMPT), tokens=4)
    bad = decoder.stream(decoder.start(PROMPT), tokens=4)
    assert decoder.advance([bad], 4) == [""]
    assert bad.finished and isinstance(bad.error, UnrolledError)
    assert model.advance([good], 4) != [""] or good.finished


def test_a_text_that_is_no_unicode_is_refused_before_any_of_it_is_read(model):
    with pytest.raises(UnrolledError, match="surrogate"):
        model.start("\ud800")
    state = model.start("a")
    before = state.fork()
    with pytest.raises(UnrolledError, match=r"^Character 20000 of the text is '\\ud800', half of a surrogate pair"):
        model.read(state, "a" * 20_000 + "\ud800")
    assert np.array_equal(state.vector, before.vector)
    assert state.recent.tolist() == before.recent.tolist()


def test_a_known_prompt_starts_at_once_with_the_same_state(model, monkeypatch):
    read = []
    engine_read = model.engine.read
    monkeypatch.setattr(
        model.engine, "read", lambda states, tokens: read.append(tokens.size) or engine_read(states, tokens)
    )
    prefixes = Prefixes(model, most=2)

    def started(prompt):
        read.clear()
        state = prefixes.start(prompt, SAMPLING)
        tokens = sum(read)
        assert text(model, state, characters=20) == text(model, model.start(prompt, SAMPLING), characters=20)
        return tokens

    whole = len(model.tokenizer.encode(PROMPT))
    assert started(PROMPT) == whole
    assert started(PROMPT) == 0
    longer = len(model.tokenizer.encode(PROMPT + "\n\n"))
    assert started(PROMPT + "\n\n") == longer - whole
    started("")
    assert len(prefixes) == 2
    assert started(PROMPT) == whole  # it was used longest ago
    with pytest.raises(UnrolledError, match="at least 1"):
        Prefixes(model, most=0)


def test_a_million_tokens_leak_nothing():
    model = Decoder.of(made(cells.CELLS["gru"], 4))
    state = model.start("a", Sampling(seed=1))
    statm = Path("/proc/self/statm")
    if not statm.exists():
        pytest.skip("only Linux says what a process takes")
    sizes = []
    for _ in range(10):
        for _ in model.generate(state, tokens=100_000):
            pass
        sizes.append(int(statm.read_text().split()[1]) * resource.getpagesize())
    assert state.counter == 1_000_000
    assert max(sizes[2:]) - sizes[1] < 3_000_000  # the window of 65,536 tokens is full after the first turn


def test_a_prompt_of_ten_million_characters():
    model = Decoder.of(made(cells.CELLS["vanilla"], 2))
    state = model.start("ab" * 5_000_000, SAMPLING)
    assert len(state.recent) == 65_536
    # So small a network has forgotten what came a hundred thousand steps before.
    assert text(model, state, tokens=30) == text(model, model.start("ab" * 100_000, SAMPLING), tokens=30)

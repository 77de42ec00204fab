import json

import numpy as np
import pytest
import tokenizers as huggingface
from hypothesis import given
from hypothesis import strategies as st

from unrolled.errors import UnrolledError
from unrolled.text import (
    TOKENIZERS,
    StreamDecoder,
    Tokenizer,
    bpe_tokenizer,
    byte_tokenizer,
    character_tokenizer,
    make_tokenizer,
)
from unrolled.text.tokenizers import resolve_kind

TEXT = "The quick brown fox.\r\nDer flinke Fuchs läuft; 敏捷的狐狸 🦊 <0x41>\n" * 20
LEARNED = {name: make_tokenizer(name, [TEXT], len(TEXT)) for name in TOKENIZERS}

any_tokenizer = st.sampled_from(list(LEARNED.values()))
# Everything a file can hold, and often what the learned tokenizers know.
any_text = st.text() | st.text(alphabet=TEXT + "\0\r\n é e\u0301\U0010ffff")


@given(any_tokenizer, any_text)
def test_any_text_comes_back_exactly(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids.dtype == np.int64
    assert tokenizer.decode(ids) == text
    assert tokenizer.byte_lengths[ids].sum() == len(text.encode())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "  two  spaces ",
        "a\r\nb\rc\n",
        "\0",
        "👩‍👩‍👧 🇨🇭",
        "e\u0301 é",
        "<0x41><0xFF>",
        "\ufeffmark",
        "\x1c\x85\u3000",
    ],
)
@pytest.mark.parametrize("name", LEARNED)
def test_awkward_texts_come_back_exactly(name: str, text: str) -> None:
    assert LEARNED[name].decode(LEARNED[name].encode(text)) == text


@given(any_tokenizer, any_text)
def test_the_json_is_read_by_the_library_and_gives_the_same_ids(tokenizer: Tokenizer, text: str) -> None:
    ids = tokenizer.encode(text).tolist()
    library = huggingface.Tokenizer.from_str(tokenizer.to_json())
    assert library.encode(text, add_special_tokens=False).ids == ids
    assert library.decode(ids, skip_special_tokens=False) == text
    assert Tokenizer.from_json(tokenizer.to_json()).encode(text).tolist() == ids


@given(any_tokenizer, st.data())
def test_streamed_text_equals_decoded_text_for_any_tokens(tokenizer: Tokenizer, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, tokenizer.vocabulary_size - 1)))
    stream = StreamDecoder(tokenizer)
    streamed = "".join([stream.push(token) for token in ids] + [stream.flush()])
    joined = b"".join(tokenizer.token_bytes(token) for token in ids)
    assert streamed == tokenizer.decode(ids) == joined.decode("utf-8", errors="replace")


def test_a_stream_holds_back_half_a_character_and_starts_anew_after_a_flush() -> None:
    stream = StreamDecoder(byte_tokenizer())
    assert [stream.push(byte) for byte in "🦊".encode()] == ["", "", "", "🦊"]
    assert (stream.push(0xC3), stream.flush()) == ("", "\ufffd")
    assert (stream.push(0xA9), stream.flush()) == ("\ufffd", "")


def test_characters_come_first_in_code_point_order_then_only_the_bytes_others_need() -> None:
    tokenizer = character_tokenizer(["cab", "é"])
    assert tokenizer.encode("abcé").tolist() == [0, 1, 2, 3]
    # 125 other ASCII characters, 64 continuation bytes, 51 leading bytes.
    assert tokenizer.vocabulary_size == 4 + 125 + 64 + 51
    assert tokenizer.token_bytes(3) == "é".encode()
    assert [tokenizer.token_bytes(token) for token in tokenizer.encode("ü")] == [b"\xc3", b"\xbc"]


def test_rare_characters_beyond_the_largest_vocabulary_are_left_to_their_bytes() -> None:
    tokenizer = character_tokenizer("aaabbc中中中", largest=2)
    assert tokenizer.encode("a中").tolist() == [0, 1]
    assert tokenizer.encode("b").size == 1
    assert tokenizer.token_bytes(tokenizer.encode("b")[0]) == b"b"
    assert tokenizer.vocabulary_size == character_tokenizer("a中").vocabulary_size


def test_byte_ids_are_the_bytes() -> None:
    assert byte_tokenizer().encode("né🦊").tolist() == list("né🦊".encode())
    assert [byte_tokenizer().token_bytes(byte) for byte in range(256)] == [bytes([byte]) for byte in range(256)]


def test_bpe_is_deterministic_and_merges_what_repeats() -> None:
    first, second = (bpe_tokenizer(iter([TEXT, TEXT]), 300) for _ in range(2))
    assert first.to_json() == second.to_json()
    assert first.vocabulary_size == 300
    assert first.encode(TEXT).size < 0.7 * len(TEXT.encode())


def test_long_texts_encode_as_in_one_piece() -> None:
    long = TEXT * 30
    tokenizer = LEARNED["bpe"]
    whole = huggingface.Tokenizer.from_str(tokenizer.to_json()).encode(long).ids
    assert tokenizer.encode(long).tolist() == whole


@pytest.mark.parametrize(
    ("kind", "sizes", "resolved"),
    [
        ("auto", (20_000_000, 20_000_000), "characters"),
        ("auto", (20_000_001, 20_000_001), "bpe:2290"),
        ("auto", (10**12, 10**12), "bpe:8000"),
        ("auto", (1_000_000, 1_000_000, 128_000_000), "characters"),
        ("auto", (1_000_000, 1_000_000, 127_999_999), "bpe:512"),
        ("auto", (3_000_000, 1_000_000, 1), "characters"),
        ("auto", (20_000, 20_000, 1), "bpe:384"),
        ("bpe:300", (10**12, 10**12, 1), "bpe:300"),
    ],
)
def test_auto_chooses_by_the_text_and_how_much_of_it_will_be_read(
    kind: str, sizes: tuple[int, int, float], resolved: str
) -> None:
    assert resolve_kind(kind, *sizes) == resolved


def test_bpe_learns_a_very_large_text_from_evenly_spaced_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unrolled.text.tokenizers._LARGEST_TEXT_TO_LEARN_BPE", 100)
    pieces = ["ab " * 9, "xy " * 9, "cd " * 9, "xy " * 9]
    expected = bpe_tokenizer([pieces[0], pieces[2]], 8000).to_json()
    assert make_tokenizer("bpe", iter(pieces), text_bytes=199).to_json() == expected


def test_a_kind_may_name_its_size() -> None:
    assert make_tokenizer("bpe:270", [TEXT], len(TEXT)).vocabulary_size == 270
    expected = character_tokenizer(TEXT, largest=10).to_json()
    assert make_tokenizer("characters:10", [TEXT], len(TEXT)).to_json() == expected


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("words", "no tokenizer 'words'. Choose one of: auto, characters, bpe, bytes"),
        ("bytes:9", "'bytes' has a fixed size, but 'bytes:9' came"),
        ("bpe:many", "size in the tokenizer 'bpe:many' is not a whole number above 0"),
        ("characters:0", "size in the tokenizer 'characters:0' is not a whole number above 0"),
        ("bpe:255", "vocabulary of 255 tokens has no room for the 256 bytes"),
    ],
)
def test_kinds_that_cannot_be_made(kind: str, message: str) -> None:
    with pytest.raises(UnrolledError, match=message):
        make_tokenizer(kind, [TEXT], len(TEXT))


def test_a_character_tokenizer_needs_a_character() -> None:
    with pytest.raises(UnrolledError, match="at least 1 character, but 0 came"):
        character_tokenizer(TEXT, largest=0)


@pytest.mark.parametrize("damaged", ["", "{", "[]", "{}", '{"model": 3}'])
def test_damaged_json_is_refused(damaged: str) -> None:
    with pytest.raises(UnrolledError, match=r"not a tokenizer\.json .* damaged or of another kind"):
        Tokenizer.from_json(damaged)


def _changed(tokenizer: Tokenizer, **changes: object) -> str:
    return json.dumps(json.loads(tokenizer.to_json()) | changes)


@pytest.mark.parametrize(
    ("decoder", "name"),
    [
        (None, "none"),
        ({"type": "WordPiece", "prefix": "##", "cleanup": True}, "WordPiece"),
        (
            {
                "type": "Sequence",
                "decoders": [
                    {"type": "ByteFallback"},
                    {"type": "Strip", "content": " ", "start": 1, "stop": 0},
                ],
            },
            "ByteFallback \\+ Strip",
        ),
    ],
)
def test_tokenizers_that_lose_bytes_are_refused(decoder: object, name: str) -> None:
    with pytest.raises(UnrolledError, match=f"decodes with {name}, so its tokens are not exact bytes"):
        Tokenizer.from_json(_changed(byte_tokenizer(), decoder=decoder))


def test_a_token_that_is_no_bytes_is_refused() -> None:
    damaged = LEARNED["bpe"].to_json().replace("Ġ", "狐")
    with pytest.raises(UnrolledError, match="token '狐' of this byte-level tokenizer holds '狐', which is no byte"):
        Tokenizer.from_json(damaged)


def test_missing_ids_are_refused() -> None:
    with pytest.raises(UnrolledError, match="256 token ids do not run from 0 without a gap"):
        Tokenizer.from_json(byte_tokenizer().to_json().replace('"<0xFF>":255', '"<0xFF>":999'))


def test_an_added_token_stands_for_its_text_and_truncation_is_undone() -> None:
    library = huggingface.Tokenizer.from_str(LEARNED["bpe"].to_json())
    library.add_special_tokens(["<|end|>"])
    library.enable_truncation(3)
    tokenizer = Tokenizer.from_json(library.to_str())
    end = tokenizer.vocabulary_size - 1
    assert tokenizer.token_bytes(end) == b"<|end|>"
    text = "The fox runs far away<|end|>"
    assert tokenizer.encode(text)[-1] == end
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("token", [-1, 256])
def test_ids_outside_the_vocabulary_are_refused(token: int) -> None:
    with pytest.raises(UnrolledError, match=f"no token {token}: ids run from 0 to 255"):
        byte_tokenizer().decode([65, token])


@pytest.mark.parametrize("name", LEARNED)
def test_half_a_surrogate_pair_is_refused(name: str) -> None:
    with pytest.raises(UnrolledError, match=r"Character 2 of the text is '\\ud83e'"):
        LEARNED[name].encode("ab\ud83e")

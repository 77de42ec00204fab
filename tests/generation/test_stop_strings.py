import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.errors import UnrolledError
from unrolled.generation.stop_strings import StopStrings

# Two letters make partial matches that overlap common.
pieces_of_text = st.lists(st.text("ab", max_size=4), max_size=12)
stop_strings = st.lists(st.text("ab", min_size=1, max_size=5), max_size=3)


def cut_at_first_stop(text: str, strings: list[str]) -> str:
    for end in range(len(text) + 1):
        complete = [string for string in strings if text[:end].endswith(string)]
        if complete:
            return text[: end - max(map(len, complete))]
    return text


@given(pieces_of_text, stop_strings)
def test_what_passes_is_the_text_up_to_the_first_stop_string(pieces: list[str], strings: list[str]) -> None:
    stop = StopStrings(strings)
    passed = "".join(stop.push(piece) for piece in pieces) + stop.flush()
    text = "".join(pieces)
    assert passed == cut_at_first_stop(text, strings)
    assert stop.found == any(string in text for string in strings)


@given(pieces_of_text, stop_strings)
def test_only_what_may_start_a_stop_string_is_held_back(pieces: list[str], strings: list[str]) -> None:
    stop = StopStrings(strings)
    text = passed = ""
    for piece in pieces:
        text += piece
        passed += stop.push(piece)
        if stop.found:
            break
        starts = [string[:length] for string in strings for length in range(len(string))]
        longest = max((len(start) for start in starts if text.endswith(start)), default=0)
        assert len(text) - len(passed) == longest


def test_a_single_string_is_one_stop_string_not_its_letters() -> None:
    stop = StopStrings("END")
    assert stop.push("NED") == "NED"


@pytest.mark.parametrize(("strings", "came"), [("", "''"), (["a", ""], "''"), ([None], "None")])
def test_empty_stop_strings(strings: object, came: str) -> None:
    with pytest.raises(UnrolledError) as error:
        StopStrings(strings)
    assert str(error.value).startswith(f"A stop string is {came}; it must be text of at least one character.")

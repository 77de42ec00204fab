from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unrolled.errors import UnrolledError
from unrolled.text import bpe_tokenizer
from unrolled.text.cut import pieces_of
from unrolled.text.pieces import head, read_pieces, tail
from unrolled.text.sources import TextFile

TEXT = "First line, 第一行\r\n\tsecond — line 🦊\r\n\r\n  'quoted' isn't   spaced\n" * 10


def _file(path: Path, content: bytes) -> TextFile:
    path.write_bytes(content)
    return TextFile(path, path.name)


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 7, 64, 10_000])
def test_blocks_of_any_size_give_the_same_text_and_split_no_line_end(tmp_path: Path, block_bytes: int) -> None:
    pieces = list(read_pieces([_file(tmp_path / "a", TEXT.encode())], block_bytes))
    assert "".join(pieces) == TEXT
    assert not any(before.endswith("\r") for before in pieces)


@pytest.mark.parametrize("text", ["\r\n" * 50, "\n" * 50, "\r" * 50, "a\r" * 50, " " * 50, "\r\n"])
def test_texts_of_line_ends_alone_keep_them_whole(tmp_path: Path, text: str) -> None:
    pieces = list(read_pieces([_file(tmp_path / "a", text.encode())], block_bytes=3))
    assert "".join(pieces) == text
    assert not any(a.endswith("\r") and b.startswith("\n") for a, b in pairwise(pieces))


@given(st.text(alphabet="ab'st1.,;! \t\r\n中é\u3000"), st.integers(20, 60))
def test_words_cut_at_spaces_are_the_words_of_the_whole(text: str, size: int) -> None:
    # With a space within every piece, BPE must not see the cuts.
    text = "".join(f"{word[:8]} " for word in text.split(" "))
    text = " ".join(part[i : i + 8] for part in text.split(" ") for i in range(0, len(part) or 1, 8))
    tokenizer = bpe_tokenizer("aa bb 'st ab ... 中中", 270)
    pieces = list(pieces_of(text, size))
    assert "".join(pieces) == text
    ids = [token for piece in pieces for token in tokenizer.encode(piece).tolist()]
    assert ids == tokenizer.encode(text).tolist()


def test_a_byte_order_mark_is_dropped_at_the_start_of_each_file_only(tmp_path: Path) -> None:
    files = [_file(tmp_path / name, "\ufeffone\ufeff\n".encode()) for name in "ab"]
    for block_bytes in (1, 100):
        assert "".join(read_pieces(files, block_bytes)) == "one\ufeff\none\ufeff\n"


def test_files_are_joined_by_a_line_end_where_there_is_none(tmp_path: Path) -> None:
    contents = [b"one", b"", b"two\n", b"three\r", b"four", b""]
    files = [_file(tmp_path / str(number), content) for number, content in enumerate(contents)]
    assert "".join(read_pieces(files)) == "one\ntwo\nthree\rfour"


@given(st.lists(st.text(max_size=5)), st.integers(0, 30))
def test_head_and_tail_share_the_text(pieces: list[str], characters: int) -> None:
    text = "".join(pieces)
    assert "".join(head(pieces, characters)) == text[:characters]
    assert "".join(tail(pieces, characters)) == text[characters:]


@pytest.mark.parametrize("block_bytes", [1, 4, 1000])
@pytest.mark.parametrize(
    ("content", "offset"),
    [
        (b"\xff\xfe", 0),
        ("é".encode() * 9 + b"\xe9 caf", 18),
        (b"\xef\xbb\xbfabc\xc3", 6),
        (b"abcdef\xf0\x9f\xa6", 6),
    ],
)
def test_bytes_that_are_not_utf8_are_named_by_file_and_offset(
    tmp_path: Path, content: bytes, offset: int, block_bytes: int
) -> None:
    file = _file(tmp_path / "old.txt", content)
    with pytest.raises(UnrolledError, match=f"old.txt is not UTF-8 text: byte {offset} .* iconv -f"):
        list(read_pieces([file], block_bytes))


def test_utf16_is_recognised(tmp_path: Path) -> None:
    file = _file(tmp_path / "notepad.txt", "hello".encode("utf-16"))
    with pytest.raises(UnrolledError, match="iconv -f UTF-16 -t UTF-8"):
        list(read_pieces([file]))


def test_nul_bytes_are_text_when_a_file_is_read(tmp_path: Path) -> None:
    assert list(read_pieces([_file(tmp_path / "a", b"a\0b")])) == ["a\0b", ""]

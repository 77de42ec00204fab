"""Stretches of a text that is too large to read: whole lines and characters, in order, from all over it."""

from pathlib import Path

import pytest

from unrolled.text import prepare
from unrolled.text.excerpts import excerpts
from unrolled.text.pieces import read_pieces
from unrolled.text.sources import TextFile

STRETCH = 1 << 18


def numbered(count: int, first: int = 0) -> str:
    return "".join(f"line {number} ünïcödé 字 🙂\n" for number in range(first, first + count))


def written(folder: Path, *texts: str) -> list[TextFile]:
    files = []
    for number, text in enumerate(texts):
        path = folder / f"{number}.txt"
        path.write_bytes(text.encode())
        files.append(TextFile(path, path.name))
    return files


def test_a_text_that_is_small_enough_stays_whole(tmp_path: Path) -> None:
    files = written(tmp_path, numbered(1000), numbered(10))
    assert excerpts(files, float("inf")) == (files, "")
    assert excerpts(files, 1) == (files, "")  # a megabyte is always read whole


@pytest.mark.parametrize("parts", [1, 3, 2000])
def test_stretches_are_lines_from_all_over_the_text(tmp_path: Path, parts: int) -> None:
    lines = 120_000
    files = written(tmp_path, *(numbered(lines // parts, first) for first in range(0, lines, lines // parts)))
    chosen, line = excerpts(files, 5.5 * STRETCH)
    assert "5 stretches" in line and "all but 1 of 4 MB" in line
    text = "".join(read_pieces(chosen))
    assert 4 * STRETCH < len(text.encode()) <= 5 * STRETCH + len(chosen)
    found = [part for part in text.split("\n") if part]
    whole = set(numbered(lines).split("\n"))
    ends = [part for part in found if part not in whole]  # a stretch may end within a line, and goes on elsewhere
    assert len(ends) <= 5 and all(any(w.startswith(end) for w in whole) for end in ends)
    numbers = [int(part.split()[1]) for part in found if part in whole]
    assert numbers == sorted(set(numbers))
    assert numbers[0] == 0 and numbers[-1] > 0.8 * lines


def test_lines_without_end_are_cut_between_characters(tmp_path: Path) -> None:
    files = written(tmp_path, "字" * (2 * STRETCH))
    chosen, _ = excerpts(files, 5 * STRETCH)
    text = "".join(read_pieces(chosen)).replace("\n", "")
    assert set(text) == {"字"} and 5 * STRETCH - 60 < len(text.encode()) <= 5 * STRETCH


def test_a_corpus_is_no_larger_than_what_will_be_read(tmp_path: Path) -> None:
    path = tmp_path / "large.txt"
    path.write_text(numbered(120_000))
    whole, part = prepare(path, tmp_path / "whole"), prepare(path, tmp_path / "part", to_read=400_000)
    assert not whole.skipped and whole.train.bytes + whole.validation.bytes == path.stat().st_size
    assert part.train.bytes + part.validation.bytes <= 4 * 400_000 + 10
    characters = part.train.characters + part.validation.characters
    assert part.train.characters == int(0.9 * characters)  # the end is kept, as of a whole text
    (line,) = part.skipped
    assert "stretches from all over the text" in line
    assert prepare(path, tmp_path / "part", to_read=400_000).fingerprint == part.fingerprint


def test_text_to_judge_by_is_bounded_too(tmp_path: Path) -> None:
    (small,) = written(tmp_path, numbered(1000))
    (tmp_path / "judge.txt").write_text(numbered(120_000))
    corpus = prepare(small.path, tmp_path / "c", validation=tmp_path / "judge.txt", to_read=1_000_000)
    assert corpus.train.bytes == small.path.stat().st_size
    assert corpus.validation.bytes <= 4 * STRETCH + 10

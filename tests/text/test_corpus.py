import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from unrolled.errors import UnrolledError
from unrolled.text import Corpus, Tokenizer, byte_tokenizer, character_tokenizer, prepare

TEXT = "First line, 第一行\r\nsecond — line 🦊\n" * 40


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode())
    return path


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.mark.parametrize("kind", ["characters", "bytes", "bpe:300"])
def test_the_first_nine_tenths_of_the_characters_train_and_the_rest_validates(
    source: Path, out: Path, kind: str
) -> None:
    corpus = prepare(source, out, tokenizer=kind)
    train, validation = TEXT[: int(len(TEXT) * 0.9)], TEXT[int(len(TEXT) * 0.9) :]
    for part, text in ((corpus.train, train), (corpus.validation, validation)):
        assert corpus.tokenizer.decode(part.ids) == text
        assert (part.characters, part.bytes) == (len(text), len(text.encode()))
        assert part.ids.dtype == np.uint16
    assert isinstance(corpus.train.ids, np.memmap)


def test_the_split_of_tiny_shakespeare_is_the_one_others_report() -> None:
    assert int(1_115_394 * (1 - 0.1)) == 1_003_854


def test_the_vocabulary_is_learned_from_the_training_part_alone(tmp_path: Path, out: Path) -> None:
    (tmp_path / "text.txt").write_text("ab" * 450 + "z" * 100)
    corpus = prepare(tmp_path / "text.txt", out)
    assert corpus.tokenizer.to_json() == character_tokenizer("ab").to_json()
    assert corpus.tokenizer.decode(corpus.validation.ids) == "z" * 100


def test_validation_may_have_files_of_its_own(source: Path, tmp_path: Path, out: Path) -> None:
    (tmp_path / "judge.txt").write_text("judge", encoding="utf-8")
    corpus = prepare(source, out, validation=tmp_path / "judge.txt")
    assert corpus.tokenizer.decode(corpus.train.ids) == TEXT
    assert corpus.tokenizer.decode(corpus.validation.ids) == "judge"


def test_validation_may_be_left_out(source: Path, out: Path) -> None:
    corpus = prepare(source, out, validation=0)
    assert corpus.train.characters == len(TEXT)
    assert (len(corpus.validation.ids), corpus.validation.bytes) == (0, 0)


def test_more_than_65536_tokens_are_stored_in_32_bits(source: Path, out: Path) -> None:
    library = json.loads(byte_tokenizer().to_json())
    library["model"]["vocab"] |= {f"unused {i}": i for i in range(256, 0x10001)}
    corpus = prepare(source, out, tokenizer=Tokenizer.from_json(json.dumps(library)))
    assert corpus.train.ids.dtype == np.uint32
    assert corpus.tokenizer.decode(corpus.train.ids) == TEXT[: corpus.train.characters]


def test_standard_input_gives_what_the_file_gives(
    source: Path, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(TEXT.encode())))
    typed = prepare("-", out)
    assert typed.fingerprint == prepare(source, tmp_path / "other").fingerprint
    assert sorted(path.name for path in out.iterdir()) == [
        "corpus.json",
        "tokenizer.json",
        "train.bin",
        "validation.bin",
    ]


def test_skipped_files_are_told_now_and_later(tmp_path: Path, out: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text(TEXT, encoding="utf-8")
    (folder / "b.bin").write_bytes(b"\0")
    told = (f"{folder / 'b.bin'} (binary: it holds NUL bytes)",)
    assert prepare(folder, out).skipped == told
    assert Corpus.open(out).skipped == told


def test_the_same_request_reuses_the_files(source: Path, out: Path) -> None:
    first = prepare(source, out)
    os.utime(out / "train.bin", (1, 1))
    again = prepare(source, out, tokenizer="characters")
    assert (out / "train.bin").stat().st_mtime == 1
    assert again.fingerprint == first.fingerprint == Corpus.open(out).fingerprint


def test_another_text_split_or_tokenizer_is_prepared_anew(source: Path, out: Path) -> None:
    fingerprints = [
        prepare(source, out).fingerprint,
        prepare(source, out, validation=0.2).fingerprint,
        prepare(source, out, tokenizer="bytes").fingerprint,
    ]
    source.write_bytes(TEXT.replace("First", "Furst").encode())
    fingerprints.append(prepare(source, out, tokenizer="bytes").fingerprint)
    assert len(set(fingerprints)) == 4


def test_an_interrupted_preparation_is_not_taken_for_a_finished_one(
    source: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = prepare(source, out, tokenizer="bytes")
    with monkeypatch.context() as patch:
        patch.setattr("unrolled.text.preparation.VALIDATION", "missing folder/validation.bin")
        with pytest.raises(UnrolledError, match="Cannot write"):
            prepare(source, out, tokenizer="characters")
    with pytest.raises(UnrolledError, match=r"no finished corpus in .* Prepare it again"):
        Corpus.open(out)
    assert prepare(source, out, tokenizer="bytes").fingerprint == finished.fingerprint


@pytest.mark.parametrize("name", ["train.bin", "validation.bin"])
def test_files_of_another_size_are_damaged(source: Path, out: Path, name: str) -> None:
    prepare(source, out)
    os.truncate(out / name, 10)
    with pytest.raises(UnrolledError, match=rf"{name} is damaged: it has 10 bytes where \d+ were written"):
        Corpus.open(out)


@pytest.mark.parametrize("name", ["train.bin", "tokenizer.json"])
def test_a_missing_file_is_damage(source: Path, out: Path, name: str) -> None:
    prepare(source, out)
    (out / name).unlink()
    with pytest.raises(UnrolledError, match=f"{name} is damaged: No such file .* Delete .*corpus.json and prepare"):
        Corpus.open(out)


@pytest.mark.parametrize("mark", ["", "[]", '{"format": 0}'])
def test_a_mark_of_another_kind_is_no_finished_corpus(out: Path, mark: str) -> None:
    out.mkdir()
    (out / "corpus.json").write_text(mark)
    with pytest.raises(UnrolledError, match="no finished corpus"):
        Corpus.open(out)


def test_an_empty_text(tmp_path: Path, out: Path) -> None:
    (tmp_path / "empty.txt").write_bytes(b"\xef\xbb\xbf")
    with pytest.raises(UnrolledError, match=r"no text to read: .*empty\.txt is empty"):
        prepare(tmp_path / "empty.txt", out)
    with pytest.raises(UnrolledError, match="no text to read: each of the 2 files is empty"):
        prepare([tmp_path / "empty.txt"] * 2, out)


def test_a_text_too_short_to_train_on(tmp_path: Path, out: Path) -> None:
    (tmp_path / "short.txt").write_text("x" * 200)
    with pytest.raises(UnrolledError, match="its training part gives 180 tokens, and at least 256 are needed"):
        prepare(tmp_path / "short.txt", out)


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, float("nan")])
def test_a_share_outside_its_range(source: Path, out: Path, share: float) -> None:
    with pytest.raises(UnrolledError, match=f"validation share is {share}. It must be 0 or more and below 1"):
        prepare(source, out, validation=share)


def test_a_misspelt_tokenizer_is_refused_before_the_text_is_read(tmp_path: Path, out: Path) -> None:
    with pytest.raises(UnrolledError, match="no tokenizer 'chars'"):
        prepare(tmp_path / "nowhere.txt", out, tokenizer="chars")


def test_a_corpus_cannot_be_written_into_a_file(source: Path) -> None:
    with pytest.raises(UnrolledError, match=r"Cannot write into .*text\.txt: File exists"):
        prepare(source, source)


def test_a_text_that_grows_while_it_is_read(source: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def learn_slowly(*_: object) -> Tokenizer:
        with source.open("a") as file:
            file.write("more")
        return byte_tokenizer()

    monkeypatch.setattr("unrolled.text.preparation.make_tokenizer", learn_slowly)
    with pytest.raises(UnrolledError, match="changed while it was read"):
        prepare(source, out)

import io
import os
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from unrolled.errors import UnrolledError
from unrolled.text.sources import Sources, find_files


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    folder = tmp_path / "out" / "spool"
    folder.mkdir(parents=True)
    return folder


def _write(path: Path, content: bytes = b"text") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def _find(sources: Sources, spool: Path) -> tuple[list[str], list[str]]:
    files, skipped = find_files(sources, spool, leave_out=spool.parent)
    return [file.name for file in files], skipped


def test_a_folder_stands_for_its_text_files_in_the_order_of_their_paths(tmp_path: Path, spool: Path) -> None:
    texts = [_write(tmp_path / "texts" / name) for name in ("a.txt", "b/c/deep.md", "b.txt", "z")]
    _write(tmp_path / "texts" / ".hidden")
    _write(tmp_path / "texts" / ".git" / "config")
    picture = _write(tmp_path / "texts" / "b" / "picture.png", b"\x89PNG\0")
    names, skipped = _find(tmp_path / "texts", spool)
    assert names == [str(path) for path in sorted(texts)]
    assert skipped == [f"{picture} (binary: it holds NUL bytes)"]


def test_sources_keep_the_order_they_were_given_in(tmp_path: Path, spool: Path) -> None:
    b, a = _write(tmp_path / "b.txt"), _write(tmp_path / "a.txt")
    assert _find([b, str(a)], spool)[0] == [str(b), str(a)]


def test_the_folder_of_the_corpus_is_no_source(tmp_path: Path, spool: Path) -> None:
    text = _write(tmp_path / "text.txt")
    _write(spool.parent / "tokenizer.json")
    assert _find(str(tmp_path), spool)[0] == [str(text)]
    with pytest.raises(UnrolledError, match="cannot hold both the text and the corpus"):
        _find(spool.parent, spool)


def test_a_binary_file_named_by_itself_is_taken(tmp_path: Path, spool: Path) -> None:
    names, skipped = _find(_write(tmp_path / "nul", b"a\0b"), spool)
    assert (names, skipped) == ([str(tmp_path / "nul")], [])


def test_standard_input_is_kept_to_be_read_twice(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"typed\r\n")))
    files, _ = find_files("-", spool, leave_out=spool.parent)
    assert [(file.name, file.path.read_bytes()) for file in files] == [("standard input", b"typed\r\n")]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_kept_to_be_read_twice(tmp_path: Path, spool: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"piped",))
    writer.start()
    files, _ = find_files([pipe], spool, leave_out=spool.parent)
    writer.join()
    assert [(file.name, file.path.read_bytes()) for file in files] == [(str(pipe), b"piped")]


def test_a_full_disk_while_keeping_standard_input(spool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(UnrolledError, match=r"Cannot keep a copy of standard input in .*: No space left on device"):
        find_files("-", spool, leave_out=spool.parent)


def test_no_source_at_all(spool: Path) -> None:
    with pytest.raises(UnrolledError, match=r"No text was given\. Name at least one file, a folder, or -"):
        _find([], spool)


def test_a_missing_file(tmp_path: Path, spool: Path) -> None:
    with pytest.raises(UnrolledError, match=r"no file or folder .*nowhere\.txt\. Check the spelling"):
        _find([tmp_path / "nowhere.txt"], spool)


def test_a_folder_without_text(tmp_path: Path, spool: Path) -> None:
    _write(tmp_path / "pictures" / "a.png", b"\0")
    with pytest.raises(UnrolledError, match=r"pictures holds no text files \(1 binary skipped"):
        _find(tmp_path / "pictures", spool)


def test_a_link_to_itself_cannot_be_read(tmp_path: Path, spool: Path) -> None:
    loop = tmp_path / "loop.txt"
    loop.symlink_to(loop)
    with pytest.raises(UnrolledError, match=r"Cannot read .*loop\.txt: .*symbolic links"):
        _find([loop], spool)


def test_a_file_in_a_folder_that_may_not_be_opened(
    tmp_path: Path, spool: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write(tmp_path / "texts" / "secret.txt")

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    # File modes do not stop an administrator, who may well be running the tests.
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UnrolledError, match=r"Cannot read .*secret\.txt: Permission denied\. Check its permissions"):
        _find(tmp_path / "texts", spool)

import errno
import os
import re
import resource
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from unrolled import UnrolledError
from unrolled.files import replacing, save_tensors


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file with the content "old", alone in its folder."""
    path = tmp_path / "model.bin"
    path.write_bytes(b"old")
    return path


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a disk that is full: the system refuses to write beyond `size` bytes a file."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_is_replaced_only_when_all_is_written(path: Path) -> None:
    with replacing(str(path)) as temporary:
        temporary.write_bytes(b"new")
        assert path.read_bytes() == b"old"
        assert temporary.parent == path.parent  # another folder may be another disk, where moving is copying
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]


def test_a_writer_that_fails_leaves_the_old_file_and_nothing_else(path: Path) -> None:
    with pytest.raises(KeyError, match="what went wrong"), replacing(path) as temporary:
        temporary.write_bytes(b"half")
        raise KeyError("what went wrong")
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_meet_and_the_last_one_wins(path: Path) -> None:
    with replacing(path) as first:
        first.write_bytes(b"first")
        with replacing(path) as second:
            second.write_bytes(b"second")
        assert path.read_bytes() == b"second"
    assert path.read_bytes() == b"first"
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_the_permissions_follow_the_umask_whoever_writes(path: Path, umask: int) -> None:
    tensors = path.with_name("tensors.safetensors")
    before = os.umask(umask)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(b"new")
        save_tensors(tensors, {"a": torch.zeros(3)}, {})
    finally:
        os.umask(before)
    assert [file.stat().st_mode & 0o777 for file in (path, tensors)] == [0o666 & ~umask] * 2


def test_a_full_disk_leaves_the_old_file_and_says_what_to_do(path: Path) -> None:
    message = f"Cannot write {path}: {os.strerror(errno.EFBIG)}; make room or choose another folder."
    with (
        pytest.raises(UnrolledError, match=f"^{re.escape(message)}$"),
        files_of_at_most(1000),
        replacing(path) as temporary,
    ):
        temporary.write_bytes(bytes(2000))
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_full_disk_is_reported_for_tensors_too(path: Path) -> None:
    with pytest.raises(UnrolledError, match=r"^Cannot write .*File too large.*; make room or"), files_of_at_most(1000):
        save_tensors(path, {"a": torch.zeros(1000)}, {})
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


WRITES_HALF = """
import sys, time
from unrolled.files import replacing
with replacing(sys.argv[1]) as temporary, temporary.open("wb") as file:
    file.write(bytes(100_000))
    file.flush()
    print("half", flush=True)
    time.sleep(60)
"""


def test_a_writer_killed_half_way_leaves_the_old_file_and_does_not_block_the_next(path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WRITES_HALF, str(path)], stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "half\n"
        writer.kill()
        assert writer.wait() == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert [file for file in path.parent.iterdir() if not file.name.startswith(".")] == [path]
    with replacing(path) as temporary:
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", "Cannot write {path}: it is a folder; name a file in it."),
        ("no/model", "Cannot write {path}: there is no folder {path.parent}; make it or choose another."),
        ("model.bin/model", "Cannot write {path}: there is no folder {path.parent}; make it or choose another."),
        ("a" * 300, "Cannot write {path}: File name too long; make room or choose another folder."),
    ],
    ids=["folder", "missing folder", "file as folder", "long name"],
)
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_made(path: Path, name: str, message: str) -> None:
    place = path.parent / name
    with pytest.raises(UnrolledError, match=f"^{re.escape(message.format(path=place))}$"), replacing(place):
        pytest.fail("the block must not run")
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("mode", [0o000, 0o555], ids=["not to be entered", "not to be written"])
def test_a_folder_without_permission_is_named(mode: int) -> None:
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:  # not tmp_path, whose parents let nobody else in
        Path(folder).chmod(mode)
        try:
            if user == 0:  # root may write everywhere, so the test becomes nobody
                os.seteuid(65534)
            message = rf"^Cannot write {folder}/model: Permission denied; make room or"
            with pytest.raises(UnrolledError, match=message), replacing(Path(folder, "model")):
                pytest.fail("the block must not run")
        finally:
            os.seteuid(user)
            Path(folder).chmod(0o700)


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    # Where nothing sorts them, ten names come in the same order twice once in 3.6 million times.
    metadata = {f"name {n}": f"größe \n {n} 😀" for n in range(10)}
    for name in ("one", "two"):
        save_tensors(tmp_path / name, {"w": torch.arange(3.0)}, metadata)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    with safe_open(tmp_path / "one", framework="pt") as file:
        assert {k: v for k, v in file.metadata().items() if k != "checksum"} == metadata
        assert torch.equal(file.get_tensor("w"), torch.arange(3.0))

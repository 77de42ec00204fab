"""Which files a text comes from: files, folders and standard input."""

import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

from unrolled.errors import UnrolledError

# As git does it: a file with a NUL byte this early is no text.
_SNIFFED_BYTES = 8192


Sources: TypeAlias = str | Path | Sequence[str | Path]


@dataclass(frozen=True)
class TextFile:
    """A file to read, and what to call it in a message; of a large one, perhaps the lines from one byte to another."""

    path: Path
    name: str
    start: int = 0
    stop: int | None = None


def find_files(sources: Sources, spool: Path, leave_out: Path) -> tuple[list[TextFile], list[str]]:
    """The files of `sources` in a fixed order, and a line for each file of a folder that was skipped.

    A folder stands for all files under it, in the order of their paths, without hidden files and folders, the
    folder `leave_out`, and binary files (a NUL byte near the start). "-" is standard input; it and pipes are
    copied into the folder `spool`, because a text is read more than once.

    Errors: `UnrolledError` for no source, a missing or unreadable one, a folder without text files or equal
    to `leave_out`.
    """
    sources = [sources] if isinstance(sources, (str, Path)) else sources
    if not sources:
        raise UnrolledError("No text was given. Name at least one file, a folder, or - for standard input.")
    files: list[TextFile] = []
    skipped: list[str] = []
    for source in map(str, sources):
        if source == "-":
            files.append(_spool(sys.stdin.buffer, spool, "standard input"))
            continue
        path = Path(source)
        mode = _mode(path)
        if stat.S_ISDIR(mode):
            found = _text_files(path, leave_out.resolve(), skipped)
            files += [TextFile(file, str(file)) for file in found]
        elif stat.S_ISREG(mode):
            files.append(TextFile(path, source))
        else:
            with open_to_read(path, source) as pipe:
                files.append(_spool(pipe, spool, source))
    return files, skipped


def open_to_read(path: Path, name: str) -> BinaryIO:
    """Opens a file for reading bytes; `UnrolledError` if the system refuses."""
    try:
        return path.open("rb")
    except OSError as error:
        raise unreadable(name, error) from None


def unreadable(name: str, error: OSError) -> UnrolledError:
    """The error for a file that is there but cannot be read."""
    return UnrolledError(f"Cannot read {name}: {error.strerror}. Check its permissions, or copy it elsewhere.")


def _mode(path: Path) -> int:
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        raise UnrolledError(f"There is no file or folder {path}. Check the spelling, or give the full path.") from None
    except OSError as error:
        raise unreadable(str(path), error) from None


def _spool(stream: BinaryIO, folder: Path, name: str) -> TextFile:
    try:
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as copy:
            shutil.copyfileobj(stream, copy)
    except OSError as error:
        raise UnrolledError(
            f"Cannot keep a copy of {name} in {folder.parent}: {error.strerror}. Make room there."
        ) from None
    return TextFile(Path(copy.name), name)


def _text_files(folder: Path, leave_out: Path, skipped: list[str]) -> list[Path]:
    if folder.resolve() == leave_out:
        raise UnrolledError(f"The folder {folder} cannot hold both the text and the corpus. Choose another for one.")
    skipped_before = len(skipped)
    found = []
    try:
        paths = sorted(_visible_files(folder, leave_out))
    except OSError as error:
        raise unreadable(str(error.filename), error) from None
    for path in paths:
        with open_to_read(path, str(path)) as file:
            binary = b"\0" in file.read(_SNIFFED_BYTES)
        if binary:
            skipped.append(f"{path} (binary: it holds NUL bytes)")
        else:
            found.append(path)
    if not found:
        count = len(skipped) - skipped_before
        raise UnrolledError(
            f"The folder {folder} holds no text files ({count} binary skipped, hidden ones not looked at). "
            "Name a folder with UTF-8 text files."
        )
    return found


def _visible_files(folder: Path, leave_out: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise error

    for parent, folders, names in os.walk(folder, onerror=refuse):
        here = Path(parent)
        folders[:] = [name for name in folders if name[0] != "." and (here / name).resolve() != leave_out]
        yield from (here / name for name in names if name[0] != "." and (here / name).is_file())

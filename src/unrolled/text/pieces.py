"""Files to text, a piece at a time, so that a text may be larger than memory."""

from codecs import BOM_UTF16_BE, BOM_UTF16_LE, getincrementaldecoder
from collections.abc import Iterable, Iterator
from typing import BinaryIO

from unrolled.errors import UnrolledError
from unrolled.text.cut import cut
from unrolled.text.sources import TextFile, open_to_read, unreadable

_BLOCK_BYTES = 1 << 18
_LONG_LINE = 1 << 14


def read_pieces(files: Iterable[TextFile], block_bytes: int = _BLOCK_BYTES) -> Iterator[str]:
    r"""The text of `files` one after the other, in pieces of about `block_bytes` bytes.

    Pieces end where `cut` allows. Line ends stay as they are; a byte order mark at the start of a file is
    dropped. A file that does not end with a line end gets a "\n" if another one follows, so that no word is
    made of two files.

    Errors: `UnrolledError` if a file is not UTF-8 or cannot be read.
    """
    held = ""
    last = "\n"
    for file in files:
        joint = "" if last in "\r\n" else "\n"
        for text in _decode(file, block_bytes):
            held += joint + text
            joint = ""
            last = text[-1]
            length = cut(held)
            yield held[:length]
            held = held[length:]
    yield held


def head(pieces: Iterable[str], characters: int) -> Iterator[str]:
    """The first `characters` characters of `pieces`."""
    for piece in pieces:
        yield piece[:characters]
        characters -= len(piece)
        if characters <= 0:
            return


def tail(pieces: Iterable[str], characters: int) -> Iterator[str]:
    """What follows the first `characters` characters of `pieces`."""
    for piece in pieces:
        yield piece[max(characters, 0) :]
        characters -= len(piece)


def _decode(file: TextFile, block_bytes: int) -> Iterator[str]:
    """The text of one file; strict UTF-8, and never an empty piece."""
    decoder = getincrementaldecoder("utf-8")()
    with open_to_read(file.path, file.name) as stream:
        try:
            position = _next_line(stream, file.start) if file.start else 0
        except OSError as error:
            raise unreadable(file.name, error) from None
        while True:
            wanted = block_bytes if file.stop is None else max(0, min(block_bytes, file.stop - position))
            try:
                block = stream.read(wanted)
            except OSError as error:
                raise unreadable(file.name, error) from None
            begun = len(decoder.getstate()[0])
            try:
                text = decoder.decode(block, final=not block and file.stop is None)
            except UnicodeDecodeError as error:
                raise _not_utf8(file, position - begun + error.start, error.object) from None
            if position - begun == 0 and text:
                text = text.removeprefix("\ufeff")
            position += len(block)
            if text:
                yield text
            if not block:
                return


def _next_line(stream: BinaryIO, start: int) -> int:
    """Goes to the first line that begins after byte `start`, or character if lines are long; returns its place."""
    stream.seek(start)
    line = stream.readline(_LONG_LINE)
    if line.endswith(b"\n"):
        return start + len(line)
    rest_of_character = len(line) - len(line.lstrip(bytes(range(0x80, 0xC0))))
    return stream.seek(start + rest_of_character)


def _not_utf8(file: TextFile, offset: int, start: bytes) -> UnrolledError:
    utf16 = offset == 0 and start.startswith((BOM_UTF16_LE, BOM_UTF16_BE))
    encoding = "UTF-16" if utf16 else "ISO-8859-1"
    return UnrolledError(
        f"{file.name} is not UTF-8 text: byte {offset} does not fit. Re-encode it, "
        f"e.g. iconv -f {encoding} -t UTF-8 OLD > NEW, or leave it out."
    )

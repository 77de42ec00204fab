"""Where a long text may be cut so that its pieces tokenize like the whole."""

from collections.abc import Iterator


def cut(text: str) -> int:
    r"""The position of the last safe cut in `text`, in characters.

    Safe is between a visible character and the white space after it: byte-level BPE starts a new word
    there whatever follows, and "\r\n" stays whole. A text with no such place is cut at its end, except
    that a last "\r" is kept back, since a "\n" may follow it.

    >>> cut("two words here"), cut("unbroken"), cut("ended\r\n")
    (9, 8, 5)
    """
    last = max(text.rfind(" "), text.rfind("\n"))
    border = len(text[: last + 1].rstrip(" \t\r\n"))
    return border or len(text) - text.endswith("\r")


def pieces_of(text: str, size: int) -> Iterator[str]:
    """`text` cut into pieces of about `size` characters at safe places; joined, they are `text` again."""
    start = 0
    while len(text) - start > size:
        length = cut(text[start : start + size]) or size
        yield text[start : start + length]
        start += length
    yield text[start:]

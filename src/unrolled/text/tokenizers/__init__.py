"""The tokenizers. To add one, write its file beside this one and give it a row in `TOKENIZERS`."""

import math
from collections.abc import Callable, Iterable
from itertools import islice

from unrolled.errors import UnrolledError
from unrolled.text.tokenizers.bpe import bpe_tokenizer
from unrolled.text.tokenizers.characters import byte_tokenizer, character_tokenizer
from unrolled.text.tokenizers.streaming import StreamDecoder
from unrolled.text.tokenizers.tokenizer import Tokenizer

__all__ = [
    "TOKENIZERS",
    "StreamDecoder",
    "Tokenizer",
    "bpe_tokenizer",
    "byte_tokenizer",
    "character_tokenizer",
    "make_tokenizer",
    "resolve_kind",
]

# name -> how to learn it from (texts, size), where size is the number after the colon in "name:size".
TOKENIZERS: dict[str, Callable[[Iterable[str], int | None], Tokenizer]] = {
    "characters": lambda texts, size: character_tokenizer(texts, size or 8192),
    "bpe": lambda texts, size: bpe_tokenizer(texts, size or 8000),
    "bytes": lambda _texts, _size: byte_tokenizer(),
}
_WITHOUT_SIZE = {"bytes"}

# Byte pairs make the most of the time, characters of a text that is read again and again (docs/recipe.md).
_PASSES_FOR_CHARACTERS = 128.0
_LARGEST_TEXT_FOR_CHARACTERS = 20_000_000
# A character of more bytes than this on average, as in Chinese, says about as much as a token of BPE.
_BYTES_OF_A_FULL_CHARACTER = 1.5

# Learning BPE keeps every distinct word in memory, so of a larger text only evenly spaced pieces are read.
_LARGEST_TEXT_TO_LEARN_BPE = 500_000_000


def resolve_kind(kind: str, text_bytes: int, characters: int, to_read: float = math.inf) -> str:
    """The kind of tokenizer by name, with "auto" replaced by the choice for a text of these sizes.

    "auto" is "characters" for a text up to 20 MB of which a training that reads `to_read` tokens sees every character
    at least 128 times, and for scripts like Chinese; else "bpe:N", where N grows with the text.

    Errors: `UnrolledError` for an unknown name, a size that is not a positive number, a size for "bytes".
    """
    if kind == "auto":
        full = text_bytes > _BYTES_OF_A_FULL_CHARACTER * characters
        often = full or to_read >= _PASSES_FOR_CHARACTERS * characters
        if text_bytes <= _LARGEST_TEXT_FOR_CHARACTERS and often:
            return "characters"
        return f"bpe:{min(8000, max(384, round(512 * math.sqrt(characters / 1e6))))}"
    name, colon, size = kind.partition(":")
    if name not in TOKENIZERS:
        names = ", ".join(["auto", *TOKENIZERS])
        raise UnrolledError(f"There is no tokenizer {name!r}. Choose one of: {names} (with a size: bpe:4000).")
    if colon and name in _WITHOUT_SIZE:
        raise UnrolledError(f"The tokenizer {name!r} has a fixed size, but {kind!r} came. Write {name!r}.")
    if colon and not (size.isascii() and size.isdigit() and int(size) > 0):
        raise UnrolledError(f"The size in the tokenizer {kind!r} is not a whole number above 0. Write {name}:4000.")
    return kind


def make_tokenizer(kind: str, texts: Iterable[str], text_bytes: int) -> Tokenizer:
    """Learns the tokenizer called `kind` from `texts`, read once.

    kind: "characters", "bpe" or "bytes"; "characters:N" keeps the N most frequent characters
    (8192 if not said), "bpe:N" makes a vocabulary of N tokens (8000 if not said).
    text_bytes: about how many bytes of text `texts` yields; decides how much of it BPE reads.

    Errors: as `resolve_kind`; `UnrolledError` if a BPE vocabulary is smaller than 256.

    >>> make_tokenizer("bytes", [], 0).vocabulary_size
    256
    """
    name, _, size = resolve_kind(kind, text_bytes, text_bytes).partition(":")
    if name == "bpe":
        texts = islice(texts, 0, None, 1 + text_bytes // _LARGEST_TEXT_TO_LEARN_BPE)
    return TOKENIZERS[name](texts, int(size) if size else None)

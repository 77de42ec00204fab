"""Character-level tokenizers with byte fallback: one token a character, bytes for what was never seen."""

from collections.abc import Iterable

import numpy as np
from tokenizers import Tokenizer as HuggingFaceTokenizer
from tokenizers.decoders import ByteFallback, Fuse
from tokenizers.decoders import Sequence as DecoderSequence
from tokenizers.models import BPE

from unrolled.errors import UnrolledError
from unrolled.text.tokenizers.tokenizer import Tokenizer


def character_tokenizer(texts: str | Iterable[str], largest: int = 8192) -> Tokenizer:
    """One token for each character in `texts`, then the byte tokens that other characters need.

    Characters have the ids from 0 on in the order of their code points; byte tokens follow, so the ids that
    never occur in the text it was learned from are the last ones. Above `largest` different characters the
    rarest are left to their bytes (of equally rare ones those with the higher code point).

    Errors: `UnrolledError` if `largest` is below 1.

    >>> tokenizer = character_tokenizer("hello")
    >>> tokenizer.encode("hole").tolist(), tokenizer.decode(tokenizer.encode("Héllo ☃"))
    ([1, 3, 2, 0], 'Héllo ☃')
    """
    if largest < 1:
        raise UnrolledError(f"A character tokenizer needs room for at least 1 character, but {largest} came.")
    counts = np.zeros(0x110000, np.int64)
    for text in [texts] if isinstance(texts, str) else texts:
        counts += np.bincount(np.frombuffer(text.encode("utf-32-le"), "<u4"), minlength=len(counts))
    points = np.flatnonzero(counts)
    frequent = points[np.argsort(-counts[points], kind="stable")[:largest]]
    return _with_byte_fallback([chr(point) for point in np.sort(frequent)], _needed_bytes(frequent))


def byte_tokenizer() -> Tokenizer:
    """Raw UTF-8 bytes: 256 tokens, and the id is the byte. Nothing is learned."""
    return _with_byte_fallback([], range(256))


def _needed_bytes(points: np.ndarray) -> list[int]:
    """The bytes that can occur in the UTF-8 of a character outside `points`.

    The bytes C0, C1 and F5 to FF never do; an ASCII byte only as the character itself.
    """
    never = {0xC0, 0xC1, *(int(point) for point in points if point < 0x80)}
    return [byte for byte in range(0xF5) if byte not in never]


def _with_byte_fallback(characters: list[str], byte_values: Iterable[int]) -> Tokenizer:
    tokens = characters + [f"<0x{byte:02X}>" for byte in byte_values]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    # BPE without merges: the one model of the library that knows byte fallback, and linear in the text.
    tokenizer = HuggingFaceTokenizer(BPE(vocab=vocabulary, merges=[], byte_fallback=True))
    tokenizer.decoder = DecoderSequence([ByteFallback(), Fuse()])
    return Tokenizer(tokenizer)

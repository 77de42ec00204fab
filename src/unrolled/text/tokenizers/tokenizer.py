"""Text to token ids and back without losing a byte, around a Hugging Face `tokenizers` object."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import tokenizers as huggingface
from numpy.typing import NDArray

from unrolled.errors import UnrolledError
from unrolled.text.cut import pieces_of
from unrolled.text.tokenizers.character_table import character_table
from unrolled.text.tokenizers.token_bytes import bytes_of_tokens

# Pieces this long (in characters), so many at a time, are encoded side by side on all cores.
_PIECE, _BATCH = 16_384, 16


class Tokenizer:
    """Text to token ids and back; any Unicode text comes back exactly.

    >>> from unrolled.text import byte_tokenizer
    >>> byte_tokenizer().encode("né").tolist(), byte_tokenizer().decode([110, 195, 169])
    ([110, 195, 169], 'né')
    """

    def __init__(self, tokenizer: huggingface.Tokenizer) -> None:
        """Takes over `tokenizer`; `UnrolledError` unless its tokens stand for exact bytes."""
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._bytes = bytes_of_tokens(tokenizer)
        self._table = character_table(tokenizer)
        self.byte_lengths: NDArray[np.int64] = np.array([len(token) for token in self._bytes], np.int64)
        """(vocabulary,): how many bytes of text each token stands for, for losses in bits per byte."""

    @classmethod
    def from_json(cls, text: str) -> "Tokenizer":
        """Reads the content of a `tokenizer.json`; `UnrolledError` if it is damaged or not byte-exact."""
        try:
            tokenizer = huggingface.Tokenizer.from_str(text)
        except Exception as error:  # the library raises bare Exception for whatever it cannot parse
            raise UnrolledError(
                f"This is not a tokenizer.json of the Hugging Face tokenizers library ({error}). "
                "The file is damaged or of another kind; take it from its source again."
            ) from None
        return cls(tokenizer)

    def to_json(self) -> str:
        """The content of a `tokenizer.json`, readable by every Hugging Face tool."""
        return self._tokenizer.to_str()

    @property
    def vocabulary_size(self) -> int:
        """The number of tokens; ids run from 0 to one below it."""
        return len(self._bytes)

    def encode(self, text: str) -> NDArray[np.int64]:
        """The token ids of `text`, shape (tokens,).

        Errors: `UnrolledError` if `text` holds half of a surrogate pair, which is no Unicode text.
        """
        return np.concatenate(list(self.encode_parts(text)))

    def encode_parts(self, text: str) -> Iterator[NDArray[np.int64]]:
        """The same, a part after the other, in memory that does not grow with the text. Errors as there, at once."""
        _check_unicode(text)
        pieces = pieces_of(text, _PIECE)
        if self._table is not None:
            return map(self._table.encode, pieces)
        return self._encode_batches(pieces)

    def _encode_batches(self, pieces: Iterator[str]) -> Iterator[NDArray[np.int64]]:
        while batch := list(islice(pieces, _BATCH)):
            for piece in self._tokenizer.encode_batch_fast(batch, add_special_tokens=False):
                yield np.array(piece.ids, np.int64)

    def decode(self, ids: Sequence[int] | NDArray[np.integer]) -> str:
        """The text of `ids`; bytes that are not UTF-8 become U+FFFD, as in `bytes.decode(errors="replace")`.

        Errors: `UnrolledError` if an id is not in the vocabulary.
        """
        return b"".join(self.token_bytes(int(token)) for token in ids).decode("utf-8", errors="replace")

    def token_bytes(self, token: int) -> bytes:
        """The exact UTF-8 bytes that the id `token` stands for; they may be a part of a character.

        Errors: `UnrolledError` if the id is not in the vocabulary.
        """
        if not 0 <= token < len(self._bytes):
            raise UnrolledError(
                f"There is no token {token}: ids run from 0 to {len(self._bytes) - 1}. "
                "The ids come from another tokenizer; use the one they were made with."
            )
        return self._bytes[token]


def _check_unicode(text: str) -> None:
    first = 0
    try:
        for first in range(0, len(text), _PIECE):
            text[first : first + _PIECE].encode()
    except UnicodeEncodeError as error:
        place = first + error.start
        raise UnrolledError(
            f"Character {place} of the text is {text[place]!r}, half of a surrogate pair, "
            "which is not valid Unicode. Remove it, or read the text as UTF-8 again."
        ) from None

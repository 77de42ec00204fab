"""Text from tokens as they come, never half a character."""

from codecs import getincrementaldecoder

from unrolled.text.tokenizers.tokenizer import Tokenizer


class StreamDecoder:
    """Turns token ids into text one by one; the pieces joined equal `Tokenizer.decode` of all ids.

    >>> from unrolled.text import byte_tokenizer
    >>> stream = StreamDecoder(byte_tokenizer())
    >>> [stream.push(token) for token in "aé".encode()], stream.flush()
    (['a', '', 'é'], '')
    """

    def __init__(self, tokenizer: Tokenizer, pending: bytes = b"") -> None:
        self._tokenizer = tokenizer
        self._decoder = getincrementaldecoder("utf-8")(errors="replace")
        self._decoder.setstate((pending, 0))

    @property
    def pending(self) -> bytes:
        """The bytes of a character that is not complete yet; with them another decoder goes on from here."""
        return self._decoder.getstate()[0]

    def push(self, token: int) -> str:
        """The characters that `token` completes; "" while one is incomplete.

        Errors: `UnrolledError` if the id is not in the vocabulary.
        """
        return self._decoder.decode(self._tokenizer.token_bytes(token))

    def flush(self) -> str:
        """Ends the text: a character still incomplete becomes U+FFFD. The next push begins a new text."""
        return self._decoder.decode(b"", final=True)

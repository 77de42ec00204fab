"""A text that is being written: tokens in, text out up to its limits or a stop string. Many go on together.

The engine writes a few tokens of all streams in one call. Where a stream ends within them, its state goes back to
where the call began and writes again as many as count, so a state is always exactly behind its text.
"""

from collections.abc import Sequence

from unrolled.engine.decoders import StepDecoder
from unrolled.errors import UnrolledError
from unrolled.generation.choice import finite
from unrolled.generation.state import State
from unrolled.generation.stop_strings import StopStrings
from unrolled.generation.writing import Tokens, write
from unrolled.text import StreamDecoder, Tokenizer


class Stream:
    """One text under way; `Decoder.stream` makes it, `Decoder.advance` goes on with it."""

    def __init__(self, tokenizer: Tokenizer, state: State, characters: int, tokens: int, stop: StopStrings) -> None:
        self.state = state
        """After all text handed out so far."""
        self.finished = False
        """True when a limit or a stop string was reached, or at an error."""
        self.error: UnrolledError | None = None
        """What went wrong, where the model's logits are not finite numbers."""
        self._decoder = StreamDecoder(tokenizer, state.pending)
        self._characters, self._tokens, self._stop = characters, tokens, stop

    def most(self, chunk: int) -> int:
        """How many of `chunk` tokens may still count."""
        return 0 if self.finished else min(chunk, self._tokens, self._characters)

    def begin(self) -> str:
        """The text that is there before any token is written."""
        text, self.state.unread = self._stop.push(self.state.unread), ""
        return self._hand_out(text, 0)

    def accept(self, tokens: Tokens) -> tuple[str, int]:
        """The text of `tokens` that counts, and how many of them it takes."""
        text, used = "", 0
        for token in tokens.tolist():
            text += self._stop.push(self._decoder.push(token))
            used += 1
            if self._stop.found or len(text) >= self._characters:
                break
        self.state.pending = self._decoder.pending
        return self._hand_out(text, used), used

    def _hand_out(self, text: str, used: int) -> str:
        self._tokens -= used
        self.finished = self._stop.found or len(text) >= self._characters or self._tokens == 0
        if self.finished and not self._stop.found:
            text += self._stop.flush()
        piece, self.state.unread = text[: self._characters], text[self._characters :]
        self._characters -= len(piece)
        return piece


def advance(engine: StepDecoder, streams: Sequence[Stream], chunk: int) -> list[str]:
    """The next piece of each stream, of at most `chunk` tokens; "" for one that is finished or within a character."""
    wanted = [stream.most(chunk) for stream in streams]
    before = [stream.state.fork() for stream in streams]
    written = write(engine, [stream.state for stream in streams], wanted)
    pieces: list[str] = []
    again: list[tuple[State, int]] = []
    for stream, count, tokens, start in zip(streams, wanted, written, before, strict=True):
        piece, used = stream.accept(tokens) if count else ("", 0)
        pieces.append(piece)
        if used < len(tokens):
            start.pending, start.unread = stream.state.pending, stream.state.unread
            stream.state.become(start)
            again.append((stream.state, used))
        elif used < count:
            try:
                finite(stream.state.logits)
            except UnrolledError as error:
                stream.finished, stream.error = True, error
    if again:
        write(engine, [state for state, _ in again], [used for _, used in again])
    return pieces

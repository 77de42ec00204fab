"""A model that reads and writes text without torch: its states are values, a token costs the same after a million."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from unrolled.artifact import PRECISIONS, StoredModel, read
from unrolled.engine.decoders import decoder_for
from unrolled.engine.native.decoder import NativeDecoder
from unrolled.engine.native.flat_file import write_flat
from unrolled.engine.step_parts import StepParts
from unrolled.errors import UnrolledError
from unrolled.generation.limits import START, limits
from unrolled.generation.sampling import Sampling
from unrolled.generation.scoring import TokenScore, nats, scores
from unrolled.generation.state import State
from unrolled.generation.stop_strings import StopStrings
from unrolled.generation.stream import Stream, advance
from unrolled.text import Evaluation, Sources, Told, prepare, scored

if TYPE_CHECKING:  # it brings torch
    from unrolled.artifact import TextModel

_DEFAULT_SAMPLING = Sampling()
_LARGEST_CHUNK = 64  # tokens that are handed out together
_PATIENCE = 0.02  # seconds that a reader should wait at most for the next piece
_PROMPT_CHUNK = 4096  # tokens of a prompt that are read between two looks for Ctrl-C


class Decoder:
    """A trained model, ready to generate: `Decoder.load("my.safetensors")`.

    >>> import unrolled
    >>> from unrolled.text import byte_tokenizer
    >>> network = unrolled.LanguageModel(unrolled.cells.gru, 256, embedding_size=8, hidden_size=16)
    >>> model = Decoder.of(unrolled.TextModel(network, byte_tokenizer()))
    >>> state = model.start("Once upon a time")
    >>> other = state.fork()
    >>> "".join(model.generate(state, tokens=9)) == "".join(model.generate(other, tokens=9))
    True
    """

    def __init__(self, model: StoredModel, precision: str | None = None) -> None:
        """`precision`: "float32" or "int8" (twice as fast, a little less exact); if not said, that of the model.

        Raises UnrolledError for another precision, or "float32" for a model that is stored in "int8".
        """
        if precision not in (None, *PRECISIONS) or (precision == "float32" and model.precision == "int8"):
            raise UnrolledError(
                f"the precision {precision!r} is not to be had of a model of precision {model.precision}; "
                f"ask for {' or '.join(PRECISIONS if model.precision == 'float32' else ['int8'])}."
            )
        model = model.quantized() if precision == "int8" else model
        embedding, parameters = model.step.values(model.weights)
        self.tokenizer = model.tokenizer
        """Text to tokens and back."""
        self.hash = model.hash
        """Names the model in its states' files."""
        parts = StepParts(model.step.program, model.step.sizes, parameters, embedding)
        self.engine = decoder_for(parts, int8=model.precision == "int8")
        """What runs the step: tokens and states, no text."""

    @staticmethod
    def load(path: str | Path, precision: str | None = None) -> "Decoder":
        """The model of a file. Raises UnrolledError if it is missing, damaged, foreign or of a later version."""
        return Decoder(read(path), precision)

    @staticmethod
    def of(text_model: "TextModel", precision: str | None = None) -> "Decoder":
        """The model of torch as it is now; training it further does not change this one."""
        return Decoder(StoredModel.of(text_model), precision)

    def start(self, prompt: str = "", sampling: Sampling = _DEFAULT_SAMPLING) -> State:
        """The state after `prompt`; an empty one reads a line end, so the text begins like a line.

        Raises UnrolledError if the prompt is not valid Unicode.
        """
        state = self.fresh()
        state.resample(sampling)
        self._read_text(state, prompt or START)
        return state

    def read(self, state: State, text: str) -> None:
        """Let `state` read `text`; what was generated and not handed out is dropped.

        Raises UnrolledError if the state is another model's or the text is not valid Unicode.
        """
        self.check(state)
        self._read_text(state, text)

    def fresh(self) -> State:
        """The state before any token; it must read some before it can generate."""
        vector = np.zeros(self.engine.state_size, np.float32)
        logits = np.zeros(self.engine.vocabulary_size, np.float32)
        return State(self.hash, vector, logits, np.zeros(0, np.int32))

    def tokens_of(self, prompt: str) -> NDArray[np.int32]:
        """The tokens that `start` reads for `prompt`."""
        return self.tokenizer.encode(prompt or START).astype(np.int32)

    def read_tokens(self, state: State, tokens: NDArray[np.int32]) -> None:
        """As `read`, of tokens."""
        state.unread, state.pending = "", b""
        for first in range(0, len(tokens), _PROMPT_CHUNK):
            part = tokens[first : first + _PROMPT_CHUNK]
            state.logits[:] = self.engine.read([state.vector], part[None])[0]
            state.read(part)

    def _read_text(self, state: State, text: str) -> None:
        for ids in self.tokenizer.encode_parts(text):
            self.read_tokens(state, ids.astype(np.int32))

    def generate(
        self,
        state: State,
        *,
        characters: int | None = None,
        tokens: int | None = None,
        stop: str | Iterable[str] = (),
    ) -> Iterator[str]:
        """The text that follows `state`, in pieces of whole characters; `state` is always behind the last piece.

        characters, tokens, stop: as in `unrolled.generate`. A limit of characters that ends within a token leaves the
        rest of it in the state, for the next call.

        Errors: `UnrolledError` if a limit is out of range, a stop string is empty or the state is another model's;
        while computing, if the model's logits are not finite.
        """
        return self._pieces(self.stream(state, characters=characters, tokens=tokens, stop=stop))

    def stream(
        self,
        state: State,
        *,
        characters: int | None = None,
        tokens: int | None = None,
        stop: str | Iterable[str] = (),
    ) -> Stream:
        """One of many texts that `advance` writes together; arguments and errors as for `generate`."""
        self.check(state)
        most_characters, most_tokens = limits(characters, tokens)
        return Stream(self.tokenizer, state, most_characters, most_tokens, StopStrings(stop))

    def advance(self, streams: Sequence[Stream], tokens: int = 8) -> list[str]:
        """The next piece of each stream, of at most `tokens` tokens; any stream may come or go between two calls.

        The text of a stream is the same whoever is beside it. "" is the piece of one that is `finished` or within a
        character; one whose logits are not finite has an `error`.
        """
        first = [stream.begin() if not stream.finished else "" for stream in streams]
        return [a + b for a, b in zip(first, advance(self.engine, streams, tokens), strict=True)]

    def score(self, text: "str | NDArray[np.integer[Any]]") -> Iterator[TokenScore]:
        """How likely each token of `text` (or of token ids) but the first is after those before it.

        Memory does not grow with the text.
        """
        return scores(self.engine, self.tokenizer, self.tokenizer.encode(text) if isinstance(text, str) else text)

    def evaluate(self, sources: Sources, told: Told | None = None) -> Evaluation:
        """The losses of files and folders, or of "-", standard input, which may be larger than memory.

        They are read in parallel streams, as in training; `told` hears how far it is. Raises UnrolledError for what
        cannot be read, is not UTF-8, or has fewer than two tokens.
        """
        with TemporaryDirectory(prefix="unrolled-") as folder:
            corpus = prepare(sources, folder, tokenizer=self.tokenizer, validation=0.0, fewest_tokens=2)
            ids = corpus.train.ids
            return scored(nats(self.engine, ids, told), ids, self.tokenizer, corpus.train.bytes)

    def load_state(self, path: str | Path) -> State:
        """A state from its file. Raises UnrolledError if it is damaged or belongs to another model."""
        state = State.load(path)
        try:
            self.check(state)
        except UnrolledError as error:
            raise UnrolledError(f"{path}: {error}") from None
        return state

    def export(self, path: str | Path) -> None:
        """Write the model as a flat file for a program in C; see `examples/c/`.

        Raises UnrolledError without the native engine, or if the file cannot be written.
        """
        if not isinstance(self.engine, NativeDecoder):
            raise UnrolledError("a flat file is made by the native engine, which is not built; install unrolled again.")
        tokens = [self.tokenizer.token_bytes(token) for token in range(self.tokenizer.vocabulary_size)]
        write_flat(path, self.engine, tokens)

    def check(self, state: State) -> None:
        """Raises UnrolledError unless `state` belongs to this model."""
        if state.model != self.hash:
            raise UnrolledError(
                f"this state is of another model ({state.model[:12]}, not {self.hash[:12]}); "
                "load that model, or read the text with this one."
            )
        sizes = (len(state.vector), len(state.logits))
        if sizes != (self.engine.state_size, self.engine.vocabulary_size):
            raise UnrolledError(f"the state has sizes {sizes}, which this model has not; it is damaged.")

    def _pieces(self, stream: Stream) -> Iterator[str]:
        chunk = 1
        while not stream.finished:
            begun = perf_counter()
            (piece,) = self.advance([stream], chunk)
            if piece:
                yield piece
            if perf_counter() - begun < _PATIENCE / 2:
                chunk = min(2 * chunk, _LARGEST_CHUNK)
        if stream.error:
            raise stream.error

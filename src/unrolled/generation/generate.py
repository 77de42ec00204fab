"""Text from a trained model, piece by piece as it comes."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from unrolled.generation.choice import choose
from unrolled.generation.limits import START, limits
from unrolled.generation.sampling import Sampling
from unrolled.generation.splitmix import Random
from unrolled.generation.step import step
from unrolled.generation.stop_strings import StopStrings
from unrolled.text import StreamDecoder

if TYPE_CHECKING:  # it brings torch, which only a torch model's step needs
    from unrolled.artifact import TextModel

_DEFAULT_SAMPLING = Sampling()

# Tokens of the prompt that are read at once: enough to keep the matrix products busy, while the logits of a
# vocabulary of 32,000 stay at 32 MB.
_CHUNK = 256


def generate(
    text_model: "TextModel",
    prompt: str = "",
    *,
    characters: int | None = None,
    tokens: int | None = None,
    sampling: Sampling = _DEFAULT_SAMPLING,
    stop: str | Iterable[str] = (),
) -> Iterator[str]:
    r"""The text that follows `prompt`, in pieces of whole characters; the prompt is not repeated.

    Work and memory for a token do not grow with the text before it. Equal models, prompts and samplings give
    equal texts. Computing happens when a piece is asked for, on the device that the model is on, and leaves the
    model as it was.

    prompt: any text; what the model was not trained on is read as bytes. If it is empty the model reads a
        line end first, so the text begins like a line.
    characters, tokens: the text ends at the first limit reached; without any, after 1,000 characters. A
        character that the limit of tokens leaves incomplete is left out.
    stop: strings that end the text and are not part of it; see `StopStrings`. The prompt is not searched.

    Errors: `UnrolledError`, before any computing, if a limit is out of range, a stop string is empty or the
    prompt is not valid Unicode; while computing, if the model's logits are not finite.

    >>> import unrolled
    >>> from unrolled.text import byte_tokenizer
    >>> network = unrolled.LanguageModel(unrolled.cells.gru, 256, embedding_size=8, hidden_size=16)
    >>> untrained = unrolled.TextModel(network, byte_tokenizer())
    >>> len("".join(generate(untrained, "Once upon a time", characters=20)))
    20
    """
    most_characters, most_tokens = limits(characters, tokens)
    prompt_ids = text_model.tokenizer.encode(prompt or START)
    ids = islice(_continue(text_model, prompt_ids, sampling), most_tokens)
    return _text(ids, StreamDecoder(text_model.tokenizer), StopStrings(stop), most_characters)


def _continue(text_model: "TextModel", prompt: NDArray[np.int64], sampling: Sampling) -> Iterator[int]:
    """The token ids after `prompt`, without end."""
    state = None
    for chunk in range(0, len(prompt), _CHUNK):
        logits, state = step(text_model.model, prompt[chunk : chunk + _CHUNK], state)
    recent = deque(prompt[-sampling.repetition_window :].tolist(), maxlen=sampling.repetition_window)
    random = Random(sampling.seed)
    while True:
        token = choose(logits, sampling, recent, random)
        yield token
        recent.append(token)
        logits, state = step(text_model.model, np.array([token]), state)


def _text(ids: Iterable[int], decoder: StreamDecoder, stop: StopStrings, characters: int) -> Iterator[str]:
    """The first `characters` characters of the text of `ids`, up to a stop string."""
    if not characters:
        return
    for token in ids:
        piece = stop.push(decoder.push(token))[:characters]
        if piece:
            yield piece
        characters -= len(piece)
        if stop.found or not characters:
            return
    held = stop.flush()[:characters]
    if held:
        yield held

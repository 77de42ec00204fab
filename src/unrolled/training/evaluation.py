"""How well a model predicts a text it has not seen: one pass in parallel streams with carried state."""

from collections.abc import Callable
from tempfile import TemporaryDirectory

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from unrolled.artifact import TextModel
from unrolled.errors import UnrolledError
from unrolled.models import LanguageModel
from unrolled.text import Evaluation, Sources, Told, prepare, scored, validation_batches

# Each stream starts without a past; that costs a little at its beginning, so a short text gets few streams.
_STREAMS = 16
_WINDOW = 128
_SHORTEST_STREAM = 1000


def nats(model: LanguageModel, ids: NDArray[np.integer], device: str = "cpu", told: Told | None = None) -> float:
    """The sum over all tokens of `ids` (tokens,) but the first of -ln p(token | those before it)."""
    streams = max(1, min(_STREAMS, len(ids) // _SHORTEST_STREAM))
    was_training = model.training
    model.eval()
    total, done, state = 0.0, 0, None
    try:
        with torch.inference_mode():
            for batch in validation_batches(ids, streams, _WINDOW):
                inputs, targets, lengths = (torch.from_numpy(a).to(device) for a in batch)
                full = bool((lengths == inputs.shape[1]).all())
                logits, state = model(inputs, state, None if full else lengths)
                losses = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
                counted = torch.arange(inputs.shape[1], device=device) < lengths.unsqueeze(1)
                total += float(losses.view_as(inputs)[counted].double().sum())
                done += int(lengths.sum())
                if told is not None:
                    told(done / (len(ids) - 1))
    finally:
        model.train(was_training)
    return total


Judge = Callable[[LanguageModel, NDArray[np.integer], str, Told | None], float]
"""From a model, the ids of a text, a device and who is told to the nats of all tokens but the first together."""


def evaluate(text_model: TextModel, text: str, device: str = "cpu", judge: Judge = nats) -> Evaluation:
    """Score `text`, by `dynamic_nats` if that is the `judge`. Raises UnrolledError if it has fewer than two tokens."""
    ids = text_model.tokenizer.encode(text)
    if len(ids) < 2:
        raise UnrolledError(f"the text has {len(ids)} tokens; at least 2 are needed to predict one from another.")
    return scored(judge(text_model.model, ids, device, None), ids, text_model.tokenizer, len(text.encode()))


def evaluate_files(
    text_model: TextModel, sources: Sources, device: str = "cpu", judge: Judge = nats, told: Told | None = None
) -> Evaluation:
    """Score the text of files and folders, or of "-", standard input; it may be larger than memory.

    Raises UnrolledError for what cannot be read, is not UTF-8, or has fewer than two tokens.
    """
    with TemporaryDirectory(prefix="unrolled-") as folder:
        corpus = prepare(sources, folder, tokenizer=text_model.tokenizer, validation=0.0, fewest_tokens=2)
        whole = corpus.train
        return scored(judge(text_model.model, whole.ids, device, told), whole.ids, text_model.tokenizer, whole.bytes)

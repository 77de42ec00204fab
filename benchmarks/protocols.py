"""Two ways to judge a language model on a text, both in nats per character, comparable over tokenizers.

Every character that is judged is paid for in full by the tokens that cover it, whatever the tokens are.
"""

import numpy as np
import torch
from torch.nn import functional

from unrolled.artifact import TextModel
from unrolled.training.evaluation import nats

_ROWS = 64


def carried(text_model: TextModel, text: str) -> float:
    """(s): one pass over `text` in 16 streams with carried state; the first token is given."""
    tokens = text_model.tokenizer
    ids = tokens.encode(text)
    return nats(text_model.model, ids) / (len(text) - len(tokens.decode(ids[:1].tolist())))


def cold(text_model: TextModel, text: str, windows: int = 400, length: int = 256, seed: int = 1) -> float:
    """(w): windows of `length` characters at random places, each from a zero state after one given character."""
    starts = np.random.default_rng(seed).integers(0, len(text) - length, windows)
    tokens = text_model.tokenizer
    rows = []
    for start in starts:
        given, judged = tokens.encode(text[start]), tokens.encode(text[start + 1 : start + 1 + length])
        rows.append((len(given), np.concatenate([given, judged]).astype(np.int64)))
    text_model.model.eval()
    total = 0.0
    with torch.inference_mode():
        for first in range(0, windows, _ROWS):
            total += _nats_of_rows(text_model.model, rows[first : first + _ROWS])
    return total / (windows * length)


def _nats_of_rows(model: torch.nn.Module, rows: list[tuple[int, np.ndarray]]) -> float:
    longest = max(len(ids) for _, ids in rows)
    padded = torch.zeros(len(rows), longest, dtype=torch.int64)
    judged = torch.zeros(len(rows), longest - 1, dtype=torch.bool)
    for row, (given, ids) in enumerate(rows):
        padded[row, : len(ids)] = torch.from_numpy(ids)
        judged[row, given - 1 : len(ids) - 1] = True
    logits, _ = model(padded[:, :-1], None, None)
    losses = functional.cross_entropy(logits.flatten(0, 1), padded[:, 1:].flatten(), reduction="none")
    return float(losses.view_as(judged)[judged].double().sum())

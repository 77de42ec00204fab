"""Two ways to judge a language model on a text, both in nats per character, comparable over tokenizers.

Every character that is judged is paid for in full by the tokens that cover it, whatever the tokens are.
"""

import numpy as np
import torch

from unrolled.artifact import TextModel
from unrolled.training.evaluation import nats

_ROWS = 64


def carried(text_model: TextModel, text: str) -> float:
    """(s): one pass over `text` in 16 streams with carried state; the first token is given."""
    tokens = text_model.tokenizer
    ids = tokens.encode(text)
    return nats(text_model.model, ids) / (len(text) - len(tokens.decode(ids[:1].tolist())))


def cold(text_model: TextModel, text: str, windows: int = 400, length: int = 256, seed: int = 1) -> float:
    """(w): windows of `length` characters at random places, each from a zero state after one given character.

    Tokens need not end where a window does, so what is judged is the probability that the model's text begins with
    these characters, over that of the given one: before any token y_0 = g(h_0) = softmax(b_y) counts, of the first
    token only what it says beyond the given character, and the last may be any token that begins as the window ends.
    Other ways to cut a window into tokens are left out, so the model is no worse than this says.
    """
    starts = np.random.default_rng(seed).integers(0, len(text) - length, windows)
    judge = Windows(text_model)
    rows = [text[start : start + 1 + length] for start in starts]
    return sum(judge.nats(rows[first : first + _ROWS]) for first in range(0, windows, _ROWS)) / (windows * length)


class Windows:
    """-ln p(a text begins with these characters | with the first of them)."""

    def __init__(self, text_model: TextModel) -> None:
        self.model, self.tokenizer = text_model.model.eval(), text_model.tokenizer
        self.bytes = [self.tokenizer.token_bytes(token) for token in range(self.tokenizer.vocabulary_size)]
        self.before = torch.log_softmax(self.model.readout.bias.detach().double(), 0)

    def nats(self, rows: list[str]) -> float:
        """The sum over `rows`."""
        ids = [torch.from_numpy(self.tokenizer.encode(row).astype(np.int64)) for row in rows]
        padded = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True)
        with torch.inference_mode():
            after = torch.log_softmax(self.model(padded, None, None)[0].double(), -1)
        total = 0.0
        for row, own, later in zip(rows, ids, after, strict=True):
            predicted = torch.cat([self.before.unsqueeze(0), later])
            total -= float(predicted[torch.arange(len(own) - 1), own[:-1]].sum())
            total -= self._starting(predicted[len(own) - 1], self.bytes[int(own[-1])])
            total += self._starting(self.before, row[0].encode())
        return total

    def _starting(self, log_probabilities: torch.Tensor, start: bytes) -> float:
        which = [token for token, own in enumerate(self.bytes) if own.startswith(start)]
        return float(torch.logsumexp(log_probabilities[which], 0))
